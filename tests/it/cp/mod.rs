//! `cp` with the harness's containers, each with a private tmpfs on `/mnt`: trees, attributes, options,
//! patterns, streams and mount points. Hostile containers and streams are in `hostile.rs`.

mod account;
mod hostile;
mod interchange;
mod options;
mod paths;
mod random_trees;
mod streams;
mod tree;
mod user_namespace;

use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, check, cinspect, finish, fixture, run, same, test_with, wait_until, within,
};

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    let mut trials = vec![
        root("cp::trees_are_copied_in_and_out_unchanged", trees),
        root("cp::ten_thousand_files_keep_their_attributes", many_files),
        root("cp::copies_between_containers_and_as_a_stream", across),
        root("cp::replaces_a_running_program", running_program),
        root("cp::overwrites_a_bind_mounted_file_in_place", bind_mount),
        root("cp::keeps_the_old_file_when_the_disk_is_full", full_disk),
        root("cp::explains_read_only_and_missing_destinations", bad_destinations),
        root("cp::expands_patterns_in_the_container", patterns),
        root("cp::skips_pseudo_file_systems_unless_named", pseudo_file_systems),
        root("cp::refuses_to_copy_onto_itself", onto_itself),
        root("cp::streams_keep_holes_links_and_times", streams),
    ];
    trials.extend(hostile::trials());
    trials.extend(paths::trials());
    trials.extend(interchange::trials());
    trials.extend(random_trees::trials());
    trials.extend(options::trials());
    trials.extend(streams::trials());
    trials.extend(account::trials());
    trials.extend(user_namespace::trials());
    trials
}

fn container() -> Result<Container, Failed> {
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=200m none /mnt")?;
    Ok(container)
}

/// Returns a path in a container as `cp` takes it.
fn ctr_path(container: &Container, path: &str) -> String {
    format!("pid:{}:{path}", container.init)
}

/// Returns the same path as the host sees it.
fn host_path(container: &Container, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", container.init))
}

fn cp(arguments: &[&str]) -> Run {
    run(&[&["cp"], arguments].concat())
}

/// Runs a line of the shell, in which `$C` is cinspect, `$CTR` the container and `$R` its root.
fn shell(container: &Container, line: &str) -> Run {
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", line]);
    shell.env("C", env!("CARGO_BIN_EXE_cinspect")).env("LC_ALL", "C.UTF-8");
    shell.env("CTR", format!("pid:{}", container.init));
    shell.env("R", host_path(container, ""));
    shell.stdin(Stdio::null());
    finish(shell)
}

/// Lists everything below a directory: path, permission bits, content or link target, number of names
/// and time.
pub fn listing(top: &Path) -> Result<Vec<String>, Failed> {
    let mut lines = Vec::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            let content = if meta.is_dir() {
                directories.push(path.clone());
                String::new()
            } else if meta.is_symlink() {
                format!("{:?}", path.read_link()?)
            } else {
                let bytes = std::fs::read(&path)?;
                let sum = bytes.iter().fold(7u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b));
                format!(
                    "{} {sum} names {} at {}.{}",
                    bytes.len(),
                    meta.nlink(),
                    meta.mtime(),
                    meta.mtime_nsec()
                )
            };
            let name = path.strip_prefix(top).unwrap_or(&path);
            let bits = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
            lines.push(format!("{name:?} {bits:o} {content}"));
        }
    }
    lines.sort();
    Ok(lines)
}

/// Creates a tree with unusual names and permission bits, symlinks, a sparse file, empty directories and a
/// hard link.
fn make_tree(top: &Path) -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    std::fs::create_dir_all(top.join("empty/deeper"))?;
    for (index, name) in [
        &b"plain"[..],
        b"with space",
        b"new\nline",
        b"not\xffutf8",
        b"-dash",
        b"*",
        b"..dots",
        "\u{202e}".as_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        let path = top.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, vec![b'x'; index * 40_000])?;
        std::fs::set_permissions(
            &path,
            Permissions::from_mode([0o600, 0o755, 0o444, 0o000][index % 4]),
        )?;
    }
    symlink("plain", top.join("link"))?;
    symlink("/nowhere/at all", top.join("dangling"))?;
    std::fs::hard_link(top.join("plain"), top.join("empty/other name"))?;
    let sparse = File::create(top.join("sparse"))?;
    sparse.set_len(50_000_000)?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 20_000_000)?;
    Ok(std::fs::set_permissions(top.join("empty/deeper"), Permissions::from_mode(0o511))?)
}

fn trees() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    make_tree(&source)?;
    let text = |path: &Path| path.display().to_string();
    cp(&[&text(&source), &ctr_path(&container, "/mnt/tree")]).expect(0)?;
    same(listing(&host_path(&container, "/mnt/tree"))?, listing(&source)?)?;
    let allocated = host_path(&container, "/mnt/tree/sparse").metadata()?.blocks() * 512;
    check(allocated < 5_000_000, format!("a sparse file takes {allocated} bytes"))?;
    cp(&[&ctr_path(&container, "/mnt/tree"), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&source)?)?;
    // Again, over the existing files.
    cp(&[&ctr_path(&container, "/mnt/tree/."), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&source)?)
}

/// Extended attributes, file capabilities among them, are kept with `--archive` only.
fn many_files() -> Outcome {
    let (one, other) = (container()?, container()?);
    let dir = tempfile::tempdir_in("/dev/shm")?;
    let top = dir.path().join("many");
    for directory in 0..100 {
        let directory = top.join(format!("directory {directory}/deeper"));
        std::fs::create_dir_all(&directory)?;
        for file in 0..100 {
            std::fs::write(directory.join(format!("{file}")), format!("{file}"))?;
        }
    }
    let text = |path: &Path| path.display().to_string();
    let there = host_path(&one, "/mnt/many");
    cp(&[&text(&top), &ctr_path(&one, "/mnt/many")]).expect(0)?;
    same(listing(&there)? == listing(&top)?, true)?;
    let none = rustix::fs::XattrFlags::empty();
    let file = there.join("directory 7/deeper/7");
    // cap_net_raw+ep in the kernel's format (include/uapi/linux/capability.h, VFS_CAP_REVISION_2).
    let mut capability = vec![1, 0, 0, 2, 0, 0x20];
    capability.resize(20, 0);
    // An ACL with one more user: version 2, then tag, permissions and ID of each entry (acl(5)).
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1u16, 6u16, -1), (2, 7, 1234), (4, 4, -1), (0x10, 7, -1), (0x20, 4, -1)]
    {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(i32::to_le_bytes(id));
    }
    for (name, value) in [
        ("user.note", b"kept".to_vec()),
        ("security.capability", capability),
        ("system.posix_acl_access", acl),
    ] {
        rustix::fs::setxattr(&file, name, &value, none).map_err(|e| format!("{name}: {e}"))?;
    }
    let attributes = |path: &Path| {
        let mut names = vec![0u8; 4096];
        let length = rustix::fs::listxattr(path, names.as_mut_slice()).unwrap_or(0);
        names.truncate(length);
        let mut names: Vec<String> = names
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        names
    };
    let expected = ["security.capability", "system.posix_acl_access", "user.note"];
    let expected = expected.map(str::to_owned).to_vec();
    cp(&["-a", "--strict", &ctr_path(&one, "/mnt/many"), &ctr_path(&other, "/mnt/")]).expect(0)?;
    same(listing(&host_path(&other, "/mnt/many"))? == listing(&there)?, true)?;
    same(attributes(&host_path(&other, "/mnt/many/directory 7/deeper/7")), expected)?;
    cp(&[&ctr_path(&one, "/mnt/many/directory 7/deeper/7"), &text(&dir.path().join("out"))])
        .expect(0)?;
    same(attributes(&dir.path().join("out")), Vec::new())
}

fn across() -> Outcome {
    let (one, other, dir) = (container()?, container()?, tempfile::tempdir()?);
    make_tree(&host_path(&one, "/mnt/tree"))?;
    cp(&["-a", &ctr_path(&one, "/mnt/tree"), &ctr_path(&other, "/mnt/")]).expect(0)?;
    same(listing(&host_path(&other, "/mnt/tree"))?, listing(&host_path(&one, "/mnt/tree"))?)?;
    // As a stream that tar(1) reads and writes.
    let script =
        "\"$1\" cp \"$2\" - | tar -x -C \"$3\" && tar -c -C \"$3\" tree | \"$1\" cp - \"$4\"";
    let mut shell = Command::new("sh");
    let (from, to) = (ctr_path(&one, "/mnt/tree"), ctr_path(&other, "/mnt/"));
    std::fs::remove_dir_all(host_path(&other, "/mnt/tree"))?;
    shell
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_cinspect"), &from])
        .arg(dir.path())
        .arg(&to);
    finish(shell).expect(0)?;
    // A stream has times in seconds.
    let without_nanoseconds = |lines: Vec<String>| -> Vec<String> {
        let cut = |line: String| line.rsplit_once('.').map(|(line, _)| line.to_owned());
        lines.into_iter().filter_map(cut).collect()
    };
    let expected = without_nanoseconds(listing(&host_path(&one, "/mnt/tree"))?);
    same(without_nanoseconds(listing(&host_path(&other, "/mnt/tree"))?), expected.clone())?;
    same(without_nanoseconds(listing(&dir.path().join("tree"))?), expected)
}

/// Sparse files, symlinks and times of directories; the files that symlinks point to with `-L`.
fn streams() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir -p /mnt/t/d; echo far > /mnt/far; ln -s ../../far /mnt/t/d/l; truncate -s 1G /mnt/t/holes
         for offset in 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31; do
             printf x$offset | dd of=/mnt/t/holes bs=1M seek=$offset conv=notrunc status=none; done
         touch -d @1000000000 /mnt/t/d",
    )?;
    let pack = |arguments: &[&str]| -> Result<PathBuf, Failed> {
        let path = dir.path().join("stream");
        let out = File::create(&path)?;
        let mut command = cinspect(&[&["cp"], arguments].concat());
        check(command.stdout(out).stderr(Stdio::inherit()).status()?.success(), "a stream")?;
        Ok(path)
    };
    let path = pack(&[&ctr_path(&container, "/mnt/t"), "-"])?;
    check(path.metadata()?.len() < 1 << 20, "holes were written out")?;
    // Unpacked by tar(1), and by cp.
    let by_tar = dir.path().join("by_tar");
    std::fs::create_dir(&by_tar)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&path).arg("-C").arg(&by_tar);
    finish(tar).expect(0)?;
    within(&container, "mkdir /mnt/back")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$1\" cp - \"$2\" < \"$3\"", "sh", env!("CARGO_BIN_EXE_cinspect")]);
    finish({
        shell.arg(ctr_path(&container, "/mnt/back")).arg(&path);
        shell
    })
    .expect(0)?;
    let source = host_path(&container, "/mnt/t");
    let expected = std::fs::read(source.join("holes"))?;
    for copy in [by_tar.join("t"), host_path(&container, "/mnt/back/t")] {
        let holes = copy.join("holes");
        check(std::fs::read(&holes)? == expected, "bytes of a sparse file")?;
        check(holes.metadata()?.blocks() < 4096, format!("holes of {}", holes.display()))?;
        same(copy.join("d").metadata()?.mtime(), 1_000_000_000)?;
        check(copy.join("d/l").symlink_metadata()?.is_symlink(), "a link")?;
    }
    let path = pack(&["-L", &ctr_path(&container, "/mnt/t/d"), "-"])?;
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(&path).arg("d/l");
    same(finish(tar).expect(0)?.out.as_str(), "far\n")
}

fn running_program() -> Outcome {
    let container = container()?;
    cp(&["/bin/sleep", &ctr_path(&container, "/mnt/app")]).expect(0)?;
    let name = format!("pid:{}", container.init);
    run(&["exec", "-d", &name, "--", "/mnt/app", "300"]).expect(0)?;
    // It could not be overwritten in place.
    let busy = File::options().write(true).open(host_path(&container, "/mnt/app"));
    same(busy.err().map(|error| error.kind()), Some(ErrorKind::ExecutableFileBusy))?;
    cp(&["/bin/true", &ctr_path(&container, "/mnt/app")]).expect(0)?;
    run(&["exec", &name, "--", "/mnt/app"]).expect(0)?;
    let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
    check(rows.iter().any(|row| row["command"] == json!(["/mnt/app", "300"])), "it has exited")
}

fn bind_mount() -> Outcome {
    let (container, file) = (container()?, tempfile::NamedTempFile::new()?);
    within(
        &container,
        "echo below > /mnt/hosts; echo from > /mnt/source; mount --bind /mnt/source /mnt/hosts",
    )?;
    std::fs::write(file.path(), "new\n")?;
    let path = file.path().display().to_string();
    let done = cp(&[&path, &ctr_path(&container, "/mnt/hosts")]).expect(0)?;
    check(done.err.contains("is a bind mount: overwritten in place"), &done.err)?;
    within(
        &container,
        "[ \"$(cat /mnt/source)\" = new ] && grep -q ' /mnt/hosts ' /proc/1/mountinfo",
    )?;
    cp(&["--strict", &path, &ctr_path(&container, "/mnt/hosts")]).expect(1)?;
    within(&container, "umount /mnt/hosts && [ \"$(cat /mnt/hosts)\" = below ]")
}

/// Checks that a directory in a container has no temporary files.
fn no_temp_files(container: &Container, dir: &str) -> Outcome {
    let names: Vec<_> = std::fs::read_dir(host_path(container, dir))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("cinspect"))
        .collect();
    check(names.is_empty(), format!("left behind: {names:?}"))
}

fn full_disk() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir /mnt/small; mount -t tmpfs -o size=1m none /mnt/small; echo old > /mnt/small/f",
    )?;
    let big = dir.path().join("big");
    std::fs::write(&big, vec![1; 3_000_000])?;
    let failed =
        cp(&[&big.display().to_string(), &ctr_path(&container, "/mnt/small/f")]).expect(1)?;
    check(failed.err.contains("No space left on device"), &failed.err)?;
    same(std::fs::read_to_string(host_path(&container, "/mnt/small/f"))?.as_str(), "old\n")?;
    no_temp_files(&container, "/mnt/small")
}

fn bad_destinations() -> Outcome {
    let container = container()?;
    within(
        &container,
        "mkdir /mnt/ro; mount -t tmpfs none /mnt/ro; echo old > /mnt/ro/f; mount -o remount,ro /mnt/ro",
    )?;
    let failed = cp(&["/etc/passwd", &ctr_path(&container, "/mnt/ro/f")]).expect(1)?;
    check(failed.err.contains("Read-only file system"), &failed.err)?;
    for (to, cause) in [
        ("/mnt/none/x", "No such file or directory\nhint: "),
        ("/mnt/none/", "no such directory\nhint: create it first"),
    ] {
        let failed = cp(&["/etc/passwd", &ctr_path(&container, to)]).expect(1)?;
        check(failed.err.contains(cause), &failed.err)?;
    }
    let failed = cp(&["/etc", &ctr_path(&container, "/mnt/ro/f")]).expect(1)?;
    check(failed.err.contains("not a directory"), &failed.err)
}

fn patterns() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir /mnt/a /mnt/b; touch /mnt/a/x.log /mnt/b/y.log /mnt/b/z.txt '/mnt/b/[n]' /mnt/b/.hidden.log",
    )?;
    let to = dir.path().display().to_string();
    cp(&[&ctr_path(&container, "/mnt/*/*.log"), &to]).expect(0)?;
    let names = || -> Result<Vec<String>, Failed> {
        let mut names: Vec<String> = std::fs::read_dir(dir.path())?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    };
    same(names()?, vec!["x.log".to_owned(), "y.log".into()])?;
    // A file that exists is not a pattern, whatever its name looks like.
    cp(&[&ctr_path(&container, "/mnt/b/[n]"), &to]).expect(0)?;
    check(names()?.contains(&"[n]".to_owned()), "the name itself")?;
    let none = cp(&[&ctr_path(&container, "/mnt/*.nothing"), &to]).expect(1)?;
    check(none.err.contains("No such file or directory"), none.err)
}

fn pseudo_file_systems() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir -p /mnt/d/proc; mount -t proc none /mnt/d/proc; echo x > /mnt/d/file",
    )?;
    let to = dir.path().display().to_string();
    let done = cp(&[&ctr_path(&container, "/mnt/d"), &to]).expect(0)?;
    check(done.err.contains("it is a proc file system"), &done.err)?;
    check(
        dir.path().join("d/file").exists() && !dir.path().join("d/proc/1").exists(),
        "its files",
    )?;
    // A stream leaves it out too.
    let stream = cp(&[&ctr_path(&container, "/mnt/d"), "-"]).expect(0)?;
    check(stream.err.contains("it is a proc file system"), &stream.err)?;
    cp(&[&ctr_path(&container, "/mnt/d/proc/version"), &to]).expect(0)?;
    same(std::fs::read(dir.path().join("version"))?, std::fs::read("/proc/version")?)
}

/// A directory copied into itself would have no end; a bind-mounted file copied onto itself would be
/// truncated before it is read.
fn onto_itself() -> Outcome {
    let container = container()?;
    within(
        &container,
        "mkdir -p /mnt/a/b; echo x > /mnt/a/f; echo kept > /mnt/s; touch /mnt/m; mount --bind /mnt/s /mnt/m",
    )?;
    for (from, to) in [("/mnt/a", "/mnt/a/new"), ("/mnt/a", "/mnt/a/b"), ("/mnt/a/.", "/mnt/a/b")] {
        let failed = cp(&[&ctr_path(&container, from), &ctr_path(&container, to)]).expect(1)?;
        check(failed.err.contains("into itself"), &failed.err)?;
    }
    let failed =
        cp(&[&ctr_path(&container, "/mnt/s"), &ctr_path(&container, "/mnt/m")]).expect(1)?;
    check(failed.err.contains("are the same file"), &failed.err)?;
    same(std::fs::read_to_string(host_path(&container, "/mnt/s"))?.as_str(), "kept\n")?;
    same(std::fs::read_dir(host_path(&container, "/mnt/a/b"))?.count(), 0)
}
