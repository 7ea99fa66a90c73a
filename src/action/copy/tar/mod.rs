//! Tar streams: a sink of entries (`pack.rs`), and a source of them (`unpack.rs`). An attribute that
//! a stream cannot carry, or carries in an unknown form, goes to the account of the copy.

mod attributes;
mod created;
pub mod fuzz;
mod header;
mod pack;
mod pax;
mod read;
mod sparse;
mod unpack;

pub use pack::pack;
pub use unpack::unpack;
