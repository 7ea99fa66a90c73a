//! The configuration of an LXC container as liblxc reads it (confile.c): one setting a line, files and
//! directories that `lxc.include` names in their place, and the last of several settings wins. Only the
//! signal for a clean shutdown is read.

use std::path::Path;

use super::record::parse_signal;
use crate::model::signal::Signal;
use crate::proc::{Host, ReadError};

/// Files that are read for one container. (liblxc has no limit, and a file may include itself.)
const MAX_FILES: usize = 64;

/// A configuration of which a part could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

/// Reads `lxc.signal.halt`; `None` if it is not set. A file that does not exist sets nothing.
///
/// # Errors
/// If the file, or one that it includes, could not be read.
pub(super) fn halt_signal(host: &Host, path: &Path) -> Result<Option<Signal>, Unread> {
    let mut reading = Reading { host, files: 0, signal: None };
    reading.file(path)?;
    Ok(reading.signal)
}

/// A configuration that is being read.
struct Reading<'a> {
    host: &'a Host,
    files: usize,
    signal: Option<Signal>,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path) -> Result<(), Unread> {
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(Unread);
        }
        let file = match self.host.state_file(path) {
            Ok(file) => file,
            Err(ReadError::Gone) => return Ok(()),
            Err(_) => return Err(Unread),
        };
        for line in String::from_utf8_lossy(&file.bytes).lines() {
            match parse_line(line) {
                Some(("lxc.signal.halt", value)) => self.signal = parse_signal(value),
                Some(("lxc.include", value)) if !value.is_empty() => self.include(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads an included file, or the files `*.conf` of a directory. (liblxc reads these in the order of
    /// readdir(3), which nobody can rely on.)
    fn include(&mut self, value: &str) -> Result<(), Unread> {
        let path = Path::new(value);
        if !path.is_absolute() {
            // It is relative to the working directory of the caller of liblxc.
            return Err(Unread);
        }
        let Ok(dir) = self.host.state_dir(path) else { return self.file(path) };
        let names = dir.names().map_err(|_| Unread)?;
        let included = names.iter().filter(|name| name.len() >= 6 && name.ends_with(".conf"));
        included.map(|name| path.join(name)).try_for_each(|path| self.file(&path))
    }
}

/// Returns the key and the value on a line. Lines with other keys than `lxc.…` are skipped, as comments
/// are.
fn parse_line(line: &str) -> Option<(&str, &str)> {
    const BLANK: [char; 2] = [' ', '\t'];
    let line = line.trim_start_matches(BLANK);
    let (key, value) = line.starts_with("lxc.").then(|| line.split_once('='))??;
    let value = value.trim_matches(BLANK);
    let quoted = ['\'', '"']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|value| value.strip_suffix(*quote)));
    Some((key.trim_end_matches(BLANK), quoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parses_lines_as_liblxc_does() {
        for (line, parsed) in [
            ("lxc.signal.halt = SIGUSR1", Some(("lxc.signal.halt", "SIGUSR1"))),
            ("\t lxc.signal.halt=37 \t", Some(("lxc.signal.halt", "37"))),
            ("lxc.signal.halt = \"SIGINT\"", Some(("lxc.signal.halt", "SIGINT"))),
            ("lxc.environment = A=B", Some(("lxc.environment", "A=B"))),
            ("lxc.signal.halt =", Some(("lxc.signal.halt", ""))),
            ("lxc.signal.halt = '", Some(("lxc.signal.halt", "'"))),
            ("# lxc.signal.halt = SIGINT", None),
            ("signal.halt = SIGINT", None),
            ("lxc.signal.halt", None),
            ("", None),
        ] {
            assert_eq!(parse_line(line), parsed, "{line}");
        }
    }

    #[test]
    fn the_last_setting_wins_across_includes() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        write("usr1", "lxc.signal.halt = SIGUSR1\n");
        write("d/a.conf", "lxc.signal.halt = SIGUSR2\n");
        write("d/b.txt", "lxc.signal.halt = SIGHUP\n");
        write("itself", "lxc.include = /itself\n");
        let host = Host::new(root.path()).unwrap();
        for (text, signal) in [
            ("lxc.signal.halt = SIGINT\n", Ok(Some(Signal::INT))),
            ("lxc.signal.halt = SIGINT\nlxc.signal.halt = 3\n", Ok(Some(Signal::QUIT))),
            ("lxc.signal.halt = SIGINT\nlxc.signal.halt =\n", Ok(None)),
            ("lxc.signal.halt = SIGINT\nlxc.include = /usr1\n", Ok(Some(Signal::USR1))),
            ("lxc.include = /usr1\nlxc.signal.halt = SIGINT\n", Ok(Some(Signal::INT))),
            ("lxc.include = /d\n", Ok(Some(Signal::USR2))),
            ("lxc.include = /d/\n", Ok(Some(Signal::USR2))),
            ("lxc.include = /none\n", Ok(None)),
            ("lxc.include = usr1\n", Err(Unread)),
            ("lxc.include = /itself\n", Err(Unread)),
            ("# lxc.signal.halt = SIGINT\n", Ok(None)),
        ] {
            write("config", text);
            assert_eq!(halt_signal(&host, Path::new("/config")), signal, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_parsed_without_a_panic(line: String) {
            parse_line(&line);
        }
    }
}
