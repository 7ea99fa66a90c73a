//! The fuzzer: libFuzzer over one of the targets, the name of which is in `CINSPECT_FUZZ_TARGET`.
#![no_main]

#[path = "targets.rs"]
mod targets;

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// Has child processes share the counters of coverage: targets that work in a child would otherwise seem to reach
/// nothing. (Of pages that the counters have alone.)
fn share_counters() {
    use nix::libc;
    unsafe extern "C" {
        // Made by the linker.
        static mut __start___sancov_cntrs: u8;
        static mut __stop___sancov_cntrs: u8;
    }
    const PAGE: usize = 4096;
    // SAFETY: the pages lie within the section, have the same bytes afterwards, and no other thread runs yet.
    unsafe {
        let start = (&raw mut __start___sancov_cntrs as usize).next_multiple_of(PAGE);
        let length = ((&raw mut __stop___sancov_cntrs as usize) / PAGE * PAGE).saturating_sub(start);
        let bytes = std::slice::from_raw_parts(start as *const u8, length).to_vec();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = libc::mmap(start as *mut _, length, access, flags, -1, 0);
        assert_eq!(mapped as usize, start, "mmap");
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapped.cast(), length);
    }
}

fn chosen() -> fn(&[u8]) {
    share_counters();
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
