//! The records in engines' log files: one JSON object a line (Docker's json-file), one line with time,
//! stream and tag (CRI, Podman's k8s-file), frames of protobuf (Docker's local), and the bare output of one
//! stream (Apptainer). Pure.

use jiff::Timestamp;
use serde::Deserialize;

/// A piece of a container's output: a line, or a part of a long one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Time that it was received.
    pub time: Option<Timestamp>,
    /// Whether it was written to stderr.
    pub is_stderr: bool,
    /// The bytes, without a newline at the end.
    pub text: Vec<u8>,
    /// Whether the line continues in the next record of the stream.
    pub is_partial: bool,
}

/// Format of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Docker's json-file (daemon/logger/jsonfilelog).
    Json,
    /// `2026-11-26T02:37:17.41Z stdout F text` (kubernetes, CRI logging; conmon, ctr_logging.c).
    Tagged,
    /// Docker's local (daemon/logger/local): a frame is its length in four bytes, big end first, a
    /// `LogEntry` of protobuf, and the length once more.
    Local,
    /// The lines of one stream as they were written, without times.
    Plain {
        /// Whether it is stderr.
        is_stderr: bool,
    },
}

impl LogFormat {
    /// Returns the format of the files that a log driver writes.
    pub fn of_driver(driver: &str) -> Option<Self> {
        match driver {
            "json-file" => Some(Self::Json),
            "local" => Some(Self::Local),
            // Podman treats json-file as an alias of it.
            "kubernetes" | "k8s-file" => Some(Self::Tagged),
            _ => None,
        }
    }

    /// Parses one line, or the content of one frame. A line that is not of the format is a text.
    pub fn parse(self, bytes: &[u8]) -> LogRecord {
        let parsed = match self {
            Self::Json => json(bytes),
            Self::Tagged => tagged(bytes),
            Self::Local => entry(bytes),
            Self::Plain { is_stderr } => Some(plain(bytes, is_stderr)),
        };
        parsed.unwrap_or_else(|| LogRecord { text: bytes.to_vec(), ..LogRecord::default() })
    }
}

#[derive(Deserialize)]
struct JsonLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

fn json(line: &[u8]) -> Option<LogRecord> {
    let line: JsonLine = serde_json::from_slice(line).ok()?;
    let text = line.log.strip_suffix('\n');
    Some(LogRecord {
        time: line.time.parse().ok(),
        is_stderr: line.stream == "stderr",
        is_partial: text.is_none(),
        text: text.unwrap_or(&line.log).as_bytes().to_vec(),
    })
}

fn tagged(line: &[u8]) -> Option<LogRecord> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (words.next()?, words.next()?, words.next()?);
    let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
    let is_stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    Some(LogRecord {
        time: Some(time),
        is_stderr,
        is_partial: tags.split(|byte| *byte == b':').any(|tag| tag == b"P"),
        text: words.next().unwrap_or_default().to_vec(),
    })
}

/// Parses a `LogEntry` (daemon/logger/local, entry.proto): 1 source, 2 time_nano, 3 line, 4 partial.
fn entry(bytes: &[u8]) -> Option<LogRecord> {
    let mut record = LogRecord::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (number, 0) => {
                let value = varint(&mut rest)?;
                match number {
                    2 => record.time = Timestamp::from_nanosecond(value.cast_signed().into()).ok(),
                    4 => record.is_partial = value != 0,
                    _ => {}
                }
            }
            (number, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                match number {
                    1 => record.is_stderr = value == b"stderr",
                    3 => record.text = value.strip_suffix(b"\n").unwrap_or(value).to_vec(),
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(record)
}

/// Returns a line, whose newline is not written yet if it has none.
fn plain(line: &[u8], is_stderr: bool) -> LogRecord {
    let text = line.strip_suffix(b"\n");
    LogRecord {
        time: None,
        is_stderr,
        is_partial: text.is_none(),
        text: text.unwrap_or(line).to_vec(),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(is_stderr: bool, text: &[u8], is_partial: bool) -> LogRecord {
        let time = Some("2026-11-26T02:37:17.5Z".parse().unwrap());
        LogRecord { time, is_stderr, text: text.to_vec(), is_partial }
    }

    #[test]
    fn records_of_each_format_are_parsed() {
        let json = br#"{"log":"a \u001b[31m\n","stream":"stderr","time":"2026-11-26T02:37:17.5Z"}"#;
        assert_eq!(LogFormat::Json.parse(json), record(true, b"a \x1b[31m", false));
        let long = br#"{"log":"a","stream":"stdout","time":"2026-11-26T02:37:17.5Z"}"#;
        assert_eq!(LogFormat::Json.parse(long), record(false, b"a", true));
        let whole = b"2026-11-26T02:37:17.500000000Z stdout F a  b \xff";
        assert_eq!(LogFormat::Tagged.parse(whole), record(false, b"a  b \xff", false));
        let partial = b"2026-11-26T03:37:17.5+01:00 stderr P:x a";
        assert_eq!(LogFormat::Tagged.parse(partial), record(true, b"a", true));
        assert_eq!(
            LogFormat::Tagged.parse(b"2026-11-26T02:37:17.5Z stdout F "),
            record(false, b"", false)
        );
        let mut local = b"\x0a\x06stderr\x10".to_vec();
        let mut nanoseconds = 1_795_660_637_500_000_000_u64;
        while nanoseconds > 0x7f {
            local.push(u8::try_from(nanoseconds & 0x7f).unwrap() | 0x80);
            nanoseconds >>= 7;
        }
        local.push(u8::try_from(nanoseconds).unwrap());
        local.extend(b"\x1a\x02a\n\x20\x01");
        let parsed = LogFormat::Local.parse(&local);
        assert_eq!((parsed.is_stderr, &*parsed.text, parsed.is_partial), (true, &b"a"[..], true));
        assert_eq!(parsed.time, Timestamp::from_nanosecond(1_795_660_637_500_000_000).ok());
    }

    #[test]
    fn a_line_of_another_format_is_a_text() {
        let plain = LogRecord { text: b"no format".to_vec(), ..LogRecord::default() };
        for format in [LogFormat::Json, LogFormat::Tagged, LogFormat::Local] {
            assert_eq!(format.parse(b"no format"), plain);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
            for format in [LogFormat::Json, LogFormat::Tagged, LogFormat::Local] {
                format.parse(&bytes);
            }
        }
    }
}
