//! `cp` with the harness's containers, whose `/mnt` is a tmpfs of their own: what goes where, what it is
//! there, and what a container or a full disk may do to it.

mod hostile;

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, check, cinspect, finish, fixture, run, same, test, test_with, wait_until,
    within,
};

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    let mut trials = vec![
        root("cp::a_tree_goes_in_and_out_as_it_is", tree),
        root("cp::ten_thousand_files_and_their_attributes", many),
        root("cp::across_and_as_a_stream", across),
        root("cp::a_running_program_is_replaced", running),
        root("cp::what_is_mounted_by_itself_is_written_in_place", mounted),
        root("cp::without_space_the_old_file_stays", space),
        root("cp::what_is_read_only_is_told", read_only),
        root("cp::patterns_are_expanded_inside", patterns),
        root("cp::the_kernels_own_files_are_read_when_asked_for", pseudo),
        root("cp::nothing_is_copied_into_itself", itself),
        root("cp::options_do_what_they_say", options),
        root("cp::a_stream_keeps_what_tar_knows", streams),
        test("cp::wrong_words_are_told", usage),
    ];
    trials.extend(hostile::trials());
    trials
}

fn container() -> Result<Container, Failed> {
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=200m none /mnt")?;
    Ok(container)
}

fn at(container: &Container, path: &str) -> String {
    format!("pid:{}:{path}", container.init)
}

/// The same path as the host sees it.
fn seen(container: &Container, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", container.init))
}

fn cp(arguments: &[&str]) -> Run {
    let mut all = vec!["cp"];
    all.extend(arguments);
    run(&all)
}

fn io<T>(done: std::io::Result<T>) -> Result<T, Failed> {
    done.map_err(|error| error.to_string().into())
}

/// Everything below a folder: path, kind and bits, content or target, time, and how many names.
pub fn listing(top: &Path) -> Result<Vec<String>, Failed> {
    let mut lines = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in io(std::fs::read_dir(&folder))? {
            let path = io(entry)?.path();
            let meta = io(path.symlink_metadata())?;
            let what = if meta.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if meta.is_symlink() {
                format!("{:?}", io(path.read_link())?)
            } else {
                let bytes = io(std::fs::read(&path))?;
                let sum = bytes.iter().fold(7u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b));
                format!(
                    "{} {sum} names {} at {}.{}",
                    bytes.len(),
                    meta.nlink(),
                    meta.mtime(),
                    meta.mtime_nsec()
                )
            };
            let own = path.strip_prefix(top).unwrap_or(&path);
            let bits = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
            lines.push(format!("{own:?} {bits:o} {what}"));
        }
    }
    lines.sort();
    Ok(lines)
}

/// Strange names, bits, links, holes, empty folders, two names of one file.
fn make_tree(top: &Path) -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    io(std::fs::create_dir_all(top.join("empty/deeper")))?;
    for (at, name) in [
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
        io(std::fs::write(&path, vec![b'x'; at * 40_000]))?;
        io(std::fs::set_permissions(
            &path,
            Permissions::from_mode([0o600, 0o755, 0o444, 0o000][at % 4]),
        ))?;
    }
    io(symlink("plain", top.join("link")))?;
    io(symlink("/nowhere/at all", top.join("dangling")))?;
    io(std::fs::hard_link(top.join("plain"), top.join("empty/other name")))?;
    let sparse = io(File::create(top.join("sparse")))?;
    io(sparse.set_len(50_000_000))?;
    io(std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 20_000_000))?;
    io(std::fs::set_permissions(top.join("empty/deeper"), Permissions::from_mode(0o511)))
}

fn tree() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    make_tree(&there)?;
    let text = |path: &Path| path.display().to_string();
    cp(&[&text(&there), &at(&container, "/mnt/tree")]).expect(0)?;
    same(listing(&seen(&container, "/mnt/tree"))?, listing(&there)?)?;
    let held = io(seen(&container, "/mnt/tree/sparse").metadata())?.blocks() * 512;
    check(held < 5_000_000, format!("a file with holes takes {held} bytes"))?;
    cp(&[&at(&container, "/mnt/tree"), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&there)?)?;
    // Once more, into what is there already.
    cp(&[&at(&container, "/mnt/tree/."), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&there)?)
}

/// Extended attributes, file capabilities among them, are kept when that is asked for and dropped else.
fn many() -> Outcome {
    let (one, other) = (container()?, container()?);
    let dir = io(tempfile::tempdir_in("/dev/shm"))?;
    let top = dir.path().join("many");
    for folder in 0..100 {
        let folder = top.join(format!("folder {folder}/deeper"));
        io(std::fs::create_dir_all(&folder))?;
        for file in 0..100 {
            io(std::fs::write(folder.join(format!("{file}")), format!("{file}")))?;
        }
    }
    let text = |path: &Path| path.display().to_string();
    let there = seen(&one, "/mnt/many");
    cp(&[&text(&top), &at(&one, "/mnt/many")]).expect(0)?;
    same(listing(&there)? == listing(&top)?, true)?;
    let none = rustix::fs::XattrFlags::empty();
    let file = there.join("folder 7/deeper/7");
    // cap_net_raw+ep, as the kernel keeps it (include/uapi/linux/capability.h, VFS_CAP_REVISION_2).
    let mut capability = vec![1, 0, 0, 2, 0, 0x20];
    capability.resize(20, 0);
    // And for one user more: version 2, then tag, rights and user of each entry (acl(5)).
    let mut list = vec![2, 0, 0, 0];
    for (tag, rights, id) in
        [(1u16, 6u16, -1), (2, 7, 1234), (4, 4, -1), (0x10, 7, -1), (0x20, 4, -1)]
    {
        list.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        list.extend(i32::to_le_bytes(id));
    }
    for (name, value) in [
        ("user.note", b"kept".to_vec()),
        ("security.capability", capability),
        ("system.posix_acl_access", list),
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
    let wanted = ["security.capability", "system.posix_acl_access", "user.note"];
    let wanted = wanted.map(str::to_owned).to_vec();
    cp(&["-a", "--strict", &at(&one, "/mnt/many"), &at(&other, "/mnt/")]).expect(0)?;
    same(listing(&seen(&other, "/mnt/many"))? == listing(&there)?, true)?;
    same(attributes(&seen(&other, "/mnt/many/folder 7/deeper/7")), wanted)?;
    cp(&[&at(&one, "/mnt/many/folder 7/deeper/7"), &text(&dir.path().join("out"))]).expect(0)?;
    same(attributes(&dir.path().join("out")), Vec::new())
}

fn across() -> Outcome {
    let (one, other, dir) = (container()?, container()?, io(tempfile::tempdir())?);
    make_tree(&seen(&one, "/mnt/tree"))?;
    cp(&["-a", &at(&one, "/mnt/tree"), &at(&other, "/mnt/")]).expect(0)?;
    same(listing(&seen(&other, "/mnt/tree"))?, listing(&seen(&one, "/mnt/tree"))?)?;
    // A stream, as tar reads and writes it.
    let script =
        "\"$1\" cp \"$2\" - | tar -x -C \"$3\" && tar -c -C \"$3\" tree | \"$1\" cp - \"$4\"";
    let mut shell = Command::new("sh");
    let (from, to) = (at(&one, "/mnt/tree"), at(&other, "/mnt/"));
    io(std::fs::remove_dir_all(seen(&other, "/mnt/tree")))?;
    shell
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_cinspect"), &from])
        .arg(dir.path())
        .arg(&to);
    finish(shell).expect(0)?;
    // Seconds are all that a stream has of a time.
    let without = |lines: Vec<String>| -> Vec<String> {
        let cut = |line: String| line.rsplit_once('.').map(|(line, _)| line.to_owned());
        lines.into_iter().filter_map(cut).collect()
    };
    let wanted = without(listing(&seen(&one, "/mnt/tree"))?);
    same(without(listing(&seen(&other, "/mnt/tree"))?), wanted.clone())?;
    same(without(listing(&dir.path().join("tree"))?), wanted)
}

/// Holes, second names, times of folders; what links lead to where that is asked for.
fn streams() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir -p /mnt/t/d; echo far > /mnt/far; ln -s ../../far /mnt/t/d/l; truncate -s 1G /mnt/t/holes
         for at in 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31; do
             printf x$at | dd of=/mnt/t/holes bs=1M seek=$at conv=notrunc status=none; done
         touch -d @1000000000 /mnt/t/d",
    )?;
    let stream = |words: &[&str]| -> Result<PathBuf, Failed> {
        let path = dir.path().join("stream");
        let out = io(File::create(&path))?;
        let mut command = cinspect(&[&["cp"], words].concat());
        check(io(command.stdout(out).stderr(Stdio::inherit()).status())?.success(), "a stream")?;
        Ok(path)
    };
    let path = stream(&[&at(&container, "/mnt/t"), "-"])?;
    check(io(path.metadata())?.len() < 1 << 20, "holes were written out")?;
    // As tar takes it, and as we do.
    let there = dir.path().join("there");
    io(std::fs::create_dir(&there))?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&path).arg("-C").arg(&there);
    finish(tar).expect(0)?;
    within(&container, "mkdir /mnt/back")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$1\" cp - \"$2\" < \"$3\"", "sh", env!("CARGO_BIN_EXE_cinspect")]);
    finish({
        shell.arg(at(&container, "/mnt/back")).arg(&path);
        shell
    })
    .expect(0)?;
    let source = seen(&container, "/mnt/t");
    let wanted = io(std::fs::read(source.join("holes")))?;
    for copy in [there.join("t"), seen(&container, "/mnt/back/t")] {
        let holes = copy.join("holes");
        check(io(std::fs::read(&holes))? == wanted, "bytes of a sparse file")?;
        check(io(holes.metadata())?.blocks() < 4096, format!("holes of {}", holes.display()))?;
        same(io(copy.join("d").metadata())?.mtime(), 1_000_000_000)?;
        check(io(copy.join("d/l").symlink_metadata())?.is_symlink(), "a link")?;
    }
    let path = stream(&["-L", &at(&container, "/mnt/t/d"), "-"])?;
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(&path).arg("d/l");
    same(finish(tar).expect(0)?.out.as_str(), "far\n")
}

fn running() -> Outcome {
    let container = container()?;
    cp(&["/bin/sleep", &at(&container, "/mnt/app")]).expect(0)?;
    let name = format!("pid:{}", container.init);
    run(&["exec", "-d", &name, "--", "/mnt/app", "300"]).expect(0)?;
    // In place it could not be written to.
    let busy = File::options().write(true).open(seen(&container, "/mnt/app"));
    same(busy.err().and_then(|error| error.raw_os_error()), Some(nix::libc::ETXTBSY))?;
    cp(&["/bin/true", &at(&container, "/mnt/app")]).expect(0)?;
    run(&["exec", &name, "--", "/mnt/app"]).expect(0)?;
    let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
    check(rows.iter().any(|row| row["command"] == json!(["/mnt/app", "300"])), "it has ended")
}

fn mounted() -> Outcome {
    let (container, file) = (container()?, io(tempfile::NamedTempFile::new())?);
    within(
        &container,
        "echo below > /mnt/hosts; echo from > /mnt/source; mount --bind /mnt/source /mnt/hosts",
    )?;
    io(std::fs::write(file.path(), "new\n"))?;
    let path = file.path().display().to_string();
    let done = cp(&[&path, &at(&container, "/mnt/hosts")]).expect(0)?;
    check(done.err.contains("written in place"), &done.err)?;
    within(
        &container,
        "[ \"$(cat /mnt/source)\" = new ] && grep -q ' /mnt/hosts ' /proc/1/mountinfo",
    )?;
    cp(&["--strict", &path, &at(&container, "/mnt/hosts")]).expect(1)?;
    within(&container, "umount /mnt/hosts && [ \"$(cat /mnt/hosts)\" = below ]")
}

fn litter(container: &Container, folder: &str) -> Outcome {
    let names: Vec<_> = io(std::fs::read_dir(seen(container, folder)))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("cinspect"))
        .collect();
    check(names.is_empty(), format!("left behind: {names:?}"))
}

fn space() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir /mnt/small; mount -t tmpfs -o size=1m none /mnt/small; echo old > /mnt/small/f",
    )?;
    let big = dir.path().join("big");
    io(std::fs::write(&big, vec![1; 3_000_000]))?;
    let failed = cp(&[&big.display().to_string(), &at(&container, "/mnt/small/f")]).expect(1)?;
    check(failed.err.contains("no space is left"), &failed.err)?;
    same(io(std::fs::read_to_string(seen(&container, "/mnt/small/f")))?.as_str(), "old\n")?;
    litter(&container, "/mnt/small")
}

fn read_only() -> Outcome {
    let container = container()?;
    within(
        &container,
        "mkdir /mnt/ro; mount -t tmpfs none /mnt/ro; echo old > /mnt/ro/f; mount -o remount,ro /mnt/ro",
    )?;
    let failed = cp(&["/etc/passwd", &at(&container, "/mnt/ro/f")]).expect(1)?;
    check(failed.err.contains("read-only"), &failed.err)?;
    for (to, why) in [("/mnt/none/x", "no such file or folder"), ("/mnt/none/", "no such folder")] {
        let failed = cp(&["/etc/passwd", &at(&container, to)]).expect(1)?;
        check(failed.err.contains(why), &failed.err)?;
    }
    let failed = cp(&["/etc", &at(&container, "/mnt/ro/f")]).expect(1)?;
    check(failed.err.contains("it is no folder"), &failed.err)
}

fn patterns() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir /mnt/a /mnt/b; touch /mnt/a/x.log /mnt/b/y.log /mnt/b/z.txt '/mnt/b/[n]' /mnt/b/.hidden.log",
    )?;
    let to = dir.path().display().to_string();
    cp(&[&at(&container, "/mnt/*/*.log"), &to]).expect(0)?;
    let names = || -> Result<Vec<String>, Failed> {
        let mut names: Vec<String> = io(std::fs::read_dir(dir.path()))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    };
    same(names()?, vec!["x.log".to_owned(), "y.log".into()])?;
    // A name that looks like one and is there means itself.
    cp(&[&at(&container, "/mnt/b/[n]"), &to]).expect(0)?;
    check(names()?.contains(&"[n]".to_owned()), "the name itself")?;
    let none = cp(&[&at(&container, "/mnt/*.nothing"), &to]).expect(1)?;
    check(none.err.contains("no such file"), none.err)
}

fn pseudo() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir -p /mnt/d/proc; mount -t proc none /mnt/d/proc; echo x > /mnt/d/file",
    )?;
    let to = dir.path().display().to_string();
    let done = cp(&[&at(&container, "/mnt/d"), &to]).expect(0)?;
    check(done.err.contains("is proc: left out"), &done.err)?;
    check(
        dir.path().join("d/file").exists() && !dir.path().join("d/proc/1").exists(),
        "its files",
    )?;
    // In a stream neither, where a file of no end would be one.
    let stream = cp(&[&at(&container, "/mnt/d"), "-"]).expect(0)?;
    check(stream.err.contains("is proc: left out"), &stream.err)?;
    cp(&[&at(&container, "/mnt/d/proc/version"), &to]).expect(0)?;
    same(io(std::fs::read(dir.path().join("version")))?, io(std::fs::read("/proc/version"))?)
}

/// A folder into itself would have no end; a mounted file onto itself would be cut before it is read.
fn itself() -> Outcome {
    let container = container()?;
    within(
        &container,
        "mkdir -p /mnt/a/b; echo x > /mnt/a/f; echo kept > /mnt/s; touch /mnt/m; mount --bind /mnt/s /mnt/m",
    )?;
    for (from, to) in [("/mnt/a", "/mnt/a/new"), ("/mnt/a", "/mnt/a/b"), ("/mnt/a/.", "/mnt/a/b")] {
        let failed = cp(&[&at(&container, from), &at(&container, to)]).expect(1)?;
        check(failed.err.contains("into itself"), &failed.err)?;
    }
    let failed = cp(&[&at(&container, "/mnt/s"), &at(&container, "/mnt/m")]).expect(1)?;
    check(failed.err.contains("are one file"), &failed.err)?;
    same(io(std::fs::read_to_string(seen(&container, "/mnt/s")))?.as_str(), "kept\n")?;
    same(io(std::fs::read_dir(seen(&container, "/mnt/a/b")))?.count(), 0)
}

fn options() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    let file = dir.path().join("f");
    io(std::fs::write(&file, "new"))?;
    io(std::fs::set_permissions(&file, Permissions::from_mode(0o4755)))?;
    io(std::os::unix::fs::chown(&file, Some(1234), Some(4321)))?;
    io(std::fs::set_permissions(&file, Permissions::from_mode(0o4755)))?;
    let (from, to) = (file.display().to_string(), at(&container, "/mnt/f"));
    let got =
        || io(seen(&container, "/mnt/f").metadata()).map(|m| (m.mode() & 0o7777, m.uid(), m.gid()));
    cp(&[&from, &to]).expect(0)?;
    same(got()?, (0o755, 0, 0))?;
    cp(&["-a", &from, &to]).expect(0)?;
    same(got()?, (0o4755, 1234, 4321))?;
    cp(&["--chown", "7:8", &from, &to]).expect(0)?;
    same(got()?, (0o755, 7, 8))?;
    cp(&["--chown", "daemon", &from, &to]).expect(0)?;
    same(got()?.1, 1)?;
    cp(&["--chown", "nobody-of-this-name", &from, &to]).expect(1)?;
    io(std::fs::write(&file, "newer"))?;
    let kept = cp(&["-n", &from, &to]).expect(0)?;
    check(kept.err.contains("there already: kept"), &kept.err)?;
    same(io(std::fs::read_to_string(seen(&container, "/mnt/f")))?.as_str(), "new")?;
    // On the disk before it has its name.
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=fsync,linkat,renameat,renameat2"]);
    traced.args([env!("CARGO_BIN_EXE_cinspect"), "cp", "--sync", &from, &to]);
    let calls = finish(traced).expect(0)?.err;
    let order: Vec<_> = ["fsync(", "renameat(", "fsync("]
        .into_iter()
        .scan(0, |at, call| {
            let found = calls[*at..].find(call)?;
            *at += found + 1;
            Some(call)
        })
        .collect();
    check(order.len() == 3, calls)?;
    // Links as such, or what they lead to.
    io(symlink("f", dir.path().join("l")))?;
    let link = dir.path().join("l").display().to_string();
    cp(&[&link, &at(&container, "/mnt/l")]).expect(0)?;
    check(io(seen(&container, "/mnt/l").symlink_metadata())?.is_symlink(), "a link")?;
    cp(&["-L", &link, &at(&container, "/mnt/l2")]).expect(0)?;
    check(io(seen(&container, "/mnt/l2").symlink_metadata())?.is_file(), "a file")?;
    // Several, into a folder alone.
    within(&container, "mkdir /mnt/d")?;
    cp(&[&from, &link, &at(&container, "/mnt/d")]).expect(0)?;
    cp(&[&from, &link, &at(&container, "/mnt/e")]).expect(1)?;
    let told = run(&["--json", "cp", &from, &to]).expect(0)?.objects();
    same((told[0]["files"].clone(), told[0]["bytes"].clone()), (json!(1), json!(5)))?;
    same(cp(&["-q", &from, &to]).expect(0)?.out.as_str(), "")
}

fn usage() -> Outcome {
    for (words, why) in [
        (&["a", "b"][..], "neither side is in a container"),
        (&["-", "-"], "a stream is a source alone"),
        (&["./x:y", "/tmp"], "neither side"),
        (&["a", "-", "web:/x"], "a stream is a source alone"),
    ] {
        let failed = cp(words).expect(2)?;
        check(failed.err.contains(why), format!("{words:?}: {}", failed.err))?;
    }
    cp(&["/etc/passwd", "no-such-container:/x"]).expect(3)?;
    cp(&["one"]).expect(2).map(drop)
}
