//! Nothing that a container decides costs more than in proportion: the same work at n and 8 n, compared by
//! processor time and not by the clock on the wall. In proportion is 8 times, quadratic 64 times; the bound
//! lies between. Each n is so large that a comparison of every pair would exceed it: at 20 ns a pair (a debug
//! build) n pairs for each item take a sixth of its 100 µs.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use nix::time::{ClockId, clock_gettime};

use crate::fuzz::targets::{machine::Machine, targets};
use crate::support::{Need, Outcome, check, fixture, repository, test, test_with, within};

const FACTOR: usize = 8;
const BOUND: u32 = 16;
/// The length of a parser's input at n.
const LENGTH: usize = 12 << 10;
/// Processor time below which a measurement says nothing.
const LEAST: Duration = Duration::from_millis(2);
const LEAST_OF_A_COMMAND: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    vec![
        test("scaling::parsers_take_time_in_proportion", parsers),
        test("scaling::processes_cost_time_in_proportion", processes),
        test("scaling::chains_of_processes_cost_time_in_proportion", chains),
        test("scaling::mounts_cost_time_in_proportion", mounts),
        test("scaling::cgroups_cost_time_in_proportion", cgroups),
        test("scaling::records_cost_time_in_proportion", records),
        test_with(Need::Root, "scaling::sources_of_a_copy_cost_time_in_proportion", sources),
        test_with(Need::Root, "scaling::headers_and_depth_of_streams_cost_in_proportion", streams),
    ]
}

/// Returns the processor time that work takes in this thread.
fn processor_time(work: impl FnOnce()) -> Duration {
    let now =
        || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    let start = now();
    work();
    now() - start
}

/// Measures again what took too long: other work disturbs a measurement, and never makes it shorter.
fn is_below(bound: Duration, mut measure: impl FnMut() -> Duration) -> Result<(), Duration> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        least = least.min(measure());
        if least < bound {
            return Ok(());
        }
    }
    Err(least)
}

/// Repeats an input, each time with another number behind it, so that names differ.
fn repeated(input: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + input.len());
    for number in 0.. {
        out.extend(input);
        out.extend(format!("{number}\n").into_bytes());
        if out.len() >= length {
            break;
        }
    }
    out
}

fn parsers() -> Outcome {
    let mut compared = 0;
    for (name, parse) in targets() {
        // (Commands that fork or unpack are measured by other tests.)
        if ["hosts", "tar_unpacking", "engine_databases", "tar_streams"].contains(&name) {
            continue;
        }
        let dir = repository().join("tests/fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().step_by(12) {
            let input = std::fs::read(&path)?;
            let (small, large) = (repeated(&input, LENGTH), repeated(&input, FACTOR * LENGTH));
            let few = processor_time(|| parse(&small)).max(LEAST);
            is_below(few * BOUND, || processor_time(|| parse(&large)))
                .map_err(|many| format!("{name}, {path:?}: {few:?} for n, {many:?} for 8 n"))?;
            compared += 1;
        }
    }
    check(compared > 40, format!("only {compared} inputs"))
}

/// Compares commands on a recorded host of two sizes.
fn compare(commands: &[&[&str]], n: usize, text: impl Fn(usize) -> String) -> Outcome {
    let (few, many) = (host(&text(n))?, host(&text(FACTOR * n))?);
    for words in commands {
        compare_times(
            &format!("{words:?}"),
            || command_time(&few, words),
            || command_time(&many, words),
        )?;
    }
    Ok(())
}

/// Fails if the work for 8 n takes more than in proportion to the work for n.
fn compare_times(
    name: &str,
    few: impl Fn() -> Result<Duration, Failed>,
    many: impl Fn() -> Result<Duration, Failed>,
) -> Outcome {
    let first = few()?.min(few()?).max(LEAST_OF_A_COMMAND);
    let mut failed = None;
    let measured = is_below(first * BOUND, || {
        many().unwrap_or_else(|error| {
            failed = Some(error);
            Duration::ZERO
        })
    });
    match (failed, measured) {
        (Some(error), _) => Err(error),
        (None, Err(second)) => Err(format!("{name}: {first:?} for n, {second:?} for 8 n").into()),
        (None, Ok(())) => Ok(()),
    }
}

fn host(text: &str) -> Result<tempfile::TempDir, Failed> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("scaled.host");
    std::fs::write(&file, text)?;
    Machine::read(&file)?.unpack(&dir.path().join("root"))?;
    Ok(dir)
}

/// Returns the processor time of a command on a recorded host.
fn command_time(dir: &tempfile::TempDir, words: &[&str]) -> Result<Duration, Failed> {
    let mut shell = timed("\"$C\" --host-root \"$ROOT\" \"$@\" >/dev/null");
    shell.arg("bash").args(words).env("ROOT", dir.path().join("root"));
    shell_time(shell)
}

/// Makes a shell that measures a line, in which `$C` is the program.
fn timed(line: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("TIMEFORMAT='%3U %3S'; time {line}"));
    shell.env("C", env!("CARGO_BIN_EXE_cinspect")).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    shell
}

/// Returns the processor time of a line with its children, as the shell counts it.
fn shell_time(mut shell: Command) -> Result<Duration, Failed> {
    let output = shell.output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    check(output.status.success(), format!("{shell:?}: {:?}: {err}", output.status))?;
    let last = err.lines().next_back().unwrap_or_default();
    let seconds: Vec<f64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    check(seconds.len() == 2, format!("{shell:?}: no times in {err}"))?;
    Ok(Duration::from_secs_f64(seconds.iter().sum()))
}

/// A host with one container of Docker; the lines of further processes are added.
fn container(more: &str) -> String {
    format!(
        "A host that a test makes.\n\n-- id WEB 3f2a9c0d1e4b --\n-- processes --\n1 systemd cgroup=/init.scope\n\
         812 nginx start=4200 inside=1 ns=4026532177 cgroup=/system.slice/docker-$WEB.scope\n{more}\n\
         -- var/lib/docker/containers/$WEB/config.v2.json --\n\
         {{\"State\":{{\"Running\":true,\"Pid\":812}},\"ID\":\"$WEB\",\"Config\":{{\"Image\":\"x\"}},\"Name\":\"/web\"}}\n"
    )
}

fn processes() -> Outcome {
    let text = |count: usize| {
        let line = |n: usize| {
            let pid = 1000 + n;
            format!(
                "{pid} worker{n} parent=812 start={pid} inside={} ns=4026532177 uid={n} cgroup=/system.slice/docker-$WEB.scope argv=\"/bin/worker --number {n}\"\n",
                n + 2
            )
        };
        container(&(0..count).map(line).collect::<String>())
    };
    let commands: &[&[&str]] = &[
        &["ls"],
        &["ps", "web"],
        &["--json", "ps", "web"],
        &["signals", "web"],
        &["doctor", "--exit-zero", "web"],
    ];
    compare(commands, 500, text)
}

/// Processes that are each the child of the one before.
fn chains() -> Outcome {
    let text = |count: usize| {
        let line = |n: usize| {
            let (pid, parent) = (1000 + n, if n == 0 { 812 } else { 999 + n });
            format!(
                "{pid} worker parent={parent} start={pid} inside={} ns=4026532177 cgroup=/system.slice/docker-$WEB.scope argv=\"/bin/worker --number {n}\"\n",
                n + 2
            )
        };
        container(&(0..count).map(line).collect::<String>())
    };
    let commands: &[&[&str]] = &[
        &["--json", "ps", "web"],
        &["stop", "-n", "--order", "children-first", "web"],
        &["doctor", "--exit-zero", "web"],
    ];
    compare(commands, 250, text)
}

fn mounts() -> Outcome {
    let text = |count: usize| {
        let line = |n: usize| {
            format!(
                "{} 29 0:{n} /srv/{n} /data/{} rw,relatime - ext4 /dev/vda1 rw\n",
                100 + n,
                n / 2
            )
        };
        let mounts: String = (0..count).map(line).collect();
        format!("{}-- proc/812/mountinfo --\n{mounts}", container(""))
    };
    compare(&[&["inspect", "web"], &["--json", "inspect", "web"], &["ps", "web"]], 3000, text)
}

fn cgroups() -> Outcome {
    let text = |count: usize| {
        let line = |n: usize| {
            let pid = 1000 + n;
            format!(
                "{pid} w parent=812 start={pid} inside={} ns=4026532177 cgroup=/system.slice/docker-$WEB.scope/c{n}\n",
                n + 2
            )
        };
        container(&(0..count).map(line).collect::<String>())
    };
    compare(&[&["ls"], &["ps", "web"], &["inspect", "web"]], 300, text)
}

/// Records of containers that are not running: names and IDs that each word is compared with.
fn records() -> Outcome {
    let text = |count: usize| {
        let record = |n: usize| {
            let id = format!("{n:064x}");
            format!(
                "-- var/lib/docker/containers/{id}/config.v2.json --\n{{\"State\":{{\"Running\":false,\"Pid\":0,\"ExitCode\":1}},\"ID\":\"{id}\",\"Config\":{{\"Image\":\"x\"}},\"Name\":\"/old{n}\"}}\n"
            )
        };
        container("") + &(0..count).map(record).collect::<String>()
    };
    compare(
        &[&["ls", "-a"], &["--json", "ls", "-a"], &["why", "old7"], &["ps", "web"]],
        500,
        text,
    )?;
    // Each of these is named by a message: one is cut off, one has the PID of a process that is not its own.
    let refused = |count: usize| {
        let record = |n: usize| {
            let id = format!("{n:064x}");
            let text = match n % 2 {
                0 => "{\"State\":{\"Running\":true".to_owned(),
                _ => format!(
                    "{{\"State\":{{\"Running\":true,\"Pid\":1}},\"ID\":\"{id}\",\"Name\":\"/old{n}\"}}"
                ),
            };
            format!("-- var/lib/docker/containers/{id}/config.v2.json --\n{text}\n")
        };
        container("") + &(0..count).map(record).collect::<String>()
    };
    compare(&[&["ls", "-a"]], 500, refused)
}

/// Sources of a copy into a directory that has as many files: matches of a pattern, words, and the members of a
/// stream that name one directory again and again.
fn sources() -> Outcome {
    const N: usize = 500;
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=200m none /mnt")?;
    let dir = tempfile::tempdir_in("/dev/shm")?;
    let shell = |line: &str, n: usize| {
        let mut shell = timed(line);
        shell.env("CTR", format!("pid:{}", container.init)).env("N", n.to_string());
        shell.env("MNT", format!("/proc/{}/root/mnt", container.init)).current_dir(&dir);
        shell
    };
    let prepare = "{ for dir in $N $MNT/$N; do
            mkdir -p $dir/{files,to/d} && seq $N | (cd $dir/files && xargs touch) &&
            seq $N | (cd $dir/to/d && xargs touch) || exit
        done
        yes d | head -n $N | tar -c -C $N/to --no-recursion -T - > $N/members.tar; }";
    for n in [N, FACTOR * N] {
        shell_time(shell(prepare, n))?;
    }
    for line in [
        "$C cp -q \"$CTR:/mnt/$N/files/*\" $N/to",
        "$C cp -q $N/files/* $CTR:/mnt/$N/to",
        "$C cp -q - $CTR:/mnt/$N/to < $N/members.tar",
    ] {
        let time = |n: usize| shell_time(shell(line, n));
        compare_times(line, || time(N), || time(FACTOR * N))?;
    }
    Ok(())
}

/// Streams with many PAX headers before one member, and with members deep in new directories: the second is
/// measured by its memory, too.
fn streams() -> Outcome {
    const N: usize = 1500;
    const DEPTH: usize = 250;
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=200m none /mnt")?;
    let dir = tempfile::tempdir_in("/dev/shm")?;
    for n in [N, FACTOR * N] {
        let headers = (0..n).map(|key| member(b'x', format!("12 K{key:05}=v\n").as_bytes()));
        let stream = [headers.collect::<Vec<_>>().concat(), member(b'0', b"")].concat();
        std::fs::write(dir.path().join(format!("headers.{n}")), stream)?;
    }
    for depth in [DEPTH, FACTOR * DEPTH] {
        let chains = (0..8).map(|chain| {
            let path = format!("{chain}/{}f\0", "a/".repeat(depth));
            [member(b'L', path.as_bytes()), member(b'0', b"")].concat()
        });
        std::fs::write(
            dir.path().join(format!("deep.{depth}")),
            chains.collect::<Vec<_>>().concat(),
        )?;
    }
    let unpack = |limit: &str, name: &str, n: usize| {
        let line = format!(
            "(rm -rf $MNT/d && mkdir $MNT/d && {limit} $C cp -q - $CTR:/mnt/d < {name}.{n} 2>/dev/null)"
        );
        let mut shell = timed(&line);
        shell.env("CTR", format!("pid:{}", container.init));
        shell.env("MNT", format!("/proc/{}/root/mnt", container.init)).current_dir(&dir);
        shell_time(shell)
    };
    for (name, n) in [("headers", N), ("deep", DEPTH)] {
        compare_times(name, || unpack("", name, n), || unpack("", name, FACTOR * n))?;
    }
    // A list of the paths alone would have 16 million entries.
    unpack("ulimit -v 200000;", "deep", FACTOR * DEPTH).map(drop)
}

/// Returns a member of a tar stream, a header of GNU tar with the data after it.
fn member(flag: u8, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("f").expect("a short name");
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    [header.as_bytes(), data, &vec![0; data.len().next_multiple_of(512) - data.len()]].concat()
}
