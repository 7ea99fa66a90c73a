//! The table of the standard signals: name, number, aliases, default action and a short description.
//! Everything that is known about one signal is in its row.

use std::fmt;

use nix::libc;

use super::number::Signal;

/// The default action of the kernel for a signal (signal(7)). For the init of a PID namespace it does
/// nothing instead, which `analysis` takes into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultAction {
    /// The process is terminated.
    Terminate,
    /// The process is terminated and dumps core, where that is enabled (core(5)).
    Core,
    /// The signal is ignored.
    Ignore,
    /// The process stops until CONT.
    Stop,
    /// A stopped process continues.
    Continue,
}

impl DefaultAction {
    /// Returns the word that is printed for it.
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

/// A row of the table.
pub(super) struct SignalEntry {
    name: &'static str,
    number: i32,
    aliases: &'static [&'static str],
    default: DefaultAction,
    description: &'static str,
}

macro_rules! signals {
    // Name, constant of libc, aliases, default action, description.
    ($($name:ident $number:ident [$($alias:literal)*] $default:ident $description:literal;)*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($number), "`: ", $description, ".")]
                pub const $name: Self = Self(libc::$number as u8);
            )*
        }

        pub(super) static SIGNALS: &[SignalEntry] = &[$(SignalEntry {
            name: stringify!($name),
            number: libc::$number,
            aliases: &[$($alias),*],
            default: DefaultAction::$default,
            description: $description,
        }),*];
    };
}

// In numeric order: a row is found by its index.
signals! {
    HUP SIGHUP [] Terminate "terminal closed; many daemons reload their configuration";
    INT SIGINT [] Terminate "interrupt from the keyboard, Ctrl-C";
    QUIT SIGQUIT [] Core "quit from the keyboard, Ctrl-\\; some servers stop gracefully";
    ILL SIGILL [] Core "illegal instruction";
    TRAP SIGTRAP [] Core "breakpoint or trace trap";
    ABRT SIGABRT ["IOT"] Core "abort(3)";
    BUS SIGBUS [] Core "bus error";
    FPE SIGFPE [] Core "arithmetic error";
    KILL SIGKILL [] Terminate "force kill; cannot be caught";
    USR1 SIGUSR1 [] Terminate "user-defined";
    SEGV SIGSEGV [] Core "segmentation fault";
    USR2 SIGUSR2 [] Terminate "user-defined";
    PIPE SIGPIPE [] Terminate "write to a pipe without readers";
    ALRM SIGALRM [] Terminate "alarm(2) expired";
    TERM SIGTERM [] Terminate "ask to terminate";
    STKFLT SIGSTKFLT [] Terminate "coprocessor stack fault; unused";
    CHLD SIGCHLD ["CLD"] Ignore "a child stopped or exited";
    CONT SIGCONT [] Continue "continue if stopped";
    STOP SIGSTOP [] Stop "stop; cannot be caught";
    TSTP SIGTSTP [] Stop "stop from the terminal, Ctrl-Z";
    TTIN SIGTTIN [] Stop "terminal read by a background process";
    TTOU SIGTTOU [] Stop "terminal write by a background process";
    URG SIGURG [] Ignore "urgent data on a socket; Go sends it to itself for preemption";
    XCPU SIGXCPU [] Core "CPU time limit exceeded";
    XFSZ SIGXFSZ [] Core "file size limit exceeded";
    VTALRM SIGVTALRM [] Terminate "virtual timer expired";
    PROF SIGPROF [] Terminate "profiling timer expired";
    WINCH SIGWINCH [] Ignore "terminal size changed; some servers stop gracefully";
    IO SIGIO ["POLL"] Terminate "input or output is possible";
    PWR SIGPWR [] Terminate "power failure; LXC containers shut down";
    SYS SIGSYS ["UNUSED"] Core "bad system call, or refused by seccomp";
}

// On an architecture that numbers signals differently the build fails rather than name them wrongly.
const _: () = {
    let mut row = 0;
    while row < SIGNALS.len() {
        assert!(SIGNALS[row].number == row as i32 + 1);
        row += 1;
    }
};

impl SignalEntry {
    /// Iterates over the name and the aliases.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

impl Signal {
    /// Returns the name without `SIG`: `TERM`, `RTMIN`, `RTMIN+3`, `RT32`. [`Signal::parse`] accepts
    /// it.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// Returns a short phrase that describes the signal.
    pub fn describe(self) -> &'static str {
        match self {
            Self::RT32 => "internal to glibc: cancels threads",
            Self::RT33 => "internal to glibc: changes the user of all threads",
            _ => self.entry().map_or("real-time, user-defined", |row| row.description),
        }
    }

    /// Returns the kernel's default action (signal(7)).
    pub fn default_action(self) -> DefaultAction {
        self.entry().map_or(DefaultAction::Terminate, |row| row.default)
    }

    /// Returns the row of a standard signal.
    pub(super) fn entry(self) -> Option<&'static SignalEntry> {
        SIGNALS.get(usize::from(self.0) - 1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.entry(), self.0) {
            (Some(row), _) => f.pad(row.name),
            (None, number @ ..=33) => f.pad(&format!("RT{number}")),
            (None, 34) => f.pad("RTMIN"),
            (None, number) => f.pad(&format!("RTMIN+{}", number - Self::RTMIN.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers_with(action: DefaultAction) -> Vec<i32> {
        let signals = Signal::all().filter(|signal| signal.default_action() == action);
        signals.map(Signal::number).collect()
    }

    #[test]
    fn table_is_in_order_and_its_names_are_unique() {
        let mut spellings: Vec<_> = SIGNALS.iter().flat_map(SignalEntry::spellings).collect();
        let count = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!(spellings.len(), count);
        let good = |text: &str| !text.is_empty() && !text.ends_with('.');
        assert!(SIGNALS.iter().all(|row| good(row.description)));
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
    fn default_actions_are_those_of_signal_7() {
        assert_eq!(numbers_with(DefaultAction::Ignore), [17, 23, 28]);
        assert_eq!(numbers_with(DefaultAction::Stop), [19, 20, 21, 22]);
        assert_eq!(numbers_with(DefaultAction::Continue), [18]);
        assert_eq!(numbers_with(DefaultAction::Core), [3, 4, 5, 6, 7, 8, 11, 24, 25, 31]);
    }
}
