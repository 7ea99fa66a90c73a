//! What can stand where a value is wanted, by what the value is called in the command table: the
//! containers that run now, processes, users and files in the one that the line names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::{Arg, ArgMatches, Command};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use super::{begins, candidate};
use crate::action::copy::names_inside;
use crate::analysis::copy_rules::Endpoint;
use crate::cli::root::root_command;
use crate::engine::{SearchDepth, discover, engine_infos};
use crate::model::container::Container;
use crate::model::namespace::KINDS;
use crate::model::signal::Signal;
use crate::output::column::Column;
use crate::output::columns::ls::LS_COLUMNS;
use crate::output::columns::ps::PS_COLUMNS;
use crate::output::columns::signals::SIGNALS_COLUMNS;
use crate::output::escape::safe;
use crate::proc::{CommandLimit, Host, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::reference::is_qualifier;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// The line that is completed: what stands in it apart from the word under the cursor.
#[derive(Debug)]
pub struct CompletionLine {
    host_root: PathBuf,
    host: OnceLock<Option<Host>>,
    container: Option<String>,
}

impl CompletionLine {
    /// Reads what is there, however unfinished.
    pub fn new(words: &[OsString], at: usize) -> Self {
        let mut others: Vec<OsString> = words.get(..at).unwrap_or_default().to_vec();
        // An option whose value is being typed would take the next word for it.
        let is_option = |word: &OsString| word.as_bytes().starts_with(b"-") && word != "--";
        if others.last().is_some_and(is_option) {
            others.pop();
        }
        others.extend(words.get(at + 1..).unwrap_or_default().iter().cloned());
        let matches = root_command().ignore_errors(true).try_get_matches_from(others).ok();
        let inner = matches.as_ref().and_then(ArgMatches::subcommand).map(|(_, inner)| inner);
        let first = |id: &str| -> Option<String> {
            let mut raw = inner?.try_get_raw(id).ok()??;
            raw.next()?.to_str().map(str::to_owned)
        };
        let host_root = first("host_root").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        // `cp` names its containers with a path behind.
        let of_path = || -> Option<String> {
            let paths = inner?.try_get_raw("paths").ok()??;
            paths.map(|path| Endpoint::parse(path.as_bytes(), is_qualifier)).find_map(|side| {
                match side {
                    Endpoint::Inside(name, _) => Some(name),
                    _ => None,
                }
            })
        };
        let container = first("container").or_else(|| first("containers")).or_else(of_path);
        Self { host_root, host: OnceLock::new(), container }
    }

    fn host(&self) -> Option<&Host> {
        self.host.get_or_init(|| Host::new(&self.host_root).ok()).as_ref()
    }

    fn found(&self) -> Option<ResolvedContainer<'_>> {
        self.resolve(self.container.as_deref()?)
    }

    fn resolve(&self, word: &str) -> Option<ResolvedContainer<'_>> {
        Resolver::new(self.host()?).resolve(word, Access::Read).ok()
    }

    fn view(&self, threads: bool) -> Option<(ContainerSnapshot, usize)> {
        let found = self.found()?;
        let facts =
            SnapshotOptions { command: CommandLimit::SCREEN, threads, ..SnapshotOptions::BARE };
        Some((found.snapshot(facts).ok()?, found.container.depth))
    }
}

/// What a value is, where that is not free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Containers,
    Names,
    Signals,
    Pids,
    HostPids,
    Tids,
    Comms,
    Users,
    Engines,
    Namespaces,
    Columns,
    SortKeys,
    CopyPaths,
    FoldersInside,
    Files,
    Folders,
}

/// Where a value comes from: by what it is called in the table, and where one name means several
/// things, by its option.
pub(super) fn source(arg: &Arg) -> Option<Source> {
    let name = arg.get_value_names()?.first()?.as_str();
    Some(match (name, arg.get_id().as_str()) {
        ("CTR", _) => Source::Containers,
        ("SIG", _) => Source::Signals,
        ("N", "host_pid") => Source::HostPids,
        ("N", "tid") => Source::Tids,
        ("N", _) => Source::Pids,
        ("NAME", "comm") => Source::Comms,
        ("NAME", "engine") => Source::Engines,
        ("NAME", _) => Source::Names,
        ("U" | "USER[:GROUP]", _) => Source::Users,
        ("LIST", "columns") => Source::Columns,
        ("LIST", _) => Source::Namespaces,
        ("COL", _) => Source::SortKeys,
        ("PATH", _) => Source::CopyPaths,
        ("FILE", _) => Source::Files,
        ("DIR", "host_root") => Source::Folders,
        ("DIR", _) => Source::FoldersInside,
        _ => return None,
    })
}

/// Gives each argument of the command line its source.
pub(super) fn attach(root: Command, line: &Arc<CompletionLine>) -> Command {
    let names: Vec<String> = root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let root = with_sources(root, line);
    names
        .into_iter()
        .fold(root, |root, name| root.mut_subcommand(name, |command| with_sources(command, line)))
}

fn with_sources(command: Command, line: &Arc<CompletionLine>) -> Command {
    let name = command.get_name().to_owned();
    command.mut_args(|arg| match source(&arg) {
        Some(source) => {
            let (line, name) = (Arc::clone(line), name.clone());
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                values(source, &line, &name, typed)
            }))
        }
        None => arg,
    })
}

fn values(
    source: Source,
    line: &CompletionLine,
    command: &str,
    typed: &OsStr,
) -> Vec<CompletionCandidate> {
    match source {
        Source::Containers | Source::Names => containers(line, typed),
        Source::Signals => signals(typed),
        Source::Pids => processes(line, typed, false, |member, _| member.pid.map(|p| p.get())),
        Source::HostPids => processes(line, typed, false, |m, _| Some(m.facts.id.pid.get())),
        Source::Tids => tids(line, typed),
        Source::Comms => comms(line, typed),
        Source::Users => users(line, typed),
        Source::Engines => plain(engine_infos().map(|engine| engine.name), typed),
        Source::Namespaces => {
            let all = KINDS.iter().map(|kind| (kind.name, kind.about));
            list(all, typed, b"")
        }
        Source::Columns => columns(command, typed, b"+"),
        Source::SortKeys => columns(command, typed, b"-"),
        Source::CopyPaths => copy_paths(line, typed),
        Source::FoldersInside => {
            let inside = line.container.clone().unwrap_or_default();
            paths_inside(line, &inside, typed.as_bytes(), b"", true)
        }
        Source::Files => PathCompleter::any().complete(typed),
        Source::Folders => PathCompleter::dir().complete(typed),
    }
}

fn plain<'a>(all: impl Iterator<Item = &'a str>, typed: &OsStr) -> Vec<CompletionCandidate> {
    all.filter(|one| begins(one.as_bytes(), typed)).map(CompletionCandidate::new).collect()
}

/// Those that run now, each by the shortest word that finds it and no other.
fn containers(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(host) = line.host() else { return Vec::new() };
    // Namespaces that nobody claims are found by all processes alone, and named by their PIDs.
    let depth = if typed.as_bytes().starts_with(b"pid:") {
        SearchDepth::Everything
    } else {
        SearchDepth::Cgroups
    };
    let all = discover(host, depth).containers;
    let mut found = Vec::new();
    for container in &all {
        let (name, qualified) = (name_of(container), container.qualified());
        let same = |other: &&Container| {
            name_of(other) == name || other.aliases.iter().any(|alias| Some(alias) == name)
        };
        let short = name.filter(|_| container.verified && all.iter().filter(same).count() == 1);
        let id = container.id.as_deref().filter(|id| id.len() == 64);
        let id = id.and_then(|id| id.get(..12.max(typed.len()).min(64)));
        let words = [short.map(String::as_str), Some(qualified.as_str())];
        let fitting = words.into_iter().flatten().find(|word| begins(word.as_bytes(), typed));
        // By its id only for who begins with it.
        let by_id = id.filter(|id| !typed.is_empty() && begins(id.as_bytes(), typed));
        found.extend(fitting.or(by_id).map(|word| candidate(word, about(container))));
    }
    found
}

fn name_of(container: &Container) -> Option<&String> {
    container.name.as_ref()
}

fn about(container: &Container) -> String {
    let mut parts = vec![container.engine.name.to_owned()];
    parts.extend(container.image.clone());
    if container.state != crate::model::container::ContainerState::Running {
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

/// With `SIG` and in lower case for who types so.
fn signals(typed: &OsStr) -> Vec<CompletionCandidate> {
    let text = typed.to_string_lossy();
    let lower = text.starts_with(|c: char| c.is_ascii_lowercase());
    let prefix = if text.to_ascii_uppercase().starts_with("SIG") { "SIG" } else { "" };
    let all = Signal::all().map(|signal| {
        let name = format!("{prefix}{}", signal.name());
        (if lower { name.to_ascii_lowercase() } else { name }, signal.describe())
    });
    all.filter(|(name, _)| begins(name.as_bytes(), typed))
        .map(|(name, about)| candidate(name, about))
        .collect()
}

type Number = fn(&crate::analysis::container_process::ContainerProcess, usize) -> Option<i32>;

fn processes(
    line: &CompletionLine,
    typed: &OsStr,
    threads: bool,
    number: Number,
) -> Vec<CompletionCandidate> {
    let Some((view, depth)) = line.view(threads) else { return Vec::new() };
    let mut rows: Vec<(i32, String)> = view
        .processes
        .iter()
        .filter_map(|member| {
            let command = match member.facts.command.known() {
                Some(command) if !command.is_empty() => command.joined(),
                _ => member.facts.stat.comm.clone(),
            };
            Some((number(member, depth)?, safe(&command).into_owned()))
        })
        .collect();
    rows.sort_unstable();
    rows.into_iter()
        .map(|(number, command)| (number.to_string(), command))
        .filter(|(number, _)| begins(number.as_bytes(), typed))
        .map(|(number, command)| candidate(number, command))
        .collect()
}

fn tids(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some((view, depth)) = line.view(true) else { return Vec::new() };
    let threads = view.processes.iter().flat_map(|member| &member.facts.threads);
    let mut rows: Vec<(i32, String)> = threads
        .filter_map(|thread| {
            Some((*thread.status.nspid.get(depth)?, safe(&thread.stat.comm).into_owned()))
        })
        .collect();
    rows.sort_unstable();
    let rows = rows.into_iter().map(|(number, comm)| (number.to_string(), comm));
    rows.filter(|(number, _)| begins(number.as_bytes(), typed))
        .map(|(number, comm)| candidate(number, comm))
        .collect()
}

fn comms(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some((view, _)) = line.view(false) else { return Vec::new() };
    let mut all: Vec<&[u8]> = view.processes.iter().map(|m| m.facts.stat.comm.as_slice()).collect();
    all.sort_unstable();
    all.dedup();
    let fitting = all.into_iter().filter(|comm| begins(comm, typed));
    fitting.map(|comm| CompletionCandidate::new(OsString::from_vec(comm.to_vec()))).collect()
}

/// The users that the container's own `/etc/passwd` names.
fn users(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(found) = line.found() else { return Vec::new() };
    let Some(init) = found.container.init else { return Vec::new() };
    let Ok(names) = found.host.query_container_fs(init, None).receive(found.host).names else {
        return Vec::new();
    };
    let all = names.all().filter(|(_, name)| begins(name, typed));
    all.map(|(uid, name)| candidate(OsString::from_vec(name.to_vec()), format!("uid {uid}")))
        .collect()
}

/// One more of a list with commas; what stands before the last comma stays.
fn list<'a>(
    all: impl Iterator<Item = (&'a str, &'a str)>,
    typed: &OsStr,
    signs: &[u8],
) -> Vec<CompletionCandidate> {
    let bytes = typed.as_bytes();
    let sign = usize::from(bytes.first().is_some_and(|first| signs.contains(first)));
    let cut = bytes.iter().rposition(|b| *b == b',').map_or(sign, |at| at + 1);
    let (before, last) = bytes.split_at(cut);
    let given: Vec<&[u8]> = before[sign.min(before.len())..].split(|b| *b == b',').collect();
    all.filter(|(name, _)| name.as_bytes().starts_with(last) && !given.contains(&name.as_bytes()))
        .map(|(name, about)| {
            let value = [before, name.as_bytes()].concat();
            candidate(OsString::from_vec(value), about)
        })
        .collect()
}

fn columns(command: &str, typed: &OsStr, signs: &[u8]) -> Vec<CompletionCandidate> {
    fn of<R>(table: &'static [Column<R>]) -> Vec<(&'static str, &'static str)> {
        table.iter().map(|column| (column.name, column.description)).collect()
    }
    let all = match command {
        "ps" => of(PS_COLUMNS),
        "ls" => of(LS_COLUMNS),
        "signals" => of(SIGNALS_COLUMNS),
        _ => Vec::new(),
    };
    list(all.into_iter(), typed, signs)
}

/// A container with a colon, a path inside one, or a path here.
fn copy_paths(line: &CompletionLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    if let Endpoint::Inside(name, path) = Endpoint::parse(typed.as_bytes(), is_qualifier)
        && !(path.is_empty() && is_qualifier(&name))
    {
        let before = [name.as_bytes(), b":"].concat();
        let inside = paths_inside(line, &name, &path, &before, false);
        if !inside.is_empty() {
            return inside;
        }
    }
    let mut all: Vec<CompletionCandidate> = Vec::new();
    if !matches!(typed.as_bytes().first(), Some(b'/' | b'.' | b'~')) {
        all.extend(containers(line, typed).into_iter().map(|one| {
            let mut value = one.get_value().to_owned();
            value.push(":");
            CompletionCandidate::new(value).help(one.get_help().cloned())
        }));
    }
    all.extend(PathCompleter::any().stdio().complete(typed));
    all
}

/// The names that go on from a path inside; folders end in a slash.
fn paths_inside(
    line: &CompletionLine,
    container: &str,
    path: &[u8],
    before: &[u8],
    folders: bool,
) -> Vec<CompletionCandidate> {
    let Some(found) = line.resolve(container) else { return Vec::new() };
    let Some(init) = found.container.init else { return Vec::new() };
    let path = if path.is_empty() { b"/" } else { path };
    let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (folder, last) = path.split_at(cut);
    let names = names_inside(found.host, init, folder, last);
    let fitting = names.into_iter().filter(|(_, is_folder)| *is_folder || !folders);
    fitting
        .map(|(name, is_folder)| {
            let end: &[u8] = if is_folder { b"/" } else { b"" };
            CompletionCandidate::new(OsString::from_vec([before, folder, &name, end].concat()))
        })
        .collect()
}
