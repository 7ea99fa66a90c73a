//! Shell completion. The shell's script passes the words of the command line, and this program prints
//! the candidates for the word at the cursor, each with its description on a line. The scripts only request
//! and show them; the command table and the running containers decide. An answer comes soon or not at all,
//! errors are not printed, and control characters never are.
//!
//! The scripts are ours because those of clap_complete's `CompleteEnv` (4.6) do not fit references such
//! as `docker:web` and `web:/etc`: in bash they take the parts around a colon for words of their own
//! (COMP_WORDBREAKS) and show no descriptions, in zsh they cut a candidate at its first colon.

mod candidates;
mod line;
mod shell_words;
pub mod source;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use clap_complete::engine::{CompletionCandidate, complete};

use crate::cli::root::{root_command, root_for};
use crate::command::COMMANDS;
use crate::output::escape::{safe_str, unprintable};
use crate::output::width::cut;
use crate::sys::cpu_wait::stalled;
use line::CompletionLine;

/// The variable that the scripts set: the index of the word under the cursor, counted from 0. After a
/// `q` the words are as they were typed, with quotes and backslashes.
const INDEX_VARIABLE: &str = "CINSPECT_COMPLETE";

/// The longest that a user waits at a prompt. On a healthy host an answer takes some milliseconds.
const TIMEOUT: Duration = Duration::from_millis(400);

/// How much longer on a host whose CPUs are busy.
const MAX_STALL: Duration = Duration::from_secs(5);

/// Columns of a description: it is cut here, because the shells do not measure the width of letters.
const DESCRIPTION_WIDTH: usize = 60;

/// Candidates that are printed at most.
const MOST: usize = 2000;

/// Returns the script of a shell that we have one for.
pub fn script(shell: clap_complete::Shell) -> Option<&'static str> {
    use clap_complete::Shell;
    match shell {
        Shell::Bash => Some(include_str!("../../completions/cinspect.bash")),
        Shell::Zsh => Some(include_str!("../../completions/_cinspect")),
        Shell::Fish => Some(include_str!("../../completions/cinspect.fish")),
        _ => None,
    }
}

/// Answers a script's question (`cinspect -- WORD…`), and returns whether it was one.
pub fn answer(argv: &[OsString]) -> bool {
    let Some(question) = std::env::var_os(INDEX_VARIABLE) else { return false };
    let question = question.to_string_lossy();
    let (quoted, index) = match question.strip_prefix('q') {
        Some(index) => (true, index),
        None => (false, &*question),
    };
    let separator = argv.get(1).and_then(|word| word.to_str());
    let (Ok(index), Some("--")) = (index.parse::<usize>(), separator) else { return false };
    let mut words: Vec<OsString> = argv.get(2..).unwrap_or_default().to_vec();
    if quoted {
        words = words.iter().map(|word| shell_words::unquoted(word)).collect();
    }
    words.resize(words.len().max(index + 1), OsString::new());
    // A read may hang. The thread is left behind, and the exit of the process ends it.
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || sender.send(candidates(words, index)));
    if thread.is_ok()
        && let Some(text) = receive(&receiver)
    {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    true
}

/// Waits for the answer, longer where processes wait for a CPU.
fn receive(receiver: &mpsc::Receiver<String>) -> Option<String> {
    let (begun, stalled_before) = (Instant::now(), stalled());
    loop {
        match receiver.recv_timeout(TIMEOUT / 4) {
            Ok(text) => return Some(text),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let stall = stalled().saturating_sub(stalled_before).min(MAX_STALL);
        if begun.elapsed() >= TIMEOUT + stall {
            return None;
        }
    }
}

/// Returns a line for each candidate: the value, a tab and the description.
fn candidates(words: Vec<OsString>, index: usize) -> String {
    let line = Arc::new(CompletionLine::new(&words, index));
    // (A later word could be mistaken for the command, which is not typed yet.)
    let typed_before = &words[..index.min(words.len())];
    let command = line.command.as_ref().map(OsString::from);
    let root = match command.filter(|command| is_typed(command, typed_before)) {
        Some(command) => root_for(&[command]),
        None => root_command(),
    };
    let mut root = candidates::attach(root, &line);
    let directory = std::env::current_dir().ok();
    let typed = words.get(index).cloned().unwrap_or_default();
    let found = candidates::signal_options(&line, &typed).unwrap_or_else(|| {
        complete(&mut root, words, index, directory.as_deref()).unwrap_or_default()
    });
    let visible = || found.iter().filter(|candidate| !candidate.is_hide_set());
    let is_option =
        |candidate: &&CompletionCandidate| candidate.get_value().as_bytes().starts_with(b"-");
    // Options are offered after a hyphen, and where nothing else is possible.
    let hide_options =
        !begins(typed.as_bytes(), OsStr::new("-")) && !visible().all(|c| is_option(&c));
    let mut text = String::new();
    for candidate in visible().filter(|c| !hide_options || !is_option(c)).take(MOST) {
        // A value that is not UTF-8 cannot be typed back.
        let Some(mut value) = candidate.get_value().to_str() else { continue };
        // Of a command's names the engine keeps the last, which is an alias.
        let command = candidate.get_id().and_then(|id| id.strip_prefix("command::"));
        if let Some(name) = command.filter(|name| begins(name.as_bytes(), &typed)) {
            value = name;
        }
        if value.chars().any(unprintable) {
            continue;
        }
        let description = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let description = description.lines().next().unwrap_or_default();
        let description = safe_str(description);
        text.push_str(&format!("{value}\t{}\n", cut(&description, DESCRIPTION_WIDTH, "...")));
    }
    text
}

/// Whether a command is among words, by its name or an alias.
fn is_typed(command: &OsString, words: &[OsString]) -> bool {
    let aliases = COMMANDS.iter().find(|known| command == known.name).map(|known| known.aliases);
    let is_it = |word: &OsString| {
        word == command || aliases.is_some_and(|aliases| aliases.iter().any(|alias| word == alias))
    };
    words.iter().any(is_it)
}

/// Creates a candidate with a description.
fn candidate(value: impl Into<OsString>, description: impl Into<String>) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(description.into().into()))
}

/// Whether a candidate continues the typed text.
fn begins(value: &[u8], typed: &OsStr) -> bool {
    value.starts_with(typed.as_bytes())
}
