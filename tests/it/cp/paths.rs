//! `cp` and what a path names: slashes behind files, local names with a colon, and refusals that say what
//! is special.

use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("cp::a_slash_after_a_file_is_an_error", slashes),
        root("cp::hints_at_local_names_with_a_colon", colons),
        root("cp::says_that_the_working_directory_is_removed", removed_directory),
        root("cp::says_where_links_to_pipes_lead", pipes),
        root("cp::writes_to_the_target_of_a_link_that_leads_nowhere", dangling),
        root("cp::replaces_no_fifo", fifo),
        root("cp::proc_self_is_the_containers", proc_self),
        root("cp::names_the_link_of_a_merged_usr", merged_usr),
        root("cp::goes_on_after_a_bad_member", bad_members),
        root("cp::says_that_a_file_has_the_name_of_a_pattern", pattern_or_name),
        root("cp::notes_files_with_rights_of_their_own_on_the_host", setuid_files),
        root("cp::names_what_a_target_cannot_hold", poor_targets),
    ]
}

fn slashes() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "echo old > /mnt/f; mkdir /mnt/d; ln -s f /mnt/lf; ln -s d /mnt/ld")?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("f"), "new")?;
    symlink("f", path("lf"))?;
    let inside = |name: &str| ctr_path(&container, &format!("/mnt/{name}"));
    for (from, to) in [
        (path("f"), inside("f/")),
        (path("f"), inside("f/.")),
        (path("f"), inside("f//")),
        (path("f"), inside("lf/")),
        (path("f/"), inside("x")),
        (path("f/."), inside("x")),
        (path("lf/"), inside("x")),
        (inside("f/"), path("x")),
        (inside("f/."), path("x")),
        (inside("f/./"), path("x")),
        (inside("lf/"), path("x")),
        (inside("f/"), inside("x")),
        (inside("f"), inside("lf/.")),
        (inside("f"), path("lf/")),
        (inside("f/"), "-".into()),
        (inside("d"), inside("f/")),
    ] {
        let failed = cp(&[&from, &to]).expect(1)?;
        check(failed.err.contains("Not a directory"), format!("{from} {to}: {}", failed.err))?;
    }
    for to in ["new/", "new/."] {
        cp(&[&path("f"), &inside(to)]).expect(1)?;
        cp(&[&inside("f"), &path(to)]).expect(1)?;
    }
    for written in [host_path(&container, "/mnt/x"), host_path(&container, "/mnt/new")] {
        check(!written.exists(), written.display())?;
    }
    check(!Path::new(&path("x")).exists() && !Path::new(&path("new")).exists(), "written here")?;
    same(std::fs::read_to_string(host_path(&container, "/mnt/f"))?.as_str(), "old\n")?;
    // A slash after a directory, or a link to one, is right.
    for to in ["d/", "d/.", "ld/", "ld/."] {
        cp(&[&path("f"), &inside(to)]).expect(0)?;
    }
    cp(&[&inside("ld/"), &path("copy")]).expect(0)?;
    check(Path::new(&path("copy/f")).is_file(), "a link to a directory is followed")
}

fn colons() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    for name in ["no:such", "2024-01-01T10:00.log", "docker:nosuch"] {
        std::fs::write(dir.path().join(name), "text")?;
        let to = ctr_path(&container, "/mnt/");
        let here = |arguments: &[&str]| {
            let mut command = cinspect(arguments);
            command.current_dir(dir.path());
            finish(command)
        };
        let failed = here(&["cp", name, &to]);
        check(failed.code != 0, name)?;
        check(failed.err.contains(&format!("write `./{name}`")), &failed.err)?;
        here(&["cp", &format!("./{name}"), &to]).expect(0)?;
        let written = host_path(&container, "/mnt").join(name);
        same(std::fs::read_to_string(written)?.as_str(), "text")?;
        let absent = here(&["cp", &format!("{name}2"), &to]);
        check(!absent.err.contains("write `./"), &absent.err)?;
    }
    // A destination is one that is not there yet, and a name may end with the colon.
    std::fs::create_dir(dir.path().join("no:dir"))?;
    std::fs::write(dir.path().join("end:"), "text")?;
    let from = ctr_path(&container, "/mnt/no:such");
    for (from, to, local) in [
        (&*from, "no:dir/new", "./no:dir/new"),
        ("end:", "/nowhere", "./end:"),
        (&*from, "end:", "./end:"),
    ] {
        let mut command = cinspect(&["cp", from, to]);
        command.current_dir(dir.path());
        let failed = finish(command);
        check(failed.code != 0, to)?;
        check(failed.err.contains(&format!("write `{local}`")), &failed.err)?;
    }
    Ok(())
}

fn removed_directory() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "echo x > /mnt/f")?;
    let mut shell = Command::new("sh");
    let line = "mkdir gone; cd gone; rmdir ../gone; exec \"$@\"";
    shell.args(["-c", line, "sh", env!("CARGO_BIN_EXE_cinspect"), "cp"]);
    shell.arg(ctr_path(&container, "/mnt/f")).arg(".").current_dir(dir.path());
    let failed = finish(shell).expect(1)?;
    check(failed.err.contains("the directory has been removed"), &failed.err)
}

/// Links to a pipe of a process, as logs are in many images.
fn pipes() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir /mnt/l; echo real > /mnt/l/r.log
         sh -c 'echo $$ > /mnt/pid; exec sleep 1000' 2>/dev/null | sleep 1000 >/dev/null 2>&1 &
         while ! [ -s /mnt/pid ]; do sleep 0.05; done
         ln -s /proc/$(cat /mnt/pid)/fd/1 /mnt/l/a.log; ln -s a.log /mnt/l/b.log",
    )?;
    let to = dir.path().display().to_string();
    for name in ["a.log", "b.log"] {
        let failed =
            cp(&["-L", &ctr_path(&container, &format!("/mnt/l/{name}")), &to]).expect(1)?;
        check(failed.err.contains("it leads to `/proc/"), &failed.err)?;
        check(failed.err.contains("a pipe"), &failed.err)?;
        check(!failed.err.contains("exists, but has no"), &failed.err)?;
        let to = ctr_path(&container, &format!("/mnt/l/{name}"));
        let failed = cp(&[&ctr_path(&container, "/mnt/l/r.log"), &to]).expect(1)?;
        check(failed.err.contains("it leads to `/proc/"), &failed.err)?;
        check(failed.err.contains("a pipe"), &failed.err)?;
    }
    let done = cp(&["-L", &ctr_path(&container, "/mnt/l"), &to]).expect(0)?;
    check(done.err.contains(".log`: it leads to `/proc/"), &done.err)?;
    same(std::fs::read_to_string(dir.path().join("l/r.log"))?.as_str(), "real\n")?;
    check(!dir.path().join("l/a.log").exists(), "a pipe was copied")?;
    let failed = cp(&["-L", "--strict", &ctr_path(&container, "/mnt/l"), &to]).expect(1)?;
    check(failed.err.contains("it leads to"), &failed.err)?;
    // Without -L they are links.
    cp(&[&ctr_path(&container, "/mnt/l"), &dir.path().join("links").display().to_string()])
        .expect(0)?;
    check(dir.path().join("links/a.log").symlink_metadata()?.is_symlink(), "a link")
}

/// As docker cp: the file is made where the link leads.
fn dangling() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "ln -s made /mnt/l; ln -s gone/x /mnt/far; mkdir /mnt/d")?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let inside = |name: &str| ctr_path(&container, &format!("/mnt/{name}"));
    std::fs::write(path("f"), "new")?;
    symlink("made", path("l"))?;
    symlink("gone/x", path("far"))?;
    cp(&[&path("f"), &inside("l")]).expect(0)?;
    cp(&[&inside("made"), &path("l")]).expect(0)?;
    for made in [path("made"), host_path(&container, "/mnt/made").display().to_string()] {
        same(std::fs::read_to_string(made)?.as_str(), "new")?;
    }
    for words in [
        &[&*path("f"), &inside("far")][..],
        &["-L", &inside("far"), &path("x")],
        &["-L", &path("far"), &inside("x")],
    ] {
        let failed = cp(words).expect(1)?;
        let hint = "far` is a symlink to `gone/x`, which does not exist";
        check(failed.err.contains(hint), format!("{words:?}: {}", failed.err))?;
    }
    Ok(())
}

fn fifo() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "mkfifo /mnt/p")?;
    let file = dir.path().join("f").display().to_string();
    std::fs::write(&file, "new")?;
    let failed = cp(&[&file, &ctr_path(&container, "/mnt/p")]).expect(1)?;
    check(
        failed.err.contains("hint: a device, FIFO or socket has that name: give another one"),
        failed.err,
    )
}

/// `/proc/self` is the process that the container was entered by, never cinspect.
fn proc_self() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let init = |file: &str| std::fs::read(format!("/proc/{}/{file}", container.init));
    for (path, file) in [
        ("/proc/self/comm", "comm"),
        ("/proc/self/cmdline", "cmdline"),
        ("/proc/thread-self/comm", "comm"),
        ("/proc/self/task/../comm", "comm"),
    ] {
        let to = dir.path().join("out");
        cp(&[&ctr_path(&container, path), &to.display().to_string()]).expect(0)?;
        same(std::fs::read(&to)?, init(file)?)?;
    }
    Ok(())
}

/// The destination has a symlink to a directory where the source has a directory: it is named with the
/// path that works, and never to be removed.
fn merged_usr() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir -p /mnt/usr/lib /mnt/etc; ln -s usr/lib /mnt/lib; ln -s etc/no /mnt/x",
    )?;
    for name in ["lib/f", "etc/g", "x/h"] {
        let path = dir.path().join("r").join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(&path, name)?;
    }
    let (top, to) = (dir.path().join("r"), ctr_path(&container, "/mnt"));
    let stream = || {
        let mut shell = Command::new("sh");
        let line = "tar -C \"$1\" -c . | \"$2\" cp - \"$3\"";
        shell.args(["-c", line, "sh"]).arg(&top).args([env!("CARGO_BIN_EXE_cinspect"), &to]);
        finish(shell)
    };
    let directory = || cp(&[&format!("{}/.", top.display()), &to]);
    for copy in [&directory as &dyn Fn() -> Run, &stream] {
        within(&container, "rm -f /mnt/etc/g")?;
        let failed = copy().expect(1)?;
        for words in ["`/mnt/lib` is a symlink (to `usr/lib`)", &format!("give `{to}/usr/lib/`")] {
            check(failed.err.contains(words), &failed.err)?;
        }
        let advice: Vec<&str> = failed.err.lines().filter(|line| line.contains("remove")).collect();
        check(failed.err.contains("`/mnt/x` is a symlink (to `etc/no`)"), &failed.err)?;
        check(advice.iter().all(|line| !line.contains("lib")), &failed.err)?;
        // The rest is copied, and the links are as they were.
        same(std::fs::read_to_string(host_path(&container, "/mnt/etc/g"))?.as_str(), "etc/g")?;
        within(&container, "[ \"$(readlink /mnt/lib)\" = usr/lib ] && ! [ -e /mnt/usr/lib/f ]")?;
    }
    let lib = top.join("lib").display().to_string();
    cp(&[&format!("{lib}/."), &ctr_path(&container, "/mnt/usr/lib/")]).expect(0)?;
    within(&container, "[ -e /mnt/lib/f ]")
}

/// One member that cannot be copied does not end a tree: it is named, the rest is copied, status 1.
fn bad_members() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir -p /mnt/to/d/sub /mnt/to/d/file /mnt/to/ro; mount -t tmpfs -o ro none /mnt/to/ro
         mkfifo /mnt/to/d/a; chattr +i /mnt/to/d/sub 2>/dev/null; true",
    )?;
    let top = dir.path().join("from");
    for (name, text) in [("d/a", "a"), ("d/file", "f"), ("d/z", "z"), ("ro/x", "x"), ("z", "z")] {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(&path, text)?;
    }
    let to = ctr_path(&container, "/mnt/to");
    let failed = cp(&[&format!("{}/.", top.display()), &to]).expect(1)?;
    for words in ["d/a`: not a regular file", "d/file`: Is a directory", "ro/x`: Read-only"] {
        check(failed.err.contains(words), &failed.err)?;
    }
    check(failed.out.contains("copied to"), &failed.out)?;
    for written in ["d/z", "z"] {
        let path = host_path(&container, "/mnt/to").join(written);
        same(std::fs::read_to_string(path)?.as_str(), "z")?;
    }
    // Nothing is printed twice, and -q prints errors only.
    same(failed.err.matches("d/a`").count(), 1)?;
    let quiet = cp(&["-q", &format!("{}/.", top.display()), &to]).expect(1)?;
    check(quiet.err.contains("d/a`") && quiet.out.is_empty(), &quiet.err)?;
    // Several sources: the others are copied.
    let source = |name: &str| top.join(name).display().to_string();
    let failed = cp(&[&source("d/z"), &source("missing"), &source("z"), &to]).expect(1)?;
    check(failed.err.contains("missing`: No such file"), &failed.err)?;
    // Out of the container, as a stream too.
    within(&container, "mkdir /mnt/loop; cd /mnt/loop; ln -s l1 l2; ln -s l2 l1; echo y > y")?;
    let out = dir.path().join("out").display().to_string();
    let failed = cp(&["-L", &ctr_path(&container, "/mnt/loop"), &out]).expect(1)?;
    check(failed.err.contains("Too many symbolic links"), &failed.err)?;
    same(std::fs::read_to_string(dir.path().join("out/y"))?.as_str(), "y\n")?;
    let failed = cp(&["-L", &ctr_path(&container, "/mnt/loop"), "-"]).expect(1)?;
    check(failed.out.contains("loop/y"), "the rest is in the stream")?;
    let failed = cp(&["--strict", "-L", &ctr_path(&container, "/mnt/loop"), &out]).expect(1)?;
    check(!failed.out.contains("copied"), &failed.out)
}

/// A file named `*` is one file, whatever a pattern would match: which is said.
fn pattern_or_name() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "mkdir /mnt/n; cd /mnt/n; echo x | tee a b '*' > '[a]'")?;
    let to = dir.path().display().to_string();
    let refused = cp(&["-q", &ctr_path(&container, "/mnt/n/[a-b]"), "-"]).expect(1)?;
    check(refused.err.contains("patterns are not expanded for a tar stream"), refused.err)?;
    for (pattern, others) in [("*", "3 more"), ("[a]", "1 more")] {
        let path = ctr_path(&container, &format!("/mnt/n/{pattern}"));
        let done = cp(&[&path, &to]).expect(0)?;
        check(done.err.contains("is the name of a file, which alone is copied"), &done.err)?;
        check(done.err.contains(others), &done.err)?;
        cp(&["--strict", &path, &to]).expect(1)?;
    }
    within(&container, "rm '/mnt/n/[a]'")?;
    let done = cp(&[&ctr_path(&container, "/mnt/n/[a]"), &to]).expect(0)?;
    same(done.err.as_str(), "")
}

fn setuid_files() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(&container, "mkdir /mnt/p; cd /mnt/p; touch a b c; chmod 4755 a; chmod 2755 b")?;
    let to = dir.path().join("p").display().to_string();
    let done = cp(&["-a", "--strict", &ctr_path(&container, "/mnt/p"), &to]).expect(0)?;
    check(done.err.contains("and 1 more are on the host now with setuid"), &done.err)?;
    let source = ctr_path(&container, "/mnt/p");
    for arguments in [&["-q", "-a"][..], &[]] {
        let line = [arguments, &[&source, &to]].concat();
        check(!cp(&line).expect(0)?.err.contains("setuid"), "a note")?;
    }
    cp(&["-a", &to, &ctr_path(&container, "/mnt/q")])
        .expect(0)
        .and_then(|done| check(!done.err.contains("setuid"), "a note about the container"))
}

/// A file system without symlinks and owners, as strace(1) makes it of any: what it cannot
/// hold is named, and the rest is copied.
fn poor_targets() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    within(
        &container,
        "mkdir -p /mnt/m/sub; cd /mnt/m; echo a > a; ln -s a link; echo o > own
         chown 33:33 own; chmod 4755 own; echo z > sub/z",
    )?;
    for (index, (symlink, words)) in [
        ("ENOSYS", "does not support symlinks"),
        ("EPERM", "does not support symlinks"),
        ("EOPNOTSUPP", "does not support symlinks"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = dir.path().join(format!("to{index}"));
        let mut traced = Command::new("strace");
        traced.args(["-f", "-o", "/dev/null", "-e", "trace=symlinkat,fchown"]);
        traced.args(["-e", &format!("inject=symlinkat:error={symlink}")]);
        traced.args(["-e", "inject=fchown:error=EPERM"]);
        traced.args([env!("CARGO_BIN_EXE_cinspect"), "cp", "-a"]);
        traced.arg(ctr_path(&container, "/mnt/m")).arg(&to);
        let failed = finish(traced).expect(1)?;
        check(failed.err.contains("m/link`: ") && failed.err.contains(words), &failed.err)?;
        check(failed.err.contains("cannot keep its owner"), &failed.err)?;
        for (name, text) in [("a", "a\n"), ("own", "o\n"), ("sub/z", "z\n")] {
            same(std::fs::read_to_string(to.join(name))?.as_str(), text)?;
        }
        // Without its owner a program does not run as another user.
        same(to.join("own").metadata()?.mode() & 0o7777, 0o755)?;
    }
    Ok(())
}
