//! Labels and annotations of a container, and the meaning that other programs' labels have: the Compose
//! project and the pod. Nothing here reads a file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::container::{ComposeService, Pod};
use crate::model::engine::{EngineAdvice, EngineCommands};
use crate::model::pre_stop::{LEAST_GRACE, PreStopHook};
use crate::model::stop_policy::StopPolicy;

/// Labels by key.
pub(super) type Labels = BTreeMap<String, String>;

/// The reason why a container in a pod runs again.
pub(super) const KUBELET_RESTARTS: &str =
    "the kubelet restarts it according to the pod's restart policy";

/// Advice on a container in a pod.
pub(super) const KEEP_POD_STOPPED: &str =
    "scale its workload down or delete its pod to keep it stopped";

/// Advice on a container in a pod that is not running.
pub(super) const POD_START_HINT: &str =
    "the kubelet starts another one in its place, if the pod's restart policy says so";

/// Advice on how to change a container in a pod.
pub(super) const POD_ADVICE: EngineAdvice = EngineAdvice {
    exec_form: "write the container's command as the program itself (`command: [\"program\"]`)",
    init: "tini in the image, or `shareProcessNamespace: true` in the pod",
    // KEP-4960: the feature gate `ContainerStopSignals`, alpha in Kubernetes 1.33.
    stop_signal: Some(
        "set `STOPSIGNAL SIGNAL_NAME` in the image, or `lifecycle.stopSignal: SIGNAL_NAME` in the container (Kubernetes 1.33 or later, ContainerStopSignals)",
    ),
    grace: Some("set `terminationGracePeriodSeconds` in the pod"),
    unpause: None,
};

/// The clients of a container in a pod.
pub(super) const POD_CLIENTS: &[&str] = &["crictl", "kubectl"];

/// Their commands.
pub(super) const POD_COMMANDS: EngineCommands = EngineCommands::Table(&[
    ("attach", "crictl attach <id>"),
    ("images", "crictl images"),
    ("pull", "crictl pull"),
    // (The kubelet starts another.)
    ("restart", "crictl stop <id>"),
    ("rm", "crictl rm <id>"),
    ("rmi", "crictl rmi"),
    ("update", "crictl update <id>"),
]);

/// Kubernetes' default `terminationGracePeriodSeconds`.
pub(super) const POD_GRACE: Duration = Duration::from_secs(30);

/// The reason why a missing grace period of a container in a pod does not mean that none is configured.
pub(super) const POD_GRACE_UNREAD: &str =
    "it is Kubernetes' default, and the pod's own is not recorded";

/// The kubelet's annotations of a container with the `terminationGracePeriodSeconds` of its pod and with its
/// `lifecycle.preStop` (pkg/kubelet/kuberuntime/labels.go).
const POD_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";

/// CRI-O's annotation with those of the kubelet as JSON.
const NESTED: &str = "io.kubernetes.cri-o.Annotations";

/// The kubelet's annotation with the number of restarts of a container in its pod.
const RESTARTS: &str = "io.kubernetes.container.restartCount";

/// Returns an annotation that the kubelet gave to a container: it is one of the container, a label on
/// cri-dockerd, or a part of one in which CRI-O keeps all of them as JSON.
fn kubelets_annotation(annotations: &Labels, key: &str) -> Option<String> {
    let nested = || serde_json::from_str::<Labels>(annotations.get(NESTED)?).ok()?.remove(key);
    let labelled = || annotations.get(&format!("annotation.{key}"));
    annotations.get(key).or_else(labelled).cloned().or_else(nested)
}

/// Returns how often the kubelet has started a container again.
pub(super) fn restarts(annotations: &Labels) -> Option<u64> {
    kubelets_annotation(annotations, RESTARTS)?.parse().ok()
}

/// Returns the Compose project and service. (podman-compose sets Docker's labels and some of its own,
/// nerdctl copies Docker's to annotations.)
pub(super) fn compose(labels: &Labels) -> Option<ComposeService> {
    let get = |key: &str| labels.get(key).filter(|value| !value.is_empty()).cloned();
    let project = get("com.docker.compose.project").or_else(|| get("io.podman.compose.project"))?;
    Some(ComposeService {
        project,
        service: get("com.docker.compose.service").or_else(|| get("io.podman.compose.service")),
        number: get("com.docker.compose.container-number"),
    })
}

/// Returns the pod in the labels that cri-dockerd, and the kubelet itself before Kubernetes 1.24, give to a
/// container of Docker.
pub(super) fn pod(labels: &Labels) -> Option<Pod> {
    let get = |key: &str| labels.get(key).filter(|value| !value.is_empty()).cloned();
    let is_sandbox = get("io.kubernetes.docker.type").is_some_and(|kind| kind == "podsandbox");
    Some(Pod {
        namespace: get("io.kubernetes.pod.namespace")?,
        name: get("io.kubernetes.pod.name")?,
        uid: get("io.kubernetes.pod.uid"),
        container: get("io.kubernetes.container.name").filter(|_| !is_sandbox),
    })
}

/// Programs that start a container, or another one in its place, by rules of their own that are not read: the
/// label that each gives to its containers, its meaning, and how to keep such a container stopped.
const STARTERS: &[(&str, &str, &str)] = &[
    (
        "PODMAN_SYSTEMD_UNIT",
        "a systemd unit runs it (label PODMAN_SYSTEMD_UNIT), and its Restart= was not read",
        "`systemctl stop` of its unit keeps it stopped",
    ),
    (
        "com.docker.swarm.task.id",
        "it is a task of a Swarm service, whose restart condition was not read",
        "`docker service scale SERVICE=0` keeps it stopped",
    ),
    (
        "com.hashicorp.nomad.alloc_id",
        "it is an allocation of Nomad, whose restart policy was not read",
        "`nomad alloc stop` or `nomad job stop` keeps it stopped",
    ),
    (
        "com.amazonaws.ecs.task-arn",
        "it is in a task of ECS, whose service may start another",
        "`aws ecs stop-task`, or a desired count of 0 of its service, keeps it stopped",
    ),
];

/// Returns the policy of a container that may have been started by such a program, if its engine has no restart
/// policy for it.
pub(super) fn with_starter(policy: StopPolicy, labels: &Labels) -> StopPolicy {
    let is_engines = !matches!(policy.restart.as_deref(), None | Some("" | "no"));
    match STARTERS.iter().find(|(label, ..)| labels.contains_key(*label)) {
        Some((_, reason, keep_stopped)) if !is_engines => StopPolicy {
            restart: None,
            restart_unread: Some(reason),
            keep_stopped: Some(keep_stopped),
            ..policy
        },
        _ => policy,
    }
}

/// Returns the settings of a stop in the kubelet's annotations of a container.
pub(super) fn kubelets_settings(annotations: &Labels) -> StopPolicy {
    let get = |key: &str| kubelets_annotation(annotations, key);
    let seconds = get(POD_GRACE_PERIOD).and_then(|seconds| seconds.parse().ok());
    StopPolicy {
        grace: seconds.map(StopPolicy::grace_of_seconds).map(|grace| grace.max(LEAST_GRACE)),
        pre_stop: get(PRE_STOP).and_then(|hook| PreStopHook::parse(&hook)),
        ..StopPolicy::default()
    }
}

/// Returns how the kubelet stops a container with these labels, which are annotations of its
/// container there.
pub(super) fn pod_stop_policy(labels: &Labels) -> StopPolicy {
    StopPolicy {
        default_grace: Some(POD_GRACE),
        grace_unread: Some(POD_GRACE_UNREAD),
        always_restarts: Some(KUBELET_RESTARTS),
        keep_stopped: Some(KEEP_POD_STOPPED),
        advice: Some(&POD_ADVICE),
        ..kubelets_settings(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_compose_service_is_in_the_labels_of_any_client() {
        let by = |project: &str, service: &str| {
            let service = compose(&labels(&[(project, "shop"), (service, "web")])).unwrap();
            (service.project, service.service.unwrap())
        };
        let wanted = ("shop".to_owned(), "web".to_owned());
        assert_eq!(by("com.docker.compose.project", "com.docker.compose.service"), wanted);
        assert_eq!(by("io.podman.compose.project", "com.docker.compose.service"), wanted);
        assert_eq!(compose(&labels(&[("com.docker.compose.service", "web")])), None);
        assert_eq!(compose(&labels(&[("com.docker.compose.project", "")])), None);
    }

    #[test]
    fn the_sandbox_of_a_pod_has_no_name_in_it() {
        let mut pairs = vec![
            ("io.kubernetes.pod.name", "web"),
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.container.name", "POD"),
        ];
        assert_eq!(pod(&labels(&pairs)).unwrap().container.as_deref(), Some("POD"));
        pairs.push(("io.kubernetes.docker.type", "podsandbox"));
        assert_eq!(pod(&labels(&pairs)).unwrap().container, None);
        assert_eq!(pod(&labels(&pairs[1..])), None);
    }

    #[test]
    fn the_kubelet_counts_restarts_in_an_annotation() {
        let count = |key: &str, value: &str| restarts(&labels(&[(key, value)]));
        assert_eq!(count("io.kubernetes.container.restartCount", "7"), Some(7));
        assert_eq!(count("annotation.io.kubernetes.container.restartCount", "2"), Some(2));
        let nested = r#"{"io.kubernetes.container.restartCount": "4"}"#;
        assert_eq!(count("io.kubernetes.cri-o.Annotations", nested), Some(4));
        assert_eq!(count("io.kubernetes.cri-o.Annotations", "{"), None);
        assert_eq!(count("io.kubernetes.container.hash", "7"), None);
    }

    #[test]
    fn the_grace_period_of_a_pod_is_recorded_or_assumed() {
        let key = "annotation.io.kubernetes.pod.terminationGracePeriod";
        let policy = |value| pod_stop_policy(&labels(&[(key, value)]));
        assert_eq!(policy("120").grace, Some(Duration::from_secs(120)));
        assert_eq!(policy("soon").grace, None);
        assert_eq!(policy("soon").default_grace, Some(POD_GRACE));
        assert_eq!(policy("0").grace, Some(LEAST_GRACE));
    }

    #[test]
    fn only_without_a_restart_policy_another_program_decides() {
        let swarm = labels(&[("com.docker.swarm.task.id", "x")]);
        let policy = |restart: &str, labels: &Labels| {
            let policy = StopPolicy { restart: Some(restart.to_owned()), ..StopPolicy::default() };
            let policy = with_starter(policy, labels);
            (policy.restart.is_some(), policy.restart_unread.is_some())
        };
        assert_eq!(policy("no", &swarm), (false, true));
        assert_eq!(policy("", &swarm), (false, true));
        assert_eq!(policy("always", &swarm), (true, false));
        assert_eq!(policy("no", &labels(&[("com.docker.swarm", "x")])), (true, false));
    }

    #[test]
    fn the_hook_of_a_container_is_in_an_annotation() {
        let hook = r#"{"exec": {"command": ["quit"]}}"#;
        let nested = r#"{"io.kubernetes.container.preStopHandler": "{\"exec\": {\"command\": [\"quit\"]}}"}"#;
        for (key, value) in [
            ("io.kubernetes.container.preStopHandler", hook),
            ("annotation.io.kubernetes.container.preStopHandler", hook),
            ("io.kubernetes.cri-o.Annotations", nested),
        ] {
            let settings = kubelets_settings(&labels(&[(key, value)]));
            assert_eq!(settings.pre_stop, Some(PreStopHook::Command(vec!["quit".into()])), "{key}");
        }
        assert_eq!(
            kubelets_settings(&labels(&[("io.kubernetes.cri-o.Annotations", "{")])).pre_stop,
            None
        );
    }
}
