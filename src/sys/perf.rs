//! Rings of perf_event_open(2): one for each CPU, into which several tracepoints write, and a dummy event
//! that records forks, names and exits of tasks. They vanish with their descriptors, whatever happens to
//! us. `model::trace` parses the bytes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use perf_event::events::{Software, Tracepoint};
use perf_event::{Builder, Counter, SampleFlag, Sampler};

use super::fd;

/// `_IO('$', 5)` and `_IOW('$', 6, char *)`, include/uapi/linux/perf_event.h.
const SET_OUTPUT: libc::c_ulong = 0x2405;
const SET_FILTER: libc::c_ulong = 0x4008_2406;

/// Memory of one CPU's ring, and of all rings together.
const RING: usize = 4 << 20;
const ALL_RINGS: usize = 256 << 20;
const SMALLEST_RING: usize = 256 << 10;

/// The rings.
pub struct PerfRings {
    rings: Vec<Sampler>,
    /// Events that write into the rings: they stop when they are closed.
    _writers: Vec<Counter>,
}

impl PerfRings {
    /// Opens a ring for each CPU for these tracepoints, each with a filter expression if it has one.
    ///
    /// # Errors
    /// EACCES or EPERM without CAP_PERFMON, EINVAL for a filter that the kernel does not understand; `OutOfMemory`
    /// if the limit of locked memory does not allow it.
    pub fn open(tracepoints: &[(u64, Option<String>)]) -> io::Result<Self> {
        let cpus = online_cpus()?;
        let size = (ALL_RINGS / cpus.len().max(1)).clamp(SMALLEST_RING, RING);
        let mut size = 1 << size.ilog2();
        // Without CAP_IPC_LOCK a part of RLIMIT_MEMLOCK and of kernel.perf_event_mlock_kb can be used.
        loop {
            match Self::open_sized(tracepoints, &cpus, size) {
                Err(error)
                    if error.kind() == io::ErrorKind::OutOfMemory && size > SMALLEST_RING =>
                {
                    size /= 2;
                }
                opened => return opened,
            }
        }
    }

    fn open_sized(
        tracepoints: &[(u64, Option<String>)],
        cpus: &[usize],
        size: usize,
    ) -> io::Result<Self> {
        let (mut rings, mut writers) = (Vec::new(), Vec::new());
        for &cpu in cpus {
            let mut builder = Builder::new(Software::DUMMY);
            builder.task(true).comm(true).comm_exec(true);
            let ring = match configure(&mut builder, cpu, size).build() {
                // (A CPU may go offline.)
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                counter => counter?.sampled(size).map_err(memory_error)?,
            };
            for (id, filter) in tracepoints {
                let mut builder = Builder::new(Tracepoint::with_id(*id));
                let counter = configure(&mut builder, cpu, size).sample_period(1).build()?;
                if let Some(filter) = filter {
                    set_filter(&counter, filter)?;
                }
                set_output(&counter, &ring)?;
                writers.push(counter);
            }
            rings.push(ring);
        }
        for writer in &mut writers {
            writer.enable()?;
        }
        for ring in &mut rings {
            ring.as_counter_mut().enable()?;
        }
        Ok(Self { rings, _writers: writers })
    }

    /// Takes the next record out of any ring: its type, its flags and its bytes without the header.
    pub fn take(&mut self, mut each: impl FnMut(u32, u16, &[u8])) {
        for ring in &mut self.rings {
            while let Some(record) = ring.next_record() {
                each(record.ty(), record.misc(), &record.to_contiguous());
            }
        }
    }

    /// Waits until a ring is a quarter full or `other` is readable, at most `timeout`. Returns whether
    /// `other` is.
    ///
    /// # Errors
    /// As ppoll(2).
    pub fn wait(&self, other: BorrowedFd<'_>, timeout: Duration) -> Result<bool, Errno> {
        // SAFETY: the samplers own their descriptors and outlive the call.
        let borrow = |ring: &Sampler| unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let fds = std::iter::once(other).chain(self.rings.iter().map(borrow));
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match fd::poll(&mut fds, Some(timeout)) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Sets up an event of all processes on one CPU, which waits to be enabled. Samples have TID, TIME and
/// RAW, in this order; other records have TID and TIME at their end.
fn configure<'b>(
    builder: &'b mut Builder<'static>,
    cpu: usize,
    size: usize,
) -> &'b mut Builder<'static> {
    builder
        .any_pid()
        .one_cpu(cpu)
        .include_kernel()
        .include_hv()
        .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW)
        .sample_id_all(true)
        .clockid(perf_event::Clock::MONOTONIC)
        .wakeup_watermark(size / 4)
        .enabled(false)
}

/// Converts an error of mmap(2): EPERM is that of the limits of locked memory (`perf_mmap`, kernel/events/core.c).
fn memory_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => io::Error::new(io::ErrorKind::OutOfMemory, Errno::EPERM.desc()),
        _ => error,
    }
}

fn set_output(counter: &Counter, ring: &Sampler) -> io::Result<()> {
    // SAFETY: both descriptors are open.
    let done = unsafe { libc::ioctl(counter.as_raw_fd(), SET_OUTPUT as _, ring.as_raw_fd()) };
    Errno::result(done)?;
    Ok(())
}

fn set_filter(counter: &Counter, filter: &str) -> io::Result<()> {
    let filter = CString::new(filter)?;
    // SAFETY: the kernel reads the string up to its NUL during the call.
    let done = unsafe { libc::ioctl(counter.as_raw_fd(), SET_FILTER as _, filter.as_ptr()) };
    Errno::result(done)?;
    Ok(())
}

/// Returns the CPUs that are online, from sysfs: a range list (`0-3,8`).
fn online_cpus() -> io::Result<Vec<usize>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    Ok(text.trim().split(',').filter_map(range).flatten().collect())
}
