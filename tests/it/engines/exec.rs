//! `exec` in the containers of every engine: the process that it starts is compared with the container's
//! init and with the process that the engine's own exec starts, attribute by attribute, from the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use super::Engine;
use crate::support::{
    Outcome, Run, check, children, cinspect, finish, run, runs, same, wait_until,
};

/// The attributes of a process, by name.
type Attributes = BTreeMap<String, String>;

/// Differences from the engines' own exec: engine (`*` for all), attribute, reason.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("*", "cwd", "an engine takes the image's working directory, cinspect the init's"),
    ("*", "SigIgn", "they pass on signals that their caller or runtime ignores, 32 and 33 too"),
    ("podman", "env", "podman exec leaves out HOSTNAME, which the init has"),
    ("crun", "NoNewPrivs", "crun exec sets it only on request, though the container has it"),
    ("youki", "limits", "youki exec keeps the caller's"),
    ("lxc", "env", "lxc-attach keeps the caller's, and adds container=lxc"),
    ("lxc", "cgroup/v2", "lxc-attach makes a cgroup `.lxc` for it"),
    ("incus", "env", "incus exec sets PATH, HOME, USER and LANG by itself"),
    ("incus", "cgroup/v2", "liblxc makes a cgroup `.lxc` for it"),
    ("apptainer", "env", "its exec runs a script of the image, which adds variables"),
    ("podman", "cgroup/name=systemd", "crun exec leaves it in the caller's"),
    ("podman", "cgroup/rdma", "crun 0.17's exec leaves it in the caller's"),
    ("podman", "limits/Max processes", "podman exec has no limit where the init has one"),
    (
        "podman",
        "Groups",
        "podman exec adds the groups of the user, root's too, which the init may not have",
    ),
];

/// Reads the attributes of a process.
fn attributes(pid: i64) -> Result<Attributes, Failed> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    let mut attributes = Attributes::new();
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
            attributes.insert(key.into(), value.trim().into());
        }
    }
    for name in ["oom_score_adj", "uid_map"] {
        attributes.insert(name.into(), text(name));
    }
    attributes.extend(text("cgroup").lines().filter_map(hierarchy));
    // (The name has a column of 26 characters.)
    for (limit, values) in
        text("limits").lines().skip(1).filter_map(|line| line.split_at_checked(26))
    {
        attributes.insert(
            format!("limits/{}", limit.trim()),
            values.split_whitespace().collect::<Vec<_>>().join(" "),
        );
    }
    let environment = text("environ");
    let variables: BTreeSet<&str> = environment.split('\0').filter(|v| !v.is_empty()).collect();
    attributes.insert("env".into(), format!("{variables:?}"));
    for name in ["user", "mnt", "uts", "ipc", "net", "pid", "cgroup", "time"] {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        attributes.insert(format!("ns/{name}"), format!("{:?}", link.ok()));
    }
    for name in ["root", "cwd"] {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(format!("/proc/{pid}/{name}"));
        attributes.insert(name.into(), format!("{:?}", meta.ok().map(|m| (m.dev(), m.ino()))));
    }
    let stat = text("stat");
    let nice = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16));
    attributes.insert("nice".into(), format!("{nice:?}"));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut fds: Vec<String> =
        fds.map(|fd| fd.file_name().to_string_lossy().into_owned()).collect();
    fds.sort();
    attributes.insert("fds".into(), fds.join(","));
    Ok(attributes)
}

/// Parses a line of a `cgroup` file: the controllers of the hierarchy, and the path.
fn hierarchy(line: &str) -> Option<(String, String)> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let name = if controllers.is_empty() { "v2" } else { controllers };
    Some((format!("cgroup/{name}"), path.to_owned()))
}

/// Starts a command in the background, and returns its host PID.
fn start(name: &str, options: &[&str], command: &[&str]) -> Result<i64, Failed> {
    let mut words = vec!["--json", "exec", "-d"];
    words.extend(options);
    words.extend([name, "--"]);
    words.extend(command);
    let started = run(&words).expect(0)?;
    check(started.err.is_empty(), &started.err)?;
    let pid = started.objects().first().map(|row| row["host_pid"].clone()).unwrap_or_default();
    let pid = pid.as_i64().ok_or("no PID")?;
    // Until then it waits for cinspect.
    let runs_command = || runs(pid as i32, command);
    check(wait_until(runs_command), format!("{pid} does not run {command:?}"))?;
    Ok(pid)
}

fn kill_sleep(name: &str, seconds: &str) {
    let _ = run(&["signal", name, "KILL", "--match", &format!("^sleep {seconds}$")]);
}

/// Returns what differs; an exception holds for an attribute or a group of them (`limits`).
fn differences(left: &Attributes, right: &Attributes, except: &[&str]) -> Vec<String> {
    let excepted = |key: &str| {
        let group = key.split('/').next().unwrap_or_default();
        except.contains(&key) || except.contains(&group)
    };
    left.iter()
        .filter(|(key, value)| !excepted(key) && right.get(*key) != Some(*value))
        .map(|(key, value)| format!("{key}: {value:?} and {:?}", right.get(key)))
        .collect()
}

/// The command has the init's attributes, except for signals, which are at their defaults.
pub fn takes_over_the_inits_attributes(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let pid = start(&name, &["--strict"], &["sleep", "5151"])?;
    let init = attributes(i64::from(engine.init()?))?;
    let command = attributes(pid)?;
    kill_sleep(&name, "5151");
    // The init has the script's output open, and its traps.
    let mut except = vec!["fds", "SigIgn", "SigCgt", "SigBlk", "env"];
    // On a host with v2 nspawn mounts this hierarchy, which has no controller, in the container only.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if !mounts.contains("name=systemd") {
        except.push("cgroup/name=systemd");
    }
    let wrong = differences(&init, &command, &except);
    check(wrong.is_empty(), wrong.join("\n"))?;
    // exec adds HOME if the init has none.
    let without_home = |env: &str| env.replace("\"HOME=/root\", ", "");
    match engine.kind()? == "apptainer" {
        // Its init has variables of its own.
        true => check(command["env"].contains("APPTAINER_INSTANCE="), &command["env"])?,
        false => same(without_home(&command["env"]), without_home(&init["env"]))?,
    }
    same(command["fds"].as_str(), "0,1,2")?;
    for key in ["SigIgn", "SigCgt", "SigBlk"] {
        same((key, command[key].trim_matches('0')), (key, ""))?;
    }
    Ok(())
}

/// The command has the attributes that the engine's own exec gives, except for known differences.
pub fn matches_the_engines_own(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let pid = start(&name, &["--strict"], &["sleep", "5252"])?;
    let command = attributes(pid)?;
    engine.script(&["exec", &engine.container, "--", "sleep", "5353"])?;
    check(wait_until(|| engine.member("5353").is_ok()), "the engine's exec starts nothing")?;
    let engines = engine.member("5353")?;
    let engines = attributes(engines["host_pid"].as_i64().unwrap_or(0))?;
    kill_sleep(&name, "5252");
    kill_sleep(&name, "5353");
    let kind = engine.kind()?;
    let known = DIFFERENCES.iter().filter(|(of, ..)| *of == kind || *of == "*");
    // The descriptors that the engine leaves open are not compared.
    let except: Vec<&str> = known.map(|(_, attribute, _)| *attribute).chain(["fds"]).collect();
    let wrong = differences(&engines, &command, &except);
    check(wrong.is_empty(), format!("the engine's and cinspect's: {}", wrong.join("\n")))
}

/// Streams, exit status, users, directories and the host's tools.
pub fn runs_commands(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let sh = |script: &str| run(&["exec", &name, "--", "sh", "-c", script]);
    same(sh("echo out; echo err >&2; exit 7").expect(7)?.out.as_str(), "out\n")?;
    same(sh("echo err >&2").expect(0)?.err.as_str(), "err\n")?;
    sh("kill -TERM $$").expect(143)?;
    sh("kill -34 $$").expect(162)?;
    let missing = run(&["exec", &name, "nosuch"]).expect(127)?;
    check(missing.err.contains("not found in the container's PATH"), &missing.err)?;
    let denied = run(&["exec", &name, "/etc/passwd"]).expect(126)?;
    check(denied.err.contains("Permission denied"), &denied.err)?;
    run(&["exec", &name, "-w", "/nope", "id"]).expect(125)?;
    run(&["exec", "-u", "nobody-of-this-name", &name, "id"]).expect(125)?;
    let directory = run(&["exec", "-w", "/tmp", &name, "pwd"]).expect(0)?;
    same(directory.out.as_str(), "/tmp\n")?;
    // Only if its user namespace maps more than a few users.
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
    // (bwrap passes its own environment on to its init.)
    let leaks = engine.name != "bwrap" && variables.contains("CARGO");
    check(!leaks, "the caller's environment is in the container")?;
    // The host's tools see the container's PIDs, and no process of the host.
    let ps =
        run(&["exec", "--skip", "mnt", &name, "--", "ps", "-e", "-o", "pid,comm"]).expect(0)?;
    check(ps.out.lines().any(|line| line.trim_start().starts_with("1 ")), &ps.out)?;
    let host_pid = format!(" {} ", std::process::id());
    check(!ps.out.contains(&host_pid), "processes of the host are seen")
}

/// `--pid` joins the namespaces of that process.
pub fn enters_by_another_pid(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let child = engine.child()?["pid"].to_string();
    let link = |options: &[&str]| {
        let mut words = vec!["exec"];
        words.extend(options);
        words.extend([name.as_str(), "readlink", "/proc/self/ns/mnt"]);
        run(&words).expect(0).map(|run| run.out)
    };
    same(link(&["--pid", &child])?, link(&[])?)?;
    run(&["exec", "--pid", "99999", &name, "id"]).expect(125).map(drop)
}

/// A command in a paused container would be paused.
pub fn refuses_a_paused_container(engine: &Engine) -> Outcome {
    engine.script(&["pause", &engine.container])?;
    let name = engine.qualified()?;
    let refused = run(&["exec", &name, "true"]);
    let without_cgroup = run(&["exec", "--no-cgroup", &name, "true"]);
    engine.script(&["unpause", &engine.container])?;
    let refused = refused.expect(125)?;
    check(refused.err.contains("paused") && refused.err.contains("--no-cgroup"), &refused.err)?;
    without_cgroup.expect(0)?;
    run(&["exec", &name, "true"]).expect(0).map(drop)
}

/// exec and cp, run by the user of a rootless container.
pub fn works_for_the_rootless_user(engine: &Engine) -> Outcome {
    let user = engine.script(&["as-user"])?;
    let id = std::process::Command::new("id").args(["-u", &user]).output();
    let id = String::from_utf8_lossy(&id?.stdout).trim().to_owned();
    // The user may not run the program where it was built.
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("cinspect");
    std::fs::copy(env!("CARGO_BIN_EXE_cinspect"), &program)?;
    for path in [dir.path(), &program] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let as_user = |command_name: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "env"]);
        command.arg(format!("XDG_RUNTIME_DIR=/run/user/{id}")).arg(&program).arg(command_name);
        command.args(arguments).stdin(std::process::Stdio::null());
        crate::support::finish(command)
    };
    let name = format!("podman:{}", engine.id()?);
    rootless_exec(&name, &|arguments| as_user("exec", arguments))?;
    rootless_cp(&name, &id, &as_user)
}

fn rootless_exec(name: &str, exec: &dyn Fn(&[&str]) -> Run) -> Outcome {
    let ids = exec(&[name, "--", "id", "-u"]).expect(0)?;
    same(ids.out.as_str(), "0\n")?;
    // Only root can read seccomp filters: a warning, or an error with --strict.
    check(ids.err.contains("seccomp"), &ids.err)?;
    exec(&["--strict", name, "id"]).expect(125)?;
    same(exec(&["-u", "web", name, "--", "id", "-un"]).expect(0)?.out.as_str(), "web\n")?;
    let tools = exec(&["--skip", "mnt", name, "--", "ps", "-e", "-o", "pid"]).expect(0)?;
    check(tools.out.lines().any(|line| line.trim() == "1"), &tools.out)
}

/// Owners of copied files, which require capabilities in the user's user namespace.
fn rootless_cp(name: &str, id: &str, as_user: &dyn Fn(&str, &[&str]) -> Run) -> Outcome {
    let cp = |arguments: &[&str]| as_user("cp", arguments);
    let owner = |path: &str| as_user("exec", &[name, "--", "stat", "-c", "%u:%g", path]).expect(0);
    let in_container = |path: &str| format!("{name}:{path}");
    cp(&["/etc/hostname", &in_container("/tmp/copied")]).expect(0)?;
    same(owner("/tmp/copied")?.out.as_str(), "0:0\n")?;
    cp(&["--chown", "web", "/etc/hostname", &in_container("/tmp/webs")]).expect(0)?;
    same(owner("/tmp/webs")?.out.as_str(), "1000:1000\n")?;
    let make = "umask 077; mkdir /tmp/own; echo x > /tmp/own/f; chown -R web:web /tmp/own";
    as_user("exec", &[name, "--", "sh", "-c", make]).expect(0)?;
    cp(&["--strict", "-a", &in_container("/tmp/own"), &in_container("/tmp/again")]).expect(0)?;
    same(owner("/tmp/again/f")?.out.as_str(), "1000:1000\n")?;
    let output = format!("/run/user/{id}/out");
    cp(&[&in_container("/tmp/own/f"), &output]).expect(0)?;
    let file = std::fs::metadata(&output)?;
    same(std::os::unix::fs::MetadataExt::uid(&file).to_string(), id.to_owned())?;
    cp(&["--chown", "70000", "/etc/hostname", &in_container("/tmp/unmapped")]).expect(1)?;
    cp(&["/etc/shadow", &in_container("/tmp/shadow")]).expect(5).map(drop)
}

/// The command shares with the host exactly what the container shares with it.
pub fn shares_what_the_container_shares(engine: &Engine) -> Outcome {
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
        let compare = || -> Outcome {
            let name = engine.script(&["qualified", other])?;
            let pid = start(&name, &["--strict"], &["sleep", "5454"])?;
            let (init, command) =
                (attributes(i64::from(engine.init_of(other)?))?, attributes(pid)?);
            let wrong = differences(&init, &command, &["fds", "SigIgn", "SigCgt", "SigBlk"]);
            check(wrong.is_empty(), format!("{options}: {}", wrong.join("\n")))?;
            kill_sleep(&name, "5454");
            Ok(())
        };
        let outcome = compare();
        let _ = engine.script(&["rm", other]);
        outcome?;
    }
    Ok(())
}

/// The filter cannot be read while another process traces the init: a warning, or an error with
/// --strict; the tracer stays.
pub fn leaves_a_tracer_alone(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let init = engine.init()?;
    let pid = nix::unistd::Pid::from_raw(init);
    // The tracer is this thread: the tracing ends with it.
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
        .map_err(|errno| errno.to_string())?;
    let strict = run(&["exec", "--strict", &name, "true"]);
    let warned = run(&["exec", &name, "true"]);
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    nix::sys::ptrace::interrupt(pid).map_err(|errno| errno.to_string())?;
    let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL));
    let _ = nix::sys::ptrace::detach(pid, None);
    check(strict.expect(125)?.err.contains("seccomp"), "no error with --strict")?;
    check(warned.expect(0)?.err.contains("being traced by another"), "no warning")?;
    check(!status.contains("TracerPid:\t0\n"), "the tracer has gone")?;
    run(&["exec", "--strict", &name, "true"]).expect(0).map(drop)
}

/// Nothing stays between the program and its command.
pub fn is_the_parent_of_its_command(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let mut command = cinspect(&["exec", &name, "--", "sleep", "5656"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let parent = || {
        let member = engine.member("5656").ok()?;
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", member["host_pid"])).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()
    };
    let found = wait_until(|| parent() == Some(child.id()));
    let last = parent();
    kill_sleep(&name, "5656");
    let status = child.wait()?;
    check(found, format!("the parent is {last:?}, not {}", child.id()))?;
    same(status.code(), Some(128 + 9))
}

/// A process that is moved into a cgroup waits for the kernel: the command's is created there.
pub fn moves_no_process(engine: &Engine) -> Outcome {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=write", "-o"]).arg(&log);
    command.args([env!("CARGO_BIN_EXE_cinspect"), "exec", &engine.qualified()?, "--", "true"]);
    finish(command).expect(0)?;
    let log = std::fs::read_to_string(&log)?;
    check(log.contains("write("), "nothing was traced")?;
    let moved = log.lines().find(|line| line.contains("/cgroup.procs>"));
    check(moved.is_none(), moved.unwrap_or_default())
}

/// Returns the file that limits the processes of a container's cgroup.
fn pids_limit(init: i32) -> Result<PathBuf, Failed> {
    let text = std::fs::read_to_string(format!("/proc/{init}/cgroup"))?;
    let path = |key: &str| text.lines().find_map(|line| Some(line.split_once(key)?.1.to_owned()));
    let below = |root: &str, path: String| Path::new(root).join(path.trim_start_matches('/'));
    let dir = match path(":pids:") {
        Some(path) => below("/sys/fs/cgroup/pids", path),
        None => below("/sys/fs/cgroup", path("0::").ok_or("it has no cgroup")?),
    };
    Ok(dir.join("pids.max"))
}

/// Runs a command in a container that may create no process: moving one there is not limited.
pub fn works_at_the_limit_of_processes(engine: &Engine) -> Outcome {
    let name = "cit-exec-limit";
    let _ = engine.script(&["rm", name]);
    let work = || -> Outcome {
        let script = "sleep 1000 & sleep 1000 & wait";
        engine.script(&["run", name, "--", "sh", "-c", script])?;
        let init = engine.init_of(name)?;
        check(wait_until(|| children(init).len() == 2), "its commands have not started")?;
        // (From the start on, runc itself may fail there: its runtime starts threads.)
        std::fs::write(pids_limit(init)?, "3")?;
        let named = engine.script(&["qualified", name])?;
        let read = |path: &str| run(&["exec", &named, "--", "cat", path]).expect(0);
        // Both as seen in the container's cgroup namespace.
        let (own, inits) = (read("/proc/self/cgroup")?, read("/proc/1/cgroup")?);
        same(own.out, inits.out)?;
        check(own.err.is_empty(), own.err)
    };
    let outcome = work();
    let _ = engine.script(&["rm", name]);
    outcome
}
