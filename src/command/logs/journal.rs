//! The log of a container in systemd's journal, by journalctl(1): its engine writes there with the
//! container's ID.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Error, ExitStatus, os_error};
use crate::model::container::Container;
use crate::model::log_record::LogRecord;
use crate::proc::{Host, LogRange};

/// An entry as `journalctl -o json` prints it.
#[derive(Deserialize)]
struct JournalEntry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: Option<String>,
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

/// Prints the log of a container from the journal.
pub(super) fn print(
    host: &Host,
    container: &Container,
    range: LogRange,
    follow: bool,
    mut print: impl FnMut(&LogRecord) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let id = container.id.as_deref().unwrap_or_default();
    // Any program may write any field but those that begin with `_`: the writer has to be the engine's.
    let matches =
        [format!("CONTAINER_ID_FULL={id}"), format!("_UID={}", container.user.unwrap_or(0))];
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--no-pager", "--quiet", "--all"]).args(&matches);
    command.arg(range.last.map_or("--lines=all".into(), |count| format!("--lines={count}")));
    command.args(range.since.map(|since| format!("--since=@{}", since.as_second())));
    command.args(follow.then_some("--follow"));
    if host.root() != Path::new("/") {
        command.arg("--root").arg(host.root());
    }
    let failed = |cause: String| {
        Error::new(ExitStatus::Failed, "cannot read the journal")
            .cause(cause)
            .hint(format!("its engine writes to it: `journalctl {}`", matches[0]))
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Journalctl(command.spawn().map_err(|error| failed(os_error(error)))?);
    let Some(stdout) = child.0.stdout.take() else { return Ok(()) };
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(|error| failed(os_error(error)))?;
        let Ok(entry) = serde_json::from_slice::<JournalEntry>(&line) else { continue };
        if print(&entry.record())?.is_break() {
            return Ok(());
        }
    }
    match child.0.wait() {
        Ok(status) if !status.success() => Err(failed(format!("journalctl: {status}"))),
        _ => Ok(()),
    }
}

/// A running journalctl, which ends with this program's interest.
struct Journalctl(Child);

impl Drop for Journalctl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl JournalEntry {
    fn record(self) -> LogRecord {
        let micros = self.time.and_then(|time| time.parse().ok());
        LogRecord {
            time: micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            is_stderr: self.priority.as_deref() == Some("3"),
            text: match self.message {
                JournalText::Text(text) => text.into_bytes(),
                JournalText::Bytes(bytes) => bytes,
                JournalText::None => Vec::new(),
            },
            is_partial: self.partial.as_deref() == Some("true"),
        }
    }
}
