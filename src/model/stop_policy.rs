//! How a container is to be stopped, as its engine recorded it, with the engine's defaults for the
//! rest.

use std::path::PathBuf;
use std::time::Duration;

use super::engine::{EngineAdvice, EngineInfo};
use super::pre_stop::{LEAST_GRACE, PreStopHook};
use super::signal::Signal;

/// The settings that an engine recorded about stopping a container; `None` for one that it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopPolicy {
    /// The stop signal.
    pub signal: StopSignal,
    /// The signal that the engine chooses by the state of the init if none is configured.
    pub signal_for_init: Option<Signal>,
    /// The time between the stop signal and KILL.
    pub grace: Option<Duration>,
    /// The time that is the default for this container, in place of its engine's.
    pub default_grace: Option<Duration>,
    /// As [`StopSignal::Unread`], of the grace period.
    pub grace_unread: Option<&'static str>,
    /// The hook that is run before the stop signal is sent.
    pub pre_stop: Option<PreStopHook>,
    /// The restart policy as the engine spells it: `always`, `on-failure`, ….
    pub restart: Option<String>,
    /// The reason why it runs again whatever its restart policy, where that is not its engine's.
    pub always_restarts: Option<&'static str>,
    /// Advice on how to keep it stopped, likewise.
    pub keep_stopped: Option<&'static str>,
    /// Advice on how to change it, likewise.
    pub advice: Option<&'static EngineAdvice>,
    /// As [`StopSignal::Unread`], of the restart policy.
    pub restart_unread: Option<&'static str>,
    /// The file with the restart policy, where that is not the record that names the container.
    pub restart_source: Option<PathBuf>,
}

/// The stop signal in an engine's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopSignal {
    /// None is configured.
    #[default]
    Unset,
    /// The engine's own stop sends this one.
    Recorded(Signal),
    /// One may be configured: the reason says where the engine keeps it, and that this was not read.
    Unread(&'static str),
    /// The engine's own stop has none to send.
    Unsignalled(UnsignalledStop),
}

impl StopSignal {
    /// Returns the signal in an earlier record, completed from a later one.
    #[must_use]
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unset, _) => other,
            (Self::Unread(_), Self::Recorded(_) | Self::Unsignalled(_)) => other,
            _ => self,
        }
    }
}

/// A stop by an engine that has no signal to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsignalledStop {
    /// The reason why it has none, and what it does then.
    pub reason: &'static str,
    /// The effect.
    pub effect: UnsignalledEffect,
}

/// The effect of a stop without a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignalledEffect {
    /// Everything is killed after this time.
    KillsAfter(Duration),
    /// The stop fails, and nothing ends.
    Fails,
    /// It is not known.
    Unknown,
}

/// Source of a stop signal or a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The engine recorded it.
    Recorded,
    /// The engine's default: its record shows that none is configured.
    Default,
    /// The engine's default for an init in this state.
    DefaultForInit,
    /// A default, although another value may be configured; with the reason.
    Assumed(&'static str),
}

impl SettingSource {
    /// Returns the reason if it is an assumption.
    pub fn assumption(self) -> Option<&'static str> {
        match self {
            Self::Assumed(reason) => Some(reason),
            Self::Recorded | Self::Default | Self::DefaultForInit => None,
        }
    }
}

impl StopPolicy {
    /// Returns a grace period that is recorded in seconds. A negative one has no limit.
    pub fn grace_of_seconds(seconds: i64) -> Duration {
        u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)
    }

    /// Returns the stop by the engine, if that has no signal to send.
    pub fn unsignalled(&self) -> Option<UnsignalledStop> {
        match self.signal {
            StopSignal::Unsignalled(stop) => Some(stop),
            StopSignal::Unset | StopSignal::Recorded(_) | StopSignal::Unread(_) => None,
        }
    }

    /// Returns the signal that a stop by this program sends unless it is given one: the recorded one, or the
    /// engine's default.
    pub fn signal_of(&self, engine: &EngineInfo) -> Signal {
        match self.signal {
            StopSignal::Recorded(signal) => signal,
            StopSignal::Unset | StopSignal::Unread(_) | StopSignal::Unsignalled(_) => {
                self.signal_for_init.unwrap_or(engine.stop_signal)
            }
        }
    }

    /// Returns the signal that the engine's own stop sends; `None` if it sends none, or which is not known.
    pub fn engines_signal(&self, engine: &EngineInfo) -> Option<Signal> {
        self.unsignalled().is_none().then(|| self.signal_of(engine))
    }

    /// Returns the time between the stop signal and KILL: the recorded one, or the engine's default.
    pub fn grace_of(&self, engine: &EngineInfo) -> Duration {
        self.grace.or(self.default_grace).unwrap_or(engine.grace_time)
    }

    /// Returns the rest of that time after the hook, which is known only for a hook that does nothing but wait.
    pub fn grace_after_hook(&self, engine: &EngineInfo) -> Duration {
        let grace = self.grace_of(engine);
        match self.pre_stop.as_ref().and_then(PreStopHook::pause) {
            Some(pause) => grace.saturating_sub(pause).max(LEAST_GRACE),
            None => grace,
        }
    }

    /// Returns the source of the stop signal.
    pub fn signal_source(&self) -> SettingSource {
        match (self.signal, self.signal_for_init) {
            (StopSignal::Recorded(_), _) => SettingSource::Recorded,
            (StopSignal::Unread(reason), _) => SettingSource::Assumed(reason),
            (StopSignal::Unsignalled(stop), _) => SettingSource::Assumed(stop.reason),
            (StopSignal::Unset, Some(_)) => SettingSource::DefaultForInit,
            (StopSignal::Unset, None) => SettingSource::Default,
        }
    }

    /// Returns the source of the grace period.
    pub fn grace_source(&self) -> SettingSource {
        match (self.grace, self.grace_unread) {
            (Some(_), _) => SettingSource::Recorded,
            (None, Some(reason)) => SettingSource::Assumed(reason),
            (None, None) => SettingSource::Default,
        }
    }

    /// Returns the policy completed from a later record of the same engine about the same container.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            signal: self.signal.or(other.signal),
            signal_for_init: self.signal_for_init.or(other.signal_for_init),
            grace: self.grace.or(other.grace),
            default_grace: self.default_grace.or(other.default_grace),
            grace_unread: self.grace_unread.or(other.grace_unread),
            pre_stop: self.pre_stop.or(other.pre_stop),
            restart: self.restart.or(other.restart),
            always_restarts: self.always_restarts.or(other.always_restarts),
            keep_stopped: self.keep_stopped.or(other.keep_stopped),
            advice: self.advice.or(other.advice),
            restart_unread: self.restart_unread.or(other.restart_unread),
            restart_source: self.restart_source.or(other.restart_source),
        }
    }

    /// Returns advice on how to keep the container stopped.
    pub fn keep_stopped(&self, engine: &EngineInfo) -> &'static str {
        self.keep_stopped.unwrap_or(engine.keep_stopped)
    }

    /// Returns advice on how to change the container so that its stop becomes graceful.
    pub fn advice(&self, engine: &EngineInfo) -> &'static EngineAdvice {
        self.advice.unwrap_or(engine.advice)
    }

    /// Returns the remark on a signal that may end the container, which then runs again.
    pub fn signal_remark(&self, engine: &EngineInfo) -> Option<&'static str> {
        engine.signal_remark.filter(|_| self.always_restarts.is_none())
    }

    /// Returns the reason why the container would run again after a stop that was not its engine's
    /// own, if it would.
    pub fn restart_reason(&self, engine: &EngineInfo) -> Option<String> {
        if let Some(reason) = self.always_restarts.or(engine.always_restarts) {
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
            signal: StopSignal::Recorded(Signal::INT),
            grace: Some(Duration::ZERO),
            ..StopPolicy::default()
        };
        assert_eq!(policy.signal_of(&ENGINE), Signal::INT);
        assert_eq!(policy.grace_of(&ENGINE), Duration::ZERO);
    }

    #[test]
    fn only_an_unread_setting_is_assumed() {
        let policy = StopPolicy {
            signal: StopSignal::Unread("not read"),
            grace_unread: Some("not read"),
            ..StopPolicy::default()
        };
        assert_eq!(policy.signal_source(), SettingSource::Assumed("not read"));
        assert_eq!(policy.grace_source(), SettingSource::Assumed("not read"));
        let recorded = StopPolicy { signal: StopSignal::Recorded(Signal::INT), ..policy };
        assert_eq!(recorded.signal_source(), SettingSource::Recorded);
        assert_eq!(StopPolicy::default().grace_source(), SettingSource::Default);
    }

    #[test]
    fn the_init_decides_only_where_nothing_is_configured() {
        let policy = StopPolicy { signal_for_init: Some(Signal::RTMIN_3), ..StopPolicy::default() };
        assert_eq!(policy.signal_of(&ENGINE), Signal::RTMIN_3);
        assert_eq!(policy.signal_source(), SettingSource::DefaultForInit);
        let configured = StopPolicy { signal: StopSignal::Recorded(Signal::INT), ..policy };
        assert_eq!(configured.signal_of(&ENGINE), Signal::INT);
    }

    #[test]
    fn a_later_record_completes_an_earlier_one() {
        let first = StopPolicy { grace: Some(Duration::ZERO), ..StopPolicy::default() };
        let second = StopPolicy {
            signal: StopSignal::Recorded(Signal::INT),
            grace: Some(Duration::MAX),
            ..StopPolicy::default()
        };
        let both = first.or(second);
        assert_eq!(
            (both.signal, both.grace),
            (StopSignal::Recorded(Signal::INT), Some(Duration::ZERO))
        );
    }

    #[test]
    fn a_stop_without_a_signal_is_not_completed_by_another_record() {
        let stop = UnsignalledStop { reason: "65", effect: UnsignalledEffect::Fails };
        let unsignalled = StopSignal::Unsignalled(stop);
        let recorded = StopSignal::Recorded(Signal::INT);
        let unread = StopSignal::Unread("not read");
        for (first, second, both) in [
            (unsignalled, recorded, unsignalled),
            (recorded, unsignalled, recorded),
            (unread, unsignalled, unsignalled),
            (unread, StopSignal::Unset, unread),
            (StopSignal::Unset, unsignalled, unsignalled),
        ] {
            assert_eq!(first.or(second), both);
        }
        let policy = StopPolicy { signal: unsignalled, ..StopPolicy::default() };
        assert_eq!(policy.engines_signal(&ENGINE), None);
        assert_eq!(policy.signal_of(&ENGINE), Signal::PWR);
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
