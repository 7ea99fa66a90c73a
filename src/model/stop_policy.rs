//! How a container is to be stopped, as its engine recorded it, with the engine's defaults for the
//! rest.

use std::path::PathBuf;
use std::time::Duration;

use super::engine::EngineInfo;
use super::signal::Signal;

/// The settings that an engine recorded about stopping a container; `None` for one that it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopPolicy {
    /// The stop signal.
    pub signal: Option<Signal>,
    /// The time between the stop signal and KILL.
    pub grace: Option<Duration>,
    /// The restart policy as the engine spells it: `always`, `on-failure`, ….
    pub restart: Option<String>,
    /// The file with the restart policy, where that is not the record that names the container.
    pub restart_source: Option<PathBuf>,
}

impl StopPolicy {
    /// Returns the stop signal: the recorded one, or the engine's default.
    pub fn signal_of(&self, engine: &EngineInfo) -> Signal {
        self.signal.unwrap_or(engine.stop_signal)
    }

    /// Returns the time between the stop signal and KILL: the recorded one, or the engine's default.
    pub fn grace_of(&self, engine: &EngineInfo) -> Duration {
        self.grace.unwrap_or(engine.grace_time)
    }

    /// Returns the reason why the container would run again after a stop that was not its engine's
    /// own, if it would.
    pub fn restart_reason(&self, engine: &EngineInfo) -> Option<String> {
        if let Some(reason) = engine.always_restarts {
            return Some(reason.into());
        }
        match self.restart.as_deref()? {
            "" | "no" => None,
            "on-failure" => Some(
                "the engine restarts it unless it exits with status 0 (restart policy `on-failure`)"
                    .into(),
            ),
            policy => Some(format!("the engine restarts it at once (restart policy `{policy}`)")),
        }
    }
}

/// Formats a grace time for a sentence: `10 s`, `1.5 s`, `2 min`.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 120.0 && time.as_secs().is_multiple_of(60) {
        return format!("{} min", time.as_secs() / 60);
    }
    let text = format!("{seconds:.1}");
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ENGINE: EngineInfo = EngineInfo {
        stop_signal: Signal::PWR,
        grace_time: Duration::from_secs(60),
        ..EngineInfo::DEFAULT
    };
    static RESTARTING: EngineInfo =
        EngineInfo { always_restarts: Some("it does"), ..EngineInfo::DEFAULT };

    #[test]
    fn defaults_are_the_engines() {
        let policy = StopPolicy::default();
        assert_eq!(policy.signal_of(&ENGINE), Signal::PWR);
        assert_eq!(policy.grace_of(&ENGINE), Duration::from_secs(60));
        let policy = StopPolicy {
            signal: Some(Signal::INT),
            grace: Some(Duration::ZERO),
            ..StopPolicy::default()
        };
        assert_eq!(policy.signal_of(&ENGINE), Signal::INT);
        assert_eq!(policy.grace_of(&ENGINE), Duration::ZERO);
    }

    #[test]
    fn a_policy_or_the_engine_restarts_it() {
        let policy = |restart: Option<&str>| StopPolicy {
            restart: restart.map(str::to_owned),
            ..StopPolicy::default()
        };
        assert_eq!(policy(None).restart_reason(&ENGINE), None);
        assert_eq!(policy(Some("no")).restart_reason(&ENGINE), None);
        assert!(policy(Some("always")).restart_reason(&ENGINE).is_some());
        assert_eq!(policy(None).restart_reason(&RESTARTING).as_deref(), Some("it does"));
    }
}
