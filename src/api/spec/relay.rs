//! The relay's own needs: storage, retention, place and size of its pod.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, between, exactly_one};
use crate::api::values::{Duration, LABEL_VALUE_PATTERN, Quantity, TAINT_KEY_PATTERN};

/// The relay's own needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Relay {
    /// Where undelivered messages are kept: at most one of `volumeClaim` (default) and `ephemeral`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How long delivered messages and closed dialogs are kept, 1h to 3650d. Default 30d.
    #[serde(default = "retention")]
    #[x_kube(validation = between("1h", "3650d"))]
    pub retention: Duration,
    /// Requests and limits of the relay's container. Absent: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN}
    ))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Secrets for the registry of the image, in the channel's namespace; at most 8. Absent: the
    /// installation's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<SecretRef>,
}

fn retention() -> Duration {
    Duration::from_days(30)
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            storage: None,
            retention: retention(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            image_pull_secrets: Vec::new(),
        }
    }
}

/// Where undelivered messages are kept: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["volumeClaim", "ephemeral"], "give exactly one of volumeClaim and ephemeral, or remove storage"))]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A volume of its own, which outlives the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim: Option<VolumeClaim>,
    /// The pod's own disk: undelivered messages die with the pod. For trials only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
}

/// A volume of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaim {
    /// Size of the volume; a larger one than before enlarges it where its StorageClass allows that.
    /// Absent: the installation's, else 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Name of the StorageClass. Absent: the installation's, else the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub storage_class_name: Option<String>,
}

impl VolumeClaim {
    /// The size, where the manifest and the installation say nothing.
    pub const SIZE: &str = "1Gi";

    #[must_use]
    pub fn size(&self) -> String {
        self.size.as_ref().map_or_else(|| Self::SIZE.to_owned(), ToString::to_string)
    }
}

/// The pod's own disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ephemeral {}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the pod is guaranteed, by name of the resource (`cpu`, `memory`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the pod may take at most, by name of the resource (`cpu`, `memory`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// A taint that the pod tolerates, with the members and meanings of Kubernetes' own tolerations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint. Absent: all keys, with the operator `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316), regex(pattern = TAINT_KEY_PATTERN))]
    pub key: Option<String>,
    /// `Equal` (default) compares the value, `Exists` does not.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL_VALUE_PATTERN))]
    pub value: Option<String>,
    /// Effect of the taint: `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// With `NoExecute`: seconds for which the pod stays. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    #[default]
    Equal,
    Exists,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}
