//! One table of checks over every real engine. `tests/run` starts the engines and names those that
//! are up in `CINSPECT_TEST_ENGINES`; the scripts in `tests/engines` drive them. What is checked is
//! what a user of any engine expects: it is found by every name it has, its processes are those the
//! engine lists, and a signal reaches exactly the one that was meant.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{
    Outcome, Run, check, finish, missing, not_applicable, note, report, repository, run, same,
    wait_until,
};

/// The engines there are scripts for.
const ENGINES: &[&str] = &[
    "docker",
    "podman",
    "podman-rootless",
    "containerd",
    "runc",
    "crun",
    "youki",
    "lxc",
    "nspawn",
    "bwrap",
];

/// Host and inside PID of a process, as far as an engine tells them.
type Listed = (Option<i32>, Option<i32>);

/// A check and what it is called.
type Check = (&'static str, fn(&Engine) -> Outcome);

/// THE TABLE of checks.
const CHECKS: &[Check] = &[
    ("is_found_by_every_name_it_has", names),
    ("stands_in_ls", listed),
    ("ps_gives_what_the_engine_lists", processes),
    ("ps_shows_who_joined_later_with_no_parent", joined),
    ("a_signal_reaches_exactly_the_one_that_is_meant", exactly_one),
    ("a_signal_reaches_the_init_and_everybody", init_and_all),
    ("works_while_the_daemons_are_stopped", daemons_stopped),
    ("is_seen_to_be_paused", paused),
    ("looks_at_no_process_outside_where_there_is_a_cgroup", no_survey),
    ("shares_a_pid_namespace_with_another", shared),
    ("shares_the_pid_namespace_of_the_host", hosts_namespace),
    ("is_stopped_with_an_account_of_it", stopped),
    ("is_no_more_once_it_has_ended", ended),
];

/// Checks of one engine alone.
const OWN: &[(&str, Check)] = &[
    ("runc", ("is_found_by_the_root_that_only_its_argv_tells", other_root)),
    ("nspawn", ("is_told_from_another_in_the_same_cgroup", same_cgroup)),
    ("docker", ("shows_a_namespace_made_inside_as_its_own_container_too", nested)),
    ("docker", ("story_of_a_handler_in_pid_1", story_handler)),
    ("docker", ("story_of_a_pid_1_without_one", story_deaf)),
    ("docker", ("story_of_a_child_that_nobody_tells", story_child)),
    ("docker", ("comes_back_where_its_restart_policy_says_so", comes_back)),
];

/// What an engine has no way to do: no test of ours can be failed by that, or passed.
const LACKS: &[(&str, &str, &str)] = &[
    ("podman", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("podman-rootless", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("runc", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("crun", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("youki", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("lxc", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("nspawn", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("bwrap", "works_while_the_daemons_are_stopped", "it has no daemon"),
    ("podman-rootless", "is_seen_to_be_paused", "without a cgroup it cannot pause"),
    ("crun", "is_seen_to_be_paused", "without a cgroup it cannot pause"),
    ("podman-rootless", "looks_at_no_process_outside_where_there_is_a_cgroup", "it has no cgroup"),
    ("crun", "looks_at_no_process_outside_where_there_is_a_cgroup", "it has no cgroup"),
    ("bwrap", "looks_at_no_process_outside_where_there_is_a_cgroup", "it has no cgroup"),
    ("nspawn", "is_seen_to_be_paused", "it cannot pause"),
    ("bwrap", "is_seen_to_be_paused", "it cannot pause"),
    ("nspawn", "shares_a_pid_namespace_with_another", "it has no such option"),
    ("bwrap", "shares_a_pid_namespace_with_another", "it has no such option"),
    ("lxc", "shares_the_pid_namespace_of_the_host", "it has no such option"),
    ("nspawn", "shares_the_pid_namespace_of_the_host", "it has no such option"),
    ("bwrap", "shares_the_pid_namespace_of_the_host", "it is no container then"),
];

pub fn trials() -> Vec<Trial> {
    let up = std::env::var("CINSPECT_TEST_ENGINES").unwrap_or_default();
    let up: Vec<&str> = up.split_whitespace().collect();
    let mut trials = Vec::new();
    for name in ENGINES {
        let own = OWN.iter().filter(|(engine, _)| engine == name).map(|(_, check)| *check);
        for (what, check) in CHECKS.iter().copied().chain(own) {
            let title = format!("{name}::{what}");
            let lack = LACKS.iter().find(|(engine, check, _)| engine == name && *check == what);
            if let Some((_, _, why)) = lack {
                if up.contains(name) {
                    note(name, what, "could-not", why);
                }
                trials.push(not_applicable(&title, why));
            } else if up.contains(name) {
                trials.push(Trial::test(title, move || {
                    let outcome = Engine::new(name, what).and_then(|engine| check(&engine));
                    report(name, what, &outcome);
                    outcome
                }));
            } else {
                trials.push(missing(name, &title, "the engine is not up, tests/run starts it"));
            }
        }
    }
    trials
}

/// An engine, with one container of its own for one check.
struct Engine {
    name: &'static str,
    container: String,
    /// Checks of one engine follow each other: some stop its daemons.
    _turn: MutexGuard<'static, ()>,
}

/// What the containers run: an init that counts the signals it gets, a child that does too, one that
/// does not care. Each has written its state when `/ready` has three lines.
const SCRIPT: &str = "\
trap 'echo init USR1 >> /heard' USR1; trap : TERM; \
sh -c 'trap \"echo child USR1 >> /heard\" USR1; echo >> /ready; while :; do sleep 0.1; done' & \
sh -c 'trap \"\" USR1; echo >> /ready; exec sleep 1000' & \
echo >> /ready; while :; do sleep 0.1; done";

impl Engine {
    fn new(name: &'static str, check: &str) -> Result<Self, Failed> {
        static TURNS: [Mutex<()>; 16] = [const { Mutex::new(()) }; 16];
        let at = ENGINES.iter().position(|engine| *engine == name).unwrap_or(0);
        let turn = TURNS[at].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let words: Vec<&str> = check.split('_').take(4).collect();
        let container = format!("cit-{name}-{}", words.join("-"));
        let engine = Self { name, container, _turn: turn };
        let _ = engine.script(&["rm", &engine.container]);
        engine.start(&engine.container, &[])?;
        Ok(engine)
    }

    fn start(&self, name: &str, options: &[&str]) -> Outcome {
        let mut arguments = vec!["run", name];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", SCRIPT]);
        self.script(&arguments)?;
        let init = self.init_of(name)?;
        let ready = format!("/proc/{init}/root/ready");
        let all = || std::fs::read_to_string(&ready).is_ok_and(|text| text.lines().count() >= 3);
        check(wait_until(all), format!("{name} did not get ready"))
    }

    /// Runs its script.
    fn script(&self, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(repository().join("tests/engines").join(self.name));
        command.args(arguments).stdin(Stdio::null());
        let run: Run = finish(command);
        match run.code {
            0 => Ok(run.out.trim().to_owned()),
            code => Err(format!("{} {arguments:?}: status {code}: {}", self.name, run.err).into()),
        }
    }

    fn init(&self) -> Result<i32, Failed> {
        self.init_of(&self.container)
    }

    fn init_of(&self, name: &str) -> Result<i32, Failed> {
        Ok(self.script(&["init", name])?.parse().map_err(|_| "no number")?)
    }

    fn qualified(&self) -> Result<String, Failed> {
        self.script(&["qualified", &self.container])
    }

    fn id(&self) -> Result<String, Failed> {
        self.script(&["id", &self.container])
    }

    /// Whether it names its containers; a bare namespace has no name.
    fn has_names(&self) -> bool {
        self.name != "bwrap"
    }

    /// Host and inside PIDs as the engine lists them; what it cannot tell is none.
    fn top(&self) -> Result<Vec<Listed>, Failed> {
        let text = self.script(&["top", &self.container])?;
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        Ok(text
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                (number(words.next()), number(words.next()))
            })
            .collect())
    }

    fn ps(&self) -> Result<Vec<Value>, Failed> {
        Ok(run(&["--json", "ps", &self.qualified()?]).expect(0)?.objects())
    }

    /// What its processes have heard.
    fn heard(&self) -> Result<Vec<String>, Failed> {
        let file = format!("/proc/{}/root/heard", self.init()?);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The process that runs `trap … child`, as `ps` shows it.
    fn child(&self) -> Result<Value, Failed> {
        let rows = self.ps()?;
        let is_child = |row: &&Value| {
            let caught =
                row["signals"]["caught"].as_array().is_some_and(|c| c.contains(&json!("USR1")));
            // bwrap stands between: there the init is its child.
            caught && !row["command"].to_string().contains("init USR1")
        };
        rows.iter().find(is_child).cloned().ok_or_else(|| "no child with a handler".into())
    }

    fn member(&self, needle: &str) -> Result<Value, Failed> {
        let rows = self.ps()?;
        let found = rows.iter().find(|row| row["command"].to_string().contains(needle)).cloned();
        found.ok_or_else(|| format!("no process with {needle}").into())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.script(&["unpause", &self.container]);
        let _ = self.script(&["rm", &self.container]);
    }
}

fn inits_of(words: &[String]) -> Result<Vec<Value>, Failed> {
    words
        .iter()
        .map(|word| {
            let rows = run(&["--json", "ps", word]).expect(0)?.objects();
            let init = rows.iter().find(|row| row["pid"] == json!(1)).cloned().unwrap_or_default();
            Ok(init["host_pid"].clone())
        })
        .collect()
}

fn names(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let mut words = vec![engine.qualified()?, format!("pid:{init}"), init.to_string()];
    if engine.has_names() {
        let id = engine.id()?;
        words.push(engine.container.clone());
        let prefix = engine.qualified()?.split(':').next().unwrap_or_default().to_owned();
        words.push(format!("{prefix}:{id}"));
        if id.len() == 64 {
            words.extend([id.clone(), id[..12].to_owned(), id[..20].to_owned()]);
        }
    }
    same(inits_of(&words)?, vec![json!(init); words.len()])
}

fn listed(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let own: Vec<&Value> = rows.iter().filter(|row| row["pid"] == json!(init)).collect();
    same(own.len(), 1)?;
    let row = own[0];
    same(row["verified"].clone(), json!(true))?;
    same(row["state"].clone(), json!("running"))?;
    let runtime = match engine.name {
        "podman-rootless" => "podman",
        "bwrap" => "bare",
        name => name,
    };
    same(row["runtime"].clone(), json!(runtime))?;
    if engine.has_names() {
        same(row["name"].clone(), json!(engine.container))?;
        same(row["id"].clone(), json!(engine.id()?))?;
    }
    let user = engine.script(&["as-user"])?;
    check(row["user"].is_null() == user.is_empty(), format!("user {} for `{user}`", row["user"]))?;
    // It starts and ends processes all the time: once the two have to see as many.
    let agree = || {
        let listed = run(&["--json", "ls"]).objects();
        let listed = listed.iter().find(|row| row["pid"] == json!(init)).cloned();
        let shown = engine.ps().map_or(0, |rows| rows.len());
        shown >= 3 && listed.is_some_and(|row| row["processes"] == json!(shown))
    };
    check(wait_until(agree), "ls and ps do not see as many processes")
}

/// The processes that stay: everything but the short sleeps.
fn lasting(rows: &[Value]) -> BTreeSet<(i64, i64)> {
    let stays =
        |row: &&Value| row["command"] != json!(["sleep", "0.1"]) && row["state"] != json!("Z");
    let pair =
        |row: &Value| (row["host_pid"].as_i64().unwrap_or(0), row["pid"].as_i64().unwrap_or(0));
    // A shell between fork and exec looks like the shell: only what two looks see is meant.
    rows.iter().filter(stays).map(pair).collect()
}

fn processes(engine: &Engine) -> Outcome {
    // The kernel, the engine and we look at different instants; what all see in one of a few rounds
    // is compared.
    let mut last = String::new();
    for _ in 0..10 {
        let before = lasting(&engine.ps()?);
        // What lists them is a process too, and another one the second time, after our own look.
        let engines = engine.top()?;
        let after = lasting(&engine.ps()?);
        let ours: BTreeSet<(i64, i64)> = before.intersection(&after).copied().collect();
        let missing: Vec<_> = ours
            .iter()
            .filter(|(host, inside)| {
                !engines.iter().any(|(h, i)| {
                    (h.is_some() || i.is_some())
                        && h.is_none_or(|h| i64::from(h) == *host)
                        && i.is_none_or(|i| i64::from(i) == *inside)
                })
            })
            .collect();
        let all = run(&["--json", "ps", &engine.qualified()?]).expect(0)?.objects();
        let again = engine.top()?;
        let too_many: Vec<_> = engines
            .iter()
            .filter(|process| again.contains(process))
            .filter(|(h, i)| {
                // A short sleep that has ended is no process that we missed.
                let lives = h.is_none_or(|h| std::path::Path::new(&format!("/proc/{h}")).exists());
                let known = all.iter().any(|row| {
                    h.is_none_or(|h| row["host_pid"] == json!(h))
                        && i.is_none_or(|i| row["pid"] == json!(i))
                });
                lives && !known
            })
            .collect();
        if missing.is_empty() && too_many.is_empty() && ours.len() >= 3 {
            return Ok(());
        }
        last = format!(
            "the engine does not list {missing:?}; we do not list {too_many:?} of {engines:?}; ours {ours:?}"
        );
    }
    Err(last.into())
}

fn joined(engine: &Engine) -> Outcome {
    engine.script(&["exec", &engine.container, "--", "sleep", "777"])?;
    check(wait_until(|| engine.member("777").is_ok()), "who joined is not shown")?;
    let row = engine.member("777")?;
    same((row["ppid"].clone(), row["command"].clone()), (json!(0), json!(["sleep", "777"])))?;
    // And one that joins the namespaces without the cgroup, as people do by hand.
    let init = engine.init()?;
    let mut nsenter = Command::new("nsenter");
    let target = init.to_string();
    let user = if engine.name == "podman-rootless" || engine.name == "bwrap" { "-U" } else { "-m" };
    nsenter.args(["-t", &target, user, "-m", "-p", "--", "/bin/sleep", "778"]).stdin(Stdio::null());
    let mut child = nsenter.spawn().map_err(|error| error.to_string())?;
    let shown = wait_until(|| engine.member("778").is_ok());
    let row = engine.member("778");
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "778"]);
    let _ = child.kill();
    let _ = child.wait();
    check(shown, "who joined by nsenter is not shown")?;
    same(row?["ppid"].clone(), json!(0))
}

fn exactly_one(engine: &Engine) -> Outcome {
    let child = engine.child()?;
    let pid = child["pid"].to_string();
    let sent = run(&["--json", "signal", &engine.qualified()?, "USR1", "--pid", &pid]).expect(0)?;
    let rows = sent.objects();
    same(rows.len(), 1)?;
    same((rows[0]["sent"].clone(), rows[0]["pid"].clone()), (json!(true), child["pid"].clone()))?;
    let heard = || engine.heard().is_ok_and(|heard| !heard.is_empty());
    check(wait_until(heard), "nobody heard it")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    same(engine.heard()?, vec!["child USR1".to_owned()])
}

fn init_and_all(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    // bwrap's own PID 1 has no handler: it blocks and drops.
    if engine.has_names() {
        run(&["signal", &name, "USR1"]).expect(0)?;
        check(
            wait_until(|| engine.heard().is_ok_and(|h| h.contains(&"init USR1".into()))),
            "the init did not hear it",
        )?;
        same(engine.heard()?, vec!["init USR1".to_owned()])?;
    }
    run(&["signal", &name, "USR1", "--comm", "nobody"]).expect(4)?;
    let dry = run(&["--json", "signal", "-n", &name, "USR1", "--all"]).expect(0)?.objects();
    check(
        dry.len() >= 3 && dry.iter().all(|row| row["sent"] == json!(false)),
        "a dry run sends nothing",
    )?;
    run(&["signal", &name, "TERM", "--all", "--except-init", "--dry-run"]).expect(0)?;
    run(&["signal", &name, "USR1", "--all"]).expect(0)?;
    check(
        wait_until(|| engine.heard().is_ok_and(|h| h.contains(&"child USR1".into()))),
        "not everybody heard it",
    )
}

fn daemons_stopped(engine: &Engine) -> Outcome {
    let daemons = engine.script(&["daemons"])?;
    let daemons: Vec<&str> = daemons.split_whitespace().collect();
    check(!daemons.is_empty(), "no daemon runs")?;
    // Everything the script knows is asked before.
    let (name, id, init, child) =
        (engine.qualified()?, engine.id()?, engine.init()?, engine.child()?);
    let all = |signal: &str| {
        for daemon in &daemons {
            let _ = Command::new("kill").args([signal, daemon]).status();
        }
    };
    all("-STOP");
    let work = || -> Outcome {
        same(inits_of(&[name.clone(), id.clone()])?, vec![json!(init); 2])?;
        let pid = child["pid"].to_string();
        run(&["signal", &name, "USR1", "--pid", &pid]).expect(0)?;
        let file = format!("/proc/{init}/root/heard");
        let heard = || std::fs::read_to_string(&file).is_ok_and(|text| text == "child USR1\n");
        check(wait_until(heard), "the child did not hear it")
    };
    let outcome = work();
    all("-CONT");
    outcome
}

fn paused(engine: &Engine) -> Outcome {
    engine.script(&["pause", &engine.container])?;
    let init = engine.init()?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let state = |rows: &[Value]| {
        rows.iter().find(|row| row["pid"] == json!(init)).map(|row| row["state"].clone())
    };
    let paused = state(&rows);
    let shown = run(&["--json", "ps", &engine.qualified()?]).expect(0)?.objects().len();
    engine.script(&["unpause", &engine.container])?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    same((paused, state(&rows)), (Some(json!("paused")), Some(json!("running"))))?;
    check(shown >= 3, format!("{shown} processes of a paused container"))
}

/// The cost is the container's own: of a hundred processes outside none is looked at, as strace
/// tells.
fn no_survey(engine: &Engine) -> Outcome {
    let mut strangers: Vec<std::process::Child> = (0..100)
        .filter_map(|_| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().ok())
        .collect();
    let log = std::env::temp_dir().join(format!("{}.strace", engine.container));
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=openat,openat2,readlinkat,readlink", "-o"]).arg(&log);
    traced.arg(env!("CARGO_BIN_EXE_cinspect")).args(["ps", &engine.qualified()?]);
    let outcome = finish(traced).expect(0);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let looked: Vec<u32> = strangers
        .iter()
        .map(std::process::Child::id)
        .filter(|pid| {
            text.contains(&format!("/proc/{pid}\"")) || text.contains(&format!("/proc/{pid}/"))
        })
        .collect();
    for stranger in &mut strangers {
        let _ = stranger.kill();
        let _ = stranger.wait();
    }
    outcome?;
    let init = engine.init()?;
    check(text.contains(&format!("/proc/{init}")), "strace saw nothing")?;
    // The record of a container that has just ended may by chance name one of them.
    same(strangers.len(), 100)?;
    check(looked.len() <= 2, format!("looked at {looked:?}"))
}

fn shared(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-guest", engine.name);
    let _ = engine.script(&["rm", other]);
    let of = format!("--pid=container:{}", engine.container);
    engine.script(&["run", other, &of, "--", "sleep", "4242"])?;
    let work = || -> Outcome {
        let guest = engine.script(&["qualified", other])?;
        let rows = run(&["--json", "ps", &guest]).expect(0)?.objects();
        let commands: Vec<Value> = rows.iter().map(|row| row["command"].clone()).collect();
        same(commands, vec![json!(["sleep", "4242"])])?;
        check(rows[0]["pid"] != json!(1), "it is not PID 1 in another's namespace")?;
        let hosts = engine.ps()?;
        check(
            !hosts.iter().any(|row| row["command"].to_string().contains("4242")),
            "a guest is not the other's process",
        )?;
        check(hosts.iter().any(|row| row["pid"] == json!(1)), "the owner has PID 1")?;
        run(&["signal", &guest, "KILL", "--wait=5s"]).expect(0)?;
        check(engine.ps()?.len() >= 3, "the owner lives on")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// Its init handles TERM and stays: time goes over, and KILL ends all of it.
fn stopped(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    check(!findings.is_empty(), "nothing is found")?;
    let plan = run(&["stop", "-n", "-s", "TERM", &name]).expect(0)?;
    check(plan.out.contains("would send TERM"), &plan.out)?;
    let events = run(&["--json", "stop", "-s", "TERM", "-t", "1s", &name]).expect(0)?.objects();
    check(events.iter().any(|event| event["event"] == json!("grace-over")), format!("{events:?}"))?;
    let last = events.last().cloned().unwrap_or_default();
    same((last["event"].clone(), last["graceful"].clone()), (json!("stopped"), json!(false)))?;
    check(wait_until(|| run(&["ps", &name]).code == 3), "something of it is left")
}

/// Runs a container for a story, and stops it; what was said, and the events.
fn story(
    engine: &Engine,
    program: &[&str],
    processes: usize,
    stop: &[&str],
) -> Result<(Vec<Value>, Vec<Value>), Failed> {
    let other = &format!("cit-{}-story", engine.name);
    let _ = engine.script(&["rm", other]);
    let mut all = vec!["run", other.as_str(), "--"];
    all.extend(program);
    engine.script(&all)?;
    let name = engine.script(&["qualified", other])?;
    // Its shells have set their traps, and started what they start.
    let ready = || {
        let rows = run(&["--json", "ps", &name]).objects();
        let set = |row: &Value| {
            row["comm"] == json!("sleep") || row["on_signal"]["verdict"] == json!("handled")
        };
        rows.len() == processes && rows.iter().all(set)
    };
    check(wait_until(ready), "it is not ready")?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    let mut all = vec!["--json", "stop", name.as_str()];
    all.extend(stop);
    let events = run(&all).expect(0)?.objects();
    let _ = engine.script(&["rm", other]);
    Ok((findings, events))
}

fn graceful(events: &[Value]) -> Value {
    events.last().cloned().unwrap_or_default()["graceful"].clone()
}

fn story_handler(engine: &Engine) -> Outcome {
    let program = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    let (_, events) = story(engine, &program, 2, &["--order", "leaves"])?;
    same(graceful(&events), json!(true))
}

fn story_deaf(engine: &Engine) -> Outcome {
    let (findings, events) = story(engine, &["sleep", "1000"], 1, &["-t", "1s"])?;
    same(findings[0]["code"].clone(), json!("init-without-handler"))?;
    check(events.iter().any(|event| event["event"] == json!("grace-over")), "it left")?;
    same(graceful(&events), json!(false))
}

/// The parent leaves as it is told, and its child, which would leave as well, never hears of it; told
/// first, it does.
fn story_child(engine: &Engine) -> Outcome {
    let program =
        ["sh", "-c", "trap 'exit 0' TERM; sh -c \"trap 'exit 3' TERM; sleep 1000 & wait\" & wait"];
    let (findings, events) = story(engine, &program, 3, &[])?;
    same(findings[0]["code"].clone(), json!("children-unheard"))?;
    same(graceful(&events), json!(false))?;
    let unheard = events.iter().filter(|event| event["event"] == json!("killed")).count();
    same(unheard, 2)?;
    let (_, events) = story(engine, &program, 3, &["--order", "leaves"])?;
    same(graceful(&events), json!(true))
}

fn comes_back(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-back", engine.name);
    let _ = engine.script(&["rm", other]);
    // The script takes only its own options; the policy is set afterwards.
    engine.script(&["run", other, "--", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"])?;
    engine.script(&["policy", other, "always"])?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let name = engine.script(&["qualified", other])?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    let restart = findings.iter().any(|row| row["code"] == json!("restart"));
    let stopped = run(&["stop", &name]).expect(0)?;
    let _ = engine.script(&["rm", other]);
    check(restart, "doctor does not tell of the policy")?;
    check(stopped.err.contains("it comes back at once"), &stopped.err)?;
    check(stopped.err.contains("it is running again"), &stopped.err)
}

fn hosts_namespace(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-onhost", engine.name);
    let _ = engine.script(&["rm", other]);
    engine.script(&["run", other, "--pid=host", "--", "sh", "-c", "sleep 4343 & wait"])?;
    let work = || -> Outcome {
        let init = engine.init_of(other)?;
        let name = engine.script(&["qualified", other])?;
        check(
            wait_until(|| run(&["--json", "ps", &name]).objects().len() == 2),
            format!("{:?}", run(&["ps", &name])),
        )?;
        let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
        same(rows[0]["pid"].clone(), json!(init))?;
        same(rows.iter().all(|row| row["pid"] == row["host_pid"]), true)?;
        run(&["signal", &name, "KILL", "--match", "^sleep 4343$", "--wait=5s"]).expect(0)?;
        // There is no namespace whose init would take all with it: `--all` has to.
        let _ = engine.script(&["rm", other]);
        engine.script(&[
            "run",
            other,
            "--pid=host",
            "--",
            "sh",
            "-c",
            "while :; do sleep 0.2 & sleep 0.05; done",
        ])?;
        run(&["signal", &name, "KILL", "--all", "--wait=10s"]).expect(0)?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "something of it is left")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// A runc that waits in the foreground shows its `--root`; its state is nowhere else.
fn other_root(engine: &Engine) -> Outcome {
    let name = "cit-runc-elsewhere";
    let script = |arguments: &[&str]| {
        let mut command = Command::new(repository().join("tests/engines/runc"));
        command.args(arguments).env("CIT_RUNC_ROOT", "other").stdin(Stdio::null());
        finish(command).expect(0).map(|run| run.out.trim().to_owned())
    };
    let _ = script(&["rm", name]);
    script(&["run", name, "--", "sleep", "1000"])?;
    let work = || -> Outcome {
        let init: i32 = script(&["init", name])?.parse().map_err(|_| "no number")?;
        same(inits_of(&[format!("runc:{name}"), name.to_owned()])?, vec![json!(init); 2])
    };
    let outcome = work();
    let _ = script(&["rm", name]);
    let _ = engine;
    outcome
}

/// Without units of their own all containers of one caller share the cgroup `payload`.
fn same_cgroup(engine: &Engine) -> Outcome {
    let other = "cit-nspawn-beside";
    let _ = engine.script(&["rm", other]);
    engine.script(&["run", other, "--", "sleep", "4545"])?;
    let work = || -> Outcome {
        let own = engine.ps()?;
        check(
            !own.iter().any(|row| row["command"].to_string().contains("4545")),
            "the other's process",
        )?;
        check(own.len() >= 3, "its own processes")?;
        let child = own.iter().find(|row| row["pid"] != json!(1)).cloned().unwrap_or_default();
        let by_child = format!("pid:{}", child["host_pid"]);
        same(inits_of(&[by_child])?, vec![json!(engine.init()?)])?;
        let rows = run(&["--json", "ps", &format!("nspawn:{other}")]).expect(0)?.objects();
        same(
            rows.iter().map(|row| row["command"].clone()).collect(),
            vec![json!(["sleep", "4545"])],
        )
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// A PID namespace made inside a container is a container of its own, and its processes are the
/// outer one's too, with the numbers they have there.
fn nested(engine: &Engine) -> Outcome {
    let init = engine.init()?.to_string();
    // The container may not make one itself; the host's root does it in its name.
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &init, "-m", "-p", "--", "/bin/unshare", "-p", "-f", "/bin/sleep", "4444"]);
    let mut child = inner.stdin(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let is_inner = |row: &Value| row["command"] == json!(["/bin/sleep", "4444"]);
    let shown = wait_until(|| engine.ps().is_ok_and(|rows| rows.iter().any(is_inner)));
    let work = || -> Outcome {
        check(shown, "the outer container does not show it")?;
        let rows = engine.ps()?;
        let row = rows.iter().find(|row| is_inner(row)).cloned().unwrap_or_default();
        check(row["pid"] != json!(1), "outside it is not PID 1")?;
        let own = run(&["--json", "ps", &format!("pid:{}", row["host_pid"])]).expect(0)?.objects();
        same(own.iter().map(|row| row["pid"].clone()).collect::<Vec<_>>(), vec![json!(1)])?;
        let listed = run(&["--json", "ls"]).expect(0)?.objects();
        check(
            listed
                .iter()
                .any(|ctr| ctr["pid"] == row["host_pid"] && ctr["runtime"] == json!("bare")),
            "it is not in the list",
        )
    };
    let outcome = work();
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "4444"]);
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

fn ended(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    run(&["signal", &name, "KILL", "--wait=10s"]).expect(0)?;
    let gone = || run(&["ps", &name]).code == 3;
    check(wait_until(gone), format!("{:?}", run(&["ps", &name])))?;
    run(&["signal", &name, "TERM"]).expect(3)?;
    Ok(())
}
