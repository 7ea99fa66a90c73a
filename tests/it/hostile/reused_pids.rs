//! One host PID that belongs to a container, to a process of the host, to another container, and so on, by
//! clone3(2) with `set_tid` (since Linux 5.5), while commands act on `pid:N`. A command acts on one of the
//! containers or fails: the process of the host gets no signal, and no command runs half in one container and
//! half in another.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};

use super::is_long;
use crate::support::{Outcome, Run, check, cinspect, finish, note, run, same, test_with_programs};

const ROUNDS: usize = 6;
const ROUNDS_AT_LENGTH: usize = 150;

/// Commands that hold a process for a while, or read it again and again: the PID has another owner before they are
/// done.
const WAITING: &[&[&str]] = &[
    &["signal", "USR1", "--wait=300ms"],
    &["signal", "USR1", "--pid", "1", "--wait=100ms"],
    &["signal", "USR1", "--kill-after", "50ms", "--wait=300ms"],
    &["signal", "USR1", "--all", "--kill-after", "50ms"],
    &["stop", "--order", "all", "-t", "50ms"],
    &["stop", "--order", "children-first", "-t", "50ms"],
    &["stop", "--schedule", "USR1:50ms,TERM:50ms,KILL"],
    &["stop", "-t", "0"],
    &["exec", "-d", "sleep", "0.1"],
    &["exec", "--tools", "true"],
    &["trace", "--for", "200ms"],
    &["doctor", "--exit-zero"],
    &["inspect"],
];

/// Arguments: the file for reports, and the marker's name. It prints the PID, and goes on to the next owner of
/// the PID after a random time. It reports each end of the process of the host that it has not caused.
const SCRIPT: &str = r#"
import ctypes, os, random, select, signal, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
report, marker = sys.argv[1], sys.argv[2].encode()
NEWNS, NEWUTS, NEWPID = 0x20000, 0x4000000, 0x20000000
def clone(flags, pids):
    tids = (ctypes.c_int * len(pids))(*pids)
    arguments = (ctypes.c_uint64 * 10)(flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(tids), len(pids))
    return libc.syscall(435, arguments, ctypes.sizeof(arguments))
# A copy to `/tmp` of a container in a mount namespace that is not set up yet is one to the host's: they are set up first.
def prepare(name):
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        libc.unshare(NEWNS | NEWUTS)
        libc.sethostname(name, len(name))
        libc.mount(b'none', b'/', None, 0x44000, None)
        libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)
        open(b'/tmp/' + marker, 'wb').write(name)
        os.write(done, b'x')
        while True: time.sleep(1000)
    os.read(ready, 1)
    spaces = namespaces(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return spaces
def namespaces(pid): return [os.open('/proc/%s/ns/%s' % (pid, kind), os.O_RDONLY) for kind in ('mnt', 'uts')]
def enter(spaces):
    for space in spaces: libc.setns(space, 0)
def container():
    libc.unshare(NEWNS)
    libc.mount(b'proc', b'/proc', b'proc', 0, None)
    while True: time.sleep(1000)
own, prepared = namespaces('self'), {name: prepare(name) for name in (b'meant', b'other')}
def start(role, host):
    flags, pids = (0, [host]) if role == b'bystander' else (NEWPID, [1, host])
    enter(prepared.get(role, []))
    try: return start_here(role, flags, pids)
    finally: enter(own)
def start_here(role, flags, pids):
    for _ in range(200):
        child = clone(flags, pids)
        if child == 0:
            for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT): signal.signal(each, signal.SIG_DFL)
            try:
                if role == b'bystander':
                    while True: time.sleep(1000)
                container()
            finally: os._exit(9)
        if child > 0: return child
        time.sleep(0.01)
    return -1
# (The kernel gives out no PID below 300 once it has begun again: RESERVED_PIDS, kernel/pid.c.)
host = next((n for n in range(299, 1, -1) if not os.path.exists('/proc/%d' % n)), 299)
first = start(b'meant', host)
if first < 0: print('cannot', flush=True); sys.exit(0)
print(host, flush=True)
rng, number, child = random.Random(1), 0, first
roles = [b'meant', b'bystander', b'other', b'bystander']
while True:
    role = roles[number % 4]
    # (Until its standard input is closed.)
    if select.select([sys.stdin], [], [], rng.choice([0.002, 0.02, 0.1, 0.4, 1.5]))[0]: break
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        if role == b'bystander': open(report, 'a').write('the process of the host ended: %d\n' % status)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if role == b'bystander' and status != signal.SIGKILL: open(report, 'a').write('the process of the host got %d\n' % status)
    number += 1
    child = start(roles[number % 4], host)
    if child < 0: break
try: os.kill(child, signal.SIGKILL)
except ProcessLookupError: pass
"#;

pub fn trials() -> Vec<Trial> {
    let name = "hostile::a_pid_that_is_reused_by_containers_and_the_host";
    vec![test_with_programs(&["python3"], name, reused)]
}

fn reused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report");
    std::fs::write(&report, "")?;
    let marker = format!("cinspect-reused-{}", std::process::id());
    let mut script = Command::new("python3");
    script.args(["-c", SCRIPT]).arg(&report).arg(&marker);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(script.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let outcome = match line.trim() {
        "" => Err("the script did not start".into()),
        // (A seccomp filter or an old kernel.)
        "cannot" => Err("clone3 with set_tid is not possible here".into()),
        pid => commands(&format!("pid:{pid}"), &marker, dir.path()),
    };
    drop(script.stdin.take());
    script.wait()?;
    outcome?;
    same(std::fs::read_to_string(&report)?, String::new())
}

fn commands(name: &str, marker: &str, dir: &std::path::Path) -> Outcome {
    let rounds = if is_long() { ROUNDS_AT_LENGTH } else { ROUNDS };
    let path = format!("/tmp/{marker}");
    let (inner, inbound) = (format!("{name}:{path}"), format!("{name}:{path}.in"));
    let script = format!("hostname; cat {path}; echo; readlink /proc/1/ns/uts /proc/self/ns/uts");
    let (member, stream) = (format!("{marker}.in"), dir.join("stream"));
    std::fs::write(dir.join(&member), "from the host")?;
    let mut tar = Command::new("tar");
    check(tar.arg("-cf").arg(&stream).arg("-C").arg(dir).arg(&member).status()?.success(), "tar")?;
    for round in 0..rounds {
        let done = verify(run(&["exec", name, "sh", "-c", &script]))?;
        let lines: Vec<&str> = done.out.lines().collect();
        // (The container may end while the command runs in it.)
        if let [host, mark, first, second, ..] = lines[..] {
            same((host, first), (mark, second))?;
        }
        let copy = dir.join(round.to_string()).display().to_string();
        let _ = verify(run(&["cp", &inner, &copy]))?;
        let copied = std::fs::read_to_string(&copy).unwrap_or_else(|_| "meant".into());
        check(["meant", "other"].contains(&&*copied), format!("copied {copied:?}"))?;
        let packed = verify(run(&["cp", &inner, "-"]))?;
        let is_known = ["meant", "other"].iter().any(|name| packed.out.contains(name));
        check(packed.code != 0 || is_known, format!("a stream of {:?}", packed.out))?;
        verify(run(&["cp", "/etc/hostname", &inbound]))?;
        let mut unpack = cinspect(&["cp", "-", &format!("{name}:/tmp")]);
        unpack.stdin(std::fs::File::open(&stream)?);
        verify(finish(unpack))?;
        check(
            !std::path::Path::new(&format!("{path}.in")).exists(),
            "a file was written on the host",
        )?;
        verify(run(&["signal", name, "USR1"]))?;
        verify(run(&["signal", name, "USR1", "--all"]))?;
        verify(run(&["stop", "-t", "100ms", name]))?;
        verify(run(&["--json", "ps", name]))?;
        for words in WAITING {
            let (command, options) = words.split_first().ok_or("no command")?;
            verify(run(&[&[*command, name], options].concat()))?;
        }
        note("hostile", &format!("reused PID {round}"), "ok", "");
    }
    Ok(())
}

/// Any status but that of a panic or a signal.
fn verify(run: Run) -> Result<Run, Failed> {
    check(run.code >= 0 && run.code != 101 && !run.err.contains("panicked"), format!("{run:?}"))?;
    Ok(run)
}
