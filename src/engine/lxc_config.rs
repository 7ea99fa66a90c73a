//! The configuration of an LXC container as liblxc reads it (confile.c): one setting a line, files and
//! directories that `lxc.include` names in their place, and the last of several settings wins. Only the
//! signal for a clean shutdown, the place of the cgroup, the environment and the architecture are read.

use std::path::Path;

use super::recorded_signal::{c_integer, parse_signal};
use crate::proc::{Host, ReadError, Trust};

/// Files that are read for one container. (liblxc has no limit, and a file may include itself.)
const MAX_FILES: usize = 64;

/// A configuration of which a part could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

/// The settings that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LxcConfig {
    /// The number in `lxc.signal.halt`, which may be that of no signal.
    pub halt_signal: Option<i64>,
    /// `lxc.cgroup.dir.container`: the container's cgroup, below that of the caller.
    pub container_cgroup: Option<String>,
    /// `lxc.environment`, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The execution domain that `lxc.arch` names, personality(2).
    pub personality: Option<u32>,
}

/// Architectures of 32 bits (`lxc_config_parse_arch`), which are PER_LINUX32; the others are PER_LINUX.
const ARCHITECTURES_32: &[&str] = &[
    "arm", "armel", "armhf", "armv7l", "athlon", "i386", "i486", "i586", "i686", "linux32", "mips",
    "mipsel", "powerpc", "ppc", "x86",
];

fn personality(architecture: &str) -> u32 {
    if ARCHITECTURES_32.contains(&architecture) { 8 } else { 0 }
}

impl LxcConfig {
    /// Reads a configuration. A file that does not exist sets nothing.
    ///
    /// # Errors
    /// If the file, or one that it includes, could not be read.
    pub(super) fn read(host: &Host, path: &Path) -> Result<Self, Unread> {
        let mut reading = Reading { host, files: 0, owner: None, config: Self::default() };
        reading.file(path)?;
        Ok(reading.config)
    }

    /// Reads a configuration that only this user or root could have written.
    ///
    /// # Errors
    /// As [`Self::read`]; or if another could have.
    pub(super) fn read_as(host: &Host, path: &Path, owner: Trust) -> Result<Self, Unread> {
        let mut reading = Reading { host, files: 0, owner: Some(owner), config: Self::default() };
        reading.file(path)?;
        Ok(reading.config)
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "lxc.signal.halt" => {
                let number = || Some(i64::from(parse_signal(value)?.number()));
                self.halt_signal = c_integer(value).or_else(number).filter(|number| *number != 0);
            }
            "lxc.cgroup.dir.container" => {
                self.container_cgroup = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
            "lxc.environment" if value.is_empty() => self.environment.clear(),
            // NAME alone is the value that lxc-start had, and is in the init's environment.
            "lxc.environment" if value.contains('=') => self.environment.push(value.to_owned()),
            "lxc.arch" => self.personality = (!value.is_empty()).then(|| personality(value)),
            _ => {}
        }
    }
}

/// A configuration that is being read.
struct Reading<'a> {
    host: &'a Host,
    files: usize,
    /// The user whose files count, besides root's; all if none.
    owner: Option<Trust>,
    config: LxcConfig,
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
        if self.owner.is_some_and(|owner| file.owner.and(owner) != owner) {
            return Err(Unread);
        }
        for line in String::from_utf8_lossy(&file.bytes).lines() {
            match parse_line(line) {
                Some(("lxc.include", value)) if !value.is_empty() => self.include(value)?,
                Some((key, value)) => self.config.set(key, value),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads an included file, or the files `*.conf` of a directory. (liblxc reads these in the order of
    /// readdir(3), which is not defined.)
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

/// Parses lines, and applies them.
pub(super) fn fuzz(text: &str) {
    for (key, value) in text.lines().filter_map(parse_line) {
        LxcConfig::default().set(key, value);
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
        for (text, signal) in [
            ("lxc.signal.halt = SIGINT\n", Ok(Some(2))),
            ("lxc.signal.halt = SIGINT\nlxc.signal.halt = 3\n", Ok(Some(3))),
            ("lxc.signal.halt = SIGINT\nlxc.signal.halt =\n", Ok(None)),
            ("lxc.signal.halt = SIGINT\nlxc.include = /usr1\n", Ok(Some(10))),
            ("lxc.signal.halt = 012\n", Ok(Some(10))),
            ("lxc.signal.halt = 65\n", Ok(Some(65))),
            ("lxc.signal.halt = SIGINT\nlxc.signal.halt = 0\n", Ok(None)),
            ("lxc.include = /usr1\nlxc.signal.halt = SIGINT\n", Ok(Some(2))),
            ("lxc.include = /d\n", Ok(Some(12))),
            ("lxc.include = /d/\n", Ok(Some(12))),
            ("lxc.include = /none\n", Ok(None)),
            ("lxc.include = usr1\n", Err(Unread)),
            ("lxc.include = /itself\n", Err(Unread)),
            ("# lxc.signal.halt = SIGINT\n", Ok(None)),
        ] {
            write("config", text);
            // (One host would wait for so many files that were just written, and then not read the next.)
            let host = Host::new(root.path()).unwrap();
            let config = LxcConfig::read(&host, Path::new("/config"));
            assert_eq!(config.map(|config| config.halt_signal), signal, "{text}");
        }
    }

    #[test]
    fn the_environment_adds_up_and_the_last_architecture_wins() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        let host = Host::new(root.path()).unwrap();
        for (text, environment, personality) in [
            ("lxc.environment = A=1\nlxc.environment = B=2 3\n", &["A=1", "B=2 3"][..], None),
            ("lxc.environment = A=1\nlxc.environment =\nlxc.environment = C\n", &[], None),
            ("lxc.arch = amd64\nlxc.arch = i686\n", &[], Some(8)),
            ("lxc.arch = i686\nlxc.arch = x86_64\n", &[], Some(0)),
        ] {
            fs::write(root.path().join("config"), text).unwrap();
            let config = LxcConfig::read(&host, Path::new("/config")).unwrap();
            assert_eq!(
                (config.environment, config.personality),
                (environment.iter().map(|s| (*s).to_owned()).collect(), personality)
            );
        }
    }

    #[test]
    fn the_cgroup_counts_from_trusted_files_only() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        let text = "lxc.cgroup.dir.container = lxc/100\nlxc.cgroup.dir.container.inner = ns\n";
        fs::write(root.path().join("config"), text).unwrap();
        let host = Host::new(root.path()).unwrap();
        let read = |owner| LxcConfig::read_as(&host, Path::new("/config"), owner);
        for owner in [Trust::Root, Trust::User(1000)] {
            assert_eq!(read(owner).unwrap().container_cgroup.as_deref(), Some("lxc/100"));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_parsed_without_a_panic(line: String) {
            parse_line(&line);
        }
    }
}
