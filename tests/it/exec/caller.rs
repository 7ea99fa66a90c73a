//! `exec` and its caller: streams that fail, an ignored SIGCHLD, variables and files of variables, and the
//! host's tools.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use super::account::Bare;
use super::{PROGRAM, exec, name, outside};
use crate::support::{Need, Outcome, check, cinspect, finish, fixture, run, same, test_with};

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        test("exec::output_that_is_lost_is_an_error", lost_output),
        test("exec::input_that_cannot_be_read_is_an_error", lost_input),
        test("exec::works_while_the_caller_ignores_sigchld", ignored_sigchld),
        test("exec::variables_are_set_removed_and_refused", variables),
        root("exec::an_environment_of_any_size_is_whole", large_environment),
        root("exec::a_cleared_umask_is_not_taken_over", cleared_umask),
        root("exec::the_hosts_tools_see_the_containers_network", network),
        root("exec::tools_run_where_there_is_no_shell", tools),
    ]
}

fn lost_output() -> Outcome {
    let container = fixture("init")?;
    for script in [
        // While the command writes, and when it has exited already.
        "exec \"$1\" exec \"$2\" -- seq 1 100000 > /dev/full",
        "exec \"$1\" exec \"$2\" -- echo one > /dev/full",
        "exec \"$1\" exec -t \"$2\" -- echo one > /dev/full",
    ] {
        let done = outside("sh", script, &container, &[]).expect(125)?;
        let expected = "cannot write the command's output: No space left on device";
        check(done.err.contains(expected), format!("{script}: {}", done.err))?;
    }
    Ok(())
}

fn lost_input() -> Outcome {
    let container = fixture("init")?;
    let script = "exec \"$1\" exec \"$2\" -- cat < /";
    let done = outside("sh", script, &container, &[]).expect(125)?;
    check(done.err.contains("cannot read the command's input: Is a directory"), done.err)
}

fn ignored_sigchld() -> Outcome {
    let container = fixture("init")?;
    let script = "trap '' CHLD; \"$1\" exec \"$2\" -- sh -c 'echo in; exit 3'; echo $?; \"$1\" ps \"$2\" -o user | tail -n 1";
    let done = outside("sh", script, &container, &[]).expect(0)?;
    let lines: Vec<&str> = done.out.lines().map(str::trim).collect();
    same(lines[..2].to_vec(), vec!["in", "3"])?;
    check(lines[2].parse::<u32>().is_err(), format!("the user has no name: {}", done.out))
}

fn variables() -> Outcome {
    let container = fixture("init")?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("env");
    let path = file.to_string_lossy().into_owned();
    let write = |bytes: &[u8]| std::fs::write(&file, bytes).map_err(|error| error.to_string());
    write(b"\xef\xbb\xbfA=1\r\n  B=2 \r\n# C=3\r\n\r\nCIT_SET\r\nCIT_UNSET\n")?;
    let with = |words: &[&str]| {
        let mut command = cinspect(&["exec", "--env-file", &path]);
        command.args(words).args([&name(&container), "--", "env"]).env("CIT_SET", "mine");
        finish(command)
    };
    let printed = with(&["-e", "D=4", "-e", "D", "-e", "PATH"]).expect(0)?.out;
    let lines: Vec<&str> = printed.lines().collect();
    for line in ["A=1", "B=2 ", "CIT_SET=mine"] {
        check(lines.contains(&line), format!("{line:?} is not in {lines:?}"))?;
    }
    // D is set by the first word, and removed by the second: the caller does not have it.
    for name in ["C=", "CIT_UNSET", "D="] {
        check(!lines.iter().any(|line| line.starts_with(name)), format!("{name} in {lines:?}"))?;
    }
    for (bytes, why) in [
        (&b"A=1\nWITH BLANK=2\n"[..], "line 2 has a blank in its name"),
        (b"=2\n", "line 1 has no name"),
        (b"A=\xff\n", "line 1 is not UTF-8"),
    ] {
        write(bytes)?;
        let refused = with(&[]).expect(2)?;
        check(refused.err.contains(why), refused.err)?;
    }
    for word in ["", "=x"] {
        exec(&container, &["-e", word, "--", "true"]).expect(2)?;
    }
    write(format!("CIT_LARGE={}\n", "x".repeat(200_000)).as_bytes())?;
    let refused = with(&[]).expect(126)?;
    check(refused.err.contains("variable `CIT_LARGE` has 200010 bytes"), refused.err)
}

/// More than a quarter of a mebibyte in the init's own environment.
fn large_environment() -> Outcome {
    let script = "for i in $(seq 4000); do export V$i=$(printf %0100d $i); done; exec sleep 4242";
    let container = Bare::start("", script)?;
    let printed = run(&["exec", "--strict", &container.name, "env"]).expect(0)?.out;
    let variables = printed.lines().filter(|line| line.starts_with('V') && line.len() > 100);
    same(variables.count(), 4000)
}

fn cleared_umask() -> Outcome {
    for (umask, expected) in [("0", "0022"), ("027", "0027")] {
        let container = Bare::start("", &format!("umask {umask}; exec sleep 4242"))?;
        let printed = run(&["exec", &container.name, "sh", "-c", "umask"]).expect(0)?.out;
        same(printed.trim(), expected)?;
    }
    Ok(())
}

/// `/sys` and resolv.conf are those of `ip netns exec`; the host's stay as they are.
fn network() -> Outcome {
    let script = "mount -t tmpfs none /run; echo nameserver 192.0.2.7 > /run/r; mount --bind /run/r /etc/resolv.conf; exec sleep 4242";
    let container = Bare::start("-n", script)?;
    let dir = tempfile::tempdir()?;
    let script = "ls /sys/class/net; cat /etc/resolv.conf; ls -d /sys/fs/cgroup/*/ | wc -l";
    for options in [&["--ns", "net"][..], &["--skip", "mnt"]] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", BEFORE_AND_AFTER]).arg(dir.path());
        command.args([PROGRAM, "exec"]).args(options);
        command.args([container.name.as_str(), "--", "sh", "-c", script]).stdin(Stdio::null());
        let done = finish(command).expect(0)?;
        let lines: Vec<&str> = done.out.lines().collect();
        same(lines[..2].to_vec(), vec!["lo", "nameserver 192.0.2.7"])?;
        let cgroups = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let has_cgroups = cgroups.filter(|entry| entry.path().is_dir()).count() > 0;
        check((lines[2] != "0") == has_cgroups, format!("cgroups: {}", done.out))?;
    }
    Ok(())
}

/// Runs a command in mounts of its own, since others change those of the host at any time, and fails if it adds one
/// or changes a file. (They are shared, as on a host: a mount in a copy of them would be one here. One whose directory
/// is removed on the host ends here, too.)
const BEFORE_AND_AFTER: &str = "mount --make-rshared / || exit
    hosts() { cat /etc/resolv.conf /proc/self/mountinfo; }
    hosts > $0/before && \"$@\" && ! hosts | grep -vxFf $0/before >&2";

/// A container whose root has nothing but a `/proc`.
fn tools() -> Outcome {
    if !std::path::Path::new("/bin/busybox").exists() {
        return Err("busybox-static is not installed".into());
    }
    let dir = tempfile::tempdir()?;
    let script = "cp /bin/busybox $0/sleep; mkdir $0/proc; mount -t proc proc $0/proc; exec chroot $0 /sleep 4242";
    let container = Bare::start("", &script.replace("$0", &dir.path().to_string_lossy()))?;
    let exec = |words: &[&str]| {
        let options = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let mut all = vec!["exec"];
        all.extend(&words[..options]);
        all.push(&container.name);
        all.extend(&words[options..]);
        run(&all)
    };
    exec(&["--", "sh"]).expect(127)?;
    let no_shell = exec(&[]).expect(127)?;
    check(no_shell.err.contains("cinspect exec --tools"), &no_shell.err)?;
    let script = "echo $0; readlink /proc/self/exe; seq 3 | wc -l; ls / | tr '\\n' ' '";
    let done = exec(&["--strict", "--tools", "--", "sh", "-c", script]).expect(0)?;
    same(done.out.as_str(), "sh\n/memfd:busybox (deleted)\n3\nproc sleep ")?;
    // The copy cannot be written to, and the host's file is not reached.
    let write = "echo x >> /proc/$$/exe";
    check(exec(&["--tools", "--", "sh", "-c", write]).code != 0, "it was written to")?;
    let mut shell = cinspect(&["exec", "--tools", &container.name]);
    shell.stdin(Stdio::from(std::fs::File::open("/dev/null")?));
    finish(shell).expect(0)?;
    for (file, why) in [("/etc/passwd", "not an ELF program"), ("/etc", "not a program")] {
        let option = format!("--tools={file}");
        let refused = exec(&[&option, "--", "sh"]).expect(125)?;
        check(refused.err.contains(why), refused.err)?;
    }
    let option = format!("--tools={PROGRAM}");
    let own = exec(&[&option, "--", "cinspect", "--version"]);
    check(own.code == 0 || own.err.contains("dynamically linked"), own.err)?;
    exec(&["--tools", "--skip", "mnt", "--", "sh"]).expect(125)?;
    without_busybox(&container.name)
}

/// A host without a static program says which package has one.
fn without_busybox(container: &str) -> Outcome {
    let mut command = Command::new("unshare");
    let script = "for f in /bin/busybox /usr/bin/busybox; do mount --bind /etc/passwd $f; done; exec \"$0\" exec --tools \"$1\" -- sh";
    command.args(["-m", "sh", "-c", script, PROGRAM, container]).stdin(Stdio::null());
    let refused = finish(command).expect(125)?;
    check(refused.err.contains("apt install busybox-static"), refused.err)
}
