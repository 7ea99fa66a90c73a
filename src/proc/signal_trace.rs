//! The kernel's tracepoints about signals, exits and OOM kills of the whole host, read in the order of
//! time. Leaves nothing behind: the rings and the trace file system are in no place that outlives us.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use super::host::Host;
use crate::model::trace::{
    TraceFilters, TraceFormats, TraceRecord, TracepointFormat, parse_record,
};
use crate::sys::perf::PerfRings;
use crate::sys::tracefs::TraceFs;

/// A record younger than this may have an older one behind it on another CPU, which is being written.
const SETTLE: u64 = 2_000_000;

/// Records that wait to be printed; beyond it the kernel drops some, and counts them. Some 120 bytes each,
/// and twice this number at most: those that are printed and those that are read meanwhile.
const MAX_HELD: usize = 1 << 18;

/// Records of one reading, so that lines are printed and Ctrl-C is seen while many wait.
const MAX_TAKEN: usize = 1 << 13;

/// An open trace.
pub struct SignalTrace {
    rings: PerfRings,
    formats: TraceFormats,
    held: Vec<TraceRecord>,
}

impl SignalTrace {
    /// Opens a trace of the signals that pass the filters, and of all exits and OOM kills.
    ///
    /// # Errors
    /// EPERM or EACCES without CAP_SYS_ADMIN or CAP_PERFMON; ENODEV, ENOENT, ENOSYS if the kernel lacks
    /// tracefs or a tracepoint.
    pub fn open(host: &Host, filters: TraceFilters) -> io::Result<Self> {
        let tracefs = TraceFs::open(host.root())?;
        let format = |name: &str| {
            let text = tracefs.read(&format!("events/{name}/format"))?;
            TracepointFormat::parse(&text).ok_or_else(|| {
                io::Error::other(format!("the layout of {name} is not as documented"))
            })
        };
        let formats = TraceFormats {
            generate: format("signal/signal_generate")?,
            deliver: format("signal/signal_deliver")?,
            exit: format("sched/sched_process_exit")?,
            oom: format("oom/mark_victim")?,
            attach: format("cgroup/cgroup_attach_task").unwrap_or_default(),
        };
        let id = |format: &TracepointFormat| u64::from(format.id);
        let mut events = vec![
            (id(&formats.generate), filters.generate),
            (id(&formats.deliver), filters.deliver),
            (id(&formats.exit), None),
            (id(&formats.oom), None),
        ];
        if formats.attach.id != 0 {
            events.push((id(&formats.attach), None));
        }
        let rings = PerfRings::open(&events)?;
        Ok(Self { rings, formats, held: Vec::new() })
    }

    /// Waits until there is much to read or `other` is readable, at most `timeout`. Returns whether
    /// `other` is.
    ///
    /// # Errors
    /// As ppoll(2).
    pub fn wait(&self, other: BorrowedFd<'_>, timeout: Duration) -> Result<bool, Errno> {
        self.rings.wait(other, timeout)
    }

    /// Returns the oldest records, in the order of time: those before `until`, or those up to a few
    /// milliseconds ago. There may be more of them (see [`Self::is_behind`]).
    pub fn take(&mut self, until: Option<u64>) -> Vec<TraceRecord> {
        let until = until.unwrap_or_else(|| now().saturating_sub(SETTLE));
        self.drain();
        self.held.sort_by_key(|record| record.time);
        let ready = self.held.partition_point(|record| record.time < until);
        self.held.drain(..ready.min(MAX_TAKEN)).collect()
    }

    /// Returns whether more records wait than one reading returns.
    pub fn is_behind(&self) -> bool {
        self.held.len() > MAX_TAKEN
    }

    /// Returns the number of records before a time that were read and not taken.
    pub fn count_before(&self, until: u64) -> u64 {
        self.held.iter().filter(|record| record.time < until).count() as u64
    }

    /// Empties the rings before they are full: a burst of signals is recorded faster than it is printed.
    pub fn drain(&mut self) {
        let Self { rings, formats, held } = self;
        if held.len() < MAX_HELD {
            rings.take(|kind, flags, bytes| held.extend(parse_record(formats, kind, flags, bytes)));
        }
    }
}

/// Returns the time of CLOCK_MONOTONIC in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
