//! The command line that is being completed, without the word under the cursor: the host and the
//! container that it names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{ArgMatches, Command, FromArgMatches};

use super::source::CompletionSource;
use crate::cli::root::{GlobalOptions, root_for};
use crate::proc::{CommandLimit, Host, SnapshotOptions};
use crate::resolve::path_ref::PathRef;
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// A command line that is being completed.
#[derive(Debug)]
pub struct CompletionLine {
    host_root: PathBuf,
    host: OnceLock<Option<Host>>,
    /// The command, once it was typed.
    pub command: Option<String>,
    /// The reference to the container that the line is about.
    pub container: Option<String>,
}

impl CompletionLine {
    /// Parses a line, however unfinished, except the word at `index`.
    pub fn new(words: &[OsString], index: usize) -> Self {
        let mut others: Vec<OsString> = words.get(..index).unwrap_or_default().to_vec();
        // An option whose value is being typed would take the next word as its value.
        let is_option = |word: &OsString| word.as_bytes().starts_with(b"-") && word != "--";
        if others.last().is_some_and(is_option) {
            others.pop();
        }
        others.extend(words.get(index + 1..).unwrap_or_default().iter().cloned());
        let mut root = root_for(&others).ignore_errors(true);
        let matches = root.try_get_matches_from_mut(others).ok();
        let command = matches.as_ref().and_then(ArgMatches::subcommand);
        let options =
            command.and_then(|(_, matches)| GlobalOptions::from_arg_matches(matches).ok());
        Self {
            host_root: options.map_or_else(|| "/".into(), |options| options.host_root),
            host: OnceLock::new(),
            command: command.map(|(name, _)| name.to_owned()),
            container: command
                .and_then(|(name, matches)| container_of(root.find_subcommand(name)?, matches)),
        }
    }

    /// Returns the host, if it can be read.
    pub fn host(&self) -> Option<&Host> {
        self.host.get_or_init(|| Host::new(&self.host_root).ok()).as_ref()
    }

    /// Resolves the container that the line is about.
    pub fn resolved(&self) -> Option<ResolvedContainer<'_>> {
        self.resolve(self.container.as_deref()?)
    }

    /// Resolves a reference on the line's host.
    pub fn resolve(&self, word: &str) -> Option<ResolvedContainer<'_>> {
        Resolver::new(self.host()?).resolve(word, Access::Read).ok()
    }

    /// Takes a snapshot of the container, and returns its depth in `NSpid` lines with it.
    pub fn snapshot(&self, threads: bool) -> Option<(ContainerSnapshot, usize)> {
        let resolved = self.resolved()?;
        let options =
            SnapshotOptions { command: CommandLimit::SCREEN, threads, ..SnapshotOptions::BARE };
        Some((resolved.snapshot(options).ok()?, resolved.container.depth))
    }
}

/// Returns the first reference to a container among the values of a command.
fn container_of(command: &Command, matches: &ArgMatches) -> Option<String> {
    command
        .get_arguments()
        .filter_map(|argument| {
            let source = argument.get::<CompletionSource>()?;
            let mut values = matches.try_get_raw(argument.get_id().as_str()).ok()??;
            match source {
                CompletionSource::Containers | CompletionSource::ContainersAndSignals => {
                    values.next()?.to_str().map(str::to_owned)
                }
                CompletionSource::CopyPaths => values.find_map(container_in_path),
                _ => None,
            }
        })
        .next()
}

fn container_in_path(path: &OsStr) -> Option<String> {
    match PathRef::parse(path.as_bytes()) {
        PathRef::Container(container, _) => Some(container),
        _ => None,
    }
}
