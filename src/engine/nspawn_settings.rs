//! The settings of a systemd-nspawn container that decide how it is stopped and what it is called: the
//! arguments of systemd-nspawn (systemd-nspawn(1)), and the settings files `NAME.nspawn`
//! (systemd.nspawn(5)). Which of them counts is decided here; nothing is read.

use std::path::{Path, PathBuf};

use super::record::parse_signal;
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
    /// It counts where the arguments say nothing.
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
}

/// Options with an argument, by their long and short names (`parse_argv` of systemd 252 to 261). For
/// the others it makes no difference whether they are known; abbreviations of long names are not.
const WITH_ARGUMENT: &[(&str, &str)] = &[
    ("directory", "D"),
    ("image", "i"),
    ("machine", "M"),
    ("kill-signal", ""),
    ("settings", ""),
    ("uid", "u"),
    ("setenv", "E"),
    ("slice", "S"),
    ("port", "p"),
    ("selinux-context", "Z"),
    ("selinux-apifs-context", "L"),
    ("template", ""),
    ("image-policy", ""),
    ("mstack", ""),
    ("oci-bundle", ""),
    ("root-hash", ""),
    ("root-hash-sig", ""),
    ("verity-data", ""),
    ("pivot-root", ""),
    ("chdir", ""),
    ("notify-ready", ""),
    ("suppress-sync", ""),
    ("hostname", ""),
    ("uuid", ""),
    ("property", ""),
    ("register", ""),
    ("private-users-ownership", ""),
    ("private-users-delegate", ""),
    ("network-interface", ""),
    ("network-macvlan", ""),
    ("network-ipvlan", ""),
    ("network-veth-extra", ""),
    ("network-bridge", ""),
    ("network-zone", ""),
    ("network-namespace-path", ""),
    ("capability", ""),
    ("drop-capability", ""),
    ("ambient-capability", ""),
    ("no-new-privileges", ""),
    ("system-call-filter", ""),
    ("rlimit", ""),
    ("oom-score-adjust", ""),
    ("cpu-affinity", ""),
    ("personality", ""),
    ("resolv-conf", ""),
    ("timezone", ""),
    ("link-journal", ""),
    ("forward-journal", ""),
    ("forward-journal-max-use", ""),
    ("forward-journal-keep-free", ""),
    ("forward-journal-max-file-size", ""),
    ("forward-journal-max-files", ""),
    ("bind", ""),
    ("bind-ro", ""),
    ("inaccessible", ""),
    ("tmpfs", ""),
    ("overlay", ""),
    ("overlay-ro", ""),
    ("bind-user", ""),
    ("bind-user-shell", ""),
    ("bind-user-group", ""),
    ("console", ""),
    ("background", ""),
    ("set-credential", ""),
    ("load-credential", ""),
];

impl NspawnSettings {
    /// Parses the arguments of systemd-nspawn, of which the first is the program's name. The first one
    /// that is not an option begins the command.
    pub(super) fn of_arguments(argv: &[String]) -> Self {
        let mut settings = Self::default();
        let mut arguments = argv.iter().skip(1).map(String::as_str).peekable();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                break;
            } else if let Some(long) = argument.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                // `--user` had an argument, and has none since; both forms are accepted.
                let is_user = |next: &&str| name == "user" && !next.starts_with('-');
                let value = match value {
                    Some(value) => value,
                    None if takes_argument(name) => arguments.next().unwrap_or_default(),
                    None => arguments.next_if(is_user).unwrap_or_default(),
                };
                settings.set(name, value);
            } else if let Some(short) = argument.strip_prefix('-').filter(|short| !short.is_empty())
            {
                settings.set_short(short, || arguments.next().unwrap_or_default());
            } else {
                break;
            }
        }
        settings
    }

    /// Sets short options in one argument: `-bD` and, in the next, the directory.
    fn set_short<'a>(&mut self, options: &'a str, next: impl FnOnce() -> &'a str) {
        for (index, option) in options.char_indices() {
            let known = WITH_ARGUMENT.iter().find(|(_, short)| short.chars().eq([option]));
            if let Some((name, _)) = known {
                let rest = &options[index + option.len_utf8()..];
                return self.set(name, if rest.is_empty() { next() } else { rest });
            }
            match option {
                'b' => self.start_mode = Some(StartMode::Boot),
                'a' => self.start_mode = Some(StartMode::StubInit),
                _ => {}
            }
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "boot" => self.start_mode = Some(StartMode::Boot),
            "as-pid2" => self.start_mode = Some(StartMode::StubInit),
            "kill-signal" => self.kill_signal = parse_signal(value),
            "machine" => self.machine = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "directory" | "image" => self.root = Some(value.to_owned()),
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

    /// Returns the name of the machine: `--machine=`, else the last part of the directory or image.
    pub(super) fn machine_name(&self) -> Option<String> {
        self.machine.clone().or_else(|| {
            let name = Path::new(self.root.as_ref()?).file_name()?.to_str()?;
            Some(name.strip_suffix(".raw").unwrap_or(name).to_owned())
        })
    }

    /// Returns the directory or image.
    pub(super) fn root(&self) -> Option<&str> {
        self.root.as_deref()
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

/// Whether a long option has an argument.
fn takes_argument(name: &str) -> bool {
    WITH_ARGUMENT.iter().any(|(long, _)| *long == name)
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
    fn parses_options_in_every_spelling() {
        let boot = Some(StartMode::Boot);
        for (line, mode, root, machine) in [
            ("nspawn -bD /srv/web", boot, Some("/srv/web"), Some("web")),
            ("nspawn -b -D/srv/web", boot, Some("/srv/web"), Some("web")),
            ("nspawn -qbMx -D /srv/web", boot, Some("/srv/web"), Some("x")),
            ("nspawn --boot --directory /srv/web", boot, Some("/srv/web"), Some("web")),
            ("nspawn --image=/srv/web.raw", None, Some("/srv/web.raw"), Some("web")),
            ("nspawn -a -M x -D r sleep", Some(StartMode::StubInit), Some("r"), Some("x")),
            ("nspawn -M x -- --boot", None, None, Some("x")),
            ("nspawn -M x /bin/sh --boot", None, None, Some("x")),
            ("nspawn --bind -b -M x", None, None, Some("x")),
            ("nspawn --user -b -M x", boot, None, Some("x")),
            ("nspawn --user joe -b -M x", boot, None, Some("x")),
            ("nspawn", None, None, None),
        ] {
            let settings = arguments(line);
            assert_eq!(settings.start_mode, mode, "{line}");
            assert_eq!(settings.root(), root, "{line}");
            assert_eq!(settings.machine_name().as_deref(), machine, "{line}");
        }
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
