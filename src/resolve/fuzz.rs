//! Entries for fuzzing: references and paths, which may come from a file of names.

use super::path_ref::PathRef;
use super::reference::ContainerRef;
use crate::model::fuzz::FuzzTarget;

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] = &[("references", references)];

fn references(bytes: &[u8]) {
    let _ = PathRef::parse(bytes);
    if let Ok(word) = std::str::from_utf8(bytes) {
        let _ = ContainerRef::parse(word);
    }
}
