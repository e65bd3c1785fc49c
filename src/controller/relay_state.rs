//! How it stands with a relay: from its pod, and from its own words. The decision is pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::api::Reason;
use crate::channel::report::RelayState;

/// What a pod says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// It can be asked at this address; `ready` as the kubelet sees it.
    Running { ip: IpAddr, ready: bool },
    /// There is nobody to ask.
    Down(RelayState),
}

/// Restarts of the container that are no accident any more.
const CRASHES: i32 = 3;

/// The state of the relay's pod.
#[must_use]
pub fn of_pod(pod: Option<&Pod>) -> PodState {
    let starting = |detail: &str| PodState::Down(RelayState::Absent { detail: detail.to_owned() });
    let failed = |reason, detail: String| PodState::Down(RelayState::Failed { reason, detail });
    let Some(pod) = pod else { return starting("") };
    let status = pod.status.clone().unwrap_or_default();
    let condition = |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    if let Some(unscheduled) = condition("PodScheduled").filter(|condition| condition.status == "False") {
        let message = unscheduled.message.clone().unwrap_or_default();
        let about_volume = message.to_lowercase();
        return if ["persistentvolumeclaim", "persistent volume", "storageclass"]
            .iter()
            .any(|word| about_volume.contains(word))
        {
            failed(Reason::VolumePending, message)
        } else {
            starting(&message)
        };
    }
    let container: Option<&ContainerStatus> = status.container_statuses.iter().flatten().next();
    if let Some(container) = container {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let why = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
        if ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"]
            .contains(&why)
        {
            // The two first take turns; a message that flaps would be written again and again.
            return failed(Reason::ImagePullFailed, container.image.clone());
        }
        if why == "CrashLoopBackOff" || (!container.ready && container.restart_count >= CRASHES) {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let detail = last.map_or(String::new(), |last| {
                format!("{}, exit code {}", last.reason.as_deref().unwrap_or("ended"), last.exit_code)
            });
            return failed(Reason::CrashLooping, detail);
        }
        if ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"].contains(&why) {
            return starting(&message);
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return starting("");
    }
    match status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()) {
        Some(ip) => PodState::Running { ip, ready: condition("Ready").is_some_and(|ready| ready.status == "True") },
        None => starting(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state(status: &Value) -> PodState {
        of_pod(Some(&serde_json::from_value(json!({"metadata": {"name": "x"}, "status": status})).unwrap()))
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
            ("image", waiting("ErrImagePull"), failed(Reason::ImagePullFailed, "registry.example/relay:1")),
            ("image, later", waiting("ImagePullBackOff"), failed(Reason::ImagePullFailed, "registry.example/relay:1")),
            ("crash", waiting("CrashLoopBackOff"), failed(Reason::CrashLooping, "Error, exit code 2")),
            ("new", json!({}), PodState::Down(RelayState::Absent { detail: String::new() })),
            (
                "runs",
                json!({"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}),
                PodState::Running { ip: "10.0.0.1".parse().unwrap(), ready: true },
            ),
        ] {
            assert_eq!(state(&status), expected, "{name}");
        }
        assert_eq!(of_pod(None), PodState::Down(RelayState::Absent { detail: String::new() }));
    }
}
