//! Health checks that run while `doctor` looks: they are not sessions.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{HANDLER, container, start};
use crate::engines::Engine;
use crate::support::{Outcome, check, run, same, wait_until};

/// A check that runs until the test has ended.
const CHECK: &str = "#!/bin/sh\nuntil [ -e /shared/go ]; do sleep 1077; done\n";

/// The configured check is known by its command line; without one, a session is a problem; with one, a
/// process that is neither known to be a check nor on a terminal may be either.
pub fn running_check(engine: &Engine) -> Outcome {
    let shared = tempfile::tempdir()?;
    let file = shared.path().join("check");
    std::fs::write(&file, CHECK)?;
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
    // (Podman's own timer takes a user's systemd; a check by hand runs the same.)
    let interval = if engine.name == "docker" { "1s" } else { "disable" };
    let options = format!(
        "-v {}:/shared --health-cmd /shared/check --health-interval {interval} --health-timeout 900s",
        shared.path().display()
    );
    let name = start(engine, &options, &["perl", "-e", HANDLER], 1)?;
    let mut by_hand = (engine.name != "docker").then(|| {
        let client = engine.script(&["client"]).unwrap_or_default();
        let line = format!("exec {client} healthcheck run {}", container(engine));
        let null = std::process::Stdio::null;
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", &line]).stdin(null()).stdout(null()).stderr(null()).spawn()
    });
    let outcome = (|| -> Outcome {
        let has = |comm: &str| {
            let rows = run(&["--json", "ps", &name]).objects();
            rows.iter().any(|row| row["comm"] == json!(comm))
        };
        check(wait_until(|| has("sleep")), "no health check is running")?;
        let doctor = || run(&["--json", "doctor", &name]).expect(0).map(|run| run.objects());
        let findings = doctor()?;
        let found = |findings: &[Value], code: &str| {
            findings.iter().find(|finding| finding["code"] == json!(code)).cloned()
        };
        let check_finding = found(&findings, "health-check").ok_or(format!("{findings:?}"))?;
        same(check_finding["severity"].clone(), json!("info"))?;
        // A session with the same command line has the same parent.
        check(check_finding["message"].to_string().contains("probably"), &check_finding)?;
        let others = ["children-not-signalled", "left-behind", "ok"];
        check(others.iter().all(|code| found(&findings, code).is_none()), format!("{findings:?}"))?;
        let row = run(&["--json", "ls", &container(engine)]).expect(0)?.objects();
        same(row[0]["stop"]["forecast"].clone(), json!("maybe"))?;
        let ps = run(&["ps", &name]).expect(0)?.out;
        check(ps.contains("[health check?] /bin/sh"), &ps)?;
        // A session with the command line of the check is not known from one.
        let subject = container(engine);
        engine.script(&["exec", &subject, "--", "/bin/sh", "-c", "/shared/check"])?;
        let marked = || run(&["ps", &name]).out.matches("[health check?] /bin/sh").count();
        check(wait_until(|| marked() == 2), run(&["ps", &name]).out)?;
        engine.script(&["exec", &container(engine), "--", "sleep", "1007"])?;
        let mut findings = Vec::new();
        let is_seen = || {
            findings = doctor().unwrap_or_default();
            found(&findings, "children-not-signalled").is_some()
        };
        check(wait_until(is_seen), "the session is not seen")?;
        let session = found(&findings, "children-not-signalled").unwrap_or_default();
        same(session["severity"].clone(), json!("warning"))?;
        check(session["message"].to_string().contains("if this is a session"), &session)?;
        check(found(&findings, "health-check").is_some(), format!("{findings:?}"))
    })();
    let _ = engine.script(&["rm", &container(engine)]);
    if let Some(Ok(child)) = by_hand.as_mut() {
        let _ = child.wait();
    }
    outcome
}
