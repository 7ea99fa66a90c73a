//! Sets of signals: the kernel's masks, and a short form for display. The effect of a signal is in
//! `table`.

use std::fmt::Write;

use super::number::Signal;

/// A set of signals, as a kernel mask: bit n-1 stands for signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);
    /// All 64 signals.
    pub const ALL: Self = Self(u64::MAX);

    /// Parses a mask: one to sixteen hexadecimal digits, nothing else.
    ///
    /// ```text
    /// 0000000000014002
    /// ```
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        if digits.is_empty() || digits.len() > 16 {
            return None;
        }
        digits
            .iter()
            .try_fold(0, |mask, digit| {
                Some(mask << 4 | u64::from(char::from(*digit).to_digit(16)?))
            })
            .map(Self)
    }

    /// Formats the mask as the kernel prints it: sixteen lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Whether the signal is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & bit(signal) != 0
    }

    /// Adds a signal.
    pub fn insert(&mut self, signal: Signal) {
        self.0 |= bit(signal);
    }

    /// Removes a signal.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !bit(signal);
    }

    /// Returns the number of signals.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the signals that are in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the signals that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the signals that are not in the set.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(!self.0)
    }

    /// Iterates over the signals, in numeric order.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let signal = rest.lowest()?;
            rest.remove(signal);
            Some(signal)
        })
    }

    /// Returns the names of the signals, in numeric order.
    pub fn names(self) -> Vec<String> {
        self.iter().map(Signal::name).collect()
    }

    /// Formats the set for display, exactly and in as few words as possible:
    ///
    /// ```text
    /// set    = "-" | "ALL" | list | "~" list    none, all 64, these, all but these
    /// list   = item { "," item }                in numeric order
    /// item   = name                             as Signal::name returns it
    ///        | "USR1-2" | "RT32-33"             both, at the position of the first
    ///        | "RTMIN-RTMAX"                    34 to 64
    ///        | "RTMIN+" first "-" last          RTMIN+first to RTMIN+last, three or more
    /// ```
    ///
    /// The form with `~` is used when more than half of the 64 are in the set.
    pub fn short(self) -> String {
        let mut text = String::new();
        match self.len() {
            0 => text.push('-'),
            64 => text.push_str("ALL"),
            33.. => {
                text.push('~');
                self.complement().write_list(&mut text);
            }
            _ => self.write_list(&mut text),
        }
        text
    }

    fn write_list(self, text: &mut String) {
        let mut rest = self;
        let mut comma = "";
        while let Some(signal) = rest.lowest() {
            text.push_str(comma);
            comma = ",";
            let written = rest.write_item(signal, text);
            rest = rest.intersection(written.complement());
        }
    }

    /// Writes the item that begins with the set's lowest signal, and returns the signals it covers.
    fn write_item(self, lowest: Signal, text: &mut String) -> Self {
        for (low, high, pair) in
            [(Signal::USR1, Signal::USR2, "USR1-2"), (Signal::RT32, Signal::RT33, "RT32-33")]
        {
            if lowest == low && self.contains(high) {
                text.push_str(pair);
                return [low, high].into_iter().collect();
            }
        }
        let run = self.real_time_run(lowest);
        // Writing to a String cannot fail.
        let _ = match run.len() {
            31 => text.write_str("RTMIN-RTMAX"),
            3.. => {
                let offset = lowest.0 - Signal::RTMIN.0;
                write!(text, "RTMIN+{offset}-{}", usize::from(offset) + run.len() - 1)
            }
            _ => {
                let _ = write!(text, "{lowest}");
                return lowest.into();
            }
        };
        run
    }

    /// Returns the real-time signals in the set from this one up to the first gap.
    fn real_time_run(self, start: Signal) -> Self {
        if start < Signal::RTMIN {
            return Self::EMPTY;
        }
        let below = start.0 - 1;
        let length = (self.0 >> below).trailing_ones();
        Self(((1 << length) - 1) << below)
    }

    fn lowest(self) -> Option<Signal> {
        // In an empty mask all 64 zeros are trailing, and 65 is not a signal.
        Signal::new(self.0.trailing_zeros() as u8 + 1)
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.0 - 1)
}

impl From<Signal> for SignalSet {
    fn from(signal: Signal) -> Self {
        Self(bit(signal))
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        Self(signals.into_iter().fold(0, |mask, signal| mask | bit(signal)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signal(name: &str) -> Signal {
        Signal::all().find(|signal| signal.name() == name).unwrap()
    }

    fn set(names: &str) -> SignalSet {
        names.split(',').map(signal).collect()
    }

    #[test]
    fn parses_masks_as_the_kernel_prints_them() {
        let bash = SignalSet::from_hex(b"0000000000014002").unwrap();
        assert_eq!(bash, set("INT,TERM,CHLD"));
        assert_eq!(bash.names(), ["INT", "TERM", "CHLD"]);
        assert_eq!(bash.to_hex(), "0000000000014002");
        assert_eq!(SignalSet::from_hex(b"FFFFFFFFffffffff"), Some(SignalSet::ALL));
        for bad in [&b""[..], b"0x1", b"g", b"00000000000000000", b"1 ", b"-1", b"\xff"] {
            assert_eq!(SignalSet::from_hex(bad), None);
        }
    }

    #[test]
    fn formats_sets_in_few_words() {
        let hex = |digits: &str| SignalSet::from_hex(digits.as_bytes()).unwrap().short();
        assert_eq!(hex("0"), "-");
        assert_eq!(hex("14002"), "INT,TERM,CHLD");
        assert_eq!(hex("ffffffffffffffff"), "ALL");
        // Go, which catches nearly all; node; a mask by glibc's sigfillset.
        assert_eq!(hex("fffffffd7fc1feff"), "~KILL,CONT,STOP,TSTP,TTIN,TTOU,RT32,RTMIN");
        assert_eq!(hex("100004602"), "INT,USR1,SEGV,TERM,RT33");
        assert_eq!(hex("fffffffe7ffbfeff"), "~KILL,STOP,RT32-33");
    }

    #[test]
    fn folds_pairs_and_runs() {
        for (names, short) in [
            ("USR1,USR2", "USR1-2"),
            ("USR1,SEGV,USR2,TERM", "USR1-2,SEGV,TERM"),
            ("USR2", "USR2"),
            ("RT32,RT33,RTMIN,RTMIN+1,RTMIN+2", "RT32-33,RTMIN+0-2"),
            ("RTMIN+1,RTMIN+2,RTMIN+3", "RTMIN+1-3"),
            ("RTMIN+1,RTMIN+2", "RTMIN+1,RTMIN+2"),
            ("TERM,RTMIN+28,RTMIN+29,RTMIN+30", "TERM,RTMIN+28-30"),
            ("RTMIN+1,RTMIN+3,RTMIN+4,RTMIN+5,RTMIN+7", "RTMIN+1,RTMIN+3-5,RTMIN+7"),
        ] {
            assert_eq!(set(names).short(), short);
        }
        let real_time: SignalSet = Signal::all().filter(|s| *s >= Signal::RTMIN).collect();
        assert_eq!(real_time.short(), "RTMIN-RTMAX");
        assert_eq!(real_time.union(set("TERM")).short(), "TERM,RTMIN-RTMAX");
    }

    /// Parses the grammar of [`SignalSet::short`].
    fn parse_short(text: &str) -> SignalSet {
        let from_rtmin = |offset: &str| 34 + offset.parse::<u8>().unwrap();
        let item = |item: &str| -> SignalSet {
            match (item, item.strip_prefix("RTMIN+").and_then(|run| run.split_once('-'))) {
                (_, Some((first, last))) => {
                    (from_rtmin(first)..=from_rtmin(last)).filter_map(Signal::new).collect()
                }
                ("USR1-2", _) => set("USR1,USR2"),
                ("RT32-33", _) => set("RT32,RT33"),
                ("RTMIN-RTMAX", _) => Signal::all().skip(33).collect(),
                _ => set(item),
            }
        };
        let list = |list: &str| list.split(',').map(item).fold(SignalSet::EMPTY, SignalSet::union);
        match text {
            "-" => SignalSet::EMPTY,
            "ALL" => SignalSet::ALL,
            _ => text.strip_prefix('~').map_or_else(|| list(text), |rest| list(rest).complement()),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = SignalSet::from_hex(&bytes);
        }

        #[test]
        fn hex_and_iteration_preserve_the_set(mask: u64) {
            let set = SignalSet(mask);
            prop_assert_eq!(SignalSet::from_hex(set.to_hex().as_bytes()), Some(set));
            prop_assert_eq!(set.iter().collect::<SignalSet>(), set);
            prop_assert_eq!(set.iter().count(), set.len());
        }

        #[test]
        fn the_short_form_preserves_the_set(mask: u64, more: u64) {
            // Few signals, about half, and nearly all, so that each form occurs.
            let masks = [mask & more, mask, mask | more, mask << 33, mask | u64::MAX << 30];
            for set in masks.map(SignalSet) {
                prop_assert_eq!(parse_short(&set.short()), set, "{}", set.short());
            }
        }
    }
}
