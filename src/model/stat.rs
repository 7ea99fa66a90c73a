//! `/proc/PID/stat` of a process, or of one thread (`task/TID/stat`). Parsed as bytes: a process
//! can choose any name. Never reads a file.

use super::bytes::{ParseError, decimal, signed};
use super::pid::Ticks;

/// State of a process or thread, as a letter (proc_pid_stat(5)): R running, S sleeping, D waiting
/// uninterruptibly, T stopped, t traced, Z zombie, X dead, P parked, I idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessState(u8);

impl ProcessState {
    /// Sleeping, until something happens.
    pub const SLEEPING: Self = Self(b'S');

    pub(super) fn parse(field: &[u8]) -> Option<Self> {
        match *field {
            [letter] if letter.is_ascii_alphabetic() => Some(Self(letter)),
            _ => None,
        }
    }

    /// Returns the letter.
    pub fn letter(self) -> char {
        char::from(self.0)
    }

    /// Whether it has exited and was not reaped (Z), or is being removed (X). A main thread is a zombie
    /// also while other threads of its process run: see [`Stat::has_exited`].
    pub fn is_zombie(self) -> bool {
        matches!(self.0, b'Z' | b'X' | b'x')
    }

    /// Whether a signal has stopped it (T).
    pub fn is_stopped(self) -> bool {
        self.0 == b'T'
    }

    /// Whether its tracer has stopped it (t).
    pub fn is_traced(self) -> bool {
        self.0 == b't'
    }

    /// Whether it waits and cannot be interrupted (D): for a device or a file system, or frozen by
    /// a v1 freezer.
    pub fn is_uninterruptible(self) -> bool {
        self.0 == b'D'
    }
}

/// `/proc/PID/stat` (proc_pid_stat(5), fs/proc/array.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// PID in the namespace of that `/proc`; in a thread's file the TID.
    pub pid: i32,
    /// Name, given by the kernel or by the process itself (PR_SET_NAME), raw: any bytes but NUL. A
    /// kernel thread's may be longer than 15 bytes.
    pub comm: Vec<u8>,
    /// State.
    pub state: ProcessState,
    /// PID of the parent; 0 if it is outside the namespace.
    pub ppid: i32,
    /// Process group; 0 if it was created outside the namespace.
    pub pgrp: i32,
    /// Session; 0 if it was created outside the namespace.
    pub session: i32,
    /// Controlling terminal as a device number; 0 for none.
    pub tty_nr: i32,
    /// Foreground process group of that terminal; -1 for none.
    pub tpgid: i32,
    /// Kernel flags, `PF_*` of include/linux/sched.h.
    pub flags: u32,
    /// Time in user mode, clock ticks.
    pub utime: u64,
    /// Time in kernel mode, clock ticks.
    pub stime: u64,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Threads of the process; 0 in a zombie that is being removed.
    pub num_threads: u32,
    /// Start time.
    pub start: Ticks,
}

const fn missing(field: &'static str) -> ParseError {
    ParseError { file: "stat", field }
}

impl Stat {
    /// Parses the file. The name is between the first `(` and the last `)`, and may itself
    /// contain both, spaces and newlines; all fields after the last are numbers.
    ///
    /// ```text
    /// 812 (a) R 1 1\n(b) S 1 812 812 0 -1 4194560 165 0 0 0 3 1 0 0 20 0 1 0 201973 3133440 …
    /// ```
    ///
    /// # Errors
    /// [`ParseError`], with the name of the field as in proc_pid_stat(5).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let open = bytes.iter().position(|b| *b == b'(').ok_or(missing("comm"))?;
        let close = bytes.iter().rposition(|b| *b == b')').ok_or(missing("comm"))?;
        let comm = bytes.get(open + 1..close).ok_or(missing("comm"))?.to_vec();
        let pid = bytes[..open].strip_suffix(b" ").and_then(decimal).ok_or(missing("pid"))?;

        let mut rest = bytes[close + 1..].strip_prefix(b" ").ok_or(missing("state"))?;
        let mut next = || {
            let end = rest.iter().position(|b| matches!(b, b' ' | b'\n')).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            field
        };
        let state = ProcessState::parse(next()).ok_or(missing("state"))?;
        let ppid = signed(next()).ok_or(missing("ppid"))?;
        let pgrp = signed(next()).ok_or(missing("pgrp"))?;
        let session = signed(next()).ok_or(missing("session"))?;
        let tty_nr = signed(next()).ok_or(missing("tty_nr"))?;
        let tpgid = signed(next()).ok_or(missing("tpgid"))?;
        let flags = decimal(next()).ok_or(missing("flags"))?;
        for _page_faults in 10..=13 {
            next();
        }
        let utime = decimal(next()).ok_or(missing("utime"))?;
        let stime = decimal(next()).ok_or(missing("stime"))?;
        for _children_times_and_priority in 16..=18 {
            next();
        }
        let nice = signed(next()).ok_or(missing("nice"))?;
        let num_threads = decimal(next()).ok_or(missing("num_threads"))?;
        let _itrealvalue = next();
        let start = decimal(next()).map(Ticks).ok_or(missing("starttime"))?;
        Ok(Self {
            pid,
            comm,
            state,
            ppid,
            pgrp,
            session,
            tty_nr,
            tpgid,
            flags,
            utime,
            stime,
            nice,
            num_threads,
            start,
        })
    }

    /// Whether the whole process has exited: a zombie without other threads that still run.
    pub fn has_exited(&self) -> bool {
        self.state.is_zombie() && self.num_threads <= 1
    }

    /// Whether it is a kernel thread (`PF_KTHREAD`, include/linux/sched.h). An empty command line does
    /// not show that: a process can arrange for one.
    pub fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it has executed a program since it was forked (`PF_FORKNOEXEC`, include/linux/sched.h).
    pub fn has_executed(&self) -> bool {
        const PF_FORKNOEXEC: u32 = 0x0000_0040;
        self.flags & PF_FORKNOEXEC == 0
    }

    /// Whether the whole process is exiting (`PF_EXITING`), not its main thread alone.
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 0x0000_0004;
        self.flags & PF_EXITING != 0 && !(self.state.is_zombie() && self.num_threads > 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "812 (COMM) S 1 811 810 34816 -1 4194560 165 0 0 0 3 1 0 0 20 -5 7 0 201973 \
        3133440 384 18446744073709551615 1 1 0 0 0 0 0 4096 65536 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn parses_a_process() {
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.pgrp, stat.session), (812, 1, 811, 810));
        assert_eq!((stat.tty_nr, stat.tpgid, stat.flags), (34816, -1, 4194560));
        assert_eq!((stat.utime, stat.stime, stat.nice, stat.num_threads), (3, 1, -5, 7));
        assert_eq!((stat.start, stat.state.letter()), (Ticks(201973), 'S'));
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn parses_a_hostile_name() {
        for name in ["a) R 1 1\n(b", ")", "(", "", "x) Z 0 0 0 0 0 0 0"] {
            let stat = Stat::parse(STAT.replace("COMM", name).as_bytes()).unwrap();
            assert_eq!(stat.comm, name.as_bytes());
            assert_eq!((stat.ppid, stat.start), (1, Ticks(201973)));
            assert_eq!(stat.state.letter(), 'S');
        }
    }

    #[test]
    fn a_kernel_thread_has_its_flag() {
        let kworker =
            b"12 (kworker/u8:0-events) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 6 0 0";
        assert!(Stat::parse(kworker).unwrap().is_kernel_thread());
    }

    #[test]
    fn a_zombie_with_running_threads_has_not_exited() {
        let zombie = |threads: &str| {
            let text = STAT.replace(") S ", ") Z ").replace("-5 7 0", &format!("-5 {threads} 0"));
            Stat::parse(text.as_bytes()).unwrap()
        };
        assert!(zombie("1").has_exited() && zombie("0").has_exited());
        assert!(!zombie("2").has_exited());
        assert!(!Stat::parse(STAT.as_bytes()).unwrap().has_exited());
    }

    #[test]
    fn a_cut_file_names_the_missing_field() {
        for (bytes, field) in [
            ("", "comm"),
            ("1 )(", "comm"),
            ("1 (", "comm"),
            ("x (a) S", "pid"),
            ("1 (a)", "state"),
            ("1 (a) S", "ppid"),
            ("1 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 ", "starttime"),
        ] {
            assert_eq!(Stat::parse(bytes.as_bytes()), Err(missing(field)));
        }
        assert_eq!(missing("comm").to_string(), "no readable `comm` in `stat`");
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, text in "[0-9() SZ\n-]{0,200}") {
            let _ = (Stat::parse(&bytes), Stat::parse(text.as_bytes()));
        }

        #[test]
        fn a_damaged_file_does_not_panic(index in 0..STAT.len(), byte: u8, cut in 0..STAT.len()) {
            let mut bytes = STAT.as_bytes().to_vec();
            bytes[index] = byte;
            let _ = (Stat::parse(&bytes), Stat::parse(&bytes[..cut]));
        }

        #[test]
        fn any_name_and_number_is_parsed_back(comm: Vec<u8>, ppid: i32, start: u64, flags: u32) {
            let mut bytes = b"1 (".to_vec();
            bytes.extend(&comm);
            let rest = format!(") S {ppid} 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0");
            bytes.extend(rest.bytes());
            let stat = Stat::parse(&bytes).unwrap();
            prop_assert_eq!((stat.comm, stat.ppid), (comm, ppid));
            prop_assert_eq!((stat.start, stat.flags), (Ticks(start), flags));
        }
    }
}
