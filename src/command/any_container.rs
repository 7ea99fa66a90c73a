//! A container of which it does not matter whether it runs: `why` and `logs` read its engine's records.

use super::resolve;
use crate::cli::context::Context;
use crate::engine::exit_record;
use crate::error::Error;
use crate::model::container::Container;
use crate::model::exit_record::ExitRecord;
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

/// Resolves a reference to a container that runs, or else to one that does not.
pub(super) fn resolve_any<'a>(
    context: &Context,
    host: &'a Host,
    resolver: &Resolver<'a>,
    word: &str,
) -> Result<AnyContainer<'a>, Error> {
    let (container, running, cgroup) = match resolve(context, resolver, word, Access::Read) {
        Ok(found) => {
            let cgroup = found.container.cgroup.as_ref().map(|cgroup| cgroup.path.clone());
            (found.container.clone(), Some(found), cgroup)
        }
        Err(error) => {
            let stopped = resolver.not_running(word).ok_or(error)?;
            (stopped.container, None, stopped.cgroup)
        }
    };
    let record = exit_record(host, &container);
    Ok(AnyContainer { container, record, running, cgroup })
}
