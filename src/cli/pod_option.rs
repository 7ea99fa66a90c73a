//! The answer to options that name a container in a pod, as kubectl(1) has them: the same line with the
//! container's reference, if it is found on this host. Nothing is run.

use super::engine_command::container;
use super::habits::own_command;
use super::typed_line::TypedLine;
use crate::analysis::remedy::quoted;
use crate::model::container::Container;
use crate::resolve::Access;

/// Options for the namespace of a pod.
const NAMESPACE: &[&str] = &["-n", "--namespace"];
/// Options for a container in it.
const CONTAINER: &[&str] = &["-c", "--container"];

/// Returns the hint for a line with such options.
pub(super) fn pod_hint(line: &TypedLine<'_>) -> String {
    let typed = line.positionals(&[NAMESPACE, CONTAINER].concat()).first().copied();
    let typed = typed.unwrap_or("POD");
    // `pod/web`; `web:/path` of `cp`.
    let pod = typed.split(':').next().unwrap_or(typed);
    let pod = pod.rsplit('/').next().unwrap_or(pod);
    let (namespace, name) = (namespace(line), line.value(CONTAINER));
    let in_pod = name.and_then(|name| match namespace {
        Some(namespace) => in_pod(line, &format!("{namespace}/{pod}/{name}")),
        None => in_pod(line, &format!("{pod}/{name}")),
    });
    let in_none = || container(line, pod, Access::Act).filter(|found| found.pod.is_none());
    if let Some(found) = in_pod.or_else(in_none)
        && let Some(whole) = with_reference(line, typed, &found.qualified())
    {
        return format!("a container is named by one word: {whole}");
    }
    let (namespace, name) = (namespace.unwrap_or("NAMESPACE"), name.unwrap_or("CONTAINER"));
    let reference = quoted(&format!("cri:{namespace}/{pod}/{name}"));
    format!("a container in a pod is `{reference}`; `cinspect ls {}` lists them", quoted(pod))
}

/// Returns the namespace that was typed. (`logs -n 20` is a number of lines.)
fn namespace<'a>(line: &TypedLine<'a>) -> Option<&'a str> {
    line.value(NAMESPACE).filter(|value| value.parse::<u64>().is_err())
}

/// Returns the container in a pod of which this is the name, or the end of it.
fn in_pod(line: &TypedLine<'_>, name: &str) -> Option<Container> {
    let is_it = |found: &Container| {
        let whole = found.name_in_pod().unwrap_or_default();
        whole == name || whole.ends_with(&format!("/{name}"))
    };
    container(line, name, Access::Read).filter(is_it)
}

/// Returns the line without the options, and with this reference in place of the word that was typed.
fn with_reference(line: &TypedLine<'_>, typed: &str, reference: &str) -> Option<String> {
    let mut dropped = CONTAINER.to_vec();
    dropped.extend(NAMESPACE.iter().filter(|_| namespace(line).is_some()));
    let path = typed.find(':').map_or("", |colon| &typed[colon..]);
    let reference = format!("{reference}{path}");
    let mut words: Vec<&str> = Vec::new();
    let mut arguments = line.arguments().iter().copied();
    while let Some(word) = arguments.next() {
        let option = word.split('=').next().unwrap_or(word);
        match word {
            "--" => words.extend(std::iter::once(word).chain(arguments.by_ref())),
            _ if !dropped.contains(&option) => words.push(word),
            _ if option == word => drop(arguments.next()),
            _ => {}
        }
    }
    let position = words.iter().position(|word| *word == typed)?;
    words[position] = &reference;
    own_command(&[line.globals(), &[line.word()?]].concat(), &words)
}
