//! `cp` out of containers that are not running: the same as while they ran, and as the engine's own `cp`.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::json;

use super::Engine;
use crate::support::{Outcome, check, finish, run, same, wait_until};

/// Deletes a file and a directory of the image, makes that directory again, and files of many kinds.
const CHANGE: &str = "rm /etc/group; rm -r /var; mkdir /var; echo new > /var/new
    mkdir -p /tree/d; echo a > /tree/a; ln /tree/a /tree/d/again; ln -s /etc/passwd /tree/absolute
    ln -s ../.. /tree/d/up; echo s > /tree/d/setuid; chown 5:6 /tree/d/setuid; chmod 4755 /tree/d/setuid
    chmod 711 /tree/d; truncate -s 300000 /tree/holes; echo x >> /tree/holes; echo v > /vol/v
    touch -d '2001-02-03 04:05:06' /tree/a";
/// (`/etc` has what the engine mounts, which each copy of its own makes again.)
const TREES: [&str; 2] = ["tree", "var"];

/// Lists a directory: path, mode, owner, names, seconds and content of each file in it.
fn listing(top: &Path) -> Result<Vec<String>, Failed> {
    let (mut lines, mut directories) = (Vec::new(), vec![top.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            let content = if meta.is_dir() {
                directories.push(path.clone());
                OsString::new()
            } else if meta.is_symlink() {
                path.read_link()?.into()
            } else {
                let bytes = std::fs::read(&path)?;
                let sum = bytes.iter().fold(7u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b));
                format!("{} {sum} {}", bytes.len(), meta.nlink()).into()
            };
            let name = path.strip_prefix(top).unwrap_or(&path).display();
            let time = if meta.is_symlink() { 0 } else { meta.mtime() };
            lines.push(format!(
                "{name} {:o} {}:{} {time} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                content.display()
            ));
        }
    }
    lines.sort();
    Ok(lines)
}

/// Returns the lines without owner and time: the engines' own copies are the caller's, and Podman rounds
/// times to seconds.
fn comparable(lines: Vec<String>) -> Vec<String> {
    let cut = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        [&words[..2], &words[4..]].concat().join(" ")
    };
    lines.into_iter().map(cut).collect()
}

fn xattr(path: &Path) -> Vec<u8> {
    let mut value = vec![0u8; 64];
    let length = rustix::fs::lgetxattr(path, "user.note", value.as_mut_slice()).unwrap_or(0);
    value.truncate(length);
    value
}

fn mounts() -> Result<Vec<String>, Failed> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().map(str::to_owned).collect())
}

pub fn same_as_running(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-disk", engine.name);
    let volume = format!("{container}-vol");
    let _ = engine.script(&["rm", container]);
    let options = format!("-v {volume}:/vol");
    let trap = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    engine.script_with(&options, &["run", container, "--", "sh", "-c", trap])?;
    let outcome = copies(engine, container);
    let _ = engine.script(&["rm", container]);
    let _ = engine.client(&["volume", "rm", &volume]);
    outcome
}

fn copies(engine: &Engine, container: &str) -> Outcome {
    let name = engine.script(&["qualified", container])?;
    let dir = tempfile::tempdir()?;
    let path = |part: &str| dir.path().join(part);
    run(&["exec", &name, "--", "sh", "-c", CHANGE]).expect(0)?;
    let there = format!("/proc/{}/root/tree/a", engine.init_of(container)?);
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&there, "user.note", b"kept", none)?;
    let copy = |to: &str, tree: &str| {
        std::fs::create_dir_all(path(to))?;
        let to = format!("{}/", path(to).display());
        run(&["--json", "cp", "-a", &format!("{name}:/{tree}"), &to]).expect(0)
    };
    // (Mounts of the engine in /etc are left out.)
    for tree in ["tree", "var", "vol"] {
        copy("running", tree)?;
    }
    // (Podman as a user has no stop in the harness; any end will do.)
    run(&["stop", "-t", "3s", &name]).expect(0)?;
    let is_over = || run(&["inspect", &name]).code == 3;
    check(wait_until(is_over), "it does not stop")?;
    let before = mounts()?;
    for tree in ["tree", "var", "vol"] {
        let done = copy("disk", tree)?;
        same(done.objects()[0]["from_disk"].clone(), json!([name]))?;
        // (With a note about the bits of a program that was copied.)
        let is_about_bits = |line: &str| line.contains("setuid or setgid bits");
        same(done.err.lines().find(|line| !is_about_bits(line)), None)?;
    }
    same(listing(&path("disk"))?, listing(&path("running"))?)?;
    same(xattr(&path("disk/tree/a")), b"kept".to_vec())?;
    check(!path("disk/var/lib").exists(), "a deleted directory is there")?;
    same(std::fs::read_to_string(path("disk/vol/v"))?.as_str(), "v\n")?;
    copy("disk", "etc")?;
    // (Engines mount file systems of other containers meanwhile, never an overlay that is read-only.)
    let after = mounts()?;
    let is_ours = |mount: &&String| mount.contains("lowerdir=") && !mount.contains("upperdir=");
    let is_new = |mount: &&String| !before.contains(mount) && is_ours(mount);
    let new: Vec<&String> = after.iter().filter(is_new).collect();
    check(new.is_empty(), format!("mounts are left: {new:?}"))?;
    check(path("disk/etc/passwd").exists() && !path("disk/etc/group").exists(), "/etc")?;
    if engine.name != "podman-rootless" {
        std::fs::create_dir_all(path("engine"))?;
        for tree in TREES {
            let to = path("engine").join(tree).display().to_string();
            engine.client(&["cp", "-a", &format!("{container}:/{tree}"), &to])?;
            let disk = comparable(listing(&path("disk").join(tree))?);
            same(disk, comparable(listing(&path("engine").join(tree))?))?;
        }
    }
    // As a stream, and with a link that leads out of the container.
    run(&["cp", "-L", &format!("{name}:/tree/absolute"), &path("p").display().to_string()])
        .expect(0)?;
    same(std::fs::read(path("p"))?, std::fs::read(path("disk/etc/passwd"))?)?;
    let out = run(&["cp", &format!("{name}:/tree/d/.."), &path("up").display().to_string()]);
    check(out.expect(0)?.out.contains(&format!("(from disk: {name} is not running)")), "")?;
    // Into it: refused, with what works.
    let failed = run(&["cp", &path("p").display().to_string(), &format!("{name}:/p")]).expect(3)?;
    for words in ["it is not running", "start ", " cp"] {
        check(failed.err.contains(words), &failed.err)?;
    }
    Ok(())
}

/// A container of containerd has its layers in the chain of its snapshot, which only databases number.
pub fn snapshot(engine: &Engine) -> Outcome {
    let dir = tempfile::tempdir()?;
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or(default.into());
    let (run_dir, data) = (
        variable("CINSPECT_TEST_DIR", "/run/cinspect-test"),
        variable("CINSPECT_TEST_DATA", "/var/tmp/cinspect-test"),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", IMPORT_AND_RUN, "sh"]).arg(dir.path());
    shell.args([format!("{data}/rootfs"), format!("{run_dir}/containerd/containerd.sock")]);
    let outcome = finish(shell).expect(0).and_then(|_| {
        let name = engine.script(&["qualified", "cit-cp-disk"])?;
        let to = dir.path().join("to").display().to_string();
        let done = run(&["--json", "cp", "-a", &format!("{name}:/"), &to]).expect(0)?;
        same(done.objects()[0]["from_disk"].clone(), json!([name]))?;
        let path = |name: &str| dir.path().join("to").join(name);
        same(std::fs::read_to_string(path("a"))?.as_str(), "a\n")?;
        check(path("bin/busybox").exists() && !path("etc/passwd").exists(), "its layers")
    });
    let mut shell = Command::new("sh");
    let line = "ctr -a \"$1\" -n cit container rm cit-cp-disk; ctr -a \"$1\" -n cit image rm docker.io/library/cit-cp:1";
    shell.args(["-c", line, "sh", &format!("{run_dir}/containerd/containerd.sock")]);
    finish(shell);
    outcome
}

/// Makes an image of a root file system, and runs a container of it that changes it and exits.
const IMPORT_AND_RUN: &str = r#"set -e
cd "$1"; tar -C "$2" -cf layer.tar .
id=$(sha256sum layer.tar | cut -c1-64); image=docker.io/library/cit-cp:1
echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$id\"]},\"config\":{}}" > config.json
echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$image\"],\"Layers\":[\"layer.tar\"]}]" > manifest.json
tar -cf image.tar manifest.json config.json layer.tar
ctr -a "$3" -n cit image import image.tar > /dev/null
ctr -a "$3" -n cit container rm cit-cp-disk 2> /dev/null || true
ctr -a "$3" -n cit run --null-io "$image" cit-cp-disk /bin/sh -c 'echo a > /a; rm /etc/passwd'"#;
