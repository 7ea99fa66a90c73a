//! `inspect` compared with the kernel, its warnings, and completion and `--watch` on real containers.

use serde_json::{Value, json};

use super::Engine;
use crate::completion::{SHELLS, shell as at_prompt, words};
use crate::support::{Outcome, check, run, same};
use crate::terminal::Terminal;

/// Runs `inspect` and returns its object.
fn inspect(name: &str) -> Result<Value, libtest_mimic::Failed> {
    let objects = run(&["--json", "inspect", name]).expect(0)?.objects();
    same(objects.len(), 1)?;
    Ok(objects[0].clone())
}

pub fn facts(engine: &Engine) -> Outcome {
    let (init, name) = (engine.init()?, engine.qualified()?);
    let object = inspect(&name)?;
    same(object["container"].clone(), json!(name))?;
    same(object["process"]["host_pid"].clone(), json!(init))?;
    same(object["verified"].clone(), json!(true))?;
    if engine.has_names() {
        same(object["id"].clone(), json!(engine.id()?))?;
    }
    let status = std::fs::read_to_string(format!("/proc/{init}/status"))?;
    let line = |key: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:\t")));
        found.unwrap_or_default().to_owned()
    };
    let mask = u64::from_str_radix(&line("CapEff"), 16)?;
    let count = object["capabilities"]["effective"].as_array().map_or(0, Vec::len);
    same(count, mask.count_ones() as usize)?;
    same(object["no_new_privs"].clone(), json!(line("NoNewPrivs") == "1"))?;
    same(object["seccomp"] == json!("filter"), line("Seccomp") == "2")?;
    for namespace in object["namespaces"].as_array().ok_or("no namespaces")? {
        let kind = namespace["type"].as_str().unwrap_or_default();
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let is_hosts = link(&init.to_string())? == link("self")?;
        same((kind, namespace["whose"] == json!("host")), (kind, is_hosts))?;
    }
    let mounts = object["mounts"].as_array().cloned().unwrap_or_default();
    let points: Vec<&Value> = mounts.iter().map(|mount| &mount["point"]).collect();
    check(points.contains(&&json!("/")) && points.contains(&&json!("/proc")), &object["mounts"])?;
    // Not every engine makes a cgroup for the container in each hierarchy.
    let memberships = std::fs::read_to_string(format!("/proc/{init}/cgroup"))?;
    let cgroup = object["cgroup"].as_str().unwrap_or("none");
    let counts = |controller: &str| {
        memberships.lines().any(|line| line.contains(controller) && line.contains(cgroup))
    };
    if counts(":memory:") && counts(":pids:") {
        check(object["memory"]["used"].as_u64().is_some_and(|used| used > 0), &object["memory"])?;
        check(object["pids"]["used"].as_u64().is_some_and(|used| used >= 3), &object["pids"])?;
    }
    // Nothing was changed: every value is as configured.
    let differs = |warning: &&Value| warning["code"] == json!("differs");
    let warnings = object["warnings"].as_array().cloned().unwrap_or_default();
    same(warnings.iter().find(differs), None)
}

/// A container with dangerous options, and one that shares the network of another.
pub fn dangers(engine: &Engine) -> Outcome {
    let name = &format!("cit-{}-bold", engine.name);
    let side = &format!("cit-{}-side", engine.name);
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("docker.sock");
    std::fs::write(&socket, "")?;
    let bold = format!(
        "--net=host --pid=host --ipc=host --security-opt=seccomp=unconfined --cap-add=SYS_PTRACE \
         -v /:/host:ro -v {}:/var/run/docker.sock",
        socket.display()
    );
    let work = || -> Outcome {
        let _ = engine.script(&["rm", name]);
        engine.script_with(&bold, &["run", name, "--", "sleep", "1000"])?;
        let bold = inspect(&engine.script(&["qualified", name])?)?;
        let mut codes: Vec<String> = bold["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|warning| format!("{} {}", warning["about"], warning["code"]).replace('"', ""))
            .collect();
        codes.sort();
        let wanted = [
            "capabilities strong-capability",
            "mounts engine-socket",
            "mounts host-root",
            "namespaces host-namespace",
            "namespaces host-namespace",
            "namespaces host-namespace",
            "seccomp no-seccomp",
        ];
        same(codes, wanted.map(str::to_owned).to_vec())?;
        let _ = engine.script(&["rm", side]);
        let options = format!("--net=container:{} --memory=64m --pids-limit=33", engine.container);
        engine.script_with(&options, &["run", side, "--", "sleep", "1000"])?;
        let named = engine.script(&["qualified", side])?;
        let shares = inspect(&named)?;
        let net = |object: &Value| {
            let namespaces = object["namespaces"].as_array().cloned().unwrap_or_default();
            let net = namespaces.into_iter().find(|namespace| namespace["type"] == json!("net"));
            net.map(|namespace| namespace["with"].clone())
        };
        same(net(&shares), Some(json!([engine.qualified()?])))?;
        same(net(&inspect(&engine.qualified()?)?), Some(json!([named])))?;
        same(shares["memory"]["limit"].clone(), json!(64 << 20))?;
        same(shares["memory"]["configured"].clone(), json!(64 << 20))?;
        same(shares["pids"]["limit"].clone(), json!(33))?;
        // The limit is changed without the engine.
        let source = shares["sources"]["memory"].as_str().ok_or("no source")?.to_owned();
        std::fs::write(&source, (128 << 20).to_string())?;
        let changed = inspect(&named)?;
        same(changed["memory"]["limit"].clone(), json!(128 << 20))?;
        let page = run(&["inspect", &named]).expect(0)?.out;
        check(page.contains("the configuration says 64M ("), &page)
    };
    let outcome = work();
    let _ = engine.script(&["rm", name]);
    let _ = engine.script(&["rm", side]);
    outcome
}

/// Completes names, PIDs and paths of a running container at the prompt of each shell.
pub fn completed(engine: &Engine) -> Outcome {
    let name = engine.container.clone();
    let dir = tempfile::tempdir()?;
    run(&["exec", &name, "--", "touch", "/tmp/my file", "/tmp/it's"]).expect(0)?;
    for (shell, argv, load) in SHELLS {
        let mut terminal = at_prompt(shell, argv, load, dir.path())?;
        for (typed, wanted) in [
            (format!("p\t{}\t", &name[..name.len() - 2]), vec!["ps".to_owned(), name.clone()]),
            (
                format!("cp {name}:/etc/pas\t."),
                vec!["cp".into(), format!("{name}:/etc/passwd"), ".".into()],
            ),
            (
                format!("cp docker:{name}:/etc/pas\t."),
                vec!["cp".into(), format!("docker:{name}:/etc/passwd"), ".".into()],
            ),
            (
                format!("cp {name}:/tmp/my\t."),
                vec!["cp".into(), format!("{name}:/tmp/my file"), ".".into()],
            ),
            (
                format!("cp '{name}:/tmp/my\t."),
                vec!["cp".into(), format!("{name}:/tmp/my file"), ".".into()],
            ),
            (
                format!("cp {name}:/tmp/it\t."),
                vec!["cp".into(), format!("{name}:/tmp/it's"), ".".into()],
            ),
            (
                format!("exec {name} -u we\t-w /et\t"),
                vec![
                    "exec".into(),
                    name.clone(),
                    "-u".into(),
                    "web".into(),
                    "-w".into(),
                    "/etc/".into(),
                ],
            ),
        ] {
            same((shell, &typed, words(&mut terminal, &typed)?), (shell, &typed, wanted))?;
        }
    }
    Ok(())
}

/// `ps --watch NAME` shows that the engine pauses, unpauses and restarts the container.
pub fn watched(engine: &Engine) -> Outcome {
    let program = env!("CARGO_BIN_EXE_cinspect");
    let mut terminal =
        Terminal::start(&["env", "LC_ALL=C.UTF-8", program, "ps", "-w=0.3", &engine.container])?;
    terminal.wait_for("every 0.3s")?;
    terminal.wait_for("sleep 1000")?;
    engine.script(&["pause", &engine.container])?;
    terminal.wait_for(&format!("docker:{}, paused ", engine.container))?;
    terminal.wait_for(&format!("{}: is paused", engine.container))?;
    let ps = run(&["ps", &engine.container]).expect(0)?;
    let note = format!("docker:{} is paused: it handles no signal", engine.container);
    check(ps.err.contains(&note), ps.err)?;
    engine.script(&["unpause", &engine.container])?;
    terminal.wait_for(&format!("{}: was unpaused", engine.container))?;
    let ps = run(&["ps", &engine.container]).expect(0)?;
    same(ps.err.as_str(), "")?;
    let client = engine.script(&["client"])?;
    let mut words = client.split_whitespace();
    let mut restart = std::process::Command::new(words.next().unwrap_or_default());
    restart.args(words).args(["restart", "-t", "1", &engine.container]);
    check(restart.output()?.status.success(), "the restart failed")?;
    terminal.wait_for("restarted")?;
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    check(terminal.is_sane(), "the terminal is not restored")
}
