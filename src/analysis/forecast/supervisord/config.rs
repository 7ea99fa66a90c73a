//! The configuration of supervisord: its file and those that it includes, as far as they decide how its
//! programs are stopped. Source: supervisor/options.py, version 4.2.

use std::collections::HashSet;
use std::time::Duration;

use glob::{MatchOptions, Pattern};

use super::super::ForecastInput;
use super::ini::IniFile;
use crate::analysis::options::OptionTable;
use crate::model::lookup::{Lookup, LookupContent, LookupError, variable};
use crate::model::signal::Signal;

/// Included files, programs, and processes of all programs, beyond which a configuration is not read: a
/// container could multiply them.
const MAX_FILES: usize = 1000;
const MAX_PROGRAMS: usize = 1000;
const MAX_PROCESSES: usize = 10_000;
/// Length of a value with everything expanded in it, and number of expansions.
const MAX_VALUE: usize = 4096;
const MAX_EXPANSIONS: usize = 100;
const TOO_MANY: &str = "its configuration has too many files or programs";

/// A group of programs, which are stopped together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramGroup {
    pub name: String,
    priority: i64,
    pub programs: Vec<ServiceProgram>,
}

/// A program, and how it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceProgram {
    /// The names of its processes.
    pub processes: Vec<String>,
    pub command: String,
    pub signal: Signal,
    /// The time until SIGKILL.
    pub wait: Duration,
    pub stop_group: bool,
    pub kill_group: bool,
}

/// A process of supervisord, as its configuration is read.
struct ConfigReader<'a> {
    input: &'a ForecastInput<'a>,
    process: usize,
    file: IniFile,
    /// The directory of the main file.
    here: String,
}

/// Programs and processes so far.
#[derive(Default)]
struct Counts {
    programs: usize,
    processes: usize,
}

/// Reads the groups of a supervisord, in the order in which it stops them.
///
/// # Errors
/// The missing fact, as a clause.
pub(super) fn read(input: &ForecastInput<'_>, process: usize) -> Result<Vec<ProgramGroup>, String> {
    let path = main_file(input, process)?;
    let mut reader =
        ConfigReader { input, process, file: IniFile::default(), here: dirname(&path) };
    reader.read_file(&path)?;
    let directory = reader.here.clone();
    reader.file.replace("%(here)s", &directory);
    reader.read_included()?;
    let mut groups = reader.groups()?;
    // Programs of one priority stay in the order of the file.
    groups.sort_by_key(|group| group.priority);
    groups.reverse();
    Ok(groups)
}

/// Returns the path of the main file: that of the option, or the first of the default ones that exists.
fn main_file(input: &ForecastInput<'_>, process: usize) -> Result<String, String> {
    let table = OptionTable {
        short: "c:h?vnu:m:d:l:y:z:e:j:i:q:a:kts",
        long: &[
            ("configuration", 'c'),
            ("help", 'h'),
            ("version", 'v'),
            ("nodaemon", 'n'),
            ("user", 'u'),
            ("umask", 'm'),
            ("directory", 'd'),
            ("logfile", 'l'),
            ("logfile_maxbytes", 'y'),
            ("logfile_backups", 'z'),
            ("loglevel", 'e'),
            ("pidfile", 'j'),
            ("identifier", 'i'),
            ("childlogdir", 'q'),
            ("minfds", 'a'),
            ("minprocs", 'a'),
            ("nocleanup", 'k'),
            ("strip_ansi", 't'),
            ("profile_options", 'a'),
            ("silent", 's'),
        ],
        permutes: false,
    };
    let arguments = input.arguments(process);
    let is_script = |word: &&[u8]| word.rsplit(|b| *b == b'/').next() == Some(b"supervisord");
    let script = arguments.iter().take(4).position(is_script);
    let parsed = script.and_then(|script| table.parse(&arguments[script..]));
    let (Some(script), Some(parsed)) = (script, parsed) else {
        return Err("its command line is not that of supervisord".into());
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some((_, Some(path))) = parsed.options.iter().find(|(letter, _)| *letter == 'c') {
        return Ok(text(path));
    }
    let above = dirname(&dirname(&text(arguments[script])));
    for path in [
        format!("{above}/etc/supervisord.conf"),
        format!("{above}/supervisord.conf"),
        "supervisord.conf".into(),
        "etc/supervisord.conf".into(),
        "/etc/supervisord.conf".into(),
        "/etc/supervisor/supervisord.conf".into(),
    ] {
        match input.look_up(process, Lookup::File(path.clone().into_bytes())) {
            Err(LookupError::Absent) => {}
            Err(why) => return Err(format!("`{path}` {why}")),
            Ok(_) => return Ok(path),
        }
    }
    Err("its configuration file was not found".into())
}

/// Returns the directory of a path; `.` if it has none.
fn dirname(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((directory, _)) => directory.into(),
        None => ".".into(),
    }
}

impl ConfigReader<'_> {
    /// Verifies that a file or directory is as it was when supervisord read it: when it started, or before
    /// its first program did. (It may have been written in the same process before it executed supervisord.)
    fn verify(&self, path: &str, content: &LookupContent) -> Result<(), String> {
        if self.input.is_from_start(self.process, content.changed) {
            return Ok(());
        }
        Err(format!("`{path}` has changed since it started"))
    }

    fn read_file(&mut self, path: &str) -> Result<(), String> {
        let lookup = Lookup::File(path.as_bytes().to_vec());
        let content = self
            .input
            .look_up(self.process, lookup)
            .map_err(|why| format!("its configuration `{path}` {why}"))?;
        self.verify(path, &content)?;
        let malformed = || format!("its configuration `{path}` is malformed");
        let text = std::str::from_utf8(&content.bytes).map_err(|_| malformed())?;
        self.file.read(text).map_err(|_| malformed())
    }

    /// Reads the files of the section `include`: patterns, from the directory of the main file.
    fn read_included(&mut self) -> Result<(), String> {
        if !self.file.sections().any(|section| section == "include") {
            return Ok(());
        }
        let files = self.file.get("include", "files").unwrap_or_default().to_owned();
        let files = self.expand(&files, &[])?;
        let matches = files.split_whitespace().map(|pattern| match pattern.starts_with('/') {
            true => self.matches(pattern),
            false => self.matches(&format!("{}/{pattern}", self.here)),
        });
        // All directories are asked for at once, and then all files.
        let matches: Vec<Result<Vec<String>, String>> = matches.collect();
        let paths: Vec<String> = matches.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        if paths.len() > MAX_FILES {
            return Err(TOO_MANY.into());
        }
        for path in &paths {
            let _ = self.input.look_up(self.process, Lookup::File(path.clone().into_bytes()));
        }
        paths.iter().try_for_each(|path| {
            self.read_file(path)?;
            self.file.replace("%(here)s", &dirname(path));
            Ok(())
        })
    }

    /// Returns the files that match a pattern, sorted, as glob.glob of Python does.
    fn matches(&self, pattern: &str) -> Result<Vec<String>, String> {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let root = if pattern.starts_with('/') { "/" } else { "" };
        let mut found = vec![root.to_owned()];
        let mut is_literal = true;
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let join = |path: &str, name: &str| match path {
                "" | "/" => format!("{path}{name}"),
                path => format!("{path}/{name}"),
            };
            if !part.contains(['*', '?', '[']) {
                found.iter_mut().for_each(|path| *path = join(path, part));
                continue;
            }
            is_literal = false;
            let part = Pattern::new(&part.replace("**", "*"))
                .map_err(|_| format!("the pattern `{pattern}` is malformed"))?;
            let mut next = Vec::new();
            for path in found {
                let directory = if path.is_empty() { "." } else { &path };
                for name in self.names(directory)? {
                    if part.matches_with(&name, options) {
                        next.push(join(&path, &name));
                    }
                }
                // (Directories that are links to each other multiply.)
                if next.len() > MAX_FILES {
                    return Err(TOO_MANY.into());
                }
            }
            found = next;
        }
        if is_literal {
            let lookup = Lookup::File(pattern.as_bytes().to_vec());
            if self.input.look_up(self.process, lookup) == Err(LookupError::Absent) {
                found.clear();
            }
        }
        found.sort();
        Ok(found)
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, String> {
        match self.input.look_up(self.process, Lookup::Directory(directory.as_bytes().to_vec())) {
            Err(LookupError::Absent) => Ok(Vec::new()),
            Err(why) => Err(format!("`{directory}` {why}")),
            Ok(content) => {
                self.verify(directory, &content)?;
                let names = content.bytes.split(|b| *b == 0).filter(|name| !name.is_empty());
                Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
            }
        }
    }

    /// Returns the groups: those with a section of their own, then one for each other program, event
    /// listener and FastCGI program.
    fn groups(&self) -> Result<Vec<ProgramGroup>, String> {
        let sections: Vec<&str> = self.file.sections().collect();
        let known: HashSet<&str> = sections.iter().copied().collect();
        if !known.contains("supervisord") {
            return Err("its configuration has no section [supervisord]".into());
        }
        let mut counts = Counts::default();
        let mut groups = Vec::new();
        let mut grouped = HashSet::new();
        for section in &sections {
            let Some(name) = section.strip_prefix("group:") else { continue };
            let programs = self.file.get(section, "programs").unwrap_or_default();
            let (name, priority) = (name.trim().to_owned(), self.priority(section, 999)?);
            let mut group = ProgramGroup { name, priority, programs: Vec::new() };
            for program in programs.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let kinds = ["program", "fcgi-program"].map(|kind| format!("{kind}:{program}"));
                let section = kinds.into_iter().find(|kind| known.contains(kind.as_str()));
                let section = section.ok_or("its configuration names an unknown program")?;
                self.add(&section, &mut group, &mut counts)?;
                grouped.insert(section);
            }
            groups.push(group);
        }
        for (kind, priority) in [("program:", 999), ("eventlistener:", -1), ("fcgi-program:", 999)]
        {
            for section in sections.iter().filter(|section| !grouped.contains(**section)) {
                let Some(name) = section.strip_prefix(kind) else { continue };
                let name = name.trim().to_owned();
                let priority = self.priority(section, priority)?;
                let mut group = ProgramGroup { name, priority, programs: Vec::new() };
                self.add(section, &mut group, &mut counts)?;
                groups.push(group);
            }
        }
        Ok(groups)
    }

    /// Adds a program to a group, unless there are too many.
    fn add(
        &self,
        section: &str,
        group: &mut ProgramGroup,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let program = self.program(section, &group.name)?;
        counts.programs += 1;
        counts.processes += program.processes.len();
        if counts.programs > MAX_PROGRAMS || counts.processes > MAX_PROCESSES {
            return Err(TOO_MANY.into());
        }
        group.programs.push(program);
        Ok(())
    }

    fn program(&self, section: &str, group: &str) -> Result<ServiceProgram, String> {
        let name = section.split_once(':').map_or(section, |(_, name)| name).trim();
        let common = [("program_name", name), ("group_name", group)];
        let get = |option: &str, default: &str| {
            self.expand(self.file.get(section, option).unwrap_or(default), &common)
        };
        let unknown = |option: &str| format!("its option {option} in [{section}] is malformed");
        let number = |option: &str, default: &str| -> Result<u32, String> {
            get(option, default)?.trim().parse().map_err(|_| unknown(option))
        };
        let is_set = |option: &str, default: &str| -> Result<bool, String> {
            match get(option, default)?.to_lowercase().as_str() {
                "yes" | "true" | "on" | "1" => Ok(true),
                "no" | "false" | "off" | "0" => Ok(false),
                _ => Err(unknown(option)),
            }
        };
        let signal = get("stopsignal", "TERM")?;
        let stop_group = is_set("stopasgroup", "false")?;
        let kill_group = is_set("killasgroup", if stop_group { "true" } else { "false" })?;
        let (first, count) = (number("numprocs_start", "0")?, number("numprocs", "1")?);
        let pattern = self.file.get(section, "process_name").unwrap_or("%(program_name)s");
        let count_text = count.to_string();
        let processes = (first..first.saturating_add(count.min(1000))).map(|index| {
            let index = index.to_string();
            let variables = [("process_num", index.as_str()), ("numprocs", &count_text)];
            self.expand(pattern, &[&common[..], &variables].concat())
        });
        Ok(ServiceProgram {
            processes: processes.collect::<Result<_, _>>()?,
            command: self.file.get(section, "command").unwrap_or_default().to_owned(),
            signal: Signal::parse(signal.trim()).map_err(|_| unknown("stopsignal"))?,
            wait: Duration::from_secs(number("stopwaitsecs", "10")?.into()),
            stop_group,
            kill_group,
        })
    }

    fn priority(&self, section: &str, default: i64) -> Result<i64, String> {
        let Some(text) = self.file.get(section, "priority") else { return Ok(default) };
        let malformed = || format!("its option priority in [{section}] is malformed");
        self.expand(text, &[])?.trim().parse().map_err(|_| malformed())
    }

    /// Expands `%(NAME)s`, `%(NAME)d` with a width, and `%%`.
    fn expand(&self, text: &str, names: &[(&str, &str)]) -> Result<String, String> {
        let malformed = || format!("`{text}` in its configuration cannot be expanded");
        let mut out = String::new();
        let mut rest = text;
        let mut expansions = 0;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            expansions += 1;
            if expansions > MAX_EXPANSIONS || out.len() > MAX_VALUE {
                return Err("a value in its configuration is too long".into());
            }
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let after = after.strip_prefix('(').ok_or_else(malformed)?;
            let (name, after) = after.split_once(')').ok_or_else(malformed)?;
            let end = after.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
            let (width, conversion) = after.split_at(end);
            let value = self.value(name, names)?;
            let size: usize = width.parse().unwrap_or(0).min(100);
            match (conversion.chars().next(), width.starts_with('0')) {
                (Some('d'), true) => out.push_str(&format!("{value:0>size$}")),
                (Some('d' | 's'), _) => out.push_str(&format!("{value:>size$}")),
                _ => return Err(malformed()),
            }
            rest = &conversion[1..];
        }
        Ok(out + rest)
    }

    fn value(&self, name: &str, names: &[(&str, &str)]) -> Result<String, String> {
        if let Some((_, value)) = names.iter().find(|(known, _)| *known == name) {
            return Ok((*value).to_owned());
        }
        if name == "here" {
            return Ok(self.here.clone());
        }
        let unknown = || format!("the value of `{name}` in its configuration is not known");
        let variable_name = name.strip_prefix("ENV_").ok_or_else(unknown)?;
        // Its own section may set it again.
        let set = self.file.get("supervisord", "environment").unwrap_or_default();
        if set.contains(variable_name) {
            return Err(unknown());
        }
        let environment = self
            .input
            .look_up(self.process, Lookup::Environment)
            .map_err(|why| format!("its environment {why}"))?;
        let value = variable(&environment.bytes, variable_name.as_bytes()).ok_or_else(unknown)?;
        Ok(String::from_utf8_lossy(value).into_owned())
    }
}
