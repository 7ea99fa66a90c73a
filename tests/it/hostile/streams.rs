//! Tar streams with a bad value in any field, from a generator, unpacked by `cp -`: nothing outside of the
//! destination changes, and an old file is never half of a new one.

use std::io::Write;
use std::process::Stdio;

use libtest_mimic::{Failed, Trial};

use super::{is_long, text};
use crate::fuzz::targets::tar_stream::TarStream;
use crate::support::{
    Need, Outcome, check, cinspect, control_character, fixture, note, test_with, within,
};

/// Streams that are unpacked by the program.
const STREAMS: u64 = 60;
/// (The fuzzer's targets `tar_streams` and `tar_unpacking` read millions, without a process for each.)
const STREAMS_AT_LENGTH: u64 = 3_000;

pub fn trials() -> Vec<Trial> {
    vec![test_with(Need::Root, "hostile::streams_with_a_bad_value_in_any_field", streams)]
}

/// Returns bytes that depend on a number alone (SplitMix64).
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

fn streams() -> Outcome {
    let container = fixture("init")?;
    let count = if is_long() { STREAMS_AT_LENGTH } else { STREAMS };
    within(&container, "mkdir -p /tmp/hostile && mount -t tmpfs -o size=64m none /tmp/hostile")?;
    let root = format!("/proc/{}/root/tmp/hostile", container.init);
    for seed in 0..count {
        let stream = TarStream::of(&bytes(seed, 100 + (seed as usize % 40) * 50));
        std::fs::create_dir_all(format!("{root}/d"))?;
        std::fs::create_dir_all(format!("{root}/outside"))?;
        std::fs::write(format!("{root}/d/a"), "the old and whole file")?;
        std::fs::write(format!("{root}/outside/file"), "untouched")?;
        let _ = std::os::unix::fs::symlink("../outside", format!("{root}/d/link"));
        let options = ["-a", "-v", "--no-clobber"];
        let option = options[seed as usize % options.len()];
        let target = format!("pid:{}:/tmp/hostile/d", container.init);
        one(&[option, "-", &target], &stream)
            .map_err(|failed| Failed::from(format!("stream {seed}: {}", text(&failed))))?;
        let names: Vec<_> =
            std::fs::read_dir(&root)?.flatten().map(|entry| entry.file_name()).collect();
        check(names.len() == 2, format!("stream {seed}: {names:?}"))?;
        let outside = std::fs::read_to_string(format!("{root}/outside/file"))?;
        check(outside == "untouched", format!("stream {seed}: outside changed"))?;
        check(
            std::fs::read_dir(format!("{root}/outside"))?.count() == 1,
            format!("stream {seed}"),
        )?;
        note("hostile", &format!("stream {seed}"), "ok", "");
        std::fs::remove_dir_all(format!("{root}/d"))?;
    }
    check(!std::path::Path::new("/etc/cinspect-fuzz").exists(), "a file was written on the host")
}

fn one(words: &[&str], stream: &[u8]) -> Outcome {
    let mut command = cinspect(&[&["cp"], words].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or("no stdin")?;
    let bytes = stream.to_vec();
    // (It may exit before it has read everything.)
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text)?;
    let code = output.status.code();
    check(matches!(code, Some(0..=5)), format!("{words:?}: {code:?} {text}"))?;
    check(control_character(&text).is_none(), format!("{words:?}: {text:?}"))?;
    check(code == Some(0) || text.contains("cinspect: "), format!("{words:?}: no error: {text}"))
}
