//! Findings about the hook that the kubelet runs before it sends the stop signal.

use super::Diagnosis;
use crate::analysis::finding::{FindingCode, Severity};
use crate::analysis::remedy::quoted;
use crate::analysis::wording::seconds;
use crate::model::pre_stop::{LEAST_GRACE, PreStopHook};

/// A longer command is cut in a sentence, and is not offered for pasting.
const LONGEST: usize = 80;

/// Describes a hook in a sentence: "the command `nginx -s quit`".
pub fn describe(hook: &PreStopHook) -> String {
    match hook {
        PreStopHook::Command(argv) => {
            let line = command_line(argv);
            match line.char_indices().nth(LONGEST) {
                Some((cut, _)) => format!("the command `{}…`", &line[..cut]),
                None => format!("the command `{line}`"),
            }
        }
        PreStopHook::Request(path) => format!("an HTTP request for {path}"),
        PreStopHook::Pause(time) => format!("a pause of {}", seconds(*time)),
        PreStopHook::Unreadable => "a hook that cannot be read from its record".into(),
    }
}

/// Returns the note of a stop that is not the kubelet's.
pub fn note(hook: &PreStopHook) -> String {
    let hook = describe(hook);
    format!("the kubelet's own stop begins with {hook} (preStop hook), which this one does not run")
}

/// Returns the command of a hook that has one, for a shell.
fn command(hook: &PreStopHook) -> Option<String> {
    match hook {
        PreStopHook::Command(argv) if hook.pause().is_none() => {
            let line = command_line(argv);
            (line.len() <= LONGEST && !line.contains(char::is_control)).then_some(line)
        }
        _ => None,
    }
}

fn command_line(argv: &[String]) -> String {
    argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

impl Diagnosis<'_> {
    /// Whether the stop begins with a hook that may end processes, or not.
    pub(super) fn has_unknown_hook(&self) -> bool {
        self.input.policy.pre_stop.as_ref().is_some_and(|hook| hook.pause().is_none())
    }

    /// Lowers the findings about the signals so far: a hook may make them meaningless.
    pub(super) fn doubt_by_hook(&mut self) {
        if !self.has_unknown_hook() {
            return;
        }
        for finding in &mut self.findings {
            if finding.code != FindingCode::Frozen && finding.severity == Severity::Problem {
                finding.severity = Severity::Warning;
            }
        }
    }

    pub(super) fn pre_stop_hook(&mut self) {
        let Some(hook) = &self.input.policy.pre_stop else { return };
        let stop = self.remedies.command("stop");
        let signal = match self.input.policy.unsignalled() {
            Some(_) => "a stop".into(),
            None => self.signal.name(),
        };
        let (message, remedy) = match hook.pause() {
            Some(pause) => {
                let rest = self.input.policy.grace_after_hook(self.input.container.engine);
                let (pause, rest) = (seconds(pause), seconds(rest));
                let message = format!(
                    "before {signal} the kubelet waits {pause} (preStop hook), which leaves {rest} of the grace period"
                );
                (message, format!("{stop} does not wait"))
            }
            None => {
                let (hook, least) = (describe(hook), seconds(LEAST_GRACE));
                let message = format!(
                    "before {signal} the kubelet runs {hook} (preStop hook), and takes its time off the grace period, down to {least}; whether it ends the processes is not known"
                );
                (message, format!("{stop} does not run it"))
            }
        };
        let exec = command(hook).map(|line| {
            format!(", {} does", self.remedies.command_with("exec", &format!("-- {line}")))
        });
        let remedy = remedy + &exec.unwrap_or_default();
        self.add_for_container(Severity::Info, FindingCode::PreStopHook, message, &remedy);
    }
}
