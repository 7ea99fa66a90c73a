//! `logs` from systemd's journal, on real engines: the host's, or one that is started without the rest of
//! systemd.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use libtest_mimic::Failed;
use serde_json::json;

use super::Engine;
use super::endings::Ended;
use crate::support::{Outcome, check, run, same, wait_until};

const DAEMON: &str = "/lib/systemd/systemd-journald";
const SETTINGS: &str = "/run/systemd/journald.conf.d/cinspect-test.conf";
const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal of the host. One that was started here ends with it.
struct Journal {
    child: Option<Child>,
    _lock: MutexGuard<'static, ()>,
}

impl Journal {
    fn start() -> Result<Self, Failed> {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let is_there = || {
            let sync = Command::new("journalctl").arg("--sync").stderr(Stdio::null()).status();
            sync.is_ok_and(|status| status.success())
        };
        if is_there() {
            return Ok(Self { child: None, _lock: lock });
        }
        for directory in ["/run/systemd/journald.conf.d", "/run/log"] {
            std::fs::create_dir_all(directory)?;
        }
        // (In memory, and without what other programs write.)
        std::fs::write(SETTINGS, "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n")?;
        let mut command = Command::new(DAEMON);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let journal = Self { child: Some(command.spawn()?), _lock: lock };
        check((0..6).any(|_| wait_until(is_there)), "the journal does not start")?;
        Ok(journal)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = child.kill();
        let _ = child.wait();
        let _ = std::fs::remove_file(SETTINGS);
        let _ = std::fs::remove_dir_all("/run/systemd/journal");
        let _ = std::fs::remove_dir_all("/run/log/journal");
    }
}

/// Prints lines, waits until it may go on, and ends. (The first line is longer than engines pass on at once.)
const PROGRAM: &str = "head -c 40000 /dev/zero | tr \"\\\\0\" x; echo; seq 1 300; \
                       until [ -e /go ]; do sleep 0.1; done; seq 301 310; exit 3";

/// The log is the one that the engine prints, from any time on, and is followed to its end.
pub fn printed(engine: &Engine) -> Outcome {
    check(Path::new(DAEMON).exists(), format!("no {DAEMON}"))?;
    let _journal = Journal::start()?;
    check(Path::new(SOCKET).exists(), format!("no {SOCKET}"))?;
    let mut ended = Ended::new(engine)?;
    // (Lines of an earlier container of the same name stay in the journal.)
    ended.name = format!("{}-{}", ended.name, std::process::id());
    ended.start("--log-driver journald", &format!("sh -c '{PROGRAM}'"))?;
    let name = ended.qualified()?;
    let whole = || run(&["logs", "-n", "all", &name]);
    check(
        (0..6).any(|_| wait_until(|| whole().out.ends_with("\n300\n"))),
        format!("{:?}", whole()),
    )?;
    let last = run(&["logs", "-n", "3", &name]).expect(0)?;
    same(&*last.out, "298\n299\n300\n")?;
    let lines = run(&["--json", "logs", "-n", "all", &name]).expect(0)?.objects();
    let middle = lines.iter().find(|line| line["text"] == json!("150")).ok_or("no line 150")?;
    let since = middle["time"].as_str().ok_or("no time")?;
    let late = run(&["logs", "--since", since, &name]).expect(0)?;
    // (Several lines may have the same time.)
    let first: u32 = late.out.lines().next().unwrap_or_default().parse().unwrap_or_default();
    check((100..=150).contains(&first) && late.out.ends_with("\n300\n"), &late.out)?;
    let mut follow = Command::new("timeout");
    follow.args(["600", env!("CARGO_BIN_EXE_cinspect"), "logs", "-f", "-n", "1", &name]);
    let follow = follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = follow.spawn()?;
    let mut out = BufReader::new(follower.stdout.take().ok_or("no stdout")?);
    let mut text = String::new();
    out.read_line(&mut text)?;
    same(&*text, "300\n")?;
    let init = engine.script(&["init", &ended.name])?;
    std::fs::write(format!("/proc/{init}/root/go"), "")?;
    out.read_to_string(&mut text)?;
    let followed = follower.wait_with_output()?;
    let errors = String::from_utf8_lossy(&followed.stderr).into_owned();
    check(followed.status.success(), format!("{}: {errors}", followed.status))?;
    let wanted: String = (300..=310).map(|number| format!("{number}\n")).collect();
    same(text, wanted)?;
    let truth = ended.client("logs NAME 2>/dev/null")?;
    let whole = whole().expect(0)?;
    same(whole.out.len(), truth.len())?;
    check(whole.out == truth, "not the log of the engine")
}
