//! Containers in containers: PID namespaces made in one, and those of an engine that runs in one.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, run, same, wait_until};

/// A PID namespace that was made in a container is a container of its own; its processes are in the outer
/// container, too, with their PIDs there.
pub fn namespace(engine: &Engine) -> Outcome {
    let init = engine.init()?.to_string();
    // The container may not make a PID namespace: root of the host does it in the container.
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &init, "-m", "-p", "--", "/bin/unshare", "-p", "-f", "/bin/sleep", "4444"]);
    let mut child = inner.stdin(Stdio::null()).spawn()?;
    let is_inner = |row: &Value| row["command"] == json!(["/bin/sleep", "4444"]);
    let shown = wait_until(|| engine.ps().is_ok_and(|rows| rows.iter().any(is_inner)));
    let work = || -> Outcome {
        check(shown, "the outer container does not show it")?;
        let rows = engine.ps()?;
        let row = rows.iter().find(|row| is_inner(row)).cloned().unwrap_or_default();
        check(row["pid"] != json!(1), "it is PID 1 in the outer container")?;
        let inner_rows =
            run(&["--json", "ps", &format!("pid:{}", row["host_pid"])]).expect(0)?.objects();
        same(inner_rows.iter().map(|row| row["pid"].clone()).collect::<Vec<_>>(), vec![json!(1)])?;
        let listed = run(&["--json", "ls"]).expect(0)?.objects();
        check(
            listed
                .iter()
                .any(|ctr| ctr["pid"] == row["host_pid"] && ctr["engine"] == json!("bare")),
            "ls does not list it",
        )
    };
    let outcome = work();
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "4444"]);
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

/// Keeps the image, and continues with the files of the host.
const ENTER: &str = r#"
set -e
mount -t tmpfs run /host/run
tar -C / -cf /host/run/image.tar bin
exec chroot /host sh -c "$0"
"#;

/// Starts an engine on the files of the host, with a `/run` and a view of the cgroups of its own, and a container
/// in it.
const ENGINE: &str = r#"
set -e
mount -t proc proc /proc
mount -t tmpfs cgroup /sys/fs/cgroup
if [ "$(wc -l < /proc/self/cgroup)" = 1 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # A cgroup with processes cannot give controllers to those below it.
  mkdir /sys/fs/cgroup/init
  echo $$ > /sys/fs/cgroup/init/cgroup.procs
else
  while IFS=: read -r _ hierarchy _; do
    dir=/sys/fs/cgroup/${hierarchy#name=}
    case $hierarchy in
      '') mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
      name=*) mkdir "$dir"; mount -t cgroup -o "none,$hierarchy" cgroup "$dir" ;;
      *) mkdir "$dir"; mount -t cgroup -o "$hierarchy" cgroup "$dir" ;;
    esac
  done < /proc/self/cgroup
fi
dockerd --bridge=none --iptables=false --ip-masq=false --storage-driver=vfs --data-root /run/data > /run/log 2>&1 &
for _ in $(seq 600); do ! docker version > /dev/null 2>&1 || break; sleep 0.1; done
docker import - bb:latest < /run/image.tar > /run/id
docker run -d --network=none --name web bb:latest sleep 4545 > /run/id || cat /run/log
wait
"#;

/// The container of an engine that runs in a container is named by its cgroup alone: the records are in the
/// other container. Nothing is claimed that only they could tell.
pub fn engine(engine: &Engine) -> Outcome {
    let outer = format!("cit-{}-outer", engine.name);
    let _ = engine.script(&["rm", &outer]);
    let options = "--cap-add=SYS_ADMIN --cap-add=NET_ADMIN --cap-add=SYS_PTRACE --cgroupns=private \
         --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined \
         --security-opt=systempaths=unconfined --volume=/:/host";
    engine.script_with(options, &["run", &outer, "--", "sh", "-c", ENTER, ENGINE])?;
    let outcome = inner(&engine.script(&["qualified", &outer])?);
    let _ = engine.script(&["rm", &outer]);
    outcome
}

fn inner(outer: &str) -> Outcome {
    let sleep = || {
        let rows = run(&["--json", "ps", outer]).objects();
        rows.into_iter().find(|row| row["command"] == json!(["sleep", "4545"]))
    };
    check(wait_until(|| sleep().is_some()), run(&["ps", outer]).out)?;
    let name = format!("pid:{}", sleep().ok_or("it has exited")?["host_pid"]);
    let page = run(&["--json", "inspect", &name]).expect(0)?;
    let facts = page.objects().remove(0);
    same((&facts["outer"], &facts["verified"]), (&json!(outer), &json!(false)))?;
    same(&facts["restart"]["comes_back"], &Value::Null)?;
    let steps = run(&["-v", "ps", &name]).expect(0)?.err;
    check(steps.contains(&format!("it was started in {outer}: records in")), steps)?;
    let id = facts["id"].as_str().ok_or("no ID")?.to_owned();
    same(run(&["--json", "ps", &id]).expect(0)?.objects().len(), 1)?;
    run(&["signal", &id, "TERM"]).expect(3)?;
    let logs = run(&["logs", &name]).expect(1)?;
    check(logs.err.contains("no record of its engine was found"), logs.err)
}
