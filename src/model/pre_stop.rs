//! The hook that a kubelet runs before it sends the stop signal to a container (`lifecycle.preStop`).

use std::time::Duration;

use serde::Deserialize;

/// The least time that a kubelet leaves between the stop signal and KILL, whatever the time of the hook and
/// the grace period of the pod (`minimumGracePeriodInSeconds`, pkg/kubelet/kuberuntime).
pub const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A hook. The kubelet waits for it, at most for the grace period, and takes its time off that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreStopHook {
    /// A command that runs in the container.
    Command(Vec<String>),
    /// An HTTP request to the container: its path.
    Request(String),
    /// Nothing but a pause.
    Pause(Duration),
    /// A hook that is recorded in a way that is not known.
    Unreadable,
}

/// A `LifecycleHandler` of Kubernetes, as the kubelet records it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LifecycleHandler {
    exec: Option<ExecAction>,
    http_get: Option<HttpAction>,
    sleep: Option<SleepAction>,
}

#[derive(Deserialize)]
struct ExecAction {
    #[serde(default)]
    command: Vec<String>,
}

#[derive(Deserialize)]
struct HttpAction {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
struct SleepAction {
    seconds: u64,
}

impl PreStopHook {
    /// Parses the JSON of an annotation. None for a handler that the kubelet does not run, such as the
    /// deprecated `tcpSocket`.
    pub fn parse(json: &str) -> Option<Self> {
        let Ok(handler) = serde_json::from_str::<LifecycleHandler>(json) else {
            return Some(Self::Unreadable);
        };
        let exec = handler.exec.map(|exec| Self::Command(exec.command));
        let request = handler
            .http_get
            .map(|get| Self::Request(format!("/{}", get.path.trim_start_matches('/'))));
        let pause = handler.sleep.map(|sleep| Self::Pause(Duration::from_secs(sleep.seconds)));
        exec.or(request).or(pause)
    }

    /// Returns the time that it takes, if it is known to do nothing but wait.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Pause(time) => Some(*time),
            Self::Command(argv) => match argv.as_slice() {
                [program, time] if is_program(program, &["sleep"]) => seconds(time),
                [shell, option, script] if is_program(shell, SHELLS) && option == "-c" => {
                    match script.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
                        [program, time] if is_program(program, &["sleep"]) => seconds(time),
                        _ => None,
                    }
                }
                _ => None,
            },
            Self::Request(_) | Self::Unreadable => None,
        }
    }
}

/// Shells that run a command in the way of sh(1).
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash"];

fn is_program(path: &str, names: &[&str]) -> bool {
    names.contains(&path.rsplit('/').next().unwrap_or(path))
}

/// Parses a plain number of seconds.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s').unwrap_or(text);
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_one_of_three() {
        let command = |words: &[&str]| {
            Some(PreStopHook::Command(words.iter().map(|word| (*word).to_owned()).collect()))
        };
        for (json, hook) in [
            (r#"{"exec":{"command":["nginx","-s","quit"]}}"#, command(&["nginx", "-s", "quit"])),
            (
                r#"{"httpGet":{"path":"/quit","port":80}}"#,
                Some(PreStopHook::Request("/quit".into())),
            ),
            (r#"{"httpGet":{"port":"web"}}"#, Some(PreStopHook::Request("/".into()))),
            (r#"{"sleep":{"seconds":5}}"#, Some(PreStopHook::Pause(Duration::from_secs(5)))),
            (r#"{"tcpSocket":{"port":80}}"#, None),
            ("{}", None),
            ("{", Some(PreStopHook::Unreadable)),
            (r#"{"sleep":{}}"#, Some(PreStopHook::Unreadable)),
        ] {
            assert_eq!(PreStopHook::parse(json), hook, "{json}");
        }
    }

    #[test]
    fn only_a_plain_sleep_does_nothing_else() {
        let pause = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            PreStopHook::Command(words).pause().map(|time| time.as_secs())
        };
        assert_eq!(pause(&["/bin/sleep", "15"]), Some(15));
        assert_eq!(pause(&["sh", "-c", " sleep 5s "]), Some(5));
        assert_eq!(pause(&["/bin/bash", "-c", "sleep 5; nginx -s quit"]), None);
        assert_eq!(pause(&["sh", "-c", "sleep $WAIT"]), None);
        assert_eq!(pause(&["sh", "sleep", "5"]), None);
        assert_eq!(pause(&["nginx", "-s", "quit"]), None);
        assert_eq!(pause(&[]), None);
        assert_eq!(PreStopHook::Pause(Duration::from_secs(3)).pause().unwrap().as_secs(), 3);
        assert_eq!(PreStopHook::Request("/".into()).pause(), None);
    }
}
