//! The settings of a systemd-nspawn container that decide how it is stopped, and its name: the
//! arguments of systemd-nspawn (systemd-nspawn(1)), and the settings files `NAME.nspawn`
//! (systemd.nspawn(5)). Which of them counts is decided here; nothing is read.

use std::path::{Path, PathBuf};

use super::nspawn_options::NspawnCommandLine;
use super::recorded_signal::parse_signal;
use crate::model::signal::Signal;

/// The process that runs as PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartMode {
    /// The init system (`--boot`).
    Boot,
    /// The command.
    Command,
    /// A stub init of nspawn's, which runs the command (`--as-pid2`).
    StubInit,
}

/// Use of the settings file (`--settings=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SettingsFile {
    /// It counts where the arguments do not decide.
    #[default]
    Completes,
    Overrides,
    Unused,
}

/// The arguments of systemd-nspawn, or the settings in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NspawnSettings {
    start_mode: Option<StartMode>,
    kill_signal: Option<Signal>,
    file: SettingsFile,
    machine: Option<String>,
    /// `--directory=` or `--image=`.
    root: Option<String>,
    template: Option<String>,
    /// Whether it runs a copy, and a random number is part of a name that was not given.
    is_ephemeral: bool,
}

impl NspawnSettings {
    /// Parses the arguments of systemd-nspawn, of which the first is the program's name.
    pub(super) fn of_arguments(argv: &[String]) -> Self {
        let mut settings = Self::default();
        let line = NspawnCommandLine::split(argv);
        for (name, value) in line.options {
            settings.set(name, value.unwrap_or_default());
        }
        // With a command the settings file does not decide about the start mode.
        if line.has_payload {
            settings.start_mode.get_or_insert(StartMode::Command);
        }
        if settings.root.is_none() {
            // `--template=` names the origin of `--ephemeral`, or a directory that is copied to the machine's.
            let in_machines = || Some(format!("/var/lib/machines/{}", settings.machine.as_ref()?));
            settings.root = settings.template.take().and_then(|template| {
                if settings.is_ephemeral { Some(template) } else { in_machines() }
            });
        }
        settings
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "boot" => self.start_mode = Some(StartMode::Boot),
            "as-pid2" => self.start_mode = Some(StartMode::StubInit),
            "kill-signal" => self.kill_signal = parse_signal(value),
            "machine" => self.machine = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "directory" | "image" => self.root = Some(value.to_owned()),
            "template" => self.template = Some(value.to_owned()),
            "ephemeral" => self.is_ephemeral = true,
            "settings" => {
                self.file = match value {
                    "override" => SettingsFile::Overrides,
                    _ if parse_boolean(value) == Some(false) => SettingsFile::Unused,
                    _ => SettingsFile::Completes,
                };
            }
            _ => {}
        }
    }

    /// Parses a settings file.
    pub(super) fn of_file(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = "";
        // A backslash at the end of a line continues it.
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "Exec") else {
                continue;
            };
            let value = value.trim();
            let mode = match (key.trim(), parse_boolean(value)) {
                ("KillSignal", _) => {
                    settings.kill_signal = parse_signal(value).or(settings.kill_signal);
                    continue;
                }
                ("Boot", Some(true)) => StartMode::Boot,
                ("ProcessTwo", Some(true)) => StartMode::StubInit,
                ("Boot" | "ProcessTwo", Some(false)) if settings.start_mode.is_none() => {
                    StartMode::Command
                }
                _ => continue,
            };
            settings.start_mode = Some(mode);
        }
        settings
    }

    /// Returns the name of the machine: `--machine=`, else the last part of the directory or image, or of the
    /// working directory of systemd-nspawn (`determine_names`).
    pub(super) fn machine_name(&self, cwd: Option<&Path>) -> Option<String> {
        if self.machine.is_some() {
            return self.machine.clone();
        }
        let root = self.root(cwd)?;
        let name = root.file_name()?.to_str()?;
        let name = hostname_cleanup(name.strip_suffix(".raw").unwrap_or(name));
        (!name.is_empty()).then_some(name)
    }

    /// Whether `name` is the name of an ephemeral machine, which systemd-nspawn appends 16 digits to, and
    /// which is otherwise called `base`.
    pub(super) fn is_ephemeral_name(&self, base: &str, name: &str) -> bool {
        let number = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('-'));
        self.is_ephemeral
            && self.machine.is_none()
            && number.is_some_and(|number| {
                number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit())
            })
    }

    /// Returns the directory or image; `None` if it was not given, and the working directory, which it is
    /// then, is not known.
    pub(super) fn root(&self, cwd: Option<&Path>) -> Option<PathBuf> {
        match &self.root {
            // (An absolute one replaces the working directory.)
            Some(root) => {
                Some(cwd.unwrap_or(Path::new("")).join(root).components().collect::<PathBuf>())
            }
            None if self.machine.is_some() => None,
            None => cwd.map(Path::to_owned),
        }
    }

    /// Returns the settings files that are tried, of which the first that exists counts; none if the
    /// arguments forbid it. `root` is the directory or image, if known.
    pub(super) fn files(&self, machine: &str, root: Option<&Path>) -> Vec<PathBuf> {
        if self.file == SettingsFile::Unused || machine.contains('/') {
            return Vec::new();
        }
        let name = format!("{machine}.nspawn");
        let beside = root.and_then(Path::parent).map(|directory| directory.join(&name));
        let directories = ["/etc/systemd/nspawn", "/run/systemd/nspawn"];
        directories.iter().map(|directory| Path::new(directory).join(&name)).chain(beside).collect()
    }

    /// Returns the start mode and the configured signal of these arguments with a settings file.
    pub(super) fn with_file(&self, file: &Self) -> (StartMode, Option<Signal>) {
        let (first, second) = match self.file {
            SettingsFile::Overrides => (file, self),
            SettingsFile::Completes | SettingsFile::Unused => (self, file),
        };
        let mode = first.start_mode.or(second.start_mode).unwrap_or(StartMode::Command);
        (mode, first.kill_signal.or(second.kill_signal))
    }
}

/// Returns the part of a file name that may stand in a machine name (`hostname_cleanup` of systemd).
fn hostname_cleanup(name: &str) -> String {
    let mut cleaned = String::new();
    for letter in name.chars() {
        let is_dot = letter == '.' && !cleaned.is_empty() && !cleaned.ends_with(['.', '-']);
        let is_hyphen = letter == '-' && !cleaned.is_empty() && !cleaned.ends_with('.');
        if is_dot || is_hyphen || letter == '_' || letter.is_ascii_alphanumeric() {
            cleaned.push(letter);
        }
    }
    cleaned.truncate(64);
    cleaned.trim_end_matches(['.', '-']).to_owned()
}

/// Parses a boolean as systemd does (`parse_boolean`).
fn parse_boolean(value: &str) -> Option<bool> {
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    if is_one_of(&["1", "yes", "y", "true", "t", "on"]) {
        Some(true)
    } else if is_one_of(&["0", "no", "n", "false", "f", "off"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> NspawnSettings {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        NspawnSettings::of_arguments(&argv)
    }

    #[test]
    fn options_decide_about_name_and_start_mode() {
        let (boot, command) = (Some(StartMode::Boot), Some(StartMode::Command));
        let cwd = Some(Path::new("/srv/web"));
        for (line, mode, machine) in [
            ("nspawn -bD /srv/web", boot, "web"),
            ("nspawn -UbD /srv/web/", boot, "web"),
            ("nspawn -D/srv/web /loop.sh", command, "web"),
            ("nspawn --direct=/srv/web --boot", boot, "web"),
            ("nspawn -bD /srv/web -M m", boot, "m"),
            ("nspawn -Mm -D /srv/web /loop.sh", command, "m"),
            ("nspawn -D /srv/web /loop.sh -b -M other --kill-signal=INT", command, "web"),
            ("nspawn /loop.sh", command, "web"),
            ("nspawn -D .", None, "web"),
            ("nspawn -D ../db", None, "db"),
            ("nspawn --image=/srv/db.raw", None, "db"),
            ("nspawn -i db.img", None, "db.img"),
            ("nspawn -M x --template=/srv/t", None, "x"),
            ("nspawn -x --template=/srv/t", None, "t"),
            ("nspawn -D /srv/my+root", None, "myroot"),
            ("nspawn --as-pid2 sleep 1", Some(StartMode::StubInit), "web"),
        ] {
            let settings = arguments(line);
            assert_eq!(settings.start_mode, mode, "{line}");
            assert_eq!(settings.machine_name(cwd).as_deref(), Some(machine), "{line}");
        }
        assert_eq!(arguments("nspawn").machine_name(None), None);
        assert_eq!(arguments("nspawn -M ").machine_name(None), None);
    }

    #[test]
    fn an_ephemeral_machine_has_a_number_in_its_name() {
        let settings = arguments("nspawn -xD /srv/web");
        assert!(settings.is_ephemeral_name("web", "web-0123456789abcdef"));
        assert!(!settings.is_ephemeral_name("web", "web-2"));
        assert!(!arguments("nspawn -xMm").is_ephemeral_name("m", "m-0123456789abcdef"));
    }

    #[test]
    fn parses_the_exec_section_of_a_file() {
        let text = "# KillSignal=SIGHUP\n[Files]\nKillSignal=SIGHUP\n[Exec]\n Boot = yes\n\
            KillSignal=\\\nSIGUSR1\n[Network]\nBoot=no\n";
        let settings = NspawnSettings::of_file(text);
        assert_eq!(settings.start_mode, Some(StartMode::Boot));
        assert_eq!(settings.kill_signal, Some(Signal::USR1));
        let settings = NspawnSettings::of_file("[Exec]\nProcessTwo=1\nBoot=off\n");
        assert_eq!(settings.start_mode, Some(StartMode::StubInit));
        assert_eq!(NspawnSettings::of_file("Boot=yes\n"), NspawnSettings::default());
    }

    #[test]
    fn arguments_count_before_the_file_unless_it_overrides() {
        let file = NspawnSettings::of_file("[Exec]\nBoot=no\nKillSignal=USR1\n");
        for (line, mode, signal) in [
            ("nspawn --boot", StartMode::Boot, Signal::USR1),
            ("nspawn --boot --kill-signal=INT", StartMode::Boot, Signal::INT),
            ("nspawn /loop.sh", StartMode::Command, Signal::USR1),
            ("nspawn --boot --kill-signal INT --settings=trusted", StartMode::Boot, Signal::INT),
            (
                "nspawn --boot --kill-signal=INT --settings=override",
                StartMode::Command,
                Signal::USR1,
            ),
        ] {
            assert_eq!(arguments(line).with_file(&file), (mode, Some(signal)), "{line}");
        }
    }

    #[test]
    fn names_the_files_that_count() {
        let root = Some(Path::new("/srv/web"));
        let files =
            ["/etc/systemd/nspawn/x.nspawn", "/run/systemd/nspawn/x.nspawn", "/srv/x.nspawn"];
        assert_eq!(arguments("nspawn -M x").files("x", root), files.map(PathBuf::from));
        assert!(arguments("nspawn --settings=no").files("x", root).is_empty());
        assert!(arguments("nspawn").files("../x", root).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn anything_is_parsed_without_a_panic(argv: Vec<String>, text: String) {
            NspawnSettings::of_arguments(&argv);
            NspawnSettings::of_file(&text);
        }
    }
}
