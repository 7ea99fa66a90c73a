//! Text and JSON of a stop: a line per event. The only place where an event becomes text. Nothing here prints.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::escape::{safe, safe_str};
use super::json::{bytes_to_json, line};
use super::style::{Emphasis, Style};
use super::units::age;
use super::width::{width, wrap};
use crate::action::stop::{Killer, ProcessRef, StopEvent, StopEventKind};
use crate::analysis::delivery::Prediction;
use crate::analysis::wording::processes;
use crate::model::pid::HostPid;
use crate::model::signal::Signal;
use crate::sys::pidfd::Ending;

/// Something to show.
pub enum ReportLine {
    /// Lines of the answer.
    Answer(String),
    /// The processes that are waited for, shown until the next line.
    Progress(String),
}

/// Makes text of the events of one container.
pub struct StopReporter {
    /// The host's name.
    pub host: String,
    /// The container, in qualified form.
    pub container: String,
    /// Whether JSON is wanted.
    pub json: bool,
    /// How to show text.
    pub style: Style,
    /// Columns for the container's name before each line; 0 for no name.
    pub name_width: usize,
    /// Processes whose KILL was reported: their exit is not reported again.
    pub killed: RefCell<HashSet<HostPid>>,
    /// The settings that the stop assumed, for the last event.
    pub assumed: Vec<String>,
    /// Whether it is running again after the stop, for the last event.
    pub running_again: Cell<Option<RunningAgain>>,
}

/// A container that is running again after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningAgain {
    /// Its new init.
    pub pid: HostPid,
    /// The engine that started it, if its restart policy says so.
    pub by: Option<&'static str>,
}

/// A sentence, and the words of it that have a colour.
struct Sentence {
    text: String,
    highlight: Option<(String, Emphasis)>,
}

impl Sentence {
    fn plain(text: String) -> Self {
        Self { text, highlight: None }
    }

    fn highlighted(text: String, words: impl Into<String>, emphasis: Emphasis) -> Self {
        Self { text, highlight: Some((words.into(), emphasis)) }
    }
}

impl StopReporter {
    /// Returns the text for an event, if there is one.
    pub fn line(&self, event: &StopEvent) -> Option<ReportLine> {
        if let StopEventKind::Waiting { running, remaining } = &event.kind {
            let remaining =
                remaining.map_or_else(String::new, |time| format!(", {} remaining", age(time)));
            let text = format!("{}waiting for {}{remaining}", self.prefix(), processes(*running));
            return Some(ReportLine::Progress(text));
        }
        let is_news = self.note_killed(&event.kind);
        match (self.json, is_news) {
            (true, _) => Some(ReportLine::Answer(line(&self.object(event)))),
            (false, true) => Some(ReportLine::Answer(self.text(event))),
            (false, false) => None,
        }
    }

    /// Remembers a KILL. Returns false for the exit of a process whose KILL was reported.
    fn note_killed(&self, kind: &StopEventKind) -> bool {
        let mut killed = self.killed.borrow_mut();
        match kind {
            StopEventKind::Killed { process, .. } => {
                killed.insert(process.host_pid);
                true
            }
            StopEventKind::Exited { process, .. } => !killed.contains(&process.host_pid),
            _ => true,
        }
    }

    /// Returns the container's name in its column, if there are several containers.
    fn prefix(&self) -> String {
        if self.name_width == 0 {
            return String::new();
        }
        let name = safe_str(&self.container);
        let padding = self.name_width.saturating_sub(width(&name));
        format!("{name}{}  ", " ".repeat(padding))
    }

    fn text(&self, event: &StopEvent) -> String {
        let mut text = format!("{}{:>6.1}s  ", self.prefix(), event.time.as_secs_f64());
        let indent = width(&text);
        let room = self.style.width.map(|columns| columns.saturating_sub(indent).max(20));
        let Sentence { text: sentence, mut highlight } = self.sentence(&event.kind);
        for (index, part) in wrap(&sentence, room).iter().enumerate() {
            if index > 0 {
                text.push_str(&format!("\n{}", " ".repeat(indent)));
            }
            let found = highlight.as_ref().and_then(|(words, _)| part.split_once(words.as_str()));
            match (found, highlight.take()) {
                (Some((before, after)), Some((words, emphasis))) => {
                    text.push_str(before);
                    self.style.paint(&mut text, &words, emphasis);
                    text.push_str(after);
                }
                (_, pending) => {
                    highlight = pending;
                    text.push_str(part);
                }
            }
        }
        text.push('\n');
        text
    }

    fn sentence(&self, kind: &StopEventKind) -> Sentence {
        let arrow = if self.style.unicode { "→" } else { "->" };
        let process = kind.process().map_or_else(String::new, name);
        let effect = kind.prediction().map_or_else(String::new, effect);
        match kind {
            StopEventKind::Signalled { signal, .. } => {
                Sentence::plain(format!("{signal} {arrow} {process}{effect}"))
            }
            StopEventKind::Refused { signal, error, .. } => {
                let signal = signal.map_or_else(String::new, |s| format!("{s} {arrow} "));
                let text = format!("{signal}{process}: not sent: {error}");
                Sentence::highlighted(text, "not sent", Emphasis::Bad)
            }
            StopEventKind::Exited { ending, .. } => {
                Sentence::plain(format!("{process} {}", exited(*ending)))
            }
            StopEventKind::Killed { by: Killer::Stop, .. } => {
                Sentence::highlighted(format!("KILL {arrow} {process}"), "KILL", Emphasis::Bad)
            }
            StopEventKind::Killed { by: Killer::Kernel { stop_signal, was_signalled }, .. } => {
                let signalled = match was_signalled {
                    true => format!("had not exited on {stop_signal}"),
                    false => format!("was not sent {stop_signal}"),
                };
                let killed = "killed by the kernel";
                let text = format!("{process} {killed} when PID 1 exited ({signalled})");
                Sentence::highlighted(text, killed, Emphasis::Bad)
            }
            StopEventKind::Killed { by: Killer::Other, .. } => {
                let killed = "killed by its engine, the kernel or another process";
                Sentence::highlighted(format!("{process} {killed}"), killed, Emphasis::Bad)
            }
            StopEventKind::Waiting { .. } => Sentence::plain(String::new()),
            StopEventKind::GraceOver { running } => {
                let text = format!("grace period expired, {} still running", processes(*running));
                Sentence::highlighted(text, "grace period expired", Emphasis::Warning)
            }
            StopEventKind::Stopped { killed: 0, unknown: 1.. } => Sentence::highlighted(
                "stopped; it is unknown whether any process was killed: an exit status could not be read, or KILL ended the init (reboot(2) looks the same)"
                    .into(),
                "unknown",
                Emphasis::Warning,
            ),
            StopEventKind::Stopped { killed: 0, .. } => Sentence::highlighted(
                "stopped cleanly (no SIGKILL needed)".into(),
                "stopped cleanly",
                Emphasis::Good,
            ),
            StopEventKind::Stopped { killed, .. } => {
                let killed = format!("{} killed", processes(*killed));
                Sentence::highlighted(format!("stopped: {killed}"), killed, Emphasis::Warning)
            }
            StopEventKind::NotStopped { running, unknown, .. } => {
                let since = if *unknown > 0 { ", started after its init had exited" } else { "" };
                let text = format!("not stopped: {} still running{since}", processes(*running));
                Sentence::highlighted(text, "not stopped", Emphasis::Bad)
            }
        }
    }

    fn object(&self, event: &StopEvent) -> Json {
        let kind = &event.kind;
        let process = kind.process();
        let mut object = Map::new();
        let mut insert = |key: &str, value: Json| object.insert(key.into(), value);
        insert("host", json!(self.host));
        insert("container", json!(self.container));
        insert("t", json!((event.time.as_secs_f64() * 1000.0).round() / 1000.0));
        insert("event", json!(event_name(kind)));
        insert("pid", json!(process.and_then(|process| process.pid).map(|pid| pid.get())));
        insert("host_pid", json!(process.map(|process| process.host_pid.get())));
        insert("comm", process.map_or(Json::Null, |process| bytes_to_json(&process.comm)));
        insert("signal", json!(kind.signal().map(Signal::name)));
        insert("verdict", json!(kind.prediction().map(|p| p.verdict.name())));
        insert("note", json!(note(kind)));
        match kind {
            StopEventKind::Stopped { killed, unknown } => {
                let is_known = *killed > 0 || *unknown == 0;
                insert("graceful", json!(is_known.then_some(*killed == 0)));
                insert("killed", json!(killed));
                let again = self.running_again.get();
                let again = again.map(|again| json!({"pid": again.pid.get(), "by": again.by}));
                insert("running_again", json!(again));
                insert("assumed", json!(self.assumed));
            }
            StopEventKind::NotStopped { running, killed, .. } => {
                insert("graceful", json!(false));
                insert("killed", json!(killed));
                insert("left", json!(running));
                insert("running_again", Json::Null);
                insert("assumed", json!(self.assumed));
            }
            _ => {}
        }
        Json::Object(object)
    }
}

fn event_name(kind: &StopEventKind) -> &'static str {
    match kind {
        StopEventKind::Signalled { .. } | StopEventKind::Refused { .. } => "signalled",
        StopEventKind::Exited { .. } => "exited",
        StopEventKind::GraceOver { .. } => "grace-over",
        StopEventKind::Killed { .. } => "killed",
        StopEventKind::Stopped { .. } | StopEventKind::NotStopped { .. } => "stopped",
        StopEventKind::Waiting { .. } => "waiting",
    }
}

fn note(kind: &StopEventKind) -> Option<String> {
    match kind {
        StopEventKind::Refused { error, .. } => Some(format!("not sent: {error}")),
        StopEventKind::Killed { by: Killer::Kernel { .. }, .. } => {
            Some("by the kernel, when PID 1 exited".into())
        }
        StopEventKind::Killed { by: Killer::Other, .. } => {
            Some("by its engine, the kernel or another process".into())
        }
        StopEventKind::Exited { ending: Some(Ending::Status(status)), .. } => {
            Some(format!("status {status}"))
        }
        StopEventKind::Exited { ending: Some(Ending::Signal(signal, _)), .. } => {
            Some(format!("signal {signal}"))
        }
        _ => kind.prediction().and_then(|prediction| prediction.note.clone()),
    }
}

fn exited(ending: Option<Ending>) -> String {
    match ending {
        None | Some(Ending::Status(0)) => "exited".into(),
        Some(Ending::Status(status)) => format!("exited with status {status}"),
        Some(Ending::Signal(signal, true)) => format!("terminated by {signal}, core dumped"),
        Some(Ending::Signal(signal, false)) => format!("terminated by {signal}"),
    }
}

fn effect(Prediction { verdict, note, .. }: &Prediction) -> String {
    let note = note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
    format!(": {}{note}", verdict.name())
}

/// Names a process: `13 nginx`.
fn name(process: &ProcessRef) -> String {
    let pid = process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}", safe(&process.comm))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::pid::ContainerPid;

    fn reporter(container: &str, name_width: usize, color: bool) -> StopReporter {
        StopReporter {
            host: "host".into(),
            container: container.into(),
            json: false,
            style: Style { width: Some(60), color, unicode: true },
            name_width,
            killed: RefCell::default(),
            assumed: Vec::new(),
            running_again: Cell::default(),
        }
    }

    fn text(reporter: &StopReporter, kind: StopEventKind) -> String {
        match reporter.line(&StopEvent { time: Duration::from_millis(10_040), kind }) {
            Some(ReportLine::Answer(text)) => text,
            Some(ReportLine::Progress(text)) => format!("({text})"),
            None => String::new(),
        }
    }

    fn java() -> ProcessRef {
        let host_pid = HostPid::new(5000).unwrap();
        ProcessRef { pid: ContainerPid::new(1), host_pid, comm: b"java".to_vec() }
    }

    fn exited(ending: Ending) -> StopEventKind {
        StopEventKind::Exited { process: java(), ending: Some(ending) }
    }

    #[test]
    fn says_how_each_process_ended() {
        let line = |kind| text(&reporter("docker:web", 0, false), kind);
        assert_eq!(line(exited(Ending::Status(143))), "  10.0s  1 java exited with status 143\n");
        let aborted = Ending::Signal(Signal::ABRT, true);
        assert_eq!(line(exited(aborted)), "  10.0s  1 java terminated by ABRT, core dumped\n");
        let by = Killer::Kernel { stop_signal: Signal::TERM, was_signalled: false };
        let killed = StopEventKind::Killed { process: java(), by, prediction: None };
        assert_eq!(
            line(killed),
            "  10.0s  1 java killed by the kernel when PID 1 exited (was\n         not sent TERM)\n"
        );
        assert_eq!(
            line(StopEventKind::GraceOver { running: 1 }),
            "  10.0s  grace period expired, 1 process still running\n"
        );
        assert_eq!(
            line(StopEventKind::Stopped { killed: 0, unknown: 0 }),
            "  10.0s  stopped cleanly (no SIGKILL needed)\n"
        );
    }

    #[test]
    fn lines_of_several_containers_are_aligned() {
        let lines = ["docker:db", "docker:web"].map(|name| {
            text(&reporter(name, 10, false), StopEventKind::Stopped { killed: 2, unknown: 1 })
        });
        assert_eq!(lines[0], "docker:db     10.0s  stopped: 2 processes killed\n");
        assert_eq!(lines[1], "docker:web    10.0s  stopped: 2 processes killed\n");
    }

    #[test]
    fn colours_only_the_words_that_matter() {
        let line = text(&reporter("docker:web", 0, true), StopEventKind::GraceOver { running: 2 });
        assert_eq!(
            line,
            "  10.0s  \x1b[33mgrace period expired\x1b[0m, 2 processes still running\n"
        );
    }

    #[test]
    fn the_exit_of_a_killed_process_is_not_reported() {
        let reporter = reporter("docker:web", 0, false);
        let kill = StopEventKind::Killed { process: java(), by: Killer::Stop, prediction: None };
        assert_eq!(text(&reporter, kill), "  10.0s  KILL → 1 java\n");
        assert_eq!(text(&reporter, exited(Ending::Signal(Signal::KILL, false))), "");
    }
}
