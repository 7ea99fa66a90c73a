//! THE COLUMN TABLE of `ps`: one line a column. Headers, `-o` and its help, `--sort` and the JSON
//! keys all come from here.

use std::rc::Rc;

use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::Prediction;
use crate::model::capability;
use crate::model::process::{Fact, Times};
use crate::model::signal::Signal;
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// A line of `ps`: a process, or one thread of it.
#[derive(Clone, Debug)]
pub struct PsRow {
    /// The container.
    pub context: Rc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// The thread's place among the process's, when the line is a thread's.
    pub thread: Option<usize>,
    /// Where its number inside stands in the NSpid lines.
    pub depth: usize,
    /// The signal that is asked about.
    pub signal: Signal,
    /// What it would do; none where that was not looked at.
    pub prediction: Option<Prediction>,
    /// When it was seen last, where it has left since.
    pub until: Option<jiff::Timestamp>,
}

impl PsRow {
    fn thread(&self) -> Option<&crate::model::process::Thread> {
        self.process.facts.threads.get(self.thread?)
    }

    fn status(&self) -> &Status {
        self.thread().map_or(&self.process.facts.status, |thread| &thread.status)
    }

    fn stat(&self) -> &Stat {
        self.thread().map_or(&self.process.facts.stat, |thread| &thread.stat)
    }

    fn times(&self) -> Times {
        self.thread().map_or(self.process.facts.times, |thread| thread.times)
    }
}

type PsColumn = Column<PsRow>;

/// THE TABLE. Worth: the column of least worth goes first when the terminal is narrow.
pub static PS_COLUMNS: &[PsColumn] = &[
    PsColumn::new("host", "HOST", "name of the host", |r| text(&r.context.host)).json("host"),
    PsColumn::new("container", "CONTAINER", "the container, qualified", |r| {
        text(&r.context.container)
    })
    .json("container")
    .priority(200),
    PsColumn::new("id", "ID", "the container's id", |r| {
        r.context.id.as_deref().map_or(Value::Absent, text)
    })
    .json("id"),
    PsColumn::new("pid", "PID", "process number inside the container", |r| {
        r.process.pid.map_or(Value::Absent, |p| int(p.get()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(255),
    PsColumn::new("hpid", "HPID", "process number on the host", |r| {
        int(r.process.facts.id.pid.get())
    })
    .json("host_pid")
    .right()
    .shown()
    .priority(90),
    PsColumn::new("ppid", "PPID", "parent's number inside; 0 when that is outside", |r| {
        int(r.process.ppid)
    })
    .json("ppid")
    .right()
    .priority(60),
    PsColumn::new("hppid", "HPPID", "parent's number on the host", |r| {
        int(r.process.facts.stat.ppid)
    })
    .json("host_ppid")
    .right()
    .priority(50),
    PsColumn::new("tid", "TID", "thread number inside", tid).json("tid").right().priority(240),
    PsColumn::new("htid", "HTID", "thread number on the host", |r| {
        r.thread().map_or(Value::Absent, |t| int(t.stat.pid))
    })
    .json("host_tid")
    .right()
    .priority(80),
    PsColumn::new("uid", "UID", "real user, number inside", |r| {
        r.process.uid.map_or(Value::Absent, |uid| Value::Int(uid.into()))
    })
    .json("uid")
    .right()
    .priority(60),
    PsColumn::new("huid", "HUID", "real user, number on the host", |r| {
        Value::Int(r.status().uid[0].into())
    })
    .json("host_uid")
    .right()
    .watched()
    .priority(50),
    PsColumn::new("user", "USER", "real user as named inside", user)
        .json("user")
        .shown()
        .watched()
        .priority(70),
    PsColumn::new(
        "s",
        "S",
        "state: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, I idle",
        |r| Value::Char(r.stat().state.letter()),
    )
    .json("state")
    .shown()
    .watched_by(|r| match r.stat().state.letter() {
        // Whether it happens to run changes all the time.
        'R' | 'S' | 'D' | 'I' => Value::Char('S'),
        other => Value::Char(other),
    })
    .priority(230)
    .emphasis(state_tint),
    PsColumn::new("thr", "THR", "number of threads", |r| {
        Value::Int(r.process.facts.stat.num_threads.into())
    })
    .json("threads")
    .right()
    .shown()
    .priority(30),
    PsColumn::new("rss", "RSS", "resident memory", |r| {
        r.status().vm_rss.map_or(Value::Absent, Value::Size)
    })
    .json("rss")
    .right()
    .shown()
    .priority(20),
    PsColumn::new("time", "TIME", "processor time used, user and system", |r| {
        Value::Span(r.times().cpu)
    })
    .json("cpu_time")
    .right()
    .priority(20),
    PsColumn::new("elapsed", "ELAPSED", "time since it started", |r| {
        let started = r.times().started;
        r.until.map_or(Value::Time(started), |until| Value::TimeUntil(started, until))
    })
    .right()
    .shown()
    .priority(40),
    PsColumn::new("started", "STARTED", "when it started, UTC", |r| {
        text(&r.times().started.to_string())
    })
    .json("started")
    .priority(20),
    PsColumn::new("comm", "COMM", "name of the thread", |r| Value::Bytes(r.stat().comm.clone()))
        .json("comm")
        .watched()
        .priority(60),
    PsColumn::new("exe", "EXE", "the program's file, as its own mount namespace names it", exe)
        .json("exe")
        .watched()
        .priority(40),
    PsColumn::new("argv", "ARGV", "the arguments as they are, without a stand-in for none", argv)
        .json("command")
        .priority(40),
    PsColumn::new("onsignal", "ON SIGNAL", "which signal that is", |r| text(&r.signal.name()))
        .json("on_signal.signal")
        .priority(20),
    PsColumn::new(
        "on",
        "ON @",
        "what the container's stop signal (or that of --signal) would do",
        |r| r.prediction.as_ref().map_or(Value::Absent, |j| Value::Text(j.verdict.name().into())),
    )
    .json("on_signal.verdict")
    .shown()
    .watched()
    .priority(225)
    .emphasis(on_tint),
    PsColumn::new("why", "WHY", "why it would do that, where that is not plain", |r| {
        r.prediction.as_ref().and_then(|j| j.note.as_deref()).map_or(Value::Absent, text)
    })
    .json("on_signal.note")
    .priority(100),
    PsColumn::new(
        "blocked",
        "BLOCKED",
        "signals its main thread (with -T: the thread) blocks",
        |r| Value::Signals(r.status().sig_blk),
    )
    .json("signals.blocked")
    .shown()
    .watched()
    .priority(110),
    PsColumn::new("ignored", "IGNORED", "signals it ignores", |r| {
        Value::Signals(r.status().sig_ign)
    })
    .json("signals.ignored")
    .shown()
    .watched()
    .priority(105),
    PsColumn::new("caught", "CAUGHT", "signals it has a handler for", |r| {
        Value::Signals(r.status().sig_cgt)
    })
    .json("signals.caught")
    .shown()
    .watched()
    .priority(120),
    PsColumn::new("pending", "PENDING", "signals pending for the whole process", |r| {
        Value::Signals(r.status().shd_pnd)
    })
    .json("signals.pending")
    .watched()
    .priority(90)
    .emphasis(pending_tint),
    PsColumn::new(
        "tpending",
        "TPENDING",
        "signals pending for its main thread (with -T: the thread) alone",
        |r| Value::Signals(r.status().sig_pnd),
    )
    .json("signals.thread_pending")
    .watched()
    .priority(85),
    PsColumn::new("waited", "WAITED", "signals that a thread or a signalfd waits for", waited)
        .json("signals.waited")
        .watched()
        .priority(100),
    PsColumn::new("group", "PGRP", "process group, inside", |r| at(&r.status().nspgid, r.depth))
        .right()
        .priority(30),
    PsColumn::new("session", "SID", "session, inside", |r| at(&r.status().nssid, r.depth))
        .right()
        .priority(30),
    PsColumn::new("nice", "NI", "nice value", |r| Value::Int(r.stat().nice.into()))
        .right()
        .priority(10),
    PsColumn::new("tracer", "TRACER", "host PID of the process that traces it", |r| {
        r.status().tracer_pid_value()
    })
    .right()
    .watched()
    .priority(30),
    PsColumn::new("caps", "CAPS", "effective capabilities", |r| {
        text(&capability::summary(r.status().cap_eff))
    })
    .priority(30),
    PsColumn::new("nnp", "NNP", "no_new_privs", |r| {
        r.status().no_new_privs.map_or(Value::Absent, Value::Bool)
    })
    .watched()
    .priority(20),
    PsColumn::new("seccomp", "SECCOMP", "seccomp mode: off, strict, filter", seccomp)
        .watched()
        .priority(20),
    PsColumn::new(
        "command",
        "COMMAND",
        "command line; (comm) where a process has none, [comm] for a kernel thread or zombie",
        command,
    )
    .watched()
    .flexible()
    .shown()
    .priority(255),
];

/// What stands for a thread's or process's place in the tree column.
impl Status {
    fn tracer_pid_value(&self) -> Value {
        if self.tracer_pid == 0 { Value::Absent } else { int(self.tracer_pid) }
    }
}

fn int(number: i32) -> Value {
    Value::Int(number.into())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned().into())
}

fn at(numbers: &[i32], depth: usize) -> Value {
    numbers.get(depth).map_or(Value::Absent, |number| int(*number))
}

fn tid(row: &PsRow) -> Value {
    row.thread().map_or(Value::Absent, |thread| at(&thread.status.nspid, row.depth))
}

fn user(row: &PsRow) -> Value {
    match (&row.process.user, row.process.uid) {
        (Some(name), _) => Value::Bytes(name.clone()),
        (None, Some(uid)) => text(&uid.to_string()),
        (None, None) => Value::Absent,
    }
}

fn exe(row: &PsRow) -> Value {
    match &row.process.facts.exe {
        Fact::Known(path) => Value::Bytes(path.clone()),
        Fact::Denied => Value::Denied,
        Fact::Absent => Value::Absent,
    }
}

fn argv(row: &PsRow) -> Value {
    match &row.process.facts.command {
        Fact::Known(command) => Value::Argv(command.argv().map(<[u8]>::to_vec).collect()),
        Fact::Denied => Value::Denied,
        Fact::Absent => Value::Absent,
    }
}

fn command(row: &PsRow) -> Value {
    // The main thread's line is the process's.
    if let Some(thread) = row.thread()
        && thread.stat.pid != row.process.facts.stat.pid
    {
        return Value::Bytes([b"{", thread.stat.comm.as_slice(), b"}"].concat());
    }
    let process = &row.process.facts;
    let stand_in = |before: &[u8], after: &[u8]| {
        Value::Bytes([before, process.stat.comm.as_slice(), after].concat())
    };
    match &process.command {
        Fact::Denied => Value::Denied,
        Fact::Known(command) if !command.is_empty() => {
            let mut argv: Vec<Vec<u8>> = command.argv().map(<[u8]>::to_vec).collect();
            if command.cut
                && let Some(last) = argv.last_mut()
            {
                last.extend_from_slice("…".as_bytes());
            }
            Value::Argv(argv)
        }
        _ if process.stat.state.is_zombie() => stand_in(b"[", b"] <defunct>"),
        _ if process.stat.is_kernel_thread() => stand_in(b"[", b"]"),
        // A process can empty its own command line; brackets would make it look like the kernel's.
        _ => stand_in(b"(", b")"),
    }
}

fn seccomp(row: &PsRow) -> Value {
    match row.status().seccomp {
        None => Value::Absent,
        Some(0) => Value::Text("off".into()),
        Some(1) => Value::Text("strict".into()),
        Some(2) => Value::Text("filter".into()),
        Some(other) => Value::Int(other.into()),
    }
}

fn waited(row: &PsRow) -> Value {
    match &row.process.facts.waits {
        Fact::Known(waits) => Value::Signals(waits.waited()),
        Fact::Denied => Value::Denied,
        Fact::Absent => Value::Absent,
    }
}

fn on_tint(row: &PsRow) -> Emphasis {
    match row.prediction.as_ref().map(|judgement| judgement.verdict) {
        Some(Verdict::Discarded | Verdict::Pending) => Emphasis::Alarm,
        Some(Verdict::Ignored | Verdict::Delayed | Verdict::Unknown) => Emphasis::Warning,
        Some(Verdict::Handled | Verdict::Accepted) => Emphasis::Good,
        _ => Emphasis::None,
    }
}

fn state_tint(row: &PsRow) -> Emphasis {
    match row.stat().state.letter() {
        'Z' | 'X' => Emphasis::Bad,
        'T' | 't' | 'D' => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

fn pending_tint(row: &PsRow) -> Emphasis {
    if row.status().shd_pnd.is_empty() { Emphasis::None } else { Emphasis::Warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(crate::output::column::audit(PS_COLUMNS), Vec::<String>::new());
    }
}
