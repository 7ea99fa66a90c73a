//! A terminal taken over for a while: frames are drawn in place, each in one piece; keys and signals come
//! as events; and the terminal is left as it was, whatever ends the process.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    FlowArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcflow, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::sys::guardian::Guardian;
use crate::sys::streams;
use crate::sys::{fd::poll, terminal};

/// The alternate screen (xterm's 1049), no cursor, no wrapping at the edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A synchronised update, shown in one piece by terminals with mode 2026; others ignore it.
const BEGIN_FRAME: &str = "\x1b[?2026h\x1b[H";
const END_FRAME: &str = "\x1b[?2026l";

/// Signals that end or stop the process, which first has to restore the terminal; and SIGWINCH.
const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenEvent {
    /// The time to wait has passed.
    Timeout,
    /// The terminal may have another size, or its content is lost.
    Redraw,
    /// A key.
    Key(KeyPress),
    /// A signal that ends the process; the terminal is restored.
    Signal(Signal),
}

/// A key that has a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPress {
    /// `q`.
    Quit,
    /// Lines to scroll: down if positive, up if negative.
    Lines(i8),
    /// Pages to scroll: down if positive, up if negative.
    Pages(i8),
    /// To the first line.
    Start,
    /// To the last line.
    End,
}

/// A terminal that is taken over until this is dropped.
#[derive(Debug)]
pub struct Screen {
    signals: SignalFd,
    mask_before: SigSet,
    /// The modes to restore, while keys are read.
    modes_before: Option<Termios>,
    /// Restores the terminal if we are killed; ended when it is restored. None if it could not be started.
    guardian: Option<Guardian>,
}

impl Screen {
    /// Takes over the terminal of stdout, with the keys of stdin if that is a terminal too.
    ///
    /// # Errors
    /// No descriptor is left for signals, or stdout cannot be written.
    pub fn open() -> io::Result<Self> {
        let mask_before = SigSet::thread_get_mask()?;
        blocked_signals().thread_block()?;
        let set = SIGNALS.into_iter().collect();
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut screen = Self { signals, mask_before, modes_before: None, guardian: None };
        screen.enter()?;
        Ok(screen)
    }

    /// Returns rows and columns.
    pub fn size(&self) -> (usize, usize) {
        match terminal::size(io::stdout()) {
            Ok((rows @ 1.., columns @ 1..)) => (rows.into(), columns.into()),
            _ => (24, 80),
        }
    }

    /// Draws a frame: lines from the top, as many as there is room for.
    ///
    /// # Errors
    /// See write(2).
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        if !in_foreground() {
            // Stopped by SIGSTOP, which cannot be caught, and continued in the background.
            self.leave();
            self.enter()?;
        }
        write(&frame(lines, self.size().0))
    }

    /// Waits for an event.
    pub fn wait(&mut self, time: Duration) -> ScreenEvent {
        let until = Instant::now() + time;
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            let stdin = io::stdin();
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if self.modes_before.is_some() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, Some(remaining)) {
                Ok(0) => return ScreenEvent::Timeout,
                Err(Errno::EINTR) => continue,
                Err(_) => return ScreenEvent::Signal(Signal::SIGHUP),
                Ok(_) => {}
            }
            let mut events = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            let signalled = events.next().is_some_and(|events| !events.is_empty());
            let typed = events.next().filter(|events| !events.is_empty());
            if signalled && let Some(event) = self.read_signal() {
                return event;
            }
            match typed {
                None => {}
                // In the background the keys are the shell's, and reading them would stop the process.
                Some(_) if !in_foreground() => return ScreenEvent::Redraw,
                Some(events) if events.contains(PollFlags::POLLIN) => match read_key() {
                    Ok(Some(key)) => return ScreenEvent::Key(key),
                    Ok(None) => {}
                    Err(EndOfInput) => self.restore_modes(),
                },
                Some(_) => self.restore_modes(),
            }
        }
    }

    fn read_signal(&mut self) -> Option<ScreenEvent> {
        let info = self.signals.read_signal().ok().flatten()?;
        match Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()? {
            Signal::SIGWINCH => Some(ScreenEvent::Redraw),
            Signal::SIGTSTP => {
                // Stops with the terminal as it was, and takes it over again when continued.
                self.leave();
                let _ = raise(Signal::SIGSTOP);
                Some(match self.enter() {
                    Ok(()) => ScreenEvent::Redraw,
                    Err(_) => ScreenEvent::Signal(Signal::SIGHUP),
                })
            }
            signal => {
                self.leave();
                Some(ScreenEvent::Signal(signal))
            }
        }
    }

    /// Takes the terminal over, once this process is in its foreground: until then the kernel stops it.
    fn enter(&mut self) -> io::Result<()> {
        self.wait_for_foreground()?;
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
        self.guardian = start_guardian(before.as_ref());
        // Keys are read one by one and are not echoed; Ctrl-C and Ctrl-Z keep their meaning.
        if let Some(before) = before {
            let mut modes = before.clone();
            modes.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
            modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            if tcsetattr(&stdin, SetArg::TCSANOW, &modes).is_ok() {
                self.modes_before = Some(before);
            }
        }
        write(ENTER)
    }

    /// Waits until this process may use the terminal: one that was started with `&`, or sent to the
    /// background by `bg`, is stopped until `fg`, like any that uses the terminal from the
    /// background: by SIGTTOU, which any request to the terminal brings. Meanwhile signals are not
    /// blocked, so that `kill %1` ends it: the terminal is as it was, and in a signalfd they would
    /// wait for a reader that is stopped again first.
    fn wait_for_foreground(&self) -> io::Result<()> {
        self.mask_before.thread_set_mask()?;
        // Resuming output that Ctrl-S did not stop is the smallest request there is.
        let requested = if in_foreground() { Ok(()) } else { tcflow(io::stdout(), FlowArg::TCOON) };
        blocked_signals().thread_block()?;
        Ok(requested?)
    }

    fn restore_modes(&mut self) {
        // (If a shell has taken the terminal back, it has set its own modes.)
        if let Some(before) = self.modes_before.take()
            && in_foreground()
        {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
        }
    }

    fn leave(&mut self) {
        self.restore_modes();
        let _ = write(LEAVE);
        self.guardian = None;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
        let _ = self.mask_before.thread_set_mask();
    }
}

/// Returns the signals that are blocked meanwhile: those that come as events; and SIGTTOU, so that
/// restoring the terminal never stops halfway.
fn blocked_signals() -> SigSet {
    SIGNALS.into_iter().chain([Signal::SIGTTOU]).collect()
}

/// Starts a child that restores the terminal if we are killed. It makes system calls only.
fn start_guardian(before: Option<&Termios>) -> Option<Guardian> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let (input, output) = (stdin.as_fd(), stdout.as_fd());
    let undo = || {
        // With SIGTTOU ignored both work from the background, too.
        if let Some(before) = before {
            let _ = tcsetattr(input, SetArg::TCSANOW, before);
        }
        let _ = nix::unistd::write(output, LEAVE.as_bytes());
    };
    Guardian::start(&[input.as_raw_fd(), output.as_raw_fd()], undo).ok()
}

/// Whether this process is in the foreground of the terminal: a shell gives it to one of its jobs at a
/// time. (A terminal other than the controlling one has no foreground.)
fn in_foreground() -> bool {
    tcgetpgrp(io::stdout()).map_or(true, |group| group == getpgrp())
}

/// Returns a frame as it is written. Each line is cleared before it is written, not afterwards:
/// after a line as wide as the terminal the cursor is still on its last letter.
fn frame(lines: &[String], rows: usize) -> String {
    let mut text = BEGIN_FRAME.to_owned();
    for (row, line) in lines.iter().take(rows).enumerate() {
        text.push_str(if row == 0 { "\x1b[K" } else { "\r\n\x1b[K" });
        text.push_str(line);
    }
    if lines.len() < rows {
        text.push_str("\r\n\x1b[J");
    }
    text.push_str(END_FRAME);
    text
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = streams::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The end of the input.
struct EndOfInput;

/// Reads a key, if it has a meaning.
fn read_key() -> Result<Option<KeyPress>, EndOfInput> {
    let mut bytes = [0; 64];
    match nix::unistd::read(io::stdin(), &mut bytes) {
        Ok(0) => Err(EndOfInput),
        Ok(count) => Ok(key(&bytes[..count])),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(_) => Err(EndOfInput),
    }
}

/// Returns the last key in these bytes, if it has a meaning.
fn key(bytes: &[u8]) -> Option<KeyPress> {
    const KEYS: &[(&[u8], KeyPress)] = &[
        (b"q", KeyPress::Quit),
        (b"Q", KeyPress::Quit),
        (b"k", KeyPress::Lines(-1)),
        (b"j", KeyPress::Lines(1)),
        (b"\x1b[A", KeyPress::Lines(-1)),
        (b"\x1b[B", KeyPress::Lines(1)),
        (b"\x1bOA", KeyPress::Lines(-1)),
        (b"\x1bOB", KeyPress::Lines(1)),
        (b"\x1b[5~", KeyPress::Pages(-1)),
        (b"\x1b[6~", KeyPress::Pages(1)),
        (b" ", KeyPress::Pages(1)),
        (b"g", KeyPress::Start),
        (b"G", KeyPress::End),
        (b"\x1b[H", KeyPress::Start),
        (b"\x1b[F", KeyPress::End),
    ];
    KEYS.iter().find(|(typed, _)| bytes.ends_with(typed)).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_as_wide_as_the_terminal_keeps_its_last_letter() {
        let lines = ["one".to_owned(), "two".to_owned()];
        let clear = "\x1b[?2026h\x1b[H\x1b[Kone\r\n\x1b[Ktwo";
        assert_eq!(frame(&lines, 2), format!("{clear}\x1b[?2026l"));
        assert_eq!(frame(&lines, 3), format!("{clear}\r\n\x1b[J\x1b[?2026l"));
        assert_eq!(frame(&lines, 1), "\x1b[?2026h\x1b[H\x1b[Kone\x1b[?2026l");
    }

    #[test]
    fn keys_are_recognised_by_the_bytes_that_terminals_send() {
        for (bytes, wanted) in [
            (&b"q"[..], Some(KeyPress::Quit)),
            (b"\x1b[A", Some(KeyPress::Lines(-1))),
            (b"\x1bOB", Some(KeyPress::Lines(1))),
            (b"\x1b[6~", Some(KeyPress::Pages(1))),
            (b"\x1b", None),
            (b"x", None),
            (b"", None),
        ] {
            assert_eq!(key(bytes), wanted, "{bytes:?}");
        }
    }
}
