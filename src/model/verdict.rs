//! The predicted effect of a signal on a process, and its name and meaning as users read them.

use super::codes::codes;

codes! {
    /// Effect of a signal on a process, when cinspect sends it.
    Verdict:
    Handled "handled" "a handler runs";
    Accepted "accepted" "blocked, but a signalfd or a thread in sigwait takes it";
    Terminates "terminates" "the process is terminated";
    Dumps "dumps" "the process is terminated and dumps core, where that is enabled";
    Stops "stops" "the process stops until CONT";
    Continues "continues" "the process continues";
    Ignored "ignored" "no effect: ignored by the process, or by default";
    Discarded "discarded" "no effect: it is PID 1 and has no handler";
    Pending "pending" "not delivered yet: blocked, and no thread is waiting for it";
    Delayed "delayed"
        "not delivered until the process runs again: it is stopped, frozen or in uninterruptible sleep";
    NoEffect "no-effect" "no effect: the process has exited";
    Unknown "unknown" "a deciding fact could not be read";
}

impl Verdict {
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
        let names: Vec<&str> = Verdict::ALL.iter().map(|(_, name, _)| *name).collect();
        assert_eq!(
            names.join(" "),
            "handled accepted terminates dumps stops continues ignored discarded pending delayed \
             no-effect unknown"
        );
    }

    #[test]
    fn every_verdict_has_its_own_meaning() {
        let mut meanings: Vec<&str> = Verdict::ALL.iter().map(|(_, _, meaning)| *meaning).collect();
        assert!(meanings.iter().all(|text| !text.is_empty() && !text.ends_with('.')));
        meanings.sort_unstable();
        meanings.dedup();
        assert_eq!(meanings.len(), Verdict::ALL.len());
    }
}
