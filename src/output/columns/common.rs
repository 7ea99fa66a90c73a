//! Columns that several tables of processes have.

use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::output::column::Column;
use crate::output::value::Value;

/// A row about a process of a container.
pub trait ProcessRow {
    /// Returns the container.
    fn context(&self) -> &RowContext;
    /// Returns the process.
    fn process(&self) -> &ContainerProcess;
}

/// Makes the column of the host's name.
pub const fn host<R: ProcessRow>() -> Column<R> {
    Column::new("host", "HOST", "name of the host", |r: &R| Value::text(&r.context().host))
        .json("host")
}

/// Makes the column of the container.
pub const fn container<R: ProcessRow>() -> Column<R> {
    Column::new("container", "CONTAINER", "container, in qualified form", |r: &R| {
        Value::text(&r.context().container)
    })
    .json("container")
    .priority(200)
}

/// Makes the column of the PID in the container.
pub const fn pid<R: ProcessRow>() -> Column<R> {
    Column::new("pid", "PID", "PID in the container", |r: &R| {
        Value::optional_int(r.process().pid.map(|pid| pid.get()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(u8::MAX)
}

/// Makes the column of the PID on the host.
pub const fn host_pid<R: ProcessRow>() -> Column<R> {
    Column::new("hpid", "HPID", "PID on the host", |r: &R| {
        Value::int(r.process().facts.id.pid.get())
    })
    .json("host_pid")
    .right()
    .priority(90)
}

/// Makes the column of the process's name.
pub const fn comm<R: ProcessRow>() -> Column<R> {
    Column::new("comm", "COMM", "name of the process", |r: &R| {
        Value::Bytes(r.process().facts.stat.comm.clone())
    })
    .json("comm")
    .priority(150)
}
