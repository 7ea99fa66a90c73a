//! The candidates of each completion source: running containers, and the processes, users and files of
//! the container that the line is about.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use clap::Command;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use super::line::CompletionLine;
use super::source::CompletionSource;
use super::{begins, candidate};
use crate::action::copy::names_in_container;
use crate::analysis::container_process::ContainerProcess;
use crate::engine::{Inventory, SearchDepth, discover_names, engine_infos};
use crate::model::container::{Container, ContainerState, is_long_id};
use crate::model::namespace::KINDS;
use crate::model::signal::Signal;
use crate::output::escape::safe;
use crate::resolve::path_ref::PathRef;
use crate::resolve::reference::is_qualifier;

/// Signals that are sent most, and are offered first.
const COMMON_SIGNALS: [Signal; 7] = [
    Signal::TERM,
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::KILL,
];

/// Attaches a completer to each argument that has a source.
pub(super) fn attach(root: Command, line: &Arc<CompletionLine>) -> Command {
    let names: Vec<String> = root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let root = with_completers(root, line);
    names.into_iter().fold(root, |root, name| {
        root.mut_subcommand(name, |command| with_completers(command, line))
    })
}

fn with_completers(command: Command, line: &Arc<CompletionLine>) -> Command {
    command.mut_args(|argument| match argument.get::<CompletionSource>().copied() {
        None | Some(CompletionSource::Free) => argument,
        Some(source) => {
            let line = Arc::clone(line);
            argument.add(ArgValueCompleter::new(move |typed: &OsStr| values(source, &line, typed)))
        }
    })
}

fn values(
    source: CompletionSource,
    line: &CompletionLine,
    typed: &OsStr,
) -> Vec<CompletionCandidate> {
    match source {
        CompletionSource::Containers => {
            inventory(line, typed).map_or_else(Vec::new, |found| running(&found, typed))
        }
        CompletionSource::AnyContainers => any_containers(line, typed),
        CompletionSource::Signals => signals(typed),
        CompletionSource::ContainersAndSignals => {
            let signals = if typed.is_empty() { Vec::new() } else { signals(typed) };
            any_containers(line, typed).into_iter().chain(signals).collect()
        }
        CompletionSource::Pids => processes(line, typed, |process| process.pid.map(|p| p.get())),
        CompletionSource::HostPids => {
            processes(line, typed, |process| Some(process.facts.id.pid.get()))
        }
        CompletionSource::Tids => tids(line, typed),
        CompletionSource::Comms => comms(line, typed),
        CompletionSource::Users => users(line, typed),
        CompletionSource::Engines => {
            let names = engine_infos().map(|engine| engine.name);
            names
                .filter(|name| begins(name.as_bytes(), typed))
                .map(CompletionCandidate::new)
                .collect()
        }
        CompletionSource::Namespaces => {
            list_items(KINDS.iter().map(|kind| (kind.name, kind.about)), typed, b'+')
        }
        CompletionSource::Columns(names) => list_items(names().into_iter(), typed, b'+'),
        CompletionSource::SortKeys(names) => list_items(names().into_iter(), typed, b'-'),
        CompletionSource::CopyPaths => copy_paths(line, typed),
        CompletionSource::ContainerDirectories => {
            let container = line.container.clone().unwrap_or_default();
            container_paths(line, &container, typed.as_bytes(), b"", true)
        }
        CompletionSource::Free => Vec::new(),
    }
}

/// Returns the signals that begin with the letters after a hyphen, as kill(1) takes them: `-TERM`. None for other
/// commands, and for words that may be options.
pub(super) fn signal_options(
    line: &CompletionLine,
    typed: &OsStr,
) -> Option<Vec<CompletionCandidate>> {
    let letters = typed.as_bytes().strip_prefix(b"-")?;
    let is_signal = line.command.as_deref() == Some("signal")
        && letters.first().is_some_and(u8::is_ascii_uppercase);
    let found = is_signal.then(|| signals(OsStr::from_bytes(letters)))?;
    Some(found.into_iter().map(|signal| signal.add_prefix("-")).collect())
}

/// Finds the containers that a word may be the beginning of.
fn inventory(line: &CompletionLine, typed: &OsStr) -> Option<Inventory> {
    // A namespace that no engine claims is found only among all processes, and named by its PID.
    let depth = if typed.as_bytes().starts_with(b"pid:") {
        SearchDepth::Everything
    } else {
        SearchDepth::Cgroups
    };
    Some(discover_names(line.host()?, depth))
}

/// Returns the containers, those that are not running last.
fn any_containers(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(inventory) = inventory(line, typed) else { return Vec::new() };
    running(&inventory, typed).into_iter().chain(ended(&inventory, typed)).collect()
}

/// Returns the running containers, each by the shortest reference that matches it alone.
fn running(inventory: &Inventory, typed: &OsStr) -> Vec<CompletionCandidate> {
    let containers = &inventory.containers;
    let mut found = Vec::new();
    for container in containers {
        let (name, qualified) = (container.name.as_ref(), container.qualified());
        let same_name = |other: &&Container| {
            other.name.as_ref() == name || other.aliases.iter().any(|alias| Some(alias) == name)
        };
        let is_unique = container.verified && containers.iter().filter(same_name).count() == 1;
        let references = [name.filter(|_| is_unique), Some(&qualified)];
        let matching =
            references.into_iter().flatten().find(|reference| begins(reference.as_bytes(), typed));
        let id = container.id.as_deref().filter(|id| is_long_id(id));
        let id = id.map(|id| &id[..typed.len().clamp(12, 64)]);
        // The ID is offered only once its first digits are typed.
        let id = id.filter(|id| !typed.is_empty() && begins(id.as_bytes(), typed));
        let reference = matching.map(String::as_str).or(id);
        found.extend(reference.map(|reference| candidate(reference, description(container))));
    }
    found
}

/// Returns the containers that are not running, each by the shortest reference that matches it alone.
fn ended(inventory: &Inventory, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Inventory { containers, stopped, .. } = inventory;
    let ended = || stopped.iter().filter(|stopped| stopped.doubt.is_none());
    let all: Vec<&Container> =
        containers.iter().chain(ended().map(|stopped| &stopped.container)).collect();
    let mut found: Vec<CompletionCandidate> = Vec::new();
    for container in ended().map(|stopped| &stopped.container) {
        // (Several runs of one container in a pod are one.)
        let is_other = |other: &&&Container| {
            other.id != container.id && (container.pod.is_none() || other.pod != container.pod)
        };
        let others = || all.iter().filter(is_other);
        let qualified = container.qualified();
        let name = container.name.as_ref();
        let name = name.filter(|name| others().all(|other| other.name.as_ref() != Some(*name)));
        let qualified =
            Some(&qualified).filter(|name| others().all(|other| other.qualified() != **name));
        let mut references = name.into_iter().chain(qualified);
        let reference = references.find(|reference| begins(reference.as_bytes(), typed));
        let is_new = |reference: &&String| {
            found.iter().all(|known| known.get_value().as_bytes() != reference.as_bytes())
        };
        let reference = reference.filter(is_new);
        found.extend(reference.map(|reference| candidate(reference, description(container))));
    }
    found
}

fn description(container: &Container) -> String {
    let mut parts = vec![container.engine.name.to_owned()];
    parts.extend(container.image.clone());
    if container.state != ContainerState::Running {
        parts.push(container.state.name().to_owned());
    }
    if let (false, Some(init)) = (container.engine.names_containers(), container.init) {
        parts.push(format!("PID {}", init.pid));
    }
    if !container.verified {
        parts.push("unverified".into());
    }
    parts.join(", ")
}

/// Returns the signals, in the case and with the prefix that were typed. The real-time signals, half
/// of them all, are offered only once their first letter was typed.
fn signals(typed: &OsStr) -> Vec<CompletionCandidate> {
    let text = typed.to_string_lossy();
    let lower_case = text.starts_with(|c: char| c.is_ascii_lowercase());
    let upper = text.to_ascii_uppercase();
    let (prefix, rest) = match upper.strip_prefix("SIG") {
        Some(rest) => ("SIG", rest),
        None => ("", upper.as_str()),
    };
    let others = Signal::all().filter(|signal| !COMMON_SIGNALS.contains(signal));
    COMMON_SIGNALS
        .into_iter()
        .chain(others)
        .filter(|signal| *signal < Signal::RT32 || rest.starts_with('R'))
        .map(|signal| {
            let name = format!("{prefix}{}", signal.name());
            let name = if lower_case { name.to_ascii_lowercase() } else { name };
            (name, signal.describe())
        })
        .filter(|(name, _)| begins(name.as_bytes(), typed))
        .map(|(name, description)| candidate(name, description))
        .collect()
}

/// Returns the processes of the container, each by the PID that `pid_of` returns.
fn processes(
    line: &CompletionLine,
    typed: &OsStr,
    pid_of: fn(&ContainerProcess) -> Option<i32>,
) -> Vec<CompletionCandidate> {
    let Some((snapshot, _)) = line.snapshot(false) else { return Vec::new() };
    let rows = snapshot.processes.iter().filter_map(|process| {
        let command = match process.facts.command.known() {
            Some(command) if !command.is_empty() => command.joined(),
            _ => process.facts.stat.comm.clone(),
        };
        Some((pid_of(process)?, safe(&command).into_owned()))
    });
    numbers(rows.collect(), typed)
}

fn tids(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some((snapshot, depth)) = line.snapshot(true) else { return Vec::new() };
    let threads = snapshot.processes.iter().flat_map(|process| &process.facts.threads);
    let rows = threads.filter_map(|thread| {
        Some((*thread.status.nspid.get(depth)?, safe(&thread.stat.comm).into_owned()))
    });
    numbers(rows.collect(), typed)
}

fn numbers(mut rows: Vec<(i32, String)>, typed: &OsStr) -> Vec<CompletionCandidate> {
    rows.sort_unstable();
    rows.into_iter()
        .map(|(number, description)| (number.to_string(), description))
        .filter(|(number, _)| begins(number.as_bytes(), typed))
        .map(|(number, description)| candidate(number, description))
        .collect()
}

fn comms(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some((snapshot, _)) = line.snapshot(false) else { return Vec::new() };
    let mut comms: Vec<&[u8]> =
        snapshot.processes.iter().map(|process| process.facts.stat.comm.as_slice()).collect();
    comms.sort_unstable();
    comms.dedup();
    comms
        .into_iter()
        .filter(|comm| begins(comm, typed))
        .map(|comm| CompletionCandidate::new(OsString::from_vec(comm.to_vec())))
        .collect()
}

fn users(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(resolved) = line.resolved() else { return Vec::new() };
    let Some(init) = resolved.container.init else { return Vec::new() };
    let Ok(names) = resolved.host.query_container_fs(init, None).receive(resolved.host).names
    else {
        return Vec::new();
    };
    names
        .all()
        .filter(|(_, name)| begins(name, typed))
        .map(|(uid, name)| candidate(OsString::from_vec(name.to_vec()), format!("uid {uid}")))
        .collect()
}

/// Returns the items that may follow in a comma-separated list, which may begin with a sign. The
/// items before the last comma stay as they were typed, and are not offered again.
fn list_items<'a>(
    items: impl Iterator<Item = (&'a str, &'a str)>,
    typed: &OsStr,
    sign: u8,
) -> Vec<CompletionCandidate> {
    let bytes = typed.as_bytes();
    let start = usize::from(bytes.first() == Some(&sign));
    let cut = bytes.iter().rposition(|b| *b == b',').map_or(start, |comma| comma + 1);
    let (before, last) = bytes.split_at(cut);
    let chosen: Vec<&[u8]> = before[start.min(before.len())..].split(|b| *b == b',').collect();
    items
        .filter(|(name, _)| name.as_bytes().starts_with(last))
        .filter(|(name, _)| !chosen.contains(&name.as_bytes()))
        .map(|(name, description)| {
            let value = [before, name.as_bytes()].concat();
            candidate(OsString::from_vec(value), description)
        })
        .collect()
}

/// Returns the containers with a colon, the paths in one, or the paths on the host.
fn copy_paths(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    if let PathRef::Container(container, path) = PathRef::parse(typed.as_bytes())
        && !(path.is_empty() && is_qualifier(&container))
    {
        let before = [container.as_bytes(), b":"].concat();
        let paths = container_paths(line, &container, &path, &before, false);
        if !paths.is_empty() {
            return paths;
        }
    }
    let mut found: Vec<CompletionCandidate> = Vec::new();
    if !matches!(typed.as_bytes().first(), Some(b'/' | b'.' | b'~')) {
        found.extend(any_containers(line, typed).into_iter().map(|container| {
            let mut value = container.get_value().to_owned();
            value.push(":");
            CompletionCandidate::new(value).help(container.get_help().cloned())
        }));
    }
    let files = PathCompleter::any().stdio().complete(typed);
    found.extend(files.into_iter().filter_map(|file| local_path(file, typed)));
    found
}

/// Returns a local path as `cp` takes it: one that would be a path in a container gets `./` before it.
/// (Bash replaces only the text after a colon that was typed.)
fn local_path(file: CompletionCandidate, typed: &OsStr) -> Option<CompletionCandidate> {
    match PathRef::parse(file.get_value().as_bytes()) {
        PathRef::Container(..) if typed.as_bytes().contains(&b':') => None,
        PathRef::Container(..) => {
            let mut value = OsString::from("./");
            value.push(file.get_value());
            Some(CompletionCandidate::new(value).help(file.get_help().cloned()))
        }
        PathRef::Host(_) | PathRef::Stream => Some(file),
    }
}

/// Returns the paths in a container that begin with `path`, each after `before`. Directories end in a
/// slash.
fn container_paths(
    line: &CompletionLine,
    container: &str,
    path: &[u8],
    before: &[u8],
    directories_only: bool,
) -> Vec<CompletionCandidate> {
    let Some(resolved) = line.resolve(container) else { return Vec::new() };
    let Some(init) = resolved.container.init else { return Vec::new() };
    let path = if path.is_empty() { b"/" } else { path };
    let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let (directory, prefix) = path.split_at(cut);
    names_in_container(resolved.host, init, directory, prefix)
        .into_iter()
        .filter(|(_, is_directory)| *is_directory || !directories_only)
        .map(|(name, is_directory)| {
            let end: &[u8] = if is_directory { b"/" } else { b"" };
            CompletionCandidate::new(OsString::from_vec([before, directory, &name, end].concat()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals_after(typed: &str) -> Vec<String> {
        let values = signals(typed.as_ref());
        values.iter().map(|value| value.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn common_signals_come_first_and_real_time_ones_after_their_letter() {
        let offered = signals_after("");
        assert_eq!(offered[..7], ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "KILL"]);
        assert_eq!(offered.len(), 31);
        for typed in ["R", "RT", "SIGR"] {
            assert!(signals_after(typed).iter().any(|name| name.ends_with("RTMIN+3")), "{typed}");
        }
        assert!(!signals_after("SIG").iter().any(|name| name.starts_with("SIGRT")));
        assert_eq!(signals_after("sigte"), ["sigterm"]);
        assert_eq!(signals_after("rtmin+1").first().map(String::as_str), Some("rtmin+1"));
    }

    #[test]
    fn lists_keep_the_typed_part_and_offer_the_rest() {
        let items = [("pid", "a"), ("user", "b"), ("uid", "c")];
        let after = |typed: &str| -> Vec<String> {
            let values = list_items(items.into_iter(), typed.as_ref(), b'+');
            values.iter().map(|value| value.get_value().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(after("+pid,u"), ["+pid,user", "+pid,uid"]);
        assert_eq!(after("uid,"), ["uid,pid", "uid,user"]);
        assert_eq!(after("-"), Vec::<String>::new());
    }
}
