//! What failed, why, and what to do about it; the exit status that says the same to a script; and
//! the only printer of errors. Foreign text in a message is made safe here, at the door.

use std::process::ExitCode;

/// An exit status; the manual's list is [`ExitStatus::ALL`]. `exec` gives that of its command besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub u8);

macro_rules! exits {
    ($($name:ident = $number:literal, $commands:literal, $means:literal;)*) => {
        #[allow(non_upper_case_globals, reason = "they are the kinds of exit, each a number")]
        impl ExitStatus {
            $(#[doc = $means] pub const $name: Self = Self($number);)*

            /// Each with the commands that leave by it (`*` for all; none named for all but `exec`,
            /// whose command has statuses of its own), and what it means.
            pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, $commands, $means),)*];
        }
    };
}

exits! {
    Done = 0, "", "Done.";
    Failed = 1, "", "Failed; the message says what and why.";
    Usage = 2, "*", "The command line is wrong.";
    NoContainer = 3, "ps signal signals stop doctor cp inspect", "No such container, or more than one fits.";
    NoProcess = 4, "signal signals cp inspect", "No such process in it.";
    NotPermitted = 5, "ps signal signals stop doctor cp inspect", "Not permitted; the message names what is missing.";
    NothingSent = 6, "signal", "Nothing was sent, because --require-handler forbade it.";
    TimedOut = 124, "signal stop", "Time ran out (signal --wait, stop --no-kill).";
    CannotEnter = 125, "exec", "cinspect itself failed, before the command ran.";
    CannotRun = 126, "exec", "The command was found and cannot be run.";
    NotFound = 127, "exec", "The command was not found.";
}

impl ExitStatus {
    /// What a command leaves by, and what each means.
    pub fn of(command: &str) -> impl Iterator<Item = (Self, &'static str)> {
        let leaves = move |commands: &str| match commands {
            "*" => true,
            "" => command != "exec",
            some => some.split(' ').any(|one| one == command),
        };
        let all = Self::ALL.iter().filter(move |(_, commands, _)| leaves(commands));
        all.map(|(exit, _, means)| (*exit, *means))
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(exit: ExitStatus) -> Self {
        Self::from(exit.0)
    }
}

/// A failure as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Exit status.
    pub status: ExitStatus,
    what: String,
    because: Option<String>,
    hint: Option<String>,
    lines: Vec<String>,
}

impl Error {
    /// What failed: lower case, no full stop, user words in backticks.
    pub fn new(status: ExitStatus, what: impl Into<String>) -> Self {
        Self { status, what: what.into(), because: None, hint: None, lines: Vec::new() }
    }

    /// Why.
    #[must_use]
    pub fn cause(mut self, why: impl ToString) -> Self {
        self.because = Some(why.to_string());
        self
    }

    /// What to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A further line below the hint.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// The message as it is printed.
    pub fn message(&self) -> String {
        use crate::output::text::safe_str;
        let mut message = format!("cinspect: {}", safe_str(&self.what));
        if let Some(because) = &self.because {
            message.push_str(": ");
            message.push_str(&safe_str(because));
        }
        if let Some(hint) = &self.hint {
            message.push_str("\nhint: ");
            message.push_str(&safe_str(hint));
        }
        for line in &self.lines {
            message.push('\n');
            message.push_str(&safe_str(line));
        }
        message.push('\n');
        message
    }
}

impl From<crate::proc::ReadError> for Error {
    fn from(error: crate::proc::ReadError) -> Self {
        use crate::proc::ReadError;
        match error {
            ReadError::Gone => Self::new(ExitStatus::NoContainer, "the container has ended")
                .cause("its processes are gone"),
            ReadError::Denied => {
                Self::new(ExitStatus::NotPermitted, "cannot look at the container")
                    .cause("permission denied")
                    .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")
            }
            other => Self::new(ExitStatus::Failed, "cannot look at the container").cause(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_why_and_what_next_and_paints_no_terminal() {
        let error = Error::new(ExitStatus::NoContainer, "no container `\x1b[2Jw`")
            .cause("searched\n3")
            .hint("`cinspect ls`")
            .line("  docker:web");
        assert_eq!(
            error.message(),
            "cinspect: no container `\\x1b[2Jw`: searched\\n3\nhint: `cinspect ls`\n  docker:web\n"
        );
    }
}
