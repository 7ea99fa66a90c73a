//! The family `limits`: commands that run out of descriptors, processes, memory, disk space or inodes, that may
//! not write, whose streams are closed or full, and in odd environments. A resource that cannot be had is an
//! error in words, or the answer is the same as always: no panic, no container that is missing because of it,
//! no half of a file.

use std::fs::{create_dir_all, read, read_dir, write};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use crate::harness::ready::sleeps_in;
use crate::support::{Need, Outcome, check, wait_until};
use crate::world::{Checks, DATA, Web, WorldRun, doubts, is_long, program, run, trial};
use crate::world::{strays, without_numbers};

const OLD: &[u8] = b"the old and whole file";
const NEW: usize = 300_000;

/// A command, and whether numbers in its answer change.
type LimitedCommand = (&'static str, &'static [&'static str]);

const COMMANDS: &[LimitedCommand] = &[
    ("ls", &["ls", "-o", "name,id,engine,pid,procs,state,onstop,image"]),
    ("ps", &["ps", "web", "-o", "pid,hpid,uid,blocked,ignored,caught,verdict,command"]),
    ("signals", &["signals", "web", "TERM", "HUP"]),
    ("signal", &["signal", "web", "0", "--all"]),
    ("stop-dry-run", &["stop", "-n", "web"]),
    ("doctor", &["doctor", "web"]),
    ("exec", &["exec", "web", "--", "/bin/echo", "hi"]),
    ("cp-out", &["cp", "web:/run/tmp/data/source", "/run/tmp/copies"]),
    ("cp-in", &["cp", "/run/tmp/source", "web:/run/tmp/data/sub"]),
    ("inspect", &["inspect", "web"]),
    ("why", &["why", "web"]),
    ("logs", &["logs", "web"]),
];

/// A file whose size is limited to nothing.
const LIMITED: &str = ">/run/tmp/limited";

type LimitTask = fn(&Limits, &mut Checks) -> Outcome;

const TASKS: &[(&str, LimitTask)] = &[
    ("descriptors", Limits::descriptors),
    ("processes", Limits::processes),
    ("memory", Limits::memory),
    ("stacks", Limits::stacks),
    ("disks", Limits::disks),
    ("streams", Limits::streams),
    ("environments", Limits::environments),
];

pub fn trials() -> Vec<Trial> {
    TASKS.iter().map(|(name, _)| trial(&[Need::Root], "limits", name)).collect()
}

/// Runs the checks of one kind of limit, in a world.
pub fn task(name: &str) -> Outcome {
    let (_, run) = TASKS.iter().find(|(known, _)| *known == name).ok_or("no such limit")?;
    write("/run/tmp/source", new_text())?;
    for dir in ["/run/tmp/copies", "/run/tmp/data/sub"] {
        create_dir_all(dir)?;
    }
    write(format!("{DATA}/source"), new_text())?;
    let limits = Limits { web: Web::start()? };
    let mut checks = Checks::new("limits");
    run(&limits, &mut checks)?;
    checks.finish()
}

fn new_text() -> Vec<u8> {
    b"new".repeat(NEW / 3)
}

/// A world with a container.
struct Limits {
    web: Web,
}

/// Returns a shell that ends as the command `$0` with its arguments, after these words.
fn shell(before: &str, argv: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} \"$0\" \"$@\"")]).arg(program()).args(argv);
    shell
}

impl Limits {
    /// Runs a command with a limit and compares the answer with the one without.
    fn compare(
        &self,
        checks: &mut Checks,
        name: &str,
        command: Command,
        plain: &WorldRun,
    ) -> Outcome {
        for dir in ["/run/tmp/copies", "/run/tmp/data/sub"] {
            write(format!("{dir}/source"), OLD)?;
        }
        let ran = run(command)?;
        // A status below 125 is that of the command in the container.
        let is_commands = name.starts_with("exec ") && ran.err.starts_with("cinspect: ");
        let verdict = match is_commands && (1..125).contains(&ran.status) {
            true => Err(format!("a status of the command: {ran}")),
            false => self.judge(&ran, plain),
        };
        checks.add(name, verdict);
        Ok(())
    }

    fn judge(&self, ran: &WorldRun, plain: &WorldRun) -> Result<(), String> {
        if is_of_the_loader(ran) {
            return Ok(());
        }
        if let Some(fault) = ran.fault() {
            return Err(fault);
        }
        if ran.status == 3 || ran.status == 4 {
            return Err(format!("called missing: {ran}"));
        }
        let warns = without_numbers(&ran.err) != without_numbers(&plain.err);
        let is_told = warns || doubts(&ran.out) > doubts(&plain.out);
        let differs = without_numbers(&ran.out) != without_numbers(&plain.out);
        // (Only at length: the memory in use changes from K to M, for example.)
        if is_long() && ran.status == plain.status && differs && !is_told {
            return Err(format!("wrong without a warning: {ran}\nwithout the limit: {plain}"));
        }
        if ran.status == 0 && plain.status != 0 {
            return Err(format!("wrong success: {ran}"));
        }
        for dir in ["/run/tmp/copies", "/run/tmp/data/sub"] {
            if let Some(fault) = torn(dir) {
                return Err(format!("{fault}: {ran}"));
            }
        }
        let strays = strays(&self.web);
        if strays.is_empty() { Ok(()) } else { Err(format!("left behind: {strays:?}; {ran}")) }
    }

    /// Runs every command with limits from a list.
    fn each(
        &self,
        checks: &mut Checks,
        limits: &[&str],
        limited: impl Fn(&str, &[&str]) -> Command,
    ) -> Outcome {
        for (name, argv) in COMMANDS {
            let plain = self.plain(argv)?;
            for limit in limits {
                let name = format!("{name} {limit}");
                self.compare(checks, &name, limited(limit, argv), &plain)?;
            }
        }
        Ok(())
    }

    fn plain(&self, argv: &[&str]) -> Result<WorldRun, Failed> {
        for dir in ["/run/tmp/copies", "/run/tmp/data/sub"] {
            write(format!("{dir}/source"), OLD)?;
        }
        let mut command = Command::new(program());
        command.args(argv);
        let plain = run(command)?;
        check(plain.fault().is_none() && plain.status != 3, plain.to_string())?;
        Ok(plain)
    }

    fn descriptors(&self, checks: &mut Checks) -> Outcome {
        let few = ["3", "4", "6", "8", "12", "16", "24", "48"];
        let all: Vec<String> = (3..=64).map(|limit| limit.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.each(checks, if is_long() { &all } else { &few }, |limit, argv| {
            shell(&format!("ulimit -n {limit}; exec"), argv)
        })
    }

    /// In a cgroup that takes so many processes and threads; root's have no other limit.
    fn processes(&self, checks: &mut Checks) -> Outcome {
        let dir = ["/sys/fs/cgroup/pids/limited", "/sys/fs/cgroup/limited"];
        let dir = if Path::new("/sys/fs/cgroup/pids").exists() { dir[0] } else { dir[1] };
        create_dir_all(dir)?;
        if !Path::new(dir).join("pids.max").exists() {
            // (Version 2, where the controller is not handed on.)
            write("/sys/fs/cgroup/cgroup.subtree_control", "+pids")?;
        }
        self.each(checks, &["1", "2", "3", "4", "5", "6", "8"], |limit, argv| {
            let enter =
                format!("echo {limit} > {dir}/pids.max; echo $$ > {dir}/cgroup.procs; exec");
            shell(&enter, argv)
        })
    }

    fn memory(&self, checks: &mut Checks) -> Outcome {
        let few = ["12000", "14000", "16000", "20000", "30000"];
        let all: Vec<String> = (20..130).map(|step| (step * 500).to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.each(checks, if is_long() { &all } else { &few }, |limit, argv| {
            shell(&format!("ulimit -v {limit}; exec"), argv)
        })
    }

    /// With little stack; `fixed` without the capability to raise the limit.
    fn stacks(&self, checks: &mut Checks) -> Outcome {
        self.each(checks, &["64", "256", "64 fixed"], |limit, argv| {
            let exec = match limit.strip_suffix(" fixed") {
                Some(limit) => {
                    format!("ulimit -s {limit}; exec setpriv --bounding-set=-sys_resource")
                }
                None => format!("ulimit -s {limit}; exec"),
            };
            shell(&exec, argv)
        })
    }

    /// Copies to file systems that are full, have no inodes, or are read-only; in and out.
    fn disks(&self, checks: &mut Checks) -> Outcome {
        let disks = [
            ("full", "size=64k", "No space left on device"),
            ("inodes", "nr_inodes=1", "No space left on device"),
            ("read-only", "ro", "Read-only file system"),
        ];
        for (name, options, words) in disks {
            for target in ["/run/tmp/disk", "web:/run/tmp/disk"] {
                for sources in ["/run/tmp/source", "/run/tmp/tree"] {
                    let label = format!("{name} {sources} {target}");
                    checks.add(&label, self.on_disk(options, words, sources, target)?);
                }
            }
        }
        Ok(())
    }

    fn on_disk(
        &self,
        options: &str,
        words: &str,
        source: &str,
        target: &str,
    ) -> Result<Result<(), String>, Failed> {
        create_dir_all("/run/tmp/tree")?;
        for number in 0..20 {
            write(format!("/run/tmp/tree/{number}"), new_text())?;
        }
        let disk = "/run/tmp/disk";
        create_dir_all(disk)?;
        // Mounted in the container, which sees it then as the host does.
        let init = self.web.container.init;
        let root = format!("/proc/{init}/root");
        let nsenter = ["nsenter", "-t", &init.to_string(), "-m", "--"];
        let argv = match target.strip_prefix("web:") {
            Some(_) => nsenter.to_vec(),
            None => vec!["env"],
        };
        let sh = |script: &str| -> Outcome {
            let mut command = Command::new(argv[0]);
            command.args(&argv[1..]).args(["sh", "-c", script]);
            check(command.status()?.success(), script)
        };
        let made = if options == "ro" { "size=1m" } else { options };
        let file = if options == "ro" { "printf old > source;" } else { "" };
        sh(&format!("mount -t tmpfs -o {made} none {disk} && cd {disk} && {file} true"))?;
        if options == "ro" {
            sh(&format!("mount -o remount,ro {disk}"))?;
        }
        let mut command = Command::new(program());
        let from = if target.starts_with("web:") { source.into() } else { format!("web:{source}") };
        command.args(["cp", &from, target]);
        let ran = run(command)?;
        let seen = match target.strip_prefix("web:") {
            Some(path) => format!("{root}{path}"),
            None => target.to_owned(),
        };
        let left = names(&seen);
        let old = read(format!("{seen}/source")).unwrap_or_default();
        sh(&format!("umount {disk}"))?;
        let is_temporary = |name: &String| name.starts_with(".cinspect");
        Ok(match () {
            () if ran.fault().is_some() => Err(ran.fault().unwrap_or_default()),
            () if ran.status != 1 => Err(format!("not an error: {ran}")),
            () if !ran.err.contains(words) => Err(format!("without `{words}`: {ran}")),
            () if left.iter().any(is_temporary) => Err(format!("left {left:?}: {ran}")),
            () if options == "ro" && old != b"old" => Err(format!("the old file is gone: {ran}")),
            () if options == "size=64k" && left.contains(&"source".to_owned()) => {
                Err(format!("half a file: {ran}"))
            }
            () => Ok(()),
        })
    }

    fn streams(&self, checks: &mut Checks) -> Outcome {
        for (name, argv) in COMMANDS {
            let plain = self.plain(argv)?;
            for streams in [
                ">&-",
                "2>&-",
                "<&-",
                ">&- 2>&-",
                "<&- >&- 2>&-",
                ">/dev/full",
                "2>/dev/full",
                LIMITED,
            ] {
                let mut command = Command::new("sh");
                // (The limit is that of every file, standard error in one included.)
                let limit = if streams == LIMITED { "ulimit -f 0;" } else { "" };
                let line = format!("{limit} \"$0\" \"$@\" {streams}; echo \"status $?\" >&2");
                command.args(["-c", &format!("{{ {line}; }} 2>&1 | cat >&2")]);
                command.arg(program()).args(*argv);
                let ran = run(command)?;
                let status = ran.err.rsplit("status ").next().unwrap_or_default().trim();
                let status: i32 = status.parse().unwrap_or(-1);
                let has_words = ran.err.lines().count() > 1;
                // A reader that is not there cannot be told; one that is full is an error, said on stderr.
                let has_answer = !plain.out.is_empty();
                let outcome = match streams {
                    _ if [101, 134, 139, -1].contains(&status) || ran.err.contains("panicked") => {
                        Err("crashes".to_owned())
                    }
                    _ if status > 128 => Err("is killed".to_owned()),
                    ">/dev/full" | LIMITED if has_answer && status == 0 => {
                        Err("wrong success".to_owned())
                    }
                    ">/dev/full" | LIMITED if has_answer && !has_words => {
                        Err("no words".to_owned())
                    }
                    "2>&-" | "<&-" | "2>/dev/full" if status != plain.status => {
                        Err("another status".to_owned())
                    }
                    _ => Ok(()),
                };
                let outcome = outcome.map_err(|why| format!("{why}: status {status}: {ran}"));
                checks.add(&format!("{name} {streams}"), outcome);
            }
            checks.add(&format!("{name} non-blocking"), non_blocking(argv, false)?);
        }
        checks.add("error non-blocking", non_blocking(&["ps", "missing"], true)?);
        Ok(())
    }

    fn environments(&self, checks: &mut Checks) -> Outcome {
        const LARGE: usize = 120_000;
        for (name, argv) in COMMANDS {
            let plain = self.plain(argv)?;
            let mut add = |label: &str, change: &dyn Fn(&mut Command)| {
                let mut command = Command::new(program());
                command.args(*argv);
                change(&mut command);
                self.compare(checks, &format!("{name} {label}"), command, &plain)
            };
            add("empty", &|c| {
                c.env_clear().env("LC_ALL", "C.UTF-8");
            })?;
            add("no-home", &|c| {
                c.env_remove("HOME").env_remove("PATH");
            })?;
            for (label, name, value) in [
                ("home", "HOME", "/no/such"),
                ("runtime-dir", "XDG_RUNTIME_DIR", "relative"),
                ("term", "TERM", "no-such-terminal"),
                ("zone", "TZ", ":/etc/passwd"),
                ("zones", "TZ", "\u{1}//../../.."),
                ("columns", "COLUMNS", "-1"),
                ("tmpdir", "TMPDIR", "/no/such"),
                ("backtrace", "RUST_BACKTRACE", "full"),
            ] {
                add(label, &|c| {
                    c.env(name, value);
                })?;
            }
            add("bytes", &|c| {
                c.env("LANG", std::ffi::OsStr::from_bytes(b"\xff\xfe"))
                    .env("CINSPECT_HOST", "\u{7}");
            })?;
            add("large", &|c| {
                for number in 0..10 {
                    c.env(format!("LARGE{number}"), "x".repeat(LARGE));
                }
            })?;
        }
        Ok(())
    }
}

/// Runs a command whose standard output, or error, is a full pipe that does not block. It has to wait for its
/// reader.
fn non_blocking(argv: &[&str], is_error: bool) -> Result<Result<(), String>, Failed> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    while nix::unistd::write(&writer, &[b'x'; 4096]).is_ok() {}
    let mut command = Command::new(program());
    command.args(argv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if is_error {
        command.stderr(writer)
    } else {
        command.stdout(writer)
    };
    let child = command.spawn()?;
    drop(command);
    let process = format!("/proc/{}", child.id());
    let waits = || {
        let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
        let has_ended = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        has_ended || sleeps_in(Path::new(&process), &[libc::SYS_ppoll])
    };
    check(wait_until(waits), "it neither ends nor waits")?;
    let mut text = Vec::new();
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty()))?;
    std::fs::File::from(reader).read_to_end(&mut text)?;
    let done = child.wait_with_output()?;
    let has_answer = text.last() == Some(&b'\n');
    Ok(match done.status.success() != is_error && has_answer {
        true => Ok(()),
        false => Err(format!(
            "{:?} {}, where a pipe is non-blocking",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        )),
    })
}

/// Whether a run ended before the program began.
fn is_of_the_loader(ran: &WorldRun) -> bool {
    let words = [
        "error while loading shared libraries",
        "cannot execute",
        "Cannot fork",
        "Cannot allocate",
    ];
    let is_runtime = ran.err.contains("library/std/src/sys/pal/unix/stack_overflow.rs");
    is_runtime
        || ([126, 127, 2].contains(&ran.status)
            && words.iter().any(|words| ran.err.contains(words)))
        || (ran.status == 139 && ran.err.is_empty())
}

fn names(dir: &str) -> Vec<String> {
    let entries = read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Returns what is wrong with the target of a copy.
fn torn(dir: &str) -> Option<String> {
    let names = names(dir);
    if names != ["source"] {
        return Some(format!("{dir} has {names:?}"));
    }
    let text = read(format!("{dir}/source")).unwrap_or_default();
    (text != OLD && text != new_text()).then(|| format!("{} bytes in {dir}", text.len()))
}
