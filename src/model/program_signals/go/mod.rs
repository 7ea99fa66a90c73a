//! Go: the runtime's table of signals, found by the code that fills it.

mod code;
mod names;
mod program;
mod table;

pub use program::GoProgram;
pub use table::SIZE as TABLE_SIZE;

use crate::model::signal::{Signal, SignalSet};

/// Whether the dispositions are those of Go's runtime: it installs a handler for every signal that can
/// have one but 32 and 34 (runtime/sigtab_linux_generic.go), also for those that only a thread library
/// needs. A program can have it ignore some (`signal.Ignore`), but not URG, SEGV and PROF, which it uses.
/// Others that catch everything leave out CHLD and catch 34 (top of procps).
pub fn has_go_handlers(caught: SignalSet, ignored: SignalSet) -> bool {
    const FROM_35: SignalSet = SignalSet(!0 << 34);
    let known = caught.union(ignored);
    FROM_35.intersection(known) == FROM_35
        && !caught.contains(Signal::RTMIN)
        && [Signal::CHLD, Signal::TERM, Signal::PIPE].into_iter().all(|s| known.contains(s))
        && [Signal::URG, Signal::SEGV, Signal::PROF].into_iter().all(|s| caught.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_go_by_its_handlers() {
        for (caught, ignored, is_go) in [
            (0xffff_fffd_7fc1_feff, 0, true),
            (0xffff_fffc_7fc1_feff, 0, true),
            // signal.Notify of everything; signal.Ignore of HUP and TERM.
            (0xffff_fffd_7ffb_feff, 0, true),
            (0xffff_fffd_7fc1_befe, 0x4001, true),
            // top of procps, the JVM, Node.js, CPython.
            (0xffff_fffe_7ffa_feff, 0, false),
            (0x2000_0001_0100_5ccf, 0, false),
            (0x1_0000_4602, 0x100_1000, false),
            (0x2, 0x100_1000, false),
            (u64::MAX, 0, false),
        ] {
            let found = has_go_handlers(SignalSet(caught), SignalSet(ignored));
            assert_eq!(found, is_go, "{caught:x}");
        }
    }
}
