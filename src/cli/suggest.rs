//! The command that is suggested for a word that is not a command.

use super::engine_command::engine_hint;
use super::habits::{READING, own_command, word_hint};
use super::typed_line::TypedLine;
use crate::command::COMMANDS;

/// The largest edit distance from the word to a read-only command.
const READING_EDITS: usize = 2;
/// The same for a command that modifies state, or a word of another program: only an obvious misspelling counts.
const OBVIOUS_EDITS: usize = 1;

/// Returns the hint for a word that is not a command.
pub fn suggestion(line: &TypedLine<'_>, word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    word_hint(line, &word).or_else(|| engine_hint(line, &word)).or_else(|| {
        let near = nearest(&word)?;
        Some(word_hint(line, near).unwrap_or_else(|| did_you_mean(line, near)))
    })
}

/// Returns the hint with the command in place of the word that was typed: the whole line, if that is one.
fn did_you_mean(line: &TypedLine<'_>, command: &str) -> String {
    let before = [line.globals(), &[command]].concat();
    let whole = own_command(&before, line.arguments());
    format!("did you mean {}?", whole.unwrap_or_else(|| format!("`{command}`")))
}

/// Returns the nearest command, or word of another program for a command that only reads. Of two that are equally
/// near it is the one that modifies nothing, so that a misspelt `ps` never becomes a `stop`.
fn nearest(word: &str) -> Option<&'static str> {
    let names = COMMANDS.iter().flat_map(|command| {
        let names = std::iter::once(command.name).chain(command.aliases.iter().copied());
        names.map(move |name| (name, command.modifies))
    });
    let commands = names.chain([("help", false)]).map(|(name, modifies)| {
        (name, modifies, if modifies { OBVIOUS_EDITS } else { READING_EDITS })
    });
    let habits = READING.iter().flat_map(|(words, _)| words.iter().copied());
    let habits = habits.map(|word| (word, false, OBVIOUS_EDITS));
    let candidates = commands.chain(habits).filter_map(|(name, modifies, limit)| {
        let edits = strsim::osa_distance(word, name);
        // (Two words of two letters are two edits apart without any in common.)
        (edits <= limit && edits < name.len().min(word.len())).then_some((edits, modifies, name))
    });
    candidates.min_by_key(|(edits, modifies, _)| (*edits, *modifies)).map(|(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_commands_get_the_nearest() {
        for (word, command) in [
            ("docter", "doctor"),
            ("inpsect", "inspect"),
            ("lss", "ls"),
            ("sl", "ls"),
            ("singal", "signal"),
            ("signls", "signals"),
            ("completion", "completions"),
            ("stp", "stop"),
            ("exce", "exec"),
            ("PS", "ps"),
            ("tops", "top"),
            ("descrbe", "describe"),
        ] {
            assert_eq!(nearest(&word.to_ascii_lowercase()), Some(command), "{word}");
        }
    }

    #[test]
    fn a_word_that_may_mean_reading_never_gets_a_command_that_modifies_state() {
        let modifies = |name: &str| {
            COMMANDS.iter().any(|c| c.modifies && (c.name == name || c.aliases.contains(&name)))
        };
        for word in ["pss", "p", "tops", "stat", "show", "list1", "state", "status", "pstree"] {
            assert!(!nearest(word).is_some_and(modifies), "{word}: {:?}", nearest(word));
        }
        for (words, hint) in READING {
            let commands = COMMANDS.iter().filter(|command| command.modifies);
            for name in commands.flat_map(|c| c.aliases.iter().copied().chain([c.name])) {
                assert!(!hint.contains(&format!("cinspect {name} ")), "{words:?}: {hint}");
            }
        }
    }

    #[test]
    fn other_words_get_no_suggestion() {
        for word in ["", "x", "banana", "nosuch", "--"] {
            assert_eq!(nearest(word), None, "{word}");
        }
    }
}
