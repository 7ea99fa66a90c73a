//! `signal` on containers of the harness, whose processes log each signal that they handle.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::harness::Container;
use crate::support::{
    Need, Outcome, UnsharedInit, check, fixture, run, same, test, test_with, test_with_programs,
    wait_until,
};

pub fn trials() -> Vec<Trial> {
    let container = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        container("signal::reaches_only_the_selected_process", one_process),
        container("signal::goes_to_the_init_by_default", init_by_default),
        container("signal::selects_by_each_selector", selectors),
        container("signal::selectors_add_up_and_no_process_gets_it_twice", union),
        container("signal::sends_nothing_if_a_selector_matches_nothing", no_match),
        container("signal::dry_run_shows_the_processes_and_sends_nothing", dry_run),
        container("signal::says_a_reason_once", reason_once),
        container("signal::reaches_one_thread", one_thread),
        container("signal::delivers_a_queued_value", queued),
        container("signal::parses_every_spelling_of_a_signal", spellings),
        container("signal::require_handler_sends_nothing_without_one", require_handler),
        test_with_programs(
            &["tini", "dumb-init", "perl"],
            "signal::require_handler_asks_the_process_that_gets_it_in_the_end",
            require_handler_behind_an_init,
        ),
        test_with_programs(
            &["tini", "perl"],
            "signal::reaches_is_the_process_behind_an_init",
            reaches,
        ),
        container("signal::blocked_with_a_handler_is_not_without_one", blocked_and_caught),
        container("signal::others_are_mentioned_only_if_there_are_any", others),
        container("signal::wait_reports_the_outcome", waits),
        container("signal::kill_after_kills_processes_that_do_not_exit", kill_after),
        container("signal::all_goes_to_children_first_and_the_init_last", order),
        container("signal::all_reaches_each_process_once_while_the_container_forks", forking),
        container("signal::kill_all_leaves_no_process", kill_all),
        root("signal::does_not_hold_a_process_other_than_the_one_of_the_snapshot", reused),
        root("signal::does_not_hold_the_next_process_with_the_pid", successor),
        root("signal::does_not_reach_a_process_that_reuses_the_pid", pid_taken),
        test("signal::suggests_a_similar_signal", unknown),
        test("signal::list_needs_no_container", list),
    ]
}

const PROCESSES: &str = "\
init handle=USR1,TERM
> web handle=USR1
> > worker handle=USR1
> ignorer ignore=TERM handle=USR1";

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// Runs `signal` on a container. Returns the objects of the answer.
fn signal(container: &Container, arguments: &[&str]) -> Result<Vec<Value>, Failed> {
    let name = name(container);
    let mut line = vec!["--json", "signal", &name];
    line.extend(arguments);
    Ok(run(&line).expect(0)?.objects())
}

/// Returns the names of the processes in an answer, in its order.
fn names(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["comm"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Returns the signals that handlers have run for; complete, so that it proves a negative.
fn handled(container: &Container) -> Vec<String> {
    container.settled()
}

fn one_process() -> Outcome {
    let container = fixture(PROCESSES)?;
    let rows = signal(&container, &["USR1", "--pid", &container.pids["worker"].to_string()])?;
    same(rows.len(), 1)?;
    let keys: Vec<&String> = rows[0].as_object().map(|o| o.keys().collect()).unwrap_or_default();
    same(
        keys,
        [
            "host",
            "container",
            "pid",
            "host_pid",
            "comm",
            "signal",
            "sent",
            "verdict",
            "outcome",
            "reaches",
            "note",
        ]
        .map(str::to_owned)
        .iter()
        .collect(),
    )?;
    same((rows[0]["sent"].clone(), rows[0]["signal"].clone()), (json!(true), json!("USR1")))?;
    check(container.wait_to_receive("worker USR1 0"), "it did not get the signal")?;
    same(handled(&container), ["worker USR1 0"].map(str::to_owned).to_vec())
}

fn init_by_default() -> Outcome {
    let container = fixture(PROCESSES)?;
    same(names(&signal(&container, &["USR1"])?), vec!["init".to_owned()])?;
    check(container.wait_to_receive("init USR1 0"), "the init did not get the signal")
}

fn selectors() -> Outcome {
    let container = fixture(PROCESSES)?;
    let pid = |name: &str| container.pids[name].to_string();
    let rows = signal(&container, &["-n", "0", "--all"])?;
    let host_pid = |comm: &str| {
        rows.iter()
            .find(|row| row["comm"] == comm)
            .map(|row| row["host_pid"].to_string())
            .unwrap_or_default()
    };
    for (arguments, wanted) in [
        (vec!["--pid", &pid("web")], "web"),
        (vec!["--host-pid", &host_pid("ignorer")], "ignorer"),
        (vec!["--comm", "worker"], "worker"),
        (vec!["--match", "^w.b$"], "web"),
        (vec!["--tree", &pid("web")], "worker web"),
        (vec!["--user", "0"], "ignorer worker web init"),
        (vec!["--user", "root"], "ignorer worker web init"),
        (vec!["--all", "--except-init"], "ignorer worker web"),
        (vec!["--user", "0", "--except-init"], "ignorer worker web"),
        (vec!["--tid", &pid("web")], "web"),
    ] {
        let mut line = vec!["-n", "TERM"];
        line.extend(arguments.iter().copied());
        same(
            (arguments.join(" "), names(&signal(&container, &line)?).join(" ")),
            (arguments.join(" "), wanted.into()),
        )?;
    }
    // All are in the process group of the harness, which has no PGID in the container.
    run(&["signal", "-n", &name(&container), "TERM", "--pgroup", "4000000"]).expect(4)?;
    Ok(())
}

fn union() -> Outcome {
    let container = fixture(PROCESSES)?;
    let web = container.pids["web"].to_string();
    signal(
        &container,
        &["USR1", "--pid", &web, "--comm", "web", "--tree", &web, "--comm", "ignorer"],
    )?;
    check(container.wait_to_receive("ignorer USR1 0"), "ignorer did not get the signal")?;
    let wanted = ["ignorer USR1 0", "web USR1 0", "worker USR1 0"];
    same(handled(&container), wanted.map(str::to_owned).to_vec())
}

fn no_match() -> Outcome {
    let container = fixture(PROCESSES)?;
    let error =
        run(&["signal", &name(&container), "USR1", "--all", "--comm", "nosuch"]).expect(4)?;
    check(error.err.contains("`--comm nosuch` matches none of its 4 processes"), &error.err)?;
    check(error.err.contains("hint: "), &error.err)?;
    run(&["signal", &name(&container), "USR1", "--pid", "1", "--except-init"]).expect(4)?;
    run(&["signal", &name(&container), "USR1", "--except-init"]).expect(2)?;
    same(handled(&container), Vec::new())
}

fn dry_run() -> Outcome {
    let container = fixture(PROCESSES)?;
    let rows = signal(&container, &["USR1", "--all", "--dry-run"])?;
    check(
        rows.iter().all(|row| row["sent"] == json!(false)) && rows.len() == 4,
        format!("{rows:?}"),
    )?;
    let text = run(&["signal", &name(&container), "USR1", "-n"]).expect(0)?.out;
    check(text.contains("would be sent"), text)?;
    same(handled(&container), Vec::new())
}

fn one_thread() -> Outcome {
    // A signal to a thread that blocks it stays pending there, and only there.
    let container = fixture("init\n> many thread-blocks=USR2")?;
    let threads = run(&["--json", "ps", "-T", &name(&container)]).expect(0)?.objects();
    let many = || threads.iter().filter(|row| row["pid"] == json!(container.pids["many"]));
    let second = many().nth(1).cloned().unwrap_or_default();
    signal(&container, &["USR2", "--tid", &second["tid"].to_string()])?;
    let after = run(&["--json", "ps", "-T", &name(&container)]).expect(0)?.objects();
    let pending = |tid: &Value| {
        let row = after.iter().find(|row| row["tid"] == *tid).cloned().unwrap_or_default();
        row["signals"]["thread_pending"].clone()
    };
    same(pending(&second["tid"]), json!(["USR2"]))?;
    same(pending(&json!(container.pids["many"])), json!([]))
}

fn reason_once() -> Outcome {
    let container = fixture("init")?;
    let sent = run(&["signal", &name(&container), "TERM"]).expect(0)?;
    same(sent.err.matches("TERM has no effect on 1 init: it is PID 1").count(), 1)?;
    check(sent.out.contains("discarded") && !sent.out.contains("handler"), &sent.out)
}

fn queued() -> Outcome {
    let container = fixture(PROCESSES)?;
    signal(&container, &["USR1", "--comm", "web", "--queue", "-42"])?;
    check(container.wait_to_receive("web USR1 -42"), format!("{:?}", container.received()))
}

fn spellings() -> Outcome {
    let container = fixture(PROCESSES)?;
    for (typed, name) in [
        ("usr1", "USR1"),
        ("SIGUSR1", "USR1"),
        ("10", "USR1"),
        ("RTMIN+3", "RTMIN+3"),
        ("SIGRTMAX-1", "RTMIN+29"),
        ("0", "0"),
    ] {
        let rows = signal(&container, &["-n", typed])?;
        same((typed, rows[0]["signal"].clone()), (typed, json!(name)))?;
    }
    // Signal 0 is really sent, and delivers nothing.
    same(signal(&container, &["0", "--all"])?.len(), 4)?;
    for typed in ["65", "TERM1", "0x9", "+9", ""] {
        run(&["signal", &name(&container), typed]).expect(2)?;
    }
    same(handled(&container), Vec::new())
}

fn require_handler() -> Outcome {
    let container = fixture(PROCESSES)?;
    let error = run(&["signal", "-r", &name(&container), "TERM", "--all"]).expect(6)?;
    check(error.err.contains("no handler for TERM") && error.err.contains("ignorer"), &error.err)?;
    same(handled(&container), Vec::new())?;
    signal(&container, &["-r", "TERM"])?;
    check(container.wait_to_receive("init TERM 0"), "the init did not get the signal")
}

/// Starts perl below an init, and waits until it has its handler, if it has one.
fn below_init(init: &[&str], script: &str) -> Result<UnsharedInit, Failed> {
    let mut argv = init.to_vec();
    argv.extend(["--", "perl", "-e", script]);
    let container = UnsharedInit::start(&argv)?;
    let is_ready = |row: &Value| {
        let caught = row["signals"]["caught"].as_array().map(Vec::len).unwrap_or_default();
        row["comm"] == "perl" && (caught > 0 || !script.contains("SIG{"))
    };
    let ready = || run(&["--json", "ps", &container.name()]).objects().iter().any(is_ready);
    check(wait_until(ready), "perl is not ready")?;
    Ok(container)
}

fn require_handler_behind_an_init() -> Outcome {
    const NONE: &str = "sleep 1 while 1";
    const HANDLER: &str = "$SIG{HUP}=sub{}; sleep 1 while 1";
    for (init, script, signal, status) in [
        (&["tini"][..], NONE, "HUP", 6),
        (&["tini"], HANDLER, "HUP", 0),
        (&["tini"], HANDLER, "TERM", 6),
        (&["tini", "-g"], NONE, "HUP", 6),
        (&["dumb-init"], NONE, "HUP", 6),
        (&["dumb-init"], HANDLER, "HUP", 0),
        (&["dumb-init", "--rewrite", "15:1"], HANDLER, "TERM", 0),
        (&["dumb-init", "--rewrite", "1:15"], HANDLER, "HUP", 6),
        (&["dumb-init", "--rewrite", "1:0"], HANDLER, "HUP", 6),
    ] {
        let container = below_init(init, script)?;
        let title = format!("{init:?} {script} {signal}");
        let answer = run(&["signal", "-r", &container.name(), signal]);
        same((title.as_str(), answer.code), (title.as_str(), status))?;
        let is_running = run(&["--json", "ps", &container.name()]).expect(0)?.objects().len() == 2;
        check(is_running, title)?;
        // PID 1 is the init, and the first process that it starts is perl.
        if status == 6 && !init.contains(&"1:0") {
            check(answer.err.contains("in 2 perl (terminates)"), answer.err)?;
        } else if status == 6 {
            check(answer.err.contains("drops HUP"), answer.err)?;
        }
    }
    Ok(())
}

fn reaches() -> Outcome {
    let container = below_init(&["tini"], "sleep 1 while 1")?;
    let name = container.name();
    let rows = run(&["--json", "signal", "-n", &name, "HUP"]).expect(0)?.objects();
    same((rows[0]["pid"].clone(), rows[0]["reaches"].clone()), (json!(1), json!([2])))?;
    let text = run(&["signal", "-n", &name, "HUP"]).expect(0)?.out;
    check(text.contains("REACHES") && text.contains("2 perl (terminates)"), &text)?;
    let rows = run(&["--json", "signal", "-n", &name, "KILL"]).expect(0)?.objects();
    same(rows[0]["reaches"].clone(), json!([1]))?;
    let rows = run(&["--json", "signal", "-n", &name, "HUP", "--pid", "2"]).expect(0)?.objects();
    same(rows[0]["reaches"].clone(), json!([2]))?;
    let rows = run(&["--json", "signal", "-n", &name, "0"]).expect(0)?.objects();
    same(rows[0]["reaches"].clone(), Value::Null)
}

fn blocked_and_caught() -> Outcome {
    let container = fixture("init block=TERM handle=TERM")?;
    let refused = run(&["signal", "-r", &name(&container), "TERM"]).expect(6)?.err;
    check(refused.contains("blocks TERM") && !refused.contains("no handler"), &refused)?;
    let warned = run(&["signal", "-n", &name(&container), "TERM"]).expect(0)?.err;
    check(warned.contains("its handler runs when it is unblocked"), &warned)?;
    check(!warned.contains("KILL"), &warned)
}

fn others() -> Outcome {
    let text = |lines: &str, signal: &str| -> Result<String, Failed> {
        Ok(run(&["signal", "-n", &name(&fixture(lines)?), signal]).expect(0)?.err)
    };
    let alone = text("init", "TERM")?;
    check(alone.contains("KILL would terminate it") && !alone.contains("--all"), alone)?;
    let with_child = text("init\n> child", "TERM")?;
    check(with_child.contains("--all --except-init"), with_child)?;
    let reload = text("init", "HUP")?;
    check(reload.contains("no effect") && !reload.contains("KILL"), reload)
}

fn waits() -> Outcome {
    let container = fixture(PROCESSES)?;
    let late =
        run(&["--json", "signal", &name(&container), "USR1", "--comm", "web", "--wait=150ms"])
            .expect(124)?;
    same(late.objects()[0]["outcome"].clone(), json!("running"))?;
    let gone = signal(&container, &["KILL", "--comm", "worker", "--wait"])?;
    same(gone[0]["outcome"].clone(), json!("exited"))?;
    run(&["signal", &name(&container), "USR1", "--wait=soon"]).expect(2)?;
    Ok(())
}

fn kill_after() -> Outcome {
    let container = fixture(PROCESSES)?;
    let rows =
        signal(&container, &["USR1", "--tree", &container.pids["web"].to_string(), "-k", "200ms"])?;
    same(
        rows.iter().map(|row| row["outcome"].clone()).collect::<Vec<_>>(),
        vec![json!("killed"); 2],
    )?;
    let processes = run(&["--json", "ps", &name(&container)]).expect(0)?.objects();
    check(
        !processes.iter().any(|row| row["comm"] == "web" && row["state"] != "Z"),
        format!("{processes:?}"),
    )
}

fn order() -> Outcome {
    let container = fixture(PROCESSES)?;
    same(
        names(&signal(&container, &["-n", "TERM", "--all"])?).join(" "),
        "ignorer worker web init".into(),
    )
}

fn forking() -> Outcome {
    let container = fixture("init handle=USR1\n> maker forks\n> web handle=USR1")?;
    let result = run(&["--json", "signal", &name(&container), "USR1", "--all", "--except-init"]);
    // The sleeps that it starts have no handler and exit; the others got it once.
    check(result.code == 0, format!("{result:?}"))?;
    check(container.wait_to_receive("web USR1 0"), "web did not get the signal")?;
    same(handled(&container), ["web USR1 0"].map(str::to_owned).to_vec())
}

fn kill_all() -> Outcome {
    let container = fixture("init\n> maker forks\n> web")?;
    let name = name(&container);
    run(&["signal", &name, "KILL", "--all", "--wait=120s"]).expect(0)?;
    check(wait_until(|| run(&["ps", &name]).code == 3), "a process is still running")
}

fn local_host() -> Result<cinspect::testing::Host, Failed> {
    Ok(cinspect::testing::Host::new(std::path::Path::new("/"))?)
}

/// Returns a container as the library resolves it.
fn resolved<'a>(
    host: &'a cinspect::testing::Host,
    container: &Container,
) -> Result<cinspect::testing::ResolvedContainer<'a>, Failed> {
    use cinspect::testing::{Access, Resolver};
    let found = Resolver::new(host).resolve(&name(container), Access::Act);
    found.map_err(|error| Failed::from(error.to_string()))
}

/// The process of the snapshot and the one that has its PID now are compared before anything is sent: a
/// different start time, a process outside the container, one that has exited.
fn reused() -> Outcome {
    use cinspect::testing::Criteria;
    use cinspect::testing::SnapshotOptions;
    use cinspect::testing::hold;
    let container = fixture("init\n> victim")?;
    let pid = container.pids["victim"];
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = local_host()?;
    let found = resolved(&host, &container)?;
    let snapshot = found.snapshot(SnapshotOptions::BARE).map_err(error)?;
    let victim =
        snapshot.processes.iter().find(|process| process.pid.is_some_and(|p| p.get() == pid));
    let victim = victim.ok_or("no victim")?.clone();
    check(
        hold(&found, &victim, None, Criteria::default()).is_ok(),
        "the running process cannot be held",
    )?;
    // The same PID, but a different start time.
    let mut other = victim.clone();
    let mut process = (*other.facts).clone();
    process.id.start.0 += 1;
    other.facts = process.into();
    check(
        hold(&found, &other, None, Criteria::default()).is_err(),
        "a process with a different start time is held",
    )?;
    // A process of the host is not in the container, whatever the list says.
    let mut outsider = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn()?;
    let pid_on_host = i32::try_from(outsider.id())?;
    let pid_on_host = cinspect::testing::HostPid::new(pid_on_host).ok_or("no PID")?;
    let read = host.snapshot(&[pid_on_host], SnapshotOptions::BARE).remove(0)?;
    let mut replaced = victim.clone();
    replaced.facts = read;
    let refused = hold(&found, &replaced, None, Criteria::default()).is_err();
    let _ = outsider.kill();
    let _ = outsider.wait();
    check(refused, "a process of the host is held")?;
    run(&["signal", &name(&container), "KILL", "--pid", &pid.to_string(), "--wait=120s"])
        .expect(0)?;
    check(
        hold(&found, &victim, None, Criteria::default()).is_err(),
        "a process that has exited is held",
    )
}

/// A second process gets the same PID, in the container and on the host.
fn successor() -> Outcome {
    use cinspect::testing::Criteria;
    use cinspect::testing::hold;
    let container = fixture("init\n> keeper reuses-pid")?;
    let host = local_host()?;
    let found = resolved(&host, &container)?;
    let snapshot = || found.snapshot(cinspect::testing::SnapshotOptions::BARE).ok();
    let find = |comm: &str| {
        let processes = snapshot().map(|snapshot| snapshot.processes).unwrap_or_default();
        processes.into_iter().find(|process| process.facts.stat.comm == comm.as_bytes())
    };
    check(wait_until(|| find("meant").is_some()), "the first does not run")?;
    let victim = find("meant").ok_or("it has exited")?;
    check(hold(&found, &victim, None, Criteria::default()).is_ok(), "the first cannot be held")?;
    let keeper = find("keeper").ok_or("no keeper")?.facts.id.pid.get();
    // Start times count in hundredths of a second.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let next = nix::sys::signal::Signal::SIGUSR2;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), next)?;
    check(wait_until(|| find("other").is_some()), "the second does not run")?;
    let other = find("other").ok_or("it has exited")?;
    same((other.facts.id.pid, other.pid), (victim.facts.id.pid, victim.pid))?;
    check(
        hold(&found, &victim, None, Criteria::default()).is_err(),
        "the second is held as the first",
    )
}

/// Two processes reuse one PID in turn; a signal for one of them never reaches the other.
fn pid_taken() -> Outcome {
    let container = fixture("init\n> keeper reuses-pid-fast")?;
    let mut sent = 0;
    for _ in 0..150 {
        let run = run(&["signal", &name(&container), "USR1", "--comm", "meant"]);
        check([0, 4].contains(&run.code), format!("{run:?}"))?;
        sent += usize::from(run.code == 0);
    }
    let handled = handled(&container);
    let wrong: Vec<_> = handled.iter().filter(|line| line.starts_with("other")).collect();
    check(wrong.is_empty(), format!("{wrong:?}, of {sent} that were sent"))?;
    check(sent > 0, "nothing was ever sent")
}

fn unknown() -> Outcome {
    let error = run(&["signal", "web", "TREM"]).expect(2)?;
    same(error.err.lines().next(), Some("cinspect: unknown signal `TREM`"))?;
    check(error.err.contains("did you mean `TERM`?"), error.err)
}

fn list() -> Outcome {
    let out = run(&["signal", "-l"]).expect(0)?.out;
    same(out.lines().count(), 64)?;
    check(out.contains("15  TERM") && out.contains("37  RTMIN+3"), out)
}
