//! The containers that the manual's examples and the README's recipes speak of, `web` and `db`, on
//! Docker: with nginx from this host, a user www-data, logs, and whatever else is named. Command lines
//! are run as they are written, by a shell in a folder of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use super::Engine;
use crate::support::{Outcome, Run, check, finish, run, wait_until};

/// Nginx as the whole of a container: two workers, all it writes in /tmp.
const NGINX: &str = "user www-data;
daemon off;
pid /tmp/nginx.pid;
error_log /tmp/error.log;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
    uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
    server { listen 8080; location / { return 200 ok; } }
}
";

/// What there is, and is let go of at the end.
pub struct Stage<'a> {
    engine: &'a Engine,
    /// Where command lines are run; the containers see it as `/shared`.
    pub folder: tempfile::TempDir,
}

impl<'a> Stage<'a> {
    pub fn new(engine: &'a Engine) -> Result<Self, Failed> {
        check(Path::new("/usr/sbin/nginx").exists(), "nginx is not installed")?;
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("nginx.conf", NGINX)?;
        write("passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/srv:/bin/sh\n")?;
        write("group", "root:x:0:\nwww-data:x:33:\n")?;
        write("app", "#!/bin/sh\necho the new one\n")?;
        for name in
            ["logs", "root/etc/bash_completion.d", "root/usr/local/share/zsh/site-functions"]
        {
            std::fs::create_dir_all(folder.path().join(name))?;
        }
        std::fs::create_dir_all(folder.path().join(".config/fish/completions"))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("app"), mode)?;
        Ok(Self { engine, folder })
    }

    /// Starts a container anew, and waits until it has as many processes as it is to have, and these
    /// PIDs: how many numbers the engine takes for itself before the first of ours is not always the
    /// same.
    pub fn start(&self, name: &str, program: &[&str], processes: usize, pids: &[i64]) -> Outcome {
        let here = self.folder.path().display();
        let libraries = ["/usr/sbin", "/usr/lib", "/lib", "/lib64"];
        let mounts: Vec<String> = libraries.iter().map(|at| format!("-v {at}:{at}:ro")).collect();
        let options = format!(
            "-v {here}:/shared -v {here}/passwd:/etc/passwd:ro -v {here}/group:/etc/group:ro {}",
            mounts.join(" ")
        );
        let mut all = vec!["run", name, "--"];
        all.extend(program);
        for _ in 0..8 {
            let _ = self.engine.script(&["rm", name]);
            self.engine.script_with(&options, &all)?;
            let there = || self.processes(name).len() >= processes;
            check(wait_until(there), format!("{name} has not all of its processes"))?;
            let all = self.processes(name);
            if pids.iter().all(|pid| all.iter().any(|process| process["pid"] == *pid)) {
                return Ok(());
            }
        }
        Err(format!("{name} never has processes {pids:?}").into())
    }

    /// What runs in a container, as `ps --json` tells it.
    pub fn processes(&self, name: &str) -> Vec<Value> {
        let said = run(&["--json", "ps", &format!("docker:{name}")]);
        if said.code == 0 { said.objects() } else { Vec::new() }
    }

    /// Runs a line of a shell, with our program first in its path.
    pub fn sh(&self, line: &str) -> Run {
        let program = Path::new(env!("CARGO_BIN_EXE_cinspect"));
        let path = program.parent().unwrap_or(program).display();
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", line]).current_dir(self.folder.path());
        command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", self.folder.path()).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        finish(command)
    }

    /// Whether a file is there of those that containers see in `/shared`.
    pub fn has(&self, file: &str) -> bool {
        self.folder.path().join(file).exists()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for name in ["web", "db"] {
            let _ = self.engine.script(&["rm", name]);
        }
    }
}
