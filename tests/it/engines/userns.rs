//! A container of Podman with a user namespace. Its root, a user of the host that is mapped, owns the
//! directory with its PID file (Podman 3, and 4.3 with `--uidmap`), so that file may say anything.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::json;

use super::Engine;
use crate::support::{Outcome, check, run, same};

/// The user of the host that is root in the container.
const ROOT: u32 = 300_000;

/// The name is Podman's and the PID the OCI runtime's, whatever is in the file.
pub fn mapped_root_owns_the_records(engine: &Engine) -> Outcome {
    let name = &format!("cit-{}-mapped", engine.name);
    let remove = || engine.script(&["rm", name]).is_ok();
    remove();
    let work = || -> Outcome {
        let map = format!("0:{ROOT}:65536");
        let options = format!("--uidmap {map} --gidmap {map}");
        engine.script_with(&options, &["run", name, "--", "sleep", "1000"])?;
        let (init, qualified) = (engine.init_of(name)?, engine.script(&["qualified", name])?);
        let pidfile = pidfile(init)?;
        let userdata = pidfile.parent().ok_or("no directory")?;
        std::fs::set_permissions(userdata, std::fs::Permissions::from_mode(0o711))?;
        for path in [userdata, &pidfile] {
            chown(path, Some(ROOT), Some(ROOT))?;
        }
        let recorded = std::fs::read(&pidfile)?;
        for text in [&recorded[..], b"1\n", b""] {
            std::fs::write(&pidfile, text)?;
            is_found(&qualified, init)?;
        }
        // Podman reads it, too.
        std::fs::write(&pidfile, recorded)?;
        Ok(())
    };
    let outcome = work();
    remove();
    outcome
}

fn is_found(name: &str, init: i32) -> Outcome {
    let listed = run(&["--json", "ps", name]).expect(0)?;
    check(!listed.err.contains("not trusted"), &listed.err)?;
    let rows = listed.objects();
    same((rows.len(), rows[0]["host_pid"].clone()), (1, json!(init)))?;
    let done = run(&["exec", name, "--", "id", "-u"]).expect(0)?;
    same(done.out.trim(), "0")?;
    run(&["signal", "-n", name, "USR1"]).expect(0).map(drop)
}

/// Returns the path of the PID file, from the arguments of conmon above the init.
fn pidfile(init: i32) -> Result<PathBuf, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat"))?;
    let after_name = stat.rsplit_once(") ").ok_or("no stat")?.1;
    let parent = after_name.split(' ').nth(1).ok_or("no parent")?;
    let cmdline = std::fs::read_to_string(format!("/proc/{parent}/cmdline"))?;
    let mut arguments = cmdline.split('\0').skip_while(|argument| *argument != "-p");
    Ok(Path::new(arguments.nth(1).ok_or("conmon has no PID file")?).to_owned())
}
