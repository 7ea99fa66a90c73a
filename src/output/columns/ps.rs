//! THE COLUMN TABLE of `ps`: one expression per column. Headers, `-o` and its help, `--sort` and the JSON
//! keys all come from here.

use std::sync::Arc;

use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::Prediction;
use crate::analysis::forecast::Answer;
use crate::analysis::joined::{EnginePurpose, Joined, Starter};
use crate::model::capability;
use crate::model::process::{Fact, Thread, Times};
use crate::model::signal::Signal;
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::columns::common::{self, ProcessRow};
use crate::output::escape::safe;
use crate::output::style::Emphasis;
use crate::output::units::set;
use crate::output::value::Value;

/// A row of `ps`: a process, or one of its threads.
#[derive(Clone, Debug)]
pub struct PsRow {
    /// The container.
    pub context: Arc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// Whether the table lists threads.
    pub threads: bool,
    /// Index of the thread among those of the process, if the row is about one.
    pub thread: Option<usize>,
    /// Index of the container's PID namespace in the NSpid lines.
    pub depth: usize,
    /// The signal that the prediction is about.
    pub signal: Signal,
    /// The effect of the signal.
    pub prediction: Prediction,
    /// Whether the process exits on it, if it is the stop signal and the stop was forecast.
    pub exits: Option<Answer>,
    /// Whether it has not executed the container's program yet.
    pub is_starting: bool,
    /// Whether it entered the container from outside.
    pub joined: Joined,
    /// The moment it was last seen, if it is gone.
    pub last_seen: Option<jiff::Timestamp>,
}

impl PsRow {
    fn thread(&self) -> Option<&Thread> {
        self.process.facts.threads.get(self.thread?)
    }

    fn status(&self) -> &Status {
        self.thread().map_or(&self.process.facts.status, |thread| &thread.status)
    }

    fn stat(&self) -> &Stat {
        self.thread().map_or(&self.process.facts.stat, |thread| &thread.stat)
    }

    /// Returns the mark before the command of a process that is being started, or of a root that joined: its
    /// origin, or its parent outside.
    pub fn root_mark(&self) -> Option<String> {
        let is_main = |thread: &Thread| thread.stat.pid == self.process.facts.stat.pid;
        if self.is_starting {
            return Some("[starting] ".into());
        }
        let Joined::Yes(starter) = &self.joined else { return None };
        self.thread().is_none_or(is_main).then(|| match &**starter {
            Starter::Engine(EnginePurpose::Session) => "[exec session] ".into(),
            Starter::Engine(EnginePurpose::HealthCheck) => "[health check?] ".into(),
            Starter::Engine(EnginePurpose::Unknown) => "[exec] ".into(),
            Starter::Exited => "[left behind] ".into(),
            Starter::Parent(pid, comm) => format!("[parent {pid} {}] ", safe(comm)),
            Starter::Unknown => "[joined] ".into(),
        })
    }

    fn times(&self) -> Times {
        self.thread().map_or(self.process.facts.times, |thread| thread.times)
    }
}

impl ProcessRow for PsRow {
    fn context(&self) -> &RowContext {
        &self.context
    }

    fn process(&self) -> &ContainerProcess {
        &self.process
    }
}

type PsColumn = Column<PsRow>;

/// THE TABLE, in the order of the columns and of the JSON keys.
pub static PS_COLUMNS: &[PsColumn] = &[
    common::host(),
    common::container(),
    PsColumn::new("id", "ID", "container ID", |r| Value::optional_text(r.context.id.as_deref()))
        .json("id"),
    common::pid(),
    common::host_pid().shown(),
    PsColumn::new("ppid", "PPID", "parent's PID in the container; 0 if it is outside", |r| {
        Value::int(r.process.ppid)
    })
    .json("ppid")
    .right()
    .priority(60),
    PsColumn::new("hppid", "HPPID", "parent's PID on the host", |r| {
        Value::int(r.process.facts.stat.ppid)
    })
    .json("host_ppid")
    .right()
    .priority(50),
    PsColumn::new("tid", "TID", "thread ID in the container", tid)
        .json("tid")
        .json_if(|r| r.threads)
        .right()
        .priority(240),
    PsColumn::new("htid", "HTID", "thread ID on the host", |r| {
        Value::optional_int(r.thread().map(|thread| thread.stat.pid))
    })
    .json("host_tid")
    .json_if(|r| r.threads)
    .right()
    .priority(80),
    PsColumn::new("uid", "UID", "real user ID in the container", |r| {
        r.process.uid.map_or(Value::Absent, |uid| Value::Int(uid.into()))
    })
    .json("uid")
    .right()
    .priority(60),
    PsColumn::new("huid", "HUID", "real user ID on the host", |r| {
        Value::Int(r.status().uid[0].into())
    })
    .json("host_uid")
    .right()
    .watched()
    .priority(50),
    PsColumn::new("user", "USER", "real user, named as in the container", user)
        .json("user")
        .shown()
        .watched()
        .priority(70),
    PsColumn::new("state", "S", STATE, |r| Value::Char(r.stat().state.letter()))
        .json("state")
        .shown()
        .watched_by(steady_state)
        .priority(230)
        .emphasis(state_emphasis),
    PsColumn::new("threads", "THR", "number of threads", |r| {
        Value::Int(r.process.facts.stat.num_threads.into())
    })
    .json("threads")
    .right()
    .shown()
    .wide()
    .priority(30),
    PsColumn::new("rss", "RSS", "resident memory", |r| {
        r.status().vm_rss.map_or(Value::Absent, Value::Size)
    })
    .json("rss")
    .right()
    .shown()
    .priority(20),
    PsColumn::new("time", "TIME", "CPU time used, user and system", |r| Value::Span(r.times().cpu))
        .json("cpu_time")
        .right()
        .priority(20),
    PsColumn::new("elapsed", "ELAPSED", "time since it started", |r| {
        let started = r.times().started;
        r.last_seen.map_or(Value::Time(started), |until| Value::TimeUntil(started, until))
    })
    .right()
    .shown()
    .priority(40),
    PsColumn::new("started", "STARTED", "time it started, UTC", |r| {
        Value::text(&r.times().started.to_string())
    })
    .json("started")
    .priority(20),
    PsColumn::new("comm", "COMM", "name of the process (with -T: of the thread)", |r| {
        Value::Bytes(r.stat().comm.clone())
    })
    .json("comm")
    .watched()
    .priority(60),
    PsColumn::new("exe", "EXE", "executable, as its mount namespace names it", exe)
        .json("exe")
        .watched()
        .priority(40),
    PsColumn::new("argv", "ARGV", "arguments; `-` if it has none", argv)
        .json("command")
        .priority(40),
    PsColumn::new(
        "blocked",
        "BLOCKED",
        "signals that the main thread (with -T: the thread) blocks",
        |r| Value::Signals(r.status().sig_blk),
    )
    .json("signals.blocked")
    .shown()
    .wide()
    .watched()
    .priority(110),
    PsColumn::new("ignored", "IGNORED", "signals it ignores", |r| {
        Value::Signals(r.status().sig_ign)
    })
    .json("signals.ignored")
    .shown()
    .wide()
    .watched()
    .priority(105),
    PsColumn::new("caught", "CAUGHT", "signals it has a handler for", |r| {
        Value::Signals(r.status().sig_cgt)
    })
    .json("signals.caught")
    .shown()
    .wide()
    .watched()
    .priority(120),
    PsColumn::new("pending", "PENDING", "signals pending for the process", |r| {
        Value::Signals(r.status().shd_pnd)
    })
    .json("signals.pending")
    .watched()
    .priority(90)
    .emphasis(pending_emphasis),
    PsColumn::new(
        "tpending",
        "TPENDING",
        "signals pending for the main thread (with -T: the thread) alone",
        |r| Value::Signals(r.status().sig_pnd),
    )
    .json("signals.thread_pending")
    .watched()
    .priority(85),
    PsColumn::new("waited", "WAITED", "signals that a signalfd or sigwait(3) accepts", waited)
        .json("signals.waited")
        .watched()
        .priority(100),
    PsColumn::new("signal", "ON SIGNAL", "the signal that the verdict is about", |r| {
        Value::text(&r.signal.name())
    })
    .json("on_signal.signal")
    .priority(20),
    PsColumn::new("verdict", "ON @", "effect of the stop signal, or of that of --signal", |r| {
        Value::Text(r.prediction.verdict.name().into())
    })
    .json("on_signal.verdict")
    .shown()
    .watched()
    .priority(225)
    .emphasis(verdict_emphasis),
    PsColumn::new("note", "NOTE", "reason for the verdict, if it is not obvious", |r| {
        Value::optional_text(r.prediction.note.as_deref())
    })
    .json("on_signal.note")
    .priority(100),
    PsColumn::new("joined", "JOINED", JOINED, |r| {
        r.joined.answer().map_or(Value::Absent, Value::Bool)
    })
    .json("joined")
    .priority(30),
    PsColumn::new("pgrp", "PGRP", "process group ID in the container", |r| {
        at_depth(&r.status().nspgid, r.depth)
    })
    .right()
    .priority(30),
    PsColumn::new("sid", "SID", "session ID in the container", |r| {
        at_depth(&r.status().nssid, r.depth)
    })
    .right()
    .priority(30),
    PsColumn::new("nice", "NI", "nice value", |r| Value::Int(r.stat().nice.into()))
        .right()
        .priority(10),
    PsColumn::new("tracer", "TRACER", "host PID of its tracer", |r| {
        Value::optional_int(Some(r.status().tracer_pid).filter(|pid| *pid != 0))
    })
    .right()
    .watched()
    .priority(30),
    PsColumn::new("caps", "CAPS", "effective capabilities", |r| {
        Value::text(&set(&capability::summary(r.status().cap_eff)))
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
    PsColumn::new("command", "COMMAND", COMMAND, command).watched().flexible().shown(),
];

const STATE: &str = "state: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, \
    I idle";

const JOINED: &str = "whether it entered the container from outside (exec, nsenter), not a descendant of such a \
    process; not known of a root without a private PID namespace, except for the init";

const COMMAND: &str = "command line; (comm) if it has none, [comm] for a kernel thread or a zombie";

fn at_depth(ids: &[i32], depth: usize) -> Value {
    Value::optional_int(ids.get(depth).copied())
}

fn tid(row: &PsRow) -> Value {
    row.thread().map_or(Value::Absent, |thread| at_depth(&thread.status.nspid, row.depth))
}

fn user(row: &PsRow) -> Value {
    match (&row.process.user, row.process.uid) {
        (Some(name), _) => Value::Bytes(name.clone()),
        (None, Some(uid)) => Value::text(&uid.to_string()),
        (None, None) => Value::Absent,
    }
}

/// Returns the state as `--watch` compares it: running or sleeping changes all the time.
fn steady_state(row: &PsRow) -> Value {
    match row.stat().state.letter() {
        'R' | 'S' | 'D' | 'I' => Value::Char('S'),
        other => Value::Char(other),
    }
}

fn exe(row: &PsRow) -> Value {
    Value::of_fact(&row.process.facts.exe, |path| Value::Bytes(path.clone()))
}

fn argv(row: &PsRow) -> Value {
    Value::of_fact(&row.process.facts.command, |command| {
        Value::Argv(command.argv().map(<[u8]>::to_vec).collect())
    })
}

fn command(row: &PsRow) -> Value {
    // The row of the main thread has the command line of the process.
    if let Some(thread) = row.thread()
        && thread.stat.pid != row.process.facts.stat.pid
    {
        return Value::Bytes([b"{", thread.stat.comm.as_slice(), b"}"].concat());
    }
    let process = &row.process.facts;
    let placeholder = |before: &[u8], after: &[u8]| {
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
        _ if process.stat.state.is_zombie() => placeholder(b"[", b"] <defunct>"),
        _ if process.stat.is_kernel_thread() => placeholder(b"[", b"]"),
        // A process can empty its own command line; brackets would make it look like the kernel's.
        _ => placeholder(b"(", b")"),
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
    Value::of_fact(&row.process.facts.waits, |waits| Value::Signals(waits.waited()))
}

/// Returns the emphasis of a verdict: green only if it is known to be good, since a handler may do anything.
fn verdict_emphasis(row: &PsRow) -> Emphasis {
    match row.prediction.verdict {
        Verdict::Discarded | Verdict::Pending => Emphasis::Alarm,
        Verdict::Ignored | Verdict::Delayed | Verdict::Unknown => Emphasis::Warning,
        Verdict::Handled | Verdict::Accepted if row.exits == Some(Answer::Yes) => Emphasis::Good,
        _ => Emphasis::None,
    }
}

fn state_emphasis(row: &PsRow) -> Emphasis {
    match row.stat().state.letter() {
        'Z' | 'X' => Emphasis::Bad,
        'T' | 't' | 'D' => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

fn pending_emphasis(row: &PsRow) -> Emphasis {
    if row.status().shd_pnd.is_empty() { Emphasis::None } else { Emphasis::Warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_faults() {
        assert_eq!(crate::output::column::audit(PS_COLUMNS), Vec::<String>::new());
    }
}
