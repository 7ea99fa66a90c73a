//! `cp` with the containers of every engine; and, on Docker, cell by cell beside its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::Engine;
use crate::cp::listing;
use crate::support::{Outcome, check, finish, run, same, wait_until};

fn io<T>(done: std::io::Result<T>) -> Result<T, Failed> {
    done.map_err(|error| error.to_string().into())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A tree in and out again; the owner inside is the init's user, or who was asked for.
pub fn round_trip(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, io(tempfile::tempdir())?);
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    io(std::fs::create_dir_all(there.join("folder/empty")))?;
    io(std::fs::write(there.join("folder/file"), "text"))?;
    io(std::fs::write(there.join("b\u{1b}[31mad\n"), "strange"))?;
    io(std::os::unix::fs::symlink("folder/file", there.join("link")))?;
    io(std::fs::hard_link(there.join("folder/file"), there.join("again")))?;
    run(&["cp", &text(&there), &format!("{name}:/tmp/tree")]).expect(0)?;
    let inside =
        run(&["exec", &name, "--", "stat", "-c", "%u:%g %a", "/tmp/tree/folder/file"]).expect(0)?;
    let own = run(&["exec", &name, "--", "sh", "-c", "echo $(id -u):$(id -g)"]).expect(0)?;
    same(inside.out.trim(), format!("{} 644", own.out.trim()).as_str())?;
    run(&["cp", &format!("{name}:/tmp/tree"), &text(&back)]).expect(0)?;
    same(listing(&back)?, listing(&there)?)?;
    run(&["cp", &text(&there.join("folder/file")), &format!("{name}:/tmp/tree/link")]).expect(0)?;
    // As the container sees it: what a process of its own mounts.
    let shm = run(&["exec", &name, "--", "sh", "-c", "test -d /dev/shm"]);
    if shm.code == 0 {
        run(&["cp", &text(&there.join("folder/file")), &format!("{name}:/dev/shm/f")]).expect(0)?;
        same(run(&["exec", &name, "cat", "/dev/shm/f"]).expect(0)?.out.as_str(), "text")?;
    }
    // One that has more users than one.
    let map = run(&["exec", &name, "cat", "/proc/self/uid_map"]).expect(0)?.out;
    let users: u64 =
        map.split_whitespace().skip(2).step_by(3).filter_map(|n| n.parse::<u64>().ok()).sum();
    if users > 1000 {
        let file = text(&there.join("folder/file"));
        run(&["cp", "--chown", "web:web", &file, &format!("{name}:/tmp/webs")]).expect(0)?;
        let owner = run(&["exec", &name, "--", "stat", "-c", "%U", "/tmp/webs"]).expect(0)?;
        same(owner.out.trim(), "web")?;
    }
    Ok(())
}

/// The article's program is exchanged while it runs, and runs on; what is started then is the new one.
/// A container that has ended says what would work.
pub fn replaced(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, io(tempfile::tempdir())?);
    let app = dir.path().join("dockerapp1");
    let program = |says: &str| -> Outcome {
        let source = dir.path().join("app.c");
        let text = format!(
            "#include <stdio.h>\n#include <unistd.h>\nint main(void){{puts(\"{says}\");fflush(stdout);sleep(600);return 0;}}"
        );
        io(std::fs::write(&source, text))?;
        let mut cc = Command::new("cc");
        cc.args(["-static", "-o"]).arg(&app).arg(&source);
        finish(cc).expect(0).map(drop)
    };
    let target = format!("{name}:/dockerapp1");
    program("one")?;
    run(&["cp", &text(&app), &target]).expect(0)?;
    run(&["exec", "-d", &name, "--", "sh", "-c", "/dockerapp1 > /tmp/says"]).expect(0)?;
    let says = |wanted: &str| {
        wait_until(|| run(&["exec", &name, "cat", "/tmp/says"]).out.trim() == wanted)
    };
    check(says("one"), "it does not run")?;
    program("two")?;
    // (Its own engine's way writes into the file that runs, or not at all.)
    run(&["cp", &text(&app), &target]).expect(0)?;
    let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
    check(rows.iter().any(|row| row["comm"] == serde_json::json!("dockerapp1")), "it runs on")?;
    run(&["signal", &name, "KILL", "--comm", "dockerapp1"]).expect(0)?;
    run(&["exec", "-d", &name, "--", "sh", "-c", "/dockerapp1 > /tmp/says"]).expect(0)?;
    check(says("two"), "the new one does not run")?;
    engine.script(&["stop", &engine.container])?;
    let failed = run(&["cp", &text(&app), &target]).expect(3)?;
    check(failed.err.contains("docker start") && failed.err.contains("docker cp"), &failed.err)
}

/// Each source with each target, ours and Docker's own, in folders of their own.
pub fn table(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, io(tempfile::tempdir())?);
    io(std::fs::write(dir.path().join("file"), "file"))?;
    io(std::fs::create_dir_all(dir.path().join("folder/sub")))?;
    io(std::fs::write(dir.path().join("folder/sub/x"), "x"))?;
    io(std::os::unix::fs::symlink("file", dir.path().join("link")))?;
    let root = PathBuf::from(format!("/proc/{}/root", engine.init()?));
    let make = |top: &Path| -> Outcome {
        io(std::fs::create_dir_all(top.join("there/in")))?;
        io(std::fs::write(top.join("target"), "old"))?;
        io(std::fs::write(top.join("there/in/old"), "old"))?;
        io(std::fs::create_dir_all(top.join("from/folder/sub")))?;
        io(std::fs::write(top.join("from/file"), "file"))?;
        io(std::fs::write(top.join("from/folder/sub/x"), "x"))
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
    let plain = |lines: Vec<String>| -> Vec<String> {
        let cut = |line: String| line.split(" names").next().unwrap_or_default().to_owned();
        lines.into_iter().map(cut).collect()
    };
    let targets =
        ["new", "new/", "target", "there", "there/", "there/new", "nowhere/new", "there/."];
    let mut wrong = Vec::new();
    let mut at = 0;
    for target in targets {
        for source in ["file", "folder", "folder/", "folder/.", "link", "missing"] {
            // In.
            at += 1;
            let (own, theirs) = (format!("/tmp/o{at}"), format!("/tmp/d{at}"));
            let inside = |path: &str| root.join(path.trim_start_matches('/'));
            make(&inside(&own))?;
            make(&inside(&theirs))?;
            let from = format!("{}/{source}", text(dir.path()));
            let ours = run(&["cp", &from, &format!("{name}:{own}/{target}")]);
            let dockers = docker(&from, &format!("{}:{theirs}/{target}", engine.container));
            let (a, b) = (plain(listing(&inside(&own))?), plain(listing(&inside(&theirs))?));
            if (ours.code == 0, &a) != (dockers.code == 0, &b) {
                wrong.push(format!(
                    "in {source} to {target}: {} {a:?} {}, Docker {} {b:?} {}",
                    ours.code, ours.err, dockers.code, dockers.err
                ));
            }
            // And out.
            if source == "link" {
                continue;
            }
            let (one, two) = (dir.path().join(format!("o{at}")), dir.path().join(format!("d{at}")));
            make(&one)?;
            make(&two)?;
            let ours = run(&[
                "cp",
                &format!("{name}:{own}/from/{source}"),
                &format!("{}/{target}", text(&one)),
            ]);
            let dockers = docker(
                &format!("{}:{theirs}/from/{source}", engine.container),
                &format!("{}/{target}", text(&two)),
            );
            let (a, b) = (plain(listing(&one)?), plain(listing(&two)?));
            if (ours.code == 0, &a) != (dockers.code == 0, &b) {
                wrong.push(format!(
                    "out {source} to {target}: {} {a:?} {}, Docker {} {b:?} {}",
                    ours.code, ours.err, dockers.code, dockers.err
                ));
            }
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Somebody swaps a folder with a link to a folder of the host all the time: nothing is read there,
/// nothing written.
pub fn race(engine: &Engine) -> Outcome {
    let (name, dir) = (engine.qualified()?, io(tempfile::tempdir())?);
    let outside = dir.path().join("outside");
    io(std::fs::create_dir_all(&outside))?;
    io(std::fs::write(outside.join("secret"), "of the host"))?;
    let root = PathBuf::from(format!("/proc/{}/root/tmp", engine.init()?));
    io(std::fs::create_dir_all(root.join("swap")))?;
    io(std::fs::write(root.join("swap/secret"), "inside"))?;
    io(std::os::unix::fs::symlink(&outside, root.join("other")))?;
    let (over, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mine = dir.path().join("mine");
    io(std::fs::write(&mine, "mine"))?;
    let seconds =
        std::env::var("CINSPECT_TEST_RACE").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let folder = std::fs::File::open(&root).ok()?;
            while !over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&folder, "swap", &folder, "other", flags).ok()?;
                swaps.fetch_add(1, Ordering::Relaxed);
            }
            Some(())
        });
        let work = || -> Outcome {
            let until = Instant::now() + Duration::from_secs(seconds);
            let (mut got, mut put) = (0, 0);
            while Instant::now() < until {
                let out = dir.path().join("out");
                let _ = std::fs::remove_file(&out);
                let read = run(&["cp", &format!("{name}:/tmp/swap/secret"), &text(&out)]);
                if read.code == 0 {
                    got += 1;
                    same(io(std::fs::read_to_string(&out))?.as_str(), "inside")?;
                }
                put += usize::from(
                    run(&["cp", &text(&mine), &format!("{name}:/tmp/swap/new")]).code == 0,
                );
                check(!outside.join("new").exists(), "written on the host")?;
            }
            check(got > 5 && put > 5, format!("it went through {got} and {put} times alone"))
        };
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        outcome
    });
    outcome?;
    let many = swaps.load(Ordering::Relaxed);
    check(many > 1000, format!("{many} swaps"))?;
    let names: Vec<_> =
        io(std::fs::read_dir(&outside))?.flatten().map(|entry| entry.file_name()).collect();
    same(names.len(), 1)
}
