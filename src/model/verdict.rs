//! What will become of a signal, in words that stay.

/// What will happen when a signal reaches a process, sent from where we look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A handler runs.
    Handled,
    /// Blocked, but a signalfd or a thread in sigwait takes it.
    Accepted,
    /// It ends.
    Terminates,
    /// It ends, with a core dump where that is allowed.
    Dumps,
    /// It stops, until CONT.
    Stops,
    /// It runs on.
    Continues,
    /// Nothing: ignored on purpose, or by default.
    Ignored,
    /// Nothing: it is the init of its PID namespace, and has no handler.
    Discarded,
    /// Nothing yet: every thread blocks it, and nobody waits for it.
    Pending,
    /// Nothing before it runs again: it is stopped or frozen, or in a sleep that no signal ends.
    Delayed,
    /// Nothing, ever: it has ended already.
    NoEffect,
    /// A fact that decides could not be read.
    Unknown,
}

impl Verdict {
    /// Each with its name and what it means, as users read it.
    pub const ALL: &[(Self, &str, &str)] = &[
        (Self::Handled, "handled", "a handler runs"),
        (Self::Accepted, "accepted", "blocked, but a signalfd or a thread in sigwait takes it"),
        (Self::Terminates, "terminates", "it ends"),
        (Self::Dumps, "dumps", "it ends, with a core dump where that is allowed"),
        (Self::Stops, "stops", "it stops until CONT"),
        (Self::Continues, "continues", "it runs on"),
        (Self::Ignored, "ignored", "nothing: ignored, or the default is to do nothing"),
        (Self::Discarded, "discarded", "nothing: it is PID 1 and has no handler"),
        (Self::Pending, "pending", "nothing yet: blocked, and nobody waits for it"),
        (Self::Delayed, "delayed", "nothing until it runs again: stopped, frozen or in deep sleep"),
        (Self::NoEffect, "no-effect", "nothing: it has ended already"),
        (Self::Unknown, "unknown", "a fact that decides could not be read"),
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, ..)| *verdict == self).map_or("?", |(_, name, _)| name)
    }

    /// Whether the program gets to know of it.
    pub fn is_received(self) -> bool {
        matches!(self, Self::Handled | Self::Accepted)
    }

    /// Whether it ends the process at once.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Terminates | Self::Dumps)
    }

    /// Whether nothing comes of it at all.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Ignored | Self::Discarded | Self::NoEffect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_name() {
        let mut names: Vec<&str> = Verdict::ALL.iter().map(|(_, name, _)| *name).collect();
        assert!(Verdict::ALL.iter().all(|(verdict, name, _)| verdict.name() == *name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 12);
    }
}
