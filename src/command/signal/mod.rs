//! `signal`: sends a signal to exactly the selected processes. `analysis::selection` selects them and
//! `action::signal_many` verifies and sends; this file decides in which order that is done, and
//! prints the result.

mod notes;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgMatches, Args};
use regex::bytes::Regex;

use self::notes::{key, note_end, require_handlers, warn_if_no_effect, warn_of_rescan};
use super::{Command, arguments, command, may_act, process_of, resolve};
use crate::action::send::{SendError, SignalRequest};
use crate::action::signal_many::{Delivery, SignalBatch};
use crate::action::signal_target::{ProcessSelection, SelectedTargets};
use crate::analysis::container_process::RowContext;
use crate::analysis::selection::Selector;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::usage::swapped_arguments;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus};
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::signal::{Signal, SignalNumber};
use crate::output::columns::signal::{SIGNAL_COLUMNS, SignalRow};
use crate::output::json::{self, object};
use crate::output::select::Selection;
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::resolve::{Access, ResolvedContainer, Resolver};
use crate::sys::capability;

/// Send a signal to a container's init, or to the processes that you select
///
/// Selectors can be repeated and combined. Every process that matches any of them gets the signal once,
/// children before their parents and the init last. Before anything is sent, cinspect opens a pidfd of
/// each process and verifies that it is the selected one, so a PID that was reused in the meantime is
/// never signalled.
#[derive(Args)]
#[command(
    override_usage = "cinspect signal [OPTIONS] <CTR> <SIG>\n       cinspect signal --list [SIG]"
)]
pub struct SignalArgs {
    /// The container
    #[arg(value_name = "CTR", required_unless_present = "list", add = CompletionSource::Containers)]
    container: Option<String>,
    /// TERM, SIGTERM, 15, RTMIN+3; 0 only checks whether a signal could be sent
    #[arg(value_name = "SIG", required_unless_present_any = ["list", "by_option"], add = CompletionSource::Signals)]
    signal: Option<String>,
    /// The signal, as in kill(1)
    #[arg(
        short = 's',
        long = "signal",
        id = "by_option",
        value_name = "SIG",
        conflicts_with = "signal",
        add = CompletionSource::Signals
    )]
    by_option: Option<String>,
    /// The process with this PID in the container
    #[arg(long, value_name = "N", help_heading = SELECTORS, add = CompletionSource::Pids)]
    pid: Vec<ContainerPid>,
    /// The process with this PID on the host
    #[arg(long, value_name = "N", help_heading = SELECTORS, add = CompletionSource::HostPids)]
    host_pid: Vec<HostPid>,
    /// One thread, by its TID in the container
    #[arg(long, value_name = "N", help_heading = SELECTORS, add = CompletionSource::Tids)]
    tid: Vec<ContainerPid>,
    /// Processes with exactly this name
    #[arg(
        long,
        value_name = "NAME",
        value_parser = OsStringValueParser::new().try_map(args::not_empty),
        help_heading = SELECTORS,
        add = CompletionSource::Comms
    )]
    comm: Vec<std::ffi::OsString>,
    /// Processes whose full command line matches this regular expression
    #[arg(
        long = "match",
        value_name = "REGEX",
        value_parser = args::pattern,
        help_heading = SELECTORS,
        add = CompletionSource::Free
    )]
    matching: Vec<Regex>,
    /// Processes of this user (name or UID in the container)
    #[arg(
        long,
        value_name = "U",
        value_parser = NonEmptyStringValueParser::new(),
        help_heading = SELECTORS,
        add = CompletionSource::Users
    )]
    user: Vec<String>,
    /// The process with this PID in the container, and all its descendants
    #[arg(long, value_name = "N", help_heading = SELECTORS, add = CompletionSource::Pids)]
    tree: Vec<ContainerPid>,
    /// The processes of this process group (PGID in the container)
    #[arg(long, value_name = "N", help_heading = SELECTORS, add = CompletionSource::Pids)]
    pgroup: Vec<ContainerPid>,
    /// Every process of the container, including those that start meanwhile
    #[arg(long, help_heading = SELECTORS)]
    all: bool,
    /// Exclude the init from the selected processes
    #[arg(long, help_heading = SELECTORS)]
    except_init: bool,
    /// Show which processes would get the signal, and send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Send this value with the signal, as sigqueue(3) does
    #[arg(short = 'q', long, value_name = "INT", allow_hyphen_values = true, add = CompletionSource::Free)]
    queue: Option<i32>,
    /// Send nothing unless every selected process has a handler for the signal, and every process that an init
    /// forwards it to
    #[arg(short = 'r', long)]
    require_handler: bool,
    /// Wait until the processes have exited, at most this long
    #[arg(
        long,
        value_name = "DUR",
        num_args = 0..=1,
        require_equals = true,
        value_parser = args::duration,
        add = CompletionSource::Free
    )]
    wait: Option<Option<Duration>>,
    /// Send KILL to processes that are still running after this time
    #[arg(short = 'k', long, value_name = "DUR", value_parser = args::duration, add = CompletionSource::Free)]
    kill_after: Option<Duration>,
    /// List the signals; with SIG, or a status such as 143, only that one
    #[arg(short, long)]
    list: bool,
}

const SELECTORS: &str = "Which processes (default: the init)";

pub const COMMAND: Command = command::<SignalArgs>(
    "signal",
    &["kill"],
    &[
        ("cinspect signal web TERM --pid 13", "TERM to PID 13 in the container"),
        ("cinspect signal web HUP", "HUP to the init"),
        ("cinspect signal -n web TERM --all --except-init", "show which processes would get TERM"),
        (
            "cinspect signal web TERM --tree 7 --kill-after 10s",
            "stop a process and its descendants",
        ),
        ("cinspect signal web USR1 --comm nginx --user www-data", "select by name and by user"),
        ("cinspect signal -l", "list the signals and their default actions"),
    ],
    run,
)
.modifies()
.on_containers(&[ExitStatus::NoProcess, ExitStatus::NothingSent, ExitStatus::TimedOut])
.files(&[
    (
        "/proc/PID/status, /proc/PID/task/TID/status",
        "Signal masks and dispositions, read before the signal is sent.",
    ),
    ("/proc/PID/stat", "The start time of a process, which identifies it together with its PID."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: SignalArgs = arguments(matches)?;
    if arguments.list {
        context.print(&list(&arguments.listed()?))?;
        return Ok(ExitStatus::Done);
    }
    let (reference, signal) = arguments.reference_and_signal()?;
    let selectors = arguments.selectors()?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), reference, Access::Act)?;
    let selectors = of_processes(context, &found, selectors);
    let request = SignalRequest { signal, value: arguments.queue };
    let selection = ProcessSelection { selectors: &selectors, except_init: arguments.except_init };
    let mut batch = SignalBatch::new(&found, request, selection);
    let selected = batch.targets()?;
    if arguments.require_handler {
        require_handlers(&selected.targets, signal)?;
    }
    let explained = warn_if_no_effect(context, &selected, signal);
    note_end(context, &found, &selected, signal);
    let SelectedTargets { context: rows, targets, .. } = selected;
    let report = SignalReport { context, rows, signal, explained, dry_run: arguments.dry_run };
    if arguments.dry_run {
        batch.rehearse(targets);
        report.print(&batch)?;
        check_permitted(&batch, "not every signal would be sent")?;
        return Ok(ExitStatus::Done);
    }
    may_act(&host, "send a signal", ExitStatus::NotPermitted)?;
    batch.send(targets, arguments.all && !arguments.except_init)?;
    if arguments.all {
        warn_of_rescan(context, &found, batch.rescan(arguments.require_handler));
    }
    let status = arguments.wait(&mut batch)?;
    report.print(&batch)?;
    check_sent(&batch)?;
    Ok(status)
}

/// Replaces the TID of a thread, which was given as a PID, by its process, and notes that.
fn of_processes(
    context: &Context,
    found: &ResolvedContainer<'_>,
    selectors: Vec<Selector>,
) -> Vec<Selector> {
    let process_of = |pid| process_of(context, found, Some(pid)).unwrap_or(pid);
    let of_process = |selector| match selector {
        Selector::Pid(pid) => Selector::Pid(process_of(pid)),
        Selector::Tree(pid) => Selector::Tree(process_of(pid)),
        Selector::HostPid(tid) => {
            let pid = found.host.process_of(tid).unwrap_or(tid);
            if pid != tid {
                context.ui.note(&format!("{tid} is a thread of process {pid} on the host"));
            }
            Selector::HostPid(pid)
        }
        other => other,
    };
    selectors.into_iter().map(of_process).collect()
}

/// Returns the table of these signals, or of all.
fn list(wanted: &[Signal]) -> String {
    let mut text = String::new();
    for signal in Signal::all().filter(|s| wanted.is_empty() || wanted.contains(s)) {
        let default = format!("{:?}", signal.default_action()).to_lowercase();
        text.push_str(&format!(
            "{:>2}  {:<9}  {default:<9}  {}\n",
            signal.number(),
            signal.name(),
            signal.describe()
        ));
    }
    text
}

impl SignalArgs {
    fn reference_and_signal(&self) -> Result<(&str, SignalNumber), Error> {
        let signal = self.signal.as_ref().or(self.by_option.as_ref());
        let (Some(reference), Some(signal)) = (&self.container, signal) else {
            return Err(Error::new(ExitStatus::Usage, "signal takes a container and a signal"));
        };
        let number = args::signal_number(signal)
            .map_err(|error| swapped_arguments(reference, signal).unwrap_or(error))?;
        Ok((reference, number))
    }

    /// Returns the signals to list, as kill(1) takes them: a status above 128 is that of a process that one
    /// killed.
    fn listed(&self) -> Result<Vec<Signal>, Error> {
        let words = [&self.container, &self.signal, &self.by_option].into_iter().flatten();
        let listed = |word: &String| {
            let killed = word.parse().ok().and_then(|status: u8| status.checked_sub(128));
            killed.and_then(Signal::new).map_or_else(|| args::signal(word), Ok)
        };
        words.map(listed).collect()
    }

    fn selectors(&self) -> Result<Vec<Selector>, Error> {
        use std::os::unix::ffi::OsStrExt;
        let mut selectors: Vec<Selector> = Vec::new();
        selectors.extend(self.pid.iter().copied().map(Selector::Pid));
        selectors.extend(self.host_pid.iter().copied().map(Selector::HostPid));
        selectors.extend(self.tid.iter().copied().map(Selector::Tid));
        selectors.extend(self.comm.iter().map(|name| Selector::Comm(name.as_bytes().to_vec())));
        selectors.extend(self.matching.iter().cloned().map(Selector::Match));
        selectors.extend(self.user.iter().cloned().map(Selector::User));
        selectors.extend(self.tree.iter().copied().map(Selector::Tree));
        selectors.extend(self.pgroup.iter().copied().map(Selector::Group));
        selectors.extend(self.all.then_some(Selector::All));
        if selectors.is_empty() {
            if self.except_init {
                return Err(Error::new(
                    ExitStatus::Usage,
                    "`--except-init` leaves no process to signal",
                )
                .cause("without a selector, only the init is selected")
                .hint("`--all --except-init` selects every process except the init"));
            }
            selectors.push(Selector::Init);
        }
        Ok(selectors)
    }

    /// Waits for the processes and kills them as the user asked, or else observes what the signal does.
    fn wait(&self, batch: &mut SignalBatch<'_>) -> Result<ExitStatus, Error> {
        if self.wait.is_none() && self.kill_after.is_none() {
            batch.observe();
            return Ok(ExitStatus::Done);
        }
        let start = Instant::now();
        let deadline = self.wait.flatten().and_then(|limit| start.checked_add(limit));
        let kill = self.kill_after.and_then(|after| start.checked_add(after));
        let mut all_exited = batch.wait([deadline, kill].into_iter().flatten().min())?;
        if let Some(kill) = kill
            && !all_exited
            && deadline.is_none_or(|deadline| deadline > kill)
        {
            all_exited = batch.kill(deadline)?;
        }
        Ok(if all_exited { ExitStatus::Done } else { ExitStatus::TimedOut })
    }
}

/// Prints the results of a batch.
struct SignalReport<'a> {
    context: &'a Context,
    rows: Arc<RowContext>,
    signal: SignalNumber,
    /// The targets whose note was printed as a warning: the table does not repeat it.
    explained: HashSet<(HostPid, Option<i32>)>,
    dry_run: bool,
}

impl SignalReport<'_> {
    fn print(&self, batch: &SignalBatch<'_>) -> Result<(), Error> {
        let mut rows: Vec<SignalRow> = batch
            .results()
            .map(|result| SignalRow {
                context: Arc::clone(&self.rows),
                signal: self.signal,
                result: result.clone(),
                dry_run: self.dry_run,
            })
            .collect();
        let ui = &self.context.ui;
        if ui.json {
            let lines = rows.iter().map(|row| json::line(&object(SIGNAL_COLUMNS, row)));
            return self.context.print(&lines.collect::<String>());
        }
        for row in &mut rows {
            if self.explained.contains(&key(&row.result.target))
                && let Some(prediction) = &mut row.result.target.prediction
            {
                prediction.note = None;
            }
        }
        let mut selection = Selection::default_of(SIGNAL_COLUMNS);
        let is_shown = |name: &str| match name {
            "reaches" => self.dry_run && rows.iter().any(SignalRow::is_forwarded),
            "tid" => rows.iter().any(|row| row.result.target.tid.is_some()),
            "note" => rows.iter().any(|row| row.note().is_some()),
            _ => true,
        };
        selection.columns.retain(|column| is_shown(column.name));
        let lines: Vec<TableLine<'_, SignalRow>> = rows.iter().map(TableLine::flat).collect();
        let options = TableOptions::with_header();
        self.context.print(&draw(&selection, &lines, &Style::from(ui), &options))
    }
}

fn failures<'b>(batch: &'b SignalBatch<'_>) -> impl Iterator<Item = &'b SendError> {
    batch.results().filter_map(|result| match &result.delivery {
        Delivery::Failed(error) => Some(error),
        _ => None,
    })
}

/// Fails if a signal was not permitted, or would not be.
fn check_permitted(batch: &SignalBatch<'_>, failed: &str) -> Result<(), Error> {
    if failures(batch).all(|error| *error != SendError::NotPermitted) {
        return Ok(());
    }
    let error = Error::new(ExitStatus::NotPermitted, failed);
    Err(match capability::has(caps::Capability::CAP_KILL) {
        true => error.cause("the kernel refuses it (EPERM) despite CAP_KILL"),
        false => error.cause("it needs CAP_KILL or the same user").hint("run as root"),
    })
}

/// Fails if a signal was not sent to a process that is still running.
fn check_sent(batch: &SignalBatch<'_>) -> Result<(), Error> {
    check_permitted(batch, "not every signal was sent")?;
    let failures = || failures(batch);
    let total = batch.results().count();
    if failures().count() == total {
        return Err(Error::new(ExitStatus::NoProcess, "nothing was sent")
            .cause("every selected process had exited or changed")
            .hint("`cinspect ps` shows the current processes"));
    }
    let has_gone = |error: &&SendError| matches!(error, SendError::Gone | SendError::LeftContainer);
    let refused = failures().filter(|error| !has_gone(error)).count();
    if refused > 0 {
        return Err(Error::new(ExitStatus::Failed, "not every signal was sent")
            .cause(format!("{refused} of {total} processes are running and were not signalled"))
            .hint("the table above gives the reason for each"));
    }
    Ok(())
}
