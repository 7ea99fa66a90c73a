//! `stop` on the harness's containers: who is told, who leaves, who is killed, and that it says so.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness::Container;
use crate::support::{Need, Outcome, Run, check, fixture, run, same, test, test_with};

pub fn trials() -> Vec<Trial> {
    let with = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    vec![
        with("stop::an_init_that_leaves_is_waited_for_and_nobody_killed", graceful),
        with("stop::an_init_that_is_not_told_is_killed_when_time_is_over", in_vain),
        with("stop::children_of_an_init_that_leaves_go_unheard", unheard),
        with("stop::leaves_first_and_all_leave_by_themselves", leaves),
        with("stop::all_are_told_at_once", all),
        with("stop::nobody_is_killed_when_that_is_not_wanted", no_kill),
        with("stop::a_ladder_is_climbed_step_by_step", ladder),
        with("stop::a_dry_run_says_it_and_sends_nothing", dry_run),
        with("stop::what_forks_all_the_time_is_stopped_too", forks),
        with("stop::several_are_stopped_side_by_side", several),
        test("stop::ladders_that_are_none", usage),
    ]
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

fn stop(container: &Container, arguments: &[&str]) -> Run {
    let name = name(container);
    let mut all = vec!["--json", "stop", &name];
    all.extend(arguments);
    run(&all)
}

fn events(run: &Run) -> Vec<(String, Value)> {
    let row = |row: Value| (row["event"].as_str().unwrap_or_default().to_owned(), row);
    run.objects().into_iter().map(row).collect()
}

fn of<'a>(events: &'a [(String, Value)], kind: &str) -> Vec<&'a str> {
    let those = events.iter().filter(|(event, _)| event == kind);
    those.filter_map(|(_, row)| row["comm"].as_str()).collect()
}

fn last(events: &[(String, Value)]) -> Value {
    events.last().map(|(_, row)| row.clone()).unwrap_or_default()
}

fn graceful() -> Outcome {
    let container = fixture("init leaves-on=TERM")?;
    let stopped = stop(&container, &["-t", "20s"]).expect(0)?;
    let events = events(&stopped);
    same(of(&events, "signalled"), vec!["init"])?;
    same(events[0].1["verdict"].clone(), json!("accepted"))?;
    same(of(&events, "exited"), vec!["init"])?;
    same(last(&events)["graceful"].clone(), json!(true))?;
    check(stopped.took < Duration::from_secs(10), "the time was waited for nothing")
}

fn in_vain() -> Outcome {
    let container = fixture("init\n> child ignore=TERM")?;
    let events = events(&stop(&container, &["-t", "300ms"]).expect(0)?);
    same(events[0].1["verdict"].clone(), json!("discarded"))?;
    same(of(&events, "signalled"), vec!["init"])?;
    check(events.iter().any(|(event, _)| event == "grace-over"), "time is over")?;
    check(of(&events, "killed").contains(&"init"), "the init is killed")?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    run(&["ps", &name(&container)]).expect(3).map(drop)
}

fn unheard() -> Outcome {
    let container = fixture("init leaves-on=TERM\n> child leaves-on=TERM")?;
    let events = events(&stop(&container, &[]).expect(0)?);
    same(of(&events, "signalled"), vec!["init"])?;
    same(of(&events, "killed"), vec!["child"])?;
    same(last(&events)["graceful"].clone(), json!(false))?;
    check(!container.heard().iter().any(|line| line.starts_with("child")), "the child heard it")
}

fn leaves() -> Outcome {
    let container =
        fixture("init leaves-on=TERM\n> parent leaves-on=TERM\n> > child leaves-on=TERM")?;
    let events = events(&stop(&container, &["--order", "children-first", "-t", "30s"]).expect(0)?);
    same(of(&events, "signalled"), vec!["child", "parent", "init"])?;
    same(of(&events, "exited"), vec!["child", "parent", "init"])?;
    same(last(&events)["graceful"].clone(), json!(true))?;
    let heard: Vec<String> =
        container.heard().iter().filter_map(|l| Some(l.split(' ').next()?.to_owned())).collect();
    same(heard, ["child", "parent", "init"].map(str::to_owned).to_vec())
}

fn all() -> Outcome {
    let container = fixture("init handle=TERM\n> a leaves-on=TERM\n> b ignore=TERM")?;
    let events = events(&stop(&container, &["--order", "all", "-t", "500ms"]).expect(0)?);
    let mut told = of(&events, "signalled");
    told.sort_unstable();
    same(told, vec!["a", "b", "init"])?;
    same(of(&events, "signalled").last().copied(), Some("init"))?;
    same(last(&events)["graceful"].clone(), json!(false))
}

fn no_kill() -> Outcome {
    let container = fixture("init")?;
    let events = events(&stop(&container, &["--no-kill", "-t", "200ms"]).expect(124)?);
    same(of(&events, "killed"), Vec::<&str>::new())?;
    same(last(&events)["left"].clone(), json!(1))?;
    run(&["ps", &name(&container)]).expect(0).map(drop)
}

fn ladder() -> Outcome {
    let container = fixture("init handle=USR1 leaves-on=TERM")?;
    let stopped = stop(&container, &["--schedule", "USR1:300ms,TERM:20s,KILL"]).expect(0)?;
    let events = events(&stopped);
    let signals: Vec<Value> = events
        .iter()
        .filter(|(event, _)| event == "signalled")
        .map(|(_, row)| row["signal"].clone())
        .collect();
    same(signals, vec![json!("USR1"), json!("TERM")])?;
    same(last(&events)["graceful"].clone(), json!(true))
}

fn dry_run() -> Outcome {
    let container = fixture("init handle=TERM\n> child handle=TERM")?;
    let plan = run(&["stop", "-n", &name(&container)]).expect(0)?;
    check(plan.out.contains("would send TERM"), &plan.out)?;
    check(plan.out.contains("1 process may get SIGKILL without warning"), &plan.out)?;
    std::thread::sleep(Duration::from_millis(200));
    same(container.heard(), Vec::<String>::new())
}

fn forks() -> Outcome {
    let container = fixture("init handle=TERM forks\n> other forks")?;
    let events = events(&stop(&container, &["--order", "all", "-t", "700ms"]).expect(0)?);
    same(last(&events)["event"].clone(), json!("stopped"))?;
    run(&["ps", &name(&container)]).expect(3).map(drop)
}

fn several() -> Outcome {
    let (one, two) = (fixture("init")?, fixture("init leaves-on=TERM")?);
    let stopped = run(&["--json", "stop", "-t", "1s", &name(&one), &name(&two), "nobody"]);
    let stopped = stopped.expect(3)?;
    let graceful = |container: &Container| {
        let rows = stopped.objects();
        let mut own = rows.iter().filter(|row| row["container"] == json!(name(container)));
        own.next_back().map(|row| row["graceful"].clone())
    };
    same(graceful(&one), Some(json!(false)))?;
    same(graceful(&two), Some(json!(true)))
}

fn usage() -> Outcome {
    for ladder in ["", "TERM", "TERM:", "KILL,TERM:1s", "TREM:1s", "TERM:1x"] {
        run(&["stop", "web", "--schedule", ladder]).expect(2)?;
    }
    run(&["stop", "web", "--schedule", "TERM:1s", "--no-kill"]).expect(2)?;
    run(&["stop"]).expect(2).map(drop)
}
