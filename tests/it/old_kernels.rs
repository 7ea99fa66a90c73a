//! Kernels without newer system calls: every command with every call missing, compared with what it does on
//! this kernel. Without pidfds reading commands work, and those that act say which kernel that takes.

use libtest_mimic::{Failed, Trial};
use nix::libc::{self, c_long};

use crate::harness::Container;
use crate::harness::old_kernel::{Missing, without};
use crate::support::{
    Need, Outcome, Run, check, cinspect, finish, fixture, same, test_with, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let kernels = KERNELS.iter();
    let make = |kernel: &'static Kernel| test_with(Need::Root, kernel.name, || kernel.check());
    kernels.map(make).collect()
}

/// A kernel, by what it does not have.
struct Kernel {
    name: &'static str,
    missing: &'static [Missing],
    /// Whether it has pidfds.
    has_pidfds: bool,
}

const fn lacks(name: &'static str, missing: &'static [Missing]) -> Kernel {
    Kernel { name, missing, has_pidfds: true }
}

// include/uapi/asm-generic/unistd.h; from 424 the same on all machines.
const PIDFD_SEND_SIGNAL: c_long = 424;
const OPEN_TREE: c_long = 428;
const MOVE_MOUNT: c_long = 429;
const FSOPEN: c_long = 430;
const FSCONFIG: c_long = 431;
const FSMOUNT: c_long = 432;
const PIDFD_OPEN: c_long = 434;
const CLONE3: c_long = 435;
const CLOSE_RANGE: c_long = 436;
const OPENAT2: c_long = 437;
const PIDFD_GETFD: c_long = 438;
const FACCESSAT2: c_long = 439;
const PROCESS_MADVISE: c_long = 440;
const EPOLL_PWAIT2: c_long = 441;
const MOUNT_SETATTR: c_long = 442;

/// The first request is an ioctl's in `include/uapi/linux/nsfs.h` (6.11), the second in
/// `include/uapi/linux/pidfd.h` (6.13): older kernels answer ENOTTY.
const fn no_ioctl(value: u32) -> Missing {
    Missing::Argument { call: libc::SYS_ioctl, index: 1, value, errno: libc::ENOTTY }
}

const NO_THREADS: [Missing; 2] = [
    // PIDFD_THREAD, and PIDFD_SIGNAL_THREAD (6.9).
    Missing::Argument { call: PIDFD_OPEN, index: 1, value: 0o200, errno: libc::EINVAL },
    Missing::Argument { call: PIDFD_SEND_SIGNAL, index: 3, value: 1, errno: libc::EINVAL },
];
const NO_TRANSLATION: Missing = no_ioctl(0x8004_b706);
const NO_INFO: Missing = no_ioctl(0xc040_ff0b);

static KERNELS: &[Kernel] = &[
    Kernel {
        name: "old_kernels::before_5_1_reading_works_and_acting_says_what_it_takes",
        missing: &[
            Missing::Since(PIDFD_SEND_SIGNAL),
            Missing::SetnsByPidfd,
            NO_THREADS[0],
            NO_THREADS[1],
            NO_TRANSLATION,
            NO_INFO,
        ],
        has_pidfds: false,
    },
    Kernel {
        name: "old_kernels::before_5_3_pidfds_cannot_be_opened",
        missing: &[Missing::Since(PIDFD_OPEN), Missing::SetnsByPidfd, NO_TRANSLATION, NO_INFO],
        has_pidfds: false,
    },
    lacks(
        "old_kernels::of_5_3",
        &[
            Missing::Since(CLOSE_RANGE),
            Missing::SetnsByPidfd,
            NO_THREADS[0],
            NO_THREADS[1],
            NO_TRANSLATION,
            NO_INFO,
        ],
    ),
    lacks(
        "old_kernels::of_5_10",
        &[Missing::Since(EPOLL_PWAIT2), NO_THREADS[0], NO_THREADS[1], NO_TRANSLATION, NO_INFO],
    ),
    lacks("old_kernels::of_6_8", &[NO_THREADS[0], NO_THREADS[1], NO_TRANSLATION, NO_INFO]),
    lacks("old_kernels::of_6_12", &[NO_INFO]),
    // A filter of the engine that cinspect runs in may forbid some of them on a newer kernel.
    lacks(
        "old_kernels::without_the_calls_for_mounts",
        &[
            Missing::Call(OPEN_TREE),
            Missing::Call(MOVE_MOUNT),
            Missing::Call(FSOPEN),
            Missing::Call(FSCONFIG),
            Missing::Call(FSMOUNT),
            Missing::Call(MOUNT_SETATTR),
        ],
    ),
    lacks(
        "old_kernels::without_the_calls_for_files_and_processes",
        &[
            Missing::Call(CLONE3),
            Missing::Call(CLOSE_RANGE),
            Missing::Call(OPENAT2),
            Missing::Call(PIDFD_GETFD),
            Missing::Call(FACCESSAT2),
            Missing::Call(PROCESS_MADVISE),
            Missing::SetnsByPidfd,
        ],
    ),
];

/// Commands that read, for the container `CTR` with the process `WEB`; their output has to be the same.
const READING: &[&str] = &[
    "ls CTR -o pid,procs,state,engine",
    "ps CTR -o pid,hpid,user,state,blocked,caught,on,command",
    "ps -T CTR -o pid,hpid,user,comm",
    "signals CTR",
    "doctor --exit-zero CTR",
    "inspect CTR",
    "why CTR",
    "logs CTR",
    "completions bash",
];

/// Commands that say what would be done.
const DRY_RUNS: &[&str] =
    &["signal -n CTR USR1 --pid WEB", "signal -n CTR TERM --all", "stop -n CTR"];

/// Commands that hold the init or another process by a pidfd.
const ACTING: &[&str] = &[
    "exec CTR -- true",
    "exec --tools CTR -- true",
    "exec --ns net CTR -- true",
    "cp CTR:/etc/passwd -",
    "cp CTR:/etc/passwd DIR/out",
    "cp DIR/in CTR:DIR/copy",
    "signal CTR USR1 --pid WEB",
    "signal CTR USR2 --pid WEB --tid WEB",
];
const STOP: &str = "stop -t 60s CTR";

/// A container, and a directory with a file `in`.
struct Subject {
    container: Container,
    directory: tempfile::TempDir,
}

impl Subject {
    fn new() -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("in"), "text")?;
        let container = fixture("init exits-on=TERM\n> web handle=USR1,USR2")?;
        Ok(Self { container, directory })
    }

    fn run(&self, line: &str, missing: &[Missing]) -> Run {
        let line = line.replace("CTR", &format!("pid:{}", self.container.init));
        let line = line.replace("WEB", &self.container.pids["web"].to_string());
        let line = line.replace("DIR", &self.directory.path().display().to_string());
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let mut command = cinspect(&arguments);
        if !missing.is_empty() {
            without(&mut command, missing);
        }
        finish(command)
    }

    /// Runs commands that only read, and returns status and output of each.
    fn read(&self, lines: &[&str], missing: &[Missing]) -> Vec<String> {
        let read = |line: &&str| {
            let Run { code, out, err, .. } = self.run(line, missing);
            format!("{line}: {code}\n{}{}", lasting(&out), lasting(&err))
        };
        lines.iter().map(read).collect()
    }

    /// Runs commands that act, and fails unless each succeeds.
    fn act(&self, lines: &[&str], missing: &[Missing]) -> Outcome {
        for line in lines {
            let done = self.run(line, missing);
            check(done.code == 0, format!("{line}: {done:?}"))?;
        }
        let exists = |name: &&str| self.directory.path().join(name).exists();
        check(["out", "copy"].iter().all(exists), "a copy is missing")
    }
}

impl Kernel {
    fn check(&self) -> Outcome {
        let subject = Subject::new()?;
        let same_as_here = |lines| {
            let (got, wanted) = (subject.read(lines, self.missing), subject.read(lines, &[]));
            got.iter().zip(&wanted).try_for_each(|(got, wanted)| same(got, wanted))
        };
        same_as_here(READING)?;
        let received = || subject.container.received();
        if self.has_pidfds {
            same_as_here(DRY_RUNS)?;
            let has = |start: &str| received().iter().any(|line| line.starts_with(start));
            let arrives = |starts: &[&str]| {
                let has_all = || starts.iter().all(|start| has(start));
                check((0..6).any(|_| wait_until(has_all)), format!("{:?}", received()))
            };
            subject.act(ACTING, self.missing)?;
            arrives(&["web USR1", "web USR2"])?;
            subject.run(STOP, self.missing).expect(0)?;
            return arrives(&["init accepted 15"]);
        }
        for line in subject.read(DRY_RUNS, self.missing) {
            check(line.contains("Linux 5.3"), line)?;
        }
        for line in ACTING.iter().chain([&STOP]) {
            let done = subject.run(line, self.missing);
            let is_told = done.code != 0 && done.err.contains("Linux 5.3");
            check(is_told, format!("{line}: {done:?}"))?;
        }
        same(received(), Vec::new())
    }
}

/// Returns the lines that are the same a moment later: not ages and usage, nor what other containers of the
/// host have a part in (their mounts, which this one's namespace has copies of, and their records).
fn lasting(text: &str) -> String {
    let changes = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        line.contains(" ago")
            || line.contains("the record `")
            || ["memory", "CPU", "PIDs"].contains(&first)
    };
    let lines = text.lines().take_while(|line| *line != "Mounts").filter(|line| !changes(line));
    lines.map(|line| format!("{line}\n")).collect()
}
