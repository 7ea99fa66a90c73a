//! Containers that are not running: those of the name or ID that was typed.

use jiff::Timestamp;

use super::matching::{distinct_names, has_whole_name, is_id_prefix, is_of};
use super::reference::ContainerRef;
use crate::engine::{Inventory, StoppedContainer, exit_record};
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::output::exit_words::predicate;
use crate::proc::Host;

/// The shortest ID prefix that is taken for a container that is not running, and not for a typing error.
const MEANT_PREFIX: usize = 4;

/// Returns the containers that are not running and that a reference, as it was typed, may mean.
pub(super) fn referred_to<'a>(
    host: &Host,
    inventory: &'a Inventory,
    word: &str,
) -> Vec<&'a StoppedContainer> {
    match ContainerRef::parse(word) {
        Ok(ContainerRef::Qualified(engine, name)) => {
            not_running(host, inventory, Some(engine), &name)
        }
        Ok(ContainerRef::Plain(name)) => not_running(host, inventory, None, &name),
        _ => Vec::new(),
    }
}

/// Returns a note about each container that is not running and that a reference may mean as well as the one that
/// runs. (Another life of the same container in a pod is not another container.)
pub(super) fn notes_on_others(
    host: &Host,
    inventory: &Inventory,
    running: &Container,
    word: &str,
) -> Vec<String> {
    let others = referred_to(host, inventory, word).into_iter().map(|stopped| &stopped.container);
    let others = others.filter(|other| running.pod.is_none() || other.pod != running.pod);
    let containers: Vec<&Container> = [running].into_iter().chain(others).collect();
    let names = distinct_names(&containers);
    let notes = containers.iter().zip(&names).skip(1).map(|(other, name)| {
        let record = exit_record(host, other).unwrap_or_default();
        let ended = predicate(&record, other.engine, Timestamp::now());
        format!("`{}` is running; `{word}` also matches `{name}`, which {ended}", names[0])
    });
    notes.collect()
}

/// Returns the containers that are not running and that a word refers to: by the first rule that matches any, its
/// whole name, its ID, or the beginning of that. Of the runs of one container in a pod it is the last one.
pub(super) fn not_running<'a>(
    host: &Host,
    inventory: &'a Inventory,
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Vec<&'a StoppedContainer> {
    let of_engine: Vec<&StoppedContainer> = inventory
        .stopped
        .iter()
        .filter(|stopped| engine.is_none_or(|engine| is_of(&stopped.container, engine)))
        .collect();
    let matching = |rule: &dyn Fn(&StoppedContainer) -> bool| -> Vec<&'a StoppedContainer> {
        of_engine.iter().copied().filter(|stopped| rule(stopped)).collect()
    };
    let named = matching(&|stopped| has_whole_name(&stopped.container, word));
    if !named.is_empty() {
        return verified_or_all(last_runs(host, named));
    }
    let identified = matching(&|stopped| stopped.container.id.as_deref() == Some(word));
    if !identified.is_empty() {
        return verified_or_all(identified);
    }
    let has_prefix = |id: &String| word.len() >= MEANT_PREFIX && is_id_prefix(word, id);
    verified_or_all(matching(&|stopped| stopped.container.id.as_ref().is_some_and(has_prefix)))
}

/// Returns the containers whose records were verified, or all if there are none.
fn verified_or_all(mut found: Vec<&StoppedContainer>) -> Vec<&StoppedContainer> {
    if found.iter().any(|stopped| stopped.doubt.is_none()) {
        found.retain(|stopped| stopped.doubt.is_none());
    }
    found
}

/// Keeps the last of the runs of each container in a pod: there is a record for each of them.
fn last_runs<'a>(host: &Host, found: Vec<&'a StoppedContainer>) -> Vec<&'a StoppedContainer> {
    let mut last: Vec<&StoppedContainer> = Vec::new();
    let ended = |stopped: &StoppedContainer| {
        exit_record(host, &stopped.container).and_then(|record| record.finished)
    };
    for stopped in found {
        let pod = &stopped.container.pod;
        let is_run = |other: &&mut &StoppedContainer| pod.is_some() && other.container.pod == *pod;
        match last.iter_mut().find(is_run) {
            Some(other) if ended(other) <= ended(stopped) => *other = stopped,
            Some(_) => {}
            None => last.push(stopped),
        }
    }
    last
}
