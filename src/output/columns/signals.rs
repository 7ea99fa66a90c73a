//! THE COLUMN TABLE of `signals`: one line for each signal of each process.

use std::rc::Rc;

use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::Prediction;
use crate::model::process::Fact;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// A line of `signals`.
#[derive(Debug)]
pub struct SignalsRow {
    /// The container.
    pub context: Rc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// The signal.
    pub signal: Signal,
    /// What it would do.
    pub prediction: Prediction,
}

impl SignalsRow {
    /// Which threads block it; a thread that waits for it does not (`status` shows it so).
    pub fn blocked(&self) -> Option<Blocked> {
        let process = &self.process.facts;
        let main = process.status.sig_blk.contains(self.signal);
        let threads = &process.threads;
        if threads.len() < 2 {
            return Some(if main { Blocked::All } else { Blocked::None });
        }
        let block = threads.iter().filter(|t| t.status.sig_blk.contains(self.signal)).count();
        Some(match block {
            0 => Blocked::None,
            all if all == threads.len() => Blocked::All,
            some => Blocked::Some(some, threads.len()),
        })
    }

    /// `signalfd` or `sigwait`, where one of them waits for it.
    pub fn waited(&self) -> Option<&'static str> {
        let Fact::Known(waits) = &self.process.facts.waits else { return None };
        if waits.threads.iter().any(|thread| thread.awaited.contains(self.signal)) {
            return Some("sigwait");
        }
        waits.signalfds.iter().any(|fd| fd.set.contains(self.signal)).then_some("signalfd")
    }

    /// `default`, `ignored` or `caught`.
    pub fn disposition(&self) -> &'static str {
        let status = &self.process.facts.status;
        match () {
            () if status.sig_cgt.contains(self.signal) => "caught",
            () if status.sig_ign.contains(self.signal) => "ignored",
            () => "default",
        }
    }

    /// Whether it is pending for the process or a thread of it.
    pub fn pending(&self) -> bool {
        let process = &self.process.facts;
        let own = process.status.shd_pnd.union(process.status.sig_pnd);
        let threads = process.threads.iter().map(|thread| thread.status.sig_pnd);
        threads.fold(own, crate::model::signal::SignalSet::union).contains(self.signal)
    }

    /// Which thread alone it is pending for, by its number on the host.
    fn pending_thread(&self) -> Option<i32> {
        let mut threads = self.process.facts.threads.iter();
        let found = threads.find(|thread| thread.status.sig_pnd.contains(self.signal))?;
        (!self.process.facts.status.shd_pnd.contains(self.signal)).then_some(found.stat.pid)
    }

    /// Whether there is anything to say of it but what every program does.
    pub fn is_of_note(&self) -> bool {
        self.disposition() != "default"
            || self.blocked() != Some(Blocked::None)
            || self.pending()
            || self.waited().is_some()
    }
}

/// Which threads block a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// None of them.
    None,
    /// So many of so many.
    Some(usize, usize),
    /// All.
    All,
}

type Of = Column<SignalsRow>;

/// THE TABLE.
pub static SIGNALS_COLUMNS: &[Column<SignalsRow>] = &[
    Of::new("host", "HOST", "name of the host", |r| text(&r.context.host)).json("host"),
    Of::new("container", "CONTAINER", "the container, qualified", |r| text(&r.context.container))
        .json("container"),
    Of::new("pid", "PID", "process number inside", |r| {
        r.process.pid.map_or(Value::Absent, |p| Value::Int(p.get().into()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(255),
    Of::new("hpid", "HPID", "process number on the host", |r| {
        Value::Int(r.process.facts.id.pid.get().into())
    })
    .json("host_pid")
    .right()
    .priority(80),
    Of::new("comm", "COMM", "name of the process", |r| {
        Value::Bytes(r.process.facts.stat.comm.clone())
    })
    .json("comm")
    .shown()
    .priority(150),
    Of::new("signal", "SIGNAL", "the signal", |r| text(&r.signal.name()))
        .json("signal")
        .shown()
        .priority(255),
    Of::new("disposition", "DISPOSITION", "default, ignored or caught", |r| {
        Value::Text(r.disposition().into())
    })
    .json("disposition")
    .shown()
    .priority(120),
    Of::new("default", "DEFAULT", "what it does to who does nothing about it", |r| {
        text(r.signal.default_action().name())
    })
    .json("default_action")
    .shown()
    .priority(40),
    Of::new("blocked", "BLOCKED", "by none, some or all of its threads", |r| match r.blocked() {
        Some(Blocked::None) => Value::Text("none".into()),
        Some(Blocked::All) => Value::Text("all".into()),
        Some(Blocked::Some(..)) => Value::Text("some".into()),
        None => Value::Denied,
    })
    .json("blocked"),
    Of::new("threads", "BLOCKED BY", "how many of its threads block it", |r| match r.blocked() {
        Some(Blocked::None) => Value::Absent,
        Some(Blocked::All) => Value::Text("all".into()),
        Some(Blocked::Some(some, of)) => text(&format!("{some} of {of} threads")),
        None => Value::Denied,
    })
    .shown()
    .priority(110),
    Of::new("pending", "PENDING", "whether one waits to be taken", |r| Value::Bool(r.pending()))
        .json("pending"),
    Of::new("queued", "QUEUED", "for whom one waits: the process, or one thread", |r| {
        match (r.pending(), r.pending_thread()) {
            (false, _) => Value::Absent,
            (true, None) => Value::Text("process".into()),
            (true, Some(tid)) => text(&format!("thread {tid}")),
        }
    })
    .shown()
    .priority(100),
    Of::new("waited", "WAITED", "who waits for it: signalfd, sigwait", |r| {
        r.waited().map_or(Value::Absent, |who| Value::Text(who.into()))
    })
    .json("waited")
    .shown()
    .priority(105),
    Of::new("verdict", "VERDICT", "what it would do", |r| {
        Value::Text(r.prediction.verdict.name().into())
    })
    .json("verdict")
    .shown()
    .priority(250)
    .emphasis(tint),
    Of::new("note", "NOTE", "why, where that is not plain", |r| {
        r.prediction.note.as_deref().map_or(Value::Absent, text)
    })
    .json("note")
    .flexible()
    .shown()
    .priority(90),
];

fn text(text: &str) -> Value {
    Value::Text(text.to_owned().into())
}

fn tint(row: &SignalsRow) -> Emphasis {
    match row.prediction.verdict {
        Verdict::Discarded | Verdict::Pending => Emphasis::Bad,
        Verdict::Delayed | Verdict::Unknown => Emphasis::Warning,
        Verdict::Handled | Verdict::Accepted => Emphasis::Good,
        _ => Emphasis::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(crate::output::column::audit(SIGNALS_COLUMNS), Vec::<String>::new());
    }
}
