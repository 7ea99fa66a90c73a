//! The kernel's tracepoints about signals, exits and OOM kills of the whole host, read in the order of
//! time. Leaves nothing behind: the rings and the trace file system are in no place that outlives us.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use super::host::Host;
use super::time_namespace::ClockOffsets;
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
    held: HeldRecords,
}

/// Records that were read from the rings of all CPUs and not taken yet.
#[derive(Default)]
struct HeldRecords(Vec<TraceRecord>);

impl HeldRecords {
    /// Takes the oldest records before a time, in the order of time. (Records of one moment stay in the order
    /// of their ring.)
    fn take_before(&mut self, until: u64) -> Vec<TraceRecord> {
        self.0.sort_by_key(|record| record.time);
        let ready = self.0.partition_point(|record| record.time < until);
        self.0.drain(..ready.min(MAX_TAKEN)).collect()
    }
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
        Ok(Self { rings, formats, held: HeldRecords::default() })
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
        self.held.take_before(until)
    }

    /// Returns whether more records wait than one reading returns.
    pub fn is_behind(&self) -> bool {
        self.held.0.len() > MAX_TAKEN
    }

    /// Returns the number of records before a time that were read and not taken.
    pub fn count_before(&self, until: u64) -> u64 {
        self.held.0.iter().filter(|record| record.time < until).count() as u64
    }

    /// Empties the rings before they are full: a burst of signals is recorded faster than it is printed.
    pub fn drain(&mut self) {
        let Self { rings, formats, held: HeldRecords(held) } = self;
        if held.len() < MAX_HELD {
            rings.take(|kind, flags, bytes| held.extend(parse_record(formats, kind, flags, bytes)));
        }
    }
}

/// Returns the time of the host's CLOCK_MONOTONIC in nanoseconds, which the records have.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let time = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    u64::try_from(time.saturating_sub(ClockOffsets::own().monotonic.as_nanos())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trace::KernelEvent;

    const FORMAT: &str =
        "ID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n";
    const LOST: u32 = 2;
    const FORK: u32 = 7;

    /// Returns the bytes of a fork of this task, or of records that were lost, with pid, tid and time at the end.
    fn bytes(body: &[u8], time: u64) -> Vec<u8> {
        let ids = 1u64.to_ne_bytes();
        [body, &ids, &time.to_ne_bytes()].concat()
    }

    fn fork(tid: i32, time: u64) -> (u32, Vec<u8>) {
        let ids = [tid, 1, tid, 1].map(i32::to_ne_bytes).concat();
        (FORK, bytes(&[&ids[..], &time.to_ne_bytes()].concat(), time))
    }

    fn lost(records: u64, time: u64) -> (u32, Vec<u8>) {
        (LOST, bytes(&[9u64.to_ne_bytes(), records.to_ne_bytes()].concat(), time))
    }

    #[test]
    fn records_of_several_cpus_are_taken_in_the_order_of_time() {
        let format = TracepointFormat::parse(FORMAT).unwrap();
        let formats = TraceFormats {
            generate: format.clone(),
            deliver: format.clone(),
            exit: format.clone(),
            oom: format.clone(),
            attach: format,
        };
        let mut held = HeldRecords::default();
        // Each ring is in order; they are read one after the other, and again when more was written.
        let rings = [
            vec![fork(10, 10), fork(30, 30), lost(5, 35), fork(50, 50), fork(51, 50)],
            vec![fork(20, 20), fork(40, 40)],
            vec![lost(2, 15), fork(45, 45)],
        ];
        let read = |held: &mut HeldRecords, ring: &[(u32, Vec<u8>)]| {
            let records =
                ring.iter().filter_map(|(kind, bytes)| parse_record(&formats, *kind, 0, bytes));
            held.0.extend(records);
        };
        rings.iter().for_each(|ring| read(&mut held, ring));
        let taken = |records: Vec<TraceRecord>| -> Vec<(u64, i64)> {
            let number = |event| match event {
                KernelEvent::Forked { tid, .. } => i64::from(tid),
                KernelEvent::Lost { records } => -i64::try_from(records).unwrap(),
                other => panic!("{other:?}"),
            };
            records.into_iter().map(|record| (record.time, number(record.event))).collect()
        };
        let first = taken(held.take_before(45));
        assert_eq!(first, [(10, 10), (15, -2), (20, 20), (30, 30), (35, -5), (40, 40)]);
        read(&mut held, &[fork(47, 47), lost(1, 60)]);
        assert_eq!(taken(held.take_before(60)), [(45, 45), (47, 47), (50, 50), (50, 51)]);
        assert_eq!(taken(held.take_before(u64::MAX)), [(60, -1)]);
        assert!(held.0.is_empty());
    }

    #[test]
    fn one_reading_takes_the_oldest_records_only() {
        let record =
            |time| TraceRecord { time, pid: 1, tid: 1, event: KernelEvent::Lost { records: 1 } };
        let count = MAX_TAKEN as u64 + 2;
        let mut held = HeldRecords((0..count).rev().map(record).collect());
        let times: Vec<u64> = held.take_before(u64::MAX).iter().map(|record| record.time).collect();
        assert!(times.iter().copied().eq(0..MAX_TAKEN as u64));
        let rest: Vec<u64> = held.take_before(count - 1).iter().map(|record| record.time).collect();
        assert_eq!(rest, [count - 2]);
    }
}
