//! Findings about the container as a whole: its grace period, and what has happened to it since it was
//! started.

use std::time::Duration;

use super::{Diagnosis, plural};
use crate::analysis::finding::{FindingCode, Severity};

impl Diagnosis<'_> {
    /// Adds a finding if processes have no time to exit. Returns whether that is so.
    pub(super) fn grace_period(&mut self) -> bool {
        if self.grace != Duration::ZERO {
            return false;
        }
        let message = format!("the grace period is 0: SIGKILL follows {} at once", self.signal);
        let remedy = self.remedies.grace();
        self.add_for_container(Severity::Problem, FindingCode::GracePeriod, message, &remedy);
        true
    }

    /// Adds a finding if processes were killed for lack of memory.
    pub(super) fn oom_kills(&mut self) {
        let Some(kills) = self.input.oom_kills.filter(|kills| kills.count > 0) else { return };
        let limit = match &kills.limit {
            Some((bytes, source)) => format!("; its limit is {} ({source})", mebibytes(*bytes)),
            None => String::new(),
        };
        let message = format!(
            "{} killed for lack of memory since it was started ({}){limit}",
            plural(
                usize::try_from(kills.count).unwrap_or(usize::MAX),
                "process was",
                "processes were"
            ),
            kills.source
        );
        let remedy = match kills.limit {
            Some(_) => {
                "raise the memory limit, or let the programs use less; the kernel log (`dmesg`) names each process"
            }
            None => "let the programs use less memory; the kernel log (`dmesg`) names each process",
        };
        self.add_for_container(Severity::Warning, FindingCode::OomKills, message, remedy);
    }
}

/// Formats a limit of memory: `64 MiB`.
fn mebibytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes => format!("{bytes} bytes"),
    }
}
