//! The predicted effect of a signal on a process, and its name and meaning as users read them.

/// Effect of a signal on a process, when cinspect sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A handler runs.
    Handled,
    /// Blocked, but a signalfd or a thread in sigwait(3) takes it.
    Accepted,
    /// The process is terminated.
    Terminates,
    /// The process is terminated and dumps core, where that is enabled.
    Dumps,
    /// The process stops until CONT.
    Stops,
    /// The process continues.
    Continues,
    /// No effect: ignored by the process, or by default.
    Ignored,
    /// No effect: it is the init of its PID namespace, and has no handler.
    Discarded,
    /// Not delivered yet: every thread blocks it, and none is waiting for it.
    Pending,
    /// Not delivered until the process runs again: it is stopped, frozen, or in uninterruptible sleep.
    Delayed,
    /// No effect, ever: the process has exited.
    NoEffect,
    /// A deciding fact could not be read.
    Unknown,
}

impl Verdict {
    /// Every verdict, in the order of the manual.
    pub const ALL: &[Self] = &[
        Self::Handled,
        Self::Accepted,
        Self::Terminates,
        Self::Dumps,
        Self::Stops,
        Self::Continues,
        Self::Ignored,
        Self::Discarded,
        Self::Pending,
        Self::Delayed,
        Self::NoEffect,
        Self::Unknown,
    ];

    /// Returns the word that is printed for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Accepted => "accepted",
            Self::Terminates => "terminates",
            Self::Dumps => "dumps",
            Self::Stops => "stops",
            Self::Continues => "continues",
            Self::Ignored => "ignored",
            Self::Discarded => "discarded",
            Self::Pending => "pending",
            Self::Delayed => "delayed",
            Self::NoEffect => "no-effect",
            Self::Unknown => "unknown",
        }
    }

    /// Returns its meaning, as the manual prints it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Handled => "a handler runs",
            Self::Accepted => "blocked, but a signalfd or a thread in sigwait takes it",
            Self::Terminates => "the process is terminated",
            Self::Dumps => "the process is terminated and dumps core, where that is enabled",
            Self::Stops => "the process stops until CONT",
            Self::Continues => "the process continues",
            Self::Ignored => "no effect: ignored by the process, or by default",
            Self::Discarded => "no effect: it is PID 1 and has no handler",
            Self::Pending => "not delivered yet: blocked, and no thread is waiting for it",
            Self::Delayed => {
                "not delivered until the process runs again: it is stopped, frozen or in \
                 uninterruptible sleep"
            }
            Self::NoEffect => "no effect: the process has exited",
            Self::Unknown => "a deciding fact could not be read",
        }
    }

    /// Whether the program receives the signal.
    pub fn is_received(self) -> bool {
        matches!(self, Self::Handled | Self::Accepted)
    }

    /// Whether the signal ends the process at once.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Terminates | Self::Dumps)
    }

    /// Whether the signal never has an effect.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Ignored | Self::Discarded | Self::NoEffect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_interface() {
        let names: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        assert_eq!(
            names.join(" "),
            "handled accepted terminates dumps stops continues ignored discarded pending delayed \
             no-effect unknown"
        );
    }

    #[test]
    fn every_verdict_has_its_own_meaning() {
        let mut meanings: Vec<&str> = Verdict::ALL.iter().map(|v| v.meaning()).collect();
        assert!(meanings.iter().all(|text| !text.is_empty() && !text.ends_with('.')));
        meanings.sort_unstable();
        meanings.dedup();
        assert_eq!(meanings.len(), Verdict::ALL.len());
    }
}
