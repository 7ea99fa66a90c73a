//! The relay between cinspect and a running command: bytes by the pumps, and signals to cinspect on to the
//! command, until the command exits.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::streams::Pump;
use super::terminal::{RawMode, terminal_size};
use crate::sys::fd::poll;
use crate::sys::pidfd::{self, SignalScope};
use crate::sys::terminal::set_size;

/// How long to wait for output that is still on its way through a terminal.
const TERMINAL_DELAY: Duration = Duration::from_millis(60);
/// How long to relay a terminal's output after the command has exited: other processes may write to
/// it forever.
const DRAIN: Duration = Duration::from_secs(1);

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];

/// Signals to cinspect as a descriptor to read.
pub struct SignalForwarder(SignalFd);

impl SignalForwarder {
    /// Blocks the signals that are forwarded, SIGWINCH and SIGTSTP, which are read from here on.
    ///
    /// # Errors
    /// See signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        let signals = FORWARDED.into_iter().chain([Signal::SIGWINCH, Signal::SIGTSTP]);
        let set: SigSet = signals.collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }
}

/// A running command and its connections.
pub struct Relay<'a> {
    /// A pidfd of the command.
    pub command: &'a OwnedFd,
    /// The streams.
    pub pumps: Vec<Pump>,
    /// The master of the command's terminal, and cinspect's own terminal if that is in raw mode.
    pub terminal: Option<(&'a OwnedFd, Option<&'a RawMode>)>,
    /// Signals to cinspect.
    pub signals: &'a SignalForwarder,
}

/// The result of one poll(2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The command has exited.
    Exited,
    /// Bytes or signals were relayed.
    Relayed,
    /// Nothing happened in time.
    Idle,
}

impl Relay<'_> {
    /// Relays until the command has exited and the command's output up to then is written.
    ///
    /// # Errors
    /// The first error of a stream by which bytes were lost.
    pub fn run(mut self) -> Result<(), (&'static str, Errno)> {
        self.relay();
        self.pumps.iter().for_each(Pump::return_unread);
        self.pumps.iter().find_map(|pump| pump.error).map_or(Ok(()), Err)
    }

    fn relay(&mut self) {
        let mut exited: Option<Instant> = None;
        loop {
            let is_draining = exited.is_some();
            let is_open = |pump: &Pump| !pump.is_input && pump.sink.is_some();
            if is_draining && !self.pumps.iter().any(is_open) {
                return;
            }
            let has_pending = self.pumps.iter().any(Pump::has_pending_output);
            let is_over = exited.is_some_and(|exited| exited.elapsed() > DRAIN);
            if is_over && !has_pending && self.terminal.is_some() {
                return;
            }
            match self.relay_once(is_draining, has_pending) {
                Progress::Exited => {
                    exited = Some(Instant::now());
                    // A terminal may hold back more than FIONREAD counts.
                    if self.terminal.is_none() {
                        let outputs = self.pumps.iter_mut().filter(|pump| !pump.is_input);
                        outputs.for_each(Pump::limit_to_pending);
                    }
                }
                Progress::Idle if is_draining && !has_pending => return,
                Progress::Idle | Progress::Relayed => {}
            }
        }
    }

    fn relay_once(&mut self, is_draining: bool, has_pending: bool) -> Progress {
        // Only output that may not come has a time limit; pending output waits for its reader.
        let may_not_come = is_draining && !has_pending && self.terminal.is_some();
        let (mut fds, polled) = self.poll_set(is_draining);
        match poll(&mut fds, may_not_come.then_some(TERMINAL_DELAY)) {
            Err(Errno::EINTR) => return Progress::Relayed,
            Err(_) => return Progress::Idle,
            Ok(_) => {}
        }
        let events: Vec<PollFlags> =
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)).collect();
        drop(fds);
        let mut progress = Progress::Idle;
        let ready = polled.iter().copied().zip(&events[1..]);
        for (index, events) in ready.filter(|(_, events)| !events.is_empty()) {
            progress = Progress::Relayed;
            let pump = &mut self.pumps[index];
            if pump.buffer.is_empty() {
                pump.read();
            } else if events.contains(PollFlags::POLLOUT) {
                pump.write();
            } else {
                pump.close();
            }
        }
        if !events[0].is_empty() {
            progress = Progress::Relayed;
            while let Ok(Some(info)) = self.signals.0.read_signal() {
                self.forward(info.ssi_signo);
            }
        }
        match events.get(1 + polled.len()) {
            Some(command) if !command.is_empty() => Progress::Exited,
            _ => progress,
        }
    }

    /// Returns the descriptors to poll: the signals, then one for each of the pumps in the second list,
    /// then the command while it runs.
    fn poll_set(&self, is_draining: bool) -> (Vec<PollFd<'_>>, Vec<usize>) {
        let mut fds = vec![PollFd::new(self.signals.0.as_fd(), PollFlags::POLLIN)];
        let mut polled = Vec::new();
        for (index, pump) in self.pumps.iter().enumerate() {
            let fd = match (&pump.source, &pump.sink) {
                // The command has exited and reads nothing any more.
                _ if pump.is_input && is_draining => continue,
                (_, Some(sink)) if !pump.buffer.is_empty() => {
                    PollFd::new(sink.as_fd(), PollFlags::POLLOUT)
                }
                (Some(source), _) => PollFd::new(source.as_fd(), PollFlags::POLLIN),
                _ => continue,
            };
            fds.push(fd);
            polled.push(index);
        }
        if !is_draining {
            fds.push(PollFd::new(self.command.as_fd(), PollFlags::POLLIN));
        }
        (fds, polled)
    }

    fn forward(&self, number: u32) {
        let number = i32::try_from(number).unwrap_or(0);
        if number == Signal::SIGWINCH as i32 {
            self.resize();
        } else if number == Signal::SIGTSTP as i32 {
            self.suspend();
        } else {
            let _ = pidfd::send(self.command, number, None, SignalScope::Process);
        }
    }

    fn resize(&self) {
        if let Some((master, _)) = self.terminal
            && let Some(size) = terminal_size()
        {
            let _ = set_size(master, size);
        }
    }

    /// Stops cinspect, with its terminal restored until it is continued.
    fn suspend(&self) {
        let raw = self.terminal.and_then(|(_, raw)| raw);
        if let Some(raw) = raw {
            raw.restore();
        }
        let _ = raise(Signal::SIGSTOP);
        if let Some(raw) = raw {
            let _ = raw.set();
            self.resize();
        }
    }
}
