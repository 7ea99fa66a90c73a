//! `cp`: copies files in, out and across. What goes where is `analysis`' table, going there is `act`'s;
//! here the sides are read and the outcome is told.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use rustix::fs::FileType;
use serde_json::json;

use super::{Command, account, arguments, command};
use crate::act::copy::place::{Place, Spot};
use crate::act::copy::stream::{pack, unpack};
use crate::act::copy::tree::reason;
use crate::act::copy::{Copier, Done, Failed, Heard, News, Options, apart};
use crate::act::signal::{allow_many, hold};
use crate::analysis::entry::{Ids, UserSpec, identify};
use crate::analysis::selection::WentBy;
use crate::analysis::transfer::{
    Side, Source, Target, fits, is_contents, is_pattern, last_name, place,
};
use crate::cli::Context;
use crate::error::{Error, Exit};
use crate::model::pid::ContainerPid;
use crate::proc::{Facts, Host, ReadError};
use crate::render::text::{bytes_to_json, safe, safe_str, size};
use crate::target::{Purpose, resolve};

/// Copy files into a container, out of one, or from one to another
///
/// `CTR:PATH` is a path in a container, from its root on, as the container sees it: with its volumes,
/// tmpfs and other mounts. `-` is a tar stream. A file goes to the name that is given, or into a folder
/// that is there; a folder to a new name, or into a folder that is there; what ends in `/.` is what is
/// in the folder. Each file is written beside its target and renamed over it: a running program's file
/// can be replaced, and a copy that fails leaves the old one. In a container files belong to its init's
/// user, here to you.
#[derive(Args)]
#[command(override_usage = "cinspect cp [OPTIONS] <SRC>... <DST>")]
pub struct Cp {
    /// What to copy, and last where to: FILE, CTR:PATH, or `-`
    #[arg(value_name = "PATH", required = true, num_args = 2..)]
    paths: Vec<OsString>,
    /// Keep owners, all permission bits and extended attributes
    #[arg(short, long)]
    archive: bool,
    /// Copy what links lead to, in their place
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Whom the files are to belong to, by name or number inside
    #[arg(long, value_name = "USER[:GROUP]")]
    chown: Option<OsString>,
    /// Leave what is there
    #[arg(short, long)]
    no_clobber: bool,
    /// Fail where something cannot be kept
    #[arg(long)]
    strict: bool,
    /// Show no progress
    #[arg(long)]
    no_progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// As the process with this number inside sees its files, in place of the init
    #[arg(long, value_name = "N")]
    pid: Option<ContainerPid>,
}

pub const COMMAND: Command = command::<Cp>(
    "cp",
    &[],
    &[
        ("cinspect cp app web:/usr/local/bin/", "replace a program while it runs"),
        ("cinspect cp web:/var/log/app.log .", "a file out"),
        ("cinspect cp 'web:/var/log/*.log' logs/", "several, by a pattern inside"),
        ("cinspect cp -a web:/data/. db:/data", "what is in a folder, with owners, across"),
        ("cinspect cp web:/etc - | tar -t", "as a tar stream"),
    ],
    run,
);

fn run(context: &Context, matches: &ArgMatches) -> Result<Exit, Error> {
    let arguments: Cp = arguments(matches)?;
    let usage = |why: &str| Error::new(Exit::Usage, why.to_owned());
    let mut sides: Vec<Side> =
        arguments.paths.iter().map(|path| Side::parse(path.as_bytes())).collect();
    let Some(target) = sides.pop() else { return Err(usage("cp takes a source and a target")) };
    let streams = sides.iter().filter(|side| **side == Side::Stream).count();
    if streams > 0 && (sides.len() > 1 || target == Side::Stream) {
        return Err(usage("a stream is a source alone, and of a folder"));
    }
    if target == Side::Stream && sides.len() > 1 {
        return Err(usage("a stream takes one source"));
    }
    let inside = |side: &Side| matches!(side, Side::Inside(..));
    if !inside(&target) && !sides.iter().any(inside) {
        return Err(usage("neither side is in a container")
            .hint("`CTR:PATH` is; for what is only here there is cp(1)"));
    }
    let host = context.host()?;
    let mut places = HashMap::new();
    for (at, side) in sides.iter().chain([&target]).enumerate() {
        let purpose = if at == sides.len() { Purpose::Act } else { Purpose::Read };
        if let Side::Inside(name, _) = side {
            let place = open(context, &host, name, purpose, arguments.pid)?;
            places.insert(name.clone(), place);
        }
    }
    let job = Job { arguments: &arguments, places: &places, here: Place::here() };
    let begun = Instant::now();
    let mut shown = Instant::now();
    let live = !arguments.no_progress && !arguments.quiet && target != Side::Stream;
    let streams = target == Side::Stream || streams > 0;
    let outcome =
        apart(streams, |tell| job.work(&sides, &target, tell), &mut |heard| match heard {
            Heard::Warning(text) if !arguments.quiet => {
                context.ui.clear_progress();
                context.ui.warn(&safe_str(&text));
            }
            Heard::Beat(done)
                if live
                    && begun.elapsed() > Duration::from_secs(1)
                    && shown.elapsed() > Duration::from_millis(200) =>
            {
                shown = Instant::now();
                context.ui.progress(&progress(done, begun.elapsed(), context.ui.unicode));
            }
            _ => {}
        });
    context.ui.clear_progress();
    let done = outcome.map_err(|Failed { path, why }| {
        let what =
            if path.is_empty() { "cannot copy".into() } else { format!("cannot copy `{path}`") };
        let permission = why == reason(rustix::io::Errno::PERM);
        let exit = if permission { Exit::NotPermitted } else { Exit::Failed };
        Error::new(exit, what).because(why)
    })?;
    tell(context, &arguments, done, begun.elapsed())?;
    Ok(Exit::Done)
}

fn said(done: Done, took: Duration) -> String {
    let rate = done.bytes as f64 / took.as_secs_f64().max(0.001);
    let files = if done.files == 1 { "1 file".into() } else { format!("{} files", done.files) };
    format!("{files}, {}, {:.1} s, {}/s", size(done.bytes), took.as_secs_f64(), size(rate as u64))
}

/// The same while it goes: with a bar and the time that is left where the whole is known.
fn progress(done: Done, took: Duration, unicode: bool) -> String {
    const WIDTH: u64 = 20;
    let text = said(done, took);
    let Some(total) = done.total.filter(|total| *total > 0 && done.bytes > 0) else { return text };
    let part = done.bytes.min(total);
    let full = usize::try_from(part * WIDTH / total).unwrap_or(0);
    let (on, off) = if unicode { ("█", "░") } else { ("#", ".") };
    let bar = format!("{}{}", on.repeat(full), off.repeat(WIDTH as usize - full));
    let left = took.as_secs_f64() * (total - part) as f64 / part as f64;
    format!("{bar} {}% of {}, {left:.0} s left, {text}", part * 100 / total, size(total))
}

fn tell(context: &Context, arguments: &Cp, done: Done, took: Duration) -> Result<(), Error> {
    let Some((target, sources)) = arguments.paths.split_last() else { return Ok(()) };
    if target == "-" || arguments.quiet {
        return Ok(());
    }
    if !context.ui.json {
        let text = format!("{} to {}\n", said(done, took), safe(target.as_bytes()));
        return context.print(&text);
    }
    let sources: Vec<_> = sources.iter().map(|source| bytes_to_json(source.as_bytes())).collect();
    let source = if sources.len() == 1 { sources[0].clone() } else { sources.into() };
    let object = json!({
        "source": source, "destination": bytes_to_json(target.as_bytes()), "files": done.files,
        "bytes": done.bytes, "seconds": took.as_secs_f64(),
    });
    context.print(&format!("{object}\n"))
}

/// Opens a container's root, and makes sure whose it is.
fn open(
    context: &Context,
    host: &Host,
    word: &str,
    purpose: Purpose,
    pid: Option<ContainerPid>,
) -> Result<Place, Error> {
    let found = resolve(host, word, purpose)?;
    account(context, &found.container, &found.inventory);
    let name = found.container.qualified();
    let cannot = |why: &dyn std::fmt::Display| {
        Error::new(Exit::Failed, format!("cannot open the files of `{name}`")).because(why)
    };
    host.may_act().map_err(|why| cannot(&why))?;
    let member = found.member(host, pid, Facts::BARE)?;
    // Held first; what is opened then is of the process that was meant, as long as that lives.
    let held = hold(host, &found, &member, None, WentBy::default()).map_err(|why| cannot(&why))?;
    let facts = host.entry_facts(member.process.id.pid).map_err(|error| match error {
        ReadError::Denied => {
            let mut error = cannot(&"its root is not yours to open")
                .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_OVERRIDE");
            error.exit = Exit::NotPermitted;
            error
        }
        error => cannot(&error),
    })?;
    if held.has_ended() {
        return Err(cannot(&"it has just ended"));
    }
    let status = &facts.status;
    Ok(Place {
        owner: Some((status.uid[1], status.gid[1])),
        root: Some(facts.root),
        users: facts.users,
        groups: facts.groups,
        name: format!("{name}:"),
    })
}

/// What is done in the child.
struct Job<'a> {
    arguments: &'a Cp,
    places: &'a HashMap<String, Place>,
    here: Place,
}

impl Job<'_> {
    fn place<'b>(&'b self, side: &'b Side) -> (&'b Place, &'b [u8]) {
        match side {
            Side::Inside(name, path) => (
                self.places.get(name).unwrap_or(&self.here),
                if path.is_empty() { b"/" } else { path },
            ),
            Side::Here(path) => (&self.here, path),
            Side::Stream => (&self.here, b"."),
        }
    }

    fn work(
        &self,
        sources: &[Side],
        target: &Side,
        tell: &mut dyn FnMut(News),
    ) -> Result<(), Failed> {
        allow_many();
        rustix::process::umask(rustix::fs::Mode::empty());
        let (to, path) = self.place(target);
        let failed = |place: &Place, path: &[u8], why: String| Failed {
            path: format!("{}{}", place.name, String::from_utf8_lossy(path)),
            why,
        };
        if *target == Side::Stream {
            let (from, path) = self.place(&sources[0]);
            let spot = from.find(path, self.arguments.follow_link || is_contents(path));
            let spot = spot.map_err(|errno| failed(from, path, reason(errno)))?;
            let node =
                spot.found.ok_or_else(|| failed(from, path, reason(rustix::io::Errno::NOENT)))?;
            let name = last_name(path).unwrap_or(b".").to_owned();
            let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            let options = self.options(to)?;
            let mut copier = Copier::new(from, to, options, tell);
            pack(&node, &name, is_contents(path), &mut out, &mut copier)?;
            return std::io::Write::flush(&mut out).map_err(|e| failed(from, path, e.to_string()));
        }
        let options = self.options(to)?;
        become_owner(to);
        if sources == [Side::Stream] {
            let spot = to.find(path, true).map_err(|errno| failed(to, path, reason(errno)))?;
            let node = spot.found.filter(|node| node.kind() == FileType::Directory);
            let node = node.ok_or_else(|| {
                failed(to, path, "a stream goes into a folder that is there".into())
            })?;
            let folder = node.open_to_read().map_err(|errno| failed(to, path, reason(errno)))?;
            let mut copier = Copier::new(&self.here, to, options, tell);
            return unpack(std::io::stdin().lock(), &folder, &mut copier);
        }
        let mut all = Vec::new();
        for source in sources {
            let (from, path) = self.place(source);
            for path in expand(from, path).map_err(|errno| failed(from, path, reason(errno)))? {
                all.push((from, path));
            }
        }
        let several = all.len() > 1;
        // Files alone are known to their end without a walk.
        let sizes: Option<Vec<u64>> = all
            .iter()
            .map(|(from, path)| {
                let node = from.find(path, options.follow).ok()?.found?;
                (node.kind() == FileType::RegularFile).then_some(node.stat.stx_size)
            })
            .collect();
        if let Some(sizes) = sizes {
            tell(News::Total(sizes.iter().sum()));
        }
        for (from, source) in all {
            let slash = source.ends_with(b"/") || is_contents(&source);
            let spot = from.find(&source, options.follow || slash);
            let spot = spot.map_err(|errno| failed(from, &source, reason(errno)))?;
            let node = spot
                .found
                .ok_or_else(|| failed(from, &source, reason(rustix::io::Errno::NOENT)))?;
            let kind = match node.kind() {
                FileType::Directory if is_contents(&source) => Source::Contents,
                FileType::Directory => Source::Folder,
                // (What a link leads to is followed where that was asked for.)
                _ => Source::File,
            };
            let target = to.find(path, true).map_err(|errno| failed(to, path, reason(errno)))?;
            let there = kind_of(&target, path);
            let put = place(kind, there, several).map_err(|why| failed(to, path, why.into()))?;
            // The name of what a root or a dot stands for is not in what was typed.
            let own = last_name(&source).map_or_else(|| spot.name.clone(), <[u8]>::to_vec);
            let mut copier = Copier::new(from, to, options, tell);
            copier.put(&source, &node, put, &target, &own).map_err(|error| Failed {
                path: format!("{}{}", from.name, error.path),
                why: error.why,
            })?;
            // What is not there now, as the container sees it, was not copied.
            // (A link may lead to nothing, and is there.)
            let is_there = |follow| to.find(path, follow).is_ok_and(|spot| spot.found.is_some());
            if !is_there(true) && !is_there(false) {
                return Err(failed(to, path, "it is not there after the copy".into()));
            }
        }
        Ok(())
    }

    fn options(&self, to: &Place) -> Result<Options, Failed> {
        let mut options = Options {
            archive: self.arguments.archive,
            follow: self.arguments.follow_link,
            chown: None,
            no_clobber: self.arguments.no_clobber,
            strict: self.arguments.strict,
        };
        if let Some(word) = &self.arguments.chown {
            let failed = |why: String| Failed { path: "--chown".into(), why };
            let spec = UserSpec::parse(word.as_bytes()).map_err(failed)?;
            let file = |path: &[u8]| -> Vec<u8> {
                let read = || -> std::io::Result<Vec<u8>> {
                    let node = to.find(path, true)?.found.ok_or(rustix::io::Errno::NOENT)?;
                    let mut bytes = Vec::new();
                    let file = std::fs::File::from(node.open_to_read()?);
                    std::io::Read::read_to_end(
                        &mut std::io::Read::take(file, 1 << 20),
                        &mut bytes,
                    )?;
                    Ok(bytes)
                };
                read().unwrap_or_default()
            };
            let known =
                identify(Some(&spec), &Ids::default(), &file(b"/etc/passwd"), &file(b"/etc/group"));
            let ids = known.map_err(failed)?.ids;
            let owner = to.outer(ids.uid, ids.gid);
            options.chown =
                Some(owner.ok_or_else(|| {
                    failed("the container's user namespace has no such id".into())
                })?);
        }
        Ok(options)
    }
}

/// A file system that was mounted in a user namespace takes files only of users it knows. The right to
/// write everywhere stays.
fn become_owner(to: &Place) {
    let Some((uid, gid)) = to.owner.filter(|_| !to.users.is_identity()) else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    nix::unistd::setfsgid(gid.into());
    nix::unistd::setfsuid(uid.into());
    if let Ok(all) = rustix::thread::capabilities(None) {
        let all = rustix::thread::CapabilitySets { effective: all.permitted, ..all };
        let _ = rustix::thread::set_capabilities(None, all);
    }
}

fn kind_of(target: &Spot, path: &[u8]) -> Target {
    match &target.found {
        Some(node) if node.kind() == FileType::Directory => Target::Folder,
        Some(_) => Target::File,
        None if path.ends_with(b"/") => Target::MissingFolder,
        None => Target::Missing,
    }
}

/// The paths that a pattern stands for; only in a container, for here that is the shell's.
fn expand(from: &Place, path: &[u8]) -> Result<Vec<Vec<u8>>, rustix::io::Errno> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let Some(first) = parts.iter().position(|part| is_pattern(part)) else {
        return Ok(vec![path.to_owned()]);
    };
    // A name that has such a character is meant itself, where there is one.
    if from.root.is_none() || from.find(path, false).is_ok_and(|spot| spot.found.is_some()) {
        return Ok(vec![path.to_owned()]);
    }
    let above = [parts[..first].join(&b'/'), b"/".to_vec()].concat();
    let node = from.find(&above, true)?.found.ok_or(rustix::io::Errno::NOENT)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(node.open_to_read()?)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." && fits(&name, parts[first]) {
            names.push(name);
        }
    }
    names.sort();
    let rest = &parts[first + 1..];
    let mut all = Vec::new();
    for name in names {
        let mut next = [above.clone(), name].concat();
        for part in rest {
            next = [next, b"/".to_vec(), part.to_vec()].concat();
        }
        match rest.is_empty() {
            true => all.push(next),
            false => all.extend(expand(from, &next).unwrap_or_default()),
        }
    }
    all.retain(|path| from.find(path, false).is_ok_and(|spot| spot.found.is_some()));
    if all.is_empty() { Err(rustix::io::Errno::NOENT) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_what_is_left_where_that_is_known() {
        let took = Duration::from_secs(2);
        let done = Done { files: 1, bytes: 50 << 20, total: Some(200 << 20) };
        assert_eq!(
            progress(done, took, false),
            "#####............... 25% of 200M, 6 s left, 1 file, 50M, 2.0 s, 25M/s"
        );
        assert_eq!(progress(Done { total: None, ..done }, took, true), "1 file, 50M, 2.0 s, 25M/s");
    }
}
