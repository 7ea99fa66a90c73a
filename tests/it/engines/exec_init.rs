//! `exec` and an init that is not the container: one that changed its root, wrote over its environment,
//! lowered its limits, added a seccomp filter or deleted its working directory; and the host's tools in a
//! container without any.

use std::process::{Command, Stdio};

use super::Engine;
use crate::support::{Outcome, check, finish, run, same, wait_until};

/// Libraries of the host, for its perl and python.
const HOST_PROGRAMS: &str = "-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro";

/// A second container of the engine; removed when dropped.
struct Other<'a> {
    engine: &'a Engine,
    id: String,
    /// Its qualified name.
    name: String,
}

impl<'a> Other<'a> {
    /// Starts a command, and waits until its init has this file below its root.
    fn start(
        engine: &'a Engine,
        options: &str,
        command: &[&str],
    ) -> Result<Self, libtest_mimic::Failed> {
        let id = format!("cit-{}-init", engine.name);
        let _ = engine.script(&["rm", &id]);
        let mut arguments = vec!["run", id.as_str(), "--"];
        arguments.extend(command);
        engine.script_with(options, &arguments)?;
        let name = engine.script(&["qualified", &id])?;
        let other = Self { engine, id, name };
        let init = engine.init_of(&other.id)?;
        // It has become the program that stays.
        let is_ready = || {
            let comm = std::fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
            ["sleep", "busybox", "perl", "python3", "x"].iter().any(|name| comm.starts_with(name))
                && std::fs::metadata(format!("/proc/{init}/root/ready")).is_ok()
        };
        check(wait_until(is_ready), "the init is not ready")?;
        Ok(other)
    }

    fn exec(&self, words: &[&str]) -> Result<crate::support::Run, libtest_mimic::Failed> {
        let mut all = vec!["exec", "--strict", self.name.as_str(), "--"];
        all.extend(words);
        run(&all).expect(0)
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let _ = self.engine.script(&["rm", &self.id]);
    }
}

/// Everything below its root is still there, and the users have names.
pub fn changed_root(engine: &Engine) -> Outcome {
    let script = "mkdir -p /jail/bin; cp /bin/busybox /jail/bin; : > /jail/ready; \
        exec chroot /jail /bin/busybox sleep 4343";
    let other = Other::start(engine, "", &["sh", "-c", script])?;
    let listed = other.exec(&["ls", "/"])?.out;
    check(listed.contains("jail") && listed.contains("etc"), &listed)?;
    same(other.exec(&["pwd"])?.out.as_str(), "/\n")?;
    let user = run(&["exec", "-u", "web", &other.name, "id"]).expect(0)?.out;
    check(user.starts_with("uid=1000(web)"), user)?;
    // The process that was chosen is meant as it is.
    let own = run(&["exec", "--pid", "1", &other.name, "/bin/busybox", "ls", "/"]).expect(0)?.out;
    same(own.as_str(), "bin\nready\n")?;
    let ps = run(&["--json", "ps", &other.name]).expect(0)?.objects();
    same(ps[0]["user"].as_str(), Some("root"))?;
    let change = "changed its root directory to `/jail`";
    let findings = run(&["--json", "doctor", "--exit-zero", &other.name]).expect(0)?.objects();
    let found = findings.iter().find(|finding| finding["code"] == "changed-by-init");
    check(found.is_some_and(|f| f["message"].to_string().contains(change)), "doctor says nothing")?;
    let page = run(&["--json", "inspect", &other.name]).expect(0)?.objects();
    check(page[0]["warnings"].to_string().contains(change), "inspect says nothing")?;
    let verbose = run(&["-v", "exec", &other.name, "true"]).expect(0)?.err;
    check(verbose.contains(change), &verbose)?;
    // A container whose init has changed nothing has no such finding.
    let name = engine.qualified()?;
    let others = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    check(others.iter().all(|finding| finding["code"] != "changed-by-init"), "another one has it")?;
    copies_by_the_containers_root(&other)
}

/// Files go to the container's root, and come from there.
fn copies_by_the_containers_root(other: &Other<'_>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f");
    std::fs::write(&file, "x")?;
    let (file, path) = (file.to_string_lossy(), |path: &str| format!("{}:{path}", other.name));
    run(&["cp", &file, &path("/etc/f")]).expect(0)?;
    same(other.exec(&["cat", "/etc/f"])?.out.as_str(), "x")?;
    let copy = dir.path().join("passwd");
    run(&["cp", &path("/etc/passwd"), &copy.to_string_lossy()]).expect(0)?;
    check(std::fs::read_to_string(copy)?.contains("web:x:1000"), "not the container's passwd")
}

/// The limits that the engine gave, and umask and working directory.
pub fn changed_itself(engine: &Engine) -> Outcome {
    let limits = "grep 'open files' /proc/self/limits";
    let before = run(&["exec", &engine.qualified()?, "--", "sh", "-c", limits]).expect(0)?.out;
    let script = "mkdir -p /gone; : > /ready; cd /gone; rmdir /gone; ulimit -n 3; exec sleep 4343";
    let other = Other::start(engine, "", &["sh", "-c", script])?;
    let printed = other.exec(&["sh", "-c", "pwd; umask"])?.out;
    same(printed.as_str(), "/\n0022\n")?;
    // An engine without a supervisor leaves no trace of the limit that its init had.
    if ["docker", "podman", "containerd"].contains(&engine.name) {
        same(other.exec(&["sh", "-c", limits])?.out, before)?;
    }
    Ok(())
}

/// The environment is the record's, whatever the init has written over it.
pub fn overwritten_environment(engine: &Engine) -> Outcome {
    let options = format!("{HOST_PROGRAMS} -e DB=x");
    let script = "$0 = 'x' x 4000; open F, '>/ready'; sleep 4343 while 1";
    let other = Other::start(engine, &options, &["perl", "-e", script])?;
    let ours = other.exec(&["env"])?.out;
    check(ours.lines().any(|line| line == "DB=x"), &ours)?;
    let lines = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let client = engine.script(&["client"])?;
    let command = format!("{client} exec {} env", other.id);
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]);
    let theirs = finish(shell).expect(0)?.out;
    // Podman's own exec leaves out the host name, which its init has.
    let without_hostname = |mut lines: Vec<String>| {
        lines.retain(|line| !line.starts_with("HOSTNAME="));
        lines
    };
    same(without_hostname(lines(&ours)), without_hostname(lines(&theirs)))
}

/// A filter of the init's own that forbids execve(2), after the engine's.
pub fn own_filter(engine: &Engine) -> Outcome {
    let script = "import ctypes, struct, time
f = [(0x20,0,0,0), (0x15,1,0,59), (0x15,0,1,322), (6,0,0,0x50001), (6,0,0,0x7fff0000)]
b = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *x) for x in f))
class P(ctypes.Structure): _fields_ = [('n', ctypes.c_ushort), ('p', ctypes.c_void_p)]
p = P(len(f), ctypes.addressof(b)); c = ctypes.CDLL(None)
c.prctl(38, 1, 0, 0, 0)
if c.prctl(22, 2, ctypes.byref(p)) == 0: open('/ready', 'w')
time.sleep(4343)";
    let other = Other::start(engine, HOST_PROGRAMS, &["python3", "-c", script])?;
    let status =
        other.exec(&["grep", "-E", "^(Seccomp_filters|NoNewPrivs)", "/proc/self/status"])?;
    let of_engine = run(&[
        "exec",
        &engine.qualified()?,
        "--",
        "grep",
        "-E",
        "^(Seccomp_filters|NoNewPrivs)",
        "/proc/1/status",
    ]);
    same(status.out, of_engine.expect(0)?.out)
}

/// A shell of the host with its applets, in a container whose files have gone.
pub fn tools(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let exec = |words: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(words);
        run(&all)
    };
    let remove = ["--", "busybox", "rm", "-rf", "/bin", "/sbin", "/usr", "/lib", "/etc/passwd"];
    exec(&[&[name.as_str()][..], &remove].concat()).expect(0)?;
    exec(&[&name, "--", "sh"]).expect(127)?;
    let list = ["--tools", name.as_str(), "--", "find", "/", "-xdev"];
    let before = exec(&list).expect(0)?.out;
    let done = exec(&["--strict", "--tools", &name, "sh", "-c", "ps; ls -l /"]).expect(0)?;
    check(done.out.lines().any(|line| line.trim_start().starts_with("1 ")), &done.out)?;
    check(done.out.lines().any(|line| line.ends_with(" proc")), &done.out)?;
    let confined = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status /proc/1/status | sed 's/^[^:]*://' | sort | uniq -c | grep -vc ' 2 '";
    let different = exec(&["--tools", &name, "--", "sh", "-c", confined]);
    same(different.out.trim(), "0")?;
    let lifted = "grep ^Seccomp: /proc/self/status";
    let lifted = exec(&["--tools", "--privileged", &name, "--", "sh", "-c", lifted]).expect(0)?;
    same(lifted.out.as_str(), "Seccomp:\t0\n")?;
    same(exec(&list).expect(0)?.out, before)
}

/// Docker's groups for every user.
pub fn added_groups(engine: &Engine) -> Outcome {
    let script = "echo extra:x:4445: >> /etc/group; : > /ready; exec sleep 4343";
    let other = Other::start(engine, "--group-add 4444", &["sh", "-c", script])?;
    for (user, groups) in
        [("0", "0 4444"), ("web", "1000 4444"), ("1000:5", "5 4444"), ("1234", "0 4444")]
    {
        let ours = run(&["exec", "-u", user, &other.name, "id", "-G"]).expect(0)?.out;
        same((user, ours.trim()), (user, groups))?;
    }
    Ok(())
}

/// The supplementary groups of a user are those of the engine's own exec.
pub fn groups_of_users(engine: &Engine) -> Outcome {
    let script = "echo video:x:44:web,root >> /etc/group; : > /ready; exec sleep 4343";
    let other = Other::start(engine, "", &["sh", "-c", script])?;
    let client = engine.script(&["client"])?;
    for user in ["0", "web", "1000:5", "1234", ":5", "1234:1234"] {
        let command =
            format!("{client} exec -u {user} {} grep ^Groups: /proc/self/status", other.id);
        let mut theirs = Command::new("sh");
        theirs.args(["-c", &command]).stdin(Stdio::null());
        let theirs = finish(theirs).expect(0)?.out;
        let grep = ["exec", "-u", user, &other.name, "grep", "^Groups:", "/proc/self/status"];
        same((user, run(&grep).expect(0)?.out), (user, theirs))?;
    }
    Ok(())
}

/// `ctr task exec --user` puts the primary group among the supplementary ones.
pub fn primary_group(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    for (user, groups) in [("1234", "0"), ("1000:5", "5"), ("0:7", "7")] {
        let grep = ["exec", "-u", user, &name, "grep", "^Groups:", "/proc/self/status"];
        let ours = run(&grep).expect(0)?.out;
        same((user, ours.trim()), (user, format!("Groups:\t{groups}").as_str()))?;
    }
    Ok(())
}
