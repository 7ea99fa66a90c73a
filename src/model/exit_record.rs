//! The end of a container as its engine recorded it: state, exit status, times, restarts, health, log.
//! Every field is a claim of the engine's files; nothing here reads one.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::log_record::LogFormat;
use super::signal::Signal;

/// State of a container according to its engine's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordedState {
    /// It was never started, or could not be.
    Created,
    /// It runs. If it does not exist in the kernel, the engine was not running when it ended.
    Running,
    /// Its init exited.
    Exited,
    /// It ended, and its engine is about to start it again.
    Restarting,
    /// Its engine could not remove it completely.
    Dead,
    /// Its engine is removing it.
    Removing,
    /// It does not run; no more is recorded.
    #[default]
    Stopped,
}

impl RecordedState {
    /// Returns the state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Restarting => "restarting",
            Self::Dead => "dead",
            Self::Removing => "removing",
            Self::Stopped => "stopped",
        }
    }
}

/// The record of a container's last end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitRecord {
    /// The state.
    pub state: RecordedState,
    /// The exit status, as the engine reports it.
    pub status: Option<i32>,
    /// The engine's mark that a process of it was killed for lack of memory.
    pub oom: Option<bool>,
    /// The engine's error text.
    pub error: Option<String>,
    /// Time its init last started.
    pub started: Option<Timestamp>,
    /// Time its init last exited.
    pub finished: Option<Timestamp>,
    /// How often its engine has started it again.
    pub restarts: Option<u64>,
    /// Whether it was stopped, or sent a signal, through its engine; `Some(false)` where the engine records
    /// such requests and has none. It may have none of its own shutdown.
    pub stopped_manually: Option<bool>,
    /// The restart policy.
    pub restart_policy: Option<String>,
    /// The most restarts that the policy allows.
    pub restart_limit: Option<u64>,
    /// Its health checks.
    pub health: Option<HealthRecord>,
    /// The destination of its output.
    pub log: Option<LogDestination>,
    /// The files that these facts were read from.
    pub sources: Vec<PathBuf>,
    /// The file with its restart policy and its log, if it could not be read.
    pub unread: Option<PathBuf>,
}

/// The last health checks of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRecord {
    /// `healthy`, `unhealthy`, `starting`.
    pub status: String,
    /// Number of checks that failed in a row.
    pub failures: u64,
    /// The engine's action on a container that is unhealthy, if it has one.
    pub on_failure: Option<String>,
    /// Exit status and output of the last check.
    pub last: Option<(i32, String)>,
}

impl HealthRecord {
    /// Returns the status and the number of failures in words.
    pub fn state(&self) -> String {
        let status = &self.status;
        match self.failures {
            0 => status.clone(),
            1 => format!("{status}, 1 check failed"),
            count => format!("{status}, {count} checks failed in a row"),
        }
    }

    /// Returns the action of the engine in words that follow others, or nothing.
    pub fn action(&self, engine: &str) -> String {
        let Some(action) = &self.on_failure else { return String::new() };
        format!("; {engine} does `{action}` on a container that is unhealthy")
    }
}

/// The destination of a container's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDestination {
    /// The engine's name of the log driver; empty if it has none, and each stream has a file of its own.
    pub driver: String,
    /// The current file, if the driver writes to one; without a driver that of stdout.
    pub path: Option<PathBuf>,
    /// The file of stderr, without a driver.
    pub stderr: Option<PathBuf>,
}

impl LogDestination {
    /// Creates the destination of a driver.
    pub fn new(driver: impl Into<String>, path: Option<PathBuf>) -> Self {
        Self { driver: driver.into(), path, stderr: None }
    }

    /// Returns the current files and their formats.
    pub fn files(&self) -> Vec<(&Path, LogFormat)> {
        let plain = |is_stderr| self.driver.is_empty().then_some(LogFormat::Plain { is_stderr });
        let format = LogFormat::of_driver(&self.driver).or_else(|| plain(false));
        let first = self.path.as_deref().zip(format);
        first.into_iter().chain(self.stderr.as_deref().zip(plain(true))).collect()
    }
}

impl ExitRecord {
    /// Whether it has run, and its init has exited.
    pub fn has_ended(&self) -> bool {
        matches!(
            self.state,
            RecordedState::Exited | RecordedState::Restarting | RecordedState::Dead
        )
    }

    /// Returns the signal in the exit status: engines and shells report 128+N for a process
    /// that signal N ended. A program may exit with such a status by itself.
    pub fn signal(&self) -> Option<Signal> {
        self.status.and_then(signal_of_status)
    }
}

/// Returns N for the exit status 128+N.
pub fn signal_of_status(status: i32) -> Option<Signal> {
    Signal::new(u8::try_from(status.checked_sub(128)?).ok()?)
}

/// Parses a time that a Go program wrote; its zero is the year 1.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_above_128_stand_for_signals() {
        for (status, signal) in [
            (137, Some(Signal::KILL)),
            (143, Some(Signal::TERM)),
            (139, Signal::new(11)),
            (192, Signal::new(64)),
            (193, None),
            (255, None),
            (128, None),
            (3, None),
            (-1, None),
        ] {
            assert_eq!(signal_of_status(status), signal, "{status}");
        }
    }

    #[test]
    fn the_zero_of_go_is_not_a_time() {
        assert_eq!(parse_time("0001-01-01T00:00:00Z"), None);
        assert_eq!(parse_time("yesterday"), None);
        assert!(parse_time("2026-11-26T02:46:43.074763797Z").is_some());
        assert!(parse_time("2026-11-26T02:46:43.07+01:00").is_some());
    }
}
