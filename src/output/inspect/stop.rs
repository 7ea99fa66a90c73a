//! The part of the page of `inspect` on stopping: signal, grace time, restart policy. It is empty for the
//! host itself.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{ContainerFact, record};
use crate::analysis::diagnosis::describe_hook;
use crate::analysis::inspection::Inspection;
use crate::model::stop_policy::SettingSource;
use crate::output::escape::safe;
use crate::output::sections::{PageLine, PageSection, line, lines};
use crate::output::units::interval;

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "Stop",
    facts: &[
        ContainerFact {
            key: "stop_signal",
            source: record,
            json: stop_signal_json,
            lines: stop_signal,
        },
        ContainerFact { key: "grace", source: record, json: grace_json, lines: grace },
        ContainerFact { key: "pre_stop", source: record, json: pre_stop_json, lines: pre_stop },
        ContainerFact {
            key: "restart",
            source: restart_source,
            json: restart_json,
            lines: restart,
        },
    ],
};

/// Returns a remark on the source of a setting, if it was not recorded.
fn source_remark(source: SettingSource) -> String {
    match source {
        SettingSource::Recorded => String::new(),
        SettingSource::Default => " (the engine's default)".into(),
        SettingSource::DefaultForInit => " (the engine's default for this init)".into(),
        SettingSource::Assumed(reason) => format!(" (assumed: {reason})"),
    }
}

fn stop_signal(i: &Inspection) -> Vec<PageLine> {
    if i.is_host {
        return Vec::new();
    }
    if let Some(stop) = i.policy.unsignalled() {
        return vec![line("signal", format!("none: {}", stop.reason))];
    }
    let source = source_remark(i.policy.signal_source());
    let verdict = i.prediction.verdict.name();
    let note = i.prediction.note.as_ref().map(|note| safe(note.as_bytes()).into_owned());
    let signal = format!("{}{source}: {verdict}", i.stop_signal);
    lines("signal", [signal].into_iter().chain(note))
}

fn stop_signal_json(i: &Inspection) -> Json {
    let engines = i.policy.engines_signal(i.container.engine);
    let prediction = engines.map(|_| &i.prediction);
    let unsignalled = i.policy.unsignalled().map(|stop| stop.reason);
    json!({
        "signal": engines.map(|signal| signal.name()),
        "recorded": i.policy.signal_source() == SettingSource::Recorded,
        "assumed": i.policy.signal_source().assumption().filter(|_| engines.is_some()),
        "verdict": prediction.map(|prediction| prediction.verdict.name()),
        "note": unsignalled.or(prediction.and_then(|prediction| prediction.note.as_deref())),
    })
}

/// Returns the grace time; none if the engine waits without limit.
fn grace_time(i: &Inspection) -> Option<Duration> {
    Some(i.policy.grace_of(i.container.engine)).filter(|time| *time != Duration::MAX)
}

fn grace(i: &Inspection) -> Vec<PageLine> {
    if i.is_host {
        return Vec::new();
    }
    // (The reason that it has no signal says what it does.)
    if i.policy.unsignalled().is_some() {
        return Vec::new();
    }
    let source = source_remark(i.policy.grace_source());
    vec![match grace_time(i) {
        Some(Duration::ZERO) => line("grace", format!("none{source}: KILL at once")),
        Some(time) => line("grace", format!("{}{source}, then KILL", interval(time))),
        None => line("grace", format!("no limit{source}")),
    }]
}

fn grace_json(i: &Inspection) -> Json {
    // (As above.)
    if i.policy.unsignalled().is_some() {
        return Json::Null;
    }
    let seconds = grace_time(i).map(|time| time.as_secs_f64());
    json!({
        "seconds": seconds,
        "recorded": i.policy.grace.is_some(),
        "assumed": i.policy.grace_source().assumption(),
    })
}

fn pre_stop(i: &Inspection) -> Vec<PageLine> {
    let hook = i.policy.pre_stop.as_ref();
    let text = hook.map(|hook| format!("before the signal, {}", describe_hook(hook)));
    text.map(|text| line("hook", safe(text.as_bytes()))).into_iter().collect()
}

fn pre_stop_json(i: &Inspection) -> Json {
    match &i.policy.pre_stop {
        None => Json::Null,
        Some(hook) => json!({
            "text": describe_hook(hook),
            "pause": hook.pause().map(|pause| pause.as_secs_f64()),
        }),
    }
}

fn restart_source(i: &Inspection) -> String {
    match &i.policy.restart_source {
        Some(path) => path.display().to_string(),
        None => record(i),
    }
}

fn restart(i: &Inspection) -> Vec<PageLine> {
    if i.is_host {
        return Vec::new();
    }
    vec![match (i.policy.restart_reason(i.container.engine), i.policy.restart_unread) {
        (Some(reason), _) => line("restart", safe(reason.as_bytes())),
        (None, Some(reason)) => line("restart", format!("unknown: {reason}")),
        (None, None) => line("restart", "no restart policy"),
    }]
}

fn restart_json(i: &Inspection) -> Json {
    let restarts = match (i.policy.restart_reason(i.container.engine), i.policy.restart_unread) {
        (Some(_), _) => Some(true),
        (None, Some(_)) => None,
        (None, None) => Some(false),
    };
    json!({"policy": i.policy.restart, "comes_back": restarts})
}
