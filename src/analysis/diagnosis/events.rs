//! Findings about the container as a whole: its grace period, and the events since it was
//! started.

use std::time::Duration;

use super::Diagnosis;
use crate::analysis::finding::{FindingCode, Severity};
use crate::analysis::forecast::Answer;
use crate::analysis::wording::{counted, seconds};
use crate::model::byte_size::memory;
use crate::model::exit_record::ExitRecord;
use crate::model::stop_policy::UnsignalledEffect;

impl Diagnosis<'_> {
    /// Adds a finding if processes have no time to exit. Returns whether that is so.
    pub(super) fn grace_period(&mut self) -> bool {
        if self.grace != Duration::ZERO {
            return false;
        }
        let message = format!("the grace period is 0: SIGKILL follows {} at once", self.signal);
        let remedy = self.remedies.grace();
        self.add_for_container(Severity::Problem, FindingCode::GracePeriod, message, &remedy);
        true
    }

    /// Adds a finding if its engine's own stop has no signal to send. Returns whether that is so.
    pub(super) fn no_signal(&mut self) -> bool {
        let Some(stop) = self.input.policy.unsignalled() else { return false };
        let message = format!("a stop by its engine has no stop signal: {}", stop.reason);
        let better = self.input.alternatives.iter().find(|(_, f)| f.graceful == Answer::Yes);
        let better = better.map(|(signal, _)| *signal);
        let of_init = |exits| self.on_another(exits).map(|(signal, _)| signal);
        let may_stop = || of_init(Answer::Yes).or_else(|| of_init(Answer::Maybe));
        // (This program does not stop a sandbox.)
        let is_sandbox = self.input.container.remark.is_some();
        let remedy = match better.or_else(may_stop) {
            Some(signal) if !is_sandbox => self.remedies.stop_signal_for_good(signal),
            None if !is_sandbox => "set a stop signal that it handles".into(),
            signal => self.remedies.stop_signal(signal.unwrap_or(self.signal)),
        };
        let severity = match stop.effect {
            UnsignalledEffect::KillsAfter(_) | UnsignalledEffect::Fails => Severity::Problem,
            UnsignalledEffect::Unknown => Severity::Warning,
        };
        self.add_for_container(severity, FindingCode::NoSignal, message, &remedy);
        self.doubt_by_hook();
        true
    }

    /// Adds a finding if its engine has started it again several times, and lately.
    pub(super) fn crash_loop(&mut self) {
        let restarts = self.input.record.and_then(|record| record.restarts).unwrap_or_default();
        let age = self.input.age.filter(|age| *age < RECENTLY && restarts >= SEVERAL_RESTARTS);
        let Some(age) = age else { return };
        let message = format!(
            "{} has restarted it {restarts} times, the last time {} ago: it may be in a crash loop",
            self.input.container.engine.display_name,
            seconds(Duration::from_secs(age.as_secs()))
        );
        let remedy = match self.input.record.is_some_and(has_log_file) {
            false => "find out from its log why it exits".to_owned(),
            true => {
                let command = self.remedies.command("logs");
                format!("find out why it exits: {command} prints the end of its log")
            }
        };
        self.add_for_container(Severity::Warning, FindingCode::CrashLoop, message, &remedy);
    }

    /// Adds a finding if the engine found the container unhealthy.
    pub(super) fn health(&mut self) {
        let health = self.input.record.and_then(|record| record.health.as_ref());
        let Some(health) = health.filter(|health| health.status == "unhealthy") else { return };
        let engine = self.input.container.engine.display_name;
        let message = format!("{engine} found it {}{}", health.state(), health.action(engine));
        let remedy = format!("{} shows the output of the last check", self.remedies.command("why"));
        self.add_for_container(Severity::Warning, FindingCode::Unhealthy, message, &remedy);
    }

    /// Adds a finding if processes were killed for lack of memory.
    pub(super) fn oom_kills(&mut self) {
        let Some(kills) = self.input.oom_kills.filter(|kills| kills.count > 0) else { return };
        let limit = match &kills.limit {
            Some((bytes, source)) => format!("; its limit is {} ({source})", memory(*bytes)),
            None => String::new(),
        };
        let message = format!(
            "{} killed for lack of memory since it was started ({}){limit}",
            counted(kills.count, "process was", "processes were"),
            kills.source
        );
        let remedy = match kills.limit {
            Some(_) => {
                "raise the memory limit, or let the programs use less; the kernel log (`dmesg`) names each process"
            }
            None => "let the programs use less memory; the kernel log (`dmesg`) names each process",
        };
        self.add_for_container(Severity::Warning, FindingCode::OomKills, message, remedy);
    }
}

/// Restarts from which a container may be in a crash loop.
const SEVERAL_RESTARTS: u64 = 3;
/// The age of the last restart up to which it may be in one: engines wait up to five minutes before the next
/// start (the kubelet).
const RECENTLY: Duration = Duration::from_secs(600);

/// Whether the log of a container is a file.
pub fn has_log_file(record: &ExitRecord) -> bool {
    record.log.as_ref().is_some_and(|log| log.path.is_some())
}
