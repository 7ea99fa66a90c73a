//! `cp` and what a path names: slashes behind files, local names with a colon, and refusals that say what
//! is special.

use super::*;

pub fn trials() -> Vec<Trial> {
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        root("cp::a_slash_after_a_file_is_an_error", slashes),
        root("cp::hints_at_local_names_with_a_colon", colons),
        root("cp::says_that_the_working_directory_is_removed", removed_directory),
    ]
}

fn slashes() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(&container, "echo old > /mnt/f; mkdir /mnt/d; ln -s f /mnt/lf; ln -s d /mnt/ld")?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    io(std::fs::write(path("f"), "new"))?;
    io(symlink("f", path("lf")))?;
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
    same(io(std::fs::read_to_string(host_path(&container, "/mnt/f")))?.as_str(), "old\n")?;
    // A slash after a directory, or a link to one, is right.
    for to in ["d/", "d/.", "ld/", "ld/."] {
        cp(&[&path("f"), &inside(to)]).expect(0)?;
    }
    cp(&[&inside("ld/"), &path("copy")]).expect(0)?;
    check(Path::new(&path("copy/f")).is_file(), "a link to a directory is followed")
}

fn colons() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    for name in ["no:such", "2024-01-01T10:00.log", "docker:nosuch"] {
        io(std::fs::write(dir.path().join(name), "text"))?;
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
        same(io(std::fs::read_to_string(written))?.as_str(), "text")?;
        let absent = here(&["cp", &format!("{name}2"), &to]);
        check(!absent.err.contains("write `./"), &absent.err)?;
    }
    Ok(())
}

fn removed_directory() -> Outcome {
    let (container, dir) = (container()?, io(tempfile::tempdir())?);
    within(&container, "echo x > /mnt/f")?;
    let mut shell = Command::new("sh");
    let line = "mkdir gone; cd gone; rmdir ../gone; exec \"$@\"";
    shell.args(["-c", line, "sh", env!("CARGO_BIN_EXE_cinspect"), "cp"]);
    shell.arg(ctr_path(&container, "/mnt/f")).arg(".").current_dir(dir.path());
    let failed = finish(shell).expect(1)?;
    check(failed.err.contains("the directory has been removed"), &failed.err)
}
