//! `cp`: copies files in, out and across. What goes where is `analysis`' table, going there is `act`'s;
//! here the sides are read and the outcome is told.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use rustix::fs::OFlags;
use serde_json::json;

use super::{Command, Section, arguments, command, may_act, resolve};
use crate::action::copy::job::CopyJob;
use crate::action::copy::rootfs::Rootfs;
use crate::action::copy::{CopyError, CopyMessage, CopyOptions, CopySummary, apart};
use crate::action::send::hold;
use crate::analysis::copy_rules::{Endpoint, rules};
use crate::analysis::selection::Criteria;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus};
use crate::model::pid::ContainerPid;
use crate::output::escape::{safe, safe_str};
use crate::output::json::bytes_to_json;
use crate::output::units::size;
use crate::proc::{Host, ReadError, SnapshotOptions};
use crate::resolve::reference::is_qualifier;
use crate::resolve::{Access, Resolver};

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
    #[arg(value_name = "PATH", required = true, add = CompletionSource::CopyPaths)]
    paths: Vec<OsString>,
    /// Keep owners, all permission bits and extended attributes
    #[arg(short, long)]
    archive: bool,
    /// Copy what links lead to, in their place
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Whom the files are to belong to, by name or number inside
    #[arg(long, value_name = "USER[:GROUP]", add = CompletionSource::Users)]
    chown: Option<OsString>,
    /// Leave what is there
    #[arg(short, long)]
    no_clobber: bool,
    /// Fail where something cannot be kept
    #[arg(long)]
    strict: bool,
    /// Have each file on the disk before it takes its name
    #[arg(long)]
    sync: bool,
    /// Show no progress
    #[arg(long)]
    no_progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// As the process with this number inside sees its files, in place of the init
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Option<ContainerPid>,
}

pub const COMMAND: Command = command::<Cp>(
    "cp",
    &[],
    &[
        ("cinspect cp app web:/usr/local/bin/", "replace a program while it runs"),
        ("cinspect cp web:/var/log/app.log .", "a file out"),
        ("cinspect cp 'web:/var/log/*.log' logs/", "several, by a pattern inside"),
        ("cinspect cp -a web:/data/. db:/data", "a folder with owners, across"),
        ("cinspect cp web:/etc - | tar -t", "as a tar stream"),
    ],
    run,
)
.modifies()
.statuses(&[ExitStatus::Done, ExitStatus::Failed, ExitStatus::Usage, ExitStatus::NoContainer, ExitStatus::NoProcess, ExitStatus::NotPermitted])
.files(&[
    ("/proc/PID/root", "The container's files, with every mount that it sees."),
    ("/proc/PID/mountinfo", "What is mounted where, so that a mounted file is not renamed over."),
    (".cinspect-*", "A file while it is written, beside its target; what a killed copy left is removed by the next one."),
])
.sections(|| {
    vec![Section {
        title: "Where it goes",
        intro: "By what the source is, and what is at the target.",
        items: rules().into_iter().map(|(case, becomes)| (case, becomes.to_owned())).collect(),
    }]
});

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Cp = arguments(matches)?;
    let usage = |why: &str| Error::new(ExitStatus::Usage, why.to_owned());
    let mut sides: Vec<Endpoint> =
        arguments.paths.iter().map(|path| Endpoint::parse(path.as_bytes(), is_qualifier)).collect();
    let target = sides.pop().filter(|_| !sides.is_empty());
    let Some(target) = target else {
        return Err(usage("cp takes a source and a target")
            .hint("`cinspect cp web:/etc/hosts .` copies out, `cp app web:/bin/` in"));
    };
    let streams = sides.iter().filter(|side| **side == Endpoint::Stream).count();
    if streams > 0 && (sides.len() > 1 || target == Endpoint::Stream) {
        return Err(usage("a stream is a source alone, and of a folder")
            .hint("`cinspect cp - web:/folder/` unpacks a tar stream from stdin"));
    }
    if target == Endpoint::Stream && sides.len() > 1 {
        return Err(usage("a stream takes one source")
            .hint("copy a folder that holds them all, or one after the other"));
    }
    let inside = |side: &Endpoint| matches!(side, Endpoint::Inside(..));
    if !inside(&target) && !sides.iter().any(inside) {
        return Err(usage("neither side is in a container")
            .hint("`CTR:PATH` is; for what is only here there is cp(1)"));
    }
    let host = context.host()?;
    let mut places = HashMap::new();
    for (at, side) in sides.iter().chain([&target]).enumerate() {
        let purpose = if at == sides.len() { Access::Act } else { Access::Read };
        if let Endpoint::Inside(name, _) = side {
            let place = open(context, &host, name, purpose, arguments.pid)?;
            places.insert(name.clone(), place);
        }
    }
    let begun = Instant::now();
    let mut shown = Instant::now();
    let live = !arguments.no_progress && !arguments.quiet && target != Endpoint::Stream;
    let streams = target == Endpoint::Stream || streams > 0;
    let options = CopyOptions {
        archive: arguments.archive,
        follow: arguments.follow_link,
        chown: None,
        no_clobber: arguments.no_clobber,
        strict: arguments.strict,
        sync: arguments.sync,
    };
    let chown = arguments.chown.as_ref().map(|word| word.as_bytes().to_owned());
    let (sources, here) = (sides, Rootfs::here());
    let job = CopyJob { sources, target, places, here, options, chown, measured: live };
    let outcome = apart(streams, |tell| job.work(tell), &mut |heard| match heard {
        CopyMessage::Warning(text) if !arguments.quiet => {
            context.ui.clear_progress();
            context.ui.warn(&safe_str(&text));
        }
        CopyMessage::Beat(done)
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
    let done = outcome.map_err(|CopyError { path, why, hint, denied }| {
        let what =
            if path.is_empty() { "cannot copy".into() } else { format!("cannot copy `{path}`") };
        let exit = if denied { ExitStatus::NotPermitted } else { ExitStatus::Failed };
        let error = Error::new(exit, what).cause(why);
        hint.into_iter().fold(error, Error::hint)
    })?;
    tell(context, &host.name, &arguments, done, begun.elapsed())?;
    Ok(ExitStatus::Done)
}

fn said(done: CopySummary, took: Duration) -> String {
    let rate = done.bytes as f64 / took.as_secs_f64().max(0.001);
    let files = if done.files == 1 { "1 file".into() } else { format!("{} files", done.files) };
    format!("{files}, {}, {:.1} s, {}/s", size(done.bytes), took.as_secs_f64(), size(rate as u64))
}

/// The same while it goes: with a bar and the time that is left where the whole is known.
fn progress(done: CopySummary, took: Duration, unicode: bool) -> String {
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

fn tell(
    context: &Context,
    host: &str,
    arguments: &Cp,
    done: CopySummary,
    took: Duration,
) -> Result<(), Error> {
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
        "host": host, "source": source, "destination": bytes_to_json(target.as_bytes()), "files": done.files,
        "bytes": done.bytes, "seconds": took.as_secs_f64(),
    });
    context.print(&format!("{object}\n"))
}

/// Opens a container's root, and makes sure whose it is.
fn open(
    context: &Context,
    host: &Host,
    word: &str,
    purpose: Access,
    pid: Option<ContainerPid>,
) -> Result<Rootfs, Error> {
    let found = resolve(context, &Resolver::new(host), word, purpose)?;
    let name = found.container.qualified();
    let cannot = |why: &dyn std::fmt::Display| {
        Error::new(ExitStatus::Failed, format!("cannot open the files of `{name}`"))
            .cause(why.to_string())
    };
    may_act(host, &format!("open the files of `{name}`"), ExitStatus::Failed)?;
    let member = found.process(pid, SnapshotOptions::BARE)?;
    // Held first; what is opened then is of the process that was meant, as long as that lives.
    let held = hold(&found, &member, None, Criteria::default()).map_err(|why| cannot(&why))?;
    let facts = host.exec_facts(member.facts.id.pid).map_err(|error| match error {
        ReadError::Denied => {
            let mut error = cannot(&"its root is not yours to open")
                .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_OVERRIDE");
            error.status = ExitStatus::NotPermitted;
            error
        }
        error => cannot(&error),
    })?;
    if held.has_exited() {
        return Err(cannot(&"it has just ended"));
    }
    let status = &facts.status;
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = facts
        .private_namespaces
        .contains(&"user")
        .then(|| rustix::fs::openat(&facts.process, "ns/user", read, rustix::fs::Mode::empty()));
    Ok(Rootfs {
        namespace: namespace.and_then(Result::ok),
        seen_as: None,
        owner: Some((status.uid[1], status.gid[1])),
        root: Some(facts.root),
        users: facts.uid_map,
        groups: facts.gid_map,
        name: format!("{name}:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_what_is_left_where_that_is_known() {
        let took = Duration::from_secs(2);
        let done = CopySummary { files: 1, bytes: 50 << 20, total: Some(200 << 20) };
        assert_eq!(
            progress(done, took, false),
            "#####............... 25% of 200M, 6 s left, 1 file, 50M, 2.0 s, 25M/s"
        );
        assert_eq!(
            progress(CopySummary { total: None, ..done }, took, true),
            "1 file, 50M, 2.0 s, 25M/s"
        );
    }
}
