//! THE TABLES OF SERVERS: databases, queues, proxies, web servers and daemons. Each entry was measured with
//! Debian 12's program as PID 1 and below tini, and is held against it in `tests/it/forecast.rs`.

mod daemons;
mod data;
mod entry;
mod web;

pub use data::MOSQUITTO;
pub use web::UWSGI_MASTER;

use super::Program;

/// Iterates over the tables.
pub(super) fn servers() -> impl Iterator<Item = &'static Program> {
    web::WEB.iter().chain(data::DATA).chain(daemons::DAEMONS)
}
