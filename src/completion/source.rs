//! The source of the candidates for an argument's value, attached to the argument as an extension, so
//! that an option or its placeholder in the help can be renamed. (Paths on the host need no source:
//! clap's own value hints complete them.)

use clap::builder::ArgExt;

use crate::output::column::Column;

/// The source of an argument's candidates.
#[derive(Clone, Copy, Debug)]
pub enum CompletionSource {
    /// Running containers.
    Containers,
    /// Containers, running or not.
    AnyContainers,
    /// Signals.
    Signals,
    /// Containers, running or not, and signals once a letter is typed.
    ContainersAndSignals,
    /// PIDs in the container.
    Pids,
    /// Host PIDs of the container's processes.
    HostPids,
    /// TIDs in the container.
    Tids,
    /// Names (`comm`) of the container's processes.
    Comms,
    /// Users of the container's `/etc/passwd`.
    Users,
    /// Container engines.
    Engines,
    /// Namespaces, separated by commas.
    Namespaces,
    /// Columns of a table, separated by commas, perhaps after a `+`.
    Columns(ColumnNames),
    /// A column of a table, perhaps after a `-`.
    SortKeys(ColumnNames),
    /// A path on the host, or a container with a path in it.
    CopyPaths,
    /// Directories in the container.
    ContainerDirectories,
    /// Text that cannot be listed.
    Free,
}

impl ArgExt for CompletionSource {}

/// Returns the names of a table's columns with their descriptions.
pub type ColumnNames = fn() -> Vec<(&'static str, &'static str)>;

/// Returns the names of the columns of `table` with their descriptions.
pub fn column_names<R>(table: &'static [Column<R>]) -> Vec<(&'static str, &'static str)> {
    table.iter().map(|column| (column.name, column.description)).collect()
}
