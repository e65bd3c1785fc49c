//! How updates of MAX reach the relay.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exactly_one;

/// How updates of MAX reach the relay: exactly one of the three ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["webhook", "longPoll", "mangoDialogs"],
    "give exactly one of webhook, longPoll and mangoDialogs, or remove intake"))]
#[serde(rename_all = "camelCase")]
pub struct Intake {
    /// MAX calls the relay. Needs a public name with a certificate that MAX trusts, on port 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The relay asks MAX. Needs no public name; MAX limits it to 2 requests a second and means it
    /// for trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_poll: Option<LongPoll>,
    /// The bot's token stands in the MANGO cabinet, and the dialogs come through Манго Диалоги.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mango_dialogs: Option<MangoDialogs>,
    /// What is done about another program's subscription of the same bot. `Report` (default): it is
    /// named in a condition. `Remove`: it is removed.
    #[serde(default)]
    pub on_foreign_subscription: ForeignSubscription,
}

/// MAX calls the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["host", "url"], "give exactly one of host and url"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || has(self.host)").field_path(".ingress")
    .message("an ingress is made for a host: give host, or remove ingress where you route yourself"))]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The public name, like `max.acme.ru`, without scheme, port and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub host: Option<String>,
    /// The public base address, like `https://gate.acme.ru/max`, where you route it to the relay
    /// yourself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub url: Option<String>,
    /// Makes an Ingress for `host`. Absent: none is made, and you route the host to the relay's
    /// Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
}

/// The Ingress that is made for the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Name of the IngressClass. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub class_name: Option<String>,
    /// Annotations of the Ingress, such as those of cert-manager; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// The Secret with the certificate. Absent: `<name of the channel>-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub tls_secret_name: Option<String>,
}

/// The relay asks MAX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LongPoll {}

/// The dialogs come through Манго Диалоги.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MangoDialogs {
    /// Networks, like `81.88.80.132/32`, from which calls without a signature are taken, too; 1 to
    /// 32. Absent: every call must be signed. The address counts from which the connection comes,
    /// so nothing may stand in front that puts its own in the place of MANGO OFFICE's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 64), regex(pattern = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"))
    )]
    pub unsigned_from: Option<Vec<String>>,

    /// Agents' files go to customers through Манго Диалоги, too. No document of MANGO OFFICE tells
    /// how a request with a file is signed, so try it with one file first: where MANGO OFFICE
    /// refuses it, the agent reads why, and no other file is sent for two minutes, since a second
    /// wrong request would block the key. Absent: false, and the agent reads that the file was not
    /// handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_files: Option<bool>,
}

/// What is done about another program's subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForeignSubscription {
    #[default]
    Report,
    Remove,
}
