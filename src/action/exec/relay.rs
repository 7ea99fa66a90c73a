//! Carries bytes between us and the command, and signals to it, until it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::terminal::{self, RawMode};
use crate::sys::pidfd::{self, SignalScope};

/// What is carried at once, each way.
const CHUNK: usize = 64 << 10;
/// How long is waited for output that is still on its way through a terminal.
const LAST_WORDS: Duration = Duration::from_millis(60);
/// And altogether, once the command has ended: others may go on writing to it for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// One direction.
pub struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// What is written where it ends, to a terminal that cannot be closed.
    at_end: Option<u8>,
    /// Whether it goes to the command.
    inward: bool,
    /// A file that is read, and the command's end of the pipe: what is left there was not taken.
    file: Option<(OwnedFd, OwnedFd)>,
    /// How much is still to be read once the command has ended: what it left in its pipe.
    owed: Option<u64>,
}

impl Pump {
    /// From the one to the other.
    pub fn new(from: OwnedFd, to: OwnedFd, inward: bool) -> Self {
        let buffer = Vec::new();
        Self {
            from: Some(from),
            to: Some(to),
            buffer,
            at_end: None,
            inward,
            file: None,
            owed: None,
        }
    }

    /// The same, where what is not taken of a file is given back: `theirs` is the command's end.
    #[must_use]
    pub fn giving_back(mut self, theirs: &OwnedFd) -> Self {
        let is_file = |fd: &&OwnedFd| {
            let stat = rustix::fs::fstat(fd);
            stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
        };
        let file = self.from.as_ref().filter(is_file);
        self.file = file.and_then(|file| Some((file.try_clone().ok()?, theirs.try_clone().ok()?)));
        self
    }

    /// Gives back what the command has not taken of a file, as if it had read by itself: whoever
    /// called us in a loop over the lines of one goes on with the next.
    fn give_back(&self) {
        let Some((file, theirs)) = &self.file else { return };
        let in_pipe = rustix::io::ioctl_fionread(theirs).unwrap_or(0);
        let left = i64::try_from(self.buffer.len() as u64 + in_pipe).unwrap_or(0);
        if left > 0 {
            let _ = rustix::fs::seek(file, rustix::fs::SeekFrom::Current(-left));
        }
    }

    /// The same, where the end has to be said.
    #[must_use]
    pub fn ending_with(mut self, byte: u8) -> Self {
        self.at_end = Some(byte);
        self
    }

    fn read(&mut self) {
        let Some(from) = &self.from else { return };
        let most = self.owed.unwrap_or(u64::MAX).min(CHUNK as u64);
        let mut chunk = vec![0; usize::try_from(most).unwrap_or(CHUNK)];
        match rustix::io::read(from, chunk.as_mut_slice()) {
            Ok(0) => self.end(),
            Ok(many) => {
                chunk.truncate(many);
                self.buffer = chunk;
                if let Some(owed) = &mut self.owed {
                    *owed = owed.saturating_sub(many as u64);
                    if *owed == 0 {
                        self.from = None;
                    }
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal whose other end nobody has any more answers EIO.
            Err(_) => self.end(),
        }
    }

    /// The command has ended: what it wrote before that is in the pipe, however slowly it is taken from
    /// us; what others write there later is not its.
    fn settle(&mut self) {
        let left = self.from.as_ref().and_then(|from| rustix::io::ioctl_fionread(from).ok());
        self.owed = Some(left.unwrap_or(0));
        if self.owed == Some(0) {
            self.from = None;
            if self.buffer.is_empty() {
                self.to = None;
            }
        }
    }

    /// Whether something is still to be written to us.
    fn is_pending(&self) -> bool {
        !self.inward && self.to.is_some() && !self.buffer.is_empty()
    }

    fn end(&mut self) {
        self.from = None;
        match self.at_end.take() {
            Some(byte) => self.buffer.push(byte),
            None => self.to = None,
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        // A pipe that is ready takes so many without keeping us waiting.
        let many = self.buffer.len().min(4096);
        match rustix::io::write(to, &self.buffer[..many]) {
            Ok(written) => {
                self.buffer.drain(..written);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                // Nobody reads it: whoever writes is to know.
                (self.from, self.to) = (None, None);
                self.buffer.clear();
            }
        }
        if self.buffer.is_empty() && self.from.is_none() {
            self.to = None;
        }
    }
}

/// What is passed on to the command, but for the terminal's own.
const PASSED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];

/// Signals as something to be read.
pub struct SignalForwarder(SignalFd);

impl SignalForwarder {
    /// From here on they come this way.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new() -> Result<Self, nix::errno::Errno> {
        let mut set = SigSet::empty();
        PASSED.into_iter().for_each(|signal| set.add(signal));
        set.add(Signal::SIGWINCH);
        set.add(Signal::SIGTSTP);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }
}

/// A command that runs.
pub struct Relay<'a> {
    /// It.
    pub command: &'a OwnedFd,
    /// Who waits for it, and ends as it does.
    pub helper: &'a OwnedFd,
    /// The streams.
    pub pumps: Vec<Pump>,
    /// Our end of its terminal, and our own.
    pub terminal: Option<(&'a OwnedFd, Option<&'a RawMode>)>,
    /// Signals to us.
    pub signals: SignalForwarder,
}

impl Relay<'_> {
    /// Carries until the helper has ended, and what the command said before that.
    pub fn run(mut self) {
        self.carry();
        self.pumps.iter().for_each(Pump::give_back);
    }

    fn carry(&mut self) {
        let mut ended: Option<Instant> = None;
        loop {
            let draining = ended.is_some();
            if draining && !self.pumps.iter().any(|pump| !pump.inward && pump.to.is_some()) {
                return;
            }
            let pending = self.pumps.iter().any(Pump::is_pending);
            let over = ended.is_some_and(|ended| ended.elapsed() > DRAIN);
            if over && !pending && self.terminal.is_some() {
                return;
            }
            match self.turn(draining, pending) {
                Turn::Ended => {
                    ended = Some(Instant::now());
                    // A terminal may have more on its way than can be asked for.
                    if self.terminal.is_none() {
                        self.pumps.iter_mut().filter(|pump| !pump.inward).for_each(Pump::settle);
                    }
                }
                // All that was on its way has come.
                Turn::Nothing if draining && !pending => return,
                Turn::Nothing | Turn::Something => {}
            }
        }
    }

    fn turn(&mut self, draining: bool, pending: bool) -> Turn {
        // Nobody waits for more than what is there, but for what is there as long as it takes.
        let idle = draining && !pending && self.terminal.is_some();
        let signals = self.signals.0.as_fd();
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        let mut whose = Vec::new();
        for (at, pump) in self.pumps.iter().enumerate() {
            match (&pump.from, &pump.to) {
                // Once it has ended nobody reads what we would write.
                _ if pump.inward && draining => {}
                (_, Some(to)) if !pump.buffer.is_empty() => {
                    fds.push(PollFd::new(to, PollFlags::OUT));
                    whose.push(at);
                }
                (Some(from), _) => {
                    fds.push(PollFd::new(from, PollFlags::IN));
                    whose.push(at);
                }
                _ => {}
            }
        }
        if !draining {
            fds.push(PollFd::new(self.helper, PollFlags::IN));
        }
        let last = Timespec { tv_sec: 0, tv_nsec: i64::from(LAST_WORDS.subsec_nanos()) };
        let timespec = idle.then_some(last);
        match poll(&mut fds, timespec.as_ref()) {
            Err(Errno::INTR) => return Turn::Something,
            Err(_) => return Turn::Nothing,
            Ok(_) => {}
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let mut any = false;
        for (at, events) in whose.iter().copied().zip(&events[1..]).filter(|(_, e)| !e.is_empty()) {
            any = true;
            let pump = &mut self.pumps[at];
            if pump.buffer.is_empty() {
                pump.read();
            } else if events.contains(PollFlags::OUT) {
                pump.write();
            } else {
                (pump.from, pump.to) = (None, None);
            }
        }
        if !events[0].is_empty() {
            any = true;
            while let Ok(Some(info)) = self.signals.0.read_signal() {
                self.pass_on(info.ssi_signo);
            }
        }
        if events.get(1 + whose.len()).is_some_and(|events| !events.is_empty()) {
            return Turn::Ended;
        }
        if any { Turn::Something } else { Turn::Nothing }
    }

    fn pass_on(&self, number: u32) {
        let number = i32::try_from(number).unwrap_or(0);
        if number == Signal::SIGWINCH as i32 {
            if let Some((own, _)) = self.terminal
                && let Some(size) = terminal::size(rustix::stdio::stdin())
            {
                terminal::set_size(own, size);
            }
        } else if number == Signal::SIGTSTP as i32 {
            self.pause();
        } else {
            let _ = pidfd::send(self.command, number, None, SignalScope::Process);
        }
    }

    /// Somebody stops us: with the terminal as it was, and raw again when we go on.
    fn pause(&self) {
        let raw = self.terminal.and_then(|(_, raw)| raw);
        if let Some(raw) = raw {
            raw.restore();
        }
        let _ = nix::sys::signal::raise(Signal::SIGSTOP);
        if let Some((own, Some(raw))) = self.terminal {
            let _ = raw.again();
            if let Some(size) = terminal::size(rustix::stdio::stdin()) {
                terminal::set_size(own, size);
            }
        }
    }
}

enum Turn {
    /// The helper has ended.
    Ended,
    /// Something was carried.
    Something,
    /// Nothing was.
    Nothing,
}

/// Whether the command may have this very descriptor for its stdin: a pipe, of which it then takes no
/// more than it reads. By anything else (a file, a terminal, a socket, a device) it could reach more
/// than it was given: `/proc/self/fd` opens it anew.
pub fn may_have(stdin: BorrowedFd<'_>) -> bool {
    let Ok(stat) = rustix::fs::fstat(stdin) else { return false };
    let null = rustix::fs::makedev(1, 3);
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Fifo => true,
        rustix::fs::FileType::CharacterDevice => stat.st_rdev == null,
        _ => false,
    }
}
