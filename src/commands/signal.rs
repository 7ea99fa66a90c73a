//! `signal`: sends a signal to exactly the processes that are meant. Choosing is `analysis`' work,
//! confirming and sending is `act`'s; here it is decided what is done in which order, and told.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use regex::bytes::Regex;
use serde_json::Value as Json;

use super::{Command, account, arguments, command};
use crate::act::signal::{Held, Order, Refusal, allow_many, hold, kill_cgroup, wait};
use crate::analysis::selection::{Chosen, Selector, select};
use crate::cli::Context;
use crate::error::{Error, Exit};
use crate::model::capability;
use crate::model::pid::{ContainerPid, HostPid, ProcessId};
use crate::model::signal::{Signal, SignalNumber};
use crate::proc::{CommandLimit, Facts, Host, ThreadsToo};
use crate::render::column::{Style, defaults, object};
use crate::render::json;
use crate::render::signal_columns::{Outcome, SIGNAL_COLUMNS, SignalRow};
use crate::render::table::{Line, draw};
use crate::render::text::{parse_duration, safe_str};
use crate::target::view::{BARE_FACTS, View};
use crate::target::{Found, Purpose, resolve};

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
    #[arg(value_name = "SIG", required_unless_present = "list", allow_hyphen_values = true)]
    signal: Option<String>,
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
    group: Vec<ContainerPid>,
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
        value_parser = duration
    )]
    wait: Option<Option<Duration>>,
    /// KILL what is left after this time
    #[arg(short = 'k', long, value_name = "DUR", value_parser = duration)]
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
);

/// Rounds after which a container that forks faster than it is told is left to itself.
const MAX_ROUNDS: usize = 32;

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}; {}", error.hint()))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<Exit, Error> {
    let arguments: Send = arguments(matches)?;
    if arguments.list {
        context.print(&list())?;
        return Ok(Exit::Done);
    }
    let (Some(word), Some(signal)) = (&arguments.container, &arguments.signal) else {
        return Err(Error::new(Exit::Usage, "signal takes a container and a signal"));
    };
    let order = Order { signal: parse_signal(signal)?, value: arguments.queue };
    let selectors = arguments.selectors()?;
    let host = context.host()?;
    let found = resolve(&host, word, Purpose::Act)?;
    account(context, &found.container, &found.inventory);
    let view = found.look(&host, facts(&selectors))?;
    let chosen = choose(&found, &view, &selectors, arguments.except_init)?;
    if arguments.require_handler {
        refuse_without_handler(&view, &chosen, order.signal)?;
    }
    let mut job = Job {
        context,
        host: &host,
        found: &found,
        order,
        rows: Vec::new(),
        held: Vec::new(),
        forbidden: false,
    };
    if arguments.dry_run {
        job.rows = chosen.iter().map(|chosen| job.row(&view, *chosen, None)).collect();
        return job.tell();
    }
    host.may_act().map_err(|why| {
        Error::new(Exit::NotPermitted, "cannot send a signal from here")
            .because(why)
            .hint("run cinspect in the host's PID namespace (`--pid=host`, `hostPID: true`)")
    })?;
    job.send(&view, &chosen)?;
    if arguments.all {
        job.catch_up(&selectors, arguments.except_init);
    }
    let waited = arguments.finish(&mut job)?;
    let exit = job.tell()?;
    Ok(if exit == Exit::Done { waited } else { exit })
}

fn parse_signal(text: &str) -> Result<SignalNumber, Error> {
    SignalNumber::parse(text).map_err(|unknown| {
        let error = Error::new(Exit::Usage, unknown.to_string());
        match unknown.suggestion {
            Some(near) => {
                error.hint(format!("did you mean `{near}`? `cinspect signal -l` lists them"))
            }
            None => error.hint("`cinspect signal -l` lists them"),
        }
    })
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

fn facts(selectors: &[Selector]) -> Facts {
    let commands = selectors.iter().any(Selector::needs_commands);
    let threads = selectors.iter().any(Selector::needs_threads);
    Facts {
        // A signal must not depend on a command line that may never come, unless it is asked for.
        command: if commands { CommandLimit::WHOLE } else { CommandLimit::Nothing },
        threads: if threads { ThreadsToo::Yes } else { ThreadsToo::No },
        ..BARE_FACTS
    }
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
        selectors.extend(self.group.iter().copied().map(Selector::Group));
        selectors.extend(self.all.then_some(Selector::All));
        if selectors.is_empty() {
            if self.except_init {
                return Err(Error::new(Exit::Usage, "`--except-init` leaves nothing to signal")
                    .because("without a selector the init alone is meant")
                    .hint("for every process but the init, say `--all --except-init`"));
            }
            selectors.push(Selector::Init);
        }
        Ok(selectors)
    }

    /// Waits and kills as asked; the exit status that comes of it.
    fn finish(&self, job: &mut Job<'_>) -> Result<Exit, Error> {
        if self.wait.is_none() && self.kill_after.is_none() {
            return Ok(Exit::Done);
        }
        let begun = Instant::now();
        let limit = self.wait.flatten().and_then(|limit| begun.checked_add(limit));
        let kill = self.kill_after.and_then(|after| begun.checked_add(after));
        let first = [limit, kill].into_iter().flatten().min();
        let mut ended = job.wait(first)?;
        let mut killed = Vec::new();
        if let Some(kill) = kill
            && ended.iter().any(|ended| !ended)
            && limit.is_none_or(|limit| limit > kill)
        {
            killed = job.kill(&ended);
            // KILL cannot be refused, only be late (a frozen cgroup, uninterruptible sleep).
            let patience = Instant::now() + Duration::from_secs(10);
            ended = job.wait(Some(limit.map_or(patience, |limit| limit.min(patience))))?;
        }
        job.note_outcomes(&ended, &killed);
        Ok(if ended.iter().all(|ended| *ended) { Exit::Done } else { Exit::TimedOut })
    }
}

fn choose(
    found: &Found,
    view: &View,
    selectors: &[Selector],
    except_init: bool,
) -> Result<Vec<Chosen>, Error> {
    let container = &found.container;
    let chosen =
        select(&view.members, container.init_pid(), container.depth, selectors, except_init);
    let name = container.qualified();
    let chosen = chosen.map_err(|selector| {
        Error::new(Exit::NoProcess, format!("no such process in `{name}`"))
            .because(format!(
                "`{}` fits none of its {} processes",
                selector.typed(),
                view.members.len()
            ))
            .hint(format!("`cinspect ps {name}` shows them"))
    })?;
    if chosen.is_empty() {
        return Err(Error::new(Exit::NoProcess, format!("no such process in `{name}`"))
            .because("what was chosen is the init alone, and `--except-init` leaves it out"));
    }
    Ok(chosen)
}

fn refuse_without_handler(
    view: &View,
    chosen: &[Chosen],
    signal: SignalNumber,
) -> Result<(), Error> {
    let Some(signal) = signal.signal() else { return Ok(()) };
    let without: Vec<String> = chosen
        .iter()
        .map(|chosen| &view.members[chosen.member])
        .filter(|member| !member.process.status.sig_cgt.contains(signal))
        .map(|member| {
            let pid = member.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
            format!("{pid} ({})", String::from_utf8_lossy(&member.process.stat.comm))
        })
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    Err(Error::new(Exit::NothingSent, "nothing was sent")
        .because(format!("no handler for {signal} in {}", without.join(", ")))
        .hint("leave out `--require-handler` to send it all the same"))
}

/// A signal on its way to its targets.
struct Job<'a> {
    context: &'a Context,
    host: &'a Host,
    found: &'a Found,
    order: Order,
    rows: Vec<SignalRow>,
    /// For each row the process it is about, if it could be held.
    held: Vec<Option<Held>>,
    /// Whether the kernel forbade us one.
    forbidden: bool,
}

impl Job<'_> {
    fn row(&self, view: &View, chosen: Chosen, refusal: Option<Option<&Refusal>>) -> SignalRow {
        let member = view.members[chosen.member].clone();
        let depth = self.found.container.depth;
        let tid = chosen.thread.and_then(|tid| {
            let thread = member.process.threads.iter().find(|thread| thread.stat.pid == tid)?;
            thread.status.nspid.get(depth).copied()
        });
        SignalRow {
            labels: view.labels.clone(),
            member,
            tid,
            signal: self.order.signal.to_string(),
            sent: refusal.map(|refusal| refusal.is_none()),
            outcome: None,
            note: refusal.flatten().map(ToString::to_string),
        }
    }

    /// Holds all of them before the first is told, so that a limit that stops us stops us early.
    fn send(&mut self, view: &View, chosen: &[Chosen]) -> Result<(), Error> {
        allow_many();
        let held: Vec<Result<Held, Refusal>> = chosen
            .iter()
            .map(|chosen| {
                hold(self.host, &self.found.container, &view.members[chosen.member], chosen.thread)
            })
            .collect();
        for refusal in held.iter().filter_map(|held| held.as_ref().err()) {
            if let Some(error) = stopping(refusal) {
                return Err(error);
            }
        }
        self.deliver(view, chosen, held);
        Ok(())
    }

    fn deliver(&mut self, view: &View, chosen: &[Chosen], held: Vec<Result<Held, Refusal>>) {
        for (chosen, held) in chosen.iter().zip(held) {
            let sent = held.and_then(|held| held.send(self.order).map(|()| held));
            self.forbidden |= matches!(sent, Err(Refusal::NotPermitted));
            self.rows.push(self.row(view, *chosen, Some(sent.as_ref().err())));
            self.held.push(sent.ok());
        }
    }

    /// Goes round until a look at the container finds nobody who has not been told.
    fn catch_up(&mut self, selectors: &[Selector], except_init: bool) {
        let container = &self.found.container;
        if self.order.signal.signal() == Some(Signal::KILL) && !except_init {
            // The init's KILL takes its whole PID namespace; this is for what has no such init.
            let last = self.held.iter().flatten().next_back();
            if last.is_some_and(|init| kill_cgroup(self.host, container, init)) {
                return;
            }
        }
        let mut told: HashSet<ProcessId> =
            self.rows.iter().map(|row| row.member.process.id).collect();
        for _ in 0..MAX_ROUNDS {
            let Ok(view) = self.found.look(self.host, facts(selectors)) else { return };
            let Ok(chosen) = choose(self.found, &view, selectors, except_init) else { return };
            let new: Vec<Chosen> = chosen
                .into_iter()
                .filter(|chosen| {
                    let process = &view.members[chosen.member].process;
                    !process.stat.state.is_zombie() && told.insert(process.id)
                })
                .collect();
            if new.is_empty() {
                return;
            }
            let held = new
                .iter()
                .map(|chosen| hold(self.host, container, &view.members[chosen.member], None))
                .collect();
            self.deliver(&view, &new, held);
        }
        self.context.ui.warn(&format!(
            "{}: still making new processes after {MAX_ROUNDS} rounds; those of the last moment were not told",
            safe_str(&container.qualified())
        ));
    }

    fn wait(&self, until: Option<Instant>) -> Result<Vec<bool>, Error> {
        let held: Vec<&Held> = self.held.iter().flatten().collect();
        let mut ended = wait(&held, until)
            .map_err(|errno| Error::new(Exit::Failed, "cannot wait").because(errno))?
            .into_iter();
        // What was not held had gone.
        Ok(self.held.iter().map(|held| held.is_none() || ended.next().unwrap_or(true)).collect())
    }

    /// KILLs those that have not ended; tells which.
    fn kill(&self, ended: &[bool]) -> Vec<bool> {
        let order = Order { signal: SignalNumber::Signal(Signal::KILL), value: None };
        self.held
            .iter()
            .zip(ended)
            .map(|(held, ended)| {
                !ended && held.as_ref().is_some_and(|held| held.send(order).is_ok())
            })
            .collect()
    }

    fn note_outcomes(&mut self, ended: &[bool], killed: &[bool]) {
        for (at, row) in self.rows.iter_mut().enumerate() {
            let ended = ended.get(at).copied().unwrap_or(false);
            let killed = killed.get(at).copied().unwrap_or(false);
            row.outcome = Some(match (ended, killed) {
                (true, true) => Outcome::Killed,
                (true, false) => Outcome::Exited,
                (false, _) => Outcome::Running,
            });
        }
    }

    /// Prints what was done; the exit status that says the same.
    fn tell(&self) -> Result<Exit, Error> {
        let ui = &self.context.ui;
        if ui.json {
            let objects: Vec<Json> =
                self.rows.iter().map(|row| Json::Object(object(SIGNAL_COLUMNS, row))).collect();
            self.context.print(&json::lines(&objects))?;
        } else {
            let mut columns = defaults(SIGNAL_COLUMNS);
            let tid = SIGNAL_COLUMNS.iter().find(|column| column.name == "tid");
            if self.rows.iter().any(|row| row.tid.is_some()) {
                columns.splice(1..1, tid);
            }
            let style = Style {
                width: ui.width,
                color: ui.color,
                unicode: ui.unicode,
                now: jiff::Timestamp::now(),
                header: true,
                ..Style::default()
            };
            let lines: Vec<Line<'_, SignalRow>> = self.rows.iter().map(Line::flat).collect();
            self.context.print(&draw(&columns, &lines, &style))?;
        }
        if self.forbidden {
            let error = Error::new(Exit::NotPermitted, "not every signal was sent");
            let have = capability::have(caps::Capability::CAP_KILL);
            return Err(if have {
                error.because("the kernel forbids it (EPERM), though we have CAP_KILL")
            } else {
                error.because("it takes CAP_KILL, or the same user").hint("run as root")
            });
        }
        let sent = self.rows.iter().any(|row| row.sent != Some(false));
        if sent {
            return Ok(Exit::Done);
        }
        Err(Error::new(Exit::NoProcess, "nothing was sent")
            .because("every process that was meant had ended or changed")
            .hint("look again with `cinspect ps`"))
    }
}

/// A refusal that is no target's own affair and stops everything before anything is sent.
fn stopping(refusal: &Refusal) -> Option<Error> {
    let error = |exit| Error::new(exit, "nothing was sent").because(refusal);
    match refusal {
        Refusal::TooMany(_) => Some(error(Exit::Failed).hint("raise it with `ulimit -n`")),
        Refusal::NoPidfd => {
            Some(error(Exit::Failed).hint("cinspect sends signals on Linux 5.3 and later"))
        }
        Refusal::NotPermitted if !capability::have(caps::Capability::CAP_KILL) => {
            Some(error(Exit::NotPermitted).hint("run as root, or with CAP_KILL"))
        }
        _ => None,
    }
}
