//! How a container is to be stopped, as its engine wrote it down.

use std::time::Duration;

use super::container::EngineKind;
use super::signal::Signal;

/// What an engine recorded about stopping a container; what it did not is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopPolicy {
    /// The signal.
    pub signal: Option<Signal>,
    /// How long until KILL.
    pub grace: Option<Duration>,
    /// The restart policy as the engine spells it: `always`, `on-failure`, ….
    pub restart: Option<String>,
    /// Whether a user has stopped it by hand before, which `unless-stopped` goes by.
    pub stopped_by_hand: bool,
}

impl StopPolicy {
    /// The signal that an engine sends: the recorded one, else the engine's own default.
    pub fn signal_of(&self, runtime: EngineKind) -> Signal {
        self.signal.unwrap_or(match runtime {
            // lxc.container.conf(5), lxc.signal.halt.
            EngineKind::Lxc => Signal::PWR,
            _ => Signal::TERM,
        })
    }

    /// The time until KILL: the recorded one, else ten seconds, as most engines have it.
    pub fn grace_of(&self, runtime: EngineKind) -> Duration {
        self.grace.unwrap_or(match runtime {
            // lxc-stop(1), systemd's DefaultTimeoutStopSec, Kubernetes' terminationGracePeriodSeconds.
            EngineKind::Lxc => Duration::from_secs(60),
            EngineKind::Nspawn => Duration::from_secs(90),
            EngineKind::Cri | EngineKind::Crio => Duration::from_secs(30),
            _ => Duration::from_secs(10),
        })
    }

    /// Why the engine would start it again after it was stopped without the engine's knowledge, if it
    /// would.
    pub fn comes_back(&self, runtime: EngineKind) -> Option<String> {
        if matches!(runtime, EngineKind::Cri | EngineKind::Crio) {
            return Some("the kubelet starts it again as its pod's restart policy says".into());
        }
        match self.restart.as_deref()? {
            "" | "no" => None,
            "on-failure" => Some(
                "its restart policy is `on-failure`: it comes back unless it leaves with status 0"
                    .into(),
            ),
            policy => Some(format!("its restart policy is `{policy}`: it comes back at once")),
        }
    }
}

/// A grace time as people say it: `10s`, `1.5s`, `2m`.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 120.0 && time.as_secs().is_multiple_of(60) {
        return format!("{}m", time.as_secs() / 60);
    }
    let text = format!("{seconds:.1}");
    format!("{}s", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_recorded_is_the_engines_default() {
        let plan = StopPolicy::default();
        assert_eq!(plan.signal_of(EngineKind::Docker), Signal::TERM);
        assert_eq!(plan.signal_of(EngineKind::Lxc), Signal::PWR);
        assert_eq!(plan.grace_of(EngineKind::Podman), Duration::from_secs(10));
        assert_eq!(plan.comes_back(EngineKind::Docker), None);
        let plan = StopPolicy { restart: Some("always".into()), ..StopPolicy::default() };
        assert!(plan.comes_back(EngineKind::Docker).is_some());
    }
}
