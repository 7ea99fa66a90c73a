//! `inspect` of containers of the harness; those of the engines are in `engines/inspect.rs`.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{Need, Outcome, Run, check, control_character, fixture, run, same, test_with};

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    vec![
        test("inspect::json_has_every_fact_and_its_source", json_facts),
        test("inspect::a_host_pid_finds_its_container", host_pid),
        test("inspect::another_process_of_the_container_can_be_inspected", other_process),
        test("inspect::the_page_has_sections_marks_and_sources", page),
        test("inspect::a_process_outside_containers_is_the_hosts", host_process),
        test("inspect::a_thread_means_its_process", thread),
        test("inspect::the_parent_of_an_init_runs_its_container", parent),
    ]
}

fn only(run: &Run) -> Result<Value, libtest_mimic::Failed> {
    let mut objects = run.objects();
    same(objects.len(), 1)?;
    Ok(objects.remove(0))
}

/// Returns a value in `/proc/PID/status`.
fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_default().trim().to_owned()
}

fn json_facts() -> Outcome {
    let container = fixture("init\n> child handle=TERM")?;
    let inspection =
        only(&run(&["--json", "inspect", &format!("pid:{}", container.init)]).expect(0)?)?;
    let facts = [
        "process",
        "image",
        "id",
        "name",
        "engine",
        "pod",
        "outer",
        "runs",
        "user",
        "state",
        "processes",
        "started",
        "cgroup",
        "verified",
        "stop_signal",
        "grace",
        "pre_stop",
        "restart",
        "namespaces",
        "users",
        "groups",
        "uid",
        "capabilities",
        "seccomp",
        "no_new_privs",
        "label",
        "memory",
        "cpus",
        "pids",
        "mounts",
    ];
    let keys: Vec<&String> = inspection.as_object().ok_or("no object")?.keys().collect();
    let wanted: Vec<&str> = ["host", "container"]
        .into_iter()
        .chain(facts)
        .chain(["warnings", "sources", "evidence"])
        .collect();
    same(keys, wanted.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>().iter().collect())?;
    for fact in facts {
        check(inspection["sources"][fact].is_string(), format!("no source of {fact}"))?;
    }
    same(inspection["process"]["pid"].clone(), json!(1))?;
    same(inspection["process"]["host_pid"].clone(), json!(container.init))?;
    same(inspection["processes"].clone(), json!(2))?;
    same(inspection["stop_signal"]["verdict"].clone(), json!("discarded"))?;
    // Each namespace compared with the kernel's own link.
    for namespace in inspection["namespaces"].as_array().ok_or("no namespaces")? {
        let kind = namespace["type"].as_str().unwrap_or_default();
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let (namespace_link, host_link) = (link(&container.init.to_string())?, link("self")?);
        let id = format!("{kind}:[{}]", namespace["id"]);
        same(id.as_str(), namespace_link.to_str().unwrap_or_default())?;
        let is_hosts = namespace["whose"] == json!("host");
        same((kind, is_hosts), (kind, namespace_link == host_link))?;
    }
    let mask = u64::from_str_radix(&status(container.init, "CapEff"), 16)?;
    let count = inspection["capabilities"]["effective"].as_array().map_or(0, Vec::len);
    same(count, mask.count_ones() as usize)?;
    same(inspection["seccomp"] == json!("none"), status(container.init, "Seccomp") == "0")?;
    check(
        inspection["mounts"].as_array().is_some_and(|mounts| !mounts.is_empty()),
        &inspection["mounts"],
    )
}

fn host_pid() -> Outcome {
    let container = fixture("init\n> child handle=TERM")?;
    let ps = run(&["--json", "ps", &format!("pid:{}", container.init)]).expect(0)?.objects();
    let child = ps.iter().find(|row| row["pid"] != json!(1)).cloned().unwrap_or_default();
    let inspection = only(&run(&["--json", "inspect", &child["host_pid"].to_string()]).expect(0)?)?;
    same(inspection["container"].clone(), json!(format!("pid:{}", container.init)))?;
    same(inspection["process"]["pid"].clone(), child["pid"].clone())?;
    same(inspection["process"]["is_init"].clone(), json!(false))?;
    same(inspection["stop_signal"]["verdict"].clone(), json!("handled"))
}

fn other_process() -> Outcome {
    let container = fixture("init\n> child handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let ps = run(&["--json", "ps", &name]).expect(0)?.objects();
    let child = ps.iter().find(|row| row["pid"] != json!(1)).cloned().unwrap_or_default();
    let inspection =
        run(&["--json", "inspect", &name, "--pid", &child["pid"].to_string()]).expect(0)?;
    same(only(&inspection)?["process"]["host_pid"].clone(), child["host_pid"].clone())?;
    let none = run(&["inspect", &name, "--pid", "99"]).expect(4)?;
    check(none.err.contains("no process 99") && none.err.contains("hint: `cinspect ps"), none.err)
}

fn page() -> Outcome {
    let container = fixture("init\n> child handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let page = run(&["inspect", &name]).expect(0)?.out;
    for part in ["\nStop\n", "\nNamespaces\n", "\nSecurity\n", "\nResources\n", "\nMounts\n"] {
        check(page.contains(part), format!("{part:?} is not in\n{page}"))?;
    }
    check(
        page.contains(
            "  signal       TERM (assumed: no engine that stops it is known): discarded\n",
        ),
        &page,
    )?;
    check(page.contains("\n!  "), format!("nothing is marked in\n{page}"))?;
    same(control_character(&page), None)?;
    let detailed = run(&["-v", "inspect", &name]).expect(0)?;
    for source in ["status", "ns/", "uid_map", "mountinfo"] {
        let source = format!("← /proc/{}/{source}\n", container.init);
        check(detailed.out.contains(&source), format!("{source} is not in\n{}", detailed.out))?;
    }
    check(detailed.out.lines().count() > page.lines().count(), "-v shows no more")
}

fn host_process() -> Outcome {
    let pid = std::process::id();
    let page = run(&["inspect", &pid.to_string()]).expect(0)?.out;
    check(page.starts_with(&format!("host process {pid} ")), &page)?;
    check(page.contains(" (in no container)\n") && !page.contains("\n!  "), &page)?;
    let inspection = only(&run(&["--json", "inspect", &format!("pid:{pid}")]).expect(0)?)?;
    let facts = [&inspection["container"], &inspection["state"], &inspection["processes"]];
    same(facts, [&Value::Null; 3])?;
    let gone = run(&["inspect", "999999999"]).expect(3)?;
    check(gone.err.contains("no running container"), gone.err)
}

/// A TID stands for its process on the host and in the container, and a note says so.
fn thread() -> Outcome {
    let container = fixture("init\n> child handle=TERM threads=2")?;
    let name = format!("pid:{}", container.init);
    let rows = run(&["--json", "ps", "-T", &name]).expect(0)?.objects();
    let is_other = |row: &&Value| row["pid"] != json!(1) && row["tid"] != row["pid"];
    let row = rows.iter().find(is_other).ok_or("no further thread")?;
    let (pid, tid, host_tid) = (&row["pid"], row["tid"].to_string(), row["host_tid"].to_string());
    let by_host_tid = format!("pid:{host_tid}");
    for arguments in [
        &["--json", "inspect", &by_host_tid][..],
        &["--json", "inspect", &name, "--pid", &tid],
        &["--json", "signal", "-n", &name, "TERM", "--pid", &tid],
        &["--json", "signal", "-n", &name, "TERM", "--host-pid", &host_tid],
        &["--json", "signal", "-n", &name, "TERM", "--tree", &tid],
        &["--json", "signals", &name, "TERM", "--pid", &tid],
    ] {
        let run = run(arguments).expect(0)?;
        let object = only(&run)?;
        let found = object["process"].get("pid").unwrap_or(&object["pid"]);
        same((arguments, found), (arguments, pid))?;
        check(run.err.contains("is a thread of process"), &run.err)?;
    }
    Ok(())
}

/// Shims and monitors are processes of the host; the page says which container they run.
fn parent() -> Outcome {
    let container = fixture("init")?;
    let parent = status(container.init, "PPid");
    let inspection = only(&run(&["--json", "inspect", &format!("pid:{parent}")]).expect(0)?)?;
    check(
        inspection["runs"].to_string().contains(&format!("\"pid:{}\"", container.init)),
        &inspection["runs"],
    )
}
