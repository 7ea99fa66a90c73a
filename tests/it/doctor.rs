//! `doctor`: that it finds the problem, and that a real stop then behaves as it says.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::kernel_agreement::State;
use crate::kernel_agreement::freezer::{self, FrozenCgroup};
use crate::support::{
    Need, Outcome, UnsharedInit, check, children, fixture, not_applicable, run, runs, same,
    test_with, test_with_programs, wait_until,
};

/// The name of a case, its fixture, the code of the first finding, and whether a stop then waits for the
/// whole grace period.
const CASES: &[(&str, &str, &str, bool)] = &[
    ("that_handles_it", "init exits-on=TERM", "uncertain", false),
    ("without_a_handler", "init", "init-without-handler", true),
    ("that_ignores_it", "init ignore=TERM", "init-ignores", true),
    ("that_blocks_it", "init block=TERM", "init-blocks", true),
    ("that_waits_for_another", "init sigwait=HUP exits-on=TERM", "init-without-handler", true),
    ("that_handles_another", "init handle=INT", "init-without-handler", true),
    ("that_handles_another_and_blocks_it", "init block=TERM handle=QUIT", "init-blocks", true),
    ("with_children", "init exits-on=TERM\n> child handle=TERM", "uncertain", false),
    ("with_a_child_that_blocks", "init exits-on=TERM\n> child block=TERM", "uncertain", false),
    ("that_does_not_reap", "init exits-on=TERM\n> parent\n> > gone exit", "zombies", false),
];

pub fn trials() -> Vec<Trial> {
    let each = CASES.iter().map(|(name, fixture, code, waits)| {
        let name = format!("doctor::an_init_{name}");
        test_with(Need::Namespaces, name.leak(), move || agrees(fixture, code, *waits))
    });
    let mut trials: Vec<Trial> = each.collect();
    let mut add = |name, run: fn() -> Outcome| {
        trials.push(test_with(Need::Namespaces, name, run));
    };
    add("doctor::prints_messages_and_remedies", words);
    add("doctor::offers_an_init_before_another_stop_signal_and_hup_never", remedies);
    add("doctor::is_ok_only_where_every_process_is_known_to_exit", never_ok_by_chance);
    add("doctor::exits_8_on_a_problem", status);
    add("doctor::checks_every_container_the_worst_first", every);
    add("doctor::a_command_that_may_be_over_in_time_is_not_a_problem", short_command);
    add("doctor::a_signal_that_is_blocked_at_this_moment_is_not_a_problem", blocked_for_now);
    add("doctor::a_process_that_does_not_run_is_named_with_the_reason", not_running);
    for (state, name) in [
        (State::FrozenV1, "doctor::a_process_that_is_frozen_by_v1_is_named"),
        (State::FrozenV2, "doctor::a_process_that_is_frozen_by_v2_is_named"),
    ] {
        trials.push(match freezer::mount_point(state) {
            Some(top) => test_with(Need::Namespaces, name, move || frozen(&top)),
            None => not_applicable(name, "no such freezer on this host"),
        });
    }
    for (state, name) in [
        (State::FrozenV1, "doctor::a_container_that_v1_has_paused_may_exit_once_it_is_unpaused"),
        (State::FrozenV2, "doctor::a_container_that_v2_has_paused_may_exit_once_it_is_unpaused"),
    ] {
        trials.push(match freezer::mount_point(state) {
            Some(top) => test_with(Need::Namespaces, name, move || paused(&top)),
            None => not_applicable(name, "no such freezer on this host"),
        });
    }
    let name = "doctor::busybox_init_may_find_a_signal_that_it_blocks";
    trials.push(test_with(Need::Busybox, name, polls));
    let name = "doctor::a_session_is_not_in_the_process_group_that_tini_signals";
    trials.push(test_with_programs(&["tini"], name, session));
    trials
}

fn agrees(lines: &str, code: &str, waits: bool) -> Outcome {
    let container = fixture(lines)?;
    let name = format!("pid:{}", container.init);
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    same((findings[0]["code"].clone(), lines), (json!(code), lines))?;
    let is_problem = |row: &Value| row["severity"] == json!("problem");
    same(findings.iter().any(is_problem), waits)?;
    for row in findings.iter().filter(|row| row["severity"] != json!("ok")) {
        check(row["remedy"].is_string() && row["message"].is_string(), row)?;
    }
    let grace = if waits { "1s" } else { "120s" };
    let events = run(&["--json", "stop", "-t", grace, &name]).expect(0)?.objects();
    let grace_over = events.iter().any(|event| event["event"] == json!("grace-over"));
    same((grace_over, lines), (waits, lines))
}

fn words() -> Outcome {
    let container = fixture("init")?;
    let output = run(&["doctor", "--exit-zero", &format!("pid:{}", container.init)]).expect(0)?;
    check(output.out.starts_with("problem  1 init: PID 1 has no handler for TERM"), &output.out)?;
    check(output.out.contains("→ run it under an init"), &output.out)?;
    // One remedy for two findings is printed once.
    let shell = UnsharedInit::start(&["sh", "-c", "trap 'exit 0' TERM; sleep 99; true"])?;
    let mut remedies = Vec::new();
    let is_twice = || {
        let findings = run(&["--json", "doctor", &shell.name()]).objects();
        let remedy = |row: &Value| row["remedy"].as_str().unwrap_or_default().to_owned();
        remedies = findings.iter().map(remedy).collect();
        remedies.len() > 1 && remedies[0] == remedies[1]
    };
    check(wait_until(is_twice), "two findings have one remedy")?;
    let output = run(&["doctor", &shell.name()]).expect(0)?;
    same(output.out.matches(&remedies[0]).count(), 1)?;
    run(&["doctor", "nosuch"]).expect(3).map(drop)
}

fn first(lines: &str) -> Result<Value, libtest_mimic::Failed> {
    let container = fixture(lines)?;
    let findings =
        run(&["--json", "doctor", "--exit-zero", &format!("pid:{}", container.init)]).expect(0)?;
    Ok(findings.objects()[0].clone())
}

fn remedies() -> Outcome {
    let remedy =
        |lines| first(lines).map(|row| row["remedy"].as_str().unwrap_or_default().to_owned());
    let offered = remedy("init handle=HUP,INT")?;
    check(offered.starts_with("run it under an init"), &offered)?;
    check(
        offered.contains("if it exits on INT, stop it with `cinspect stop -s INT pid:"),
        &offered,
    )?;
    for lines in ["init handle=HUP", "init block=TERM handle=HUP", "init ignore=TERM handle=HUP"] {
        let offered = remedy(lines)?;
        check(!offered.contains("HUP") && !offered.contains("stop -s"), offered)?;
    }
    let offered = remedy("init block=TERM handle=QUIT")?;
    check(offered.contains("if it exits on QUIT"), offered)?;
    // Under an init it would be terminated, and its child killed.
    let offered = remedy("init\n> child handle=TERM")?;
    check(offered.starts_with("add a handler"), offered)
}

/// `doctor` agrees with the forecast of `stop -n`.
fn never_ok_by_chance() -> Outcome {
    for lines in [
        "init",
        "init exits-on=TERM",
        "init handle=TERM\n> child ignore=TERM",
        "init ignore=TERM\n> child exits-on=TERM",
    ] {
        let container = fixture(lines)?;
        let name = format!("pid:{}", container.init);
        let forecast = run(&["--json", "stop", "-n", &name]).expect(0)?.objects();
        let graceful = forecast.last().cloned().unwrap_or_default()["graceful"].clone();
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let has = |severity: &str| findings.iter().any(|row| row["severity"] == json!(severity));
        same((has("ok"), lines), (graceful == json!("yes"), lines))?;
        same((has("problem"), lines), (graceful == json!("no"), lines))?;
    }
    Ok(())
}

/// A shell without a trap, whose command may be over before the grace period is.
fn short_command() -> Outcome {
    let shell = UnsharedInit::start(&["sh", "-c", "sleep 99; true"])?;
    let is_sleep = || children(shell.init).into_iter().any(|pid| runs(pid, &["sleep", "99"]));
    check(wait_until(is_sleep), "it runs no sleep")?;
    let plan = run(&["--json", "stop", "-n", &shell.name()]).expect(0)?.objects();
    same(plan.last().cloned().unwrap_or_default()["graceful"].clone(), json!("maybe"))?;
    let findings = run(&["--json", "doctor", &shell.name()]).expect(0)?.objects();
    same(findings[0]["severity"].clone(), json!("warning"))?;
    let message = findings[0]["message"].as_str().unwrap_or_default();
    check(message.contains("unless it exits by itself before"), message)
}

/// It may be taken a moment later: not called a problem, and no process is forecast to be killed.
fn blocked_for_now() -> Outcome {
    let [caught, with_signalfd] =
        [fixture("init block=TERM handle=TERM")?, fixture("init signalfd-unread=TERM")?];
    let script = "use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM)); 1 while 1";
    let busy = UnsharedInit::start(&["perl", "-e", script])?;
    let status = format!("/proc/{}/status", busy.init);
    let blocks = |text: String| text.contains("SigBlk:\t0000000000004000");
    check(wait_until(|| std::fs::read_to_string(&status).is_ok_and(blocks)), "it does not block")?;
    for (name, reason) in [
        (format!("pid:{}", caught.init), "its handler runs when it is unblocked"),
        (format!("pid:{}", with_signalfd.init), "it has a signalfd for the signal"),
        (busy.name(), "it is busy"),
    ] {
        let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
        let first = &findings[0];
        same(
            (first["code"].clone(), first["severity"].clone()),
            (json!("init-blocks"), json!("warning")),
        )?;
        let message = first["message"].as_str().unwrap_or_default();
        check(message.contains(reason), message)?;
        let plan = run(&["--json", "stop", "-n", &name]).expect(0)?.objects();
        let summary = plan.last().cloned().unwrap_or_default();
        check(summary["graceful"] == json!("maybe"), format!("{plan:?}"))?;
        let text = run(&["signal", "-n", &name, "TERM"]).expect(0)?.err;
        check(text.contains("pending for now") && text.contains(reason), text)?;
    }
    Ok(())
}

/// Also where the signal would not end it if it ran. (A PID 1 is stopped from outside only.)
fn not_running() -> Outcome {
    for (lines, stopped, code, message, remedy) in [
        ("init", "init", "stopped", "it is stopped", "CONT"),
        ("init handle=TERM", "init", "stopped", "it is stopped", "CONT"),
        ("init exits-on=TERM", "init", "stopped", "it is stopped", "CONT"),
        ("init block=TERM handle=TERM", "init", "stopped", "it is stopped", "CONT"),
        ("init exits-on=TERM\n> child ignore=TERM", "child", "stopped", "it is stopped", "CONT"),
        ("init handle=TERM vforks", "", "uninterruptible", "child of its vfork(2)", "its child"),
    ] {
        let container = fixture(lines)?;
        let name = format!("pid:{}", container.init);
        let pid = container.pids.get(stopped).copied().unwrap_or(1).to_string();
        if !stopped.is_empty() {
            run(&["signal", &name, "STOP", "--pid", &pid]).expect(0)?;
        }
        let mut named = Vec::new();
        let is_named = || {
            let findings = run(&["--json", "doctor", "--exit-zero", &name]).objects();
            named = findings.into_iter().filter(|row| row["code"] == json!(code)).collect();
            !named.is_empty()
        };
        check(wait_until(is_named), lines)?;
        let text = |key: &str| named[0][key].as_str().unwrap_or_default();
        let is_right = text("message").contains(message) && text("remedy").contains(remedy);
        let found = (named.len(), named[0]["pid"].to_string(), is_right);
        same((lines, found), (lines, (1, pid, true)))?;
        if stopped == "init" {
            let is_problem = named[0]["severity"] == json!("problem");
            let plan = run(&["--json", "stop", "-n", &name]).objects().pop().unwrap_or_default();
            let is_forecast = plan["graceful"] == json!("no");
            same((lines, is_problem || lines == "init", is_forecast), (lines, true, true))?;
        }
    }
    Ok(())
}

/// A child that is frozen has a finding, whether the signal would end it or not.
fn frozen(top: &Path) -> Outcome {
    for child in ["ignore=TERM", "block=TERM", "handle=TERM"] {
        let container = fixture(&format!("init exits-on=TERM\n> child {child}"))?;
        let _cgroup = FrozenCgroup::new(top, &[container.host_pids()["child"]])?;
        let name = format!("pid:{}", container.init);
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let is_frozen = |row: &&Value| row["code"] == json!("frozen");
        let found: Vec<&Value> = findings.iter().filter(is_frozen).collect();
        same((child, found.len()), (child, 1))?;
        same(found[0]["pid"].clone(), json!(container.pids["child"]))?;
        same(found[0]["remedy"].clone(), json!("thaw its cgroup"))?;
    }
    Ok(())
}

/// Docker resumes a paused container that it stops, not one process that is frozen. (A signal that PID 1 has no handler
/// for is lost while it is paused, too.)
fn paused(top: &Path) -> Outcome {
    for (init, graceful) in [("init exits-on=TERM", "maybe"), ("init", "no")] {
        let container = fixture(&format!("{init}\n> child handle=TERM"))?;
        let _cgroup = FrozenCgroup::new(top, &[container.init])?;
        let name = format!("pid:{}", container.init);
        let plan = run(&["--json", "stop", "-n", "--unpause", &name]).expect(0)?;
        let last = plan.objects().pop().unwrap_or_default();
        check(last["graceful"] == json!(graceful), format!("{init}: {}", plan.out))?;
    }
    Ok(())
}

/// (In an empty root directory, so that it runs nothing of the host.)
fn polls() -> Outcome {
    let root = tempfile::tempdir()?;
    let within = root.path().join("busybox");
    let copied = "cp -L \"$(command -v busybox)\" \"$0\"";
    check(Command::new("sh").args(["-c", copied]).arg(&within).status()?.success(), "no copy")?;
    let root = root.path().display().to_string();
    let init = UnsharedInit::start(&["chroot", &root, "/busybox", "init"])?;
    let mut found = Value::Null;
    let is_found = wait_until(|| {
        let rows = run(&["--json", "doctor", "--exit-zero", &init.name()]).objects();
        found = rows.into_iter().find(|row| row["code"] == json!("init-blocks")).into();
        !found.is_null()
    });
    check(is_found, "it does not block TERM")?;
    let polls = found["message"].as_str().is_some_and(|text| text.contains("polls for it"));
    same((found["severity"].clone(), polls), (json!("warning"), true))
}

fn session() -> Outcome {
    let tini = UnsharedInit::start(&["tini", "--", "sleep", "1000"])?;
    let mut session = Command::new("nsenter");
    session.args(["-t", &tini.init.to_string(), "-p", "--", "sleep", "1001"]);
    let mut session = session.stdin(Stdio::null()).spawn()?;
    let remedy = || {
        let rows = run(&["--json", "doctor", "--exit-zero", &tini.name()]).objects();
        let row = rows.into_iter().find(|row| row["code"] == json!("children-not-signalled"));
        row.map(|row| row["remedy"].as_str().unwrap_or_default().to_owned())
    };
    let is_named = wait_until(|| remedy().is_some());
    let remedy = remedy().unwrap_or_default();
    let _ = session.kill();
    let _ = session.wait();
    check(is_named && remedy.starts_with("exit the session first"), &remedy)?;
    check(!remedy.contains("tini -g"), &remedy)
}

fn status() -> Outcome {
    let (bad, good) = (fixture("init")?, fixture("init exits-on=TERM")?);
    let (bad, good) = (format!("pid:{}", bad.init), format!("pid:{}", good.init));
    run(&["doctor", &bad]).expect(8)?;
    run(&["doctor", "--exit-zero", &bad]).expect(0)?;
    run(&["doctor", &good]).expect(0)?;
    let several = run(&["doctor", &good, &bad]).expect(8)?.out;
    let position = |name: &str| several.lines().position(|line| line == name);
    check(position(&bad) < position(&good) && position(&bad).is_some(), &several)?;
    check(several.ends_with("2 containers: 1 with a problem, 1 uncertain\n"), several)?;
    run(&["doctor", &good, "nosuch"]).expect(3).map(drop)
}

fn every() -> Outcome {
    let (bad, good) = (fixture("init")?, fixture("init exits-on=TERM")?);
    let rows = run(&["--json", "doctor"]).expect(8)?.objects();
    let first = |container: &crate::harness::Container| {
        let name = json!(format!("pid:{}", container.init));
        rows.iter().position(|row| row["container"] == name)
    };
    check(first(&bad).is_some() && first(&bad) < first(&good), format!("{rows:?}"))?;
    let rank = |row: &Value| match row["severity"].as_str() {
        Some("problem") => 0,
        Some("warning") => 1,
        Some("info") => 2,
        _ => 3,
    };
    let mut worst: Vec<(Value, i32)> = Vec::new();
    for row in &rows {
        if worst.last().is_none_or(|(container, _)| *container != row["container"]) {
            worst.push((row["container"].clone(), rank(row)));
        }
    }
    check(worst.is_sorted_by_key(|(_, rank)| *rank), format!("{worst:?}"))
}
