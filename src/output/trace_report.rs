//! Text and JSON of a trace: a line for each event, and its end. Nothing here prints.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::escape::safe;
use super::json::{bytes_to_json, line};
use super::style::{Emphasis, Style};
use super::width::width;
use crate::analysis::trace_outcome::{SignalOrigin, SignalOutcome, code_name};
use crate::model::byte_size::size;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;
use crate::resolve::traced_processes::TracedProcess;
use crate::sys::pidfd::Ending;

/// Widths of the columns before the last one, and of the gap between two.
struct TraceLayout {
    /// Format of the time, strftime(3).
    clock: &'static str,
    time: usize,
    event: usize,
    signal: usize,
    result: usize,
    target: usize,
    gap: usize,
}

const WIDE: TraceLayout = TraceLayout {
    clock: "%H:%M:%S%.6f",
    time: 15,
    event: 7,
    signal: 8,
    result: 16,
    target: 24,
    gap: 2,
};
/// The layout for terminals of 80 columns; longer words push the others to the right.
const NARROW: TraceLayout = TraceLayout {
    clock: "%H:%M:%S%.3f",
    time: 12,
    event: 7,
    signal: 6,
    result: 10,
    target: 10,
    gap: 1,
};
/// Columns from which the wide layout is used.
const WIDE_FROM: usize = 110;

/// An event of a trace.
#[derive(Debug)]
pub enum TraceEvent {
    /// A signal was sent.
    Signal {
        /// The signal.
        signal: Signal,
        /// `si_code`.
        code: i32,
        /// Its origin.
        origin: SignalOrigin,
        /// The process that sent it, where one did and it is known.
        sender: Option<TracedProcess>,
        /// The outcome.
        outcome: SignalOutcome,
        /// The verdict, if the facts that it takes are known and held before and after.
        verdict: Option<Verdict>,
        /// The verdict, if the outcome contradicts it.
        contradicted: Option<Verdict>,
    },
    /// A signal was taken.
    Deliver {
        /// The signal.
        signal: Signal,
        /// `si_code`.
        code: i32,
        /// Its effect.
        outcome: SignalOutcome,
        /// The verdict when it was sent, if the effect contradicts it.
        contradicted: Option<Verdict>,
    },
    /// The process exited; its status if it is known, and the verdict on a signal that it contradicts.
    Exit(Option<Ending>, Option<Verdict>),
    /// The OOM killer chose the process; its anonymous memory if it is known.
    Oom(Option<u64>),
}

impl TraceEvent {
    fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Signal { verdict, .. } => *verdict,
            _ => self.contradicted(),
        }
    }

    /// Returns the verdict that it contradicts.
    fn contradicted(&self) -> Option<Verdict> {
        match self {
            Self::Signal { contradicted, .. } | Self::Deliver { contradicted, .. } => *contradicted,
            Self::Exit(_, contradicted) => *contradicted,
            Self::Oom(_) => None,
        }
    }
}

/// Makes text of the events of a trace.
pub struct TraceReporter {
    /// The host's name.
    pub host: String,
    /// Whether JSON is wanted.
    pub json: bool,
    /// How to show text.
    pub style: Style,
    /// Whether targets are shown with their containers.
    pub names_containers: bool,
}

impl TraceReporter {
    /// Returns the line above all others.
    pub fn header(&self) -> String {
        if self.json {
            return String::new();
        }
        let layout = self.layout();
        let words = [
            ("TIME", layout.time),
            ("EVENT", layout.event),
            ("SIGNAL", layout.signal),
            ("RESULT", layout.result),
            ("TARGET", layout.target),
        ];
        let (mut out, mut text) = (String::new(), String::new());
        for (word, columns) in words {
            text.push_str(word);
            pad(&mut text, word, columns + layout.gap);
        }
        text.push_str("FROM");
        self.style.paint(&mut out, &text, Emphasis::Heading);
        out.push('\n');
        out
    }

    fn layout(&self) -> &'static TraceLayout {
        match self.style.width {
            Some(..WIDE_FROM) => &NARROW,
            _ => &WIDE,
        }
    }

    /// Returns the line of an event.
    pub fn line(&self, time: Timestamp, target: &TracedProcess, event: &TraceEvent) -> String {
        match self.json {
            true => line(&self.object(time, target, event)),
            false => self.text(time, target, event),
        }
    }

    /// Returns the line about records that were lost before this time.
    pub fn lost(&self, time: Timestamp, records: u64) -> String {
        if self.json {
            let time = time.to_string();
            return line(
                &json!({"host": self.host, "time": time, "event": "lost", "lost": records}),
            );
        }
        let layout = self.layout();
        let mut out = self.clock(time);
        self.style.paint(&mut out, "lost", Emphasis::Bad);
        pad(&mut out, "lost", layout.event + layout.gap);
        out.push_str(&format!("{records} records: more came than could be read\n"));
        out
    }

    /// Returns the time of day, with the blanks after it.
    fn clock(&self, time: Timestamp) -> String {
        let layout = self.layout();
        let text = time.to_zoned(TimeZone::system()).strftime(layout.clock).to_string();
        let mut out = text.clone();
        pad(&mut out, &text, layout.time + layout.gap);
        out
    }

    fn object(&self, time: Timestamp, target: &TracedProcess, event: &TraceEvent) -> Json {
        let (name, signal, sender, result, code) = match event {
            TraceEvent::Signal { signal, code, sender, outcome, .. } => {
                ("signal", Some(*signal), sender.as_ref(), Some(outcome.name().into()), Some(*code))
            }
            TraceEvent::Deliver { signal, code, outcome, .. } => {
                ("deliver", Some(*signal), None, Some(outcome.name().into()), Some(*code))
            }
            TraceEvent::Exit(ending, _) => {
                let signal = ending.and_then(Ending::signal);
                ("exit", signal, None, ending.map(describe), None)
            }
            TraceEvent::Oom(rss) => ("oom", None, None, rss.map(|bytes| bytes.to_string()), None),
        };
        let status = match event {
            TraceEvent::Exit(Some(Ending::Status(status)), _) => Some(*status),
            _ => None,
        };
        let code = code.map(|code| match code_name(code) {
            Some(name) => Json::from(name),
            None => Json::from(code),
        });
        json!({
            "host": self.host,
            "time": time.to_string(),
            "event": name,
            "signal": signal.map(Signal::name),
            "sender": sender.map(process_object),
            "target": process_object(target),
            "result": result,
            "code": code,
            "status": status,
            "verdict": event.verdict().map(Verdict::name),
            "contradicted": event.contradicted().is_some(),
        })
    }

    fn text(&self, time: Timestamp, target: &TracedProcess, event: &TraceEvent) -> String {
        let layout = self.layout();
        let (name, signal, result, emphasis) = match event {
            TraceEvent::Signal { signal, outcome, .. } => {
                ("signal", Some(*signal), outcome.name().to_owned(), emphasis(*outcome))
            }
            TraceEvent::Deliver { signal, outcome, .. } => {
                ("deliver", Some(*signal), outcome.name().to_owned(), emphasis(*outcome))
            }
            TraceEvent::Exit(ending, _) => {
                let text = ending.map_or_else(|| "status unknown".to_owned(), describe);
                let is_good = matches!(ending, Some(Ending::Status(0)));
                let emphasis = if is_good { Emphasis::None } else { Emphasis::Warning };
                ("exit", None, text, emphasis)
            }
            TraceEvent::Oom(rss) => {
                let text = rss.map_or_else(String::new, |bytes| format!("RSS {}", size(bytes)));
                ("oom", None, text, Emphasis::Bad)
            }
        };
        let signal = signal.map(Signal::name).unwrap_or_default();
        let mut out = self.clock(time);
        for (text, columns) in [(name, layout.event), (signal.as_str(), layout.signal)] {
            out.push_str(text);
            pad(&mut out, text, columns + layout.gap);
        }
        self.style.paint(&mut out, &result, emphasis);
        pad(&mut out, &result, layout.result + layout.gap);
        let target = self.named(target, self.names_containers);
        out.push_str(&target);
        if let TraceEvent::Signal { origin, sender, .. } = event {
            pad(&mut out, &target, layout.target + layout.gap);
            out.push_str(&self.from(*origin, sender.as_ref()));
        }
        out.push('\n');
        if let Some(verdict) = event.contradicted() {
            pad(&mut out, "", layout.time + layout.gap);
            let text = format!("contradicts the verdict `{}`", verdict.name());
            self.style.paint(&mut out, &text, Emphasis::Bad);
            out.push('\n');
        }
        out
    }

    /// Returns the origin of a signal.
    fn from(&self, origin: SignalOrigin, sender: Option<&TracedProcess>) -> String {
        let Some(sender) = sender else { return origin.describe().to_owned() };
        let user = sender.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        let role = if origin == SignalOrigin::Child { "child " } else { "" };
        format!("{role}{}{user}", self.named(sender, true))
    }

    /// Returns a process: its PID in the container and its name, with its container if that is wanted; of
    /// the host, its host PID.
    fn named(&self, process: &TracedProcess, with_container: bool) -> String {
        let comm = match process.comm.is_empty() {
            true => "(gone)".into(),
            false => safe(&process.comm),
        };
        match (&process.container, process.pid) {
            (Some(container), Some(pid)) if with_container => {
                format!("{pid} {comm} in {container}")
            }
            (Some(container), None) if with_container => {
                format!("host PID {} {comm} in {container}", process.host_pid)
            }
            (Some(_), Some(pid)) => format!("{pid} {comm}"),
            _ => format!("host PID {} {comm}", process.host_pid),
        }
    }

    /// Returns the end of the trace: the routine signals that were only counted, lost records, and verdicts
    /// that the kernel contradicted.
    pub fn summary(
        &self,
        routine: &BTreeMap<Signal, u64>,
        lost: u64,
        contradicted: u64,
    ) -> Vec<String> {
        if self.json {
            let counts: serde_json::Map<String, Json> =
                routine.iter().map(|(signal, count)| (signal.name(), (*count).into())).collect();
            return vec![line(&json!({
                "host": self.host, "event": "end", "routine": counts, "lost": lost,
                "contradicted": contradicted,
            }))];
        }
        let counts: Vec<String> =
            routine.iter().map(|(signal, count)| format!("{count} {}", signal.name())).collect();
        let routine = (!counts.is_empty()).then(|| {
            format!("routine signals, counted only: {} (name them to see them)", counts.join(", "))
        });
        let contradicted = (contradicted > 0).then(|| {
            format!("the kernel contradicted {contradicted} verdicts: a process changed its dispositions briefly, or the verdicts are wrong")
        });
        routine.into_iter().chain(contradicted).collect()
    }
}

/// Appends spaces up to the width of a column, and one at least.
fn pad(out: &mut String, text: &str, columns: usize) {
    let missing = columns.saturating_sub(width(text)).max(1);
    out.extend(std::iter::repeat_n(' ', missing));
}

fn emphasis(outcome: SignalOutcome) -> Emphasis {
    match outcome {
        SignalOutcome::Handler => Emphasis::Good,
        SignalOutcome::Terminates | SignalOutcome::Stops => Emphasis::Bad,
        SignalOutcome::Queued | SignalOutcome::NoEffect => Emphasis::None,
        _ => Emphasis::Warning,
    }
}

/// Returns the end of a process in words.
fn describe(ending: Ending) -> String {
    match ending {
        Ending::Status(status) => format!("status {status}"),
        Ending::Signal(signal, dumped) => {
            let core = if dumped { ", core dumped" } else { "" };
            format!("by {}{core}", signal.name())
        }
    }
}

fn process_object(process: &TracedProcess) -> Json {
    json!({
        "pid": process.pid,
        "host_pid": process.host_pid,
        "comm": (!process.comm.is_empty()).then(|| bytes_to_json(&process.comm)),
        "container": process.container.as_deref(),
        "uid": process.uid,
    })
}
