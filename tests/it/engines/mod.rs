//! One table of checks over every real engine. `tests/run` starts the engines and names those that
//! are up in `CINSPECT_TEST_ENGINES`; the scripts in `tests/engines` drive them. What is checked is
//! what a user of any engine expects: it is found by every name it has, its processes are those the
//! engine lists, and a signal reaches exactly the one that was meant.

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{
    Outcome, Run, check, finish, missing, not_applicable, note, report, repository, run, wait_until,
};

mod checks;
mod cp;
mod exec;
mod inspect;
mod recipes;
mod scenarios;
mod setup;
mod standalone;

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
    ("is_found_by_every_name_it_has", checks::names),
    ("stands_in_ls", checks::listed),
    ("ps_gives_what_the_engine_lists", checks::processes),
    ("ps_shows_who_joined_later_with_no_parent", checks::joined),
    ("a_signal_reaches_exactly_the_one_that_is_meant", checks::exactly_one),
    ("a_signal_reaches_the_init_and_everybody", checks::init_and_all),
    ("works_while_the_daemons_are_stopped", checks::daemons_stopped),
    ("is_seen_to_be_paused", checks::paused),
    ("looks_at_no_process_outside_where_there_is_a_cgroup", checks::no_survey),
    ("shares_a_pid_namespace_with_another", checks::shared),
    ("shares_the_pid_namespace_of_the_host", checks::hosts_namespace),
    ("inspect_says_what_the_kernel_says", inspect::facts),
    ("cp_goes_in_and_out", cp::round_trip),
    ("exec_takes_over_the_inits_attributes", exec::takes_over_the_inits_attributes),
    ("exec_matches_the_engines_own", exec::matches_the_engines_own),
    ("exec_runs_commands", exec::runs_commands),
    ("exec_enters_by_another_pid", exec::enters_by_another_pid),
    ("exec_refuses_a_paused_container", exec::refuses_a_paused_container),
    ("is_stopped_with_an_account_of_it", checks::stopped),
    ("is_no_more_once_it_has_ended", checks::ended),
];

/// Checks of one engine alone.
const OWN: &[(&str, Check)] = &[
    ("runc", ("is_found_by_the_root_that_only_its_argv_tells", standalone::other_root)),
    ("nspawn", ("is_told_from_another_in_the_same_cgroup", standalone::same_cgroup)),
    ("docker", ("shows_a_namespace_made_inside_as_its_own_container_too", standalone::nested)),
    ("docker", ("is_held_still_and_killed_where_no_cgroup_can_be_killed", standalone::held_still)),
    ("docker", ("story_of_a_handler_in_pid_1", scenarios::handler)),
    ("docker", ("story_of_a_pid_1_without_one", scenarios::no_handler)),
    ("docker", ("story_of_a_child_that_nobody_tells", scenarios::child)),
    ("docker", ("story_of_supervisord_with_two_stop_signals", scenarios::supervisord)),
    ("docker", ("leaves_gracefully_where_its_own_stop_does_not", scenarios::children_first)),
    ("podman", ("leaves_gracefully_where_its_own_stop_does_not", scenarios::children_first)),
    ("docker", ("has_an_init_of_its_engine", scenarios::engines_init)),
    ("podman", ("has_an_init_of_its_engine", scenarios::engines_init)),
    ("podman-rootless", ("exec_works_for_the_rootless_user", exec::works_for_the_rootless_user)),
    ("docker", ("exec_shares_what_the_container_shares", exec::shares_what_the_container_shares)),
    ("docker", ("inspect_marks_what_is_dangerous", inspect::dangers)),
    ("docker", ("completes_at_a_prompt", inspect::completed)),
    ("docker", ("is_watched_through_a_restart", inspect::watched)),
    ("docker", ("exec_leaves_a_tracer_alone", exec::leaves_a_tracer_alone)),
    ("docker", ("cp_follows_the_rules_of_its_own", cp::table)),
    ("docker", ("cp_replaces_a_program_that_runs", cp::replaced)),
    ("docker", ("cp_is_not_led_out_by_swapped_links", cp::race)),
    ("docker", ("runs_every_example_of_the_manual", recipes::examples)),
    ("docker", ("runs_every_recipe_of_the_readme", recipes::recipes)),
    ("docker", ("comes_back_where_its_restart_policy_says_so", scenarios::restarted)),
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
    ("podman-rootless", "exec_refuses_a_paused_container", "without a cgroup it cannot pause"),
    ("crun", "exec_refuses_a_paused_container", "without a cgroup it cannot pause"),
    ("nspawn", "exec_refuses_a_paused_container", "it cannot pause"),
    ("bwrap", "exec_refuses_a_paused_container", "it cannot pause"),
    ("nspawn", "exec_matches_the_engines_own", "it has no exec of its own"),
    ("bwrap", "exec_matches_the_engines_own", "it has no exec of its own"),
    ("nspawn", "is_seen_to_be_paused", "it cannot pause"),
    ("bwrap", "is_seen_to_be_paused", "it cannot pause"),
    ("nspawn", "shares_a_pid_namespace_with_another", "it has no such option"),
    ("bwrap", "shares_a_pid_namespace_with_another", "it has no such option"),
    ("lxc", "shares_the_pid_namespace_of_the_host", "it has no such option"),
    ("nspawn", "shares_the_pid_namespace_of_the_host", "it has no such option"),
    ("bwrap", "shares_the_pid_namespace_of_the_host", "it is no container then"),
];

/// What a check needs of this machine: where that is missing there is nothing to be checked.
const NEEDS: &[(&str, &str, &str)] = &[(
    "is_held_still_and_killed_where_no_cgroup_can_be_killed",
    "/sys/fs/cgroup/freezer",
    "all of it is v2 here, and has cgroup.kill",
)];

pub fn trials() -> Vec<Trial> {
    let up = std::env::var("CINSPECT_TEST_ENGINES").unwrap_or_default();
    let up: Vec<&str> = up.split_whitespace().collect();
    let mut trials = Vec::new();
    for name in ENGINES {
        let own = OWN.iter().filter(|(engine, _)| engine == name).map(|(_, check)| *check);
        for (what, check) in CHECKS.iter().copied().chain(own) {
            let title = format!("{name}::{what}");
            let lack = LACKS.iter().find(|(engine, check, _)| engine == name && *check == what);
            let need = NEEDS
                .iter()
                .find(|(check, path, _)| *check == what && !std::path::Path::new(path).exists());
            if let Some((_, _, why)) = lack.or(need) {
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
        self.script_with("", arguments)
    }

    /// Runs its script, with options for the engine's own `run`.
    fn script_with(&self, options: &str, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(repository().join("tests/engines").join(self.name));
        command.args(arguments).env("CIT_OPTIONS", options).stdin(Stdio::null());
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
