//! The exit statuses and their meanings. Each command lists its own (`Command::has_status`), so that nothing here
//! names a command.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// Defines the exit statuses: a row is a variant, its number, and its meaning as the manual prints it.
macro_rules! statuses {
    ($($variant:ident $code:literal $meaning:literal;)*) => {
        /// An exit status of cinspect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ExitStatus {
            $(#[doc = $meaning] $variant,)*
            /// The status of the command that `exec` ran, or 128+N after signal N.
            Other(u8),
        }

        impl ExitStatus {
            /// Each status but those of commands that `exec` ran, with its meaning, in the manual's order.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $meaning)),*];

            /// Returns the exit status as a number.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }
        }
    };
}

statuses! {
    Done 0 "Success.";
    Failed 1 "Failure; the message says what failed and why.";
    Usage 2 "Wrong usage.";
    NoContainer 3 "No such container, or the name is ambiguous.";
    NoProcess 4 "No such process in the container.";
    NotPermitted 5 "Not permitted; the message names the missing privilege.";
    NothingSent 6 "Nothing was sent, because of --require-handler.";
    RunningAgain 7 "The container was stopped, and is running again.";
    ProblemFound 8 "A container has a problem (doctor).";
    TimedOut 124 "Timed out (signal --wait, stop --no-kill).";
    CannotEnter 125 "cinspect itself failed before the command ran.";
    CannotRun 126 "The command was found but could not be run.";
    NotFound 127 "The command was not found.";
}

impl ExitStatus {
    /// The statuses of a command that does not list its own.
    pub const DEFAULT: &[Self] = &[Self::Done, Self::Failed, Self::Usage];
    /// The statuses of every command that takes containers, and starts no other program.
    pub const ON_CONTAINERS: &[Self] =
        &[Self::Done, Self::Failed, Self::Usage, Self::NoContainer, Self::NotPermitted];

    /// Returns the status after one more container: that of the first failure.
    #[must_use]
    pub fn or(self, next: Self) -> Self {
        if self == Self::Done { next } else { self }
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
        let codes: Vec<u8> = ExitStatus::ALL.iter().map(|(status, _)| status.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}
