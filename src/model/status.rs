//! `/proc/PID/status` of a process, or of one thread (`task/TID/status`): credentials, masks, PIDs in
//! each namespace. Parsed as bytes, tolerant of missing newer lines. Never reads a file.

use memchr::memchr;

use super::bytes::{ParseError, decimal, flag, four, kilobytes, list, octal};
use super::signal::SignalSet;
use super::stat::ProcessState;

/// `/proc/PID/status` (proc_pid_status(5), fs/proc/array.c). User and group IDs are as seen from our
/// user namespace, PIDs as in the namespace of that `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// State.
    pub state: ProcessState,
    /// PID; in a thread's file the TID.
    pub pid: i32,
    /// PID of the parent; 0 if it is outside the namespace.
    pub ppid: i32,
    /// PID of the tracer; 0 for none.
    pub tracer_pid: i32,
    /// User IDs: real, effective, saved, file system.
    pub uid: [u32; 4],
    /// Group IDs: real, effective, saved, file system.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// PID in each PID namespace, from that of `/proc` inwards; in a thread's file the TID. Before
    /// Linux 4.1 the first alone.
    pub nspid: Vec<i32>,
    /// Process group in each PID namespace; empty before Linux 4.1.
    pub nspgid: Vec<i32>,
    /// Session in each PID namespace; empty before Linux 4.1.
    pub nssid: Vec<i32>,
    /// Threads of the process; 0 in a zombie that is being removed.
    pub threads: u32,
    /// Resident memory, bytes; none without memory of its own (zombies, kernel threads).
    pub vm_rss: Option<u64>,
    /// Signals pending for this thread.
    pub sig_pnd: SignalSet,
    /// Signals pending for the process as a whole.
    pub shd_pnd: SignalSet,
    /// Signals that this thread blocks. While it is in sigtimedwait(2), the signals that it waits for
    /// are left out.
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
    /// Ambient capabilities; empty before Linux 4.3.
    pub cap_amb: u64,
    /// `no_new_privs`; since Linux 4.10.
    pub no_new_privs: Option<bool>,
    /// Seccomp: 0 off, 1 strict, 2 filter.
    pub seccomp: Option<u8>,
    /// Number of seccomp filters; since Linux 5.9.
    pub seccomp_filters: Option<u32>,
    /// The umask; since Linux 4.7, and none in a zombie.
    pub umask: Option<u32>,
}

/// Defines the values of the lines that are parsed, each by its key.
macro_rules! lines {
    ($($field:ident $key:literal)*) => {
        #[derive(Default)]
        struct Lines<'a> {
            $($field: Option<&'a [u8]>,)*
        }

        impl<'a> Lines<'a> {
            /// Splits the file. If a key occurs twice the later line counts.
            fn split(bytes: &'a [u8]) -> Self {
                let mut lines = Self::default();
                let mut rest = bytes;
                while !rest.is_empty() {
                    let end = memchr(b'\n', rest).unwrap_or(rest.len());
                    let line = &rest[..end];
                    rest = rest.get(end + 1..).unwrap_or_default();
                    let Some(colon) = memchr(b':', line) else { continue };
                    let value = Some(line[colon + 1..].trim_ascii());
                    match &line[..colon] {
                        $($key => lines.$field = value,)*
                        _ => {}
                    }
                }
                lines
            }
        }
    };
}

lines! {
    state b"State"
    pid b"Pid"
    ppid b"PPid"
    tracer_pid b"TracerPid"
    uid b"Uid"
    gid b"Gid"
    groups b"Groups"
    nspid b"NSpid"
    nspgid b"NSpgid"
    nssid b"NSsid"
    threads b"Threads"
    vm_rss b"VmRSS"
    sig_pnd b"SigPnd"
    shd_pnd b"ShdPnd"
    sig_blk b"SigBlk"
    sig_ign b"SigIgn"
    sig_cgt b"SigCgt"
    cap_inh b"CapInh"
    cap_prm b"CapPrm"
    cap_eff b"CapEff"
    cap_bnd b"CapBnd"
    cap_amb b"CapAmb"
    no_new_privs b"NoNewPrivs"
    seccomp b"Seccomp"
    seccomp_filters b"Seccomp_filters"
    umask b"Umask"
}

impl Status {
    /// Parses the file. Only `Name`, the first line, is the process's to choose, and the kernel
    /// escapes newlines and backslashes in it (`proc_task_name`), so it stays one line. If a key
    /// occurs twice all the same, the later counts: the kernel's own follow the name.
    ///
    /// ```text
    /// Name:   evil\nSigCgt:
    /// State:  S (sleeping)
    /// Uid:    1000    1000    1000    1000
    /// NSpid:  812     1
    /// SigCgt: 0000000000014002
    /// ```
    ///
    /// # Errors
    /// [`ParseError`] if a line that every kernel writes is missing, or a list cannot be parsed. Other
    /// lines that cannot be parsed count as missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let lines = Lines::split(bytes);
        let pid = required("Pid", lines.pid, decimal)?;
        let nspid = optional_list("NSpid", lines.nspid)?;
        Ok(Self {
            state: required("State", lines.state, |value| ProcessState::parse(value.get(..1)?))?,
            pid,
            ppid: required("PPid", lines.ppid, decimal)?,
            tracer_pid: required("TracerPid", lines.tracer_pid, decimal)?,
            uid: required("Uid", lines.uid, four)?,
            gid: required("Gid", lines.gid, four)?,
            groups: optional_list("Groups", lines.groups)?,
            nspid: if nspid.is_empty() { vec![pid] } else { nspid },
            nspgid: optional_list("NSpgid", lines.nspgid)?,
            nssid: optional_list("NSsid", lines.nssid)?,
            threads: required("Threads", lines.threads, decimal)?,
            vm_rss: lines.vm_rss.and_then(kilobytes),
            sig_pnd: required("SigPnd", lines.sig_pnd, SignalSet::from_hex)?,
            shd_pnd: required("ShdPnd", lines.shd_pnd, SignalSet::from_hex)?,
            sig_blk: required("SigBlk", lines.sig_blk, SignalSet::from_hex)?,
            sig_ign: required("SigIgn", lines.sig_ign, SignalSet::from_hex)?,
            sig_cgt: required("SigCgt", lines.sig_cgt, SignalSet::from_hex)?,
            cap_inh: required("CapInh", lines.cap_inh, mask)?,
            cap_prm: required("CapPrm", lines.cap_prm, mask)?,
            cap_eff: required("CapEff", lines.cap_eff, mask)?,
            cap_bnd: required("CapBnd", lines.cap_bnd, mask)?,
            cap_amb: lines.cap_amb.and_then(mask).unwrap_or(0),
            no_new_privs: lines.no_new_privs.and_then(flag),
            seccomp: lines.seccomp.and_then(decimal),
            seccomp_filters: lines.seccomp_filters.and_then(decimal),
            umask: lines.umask.and_then(octal),
        })
    }

    /// Whether it is PID 1 of its own PID namespace, which the kernel protects from signals.
    pub fn is_namespace_init(&self) -> bool {
        self.nspid.last() == Some(&1)
    }
}

fn missing(field: &'static str) -> ParseError {
    ParseError { file: "status", field }
}

fn required<T>(
    key: &'static str,
    value: Option<&[u8]>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, ParseError> {
    value.and_then(parse).ok_or(missing(key))
}

/// Parses a list; a missing one is empty.
fn optional_list<T: TryFrom<u64>>(
    key: &'static str,
    value: Option<&[u8]>,
) -> Result<Vec<T>, ParseError> {
    value.map_or(Ok(Vec::new()), |value| list(value).ok_or(missing(key)))
}

fn mask(digits: &[u8]) -> Option<u64> {
    SignalSet::from_hex(digits).map(|bits| bits.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::signal::Signal;

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
    fn parses_a_thread() {
        let status = Status::parse(STATUS.as_bytes()).unwrap();
        assert_eq!((status.pid, status.ppid, status.tracer_pid), (814, 7, 0));
        assert_eq!((status.uid, status.gid), ([1000, 1001, 1002, 1003], [5, 6, 7, 8]));
        assert_eq!(status.groups, [4, 24, 1000]);
        assert_eq!(status.nspid, [814, 3]);
        assert_eq!((status.nspgid, status.nssid), (vec![812, 1], vec![0, 1]));
        assert_eq!((status.threads, status.vm_rss), (2, Some(1712 * 1024)));
        assert_eq!(status.sig_pnd, Signal::HUP.into());
        assert_eq!(status.shd_pnd, Signal::USR1.into());
        assert_eq!(status.sig_blk, Signal::CHLD.into());
        assert_eq!(status.sig_ign, Signal::QUIT.into());
        assert_eq!(status.sig_cgt.names(), ["INT", "TERM", "CHLD"]);
        assert_eq!((status.cap_inh, status.cap_amb), (0, 0));
        assert_eq!((status.cap_prm, status.cap_eff), (0xa804_25fb, 0xa804_25fb));
        assert_eq!(status.cap_bnd, 0x01ff_feff_ffff);
        assert_eq!(status.no_new_privs, Some(true));
        assert_eq!((status.seccomp, status.seccomp_filters), (Some(2), Some(1)));
        assert_eq!((status.umask, status.state.letter()), (Some(0o22), 'S'));
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        // As Linux 6.18 printed a process that named itself "x\nPid:\t1\nA" by PR_SET_NAME.
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
    fn parses_without_the_lines_of_newer_kernels() {
        let newer = ["Umask", "NS", "Kthread", "CapAmb", "NoNewPrivs", "Seccomp", "VmRSS", "SigQ"];
        let old: String = STATUS
            .split_inclusive('\n')
            .filter(|line| !newer.iter().any(|key| line.starts_with(key)))
            .collect();
        let status = Status::parse(old.as_bytes()).unwrap();
        assert_eq!(status.nspid, [814]);
        assert!(status.nspgid.is_empty() && status.nssid.is_empty());
        assert_eq!((status.umask, status.no_new_privs), (None, None));
        assert_eq!((status.seccomp, status.seccomp_filters), (None, None));
        assert_eq!((status.vm_rss, status.cap_amb), (None, 0));
    }

    #[test]
    fn a_missing_line_that_every_kernel_writes_is_an_error() {
        for field in [
            "State",
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
            let without = STATUS.replace(&format!("\n{field}:"), "\nOther:");
            assert_eq!(Status::parse(without.as_bytes()), Err(missing(field)));
            let odd = STATUS.replace(&format!("\n{field}:\t"), &format!("\n{field}:\t?"));
            assert_eq!(Status::parse(odd.as_bytes()), Err(missing(field)));
        }
        for list in ["Groups", "NSpid", "NSpgid", "NSsid"] {
            let odd = STATUS.replace(&format!("\n{list}:\t"), &format!("\n{list}:\t-1 "));
            assert_eq!(Status::parse(odd.as_bytes()), Err(missing(list)));
        }
    }

    #[test]
    fn parses_the_greatest_number_of_groups() {
        let many: String = (0..65536).map(|gid| format!("{gid} ")).collect();
        let bytes = STATUS.replace("4 24 1000 ", &many);
        assert_eq!(Status::parse(bytes.as_bytes()).unwrap().groups.len(), 65536);
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Status::parse(&bytes);
        }

        #[test]
        fn a_damaged_file_does_not_panic(
            index in 0..STATUS.len(),
            byte: u8,
            cut in 0..STATUS.len(),
        ) {
            let mut bytes = STATUS.as_bytes().to_vec();
            bytes[index] = byte;
            let _ = (Status::parse(&bytes), Status::parse(&bytes[..cut]));
        }

        #[test]
        fn any_masks_and_ids_are_parsed_back(caught: u64, uid: [u32; 4], nspid: Vec<u16>) {
            let pids: Vec<i32> = nspid.iter().map(|pid| i32::from(*pid) + 1).collect();
            let words = |numbers: &[String]| numbers.join("\t");
            let ids = words(&uid.map(|id| id.to_string()));
            let shown = words(&pids.iter().map(i32::to_string).collect::<Vec<_>>());
            let text = STATUS
                .replace("1000\t1001\t1002\t1003", &ids)
                .replace("0000000000014002", &format!("{caught:016x}"))
                .replace("NSpid:\t814\t3", &format!("NSpid:\t{shown}"));
            let status = Status::parse(text.as_bytes()).unwrap();
            prop_assert_eq!((status.uid, status.sig_cgt), (uid, SignalSet(caught)));
            prop_assert_eq!(status.nspid, if pids.is_empty() { vec![814] } else { pids });
        }
    }
}
