//! The answer to words that are left to the engine: the command of the container's engine, ready to paste.

use std::path::PathBuf;

use super::context::Context;
use super::habits::{
    LEFT_TO_CLUSTER, LEFT_TO_ENGINE, PREFIXES, SYNONYMS, own_command, without_prefix,
};
use super::typed_line::{TypedLine, joined};
use crate::analysis::remedy::{filled, quoted};
use crate::engine::engine_infos;
use crate::model::container::Container;
use crate::model::engine::EngineCommands;
use crate::output::terminal::{ColorMode, Ui};
use crate::resolve::{Access, Resolver};

/// Options of the engines' commands with a value.
const WITH_VALUE: &[&str] =
    &["--cpus", "--memory", "--restart", "--signal", "--time", "--timeout", "-m", "-s", "-t"];

/// Engines of which a command is shown where no container is given.
const MOST_ENGINES: usize = 3;

/// Returns the hint for a word that is not a command: one that is left to the engine, the name of another
/// program before a command, or a container.
pub fn engine_hint(line: &TypedLine<'_>, word: &str) -> Option<String> {
    let mut clients = engine_infos().flat_map(|engine| engine.clients).copied();
    let is_client = clients.any(|client| client == word);
    if (is_client || PREFIXES.contains(&word))
        && let Some(own) = without_prefix(line, word)
    {
        return Some(own);
    }
    if is_client {
        return Some(format!("that is left to the engine: `{}`", joined(line.command_line())));
    }
    if LEFT_TO_CLUSTER.contains(&word) {
        return Some(format!("that is left to `kubectl {word}`"));
    }
    let same = SYNONYMS.iter().find(|(synonym, _)| *synonym == word);
    let word = same.map_or(word, |(_, word)| *word);
    if LEFT_TO_ENGINE.contains(&word) {
        let mut names = line.positionals(WITH_VALUE).into_iter();
        // (Most of these modify the container: its reference has to be as exact as for such a command here.)
        let found = names.find_map(|name| Some((name, container(line, name, Access::Act)?)));
        let command = found.and_then(|(name, container)| command(line, word, name, &container));
        let hint = command.map(|command| format!("that is left to its engine: {command}"));
        return Some(hint.unwrap_or_else(|| general(word, line)));
    }
    container(line, word, Access::Read)?;
    let rest = own_command(&line.arguments().iter().take(1).copied().collect::<Vec<_>>(), &[word]);
    Some(match rest {
        Some(own) if !line.arguments().is_empty() => format!("the command comes first: {own}"),
        _ => format!("the command comes first: `cinspect ps {}`", quoted(word)),
    })
}

/// Returns the command of a container's engine, where the container was typed as `typed`.
fn command(line: &TypedLine<'_>, word: &str, typed: &str, container: &Container) -> Option<String> {
    let engine = container.engine;
    if let Some(unpause) = engine.advice.unpause.filter(|_| word == "unpause") {
        return filled(container, unpause);
    }
    match engine.commands {
        EngineCommands::Table(table) => {
            let (_, command) = table.iter().find(|(name, _)| *name == word)?;
            filled(container, command)
        }
        EngineCommands::AsTyped => {
            let arguments = line.arguments().iter().map(|argument| match *argument == typed {
                true => "<name>".to_owned(),
                false => quoted(argument),
            });
            let client = engine.clients.first()?;
            let words = [(*client).to_owned(), word.to_owned()];
            filled(container, &words.into_iter().chain(arguments).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Returns the commands of the engines that have one of this name, where no container is given.
fn general(word: &str, line: &TypedLine<'_>) -> String {
    let typed = joined(line.arguments());
    let typed = if typed.is_empty() { typed } else { format!(" {typed}") };
    let commands = engine_infos().filter_map(|engine| match engine.commands {
        EngineCommands::AsTyped => {
            engine.clients.first().map(|client| format!("`{client} {word}{typed}`"))
        }
        EngineCommands::Table(table) => table
            .iter()
            .find(|(name, command)| *name == word && !command.contains('<'))
            .map(|(_, command)| format!("`{command}`")),
    });
    let commands: Vec<String> = commands.take(MOST_ENGINES).collect();
    format!("that is left to the engine, such as {}", commands.join(" or "))
}

/// Returns the container of this name, running or not.
pub(super) fn container(line: &TypedLine<'_>, name: &str, access: Access) -> Option<Container> {
    let root = line.value(&["--host-root"]).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let ui = Ui::new(ColorMode::Never, false, false).silenced();
    let host = Context::new(ui, root).host().ok()?;
    let resolver = Resolver::new(&host);
    let found = resolver.resolve(name, access).ok().map(|found| found.container);
    found.or_else(|| resolver.not_running(name).map(|stopped| stopped.container))
}
