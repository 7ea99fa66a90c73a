//! The family `hostile`: what containers, users and files do to lead the program astray. The scripts in
//! `tests/hostile` set up attacks; the rest makes bad values systematically. With `CINSPECT_TEST_LONG` each
//! tries everything, otherwise a sample that differs from value to value.

mod names;
mod namespaces;
mod reused_pids;
mod scripts;
mod state_files;
mod streams;

use libtest_mimic::{Failed, Trial};

pub fn trials() -> Vec<Trial> {
    let mut all = scripts::trials();
    all.extend(names::trials());
    all.extend(namespaces::trials());
    all.extend(reused_pids::trials());
    all.extend(state_files::trials());
    all.extend(streams::trials());
    all
}

/// Whether everything is to be tried (`tests/long`).
pub fn is_long() -> bool {
    std::env::var_os("CINSPECT_TEST_LONG").is_some()
}

/// Returns the text of a failure.
fn text(failed: &Failed) -> String {
    failed.message().map_or_else(|| format!("{failed:?}"), str::to_owned)
}
