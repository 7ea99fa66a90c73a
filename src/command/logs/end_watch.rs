//! The end of a container whose log is followed. Its engine writes its log before the record of its end; a
//! daemon that hangs writes neither.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Printer;
use crate::command::any_container::AnyContainer;
use crate::engine::exit_record;
use crate::model::exit_record::RecordedState;
use crate::output::escape::safe_str;
use crate::output::exit_words::predicate;

/// The longest time between the end of a container and its engine's record of it.
const LATEST_RECORD: Duration = Duration::from_secs(5);

/// A watch for the end of a container.
pub(super) struct EndWatch<'a> {
    printer: &'a Printer<'a>,
    found: &'a AnyContainer<'a>,
    ended: Option<Instant>,
    is_recorded: bool,
}

impl<'a> EndWatch<'a> {
    /// Watches a container whose log is printed.
    pub(super) fn new(printer: &'a Printer<'a>, found: &'a AnyContainer<'a>) -> Self {
        Self { printer, found, ended: None, is_recorded: true }
    }

    /// Whether the log is complete: as far as it is written now, or with `-f` until the end of the
    /// container.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.printer.arguments.follow || self.found.running.is_none() {
            return true;
        }
        if self.ended.is_none() && !self.is_running() {
            self.ended = Some(Instant::now());
        }
        let Some(ended) = self.ended else { return false };
        self.is_recorded = self.is_end_recorded();
        self.is_recorded || ended.elapsed() > LATEST_RECORD
    }

    /// Says that the container that was followed has ended, and how.
    pub(super) fn note(&self) {
        let Printer { context, host, container, .. } = self.printer;
        let (name, has_ended) = (container.qualified(), self.ended.is_some());
        if has_ended && !self.is_recorded {
            let engine = container.engine.display_name;
            context.ui.warn(&safe_str(&format!(
                "{name} has ended, but {engine} has not recorded it: its last lines may be missing"
            )));
        } else if has_ended && std::io::stderr().is_terminal() {
            let how = match exit_record(host, container) {
                Some(record) if record.has_ended() => {
                    predicate(&record, container.engine, Timestamp::now())
                }
                Some(record) if record.state == RecordedState::Running => {
                    "has ended, and runs again".into()
                }
                _ => "has ended".into(),
            };
            context.ui.note(&safe_str(&format!("{name} {how}")));
        }
    }

    /// Whether the engine has recorded that the container, which was running, has ended.
    fn is_end_recorded(&self) -> bool {
        let Some(before) = &self.found.record else { return true };
        exit_record(self.printer.host, self.printer.container).is_none_or(|record| {
            record.state != RecordedState::Running || record.started != before.started
        })
    }

    fn is_running(&self) -> bool {
        let init = self.found.running.as_ref().and_then(|running| running.container.init);
        init.is_some_and(|init| {
            let stat = self.printer.host.stat(init.pid);
            stat.is_ok_and(|stat| stat.start == init.start && !stat.has_exited())
        })
    }
}
