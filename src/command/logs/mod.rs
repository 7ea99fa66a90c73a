//! `logs`: the end of a container's log, from its engine's files or the journal.

mod end_watch;
mod journal;

use std::ops::ControlFlow;
use std::time::Duration;

use clap::{ArgMatches, Args};
use jiff::Timestamp;
use serde_json::json;

use self::end_watch::EndWatch;
use super::any_container::{AnyContainer, resolve_any};
use super::{Command, arguments, command};
use crate::analysis::remedy::with_names;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::container::Container;
use crate::model::exit_record::{ExitRecord, LogDestination, RecordedState};
use crate::model::log_record::{LogFormat, LogRecord};
use crate::output::escape::safe_str;
use crate::output::json::{self, bytes_to_json};
use crate::output::terminal::is_broken_pipe;
use crate::proc::{Host, LogRange, LogReader, ReadError, Trust};
use crate::resolve::Resolver;

/// Time between two reads of a log with `-f`.
const INTERVAL: Duration = Duration::from_millis(200);

/// Print the end of a container's log, even while its engine hangs
///
/// The log is read from the engine's file (json-file, local, k8s-file, CRI), with the files that were
/// rotated before it, compressed ones too, or from the journal by journalctl(1). Lines that the container
/// wrote to stderr are printed on stderr. On a terminal, control characters are escaped and colours left out;
/// a file or a pipe gets the bytes as they are. The container need not be running.
#[derive(Args)]
pub struct LogsArgs {
    /// The container
    #[arg(value_name = "CTR", add = CompletionSource::AnyContainers)]
    container: String,
    /// Print this many lines, or `all`
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "N", value_parser = lines, allow_hyphen_values = true, add = CompletionSource::Free)]
    lines: Option<Lines>,
    /// Follow the log until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Print lines from this time on: `10m` ago, or as `2026-11-26T02:37:17Z`; without a zone, local time
    #[arg(long, alias = "since-time", value_name = "TIME", value_parser = args::time, allow_hyphen_values = true, add = CompletionSource::Free)]
    since: Option<Timestamp>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
}

/// Lines that are printed without `-n` and `--since`.
const DEFAULT_LINES: usize = 10;

/// A number of lines, or all.
#[derive(Clone, Copy, Debug)]
enum Lines {
    Last(usize),
    All,
}

pub const COMMAND: Command = command::<LogsArgs>(
    "logs",
    &[],
    &[
        ("cinspect logs web", "the last ten lines"),
        ("cinspect logs -f -n 100 web", "the last hundred, and what follows"),
        ("cinspect logs --since 10m web", "the last ten minutes"),
    ],
    run,
)
.on_containers(&[])
.files(&[
    ("/var/lib/docker/containers/ID/ID-json.log", "Docker's json-file; local-logs for `local`."),
    ("/var/lib/containers/storage/*-containers/ID/userdata/ctr.log", "Podman's k8s-file."),
    ("/var/log/pods", "Kubernetes."),
]);

fn lines(text: &str) -> Result<Lines, String> {
    // (-1 as docker and kubectl take it; tail's `+5` counts from the beginning.)
    match text.parse() {
        _ if text == "all" || text == "-1" => Ok(Lines::All),
        Ok(count) if !text.starts_with('+') => Ok(Lines::Last(count)),
        _ => Err("expected a number of lines, or `all`".into()),
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: LogsArgs = arguments(matches)?;
    let host = context.host()?;
    let resolver = Resolver::new(&host);
    let found = resolve_any(context, &host, &resolver, &arguments.container)?;
    let last = match (arguments.lines, arguments.since) {
        (Some(Lines::Last(count)), _) => Some(count),
        (Some(Lines::All), _) | (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_LINES),
    };
    let range = LogRange { last, since: arguments.since };
    let printer =
        Printer { context, host: &host, arguments: &arguments, container: &found.container };
    let end = EndWatch::new(&printer, &found);
    let destination = destination(&found)?;
    if arguments.since.is_some() && destination.driver.is_empty() {
        let error = Error::new(ExitStatus::Usage, "`--since` is not possible here");
        return Err(error.cause("the log has no times").hint("`-n` prints the last lines"));
    }
    if !destination.driver.is_empty() {
        context.ui.step(&format!("log driver {}", safe_str(&destination.driver)));
    }
    match destination.files() {
        _ if destination.driver == "journald" => journal::print(&printer, range, end)?,
        files if files.is_empty() => return Err(no_file(&found, destination)),
        files => {
            let opened = files.into_iter().map(|(path, format)| {
                let trust = Trust::of_container(&found.container);
                LogReader::open(&host, path, trust, format, range).map_err(|error| match error {
                    ReadError::Gone if was_never_started(&found) => no_file(&found, destination),
                    error => unreadable(&path.display(), &error),
                })
            });
            printer.follow(&mut opened.collect::<Result<Vec<_>, Error>>()?, end)?;
        }
    }
    Ok(ExitStatus::Done)
}

/// Returns where the output goes.
fn destination<'r>(found: &'r AnyContainer<'_>) -> Result<&'r LogDestination, Error> {
    let destination = found.record.as_ref().and_then(|record| record.log.as_ref());
    destination.ok_or_else(|| {
        let name = found.container.qualified();
        let engine = found.container.engine;
        let error = Error::new(ExitStatus::Failed, format!("no log of `{name}`"));
        if !found.container.verified {
            let hint =
                format!("`cinspect inspect {name}` shows its cgroup and where it was started");
            return error.cause("no record of its engine was found").hint(hint);
        }
        match &found.record {
            Some(ExitRecord { unread: Some(path), .. }) => error
                .cause(format!("`{}` could not be read", path.display()))
                .hint("run with sudo, or check the file"),
            None if engine.records_ends => error
                .cause(format!("its record of {} could not be read", engine.display_name))
                .hint("run with sudo, or check the file"),
            _ if engine.names_containers() => error
                .cause(format!("{} records none", engine.display_name))
                .hint(with_names(&found.container, engine.output_hint)),
            _ => error.cause("it was started without an engine").hint(engine.output_hint),
        }
    })
}

fn was_never_started(found: &AnyContainer<'_>) -> bool {
    found.record.as_ref().is_some_and(|record| record.state == RecordedState::Created)
}

fn no_file(found: &AnyContainer<'_>, destination: &LogDestination) -> Error {
    let name = found.container.qualified();
    let driver = &destination.driver;
    let error = Error::new(ExitStatus::Failed, format!("no log file of `{name}`"));
    match &**driver {
        "none" => error.cause("its log driver `none` keeps nothing"),
        "passthrough" => error.cause("its output goes where its engine's client was started"),
        _ if LogFormat::of_driver(driver).is_none() => {
            error.cause(format!("its log driver `{driver}` sends the log elsewhere"))
        }
        _ if was_never_started(found) => error.cause("it was never started"),
        _ => error.cause("its record does not name the file"),
    }
}

fn unreadable(path: &impl std::fmt::Display, error: &ReadError) -> Error {
    let message = format!("cannot read the log `{path}`");
    match error {
        ReadError::Denied => Error::new(ExitStatus::NotPermitted, message)
            .cause(error.to_string())
            .hint("run with sudo"),
        ReadError::Gone => Error::new(ExitStatus::Failed, message)
            .cause("No such file or directory")
            .hint("nothing may have been written yet"),
        _ => Error::new(ExitStatus::Failed, message).cause(error.to_string()),
    }
}

/// Prints records.
struct Printer<'a> {
    context: &'a Context,
    host: &'a Host,
    arguments: &'a LogsArgs,
    container: &'a Container,
}

impl Printer<'_> {
    /// Prints the records of the reader; with `-f`, also those that are added while the container runs.
    fn follow(&self, readers: &mut [LogReader<'_>], mut end: EndWatch<'_>) -> Result<(), Error> {
        loop {
            // (Its last lines are read after it has ended.)
            let is_over = end.is_over();
            for reader in &mut *readers {
                if self.print_all(reader)?.is_break() {
                    return Ok(());
                }
            }
            if is_over {
                end.note();
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
            readers.iter_mut().for_each(LogReader::renew);
        }
    }

    /// Prints all records that are there.
    fn print_all(&self, reader: &mut LogReader<'_>) -> Result<ControlFlow<()>, Error> {
        while let Some(record) =
            reader.next().map_err(|error| unreadable(&self.container.qualified(), &error))?
        {
            if reader.take_may_lack() {
                self.context.ui.warn("the log was rotated or cut short before it could be read to its end: lines may be missing here");
            }
            if self.print(&record)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for (path, why) in reader.take_unread() {
            let path = path.to_string_lossy().into_owned();
            let message = format!("`{}` was not read to its end: {why}", safe_str(&path));
            self.context.ui.warn(&safe_str(&message));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Prints a record. Breaks once the reader is gone.
    fn print(&self, record: &LogRecord) -> Result<ControlFlow<()>, Error> {
        let printed = if self.context.ui.json {
            self.context.ui.out(&self.json(record))
        } else {
            let time = record.time.filter(|_| self.arguments.timestamps);
            self.context.ui.container_output(
                record.is_stderr,
                time,
                &record.text,
                record.is_partial,
            )
        };
        match printed {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if is_broken_pipe(&error) => Ok(ControlFlow::Break(())),
            Err(error) => {
                Err(Error::new(ExitStatus::Failed, "cannot write the log").cause(os_error(error)))
            }
        }
    }

    fn json(&self, record: &LogRecord) -> String {
        json::line(&json!({
            "host": self.host.name,
            "container": self.container.qualified(),
            "time": record.time.map(|time| time.to_string()),
            "stream": if record.is_stderr { "stderr" } else { "stdout" },
            "text": bytes_to_json(&record.text),
            "partial": record.is_partial,
        }))
    }
}
