//! Remedies that can be pasted: commands of this program and of engines with the container's name in them,
//! and the settings that make a stop graceful, in the words of the container's engine. Nothing here decides
//! which of them applies.

use crate::model::container::Container;
use crate::model::engine::EngineAdvice;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;

/// The remedies for one container.
#[derive(Clone, Copy, Debug)]
pub struct Remedies<'a> {
    container: &'a Container,
    advice: &'static EngineAdvice,
}

impl<'a> Remedies<'a> {
    /// Creates the remedies of a container that its engine stops by this policy.
    pub fn new(container: &'a Container, policy: &StopPolicy) -> Self {
        Self { container, advice: policy.advice(container.engine) }
    }

    /// Returns a command of this program about the container; the arguments are before its name.
    pub fn command(&self, arguments: &str) -> String {
        format!("`cinspect {arguments} {}`", quoted(&self.container.qualified()))
    }

    /// Returns a command of this program, with arguments before the container's name and after it.
    pub fn command_with(&self, before: &str, after: &str) -> String {
        format!("`cinspect {before} {} {after}`", quoted(&self.container.qualified()))
    }

    /// Returns how to start the program itself instead of a shell.
    pub fn exec_form(&self) -> &'static str {
        self.advice.exec_form
    }

    /// Returns how to run the program under an init.
    pub fn under_init(&self) -> String {
        format!("run it under an init ({})", self.advice.init)
    }

    /// Returns how to change the stop signal: the engine's setting, and without one the command for a stop.
    pub fn stop_signal(&self, signal: Signal) -> String {
        let setting = self.advice.stop_signal;
        let setting = setting.map(|text| text.replace("SIGNAL_NAME", &format!("SIG{signal}")));
        setting.unwrap_or_else(|| format!("stop it with {}", self.stop_with(signal)))
    }

    /// Returns the same, with the command for the next stop.
    pub fn stop_signal_for_good(&self, signal: Signal) -> String {
        let setting = self.stop_signal(signal);
        match self.advice.stop_signal {
            Some(_) => format!("{setting}; for now, {}", self.stop_with(signal)),
            None => setting,
        }
    }

    fn stop_with(&self, signal: Signal) -> String {
        self.command(&format!("stop -s {signal}"))
    }

    /// Returns how to change the grace period: the engine's setting, and the command for the next stop.
    pub fn grace(&self) -> String {
        let command = self.command("stop -t 30s");
        match self.advice.grace {
            Some(setting) => format!("{setting}; for now, {command}"),
            None => format!("stop it with {command}"),
        }
    }

    /// Returns the command that unpauses it, if its engine has one.
    pub fn unpause(&self) -> Option<String> {
        filled(self.container, self.advice.unpause?)
    }
}

/// Returns a command of a container's engine, ready to paste: with `<namespace>`, `<name>` and `<id>` replaced
/// by those of the container, if it has all that the command needs.
pub fn filled(container: &Container, command: &str) -> Option<String> {
    let needs = |(word, value): &(&str, &str)| command.contains(word) && value.is_empty();
    if !container.verified || names(container).iter().any(needs) {
        return None;
    }
    let filled = with_names(container, command);
    Some(match container.user {
        Some(uid) => format!("`{filled}` as user {uid}"),
        None => format!("`{filled}`"),
    })
}

/// Returns a text about a container with its namespace, name and ID for `<namespace>`, `<name>` and `<id>`.
pub fn with_names(container: &Container, text: &str) -> String {
    let replace = |text: String, (word, value): (&str, &str)| text.replace(word, &quoted(value));
    names(container).into_iter().fold(text.to_owned(), replace)
}

/// Returns the words that stand for the names of a container, and these.
fn names(container: &Container) -> [(&'static str, &str); 3] {
    let id = container.id.as_deref().unwrap_or_default();
    let name = container.name.as_deref().unwrap_or(id);
    let namespace = container.namespace.as_deref().unwrap_or("default");
    [("<namespace>", namespace), ("<name>", name), ("<id>", id)]
}

/// Quotes a word for a shell, if it needs that.
pub fn quoted(word: &str) -> String {
    // (Only a NUL cannot be quoted, and no argument has one.)
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell() {
        for (word, text) in [
            ("docker:web", "docker:web"),
            ("containerd:default/web-1.2", "containerd:default/web-1.2"),
            ("lxc:my web", "'lxc:my web'"),
            ("lxc:$(reboot)", "'lxc:$(reboot)'"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }
}
