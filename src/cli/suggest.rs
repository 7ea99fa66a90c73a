//! The command that was probably meant by a word that is not one.

use crate::command::COMMANDS;

/// Words typed from habit, and the command or program that does what they do elsewhere. None of them
/// is answered with a command that modifies state.
const HABITS: &[(&[&str], &str)] = &[
    (&["top", "stats", "htop"], "`cinspect ps --watch CTR` refreshes a container's processes"),
    (&["container", "containers", "info", "dir"], "`cinspect ls` lists the running containers"),
    (&["version"], "`cinspect --version` prints the version"),
    (
        &[
            "attach", "build", "commit", "create", "diff", "events", "export", "images", "load",
            "pause", "port", "pull", "push", "rename", "restart", "rm", "rmi", "run", "save",
            "start", "unpause", "update", "wait",
        ],
        "use the engine's own client for this, such as `docker`, `podman` or `crictl`",
    ),
];

/// Edits that a reading command may be away from the word.
const READING_EDITS: usize = 2;
/// Edits that a command that modifies state may be away: it has to be a plain misspelling.
const MODIFYING_EDITS: usize = 1;

/// Returns the hint for a word that is not a command.
pub fn suggestion(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    if let Some((_, hint)) = HABITS.iter().find(|(words, _)| words.contains(&word.as_str())) {
        return Some((*hint).to_owned());
    }
    nearest(&word).map(|command| format!("did you mean `{command}`?"))
}

/// Returns the nearest command. Of two that are equally near it is the one that only reads, so that a
/// misspelt `ps` never becomes a `stop`.
fn nearest(word: &str) -> Option<&'static str> {
    let names = COMMANDS.iter().flat_map(|command| {
        let names = std::iter::once(command.name).chain(command.aliases.iter().copied());
        names.map(move |name| (name, command.modifies))
    });
    let candidates = names.chain([("help", false)]).filter_map(|(name, modifies)| {
        let edits = strsim::osa_distance(word, name);
        let limit = if modifies { MODIFYING_EDITS } else { READING_EDITS };
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
        for word in HABITS.iter().flat_map(|(words, _)| *words) {
            let hint = suggestion(word).unwrap_or_default();
            let commands = COMMANDS.iter().filter(|command| command.modifies);
            for name in commands.flat_map(|c| c.aliases.iter().copied().chain([c.name])) {
                assert!(!hint.contains(&format!("cinspect {name} ")), "{word}: {hint}");
            }
        }
    }

    #[test]
    fn other_words_get_no_suggestion() {
        for word in ["", "x", "banana", "nosuch", "--"] {
            assert_eq!(suggestion(word), None, "{word}");
        }
    }
}
