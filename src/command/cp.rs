//! `cp`: copies files into, out of and between containers. Here the command line becomes a
//! [`CopyJob`], and its events become text; the rules for destinations are in
//! `analysis::copy_rules`, and the copying is in `action::copy`.
//!
//! The progress bar is not indicatif's: `Ui` already decides whether stderr is drawn on and in which
//! characters, so that only the ten lines of [`progress_line`] would go.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use serde_json::json;

use super::copy_root::{CopyRoot, open_root};
use super::{Command, Section, arguments, command};
use crate::action::copy::{
    CopyEvent, CopyJob, CopyOptions, CopyProgress, CopyResult, Endpoint, Location, Rootfs,
    WriteOptions,
};
use crate::analysis::copy_rules::describe_rules;
use crate::analysis::remedy::quoted;
use crate::analysis::wording::counted;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::StoredRoot;
use crate::error::{Error, ExitStatus};
use crate::model::account::{Account, AccountGroup, Deviation};
use crate::model::byte_size::size;
use crate::model::bytes::message_text;
use crate::model::pid::ContainerPid;
use crate::output::escape::{safe, safe_str};
use crate::output::json::bytes_to_json;
use crate::output::units::age;
use crate::resolve::path_ref::PathRef;
use crate::resolve::{Access, Resolver};

/// A copy that takes longer shows its progress, and its duration and rate at the end.
const LONG: Duration = Duration::from_secs(1);
/// The interval between two updates of the progress line.
const INTERVAL: Duration = Duration::from_millis(200);

/// Copy files into, out of or between containers
///
/// `CTR:PATH` is a path in a container, starting at its root, as the container sees it: with its volumes, tmpfs
/// and other mounts. `-` is a tar stream on stdin or stdout. SRC ending in `/.` means the contents of that
/// directory. Each file is written to a temporary file next to its destination and renamed over it: a running
/// program's file can be replaced, and a copy that fails leaves the old file. New files in a container belong
/// to the user of its init, on the host to you. Devices, FIFOs and sockets are skipped with a warning. The
/// files of a container that is not running are read from its engine's store, as root.
#[derive(Args)]
#[command(override_usage = "cinspect cp [OPTIONS] <SRC>... <DST>")]
pub struct Cp {
    /// One or more sources followed by the destination: FILE, CTR:PATH or `-`
    #[arg(value_name = "PATH", add = CompletionSource::CopyPaths)]
    paths: Vec<OsString>,
    /// Keep owners, all permission bits, times of access, extended attributes, ACLs and capabilities
    #[arg(short, long)]
    archive: bool,
    /// Copy the files that symlinks point to instead of the symlinks
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Directories are copied with their contents and files are replaced, with it or without
    #[arg(short, long, short_aliases = ['R', 'f'], alias = "force", action = clap::ArgAction::Count, hide = true)]
    recursive: u8,
    /// Owner of the copied files (name or ID as known in the container)
    #[arg(long, value_name = "USER[:GROUP]", add = CompletionSource::Users)]
    chown: Option<OsString>,
    /// Do not overwrite existing files
    #[arg(short, long)]
    no_clobber: bool,
    /// Fail if a file is skipped or changes, or an attribute cannot be kept
    #[arg(long)]
    strict: bool,
    /// fsync each file before renaming it into place
    #[arg(long)]
    sync: bool,
    /// Do not show progress
    #[arg(long)]
    no_progress: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Use the mount namespace of this PID (in the container) instead of PID 1's
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Option<ContainerPid>,
}

pub const COMMAND: Command = command::<Cp>(
    "cp",
    &[],
    &[
        ("cinspect cp app web:/usr/local/bin/", "replace a program while it runs"),
        ("cinspect cp web:/var/log/app.log .", "copy a log file out"),
        ("cinspect cp 'web:/var/log/*.log' logs/", "copy all logs out, by pattern"),
        ("cinspect cp -a web:/data/. db:/data", "between containers, keeping owners"),
        ("cinspect cp web:/etc - | tar -t", "list a directory as a tar stream"),
    ],
    run,
)
.modifies()
.on_containers(&[ExitStatus::NoProcess])
.files(&[
    ("/proc/PID/root", "The container's root, with its mounts."),
    (
        "DATA_ROOT/overlay2, GRAPH_ROOT/overlay",
        "Layers of containers that are not running: mounted read-only, for the copying process alone.",
    ),
    ("/proc/self/fdinfo/", "Mount IDs, which identify bind-mounted files (before Linux 5.8)."),
    (
        ".cinspect-*~",
        "A temporary file, next to its destination. One that a killed copy left is removed by the next copy into that directory.",
    ),
])
.sections(|| {
    vec![Section::new(
        "Where it goes",
        "The rules are those of docker cp. With several sources DST must be an existing directory.",
        describe_rules(),
    )]
});

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Cp = arguments(matches)?;
    let (sources, destination) = parse_paths(&arguments.paths)?;
    let host = context.host()?;
    let resolver = Resolver::new(&host);
    let references = references(&sources, &destination);
    let mut roots = references
        .iter()
        .map(|(word, access)| {
            open_root(context, &resolver, word, *access, arguments.pid)
                .map_err(|error| with_local_names(error, &arguments.paths, &[word]))
        })
        .collect::<Result<Vec<CopyRoot>, Error>>()?;
    let names: Vec<&str> = references.iter().map(|(reference, _)| *reference).collect();
    let from_disk = stored_names(&roots);
    let quiet = arguments.quiet;
    let shows_progress = !arguments.no_progress && !quiet && destination != PathRef::Stream;
    let job = CopyJob {
        sources: sources.iter().map(|path| endpoint(path, &names)).collect(),
        destination: endpoint(&destination, &names),
        stored: take_stored(&mut roots),
        containers: roots.into_iter().map(|root| root.rootfs).collect(),
        records: &host,
        host: Rootfs::host(),
        options: options(&arguments),
        chown: arguments.chown.as_ref().map(|owner| owner.as_bytes().to_owned()),
        count_bytes: shows_progress,
    };
    let start = Instant::now();
    let mut reporter = ProgressReporter { context, quiet, shows_progress, start, shown: start };
    let outcome = job.run(&mut |event| reporter.report(event));
    context.ui.clear_progress();
    let outcome = outcome.map_err(|error| with_local_names(error, &arguments.paths, &names));
    let CopyResult { progress, account, privileged } = outcome?;
    let summary = CopySummary { progress, elapsed: start.elapsed(), from_disk };
    print_summary(context, &host.name, &arguments, &summary)?;
    print_others(context, quiet, &account);
    note_privileged(context, quiet, privileged);
    Ok(if account.has_failures() { ExitStatus::Failed } else { ExitStatus::Done })
}

/// Names the files on the host that are setuid or setgid now or have capabilities: that was
/// requested, and the programs in them are the container's.
fn note_privileged(context: &Context, quiet: bool, files: Option<(Vec<u8>, u64)>) {
    if let Some((first, count)) = files.filter(|_| !quiet) {
        let first = safe(&first);
        let files = match count {
            1 => format!("`{first}` is"),
            count => format!("`{first}` and {} more are", count - 1),
        };
        context
            .ui
            .note(&format!("{files} on the host now with setuid or setgid bits or capabilities"));
    }
}

/// Prints how many more entries of each kind the account has, unless each of them has been printed.
fn print_others(context: &Context, quiet: bool, account: &Account) {
    if !quiet && !context.ui.verbose {
        // (Each failure has been printed.)
        let groups = account.groups().iter();
        let groups = groups.filter(|group| group.first.deviation != Deviation::Failed);
        for line in groups.filter_map(AccountGroup::others) {
            context.ui.warn(&safe_str(&line));
        }
    }
}

fn options(arguments: &Cp) -> CopyOptions {
    CopyOptions {
        archive: arguments.archive,
        follow: arguments.follow_link,
        owner: None,
        strict: arguments.strict,
        write: WriteOptions { no_clobber: arguments.no_clobber, sync: arguments.sync },
    }
}

/// Returns the error for a copy without a container. A word without a slash may be meant as one.
fn no_container(paths: &[OsString]) -> Error {
    let error =
        Error::new(ExitStatus::Usage, "neither the source nor the destination is in a container");
    let error = error.hint("write container paths as `CTR:PATH`; for local copies use cp(1)");
    let words = paths.iter().rev().filter_map(|path| path.to_str());
    let mut names = words.filter(|word| !word.contains('/') && !word.starts_with('.'));
    match names.next() {
        Some(name) => error.hint(format!("if `{name}` is a container: `{}:/`", quoted(name))),
        None => error,
    }
}

/// Parses the sources and the destination.
fn parse_paths(paths: &[OsString]) -> Result<(Vec<PathRef>, PathRef), Error> {
    let usage = |message: &str| Error::new(ExitStatus::Usage, message);
    let mut sources: Vec<PathRef> =
        paths.iter().map(|path| PathRef::parse(path.as_bytes())).collect();
    let Some(destination) = sources.pop().filter(|_| !sources.is_empty()) else {
        return Err(usage("cp needs a source and a destination").hint(
            "`cinspect cp web:/etc/hosts .` copies out, `cinspect cp app web:/bin/` copies in",
        ));
    };
    let has_stream = sources.contains(&PathRef::Stream);
    if has_stream && (sources.len() > 1 || destination == PathRef::Stream) {
        return Err(usage("`-` must be the only source, and the destination must be a directory")
            .hint("`cinspect cp - web:/data/` unpacks a tar stream from stdin"));
    }
    if destination == PathRef::Stream && sources.len() > 1 {
        return Err(usage("only one source can be written to a tar stream")
            .hint("copy a directory that contains them all, or copy one after the other"));
    }
    sources.iter().chain([&destination]).zip(paths).try_for_each(|(reference, path)| {
        not_empty(reference).map_err(|error| match reference {
            PathRef::Container(name, _) => with_local_names(error, from_ref(path), &[name]),
            _ => error,
        })
    })?;
    let is_in_container = |path: &PathRef| matches!(path, PathRef::Container(..));
    if !sources.iter().chain([&destination]).any(is_in_container) {
        return Err(no_container(paths));
    }
    if destination == PathRef::Stream && std::io::stdout().is_terminal() {
        return Err(usage("a tar stream is not written to a terminal")
            .hint("write it to a pipe or file: `cinspect cp web:/etc - | tar -t`"));
    }
    if has_stream && std::io::stdin().is_terminal() {
        return Err(usage("a tar stream is not read from a terminal")
            .hint("read it from a pipe or file: `tar -c DIR | cinspect cp - web:/data/`"));
    }
    Ok((sources, destination))
}

/// Refuses an empty path, as an unset variable leaves it: it would be the working directory, or the root of the
/// container.
fn not_empty(path: &PathRef) -> Result<(), Error> {
    match path {
        PathRef::Host(path) if path.is_empty() => {
            let error = Error::new(ExitStatus::Usage, "a path is empty");
            Err(error.hint("the current directory is `.`"))
        }
        PathRef::Container(name, path) if path.is_empty() => {
            let error = Error::new(ExitStatus::Usage, format!("the path after `{name}:` is empty"));
            Err(error.hint(format!("the root of the container is `{}:/`", quoted(name))))
        }
        _ => Ok(()),
    }
}

/// Returns each reference once, with the access that its container needs.
fn references<'a>(sources: &'a [PathRef], destination: &'a PathRef) -> Vec<(&'a str, Access)> {
    let mut references: Vec<(&str, Access)> = Vec::new();
    let accesses = sources.iter().map(|path| (path, Access::Read));
    for (path, access) in accesses.chain([(destination, Access::Act)]) {
        let PathRef::Container(reference, _) = path else { continue };
        match references.iter_mut().find(|(known, _)| known == reference) {
            Some(known) => known.1 = access,
            None => references.push((reference, access)),
        }
    }
    references
}

fn endpoint(path: &PathRef, references: &[&str]) -> Endpoint {
    let (location, path) = match path {
        PathRef::Stream => (Location::Stream, Vec::new()),
        PathRef::Host(path) => (Location::Host, path.clone()),
        PathRef::Container(reference, path) => {
            let index = references.iter().position(|known| known == reference).unwrap_or_default();
            (Location::Container(index), path.clone())
        }
    };
    Endpoint { location, path }
}

/// Adds the way to write local paths that have a colon, if paths with these references are some.
fn with_local_names(mut error: Error, paths: &[OsString], references: &[&str]) -> Error {
    let is_meant = |path: &&OsString| match PathRef::parse(path.as_bytes()) {
        PathRef::Container(name, _) => references.contains(&&*name) && is_local(path),
        _ => false,
    };
    for path in paths.iter().filter(is_meant) {
        let path = message_text(path.as_bytes());
        error.hints.insert(0, format!("for the local file of that name write `./{path}`"));
    }
    error
}

/// Whether there is a local file of this name, or a directory with a colon that it would be in.
fn is_local(path: &OsStr) -> bool {
    let path = Path::new(path);
    let directory = path.parent().filter(|parent| parent.as_os_str().as_bytes().contains(&b':'));
    [Some(path), directory].into_iter().flatten().any(|path| path.symlink_metadata().is_ok())
}

/// Takes where the files of the containers that are not running are, with their indices.
fn take_stored(roots: &mut [CopyRoot]) -> Vec<(usize, StoredRoot)> {
    let stored = roots.iter_mut().enumerate();
    stored.filter_map(|(index, root)| Some((index, root.stored.take()?))).collect()
}

/// Returns the names of the containers that are not running.
fn stored_names(roots: &[CopyRoot]) -> Vec<String> {
    let stored = roots.iter().filter(|root| root.stored.is_some());
    stored.map(|root| root.rootfs.prefix.trim_end_matches(':').to_owned()).collect()
}

/// Prints the events of a copy.
struct ProgressReporter<'a> {
    context: &'a Context,
    quiet: bool,
    shows_progress: bool,
    start: Instant,
    shown: Instant,
}

impl ProgressReporter<'_> {
    fn report(&mut self, event: CopyEvent) {
        let ui = &self.context.ui;
        match event {
            CopyEvent::Deviation(entry, is_first) if !self.quiet && (is_first || ui.verbose) => {
                ui.clear_progress();
                ui.warn(&safe_str(&entry.to_string()));
            }
            CopyEvent::Failure(error) => {
                ui.clear_progress();
                ui.fail(&error);
            }
            CopyEvent::Progress(progress)
                if self.shows_progress
                    && self.start.elapsed() > LONG
                    && self.shown.elapsed() > INTERVAL =>
            {
                self.shown = Instant::now();
                ui.progress(&progress_line(progress, self.start.elapsed(), ui.unicode));
            }
            _ => {}
        }
    }
}

/// Formats the progress so far: with a bar and the remaining time if the total is known.
fn progress_line(progress: CopyProgress, elapsed: Duration, unicode: bool) -> String {
    const WIDTH: u64 = 20;
    let rate = rate(progress.bytes, elapsed);
    let total = progress.total.filter(|total| *total > 0 && progress.bytes > 0);
    let Some(total) = total else {
        return format!(
            "{}, {}, {rate}",
            counted(progress.files, "file", "files"),
            bytes(progress.bytes)
        );
    };
    let copied = progress.bytes.min(total);
    let full = usize::try_from(copied * WIDTH / total).unwrap_or(0);
    let (filled, empty) = if unicode { ("█", "░") } else { ("#", ".") };
    let bar = format!("{}{}", filled.repeat(full), empty.repeat(WIDTH as usize - full));
    let remaining = elapsed.as_secs_f64() * (total - copied) as f64 / copied as f64;
    let remaining = age(Duration::try_from_secs_f64(remaining.ceil()).unwrap_or(Duration::MAX));
    let percent = copied * 100 / total;
    format!("{bar} {percent}% of {}, {rate}, {remaining} left", bytes(total))
}

/// Formats the result. The duration and rate of a short copy are meaningless.
fn summary(progress: CopyProgress, elapsed: Duration) -> String {
    let text = format!("{}, {}", counted(progress.files, "file", "files"), bytes(progress.bytes));
    if elapsed < LONG {
        return text;
    }
    format!("{text} in {} ({})", age(elapsed), rate(progress.bytes, elapsed))
}

fn bytes(count: u64) -> String {
    if count == 0 { "0B".into() } else { size(count) }
}

fn rate(count: u64, elapsed: Duration) -> String {
    format!("{}/s", bytes((count as f64 / elapsed.as_secs_f64().max(0.001)) as u64))
}

/// The result of a copy.
struct CopySummary {
    progress: CopyProgress,
    elapsed: Duration,
    /// The containers that are not running, whose files were read from their engine's store.
    from_disk: Vec<String>,
}

fn print_summary(
    context: &Context,
    host: &str,
    arguments: &Cp,
    copied: &CopySummary,
) -> Result<(), Error> {
    let CopySummary { progress, elapsed, from_disk } = copied;
    let Some((destination, sources)) = arguments.paths.split_last() else { return Ok(()) };
    if destination == "-" || arguments.quiet {
        return Ok(());
    }
    if !context.ui.json {
        let (summary, destination) = (summary(*progress, *elapsed), safe(destination.as_bytes()));
        let names: Vec<String> = from_disk.iter().map(|name| safe_str(name).into_owned()).collect();
        let note = match &names[..] {
            [] => String::new(),
            [name] => format!(" (from disk: {name} is not running)"),
            names => format!(" (from disk: {} are not running)", names.join(", ")),
        };
        return context.print(&format!("copied to {destination}: {summary}{note}\n"));
    }
    let sources: Vec<_> = sources.iter().map(|source| bytes_to_json(source.as_bytes())).collect();
    let source = if sources.len() == 1 { sources[0].clone() } else { sources.into() };
    let object = json!({
        "host": host, "source": source, "destination": bytes_to_json(destination.as_bytes()),
        "files": progress.files, "bytes": progress.bytes, "seconds": elapsed.as_secs_f64(),
        "from_disk": from_disk,
    });
    context.print(&format!("{object}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    #[test]
    fn progress_has_a_bar_and_the_remaining_time_if_the_total_is_known() {
        let elapsed = Duration::from_secs(2);
        let progress = CopyProgress { files: 1, bytes: 50 * M, total: Some(200 * M) };
        assert_eq!(
            progress_line(progress, elapsed, false),
            "#####............... 25% of 200M, 25M/s, 6s left"
        );
        let unknown = CopyProgress { total: None, ..progress };
        assert_eq!(progress_line(unknown, elapsed, true), "1 file, 50M, 25M/s");
    }

    #[test]
    fn the_summary_of_a_short_copy_has_no_rate() {
        let progress = |files, bytes| CopyProgress { files, bytes, total: None };
        let short = Duration::from_millis(20);
        assert_eq!(summary(progress(1, 6), short), "1 file, 6B");
        assert_eq!(summary(progress(0, 0), short), "0 files, 0B");
        let long = Duration::from_secs(12);
        assert_eq!(summary(progress(300, 600 * M), long), "300 files, 600M in 12s (50M/s)");
    }

    #[test]
    fn each_reference_is_resolved_once_and_the_destination_to_act_on() {
        let paths = ["web:/a", "db:/b", "web:/c", "f"].map(|path| PathRef::parse(path.as_bytes()));
        let destination = PathRef::parse(b"web:/d");
        let expected = [("web", Access::Act), ("db", Access::Read)];
        assert_eq!(references(&paths, &destination), expected);
    }
}
