//! One table of checks for every real engine. `tests/run` starts the engines and names the running ones in
//! `CINSPECT_TEST_ENGINES`; the scripts in `tests/engines` drive them. A container is found by each of its
//! names, has the processes that the engine lists, and a signal reaches only the selected process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{
    Outcome, Run, check, children, finish, missing, not_applicable, note, report, repository, run,
    wait_until,
};

mod boots;
mod checks;
mod cp;
mod cp_stopped;
mod ended_by;
mod endings;
mod exec;
mod exec_init;
mod followed;
mod inspect;
mod journal;
mod loops;
mod nested;
mod recipes;
mod remedies;
mod scenarios;
mod setup;
mod standalone;
mod stop_signal;
mod traced;
mod userns;

/// The engines there are scripts for.
const ENGINES: &[&str] = &[
    "docker",
    "podman",
    "podman-rootless",
    "containerd",
    "cri",
    "runc",
    "crun",
    "youki",
    "runsc",
    "lxc",
    "nspawn",
    "bwrap",
];

/// Host PID and PID in the container, as far as an engine lists them.
type Listed = (Option<i32>, Option<i32>);

/// A check and its name.
type Check = (&'static str, fn(&Engine) -> Outcome);

/// The checks of every engine.
const CHECKS: &[Check] = &[
    ("every_name_resolves", checks::names),
    ("ls_lists_the_container", checks::listed),
    ("ps_matches_the_engines_list", checks::processes),
    ("ps_shows_joined_processes_without_a_parent", checks::joined),
    ("signal_reaches_only_the_selected_process", checks::exactly_one),
    ("signal_reaches_the_init_and_all", checks::init_and_all),
    ("works_while_daemons_are_stopped", checks::daemons_stopped),
    ("paused_container_is_shown_as_paused", checks::paused),
    ("ps_reads_only_processes_of_the_cgroup", checks::no_survey),
    ("containers_that_share_a_pid_namespace", checks::shared),
    ("container_in_the_hosts_pid_namespace", checks::hosts_namespace),
    ("inspect_matches_the_kernel", inspect::facts),
    ("cp_round_trip", cp::round_trip),
    ("exec_inherits_the_attributes_of_the_init", exec::takes_over_the_inits_attributes),
    ("exec_matches_the_engines_own", exec::matches_the_engines_own),
    ("exec_runs_commands", exec::runs_commands),
    ("exec_is_the_parent_of_its_command", exec::is_the_parent_of_its_command),
    ("exec_enters_by_another_pid", exec::enters_by_another_pid),
    ("exec_refuses_a_paused_container", exec::refuses_a_paused_container),
    ("stop_reports_every_step", checks::stopped),
    ("exited_container_is_not_found", checks::ended),
];

/// Checks of a single engine.
const ENGINE_CHECKS: &[(&str, Check)] = &[
    ("runc", ("root_from_argv_is_found", standalone::other_root)),
    ("runsc", ("sandbox_is_shown_and_not_signalled", standalone::sandbox)),
    ("nspawn", ("containers_in_one_cgroup_are_distinguished", standalone::shared_cgroup)),
    ("nspawn", ("names_are_those_that_it_prints", standalone::names_as_printed)),
    ("nspawn", ("a_stub_init_is_not_being_started", standalone::stub_init)),
    ("nspawn", ("stop_signal_is_the_one_that_its_own_stop_sends", stop_signal::nspawn)),
    ("docker", ("stop_without_a_signal_kills", stop_signal::sends_none)),
    ("lxc", ("stop_without_a_signal_kills", stop_signal::sends_none)),
    ("nspawn", ("stop_without_a_signal_kills", stop_signal::sends_none)),
    ("nspawn", ("stub_init_is_stopped_by_the_signal_that_doctor_names", stop_signal::stub_init)),
    ("docker", ("restart_by_another_program_is_unknown", stop_signal::started_by_others)),
    ("cri", ("hook_of_the_kubelet_comes_before_the_stop_signal", stop_signal::kubelets_hook)),
    ("lxc", ("stop_signal_is_the_one_that_its_own_stop_sends", stop_signal::lxc)),
    ("podman", ("machine_that_boots_systemd_is_stopped", boots::systemd)),
    ("podman-rootless", ("machine_that_boots_systemd_is_stopped", boots::systemd)),
    ("lxc", ("machine_that_boots_systemd_is_stopped", boots::systemd)),
    ("incus", ("machine_that_boots_systemd_is_stopped", boots::systemd)),
    ("nspawn", ("machine_that_boots_systemd_is_stopped", boots::systemd)),
    ("docker", ("nested_namespace_is_a_container_of_its_own", nested::namespace)),
    ("docker", ("container_of_an_engine_in_a_container", nested::engine)),
    ("docker", ("stop_freezes_and_kills_without_cgroup_kill", standalone::freeze_and_kill)),
    ("docker", ("stop_leaves_nothing_frozen_when_it_is_killed", standalone::killed_while_frozen)),
    ("docker", ("stop_with_a_handler_in_pid_1", scenarios::handler)),
    ("docker", ("stop_without_a_handler_in_pid_1", scenarios::no_handler)),
    ("docker", ("stop_with_a_child_that_is_not_signalled", scenarios::child)),
    ("docker", ("stop_of_supervisord_with_two_stop_signals", scenarios::supervisord)),
    (
        "docker",
        ("children_first_is_graceful_where_the_engines_stop_is_not", scenarios::children_first),
    ),
    (
        "podman",
        ("children_first_is_graceful_where_the_engines_stop_is_not", scenarios::children_first),
    ),
    ("docker", ("stop_with_the_engines_init", scenarios::engines_init)),
    ("podman", ("stop_with_the_engines_init", scenarios::engines_init)),
    ("docker", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("podman", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("containerd", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("cri", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("lxc", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("nspawn", ("why_and_trace_tell_every_end_apart", ended_by::every_way)),
    ("docker", ("why_and_trace_follow_a_crash_loop", loops::by_the_engine)),
    ("podman", ("why_and_trace_follow_a_crash_loop", loops::by_the_engine)),
    ("cri", ("why_and_trace_follow_a_crash_loop", loops::of_attempts)),
    ("lxc", ("why_and_trace_follow_a_crash_loop", loops::started_again)),
    ("docker", ("trace_by_label_includes_later_containers", traced::by_label)),
    ("podman", ("trace_by_label_includes_later_containers", traced::by_label)),
    ("docker", ("why_counts_restarts", endings::loops_and_never)),
    ("podman", ("why_counts_restarts", endings::loops_and_never)),
    ("docker", ("why_has_health_checks", endings::unhealthy)),
    ("docker", ("why_forecasts_the_next_stop", scenarios::next_stop)),
    ("podman", ("why_forecasts_the_next_stop", scenarios::next_stop)),
    ("docker", ("logs_are_the_engines_own", endings::logs)),
    ("podman", ("logs_are_the_engines_own", endings::logs)),
    ("docker", ("logs_are_followed_to_the_end", followed::to_the_end)),
    ("podman", ("logs_are_followed_to_the_end", followed::to_the_end)),
    ("cri", ("logs_are_followed_to_the_end", followed::to_the_end)),
    ("docker", ("logs_are_followed_while_the_daemon_hangs", followed::daemon_hangs)),
    ("docker", ("logs_end_with_a_container_that_is_removed", followed::removed)),
    ("podman", ("logs_end_with_a_container_that_is_removed", followed::removed)),
    ("docker", ("logs_are_read_from_the_journal", journal::printed)),
    ("podman", ("logs_are_read_from_the_journal", journal::printed)),
    ("docker", ("logs_say_when_lines_may_be_missing", followed::rewritten)),
    ("podman", ("mapped_root_owns_the_records", userns::mapped_root_owns_the_records)),
    ("podman", ("stop_settings_are_read_from_its_database", stop_signal::podman_database)),
    ("podman-rootless", ("stop_settings_are_read_from_its_database", stop_signal::podman_database)),
    ("podman-rootless", ("exec_works_for_the_rootless_user", exec::works_for_the_rootless_user)),
    ("docker", ("exec_shares_what_the_container_shares", exec::shares_what_the_container_shares)),
    ("docker", ("exec_enters_the_root_that_pid_1_has_left", exec_init::changed_root)),
    ("podman", ("exec_enters_the_root_that_pid_1_has_left", exec_init::changed_root)),
    ("containerd", ("exec_enters_the_root_that_pid_1_has_left", exec_init::changed_root)),
    ("docker", ("exec_does_not_copy_what_pid_1_did_to_itself", exec_init::changed_itself)),
    ("podman", ("exec_does_not_copy_what_pid_1_did_to_itself", exec_init::changed_itself)),
    ("containerd", ("exec_does_not_copy_what_pid_1_did_to_itself", exec_init::changed_itself)),
    ("docker", ("exec_has_an_overwritten_environment", exec_init::overwritten_environment)),
    ("podman", ("exec_has_an_overwritten_environment", exec_init::overwritten_environment)),
    ("docker", ("exec_leaves_out_filters_of_pid_1", exec_init::own_filter)),
    ("podman", ("exec_leaves_out_filters_of_pid_1", exec_init::own_filter)),
    ("docker", ("exec_adds_the_engines_groups", exec_init::added_groups)),
    ("docker", ("exec_gives_a_user_the_groups_of_the_engines_exec", exec_init::groups_of_users)),
    ("podman", ("exec_gives_a_user_the_groups_of_the_engines_exec", exec_init::groups_of_users)),
    ("containerd", ("exec_adds_the_primary_group", exec_init::primary_group)),
    ("docker", ("exec_tools_in_an_empty_container", exec_init::tools)),
    ("podman", ("exec_tools_in_an_empty_container", exec_init::tools)),
    ("containerd", ("exec_tools_in_an_empty_container", exec_init::tools)),
    ("runc", ("exec_tools_in_an_empty_container", exec_init::tools)),
    ("docker", ("inspect_marks_what_is_dangerous", inspect::dangers)),
    ("docker", ("completion_at_a_prompt", inspect::completed)),
    ("docker", ("watch_follows_a_restart", inspect::watched)),
    ("docker", ("exec_leaves_a_tracer_alone", exec::leaves_a_tracer_alone)),
    ("docker", ("exec_works_at_the_limit_of_processes", exec::works_at_the_limit_of_processes)),
    ("docker", ("exec_moves_no_process", exec::moves_no_process)),
    ("docker", ("cp_follows_the_rules_of_docker_cp", cp::table)),
    ("docker", ("cp_streams_are_those_of_docker_cp", cp::streams)),
    ("docker", ("cp_replaces_a_running_program", cp::replaced)),
    ("docker", ("cp_stays_in_the_rootfs_when_links_are_swapped", cp::race)),
    ("docker", ("cp_out_of_an_exited_container", cp_stopped::same_as_running)),
    ("podman", ("cp_out_of_an_exited_container", cp_stopped::same_as_running)),
    ("podman-rootless", ("cp_out_of_an_exited_container", cp_stopped::same_as_running)),
    ("containerd", ("cp_out_of_an_exited_container", cp_stopped::snapshot)),
    ("docker", ("every_example_of_the_manual_works", recipes::examples)),
    ("docker", ("every_recipe_of_the_readme_works", recipes::recipes)),
    ("docker", ("habits_work_on_a_container", scenarios::habits)),
    ("docker", ("restart_policy_is_reported", scenarios::restarted)),
    ("docker", ("stop_counts_a_container_in_its_pid_namespace", scenarios::companion)),
    ("docker", ("stop_counts_what_the_engine_kills", scenarios::killed_by_engine)),
    ("docker", ("every_remedy_makes_the_stop_graceful", remedies::help)),
    ("docker", ("doctor_names_the_command_that_unpauses", remedies::unpause)),
    ("podman", ("doctor_names_the_command_that_unpauses", remedies::unpause)),
    ("docker", ("doctor_finds_sessions_that_were_left_behind", remedies::left_behind)),
    ("docker", ("doctor_finds_zombies_of_a_parent_outside", remedies::zombie_of_the_shim)),
    ("podman", ("doctor_finds_sessions_that_were_left_behind", remedies::left_behind)),
    ("docker", ("doctor_counts_oom_kills", remedies::oom_kill)),
    ("podman", ("doctor_counts_oom_kills", remedies::oom_kill)),
    ("docker", ("doctor_finds_crash_loops", remedies::crash_loop)),
    ("podman", ("doctor_finds_crash_loops", remedies::crash_loop)),
    ("cri", ("doctor_finds_crash_loops", remedies::crash_loop_of_a_pod)),
    ("docker", ("doctor_knows_a_running_health_check", remedies::health::running_check)),
    ("podman", ("doctor_knows_a_running_health_check", remedies::health::running_check)),
    ("runc", ("created_container_has_no_verdicts_yet", standalone::created)),
    ("docker", ("container_that_was_never_started", standalone::never_started)),
    ("podman", ("container_that_was_never_started", standalone::never_started)),
    ("containerd", ("container_that_was_never_started", standalone::never_started)),
    ("lxc", ("container_that_was_never_started", standalone::never_started)),
    ("containerd", ("stopped_name_in_two_namespaces_is_ambiguous", standalone::two_namespaces)),
    (
        "podman",
        ("sandbox_is_known_whatever_the_runtimes_name", standalone::sandbox_by_another_name),
    ),
    (
        "containerd",
        ("sandbox_is_known_whatever_the_runtimes_name", standalone::sandbox_by_another_name),
    ),
    ("docker", ("doctor_says_how_a_container_ended", remedies::ended)),
    ("podman", ("doctor_says_how_a_container_ended", remedies::ended)),
];

/// A path of this machine without which a check does not apply.
const REQUIREMENTS: &[(&str, &str, &str)] = &[
    ("stop_freezes_and_kills_without_cgroup_kill", FREEZER_V1, ONLY_V2),
    ("stop_leaves_nothing_frozen_when_it_is_killed", FREEZER_V1, ONLY_V2),
    ("sandbox_is_known_whatever_the_runtimes_name", "/usr/bin/runsc", "gVisor is not installed"),
];
const FREEZER_V1: &str = "/sys/fs/cgroup/freezer";
const ONLY_V2: &str = "every hierarchy is v2 on this host, and has cgroup.kill";

pub fn trials() -> Vec<Trial> {
    let up = std::env::var("CINSPECT_TEST_ENGINES").unwrap_or_default();
    let up: Vec<&'static str> = up.leak().split_whitespace().collect();
    let mut trials = Vec::new();
    // In a virtual machine (tests/vm) there are more.
    let others = up.iter().filter(|name| !ENGINES.contains(name));
    for name in ENGINES.iter().chain(others).copied() {
        let lacks = if up.contains(&name) { lacks(name) } else { String::new() };
        let engine_checks =
            ENGINE_CHECKS.iter().filter(|(engine, _)| *engine == name).map(|(_, check)| *check);
        let lacks_all = lacks.lines().find_map(|line| line.strip_prefix("*: "));
        if let Some(why) = lacks_all {
            note(name, "the checks of every engine", "could-not", why);
        }
        let common = CHECKS.iter().copied().filter(|_| lacks_all.is_none());
        for (check_name, check) in common.chain(engine_checks) {
            let title = format!("{name}::{check_name}");
            let not_supported = lacks.lines().find_map(|line| {
                line.split_once(": ").filter(|(check, _)| *check == check_name).map(|(_, why)| why)
            });
            let requirement = REQUIREMENTS.iter().find(|(check, path, _)| {
                *check == check_name && !std::path::Path::new(path).exists()
            });
            if let Some(why) = not_supported.or(requirement.map(|(_, _, why)| *why)) {
                if up.contains(&name) {
                    note(name, check_name, "could-not", why);
                }
                trials.push(not_applicable(&title, why));
            } else if up.contains(&name) {
                trials.push(Trial::test(title, move || {
                    let outcome = Engine::new(name, check_name).and_then(|engine| check(&engine));
                    report(name, check_name, &outcome);
                    outcome
                }));
            } else {
                trials.push(missing(name, &title, "the engine is not up, tests/run starts it"));
            }
        }
    }
    trials
}

/// Returns the script of an engine: in a virtual machine the one there, which starts it as its package does.
fn script_of(engine: &str) -> PathBuf {
    let there = std::env::var_os("CINSPECT_TEST_SCRIPTS").map(|dir| Path::new(&dir).join(engine));
    let here = || repository().join("tests/engines").join(engine);
    there.filter(|script| script.exists()).unwrap_or_else(here)
}

/// Returns the checks that do not apply to an engine, `NAME: REASON` on a line each.
fn lacks(engine: &str) -> String {
    let mut command = Command::new(script_of(engine));
    command.arg("lacks").stdin(Stdio::null());
    let run = finish(command);
    assert_eq!(run.code, 0, "tests/engines/{engine} lacks: {}", run.err);
    run.out
}

/// An engine, with a container for one check.
struct Engine {
    name: &'static str,
    container: String,
    /// Checks of an engine run one after the other: some stop its daemons.
    _lock: MutexGuard<'static, ()>,
}

/// The command of the containers: an init that logs the signals it receives, a child that does so too, and
/// one that ignores them. `/ready` has three lines once their dispositions are set.
const SCRIPT: &str = "\
trap 'echo init USR1 >> /received' USR1; trap : TERM; \
sh -c 'trap \"echo child USR1 >> /received\" USR1; echo >> /ready; while :; do sleep 0.1; done' & \
sh -c 'trap \"\" USR1; echo >> /ready; exec sleep 1000' & \
echo >> /ready; while :; do sleep 0.1; done";

impl Engine {
    fn new(name: &'static str, check: &str) -> Result<Self, Failed> {
        static LOCKS: Mutex<BTreeMap<&str, &Mutex<()>>> = Mutex::new(BTreeMap::new());
        let of_engine: &'static Mutex<()> = LOCKS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .entry(name)
            .or_insert_with(|| Box::leak(Box::new(Mutex::new(()))));
        let lock = of_engine.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let words: Vec<&str> = check.split('_').take(4).collect();
        let container = format!("cit-{name}-{}", words.join("-"));
        let engine = Self { name, container, _lock: lock };
        let _ = engine.script(&["rm", &engine.container]);
        engine.start(&engine.container, &[])?;
        Ok(engine)
    }

    fn start(&self, name: &str, options: &[&str]) -> Outcome {
        let mut arguments = vec!["run", name];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", SCRIPT]);
        self.script(&arguments)?;
        let ready = format!("{}/ready", self.script(&["root", name])?);
        let is_ready =
            || std::fs::read_to_string(&ready).is_ok_and(|text| text.lines().count() >= 3);
        check(wait_until(is_ready), format!("{name} is not ready"))
    }

    /// Runs the script of the engine.
    fn script(&self, arguments: &[&str]) -> Result<String, Failed> {
        self.script_with("", arguments)
    }

    /// Runs the script with options for the `run` of the engine.
    fn script_with(&self, options: &str, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(script_of(self.name));
        command.args(arguments).env("CIT_OPTIONS", options).stdin(Stdio::null());
        let run: Run = finish(command);
        match run.code {
            0 => Ok(run.out.trim().to_owned()),
            code => {
                // The command of a container is long, and results are cut.
                let subcommand = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
                Err(format!("{} {subcommand}: status {code}: {}", self.name, run.err).into())
            }
        }
    }

    /// Runs the engine's own client with words added to its command line.
    fn client(&self, words: &[&str]) -> Outcome {
        let line = self.script(&["client"])?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line} \"$@\""), "sh"]).args(words).stdin(Stdio::null());
        finish(command).expect(0).map(drop)
    }

    fn init(&self) -> Result<i32, Failed> {
        self.init_of(&self.container)
    }

    fn init_of(&self, name: &str) -> Result<i32, Failed> {
        Ok(self.script(&["init", name])?.parse().map_err(|_| "not a PID")?)
    }

    fn qualified(&self) -> Result<String, Failed> {
        self.script(&["qualified", &self.container])
    }

    fn id(&self) -> Result<String, Failed> {
        self.script(&["id", &self.container])
    }

    /// Returns the name of the engine in references: that of `podman-rootless` is `podman`.
    fn kind(&self) -> Result<String, Failed> {
        let qualified = self.qualified()?;
        let prefix = qualified.split(':').next().unwrap_or_default();
        Ok(if prefix == "pid" { "bare" } else { prefix }.to_owned())
    }

    /// Whether its containers have names; a bare namespace has none.
    fn has_names(&self) -> bool {
        self.kind().is_ok_and(|kind| kind != "bare")
    }

    /// Whether its containers have a user namespace.
    fn is_rootless(&self) -> Result<bool, Failed> {
        Ok(!self.has_names() || !self.script(&["as-user"])?.is_empty())
    }

    /// Returns the PIDs that the engine lists; `None` where it does not list one.
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

    /// Returns the log of received signals.
    fn received(&self) -> Result<Vec<String>, Failed> {
        let file = format!("{}/received", self.script(&["root", &self.container])?);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Returns the process that runs `trap … child`, as `ps` shows it.
    fn child(&self) -> Result<Value, Failed> {
        let rows = self.ps()?;
        let is_child = |row: &&Value| {
            let caught =
                row["signals"]["caught"].as_array().is_some_and(|c| c.contains(&json!("USR1")));
            // The inits of bwrap and Apptainer are their own; the child is the shell that logs `init USR1`.
            caught && row["pid"] != json!(1) && !row["command"].to_string().contains("init USR1")
        };
        rows.iter().find(is_child).cloned().ok_or_else(|| "no child with a handler".into())
    }

    /// Waits until the shells that log signals have run the traps of every signal sent so far: each starts a
    /// new `sleep` twice, and runs its traps between two commands.
    fn wait_for_traps(&self) -> Outcome {
        let rows = self.ps()?;
        let logs = |row: &&Value| {
            let caught = row["signals"]["caught"].as_array();
            row["comm"] == json!("sh") && caught.is_some_and(|c| c.contains(&json!("USR1")))
        };
        for row in rows.iter().filter(logs) {
            let pid = row["host_pid"].as_i64().ok_or("no PID")? as i32;
            for _ in 0..2 {
                let before = children(pid);
                let changed = || ![before.clone(), Vec::new()].contains(&children(pid));
                check(wait_until(changed), format!("process {pid} starts no sleep"))?;
            }
        }
        Ok(())
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

/// Returns the host PID of the init that `ps` shows for each reference.
fn inits_of(references: &[String]) -> Result<Vec<Value>, Failed> {
    references
        .iter()
        .map(|reference| {
            let rows = run(&["--json", "ps", reference]).expect(0)?.objects();
            let init = rows.iter().find(|row| row["pid"] == json!(1)).cloned().unwrap_or_default();
            Ok(init["host_pid"].clone())
        })
        .collect()
}
