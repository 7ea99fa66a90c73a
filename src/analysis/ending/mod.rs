//! How and why a container ended: the reason in a sentence, and each fact with its source. Pure.

mod reason;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::wording::{counted, times};
use crate::model::cgroup::{components, is_at_or_below};
use crate::model::container::{Container, is_long_id};
use crate::model::exit_record::{ExitRecord, RecordedState};
use crate::model::oom_kill::OomKill;

/// A kill this long before or after the end of a container ended it.
const SAME_MOMENT: std::time::Duration = std::time::Duration::from_secs(2);
/// The word before the ID in the cgroup of a monitor (`libpod-conmon-ID.scope`, `crio-conmon-ID.scope`).
const MONITOR: &[u8] = b"conmon-";

/// The facts about the end of a container.
#[derive(Debug)]
pub struct EndingInput<'a> {
    /// The container.
    pub container: &'a Container,
    /// The cgroup that it has when it runs, if that is known.
    pub cgroup: Option<&'a [u8]>,
    /// Its engine's record, if there is one.
    pub record: Option<&'a ExitRecord>,
    /// Whether it runs.
    pub is_running: bool,
    /// OOM kills of its processes in the kernel's log, the oldest first.
    pub kills: &'a [(Timestamp, OomKill)],
    /// Whether one of these may be of an earlier container of the same name: its start is not known, or the time of
    /// the kill.
    pub may_be_earlier: bool,
    /// The time from which the kernel's log has everything; or why it could not be read.
    pub kernel_log: Result<Option<Timestamp>, String>,
    /// Time by which the times in the kernel's log may be too early, because the host was suspended; none if that is
    /// not known.
    pub suspended: Option<SignedDuration>,
    /// OOM kills that its cgroup counts, if it runs: number and file.
    pub counted: Option<&'a (u64, String)>,
    /// The same of the cgroups above it, each with all that is in it.
    pub counted_above: &'a [(u64, String)],
    /// Time that the host started.
    pub boot: Timestamp,
}

/// A statement and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its subject in one word.
    pub topic: &'static str,
    /// The statement.
    pub text: String,
    /// The file that it is taken from, if there is one.
    pub source: Option<String>,
}

/// The answer.
#[derive(Debug)]
pub struct Explanation {
    /// The reason in one sentence.
    pub reason: String,
    /// The statements that support it.
    pub statements: Vec<Statement>,
    /// Whether a process of it was killed for lack of memory, if that is known.
    pub oom: Option<bool>,
}

/// Explains how a container ended.
pub fn explain(input: &EndingInput<'_>) -> Explanation {
    let statements = [
        input.exit(),
        input.oom(),
        input.sender(),
        input.manual(),
        input.health(),
        input.restarts(),
    ];
    let is_marked = input.record.is_some_and(|record| record.oom == Some(true));
    let is_counted = input.counted.is_some_and(|(count, _)| *count > 0);
    let is_killed = !input.kills.is_empty();
    let oom = match is_marked || is_counted || is_killed && !input.may_be_earlier {
        true => Some(true),
        false if is_killed => None,
        false => input.record.and_then(|record| record.oom),
    };
    Explanation { reason: input.reason(), statements: statements.concat(), oom }
}

/// Whether a memory cgroup was the container's. The first ID in its path has to be the container's: below
/// its own cgroup a container, and below their own a user, may create cgroups of any name.
pub fn is_cgroup_of(path: &[u8], container: &Container, cgroup: Option<&[u8]>) -> bool {
    if let Some(cgroup) = cgroup.filter(|cgroup| components(cgroup).next().is_some())
        && is_at_or_below(path, cgroup)
    {
        return true;
    }
    let Some(id) = container.id.as_deref().filter(|id| is_long_id(id)) else { return false };
    let is_users = components(path).any(|name| name.starts_with(b"user-"));
    let first = components(path).find_map(long_id);
    first == Some(id) && (container.user.is_some() || !is_users)
}

/// Returns the latest moment that a time in the kernel's log can mean, where the host was suspended for so long.
pub fn latest_time(time: Timestamp, suspended: Option<SignedDuration>) -> Timestamp {
    let latest = suspended.and_then(|suspended| time.saturating_add(suspended).ok());
    latest.unwrap_or(Timestamp::MAX)
}

/// Whether a path has the ID of a container, as engines make them.
pub fn has_long_id(path: &[u8]) -> bool {
    components(path).any(|component| long_id(component).is_some())
}

/// Returns the ID at the end of a component, as in `docker-ID.scope`; that of a container's monitor has it, too.
fn long_id(component: &[u8]) -> Option<&str> {
    let name = component.strip_suffix(b".scope").unwrap_or(component);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(64)?)?;
    let id = std::str::from_utf8(id).ok()?;
    (is_long_id(id) && !prefix.ends_with(MONITOR)).then_some(id)
}

impl EndingInput<'_> {
    /// Returns the engine's name in a sentence.
    fn engine(&self) -> &'static str {
        self.container.engine.display_name
    }

    fn statement(&self, topic: &'static str, text: impl Into<String>) -> Statement {
        let source = self.record.and_then(|record| record.sources.first());
        let source = source.map(|path| path.display().to_string());
        Statement { topic, text: text.into(), source }
    }

    /// Returns the kill that ended the container, or came right before.
    fn last_kill(&self) -> Option<&OomKill> {
        // (A kill at another time could be taken for it.)
        let finished = self.record?.finished.filter(|_| !self.may_be_suspended())?;
        let is_near = |time: Timestamp| time.duration_since(finished).unsigned_abs() <= SAME_MOMENT;
        self.kills.iter().rev().find(|(time, _)| is_near(*time)).map(|(_, kill)| kill)
    }

    fn exit(&self) -> Vec<Statement> {
        let Some(record) = self.record else { return Vec::new() };
        let mut statements = Vec::new();
        if let Some(error) = &record.error {
            statements.push(self.statement("error", error.clone()));
        }
        if let Some(finished) = record.finished {
            // (An engine may record the start of a command after its end.)
            let started = record.started.filter(|started| *started <= finished);
            let started = started.map(|time| format!("started {time:.3}, "));
            let which = match self.is_running {
                false => "",
                // (Docker and Podman set the status to 0 when they start it again.)
                true => " (its previous run, of which the exit status is not recorded)",
            };
            let text = format!(
                "{}ended {finished:.3}{which}",
                started.filter(|_| !self.is_running).unwrap_or_default()
            );
            statements.push(self.statement("time", text));
            if !self.is_running && finished < self.boot {
                let text = format!(
                    "it ended before the host started, {:.0}, unless the clock was set since",
                    self.boot
                );
                statements.push(Statement {
                    topic: "host",
                    text,
                    source: Some("/proc/stat".into()),
                });
            }
        }
        statements
    }

    fn oom(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        if let Some(record) = self.record
            && !self.is_running
            && record.has_ended()
        {
            statements.extend(record.oom.map(|marked| match marked {
                true => {
                    self.statement("oom", format!("{} recorded an OOM kill in it", self.engine()))
                }
                false => self.statement("oom", format!("{} recorded no OOM kill", self.engine())),
            }));
        }
        let kernel = Some("/dev/kmsg".to_owned());
        for (time, kill) in self.kills {
            let killed = self.killed(kill);
            let text = format!("the kernel {killed}, {}{}", self.moment(*time), self.doubt());
            statements.push(Statement { topic: "oom", text, source: kernel.clone() });
        }
        match &self.kernel_log {
            _ if !self.kills.is_empty() => {}
            Err(why) => {
                let text = format!("the kernel's log could not be read: {why}");
                statements.push(Statement { topic: "oom", text, source: kernel });
            }
            Ok(begin) => {
                let finished = self.record.and_then(|record| record.finished);
                let is_before = |(begin, end)| latest_time(begin, self.suspended) <= end;
                let is_whole = begin.zip(finished).is_none_or(is_before);
                let text = match (is_whole, begin) {
                    (true, _) | (_, None) => {
                        "no OOM kill of its processes in the kernel's log".into()
                    }
                    (false, Some(begin)) => {
                        let begins = if self.may_be_suspended() { "may begin" } else { "begins" };
                        format!("the kernel's log {begins} later, {}", self.moment(*begin))
                    }
                };
                statements.push(Statement { topic: "oom", text, source: kernel });
            }
        }
        let number = |count: u64| match count {
            0 => "no OOM kill is counted".to_owned(),
            count => counted(count, "OOM kill is counted", "OOM kills are counted"),
        };
        let counted = self.counted.into_iter().map(|(count, file)| (number(*count), file));
        let above = self.counted_above.iter().map(|(count, file)| {
            let name = Path::new(file).parent().and_then(Path::file_name).unwrap_or_default();
            let name = name.to_string_lossy();
            (format!("{} in all of `{name}`, a cgroup above it", number(*count)), file)
        });
        statements.extend(counted.chain(above).map(|(text, file)| Statement {
            topic: "oom",
            text,
            source: Some(file.clone()),
        }));
        statements
    }

    /// Whether the host may have been suspended for so long that the times in the kernel's log say little.
    fn may_be_suspended(&self) -> bool {
        self.suspended.is_none_or(|suspended| suspended.unsigned_abs() > SAME_MOMENT)
    }

    /// Returns a time in the kernel's log in words. Its clock stands still while the host is suspended, and
    /// nothing corrects it as NTP does the others.
    fn moment(&self, time: Timestamp) -> String {
        match self.suspended {
            None => format!("about {time:.0}, or later if the host was suspended"),
            Some(_) if self.may_be_suspended() => {
                let latest = latest_time(time, self.suspended);
                format!("between {time:.0} and {latest:.0} (the host was suspended)")
            }
            Some(_) => format!("about {time:.0}"),
        }
    }

    /// Returns the doubt about the OOM kills, if there is one.
    fn doubt(&self) -> &'static str {
        if self.may_be_earlier { " (or of an earlier container of this name)" } else { "" }
    }

    /// Returns the facts that a trace would have had.
    fn sender(&self) -> Vec<Statement> {
        let record = self.record.filter(|record| record.state != RecordedState::Stopped);
        let is_known = match record {
            Some(record) if record.has_ended() => {
                record.signal().is_none() && record.status >= Some(0)
            }
            Some(record) => record.state != RecordedState::Running,
            // (It may be read with more rights.)
            None => self.record.is_none() && self.container.engine.records_ends,
        };
        if self.is_running || is_known || self.last_kill().is_some() {
            return Vec::new();
        }
        let trace = format!("`cinspect trace {}`", self.container.qualified());
        let text = match record.and_then(ExitRecord::signal) {
            Some(_) => format!(
                "no record names the sender of a signal; {trace} shows that of the next one"
            ),
            None => format!("{trace} shows the next end: exit status, signals and their senders"),
        };
        vec![Statement { topic: "sender", text, source: None }]
    }

    fn manual(&self) -> Vec<Statement> {
        let engine = self.engine();
        let record = self.record.filter(|record| record.has_ended() && !self.is_running);
        let statement =
            record.and_then(|record| record.stopped_manually).map(|stopped| match stopped {
                true => self.statement(
                    "stop",
                    format!("it was stopped, or sent a signal, through {engine}"),
                ),
                // (Docker shuts down without such a record, and its containers with it.)
                false => self.statement(
                    "stop",
                    format!(
                        "{engine} recorded no request to stop or signal it; it records none when it shuts down itself"
                    ),
                ),
            });
        statement.into_iter().collect()
    }

    fn health(&self) -> Vec<Statement> {
        let Some(health) = self.record.and_then(|record| record.health.as_ref()) else {
            return Vec::new();
        };
        let mut text = health.state();
        if let Some((status, output)) = &health.last {
            text.push_str(&format!("; the last exited with status {status}"));
            if !output.trim().is_empty() {
                text.push_str(&format!(": {}", output.trim()));
            }
        }
        text.push_str(&health.action(self.engine()));
        vec![self.statement("health", text)]
    }

    /// Returns the facts that are unknown because the record of a running container is missing.
    fn unread(&self) -> Vec<Statement> {
        if !self.is_running || !self.container.engine.records_ends || !self.container.verified {
            return Vec::new();
        }
        let text = format!("its restarts are not known: {}", self.unread_record());
        vec![Statement { topic: "restart", text, source: None }]
    }

    fn restarts(&self) -> Vec<Statement> {
        let Some(record) = self.record else { return self.unread() };
        if let Some(path) = &record.unread {
            let text = "its restart policy and its log are not known: the file could not be read";
            let source = Some(path.display().to_string());
            return vec![Statement { topic: "restart", text: text.into(), source }];
        }
        let policy = match record.restart_policy.as_deref() {
            None => None,
            Some("" | "no" | "none") => Some("no restart policy".to_owned()),
            Some(policy) => Some(match record.restart_limit {
                Some(limit) => format!("restart policy `{policy}`, at most {}", times(limit)),
                None => format!("restart policy `{policy}`"),
            }),
        };
        let count = record.restarts.filter(|count| *count > 0 || policy.is_none());
        let count = count.map(|count| match count {
            0 => "not restarted".to_owned(),
            count => format!("restarted {}", times(count)),
        });
        let parts: Vec<String> = policy.into_iter().chain(count).collect();
        if parts.is_empty() {
            return Vec::new();
        }
        let is_reached = record.restart_limit.is_some_and(|limit| record.restarts >= Some(limit));
        let next = match record.state {
            _ if self.is_running => None,
            RecordedState::Restarting => Some(format!("; {} starts it again", self.engine())),
            RecordedState::Exited if is_reached => Some("; the limit is reached".to_owned()),
            _ => None,
        };
        let source = record.sources.last().map(|path| path.display().to_string());
        let text = parts.join(", ") + &next.unwrap_or_default();
        vec![Statement { topic: "restart", text, source }]
    }
}
