//! A question about the command lines of many processes, of which nothing else is read. A process can make
//! reading its command line hang, so threads read them that are left behind if they do not return in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::host::Host;
use super::read::{ReadError, read_at_once};
use super::snapshot::CommandLimit;
use crate::model::pid::HostPid;
use crate::model::process::CommandLine;
use crate::sys::parallel;

/// Time for all of them, each of which takes microseconds.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Processes that a thread has to have to be worth its start.
const SHARE: usize = 64;

/// The work that all threads share.
struct CommandSearch<F> {
    proc: PathBuf,
    pids: Vec<HostPid>,
    next: AtomicUsize,
    is_meant: F,
}

impl<F: Fn(&CommandLine) -> bool> CommandSearch<F> {
    /// Reads one command line after the other; none if one cannot be read.
    fn find(&self) -> Option<bool> {
        let CommandLimit::Bytes(limit) = CommandLimit::SCREEN else { return None };
        let mut buffer = Vec::new();
        while let Some(pid) = self.pids.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let file = std::fs::File::open(self.proc.join(format!("{pid}/cmdline")));
            let file = file.map_err(ReadError::from);
            match file.and_then(|file| read_at_once(file, &mut buffer, limit + 1)) {
                Ok(()) => {}
                Err(ReadError::Gone) => continue,
                Err(_) => return None,
            }
            let cut = buffer.len() > limit;
            buffer.truncate(limit);
            if (self.is_meant)(&CommandLine::parse(buffer.clone(), cut)) {
                return Some(true);
            }
        }
        Some(false)
    }
}

impl Host {
    /// Whether a command line of one of these processes, as far as they are there, is meant; none if one cannot be
    /// read, or not in time.
    pub fn has_command_line(
        &self,
        pids: Vec<HostPid>,
        is_meant: impl Fn(&CommandLine) -> bool + Send + Sync + 'static,
    ) -> Option<bool> {
        let threads = parallel::cpus().min(pids.len().div_ceil(SHARE));
        let (proc, next) = (self.proc_path(""), AtomicUsize::new(0));
        let search = Arc::new(CommandSearch { proc, pids, next, is_meant });
        let (sender, receiver) = channel();
        parallel::with_signals_blocked(|| {
            for _ in 0..threads {
                let (search, sender) = (Arc::clone(&search), sender.clone());
                let work = move || sender.send(search.find()).unwrap_or_default();
                // (Without a thread the answer is lost.)
                let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(work);
            }
        });
        drop(sender);
        let deadline = Instant::now() + TIMEOUT;
        let mut is_found = false;
        for _ in 0..threads {
            let rest = deadline.saturating_duration_since(Instant::now());
            is_found |= receiver.recv_timeout(rest).ok()??;
        }
        Some(is_found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_command_line_is_found_among_others() {
        let host = Host::new(Path::new("/")).unwrap();
        let own = HostPid::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let program = std::env::args().next().unwrap();
        let pids = vec![own; 200];
        let is_ours = move |line: &CommandLine| line.argv().next() == Some(program.as_bytes());
        assert_eq!(host.has_command_line(pids.clone(), is_ours), Some(true));
        assert_eq!(host.has_command_line(pids, |_| false), Some(false));
        assert_eq!(host.has_command_line(Vec::new(), |_| true), Some(false));
    }
}
