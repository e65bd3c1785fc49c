//! What is observed of a channel. The controller, or in `run` the local runner, writes it; nothing
//! is decided from it that could not be observed again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is observed of the channel. No counters: they are in the metrics and in the relay's own
/// `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaxChannelStatus {
    /// The generation of the resource that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The value of the annotation `maxchannel.dev/reconcile-at` that was handled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// The annotation `maxchannel.dev/adopt` has done its work; it counts again once it was taken
    /// away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The bot to which the token belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot: Option<BotStatus>,
    /// The way by which updates reach the relay now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intake: Option<IntakeKind>,
    /// The relay that serves the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayStatus>,
    /// What works and what does not, one entry per type, in a fixed order. `Ready` sums them up;
    /// docs/errors.md explains each reason.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
}

/// The bot as MAX describes it (MAX Bot API, GET /me).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BotStatus {
    /// The bot's number in MAX; it names the channel in the CRM.
    pub user_id: i64,
    /// The nick, without `@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The name that customers see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The way by which updates reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntakeKind {
    Webhook,
    LongPoll,
    MangoDialogs,
}

/// The relay that serves the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// The program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The revision of the configuration in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}
