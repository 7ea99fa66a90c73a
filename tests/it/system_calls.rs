//! The number of system calls of each command, on a host that holds one container and nothing else. A regression
//! shows here before anyone times it. `tests/system_calls.rows` has the limits; `UPDATE=1` measures them again.
//!
//! Calls whose number the scheduler decides are not counted ([`SCHEDULED`]). A command that reads a file again,
//! because a process ran or moved meanwhile, adds some: so the least of a few runs counts, and a limit leaves
//! one call in ten for the difference between machines.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Failed, Trial};

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, check, children, finish, repository, test_with, wait_until,
};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Strace, "system_calls::stay_within_their_limits", limits),
        test_with(Need::Strace, "system_calls::an_empty_cgroup_takes_few", empty_cgroups),
        test_with(Need::Strace, "system_calls::a_container_in_a_list_takes_few", listed_containers),
    ]
}

/// Calls of the allocator, of locks and of waiting. (And fcntl(2): a debug build asks for each descriptor that it
/// closes whether it is open.)
const SCHEDULED: &[&str] = &[
    "brk",
    "clock_nanosleep",
    "fcntl",
    "futex",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "restart_syscall",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_yield",
    "wait4",
    "waitid",
];

/// Runs of each command, of which the least counts.
const RUNS: usize = 5;

/// Children of the container's init.
const CHILDREN: usize = 40;

/// Empty hosts so far: each has a cgroup of its own.
static HOSTS: AtomicUsize = AtomicUsize::new(0);

/// A host of its own: a PID namespace, a cgroup tree, and directories of engines that are empty. Dropping it
/// kills everything in it.
struct EmptyHost {
    shell: Child,
    cgroup: PathBuf,
}

/// The mounts of an empty host. `box` is the container's cgroup, `self` that of the program. (Apptainer's records,
/// which a test that was killed leaves behind, are in root's home.)
const PREPARE: &str = "set -e
for dir in /run /var/lib /sys/fs/cgroup /root/.apptainer; do
  [ ! -d $dir ] || mount -t tmpfs none $dir
done
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/box /sys/fs/cgroup/self
echo ready
exec sleep infinity";

impl EmptyHost {
    fn start() -> Result<Self, Failed> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let mut points = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then_some(point)
        });
        let root = points.next().ok_or("no cgroup2 is mounted")?;
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("cinspect-calls-{}-{number}", std::process::id());
        let cgroup = Path::new(root).join(name);
        std::fs::create_dir(&cgroup)?;
        let enter = "echo $$ > \"$1\"; shift; exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", enter, "sh"]).arg(cgroup.join("cgroup.procs"));
        shell.args(["sh", "-c", PREPARE]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut host = Self { shell: shell.spawn()?, cgroup };
        let mut line = String::new();
        if let Some(out) = host.shell.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        check(line == "ready\n", "the namespaces could not be made").map(|()| host)
    }

    /// Returns the PID of its init on the real host.
    fn init(&self) -> Result<String, Failed> {
        let children = children(self.shell.id().cast_signed());
        Ok(children.first().ok_or("it has no init")?.to_string())
    }

    /// Returns the command that runs another one in it.
    fn enter(&self) -> Result<Vec<String>, Failed> {
        let init = self.init()?;
        Ok(["nsenter", "-t", &init, "-m", "-p", "-C", "--"].map(str::to_owned).to_vec())
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Result<Run, Failed> {
        let enter = self.enter()?;
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["sh", "-c", script, "sh"]).args(arguments);
        command.env("LC_ALL", "C.UTF-8").env_remove("COLUMNS").stdin(Stdio::null());
        Ok(finish(command))
    }
}

impl Drop for EmptyHost {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        // The kernel removes the processes a moment later.
        wait_until(|| remove_cgroups(&self.cgroup).is_ok());
    }
}

/// Removes a cgroup and those below it.
fn remove_cgroups(cgroup: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

/// A container in an empty host, whose processes are in a cgroup of their own.
struct OnlyContainer {
    host: EmptyHost,
    container: Container,
    dir: tempfile::TempDir,
}

/// Moves the processes of the container into its cgroup.
const MOVE: &str = "for process in /proc/[0-9]*; do
  [ \"$(readlink $process/ns/pid)\" != \"$(readlink /proc/$1/ns/pid)\" ] ||
    echo ${process#/proc/} > /sys/fs/cgroup/box/cgroup.procs
done
wc -l < /sys/fs/cgroup/box/cgroup.procs";

/// Counts the calls of a program, which gets no terminal.
/// (With the variable that cargo sets the loader looks for each library in several places.)
const COUNT: &str =
    "unset LD_LIBRARY_PATH; echo $$ > /sys/fs/cgroup/self/cgroup.procs; log=$1; shift
exec strace -f -c -U calls,name -o \"$log\" \"$@\"";

impl OnlyContainer {
    fn start() -> Result<Self, Failed> {
        let host = EmptyHost::start()?;
        let dir = tempfile::tempdir()?;
        // The harness starts it through a program that enters the host first. (The init's variables are those of
        // a command that `exec` runs, too.)
        let wrapper = dir.path().join("enter");
        let program = std::env::current_exe()?;
        let enter = host.enter()?.join(" ");
        let script =
            format!("#!/bin/sh\nunset LD_LIBRARY_PATH\nexec {enter} '{}'\n", program.display());
        std::fs::File::create(&wrapper)?.write_all(script.as_bytes())?;
        std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755))?;
        let children = (0..CHILDREN).map(|n| format!("\n> w{n} ignore=USR1"));
        let spec = format!("init ignore=USR1{}", children.collect::<String>());
        let container = Container::start(&wrapper, &spec)?;
        let moved = host.run(MOVE, &[&container.init.to_string()])?.expect(0)?.out;
        check(moved.trim() == (CHILDREN + 1).to_string(), moved)?;
        Ok(Self { host, container, dir })
    }

    /// Counts the system calls of one run.
    fn count(&self, words: &str) -> Result<u64, Failed> {
        let log = self.dir.path().join("calls").display().to_string();
        let name = format!("pid:{}", self.container.init);
        let to = self.dir.path().join("copy").display().to_string();
        let file = repository().join("Cargo.toml").display().to_string();
        let words = words.replace("CTR", &name).replace("DIR", &to).replace("FILE", &file);
        let program = env!("CARGO_BIN_EXE_cinspect");
        let words: Vec<&str> = match words.strip_prefix("COMPLETE ") {
            Some(words) => ["env", "CINSPECT_COMPLETE=2", program, "--", "cinspect"]
                .into_iter()
                .chain(words.split(' '))
                .collect(),
            None => std::iter::once(program).chain(words.split(' ')).collect(),
        };
        let arguments: Vec<&str> =
            std::iter::once(log.as_str()).chain(words.iter().copied()).collect();
        self.host.run(COUNT, &arguments)?.expect(0)?;
        let calls = calls(&std::fs::read_to_string(&log)?);
        Ok(calls
            .iter()
            .filter(|(call, _)| !SCHEDULED.contains(&call.as_str()))
            .map(|(_, n)| n)
            .sum())
    }
}

/// Parses the summary of `strace -c -U calls,name`.
fn calls(summary: &str) -> BTreeMap<String, u64> {
    let entry = |line: &str| {
        let (count, call) = line.trim().split_once(' ')?;
        Some((call.trim().to_owned(), count.parse().ok()?)).filter(|(call, _)| call != "total")
    };
    summary.lines().filter_map(entry).collect()
}

fn limits() -> Outcome {
    let path = repository().join("tests/system_calls.rows");
    let rows = std::fs::read_to_string(&path)?;
    let only = OnlyContainer::start()?;
    let update = std::env::var_os("UPDATE").is_some();
    let (mut updated, mut exceeded) = (String::new(), Vec::new());
    for row in rows.lines() {
        let Some((command, limit)) = row.rsplit_once('|').filter(|_| !row.starts_with('#')) else {
            updated.push_str(&format!("{row}\n"));
            continue;
        };
        let limit: u64 = limit.trim().parse().map_err(|_| format!("no limit: {row}"))?;
        let mut least = u64::MAX;
        for _ in 0..RUNS {
            least = least.min(only.count(command.trim())?);
            if least <= limit && !update {
                break;
            }
        }
        updated.push_str(&format!("{command}| {}\n", least + least.div_ceil(10)));
        if least > limit {
            exceeded.push(format!("{}: {least} calls, more than {limit}", command.trim()));
        }
    }
    if update {
        return Ok(std::fs::write(&path, updated)?);
    }
    check(exceeded.is_empty(), exceeded.join("\n"))
}

/// Empty cgroups that are named like containers, as an engine may leave them.
const EMPTY_CGROUPS: u64 = 200;
/// The most calls that each may take: four in each of two searches, because no engine has a record of the
/// container.
const CALLS_PER_CGROUP: u64 = 9;

fn empty_cgroups() -> Outcome {
    let only = OnlyContainer::start()?;
    let least = || -> Result<u64, Failed> {
        let mut least = u64::MAX;
        for _ in 0..RUNS {
            least = least.min(only.count("ps CTR")?);
        }
        Ok(least)
    };
    let without = least()?;
    let parent = only.host.cgroup.join("docker");
    let cgroups = || (0..EMPTY_CGROUPS).map(|number| parent.join(format!("{number:064x}")));
    std::fs::create_dir(&parent)?;
    let with =
        cgroups().try_for_each(std::fs::create_dir).map_err(Failed::from).and_then(|()| least());
    for cgroup in cgroups().chain([parent.clone()]) {
        let _ = std::fs::remove_dir(cgroup);
    }
    let each = with?.saturating_sub(without) / EMPTY_CGROUPS;
    check(each <= CALLS_PER_CGROUP, format!("{each} calls for each, more than {CALLS_PER_CGROUP}"))
}

/// Starts containers with the records, the shims and the cgroups of Docker's, `$1` of them, each of one process.
const CONTAINERS: &str = "set -e
shim=/run/containerd-shim-runc-v2
ln -s \"$(command -v unshare)\" $shim
for number in $(seq \"$1\"); do
  id=$(printf %064x \"$number\")
  record=/var/lib/docker/containers/$id
  mkdir -p \"$record\" /sys/fs/cgroup/docker/\"$id\"
  $shim --pid --fork --mount-proc sh -c \"echo 0 > /sys/fs/cgroup/docker/$id/cgroup.procs; exec sleep infinity\" \\
    < /dev/null > /dev/null 2>&1 &
  until init=$(cat /proc/$!/task/$!/children) && [ -n \"$init\" ] && grep -qx sleep /proc/\"${init% }\"/comm; do
    sleep 0.01
  done
  echo '{\"RestartPolicy\": {\"Name\": \"no\"}}' > \"$record/hostconfig.json\"
  printf '{\"ID\": \"%s\", \"Name\": \"/c%s\", \"State\": {\"Running\": true, \"Pid\": %s}, \"Config\": {}}' \\
    \"$id\" \"$number\" \"${init% }\" > \"$record/config.v2.json\"
done";

/// Containers in the list, fewer than those for which threads pay off.
const LISTED: u64 = 20;
/// The most calls that each may take, its shim and the PIDs of both included; and once for all of them, the ancestors of
/// the one without a record, which may be a shim that was not read.
const CALLS_PER_CONTAINER: u64 = 64;
/// The most beside a record that is not trusted: then every shim is read, and no record again.
const CALLS_BESIDE_A_DOUBT: u64 = 80;
/// A record whose PID is that of another process.
const FORGED: &str = "set -e
id=$(printf %064x 99)
mkdir -p /var/lib/docker/containers/$id
printf '{\"ID\": \"%s\", \"Name\": \"/forged\", \"State\": {\"Running\": true, \"Pid\": 1}, \"Config\": {}}' \\
  \"$id\" > /var/lib/docker/containers/$id/config.v2.json";

fn listed_containers() -> Outcome {
    let only = OnlyContainer::start()?;
    let least = || -> Result<u64, Failed> {
        let counts = (0..RUNS).map(|_| only.count("ls"));
        counts.collect::<Result<Vec<u64>, Failed>>()?.into_iter().min().ok_or("no run".into())
    };
    let without = least()?;
    only.host.run(CONTAINERS, &[&LISTED.to_string()])?.expect(0)?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let listed = only.host.run("exec \"$@\" ls -q --engine docker", &[program])?.expect(0)?.out;
    check(listed.lines().count() as u64 == LISTED, listed)?;
    let check_each = |most: u64| {
        let each = least()?.saturating_sub(without) / LISTED;
        check(each <= most, format!("{each} calls for each, more than {most}"))
    };
    check_each(CALLS_PER_CONTAINER)?;
    only.host.run(FORGED, &[])?.expect(0)?;
    check_each(CALLS_BESIDE_A_DOUBT)
}
