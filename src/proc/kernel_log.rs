//! The OOM kills in the kernel's log: /dev/kmsg, read from its oldest record without
//! blocking. A recorded host may have a plain file there.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};

use super::host::Host;
use super::read::ReadError;
use super::time_namespace::ClockOffsets;
use crate::model::oom_kill::{OomKill, OomParser};
use crate::model::pid::Ticks;
use crate::sys::fd;

/// No record is longer (kernel/printk/printk.c, PRINTK_MESSAGE_MAX).
const MAX_RECORD: usize = 8192;
/// Records that are read at most: the ring has fewer, unless it is written faster than it is read.
const MOST_RECORDS: usize = 1 << 20;

/// The OOM kills in the kernel's log.
#[derive(Debug, Default)]
pub struct OomLog {
    /// The kills with their times, the oldest first.
    pub kills: Vec<(Timestamp, OomKill)>,
    /// Time of the oldest record; earlier ones have been overwritten.
    pub begin: Option<Timestamp>,
    /// Time that the host was suspended since it started, if that is known. The clock of the log stands still
    /// meanwhile, so that any time above may be too early by as much.
    pub suspended: Option<SignedDuration>,
}

impl Host {
    /// Reads the OOM kills in the kernel's log.
    ///
    /// # Errors
    /// [`ReadError::Denied`] without CAP_SYSLOG (`kernel.dmesg_restrict`), [`ReadError::Gone`] if there is no
    /// /dev/kmsg, as in most containers.
    pub fn oom_log(&self) -> Result<OomLog, ReadError> {
        let path = self.root().join("dev/kmsg");
        let mut file = File::from(fd::open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let mut parser = OomParser::default();
        let mut kills = Vec::new();
        if self.is_recorded() {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            kills.extend(text.split(|byte| *byte == b'\n').filter_map(|line| parser.next(line)));
        } else {
            read_records(&mut file, |record| kills.extend(parser.next(record)))?;
        }
        kills.extend(parser.finish());
        let time = |microseconds: u64| self.since_boot(microseconds);
        Ok(OomLog {
            begin: parser.first.map(time),
            suspended: if self.is_recorded() { None } else { suspended() },
            kills: kills.into_iter().map(|kill| (time(kill.time), kill)).collect(),
        })
    }

    fn since_boot(&self, microseconds: u64) -> Timestamp {
        let boot = self.started(Ticks(0));
        let span = SignedDuration::from_micros(i64::try_from(microseconds).unwrap_or(i64::MAX));
        // (On a recorded host, boot is that host's.)
        let offset =
            if self.is_recorded() { SignedDuration::ZERO } else { ClockOffsets::own().boottime };
        boot.checked_add(span.saturating_add(offset)).unwrap_or(boot)
    }
}

/// Returns the time that the host was suspended: CLOCK_BOOTTIME includes it, CLOCK_MONOTONIC does not
/// (clock_gettime(2)).
fn suspended() -> Option<SignedDuration> {
    let offsets = ClockOffsets::own();
    let read = |clock, offset: SignedDuration| {
        let time = Duration::from(clock_gettime(clock).ok()?);
        Some(SignedDuration::try_from(time).ok()?.saturating_sub(offset))
    };
    // In this order the time in between does not count.
    let boottime = read(ClockId::CLOCK_BOOTTIME, offsets.boottime)?;
    let monotonic = read(ClockId::CLOCK_MONOTONIC, offsets.monotonic)?;
    Some(boottime.saturating_sub(monotonic).max(SignedDuration::ZERO))
}

/// Reads every record. Each read(2) returns one; EPIPE means that some were overwritten meanwhile.
fn read_records(file: &mut File, mut each: impl FnMut(&[u8])) -> Result<(), ReadError> {
    let mut record = [0; MAX_RECORD];
    for _ in 0..MOST_RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => each(&record[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
