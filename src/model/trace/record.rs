//! The records of a perf ring: samples of tracepoints, and the side records of forks, names and exits.
//! Layouts: perf_event_open(2). Every sample has TID, TIME and RAW; every other record ends in TID and
//! TIME.

use super::format::TracepointFormat;
use crate::model::signal::Signal;

/// Types of records, perf_event_open(2).
const LOST: u32 = 2;
const COMM: u32 = 3;
const FORK: u32 = 7;
const SAMPLE: u32 = 9;
/// PERF_RECORD_MISC_COMM_EXEC: the name changed by execve(2).
const COMM_EXEC: u16 = 1 << 13;

/// Something that the kernel recorded. All IDs are of threads, in the host's PID namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A signal was sent (`signal:signal_generate`), by the thread that ran then, or by the kernel on its
    /// CPU.
    Generated {
        /// The signal.
        signal: Signal,
        /// `si_code`, sigaction(2); negative or 0 for signals of processes.
        code: i32,
        /// The thread that it is for, or any of its process's.
        tid: i32,
        /// Name of that thread.
        comm: Vec<u8>,
        /// Whether it is for the whole process.
        for_process: bool,
        /// The outcome, `enum` of TRACE_SIGNAL in include/trace/events/signal.h.
        result: i32,
    },
    /// The thread that ran then took a signal (`signal:signal_deliver`).
    Delivered {
        /// The signal.
        signal: Signal,
        /// `si_code`.
        code: i32,
        /// The address of the handler, 0 for SIG_DFL, 1 for SIG_IGN.
        handler: u64,
    },
    /// The thread that ran then exits (`sched:sched_process_exit`).
    Exited {
        /// Whether it is the last of its process, where the kernel reports that (since Linux 6.14).
        is_last: Option<bool>,
    },
    /// The OOM killer chose a process (`oom:mark_victim`).
    OomVictim {
        /// Its thread.
        tid: i32,
        /// Its name, where the kernel reports it (since Linux 6.9).
        comm: Option<Vec<u8>>,
        /// Its anonymous memory in bytes, where the kernel reports it.
        anon_rss: Option<u64>,
    },
    /// A thread or process began.
    Forked {
        /// The new process, or that of the new thread.
        pid: i32,
        /// The new thread.
        tid: i32,
        /// The thread that made it.
        parent: i32,
    },
    /// A thread got another name.
    Renamed {
        /// The thread.
        tid: i32,
        /// The name.
        comm: Vec<u8>,
        /// Whether execve(2) did it.
        by_exec: bool,
    },
    /// A thread was moved into another cgroup (`cgroup:cgroup_attach_task`).
    Moved {
        /// The thread.
        tid: i32,
        /// The path of the cgroup below its hierarchy's root.
        path: Vec<u8>,
    },
    /// The ring was full.
    Lost {
        /// Number of records that were lost.
        records: u64,
    },
}

/// A record of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRecord {
    /// Time of CLOCK_MONOTONIC in nanoseconds.
    pub time: u64,
    /// The process that ran on the CPU, and its thread.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// The event.
    pub event: KernelEvent,
}

/// The layouts of the tracepoints that are read.
#[derive(Clone, Debug)]
pub struct TraceFormats {
    /// `signal:signal_generate`.
    pub generate: TracepointFormat,
    /// `signal:signal_deliver`.
    pub deliver: TracepointFormat,
    /// `sched:sched_process_exit`.
    pub exit: TracepointFormat,
    /// `oom:mark_victim`.
    pub oom: TracepointFormat,
    /// `cgroup:cgroup_attach_task`; default where the kernel lacks it.
    pub attach: TracepointFormat,
}

/// Filter expressions of tracepoints, Documentation/trace/events.rst; none where everything is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilters {
    /// The filter of `signal:signal_generate`.
    pub generate: Option<String>,
    /// The filter of `signal:signal_deliver`.
    pub deliver: Option<String>,
}

/// Parses a record: its type, its flags, and its bytes without the header. Returns none for records of
/// other types.
pub fn parse_record(
    formats: &TraceFormats,
    kind: u32,
    flags: u16,
    bytes: &[u8],
) -> Option<TraceRecord> {
    if kind == SAMPLE {
        return parse_sample(formats, bytes);
    }
    let end = bytes.len().checked_sub(16)?;
    let (pid, tid) = (int(bytes, end)?, int(bytes, end + 4)?);
    let time = long(bytes, end + 8)?;
    let event = match kind {
        LOST => KernelEvent::Lost { records: long(bytes, 8)? },
        // pid, ppid, tid, ptid
        FORK => KernelEvent::Forked {
            pid: int(bytes, 0)?,
            tid: int(bytes, 8)?,
            parent: int(bytes, 12)?,
        },
        COMM => KernelEvent::Renamed {
            tid: int(bytes, 4)?,
            comm: until_nul(bytes.get(8..end)?),
            by_exec: flags & COMM_EXEC != 0,
        },
        _ => return None,
    };
    Some(TraceRecord { time, pid, tid, event })
}

/// Parses a sample: pid, tid, time, size of the raw record, raw record.
fn parse_sample(formats: &TraceFormats, bytes: &[u8]) -> Option<TraceRecord> {
    let (pid, tid, time) = (int(bytes, 0)?, int(bytes, 4)?, long(bytes, 8)?);
    let size = usize::try_from(int(bytes, 16)?).ok()?;
    let raw = bytes.get(20..20usize.checked_add(size)?)?;
    let id = u16::from_ne_bytes(raw.get(..2)?.try_into().ok()?);
    let TraceFormats { generate, deliver, exit, oom, attach } = formats;
    let signal = |format: &TracepointFormat| {
        u8::try_from(format.int(raw, "sig")?).ok().and_then(Signal::new)
    };
    let number = |format: &TracepointFormat, name| {
        format.int(raw, name).and_then(|value| i32::try_from(value).ok())
    };
    let event = if id == generate.id {
        KernelEvent::Generated {
            signal: signal(generate)?,
            code: number(generate, "code")?,
            tid: number(generate, "pid")?,
            comm: generate.text(raw, "comm")?.to_vec(),
            for_process: number(generate, "group")? != 0,
            result: number(generate, "result")?,
        }
    } else if id == deliver.id {
        KernelEvent::Delivered {
            signal: signal(deliver)?,
            code: number(deliver, "code")?,
            handler: deliver.int(raw, "sa_handler")? as u64,
        }
    } else if id == exit.id {
        KernelEvent::Exited { is_last: exit.int(raw, "group_dead").map(|value| value != 0) }
    } else if id == oom.id {
        // (In kB.)
        KernelEvent::OomVictim {
            tid: number(oom, "pid")?,
            comm: oom.text(raw, "comm").map(<[u8]>::to_vec),
            anon_rss: oom.int(raw, "anon_rss").map(|kilobytes| (kilobytes as u64) << 10),
        }
    } else if id == attach.id {
        let path = attach.text(raw, "dst_path")?.to_vec();
        KernelEvent::Moved { tid: number(attach, "pid")?, path }
    } else {
        return None;
    };
    Some(TraceRecord { time, pid, tid, event })
}

fn int(bytes: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}
