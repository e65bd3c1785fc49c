//! How it stands with a relay: from its pod, and from its own words. The decision is pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::warnings::Warning;
use crate::api::Reason;
use crate::channel::report::RelayState;
use crate::time::Millis;

/// What a pod says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// It can be asked at this address; `ready` as the kubelet sees it, `late` where it has not
    /// been so for longer than a start takes.
    Running { ip: IpAddr, ready: bool, late: bool },
    /// There is nobody to ask.
    Down(RelayState),
}

/// Restarts of the container that are no accident any more.
const CRASHES: i32 = 3;

/// So long a pod may look for a node: a new one may be on its way.
const UNSCHEDULED: Millis = 15_000;
/// A pod that is being deleted and stays longer after its time than this: nobody is there to end
/// it.
const OVERDUE: Millis = 30_000;
/// A relay that runs and is not ready for longer than this does not start, it hangs.
const UNREADY: Millis = 45_000;
/// A warning that is repeated so often is no passing one.
const REPEATED: i32 = 3;

/// What tells most about a relay that does not run, as a field selector of events names it: the
/// object that makes the pod, its claim while no node can be found for want of it, or the pod
/// itself.
#[must_use]
pub fn tells(pod: Option<&Pod>, relay: &str, claim: &str) -> String {
    match pod {
        None => format!("name={relay}"),
        Some(pod) if unscheduled(pod).is_some_and(|(words, _)| is_about_volume(&words)) => format!("name={claim}"),
        Some(pod) => format!("uid={}", pod.metadata.uid.as_deref().unwrap_or_default()),
    }
}

/// Why no node takes the pod, and since when.
fn unscheduled(pod: &Pod) -> Option<(String, Option<Millis>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let since = found.last_transition_time.as_ref().map(|time| time.0.as_millisecond());
    Some((found.message.clone().unwrap_or_default(), since))
}

fn is_about_volume(words: &str) -> bool {
    let words = words.to_lowercase();
    ["persistentvolumeclaim", "persistent volume", "storageclass"].iter().any(|word| words.contains(word))
}

/// What the kubelet says of an image, without what changes from attempt to attempt.
fn of_image(image: &str, words: &str) -> String {
    let words = words.rsplit_once("ErrImagePull: ").map_or(words, |(_, words)| words);
    if words.is_empty() || words.starts_with("Back-off") { image.to_owned() } else { format!("{image}: {words}") }
}

/// The state of the relay's pod; `warnings` are the cluster's about what [`tells`] names.
#[must_use]
pub fn of_pod(pod: Option<&Pod>, warnings: &[Warning], now: Millis) -> PodState {
    let starting = |detail: &str| PodState::Down(RelayState::Absent { detail: detail.to_owned() });
    let failed = |reason, detail: String| PodState::Down(RelayState::Failed { reason, detail });
    let newest = warnings.first();
    let Some(pod) = pod else {
        return match warnings.iter().find(|warning| warning.reason == "FailedCreate") {
            Some(warning) => failed(Reason::PodRefused, warning.words.clone()),
            None => starting(newest.map_or("", |warning| &warning.words)),
        };
    };
    let status = pod.status.clone().unwrap_or_default();
    let condition = |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    if let Some((message, since)) = unscheduled(pod) {
        if is_about_volume(&message) {
            let told = newest.map(|warning| format!("{message}; {}", warning.words));
            return failed(Reason::VolumePending, told.unwrap_or(message));
        }
        let is_late = since.is_some_and(|since| now - since >= UNSCHEDULED);
        return if is_late { failed(Reason::Unschedulable, message) } else { starting(&message) };
    }
    let is_true = |type_: &str| condition(type_).is_some_and(|condition| condition.status == "True");
    let node = || match status.host_ip.as_deref() {
        Some(address) => format!("the node at {address}"),
        None => "its node".to_owned(),
    };
    // The kubelet sets both together; the control plane takes back the first alone when it hears
    // nothing of the node any more.
    let is_silent = condition("Ready").is_some_and(|ready| ready.status == "False") && is_true("ContainersReady");
    let is_overdue =
        pod.metadata.deletion_timestamp.as_ref().is_some_and(|time| now - time.0.as_millisecond() > OVERDUE);
    if is_silent || is_overdue || status.reason.as_deref() == Some("NodeLost") {
        let words = newest.filter(|warning| warning.reason.contains("Node")).map(|warning| warning.words.as_str());
        return failed(Reason::NodeLost, words.map_or_else(node, |words| format!("{}: {words}", node())));
    }
    if status.phase.as_deref() == Some("Failed") {
        let words = [status.reason.as_deref(), status.message.as_deref()];
        return starting(&words.into_iter().flatten().collect::<Vec<_>>().join(": "));
    }
    let container: Option<&ContainerStatus> = status.container_statuses.iter().flatten().next();
    if let Some(container) = container {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let why = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
        if ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"]
            .contains(&why)
        {
            // The two first take turns, and mean the same.
            return failed(Reason::ImagePullFailed, of_image(&container.image, &message));
        }
        // Whatever its restarts, it does not even come to a start now.
        if ["CreateContainerConfigError", "CreateContainerError"].contains(&why) {
            return failed(Reason::ContainerFailed, message);
        }
        if why == "CrashLoopBackOff" || (!container.ready && container.restart_count >= CRASHES) {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let detail = last.map_or(String::new(), |last| {
                format!("{}, exit code {}", last.reason.as_deref().unwrap_or("ended"), last.exit_code)
            });
            return failed(Reason::CrashLooping, detail);
        }
        if why == "RunContainerError" {
            return failed(Reason::ContainerFailed, message);
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return starting("");
    }
    let is_running =
        container.is_some_and(|container| container.state.as_ref().is_some_and(|now| now.running.is_some()));
    if let Some(warning) = newest.filter(|_| !is_running) {
        let of_volume = ["FailedMount", "FailedAttachVolume", "FailedMapVolume"].contains(&warning.reason.as_str());
        return match (warning.times >= REPEATED, of_volume) {
            (true, true) => failed(Reason::MountFailed, warning.words.clone()),
            (true, false) if warning.reason.starts_with("Failed") => {
                failed(Reason::PodNotStarting, warning.words.clone())
            }
            _ => starting(&warning.words),
        };
    }
    match status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()) {
        Some(ip) => {
            let since = condition("Ready").and_then(|ready| ready.last_transition_time.as_ref());
            let ready = is_true("Ready");
            let late = !ready && is_running && since.is_some_and(|since| now - since.0.as_millisecond() >= UNREADY);
            PodState::Running { ip, ready, late }
        }
        None => starting(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state(status: &Value) -> PodState {
        state_beside(status, &[])
    }

    fn state_beside(status: &Value, warnings: &[Warning]) -> PodState {
        let pod = serde_json::from_value(json!({"metadata": {"name": "x"}, "status": status})).unwrap();
        of_pod(Some(&pod), warnings, 1_000_000)
    }

    fn waiting(reason: &str) -> Value {
        json!({"podIP": "10.0.0.1", "containerStatuses": [{
            "name": "relay", "image": "registry.example/relay:1", "imageID": "", "ready": false, "restartCount": 5,
            "state": {"waiting": {"reason": reason, "message": "back-off 5s"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}]})
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let failed = |reason, detail: &str| PodState::Down(RelayState::Failed { reason, detail: detail.to_owned() });
        let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        let unready = |since: &str| {
            json!({"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": since}],
            "containerStatuses": [{"name": "relay", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"running": {"startedAt": since}}}]})
        };
        let unready_relay = |late| PodState::Running { ip: "10.0.0.1".parse().unwrap(), ready: false, late };
        let unscheduled = |message: &str| json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]});
        for (name, status, expected) in [
            ("volume", unscheduled(unbound), failed(Reason::VolumePending, unbound)),
            (
                "no node",
                unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
                PodState::Down(RelayState::Absent {
                    detail: "0/1 nodes are available: 1 Insufficient cpu.".to_owned(),
                }),
            ),
            (
                "image",
                waiting("ErrImagePull"),
                failed(Reason::ImagePullFailed, "registry.example/relay:1: back-off 5s"),
            ),
            (
                "image, later",
                waiting("ImagePullBackOff"),
                failed(Reason::ImagePullFailed, "registry.example/relay:1: back-off 5s"),
            ),
            ("crash", waiting("CrashLoopBackOff"), failed(Reason::CrashLooping, "Error, exit code 2")),
            ("new", json!({}), PodState::Down(RelayState::Absent { detail: String::new() })),
            (
                "runs",
                json!({"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}),
                PodState::Running { ip: "10.0.0.1".parse().unwrap(), ready: true, late: false },
            ),
            ("starts", unready("1970-01-01T00:16:39Z"), unready_relay(false)),
            ("hangs", unready("1970-01-01T00:10:00Z"), unready_relay(true)),
        ] {
            assert_eq!(state(&status), expected, "{name}");
        }
        assert_eq!(of_pod(None, &[], 0), PodState::Down(RelayState::Absent { detail: String::new() }));
    }

    #[test]
    fn the_clusters_own_words_say_why_a_relay_does_not_start() {
        let failed = |reason, detail: &str| PodState::Down(RelayState::Failed { reason, detail: detail.to_owned() });
        let starting = |detail: &str| PodState::Down(RelayState::Absent { detail: detail.to_owned() });
        let warning =
            |reason: &str, words: &str, times| Warning { reason: reason.to_owned(), words: words.to_owned(), times };
        let creating = json!({"hostIP": "10.0.0.9", "containerStatuses": [{"name": "relay", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        let quota = [warning("FailedCreate", "exceeded quota: q", 1)];
        assert_eq!(of_pod(None, &quota, 0), failed(Reason::PodRefused, "exceeded quota: q"));
        for (warning, expected) in [
            (warning("FailedMount", "no such file", 1), starting("no such file")),
            (warning("FailedMount", "no such file", 3), failed(Reason::MountFailed, "no such file")),
            (warning("FailedAttachVolume", "in use", 4), failed(Reason::MountFailed, "in use")),
            (warning("FailedCreatePodSandBox", "no network", 5), failed(Reason::PodNotStarting, "no network")),
            (warning("Unhealthy", "not ready", 9), starting("not ready")),
        ] {
            assert_eq!(state_beside(&creating, std::slice::from_ref(&warning)), expected, "{warning:?}");
        }
        let nowhere = |since: &str| {
            json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available", "lastTransitionTime": since}]})
        };
        assert_eq!(state(&nowhere("1970-01-01T00:16:39Z")), starting("0/1 nodes are available"));
        assert_eq!(state(&nowhere("1970-01-01T00:10:00Z")), failed(Reason::Unschedulable, "0/1 nodes are available"));
        let lost = json!({"hostIP": "10.0.0.9", "podIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]});
        assert_eq!(
            state_beside(&lost, &[warning("NodeNotReady", "Node is not ready", 1)]),
            failed(Reason::NodeLost, "the node at 10.0.0.9: Node is not ready")
        );
        assert_eq!(
            state(&waiting("CreateContainerConfigError")),
            failed(Reason::ContainerFailed, "back-off 5s"),
            "whatever its restarts"
        );
    }
}
