//! The same tree by directory and by stream, and streams of and for other programs.

use super::tree::{ALL, MAKE, describe, same_tree};
use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Archivers, name, run);
    vec![
        root("cp::the_same_tree_by_directory_and_by_stream", by_directory_and_by_stream),
        root("cp::unpacks_the_streams_of_tar_programs", streams_of_programs),
        root("cp::writes_streams_that_tar_programs_unpack", streams_for_programs),
        root("cp::unpacks_every_form_of_a_sparse_file", sparse_forms),
        root("cp::unpacks_git_archives", git_archive),
    ]
}

/// Starts a container with a tree at `/mnt/t`, on a tmpfs that does not note when it is read.
fn container_with_tree() -> Result<Container, Failed> {
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=200m,noatime none /mnt")?;
    let mut make = Command::new("nsenter");
    make.args(["-t", &container.init.to_string(), "-m", "--", "sh", "-c", MAKE, "sh", "/mnt/t"]);
    finish(make).expect(0)?;
    Ok(container)
}

/// Runs a line of the shell, in which `$C` is cinspect, `$CTR` the container and `$R` its root.
fn by_directory_and_by_stream() -> Outcome {
    let container = container_with_tree()?;
    let other = fixture("init")?;
    within(&other, "mount -t tmpfs -o size=200m,noatime none /mnt; mkdir /mnt/s /mnt/p")?;
    let tree = |keys| describe(&host_path(&container, "/mnt/t"), keys);
    let original = tree(ALL)?;
    let to = |path: &str| format!("pid:{}:{path}", other.init);
    cp(&["-a", "--strict", &ctr_path(&container, "/mnt/t"), &to("/mnt/d")]).expect(0)?;
    let stream = format!("$C cp -a --strict $CTR:/mnt/t - | $C cp -a --strict - {}", to("/mnt/s"));
    shell(&container, &stream).expect(0)?;
    same_tree(&describe(&host_path(&other, "/mnt/d"), ALL)?, &original)?;
    same_tree(&describe(&host_path(&other, "/mnt/s/t"), ALL)?, &original)?;
    // Twice: hard links over existing names. (The times of directories are new.)
    shell(&container, &stream).expect(0)?;
    let untimed: Vec<_> = ALL.iter().copied().filter(|key| !key.ends_with("time")).collect();
    same_tree(&describe(&host_path(&other, "/mnt/s/t"), &untimed)?, &tree(&untimed)?)?;
    // Without -a: owner, setuid bits and extended attributes are not asked for; lists never widen rights.
    cp(&["--strict", &ctr_path(&container, "/mnt/t"), &to("/mnt/e")]).expect(0)?;
    let stream = format!("$C cp --strict $CTR:/mnt/t - | $C cp --strict - {}", to("/mnt/p"));
    shell(&container, &stream).expect(0)?;
    let without: Vec<_> = ALL.iter().copied().filter(|key| *key != "atime").collect();
    let by_directory = describe(&host_path(&other, "/mnt/e"), &without)?;
    same_tree(&describe(&host_path(&other, "/mnt/p/t"), &without)?, &by_directory)?;
    let mode = host_path(&other, "/mnt/e/acl").metadata()?.mode();
    same(mode & 0o777, 0o640)
}

/// Each program writes the tree, and both it and `cp` unpack what it wrote.
fn streams_of_programs() -> Outcome {
    let container = container_with_tree()?;
    let times: &[&str] = &["name", "kind", "mode", "owner", "mtime", "target", "data", "inode"];
    let seconds: &[&str] = &["name", "kind", "mode", "owner", "seconds", "target", "data", "inode"];
    let gnu = "tar --xattrs --xattrs-include=* --acls --sparse";
    // (libarchive counts the fraction of a time before 1970 forwards, unlike everyone: tar(5).)
    // Nor does it write names that are not UTF-8 without a warning.
    within(
        &container,
        "cd /mnt/t; touch -d '1960-01-01 UTC' older; rm \"$(printf 'not\\377utf8')\"",
    )?;
    for (write, unpack, keys) in [
        (format!("{gnu} --format=posix"), gnu, ALL),
        (format!("{gnu} --format=posix --sparse-version=0.0"), gnu, ALL),
        (format!("{gnu} --format=posix --sparse-version=0.1"), gnu, ALL),
        (format!("{gnu} --format=posix -b 4096"), gnu, ALL),
        ("tar --format=gnu --sparse".to_owned(), "tar", seconds),
        ("tar --format=oldgnu --sparse".to_owned(), "tar", seconds),
        ("bsdtar --acls --xattrs --format=pax".to_owned(), "bsdtar -p", ALL),
        ("bsdtar --format=gnutar".to_owned(), "bsdtar -p", seconds),
        ("busybox tar".to_owned(), "tar -p", seconds),
        (
            "rm -f snapshot; tar --format=gnu --listed-incremental=snapshot".to_owned(),
            "tar -p",
            seconds,
        ),
        (
            "rm -f snapshot; tar --format=posix --listed-incremental=snapshot".to_owned(),
            "tar -p",
            times,
        ),
    ] {
        within(&container, "rm -rf /mnt/by_it /mnt/by_cp; mkdir /mnt/by_it /mnt/by_cp")?;
        let line = format!(
            "cd $R/mnt; {write} -C t -cf stream . && {unpack} -xf stream -C by_it && $C cp -a - $CTR:/mnt/by_cp <stream"
        );
        let done = shell(&container, &line).expect(0).map_err(|error| named(&write, &error))?;
        check(!done.err.contains("cinspect"), format!("{write}: {}", done.err))?;
        // (The program sees the tree's own top directory, which `cp` leaves alone.)
        let tree =
            |path: &str| describe(&host_path(&container, path), keys).map(|t| t[1..].to_vec());
        let without_atime = |lines: Vec<String>| -> Vec<String> {
            // A program that reads a file while it unpacks, or keeps no such time, sets its own.
            let cut = |line: String| {
                let (head, tail) = line.split_once(" atime ").unwrap_or((&line, ""));
                let tail = tail.split_once(' ').map_or("", |(_, tail)| tail);
                format!("{head} {tail}")
            };
            lines.into_iter().map(cut).collect()
        };
        let (ours, its) = (tree("/mnt/by_cp")?, tree("/mnt/by_it")?);
        check(ours.len() > 25, format!("{write}: only {} files", ours.len()))?;
        same_tree(&without_atime(ours), &without_atime(its))
            .map_err(|error| named(&write, &error))?;
    }
    Ok(())
}

fn named(program: &str, error: &Failed) -> Failed {
    format!("{program}: {}", error.message().unwrap_or_default()).into()
}

/// Each program unpacks what `cp` writes.
fn streams_for_programs() -> Outcome {
    let container = container_with_tree()?;
    let original = |keys| describe(&host_path(&container, "/mnt/t"), keys);
    let plain: &[&str] = &["name", "kind", "mode", "owner", "mtime", "target", "data", "inode"];
    let seconds: &[&str] = &["name", "kind", "mode", "owner", "seconds", "target", "data", "inode"];
    within(&container, "touch -d '1960-01-01 UTC' /mnt/t/older")?;
    let without_atime: Vec<_> = ALL.iter().copied().filter(|key| *key != "atime").collect();
    for (unpack, keys) in [
        ("tar --xattrs --xattrs-include=* --acls -xf - -C out", &*without_atime),
        ("bsdtar --acls --xattrs -pxf - -C out", &*without_atime),
        ("tar -xpf - -C out", plain),
        (
            "python3 -c 'import tarfile,sys; tarfile.open(fileobj=sys.stdin.buffer, mode=\"r|\").extractall(\"out\", numeric_owner=True)'",
            // (It sets neither modes as they are nor times of symlinks, and links no symlinks.)
            &["name", "kind", "owner", "target", "data"][..],
        ),
    ] {
        let line = format!(
            "cd $R/mnt; rm -rf out; mkdir out; umask 0; $C cp -a --strict $CTR:/mnt/t - | {unpack}"
        );
        shell(&container, &line).expect(0).map_err(|error| named(unpack, &error))?;
        let (got, wanted) =
            (describe(&host_path(&container, "/mnt/out/t"), keys)?, original(keys)?);
        if unpack.starts_with("tar -xpf") {
            // Without the lists, group bits are the group's own.
            let file = |name: &str| host_path(&container, &format!("/mnt/out/t/{name}"));
            same(file("acl").metadata()?.mode() & 0o777, 0o640)?;
            let others = |lines: Vec<String>| -> Vec<String> {
                let is_listed =
                    |line: &String| line.contains("\"'acl'\"") || line.contains("\"'d/e'\"");
                lines.into_iter().filter(|line| !is_listed(line)).collect()
            };
            same_tree(&others(got), &others(wanted)).map_err(|error| named(unpack, &error))?;
            continue;
        }
        same_tree(&got, &wanted).map_err(|error| named(unpack, &error))?;
    }
    // BusyBox does not support sparse files, and reports that; it restores neither times of directories nor
    // anything of symlinks.
    let line =
        "cd $R/mnt; rm -rf out; mkdir out; $C cp -a $CTR:/mnt/t - | busybox tar -xf - -C out";
    let refused = shell(&container, line);
    check(refused.code != 0 && refused.err.contains("typeflag"), &refused.err)?;
    shell(&container, &line.replace("mkdir out", "mkdir out; rm t/holes t/hole")).expect(0)?;
    let files = |lines: Vec<String>| -> Vec<String> {
        let is_file = |line: &String| line.contains("kind 32768") && !line.contains("\"'acl'\"");
        lines.into_iter().filter(is_file).collect()
    };
    let got = files(describe(&host_path(&container, "/mnt/out/t"), seconds)?);
    check(got.len() > 15, got.len())?;
    same_tree(&got, &files(original(seconds)?))
}

/// Sparse files in the forms that GNU tar does not write any more, or not by itself, made by hand.
fn sparse_forms() -> Outcome {
    let container = container()?;
    let script = r#"
import sys, struct
def num(n, width): return b'%0*o\0' % (width - 1, n)
def header(name, size, flag, magic, patch={}):
    h = bytearray(512); h[0:len(name)] = name
    h[100:108] = num(0o644, 8); h[108:116] = num(0, 8); h[116:124] = num(0, 8)
    h[124:136] = num(size, 12); h[136:148] = num(1000, 12); h[156:157] = flag; h[257:265] = magic
    for at, data in patch.items(): h[at:at + len(data)] = data
    h[148:156] = b' ' * 8; h[148:156] = b'%06o\0 ' % sum(h)
    return bytes(h)
def pad(d): return d + b'\0' * (-len(d) % 512)
def pax(**k):
    out = b''
    for key, value in k.items():
        body = b' ' + key.replace('__', '.').encode() + b'=' + value.encode() + b'\n'
        n = len(body) + 1
        while len(str(n)) + len(body) != n: n = len(str(n)) + len(body)
        out += str(n).encode() + body
    return header(b'pax', len(out), b'x', b'ustar\x0000') + pad(out)
def entries(pairs): return b''.join(num(o, 12) + num(n, 12) for o, n in pairs)
many = [(i * 8192, 512) for i in range(60)] + [(1000000, 0)]
data = b''.join(b'%-512d' % i for i in range(60))
out = sys.stdout.buffer
gnu, ustar = b'ustar  \0', b'ustar\x0000'
# GNU, 4 extents in the header and 57 in three blocks, the last of which is not full.
blocks = b''
for i in range(4, 61, 21): blocks += (entries(many[i:i + 21]).ljust(504, b'\0') + (b'\1' if i + 21 < 61 else b'\0')).ljust(512, b'\0')
out.write(header(b'gnu', len(data), b'S', gnu, {386: entries(many[:4]), 482: b'\1', 483: num(1000000, 12)}) + blocks + data)
# star, which has them all in blocks, and counts these.
blocks = b''
for i in range(0, 61, 21): blocks += (entries(many[i:i + 21]).ljust(504, b'\0') + (b'\1' if i + 21 < 61 else b'\0')).ljust(512, b'\0')
out.write(header(b'star', len(data) + len(blocks), b'S', ustar, {452: num(1000000, 12), 508: b'tar\0'}) + blocks + data)
# star of old, with the first four in the header.
out.write(header(b'oldstar', 1024, b'S', ustar, {356: entries([(0, 512), (999488, 512)]), 452: num(1000000, 12), 508: b'tar\0'}) + data[:1024])
# A map in decimal before the data, of two blocks.
m = b'%d\n' % len(many) + b''.join(b'%d\n%d\n' % p for p in many); m = pad(m)
out.write(pax(GNU__sparse__major='1', GNU__sparse__minor='0', GNU__sparse__name='one', GNU__sparse__realsize='1000000') + header(b'GNUSparseFile.0/one', len(m) + len(data), b'0', ustar) + m + data)
# A file that is one hole.
out.write(pax(GNU__sparse__size='1000000', GNU__sparse__numblocks='0', GNU__sparse__map='') + header(b'hole', 0, b'0', ustar))
out.write(b'\0' * 1024)
"#;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    within(&container, "mkdir /mnt/to")?;
    let line = format!("python3 {} | $C cp --strict - $CTR:/mnt/to", file.path().display());
    shell(&container, &line).expect(0)?;
    let mut expected = vec![0; 1_000_000];
    for index in 0..60 {
        let text = format!("{index:<512}");
        expected[index * 8192..index * 8192 + 512].copy_from_slice(text.as_bytes());
    }
    for name in ["gnu", "star", "one", "oldstar", "hole"] {
        let path = host_path(&container, &format!("/mnt/to/{name}"));
        let bytes = std::fs::read(&path)?;
        match name {
            "hole" => check(bytes == vec![0; 1_000_000], "a hole")?,
            "oldstar" => {
                check(bytes.len() == 1_000_000 && bytes[..512] == expected[..512], name)?;
                check(bytes[999_488] == b'1' && bytes[512..999_488].iter().all(|b| *b == 0), name)?;
            }
            _ => check(bytes == expected, format!("{name}: {} bytes", bytes.len()))?,
        }
        check(path.metadata()?.blocks() < 1000, format!("the holes of {name}"))?;
    }
    // A form that is not known, and maps that lie, are errors: nothing is written.
    for (records, message) in [
        (
            "GNU__sparse__major='2', GNU__sparse__minor='0', GNU__sparse__realsize='9'",
            "unknown form: 2.0",
        ),
        ("GNU__sparse__size='9', GNU__sparse__map='0,4,2,4'", "map of a sparse file is broken"),
        ("GNU__sparse__size='9', GNU__sparse__map='0,4,8,4'", "map of a sparse file is broken"),
        ("GNU__sparse__size='9', GNU__sparse__map='0,4'", "map of a sparse file is broken"),
        ("GNU__sparse__size='x', GNU__sparse__map='0,8'", "map of a sparse file is broken"),
        ("SUN__holesdata=' 0 4'", "unknown form: of Solaris"),
    ] {
        let head = script.split("many =").next().unwrap_or_default();
        let broken = format!(
            "{head}\nsys.stdout.buffer.write(pax({records}) + header(b'bad', 8, b'0', b'ustar\\x0000') + pad(b'12345678') + bytes(1024))\n"
        );
        std::fs::write(file.path(), broken)?;
        let failed = shell(&container, &line).expect(1)?;
        check(failed.err.contains(message), format!("{records}: {}", failed.err))?;
        check(!host_path(&container, "/mnt/to/bad").exists(), records)?;
    }
    Ok(())
}

fn git_archive() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let script = "set -e; cd \"$1\"; git init -q .; mkdir -p a/b; echo x >a/b/f; echo y >run; chmod 755 run; ln -s run l
        git add -A; git -c user.name=n -c user.email=e commit -qm c; git archive HEAD >../git.tar";
    let repository = dir.path().join("repository");
    std::fs::create_dir(&repository)?;
    let mut git = Command::new("sh");
    git.args(["-c", script, "sh"]).arg(&repository);
    finish(git).expect(0)?;
    within(&container, "mkdir /mnt/to")?;
    let archive = dir.path().join("git.tar");
    let line = format!("$C cp --strict - $CTR:/mnt/to <{}", archive.display());
    let done = shell(&container, &line).expect(0)?;
    same(done.err.as_str(), "")?;
    within(
        &container,
        "cd /mnt/to; [ \"$(cat a/b/f run)\" = \"$(printf 'x\\ny')\" ]; [ -x run ]; [ \"$(readlink l)\" = run ]; [ ! -e pax_global_header ]",
    )
}
