//! The options of `cp`, and command lines that it refuses.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::json;

use super::{container, cp, ctr_path, host_path};
use crate::support::{Need, Outcome, check, finish, run, same, test, test_with, within};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Root, "cp::options_work_as_documented", options),
        test("cp::explains_usage_errors", usage_errors),
    ]
}

fn options() -> Outcome {
    let (container, dir) = (container()?, tempfile::tempdir()?);
    let file = dir.path().join("f");
    std::fs::write(&file, "new")?;
    std::fs::set_permissions(&file, Permissions::from_mode(0o4755))?;
    std::os::unix::fs::chown(&file, Some(1234), Some(4321))?;
    std::fs::set_permissions(&file, Permissions::from_mode(0o4755))?;
    let (from, to) = (file.display().to_string(), ctr_path(&container, "/mnt/f"));
    let metadata = || {
        host_path(&container, "/mnt/f").metadata().map(|m| (m.mode() & 0o7777, m.uid(), m.gid()))
    };
    cp(&[&from, &to]).expect(0)?;
    same(metadata()?, (0o755, 0, 0))?;
    cp(&["-a", &from, &to]).expect(0)?;
    same(metadata()?, (0o4755, 1234, 4321))?;
    cp(&["--chown", "7:8", &from, &to]).expect(0)?;
    same(metadata()?, (0o755, 7, 8))?;
    cp(&["--chown", "daemon", &from, &to]).expect(0)?;
    same(metadata()?.1, 1)?;
    cp(&["--chown", "no-such-user", &from, &to]).expect(1)?;
    std::fs::write(&file, "newer")?;
    let kept = cp(&["-n", &from, &to]).expect(0)?;
    check(kept.err.contains("exists: not overwritten"), &kept.err)?;
    same(std::fs::read_to_string(host_path(&container, "/mnt/f"))?.as_str(), "new")?;
    // Synced to disk before it is renamed.
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=fsync,linkat,renameat,renameat2"]);
    traced.args([env!("CARGO_BIN_EXE_cinspect"), "cp", "--sync", &from, &to]);
    let calls = finish(traced).expect(0)?.err;
    let order: Vec<_> = ["fsync(", "renameat(", "fsync("]
        .into_iter()
        .scan(0, |offset, call| {
            *offset += calls[*offset..].find(call)? + 1;
            Some(call)
        })
        .collect();
    check(order.len() == 3, calls)?;
    // Symlinks, or the files that they point to.
    symlink("f", dir.path().join("l"))?;
    let link = dir.path().join("l").display().to_string();
    cp(&[&link, &ctr_path(&container, "/mnt/l")]).expect(0)?;
    check(host_path(&container, "/mnt/l").symlink_metadata()?.is_symlink(), "a link")?;
    cp(&["-L", &link, &ctr_path(&container, "/mnt/l2")]).expect(0)?;
    check(host_path(&container, "/mnt/l2").symlink_metadata()?.is_file(), "a file")?;
    // Several sources need a directory.
    within(&container, "mkdir /mnt/d")?;
    cp(&[&from, &link, &ctr_path(&container, "/mnt/d")]).expect(0)?;
    cp(&[&from, &link, &ctr_path(&container, "/mnt/e")]).expect(1)?;
    let objects = run(&["--json", "cp", &from, &to]).expect(0)?.objects();
    same((objects[0]["files"].clone(), objects[0]["bytes"].clone()), (json!(1), json!(5)))?;
    same(cp(&["-q", &from, &to]).expect(0)?.out.as_str(), "")
}

fn usage_errors() -> Outcome {
    for (arguments, message) in [
        (&["a", "b"][..], "neither the source nor the destination is in a container"),
        (&["-", "-"], "`-` must be the only source"),
        (&["./x:y", "/tmp"], "neither the source nor the destination"),
        (&["a", "-", "web:/x"], "`-` must be the only source"),
        (&[], "cp needs a source and a destination"),
        (&["", "web:/tmp"], "a path is empty"),
        (&["web:/etc/passwd", ""], "a path is empty"),
        (&["web:", "out"], "the path after `web:` is empty"),
        (&["f", "docker:web:"], "the path after `docker:web:` is empty"),
    ] {
        let failed = cp(arguments).expect(2)?;
        check(failed.err.contains(message), format!("{arguments:?}: {}", failed.err))?;
    }
    cp(&["/etc/passwd", "no-such-container:/x"]).expect(3)?;
    for (arguments, message) in
        [("web:/etc -", "not written to a terminal"), ("- web:/etc", "not read from a terminal")]
    {
        let mut python = Command::new("python3");
        let script = "import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
        python
            .args(["-c", script, env!("CARGO_BIN_EXE_cinspect"), "cp"])
            .args(arguments.split(' '));
        python.stdin(Stdio::null());
        let refused = finish(python).expect(2)?;
        check(refused.out.contains(message), refused.out)?;
    }
    cp(&["one"]).expect(2).map(drop)
}
