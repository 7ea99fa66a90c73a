//! The command lines of many processes, of which nothing else but the name is read. A process can make reading
//! its command line hang, so threads read them that are left behind if they do not return in time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::host::Host;
use super::parallel::parallel_map;
use super::read::{ReadError, read_at_once};
use super::snapshot::CommandLimit;
use crate::model::pid::HostPid;
use crate::model::process::{CommandLine, Fact};
use crate::sys::parallel;

/// Time for all of them, each of which takes microseconds.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Processes that a thread has to have to be worth its start.
const SHARE: usize = 64;

/// The work that all threads share.
struct CommandJob {
    proc: PathBuf,
    pids: Vec<HostPid>,
    next: AtomicUsize,
    lines: Mutex<HashMap<HostPid, Fact<CommandLine>>>,
}

impl CommandJob {
    /// Reads one command line after the other.
    fn run(&self) {
        let mut buffer = Vec::new();
        while let Some(pid) = self.pids.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let line = self.read_line(*pid, &mut buffer);
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(*pid, line);
        }
    }

    fn read_line(&self, pid: HostPid, buffer: &mut Vec<u8>) -> Fact<CommandLine> {
        let CommandLimit::Bytes(limit) = CommandLimit::SCREEN else { return Fact::Absent };
        let file = std::fs::File::open(self.proc.join(format!("{pid}/cmdline")));
        let file = file.map_err(ReadError::from);
        match file.and_then(|file| read_at_once(file, buffer, limit + 1)) {
            Ok(()) => {
                let cut = buffer.len() > limit;
                buffer.truncate(limit);
                Fact::Known(CommandLine::parse(buffer.clone(), cut))
            }
            Err(ReadError::Gone) => Fact::Absent,
            Err(_) => Fact::Denied,
        }
    }
}

impl Host {
    /// Returns for each of these lists the command lines of its processes that have such a name, as far as they are
    /// there; none where a name or a command line cannot be read, or not in time. All lists are read together:
    /// threads for each of them would take more time than the reading.
    pub fn command_lines(
        &self,
        lists: &[&[HostPid]],
        is_named: impl Fn(&[u8]) -> bool + Sync,
    ) -> Vec<Option<Vec<CommandLine>>> {
        let pids_of = |(list, pids): (usize, &&[HostPid])| {
            pids.iter().map(move |pid| (list, *pid)).collect::<Vec<_>>()
        };
        let all: Vec<(usize, HostPid)> = lists.iter().enumerate().flat_map(pids_of).collect();
        let names = parallel_map(&all, |(_, pid)| self.comm(*pid).map(|comm| is_named(&comm)));
        let mut lines = vec![Some(Vec::new()); lists.len()];
        let mut named = Vec::new();
        for ((list, pid), is_named) in all.into_iter().zip(names) {
            match is_named {
                Ok(true) => named.push((list, pid)),
                Ok(false) | Err(ReadError::Gone) => {}
                Err(_) => lines[list] = None,
            }
        }
        let read = self.read_command_lines(named.iter().map(|(_, pid)| *pid).collect());
        for (list, pid) in named {
            match (read.get(&pid), &mut lines[list]) {
                (Some(Fact::Known(line)), Some(lines)) => lines.push(line.clone()),
                (Some(Fact::Absent), _) | (_, None) => {}
                _ => lines[list] = None,
            }
        }
        lines
    }

    /// Returns the command lines that are read in time.
    fn read_command_lines(&self, pids: Vec<HostPid>) -> HashMap<HostPid, Fact<CommandLine>> {
        let threads = parallel::cpus().min(pids.len().div_ceil(SHARE));
        let (next, lines) = (AtomicUsize::new(0), Mutex::default());
        let job = Arc::new(CommandJob { proc: self.proc_path(""), pids, next, lines });
        let (sender, receiver) = channel::<()>();
        parallel::with_signals_blocked(|| {
            for _ in 0..threads {
                let (job, sender) = (Arc::clone(&job), sender.clone());
                let work = move || {
                    job.run();
                    drop(sender);
                };
                // (Without a thread the answers are missing.)
                let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(work);
            }
        });
        drop(sender);
        // Nothing is sent: the channel closes when the last thread is done.
        let _ = receiver.recv_timeout(TIMEOUT);
        std::mem::take(&mut job.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_list_gets_the_lines_of_its_named_processes() {
        let host = Host::new(Path::new("/")).unwrap();
        let own = HostPid::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        // (No process has it: the largest that the kernel gives is 2^22.)
        let gone = HostPid::new(i32::MAX).unwrap();
        let name = host.comm(own).unwrap();
        let program = std::env::args().next().unwrap();
        let lists: [&[HostPid]; 4] = [&[own; 200], &[gone], &[gone, own], &[]];
        let lines = host.command_lines(&lists, |comm| comm == name);
        let counts: Vec<Option<usize>> =
            lines.iter().map(|lines| lines.as_ref().map(Vec::len)).collect();
        assert_eq!(counts, [Some(200), Some(0), Some(1), Some(0)]);
        let first = lines.into_iter().flatten().flatten().next().unwrap();
        assert_eq!(first.argv().next(), Some(program.as_bytes()));
        let others = host.command_lines(&lists, |_| false);
        assert!(others.into_iter().all(|lines| lines.is_some_and(|lines| lines.is_empty())));
    }
}
