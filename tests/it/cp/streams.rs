//! Tar streams that break off, go on, change while they are read, or keep the other end waiting.

use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("cp::hard_links_in_a_stream_replace_old_files", hard_links),
        root("cp::links_of_a_stream_respect_no_clobber", hard_links_with_no_clobber),
        root("cp::files_of_unknown_size_are_streamed_whole", unknown_sizes),
        root("cp::a_file_that_changes_while_it_is_read_is_told", changing_files),
        root("cp::a_cut_stream_replaces_nothing", cut_streams),
        root("cp::reads_a_stream_to_its_very_end", ends),
        root("cp::a_stream_may_keep_the_other_end_waiting", slow_streams),
        root("cp::a_closed_pipe_ends_a_stream_quietly", closed_pipe),
        root("cp::members_nested_too_deeply_create_nothing", too_deep),
        root("cp::a_symlink_with_a_long_target_is_named", long_target),
        root("cp::members_of_every_type_are_unpacked_or_named", member_types),
    ]
}

fn hard_links() -> Outcome {
    let container = container()?;
    let script = "cd $R/mnt; rm -rf s d; mkdir s d; echo one >s/a; ln s/a s/b; ln s/a s/c
        tar -C s -c a b c | $C cp - $CTR:/mnt/d && echo two >s/n && mv s/n s/a && ln -f s/a s/b && ln -f s/a s/c
        tar -C s -c ORDER | $C cp --strict - $CTR:/mnt/d && cat d/a d/b d/c && stat -c %i d/a d/b d/c | sort -u | wc -l";
    for order in ["a b c", "c b a", "b a c"] {
        let done = shell(&container, &script.replace("ORDER", order)).expect(0)?;
        check(done.out.ends_with("two\ntwo\ntwo\n1\n"), format!("{order}: {}", done.out))?;
        check(done.out.contains(": 3 files"), done.out)?;
    }
    // Over a symlink and a name that is a link already; a link to itself.
    let script =
        "cd $R/mnt; rm -f d/b; ln -s a d/b; tar -C s -c a b c | $C cp --strict - $CTR:/mnt/d
        tar -C s -c a b c | $C cp --strict - $CTR:/mnt/d; stat -c %i d/a d/b d/c | sort -u | wc -l";
    check(shell(&container, script).expect(0)?.out.ends_with("\n1\n"), "one inode")?;
    // A first name that cannot be written: no link to the old file that is there.
    let script = "cd $R/mnt; rm -rf d; mkdir d; mknod d/a c 1 3; tar -C s -c a b c | $C cp - $CTR:/mnt/d; echo status $?; ls d";
    let done = shell(&container, script).expect(0)?;
    check(done.out.ends_with("status 1\na\n"), &done.out)?;
    check(done.err.contains("skipped `b`: a link to `a`, which was not written"), &done.err)?;
    // The first is a FIFO in the stream: a file of that name is an old one, and so is one of a link to it.
    let script = "cd $R/mnt; rm -rf d; mkdir d; echo old >d/a; echo old >d/b
        python3 -c 'import tarfile, sys
t = tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\")
for name, kind, link in ((\"a\", b\"6\", \"\"), (\"b\", b\"1\", \"a\"), (\"c\", b\"1\", \"b\"), (\".\", b\"0\", \"\")):
    member = tarfile.TarInfo(name); member.type = kind; member.linkname = link; t.addfile(member)
t.close()' | $C cp -v - $CTR:/mnt/d; echo status $?; cat d/a d/b; ls d; stat -c %h d/a";
    let done = shell(&container, script).expect(0)?;
    check(done.out.ends_with("status 1\nold\nold\na\nb\n1\n"), &done.out)?;
    for text in [
        "skipped `b`: a link to `a`, which was not written",
        "skipped `c`: a link to `b`, which was not written",
        "cannot unpack `.`: a file without a name",
    ] {
        check(done.err.contains(text), format!("{text}: {}", done.err))?;
    }
    Ok(())
}

fn hard_links_with_no_clobber() -> Outcome {
    let container = container()?;
    let script = "cd $R/mnt; mkdir s d; echo new >s/a; ln s/a s/b; echo old >d/a; echo old >d/b
        tar -C s -c a b | $C cp -n -v - $CTR:/mnt/d; rm d/b; tar -C s -c a b | $C cp -n - $CTR:/mnt/d
        cat d/*; rm d/a; tar -C s -c a b | $C cp -n - $CTR:/mnt/d; cat d/a d/b";
    let done = shell(&container, script).expect(0)?;
    same(done.out.lines().filter(|line| line.contains(": 0 files")).count(), 2)?;
    check(
        done.out.ends_with("old\ncopied to pid:".split_at(4).0) || done.out.contains("old\n"),
        &done.out,
    )?;
    check(done.out.ends_with("new\nnew\n"), &done.out)?;
    for text in ["`a` exists: not overwritten", "`b` exists: not", "skipped `b`: a link to `a`"] {
        check(done.err.contains(text), format!("{text}: {}", done.err))?;
    }
    // By directory the link becomes a copy of the new file.
    let script = "cd $R/mnt; rm -rf d; mkdir d; echo old >d/a; $C cp -n $CTR:/mnt/s/. $CTR:/mnt/d; cat d/a d/b";
    let done = shell(&container, script).expect(0)?;
    check(done.out.contains("1 file,") && done.out.ends_with("old\nnew\n"), done.out)
}

fn unknown_sizes() -> Outcome {
    let container = container()?;
    for path in
        ["/proc/1/mountinfo", "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/kallsyms"]
    {
        if !host_path(&container, path).exists() {
            continue;
        }
        let line = format!(
            "$C cp --strict $CTR:{path} - | tar -xO | md5sum; nsenter -t ${{CTR#pid:}} -m -p md5sum <$R{path}"
        );
        let done = shell(&container, &line).expect(0)?;
        let sums: Vec<&str> = done.out.split_whitespace().filter(|word| word.len() == 32).collect();
        check(sums.len() == 2 && sums[0] == sums[1], format!("{path}: {}", done.out))?;
    }
    // In a tree that is the source itself.
    let done = shell(&container, "$C cp $CTR:/proc/sys/kernel/random - | tar -xO random/poolsize")
        .expect(0)?;
    same(done.out, std::fs::read_to_string("/proc/sys/kernel/random/poolsize")?)
}

/// The reader of the stream changes the file when it has read the first bytes of it.
fn changing_files() -> Outcome {
    let container = container()?;
    let changed = |strict: &str, change: &str| {
        let line = format!(
            "cd $R/mnt; head -c 30M /dev/urandom >big; ($C cp {strict} $CTR:/mnt/big -; echo status $? >&2) | (head -c 100000; {change}; cat) | tar -xO 2>/dev/null | wc -c"
        );
        shell(&container, &line)
    };
    let shrunk = changed("", "truncate -s 20M big");
    check(shrunk.err.contains("status 0"), &shrunk.err)?;
    check(shrunk.err.contains("mnt/big` shrank by 10485760 bytes to 20971520"), &shrunk.err)?;
    check(shrunk.err.contains("padded with 10485760 zero bytes"), &shrunk.err)?;
    same(shrunk.out.trim(), "31457280")?;
    let strict = changed("--strict", "truncate -s 20M big");
    check(strict.err.contains("status 1") && strict.err.contains("shrank by"), &strict.err)?;
    let grown = changed("", "echo more >>big");
    check(grown.err.contains("status 0") && grown.err.contains("grew by 5 bytes"), &grown.err)?;
    let strict = changed("--strict", "echo more >>big");
    check(strict.err.contains("status 1"), &strict.err)?;
    let same_size = changed("--strict", "true");
    check(same_size.err.contains("status 0") && !same_size.err.contains("warning"), same_size.err)
}

fn cut_streams() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "mkdir /mnt/d")?;
    let script = "head -c 100000 /dev/urandom >conf; tar --format=FORMAT -cf whole.tar conf";
    let conf = host_path(&container, "/mnt/d/conf");
    let old = "the old and whole file";
    std::fs::write(&conf, old)?;
    let bound = host_path(&container, "/mnt/d/bound");
    within(&container, "echo old >/mnt/f; touch /mnt/d/bound; mount --bind /mnt/f /mnt/d/bound")?;
    for format in ["gnu", "posix"] {
        let make = format!("cd {}; {}", dir.path().display(), script.replace("FORMAT", format));
        shell(&container, &make).expect(0)?;
        for bytes in [1, 100, 511, 512, 600, 1024, 1500, 2048, 50_000, 100_000] {
            let line =
                format!("head -c {bytes} {}/whole.tar | $C cp - $CTR:/mnt/d", dir.path().display());
            let failed = shell(&container, &line).expect(1)?;
            check(failed.err.contains("cannot read the tar stream: "), &failed.err)?;
            same(std::fs::read_to_string(&conf)?.as_str(), old)?;
        }
    }
    // A bind mount, which is written in place, neither.
    let line = format!(
        "cd {}; cp conf bound; tar -c bound | head -c 50000 | $C cp - $CTR:/mnt/d",
        dir.path().display()
    );
    let failed = shell(&container, &line).expect(1)?;
    check(failed.err.contains("it was cut off in `bound`"), &failed.err)?;
    same(std::fs::read_to_string(&bound)?.as_str(), "old\n")?;
    // Directories that are there get their permissions all the same.
    let line = "cd $R/mnt; mkdir -p s/sub; chmod 2750 s/sub; head -c 99999 /dev/zero >s/sub/z; tar -C s -c sub | head -c 60000 | $C cp -a - $CTR:/mnt/d; stat -c %a d/sub";
    check(shell(&container, line).out.ends_with("2750\n"), "the permissions of a directory")?;
    // The left side of a pipe of two fails before it writes.
    let line = "$C cp $CTR:/nowhere - | $C cp - $CTR:/mnt/d";
    let failed = shell(&container, line).expect(1)?;
    check(failed.err.contains("cannot read the tar stream: it is empty"), &failed.err)?;
    for (line, hint) in [
        ("tar -cz /etc/hostname", "gzip -d"),
        ("echo hello", "does not begin with the header"),
        ("head -c 10000 /dev/urandom", "does not begin with the header"),
    ] {
        let failed = shell(&container, &format!("{line} 2>/dev/null | $C cp - $CTR:/mnt/d"));
        check(failed.code == 1 && failed.err.contains(hint), &failed.err)?;
    }
    no_temp_files(&container, "/mnt/d")
}

fn ends() -> Outcome {
    let container = container()?;
    let stream = |line: &str, strict: &str| {
        let line = format!(
            "cd $R/mnt; mkdir -p s d; echo x >s/f; echo y >s/g; {{ {line}; }} | $C cp {strict} - $CTR:/mnt/d; echo ${{PIPESTATUS[*]}}; exit 0"
        );
        shell(&container, &line)
    };
    for line in [
        "tar -b 4096 -C s -c f",
        "tar -C s -c f; head -c 1M /dev/zero",
        "tar -C s -c f; head -c 777 /dev/zero",
    ] {
        let done = stream(line, "--strict").expect(0)?;
        check(done.out.ends_with("0 0\n") && done.err.is_empty(), format!("{line}: {done:?}"))?;
    }
    for (line, text) in [
        ("tar -C s -c f; tar -C s -c g", "another archive after the end"),
        ("tar -b 1 -C s -c f; tar -C s -c g", "another archive after the end"),
        ("tar -C s -c f; head -c 300000 /dev/urandom; true", "bytes after the end of the archive"),
        ("tar -b 1 -C s -c f; echo tail", "skipped 5 bytes after the end"),
        ("tar -b 1 -C s -c f | { head -c 1024; cat >/dev/null; }", "no end-of-archive marker"),
    ] {
        let done = stream(line, "").expect(0)?;
        check(done.out.ends_with("0 0\n"), format!("{line}: {done:?}"))?;
        check(done.err.contains(text), format!("{line}: {}", done.err))?;
        let strict = stream(line, "--strict").expect(0)?;
        check(strict.out.ends_with("0 1\n") && strict.err.contains(text), format!("{strict:?}"))?;
        check(!host_path(&container, "/mnt/d/g").exists(), "the second archive was unpacked")?;
    }
    Ok(())
}

/// Longer than a file system that hangs is waited for.
fn slow_streams() -> Outcome {
    let container = container()?;
    let line = "cd $R/mnt; mkdir -p d; head -c 10M /dev/urandom >big
        (tar -c big | (head -c 1000000; sleep 17; cat)) | $C cp --strict - $CTR:/mnt/d & first=$!
        $C cp --strict $CTR:/mnt/big - | (head -c 1000; sleep 17; cat) | tar -xO | cmp - big; second=$?
        wait $first && cmp d/big big && exit $second";
    let done = shell(&container, line).expect(0)?;
    check(done.took > Duration::from_secs(16), "nothing was waited for")
}

fn closed_pipe() -> Outcome {
    let container = container()?;
    let line = "head -c 10M /dev/urandom >$R/mnt/big; $C cp $CTR:/mnt - | head -c 1000 >/dev/null; echo ${PIPESTATUS[*]}";
    let done = shell(&container, line).expect(0)?;
    same((done.out.as_str(), done.err.as_str()), ("0 0\n", ""))?;
    // Every other error of stdout is one.
    let failed = shell(&container, "$C cp $CTR:/mnt - >/dev/full").expect(1)?;
    check(failed.err.contains("cannot write the tar stream: No space left on device"), failed.err)
}

fn too_deep() -> Outcome {
    let container = container()?;
    within(&container, "mkdir /mnt/d")?;
    let start = Instant::now();
    for (format, names, text) in [
        ("GNU", 4_000_000, "a name is too long"),
        ("PAX", 200_000, "nested too deeply"),
        ("GNU", 2100, "nested too deeply"),
        ("PAX", 2100, "nested too deeply"),
    ] {
        let line = format!(
            "python3 -c 'import tarfile,sys; t=tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\", format=tarfile.{format}_FORMAT); t.addfile(tarfile.TarInfo(\"a/\"*{names}+\"f\")); t.close()' | $C cp - $CTR:/mnt/d"
        );
        let failed = shell(&container, &line).expect(1)?;
        check(failed.err.contains(text), format!("{names}: {}", failed.err))?;
        same(std::fs::read_dir(host_path(&container, "/mnt/d"))?.count(), 0)?;
    }
    let line = "python3 -c 'import tarfile,sys; t=tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\"); t.addfile(tarfile.TarInfo(\"a/b/\"+\"c\"*300)); t.close()' | $C cp - $CTR:/mnt/d";
    let failed = shell(&container, line).expect(1)?;
    check(failed.err.contains("File name too long"), &failed.err)?;
    same(std::fs::read_dir(host_path(&container, "/mnt/d"))?.count(), 0)?;
    check(start.elapsed() < Duration::from_secs(300), "it took too long")
}

/// Members that tar programs write and Python does not, by their type.
fn long_target() -> Outcome {
    let container = container()?;
    let script = "cd $R/mnt; mkdir d; python3 -c 'import tarfile, sys
t = tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\")
for name, kind, link in ((\"a\", b\"2\", \"x/\" * 2500), (\"b\", b\"0\", \"\")):
    member = tarfile.TarInfo(name); member.type = kind; member.linkname = link; t.addfile(member)
t.close()' | $C cp - $CTR:/mnt/d; echo status $?; ls d";
    let done = shell(&container, script).expect(0)?;
    check(done.out.ends_with("status 1\nb\n"), &done.out)?;
    check(done.err.contains("its target has 5000 bytes"), &done.err)?;
    check(!done.err.contains("does not allow the name"), &done.err)
}

fn member_types() -> Outcome {
    let container = container()?;
    let script = r#"
import sys
def header(name, size, flag, link=b''):
    h = bytearray(512); h[0:len(name)] = name; h[157:157 + len(link)] = link
    for at, width, n in ((100, 8, 0o644), (108, 8, 0), (116, 8, 0), (124, 12, size), (136, 12, 1000)):
        h[at:at + width] = b'%0*o\0' % (width - 1, n)
    h[156:157] = flag; h[257:265] = b'ustar  \0'
    h[148:156] = b' ' * 8; h[148:156] = b'%06o\0 ' % sum(h)
    return bytes(h)
def add(name, flag, data=b'', **k): sys.stdout.buffer.write(header(name, len(data), flag, **k) + data + b'\0' * (-len(data) % 512))
add(b'volume', b'V')
add(b'dumpdir', b'D', b'Yfile\0Nother\0\0')
add(b'dumpdir/file', b'0', b'in it')
add(b'contiguous', b'7', b'data')
add(b'old', b'\0', b'v7')
add(b'olddir/', b'\0')
add(b'rest', b'M', b'of another volume')
for name, flag in ((b'fifo', b'6'), (b'char', b'3'), (b'block', b'4'), (b'odd', b'Z'), (b'names', b'N')): add(name, flag, b'x' if flag in b'ZN' else b'')
add(b'././@LongLink', b'K', b'dumpdir/file\0')
add(b'././@LongLink', b'L', b'n' * 200 + b'\0')
add(b'short', b'1', link=b'wrong')
add(b'size', b'5')
sys.stdout.buffer.write(header(b'sized', 99, b'2', b'target'))
add(b'last', b'0', b'last')
sys.stdout.buffer.write(bytes(1024))
"#;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    within(&container, "mkdir /mnt/d")?;
    let line = format!("python3 {} | $C cp - $CTR:/mnt/d", file.path().display());
    let done = shell(&container, &line).expect(0)?;
    for text in [
        "skipped `rest`: it is the rest of a file",
        "skipped `fifo`: it is a FIFO",
        "skipped `char`: it is a character device",
        "skipped `block`: it is a block device",
        "skipped `odd`: it is a member of the unknown type `Z`",
        "skipped `names`: it is a list of long names",
    ] {
        check(done.err.contains(text), format!("{text}: {}", done.err))?;
    }
    check(!done.err.contains("volume`"), &done.err)?;
    within(
        &container,
        "cd /mnt/d; [ \"$(cat dumpdir/file contiguous old last)\" = 'in itdatav7last' ]; [ -d olddir ]; [ -d size ]
         [ \"$(readlink sized)\" = target ]; [ dumpdir/file -ef \"$(printf 'n%.0s' $(seq 200))\" ]; [ \"$(ls | wc -l)\" = 8 ]",
    )?;
    shell(&container, &line.replace("cp -", "cp --strict -")).expect(1).map(drop)
}
