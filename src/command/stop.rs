//! `stop`: the container's stop signal, a grace time, then KILL, and an account of who left when.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args, ValueEnum};
use serde_json::{Map, Value as Json, json};

use super::signal::duration;
use super::{Command, account, arguments, command, may_act, named_signal};
use crate::action::freeze::thaw;
use crate::action::stop::{Event, First, Step, Way, What, Who, stop};
use crate::analysis::delivery::{Judgement, To};
use crate::cli::Context;
use crate::engine::stop_plan;
use crate::error::{Error, Exit};
use crate::model::container::State;
use crate::model::pid::HostPid;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_policy::StopPlan;
use crate::output::column::{Style, Tint};
use crate::output::json;
use crate::output::table::paint;
use crate::output::text::{age, safe, safe_str, width, wrap};
use crate::proc::{Facts, Host};
use crate::resolve::processes::View;
use crate::resolve::{Found, Purpose, resolve};
use crate::sys::pidfd::Ending;

/// Stop containers as their engines do, and say as it goes who was told, who left when and who was
/// killed
///
/// Signal and time are those that the engine recorded, else TERM and 10 s. `--order all` tells every
/// process at once, `--order leaves` children before their parents (half of the time over, whoever is
/// left is told), the init last: for containers whose init does not pass the signal on. A supervisor
/// may start again what it sees leaving. The engine is not asked and not told: it sees the container
/// end, and starts it again where its restart policy says so.
#[derive(Args)]
pub struct Stop {
    /// The containers
    #[arg(value_name = "CTR", required = true)]
    containers: Vec<String>,
    /// This signal, not the recorded one
    #[arg(short, long, value_name = "SIG")]
    signal: Option<String>,
    /// Time until KILL
    #[arg(short, long, value_name = "DUR", value_parser = duration)]
    time: Option<Duration>,
    /// Who is told first
    #[arg(long, value_name = "WHO", default_value = "init")]
    order: Order,
    /// Steps, each with its time, instead of signal, time and KILL: `QUIT:5s,TERM:10s,KILL`
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["signal", "time", "no_kill"])]
    ladder: Option<String>,
    /// Do not KILL what is left; leave with status 124
    #[arg(long)]
    no_kill: bool,
    /// Wake a paused container first
    #[arg(long)]
    thaw: bool,
    /// Say what would happen, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// As it is typed.
#[derive(Clone, Copy, ValueEnum)]
enum Order {
    /// The init, as the engines do
    Init,
    /// All at once
    All,
    /// Leaves of the process tree, then their parents
    Leaves,
}

pub const COMMAND: Command = command::<Stop>(
    "stop",
    &[],
    &[
        ("cinspect stop web", "its stop signal, its time, then KILL"),
        ("cinspect stop -n web", "say what would happen"),
        ("cinspect stop --order leaves web", "children first, the init last"),
        ("cinspect stop --ladder QUIT:30s,TERM:5s,KILL web", "step by step"),
        ("cinspect stop --no-kill -t 1m web db", "two containers, and nobody is killed"),
    ],
    run,
)
.files(&[
    ("/proc/PID/status, /proc/PID/task/TID/status", "What is set for the signal, before it is sent."),
    ("cgroup.kill, cgroup.freeze, freezer.state", "How all that is left is killed at once, also while it forks; and how a paused container is woken."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<Exit, Error> {
    let arguments: Stop = arguments(matches)?;
    let signal = arguments.signal.as_deref().map(named_signal).transpose()?;
    let ladder = arguments.ladder.as_deref().map(ladder).transpose()?;
    let host = context.host()?;
    // Whoever names one twice means it once: two stops of it would race.
    let mut known = HashSet::new();
    let targets: Vec<(&str, Result<Found, Error>)> = arguments
        .containers
        .iter()
        .map(|word| (word.as_str(), resolve(&host, word, Purpose::Act)))
        .filter(|(_, found)| {
            found.as_ref().map_or(true, |found| known.insert(found.container.qualified()))
        })
        .collect();
    let several = targets.len() > 1;
    let (sender, events) = channel();
    let outcomes: Vec<Result<Exit, Error>> = std::thread::scope(|scope| {
        let stopping = |(word, found): (&str, Result<Found, Error>), sender: Sender<Line>| {
            let order = Told { word, several, signal, ladder: ladder.as_ref() };
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
                Line::Text(text) if !broken => {
                    context.ui.clear_progress();
                    // Who reads no more has not asked us to stop what was begun.
                    broken = context.print(&text).is_err();
                }
                Line::Text(_) => {}
                Line::Progress(text) => context.ui.progress(&text),
            }
        }
        context.ui.clear_progress();
        let died = || Err(Error::new(Exit::Failed, "a thread of ours died"));
        let ended = each.into_iter().map(|thread| thread.join().unwrap_or_else(|_| vec![died()]));
        ended.flatten().collect()
    });
    let mut exit = Exit::Done;
    for outcome in outcomes {
        match outcome {
            Ok(other) if exit == Exit::Done => exit = other,
            Ok(_) => {}
            Err(error) if !several => return Err(error),
            Err(error) => {
                context.ui.warn(error.message().trim_start_matches("cinspect: ").trim_end());
                exit = if exit == Exit::Done { error.exit } else { exit };
            }
        }
    }
    Ok(exit)
}

enum Line {
    Text(String),
    Progress(String),
}

/// `QUIT:5s,TERM:10s,KILL`.
fn ladder(text: &str) -> Result<Way, Error> {
    let mut steps = Vec::new();
    let mut kill = false;
    let wrong = |why: String| {
        Error::new(Exit::Usage, format!("`{text}` is no ladder"))
            .because(why)
            .hint("steps with their times, as `QUIT:5s,TERM:10s,KILL`")
    };
    for step in text.split(',') {
        if kill {
            return Err(wrong("nothing comes after KILL".into()));
        }
        match step.split_once(':') {
            Some((signal, time)) => {
                let grace = duration(time).map_err(wrong)?;
                steps.push(Step { signal: named_signal(signal)?, grace });
            }
            None if named_signal(step)? == Signal::KILL => kill = true,
            None => return Err(wrong(format!("`{step}` has no time"))),
        }
    }
    Ok(Way { steps, first: First::Init, kill })
}

/// What was asked for, of one of them.
struct Told<'a> {
    word: &'a str,
    /// Whether there are others.
    several: bool,
    signal: Option<Signal>,
    ladder: Option<&'a Way>,
}

fn one(
    context: &Context,
    arguments: &Stop,
    found: &Found,
    told: &Told<'_>,
    lines: &Sender<Line>,
) -> Result<Exit, Error> {
    // (What there is to warn of was said as the containers were looked for.)
    let host = &context.hushed().host()?;
    let Told { word, several, signal, ladder } = *told;
    account(context, &found.container, &found.inventory);
    let plan = stop_plan(host, &found.container);
    let runtime = found.container.runtime;
    let mut way = ladder.cloned().unwrap_or_else(|| Way {
        steps: vec![Step {
            signal: signal.unwrap_or_else(|| plan.signal_of(runtime)),
            grace: arguments.time.unwrap_or_else(|| plan.grace_of(runtime)),
        }],
        first: First::Init,
        kill: !arguments.no_kill,
    });
    way.first = match arguments.order {
        Order::Init => First::Init,
        Order::All => First::All,
        Order::Leaves => First::Leaves,
    };
    let teller = Teller {
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
    let back = plan.comes_back(runtime);
    if let Some(why) = &back {
        context.ui.note(&format!("{}: {why}", safe_str(&teller.name)));
    }
    if arguments.dry_run {
        let thawing = may_be_stopped(found, arguments.thaw)?;
        if thawing {
            context.ui.note(&format!("{}: it would be thawed first", safe_str(&teller.name)));
        }
        return rehearse(host, found, &way, &teller);
    }
    may_act(host, "stop a container", Exit::NotPermitted)?;
    if may_be_stopped(found, arguments.thaw)? {
        let name = &teller.name;
        thaw(host, found).map_err(|why| {
            Error::new(Exit::Failed, format!("`{name}` cannot be thawed")).because(why)
        })?;
    }
    let gone = stop(host, found, &way, &mut |event| teller.tell(&event))?;
    if back.is_some() && gone {
        tell_of_return(context, host, word, found, &plan);
    }
    match (gone, way.kill) {
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::TimedOut),
        (false, true) => Err(Error::new(Exit::Failed, format!("`{word}` is not stopped"))
            .because("processes are left that KILL has not ended")
            .hint(format!(
                "`cinspect ps {}` shows them: frozen, or in a sleep that no signal ends",
                teller.name
            ))),
    }
}

/// A paused container takes no signal before it is thawed: whether that has to be done, or what to do
/// where it may not.
fn may_be_stopped(found: &Found, thawing: bool) -> Result<bool, Error> {
    let container = &found.container;
    if container.state != State::Paused || thawing {
        return Ok(container.state == State::Paused);
    }
    Err(Error::new(Exit::Failed, format!("`{}` is paused", container.qualified()))
        .because("a frozen process takes a signal only when it is thawed")
        .hint("`--thaw` wakes it first, or let its engine resume it"))
}

/// Whether the engine has started it again already.
fn tell_of_return(context: &Context, host: &Host, word: &str, found: &Found, plan: &StopPlan) {
    let name = found.container.qualified();
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(150));
        let Ok(again) = resolve(host, word, Purpose::Read) else { continue };
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
struct Teller<'a> {
    host: String,
    name: String,
    json: bool,
    color: bool,
    width: Option<usize>,
    arrow: &'static str,
    several: bool,
    /// Who was killed, and so ends by KILL as said.
    killed: RefCell<HashSet<HostPid>>,
    lines: &'a Sender<Line>,
}

impl Teller<'_> {
    fn tell(&self, event: &Event) {
        if let What::Waiting { left, rest } = &event.what {
            let rest = rest.map_or_else(String::new, |rest| format!(", {} left", age(rest)));
            let text = format!("{}waiting for {}{rest}", self.prefix(), processes(*left));
            let _ = self.lines.send(Line::Progress(text));
            return;
        }
        let who = event.who.as_ref().map(|who| who.host_pid);
        if let (What::Killed { .. }, Some(who)) = (&event.what, who) {
            self.killed.borrow_mut().insert(who);
        }
        let is_said = matches!(event.what, What::Exited(_))
            && who.is_some_and(|who| self.killed.borrow().contains(&who));
        if is_said && !self.json {
            return;
        }
        let line = if self.json { json::line(&self.object(event)) } else { self.text(event) };
        let _ = self.lines.send(Line::Text(line));
    }

    fn prefix(&self) -> String {
        if self.several { format!("{}: ", safe_str(&self.name)) } else { String::new() }
    }

    fn text(&self, event: &Event) -> String {
        let who = event.who.as_ref().map_or_else(String::new, name_of);
        let signal = event.signal.map_or_else(String::new, Signal::name);
        let arrow = self.arrow;
        let says = match &event.what {
            What::Planned => format!("would send {signal} {arrow} {who}{}", judged(event)),
            What::Signalled => format!("{signal} {arrow} {who}{}", judged(event)),
            What::Refused(why) => format!("{signal} {arrow} {who}: not sent: {why}"),
            What::Exited(None | Some(Ending::Status(0))) => format!("{who} left"),
            What::Exited(Some(Ending::Status(status))) => {
                format!("{who} left with status {status}")
            }
            What::Exited(Some(Ending::Signal(signal, core))) => {
                let core = if *core { ", with a core" } else { "" };
                format!("{who} ended by {signal}{core}")
            }
            What::GraceOver(left) => format!("time is over, {} left", processes(*left)),
            What::Killed { unheard: true } => {
                format!("{who} killed by the kernel with the end of PID 1, unheard")
            }
            What::Killed { unheard: false } => format!("KILL {arrow} {who}"),
            What::Stopped { graceful: true, .. } => "stopped: nobody had to be killed".into(),
            What::Stopped { killed, .. } => format!("stopped: {} killed", processes(*killed)),
            What::Left(left) => format!("not stopped: {} left", processes(*left)),
            What::Waiting { .. } => String::new(),
        };
        let tint = match &event.what {
            What::Refused(_) | What::Killed { .. } | What::Left(_) => Tint::Bad,
            What::GraceOver(_) | What::Stopped { graceful: false, .. } => Tint::Warn,
            What::Stopped { graceful: true, .. } => Tint::Good,
            _ => Tint::None,
        };
        let mut text = format!("{}{:>6.1}s  ", self.prefix(), event.at.as_secs_f64());
        let style = Style { color: self.color, ..Style::default() };
        let hang = width(&text);
        let room = self.width.map(|columns| columns.saturating_sub(hang).max(20));
        for (at, part) in wrap(&says, room).iter().enumerate() {
            if at > 0 {
                text.push_str(&format!("\n{}", " ".repeat(hang)));
            }
            paint(&mut text, part, tint.code(), &style);
        }
        text.push('\n');
        text
    }

    fn object(&self, event: &Event) -> Json {
        let mut object = Map::new();
        let name = match &event.what {
            What::Planned => "planned",
            What::Signalled | What::Refused(_) => "signalled",
            What::Exited(_) => "exited",
            What::GraceOver(_) => "grace-over",
            What::Killed { .. } => "killed",
            What::Stopped { .. } | What::Left(_) => "stopped",
            What::Waiting { .. } => "waiting",
        };
        let who = event.who.as_ref();
        object.insert("host".into(), json!(self.host));
        object.insert("container".into(), json!(self.name));
        object.insert("t".into(), json!((event.at.as_secs_f64() * 1000.0).round() / 1000.0));
        object.insert("event".into(), json!(name));
        object.insert("pid".into(), json!(who.and_then(|who| who.pid).map(|pid| pid.get())));
        object.insert("host_pid".into(), json!(who.map(|who| who.host_pid.get())));
        let comm = who.map(|who| crate::output::text::bytes_to_json(&who.comm));
        object.insert("comm".into(), comm.unwrap_or(Json::Null));
        object.insert("signal".into(), json!(event.signal.map(Signal::name)));
        let verdict = event.judgement.as_ref().map(|judgement| judgement.verdict.name());
        object.insert("verdict".into(), json!(verdict));
        let note = match &event.what {
            What::Refused(why) => Some(format!("not sent: {why}")),
            What::Killed { unheard: true } => Some("by the kernel, with the end of PID 1".into()),
            What::Exited(Some(Ending::Status(status))) => Some(format!("status {status}")),
            What::Exited(Some(Ending::Signal(signal, _))) => Some(format!("signal {signal}")),
            _ => event.judgement.as_ref().and_then(|judgement| judgement.note.clone()),
        };
        object.insert("note".into(), json!(note));
        match &event.what {
            What::Stopped { graceful, killed } => {
                object.insert("graceful".into(), json!(graceful));
                object.insert("killed".into(), json!(killed));
            }
            What::Left(left) => {
                object.insert("graceful".into(), json!(false));
                object.insert("left".into(), json!(left));
            }
            _ => {}
        }
        Json::Object(object)
    }
}

fn judged(event: &Event) -> String {
    event.judgement.as_ref().map_or_else(String::new, |Judgement { verdict, note, .. }| {
        let note = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        format!(": {}{note}", verdict.name())
    })
}

fn name_of(who: &Who) -> String {
    let pid = who.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}", safe(&who.comm))
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".into() } else { format!("{count} processes") }
}

/// Who would be told first, what that would do, and what follows.
fn rehearse(host: &Host, found: &Found, way: &Way, teller: &Teller<'_>) -> Result<Exit, Error> {
    let signals =
        way.steps.iter().fold(SignalSet::EMPTY, |all, step| all.union(SignalSet::of(step.signal)));
    let view = found.look(host, Facts { waits: signals, ..Facts::BARE })?;
    let mut at = Duration::ZERO;
    for step in &way.steps {
        for member in view.members.iter().filter(|member| member.inside) {
            let is_init = Some(member.process.id) == found.container.init;
            if way.first == First::Init && !is_init {
                continue;
            }
            teller.tell(&Event {
                at,
                what: What::Planned,
                who: Some(crate::action::stop::who(member)),
                signal: Some(step.signal),
                judgement: Some(view.judge(member, step.signal, To::Process)),
            });
        }
        at = at.saturating_add(step.grace);
    }
    if !teller.json {
        for line in outlook(&view, found, way) {
            let text = format!("{}{line}", teller.prefix());
            let text = wrap(&text, teller.width).join("\n");
            let _ = teller.lines.send(Line::Text(format!("{text}\n")));
        }
    }
    Ok(Exit::Done)
}

/// What follows from that, in words.
fn outlook(view: &View, found: &Found, way: &Way) -> Vec<String> {
    let mut lines = Vec::new();
    let init = view.members.iter().find(|m| Some(m.process.id) == found.container.init);
    let others = view.members.iter().filter(|member| member.inside).count().saturating_sub(1);
    let first = way.steps.first();
    if let (Some(init), Some(step)) = (init, first) {
        let judgement = view.judge(init, step.signal, To::Process);
        let leaves = judgement.verdict.is_end() || judgement.is_heard();
        if !leaves {
            let then = if way.kill { ", then KILL ends all of it" } else { "" };
            lines.push(format!(
                "PID 1 does not leave on {}: all of the time is waited{then}",
                step.signal
            ));
        } else if way.first == First::Init && others > 0 && found.container.owns_pid_ns {
            lines.push(format!(
                "when PID 1 leaves, the kernel kills those that it has not seen off: {} may go unheard",
                processes(others)
            ));
        }
    }
    lines
}
