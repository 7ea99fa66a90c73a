//! Copies into and out of a container with a user namespace: the IDs of owners, in access control lists and
//! of file capabilities are translated.

use super::tree::{describe, same_tree};
use super::*;

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(
            Need::Archivers,
            "cp::ids_of_lists_and_capabilities_are_translated",
            translated_ids,
        ),
        test_with(
            Need::Root,
            "cp::owner_of_a_namespace_without_an_id_in_it_can_copy",
            unmapped_owner,
        ),
    ]
}

/// Runs a container in a user namespace, in which host user 100000 is root, until its stdin ends; prints
/// the PID of its init.
const CONTAINER: &str = r#"
import ctypes, os, signal, sys
c = ctypes.CDLL(None); ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    c.unshare(0x10000000); os.write(ready[1], b'x'); os.read(go[0], 1)
    os.setgid(0); os.setuid(0); c.unshare(0x20000 | 0x20000000)
    init = os.fork()
    if init == 0:
        c.mount(None, b'/', None, 0x44000, None)
        c.mount(b'none', b'/mnt', b'tmpfs', 0, None); c.mount(b'none', b'/proc', b'proc', 0, None)
        os.write(ready[1], b'x'); os.execvp('sleep', ['sleep', '1000'])
    os.write(ready[1], str(init).encode() + b' '); os.waitpid(init, 0); os._exit(0)
os.read(ready[0], 1)
for name in 'uid_map', 'gid_map': open(f'/proc/{pid}/{name}', 'w').write('0 100000 65536\n')
os.write(go[1], b'x'); said = b''
while b' ' not in said or b'x' not in said: said += os.read(ready[0], 100)
print(said.replace(b'x', b'').decode().strip(), flush=True); sys.stdin.read(1)
for child in open(f'/proc/{pid}/task/{pid}/children').read().split(): os.kill(int(child), signal.SIGKILL)
"#;

/// Runs something with the PID of such a container.
fn with_container(program: &str, test: impl FnOnce(i32) -> Outcome) -> Outcome {
    let mut python = Command::new("python3");
    python.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn()?;
    let outcome = (|| {
        let mut line = String::new();
        let stdout = python.stdout.take().ok_or("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let init: i32 = line.trim().parse().map_err(|_| format!("no PID: {line}"))?;
        test(init)
    })();
    drop(python.stdin.take());
    let _ = python.wait();
    outcome
}

fn translated_ids() -> Outcome {
    let container = container()?;
    with_container(CONTAINER, |init| copies(&container, init))
}

/// The user whose container it is has no ID in it, as with unprivileged LXC: files are its init's, and the
/// host's side is read and written as that user.
fn unmapped_owner() -> Outcome {
    const USER: u32 = 4242;
    let become_user = format!("os.setgid({USER}); os.setuid({USER}); c.unshare(0x10000000)");
    let program = CONTAINER.replace("c.unshare(0x10000000)", &become_user);
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir_all(path("tree/sub"))?;
    std::fs::write(path("tree/sub/own"), "own")?;
    symlink("sub/own", path("tree/link"))?;
    std::fs::hard_link(path("tree/sub/own"), path("tree/other"))?;
    for name in [".", "tree", "tree/sub", "tree/sub/own"] {
        std::os::unix::fs::chown(path(name), Some(USER), Some(USER))?;
    }
    std::fs::set_permissions(path("tree/sub/own"), Permissions::from_mode(0o600))?;
    with_container(&program, |init| {
        let as_user = |arguments: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]);
            command.args([env!("CARGO_BIN_EXE_cinspect"), "cp"]).args(arguments);
            finish(command).expect(0)
        };
        let ctr = |path: &str| format!("pid:{init}:{path}");
        let inner = |name: &str| PathBuf::from(format!("/proc/{init}/root/mnt/{name}"));
        for (from, to) in [("tree/sub/own", "file"), ("tree", "tree")] {
            let done = as_user(&[&path(from), &ctr(&format!("/mnt/{to}"))])?;
            same(done.err.as_str(), "")?;
        }
        for name in ["file", "tree", "tree/sub", "tree/sub/own", "tree/link", "tree/other"] {
            let meta = inner(name).symlink_metadata()?;
            same((name, meta.uid(), meta.gid()), (name, 100_000, 100_000))?;
        }
        same(inner("tree/other").metadata()?.ino(), inner("tree/sub/own").metadata()?.ino())?;
        as_user(&[&ctr("/mnt/tree"), &path("back")])?;
        same(std::fs::read_to_string(path("back/sub/own"))?.as_str(), "own")?;
        same(Path::new(&path("back/sub/own")).metadata()?.uid(), USER)
    })
}

fn copies(container: &Container, init: i32) -> Outcome {
    let keys = &["name", "kind", "mode", "owner", "mtime", "xattrs", "data"];
    let line = "cd $R/mnt; mkdir t; echo x >t/f; chown 33:44 t/f; setfacl -m u:1:rw,g:2:r t/f; setfacl -d -m u:1:rwx t
        cp /bin/true t/c; setcap cap_net_raw+ep t/c";
    shell(container, line).expect(0)?;
    let tree = |path: &str| describe(&host_path(container, path), keys);
    let original = tree("/mnt/t")?;
    let inner = |path: &str| PathBuf::from(format!("/proc/{init}/root{path}"));
    let run_line =
        |line: &str| shell(container, &line.replace("INNER", &format!("pid:{init}"))).expect(0);
    run_line("$C cp -a --strict $CTR:/mnt/t INNER:/mnt/d; mkdir $R/mnt/s")?;
    run_line("$C cp -a --strict $CTR:/mnt/t - | $C cp -a --strict - INNER:/mnt")?;
    for path in ["/mnt/d", "/mnt/t"] {
        let copy = describe(&inner(path), keys)?;
        let file = copy.iter().find(|line| line.contains("\"'f'\"")).ok_or("no file")?;
        check(file.contains("owner [100033,100044]"), file)?;
        // User 1 and group 2 of the list, in little-endian order.
        check(file.contains("a1860100") && file.contains("a2860100"), file)?;
        let program = copy.iter().find(|line| line.contains("\"'c'\"")).ok_or("no program")?;
        // Revision 3, which ends with the root of its namespace.
        check(program.contains("\"01000003") && program.contains("a0860100\""), program)?;
    }
    run_line("$C cp -a --strict INNER:/mnt/d $CTR:/mnt/back")?;
    run_line("$C cp -a --strict INNER:/mnt/d - | $C cp -a --strict - $CTR:/mnt/s")?;
    same_tree(&tree("/mnt/back")?, &original)?;
    same_tree(&tree("/mnt/s/d")?, &original)?;
    // One without an ID there: the list is left out, and the group gets no more than before.
    let line = "cd $R/mnt; echo x >g; chmod 640 g; setfacl -m u:70000:rw g; $C cp -a $CTR:/mnt/g INNER:/mnt/g; stat -c %a g /proc/PID/root/mnt/g";
    let done = run_line(&line.replace("PID", &init.to_string()))?;
    check(done.err.contains("cannot keep its access control list"), &done.err)?;
    check(done.out.ends_with("660\n640\n"), done.out)
}
