//! A terminal taken over for a while: each picture is drawn over the one before in one piece, keys and
//! signals are told, and the terminal is left as it was, whatever ends us.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Action, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{tcflow, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// Another page beside what was there (xterm's 1049), no cursor, and no wrapping at the edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A picture shown in one piece, by terminals that know the mode 2026; others pass it over.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[?2026l";

/// What ends us, and has to find the terminal as it was; and what it tells.
const HEARD: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenEvent {
    /// The time is over.
    Time,
    /// The terminal may have another size, or has to be drawn anew.
    Redraw,
    /// A key.
    Key(KeyPress),
    /// A signal that ends us; the terminal is as it was.
    Ended(Signal),
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPress {
    /// `q`.
    Quit,
    /// A line up or down.
    Line(i32),
    /// A page.
    Page(i32),
    /// The first line, or the last.
    End(bool),
}

/// The terminal, as long as it is ours.
#[derive(Debug)]
pub struct Screen {
    signals: SignalFd,
    before: SigSet,
    keys: Option<Termios>,
}

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// When signals cannot be had as something to be read.
    pub fn open() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        held().thread_block()?;
        let set = HEARD.into_iter().collect();
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut screen = Self { signals, before, keys: None };
        screen.take()?;
        Ok(screen)
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok().filter(|s| s.ws_row > 0 && s.ws_col > 0);
        size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()))
    }

    /// Draws a picture: lines from the top, as many as there is room for.
    ///
    /// # Errors
    /// Those of writing to stdout.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        if !is_ours() {
            // Stopped by somebody (STOP cannot be heard), and running again behind a shell.
            self.leave();
            self.take()?;
        }
        write(&drawn(lines, self.size().0))
    }

    /// Waits for something to come.
    pub fn wait(&mut self, time: Duration) -> ScreenEvent {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let stdin = io::stdin();
            let signals = self.signals.as_fd();
            let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
            if self.keys.is_some() {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return ScreenEvent::Time,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return ScreenEvent::Ended(Signal::SIGHUP),
                Ok(_) => {}
            }
            let (signalled, typed) =
                (!fds[0].revents().is_empty(), fds.get(1).map(PollFd::revents));
            if signalled && let Some(event) = self.hear() {
                return event;
            }
            match typed {
                // What is typed is for the shell then, and reading it would stop us.
                Some(came) if !came.is_empty() && !is_ours() => return ScreenEvent::Redraw,
                Some(came) if came.contains(PollFlags::IN) => match read_key() {
                    Ok(Some(key)) => return ScreenEvent::Key(key),
                    Ok(None) => {}
                    // Its end: nobody types any more.
                    Err(()) => self.give_keys_back(),
                },
                Some(came) if !came.is_empty() => self.give_keys_back(),
                _ => {}
            }
        }
    }

    fn hear(&mut self) -> Option<ScreenEvent> {
        let heard = self.signals.read_signal().ok().flatten()?;
        match Signal::try_from(i32::try_from(heard.ssi_signo).ok()?).ok()? {
            Signal::SIGWINCH => Some(ScreenEvent::Redraw),
            Signal::SIGTSTP => {
                // Stopped as the terminal finds it, and taken over again when that is over.
                self.leave();
                let _ = raise(Signal::SIGSTOP);
                Some(match self.take() {
                    Ok(()) => ScreenEvent::Redraw,
                    Err(_) => ScreenEvent::Ended(Signal::SIGHUP),
                })
            }
            signal => {
                self.leave();
                Some(ScreenEvent::Ended(signal))
            }
        }
    }

    /// Takes the terminal over, once it is ours: until then the kernel stops us.
    fn take(&mut self) -> io::Result<()> {
        self.wait_for_our_turn()?;
        let stdin = io::stdin();
        // Keys come one by one and are not shown; Ctrl-C and Ctrl-Z stay what they are.
        if stdin.is_terminal()
            && let Ok(before) = tcgetattr(&stdin)
        {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VMIN] = 0;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            if tcsetattr(&stdin, OptionalActions::Now, &keys).is_ok() {
                self.keys = Some(before);
            }
        }
        write(ENTER)
    }

    /// Started with `&`, or sent there by `bg`, we are stopped until `fg`, as who wants the terminal
    /// from behind is: by SIGTTOU, which asking anything of the terminal brings.
    /// Signals are let through meanwhile, for `kill %1` is to end us: they find the terminal as it
    /// was, and behind a signalfd they would wait for a reader that is stopped again first.
    fn wait_for_our_turn(&self) -> io::Result<()> {
        let stdout = io::stdout();
        self.before.thread_set_mask()?;
        // Output that Ctrl-S did not stop goes on: the least that can be asked of it.
        let asked = if is_ours() { Ok(()) } else { tcflow(stdout, Action::OOn) };
        held().thread_block()?;
        Ok(asked?)
    }

    fn give_keys_back(&mut self) {
        // (Where a shell has taken the terminal back they are as it wants them.)
        if let Some(before) = self.keys.take()
            && is_ours()
        {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }

    fn leave(&mut self) {
        self.give_keys_back();
        let _ = write(LEAVE);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
        let _ = self.before.thread_set_mask();
    }
}

/// What is kept from acting on us: the signals that are heard; and SIGTTOU, so that leaving the
/// terminal never stops us halfway.
fn held() -> SigSet {
    HEARD.into_iter().chain([Signal::SIGTTOU]).collect()
}

/// Whether the terminal is ours to use: a shell gives it to one of its jobs at a time. (Where it is
/// not the one that we are controlled by, everybody may.)
fn is_ours() -> bool {
    tcgetpgrp(io::stdout()).map_or(true, |group| group == rustix::process::getpgrp())
}

/// A picture as it is written. What was there is cleared before a line and not behind it: behind one
/// that is as wide as the terminal the cursor still stands on its last letter.
fn drawn(lines: &[String], rows: usize) -> String {
    let mut text = BEGIN.to_owned();
    for (at, line) in lines.iter().take(rows).enumerate() {
        text.push_str(if at == 0 { "\x1b[K" } else { "\r\n\x1b[K" });
        text.push_str(line);
    }
    if lines.len() < rows {
        text.push_str("\r\n\x1b[J");
    }
    text.push_str(END);
    text
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What was typed, if it means something; an error at the end of the input.
fn read_key() -> Result<Option<KeyPress>, ()> {
    let mut bytes = [0; 64];
    match rustix::io::read(io::stdin(), &mut bytes) {
        Ok(0) => Err(()),
        Ok(many) => Ok(key(&bytes[..many])),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(None),
        Err(_) => Err(()),
    }
}

/// The last of the keys in these bytes that means something.
fn key(bytes: &[u8]) -> Option<KeyPress> {
    const KEYS: &[(&[u8], KeyPress)] = &[
        (b"q", KeyPress::Quit),
        (b"Q", KeyPress::Quit),
        (b"k", KeyPress::Line(-1)),
        (b"j", KeyPress::Line(1)),
        (b"\x1b[A", KeyPress::Line(-1)),
        (b"\x1b[B", KeyPress::Line(1)),
        (b"\x1bOA", KeyPress::Line(-1)),
        (b"\x1bOB", KeyPress::Line(1)),
        (b"\x1b[5~", KeyPress::Page(-1)),
        (b"\x1b[6~", KeyPress::Page(1)),
        (b" ", KeyPress::Page(1)),
        (b"g", KeyPress::End(false)),
        (b"G", KeyPress::End(true)),
        (b"\x1b[H", KeyPress::End(false)),
        (b"\x1b[F", KeyPress::End(true)),
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
        assert_eq!(drawn(&lines, 2), format!("{clear}\x1b[?2026l"));
        assert_eq!(drawn(&lines, 3), format!("{clear}\r\n\x1b[J\x1b[?2026l"));
        assert_eq!(drawn(&lines, 1), "\x1b[?2026h\x1b[H\x1b[Kone\x1b[?2026l");
    }

    #[test]
    fn keys_are_told_from_the_escapes_that_terminals_send() {
        for (bytes, wanted) in [
            (&b"q"[..], Some(KeyPress::Quit)),
            (b"\x1b[A", Some(KeyPress::Line(-1))),
            (b"\x1bOB", Some(KeyPress::Line(1))),
            (b"\x1b[6~", Some(KeyPress::Page(1))),
            (b"\x1b", None),
            (b"x", None),
            (b"", None),
        ] {
            assert_eq!(key(bytes), wanted, "{bytes:?}");
        }
    }
}
