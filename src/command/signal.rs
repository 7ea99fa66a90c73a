//! `signal`: sends a signal to exactly the processes that are meant. Choosing is `analysis`' work,
//! confirming and sending is `act`'s; here it is decided what is done in which order, and told.

use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use regex::bytes::Regex;
use serde_json::Value as Json;

use super::{Command, arguments, command, may_act, report_resolution};
use crate::action::send::SignalRequest;
use crate::action::signal_many::{MAX_ROUNDS, RescanOutcome, SignalBatch, choose, facts};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Prediction;
use crate::analysis::selection::Selector;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::usage::swapped_arguments;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::capability;
use crate::model::container::Container;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::signal::{DefaultAction, Signal, SignalNumber};
use crate::model::stop_policy::StopPolicy;
use crate::model::verdict::Verdict;
use crate::output::columns::signal::{SIGNAL_COLUMNS, SignalRow};
use crate::output::escape::{safe, safe_str};
use crate::output::json::{self, object};
use crate::output::select::Selection;
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::resolve::{Access, Resolver};

/// Send a signal to processes of a container: its init, or those that are chosen
///
/// Selectors may be repeated and mixed; every process that one of them chooses gets the signal once,
/// children before their parents, the init last. Each process is held by a pidfd and confirmed to be
/// the one that was seen before anything is sent, so a process number that was used again meanwhile
/// is never hit.
#[derive(Args)]
#[command(override_usage = "cinspect signal [OPTIONS] <CTR> <SIG>\n       cinspect signal --list")]
pub struct Send {
    /// The container
    #[arg(value_name = "CTR", required_unless_present = "list")]
    container: Option<String>,
    /// TERM, SIGTERM, 15, RTMIN+3; 0 only asks whether one could be sent
    #[arg(value_name = "SIG", required_unless_present_any = ["list", "by_option"])]
    signal: Option<String>,
    /// The signal, as kill(1) takes it
    #[arg(
        short = 's',
        long = "signal",
        id = "by_option",
        value_name = "SIG",
        conflicts_with = "signal"
    )]
    by_option: Option<String>,
    /// The process with this number inside the container
    #[arg(long, value_name = "N", help_heading = "Which processes (default: the init)")]
    pid: Vec<ContainerPid>,
    /// The process with this number on the host
    #[arg(long, value_name = "N", help_heading = "Which processes (default: the init)")]
    host_pid: Vec<HostPid>,
    /// One thread, by its number inside
    #[arg(long, value_name = "N", help_heading = "Which processes (default: the init)")]
    tid: Vec<ContainerPid>,
    /// Processes with exactly this name
    #[arg(long, value_name = "NAME", help_heading = "Which processes (default: the init)")]
    comm: Vec<std::ffi::OsString>,
    /// Processes whose whole command line this regular expression matches
    #[arg(
        long = "match",
        value_name = "REGEX",
        help_heading = "Which processes (default: the init)"
    )]
    matching: Vec<Regex>,
    /// Processes of this user, by name or number inside
    #[arg(long, value_name = "U", help_heading = "Which processes (default: the init)")]
    user: Vec<String>,
    /// A process and all that descend from it
    #[arg(long, value_name = "N", help_heading = "Which processes (default: the init)")]
    tree: Vec<ContainerPid>,
    /// The processes of a process group, by its number inside
    #[arg(long, value_name = "N", help_heading = "Which processes (default: the init)")]
    pgroup: Vec<ContainerPid>,
    /// Every process of the container, those that appear meanwhile too
    #[arg(long, help_heading = "Which processes (default: the init)")]
    all: bool,
    /// Leave the init out of what is chosen
    #[arg(long, help_heading = "Which processes (default: the init)")]
    except_init: bool,
    /// Show what would be hit, and send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Send this value along, as sigqueue(3) does
    #[arg(short = 'q', long, value_name = "INT", allow_hyphen_values = true)]
    queue: Option<i32>,
    /// Send nothing unless every target has a handler for the signal
    #[arg(short = 'r', long)]
    require_handler: bool,
    /// Wait until the targets have ended, at most this long
    #[arg(
        long,
        value_name = "DUR",
        num_args = 0..=1,
        require_equals = true,
        value_parser = args::duration
    )]
    wait: Option<Option<Duration>>,
    /// KILL what is left after this time
    #[arg(short = 'k', long, value_name = "DUR", value_parser = args::duration)]
    kill_after: Option<Duration>,
    /// List the signals
    #[arg(short, long)]
    list: bool,
}

pub const COMMAND: Command = command::<Send>(
    "signal",
    &["kill"],
    &[
        ("cinspect signal web TERM --pid 13", "TERM to the process that is 13 inside"),
        ("cinspect signal web HUP", "HUP to the init"),
        ("cinspect signal -n web TERM --all --except-init", "show whom TERM would reach"),
        ("cinspect signal web TERM --tree 7 --kill-after 10s", "end a process and all below it"),
        ("cinspect signal web USR1 --comm nginx --user www-data", "by name, and by user"),
        ("cinspect signal -l", "the signals and what they do by default"),
    ],
    run,
)
.modifies()
.statuses(&[
    ExitStatus::Done,
    ExitStatus::Failed,
    ExitStatus::Usage,
    ExitStatus::NoContainer,
    ExitStatus::NoProcess,
    ExitStatus::NotPermitted,
    ExitStatus::NothingSent,
    ExitStatus::TimedOut,
])
.files(&[
    (
        "/proc/PID/status, /proc/PID/task/TID/status",
        "What is set for the signal, before it is sent.",
    ),
    ("/proc/PID/stat", "When a process began: with its number, that is who it is."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Send = arguments(matches)?;
    if arguments.list {
        context.print(&list())?;
        return Ok(ExitStatus::Done);
    }
    let signal = arguments.signal.as_ref().or(arguments.by_option.as_ref());
    let (Some(word), Some(signal)) = (&arguments.container, signal) else {
        return Err(Error::new(ExitStatus::Usage, "signal takes a container and a signal"));
    };
    let number = args::signal_number(signal)
        .map_err(|error| swapped_arguments(word, signal).unwrap_or(error))?;
    let order = SignalRequest { signal: number, value: arguments.queue };
    let selectors = arguments.selectors()?;
    let host = context.host()?;
    let found = Resolver::new(&host).resolve(word, Access::Act)?;
    report_resolution(context, &found.container, &found.inventory);
    let view = found.snapshot(facts(&selectors, order.signal))?;
    let chosen = choose(&found, &view, &selectors, arguments.except_init)?;
    let mut errand = SignalBatch::new(&found, order, &selectors);
    let judged: Vec<(&ContainerProcess, Prediction)> = chosen
        .iter()
        .filter_map(|at| Some((&view.processes[at.member], errand.judge(&view, *at)?)))
        .collect();
    if arguments.require_handler {
        refuse_without_handler(&judged, order.signal)?;
    }
    let container = &found.container;
    warn_of_nothing(context, container, &judged, order.signal);
    let plan = stop_policy(&host, container);
    warn_of_return(context, container, &plan, &judged, order.signal);
    if arguments.dry_run {
        errand.rehearse(&view, &chosen);
        return tell(context, &errand);
    }
    may_act(&host, "send a signal", ExitStatus::NotPermitted)?;
    errand.send(&view, &chosen, arguments.all && !arguments.except_init)?;
    if arguments.all {
        let came_to = errand.catch_up(&selectors, arguments.except_init, arguments.require_handler);
        let name = found.container.qualified();
        let name = safe_str(&name);
        match came_to {
            RescanOutcome::All => {}
            RescanOutcome::StillGrowing => context.ui.warn(&format!(
                "{name}: still making new processes after {MAX_ROUNDS} rounds; those of the last moment were not told"
            )),
            RescanOutcome::WithoutInit(left) => context.ui.warn(&format!(
                "{name}: its init has ended, and the {left} processes that appeared since were not told: they may be of the container that its engine has started anew"
            )),
        }
    }
    if arguments.wait.is_none() && arguments.kill_after.is_none() {
        errand.look_after();
    }
    let waited = arguments.finish(&mut errand)?;
    let exit = tell(context, &errand)?;
    Ok(if exit == ExitStatus::Done { waited } else { exit })
}

fn list() -> String {
    let mut text = String::new();
    for signal in Signal::all() {
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

impl Send {
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
                    "`--except-init` leaves nothing to signal",
                )
                .cause("without a selector the init alone is meant")
                .hint("for every process but the init, say `--all --except-init`"));
            }
            selectors.push(Selector::Init);
        }
        Ok(selectors)
    }

    /// Waits and kills as asked; the exit status that comes of it.
    fn finish(&self, errand: &mut SignalBatch<'_>) -> Result<ExitStatus, Error> {
        if self.wait.is_none() && self.kill_after.is_none() {
            return Ok(ExitStatus::Done);
        }
        let begun = Instant::now();
        let limit = self.wait.flatten().and_then(|limit| begun.checked_add(limit));
        let kill = self.kill_after.and_then(|after| begun.checked_add(after));
        let first = [limit, kill].into_iter().flatten().min();
        let mut ended = errand.wait(first)?;
        let mut killed = Vec::new();
        if let Some(kill) = kill
            && ended.contains(&Some(false))
            && limit.is_none_or(|limit| limit > kill)
        {
            killed = errand.kill(&ended);
            // KILL cannot be refused, only be late (a frozen cgroup, uninterruptible sleep).
            let patience = Instant::now() + Duration::from_secs(10);
            ended = errand.wait(Some(limit.map_or(patience, |limit| limit.min(patience))))?;
        }
        errand.note_outcomes(&ended, &killed);
        Ok(if ended.contains(&Some(false)) { ExitStatus::TimedOut } else { ExitStatus::Done })
    }
}

fn refuse_without_handler(
    judged: &[(&ContainerProcess, Prediction)],
    signal: SignalNumber,
) -> Result<(), Error> {
    let without: Vec<String> = judged
        .iter()
        .filter(|(_, judgement)| !judgement.is_received())
        .map(|(member, judgement)| format!("{} ({})", who(member), judgement.verdict.name()))
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    Err(Error::new(ExitStatus::NothingSent, "nothing was sent")
        .cause(format!("no handler for {signal} in {}", without.join(", ")))
        .hint("leave out `--require-handler` to send it all the same"))
}

/// A process as messages name it: `13 nginx`.
fn who(member: &ContainerProcess) -> String {
    let pid = member.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}", safe(&member.facts.stat.comm))
}

/// Says of each target that nothing comes of it, why, and what would.
fn warn_of_nothing(
    context: &Context,
    container: &Container,
    judged: &[(&ContainerProcess, Prediction)],
    signal: SignalNumber,
) {
    const MOST: usize = 5;
    let name = container.qualified();
    let name = safe_str(&name);
    let is_nothing = |verdict: Verdict| {
        verdict.is_lost()
            || [Verdict::Pending, Verdict::Delayed, Verdict::Unknown].contains(&verdict)
    };
    let nothing: Vec<_> = judged.iter().filter(|(_, j)| is_nothing(j.verdict)).collect();
    // What every program ignores by default is sent to be ignored by most.
    let by_default = |judgement: &Prediction| {
        judgement.verdict == Verdict::Ignored
            && signal.signal().is_some_and(|signal| {
                matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue)
            })
    };
    let nothing: Vec<_> = nothing.into_iter().filter(|(_, j)| !by_default(j)).collect();
    for (member, judgement) in nothing.iter().take(MOST) {
        let what = match judgement.verdict {
            Verdict::Ignored => "ignores it",
            Verdict::Discarded => "is not told",
            Verdict::NoEffect => "has ended already, and its parent has not reaped it",
            Verdict::Pending => "blocks it, and nobody waits for it",
            Verdict::Delayed => "does not get it yet",
            _ => "may or may not get it",
        };
        let note = judgement.note.as_ref().filter(|_| judgement.verdict != Verdict::NoEffect);
        let why = note.map_or_else(String::new, |note| format!(": {note}"));
        let remedy = match judgement.verdict {
            Verdict::Discarded => "; KILL would end it, and `--all --except-init` tells the others",
            Verdict::Ignored | Verdict::Pending => "; KILL would end it",
            Verdict::Delayed if member.facts.stat.state.is_stopped() => "; CONT lets it run",
            _ => "",
        };
        context.ui.warn(&format!("{name}: {signal}: {} {what}{why}{remedy}", who(member)));
    }
    if nothing.len() > MOST {
        context.ui.warn(&format!("{name}: {signal}: and {} more", nothing.len() - MOST));
    }
}

/// Says that the engine would start the container again if this ends it: it is not told that a user
/// wants that.
fn warn_of_return(
    context: &Context,
    container: &Container,
    plan: &StopPolicy,
    judged: &[(&ContainerProcess, Prediction)],
    signal: SignalNumber,
) {
    // Of what a handler does only that much is known: by these a program is told to leave.
    let leave = [Signal::TERM, Signal::INT, Signal::QUIT, plan.signal_of(container.engine)];
    let told_to_leave = signal.signal().is_some_and(|signal| leave.contains(&signal));
    let may_end = |(member, judgement): &(&ContainerProcess, Prediction)| {
        Some(member.facts.id) == container.init
            && (judgement.verdict.is_end() || (judgement.is_received() && told_to_leave))
    };
    if !judged.iter().any(may_end) {
        return;
    }
    if let Some(why) = plan.comes_back(container.engine) {
        let name = container.qualified();
        let remark = container.engine.signal_remark;
        let remark = remark.map_or_else(String::new, |remark| format!(" ({remark})"));
        context.ui.note(&format!("{}: if this ends it: {why}{remark}", safe_str(&name)));
    }
}

/// Prints what was done; the exit status that says the same.
fn tell(context: &Context, errand: &SignalBatch<'_>) -> Result<ExitStatus, Error> {
    let ui = &context.ui;
    if ui.json {
        let objects: Vec<Json> =
            errand.rows.iter().map(|row| Json::Object(object(SIGNAL_COLUMNS, row))).collect();
        context.print(&json::lines(&objects))?;
    } else {
        let mut selection = Selection::default_of(SIGNAL_COLUMNS);
        let tid = SIGNAL_COLUMNS.iter().find(|column| column.name == "tid");
        if errand.rows.iter().any(|row| row.tid.is_some()) {
            selection.columns.splice(1..1, tid.copied());
        }
        let lines: Vec<TableLine<'_, SignalRow>> =
            errand.rows.iter().map(TableLine::flat).collect();
        context.print(&draw(&selection, &lines, &Style::from(ui), &TableOptions::with_header()))?;
    }
    if errand.forbidden {
        let error = Error::new(ExitStatus::NotPermitted, "not every signal was sent");
        let have = capability::have(caps::Capability::CAP_KILL);
        return Err(if have {
            error.cause("the kernel forbids it (EPERM), though we have CAP_KILL")
        } else {
            error.cause("it takes CAP_KILL, or the same user").hint("run as root")
        });
    }
    let sent = errand.rows.iter().any(|row| row.sent != Some(false));
    if sent && errand.refused > 0 {
        let (refused, all) = (errand.refused, errand.rows.len());
        return Err(Error::new(ExitStatus::Failed, "not every signal was sent")
            .cause(format!("{refused} of {all} processes live and were not told"))
            .hint("the lines above say why each"));
    }
    if sent {
        return Ok(ExitStatus::Done);
    }
    Err(Error::new(ExitStatus::NoProcess, "nothing was sent")
        .cause("every process that was meant had ended or changed")
        .hint("look again with `cinspect ps`"))
}
