//! The command by which an engine checks the health of a container, as it is configured. Nothing here runs it.

use super::process::CommandLine;

/// A configured health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

impl HealthCheck {
    /// Parses the `Test` of an image or container: `["CMD", PROGRAM, ARG…]`, `["CMD-SHELL", LINE]`; `["NONE"]`
    /// and an empty list are none.
    pub fn parse(test: &[String]) -> Option<Self> {
        match test {
            [kind, line @ ..] if kind == "CMD-SHELL" => Some(Self::Shell(line.join(" "))),
            [kind, argv @ ..] if kind == "CMD" && !argv.is_empty() => {
                Some(Self::Exec(argv.to_vec()))
            }
            _ => None,
        }
    }

    /// Whether a process runs it, by its command line. A script has its interpreter before it, with one argument
    /// at most (execve(2)), and a shell may execute a simple command in its own place.
    pub fn is(&self, command: &CommandLine) -> bool {
        let argv: Vec<&[u8]> = command.argv().collect();
        match self {
            _ if command.cut => false,
            Self::Exec(configured) => {
                let configured: Vec<&[u8]> =
                    configured.iter().map(|word| word.as_bytes()).collect();
                is_execution(&argv, &configured)
            }
            Self::Shell(line) => {
                let is_of_shell = argv.len() > 2 && argv.last() == Some(&line.as_bytes());
                let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
                is_of_shell || is_execution(&argv, &words)
            }
        }
    }
}

/// Whether the kernel may have made a command line of a command that was executed.
fn is_execution(argv: &[&[u8]], command: &[&[u8]]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    (0..=2).any(|before| {
        let Some([first, rest @ ..]) = argv.get(before..) else { return false };
        file_name(first) == file_name(program) && rest == arguments
    })
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_known_by_its_command_line() {
        for (test, argv, is_it) in [
            (&["CMD-SHELL", "a; b"][..], &["/bin/sh", "-c", "a; b"][..], true),
            (&["CMD-SHELL", "a; b"], &["/bin/bash", "-o", "pipefail", "-c", "a; b"], true),
            (&["CMD-SHELL", "a; b"], &["/bin/sh", "-c", "a; c"], false),
            (&["CMD-SHELL", "pg_isready -U  x"], &["pg_isready", "-U", "x"], true),
            (&["CMD-SHELL", "sh"], &["sh"], true),
            (&["CMD-SHELL", "a"], &["a", "b"], false),
            (&["CMD-SHELL", "/check"], &["/bin/sh", "/check"], true),
            (&["CMD-SHELL", ""], &["a"], false),
            (&["CMD", "/check.sh", "-v"], &["/check.sh", "-v"], true),
            (&["CMD", "check.sh", "-v"], &["/bin/sh", "-e", "/usr/bin/check.sh", "-v"], true),
            (&["CMD", "check.sh", "-v"], &["/bin/sh", "/usr/bin/check.sh"], false),
            (&["CMD", "check.sh"], &["vi", "a", "b", "check.sh"], false),
            (&["CMD", "check.sh"], &[], false),
        ] {
            let test: Vec<String> = test.iter().map(|&word| word.to_owned()).collect();
            let line: Vec<u8> = argv.iter().flat_map(|word| word.bytes().chain([0])).collect();
            let check = HealthCheck::parse(&test).unwrap();
            assert_eq!(
                check.is(&CommandLine::parse(line.clone(), false)),
                is_it,
                "{test:?} {argv:?}"
            );
            assert!(!check.is(&CommandLine::parse(line, true)), "{test:?} {argv:?}");
        }
        for none in [&["NONE"][..], &["CMD"], &[]] {
            let none: Vec<String> = none.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(HealthCheck::parse(&none), None);
        }
    }
}
