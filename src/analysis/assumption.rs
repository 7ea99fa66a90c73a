//! The defaults that an answer about a stop uses in place of settings that were not read.

use std::fmt;

use super::wording::seconds;
use crate::model::engine::EngineInfo;
use crate::model::stop_policy::StopPolicy;

/// Defaults that stand in for settings that were not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumption {
    /// The settings with their values: `the grace period of 10 s`.
    pub settings: Vec<String>,
    /// The reason.
    pub reason: &'static str,
    /// The options of `stop` that replace them, in a clause: "`-t` sets it".
    pub options: &'static str,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.settings.len() == 1 { "is" } else { "are" };
        write!(f, "{} {verb} assumed: {}", self.settings.join(" and "), self.reason)
    }
}

/// Returns the assumptions of a stop about its signal and its grace period, as far as it needs them.
pub fn assumptions(
    policy: &StopPolicy,
    engine: &EngineInfo,
    needs_signal: bool,
    needs_grace: bool,
) -> Vec<Assumption> {
    let signal = policy.signal_source().assumption().filter(|_| needs_signal).map(|reason| {
        let setting = format!("the stop signal {}", policy.signal_of(engine));
        Assumption { settings: vec![setting], reason, options: "`-s` sets it" }
    });
    let grace = policy.grace_source().assumption().filter(|_| needs_grace).map(|reason| {
        let setting = format!("the grace period of {}", seconds(policy.grace_of(engine)));
        Assumption { settings: vec![setting], reason, options: "`-t` sets it" }
    });
    match (signal, grace) {
        (Some(signal), Some(grace)) if signal.reason == grace.reason => {
            let settings = [signal.settings, grace.settings].concat();
            let options = "`-s` and `-t` set them";
            vec![Assumption { settings, reason: grace.reason, options }]
        }
        (signal, grace) => signal.into_iter().chain(grace).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;
    use crate::model::stop_policy::StopSignal;

    #[test]
    fn assumption_names_each_unread_setting() {
        let policy = StopPolicy {
            signal: StopSignal::Unread("not read"),
            grace_unread: Some("not read"),
            ..StopPolicy::default()
        };
        let text = |policy: &StopPolicy, signal, grace| {
            let assumptions = assumptions(policy, &EngineInfo::DEFAULT, signal, grace);
            assumptions.iter().map(Assumption::to_string).collect::<Vec<_>>()
        };
        let both = "the stop signal TERM and the grace period of 10 s are assumed: not read";
        assert_eq!(text(&policy, true, true), [both]);
        assert_eq!(text(&policy, false, true), ["the grace period of 10 s is assumed: not read"]);
        assert!(text(&policy, false, false).is_empty());
        let recorded = StopPolicy { signal: StopSignal::Recorded(Signal::INT), ..policy };
        assert!(text(&recorded, true, false).is_empty());
    }
}
