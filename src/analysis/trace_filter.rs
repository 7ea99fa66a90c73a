//! Filters for the kernel's tracepoints about signals: records that would be neither printed nor counted are
//! not written. Pure. The target of a signal cannot be filtered: a filter names threads by number, and those
//! that begin later would be missed until it is replaced; and a cgroup, by which perf_event_open(2)
//! can limit an event, is that of the sender.

use super::trace_outcome::{SI_KERNEL, SI_TIMER, SI_TKILL, SI_USER};
use crate::model::signal::{Signal, SignalSet};
use crate::model::trace::TraceFilters;

/// Signals in a filter: beyond it all are read and the others are dropped here.
const MAX_SIGNALS: usize = 16;

/// Returns the filters of a trace of these signals, or of all that are not routine. Routine signals are counted
/// as they are sent.
pub fn trace_filters(named: Option<SignalSet>) -> TraceFilters {
    match named {
        None => TraceFilters { generate: None, deliver: Some(not_routine()) },
        Some(signals) => {
            let filter = (signals.len() <= MAX_SIGNALS).then(|| one_of(signals));
            TraceFilters { generate: filter.clone(), deliver: filter }
        }
    }
}

/// Returns the filter for some signals. (`deliver` reports KILL where another signal was fatal to the whole
/// process: `complete_signal`, kernel/signal.c.)
fn one_of(signals: SignalSet) -> String {
    let terms: Vec<String> =
        signals.iter().map(|signal| format!("sig=={}", signal.number())).collect();
    terms.join("||")
}

/// Returns the opposite of `trace_outcome::is_routine` for a signal that a process takes.
fn not_routine() -> String {
    let none_of = |numbers: &[i32]| {
        numbers.iter().map(|number| format!("sig!={number}")).collect::<Vec<_>>().join("&&")
    };
    let child = Signal::CHLD.number();
    let timers = none_of(&[Signal::ALRM, Signal::VTALRM, Signal::PROF].map(Signal::number));
    let own = none_of(&[Signal::URG.number(), 32, 33]);
    format!(
        "(sig!={child}||code<={SI_USER}||code=={SI_KERNEL})&&code!={SI_TIMER}&&(code!={SI_KERNEL}||({timers}))&&(code!={SI_TKILL}||({own}))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::trace_outcome::is_routine;

    #[test]
    fn a_few_signals_are_filtered_by_the_kernel() {
        let set = SignalSet::from(Signal::TERM).union(SignalSet::from(Signal::KILL));
        let filters = trace_filters(Some(set));
        assert_eq!(filters.generate.as_deref(), Some("sig==9||sig==15"));
        assert_eq!(filters.deliver, filters.generate);
        assert_eq!(trace_filters(Some(SignalSet::ALL)).deliver, None);
        assert_eq!(trace_filters(None).generate, None);
    }

    /// Evaluates a filter as the kernel does: `&&` binds closer than `||`.
    fn holds(filter: &str, signal: i64, code: i64) -> bool {
        let mut depth = 0;
        let mut split = |operator: &str| {
            let mut parts = vec![String::new()];
            let mut characters = filter.chars().peekable();
            while let Some(character) = characters.next() {
                match character {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                let is_operator = depth == 0 && operator.starts_with(character);
                if is_operator && characters.peek() == Some(&character) {
                    characters.next();
                    parts.push(String::new());
                } else {
                    parts.last_mut().unwrap().push(character);
                }
            }
            parts
        };
        let (any, all) = (split("||"), split("&&"));
        if any.len() > 1 {
            return any.iter().any(|part| holds(part, signal, code));
        }
        if all.len() > 1 {
            return all.iter().all(|part| holds(part, signal, code));
        }
        if let Some(inner) = filter.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return holds(inner, signal, code);
        }
        let (name, compare) = filter.split_at(filter.find(['=', '!', '<', '>']).unwrap());
        let value = if name == "sig" { signal } else { code };
        let (operator, number) = compare.split_at(2);
        let number: i64 = number.parse().unwrap();
        match operator {
            "==" => value == number,
            "!=" => value != number,
            "<=" => value <= number,
            _ => panic!("{operator}"),
        }
    }

    #[test]
    fn deliveries_of_routine_signals_are_not_recorded() {
        let filter = trace_filters(None).deliver.unwrap();
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            for code in (-70..=10).chain([0x7f, 0x80, 0x81]) {
                let is_recorded = holds(&filter, i64::from(number), i64::from(code));
                assert_eq!(is_recorded, !is_routine(signal, code, true), "{signal:?} {code}");
            }
        }
    }
}
