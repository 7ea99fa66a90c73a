//! `exec` into the containers of every engine: the process that it starts is what the container's own
//! are, and what the engine's own exec starts; fact by fact, read from the host.

use std::collections::{BTreeMap, BTreeSet};

use libtest_mimic::Failed;

use super::Engine;
use crate::support::{Outcome, check, run, same, wait_until};

/// What of a process is compared, by name.
type Facts = BTreeMap<String, String>;

/// Where what we start differs from what the engine's own exec starts, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("*", "cwd", "an engine takes the image's working directory, we the init's"),
    ("*", "SigIgn", "they hand on what their own caller and runtime ignore, 32 and 33 too"),
    ("podman", "env", "podman exec leaves HOSTNAME out, which the init has"),
    ("podman-rootless", "env", "podman exec leaves HOSTNAME out, which the init has"),
    ("crun", "NoNewPrivs", "crun exec sets it only when asked, though the container has it"),
    ("youki", "limits", "youki exec leaves the caller's"),
    ("lxc", "env", "lxc-attach keeps the caller's, and adds container=lxc"),
    ("lxc", "cgroup", "lxc-attach makes a cgroup `.lxc` for it in the hierarchy of v2"),
];

/// The facts of one process.
fn facts(pid: i64) -> Result<Facts, Failed> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    let mut facts = Facts::new();
    let status = text("status");
    check(!status.is_empty(), format!("process {pid} has gone"))?;
    let wanted = [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Umask",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Cpus_allowed",
    ];
    for line in status.lines() {
        if let Some((key, value)) = line.split_once(':').filter(|(key, _)| wanted.contains(key)) {
            facts.insert(key.into(), value.trim().into());
        }
    }
    for name in ["limits", "cgroup", "oom_score_adj", "uid_map"] {
        facts.insert(name.into(), text(name));
    }
    let environment = text("environ");
    let variables: BTreeSet<&str> = environment.split('\0').filter(|v| !v.is_empty()).collect();
    facts.insert("env".into(), format!("{variables:?}"));
    for name in ["user", "mnt", "uts", "ipc", "net", "pid", "cgroup", "time"] {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        facts.insert(format!("ns/{name}"), format!("{:?}", link.ok()));
    }
    for name in ["root", "cwd"] {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(format!("/proc/{pid}/{name}"));
        facts.insert(name.into(), format!("{:?}", meta.ok().map(|m| (m.dev(), m.ino()))));
    }
    let stat = text("stat");
    let nice = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16));
    facts.insert("nice".into(), format!("{nice:?}"));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut fds: Vec<String> =
        fds.map(|fd| fd.file_name().to_string_lossy().into_owned()).collect();
    fds.sort();
    facts.insert("fds".into(), fds.join(","));
    Ok(facts)
}

/// The host PID of what we start inside.
fn ours(name: &str, options: &[&str], command: &[&str]) -> Result<i64, Failed> {
    let mut all = vec!["--json", "exec", "-d"];
    all.extend(options);
    all.extend([name, "--"]);
    all.extend(command);
    let started = run(&all).expect(0)?;
    check(started.err.is_empty(), &started.err)?;
    let pid = started.objects().first().map(|row| row["host_pid"].clone()).unwrap_or_default();
    let pid = pid.as_i64().ok_or("no PID")?;
    // It has become the command.
    let is_it = || {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim() == command[0] || comm.trim() == "busybox"
    };
    check(wait_until(is_it), format!("{pid} does not run {command:?}"))?;
    Ok(pid)
}

fn end(name: &str, sleep: &str) {
    let _ = run(&["signal", name, "KILL", "--match", &format!("^sleep {sleep}$")]);
}

fn differing(one: &Facts, other: &Facts, but: &[&str]) -> Vec<String> {
    let keys =
        one.keys().filter(|key| !but.contains(&key.as_str()) && one.get(*key) != other.get(*key));
    keys.map(|key| format!("{key}: {:?} and {:?}", one[key], other.get(key))).collect()
}

/// It has what the init has, but for signals, which are at their defaults.
pub fn as_the_init(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let pid = ours(&name, &["--strict"], &["sleep", "5151"])?;
    let init = facts(i64::from(engine.init()?))?;
    let own = facts(pid)?;
    end(&name, "5151");
    // The init has the script's output open, and its traps.
    let but = ["fds", "SigIgn", "SigCgt", "SigBlk", "env"];
    let wrong = differing(&init, &own, &but);
    check(wrong.is_empty(), wrong.join("\n"))?;
    // Where it has no HOME, there is one more.
    let without = |env: &str| env.replace("\"HOME=/root\", ", "");
    same(without(&own["env"]), without(&init["env"]))?;
    same(own["fds"].as_str(), "0,1,2")?;
    for key in ["SigIgn", "SigCgt", "SigBlk"] {
        same((key, own[key].trim_matches('0')), (key, ""))?;
    }
    Ok(())
}

/// And what the engine's own exec gives.
pub fn as_the_engines(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let pid = ours(&name, &["--strict"], &["sleep", "5252"])?;
    let own = facts(pid)?;
    engine.script(&["exec", &engine.container, "--", "sleep", "5353"])?;
    check(wait_until(|| engine.member("5353").is_ok()), "the engine's own is not there")?;
    let theirs = engine.member("5353")?;
    let theirs = facts(theirs["host_pid"].as_i64().unwrap_or(0))?;
    end(&name, "5252");
    end(&name, "5353");
    let known: Vec<&str> = DIFFERENCES
        .iter()
        .filter(|(of, ..)| *of == engine.name || *of == "*")
        .map(|(_, what, _)| *what)
        .collect();
    // What it has open of its own is its affair.
    let but: Vec<&str> = known.into_iter().chain(["fds"]).collect();
    let wrong = differing(&theirs, &own, &but);
    check(wrong.is_empty(), format!("the engine's and ours: {}", wrong.join("\n")))
}

/// Streams, status, users and folders, as people use them.
pub fn used(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let sh = |script: &str| run(&["exec", &name, "--", "sh", "-c", script]);
    same(sh("echo out; echo err >&2; exit 7").expect(7)?.out.as_str(), "out\n")?;
    same(sh("echo err >&2").expect(0)?.err.as_str(), "err\n")?;
    sh("kill -TERM $$").expect(143)?;
    let missing = run(&["exec", &name, "nosuch"]).expect(127)?;
    check(missing.err.contains("not found in the container's PATH"), &missing.err)?;
    let denied = run(&["exec", &name, "/etc/passwd"]).expect(126)?;
    check(denied.err.contains("Permission denied"), &denied.err)?;
    run(&["exec", &name, "-w", "/nope", "id"]).expect(125)?;
    run(&["exec", "-u", "nobody-of-this-name", &name, "id"]).expect(125)?;
    let where_ = run(&["exec", "-w", "/tmp", &name, "pwd"]).expect(0)?;
    same(where_.out.as_str(), "/tmp\n")?;
    // Inside one that has more than one user.
    let map = run(&["exec", &name, "cat", "/proc/self/uid_map"]).expect(0)?.out;
    let users: u64 =
        map.split_whitespace().skip(2).step_by(3).filter_map(|n| n.parse::<u64>().ok()).sum();
    if users > 1000 {
        let id =
            run(&["exec", "-u", "web", &name, "--", "sh", "-c", "id; echo $HOME"]).expect(0)?;
        check(id.out.starts_with("uid=1000(web) gid=1000(web)"), &id.out)?;
        same(id.out.lines().last(), Some("/"))?;
    }
    let variables = run(&["exec", "-e", "A=b c", &name, "env"]).expect(0)?.out;
    check(variables.lines().any(|line| line == "A=b c"), &variables)?;
    // (bwrap gives its init all that it has itself.)
    let leaks = engine.name != "bwrap" && variables.contains("CARGO");
    check(!leaks, "our own environment is in there")?;
    // The host's tools in its processes: they see its numbers.
    let ps =
        run(&["exec", "--skip", "mnt", &name, "--", "ps", "-e", "-o", "pid,comm"]).expect(0)?;
    check(ps.out.lines().any(|line| line.trim_start().starts_with("1 ")), &ps.out)?;
    let hosts = format!(" {} ", std::process::id());
    check(!ps.out.contains(&hosts), "the host's processes are seen")
}

/// Beside another process than the init, by its number inside.
pub fn beside(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let child = engine.child()?["pid"].to_string();
    let link = |options: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(options);
        all.extend([name.as_str(), "readlink", "/proc/self/ns/mnt"]);
        run(&all).expect(0).map(|run| run.out)
    };
    same(link(&["--pid", &child])?, link(&[])?)?;
    run(&["exec", "--pid", "99999", &name, "id"]).expect(125).map(drop)
}

/// What is paused would pause what comes in.
pub fn paused(engine: &Engine) -> Outcome {
    engine.script(&["pause", &engine.container])?;
    let name = engine.qualified()?;
    let refused = run(&["exec", &name, "true"]);
    let aside = run(&["exec", "--no-cgroup", &name, "true"]);
    engine.script(&["unpause", &engine.container])?;
    let refused = refused.expect(125)?;
    check(refused.err.contains("paused") && refused.err.contains("--no-cgroup"), &refused.err)?;
    aside.expect(0)?;
    run(&["exec", &name, "true"]).expect(0).map(drop)
}

/// By whoever runs it, without root.
pub fn by_its_own_user(engine: &Engine) -> Outcome {
    let user = engine.script(&["as-user"])?;
    let id = std::process::Command::new("id").args(["-u", &user]).output();
    let id = String::from_utf8_lossy(&id.map_err(|e| e.to_string())?.stdout).trim().to_owned();
    // Its program is not theirs to run where it is.
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let program = dir.path().join("cinspect");
    std::fs::copy(env!("CARGO_BIN_EXE_cinspect"), &program).map_err(|error| error.to_string())?;
    for path in [dir.path(), &program] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
    }
    let name = format!("podman:{}", engine.id()?);
    let exec = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "env"]);
        command.arg(format!("XDG_RUNTIME_DIR=/run/user/{id}")).arg(&program).arg("exec");
        command.args(arguments).stdin(std::process::Stdio::null());
        crate::support::finish(command)
    };
    let ids = exec(&[&name, "--", "id", "-u"]).expect(0)?;
    same(ids.out.as_str(), "0\n")?;
    // Filters are root's to read: it says so, or refuses.
    check(ids.err.contains("seccomp"), &ids.err)?;
    exec(&["--strict", &name, "id"]).expect(125)?;
    same(exec(&["-u", "web", &name, "--", "id", "-un"]).expect(0)?.out.as_str(), "web\n")?;
    // And files: of its init's user, and of whoever else there is inside, which here takes rights over
    // users that are given to this one.
    let copy = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "env"]);
        command.arg(format!("XDG_RUNTIME_DIR=/run/user/{id}")).arg(&program).arg("cp");
        command.args(arguments).stdin(std::process::Stdio::null());
        crate::support::finish(command)
    };
    let owner = |path: &str| exec(&[&name, "--", "stat", "-c", "%u:%g", path]).expect(0);
    let there = |path: &str| format!("{name}:{path}");
    copy(&["/etc/hostname", &there("/tmp/copied")]).expect(0)?;
    same(owner("/tmp/copied")?.out.as_str(), "0:0\n")?;
    copy(&["--chown", "web", "/etc/hostname", &there("/tmp/webs")]).expect(0)?;
    same(owner("/tmp/webs")?.out.as_str(), "1000:1000\n")?;
    let own = "umask 077; mkdir /tmp/own; echo x > /tmp/own/f; chown -R web:web /tmp/own";
    exec(&[&name, "--", "sh", "-c", own]).expect(0)?;
    copy(&["--strict", "-a", &there("/tmp/own"), &there("/tmp/again")]).expect(0)?;
    same(owner("/tmp/again/f")?.out.as_str(), "1000:1000\n")?;
    let out = format!("/run/user/{id}/out");
    copy(&[&there("/tmp/own/f"), &out]).expect(0)?;
    let file = std::fs::metadata(&out).map_err(|error| error.to_string())?;
    same(std::os::unix::fs::MetadataExt::uid(&file).to_string(), id.clone())?;
    copy(&["--chown", "70000", "/etc/hostname", &there("/tmp/nobodys")]).expect(1)?;
    copy(&["/etc/shadow", &there("/tmp/shadow")]).expect(5)?;
    let tools = exec(&["--skip", "mnt", &name, "--", "ps", "-e", "-o", "pid"]).expect(0)?;
    check(tools.out.lines().any(|line| line.trim() == "1"), &tools.out)
}

/// Whatever a container shares with the host, the command shares with it, and nothing more.
pub fn with_options(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-shares", engine.name);
    for options in [
        "--net=host --ipc=host",
        "--uts=host --pid=host",
        "--cgroupns=private",
        "--user 1000:100 --cap-add=NET_ADMIN --security-opt=no-new-privileges",
        "--security-opt=seccomp=unconfined --cap-drop=ALL --oom-score-adj=7 --ulimit=nofile=99:100",
    ] {
        let _ = engine.script(&["rm", other]);
        engine.script_with(options, &["run", other, "--", "sleep", "1000"])?;
        let work = || -> Outcome {
            let name = engine.script(&["qualified", other])?;
            let pid = ours(&name, &["--strict"], &["sleep", "5454"])?;
            let (init, own) = (facts(i64::from(engine.init_of(other)?))?, facts(pid)?);
            let wrong = differing(&init, &own, &["fds", "SigIgn", "SigCgt", "SigBlk"]);
            check(wrong.is_empty(), format!("{options}: {}", wrong.join("\n")))?;
            // What is paused or not, the command leaves nothing behind.
            end(&name, "5454");
            Ok(())
        };
        let outcome = work();
        let _ = engine.script(&["rm", other]);
        outcome?;
    }
    Ok(())
}

/// Its filter cannot be read while somebody else traces the init: that is said, or refused, and the
/// tracer stays.
pub fn traced(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let init = engine.init()?;
    let pid = nix::unistd::Pid::from_raw(init);
    // A thread is the tracer: what it does ends with it.
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
        .map_err(|errno| errno.to_string())?;
    let strict = run(&["exec", "--strict", &name, "true"]);
    let told = run(&["exec", &name, "true"]);
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    nix::sys::ptrace::interrupt(pid).map_err(|errno| errno.to_string())?;
    let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL));
    let _ = nix::sys::ptrace::detach(pid, None);
    check(strict.expect(125)?.err.contains("seccomp"), "strict")?;
    check(told.expect(0)?.err.contains("being traced by another"), "not told")?;
    check(!status.contains("TracerPid:\t0\n"), "the tracer has gone")?;
    run(&["exec", "--strict", &name, "true"]).expect(0).map(drop)
}
