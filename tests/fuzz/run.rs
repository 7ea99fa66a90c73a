//! The fuzzer: libFuzzer over one of the targets, the name of which is in `CINSPECT_FUZZ_TARGET`.
#![no_main]

#[path = "targets.rs"]
mod targets;

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("CINSPECT_FUZZ_TARGET").unwrap_or_default();
    let all = targets::targets();
    match all.iter().find(|(known, _)| *known == name) {
        Some((_, function)) => *function,
        None => {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            println!("{}", names.join("\n"));
            std::process::exit(2)
        }
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(chosen)(bytes));
