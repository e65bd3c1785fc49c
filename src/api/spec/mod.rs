//! The desired state of a channel, field by field. The doc comments of fields are the user's
//! manual: they stand in the CRD and are shown by `kubectl explain`.
//!
//! Unions are optional members and a rule with a readable message, never `oneOf`. Everything has a
//! bound, so that the API server can reckon the cost of the rules. What may be left out and has a
//! value then is a plain field with a default; what may be absent is an `Option` that is never
//! written as `null`.

mod creatio;
mod dialog;
mod intake;
mod receiver;
mod relay;
mod widget;

use kube::{CustomResource, KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{status::MaxChannelStatus, values::Duration};

pub use creatio::{Creatio, CreatioLimits, Runtime};
pub use dialog::{AutoClose, AutoReply, CloseMessage, OffHours, WeekInterval, Weekday, Workday, WorkingHours};
pub use intake::{ForeignSubscription, Ingress, Intake, LongPoll, MangoDialogs, Webhook};
pub use receiver::{Bot, CrmUser, Distribution, Employee, Fallback, Group, Receiver, ReceiverRef};
pub use relay::{Ephemeral, Relay, Resources, Storage, TaintEffect, Toleration, TolerationOperator, VolumeClaim};
pub use widget::{Widget, WidgetSource};

/// The desired state of the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "maxchannel.dev",
    version = "v1alpha1",
    kind = "MaxChannel",
    plural = "maxchannels",
    singular = "maxchannel",
    shortname = "mxc",
    category = "maxchannel",
    namespaced,
    status = "MaxChannelStatus",
    derive = "PartialEq",
    doc = "A MAX bot connected to MANGO OFFICE and to the CRM Creatio: customers write in MAX, agents answer in Creatio.",
    validation = Rule::new("!has(self.metadata.name) || self.metadata.name.size() <= 46")
        .message("the name may have at most 46 characters, because the names of pods are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether messages are carried"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "The first thing that is wrong; docs/errors.md explains it"),
    printcolumn(name = "Bot", type_ = "string", json_path = ".status.bot.username", description = "The bot's nick in MAX"),
    printcolumn(name = "Intake", type_ = "string", json_path = ".status.intake", description = "How updates arrive"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.mango.accountNumber", priority = "1",
        description = "The account at MANGO OFFICE"),
    printcolumn(name = "Receiver", type_ = "string",
        json_path = r#".status.conditions[?(@.type=="ReceiverResolved")].message"#, priority = "1",
        description = "Who takes the dialogs"),
    printcolumn(name = "Relay", type_ = "string", json_path = ".status.relay.version", priority = "1",
        description = "The version of the relay"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1", description = "What is wrong, in words"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("!has(self.offHours) || has(self.workingHours)")
    .message("offHours needs workingHours: say when the company works, or remove offHours").field_path(".offHours"))]
#[serde(rename_all = "camelCase")]
pub struct MaxChannelSpec {
    /// The Secret that holds the bot's token, which MAX shows once the bot has passed moderation.
    /// Key `token` unless named otherwise. A changed token takes effect within seconds, without a
    /// restart.
    pub token_secret_ref: TokenSecretRef,
    /// The account at MANGO OFFICE whose employees and groups take the dialogs. One account carries
    /// one MAX channel.
    pub mango: Mango,
    /// The CRM in which the agents answer.
    pub creatio: Creatio,
    /// Who takes the dialogs: exactly one of `employee`, `group`, `bot`. While it is absent
    /// customers are not answered, and messages are kept (documented error 6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Receiver>,
    /// What the customer is told while nobody has answered yet, at most 20. They stop when an agent
    /// answers. They enter the history in the CRM only once the customer has written something
    /// himself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub auto_replies: Vec<AutoReply>,
    /// When the company works. Absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_hours: Option<WorkingHours>,
    /// What happens outside working hours: exactly one of `autoReplies` and `bot`. Needs
    /// `workingHours`. Absent: the same as within them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_hours: Option<OffHours>,
    /// What the customer is told when the dialog is closed by the agent, by the bot or by time-out.
    /// Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_message: Option<CloseMessage>,
    /// Closes dialogs in which nobody writes any more. Absent: they stay open until an agent closes
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_close: Option<AutoClose>,
    /// The bot's card as it should stand in MAX. It can be changed only in MAX itself; what MAX
    /// shows (name, nick, description) is compared, and a difference is reported. Absent: nothing
    /// is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_card: Option<BotCard>,
    /// How updates of MAX reach the relay: exactly one of `webhook`, `longPoll`, `mangoDialogs`.
    /// Absent: by webhook where the installation has a public host, else by long poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intake: Option<Intake>,
    /// The button for the company's site, which `maxchannel widget` makes, and the places from
    /// which customers come. Absent: links to the bot work all the same, and what they say is shown
    /// as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widget: Option<Widget>,
    /// The relay's own needs: storage, retention, place and size of its pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relay: Relay,
    /// true: nothing is taken or sent, and nothing outside is changed. MAX keeps webhooks for 8
    /// hours and then drops the subscription, which is made again on resume. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// What deleting the resource does outside. `Delete` (default): the subscription in MAX is
    /// removed, the channel in the CRM is made inactive, the volume is deleted. `Retain`: both and
    /// the volume stay as they are.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A rule that keeps a [`Duration`] within bounds, both included and both in words of its grammar.
fn between(least: &str, most: &str) -> Rule {
    let seconds = |text: &str| text.parse::<Duration>().map_or(0, Duration::seconds);
    let (from, to) = (seconds(least), seconds(most));
    Rule::new(format!(
        "[int(self.substring(0, self.size() - 1)) * (self.endsWith('s') ? 1 : self.endsWith('m') ? 60 : self.endsWith('h') ? 3600 : \
         86400)].all(seconds, seconds >= {from} && seconds <= {to})"
    ))
    .message(format!("give a duration from {least} to {most}").as_str())
}

/// The rule of a union: exactly one of the members.
fn exactly_one(members: &[&str], message: &str) -> Rule {
    let members = members.iter().map(|member| format!("has(self.{member})")).collect::<Vec<_>>().join(", ");
    Rule::new(format!("[{members}].filter(given, given).size() == 1")).message(message)
}

/// A key of a Secret in the same namespace; the key is `token` by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecretRef {
    /// Name of the Secret, in the channel's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key in the Secret. Blanks and line ends around the value are ignored. Default `token`.
    #[serde(default = "token_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn token_key() -> String {
    "token".to_owned()
}

/// A Secret in the same namespace whose keys are fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret, in the channel's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// A key of a Secret in the same namespace that holds certificates; the key is `ca.crt` by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    /// Name of the Secret, in the channel's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key in the Secret: one or more certificates in PEM. Default `ca.crt`.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

/// The account at MANGO OFFICE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mango {
    /// Number of the account (лицевой счёт), digits in quotes. It cannot be changed: delete the
    /// channel and make a new one.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("accountNumber cannot be changed: delete the channel and make a new one for the other account"))]
    pub account_number: String,
    /// The Secret with the keys `apiKey` (the unique code of the PBX) and `apiSalt` (the key for
    /// signatures), both from the API connector of MANGO OFFICE.
    pub credentials_secret_ref: SecretRef,
}

/// The bot's card as it should stand in MAX; each field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BotCard {
    /// The name, 1 to 59 characters: letters, digits and spaces, no emoji.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 59))]
    pub name: Option<String>,
    /// The nick, 11 to 60 characters: begins with a lower-case letter, Latin letters, digits and
    /// `_`, ends in `bot`. It cannot be changed in MAX once the bot exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 11, max = 60), regex(pattern = r"^[a-z][A-Za-z0-9_]*bot$"))]
    pub username: Option<String>,
    /// The company's telephone: `+7` and 7 to 10 digits in groups, like `+7 999-99-99`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub phone: Option<String>,
    /// The company's site: `https://`, at most 1024 characters: Latin letters, digits, dots and
    /// hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"))]
    pub site: Option<String>,
    /// The description, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub description: Option<String>,
}

/// What deleting the resource does outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Retain,
}
