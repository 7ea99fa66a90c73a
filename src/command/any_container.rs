//! A container of which it does not matter whether it runs: `why` and `logs` read its engine's records. And
//! the pages of several containers.

use super::resolve;
use crate::cli::context::Context;
use crate::engine::exit_record;
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::exit_record::ExitRecord;
use crate::output::escape::safe_str;
use crate::proc::Host;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// A container, running or not, and how it last ended.
pub(super) struct AnyContainer<'a> {
    /// The container.
    pub container: Container,
    /// Its engine's record; `None` if there is none.
    pub record: Option<ExitRecord>,
    /// The resolved container, if it runs.
    pub running: Option<ResolvedContainer<'a>>,
    /// The cgroup that it has when it runs, if that is known.
    pub cgroup: Option<Vec<u8>>,
}

/// Prints the answer about each container; one that fails does not keep the others from theirs.
///
/// # Errors
/// That of the only container; of several it is printed, and the status is that of the first one.
pub(super) fn each_container(
    context: &Context,
    words: &[String],
    answer: impl Fn(&str) -> Result<String, Error>,
) -> Result<ExitStatus, Error> {
    let mut status = ExitStatus::Done;
    for (index, word) in words.iter().enumerate() {
        match answer(word) {
            Ok(text) if index == 0 || context.ui.json => context.print(&text)?,
            Ok(text) => context.print(&format!("\n{text}"))?,
            Err(error) if words.len() == 1 => return Err(error),
            Err(error) => {
                context.ui.fail(&error);
                status = status.or(error.status);
            }
        }
    }
    Ok(status)
}

/// Resolves a reference to a container that runs.
///
/// # Errors
/// As [`resolve`]; and a process of the host itself is in no container.
pub(super) fn resolve_running<'a>(
    context: &Context,
    resolver: &Resolver<'a>,
    word: &str,
) -> Result<ResolvedContainer<'a>, Error> {
    let found = resolve(context, resolver, word, Access::Read)?;
    match found.matched_by.process().filter(|_| found.is_host()) {
        Some(pid) => {
            Err(Error::new(ExitStatus::NoContainer, format!("no running container `{word}`"))
                .cause(format!("process {pid} is not in a container"))
                .hint(format!("`cinspect inspect {pid}` shows it")))
        }
        None => Ok(found),
    }
}

/// Resolves a reference to a container that runs, or else to one that does not.
pub(super) fn resolve_any<'a>(
    context: &Context,
    host: &'a Host,
    resolver: &Resolver<'a>,
    word: &str,
) -> Result<AnyContainer<'a>, Error> {
    let (container, running, cgroup) = match resolve_running(context, resolver, word) {
        Ok(found) => {
            for note in resolver.notes_on_others(&found, word) {
                context.ui.note(&safe_str(&note));
            }
            let cgroup = found.container.cgroup.as_ref().map(|cgroup| cgroup.path.clone());
            (found.container.clone(), Some(found), cgroup)
        }
        Err(error) => {
            let stopped = resolver.not_running(word);
            let stopped =
                stopped.ok_or_else(|| match resolver.all_not_running(word).is_empty() {
                    true => without_trace(error, word),
                    false => error,
                })?;
            (stopped.container, None, stopped.cgroup)
        }
    };
    let record = exit_record(host, &container);
    Ok(AnyContainer { container, record, running, cgroup })
}

/// Adds why a container may be known to nothing that is read here.
fn without_trace(error: Error, word: &str) -> Error {
    // (A PID is of something that runs.)
    let is_process = word.strip_prefix("pid:").unwrap_or(word).parse::<u32>().is_ok();
    match error.status {
        ExitStatus::NoContainer if !is_process => error.hint(
            "nothing remains of a container that was removed (`--rm`); `cinspect ls -a` lists those that ended and were not",
        ),
        _ => error,
    }
}
