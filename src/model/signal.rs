//! Signals and sets of signals: numbers, names, what they do when nobody cares, and the hexadecimal
//! masks of `/proc/PID/status`. Everything said about a signal stands in one table. Nothing here
//! sends a signal or asks the kernel.

use std::fmt::{self, Write};

use nix::libc;

/// A signal, 1 to 64. Its number is that of Linux on every architecture but alpha, mips, parisc and
/// sparc (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// What the kernel does with a signal that the process left at its default (signal(7)). For a PID
/// namespace's init it does nothing instead, which is for `analysis` to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends and leaves a core dump, where those are wanted (core(5)).
    Core,
    /// Nothing happens.
    Ignore,
    /// The process stops until CONT.
    Stop,
    /// A stopped process runs again.
    Continue,
}

impl DefaultAction {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Core => "core",
            Self::Ignore => "ignore",
            Self::Stop => "stop",
            Self::Continue => "continue",
        }
    }
}

/// Text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{given}`")]
pub struct UnknownSignal {
    /// What was given.
    pub given: String,
    /// The one signal that is spelt nearly so.
    pub suggestion: Option<Signal>,
}

/// All that is to be said about one standard signal.
struct SignalEntry {
    name: &'static str,
    number: i32,
    aliases: &'static [&'static str],
    default: DefaultAction,
    says: &'static str,
}

macro_rules! signals {
    // Name, constant of libc, aliases, default action, what it is for.
    ($($name:ident $number:ident [$($alias:literal)*] $default:ident $says:literal;)*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($number), "`: ", $says, ".")]
                pub const $name: Self = Self(libc::$number as u8);
            )*
        }

        static SIGNALS: &[SignalEntry] = &[$(SignalEntry {
            name: stringify!($name),
            number: libc::$number,
            aliases: &[$($alias),*],
            default: DefaultAction::$default,
            says: $says,
        }),*];
    };
}

// In the order of their numbers, which is how a row is found.
signals! {
    HUP SIGHUP [] Terminate "terminal closed; for many daemons: read the configuration again";
    INT SIGINT [] Terminate "interrupt, Ctrl-C";
    QUIT SIGQUIT [] Core "quit, Ctrl-\\; for some servers: stop gracefully";
    ILL SIGILL [] Core "illegal instruction";
    TRAP SIGTRAP [] Core "breakpoint or trace";
    ABRT SIGABRT ["IOT"] Core "abort(3): the program gave up";
    BUS SIGBUS [] Core "access to memory that has nothing behind it";
    FPE SIGFPE [] Core "arithmetic error";
    KILL SIGKILL [] Terminate "kill at once; cannot be caught";
    USR1 SIGUSR1 [] Terminate "what the program makes of it";
    SEGV SIGSEGV [] Core "access to memory that is not its own";
    USR2 SIGUSR2 [] Terminate "what the program makes of it";
    PIPE SIGPIPE [] Terminate "write to a pipe that nobody reads";
    ALRM SIGALRM [] Terminate "alarm(2) rang";
    TERM SIGTERM [] Terminate "terminate politely";
    STKFLT SIGSTKFLT [] Terminate "coprocessor stack fault; unused";
    CHLD SIGCHLD ["CLD"] Ignore "a child stopped or ended";
    CONT SIGCONT [] Continue "continue after a stop";
    STOP SIGSTOP [] Stop "stop; cannot be caught";
    TSTP SIGTSTP [] Stop "stop from the terminal, Ctrl-Z";
    TTIN SIGTTIN [] Stop "read from the terminal in the background";
    TTOU SIGTTOU [] Stop "write to the terminal in the background";
    URG SIGURG [] Ignore "urgent data on a socket; Go sends it to itself all the time";
    XCPU SIGXCPU [] Core "CPU time limit exceeded";
    XFSZ SIGXFSZ [] Core "file size limit exceeded";
    VTALRM SIGVTALRM [] Terminate "virtual timer rang";
    PROF SIGPROF [] Terminate "profiling timer rang";
    WINCH SIGWINCH [] Ignore "terminal changed its size; for some servers: stop gracefully";
    IO SIGIO ["POLL"] Terminate "a descriptor is ready";
    PWR SIGPWR [] Terminate "power is failing; for LXC containers: shut down";
    SYS SIGSYS ["UNUSED"] Core "system call refused by seccomp";
}

// Where signals are numbered otherwise the build stops here rather than name them wrongly.
const _: () = {
    let mut row = 0;
    while row < SIGNALS.len() {
        assert!(SIGNALS[row].number == row as i32 + 1);
        row += 1;
    }
};

impl Signal {
    /// The first real-time signal as glibc counts them; musl has 35.
    pub const RTMIN: Self = Self(34);
    /// What stops systemd.
    pub const RTMIN_3: Self = Self(37);
    /// The last real-time signal, and the last of all.
    pub const RTMAX: Self = Self(64);
    /// glibc's own, for cancelling threads (`SIGCANCEL`).
    pub const RT32: Self = Self(32);
    /// glibc's own, for changing the user of all threads (`SIGSETXID`).
    pub const RT33: Self = Self(33);

    /// The signal with this number; none when there is none such.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=64 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Every signal, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::RTMAX.0).map(Self)
    }

    /// Its name without `SIG`: `TERM`, `RTMIN`, `RTMIN+3`, `RT32`. [`Signal::parse`] reads it back.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// What it is for, in a short phrase.
    pub fn describe(self) -> &'static str {
        match self {
            Self::RT32 => "glibc's own, for cancelling threads",
            Self::RT33 => "glibc's own, for changing the user of all threads",
            _ => self.row().map_or("real-time: what the program makes of it", |row| row.says),
        }
    }

    /// What the kernel does with it when the process did not choose (signal(7)).
    pub fn default_action(self) -> DefaultAction {
        self.row().map_or(DefaultAction::Terminate, |row| row.default)
    }

    /// Reads a signal as people spell it, in any case: `TERM`, `SIGTERM`, `15`, `RTMIN+3`,
    /// `SIGRTMAX-2`, `RT32`, and other names for the same (`IOT`, `CLD`, `POLL`, `UNUSED`). A
    /// number is plain decimal without a zero in front, and nothing may stand before or after.
    ///
    /// # Errors
    /// [`UnknownSignal`], with the signal that was probably meant.
    pub fn parse(given: &str) -> Result<Self, UnknownSignal> {
        Self::read(given)
            .ok_or_else(|| UnknownSignal { given: given.to_owned(), suggestion: suggest(given) })
    }

    fn read(given: &str) -> Option<Self> {
        if let Some(number) = small_number(given) {
            return Self::new(number);
        }
        let name = plain_name(given)?;
        if let Some(above) = name.strip_prefix("RTMIN") {
            return Self::new(Self::RTMIN.0 + offset(above, '+')?);
        }
        if let Some(below) = name.strip_prefix("RTMAX") {
            let number = Self::RTMAX.0.checked_sub(offset(below, '-')?)?;
            return Self::new(number).filter(|signal| *signal >= Self::RTMIN);
        }
        match name.as_str() {
            "RT32" => Some(Self::RT32),
            "RT33" => Some(Self::RT33),
            _ => Self::all().take(SIGNALS.len()).find(|signal| {
                signal.row().is_some_and(|row| row.spellings().any(|known| known == name))
            }),
        }
    }

    fn row(self) -> Option<&'static SignalEntry> {
        SIGNALS.get(usize::from(self.0) - 1)
    }

    fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.row(), self.0) {
            (Some(row), _) => f.pad(row.name),
            (None, number @ ..=33) => f.pad(&format!("RT{number}")),
            (None, 34) => f.pad("RTMIN"),
            (None, number) => f.pad(&format!("RTMIN+{}", number - Self::RTMIN.0)),
        }
    }
}

impl SignalEntry {
    fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// What kill(2) takes for a signal: one of them, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalNumber {
    /// 0: nothing is sent; whether the process is there and may be signalled is all that is tested
    /// (kill(2)).
    Probe,
    /// A signal.
    Signal(Signal),
}

impl SignalNumber {
    /// Reads what [`Signal::parse`] reads, and `0`.
    ///
    /// # Errors
    /// [`UnknownSignal`].
    pub fn parse(given: &str) -> Result<Self, UnknownSignal> {
        match given {
            "0" => Ok(Self::Probe),
            _ => Signal::parse(given).map(Self::Signal),
        }
    }

    /// The number for kill(2).
    pub fn number(self) -> i32 {
        self.signal().map_or(0, Signal::number)
    }

    /// The signal, unless it is the probe.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Probe => None,
            Self::Signal(signal) => Some(signal),
        }
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe => f.pad("0"),
            Self::Signal(signal) => signal.fmt(f),
        }
    }
}

/// A set of signals: a mask as the kernel prints it. Bit n-1 stands for signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// All 64.
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

    /// The mask as the kernel prints it: sixteen hexadecimal digits in lower case.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// The set of this one.
    pub fn of(signal: Signal) -> Self {
        let mut set = Self::EMPTY;
        set.insert(signal);
        set
    }

    /// Whether the signal is in it.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Puts a signal in.
    pub fn insert(&mut self, signal: Signal) {
        self.0 |= signal.bit();
    }

    /// Takes a signal out.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !signal.bit();
    }

    /// How many signals are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signals that are in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The signals that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The signals that are not in it.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(!self.0)
    }

    /// Its signals, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut left = self;
        std::iter::from_fn(move || {
            let first = left.first()?;
            left.remove(first);
            Some(first)
        })
    }

    /// The names of its signals, in the order of their numbers.
    pub fn names(self) -> Vec<String> {
        self.iter().map(Signal::name).collect()
    }

    /// The set for people, in as few words as say it exactly:
    ///
    /// ```text
    /// set    = "-" | "ALL" | list | "~" list    none, all 64, these, all but these
    /// list   = item { "," item }                in the order of the numbers
    /// item   = name                             as Signal::name gives it
    ///        | "USR1-2" | "RT32-33"             both of them, at the place of the first
    ///        | "RTMIN-RTMAX"                    34 to 64
    ///        | "RTMIN+" first "-" last          RTMIN+first to RTMIN+last, three or more
    /// ```
    ///
    /// `~` serves when more than half of the 64 are in the set.
    pub fn short(self) -> String {
        let mut text = String::new();
        match self.len() {
            0 => text.push('-'),
            64 => text.push_str("ALL"),
            33.. => {
                text.push('~');
                self.complement().list(&mut text);
            }
            _ => self.list(&mut text),
        }
        text
    }

    fn list(self, text: &mut String) {
        let mut left = self;
        let mut comma = "";
        while let Some(first) = left.first() {
            text.push_str(comma);
            comma = ",";
            let said = left.say_first(first, text);
            left = left.intersection(said.complement());
        }
    }

    /// Writes the item that begins with the first signal, and gives the signals it stands for.
    fn say_first(self, first: Signal, text: &mut String) -> Self {
        for (one, two, both) in
            [(Signal::USR1, Signal::USR2, "USR1-2"), (Signal::RT32, Signal::RT33, "RT32-33")]
        {
            if first == one && self.contains(two) {
                text.push_str(both);
                return [one, two].into_iter().collect();
            }
        }
        let run = self.real_time_run(first);
        // Writing to a String cannot fail.
        let _ = match run.len() {
            31 => text.write_str("RTMIN-RTMAX"),
            3.. => {
                let above = first.0 - Signal::RTMIN.0;
                write!(text, "RTMIN+{above}-{}", usize::from(above) + run.len() - 1)
            }
            _ => {
                let _ = write!(text, "{first}");
                return [first].into_iter().collect();
            }
        };
        run
    }

    /// The real-time signals in the set from this one on up to the first gap.
    fn real_time_run(self, first: Signal) -> Self {
        if first < Signal::RTMIN {
            return Self::EMPTY;
        }
        let below = first.0 - 1;
        let length = (self.0 >> below).trailing_ones();
        Self(((1 << length) - 1) << below)
    }

    fn first(self) -> Option<Signal> {
        // Of an empty mask all 64 zeros are trailing, and there is no signal 65.
        Signal::new(self.0.trailing_zeros() as u8 + 1)
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        Self(signals.into_iter().fold(0, |mask, signal| mask | signal.bit()))
    }
}

/// One or two decimal digits without a zero in front, which could be meant as octal.
fn small_number(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [ones @ b'0'..=b'9'] => Some(ones - b'0'),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + ones - b'0'),
        _ => None,
    }
}

/// What follows `RTMIN` or `RTMAX`: nothing, or the sign and a number.
fn offset(text: &str, sign: char) -> Option<u8> {
    match text.strip_prefix(sign) {
        Some(number) => small_number(number),
        None => text.is_empty().then_some(0),
    }
}

/// No spelling of a signal is longer.
const LONGEST: usize = "SIGRTMIN+30".len();
/// What is longer by more is no slip of the finger.
const SLIP_ROOM: usize = 2;

/// In upper case and without `SIG`; none for what is too long to be a signal's name.
fn plain_name(given: &str) -> Option<String> {
    if given.len() > LONGEST + SLIP_ROOM {
        return None;
    }
    let upper = given.to_ascii_uppercase();
    Some(upper.strip_prefix("SIG").map(str::to_owned).unwrap_or(upper))
}

/// The signal that was probably meant: a habit of kill(1) (`-9`), a stray space, or the one name
/// that is a slip of the finger away. When two are as near, neither.
fn suggest(given: &str) -> Option<Signal> {
    let trimmed = given.trim().trim_start_matches('-');
    if let Some(signal) = Signal::read(trimmed) {
        return Some(signal);
    }
    let name = plain_name(trimmed)?;
    let real_time = [("RTMIN", Signal::RTMIN), ("RTMAX", Signal::RTMAX)];
    let standard = Signal::all().flat_map(|signal| {
        signal.row().into_iter().flat_map(SignalEntry::spellings).map(move |name| (name, signal))
    });
    let mut best = None;
    let mut least = 1 + (name.len() / 3).max(1);
    for (known, signal) in standard.chain(real_time) {
        let slips = slips(name.as_bytes(), known.as_bytes());
        // A word that shares no letter (`A` and `IO`) is not near, however short both are.
        if slips < least && slips < name.len().min(known.len()) {
            least = slips;
            best = Some(signal);
        } else if slips == least && best != Some(signal) {
            best = None;
        }
    }
    // RTMIN+31 is near to RTMIN and does not mean it.
    best.filter(|signal| *signal < Signal::RTMIN || name.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// How many letters were left out, added, changed, or changed places with their neighbour (optimal
/// string alignment). Takes time by the product of the lengths, so for short words only.
fn slips(one: &[u8], two: &[u8]) -> usize {
    let mut before;
    let mut above = vec![0; two.len() + 1];
    let mut here: Vec<usize> = (0..=two.len()).collect();
    for i in 1..=one.len() {
        before = std::mem::replace(&mut above, here);
        here = vec![i; two.len() + 1];
        for j in 1..=two.len() {
            let (a, b) = (one[i - 1], two[j - 1]);
            let mut best =
                (above[j] + 1).min(here[j - 1] + 1).min(above[j - 1] + usize::from(a != b));
            if i > 1 && j > 1 && a == two[j - 2] && one[i - 2] == b {
                best = best.min(before[j - 2] + 1);
            }
            here[j] = best;
        }
    }
    here[two.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(names: &str) -> SignalSet {
        names.split(',').map(|name| Signal::parse(name).unwrap()).collect()
    }

    #[test]
    fn the_table_is_in_order_and_its_names_are_unique() {
        let mut spellings: Vec<_> = SIGNALS.iter().flat_map(SignalEntry::spellings).collect();
        let all = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!(spellings.len(), all);
        assert!(SIGNALS.iter().all(|row| !row.says.is_empty() && !row.says.ends_with('.')));
        assert_eq!(SIGNALS.len(), 31);
        assert_eq!(Signal::all().count(), 64);
    }

    #[test]
    fn names_are_those_of_the_interface() {
        let names = [(15, "TERM"), (34, "RTMIN"), (37, "RTMIN+3"), (64, "RTMIN+30")];
        for (number, name) in names.into_iter().chain([(32, "RT32"), (33, "RT33"), (31, "SYS")]) {
            assert_eq!(Signal::new(number).unwrap().name(), name);
        }
        assert_eq!((Signal::new(0), Signal::new(65)), (None, None));
    }

    #[test]
    fn every_name_is_read_back() {
        for signal in Signal::all() {
            let name = signal.name();
            for spelt in [name.clone(), format!("SIG{name}"), name.to_lowercase()] {
                assert_eq!(Signal::parse(&spelt), Ok(signal), "{spelt}");
            }
            assert_eq!(Signal::parse(&signal.number().to_string()), Ok(signal));
            assert!(!signal.describe().is_empty());
        }
    }

    #[test]
    fn other_spellings_are_understood() {
        for (given, number) in [
            ("IOT", 6),
            ("sigcld", 17),
            ("POLL", 29),
            ("UNUSED", 31),
            ("RTMAX", 64),
            ("RTMAX-2", 62),
            ("SIGRTMAX-30", 34),
            ("RTMIN+0", 34),
            ("RTMAX-0", 64),
            ("rtmin+30", 64),
        ] {
            assert_eq!(Signal::parse(given).map(Signal::number), Ok(number), "{given}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_signal() {
        for bad in [
            "",
            "SIG",
            "0",
            "00",
            "65",
            "015",
            "+15",
            "-15",
            "0xf",
            "15 ",
            " 15",
            "TERM ",
            "TERM\n",
            "SIG15",
            "RTMIN+31",
            "RTMIN-1",
            "RTMIN+",
            "RTMIN3",
            "RTMIN++3",
            "RTMIN+03",
            "RTMAX-31",
            "RTMAX+1",
            "RT34",
            "RT",
            "TERMINATE",
        ] {
            assert_eq!(Signal::parse(bad).unwrap_err().given, bad);
        }
        for bad in ["SIGSIGTERM", "１５", "99999999999999999999"] {
            assert!(Signal::parse(bad).is_err());
        }
    }

    #[test]
    fn a_slip_of_the_finger_gets_a_suggestion() {
        for (given, meant) in [
            ("TREM", Some(Signal::TERM)),
            ("SIGTEMR", Some(Signal::TERM)),
            ("kil", Some(Signal::KILL)),
            ("-9", Some(Signal::KILL)),
            ("-SIGHUP", Some(Signal::HUP)),
            (" TERM", Some(Signal::TERM)),
            ("TERMM", Some(Signal::TERM)),
            ("RTMIM", Some(Signal::RTMIN)),
            ("WNICH", Some(Signal::WINCH)),
            ("USR3", None),
            ("RTMIN+31", None),
            ("RTMIN3", None),
            ("BANANA", None),
            ("A", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(Signal::parse(given).unwrap_err().suggestion, meant, "{given}");
        }
        assert_eq!(Signal::parse("TREM").unwrap_err().to_string(), "unknown signal `TREM`");
    }

    #[test]
    fn zero_is_a_probe_and_no_signal() {
        assert_eq!(SignalNumber::parse("0"), Ok(SignalNumber::Probe));
        assert_eq!(SignalNumber::parse("9"), Ok(SignalNumber::Signal(Signal::KILL)));
        assert!(SignalNumber::parse("00").is_err());
        assert_eq!(SignalNumber::Probe.number(), 0);
    }

    #[test]
    fn default_actions_are_those_of_signal_7() {
        let of = |action| -> SignalSet {
            Signal::all().filter(|signal| signal.default_action() == action).collect()
        };
        assert_eq!(of(DefaultAction::Ignore), set("CHLD,URG,WINCH"));
        assert_eq!(of(DefaultAction::Stop), set("STOP,TSTP,TTIN,TTOU"));
        assert_eq!(of(DefaultAction::Continue), set("CONT"));
        let core = "QUIT,ILL,TRAP,ABRT,BUS,FPE,SEGV,XCPU,XFSZ,SYS";
        assert_eq!(of(DefaultAction::Core), set(core));
    }

    #[test]
    fn masks_are_read_as_the_kernel_prints_them() {
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
    fn sets_are_said_in_few_words() {
        let hex = |digits: &str| SignalSet::from_hex(digits.as_bytes()).unwrap().short();
        assert_eq!(hex("0"), "-");
        assert_eq!(hex("14002"), "INT,TERM,CHLD");
        assert_eq!(hex("ffffffffffffffff"), "ALL");
        // Go, which catches nearly all; node; what glibc's sigfillset leaves blocked.
        assert_eq!(hex("fffffffd7fc1feff"), "~KILL,CONT,STOP,TSTP,TTIN,TTOU,RT32,RTMIN");
        assert_eq!(hex("100004602"), "INT,USR1,SEGV,TERM,RT33");
        assert_eq!(hex("fffffffe7ffbfeff"), "~KILL,STOP,RT32-33");
    }

    #[test]
    fn families_and_runs_are_folded() {
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

    /// Reads the grammar of [`SignalSet::short`].
    fn read_short(text: &str) -> SignalSet {
        let from_rtmin = |n: &str| Signal::parse(&format!("RTMIN+{n}")).unwrap().number();
        let item = |item: &str| -> SignalSet {
            match (item, item.strip_prefix("RTMIN+").and_then(|run| run.split_once('-'))) {
                (_, Some((first, last))) => (from_rtmin(first)..=from_rtmin(last))
                    .filter_map(|number| Signal::new(number as u8))
                    .collect(),
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
        fn no_text_panics(text in ".{0,20}", names in "(SIG)?[A-Z0-9+-]{0,9}") {
            let _ = SignalNumber::parse(&text);
            let _ = SignalNumber::parse(&names);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = SignalSet::from_hex(&bytes);
        }

        #[test]
        fn hex_and_names_say_the_whole_set(mask: u64) {
            let set = SignalSet(mask);
            prop_assert_eq!(SignalSet::from_hex(set.to_hex().as_bytes()), Some(set));
            prop_assert_eq!(set.iter().collect::<SignalSet>(), set);
            prop_assert_eq!(set.names().len(), set.len());
        }

        #[test]
        fn the_short_form_is_unambiguous(mask: u64, more: u64) {
            // Few signals, about half, and nearly all, so that each form comes up.
            let masks = [mask & more, mask, mask | more, mask << 33, mask | u64::MAX << 30];
            for set in masks.map(SignalSet) {
                prop_assert_eq!(read_short(&set.short()), set, "{}", set.short());
            }
        }
    }
}
