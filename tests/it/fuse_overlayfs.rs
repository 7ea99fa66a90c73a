//! A container whose root is a FUSE file system of its own user namespace, as rootless Podman's is with
//! fuse-overlayfs: it lets nobody in from outside, not even root.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::support::{
    Outcome, check, children, cinspect, finish, run, same, test_with_programs, wait_until,
};

pub fn trials() -> Vec<Trial> {
    vec![test_with_programs(
        &["fuse-overlayfs", "python3", "busybox"],
        "fuse_overlayfs::root_of_the_host_reads_enters_and_copies",
        every_command,
    )]
}

/// The user of the host that is root in the container.
const OWNER: u32 = 100_000;

/// Runs such a container below the directory in its argument until its stdin ends; prints the PID of its init.
/// (/dev/fuse need not be for every user here.)
const CONTAINER: &str = r#"
import ctypes, os, signal, subprocess, sys, time
c = ctypes.CDLL(None); base = sys.argv[1]; merged = base + '/merged'; ready, go = os.pipe(), os.pipe()
def call(result):
    if result != 0: os.write(2, b'a system call failed\n'); os._exit(1)
pid = os.fork()
if pid == 0:
    call(c.unshare(0x20000)); call(c.mount(None, b'/', None, 0x44000, None))
    call(c.mount((base + '/fuse').encode(), b'/dev/fuse', None, 0x1000, None))
    call(c.unshare(0x10000000)); os.write(ready[1], b'x'); os.read(go[0], 1)
    os.setgid(0); os.setuid(0); call(c.unshare(0x20000))
    options = 'lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work'.format(base)
    server = subprocess.Popen(['fuse-overlayfs', '-f', '-o', options, merged], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.ismount(merged):
        if server.poll() is not None: os._exit(1)
        time.sleep(0.01)
    call(c.unshare(0x20000000)); init = os.fork()
    if init == 0:
        call(c.unshare(0x20000)); call(c.mount(b'none', (merged + '/proc').encode(), b'proc', 0, None))
        os.chdir(merged); call(c.syscall(155, b'.', b'.')); call(c.umount2(b'.', 2)); os.chdir('/')
        os.execv('/bin/busybox', ['busybox', 'sh', '/app.sh'])
    os.write(ready[1], str(init).encode() + b' '); os.waitpid(init, 0); server.wait(); os._exit(0)
os.close(ready[1])
if not os.read(ready[0], 1): sys.exit(1)
for name in 'uid_map', 'gid_map': open(f'/proc/{pid}/{name}', 'w').write('0 100000 65536\n')
os.write(go[1], b'x'); said = b''
while b' ' not in said:
    part = os.read(ready[0], 100)
    if not part: sys.exit(1)
    said += part
print(said.decode().strip(), flush=True); sys.stdin.read(1)
for child in open(f'/proc/{pid}/task/{pid}/children').read().split(): os.kill(int(child), signal.SIGKILL)
os.waitpid(pid, 0)
"#;

/// The running container; dropping it ends it.
struct FuseContainer {
    python: Child,
    directory: tempfile::TempDir,
    init: i32,
}

impl FuseContainer {
    fn start() -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let base = directory.path();
        std::fs::set_permissions(base, PermissionsExt::from_mode(0o755))?;
        for name in [
            "lower/bin",
            "lower/dev",
            "lower/etc",
            "lower/proc",
            "lower/tmp",
            "upper",
            "work",
            "merged",
        ] {
            std::fs::create_dir_all(base.join(name))?;
        }
        std::fs::copy("/bin/busybox", base.join("lower/bin/busybox"))?;
        for name in ["sh", "sleep", "id", "touch", "cat"] {
            symlink("busybox", base.join("lower/bin").join(name))?;
        }
        let passwd = "root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n";
        std::fs::write(base.join("lower/etc/passwd"), passwd)?;
        // A shell opens it for a command in the background.
        std::fs::write(base.join("lower/dev/null"), "")?;
        let script = "trap 'kill $!; wait $!; exit 0' TERM\nsleep 1000 &\nwait\n";
        std::fs::write(base.join("lower/app.sh"), script)?;
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "mknod \"$0/fuse\" c 10 229; chmod 666 \"$0/fuse\"; chown -R $1:$1 \"$0\"",
        ]);
        command.arg(base).arg(OWNER.to_string());
        check(command.status()?.success(), "no device")?;
        chown(base, Some(0), Some(0))?;
        let mut command = Command::new("python3");
        command.args(["-c", CONTAINER]).arg(base).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut started = Self { python: command.spawn()?, directory, init: 0 };
        let mut line = String::new();
        let stdout = started.python.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        started.init = line.trim().parse().map_err(|_| format!("no PID: {line}"))?;
        // The script has come to its `wait` when it has a child.
        let is_started = || !children(started.init).is_empty();
        check((0..6).any(|_| wait_until(is_started)), "the script has no child")?;
        Ok(started)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for FuseContainer {
    fn drop(&mut self) {
        drop(self.python.stdin.take());
        let _ = self.python.wait();
    }
}

fn every_command() -> Outcome {
    let container = FuseContainer::start()?;
    let name = format!("pid:{}", container.init);
    let mountinfo = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.init))?;
    check(mountinfo.contains(" / / ") && mountinfo.contains("fuse.fuse-overlayfs"), &mountinfo)?;
    // Names of users.
    let listed = run(&["--json", "ps", &name]).expect(0)?;
    let users: Vec<_> = listed.objects().iter().map(|process| process["user"].clone()).collect();
    check(users.iter().any(|user| user == "root"), format!("{users:?}"))?;
    // A file that a forecast needs: the script has the trap.
    let doctor = || run(&["doctor", &name]);
    let is_ok = || doctor().out.starts_with("ok");
    check((0..6).any(|_| wait_until(is_ok)), format!("{:?}", doctor()))?;
    // Completion of a path.
    let names = || {
        let mut command = cinspect(&["--", "cinspect", "cp", &format!("{name}:/etc/pass")]);
        command.env("CINSPECT_COMPLETE", "q2");
        finish(command)
    };
    let is_offered = || names().out.contains("/etc/passwd");
    check((0..6).any(|_| wait_until(is_offered)), format!("{:?}", names()))?;
    // exec, with the container's users and files of theirs.
    for (options, user) in [(&[][..], "0"), (&["-u", "web"], "1000"), (&["--tools"], "0")] {
        let arguments = [&["exec", "--strict"], options, &[&name, "--", "id", "-u"]].concat();
        let done = run(&arguments).expect(0)?;
        same((done.out.trim(), done.err.as_str()), (user, ""))?;
    }
    run(&["exec", "-w", "/tmp", &name, "--", "touch", "made"]).expect(0)?;
    same(container.path("upper/tmp/made").metadata()?.uid(), OWNER)?;
    // cp in and out.
    run(&["cp", "/etc/hostname", &format!("{name}:/tmp/copied")]).expect(0)?;
    same(container.path("upper/tmp/copied").metadata()?.uid(), OWNER)?;
    let (passwd, original) = (format!("{name}:/etc/passwd"), container.path("lower/etc/passwd"));
    let copy_to = |path: &Path| run(&["cp", &passwd, &path.display().to_string()]);
    copy_to(&container.path("upper/passwd")).expect(0)?;
    same_text(&container.path("upper/passwd"), &original)?;
    // A directory of root's: the way that works is told, and does.
    let refused = copy_to(&container.path("passwd")).expect(5)?;
    check(refused.err.contains("cinspect cp NAME:PATH - | tar -x -C DIR"), &refused.err)?;
    let mut line = Command::new("sh");
    line.args(["-c", "\"$0\" cp \"$1\" - | tar -x -C \"$2\"", env!("CARGO_BIN_EXE_cinspect")]);
    line.arg(&passwd).arg(container.path(""));
    finish(line).expect(0)?;
    same_text(&container.path("passwd"), &original)
}

fn same_text(copy: &Path, original: &Path) -> Outcome {
    same(std::fs::read_to_string(copy)?, std::fs::read_to_string(original)?)
}
