//! `stop` on containers of the harness: which processes are signalled, exit and are killed, and that each
//! of these is reported.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::descendants::settled_descendants;
use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, UnsharedInit, check, finish, fixture, run, same, test, test_with,
    test_with_programs, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let container = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    vec![
        container("stop::waits_for_an_init_that_exits_and_kills_nothing", graceful),
        test_with(
            Need::Strace,
            "stop::an_unknown_end_is_not_called_a_kill",
            endings_on_an_older_kernel,
        ),
        container("stop::kills_after_the_grace_period", discarded),
        test_with_programs(
            &["perl"],
            "stop::an_init_that_another_process_kills_was_not_stopped_cleanly",
            killed_by_another,
        ),
        test_with(
            Need::Strace,
            "stop::the_grace_period_begins_when_the_signal_is_sent",
            slow_start,
        ),
        container("stop::reports_children_that_the_kernel_kills_with_the_init", killed_by_kernel),
        container("stop::children_first_lets_all_of_them_exit", children_first),
        test_with_programs(
            &["perl"],
            "stop::children_first_leaves_the_foreground_command_of_a_shell_until_its_jobs_have_exited",
            foreground_last,
        ),
        test_with_programs(
            &["perl", "strace"],
            "stop::a_chain_of_processes_is_not_read_again_for_each_exit",
            chain,
        ),
        container("stop::without_a_grace_period_parents_get_the_signal_too", children_at_once),
        container("stop::all_signals_every_process_at_once", all),
        container("stop::all_signals_children_before_parents", all_children_before_parents),
        container("stop::no_kill_kills_nothing", no_kill),
        container("stop::follows_a_schedule", schedule),
        container("stop::a_schedule_of_kill_alone_kills", kill_alone),
        container("stop::no_grace_period_is_kill_at_once", no_grace_period),
        container("stop::a_grace_period_without_a_limit_ends_in_no_kill", no_limit),
        container("stop::assumed_settings_are_named_until_they_are_given", assumed),
        container("stop::dry_run_shows_the_forecast_and_sends_nothing", dry_run),
        container("stop::uninterruptible_sleep_may_end_in_time", uninterruptible),
        container("stop::stops_a_container_that_forks_all_the_time", forks),
        container("stop::stops_several_containers_side_by_side", several),
        test("stop::refuses_invalid_schedules", usage),
    ]
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

fn stop(container: &Container, arguments: &[&str]) -> Run {
    let name = name(container);
    let mut line = vec!["--json", "stop", &name];
    line.extend(arguments);
    run(&line)
}

fn events(run: &Run) -> Vec<(String, Value)> {
    let row = |row: Value| (row["event"].as_str().unwrap_or_default().to_owned(), row);
    run.objects().into_iter().map(row).collect()
}

/// Returns the names of the processes in the events of one kind.
fn of<'a>(events: &'a [(String, Value)], kind: &str) -> Vec<&'a str> {
    let matching = events.iter().filter(|(event, _)| event == kind);
    matching.filter_map(|(_, row)| row["comm"].as_str()).collect()
}

fn last(events: &[(String, Value)]) -> Value {
    events.last().map(|(_, row)| row.clone()).unwrap_or_default()
}

/// A kernel before 6.15 does not answer PIDFD_GET_INFO; in another network namespace there are no messages
/// about exits either. (Without a filter of the socket there are more messages than those.) The init exits right after its child, so that both ends are seen at once.
fn endings_on_an_older_kernel() -> Outcome {
    for (prefix, graceful) in [(&[][..], json!(true)), (&["unshare", "--net"][..], Value::Null)] {
        let container = fixture("init exits-after-children-on=TERM\n> child exits-on=TERM")?;
        let mut argv = prefix.to_vec();
        argv.extend(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl,setsockopt"]);
        argv.extend(["-e", "inject=ioctl,setsockopt:error=ENOTTY", env!("CARGO_BIN_EXE_cinspect")]);
        let name = format!("pid:{}", container.init);
        argv.extend(["--json", "stop", "-t", "120s", "--order", "all", &name]);
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]);
        let stopped = finish(command).expect(0)?;
        let rows = stopped.objects();
        let end = rows.last().cloned().unwrap_or_default();
        check(end["killed"] == json!(0), &stopped.out)?;
        // (Where nothing else tells, a process that is not reaped yet still shows its status.)
        let is_right = end["graceful"] == graceful || end["graceful"] == json!(true);
        check(is_right, &stopped.out)?;
        check(rows.iter().all(|row| row["event"] != json!("killed")), &stopped.out)?;
    }
    Ok(())
}

/// Its pidfd looks like that of an init that has called reboot(2); `stat` does not, as long as its parent has not reaped
/// it (since Linux 5.17).
fn killed_by_another() -> Outcome {
    for is_reaped in [true, false] {
        let directory = tempfile::tempdir()?;
        let handled = directory.path().join("handled").display().to_string();
        let script = "$SIG{TERM} = sub { open F, '>', $ARGV[0]; close F }; sleep 1 while 1";
        let init = UnsharedInit::start(&["perl", "-e", script, &handled])?;
        if !is_reaped {
            init.stop_parent()?;
        }
        let kill = format!("until [ -e '{handled}' ]; do sleep 0.1; done; kill -9 {}", init.init);
        let mut other = Command::new("sh").args(["-c", &kill]).spawn()?;
        let stopped = run(&["--json", "stop", "-t", "600s", &init.name()]).expect(0)?;
        other.wait()?;
        let graceful = last(&events(&stopped))["graceful"].clone();
        let is_right = graceful == json!(false) || (is_reaped && graceful == Value::Null);
        check(is_right, format!("reaped: {is_reaped}, {}", stopped.out))?;
    }
    Ok(())
}

fn graceful() -> Outcome {
    let container = fixture("init exits-on=TERM")?;
    let stopped = stop(&container, &["-t", "600s"]).expect(0)?;
    let events = events(&stopped);
    same(of(&events, "signalled"), vec!["init"])?;
    same(events[0].1["verdict"].clone(), json!("accepted"))?;
    same(of(&events, "exited"), vec!["init"])?;
    same(last(&events)["graceful"].clone(), json!(true))?;
    // No engine has recorded a stop signal; the time was given.
    let assumed = last(&events)["assumed"].to_string();
    check(assumed.contains("the stop signal TERM is assumed"), assumed)?;
    check(stopped.err.contains("note: ") && stopped.err.contains("is assumed"), stopped.err)?;
    check(stopped.took < Duration::from_secs(300), "the whole grace period passed")
}

fn discarded() -> Outcome {
    let container = fixture("init\n> child ignore=TERM")?;
    let events = events(&stop(&container, &["-t", "300ms"]).expect(0)?);
    same(events[0].1["verdict"].clone(), json!("discarded"))?;
    same(of(&events, "signalled"), vec!["init"])?;
    check(events.iter().any(|(event, _)| event == "grace-over"), "the grace period did not end")?;
    check(of(&events, "killed").contains(&"init"), "the init was not killed")?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    run(&["ps", &name(&container)]).expect(3).map(drop)
}

/// However long it takes to read the container and to send the signal.
fn slow_start() -> Outcome {
    let container = fixture("init")?;
    let name = name(&container);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pidfd_send_signal"]);
    command.args(["-e", "inject=pidfd_send_signal:delay_enter=1500000:when=1"]);
    command.args([env!("CARGO_BIN_EXE_cinspect"), "--json", "stop", "-t", "1s", &name]);
    let run = finish(command).expect(0)?;
    let time = |kind: &str| {
        let event = events(&run).into_iter().find(|(event, _)| event == kind);
        event.and_then(|(_, row)| row["t"].as_f64()).ok_or(format!("no {kind} in {}", run.out))
    };
    let grace = time("killed")? - time("signalled")?;
    check(grace > 0.95, format!("{grace} s in {}", run.out))
}

fn killed_by_kernel() -> Outcome {
    let container = fixture("init exits-on=TERM\n> child exits-on=TERM")?;
    let events = events(&stop(&container, &["-t", "120s"]).expect(0)?);
    same(of(&events, "signalled"), vec!["init"])?;
    same(of(&events, "killed"), vec!["child"])?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    check(!container.received().iter().any(|line| line.starts_with("child")), "the child got it")?;
    let container = fixture("init exits-on=TERM\n> child exits-on=TERM")?;
    let text = run(&["stop", "-t", "120s", &name(&container)]).expect(0)?.out;
    check(
        text.contains("child killed by the kernel when PID 1 exited (was not sent TERM)"),
        &text,
    )?;
    check(text.contains("stopped: 1 process killed"), text)
}

fn children_first() -> Outcome {
    let container = fixture("init exits-on=TERM\n> parent exits-on=TERM\n> > child exits-on=TERM")?;
    let events = events(&stop(&container, &["--order", "children-first", "-t", "240s"]).expect(0)?);
    same(of(&events, "signalled"), vec!["child", "parent", "init"])?;
    same(of(&events, "exited"), vec!["child", "parent", "init"])?;
    same(last(&events)["graceful"].clone(), json!(true))?;
    let order: Vec<String> =
        container.received().iter().filter_map(|l| Some(l.split(' ').next()?.to_owned())).collect();
    same(order, ["child", "parent", "init"].map(str::to_owned).to_vec())
}

/// The exit of the command in the foreground ends the script, and that the job.
fn foreground_last() -> Outcome {
    let script = "perl -e '$SIG{TERM} = sub { sleep 1; exit 0 }; sleep 1000 while 1' &
        perl -e '$SIG{TERM} = sub { exit 0 }; sleep 1000 while 1'
        true";
    let container = UnsharedInit::start(&["sh", "-c", script])?;
    settled_descendants(container.init, |count| count == 2)?;
    let line = ["stop", "--order", "children-first", "-t", "240s", &container.name()];
    let plan = run(&[&["--json"], &line[..], &["-n"]].concat()).objects();
    check(plan.iter().all(|row| row["exits"] != json!("no")), format!("{plan:?}"))?;
    let stopped = run(&[&["--json"], &line[..]].concat()).expect(0)?;
    let events = events(&stopped);
    let order: Vec<(&str, i64)> = (events.iter())
        .filter(|(event, _)| ["signalled", "exited", "killed"].contains(&event.as_str()))
        .map(|(event, row)| (event.as_str(), row["pid"].as_i64().unwrap_or_default()))
        .collect();
    same(
        order[..4].to_vec(),
        vec![("signalled", 2), ("exited", 2), ("signalled", 3), ("exited", 3)],
    )?;
    same(last(&events)["graceful"].clone(), json!(true))
}

/// However long an exit takes, five snapshots a second are enough, besides those of the start and of the end.
fn chain() -> Outcome {
    const LENGTH: usize = 120;
    let script = format!(
        "$SIG{{TERM}} = sub {{ exit 0 }}; $SIG{{CHLD}} = 'IGNORE';
        for (1..{LENGTH}) {{ last if fork }} sleep 1000 while 1"
    );
    let container = UnsharedInit::start(&["perl", "-e", &script])?;
    settled_descendants(container.init, |count| count == LENGTH)?;
    let (dir, name) = (tempfile::tempdir()?, container.name());
    let trace = dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=openat,openat2", "-o"]).arg(&trace);
    command.args([env!("CARGO_BIN_EXE_cinspect"), "--json", "stop", "-t", "240s"]);
    let stopped = finish({
        command.args(["--order", "children-first", &name]);
        command
    });
    let events = events(&stopped.expect(0)?);
    same(of(&events, "exited").len(), LENGTH + 1)?;
    same(last(&events)["graceful"].clone(), json!(true))?;
    // A snapshot reads the users of the container once.
    let trace = std::fs::read_to_string(&trace)?;
    let snapshots = trace.lines().filter(|line| line.contains("uid_map")).count();
    let seconds = last(&events)["t"].as_f64().ok_or("no time")?;
    check(snapshots as f64 <= 8.0 + 5.0 * seconds, format!("{snapshots} in {seconds} s"))
}

/// A step without time is the last turn of each process.
fn children_at_once() -> Outcome {
    let container = fixture("init handle=TERM\n> child handle=TERM")?;
    let arguments = ["--order", "children-first", "--schedule", "TERM:0s,KILL"];
    let events = events(&stop(&container, &arguments).expect(0)?);
    same(of(&events, "signalled"), vec!["child", "init"])
}

fn all() -> Outcome {
    let container = fixture("init handle=TERM\n> a exits-on=TERM\n> b ignore=TERM")?;
    let events = events(&stop(&container, &["--order", "all", "-t", "500ms"]).expect(0)?);
    let mut signalled = of(&events, "signalled");
    signalled.sort_unstable();
    same(signalled, vec!["a", "b", "init"])?;
    same(of(&events, "signalled").last().copied(), Some("init"))?;
    same(last(&events)["graceful"].clone(), json!(false))
}

/// A parent that exits on the signal would let PID 1 exit, which kills its child before that is signalled.
fn all_children_before_parents() -> Outcome {
    let container = fixture("init handle=TERM\n> a exits-on=TERM\n> > b exits-on=TERM")?;
    let events = events(&stop(&container, &["--order", "all", "-t", "500ms"]).expect(0)?);
    same(of(&events, "signalled"), vec!["b", "a", "init"])
}

fn no_kill() -> Outcome {
    let container = fixture("init")?;
    let events = events(&stop(&container, &["--no-kill", "-t", "200ms"]).expect(124)?);
    same(of(&events, "killed"), Vec::<&str>::new())?;
    same(last(&events)["left"].clone(), json!(1))?;
    same(last(&events)["killed"].clone(), json!(0))?;
    run(&["ps", &name(&container)]).expect(0)?;
    // (The kernel kills without being asked to.)
    let container = fixture("init exits-on=TERM\n> child ignore=TERM")?;
    let plan = run(&["stop", "-n", "--no-kill", &name(&container)]).expect(0)?.out;
    let end = "maybe: 1 process may get SIGKILL (2 child); 1 process may keep running (1 init); the kernel sends it when PID 1 exits";
    same(plan.lines().last(), Some(end))?;
    let shell = "trap 'exit 0' TERM; sleep 1000 & wait";
    let container = UnsharedInit::start(&["sh", "-c", shell])?;
    let line = ["--json", "stop", "-n", "--no-kill", "-t", "7", &container.name()];
    let last = || run(&line).objects().pop().unwrap_or_default();
    let is_ended =
        || (last()["graceful"] == json!("no")).then(|| last()["seconds_at_most"].clone());
    let mut seconds = None;
    let has_trap = || {
        seconds = is_ended();
        seconds.is_some()
    };
    check(wait_until(has_trap), "it has no trap")?;
    same(seconds, Some(json!(7.0)))?;
    let plan = run(&line[1..]).expect(0)?.out;
    let end = "killed: 1 process gets SIGKILL (2 sleep); the kernel sends it when PID 1 exits";
    same(plan.lines().last(), Some(end))
}

fn schedule() -> Outcome {
    let container = fixture("init handle=USR1 exits-on=TERM")?;
    let stopped = stop(&container, &["--schedule", "USR1:300ms,TERM:120s,KILL"]).expect(0)?;
    let events = events(&stopped);
    let signals: Vec<Value> = events
        .iter()
        .filter(|(event, _)| event == "signalled")
        .map(|(_, row)| row["signal"].clone())
        .collect();
    same(signals, vec![json!("USR1"), json!("TERM")])?;
    same(last(&events)["graceful"].clone(), json!(true))
}

fn kill_alone() -> Outcome {
    let container = fixture("init exits-on=TERM\n> child")?;
    let plan = run(&["stop", "-n", "--schedule", "KILL", &name(&container)]).expect(0)?.out;
    check(plan.contains("killed: 2 processes get SIGKILL (1 init, "), plan)?;
    let events = events(&stop(&container, &["--schedule", "KILL"]).expect(0)?);
    check(of(&events, "killed").contains(&"init"), format!("{events:?}"))?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    run(&["ps", &name(&container)]).expect(3).map(drop)
}

fn no_grace_period() -> Outcome {
    let container = fixture("init exits-on=TERM")?;
    let events = events(&stop(&container, &["-t", "0"]).expect(0)?);
    same(of(&events, "killed"), vec!["init"])?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    same(container.settled(), Vec::<String>::new())
}

fn no_limit() -> Outcome {
    let container = fixture("init exits-on=USR1")?;
    for option in [vec!["-t", "-1"], vec!["--time=-1"]] {
        let mut line = vec!["stop", "-n"];
        let name = name(&container);
        line.extend(option.iter().copied().chain([&*name]));
        let plan = run(&line).expect(0)?.out;
        let summary = "not stopped: 1 process keeps running (1 init); no SIGKILL follows";
        check(plan.lines().any(|line| line == summary), plan)?;
    }
    let plan = run(&["stop", "-n", "--no-kill", &name(&container)]).expect(0)?.out;
    check(plan.contains("\nnot stopped: 1 process keeps running (1 init);"), plan)?;
    let events = events(&stop(&container, &["-t", "-1", "-s", "USR1"]).expect(0)?);
    same(last(&events)["graceful"].clone(), json!(true))
}

/// No engine has recorded anything about a bare PID namespace.
fn assumed() -> Outcome {
    let container = fixture("init exits-on=TERM")?;
    let name = name(&container);
    let signal = "the stop signal TERM is assumed";
    let grace = "the grace period of 10 s is assumed";
    let both = "the stop signal TERM and the grace period of 10 s are assumed";
    for (options, wanted) in [
        (vec![], Some(both)),
        (vec!["-s", "TERM"], Some(grace)),
        (vec!["-t", "10s"], Some(signal)),
        (vec!["-t", "10s", "-s", "TERM"], None),
        (vec!["--schedule", "TERM:10s,KILL"], None),
    ] {
        let mut line = vec!["--json", "stop", "-n", &name];
        line.extend(&options);
        let plan = run(&line).expect(0)?;
        let assumed = plan.objects().last().cloned().unwrap_or_default()["assumed"].clone();
        let assumed = assumed.as_array().cloned().unwrap_or_default();
        same((&options, assumed.len()), (&options, usize::from(wanted.is_some())))?;
        let wanted = wanted.unwrap_or_default();
        check(
            assumed.iter().all(|text| text.as_str().unwrap_or("").starts_with(wanted)),
            &plan.out,
        )?;
        same((&options, plan.err.contains("assumed")), (&options, !wanted.is_empty()))?;
    }
    let findings = run(&["--json", "doctor", &name]).objects();
    let finding = findings.iter().find(|finding| finding["code"] == json!("assumed"));
    check(finding.is_some_and(|f| f["message"].to_string().contains(both)), format!("{findings:?}"))
}

fn dry_run() -> Outcome {
    let container = fixture("init handle=TERM\n> child handle=TERM")?;
    let plan = run(&["stop", "-n", &name(&container)]).expect(0)?;
    // A handler is not an exit, and whether the child gets the signal then is up to the program.
    check(plan.out.contains("maybe: 2 processes may get SIGKILL"), &plan.out)?;
    same(container.settled(), Vec::<String>::new())?;
    let rows = run(&["--json", "stop", "-n", "-t", "3s", &name(&container)]).expect(0)?.objects();
    let init = rows.iter().find(|row| row["pid"] == json!(1)).cloned().unwrap_or_default();
    same(
        ["when", "signal", "verdict", "exits", "killed"].map(|key| init[key].clone()),
        [json!(0), json!("TERM"), json!("handled"), json!("maybe"), json!("engine")],
    )?;
    let last = rows.last().cloned().unwrap_or_default();
    same(
        ["event", "graceful", "seconds_at_most"].map(|key| last[key].clone()),
        [json!("forecast"), json!("maybe"), json!(3.0)],
    )?;
    let container = fixture("init")?;
    let plan = run(&["stop", "-n", &name(&container)]).expect(0)?.out;
    let summary = "killed: 1 process gets SIGKILL (1 init); SIGKILL follows after 10 s";
    check(plan.contains(summary), plan)?;
    steps()
}

/// Each line of the plan is about its own signal, and KILL as a signal needs no grace period.
fn steps() -> Outcome {
    let ignoring = fixture("init ignore=QUIT exits-on=TERM")?;
    let schedule = ["--json", "stop", "-n", "--schedule", "QUIT:5s,TERM:10s,KILL"];
    let rows = run(&[&schedule[..], &[&name(&ignoring)]].concat()).expect(0)?.objects();
    let init = rows.iter().filter(|row| row["pid"] == json!(1));
    let init: Vec<[&Value; 3]> =
        init.map(|row| ["signal", "verdict", "exits"].map(|key| &row[key])).collect();
    let expected = [["QUIT", "ignored", "no"], ["TERM", "accepted", "maybe"]];
    same(json!(init), json!(expected))?;
    let rows = run(&["--json", "stop", "-n", "-s", "KILL", &name(&ignoring)]).expect(0)?.objects();
    let last = rows.last().cloned().unwrap_or_default();
    same((last["graceful"].clone(), last["seconds_at_most"].clone()), (json!("no"), json!(0.0)))?;
    let plan = run(&["stop", "-n", "-s", "KILL", &name(&ignoring)]).expect(0)?.out;
    check(plan.contains("without a grace period"), plan)
}

/// The init waits for the child of a vfork(2), as another process waits for a slow disk.
fn uninterruptible() -> Outcome {
    let container = fixture("init handle=TERM vforks")?;
    let forecast = run(&["--json", "stop", "-n", &name(&container)]).expect(0)?;
    let rows = forecast.objects();
    let init = rows.iter().find(|row| row["pid"] == json!(1)).ok_or(forecast.out.clone())?;
    same(init["verdict"].clone(), json!("delayed"))?;
    check(init["exits"] == json!("maybe"), &forecast.out)?;
    check(rows.last().is_some_and(|row| row["graceful"] == json!("maybe")), &forecast.out)
}

fn forks() -> Outcome {
    let container = fixture("init handle=TERM forks\n> other forks")?;
    let events = events(&stop(&container, &["--order", "all", "-t", "700ms"]).expect(0)?);
    same(last(&events)["event"].clone(), json!("stopped"))?;
    run(&["ps", &name(&container)]).expect(3).map(drop)
}

fn several() -> Outcome {
    // The exit of the first takes its child with it.
    let killed = fixture("init exits-on=TERM\n> child")?;
    let graceful_one = fixture("init exits-on=TERM")?;
    let stopped =
        run(&["--json", "stop", "-t", "120s", &name(&killed), &name(&graceful_one), "nosuch"]);
    let stopped = stopped.expect(3)?;
    let graceful = |container: &Container| {
        let rows = stopped.objects();
        let mut matching = rows.iter().filter(|row| row["container"] == json!(name(container)));
        matching.next_back().map(|row| row["graceful"].clone())
    };
    same(graceful(&killed), Some(json!(false)))?;
    same(graceful(&graceful_one), Some(json!(true)))
}

fn usage() -> Outcome {
    for schedule in ["", "TERM", "TERM:", "KILL,TERM:1s", "TREM:1s", "TERM:1x"] {
        run(&["stop", "web", "--schedule", schedule]).expect(2)?;
    }
    run(&["stop", "web", "--schedule", "TERM:1s", "--no-kill"]).expect(2)?;
    check(run(&["stop", "web", "-t", "-2"]).expect(2)?.err.contains("-1 for no limit"), "no hint")?;
    run(&["stop"]).expect(2).map(drop)
}
