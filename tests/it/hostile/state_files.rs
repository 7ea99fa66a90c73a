//! Engines' files with a bad value in each place, on recorded hosts: no command panics, hangs or prints
//! control characters, and the containers that the file does not name stay as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{is_long, text};
use crate::fuzz::targets::machine::Machine;
use crate::fuzz::targets::state_files::{StateEdit, apply, files, value_count};
use crate::support::{
    Need, Outcome, Run, check, cinspect, control_character, finish, note, repository, test_with,
};

/// Places of a file that are tried, at most.
const PLACES: u16 = 40;
/// Of all edits, one in this many is tried in `tests/run`, and at length: a prime number, so that each value comes
/// to each file, at other places. (All of them take two hours; the fuzzer's target `hosts` goes on from here.)
const STRIDE: usize = 401;
const STRIDE_AT_LENGTH: usize = 11;
/// No command takes this long, on however loaded a machine.
const LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Root, "hostile::bad_values_in_files_of_engines", bad_values),
        test_with(Need::Root, "hostile::database_that_crashes_its_reader", crashing_database),
    ]
}

/// A host, and how it looked before anything was changed.
struct HostFiles {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
    listed: BTreeMap<String, Value>,
}

fn bad_values() -> Outcome {
    let stride = if is_long() { STRIDE_AT_LENGTH } else { STRIDE };
    let (mut number, mut tried) = (0, 0);
    let mut hosts: Vec<PathBuf> = fs::read_dir(repository().join("tests/hosts"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    hosts.retain(|path| path.extension().is_some_and(|extension| extension == "host"));
    hosts.sort();
    for path in hosts {
        let host = HostFiles::new(&path)?;
        for file in 0..host.files.len() {
            for place in 0..host.places(file) {
                for value in 0..value_count() {
                    number += 1;
                    if number % stride != 0 {
                        continue;
                    }
                    let edit = StateEdit { file: file as u16, place, value: value as u8 };
                    let title = format!("{}: {}", path.display(), host.verify(edit, number)?);
                    note("hostile", &title, "ok", "");
                    tried += 1;
                }
            }
        }
    }
    check(tried >= 100, format!("only {tried} of {number} edits"))
}

/// A database over which the library panics names no container: what else is not found is not found, and nothing
/// ran short.
fn crashing_database() -> Outcome {
    let host = HostFiles::new(&repository().join("tests/hosts/k8s-containerd.host"))?;
    // Four pages; two are records about transactions (bbolt, `meta`), with a list of free pages beyond the end
    // of any file.
    let mut bytes = vec![0; 4 * 4096];
    for page in [0, 1] {
        let start = page * 4096;
        bytes[start] = page as u8;
        bytes[start + 8] = 4;
        let numbers = [0x2_ED0C_DAED, 4096, 3, 0, u64::MAX, 4, page as u64, 0];
        for (number, place) in numbers.iter().zip((start + 16..).step_by(8)) {
            bytes[place..place + 8].copy_from_slice(&u64::to_le_bytes(*number));
        }
    }
    let database = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
    let file = host.dir.path().join(database);
    fs::create_dir_all(file.parent().ok_or("no directory")?)?;
    fs::write(file, bytes)?;
    let run = host.run(&["ps", "no-such-container"])?.expect(3)?;
    check(run.err.contains("no running container"), &run.err)?;
    check(rows(&host.run(&["--json", "ls"])?) == host.listed, "containers have changed")
}

impl HostFiles {
    fn new(path: &Path) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        Machine::read(path)?.unpack(dir.path())?;
        // Facts that containers decide about their processes are tried by other tests.
        let kernel = ["proc", "sys"].map(|name| dir.path().join(name));
        let mut files = files(dir.path());
        files.retain(|file| !kernel.iter().any(|kernel| file.starts_with(kernel)));
        let mut host = Self { dir, files, listed: BTreeMap::new() };
        host.listed = rows(&host.run(&["--json", "ls"])?.expect(0)?);
        Ok(host)
    }

    fn places(&self, file: usize) -> u16 {
        let length = fs::metadata(&self.files[file]).map_or(0, |meta| meta.len());
        u16::try_from(length / 8 + 1).unwrap_or(PLACES).min(PLACES)
    }

    fn run(&self, words: &[&str]) -> Result<Run, Failed> {
        let mut command = cinspect(words);
        command.arg("--host-root").arg(self.dir.path());
        let run = finish(command);
        let shown = format!("{words:?}: {run:?}");
        check(run.code != 101 && run.code >= 0 && !run.err.contains("panicked"), &shown)?;
        check(run.took < LIMIT, format!("{words:?} took {:?}", run.took))?;
        let character = control_character(&format!("{}{}", run.out, run.err));
        check(character.is_none(), format!("{character:?}: {shown}"))?;
        if words.contains(&"--json") {
            check(run.out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), &shown)?;
        }
        Ok(run)
    }

    /// Makes an edit, runs commands and takes it back.
    fn verify(&self, edit: StateEdit, number: usize) -> Result<String, Failed> {
        let path = &self.files[usize::from(edit.file)];
        let (old, meta) = (fs::read(path)?, fs::metadata(path)?);
        let named = format!("{} {}", path.display(), String::from_utf8_lossy(&old));
        let title = apply(self.dir.path(), &self.files, edit);
        let records = ["var", "run"].map(|name| self.dir.path().join(name));
        let is_record = records.iter().any(|dir| path.starts_with(dir));
        let outcome = self.commands(number, &named, is_record);
        let mut remove = Command::new("rm");
        remove.arg("-rf").arg(path).stdin(Stdio::null()).status()?;
        fs::write(path, old)?;
        std::os::unix::fs::chown(
            path,
            Some(std::os::unix::fs::MetadataExt::uid(&meta)),
            Some(std::os::unix::fs::MetadataExt::gid(&meta)),
        )?;
        match outcome {
            Ok(()) => Ok(title),
            Err(failed) => Err(format!("{title}: {}", text(&failed)).into()),
        }
    }

    fn commands(&self, number: usize, named: &str, is_record: bool) -> Outcome {
        let listed = rows(&self.run(&["--json", "ls"])?);
        for (id, row) in &self.listed {
            // (Settings lead to the records of others.)
            let is_named = id.len() < 12 || named.contains(id.as_str()) || !is_record;
            // (A container without a PID here lives in the sandbox of another record.)
            if !is_named && !row["pid"].is_null() && listed.get(id) != Some(row) {
                let now = listed.get(id);
                return Err(format!("a container of another file was {row} and is {now:?}").into());
            }
        }
        let names: Vec<&str> =
            self.listed.values().filter_map(|row| row["name"].as_str()).collect();
        let name = names.get(number % names.len().max(1)).copied().unwrap_or("none");
        match number % 6 {
            0 => self.run(&["ls", "-a"]),
            1 => self.run(&["--json", "ls", "-a"]),
            2 => self.run(&["doctor", "--exit-zero"]),
            3 => self.run(&["--json", "inspect", name]),
            4 => self.run(&["inspect", name]),
            _ => self.run(&["why", name]),
        }
        .map(drop)
    }
}

/// Returns the rows of `ls` by ID.
fn rows(run: &Run) -> BTreeMap<String, Value> {
    let rows = run.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    rows.filter_map(|row| Some((row["id"].as_str()?.to_owned(), row))).collect()
}
