//! `cp` against hostile containers and streams: devices, endless trees, links that lead out, a file system
//! that hangs, and SIGKILL at any moment.

use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("cp::refuses_or_skips_special_files", special_files),
        root("cp::never_replaces_special_files", special_destinations),
        root("cp::bounds_endless_trees_and_growing_files", endless),
        root("cp::leaves_the_old_or_the_new_file_when_killed", killed),
        root("cp::streams_stay_below_the_destination", hostile_streams),
        root("cp::does_not_follow_symlinks_at_the_destination", symlink_at_destination),
        root("cp::gives_up_on_a_hanging_file_system", hanging_file_system),
    ]
}

fn special_files() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir /mnt/d; mkfifo /mnt/d/fifo; mknod /mnt/d/null c 1 3; mknod /mnt/d/disk b 7 0; echo x > /mnt/d/file; ln -s fifo /mnt/d/link",
    )?;
    let to = dir.path().display().to_string();
    let start = Instant::now();
    for name in ["fifo", "null", "disk"] {
        let failed = cp(&[&ctr_path(&container, &format!("/mnt/d/{name}")), &to]).expect(1)?;
        check(failed.err.contains("it is a "), &failed.err)?;
    }
    let done = cp(&[&ctr_path(&container, "/mnt/d"), &to]).expect(0)?;
    check(done.err.contains("it is a FIFO"), &done.err)?;
    check(done.err.contains("it is a device"), &done.err)?;
    cp(&["--strict", &ctr_path(&container, "/mnt/d"), &to]).expect(1)?;
    cp(&["-L", &ctr_path(&container, "/mnt/d/link"), &to]).expect(1)?;
    for entry in std::fs::read_dir(dir.path().join("d"))?.flatten() {
        let kind = entry.file_type()?;
        check(
            !kind.is_fifo() && !kind.is_char_device() && !kind.is_block_device(),
            entry.path().display(),
        )?;
    }
    check(start.elapsed() < Duration::from_secs(100), "a FIFO or device was opened")
}

/// A regular file in place of `/dev/null` would break a host.
fn special_destinations() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir /mnt/to /mnt/from; echo new > /mnt/from/null; ln /mnt/from/null /mnt/from/fifo
         mknod /mnt/to/null c 1 3; mkfifo /mnt/to/fifo",
    )?;
    let null = dir.path().join("null");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &null, kind, mode, rustix::fs::makedev(1, 3))?;
    let linked = dir.path().join("link");
    symlink("null", &linked)?;
    let outs = [null.display().to_string(), linked.display().to_string()];
    let ins = ["/mnt/to/null", "/mnt/to/fifo"].map(|path| ctr_path(&container, path));
    for to in outs.iter().chain(&ins) {
        let failed = cp(&[&ctr_path(&container, "/mnt/from/null"), to]).expect(1)?;
        check(failed.err.contains("not a regular file, directory or symlink"), &failed.err)?;
    }
    // In a directory tree too, and by a hard link.
    cp(&[&ctr_path(&container, "/mnt/from/."), &ctr_path(&container, "/mnt/to")]).expect(1)?;
    cp(&["--strict", &ctr_path(&container, "/mnt/from/null"), "/dev/stdout"]).expect(1)?;
    let kind = |path: &Path| path.symlink_metadata().map(|there| there.file_type());
    check(kind(&null)?.is_char_device(), "a device on the host")?;
    check(
        kind(&host_path(&container, "/mnt/to/null"))?.is_char_device(),
        "a device in the container",
    )?;
    check(kind(&host_path(&container, "/mnt/to/fifo"))?.is_fifo(), "a FIFO in the container")?;
    check(kind(Path::new("/dev/null"))?.is_char_device(), "/dev/null of the host")
}

fn endless() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let nest = "import os,sys
def nest(top, many, name='d'):
    os.mkdir(top); os.chdir(top)
    for _ in range(many): os.mkdir(name); os.chdir(name)
    open('f','w').close()
    os.chdir('/')
nest('/mnt/deep', 1500)
nest('/mnt/endless', 20000)
nest('/mnt/long', 1000, 'n' * 250)
";
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), nest)?;
    within(&container, &format!("python3 {}", file.path().display()))?;
    let to = dir.path().display().to_string();
    for (source, status) in [("/mnt/deep", 0), ("/mnt/endless", 1), ("/mnt/long", 1)] {
        for target in [to.as_str(), "-"] {
            let done = cp(&["-q", &ctr_path(&container, source), target]).expect(status)?;
            check(status == 0 || done.err.contains("nested too deeply"), &done.err)?;
        }
    }
    // A file that grows while it is read.
    within(
        &container,
        "(yes > /mnt/grow) & sleep 0.3; truncate -s 1T /mnt/holes || truncate -s 8G /mnt/holes",
    )?;
    let start = Instant::now();
    cp(&["-q", &ctr_path(&container, "/mnt/grow"), &to]).expect(0)?;
    cp(&["-q", &ctr_path(&container, "/mnt/holes"), &to]).expect(0)?;
    check(start.elapsed() < Duration::from_secs(200), "it took too long")?;
    same(dir.path().join("holes").metadata()?.blocks(), 0)
}

fn killed() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let contents = [vec![b'1'; 20_000_000], vec![b'2'; 20_000_000]];
    std::fs::write(&one, &contents[0])?;
    std::fs::write(&two, &contents[1])?;
    let target = ctr_path(&container, "/mnt/f");
    let whole = cp(&[&one.display().to_string(), &target]).expect(0)?.took;
    let copy = host_path(&container, "/mnt/f");
    let mut random = 12345u64;
    let mut completed = 0;
    for round in 0..200 {
        let source = if round % 2 == 0 { &two } else { &one };
        let mut command = cinspect(&["cp", "-q", &source.display().to_string(), &target]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // At any moment of the copy and shortly after it; now and then not at all.
        let share = (random >> 33) as f64 / f64::from(1u32 << 31);
        std::thread::sleep(whole.mul_f64(share * 1.2));
        if round % 20 != 0 {
            let _ = child.kill();
        }
        let _ = child.wait();
        let bytes = std::fs::read(&copy)?;
        check(
            contents.contains(&bytes),
            format!("round {round}: a partial file of {} bytes", bytes.len()),
        )?;
        completed += usize::from(bytes[0] == if round % 2 == 0 { b'2' } else { b'1' });
    }
    check(completed > 0, "none of them completed")?;
    // (The children of the last ones may still be exiting.)
    let clean = || {
        let _ = cp(&["-q", &one.display().to_string(), &target]);
        no_temp_files(&container, "/mnt").is_ok()
    };
    check(wait_until(clean), "temporary files are left")
}

fn hostile_streams() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
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
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    within(&container, "mkdir /mnt/to")?;
    for (kind, status) in [("up", 1), ("link", 1), ("absolute", 0), ("hard", 1), ("fifo", 0)] {
        let mut shell = Command::new("sh");
        let line = "python3 \"$1\" \"$2\" \"$3\" | \"$4\" cp - \"$5\"";
        shell.args(["-c", line, "sh"]).arg(file.path()).args([
            kind,
            &victim,
            env!("CARGO_BIN_EXE_cinspect"),
        ]);
        shell.arg(ctr_path(&container, "/mnt/to"));
        let done = finish(shell);
        same((kind, done.code), (kind, status))?;
        check(!outside.exists(), format!("{kind}: written outside: {}", done.err))?;
    }
    // An absolute path is taken relative to the directory.
    check(host_path(&container, &format!("/mnt/to{victim}")).exists(), "not below the directory")
}

/// The destination has a symlink where the source has a directory.
fn symlink_at_destination() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "mkdir -p /mnt/d/sub; echo evil > /mnt/d/sub/file")?;
    let victim = dir.path().join("victim");
    std::fs::create_dir_all(&victim)?;
    std::fs::create_dir_all(dir.path().join("to/d"))?;
    symlink(&victim, dir.path().join("to/d/sub"))?;
    let to = dir.path().join("to").display().to_string();
    let failed = cp(&[&ctr_path(&container, "/mnt/d"), &to]).expect(1)?;
    check(failed.err.contains("symlinks are not followed there"), &failed.err)?;
    check(!victim.join("file").exists(), "written through a symlink")
}

fn hanging_file_system() -> Outcome {
    let (container, dir) = (fixture("init etc-hangs")?, tempfile::tempdir()?);
    let start = Instant::now();
    let failed =
        cp(&[&ctr_path(&container, "/etc/passwd"), &dir.path().display().to_string()]).expect(1)?;
    check(failed.err.contains("did not respond"), &failed.err)?;
    check(start.elapsed() < Duration::from_secs(200), "it took too long")
}
