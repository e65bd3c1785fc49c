//! The relay: one pod with its own volume, as restricted as pods can be.
//!
//! The template holds nothing of the configuration: a changed text or token must reach the running
//! relay, not restart it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    LocalObjectReference, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use serde::Deserialize;

use super::{Blueprint, PORT, PORT_NAME};
use crate::api;
use crate::controller::names;

const CONFIG_FOLDER: &str = "/etc/maxchannel";
const DATA_FOLDER: &str = "/var/lib/maxchannel";

/// What the installation puts on every relay's pod, in Kubernetes' own words.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodExtras {
    pub affinity: Option<Affinity>,
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    pub priority_class_name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[must_use]
pub fn stateful_set(blueprint: &Blueprint) -> StatefulSet {
    let name = names::relay(&blueprint.channel.name);
    let labels = names::labels(&blueprint.channel.name);
    let user = blueprint.pods.run_as_user;
    let extras = &blueprint.pods.extras;
    // Those that select the pod are never another's.
    let pod_labels = extras.labels.clone().into_iter().chain(labels.clone()).collect();
    let mut volumes = vec![Volume {
        name: "config".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            // The files are root's and the group's of the pod; where nobody has set that, as on a
            // cluster whose platform chooses none, only a file that all may read can be read. There
            // is one container.
            default_mode: Some(if user.is_some() { 0o440 } else { 0o444 }),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }];
    if blueprint.is_ephemeral() {
        volumes.push(Volume {
            name: "data".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
    }
    StatefulSet {
        metadata: blueprint.metadata(),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(name.clone()),
            // With the default order a pod that never became ready is never replaced, not even by
            // one with a better image.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            // Ours to decide: deletionPolicy.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            revision_history_limit: Some(2),
            volume_claim_templates: (!blueprint.is_ephemeral()).then(|| vec![claim(blueprint)]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(extras.annotations.clone()).filter(|annotations| !annotations.is_empty()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    service_account_name: Some(name),
                    automount_service_account_token: Some(false),
                    // Environment variables made of the namespace's Services could be taken for
                    // settings.
                    enable_service_links: Some(false),
                    security_context: Some(PodSecurityContext {
                        run_as_non_root: Some(true),
                        run_as_user: user,
                        run_as_group: user,
                        fs_group: user,
                        fs_group_change_policy: user.map(|_| "OnRootMismatch".to_owned()),
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".to_owned(),
                            ..SeccompProfile::default()
                        }),
                        ..PodSecurityContext::default()
                    }),
                    termination_grace_period_seconds: Some(30),
                    node_selector: Some(blueprint.relay.node_selector.clone()).filter(|labels| !labels.is_empty()),
                    tolerations: tolerations(&blueprint.relay.tolerations),
                    affinity: extras.affinity.clone(),
                    topology_spread_constraints: Some(extras.topology_spread_constraints.clone())
                        .filter(|constraints| !constraints.is_empty()),
                    priority_class_name: extras.priority_class_name.clone(),
                    image_pull_secrets: pull_secrets(&blueprint.relay.image_pull_secrets),
                    containers: vec![container(blueprint)],
                    volumes: Some(volumes),
                    ..PodSpec::default()
                }),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn claim(blueprint: &Blueprint) -> PersistentVolumeClaim {
    let desired = blueprint.relay.storage.as_ref().and_then(|storage| storage.volume_claim.clone()).unwrap_or_default();
    let size = desired.size();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(names::labels(&blueprint.channel.name)),
            annotations: blueprint
                .owner
                .as_ref()
                .map(|owner| BTreeMap::from([(names::CHANNEL.to_owned(), owner.uid.clone())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: desired.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn container(blueprint: &Blueprint) -> Container {
    let probe = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let listen = SocketAddr::new(blueprint.pods.listen, u16::try_from(PORT).unwrap_or(8080));
    Container {
        name: "relay".to_owned(),
        image: Some(blueprint.image.clone()),
        image_pull_policy: blueprint.pull_policy.clone(),
        args: Some(
            ["relay", "--config", CONFIG_FOLDER, "--listen", &listen.to_string(), "--data-dir", DATA_FOLDER]
                .map(ToOwned::to_owned)
                .to_vec(),
        ),
        env: Some(env(blueprint)),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.to_owned()),
            container_port: PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        resources: blueprint.relay.resources.as_ref().map(resources),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount("config", CONFIG_FOLDER, true), mount("data", DATA_FOLDER, false)]),
        ..Container::default()
    }
}

fn env(blueprint: &Blueprint) -> Vec<EnvVar> {
    // The root file system is read-only, and SQLite sorts large answers in a file.
    let own = [("SQLITE_TMPDIR", DATA_FOLDER)];
    let given = blueprint.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    own.into_iter()
        .chain(given)
        .map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() })
        .collect()
}

fn resources(desired: &api::Resources) -> ResourceRequirements {
    let quantities = |from: &BTreeMap<String, api::Quantity>| {
        (!from.is_empty())
            .then(|| from.iter().map(|(name, value)| (name.clone(), Quantity(value.to_string()))).collect())
    };
    ResourceRequirements {
        requests: quantities(&desired.requests),
        limits: quantities(&desired.limits),
        ..ResourceRequirements::default()
    }
}

fn tolerations(desired: &[api::Toleration]) -> Option<Vec<Toleration>> {
    let of = |desired: &api::Toleration| Toleration {
        key: desired.key.clone(),
        operator: Some(
            match desired.operator {
                api::TolerationOperator::Equal => "Equal",
                api::TolerationOperator::Exists => "Exists",
            }
            .to_owned(),
        ),
        value: desired.value.clone(),
        effect: desired.effect.map(|effect| {
            match effect {
                api::TaintEffect::NoSchedule => "NoSchedule",
                api::TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                api::TaintEffect::NoExecute => "NoExecute",
            }
            .to_owned()
        }),
        toleration_seconds: desired.toleration_seconds,
    };
    (!desired.is_empty()).then(|| desired.iter().map(of).collect())
}

fn pull_secrets(desired: &[api::SecretRef]) -> Option<Vec<LocalObjectReference>> {
    (!desired.is_empty())
        .then(|| desired.iter().map(|desired| LocalObjectReference { name: desired.name.clone() }).collect())
}
