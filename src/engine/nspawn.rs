//! systemd-nspawn: registered machines in `/run/systemd/machines/NAME`, the payload in
//! `systemd-nspawn@NAME.service/payload` or `machine-NAME.scope/payload`. Unregistered ones are known
//! only from the arguments of the systemd-nspawn process that is the parent of their init.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::inventory::StoppedContainer;
use super::nspawn_settings::{NspawnSettings, StartMode};
use super::record::{Record, RecordReader, Shim};
use super::store::StoredRoot;
use super::{Engine, is_systemd};
use crate::model::cgroup;
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::mount::Mounts;
use crate::model::pid::HostPid;
use crate::model::signal::Signal;
use crate::model::stop_policy::{StopPolicy, StopSignal, UnsignalledEffect, UnsignalledStop};
use crate::proc::{Host, ReadError, StateFile, Trust};

/// The descriptor of systemd-nspawn.
pub static NSPAWN: EngineInfo = EngineInfo {
    name: "nspawn",
    display_name: "systemd-nspawn",
    keeps_records: false,
    shims: &["systemd-nspawn"],
    // (`(sd-stubinit)` is PID 1 of `--as-pid2` as long as the container runs.)
    starters: &["systemd-nspawn"],
    has_monitors: true,
    files: (MACHINES, "systemd-nspawn; /var/lib/machines for those that do not run."),
    // systemd's DefaultTimeoutStopSec.
    grace_time: Duration::from_secs(90),
    advice: &EngineAdvice {
        exec_form: "give systemd-nspawn the program itself as its command (`Parameters=` in its `.nspawn` file)",
        init: "`--as-pid2 --kill-signal=SIGRTMIN+3`; `ProcessTwo=yes` and `KillSignal=SIGRTMIN+3` in its `.nspawn` file",
        stop_signal: Some(
            "set `KillSignal=SIGNAL_NAME` in its `.nspawn` file, or `--kill-signal=SIGNAL_NAME`",
        ),
        grace: Some("set `TimeoutStopSec=` of its unit"),
        unpause: None,
    },
    output_hint: "the output of a unit is in the journal: `journalctl -u systemd-nspawn@<name>`; `journalctl -M <name>` has that of the container's own",
    start_hint: Some("`machinectl start <name>` starts it"),
    clients: &["machinectl"],
    commands: EngineCommands::Table(&[
        ("attach", "machinectl login <name>"),
        ("images", "machinectl list-images"),
        ("restart", "machinectl reboot <name>"),
        ("rm", "machinectl remove <name>"),
        ("start", "machinectl start <name>"),
    ]),
    ..EngineInfo::DEFAULT
};

const IMAGES: &str = "/var/lib/machines";

const MACHINES: &str = "/run/systemd/machines";

/// systemd-nspawn.
pub struct Nspawn;

impl Engine for Nspawn {
    fn info(&self) -> &'static EngineInfo {
        &NSPAWN
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        if component != "payload" {
            return None;
        }
        let unit = parent.last()?;
        let service = || unit.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
        let scope = || unit.strip_prefix("machine-")?.strip_suffix(".scope");
        Some(unescape(service().or_else(scope)?))
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        if reader.defaults
            && let Some(dir) = reader.read(reader.host.state_dir(MACHINES))
        {
            let names = reader.read(dir.names()).unwrap_or_default();
            // Next to each machine is a link `unit:…` to it, which is not followed.
            for name in names.iter().filter(|name| !name.starts_with("unit:")) {
                let file = reader.read(dir.read(name));
                records.extend(file.and_then(|file| registered(reader, name, &file)));
            }
        }
        for monitor in reader.shims_named(&["systemd-nspawn"]) {
            records.extend(unregistered(reader, monitor));
        }
    }

    /// Lists images of machines (machinectl(1), "Files and Directories"), of which none runs: directories and raw
    /// disks.
    fn read_ended(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        let Some(dir) = reader.read(reader.host.state_dir(IMAGES)) else { return };
        for name in reader.read(dir.names()).unwrap_or_default() {
            let path = Path::new(IMAGES).join(&name);
            let (machine, owner) = match (name.strip_suffix(".raw"), dir.dir(&name)) {
                _ if name.starts_with('.') => continue,
                (None, Ok(image)) => (&*name, image.owner()),
                (Some(machine), _) => (machine, dir.owner()),
                (None, Err(_)) => continue,
            };
            let file = StateFile { path, bytes: Vec::new(), owner, users_path: None };
            let mut record = Record::new(&NSPAWN, machine, &file);
            record.name = Some(machine.to_owned());
            records.push(record);
        }
    }

    /// Says where the image is: the IDs in it are those of the host, of the container, or of a range that
    /// systemd-nspawn chose (`--private-users`).
    fn stored_root(&self, _host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        let path = stopped.path().display();
        Err(format!("its image is `{path}`, and whose IDs its files have is not recorded"))
    }

    /// Returns the policy from the arguments of systemd-nspawn or a settings file, which registered
    /// machines may have too. With `--boot` the signal is RTMIN+3, which systemd expects as PID 1.
    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        let default = StopPolicy {
            signal_for_init: is_systemd(host, container).then_some(Signal::RTMIN_3),
            grace_unread: Some("the unit's TimeoutStopSec= was not read"),
            ..StopPolicy::default()
        };
        let with_signal = |signal| StopPolicy { signal, ..default.clone() };
        let unread = |reason| with_signal(StopSignal::Unread(reason));
        let read = supervisor(host, container)
            .and_then(|supervisor| Some((supervisor, arguments(host, supervisor)?)));
        let Some((supervisor, argv)) = read else {
            return unread("the arguments of systemd-nspawn could not be read");
        };
        let arguments = NspawnSettings::of_arguments(&argv);
        let Ok(file) = settings_file(host, supervisor, container, &arguments) else {
            return unread("its settings file (`.nspawn`) could not be read");
        };
        match arguments.with_file(&file) {
            (_, Some(signal)) => with_signal(StopSignal::Recorded(signal)),
            (StartMode::Boot, None) => {
                StopPolicy { signal_for_init: Some(Signal::RTMIN_3), ..default }
            }
            (StartMode::Command | StartMode::StubInit, None) => {
                with_signal(StopSignal::Unsignalled(KILLS))
            }
        }
    }
}

/// Parses the file of a registered machine; `None` if it is not nspawn's.
fn registered(reader: &RecordReader<'_>, name: &str, file: &StateFile) -> Option<Record> {
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    // libvirt and others register machines here too.
    let is_nspawn = |service| service == "nspawn" || service == "systemd-nspawn";
    get("SERVICE").is_none_or(is_nspawn).then_some(())?;
    let mut record = Record::new(&NSPAWN, name, file);
    record.name = Some(name.to_owned());
    record.pid = get("LEADER").and_then(|pid| pid.parse::<HostPid>().ok());
    record.image = get("ROOT").filter(|root| !root.is_empty()).map(str::to_owned);
    // The leader has to be in the unit that was made for it: its PID may have been reused, by
    // another machine's leader.
    let unit = get("SCOPE").map(|unit| unit.trim_matches('"').replace(r"\\", r"\"));
    record.cgroup = record.pid.zip(unit).and_then(|(pid, unit)| unit_cgroup(reader, pid, &unit));
    Some(record)
}

/// Makes a record from the arguments of a systemd-nspawn process.
fn unregistered(reader: &RecordReader<'_>, monitor: &Shim) -> Option<Record> {
    let child = monitor.child?;
    let settings = NspawnSettings::of_arguments(&monitor.argv);
    let cwd = monitor.cwd.as_deref();
    let name = settings.machine_name(cwd)?;
    let name = ephemeral_name(reader, child, &settings, &name).unwrap_or(name);
    let mut record = Record::of_child(&NSPAWN, &name, monitor);
    record.name = Some(name);
    record.image = settings.root(cwd).and_then(|root| Some(root.to_str()?.to_owned()));
    record.cgroup = payload(reader, child);
    Some(record)
}

/// Returns the name of an ephemeral machine, which ends in a random number: systemd-nspawn mounts a
/// directory of the host with that name into each machine (`setup_propagate`).
fn ephemeral_name(
    reader: &RecordReader<'_>,
    child: HostPid,
    settings: &NspawnSettings,
    base: &str,
) -> Option<String> {
    let mountinfo = reader.host.proc_file(child, "mountinfo", 1 << 20).ok()?;
    Mounts::new(&mountinfo).find_map(|mount| {
        let (directory, name) = std::str::from_utf8(&mount.root).ok()?.rsplit_once('/')?;
        let is_name =
            directory.ends_with("/nspawn/propagate") || directory.ends_with("/nspawn/unix-export");
        (is_name && settings.is_ephemeral_name(base, name)).then(|| name.to_owned())
    })
}

/// The stop of a container for which it has no signal.
const KILLS: UnsignalledStop = UnsignalledStop {
    reason: "without `--boot` or `--kill-signal=`, systemd-nspawn kills it at once",
    effect: UnsignalledEffect::KillsAfter(Duration::ZERO),
};

/// Returns the systemd-nspawn process that runs a container: the parent of its init.
fn supervisor(host: &Host, container: &Container) -> Option<HostPid> {
    let parent = HostPid::new(host.stat(container.init_pid()?).ok()?.ppid)?;
    let is_its_users = match container.user {
        Some(uid) => host.trust_of_process(parent) == Trust::User(uid),
        None => host.trust_of_process(parent) == Trust::Root,
    };
    let comm = host.stat(parent).ok()?.comm;
    (is_its_users && *comm == *b"systemd-nspawn").then_some(parent)
}

/// Reads the arguments of a systemd-nspawn process.
fn arguments(host: &Host, supervisor: HostPid) -> Option<Vec<String>> {
    let cmdline = host.proc_file(supervisor, "cmdline", 1 << 17).ok()?;
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(&cmdline);
    let text = |argument: &[u8]| String::from_utf8_lossy(argument).into_owned();
    Some(cmdline.split(|byte| *byte == 0).map(text).collect())
}

/// Reads the settings file of a machine; the default if it has none.
fn settings_file(
    host: &Host,
    supervisor: HostPid,
    container: &Container,
    arguments: &NspawnSettings,
) -> Result<NspawnSettings, ReadError> {
    let cwd = host.link(supervisor, "cwd").unwrap_or_default();
    let cwd = Path::new(OsStr::from_bytes(&cwd));
    let name = arguments.machine_name(Some(cwd)).or_else(|| container.name.clone());
    let name = name.unwrap_or_default();
    let root = arguments.root(Some(cwd)).or_else(|| container.image.as_ref().map(PathBuf::from));
    for path in arguments.files(&name, root.as_deref()) {
        match host.state_file(&path) {
            Ok(file) => return Ok(NspawnSettings::of_file(&String::from_utf8_lossy(&file.bytes))),
            Err(ReadError::Gone) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(NspawnSettings::default())
}

/// Returns the cgroup of a unit that a process is in or below: its `payload`, next to the `supervisor`
/// that nspawn itself is in. v1 has neither, and there a scope belongs to the machine alone.
fn unit_cgroup(reader: &RecordReader<'_>, pid: HostPid, unit: &str) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let parts: Vec<&[u8]> = cgroup::components(&membership.path).collect();
        let index = parts.iter().position(|part| *part == unit.as_bytes())?;
        let last = match parts.get(index + 1) {
            Some(&b"payload") => index + 1,
            _ if unit.ends_with(".scope") => index,
            _ => return None,
        };
        Some(cgroup::prefix_through(&membership.path, last).to_vec())
    })
}

/// Returns the cgroup named `payload` that a process is in or below.
fn payload(reader: &RecordReader<'_>, pid: HostPid) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let index = cgroup::components(&membership.path).position(|part| part == b"payload")?;
        Some(cgroup::prefix_through(&membership.path, index).to_vec())
    })
}

/// Decodes a name.
pub(super) fn fuzz(name: &str) {
    assert!(unescape(name).len() <= 3 * name.len());
}

/// Decodes the `\x2d` escapes in a unit name (systemd-escape(1)).
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let escaped = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .filter(|_| *byte == b'\\');
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_of_unit_names() {
        for (escaped, plain) in
            [("web", "web"), ("my\\x2dweb", "my-web"), ("a\\x2", "a\\x2"), ("\\xzz", "\\xzz")]
        {
            assert_eq!(unescape(escaped), plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_decoded_without_a_panic(name: String) {
            unescape(&name);
        }
    }
}
