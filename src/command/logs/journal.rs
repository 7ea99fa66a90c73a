//! The log of a container in systemd's journal, by journalctl(1): its engine writes there with the
//! container's ID.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, ExitStatus as ProcessStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;

use super::end_watch::EndWatch;
use super::{INTERVAL, Printer};
use crate::error::{Error, ExitStatus, os_error};
use crate::model::log_record::LogRecord;
use crate::proc::LogRange;

/// Longest entry; a longer one is left out. Engines split lines after 16 KiB, and a byte that is not UTF-8 may
/// take four.
const MAX_ENTRY: usize = 1 << 20;
/// Entries that wait to be printed.
const MAX_WAITING: usize = 256;
/// The longest time in which the journal writes the messages that it has received.
const LATEST_SYNC: Duration = Duration::from_secs(5);

/// An entry as `journalctl -o json` prints it.
#[derive(Deserialize)]
struct JournalEntry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: Option<String>,
    #[serde(rename = "__CURSOR")]
    cursor: Option<String>,
    #[serde(rename = "MESSAGE", default)]
    message: JournalText,
    /// 3 for stderr, 6 for stdout.
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
    #[serde(rename = "CONTAINER_PARTIAL_MESSAGE")]
    partial: Option<String>,
}

/// A field: an array of bytes if it is not UTF-8.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum JournalText {
    Text(String),
    Bytes(Vec<u8>),
    #[default]
    None,
}

/// Prints the log of a container from the journal; with `-f`, until it ends.
pub(super) fn print(
    printer: &Printer<'_>,
    range: LogRange,
    mut end: EndWatch<'_>,
) -> Result<(), Error> {
    let mut log = JournalLog { printer, range, cursor: None, unread: 0 };
    let began = Timestamp::now();
    let mut flow = ControlFlow::Continue(());
    if !end.is_over() {
        flow = log.read(true, &mut end)?;
        // (The rest is read when the journal has written it.)
        if let (Some(0), None) = (range.last, &log.cursor) {
            log.range = LogRange { last: None, since: Some(began) };
        }
        log.sync();
    }
    if flow.is_continue() && log.read(false, &mut end)?.is_continue() {
        end.note();
    }
    match log.unread {
        0 => {}
        count => printer.context.ui.warn(&format!(
            "{count} entries of the journal are longer than 1 MiB or damaged, and are not printed"
        )),
    }
    Ok(())
}

/// The log of a container in the journal.
struct JournalLog<'a> {
    printer: &'a Printer<'a>,
    range: LogRange,
    /// The place of the entry that was printed last.
    cursor: Option<String>,
    /// Number of entries that could not be read.
    unread: u64,
}

impl JournalLog<'_> {
    /// Returns the entries of the container.
    fn matching(&self) -> [String; 2] {
        let container = self.printer.container;
        let id = container.id.as_deref().unwrap_or_default();
        // Any program may write any field but those that begin with `_`: the writer has to be the engine's.
        [format!("CONTAINER_ID_FULL={id}"), format!("_UID={}", container.user.unwrap_or(0))]
    }

    fn command(&self, follow: bool) -> Command {
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--no-pager", "--quiet", "--all"]).args(self.matching());
        command.arg("--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE");
        let LogRange { last, since } = self.range;
        if let Some(cursor) = &self.cursor {
            command.arg(format!("--after-cursor={cursor}")).arg("--lines=all");
        } else {
            command.arg(last.map_or("--lines=all".into(), |count| format!("--lines={count}")));
            command.args(since.map(|since| {
                let micros = since.as_microsecond().max(0);
                format!("--since=@{}.{:06}", micros / 1_000_000, micros % 1_000_000)
            }));
        }
        command.args(follow.then_some("--follow"));
        let root = self.printer.host.root();
        if root != Path::new("/") {
            command.arg("--root").arg(root);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Prints entries: those that are there, or with `follow` those that come until the container ends. Breaks
    /// once the reader of the output is gone.
    fn read(&mut self, follow: bool, end: &mut EndWatch<'_>) -> Result<ControlFlow<()>, Error> {
        let spawned = self.command(follow).spawn();
        let mut child = Journalctl(spawned.map_err(|error| self.failed(os_error(error)))?);
        let entries = child
            .entries()
            .map_err(|error| self.failed(format!("cannot start a thread: {}", os_error(error))))?;
        loop {
            match entries.recv_timeout(INTERVAL) {
                Ok(Ok(line)) => {
                    if self.print(&line)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(Err(error)) => return Err(self.failed(os_error(error))),
                Err(RecvTimeoutError::Timeout) if follow && end.is_over() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    match child.0.wait() {
                        Ok(status) if !status.success() => return Err(self.exited(status)),
                        _ => break,
                    };
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print(&mut self, line: &[u8]) -> Result<ControlFlow<()>, Error> {
        let Ok(mut entry) = serde_json::from_slice::<JournalEntry>(line) else {
            self.unread += 1;
            return Ok(ControlFlow::Continue(()));
        };
        self.cursor = entry.cursor.take().or(self.cursor.take());
        self.printer.print(&entry.record())
    }

    /// Waits until the journal reports that the messages that it has received are written.
    fn sync(&self) {
        let mut command = Command::new("journalctl");
        command.arg("--sync").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if self.printer.host.root() != Path::new("/") {
            return;
        }
        let Ok(child) = command.spawn() else { return };
        let (mut child, began) = (Journalctl(child), Instant::now());
        while matches!(child.0.try_wait(), Ok(None)) && began.elapsed() < LATEST_SYNC {
            std::thread::sleep(INTERVAL / 10);
        }
    }

    fn exited(&self, status: ProcessStatus) -> Error {
        self.failed(format!("journalctl: {status}"))
    }

    fn failed(&self, cause: String) -> Error {
        Error::new(ExitStatus::Failed, "cannot read the journal")
            .cause(cause)
            .hint(format!("its engine writes to it: `journalctl {}`", self.matching()[0]))
    }
}

/// A running journalctl, which is killed when this is dropped.
struct Journalctl(Child);

impl Journalctl {
    /// Returns its lines as they come; a line that is too long is empty.
    ///
    /// # Errors
    /// The thread that reads them cannot be started.
    fn entries(&mut self) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        if let Some(stdout) = self.0.stdout.take() {
            Builder::new().spawn(move || {
                let mut stdout = BufReader::new(stdout);
                while let Some(line) = next_line(&mut stdout).transpose() {
                    let is_last = line.is_err();
                    if sender.send(line).is_err() || is_last {
                        return;
                    }
                }
            })?;
        }
        Ok(receiver)
    }
}

/// Reads a line without its newline, in bounded memory; one that is too long is empty.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_ENTRY as u64).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => {
            let is_end = |bytes: &[u8]| bytes.is_empty() || bytes.contains(&b'\n');
            while !is_end(input.fill_buf()?) {
                let length = input.fill_buf()?.len();
                input.consume(length);
            }
            let newline = input.fill_buf()?.iter().position(|byte| *byte == b'\n');
            input.consume(newline.map_or(0, |index| index + 1));
            Ok(Some(Vec::new()))
        }
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl JournalEntry {
    fn record(self) -> LogRecord {
        let micros = self.time.and_then(|time| time.parse().ok());
        let mut text = match self.message {
            JournalText::Text(text) => text.into_bytes(),
            JournalText::Bytes(bytes) => bytes,
            JournalText::None => Vec::new(),
        };
        // (conmon leaves the newline in place, as of 2.1.6.)
        text.pop_if(|last| *last == b'\n');
        LogRecord {
            time: micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            is_stderr: self.priority.as_deref() == Some("3"),
            text,
            is_partial: self.partial.as_deref() == Some("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_without_its_newline() {
        for (message, text) in [("\"one\\n\"", "one"), ("\"\\n\"", ""), ("[255, 10]", "\u{ff}")] {
            let entry = format!("{{\"MESSAGE\": {message}, \"PRIORITY\": \"3\"}}");
            let record = serde_json::from_str::<JournalEntry>(&entry).unwrap().record();
            let latin: String = record.text.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!((latin.as_str(), record.is_stderr), (text, true));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_empty_and_the_next_is_read() {
        for length in [MAX_ENTRY - 1, MAX_ENTRY, MAX_ENTRY + 1, 3 * MAX_ENTRY + 70_000] {
            let text = format!("one\n{}\ntwo\nrest", "x".repeat(length));
            let mut input = BufReader::new(text.as_bytes());
            let lines = std::iter::from_fn(|| next_line(&mut input).unwrap());
            let lengths: Vec<usize> = lines.map(|line| line.len()).collect();
            let expected = if length < MAX_ENTRY { length } else { 0 };
            // (A line without a newline at the end is not whole.)
            assert_eq!(lengths, [3, expected, 3, 0], "{length}");
        }
    }
}
