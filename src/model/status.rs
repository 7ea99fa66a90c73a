//! `/proc/PID/stat` and `/proc/PID/status`, of a process or of one thread (`task/TID/…`), parsed
//! as bytes: a process names itself as it likes. Also how the kernel spells numbers in all its
//! files, and the error of a file that is not spelt as known. Never reads a file.

use super::pid::Ticks;
use super::signal::SignalSet;

/// A kernel file that is not as the kernel writes it: cut off, or of a kernel we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no readable `{field}` in `{file}`")]
pub struct ParseError {
    /// The file, without its directory: `status`.
    pub file: &'static str,
    /// The field, as the kernel or its man page calls it: `SigCgt`.
    pub field: &'static str,
}

/// What a process or thread is doing, as a letter (proc_pid_stat(5)): R running, S sleeping, D
/// waiting uninterruptibly, T stopped, t traced, Z zombie, X dead, P parked, I idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessState(u8);

impl ProcessState {
    fn parse(field: &[u8]) -> Option<Self> {
        match *field {
            [letter] if letter.is_ascii_alphabetic() => Some(Self(letter)),
            _ => None,
        }
    }

    /// The letter.
    pub fn letter(self) -> char {
        char::from(self.0)
    }

    /// Whether it has ended and waits for its parent to ask (Z), or is all but gone (X). A main
    /// thread is a zombie also while other threads of its process live on.
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
    /// Its number in the namespace of that `/proc`; in a thread's file the thread's.
    pub pid: i32,
    /// The name it has, or gave itself (PR_SET_NAME), as it is: any bytes but NUL. A kernel
    /// thread's may be longer than 15 bytes.
    pub comm: Vec<u8>,
    /// What it is doing.
    pub state: ProcessState,
    /// Its parent; 0 when that is outside the namespace.
    pub ppid: i32,
    /// Its process group; 0 when that was made outside the namespace.
    pub pgrp: i32,
    /// Its session; 0 when that was made outside the namespace.
    pub session: i32,
    /// Its controlling terminal as a device number; 0 for none.
    pub tty_nr: i32,
    /// The foreground process group of that terminal; -1 for none.
    pub tpgid: i32,
    /// The kernel's flags, `PF_*` of include/linux/sched.h.
    pub flags: u32,
    /// Time in user mode, clock ticks.
    pub utime: u64,
    /// Time in kernel mode, clock ticks.
    pub stime: u64,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Threads of its process; 0 in a zombie that is all but gone.
    pub num_threads: u32,
    /// When it started.
    pub start: Ticks,
    /// Resident memory, pages; a little behind the truth (proc_pid_stat(5)).
    pub rss: u64,
}

impl Stat {
    /// Parses the file. The name stands raw between the first `(` and the last `)`, and may itself
    /// hold both, spaces and newlines; what follows the last is numbers.
    ///
    /// ```text
    /// 812 (a) R 1 1\n(b) S 1 812 812 0 -1 4194560 165 0 0 0 3 1 0 0 20 0 1 0 201973 3133440 …
    /// ```
    ///
    /// # Errors
    /// [`ParseError`], with the name of the field as in proc_pid_stat(5).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const fn broken(field: &'static str) -> ParseError {
            ParseError { file: "stat", field }
        }
        let open = bytes.iter().position(|b| *b == b'(').ok_or(broken("comm"))?;
        let close = bytes.iter().rposition(|b| *b == b')').ok_or(broken("comm"))?;
        let comm = bytes.get(open + 1..close).ok_or(broken("comm"))?.to_vec();
        let pid = bytes[..open].strip_suffix(b" ").and_then(decimal).ok_or(broken("pid"))?;

        let mut rest = bytes[close + 1..].strip_prefix(b" ").ok_or(broken("state"))?;
        let mut next = || {
            let end = rest.iter().position(|b| matches!(b, b' ' | b'\n')).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            field
        };
        let state = ProcessState::parse(next()).ok_or(broken("state"))?;
        let ppid = signed(next()).ok_or(broken("ppid"))?;
        let pgrp = signed(next()).ok_or(broken("pgrp"))?;
        let session = signed(next()).ok_or(broken("session"))?;
        let tty_nr = signed(next()).ok_or(broken("tty_nr"))?;
        let tpgid = signed(next()).ok_or(broken("tpgid"))?;
        let flags = decimal(next()).ok_or(broken("flags"))?;
        for _page_faults in 10..=13 {
            next();
        }
        let utime = decimal(next()).ok_or(broken("utime"))?;
        let stime = decimal(next()).ok_or(broken("stime"))?;
        for _of_children_and_priority in 16..=18 {
            next();
        }
        let nice = signed(next()).ok_or(broken("nice"))?;
        let num_threads = decimal(next()).ok_or(broken("num_threads"))?;
        let _itrealvalue = next();
        let start = decimal(next()).map(Ticks).ok_or(broken("starttime"))?;
        let _vsize = next();
        let rss = decimal(next()).ok_or(broken("rss"))?;
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
            rss,
        })
    }

    /// Whether it is a thread of the kernel (`PF_KTHREAD`, include/linux/sched.h). An empty command
    /// line does not tell: a process can arrange for one.
    pub fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it is on its way out (`PF_EXITING`): all of it, not its main thread alone.
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 0x0000_0004;
        self.flags & PF_EXITING != 0 && !(self.state.is_zombie() && self.num_threads > 1)
    }
}

/// Signals queued for the processes of one user, and how many may be (line `SigQ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalQueue {
    /// Queued now, over all processes of the real user id.
    pub queued: u64,
    /// `RLIMIT_SIGPENDING` of this process; `u64::MAX` for no limit.
    pub limit: u64,
}

/// `/proc/PID/status` (proc_pid_status(5), fs/proc/array.c). Numbers of users are as seen from our
/// user namespace, numbers of processes as in the namespace of that `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: ProcessState,
    /// The process, which is the number of its main thread.
    pub tgid: i32,
    /// The thread; the process in the process's own file.
    pub pid: i32,
    /// Its parent; 0 when that is outside the namespace.
    pub ppid: i32,
    /// Who traces it; 0 for nobody.
    pub tracer_pid: i32,
    /// User ids: real, effective, saved, file system.
    pub uid: [u32; 4],
    /// Group ids: real, effective, saved, file system.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The number of the process in each PID namespace, from that of `/proc` inwards; before Linux
    /// 4.1 the first alone.
    pub nstgid: Vec<i32>,
    /// The number of the thread in each PID namespace; before Linux 4.1 the first alone.
    pub nspid: Vec<i32>,
    /// Its process group in each PID namespace; empty before Linux 4.1.
    pub nspgid: Vec<i32>,
    /// Its session in each PID namespace; empty before Linux 4.1.
    pub nssid: Vec<i32>,
    /// Threads of its process; 0 in a zombie that is all but gone.
    pub threads: u32,
    /// Resident memory, bytes; none without memory of its own (zombies, kernel threads).
    pub vm_rss: Option<u64>,
    /// Signals queued for its user.
    pub sigq: Option<SignalQueue>,
    /// Signals pending for this thread.
    pub sig_pnd: SignalSet,
    /// Signals pending for the process as a whole.
    pub shd_pnd: SignalSet,
    /// Signals that this thread blocks. While it is in sigtimedwait(2) those that it waits for are
    /// left out.
    pub sig_blk: SignalSet,
    /// Signals that the process ignores by choice (`SIG_IGN`).
    pub sig_ign: SignalSet,
    /// Signals for which the process has a handler.
    pub sig_cgt: SignalSet,
    /// Inheritable capabilities, bit n for capability n, as in the four below.
    pub cap_inh: u64,
    /// Permitted capabilities.
    pub cap_prm: u64,
    /// Effective capabilities.
    pub cap_eff: u64,
    /// Capability bounding set.
    pub cap_bnd: u64,
    /// Ambient capabilities; none before Linux 4.3.
    pub cap_amb: u64,
    /// `no_new_privs`; since Linux 4.10.
    pub no_new_privs: Option<bool>,
    /// Seccomp: 0 off, 1 strict, 2 filter.
    pub seccomp: Option<u8>,
    /// Number of seccomp filters; since Linux 5.9.
    pub seccomp_filters: Option<u32>,
    /// Whether it is a thread of the kernel; since Linux 6.8.
    pub kthread: Option<bool>,
    /// The umask; since Linux 4.7, and none in a zombie.
    pub umask: Option<u32>,
}

impl Status {
    /// Parses the file. Only `Name`, the first line, is the process's to choose, and the kernel
    /// writes its newlines and backslashes escaped (`proc_task_name`), so it stays one line. Should
    /// a key come twice all the same, the later counts: the kernel's own come after the name.
    ///
    /// ```text
    /// Name:   evil\nSigCgt:
    /// State:  S (sleeping)
    /// Tgid:   812
    /// Uid:    1000    1000    1000    1000
    /// NSpid:  812     1
    /// SigCgt: 0000000000014002
    /// ```
    ///
    /// # Errors
    /// [`ParseError`] when a line that every kernel writes is missing, or a list cannot be read. Other
    /// lines that cannot be read count as not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const fn broken(field: &'static str) -> ParseError {
            ParseError { file: "status", field }
        }
        let mut state = None;
        let (mut tgid, mut pid, mut ppid, mut tracer_pid) = (None, None, None, None);
        let (mut uid, mut gid, mut groups) = (None, None, Some(Vec::new()));
        let (mut nstgid, mut nspid) = (Some(Vec::new()), Some(Vec::new()));
        let (mut nspgid, mut nssid) = (Some(Vec::new()), Some(Vec::new()));
        let (mut threads, mut vm_rss, mut sigq) = (None, None, None);
        let (mut sig_pnd, mut shd_pnd, mut sig_blk) = (None, None, None);
        let (mut sig_ign, mut sig_cgt) = (None, None);
        let (mut cap_inh, mut cap_prm, mut cap_eff, mut cap_bnd) = (None, None, None, None);
        let (mut cap_amb, mut no_new_privs, mut kthread) = (None, None, None);
        let (mut seccomp, mut seccomp_filters, mut umask) = (None, None, None);

        for line in bytes.split(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let value = line[colon + 1..].trim_ascii();
            match &line[..colon] {
                b"State" => state = value.get(..1).and_then(ProcessState::parse),
                b"Tgid" => tgid = decimal(value),
                b"Pid" => pid = decimal(value),
                b"PPid" => ppid = decimal(value),
                b"TracerPid" => tracer_pid = decimal(value),
                b"Uid" => uid = four(value),
                b"Gid" => gid = four(value),
                b"Groups" => groups = list(value),
                b"NStgid" => nstgid = list(value),
                b"NSpid" => nspid = list(value),
                b"NSpgid" => nspgid = list(value),
                b"NSsid" => nssid = list(value),
                b"Threads" => threads = decimal(value),
                b"VmRSS" => vm_rss = kilobytes(value),
                b"SigQ" => sigq = queue(value),
                b"SigPnd" => sig_pnd = SignalSet::from_hex(value),
                b"ShdPnd" => shd_pnd = SignalSet::from_hex(value),
                b"SigBlk" => sig_blk = SignalSet::from_hex(value),
                b"SigIgn" => sig_ign = SignalSet::from_hex(value),
                b"SigCgt" => sig_cgt = SignalSet::from_hex(value),
                b"CapInh" => cap_inh = mask(value),
                b"CapPrm" => cap_prm = mask(value),
                b"CapEff" => cap_eff = mask(value),
                b"CapBnd" => cap_bnd = mask(value),
                b"CapAmb" => cap_amb = mask(value),
                b"NoNewPrivs" => no_new_privs = flag(value),
                b"Seccomp" => seccomp = decimal(value),
                b"Seccomp_filters" => seccomp_filters = decimal(value),
                b"Kthread" => kthread = flag(value),
                b"Umask" => umask = octal(value),
                _ => {}
            }
        }

        let tgid = tgid.ok_or(broken("Tgid"))?;
        let pid = pid.ok_or(broken("Pid"))?;
        let or_first = |list: Vec<i32>, first| if list.is_empty() { vec![first] } else { list };
        Ok(Self {
            state: state.ok_or(broken("State"))?,
            tgid,
            pid,
            ppid: ppid.ok_or(broken("PPid"))?,
            tracer_pid: tracer_pid.ok_or(broken("TracerPid"))?,
            uid: uid.ok_or(broken("Uid"))?,
            gid: gid.ok_or(broken("Gid"))?,
            groups: groups.ok_or(broken("Groups"))?,
            nstgid: or_first(nstgid.ok_or(broken("NStgid"))?, tgid),
            nspid: or_first(nspid.ok_or(broken("NSpid"))?, pid),
            nspgid: nspgid.ok_or(broken("NSpgid"))?,
            nssid: nssid.ok_or(broken("NSsid"))?,
            threads: threads.ok_or(broken("Threads"))?,
            vm_rss,
            sigq,
            sig_pnd: sig_pnd.ok_or(broken("SigPnd"))?,
            shd_pnd: shd_pnd.ok_or(broken("ShdPnd"))?,
            sig_blk: sig_blk.ok_or(broken("SigBlk"))?,
            sig_ign: sig_ign.ok_or(broken("SigIgn"))?,
            sig_cgt: sig_cgt.ok_or(broken("SigCgt"))?,
            cap_inh: cap_inh.ok_or(broken("CapInh"))?,
            cap_prm: cap_prm.ok_or(broken("CapPrm"))?,
            cap_eff: cap_eff.ok_or(broken("CapEff"))?,
            cap_bnd: cap_bnd.ok_or(broken("CapBnd"))?,
            cap_amb: cap_amb.unwrap_or(0),
            no_new_privs,
            seccomp,
            seccomp_filters,
            kthread,
            umask,
        })
    }
}

/// A number in decimal digits and nothing else, if the type holds it.
pub(super) fn decimal<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        let ones = digit.wrapping_sub(b'0');
        if ones > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(ones))?;
    }
    T::try_from(number).ok()
}

/// The words of a line between spaces and tabs.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

fn signed(field: &[u8]) -> Option<i32> {
    let number = match field.strip_prefix(b"-") {
        Some(digits) => -decimal::<i64>(digits)?,
        None => decimal::<i64>(field)?,
    };
    i32::try_from(number).ok()
}

fn octal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | u32::from(digit - b'0')),
        _ => None,
    })
}

fn mask(digits: &[u8]) -> Option<u64> {
    SignalSet::from_hex(digits).map(|bits| bits.0)
}

fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

fn four(value: &[u8]) -> Option<[u32; 4]> {
    let mut ids = [0; 4];
    let mut words = words(value);
    for id in &mut ids {
        *id = decimal(words.next()?)?;
    }
    words.next().is_none().then_some(ids)
}

fn list<T: TryFrom<u64>>(value: &[u8]) -> Option<Vec<T>> {
    words(value).map(decimal).collect()
}

fn kilobytes(value: &[u8]) -> Option<u64> {
    decimal::<u64>(value.strip_suffix(b" kB")?)?.checked_mul(1024)
}

fn queue(value: &[u8]) -> Option<SignalQueue> {
    let slash = value.iter().position(|b| *b == b'/')?;
    let (queued, limit) = (decimal(&value[..slash])?, decimal(&value[slash + 1..])?);
    Some(SignalQueue { queued, limit })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::signal::Signal;

    const STAT: &str = "812 (COMM) S 1 811 810 34816 -1 4194560 165 0 0 0 3 1 0 0 20 -5 7 0 201973 \
        3133440 384 18446744073709551615 1 1 0 0 0 0 0 4096 65536 0 0 0 17 1 0 0 0 0 0\n";

    const STATUS: &str = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t812\nNgid:\t0\n\
        Pid:\t814\nPPid:\t7\nTracerPid:\t0\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\n\
        FDSize:\t64\nGroups:\t4 24 1000 \nNStgid:\t812\t1\nNSpid:\t814\t3\nNSpgid:\t812\t1\n\
        NSsid:\t0\t1\nKthread:\t0\nVmPeak:\t   9060 kB\nVmRSS:\t   1712 kB\nThreads:\t2\n\
        SigQ:\t3/96365\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000200\n\
        SigBlk:\t0000000000010000\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000014002\n\
        CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
        CapBnd:\t000001fffeffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t1\nCpus_allowed_list:\t0-1\n";

    #[test]
    fn stat_of_a_plain_process() {
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.pgrp, stat.session), (812, 1, 811, 810));
        assert_eq!((stat.tty_nr, stat.tpgid, stat.flags), (34816, -1, 4194560));
        assert_eq!((stat.utime, stat.stime, stat.nice, stat.num_threads), (3, 1, -5, 7));
        assert_eq!((stat.start, stat.rss, stat.state.letter()), (Ticks(201973), 384, 'S'));
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn stat_of_a_hostile_name() {
        for name in ["a) R 1 1\n(b", ")", "(", "", "x) Z 0 0 0 0 0 0 0"] {
            let stat = Stat::parse(STAT.replace("COMM", name).as_bytes()).unwrap();
            assert_eq!(stat.comm, name.as_bytes());
            assert_eq!((stat.ppid, stat.start), (1, Ticks(201973)));
            assert_eq!(stat.state.letter(), 'S');
        }
    }

    #[test]
    fn a_kernel_thread_is_told_by_its_flag() {
        let kworker =
            b"12 (kworker/u8:0-events) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 6 0 0";
        assert!(Stat::parse(kworker).unwrap().is_kernel_thread());
    }

    #[test]
    fn stat_that_is_cut_off_names_what_is_missing() {
        for (bytes, field) in [
            ("", "comm"),
            ("1 )(", "comm"),
            ("1 (", "comm"),
            ("x (a) S", "pid"),
            ("1 (a)", "state"),
            ("1 (a) S", "ppid"),
            ("1 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 ", "starttime"),
        ] {
            assert_eq!(Stat::parse(bytes.as_bytes()), Err(ParseError { file: "stat", field }));
        }
        let broken = ParseError { file: "stat", field: "comm" };
        assert_eq!(broken.to_string(), "no readable `comm` in `stat`");
    }

    #[test]
    fn status_of_a_thread() {
        let status = Status::parse(STATUS.as_bytes()).unwrap();
        assert_eq!((status.tgid, status.pid, status.ppid, status.tracer_pid), (812, 814, 7, 0));
        assert_eq!((status.uid, status.gid), ([1000, 1001, 1002, 1003], [5, 6, 7, 8]));
        assert_eq!(status.groups, [4, 24, 1000]);
        assert_eq!((status.nstgid, status.nspid), (vec![812, 1], vec![814, 3]));
        assert_eq!((status.nspgid, status.nssid), (vec![812, 1], vec![0, 1]));
        assert_eq!((status.threads, status.vm_rss), (2, Some(1712 * 1024)));
        assert_eq!(status.sigq, Some(SignalQueue { queued: 3, limit: 96365 }));
        assert_eq!(status.sig_pnd, SignalSet::from_iter([Signal::HUP]));
        assert_eq!(status.shd_pnd, SignalSet::from_iter([Signal::USR1]));
        assert_eq!(status.sig_blk, SignalSet::from_iter([Signal::CHLD]));
        assert_eq!(status.sig_ign, SignalSet::from_iter([Signal::QUIT]));
        assert_eq!(status.sig_cgt.names(), ["INT", "TERM", "CHLD"]);
        assert_eq!((status.cap_inh, status.cap_amb), (0, 0));
        assert_eq!((status.cap_prm, status.cap_eff), (0xa804_25fb, 0xa804_25fb));
        assert_eq!(status.cap_bnd, 0x01ff_feff_ffff);
        assert_eq!((status.no_new_privs, status.kthread), (Some(true), Some(false)));
        assert_eq!((status.seccomp, status.seccomp_filters), (Some(2), Some(1)));
        assert_eq!((status.umask, status.state.letter()), (Some(0o22), 'S'));
    }

    #[test]
    fn a_name_forges_no_line() {
        // What Linux 6.18 printed for a process that called itself "x\nPid:\t1\nA" by PR_SET_NAME.
        for name in [&b"x\\nPid:\t1\\nA"[..], b"Tgid:\t1", b"a:b", b"bad\xff:x", b":", b""] {
            let mut bytes = [b"Name:\t", name].concat();
            bytes.extend(&STATUS.as_bytes()["Name:\tsh".len()..]);
            assert_eq!(Status::parse(&bytes), Status::parse(STATUS.as_bytes()));
        }
        // And if one could, the kernel's own lines come later.
        let forged = STATUS.replacen("sh\n", "sh\nPid:\t1\nSigCgt:\t0\nGroups:\t0\n", 1);
        assert_eq!(Status::parse(forged.as_bytes()), Status::parse(STATUS.as_bytes()));
    }

    #[test]
    fn status_without_the_lines_of_newer_kernels() {
        let newer = ["Umask", "NS", "Kthread", "CapAmb", "NoNewPrivs", "Seccomp", "VmRSS", "SigQ"];
        let old: String = STATUS
            .split_inclusive('\n')
            .filter(|line| !newer.iter().any(|key| line.starts_with(key)))
            .collect();
        let status = Status::parse(old.as_bytes()).unwrap();
        assert_eq!((status.nstgid, status.nspid), (vec![812], vec![814]));
        assert!(status.nspgid.is_empty() && status.nssid.is_empty());
        assert_eq!((status.umask, status.kthread, status.no_new_privs), (None, None, None));
        assert_eq!((status.seccomp, status.seccomp_filters), (None, None));
        assert_eq!((status.vm_rss, status.sigq, status.cap_amb), (None, None, 0));
    }

    #[test]
    fn status_without_a_line_it_must_have_is_broken() {
        for field in [
            "State",
            "Tgid",
            "Pid",
            "PPid",
            "TracerPid",
            "Uid",
            "Gid",
            "Threads",
            "SigPnd",
            "ShdPnd",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
        ] {
            let broken = ParseError { file: "status", field };
            let without = STATUS.replace(&format!("\n{field}:"), "\nOther:");
            assert_eq!(Status::parse(without.as_bytes()), Err(broken));
            let odd = STATUS.replace(&format!("\n{field}:\t"), &format!("\n{field}:\t?"));
            assert_eq!(Status::parse(odd.as_bytes()), Err(broken));
        }
        for list in ["Groups", "NSpid"] {
            let odd = STATUS.replace(&format!("\n{list}:\t"), &format!("\n{list}:\t-1 "));
            assert_eq!(Status::parse(odd.as_bytes()).unwrap_err().field, list);
        }
    }

    #[test]
    fn the_most_groups_there_can_be() {
        let many: String = (0..65536).map(|gid| format!("{gid} ")).collect();
        let bytes = STATUS.replace("4 24 1000 ", &many);
        assert_eq!(Status::parse(bytes.as_bytes()).unwrap().groups.len(), 65536);
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(decimal::<u64>(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal::<u32>(b"4294967295"), Some(u32::MAX));
        assert_eq!(decimal::<u32>(b"4294967296"), None);
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"1x", b"18446744073709551616", b"\xff"] {
            assert_eq!(decimal::<u64>(bad), None);
        }
        assert_eq!(signed(b"-2147483648"), Some(i32::MIN));
        assert_eq!((signed(b"2147483648"), signed(b"--1"), signed(b"-")), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[0-9() SZ\n-]{0,200}") {
            let _ = (Stat::parse(&bytes), Status::parse(&bytes));
            let _ = Stat::parse(text.as_bytes());
        }

        #[test]
        fn no_damage_panics(at in 0..STATUS.len(), byte: u8, cut in 0..STATUS.len()) {
            let mut bytes = STATUS.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = (Status::parse(&bytes), Status::parse(&bytes[..cut]));
            let mut bytes = STAT.as_bytes().to_vec();
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = byte;
            let _ = (Stat::parse(&bytes), Stat::parse(&bytes[..cut]));
        }

        #[test]
        fn any_name_and_number_is_read_back(comm: Vec<u8>, ppid: i32, start: u64, flags: u32) {
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
