//! The exit statuses and their meanings. Each command lists its own (`Command::has_status`), so that nothing here
//! names a command.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// An exit status of cinspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// Success.
    Done,
    /// Any failure without a status of its own.
    Failed,
    /// A wrong command line.
    Usage,
    /// No container, or several.
    NoContainer,
    /// No such process in the container.
    NoProcess,
    /// A missing privilege.
    NotPermitted,
    /// Nothing was sent (`signal --require-handler`).
    NothingSent,
    /// Stopped, and running again.
    RunningAgain,
    /// A problem was found.
    ProblemFound,
    /// A timeout.
    TimedOut,
    /// A failure of `exec` itself.
    CannotEnter,
    /// A command that `exec` found and could not run.
    CannotRun,
    /// A command that `exec` did not find.
    NotFound,
    /// The status of the command that `exec` ran, or 128+N after signal N.
    Other(u8),
}

impl ExitStatus {
    /// All of them in the manual's order.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NoContainer,
        Self::NoProcess,
        Self::NotPermitted,
        Self::NothingSent,
        Self::RunningAgain,
        Self::ProblemFound,
        Self::TimedOut,
        Self::CannotEnter,
        Self::CannotRun,
        Self::NotFound,
    ];

    /// The statuses of a command that does not list its own.
    pub const DEFAULT: &[Self] = &[Self::Done, Self::Failed, Self::Usage];
    /// The statuses of every command that takes containers, and starts no other program.
    pub const ON_CONTAINERS: &[Self] =
        &[Self::Done, Self::Failed, Self::Usage, Self::NoContainer, Self::NotPermitted];

    /// Returns the number that the shell sees.
    pub const fn code(self) -> u8 {
        self.describe().0
    }

    /// Returns the meaning, as the manual prints it.
    pub const fn meaning(self) -> &'static str {
        self.describe().1
    }

    const fn describe(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "Success."),
            Self::Failed => (1, "Failure; the message says what failed and why."),
            Self::Usage => (2, "Wrong usage."),
            Self::NoContainer => (3, "No such container, or the name is ambiguous."),
            Self::NoProcess => (4, "No such process in the container."),
            Self::NotPermitted => (5, "Not permitted; the message names the missing privilege."),
            Self::NothingSent => (6, "Nothing was sent, because of --require-handler."),
            Self::RunningAgain => (7, "The container was stopped, and is running again."),
            Self::ProblemFound => (8, "A container has a problem (doctor)."),
            Self::TimedOut => (124, "Timed out (signal --wait, stop --no-kill)."),
            Self::CannotEnter => (125, "cinspect itself failed before the command ran."),
            Self::CannotRun => (126, "The command was found but could not be run."),
            Self::NotFound => (127, "The command was not found."),
            Self::Other(code) => (code, "The command's own status."),
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        let codes = ExitStatus::ALL.map(ExitStatus::code);
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}
