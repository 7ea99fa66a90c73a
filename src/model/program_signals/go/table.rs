//! The Go runtime's table of signals, `sig` in runtime/sigqueue.go: the signals that a program asked for
//! with `signal.Notify` and `signal.Ignore`. The handlers of a Go program are the same whether it did or
//! not; this is where the difference is.

use crate::model::program_signals::{AskedSignals, MissingStep};
use crate::model::signal::SignalSet;

/// Offsets in the table, the same in every Go from 1.16 to 1.27; bit n of a set is signal n. Between
/// them are a note (8 bytes), and the sets of the signals that are pending and received.
pub(super) const WANTED: usize = 20;
pub(super) const IGNORED: usize = 32;
const STATE: usize = 56;
pub(super) const IN_USE: usize = 64;
/// Bytes of the table.
pub const SIZE: usize = IN_USE + 1;

/// Signals whose handlers the runtime never changes for a program (runtime/sigtab_linux_generic.go, those
/// without `_SigNotify`).
const KEPT: SignalSet = {
    let numbers = [4, 5, 7, 8, 9, 11, 16, 19, 31, 32, 33, 34];
    let (mut mask, mut index) = (0, 0);
    while index < numbers.len() {
        mask |= 1 << (numbers[index] - 1);
        index += 1;
    }
    SignalSet(mask)
};

impl AskedSignals {
    /// Parses the table of a process that catches and ignores these signals.
    ///
    /// # Errors
    /// [`MissingStep::Implausible`] if it contradicts itself or the dispositions.
    pub fn parse_go(
        go_release: Option<u32>,
        bytes: &[u8; SIZE],
        caught: SignalSet,
        ignored: SignalSet,
    ) -> Result<Self, MissingStep> {
        let word = |offset: usize| {
            let word = bytes.get(offset..offset + 4).and_then(|word| word.first_chunk());
            u128::from(word.map_or(u32::MAX, |word| u32::from_le_bytes(*word)))
        };
        let set = |offset| word(offset) | word(offset + 4) << 32 | word(offset + 8) << 64;
        let (wanted, refused, in_use) = (set(WANTED), set(IGNORED), bytes[IN_USE]);
        // The state has four values, the last of them in 1.16 alone. Signal 0 is asked for by Notify
        // without signals.
        let plausible = in_use <= 1
            && word(STATE) <= 3
            && (wanted | refused) >> 65 == 0
            && wanted & refused == 0
            && (in_use == 1 || wanted == 0);
        let signals = Self {
            go_release,
            wanted: SignalSet((wanted >> 1) as u64),
            ignored: SignalSet((refused >> 1) as u64),
        };
        let outside = |set: SignalSet, mask: SignalSet| {
            !set.intersection(mask.union(KEPT).complement()).is_empty()
        };
        if !plausible || outside(signals.wanted, caught) || outside(signals.ignored, ignored) {
            return Err(MissingStep::Implausible);
        }
        Ok(signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;

    fn table(wanted: u128, ignored: u128, in_use: u8) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[WANTED..][..12].copy_from_slice(&wanted.to_le_bytes()[..12]);
        bytes[IGNORED..][..12].copy_from_slice(&ignored.to_le_bytes()[..12]);
        bytes[IN_USE] = in_use;
        bytes
    }

    fn parse(bytes: [u8; SIZE], caught: u64, ignored: u64) -> Option<(Vec<String>, Vec<String>)> {
        let parsed =
            AskedSignals::parse_go(Some(19), &bytes, SignalSet(caught), SignalSet(ignored)).ok()?;
        Some((parsed.wanted.names(), parsed.ignored.names()))
    }

    #[test]
    fn reads_the_sets() {
        let (term, hup) = (1 << 15, 1 << 1);
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(parse(table(0, 0, 0), u64::MAX, 0), Some((vec![], vec![])));
        let known = parse(table(term, hup, 1), !1, 1);
        assert_eq!(known, Some((names(&["TERM"]), names(&["HUP"]))));
        // Notify without signals asks for all, from 0 to 64.
        let all = parse(table((1 << 65) - 1, 0, 1), 0xffff_fffd_7ffb_feff, 0);
        assert_eq!(all.map(|(wanted, _)| wanted.len()), Some(64));
        let last = parse(table(1 << 64, 0, 1), u64::MAX, 0);
        assert_eq!(last, Some((names(&["RTMIN+30"]), vec![])));
    }

    #[test]
    fn a_table_that_contradicts_itself_or_the_handlers_is_not_used() {
        let term = 1 << 15;
        for (bytes, caught, ignored) in [
            (table(term, 0, 0), !0, 0),
            (table(term, 0, 2), !0, 0),
            (table(term, term, 1), !0, !0),
            (table(1 << 66, 0, 1), !0, 0),
            (table(term, 0, 1), !SignalSet::from(Signal::TERM).0, 0),
            (table(0, term, 0), !0, 0),
        ] {
            assert_eq!(parse(bytes, caught, ignored), None, "{bytes:?}");
        }
        let mut state = table(term, 0, 1);
        state[STATE] = 4;
        assert_eq!(parse(state, !0, 0), None);
    }
}
