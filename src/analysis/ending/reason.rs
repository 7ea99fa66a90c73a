//! The reason why a container ended, in one sentence. Only facts are stated as facts.

use super::EndingInput;
use crate::analysis::wording::counted;
use crate::model::byte_size::memory;
use crate::model::bytes::message_text;
use crate::model::exit_record::{ExitRecord, RecordedState};
use crate::model::oom_kill::OomKill;
use crate::model::signal::Signal;

/// The usual causes of signals that the kernel sends, signal(7), setrlimit(2), seccomp(2); a process may send
/// them, too.
const CAUSES: [(Signal, &str); 11] = [
    (Signal::SEGV, FAULT),
    (Signal::BUS, FAULT),
    (Signal::ILL, FAULT),
    (Signal::FPE, FAULT),
    (Signal::TRAP, FAULT),
    (Signal::SYS, "a system call that a seccomp filter forbids"),
    (Signal::ABRT, "it aborted"),
    (Signal::PIPE, "it wrote to a pipe or socket that was closed"),
    (Signal::ALRM, "a timer of its own that it does not handle"),
    (Signal::XCPU, "its limit of CPU time (RLIMIT_CPU)"),
    (Signal::XFSZ, "its limit of file size (RLIMIT_FSIZE)"),
];
const FAULT: &str = "a fault of the program";

impl EndingInput<'_> {
    /// Returns the predicate of a sentence about a kill: `killed sh (host PID 812, 20 MiB) for lack of memory`.
    pub(super) fn killed(&self, kill: &OomKill) -> String {
        let comm = message_text(&kill.comm);
        let size = kill.anonymous.map(|bytes| format!(", {} of memory", memory(bytes)));
        let limit = match &kill.limited {
            None => "the host had none left".to_owned(),
            Some(path) if super::is_cgroup_of(path, self.container, self.cgroup) => {
                "its own limit".to_owned()
            }
            Some(path) => format!("the limit of {}", message_text(path)),
        };
        format!(
            "killed {comm} (host PID {}{}) for lack of memory: {limit}",
            kill.pid,
            size.unwrap_or_default()
        )
    }

    /// Returns the reason in one sentence.
    pub(super) fn reason(&self) -> String {
        let engine = self.engine();
        if self.is_running {
            return self.running();
        }
        let Some(record) = self.record else { return self.unrecorded() };
        match record.state {
            RecordedState::Created => match &record.error {
                Some(_) => format!("{engine} could not start it"),
                None => "it was never started".into(),
            },
            RecordedState::Running => format!(
                "how it ended is not known: {engine} was not there to record it, and its record says that it runs"
            ),
            RecordedState::Removing => format!("{engine} is removing it"),
            RecordedState::Stopped => self.unrecorded(),
            RecordedState::Exited | RecordedState::Restarting | RecordedState::Dead => {
                self.ended(record)
            }
        }
    }

    /// Returns the reason for a container whose engine records no end. An OOM kill may be of any of its runs.
    fn unrecorded(&self) -> String {
        let cause = match self.record {
            None if self.container.engine.records_ends => self.unread_record(),
            _ if self.kills.is_empty() => {
                format!("{} does not record it, nor whether it was ever started", self.engine())
            }
            _ => format!("{} does not record it", self.engine()),
        };
        let text = format!("how it ended is not known: {cause}");
        match self.kills.last() {
            None => text,
            Some((time, kill)) => format!(
                "{text}; the kernel killed {} (host PID {}) of it{} for lack of memory, {}",
                message_text(&kill.comm),
                kill.pid,
                self.doubt(),
                self.moment(*time)
            ),
        }
    }

    /// Returns the reason why an end that its engine records is not known.
    pub(super) fn unread_record(&self) -> String {
        format!("its record of {} could not be read", self.engine())
    }

    fn running(&self) -> String {
        let restarts = self.record.and_then(|record| record.restarts).unwrap_or(0);
        let counted_kills = self.counted.map_or(0, |(count, _)| *count);
        let logged_kills = self.kills.len() as u64;
        // (Kills in the log may be an earlier container's.)
        let kills = match self.may_be_earlier {
            true => counted_kills,
            false => counted_kills.max(logged_kills),
        };
        let mut text = "it is running".to_owned();
        match restarts {
            0 => {}
            count => text.push_str(&format!(
                ", after {} by its engine",
                counted(count, "restart", "restarts")
            )),
        }
        match kills {
            0 if logged_kills > 0 => text.push_str(&format!(
                "; a process of it{} was killed for lack of memory",
                self.doubt()
            )),
            0 => {}
            1 => text.push_str("; a process of it was killed for lack of memory"),
            count => {
                text.push_str(&format!("; {count} processes of it were killed for lack of memory"))
            }
        }
        text
    }

    fn ended(&self, record: &ExitRecord) -> String {
        let Some(status) = record.status.filter(|status| *status >= 0) else {
            return "its init exited, with a status that is not known".into();
        };
        let signal = record.signal();
        if let Some(kill) = self.last_kill().filter(|_| !self.may_be_earlier) {
            let comm = message_text(&kill.comm);
            let pid = kill.pid;
            return match signal {
                Some(Signal::KILL) => format!(
                    "the kernel killed {comm} (host PID {pid}) for lack of memory, and the container ended with status 137"
                ),
                _ => format!(
                    "the kernel killed {comm} (host PID {pid}) for lack of memory; its init exited with status {status} right after or before that"
                ),
            };
        }
        let ended = match signal {
            Some(signal) => self.by_signal(record, signal, status),
            None => self.by_itself(record, status),
        };
        let ended = self.unhealthy(record).unwrap_or_default() + &ended;
        if record.oom != Some(true) {
            return ended;
        }
        // (The mark stays for the whole life of the container.)
        match (signal, record.stopped_manually) {
            (Some(Signal::KILL), None | Some(false)) => {
                "a process of it was killed for lack of memory, and it ended with status 137".into()
            }
            (_, Some(true)) => {
                format!("a process of it was killed for lack of memory before it ended; {ended}")
            }
            _ => format!(
                "a process of it was killed for lack of memory; its init exited with status {status}"
            ),
        }
    }

    /// Returns the reason for a status of 128+N.
    fn by_signal(&self, record: &ExitRecord, signal: Signal, status: i32) -> String {
        let engine = self.engine();
        // (PID 1 is not ended by a signal that it does not handle, signal(7); a handler may exit so.)
        let as_others = match signal {
            Signal::KILL => "shells do after a command that KILL ended".to_owned(),
            _ => format!(
                "programs do that handle {signal}, and shells after a command that it ended"
            ),
        };
        let itself = format!("or it exited with status {status} by itself, as {as_others}");
        match record.stopped_manually {
            // (Docker and Podman set the mark for every signal that they send, also if it was only handled.)
            Some(true) if signal == Signal::KILL => format!(
                "it was stopped, or sent a signal, through {engine}: KILL ended its init (its grace period had expired, or KILL was sent through {engine} or by another sender), {itself}"
            ),
            Some(true) => format!(
                "it was stopped, or sent a signal, through {engine}: {signal} ended its init, {itself}"
            ),
            _ => {
                let cause = CAUSES.iter().find(|(known, _)| *known == signal);
                let cause = cause
                    .map(|(_, cause)| format!(": {cause}, unless somebody sent the signal"))
                    .unwrap_or_default();
                format!("{signal} ended its init{cause}, {itself}{}", self.no_request(record))
            }
        }
    }

    /// Says that the engine ends a container that is unhealthy, as this one was.
    fn unhealthy(&self, record: &ExitRecord) -> Option<String> {
        let health = record.health.as_ref().filter(|health| health.status == "unhealthy")?;
        let action = health.on_failure.as_ref()?;
        Some(format!("it was unhealthy, on which {} does `{action}`: ", self.engine()))
    }

    /// Says that the engine records no request, if it records them.
    fn no_request(&self, record: &ExitRecord) -> String {
        match record.stopped_manually {
            Some(false) => {
                format!("; {} recorded no request to stop or signal it", self.engine())
            }
            _ => String::new(),
        }
    }

    /// Returns the reason for a status that is not that of a signal.
    fn by_itself(&self, record: &ExitRecord, status: i32) -> String {
        let engine = self.engine();
        let lost = self.container.engine.lost_status;
        match (status, record.stopped_manually) {
            (0, Some(false)) => "its command finished with status 0".into(),
            (0, None) => "its init exited with status 0".into(),
            (status, Some(true)) => format!(
                "its init exited with status {status}, after it was stopped, or sent a signal, through {engine}"
            ),
            (126, _) => "its command exited with status 126, which shells report for a command that cannot be executed".into(),
            (127, _) => "its command exited with status 127, which shells report for a command that was not found".into(),
            (status, _) if Some(status) == lost => format!(
                "its command exited with status {status}, or it ended while {engine} was not running, which then records that status"
            ),
            (status, Some(false)) => {
                format!("its command exited with status {status}{}", self.no_request(record))
            }
            (status, None) => format!(
                "its command exited with status {status}; whether it was stopped through {engine} is not recorded"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::{EndingInput, Explanation, explain, is_cgroup_of};
    use super::*;
    use crate::model::container::Container;
    use crate::model::engine::EngineInfo;
    use crate::model::exit_record::HealthRecord;

    static ENGINE: EngineInfo =
        EngineInfo { name: "docker", display_name: "Docker", ..EngineInfo::DEFAULT };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(status: i32) -> ExitRecord {
        ExitRecord {
            state: RecordedState::Exited,
            status: Some(status),
            oom: Some(false),
            started: Some(at(900)),
            finished: Some(at(1000)),
            stopped_manually: Some(false),
            ..ExitRecord::default()
        }
    }

    fn oom_kill(cgroup: &str) -> OomKill {
        OomKill {
            time: 0,
            limited: Some(cgroup.into()),
            cgroup: cgroup.into(),
            comm: b"app".to_vec(),
            pid: 812,
            anonymous: Some(20 << 20),
        }
    }

    fn reason(record: &ExitRecord, kills: &[(Timestamp, OomKill)]) -> String {
        explained(record, kills, NEVER).reason
    }

    const NEVER: Option<SignedDuration> = Some(SignedDuration::ZERO);

    /// Explains an end on a host that was suspended for so long.
    fn explained(
        record: &ExitRecord,
        kills: &[(Timestamp, OomKill)],
        suspended: Option<SignedDuration>,
    ) -> Explanation {
        let container = Container::not_running(&ENGINE);
        explain(&input(&container, record, kills, suspended))
    }

    fn input<'a>(
        container: &'a Container,
        record: &'a ExitRecord,
        kills: &'a [(Timestamp, OomKill)],
        suspended: Option<SignedDuration>,
    ) -> EndingInput<'a> {
        EndingInput {
            container,
            cgroup: None,
            record: Some(record),
            is_running: false,
            kills,
            may_be_earlier: false,
            kernel_log: Ok(Some(at(500))),
            suspended,
            counted: None,
            counted_above: &[],
            boot: at(0),
        }
    }

    #[test]
    fn the_reason_has_only_known_facts() {
        let manual = |status| ExitRecord { stopped_manually: Some(true), ..ended(status) };
        let marked = |status| ExitRecord { oom: Some(true), ..ended(status) };
        let unhealthy = HealthRecord {
            status: "unhealthy".into(),
            on_failure: Some("kill".into()),
            ..HealthRecord::default()
        };
        for (record, part) in [
            (ended(0), "its command finished with status 0"),
            (ended(3), "status 3; Docker recorded no request to stop or signal it"),
            (ended(143), "TERM ended its init, or it exited with status 143 by itself"),
            (ended(139), "a fault of the program, unless somebody sent"),
            (ended(137), "KILL ended its init, or it exited with status 137 by itself"),
            (ended(137), "; Docker recorded no request to stop or signal it"),
            (ended(159), "SYS ended its init: a system call that a seccomp filter forbids, unless"),
            (ended(152), "its limit of CPU time (RLIMIT_CPU), unless somebody sent the signal"),
            (manual(137), "its grace period had expired, or KILL was sent"),
            (manual(143), "stopped, or sent a signal, through Docker: TERM"),
            (
                ExitRecord { health: Some(unhealthy), ..manual(137) },
                "it was unhealthy, on which Docker does `kill`: it was stopped, or sent a signal",
            ),
            (manual(0), "status 0, after it was stopped, or sent a signal, through Docker"),
            (manual(3), "status 3, after it was stopped, or sent a signal, through Docker"),
            (ended(143), "as programs do that handle TERM"),
            (
                marked(137),
                "a process of it was killed for lack of memory, and it ended with status 137",
            ),
            (
                ExitRecord { stopped_manually: Some(true), ..marked(137) },
                "for lack of memory before it ended; it was stopped, or sent a signal, through",
            ),
            (marked(1), "killed for lack of memory; its init exited with status 1"),
            (ended(127), "a command that was not found"),
            (ended(-1), "a status that is not known"),
        ] {
            let reason = reason(&record, &[]);
            assert!(reason.contains(part), "{reason} / {part}");
        }
    }

    #[test]
    fn a_kill_counts_if_it_was_at_that_time() {
        let kill = oom_kill("/docker/x");
        let near = [(at(999), kill.clone())];
        assert!(reason(&ended(137), &near).starts_with("the kernel killed app (host PID 812)"));
        let early = [(at(950), kill)];
        assert!(reason(&ended(137), &early).contains("KILL ended its init"));
    }

    #[test]
    fn a_time_in_the_kernels_log_is_a_range_where_the_host_was_suspended() {
        let near = [(at(999), oom_kill("/docker/x"))];
        let texts = |kills, suspended| {
            let answer = explained(&ended(137), kills, suspended);
            let texts = answer.statements.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
            (answer.reason, texts.join("\n"))
        };
        let hour = Some(SignedDuration::from_hours(1));
        let (reason, text) = texts(&near, hour);
        // It was at that time or up to an hour later: another one may have ended it.
        assert!(reason.contains("KILL ended its init, or it exited"), "{reason}");
        let range =
            "between 1970-01-01T00:16:39Z and 1970-01-01T01:16:39Z (the host was suspended)";
        assert!(text.contains(range), "{text}");
        assert!(texts(&near, NEVER).1.contains("/docker/x, about 1970-01-01T00:16:39Z"));
        assert!(texts(&[], NEVER).1.contains("no OOM kill of its processes in the kernel's log"));
        assert!(texts(&[], hour).1.contains("the kernel's log may begin later, between"));
        // On a recorded host that is not known.
        let (reason, text) = texts(&near, None);
        assert!(reason.contains("KILL ended its init, or it exited"), "{reason}");
        let from = "about 1970-01-01T00:16:39Z, or later if the host was suspended";
        assert!(text.contains(from), "{text}");
    }

    #[test]
    fn a_kill_that_may_be_an_earlier_containers_is_not_stated_as_its_own() {
        let container = Container::not_running(&ENGINE);
        let (record, kills) = (ended(0), [(at(999), oom_kill("/docker/x"))]);
        let counted = (2, "memory.events".to_owned());
        let reason = |may_be_earlier, counted| {
            let input = input(&container, &record, &kills, NEVER);
            explain(&EndingInput { is_running: true, may_be_earlier, counted, ..input }).reason
        };
        let killed = "it is running; a process of it was killed for lack of memory";
        assert_eq!(reason(false, None), killed);
        let doubted = "a process of it (or of an earlier container of this name) was killed";
        assert!(reason(true, None).contains(doubted));
        assert!(reason(true, Some(&counted)).contains("; 2 processes of it were killed"));
    }

    #[test]
    fn only_the_first_id_of_a_path_names_the_container() {
        let (own, other) = ("a1".repeat(32), "b2".repeat(32));
        let mut container = Container::not_running(&ENGINE);
        container.id = Some(own.clone());
        for (path, is_own) in [
            (format!("/docker/{own}"), true),
            (format!("/system.slice/docker-{own}.scope/app"), true),
            (format!("/docker/{other}/docker/{own}"), false),
            (format!("/machine.slice/libpod-{own}.scope/container"), true),
            (format!("/machine.slice/libpod-conmon-{own}.scope"), false),
            (format!("/user.slice/user-1000.slice/{own}"), false),
            ("/docker".into(), false),
        ] {
            assert_eq!(is_cgroup_of(path.as_bytes(), &container, None), is_own, "{path}");
        }
        let named = b"/lxc.payload.web";
        assert!(is_cgroup_of(b"/lxc.payload.web/init.scope", &container, Some(named)));
        assert!(!is_cgroup_of(b"/lxc.payload.web2", &container, Some(named)));
        assert!(!is_cgroup_of(b"/anything", &container, Some(b"/")));
    }
}
