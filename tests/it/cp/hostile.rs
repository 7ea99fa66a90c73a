//! What a container, a stream or whoever was here before may do to a copy.

use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("cp::what_is_no_file_is_refused_or_left_out", special),
        root("cp::what_stands_there_and_is_no_file_stays", taken),
        root("cp::folders_without_end_and_files_that_grow_have_one", endless),
        root("cp::killed_at_any_moment_it_leaves_the_old_file_or_the_new", killed),
        root("cp::a_stream_does_not_lead_out", evil_stream),
        root("cp::a_link_in_the_way_is_not_followed", link_in_the_way),
        root("cp::a_file_system_that_hangs_is_given_up", hangs),
    ]
}

fn special() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir /mnt/d; mkfifo /mnt/d/fifo; mknod /mnt/d/null c 1 3; mknod /mnt/d/disk b 7 0; echo x > /mnt/d/file; ln -s fifo /mnt/d/link",
    )?;
    let to = dir.path().display().to_string();
    let begun = Instant::now();
    for name in ["fifo", "null", "disk"] {
        let failed = cp(&[&at(&container, &format!("/mnt/d/{name}")), &to]).expect(1)?;
        check(failed.err.contains("it is a "), &failed.err)?;
    }
    let done = cp(&[&at(&container, "/mnt/d"), &to]).expect(0)?;
    check(done.err.contains("is a fifo: left out"), &done.err)?;
    check(done.err.contains("is a device: left out"), &done.err)?;
    cp(&["--strict", &at(&container, "/mnt/d"), &to]).expect(1)?;
    cp(&["-L", &at(&container, "/mnt/d/link"), &to]).expect(1)?;
    for entry in io(std::fs::read_dir(dir.path().join("d")))?.flatten() {
        let kind = io(entry.file_type())?;
        check(
            !kind.is_fifo() && !kind.is_char_device() && !kind.is_block_device(),
            entry.path().display(),
        )?;
    }
    check(begun.elapsed() < Duration::from_secs(10), "something was opened")
}

/// A file that took the place of `/dev/null` would be the end of a host.
fn taken() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(
        &container,
        "mkdir /mnt/to /mnt/from; echo new > /mnt/from/null; ln /mnt/from/null /mnt/from/fifo
         mknod /mnt/to/null c 1 3; mkfifo /mnt/to/fifo",
    )?;
    let own = dir.path().join("null");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &own, kind, mode, rustix::fs::makedev(1, 3))?;
    let linked = dir.path().join("link");
    io(symlink("null", &linked))?;
    let outs = [own.display().to_string(), linked.display().to_string()];
    let ins = ["/mnt/to/null", "/mnt/to/fifo"].map(|path| at(&container, path));
    for to in outs.iter().chain(&ins) {
        let failed = cp(&[&at(&container, "/mnt/from/null"), to]).expect(1)?;
        check(failed.err.contains("no file, folder or link"), &failed.err)?;
    }
    // In the midst of a folder too, by whatever name.
    cp(&[&at(&container, "/mnt/from/."), &at(&container, "/mnt/to")]).expect(1)?;
    cp(&["--strict", &at(&container, "/mnt/from/null"), "/dev/stdout"]).expect(1)?;
    let kind = |path: &Path| io(path.symlink_metadata()).map(|there| there.file_type());
    check(kind(&own)?.is_char_device(), "a device here")?;
    check(kind(&seen(&container, "/mnt/to/null"))?.is_char_device(), "a device inside")?;
    check(kind(&seen(&container, "/mnt/to/fifo"))?.is_fifo(), "a fifo inside")?;
    check(kind(Path::new("/dev/null"))?.is_char_device(), "the null device of this host")
}

fn endless() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    let nest = "import os,sys
def nest(top, many):
    os.mkdir(top); os.chdir(top)
    for _ in range(many): os.mkdir('d'); os.chdir('d')
    open('f','w').close()
    os.chdir('/')
nest('/mnt/deep', 1500)
nest('/mnt/endless', 20000)
";
    let file = io(tempfile::NamedTempFile::new())?;
    io(std::fs::write(file.path(), nest))?;
    within(&container, &format!("python3 {}", file.path().display()))?;
    let to = dir.path().display().to_string();
    for (source, status) in [("/mnt/deep", 0), ("/mnt/endless", 1)] {
        for target in [to.as_str(), "-"] {
            let done = cp(&["-q", &at(&container, source), target]).expect(status)?;
            check(status == 0 || done.err.contains("nested without end"), &done.err)?;
        }
    }
    // It grows for as long as it is read.
    within(
        &container,
        "(yes > /mnt/grow) & sleep 0.3; truncate -s 1T /mnt/holes || truncate -s 8G /mnt/holes",
    )?;
    let begun = Instant::now();
    cp(&["-q", &at(&container, "/mnt/grow"), &to]).expect(0)?;
    cp(&["-q", &at(&container, "/mnt/holes"), &to]).expect(0)?;
    check(begun.elapsed() < Duration::from_secs(20), "it took too long")?;
    same(io(dir.path().join("holes").metadata())?.blocks(), 0)
}

fn killed() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let all = [vec![b'1'; 20_000_000], vec![b'2'; 20_000_000]];
    io(std::fs::write(&one, &all[0]))?;
    io(std::fs::write(&two, &all[1]))?;
    let target = at(&container, "/mnt/f");
    cp(&[&one.display().to_string(), &target]).expect(0)?;
    let seen_as = seen(&container, "/mnt/f");
    let mut random = 12345u64;
    let mut new = 0;
    for round in 0..200 {
        let source = if round % 2 == 0 { &two } else { &one };
        let mut command = cinspect(&["cp", "-q", &source.display().to_string(), &target]);
        let mut child = io(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn())?;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(random >> 33 & 0x7fff));
        let _ = child.kill();
        let _ = child.wait();
        let bytes = io(std::fs::read(&seen_as))?;
        check(all.contains(&bytes), format!("round {round}: half of it: {} bytes", bytes.len()))?;
        new += usize::from(bytes[0] == if round % 2 == 0 { b'2' } else { b'1' });
    }
    check(new > 0, "not one of them got through")?;
    // (The last ones may still be ending.)
    let clean = || {
        let _ = cp(&["-q", &one.display().to_string(), &target]);
        litter(&container, "/mnt").is_ok()
    };
    check(wait_until(clean), "litter")
}

fn evil_stream() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    let outside = dir.path().join("outside");
    let victim = outside.display().to_string();
    let script = "import tarfile,io,sys
def add(t,name,data=b'x',**k):
    i=tarfile.TarInfo(name); i.size=len(data) if not k else 0
    for key,value in k.items(): setattr(i,key,value)
    t.addfile(i, io.BytesIO(data) if not k else None)
kind,out=sys.argv[1:3]
t=tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
if kind=='up': add(t,'../../../../../../'+out)
if kind=='link':
    add(t,'l',type=tarfile.SYMTYPE,linkname='/')
    add(t,'l/'+out)
if kind=='absolute': add(t,out)
if kind=='hard':
    add(t,'h',type=tarfile.LNKTYPE,linkname='../../../../../etc/passwd')
if kind=='fifo': add(t,'f',type=tarfile.FIFOTYPE)
t.close()
";
    let file = io(tempfile::NamedTempFile::new())?;
    io(std::fs::write(file.path(), script))?;
    within(&container, "mkdir /mnt/to")?;
    for (kind, status) in [("up", 1), ("link", 1), ("absolute", 0), ("hard", 1), ("fifo", 0)] {
        let mut shell = Command::new("sh");
        let line = "python3 \"$1\" \"$2\" \"$3\" | \"$4\" cp - \"$5\"";
        shell.args(["-c", line, "sh"]).arg(file.path()).args([
            kind,
            &victim,
            env!("CARGO_BIN_EXE_cinspect"),
        ]);
        shell.arg(at(&container, "/mnt/to"));
        let done = finish(shell);
        same((kind, done.code), (kind, status))?;
        check(!outside.exists(), format!("{kind}: written outside: {}", done.err))?;
    }
    // What is absolute is below the folder.
    check(seen(&container, &format!("/mnt/to{victim}")).exists(), "not below the folder")
}

/// The folder here has a link where the container has a folder.
fn link_in_the_way() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(&container, "mkdir -p /mnt/d/sub; echo evil > /mnt/d/sub/file")?;
    let victim = dir.path().join("victim");
    io(std::fs::create_dir_all(&victim))?;
    io(std::fs::create_dir_all(dir.path().join("to/d")))?;
    io(symlink(&victim, dir.path().join("to/d/sub")))?;
    let to = dir.path().join("to").display().to_string();
    let failed = cp(&[&at(&container, "/mnt/d"), &to]).expect(1)?;
    check(failed.err.contains("no folder stands there"), &failed.err)?;
    check(!victim.join("file").exists(), "written where a link led")
}

fn hangs() -> Outcome {
    let (container, dir) = (fixture("init etc-hangs")?, io(tempfile::tempdir())?);
    let begun = Instant::now();
    let failed =
        cp(&[&at(&container, "/etc/passwd"), &dir.path().display().to_string()]).expect(1)?;
    check(failed.err.contains("does not answer"), &failed.err)?;
    check(begun.elapsed() < Duration::from_secs(40), "it took too long")
}
