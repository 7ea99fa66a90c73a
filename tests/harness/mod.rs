//! A container without an engine, for the tour and the tests: PID, mount, UTS and IPC namespaces, a user
//! namespace unless root starts it, and processes in known signal states. Each process is the program
//! that includes this file, executed again.
//!
//! A process spec is a list of lines, `NAME BEHAVIOUR...`, with one `>` for each level below the init:
//!
//! ```text
//! init handle=TERM
//! > web handle=TERM,USR1
//! > > worker
//! > deaf ignore=TERM
//! ```
#![allow(unsafe_code, reason = "signal handlers, and prctl(2) where no crate wraps it")]
#![allow(dead_code, reason = "the tour and the tests each use a part")]

mod hang;
pub mod old_kernel;
mod pid_reuse;
mod process;
pub mod ready;
mod signal_consumers;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;

pub use process::run_helper;
pub use ready::is_settled;

/// How long anything is waited for that is certain to come: a loaded machine takes its time, and a wait
/// ends as soon as it has come.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running container of the harness; dropping it kills its processes.
pub struct Container {
    monitor: Child,
    /// Host PID of the init.
    pub init: i32,
    /// PIDs in the container by process name.
    pub pids: HashMap<String, i32>,
    log: PathBuf,
}

impl Container {
    /// Starts the processes of `spec`; `program` must call [`run_helper`] first.
    pub fn start(program: &Path, spec: &str) -> std::io::Result<Self> {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log =
            std::env::temp_dir().join(format!("cinspect-{}-{number}.log", std::process::id()));
        std::fs::write(&log, "")?;
        // Processes of another user write to it, too.
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o666))?;
        let mut monitor = Command::new(program)
            .env("CINSPECT_HELPER", "monitor")
            .env("CINSPECT_HELPER_SPEC", spec)
            .env("CINSPECT_HELPER_LOG", &log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        // Every process writes `NAME PID` when its signal state is as specified.
        let names: Vec<&str> = spec.lines().filter_map(name_of).collect();
        let mut pids = HashMap::new();
        let mut init = 0;
        let stdout = monitor.stdout.take().ok_or_else(|| std::io::Error::other("no pipe"))?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let (name, pid) = line.split_once(' ').unwrap_or((&line, "0"));
            let pid: i32 = pid.trim().parse().unwrap_or(0);
            if name == "@init" {
                init = pid;
            } else {
                pids.insert(name.to_owned(), pid);
            }
            if init > 0 && names.iter().all(|name| pids.contains_key(*name)) {
                let container = Self { monitor, init, pids, log };
                return match poll(|| container.is_as_specified(spec)) {
                    true => Ok(container),
                    false => Err(std::io::Error::other("a process is not in its state")),
                };
            }
        }
        let _ = monitor.kill();
        let _ = monitor.wait();
        Err(std::io::Error::other("the container did not start"))
    }

    /// Whether each process has got into the state of its line, and does not run any more. (It writes its name
    /// before the last step, in which it waits for a signal, stops or exits.)
    fn is_as_specified(&self, spec: &str) -> bool {
        let host_pids = self.host_pids();
        spec.lines().all(|line| {
            let pid = name_of(line).and_then(|name| host_pids.get(name));
            pid.is_none_or(|pid| {
                line.split(' ').all(|word| ready::is_in_state(*pid, word))
                    && (line.contains("signalfd-spin") || !ready::runs(*pid))
            })
        })
    }

    /// Returns the PID of the process that made the namespaces.
    pub fn monitor_pid(&self) -> i32 {
        self.monitor.id().cast_signed()
    }

    /// Returns the log of received signals, a line `NAME SIGNAL VALUE` for each.
    pub fn received(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the sorted log once every signal sent so far has been delivered and every handler has run.
    /// It is complete: a line that is missing proves a negative.
    pub fn settled(&self) -> Vec<String> {
        let host_pids = self.host_pids();
        assert!(poll(|| host_pids.values().all(|pid| is_settled(*pid))), "a signal stays pending");
        // Handlers block all signals and the log is written in order: once a marker that is sent now is
        // in the log, so is everything before it.
        let markers: Vec<(i32, String)> =
            host_pids.iter().filter_map(|(name, pid)| Some((*pid, mark(name, *pid)?))).collect();
        for (pid, marker) in markers {
            let has_come = || self.received().contains(&marker) || ready::has_exited(pid);
            assert!(poll(has_come), "no marker arrived: {marker}");
        }
        let is_marker = |line: &String| line.ends_with(&format!(" {MARKER}"));
        let mut lines: Vec<String> =
            self.received().into_iter().filter(|l| !is_marker(l)).collect();
        lines.sort();
        lines
    }

    /// Returns the host PIDs of the named processes that still exist.
    pub fn host_pids(&self) -> HashMap<String, i32> {
        let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", self.init)).ok();
        let mut by_pid = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if namespace.is_none() || std::fs::read_link(path.join("ns/pid")).ok() != namespace {
                continue;
            }
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let inner = status.lines().find(|line| line.starts_with("NSpid:"));
            let inner = inner.and_then(|line| line.split_whitespace().last()?.parse::<i32>().ok());
            by_pid.extend(inner.map(|inner| (inner, pid)));
        }
        let named = self.pids.iter();
        named.filter_map(|(name, inner)| Some((name.clone(), *by_pid.get(inner)?))).collect()
    }

    /// Waits until `line` is in the log.
    pub fn wait_to_receive(&self, line: &str) -> bool {
        poll(|| self.received().iter().any(|received| received == line))
    }

    /// Waits until so many lines of the log begin with `start`.
    pub fn wait_to_receive_times(&self, start: &str, times: usize) -> bool {
        let count = || self.received().iter().filter(|line| line.starts_with(start)).count();
        poll(|| count() >= times)
    }

    /// Waits until the named process has exited and has been reaped.
    pub fn wait_for_exit(&self, name: &str) -> bool {
        poll(|| !self.host_pids().contains_key(name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The init is killed with its parent (PR_SET_PDEATHSIG), and its namespace with it.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Returns the factor of all time limits: more than 1 on a machine that is emulated.
pub fn patience() -> u32 {
    std::env::var("CINSPECT_TEST_PATIENCE").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Waits until something holds, and returns whether it does.
fn poll(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE * patience();
    while Instant::now() < until {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// The value of the signal that [`Container::settled`] sends; no test sends it.
const MARKER: i32 = 987_654;

/// Sends the marker with a signal that the process handles and does not block, and returns the line that
/// will be in the log. Returns `None` for a process without such a handler, or one that runs no handler
/// until something else happens.
fn mark(name: &str, pid: i32) -> Option<String> {
    let mut status = String::new();
    // (A handler that waits for a page of the program from the disk has not run to its end: all signals are
    // blocked until then.)
    poll(|| {
        status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_in_handler = status.contains("State:\tR") || status.contains("State:\tD");
        !is_in_handler || ready::is_held(pid)
    });
    let [_, _, blocked, caught] = ready::sets(&status);
    let signal = Signal::iterator().find(|signal| {
        let bit = 1 << (*signal as i32 - 1);
        caught & bit != 0 && blocked & bit == 0
    })?;
    if ready::is_held(pid) || ready::has_exited(pid) {
        return None;
    }
    // SAFETY: sigqueue(3) takes two integers and a union of integers.
    let sent = unsafe {
        let value = libc::sigval { sival_ptr: MARKER as usize as *mut libc::c_void };
        libc::sigqueue(pid, signal as i32, value)
    };
    let line = format!("{name} {} {MARKER}", signal.as_str().trim_start_matches("SIG"));
    (sent == 0).then_some(line)
}

/// Returns the name in a line of a process spec.
fn name_of(line: &str) -> Option<&str> {
    line.trim_start_matches(['>', ' ']).split(' ').next().filter(|name| !name.is_empty())
}
