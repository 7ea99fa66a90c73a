//! Everything that is fuzzed: the entries of the program, and those that make whole tar streams and hosts
//! with bad files from bytes. Fuzzed by `run.rs`; the corpus is replayed by `tests/it/fuzz.rs`.

#[path = "../it/hosts/machine.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "the tests of recorded hosts use it, too")]
pub mod machine;
pub mod state_files;
pub mod tar_stream;

use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};

use machine::Machine;
use state_files::StateEdit;
use tar_stream::TarStream;

/// A name, and a function that takes any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Returns all of them.
pub fn targets() -> Vec<Target> {
    let mut all = cinspect::testing::FUZZ_TARGETS.concat();
    all.push(("tar_streams", |bytes| tar_stream(&TarStream::of(bytes))));
    all.push(("tar_unpacking", |bytes| unpack(&TarStream::of(bytes), bytes.len() % 2 == 0)));
    all.push(("hosts", host));
    all
}

/// Makes a directory, in memory where that is possible: thousands of files are made a second.
fn directory() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn tar_stream(stream: &[u8]) {
    let reader = cinspect::testing::FUZZ_TARGETS.concat();
    let reader = reader.iter().find(|(name, _)| *name == "tar_reader").expect("the reader");
    reader.1(stream);
}

/// Unpacks a stream below a directory with a symlink that leads out of it. Nothing outside changes, nothing
/// in it is a device, and without `archive` no program gets rights.
pub fn unpack(stream: &[u8], archive: bool) {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let top = directory();
    let target = top.path().join("target");
    fs::create_dir(&target).expect("a directory");
    let outside = top.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("file"), "untouched").expect("a file");
    std::os::unix::fs::symlink("../outside", target.join("link")).expect("a link");
    let done = cinspect::testing::unpack(stream, &target, archive);
    assert!(done.is_some(), "the child died or hung");
    let names: Vec<PathBuf> =
        fs::read_dir(&outside).expect("it").flatten().map(|entry| entry.path()).collect();
    assert_eq!(names, [outside.join("file")]);
    assert_eq!(fs::read(outside.join("file")).expect("it"), b"untouched");
    assert_eq!(fs::read_dir(top.path()).expect("it").count(), 2);
    assert!(!Path::new("/etc/cinspect-fuzz").exists());
    let mut rest = vec![target];
    while let Some(dir) = rest.pop() {
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
            let kind = meta.file_type();
            assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{:?}", entry.path());
            assert!(!kind.is_fifo() && !kind.is_block_device() && !kind.is_char_device());
            let rights = meta.permissions().mode() & 0o6000;
            assert!(archive || kind.is_symlink() || rights == 0, "{:?} {rights:o}", entry.path());
            if kind.is_dir() {
                rest.push(entry.path());
            }
        }
    }
}

/// The recorded hosts.
fn machines() -> &'static [Machine] {
    static MACHINES: std::sync::OnceLock<Vec<Machine>> = std::sync::OnceLock::new();
    MACHINES.get_or_init(|| {
        let hosts =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("tests/hosts"));
        let dir = hosts.into_iter().find(|dir| dir.is_dir()).expect("tests/hosts");
        let mut paths: Vec<PathBuf> = fs::read_dir(dir)
            .expect("tests/hosts")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "host"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Machine::read(path).expect("a host")).collect()
    })
}

/// A host with up to four bad files, on which every command that reads runs in this process.
fn host(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(number) = u8::arbitrary(&mut input) else { return };
    let machine = &machines()[usize::from(number) % machines().len()];
    let root = directory();
    machine.unpack(root.path()).expect("a host");
    let files = state_files::files(root.path());
    for _ in 0..4 {
        let Ok(edit) = StateEdit::arbitrary(&mut input) else { break };
        state_files::apply(root.path(), &files, edit);
    }
    let root = root.path().to_str().expect("a path");
    for command in [&["ls", "-a"][..], &["--json", "ls", "-a"], &["doctor", "--exit-zero"]] {
        let _ = cinspect::run([&["cinspect", "--host-root", root], command].concat());
    }
}
