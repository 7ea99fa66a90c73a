//! Completion: the shell asks with the words of the command line, and gets what could stand where the
//! cursor is, a value and what it is on each line. The scripts of the shells only ask and show; what
//! fits is decided here, by the command table and by what runs now. It answers soon or not at all,
//! says nothing of errors, and prints no control characters.

mod candidates;
mod shell_words;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap_complete::engine::{CompletionCandidate, complete};

use crate::cli::root::root_command;
use crate::output::escape::{safe_str, unprintable};
use crate::output::width::cut;
use candidates::CompletionLine;

/// Set by the scripts: which word the cursor is in, counted from 0; after a `q`, the words are as they
/// were typed, with quotes and backslashes.
const ASKED: &str = "CINSPECT_COMPLETE";

/// Nobody waits longer for a prompt; on a healthy host it takes some milliseconds.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is said of a candidate, in columns; the shells do not know how wide letters are.
const WIDEST: usize = 60;

/// More than anybody reads.
const MOST: usize = 2000;

/// The script of a shell that asks us.
pub fn script(shell: clap_complete::Shell) -> Option<&'static str> {
    use clap_complete::Shell;
    match shell {
        Shell::Bash => Some(include_str!("cinspect.bash")),
        Shell::Zsh => Some(include_str!("cinspect.zsh")),
        Shell::Fish => Some(include_str!("cinspect.fish")),
        _ => None,
    }
}

/// Whether something is offered for the values of an argument.
pub fn is_completed(arg: &clap::Arg) -> bool {
    candidates::source(arg).is_some()
}

/// Answers where a shell asks: `cinspect -- WORD…`. Whether it did.
pub fn answer(argv: &[OsString]) -> bool {
    let Some(asked) = std::env::var_os(ASKED) else { return false };
    let asked = asked.to_string_lossy();
    let (quoted, at) = match asked.strip_prefix('q') {
        Some(at) => (true, at),
        None => (false, &*asked),
    };
    let (Ok(at), Some("--")) = (at.parse::<usize>(), argv.get(1).and_then(|a| a.to_str())) else {
        return false;
    };
    let mut words: Vec<OsString> = argv.get(2..).unwrap_or_default().to_vec();
    if quoted {
        words = words.iter().map(|word| shell_words::unquoted(word)).collect();
    }
    words.resize(words.len().max(at + 1), OsString::new());
    // Only a process that is left can be left behind: the thread may hang in what it reads.
    let (tell, told) = mpsc::channel();
    let found = std::thread::Builder::new().spawn(move || tell.send(candidates(words, at)));
    if found.is_ok()
        && let Ok(text) = told.recv_timeout(PATIENCE)
    {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    true
}

/// A line for each candidate: value, tab, what it is.
fn candidates(words: Vec<OsString>, at: usize) -> String {
    let line = Arc::new(CompletionLine::new(&words, at));
    let mut root = candidates::attach(root_command(), &line);
    let here = std::env::current_dir().ok();
    let typed = words.get(at).cloned().unwrap_or_default();
    let found = complete(&mut root, words, at, here.as_deref()).unwrap_or_default();
    let shown = || found.iter().filter(|one| !one.is_hide_set());
    // Options are for who begins one, or where nothing else can stand.
    let is_option = |one: &&CompletionCandidate| one.get_value().as_bytes().starts_with(b"-");
    let bare = !begins(typed.as_bytes(), OsStr::new("-")) && !shown().all(|one| is_option(&one));
    let mut text = String::new();
    for candidate in shown().filter(|one| !bare || !is_option(one)).take(MOST) {
        // What cannot be typed back is not offered.
        let Some(mut value) = candidate.get_value().to_str() else { continue };
        // Of a command's names the engine keeps the last, which is an alias.
        let command = candidate.get_id().and_then(|id| id.strip_prefix("command::"));
        if let Some(name) = command.filter(|name| begins(name.as_bytes(), &typed)) {
            value = name;
        }
        if value.chars().any(unprintable) {
            continue;
        }
        let about = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let about = about.lines().next().unwrap_or_default();
        text.push_str(&format!("{value}\t{}\n", cut(&safe_str(about), WIDEST, "...")));
    }
    text
}

/// A candidate of which something is said.
fn candidate(value: impl Into<OsString>, about: impl Into<String>) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(about.into().into()))
}

/// Whether a candidate goes on from what was typed.
fn begins(value: &[u8], typed: &std::ffi::OsStr) -> bool {
    value.starts_with(typed.as_bytes())
}
