//! uWSGI's master: the option die-on-term swaps TERM and QUIT. It can be set by an argument, a
//! variable of the environment or a configuration file. A configuration that is not followed, such
//! as a file that includes others, is named as missing.

use super::ForecastInput;
use crate::analysis::programs::{Outcome, UWSGI_MASTER, program_of};
use crate::model::lookup::Lookup;
use crate::model::signal::Signal;

const OPTION: &[u8] = b"die-on-term";
/// Options and variables that name a configuration of another kind, or more of them.
const OTHER_SOURCES: [&[u8]; 12] = [
    b"xml", b"x", b"yaml", b"yml", b"y", b"json", b"j", b"config", b"include", b"inherit",
    b"import", b"emperor",
];
/// Ends of the names of other configuration files, which uWSGI takes without an option.
const OTHER_FILES: [&[u8]; 5] = [b".xml", b".yaml", b".yml", b".json", b".lua"];

/// The settings of one source, as far as they matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    /// Whether the option is set.
    dies: bool,
    /// Configuration files that it names.
    files: Vec<Vec<u8>>,
    /// The reason why more may be set.
    missing: Option<&'static str>,
}

/// Returns the reaction of uWSGI's master to TERM or QUIT; none for other programs and signals.
pub(super) fn swapped(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<(Outcome, String)> {
    let is_master = program_of(&input.processes[process].facts)?.name == UWSGI_MASTER;
    if !is_master || ![Signal::TERM, Signal::QUIT].contains(&signal) {
        return None;
    }
    Some(match dies_on_term(input, process) {
        Err(missing) => {
            (Outcome::Unknown, format!("replaces its workers or exits: {missing}; INT stops it"))
        }
        Ok(dies) if dies == (signal == Signal::TERM) => {
            let with = if dies { "with" } else { "without" };
            (Outcome::Exits, format!("stops its workers, then exits ({with} die-on-term)"))
        }
        Ok(dies) => {
            let with = if dies { "with" } else { "without" };
            (Outcome::ReplacesWorkers, format!("replaces its workers ({with} die-on-term)"))
        }
    })
}

fn dies_on_term(input: &ForecastInput<'_>, process: usize) -> Result<bool, String> {
    let arguments = input.arguments(process);
    if arguments.is_empty() {
        return Err("its arguments are not known".into());
    }
    let mut sources = vec![of_arguments(&arguments)];
    let environment = input
        .look_up(process, Lookup::Environment)
        .map_err(|error| format!("its environment {error}"))?;
    sources.push(of_environment(&environment.bytes));
    let files: Vec<Vec<u8>> = sources.iter().flat_map(|source| source.files.clone()).collect();
    for path in files {
        let name = String::from_utf8_lossy(&path).into_owned();
        let content = input
            .look_up(process, Lookup::File(path))
            .map_err(|error| format!("`{name}` {error}"))?;
        if !input.is_from_start(process, content.changed) {
            return Err(format!("`{name}` has changed since it started"));
        }
        sources.push(of_file(&content.bytes));
    }
    match sources.iter().find_map(|source| source.missing) {
        Some(missing) => Err(missing.into()),
        None => Ok(sources.iter().any(|source| source.dies)),
    }
}

fn of_arguments(arguments: &[&[u8]]) -> Settings {
    let mut settings = Settings::default();
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix(b"-") else {
            settings.add_file(word);
            continue;
        };
        let option = option.strip_prefix(b"-").unwrap_or(option);
        let mut parts = option.splitn(2, |b| *b == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        match name {
            b"ini" => {
                let value = value.or_else(|| words.next().copied());
                settings.add_ini(value.unwrap_or_default());
            }
            name => settings.add(name, value),
        }
    }
    settings
}

/// Reads bytes as each of the three sources.
pub(super) fn fuzz(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    for settings in [of_arguments(&words), of_environment(bytes), of_file(bytes)] {
        assert!(settings.files.len() <= bytes.len());
    }
}

/// Parses the environment, where a variable sets the option of its name: `UWSGI_DIE_ON_TERM=1`.
fn of_environment(environment: &[u8]) -> Settings {
    let mut settings = Settings::default();
    for entry in environment.split(|b| *b == 0) {
        let Some(entry) = entry.strip_prefix(b"UWSGI_") else { continue };
        let mut parts = entry.splitn(2, |b| *b == b'=');
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let name: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
        match (&*name, parts.next()) {
            (b"ini", Some(value)) => settings.add_ini(value),
            (name, value) => settings.add(name, value),
        }
    }
    settings
}

fn of_file(content: &[u8]) -> Settings {
    let mut settings = Settings::default();
    for line in content.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
        if line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        let mut parts = line.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        match name {
            b"ini" => settings.missing = Some("its configuration names another file"),
            name if name.starts_with(b"if-") || name.starts_with(b"for") => {
                settings.missing = Some("its configuration has conditions");
            }
            name => settings.add(name, parts.next()),
        }
    }
    settings
}

impl Settings {
    fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        match name {
            OPTION => match value {
                None | Some(b"" | b"1" | b"true") => self.dies = true,
                Some(_) => self.missing = Some("the value of die-on-term is not known"),
            },
            b"die_on_term" => self.missing = Some("the value of die-on-term is not known"),
            name if OTHER_SOURCES.contains(&name) => {
                self.missing = Some("not all of its configuration is read");
            }
            _ => {}
        }
    }

    /// Adds a word that is not an option, which may be the value of one.
    fn add_file(&mut self, word: &[u8]) {
        if word.ends_with(b".ini") {
            self.add_ini(word);
        } else if OTHER_FILES.into_iter().any(|end| word.ends_with(end)) {
            self.missing = Some("not all of its configuration is read");
        }
    }

    fn add_ini(&mut self, path: &[u8]) {
        // (After a colon it names a section; `-` is stdin, and a URL is read from elsewhere.)
        match path.contains(&b':') || path == b"-" || path.is_empty() {
            true => self.missing = Some("not all of its configuration is read"),
            false => self.files.push(path.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Settings {
        of_arguments(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn finds_the_option_and_the_files() {
        assert_eq!(arguments("uwsgi --master --socket sock"), Settings::default());
        assert!(arguments("uwsgi --master --die-on-term").dies);
        assert!(arguments("uwsgi -die-on-term").dies);
        for line in ["uwsgi --ini a.ini", "uwsgi --ini=a.ini", "uwsgi a.ini --master"] {
            assert_eq!(arguments(line).files, [b"a.ini"], "{line}");
        }
        for line in ["uwsgi --xml a", "uwsgi a.yaml", "uwsgi --ini a.ini:x", "uwsgi --emperor /etc"]
        {
            assert!(arguments(line).missing.is_some(), "{line}");
        }
        assert!(of_environment(b"A=1\0UWSGI_DIE_ON_TERM=1\0").dies);
        assert_eq!(of_environment(b"UWSGI_INI=/a.ini\0").files, [b"/a.ini"]);
        assert!(of_environment(b"UWSGI_JSON=/a\0").missing.is_some());
    }

    #[test]
    fn reads_a_file() {
        assert!(of_file(b"[uwsgi]\nmaster = true\n; x\ndie-on-term = true\n").dies);
        assert_eq!(of_file(b"[uwsgi]\n#die-on-term = true\n"), Settings::default());
        for text in
            ["die-on-term = %(x)", "ini = other", "include = x", "if-env = A", "die_on_term = 1"]
        {
            assert!(of_file(text.as_bytes()).missing.is_some(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>) {
            let words: Vec<&[u8]> = bytes.split(|b| *b == b' ').collect();
            let _ = (of_arguments(&words), of_environment(&bytes), of_file(&bytes));
        }
    }
}
