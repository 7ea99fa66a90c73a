//! `exec` where the container or the caller has prepared something: descriptors, keys, covered mounts,
//! odd files, hanging file systems, tracers, too few descriptors.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::{PROGRAM, exec, name, nice_value, outside, strace};
use crate::support::{Need, Outcome, Run, check, finish, fixture, same, test_with, within};

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("exec::nothing_of_the_callers_session_enters", callers_session),
        root("exec::a_directory_of_the_caller_is_not_a_way_out", callers_directory),
        root("exec::a_covered_proc_is_not_trusted", covered_proc),
        root("exec::odd_passwd_files_do_no_harm", odd_passwd_files),
        root("exec::gives_up_on_a_file_system_that_hangs", hanging_file_system),
        root("exec::a_traced_process_keeps_its_tracer", keeps_its_tracer),
        root("exec::reports_too_few_descriptors", too_few_descriptors),
    ]
}

/// A umask, ignored signals, a nice value, variables, descriptors, and a key of the caller's session.
fn callers_session() -> Outcome {
    let container = fixture("init")?;
    // add_key(2) into the session's keyring, which a child would have.
    let add_key = "import ctypes,os,sys
if ctypes.CDLL(None, use_errno=True).syscall(KEY, b'user', b'cit-key', b'v', 1, -3) < 0: sys.exit('no key')
os.execvp(sys.argv[1], sys.argv[1:])";
    let add_key = add_key.replace("KEY", &nix::libc::SYS_add_key.to_string());
    let with_key = |argv: &[&str]| -> Run {
        let mut command = Command::new("python3");
        command.args(["-c", &add_key]).args(argv).stdin(Stdio::null());
        finish(command)
    };
    // keyctl(2), KEYCTL_SEARCH in the session's keyring.
    let search = "import ctypes
print(ctypes.CDLL(None).syscall(KEYCTL, 10, -3, b'user', b'cit-key', 0) > 0)";
    let search = search.replace("KEYCTL", &nix::libc::SYS_keyctl.to_string());
    same(with_key(&["python3", "-c", &search]).expect(0)?.out.as_str(), "True\n")?;
    let entered = with_key(&[PROGRAM, "exec", &name(&container), "--", "python3", "-c", &search]);
    same(entered.expect(0)?.out.as_str(), "False\n")?;
    let script = "umask 000; trap '' PIPE INT USR1; export SECRET=1 LD_PRELOAD=; cd /tmp; exec 7< / 8< /etc/passwd; \
        exec nice -n 5 \"$1\" exec \"$2\" -- sh -c \
        'umask; grep -E \"Sig(Blk|Ign)\" /proc/self/status; nice; ls /proc/$$/fd; env; pwd'";
    let printed = with_key(&["sh", "-c", script, "sh", PROGRAM, &name(&container)]).expect(0)?;
    let lines: Vec<&str> = printed.out.lines().collect();
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.init));
    let status = status.unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap_or_default();
    same(lines[0], umask)?;
    same(lines[1..3].to_vec(), vec!["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"])?;
    same(lines[3], nice_value()?.as_str())?;
    // (`sh -c` has no script open, and ls lists the shell, not itself.)
    same(lines[4..7].to_vec(), vec!["0", "1", "2"])?;
    check(!printed.out.contains("SECRET") && lines[7].parse::<u8>().is_err(), &printed.out)
}

/// CVE-2024-21626: an inherited descriptor as working directory.
fn callers_directory() -> Outcome {
    let container = fixture("init")?;
    for path in ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/cwd/../../..", "/proc/self/fd/8"] {
        let script = "exec 7< / 8< /root; exec \"$1\" exec -w \"$3\" \"$2\" -- pwd -P";
        outside("sh", script, &container, &[path]).expect(125)?;
    }
    Ok(())
}

/// Once the helper has joined the mounts, it opens no path below `/proc`, `/sys` or `/dev`.
fn covered_proc() -> Outcome {
    let container = fixture("init")?;
    within(
        &container,
        "mount -t tmpfs none /proc; mkdir -p /proc/self/attr /proc/self/fd; echo fake > /proc/self/status; : > /proc/self/attr/exec",
    )?;
    let name = name(&container);
    // (Where the init has a seccomp filter strace would be in the way; here it has none.)
    let words = ["exec", "--strict", &name, "grep", "-q", "fake", "/proc/self/status"];
    let lines = strace("openat,openat2,setns,execve,execveat", &words, 0)?;
    let helper = lines.iter().find(|line| line.contains("setns(")).ok_or("no setns")?;
    let helper = helper.split(' ').next().unwrap_or_default().to_owned();
    let after = lines
        .iter()
        .filter(|line| line.starts_with(&helper))
        .skip_while(|line| !line.contains("setns("));
    // The root that setns(2) has set, and beneath the container's root the files of its users; of the
    // host's /proc, held since before, its own directory.
    let expected =
        ["\"etc/passwd\"", "\"etc/group\"", "\"self/", "\"/\", O_RDONLY|O_CLOEXEC|O_PATH"];
    let opened: Vec<&String> = after
        .filter(|line| line.contains("openat"))
        .filter(|line| !expected.iter().any(|path| line.contains(path)))
        .collect();
    check(opened.is_empty(), format!("{opened:?}"))
}

/// A FIFO, a link to a device, a directory, a file that is too large, and lines that would make a user
/// root.
fn odd_passwd_files() -> Outcome {
    let files = [
        ("mkfifo /run/p", false),
        ("ln -s /dev/zero /run/p", false),
        ("mkdir /run/p", false),
        ("head -c 3000000 /dev/zero | tr '\\0' 'a' > /run/p", false),
        (
            "printf '1000:x:0:0::/root:/bin/sh\\nbig:x:4294967296:0::/:\\nneg:x:-1:0::/:\\nok:x:7:8::/:/bin/sh\\n' > /run/p",
            true,
        ),
    ];
    for (make, is_usable) in files {
        let container = fixture("init")?;
        // Mounted over the directory, because not everything can be mounted over a file.
        let script = format!(
            "mount -t tmpfs none /run; {make}; cp -a /etc /run/etc; rm /run/etc/passwd; mv /run/p /run/etc/passwd; mount --bind /run/etc /etc"
        );
        within(&container, &script)?;
        let id = |user: &str| exec(&container, &["-u", user, "--", "id", "-u"]);
        let begun = Instant::now();
        same(id("1000").expect(0)?.out.trim(), "1000")?;
        for user in ["big", "neg"] {
            id(user).expect(125)?;
        }
        let ok = id("ok");
        if is_usable {
            same(ok.expect(0)?.out.trim(), "7")?;
        } else {
            ok.expect(125)?;
        }
        check(begun.elapsed() < Duration::from_secs(100), format!("{make}: it took too long"))?;
    }
    Ok(())
}

fn hanging_file_system() -> Outcome {
    let container = fixture("init etc-hangs")?;
    let begun = Instant::now();
    let done = exec(&container, &["-u", "web", "--", "id"]).expect(125)?;
    check(done.err.contains("does not respond"), &done.err)?;
    check(begun.elapsed() < Duration::from_secs(100), "it took too long")
}

/// Filters are read by tracing: without a filter no tracing is needed, and another tracer stays.
fn keeps_its_tracer() -> Outcome {
    let container = fixture("init")?;
    let pid = nix::unistd::Pid::from_raw(container.init);
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
        .map_err(|errno| errno.to_string())?;
    exec(&container, &["--strict", "--", "true"]).expect(0)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    check(!status.contains("TracerPid:\t0\n"), "its tracer has gone")
}

fn too_few_descriptors() -> Outcome {
    let container = fixture("init")?;
    for limit in ["6", "8", "12", "16", "20", "24"] {
        let script = "ulimit -n \"$3\"; exec \"$1\" exec \"$2\" echo in";
        let done = outside("sh", script, &container, &[limit]);
        // It either runs completely or fails with a message.
        let has_run = done.code == 0 && done.out == "in\n";
        let has_failed =
            done.code == 125 && done.out.is_empty() && done.err.starts_with("cinspect: ");
        check(has_run || has_failed, format!("{limit}: {done:?}"))?;
    }
    Ok(())
}
