//! The containers of the manual's examples and the README's recipes, `web` and `db`, on Docker: with nginx
//! of this host, a user www-data, logs, and everything else that is named. Command lines are run verbatim
//! by a shell in a temporary directory.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use super::Engine;
use crate::support::{Outcome, Run, check, finish, run, wait_until};

/// The configuration of nginx as the only program of a container: two workers, all files in /tmp.
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

/// A shell function. (A background job of a shell has INT ignored.)
const INTERRUPT_AFTER: &str = r#"interrupt_after() {
    local word=$1 file pid; shift; file=$(mktemp -p .)
    env --default-signal=INT "$@" > "$file" 2>&1 & pid=$!
    until grep -q -- "$word" "$file" || ! kill -0 $pid; do sleep 0.1; done
    kill -INT $pid; wait $pid; cat "$file"
}
"#;

/// The containers and files; dropping it removes them.
pub struct Setup<'a> {
    engine: &'a Engine,
    /// The working directory of command lines, `/shared` in the containers.
    pub dir: tempfile::TempDir,
}

impl<'a> Setup<'a> {
    pub fn new(engine: &'a Engine) -> Result<Self, Failed> {
        check(Path::new("/usr/sbin/nginx").exists(), "nginx is not installed")?;
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write("nginx.conf", NGINX)?;
        write("passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/srv:/bin/sh\n")?;
        write("group", "root:x:0:\nwww-data:x:33:\n")?;
        write("app", "#!/bin/sh\necho the new one\n")?;
        for name in
            ["logs", "root/etc/bash_completion.d", "root/usr/local/share/zsh/site-functions"]
        {
            std::fs::create_dir_all(dir.path().join(name))?;
        }
        std::fs::create_dir_all(dir.path().join(".config/fish/completions"))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("app"), mode)?;
        Ok(Self { engine, dir })
    }

    /// Starts a container until it has this many processes and these PIDs: the engine uses a varying number
    /// of PIDs before the first of the command.
    pub fn start(&self, name: &str, program: &[&str], processes: usize, pids: &[i64]) -> Outcome {
        let here = self.dir.path().display();
        let libraries = ["/usr/sbin", "/usr/lib", "/lib", "/lib64"];
        let mounts: Vec<String> =
            libraries.iter().map(|path| format!("-v {path}:{path}:ro")).collect();
        let options = format!(
            "-v {here}:/shared -v {here}/passwd:/etc/passwd:ro -v {here}/group:/etc/group:ro {}",
            mounts.join(" ")
        );
        let mut arguments = vec!["run", name, "--"];
        arguments.extend(program);
        for _ in 0..40 {
            let _ = self.engine.script(&["rm", name]);
            self.engine.script_with(&options, &arguments)?;
            let complete = || self.processes(name).len() >= processes;
            check(wait_until(complete), format!("{name} does not start all of its processes"))?;
            let rows = self.processes(name);
            if pids.iter().all(|pid| rows.iter().any(|process| process["pid"] == *pid)) {
                return Ok(());
            }
        }
        Err(format!("{name} never has processes {pids:?}").into())
    }

    /// Returns the rows of `ps --json` of a container.
    pub fn processes(&self, name: &str) -> Vec<Value> {
        let ps = run(&["--json", "ps", &format!("docker:{name}")]);
        if ps.code == 0 { ps.objects() } else { Vec::new() }
    }

    /// Runs a command line in a shell, with the program under test first in its PATH, and with
    /// `interrupt_after WORD COMMAND…`, which sends INT to a command that has printed a word. One that does not
    /// end is killed after ten minutes, with status 124.
    pub fn sh(&self, line: &str) -> Run {
        let program = Path::new(env!("CARGO_BIN_EXE_cinspect"));
        let path = program.parent().unwrap_or(program).display();
        let mut command = Command::new("timeout");
        let line = format!("{INTERRUPT_AFTER}{line}");
        command.args(["600", "bash", "-o", "pipefail", "-c", &line]).current_dir(self.dir.path());
        command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", self.dir.path()).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        finish(command)
    }

    /// Whether a file exists in the shared directory.
    pub fn has(&self, file: &str) -> bool {
        self.dir.path().join(file).exists()
    }
}

impl Drop for Setup<'_> {
    fn drop(&mut self) {
        for name in ["web", "db"] {
            let _ = self.engine.script(&["rm", name]);
        }
    }
}
