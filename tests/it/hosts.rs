//! Recorded hosts: every `tests/hosts/NAME.host` is a machine as text, followed by commands and the output
//! that cinspect must give there. Each command is a test. `UPDATE=1 cargo test --test it hosts::` writes
//! the outputs; read them before you commit them. `tests/hosts/README.md` describes the format.

mod machine;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::{
    Need, Outcome, Run, cinspect, finish, missing, report, repository, same, test,
};
use machine::{Machine, Section};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![test("hosts::every_host_has_a_preface_and_a_command", check_files)];
    for path in files() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let machine = Arc::new(Machine::read(&path).expect("a host that can be read"));
        let sections = machine.sections.iter().filter(|section| section.head.starts_with("$ "));
        for section in sections {
            let recorded = RecordedCommand::parse(&machine, section);
            let title = format!("hosts::{name}: {}", recorded.title());
            if machine.needs_root() && !Need::Root.met() {
                trials.push(missing(Need::Root.name(), &title, "files of several users need root"));
                continue;
            }
            let (machine, path) = (machine.clone(), path.clone());
            trials.push(Trial::test(title.clone(), move || {
                let outcome = recorded.check(&machine, &path);
                report("recorded hosts", &title, &outcome);
                outcome
            }));
        }
    }
    trials
}

/// Unpacks the host of this name below `root`.
pub fn unpack(name: &str, root: &Path) -> Outcome {
    let machine = Machine::read(&repository().join(format!("tests/hosts/{name}.host")))?;
    Ok(machine.unpack(root)?)
}

fn files() -> Vec<PathBuf> {
    let dir = std::fs::read_dir(repository().join("tests/hosts")).expect("tests/hosts");
    let mut files: Vec<PathBuf> = dir.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "host"));
    files.sort();
    files
}

/// Fails for a host without a preface or without a command.
fn check_files() -> Outcome {
    let mut incomplete = Vec::new();
    for path in files() {
        let machine = Machine::read(&path)?;
        let has_command = machine.sections.iter().any(|section| section.head.starts_with("$ "));
        if machine.preface.lines().count() < 3 || !has_command {
            incomplete.push(path);
        }
    }
    same(incomplete, Vec::new())?;
    same(files().is_empty(), false)
}

/// A section `$ COMMAND`, optionally with `| key key…` (only these keys of each JSON object) and
/// `=> STATUS`.
#[derive(Clone)]
struct RecordedCommand {
    head: String,
    command: String,
    keys: Vec<String>,
    status: i32,
    answer: Vec<String>,
}

impl RecordedCommand {
    fn parse(machine: &Machine, section: &Section) -> Self {
        let text = section.head.trim_start_matches("$ ");
        let (text, status) = text.rsplit_once(" => ").unwrap_or((text, "0"));
        let (command, keys) = text.split_once(" | ").unwrap_or((text, ""));
        let lines = section.body.lines().filter(|line| !line.starts_with("# "));
        Self {
            head: section.head.clone(),
            command: command.trim().to_owned(),
            keys: keys.split_whitespace().map(str::to_owned).collect(),
            status: status.trim().parse().expect("an exit status after =>"),
            answer: lines
                .map(|line| words(&machine.fill(line)))
                .filter(|l| !l.is_empty())
                .collect(),
        }
    }

    fn title(&self) -> String {
        format!("cinspect {}", self.command)
    }

    fn check(&self, machine: &Machine, path: &Path) -> Outcome {
        let dir = tempfile::tempdir()?;
        machine.unpack(dir.path())?;
        let root = dir.path().display().to_string();
        let command = machine.fill(&self.command);
        let mut arguments = vec!["--host-root", root.as_str()];
        arguments.extend(command.split_whitespace());
        let run = finish(cinspect(&arguments));
        let answer = self.output(&run, &root)?;
        if std::env::var_os("UPDATE").is_some() {
            let status = if run.code == 0 { String::new() } else { format!(" => {}", run.code) };
            let head = self.head.split(" => ").next().unwrap_or_default();
            let answer: Vec<String> = answer.iter().map(|line| machine.unfill(line)).collect();
            return rewrite(path, &self.head, &format!("{head}{status}"), &answer);
        }
        let got = answer.iter().map(|line| words(line)).filter(|line| !line.is_empty());
        let got: Vec<String> = got.collect();
        if got != self.answer {
            let message = format!("got\n{}\nwanted\n{}", got.join("\n"), self.answer.join("\n"));
            return Err(message.into());
        }
        run.expect(self.status).map(|_| ())
    }

    /// Returns the lines of a run; lines of stderr begin with `! `.
    fn output(&self, run: &Run, root: &str) -> Result<Vec<String>, libtest_mimic::Failed> {
        let mut lines = Vec::new();
        if self.keys.is_empty() {
            lines.extend(run.out.lines().map(str::to_owned));
        } else {
            for object in run.objects() {
                let values =
                    self.keys.iter().map(|key| Some((key.clone(), object.get(key)?.clone())));
                let chosen: Option<serde_json::Map<String, Value>> = values.collect();
                let chosen = chosen.ok_or_else(|| format!("a key is missing in {object}"))?;
                lines.push(Value::Object(chosen).to_string());
            }
        }
        lines.extend(run.err.lines().map(|line| format!("! {}", line.replace(root, "ROOT"))));
        Ok(lines)
    }
}

/// Removes the spaces that align columns.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

static UPDATE_LOCK: Mutex<()> = Mutex::new(());

/// Replaces the output below `head`; comments stay.
fn rewrite(path: &Path, head: &str, new_head: &str, answer: &[String]) -> Outcome {
    let _lock = UPDATE_LOCK.lock();
    let text = std::fs::read_to_string(path)?;
    let (head, new_head) = (format!("-- {head} --\n"), format!("-- {new_head} --\n"));
    let start = text.find(&head).ok_or("the command is gone")?;
    let body = start + head.len();
    let end = text[body..].find("\n-- ").map_or(text.len(), |next| body + next + 1);
    let comments = text[body..end].lines().take_while(|line| line.starts_with("# "));
    let mut new: Vec<&str> = comments.collect();
    new.extend(answer.iter().map(|line| line.trim_end()));
    let gap = if end == text.len() { "\n" } else { "\n\n" };
    let new = format!("{}{new_head}{}{gap}{}", &text[..start], new.join("\n"), &text[end..]);
    std::fs::write(path, new.replace("--\n\n\n", "--\n\n"))?;
    Ok(())
}
