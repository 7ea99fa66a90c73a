//! `signal` on containers of the harness, whose processes write down what they hear.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::harness::Container;
use crate::support::{Need, Outcome, check, fixture, run, same, test, test_with, wait_until};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Namespaces, "signal::reaches_exactly_the_one_that_is_meant", exactly_one),
        test_with(Need::Namespaces, "signal::goes_to_the_init_by_default", init_by_default),
        test_with(Need::Namespaces, "signal::each_selector_chooses_what_it_says", selectors),
        test_with(Need::Namespaces, "signal::selectors_add_up_and_nobody_gets_it_twice", union),
        test_with(
            Need::Namespaces,
            "signal::a_selector_that_fits_nothing_stops_everything",
            nothing_fits,
        ),
        test_with(
            Need::Namespaces,
            "signal::a_dry_run_shows_who_would_be_hit_and_sends_nothing",
            dry_run,
        ),
        test_with(Need::Namespaces, "signal::one_thread_alone", one_thread),
        test_with(Need::Namespaces, "signal::a_queued_value_arrives", queued),
        test_with(Need::Namespaces, "signal::every_spelling_of_a_signal", spellings),
        test_with(
            Need::Namespaces,
            "signal::require_handler_sends_nothing_without_one",
            require_handler,
        ),
        test_with(Need::Namespaces, "signal::wait_tells_what_became_of_them", waits),
        test_with(Need::Namespaces, "signal::kill_after_ends_who_does_not_leave", kill_after),
        test_with(Need::Namespaces, "signal::all_children_first_and_the_init_last", order),
        test_with(
            Need::Namespaces,
            "signal::all_reaches_everybody_once_though_the_container_forks",
            forking,
        ),
        test_with(Need::Namespaces, "signal::kill_all_leaves_nobody", kill_all),
        test_with(
            Need::Root,
            "signal::a_process_that_is_not_the_one_that_was_seen_is_not_held",
            reused,
        ),
        test_with(Need::Root, "signal::the_next_process_with_the_number_is_not_held", successor),
        test_with(
            Need::Root,
            "signal::whoever_takes_the_number_meanwhile_hears_nothing",
            number_taken,
        ),
        test("signal::an_unknown_signal_is_answered_with_a_near_one", unknown),
        test("signal::list_needs_no_container", list),
    ]
}

const CAST: &str = "\
init handle=USR1,TERM
> web handle=USR1
> > worker handle=USR1
> deaf ignore=TERM handle=USR1";

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// Runs `signal` on a container; the objects of the answer.
fn signal(container: &Container, arguments: &[&str]) -> Result<Vec<Value>, Failed> {
    let name = name(container);
    let mut line = vec!["--json", "signal", &name];
    line.extend(arguments);
    Ok(run(&line).expect(0)?.objects())
}

/// Who is in an answer, in its order.
fn who(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["comm"].as_str().unwrap_or("?").to_owned()).collect()
}

/// The signals that handlers have run for, complete.
fn heard(container: &Container) -> Vec<String> {
    container.settled()
}

fn exactly_one() -> Outcome {
    let container = fixture(CAST)?;
    let rows = signal(&container, &["USR1", "--pid", &container.inside["worker"].to_string()])?;
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
            "note",
        ]
        .map(str::to_owned)
        .iter()
        .collect(),
    )?;
    same((rows[0]["sent"].clone(), rows[0]["signal"].clone()), (json!(true), json!("USR1")))?;
    check(container.wait_to_hear("worker USR1 0"), "it did not hear it")?;
    same(heard(&container), ["worker USR1 0"].map(str::to_owned).to_vec())
}

fn init_by_default() -> Outcome {
    let container = fixture(CAST)?;
    same(who(&signal(&container, &["USR1"])?), vec!["init".to_owned()])?;
    check(container.wait_to_hear("init USR1 0"), "the init did not hear it")
}

fn selectors() -> Outcome {
    let container = fixture(CAST)?;
    let pid = |name: &str| container.inside[name].to_string();
    let rows = signal(&container, &["-n", "0", "--all"])?;
    let host_pid = |comm: &str| {
        rows.iter()
            .find(|row| row["comm"] == comm)
            .map(|row| row["host_pid"].to_string())
            .unwrap_or_default()
    };
    for (arguments, wanted) in [
        (vec!["--pid", &pid("web")], "web"),
        (vec!["--host-pid", &host_pid("deaf")], "deaf"),
        (vec!["--comm", "worker"], "worker"),
        (vec!["--match", "^w.b$"], "web"),
        (vec!["--tree", &pid("web")], "worker web"),
        (vec!["--user", "0"], "worker web deaf init"),
        (vec!["--user", "root"], "worker web deaf init"),
        (vec!["--all", "--except-init"], "worker web deaf"),
        (vec!["--user", "0", "--except-init"], "worker web deaf"),
        (vec!["--tid", &pid("web")], "web"),
    ] {
        let mut line = vec!["-n", "TERM"];
        line.extend(arguments.iter().copied());
        same(
            (arguments.join(" "), who(&signal(&container, &line)?).join(" ")),
            (arguments.join(" "), wanted.into()),
        )?;
    }
    // All of the cast are of one process group, that of who started them: it has no number inside.
    run(&["signal", "-n", &name(&container), "TERM", "--pgroup", "4000000"]).expect(4)?;
    Ok(())
}

fn union() -> Outcome {
    let container = fixture(CAST)?;
    let web = container.inside["web"].to_string();
    signal(
        &container,
        &["USR1", "--pid", &web, "--comm", "web", "--tree", &web, "--comm", "deaf"],
    )?;
    check(container.wait_to_hear("deaf USR1 0"), "deaf did not hear it")?;
    let wanted = ["deaf USR1 0", "web USR1 0", "worker USR1 0"];
    same(heard(&container), wanted.map(str::to_owned).to_vec())
}

fn nothing_fits() -> Outcome {
    let container = fixture(CAST)?;
    let error =
        run(&["signal", &name(&container), "USR1", "--all", "--comm", "nobody"]).expect(4)?;
    check(error.err.contains("`--comm nobody` matches none of its 4 processes"), &error.err)?;
    check(error.err.contains("hint: "), &error.err)?;
    run(&["signal", &name(&container), "USR1", "--pid", "1", "--except-init"]).expect(4)?;
    run(&["signal", &name(&container), "USR1", "--except-init"]).expect(2)?;
    same(heard(&container), Vec::new())
}

fn dry_run() -> Outcome {
    let container = fixture(CAST)?;
    let rows = signal(&container, &["USR1", "--all", "--dry-run"])?;
    check(
        rows.iter().all(|row| row["sent"] == json!(false)) && rows.len() == 4,
        format!("{rows:?}"),
    )?;
    let text = run(&["signal", &name(&container), "USR1", "-n"]).expect(0)?.out;
    check(text.contains("would be sent"), text)?;
    same(heard(&container), Vec::new())
}

fn one_thread() -> Outcome {
    // A signal to a thread that blocks it stays pending there, and only there.
    let container = fixture("init\n> many thread-blocks=USR2")?;
    let threads = run(&["--json", "ps", "-T", &name(&container)]).expect(0)?.objects();
    let many = || threads.iter().filter(|row| row["pid"] == json!(container.inside["many"]));
    let second = many().nth(1).cloned().unwrap_or_default();
    signal(&container, &["USR2", "--tid", &second["tid"].to_string()])?;
    let after = run(&["--json", "ps", "-T", &name(&container)]).expect(0)?.objects();
    let pending = |tid: &Value| {
        let row = after.iter().find(|row| row["tid"] == *tid).cloned().unwrap_or_default();
        row["signals"]["thread_pending"].clone()
    };
    same(pending(&second["tid"]), json!(["USR2"]))?;
    same(pending(&json!(container.inside["many"])), json!([]))
}

fn queued() -> Outcome {
    let container = fixture(CAST)?;
    signal(&container, &["USR1", "--comm", "web", "--queue", "-42"])?;
    check(container.wait_to_hear("web USR1 -42"), format!("{:?}", container.heard()))
}

fn spellings() -> Outcome {
    let container = fixture(CAST)?;
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
    // The question whether one could be sent is really asked, and nobody hears it.
    same(signal(&container, &["0", "--all"])?.len(), 4)?;
    for typed in ["-1", "65", "TERM1", "0x9", "+9", ""] {
        run(&["signal", &name(&container), typed]).expect(2)?;
    }
    same(heard(&container), Vec::new())
}

fn require_handler() -> Outcome {
    let container = fixture(CAST)?;
    let error = run(&["signal", "-r", &name(&container), "TERM", "--all"]).expect(6)?;
    check(error.err.contains("no handler for TERM") && error.err.contains("deaf"), &error.err)?;
    same(heard(&container), Vec::new())?;
    signal(&container, &["-r", "TERM"])?;
    check(container.wait_to_hear("init TERM 0"), "the init did not hear it")
}

fn waits() -> Outcome {
    let container = fixture(CAST)?;
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
    let container = fixture(CAST)?;
    let rows = signal(
        &container,
        &["USR1", "--tree", &container.inside["web"].to_string(), "-k", "200ms"],
    )?;
    same(
        rows.iter().map(|row| row["outcome"].clone()).collect::<Vec<_>>(),
        vec![json!("killed"); 2],
    )?;
    let left = run(&["--json", "ps", &name(&container)]).expect(0)?.objects();
    check(!left.iter().any(|row| row["comm"] == "web" && row["state"] != "Z"), format!("{left:?}"))
}

fn order() -> Outcome {
    let container = fixture(CAST)?;
    same(
        who(&signal(&container, &["-n", "TERM", "--all"])?).join(" "),
        "worker web deaf init".into(),
    )
}

fn forking() -> Outcome {
    let container = fixture("init handle=USR1\n> maker forks\n> web handle=USR1")?;
    let result = run(&["--json", "signal", &name(&container), "USR1", "--all", "--except-init"]);
    // The sleeps it makes have no handler and end; who stays has heard it once.
    check(result.code == 0, format!("{result:?}"))?;
    check(container.wait_to_hear("web USR1 0"), "web did not hear it")?;
    same(heard(&container), ["web USR1 0"].map(str::to_owned).to_vec())
}

fn kill_all() -> Outcome {
    let container = fixture("init\n> maker forks\n> web")?;
    let name = name(&container);
    run(&["signal", &name, "KILL", "--all", "--wait=5s"]).expect(0)?;
    check(wait_until(|| run(&["ps", &name]).code == 3), "something is left")
}

fn local_host() -> Result<cinspect::testing::Host, Failed> {
    Ok(cinspect::testing::Host::new(std::path::Path::new("/")).map_err(|e| e.to_string())?)
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

/// What was seen and what has the number now are compared before anything is sent: another start
/// time, a process outside of the container, one that has ended.
fn reused() -> Outcome {
    use cinspect::testing::Criteria;
    use cinspect::testing::SnapshotOptions;
    use cinspect::testing::hold;
    let container = fixture("init\n> victim")?;
    let pid = container.inside["victim"];
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = local_host()?;
    let found = resolved(&host, &container)?;
    let view = found.snapshot(SnapshotOptions::BARE).map_err(error)?;
    let seen = view.processes.iter().find(|member| member.pid.is_some_and(|p| p.get() == pid));
    let seen = seen.ok_or("no victim")?.clone();
    check(hold(&found, &seen, None, Criteria::default()).is_ok(), "the living one can be held")?;
    // Somebody who looks like another: the number inside differs, the start time differs.
    let mut other = seen.clone();
    let mut process = (*other.facts).clone();
    process.id.start.0 += 1;
    other.facts = process.into();
    check(
        hold(&found, &other, None, Criteria::default()).is_err(),
        "another start time is another process",
    )?;
    // A process of the host is never one of the container's, whatever the list says.
    let mut stranger =
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().map_err(|e| e.to_string())?;
    let number = i32::try_from(stranger.id()).map_err(|e| e.to_string())?;
    let number = cinspect::testing::HostPid::new(number).ok_or("no number")?;
    let read =
        host.snapshot(&[number], SnapshotOptions::BARE).remove(0).map_err(|e| e.to_string())?;
    let mut moved = seen.clone();
    moved.facts = read.into();
    let refused = hold(&found, &moved, None, Criteria::default()).is_err();
    let _ = stranger.kill();
    let _ = stranger.wait();
    check(refused, "a stranger can be held as a member")?;
    run(&["signal", &name(&container), "KILL", "--pid", &pid.to_string(), "--wait=5s"])
        .expect(0)?;
    check(hold(&found, &seen, None, Criteria::default()).is_err(), "one that has ended can be held")
}

/// A second process takes the number, inside and on the host.
fn successor() -> Outcome {
    use cinspect::testing::Criteria;
    use cinspect::testing::hold;
    let container = fixture("init\n> keeper twins")?;
    let host = local_host()?;
    let found = resolved(&host, &container)?;
    let look = || found.snapshot(cinspect::testing::SnapshotOptions::BARE).ok();
    let called = |comm: &str| {
        let members = look().map(|view| view.processes).unwrap_or_default();
        members.into_iter().find(|member| member.facts.stat.comm == comm.as_bytes())
    };
    check(wait_until(|| called("meant").is_some()), "the first does not run")?;
    let seen = called("meant").ok_or("it has gone")?;
    check(hold(&found, &seen, None, Criteria::default()).is_ok(), "the first can be held")?;
    let keeper = called("keeper").ok_or("no keeper")?.facts.id.pid.get();
    // Start times count in hundredths of a second.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let next = nix::sys::signal::Signal::SIGUSR2;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), next).map_err(|e| e.to_string())?;
    check(wait_until(|| called("other").is_some()), "the second does not run")?;
    let other = called("other").ok_or("it has gone")?;
    same((other.facts.id.pid, other.pid), (seen.facts.id.pid, seen.pid))?;
    check(
        hold(&found, &seen, None, Criteria::default()).is_err(),
        "the second was taken for the first",
    )
}

/// Two processes change places all the time; what is meant for one never reaches the other.
fn number_taken() -> Outcome {
    let container = fixture("init\n> keeper flips")?;
    let mut sent = 0;
    for _ in 0..150 {
        let run = run(&["signal", &name(&container), "USR1", "--comm", "meant"]);
        check([0, 4].contains(&run.code), format!("{run:?}"))?;
        sent += usize::from(run.code == 0);
    }
    let heard = heard(&container);
    let wrong: Vec<_> = heard.iter().filter(|line| line.starts_with("other")).collect();
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
