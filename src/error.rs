//! The error type of the whole program: the failure, its cause and hints. It crosses worker pipes as
//! it is. Its text is raw: the printer escapes it.

use std::fmt;
use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use crate::exit::ExitStatus;

/// A failure, with its exit status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Exit status.
    pub status: ExitStatus,
    /// The failure: lower case, no full stop, literals in backticks.
    pub message: String,
    /// The reason.
    pub cause: Option<String>,
    /// Advice. One that begins with a blank is an item of a list that the hint before it opens.
    pub hints: Vec<String>,
}

impl Error {
    /// Creates an error from the failure.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), cause: None, hints: Vec::new() }
    }

    /// Sets the cause. (An operating system error is passed through [`os_error`].)
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the lines to print, unescaped and without the program's name: the message with its
    /// cause, then each hint.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let hints = self.hints.iter().map(|hint| match hint.starts_with(' ') {
            true => hint.clone(),
            false => format!("hint: {hint}"),
        });
        std::iter::once(self.to_string()).chain(hints)
    }
}

/// The message and its cause on one line, unescaped.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.cause.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Error {}

/// Returns errno's own words (`No such file or directory`): `std::io::Error` appends `(os error 2)`, nix
/// prepends `ENOENT: `. An error without a number keeps its text.
pub fn os_error(error: impl Into<io::Error>) -> String {
    let error = error.into();
    match error.raw_os_error().map(Errno::from_raw) {
        None | Some(Errno::UnknownErrno) => error.to_string(),
        Some(errno) => errno.desc().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_message_cause_and_hints_line_by_line() {
        let error = Error::new(ExitStatus::NoContainer, "no container `web`")
            .cause("searched 3")
            .hint("one of these:")
            .hint("  docker:web2");
        let lines: Vec<String> = error.lines().collect();
        assert_eq!(
            lines,
            ["no container `web`: searched 3", "hint: one of these:", "  docker:web2"]
        );
    }

    #[test]
    fn errno_speaks_in_its_own_words() {
        let words = "No such file or directory";
        assert_eq!(os_error(Errno::ENOENT), words);
        assert_eq!(os_error(io::Error::from_raw_os_error(2)), words);
        assert_eq!(os_error(io::Error::other("no answer")), "no answer");
    }

    #[test]
    fn survives_a_pipe() {
        let error = Error::new(ExitStatus::Other(7), "a").cause("b").hint("c");
        let json = serde_json::to_vec(&error).unwrap();
        assert_eq!(serde_json::from_slice::<Error>(&json).unwrap(), error);
    }
}
