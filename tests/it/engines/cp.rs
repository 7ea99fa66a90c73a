//! `cp` with the containers of every engine; on Docker, each rule compared with `docker cp`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Engine;
use crate::cp::listing;
use crate::harness::PATIENCE;
use crate::support::{Outcome, check, finish, run, same, wait_until};

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A tree is copied in and out again; new files belong to the init's user, or to the given owner.
pub fn round_trip(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, tempfile::tempdir()?);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    std::fs::create_dir_all(source.join("directory/empty"))?;
    std::fs::write(source.join("directory/file"), "text")?;
    std::fs::write(source.join("b\u{1b}[31mad\n"), "strange")?;
    std::os::unix::fs::symlink("directory/file", source.join("link"))?;
    std::fs::hard_link(source.join("directory/file"), source.join("again"))?;
    run(&["cp", &text(&source), &format!("{name}:/tmp/tree")]).expect(0)?;
    let file = run(&["exec", &name, "--", "stat", "-c", "%u:%g %a", "/tmp/tree/directory/file"])
        .expect(0)?;
    let init = run(&["exec", &name, "--", "sh", "-c", "echo $(id -u):$(id -g)"]).expect(0)?;
    same(file.out.trim(), format!("{} 644", init.out.trim()).as_str())?;
    run(&["cp", &format!("{name}:/tmp/tree"), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&source)?)?;
    run(&["cp", &text(&source.join("directory/file")), &format!("{name}:/tmp/tree/link")])
        .expect(0)?;
    // A mount of the container.
    let shm = run(&["exec", &name, "--", "sh", "-c", "test -d /dev/shm"]);
    if shm.code == 0 {
        run(&["cp", &text(&source.join("directory/file")), &format!("{name}:/dev/shm/f")])
            .expect(0)?;
        same(run(&["exec", &name, "cat", "/dev/shm/f"]).expect(0)?.out.as_str(), "text")?;
    }
    // A container with more than one user.
    let map = run(&["exec", &name, "cat", "/proc/self/uid_map"]).expect(0)?.out;
    let users: u64 =
        map.split_whitespace().skip(2).step_by(3).filter_map(|n| n.parse::<u64>().ok()).sum();
    if users > 1000 {
        let file = text(&source.join("directory/file"));
        run(&["cp", "--chown", "web:web", &file, &format!("{name}:/tmp/webs")]).expect(0)?;
        let owner = run(&["exec", &name, "--", "stat", "-c", "%U", "/tmp/webs"]).expect(0)?;
        same(owner.out.trim(), "web")?;
    }
    Ok(())
}

/// A program is replaced while it runs: it keeps running, and the next start is the new one. The error for
/// a container that has stopped has a hint.
pub fn replaced(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, tempfile::tempdir()?);
    let app = dir.path().join("dockerapp1");
    let build = |word: &str| -> Outcome {
        let source = dir.path().join("app.c");
        let text = format!(
            "#include <stdio.h>\n#include <unistd.h>\nint main(void){{puts(\"{word}\");fflush(stdout);sleep(600);return 0;}}"
        );
        std::fs::write(&source, text)?;
        let mut cc = Command::new("cc");
        cc.args(["-static", "-o"]).arg(&app).arg(&source);
        finish(cc).expect(0).map(drop)
    };
    let target = format!("{name}:/dockerapp1");
    build("one")?;
    run(&["cp", &text(&app), &target]).expect(0)?;
    run(&["exec", "-d", &name, "--", "sh", "-c", "/dockerapp1 > /tmp/output"]).expect(0)?;
    let prints =
        |word: &str| wait_until(|| run(&["exec", &name, "cat", "/tmp/output"]).out.trim() == word);
    check(prints("one"), "it does not run")?;
    build("two")?;
    // (`docker cp` would write into the running file, or fail.)
    run(&["cp", &text(&app), &target]).expect(0)?;
    let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
    check(
        rows.iter().any(|row| row["comm"] == serde_json::json!("dockerapp1")),
        "the old program is gone",
    )?;
    run(&["signal", &name, "KILL", "--comm", "dockerapp1"]).expect(0)?;
    run(&["exec", "-d", &name, "--", "sh", "-c", "/dockerapp1 > /tmp/output"]).expect(0)?;
    check(prints("two"), "the new program does not run")?;
    engine.script(&["stop", &engine.container])?;
    let failed = run(&["cp", &text(&app), &target]).expect(3)?;
    check(failed.err.contains("docker start") && failed.err.contains("docker cp"), &failed.err)
}

/// Returns the sources that are copied to a target. Not each of them to each: a copy of Docker's takes
/// long.
fn sources_for(target: &str) -> &'static [&'static str] {
    match target {
        "new" | "existing" => &[
            "file",
            "file/",
            "file/.",
            "directory",
            "directory/",
            "directory/.",
            "directory/..",
            "link",
            "link/",
            "missing",
            "missing/",
        ],
        "target/" | "target/." | "link" | "link/" => &["file", "directory", "directory/."],
        _ => &["file", "directory", "directory/", "directory/.", "link", "missing"],
    }
}

/// Each source is copied to each destination, by cinspect and by `docker cp`, in separate directories.
pub fn table(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, tempfile::tempdir()?);
    std::fs::write(dir.path().join("file"), "file")?;
    std::fs::create_dir_all(dir.path().join("directory/sub"))?;
    std::fs::write(dir.path().join("directory/sub/x"), "x")?;
    std::os::unix::fs::symlink("file", dir.path().join("link"))?;
    let root = PathBuf::from(format!("/proc/{}/root", engine.init()?));
    let make = |top: &Path| -> Outcome {
        std::fs::create_dir_all(top.join("existing/in"))?;
        std::fs::write(top.join("target"), "old")?;
        std::fs::write(top.join("existing/in/old"), "old")?;
        std::os::unix::fs::symlink("existing", top.join("link"))?;
        std::fs::create_dir_all(top.join("from/directory/sub"))?;
        std::fs::write(top.join("from/file"), "file")?;
        Ok(std::fs::write(top.join("from/directory/sub/x"), "x")?)
    };
    let docker = |from: &str, to: &str| {
        let socket = std::env::var("CINSPECT_TEST_DIR").unwrap_or("/run/cinspect-test".into());
        let mut command = Command::new("/usr/bin/docker");
        command.args(["-H", &format!("unix://{socket}/docker/docker.sock"), "cp", from, to]);
        finish({
            command.stdin(Stdio::null());
            command
        })
    };
    // Without the number of names and the time.
    let comparable = |lines: Vec<String>| -> Vec<String> {
        let cut = |line: String| line.split(" names").next().unwrap_or_default().to_owned();
        lines.into_iter().map(cut).collect()
    };
    let targets = [
        "new",
        "new/",
        "target",
        "existing",
        "existing/",
        "existing/new",
        "nowhere/new",
        "existing/.",
        "new/.",
        "target/",
        "target/.",
        "link",
        "link/",
    ];
    let mut differences = Vec::new();
    let mut index = 0;
    for target in targets {
        for source in sources_for(target).iter().copied() {
            // Into the container.
            index += 1;
            let (ours_dir, docker_dir) = (format!("/tmp/o{index}"), format!("/tmp/d{index}"));
            let in_container = |path: &str| root.join(path.trim_start_matches('/'));
            make(&in_container(&ours_dir))?;
            make(&in_container(&docker_dir))?;
            let from = format!("{}/{source}", text(dir.path()));
            let ours = run(&["cp", &from, &format!("{name}:{ours_dir}/{target}")]);
            let dockers = docker(&from, &format!("{}:{docker_dir}/{target}", engine.container));
            let (a, b) = (
                comparable(listing(&in_container(&ours_dir))?),
                comparable(listing(&in_container(&docker_dir))?),
            );
            if (ours.code == 0, &a) != (dockers.code == 0, &b) {
                differences.push(format!(
                    "in {source} to {target}: {} {a:?} {}, Docker {} {b:?} {}",
                    ours.code, ours.err, dockers.code, dockers.err
                ));
            }
            // Out of the container.
            // (For the last, docker takes the link for a file that it would overwrite.)
            if source.starts_with("link") || (source, target) == ("directory/.", "link/") {
                continue;
            }
            let (ours_dir_out, docker_dir_out) =
                (dir.path().join(format!("o{index}")), dir.path().join(format!("d{index}")));
            make(&ours_dir_out)?;
            make(&docker_dir_out)?;
            let ours = run(&[
                "cp",
                &format!("{name}:{ours_dir}/from/{source}"),
                &format!("{}/{target}", text(&ours_dir_out)),
            ]);
            let dockers = docker(
                &format!("{}:{docker_dir}/from/{source}", engine.container),
                &format!("{}/{target}", text(&docker_dir_out)),
            );
            let (a, b) =
                (comparable(listing(&ours_dir_out)?), comparable(listing(&docker_dir_out)?));
            if (ours.code == 0, &a) != (dockers.code == 0, &b) {
                differences.push(format!(
                    "out {source} to {target}: {} {a:?} {}, Docker {} {b:?} {}",
                    ours.code, ours.err, dockers.code, dockers.err
                ));
            }
        }
    }
    check(differences.is_empty(), differences.join("\n"))
}

/// A stream of one is unpacked by the other.
pub fn streams(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let root = PathBuf::from(format!("/proc/{}/root/tmp", engine.init()?));
    let socket = std::env::var("CINSPECT_TEST_DIR").unwrap_or("/run/cinspect-test".into());
    let shell = |line: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", line]).stdin(Stdio::null());
        shell.env("C", env!("CARGO_BIN_EXE_cinspect")).env("CTR", &name).env("R", &root);
        shell.env("D", format!("/usr/bin/docker -H unix://{socket}/docker/docker.sock"));
        finish({
            shell.env("N", &engine.container);
            shell
        })
    };
    // (Docker's times have no fraction.)
    shell(
        "cd $R && mkdir -p st/sub/empty by_docker by_cp && echo text >st/file && ln st/file st/sub/again && ln -s file st/link
         head -c 300000 /dev/urandom >st/sub/random; chmod 4751 st/sub/random; chmod 1777 st/sub/empty
         touch \"st/$(printf '%0200d' 1)\"; touch -h -d @1000000000 st/* st/sub/* st/sub st",
    )
    .expect(0)?;
    let original = listing(&root.join("st"))?;
    shell("$D cp -a $N:/tmp/st - | $C cp -a --strict - $CTR:/tmp/by_cp").expect(0)?;
    same(listing(&root.join("by_cp/st"))?, original.clone())?;
    shell("$C cp -a --strict $CTR:/tmp/st - | $D cp -a - $N:/tmp/by_docker").expect(0)?;
    same(listing(&root.join("by_docker/st"))?, original)
}

/// A directory is swapped with a symlink to a host directory all the time: nothing is read or written on the
/// host.
pub fn race(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, tempfile::tempdir()?);
    let outside = dir.path().join("outside");
    std::fs::create_dir_all(&outside)?;
    std::fs::write(outside.join("secret"), "on the host")?;
    let root = PathBuf::from(format!("/proc/{}/root/tmp", engine.init()?));
    std::fs::create_dir_all(root.join("swap"))?;
    std::fs::write(root.join("swap/secret"), "in the container")?;
    std::os::unix::fs::symlink(&outside, root.join("other"))?;
    let (is_over, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mine = dir.path().join("mine");
    std::fs::write(&mine, "mine")?;
    let seconds =
        std::env::var("CINSPECT_TEST_RACE").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = std::fs::File::open(&root).ok()?;
            while !is_over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&directory, "swap", &directory, "other", flags).ok()?;
                swaps.fetch_add(1, Ordering::Relaxed);
            }
            Some(())
        });
        let copy = || -> Outcome {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            let (mut reads, mut writes) = (0, 0);
            let mut is_enough = false;
            while Instant::now() < deadline || !is_enough {
                check(Instant::now() < deadline + PATIENCE, "too few copies or swaps")?;
                let out = dir.path().join("out");
                let _ = std::fs::remove_file(&out);
                let read = run(&["cp", &format!("{name}:/tmp/swap/secret"), &text(&out)]);
                if read.code == 0 {
                    reads += 1;
                    same(std::fs::read_to_string(&out)?.as_str(), "in the container")?;
                }
                writes += usize::from(
                    run(&["cp", &text(&mine), &format!("{name}:/tmp/swap/new")]).code == 0,
                );
                check(!outside.join("new").exists(), "written on the host")?;
                is_enough = reads > 5 && writes > 5 && swaps.load(Ordering::Relaxed) > 1000;
            }
            Ok(())
        };
        let outcome = copy();
        is_over.store(true, Ordering::Relaxed);
        outcome
    });
    outcome?;
    let names: Vec<_> =
        std::fs::read_dir(&outside)?.flatten().map(|entry| entry.file_name()).collect();
    same(names.len(), 1)
}
