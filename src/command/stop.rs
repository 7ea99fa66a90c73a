//! `stop`: the container's stop signal, a grace time, then KILL, and an account of who left when.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args, ValueEnum};
use serde_json::{Map, Value as Json, json};

use super::{Command, arguments, command, may_act, resolve};
use crate::action::freeze::unpause;
use crate::action::stop::{
    ProcessRef, StopEvent, StopEventKind, StopOrder, StopProcedure, StopStep, stop,
};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::pid::HostPid;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_policy::StopPolicy;
use crate::output::escape::{safe, safe_str};
use crate::output::json;
use crate::output::style::{Emphasis, Style};
use crate::output::units::age;
use crate::output::width::{width, wrap};
use crate::proc::SnapshotOptions;
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, ResolvedContainer, Resolver};
use crate::sys::pidfd::Ending;

/// Stop containers as their engines do, and say as it goes who was told, who left when and who was
/// killed
///
/// Signal and time are those that the engine recorded, else TERM and 10 s. `--order all` tells every
/// process at once, `--order children-first` children before their parents (half of the time over, whoever is
/// left is told), the init last: for containers whose init does not pass the signal on. A supervisor
/// may start again what it sees leaving. The engine is not asked and not told: it sees the container
/// end, and starts it again where its restart policy says so.
#[derive(Args)]
pub struct Stop {
    /// The containers
    #[arg(value_name = "CTR", required = true, add = CompletionSource::Containers)]
    containers: Vec<String>,
    /// This signal, not the recorded one
    #[arg(short, long, value_name = "SIG", add = CompletionSource::Signals)]
    signal: Option<String>,
    /// Time until KILL
    #[arg(short, long, value_name = "DUR", value_parser = args::duration, add = CompletionSource::Free)]
    time: Option<Duration>,
    /// Who is told first
    #[arg(long, value_name = "WHO", default_value = "init")]
    order: OrderArg,
    /// Steps, each with its time, instead of signal, time and KILL: `QUIT:5s,TERM:10s,KILL`
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["signal", "time", "no_kill"], add = CompletionSource::Free)]
    schedule: Option<String>,
    /// Do not KILL what is left; leave with status 124
    #[arg(long)]
    no_kill: bool,
    /// Wake a paused container first
    #[arg(long)]
    unpause: bool,
    /// Say what would happen, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// As it is typed.
#[derive(Clone, Copy, ValueEnum)]
enum OrderArg {
    /// The init, as the engines do
    Init,
    /// All at once
    All,
    /// Leaves of the process tree, then their parents
    ChildrenFirst,
}

pub const COMMAND: Command = command::<Stop>(
    "stop",
    &[],
    &[
        ("cinspect stop web", "its stop signal, then KILL"),
        ("cinspect stop -n web", "say what would happen"),
        ("cinspect stop --order children-first web", "children first, init last"),
        ("cinspect stop --schedule QUIT:30s,TERM:5s,KILL web", "step by step"),
        ("cinspect stop --no-kill -t 1m web db", "two containers, no KILL"),
    ],
    run,
)
.modifies()
.statuses(&[ExitStatus::Done, ExitStatus::Failed, ExitStatus::Usage, ExitStatus::NoContainer, ExitStatus::NotPermitted, ExitStatus::TimedOut])
.files(&[
    ("/proc/PID/status, /proc/PID/task/TID/status", "What is set for the signal, before it is sent."),
    ("cgroup.kill, cgroup.freeze, freezer.state", "How all that is left is killed at once, also while it forks; and how a paused container is woken."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Stop = arguments(matches)?;
    let signal = arguments.signal.as_deref().map(args::signal).transpose()?;
    let schedule = arguments.schedule.as_deref().map(schedule).transpose()?;
    let host = context.host()?;
    // Whoever names one twice means it once: two stops of it would race.
    let mut known = HashSet::new();
    let resolver = Resolver::new(&host);
    let targets: Vec<(&str, Result<ResolvedContainer<'_>, Error>)> = arguments
        .containers
        .iter()
        .map(|word| (word.as_str(), resolve(context, &resolver, word, Access::Act)))
        .filter(|(_, found)| {
            found.as_ref().map_or(true, |found| known.insert(found.container.qualified()))
        })
        .collect();
    let several = targets.len() > 1;
    let (sender, events) = channel();
    let outcomes: Vec<Result<ExitStatus, Error>> = std::thread::scope(|scope| {
        let stopping = |(word, found): (&str, Result<ResolvedContainer<'_>, Error>),
                        sender: Sender<ReportLine>| {
            let order = StopRequest { word, several, signal, schedule: schedule.as_ref() };
            one(context, &arguments, &found?, &order, &sender)
        };
        let each: Vec<_> = match arguments.dry_run {
            // In their order, as nothing is waited for.
            true => {
                let sender = sender.clone();
                vec![scope.spawn(move || {
                    targets.into_iter().map(|target| stopping(target, sender.clone())).collect()
                })]
            }
            false => targets
                .into_iter()
                .map(|target| {
                    let sender = sender.clone();
                    scope.spawn(move || vec![stopping(target, sender)])
                })
                .collect(),
        };
        drop(sender);
        let mut broken = false;
        for line in events {
            match line {
                ReportLine::Text(text) if !broken => {
                    context.ui.clear_progress();
                    // Who reads no more has not asked us to stop what was begun.
                    broken = context.print(&text).is_err();
                }
                ReportLine::Text(_) => {}
                ReportLine::Progress(text) => context.ui.progress(&text),
            }
        }
        context.ui.clear_progress();
        let died = || Err(Error::new(ExitStatus::Failed, "a thread of ours died"));
        let ended = each.into_iter().map(|thread| thread.join().unwrap_or_else(|_| vec![died()]));
        ended.flatten().collect()
    });
    let mut exit = ExitStatus::Done;
    for outcome in outcomes {
        match outcome {
            Ok(other) if exit == ExitStatus::Done => exit = other,
            Ok(_) => {}
            Err(error) if !several => return Err(error),
            Err(error) => {
                context.ui.warn_error(&error);
                exit = if exit == ExitStatus::Done { error.status } else { exit };
            }
        }
    }
    Ok(exit)
}

enum ReportLine {
    Text(String),
    Progress(String),
}

/// `QUIT:5s,TERM:10s,KILL`.
fn schedule(text: &str) -> Result<StopProcedure, Error> {
    let mut steps = Vec::new();
    let mut kill = false;
    let wrong = |why: String| {
        Error::new(ExitStatus::Usage, format!("`{text}` is not a valid schedule"))
            .cause(why)
            .hint("steps with their times, as `QUIT:5s,TERM:10s,KILL`")
    };
    for step in text.split(',') {
        if kill {
            return Err(wrong("nothing comes after KILL".into()));
        }
        match step.split_once(':') {
            Some((signal, time)) => {
                let grace = args::duration(time).map_err(wrong)?;
                steps.push(StopStep { signal: args::signal(signal)?, grace });
            }
            None if args::signal(step)? == Signal::KILL => kill = true,
            None => return Err(wrong(format!("`{step}` has no time"))),
        }
    }
    Ok(StopProcedure { steps, first: StopOrder::Init, kill })
}

/// What was asked for, of one of them.
struct StopRequest<'a> {
    word: &'a str,
    /// Whether there are others.
    several: bool,
    signal: Option<Signal>,
    schedule: Option<&'a StopProcedure>,
}

fn one(
    context: &Context,
    arguments: &Stop,
    found: &ResolvedContainer<'_>,
    told: &StopRequest<'_>,
    lines: &Sender<ReportLine>,
) -> Result<ExitStatus, Error> {
    let host = found.host;
    let StopRequest { word, several, signal, schedule } = *told;
    let plan = stop_policy(host, &found.container);
    let runtime = found.container.engine;
    let mut way = schedule.cloned().unwrap_or_else(|| StopProcedure {
        steps: vec![StopStep {
            signal: signal.unwrap_or_else(|| plan.signal_of(runtime)),
            grace: arguments.time.unwrap_or_else(|| plan.grace_of(runtime)),
        }],
        first: StopOrder::Init,
        kill: !arguments.no_kill,
    });
    way.first = match arguments.order {
        OrderArg::Init => StopOrder::Init,
        OrderArg::All => StopOrder::All,
        OrderArg::ChildrenFirst => StopOrder::ChildrenFirst,
    };
    let teller = StopReporter {
        host: host.name.clone(),
        name: found.container.qualified(),
        json: context.ui.json,
        color: context.ui.color,
        width: context.ui.width,
        arrow: if context.ui.unicode { "→" } else { "->" },
        several,
        killed: RefCell::default(),
        lines,
    };
    let back = plan.restart_reason(runtime);
    if let Some(why) = &back {
        context.ui.note(&format!("{}: {why}", safe_str(&teller.name)));
    }
    if arguments.dry_run {
        let thawing = may_be_stopped(found, arguments.unpause)?;
        if thawing {
            context.ui.note(&format!("{}: it would be thawed first", safe_str(&teller.name)));
        }
        return rehearse(found, &way, &teller);
    }
    may_act(host, "stop a container", ExitStatus::NotPermitted)?;
    if may_be_stopped(found, arguments.unpause)? {
        let name = &teller.name;
        unpause(found).map_err(|why| {
            Error::new(ExitStatus::Failed, format!("`{name}` cannot be thawed")).cause(why)
        })?;
    }
    let gone = stop(found, &way, &mut |event| teller.tell(&event))?;
    if back.is_some() && gone {
        tell_of_return(context, word, found, &plan);
    }
    match (gone, way.kill) {
        (true, _) => Ok(ExitStatus::Done),
        (false, false) => Ok(ExitStatus::TimedOut),
        (false, true) => Err(Error::new(ExitStatus::Failed, format!("`{word}` is not stopped"))
            .cause("processes are left that KILL has not ended")
            .hint(format!(
                "`cinspect ps {}` shows them: frozen, or in a sleep that no signal ends",
                teller.name
            ))),
    }
}

/// A paused container takes no signal before it is thawed: whether that has to be done, or what to do
/// where it may not.
fn may_be_stopped(found: &ResolvedContainer<'_>, thawing: bool) -> Result<bool, Error> {
    let container = &found.container;
    if container.state != ContainerState::Paused || thawing {
        return Ok(container.state == ContainerState::Paused);
    }
    Err(Error::new(ExitStatus::Failed, format!("`{}` is paused", container.qualified()))
        .cause("a frozen process takes a signal only when it is thawed")
        .hint("`--unpause` wakes it first, or let its engine resume it"))
}

/// Whether the engine has started it again already.
fn tell_of_return(context: &Context, word: &str, found: &ResolvedContainer<'_>, plan: &StopPolicy) {
    let name = found.container.qualified();
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(150));
        let Ok(again) = Resolver::new(found.host).resolve(word, Access::Read) else { continue };
        if let Some(init) = again.container.init.filter(|init| Some(*init) != found.container.init)
        {
            let stop = match plan.restart {
                Some(_) => "; its engine's own stop would have kept it down",
                None => "",
            };
            let pid = init.pid;
            context.ui.warn(&format!(
                "{}: it is running again, its init is {pid} on the host{stop}",
                safe_str(&name)
            ));
            return;
        }
    }
}

/// Says what happens.
struct StopReporter<'a> {
    host: String,
    name: String,
    json: bool,
    color: bool,
    width: Option<usize>,
    arrow: &'static str,
    several: bool,
    /// Who was killed, and so ends by KILL as said.
    killed: RefCell<HashSet<HostPid>>,
    lines: &'a Sender<ReportLine>,
}

impl StopReporter<'_> {
    fn tell(&self, event: &StopEvent) {
        if let StopEventKind::Waiting { left, rest } = &event.what {
            let rest = rest.map_or_else(String::new, |rest| format!(", {} left", age(rest)));
            let text = format!("{}waiting for {}{rest}", self.prefix(), processes(*left));
            let _ = self.lines.send(ReportLine::Progress(text));
            return;
        }
        let who = event.who.as_ref().map(|who| who.host_pid);
        if let (StopEventKind::Killed { .. }, Some(who)) = (&event.what, who) {
            self.killed.borrow_mut().insert(who);
        }
        let is_said = matches!(event.what, StopEventKind::Exited(_))
            && who.is_some_and(|who| self.killed.borrow().contains(&who));
        if is_said && !self.json {
            return;
        }
        let line = if self.json { json::line(&self.object(event)) } else { self.text(event) };
        let _ = self.lines.send(ReportLine::Text(line));
    }

    fn prefix(&self) -> String {
        if self.several { format!("{}: ", safe_str(&self.name)) } else { String::new() }
    }

    fn text(&self, event: &StopEvent) -> String {
        let who = event.who.as_ref().map_or_else(String::new, name_of);
        let signal = event.signal.map_or_else(String::new, Signal::name);
        let arrow = self.arrow;
        let says = match &event.what {
            StopEventKind::Planned => format!("would send {signal} {arrow} {who}{}", judged(event)),
            StopEventKind::Signalled => format!("{signal} {arrow} {who}{}", judged(event)),
            StopEventKind::Refused(why) => format!("{signal} {arrow} {who}: not sent: {why}"),
            StopEventKind::Exited(None | Some(Ending::Status(0))) => format!("{who} left"),
            StopEventKind::Exited(Some(Ending::Status(status))) => {
                format!("{who} left with status {status}")
            }
            StopEventKind::Exited(Some(Ending::Signal(signal, core))) => {
                let core = if *core { ", with a core" } else { "" };
                format!("{who} ended by {signal}{core}")
            }
            StopEventKind::GraceOver(left) => format!("time is over, {} left", processes(*left)),
            StopEventKind::Killed { unheard: true } => {
                format!("{who} killed by the kernel with the end of PID 1, unheard")
            }
            StopEventKind::Killed { unheard: false } => format!("KILL {arrow} {who}"),
            StopEventKind::Stopped { graceful: true, .. } => {
                "stopped: nobody had to be killed".into()
            }
            StopEventKind::Stopped { killed, .. } => {
                format!("stopped: {} killed", processes(*killed))
            }
            StopEventKind::Left(left) => format!("not stopped: {} left", processes(*left)),
            StopEventKind::Waiting { .. } => String::new(),
        };
        let tint = match &event.what {
            StopEventKind::Refused(_) | StopEventKind::Killed { .. } | StopEventKind::Left(_) => {
                Emphasis::Bad
            }
            StopEventKind::GraceOver(_) | StopEventKind::Stopped { graceful: false, .. } => {
                Emphasis::Warning
            }
            StopEventKind::Stopped { graceful: true, .. } => Emphasis::Good,
            _ => Emphasis::None,
        };
        let mut text = format!("{}{:>6.1}s  ", self.prefix(), event.at.as_secs_f64());
        let style = Style { color: self.color, ..Style::default() };
        let hang = width(&text);
        let room = self.width.map(|columns| columns.saturating_sub(hang).max(20));
        for (at, part) in wrap(&says, room).iter().enumerate() {
            if at > 0 {
                text.push_str(&format!("\n{}", " ".repeat(hang)));
            }
            style.paint(&mut text, part, tint);
        }
        text.push('\n');
        text
    }

    fn object(&self, event: &StopEvent) -> Json {
        let mut object = Map::new();
        let name = match &event.what {
            StopEventKind::Planned => "planned",
            StopEventKind::Signalled | StopEventKind::Refused(_) => "signalled",
            StopEventKind::Exited(_) => "exited",
            StopEventKind::GraceOver(_) => "grace-over",
            StopEventKind::Killed { .. } => "killed",
            StopEventKind::Stopped { .. } | StopEventKind::Left(_) => "stopped",
            StopEventKind::Waiting { .. } => "waiting",
        };
        let who = event.who.as_ref();
        object.insert("host".into(), json!(self.host));
        object.insert("container".into(), json!(self.name));
        object.insert("t".into(), json!((event.at.as_secs_f64() * 1000.0).round() / 1000.0));
        object.insert("event".into(), json!(name));
        object.insert("pid".into(), json!(who.and_then(|who| who.pid).map(|pid| pid.get())));
        object.insert("host_pid".into(), json!(who.map(|who| who.host_pid.get())));
        let comm = who.map(|who| crate::output::json::bytes_to_json(&who.comm));
        object.insert("comm".into(), comm.unwrap_or(Json::Null));
        object.insert("signal".into(), json!(event.signal.map(Signal::name)));
        let verdict = event.judgement.as_ref().map(|judgement| judgement.verdict.name());
        object.insert("verdict".into(), json!(verdict));
        let note = match &event.what {
            StopEventKind::Refused(why) => Some(format!("not sent: {why}")),
            StopEventKind::Killed { unheard: true } => {
                Some("by the kernel, with the end of PID 1".into())
            }
            StopEventKind::Exited(Some(Ending::Status(status))) => Some(format!("status {status}")),
            StopEventKind::Exited(Some(Ending::Signal(signal, _))) => {
                Some(format!("signal {signal}"))
            }
            _ => event.judgement.as_ref().and_then(|judgement| judgement.note.clone()),
        };
        object.insert("note".into(), json!(note));
        match &event.what {
            StopEventKind::Stopped { graceful, killed } => {
                object.insert("graceful".into(), json!(graceful));
                object.insert("killed".into(), json!(killed));
            }
            StopEventKind::Left(left) => {
                object.insert("graceful".into(), json!(false));
                object.insert("left".into(), json!(left));
            }
            _ => {}
        }
        Json::Object(object)
    }
}

fn judged(event: &StopEvent) -> String {
    event.judgement.as_ref().map_or_else(String::new, |Prediction { verdict, note, .. }| {
        let note = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        format!(": {}{note}", verdict.name())
    })
}

fn name_of(who: &ProcessRef) -> String {
    let pid = who.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}", safe(&who.comm))
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".into() } else { format!("{count} processes") }
}

/// Who would be told first, what that would do, and what follows.
fn rehearse(
    found: &ResolvedContainer<'_>,
    way: &StopProcedure,
    teller: &StopReporter<'_>,
) -> Result<ExitStatus, Error> {
    let signals = way
        .steps
        .iter()
        .fold(SignalSet::EMPTY, |all, step| all.union(SignalSet::from(step.signal)));
    let view = found.snapshot(SnapshotOptions { waits: signals, ..SnapshotOptions::BARE })?;
    let mut at = Duration::ZERO;
    for step in &way.steps {
        for member in view.processes.iter().filter(|member| member.in_container) {
            let is_init = Some(member.facts.id) == found.container.init;
            if way.first == StopOrder::Init && !is_init {
                continue;
            }
            teller.tell(&StopEvent {
                at,
                what: StopEventKind::Planned,
                who: Some(crate::action::stop::who(member)),
                signal: Some(step.signal),
                judgement: Some(view.predict(member, step.signal, Recipient::Process)),
            });
        }
        at = at.saturating_add(step.grace);
    }
    if !teller.json {
        for line in outlook(&view, found, way) {
            let text = format!("{}{line}", teller.prefix());
            let text = wrap(&text, teller.width).join("\n");
            let _ = teller.lines.send(ReportLine::Text(format!("{text}\n")));
        }
    }
    Ok(ExitStatus::Done)
}

/// What follows from that, in words.
fn outlook(
    view: &ContainerSnapshot,
    found: &ResolvedContainer<'_>,
    way: &StopProcedure,
) -> Vec<String> {
    let mut lines = Vec::new();
    let init = view.processes.iter().find(|m| Some(m.facts.id) == found.container.init);
    let others =
        view.processes.iter().filter(|member| member.in_container).count().saturating_sub(1);
    let first = way.steps.first();
    if let (Some(init), Some(step)) = (init, first) {
        let judgement = view.predict(init, step.signal, Recipient::Process);
        let leaves = judgement.verdict.is_fatal() || judgement.is_received();
        if !leaves {
            let then = if way.kill { ", then KILL ends all of it" } else { "" };
            lines.push(format!(
                "PID 1 does not leave on {}: all of the time is waited{then}",
                step.signal
            ));
        } else if way.first == StopOrder::Init && others > 0 && found.container.owns_pid_ns {
            lines.push(format!(
                "when PID 1 leaves, the kernel kills those that it has not seen off: {} may go unheard",
                processes(others)
            ));
        }
    }
    lines
}
