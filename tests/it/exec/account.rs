//! The account of `exec`: each attribute that the command takes over is lost once, by a system call that is
//! made to fail, by a caller without the rights, or by an odd container. Without `--strict` that is a warning
//! that names it, with `--strict` an error.

use std::process::{Child, Command, Stdio};

use libtest_mimic::{Failed, Trial};

use super::{PROGRAM, name};
use crate::support::{
    Need, Outcome, check, children, finish, fixture, same, test_with, wait_until, within,
};

pub fn trials() -> Vec<Trial> {
    let strace = |name, run: fn() -> Outcome| test_with(Need::Strace, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        strace("exec::every_attribute_that_is_lost_is_an_entry", lost_attributes),
        strace("exec::every_mount_for_the_hosts_tools_that_is_lost_is_an_entry", lost_mounts),
        root("exec::an_overwritten_environment_is_an_entry", overwritten_environment),
        root("exec::a_deleted_working_directory_is_an_entry", deleted_directory),
        root("exec::a_passwd_file_that_is_too_large_is_an_error", large_passwd),
        root("exec::another_shell_than_the_users_is_an_entry", other_shell),
    ]
}

/// A way to lose an attribute.
struct Loss {
    /// Its name in the warning.
    attribute: &'static str,
    /// A program that starts cinspect as another caller.
    caller: &'static [&'static str],
    /// The system call that fails, as strace(1) takes it.
    fault: Option<&'static str>,
    /// A script that changes the container.
    script: &'static str,
    /// Options of exec.
    options: &'static [&'static str],
}

const LOSS: Loss = Loss { attribute: "", caller: &[], fault: None, script: "", options: &[] };

const LOSSES: &[Loss] = &[
    Loss { attribute: "nice value NICE", fault: Some("setpriority:error=EACCES"), ..LOSS },
    Loss {
        attribute: "scheduling policy OTHER",
        caller: &["chrt", "-b", "0"],
        fault: Some("sched_setscheduler:error=EPERM"),
        ..LOSS
    },
    Loss {
        attribute: "I/O priority",
        caller: &["ionice", "-c", "3"],
        fault: Some("ioprio_set:error=EPERM"),
        ..LOSS
    },
    Loss { attribute: "personality", fault: Some("personality:error=EINVAL"), ..LOSS },
    Loss { attribute: "separate session keyring", fault: Some("keyctl:error=EDQUOT"), ..LOSS },
    Loss {
        attribute: "RLIMIT_CORE",
        caller: &["sh", "-c", "ulimit -Sc 1; exec \"$@\"", "sh"],
        fault: Some("prlimit64:error=EPERM"),
        ..LOSS
    },
    Loss { attribute: "CPU affinity", fault: Some("sched_setaffinity:error=EINVAL"), ..LOSS },
    Loss {
        attribute: "supplementary groups",
        caller: &["setpriv", "--groups", "4,5"],
        fault: Some("setgroups:error=EPERM"),
        ..LOSS
    },
    Loss {
        attribute: "capabilities net_raw",
        caller: &["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"],
        ..LOSS
    },
    Loss {
        attribute: "terminal name",
        script: "mount -t tmpfs none /dev/pts",
        options: &["-t"],
        ..LOSS
    },
    Loss {
        attribute: "controlling terminal",
        fault: Some("setsid:error=EPERM"),
        options: &["-t"],
        ..LOSS
    },
    Loss {
        attribute: "/proc of its PID namespace",
        fault: Some("mount:error=EPERM"),
        options: &["--skip", "mnt"],
        ..LOSS
    },
    Loss { attribute: "tools", script: "mount -t tmpfs none /proc", options: &["--tools"], ..LOSS },
];

/// Runs `true`, or busybox' own for `--tools`, with this loss.
fn run(loss: &Loss, container: &str, is_strict: bool) -> crate::support::Run {
    let mut words: Vec<&str> = loss.caller.to_vec();
    let inject = loss.fault.map(|fault| format!("inject={fault}"));
    if let Some(inject) = &inject {
        words.extend(["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject]);
    }
    words.extend([PROGRAM, "exec"]);
    words.extend(loss.options);
    words.extend(if is_strict { &["--strict"][..] } else { &[] });
    words.extend([container, "--", "true"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    finish(command)
}

fn shows(loss: &Loss, container: &str) -> Outcome {
    let text = |run: &crate::support::Run| format!("{}{}", run.out, run.err);
    let attribute = loss.attribute.replace("NICE", &super::nice_value()?);
    let warned = run(loss, container, false).expect(0)?;
    let is_warned = text(&warned).contains(&format!("warning: {attribute} "));
    check(is_warned, format!("{}: {warned:?}", loss.attribute))?;
    let refused = run(loss, container, true).expect(125)?;
    let is_refused = text(&refused).contains(&format!("the container's {attribute}: "));
    check(is_refused, format!("{}: {refused:?}", loss.attribute))
}

fn lost_attributes() -> Outcome {
    // Nothing is lost by itself.
    let container = fixture("init")?;
    let whole = run(&LOSS, &name(&container), true).expect(0)?;
    same(whole.err.as_str(), "")?;
    for loss in LOSSES {
        let container = fixture("init")?;
        if !loss.script.is_empty() {
            within(&container, loss.script)?;
        }
        shows(loss, &name(&container))?;
    }
    Ok(())
}

/// A process in namespaces of its own; killed when dropped.
pub struct Bare {
    child: Child,
    /// The reference of its container.
    pub name: String,
}

impl Bare {
    /// Starts a script as PID 1, which has to end in `sleep 4242`.
    pub fn start(options: &str, script: &str) -> Result<Self, Failed> {
        let mut command = Command::new("unshare");
        command
            .args(["-f", "--kill-child", "-pm", "--mount-proc"])
            .args(options.split_whitespace());
        command.args(["sh", "-c", script]).stdin(Stdio::null());
        let child = command.spawn()?;
        let parent = child.id().cast_signed();
        let mut bare = Self { child, name: String::new() };
        let is_ready = wait_until(|| {
            let Some(&init) = children(parent).first() else { return false };
            bare.name = format!("pid:{init}");
            let cmdline = std::fs::read(format!("/proc/{init}/cmdline")).unwrap_or_default();
            cmdline.ends_with(b"sleep\x004242\0") || cmdline.starts_with(b"xxxx")
        });
        check(is_ready, "the script does not end in `sleep 4242`")?;
        Ok(bare)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lost_mounts() -> Outcome {
    let container = Bare::start("-n", "exec sleep 4242")?;
    let options = &["--ns", "net"];
    for (attribute, fault) in [
        // The file system for the copy, which is the second mount.
        ("/etc/resolv.conf", "mount:error=EPERM:when=2"),
        ("/sys of its network namespace", "mount:error=EPERM:when=1"),
        ("/sys of its network namespace", "unshare:error=EPERM"),
    ] {
        let loss = Loss { attribute, fault: Some(fault), options, ..LOSS };
        shows(&loss, &container.name)?;
    }
    run(&Loss { options, ..LOSS }, &container.name, true).expect(0).map(drop)
}

/// perl writes a title over its arguments and its environment, as nginx and redis do.
fn overwritten_environment() -> Outcome {
    let script = "exec env -i A=1 DB=2 perl -e '$0 = \"x\" x 4000; sleep 4242'";
    let container = Bare::start("", script)?;
    shows(&Loss { attribute: "environment", ..LOSS }, &container.name)
}

fn deleted_directory() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("w");
    std::fs::create_dir(&path)?;
    let script = format!("cd {0}; rmdir {0}; exec sleep 4242", path.display());
    let container = Bare::start("", &script)?;
    let loss = Loss { attribute: "working directory", ..LOSS };
    shows(&loss, &container.name)?;
    let warned = run(&loss, &container.name, false);
    check(warned.err.contains("it has been deleted"), &warned.err)?;
    run(&Loss { options: &["-w", "/"], ..LOSS }, &container.name, true).expect(0).map(drop)
}

/// The user's shell runs no commands, is not there, or is a directory.
fn other_shell() -> Outcome {
    for (shell, why) in [
        ("/usr/sbin/nologin", "runs no commands"),
        ("/bin/false", "runs no commands"),
        ("/bin/nosuch", "No such file or directory"),
        ("/usr", "Permission denied"),
    ] {
        let container = fixture("init")?;
        let script = format!(
            "mount -t tmpfs none /run; echo 'root:x:0:0::/root:{shell}' > /run/passwd; mount --bind /run/passwd /etc/passwd"
        );
        within(&container, &script)?;
        let shell_of = |strict: &str| {
            let script = format!("echo 'echo $0' | \"$1\" exec {strict} \"$2\"");
            super::outside("sh", &script, &container, &[])
        };
        let ran = shell_of("").expect(0)?;
        same((shell, ran.out.as_str()), (shell, "/bin/sh\n"))?;
        let warning = "warning: login shell changed: ";
        check(ran.err.contains(warning) && ran.err.contains(why), &ran.err)?;
        let refused = shell_of("--strict");
        check([125, 127].contains(&refused.code) && refused.err.contains(shell), refused.err)?;
    }
    Ok(())
}

/// A part of a passwd file could lack the user, or end in a line that is cut off.
fn large_passwd() -> Outcome {
    let container = fixture("init")?;
    let script = "mount -t tmpfs none /run; { echo app:x:7:7::/:/bin/sh; head -c 1048545 /dev/zero | tr '\\0' '#'; echo; echo late:x:1000:1000::/:/bin/sh; } > /run/passwd; mount --bind /run/passwd /etc/passwd";
    within(&container, script)?;
    let name = name(&container);
    let to = format!("{}:/run/x", name);
    let cinspect = |arguments: &[&str]| finish(crate::support::cinspect(arguments));
    for user in ["app", "late"] {
        let exec = cinspect(&["exec", "-u", user, &name, "true"]);
        let cp = cinspect(&["cp", "--chown", user, "/etc/hostname", &to]);
        for (status, refused) in [(125, exec), (1, cp)] {
            let refusal = refused.expect(status)?.err;
            check(refusal.contains("its /etc/passwd is larger than 1 MiB"), refusal)?;
        }
    }
    cinspect(&["exec", "-u", "7", &name, "true"]).expect(0)?;
    cinspect(&["cp", "--chown", "7:7", "/etc/hostname", &to]).expect(0).map(drop)
}
