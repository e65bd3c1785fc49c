//! Who takes the dialogs.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TokenSecretRef, between, exactly_one};
use crate::api::values::Duration;

/// Who takes the dialogs: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["employee", "group", "bot"], "give exactly one of employee, group and bot"))]
#[x_kube(validation = Rule::new("!has(self.bot) || has(self.bot.fallback)").field_path(".bot.fallback")
    .message("a bot needs a fallback: name the employee or the group that takes dialogs while the bot is away"))]
#[serde(rename_all = "camelCase")]
pub struct Receiver {
    /// One employee of the MANGO account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub employee: Option<Employee>,
    /// A group of the MANGO account; its members become the agents of a queue in the CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// A bot that speaks the Rasa REST channel; dialogs that it cannot serve go to its `fallback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<Bot>,
}

/// The one member of a [`Receiver`] or [`Fallback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverRef<'a> {
    Employee(&'a Employee),
    Group(&'a Group),
    Bot(&'a Bot),
}

impl Receiver {
    /// The member that is given; `None` only for a spec that has findings.
    pub fn get(&self) -> Option<ReceiverRef<'_>> {
        None.or(self.employee.as_ref().map(ReceiverRef::Employee))
            .or(self.group.as_ref().map(ReceiverRef::Group))
            .or(self.bot.as_ref().map(ReceiverRef::Bot))
    }

    /// The people who take dialogs in the end: the receiver itself or, of a bot, its fallback.
    /// `None` only for a spec that has findings.
    pub fn people(&self) -> Option<ReceiverRef<'_>> {
        match self.get()? {
            ReceiverRef::Bot(bot) => bot.fallback.as_ref()?.get(),
            people => Some(people),
        }
    }
}

/// One employee of the MANGO account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["extension", "userId"], "give exactly one of extension and userId"))]
#[serde(rename_all = "camelCase")]
pub struct Employee {
    /// The internal number, digits in quotes, like `"101"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+$"))]
    pub extension: Option<String>,
    /// The number of the employee in the MANGO API (`general.user_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub user_id: Option<i64>,
    /// Login of the agent in the CRM. Absent: the agent whose e-mail equals the employee's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    pub crm_user: Option<String>,
}

/// A group of the MANGO account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["name", "id"], "give exactly one of name and id"))]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The name as it stands in the MANGO cabinet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    /// The number of the group in the MANGO API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub id: Option<i64>,
    /// `LeastLoaded` (default): a dialog is offered to the free agent with the fewest. `Everyone`:
    /// it is offered to all, and the first to accept has it.
    #[serde(default)]
    pub distribution: Distribution,
    /// The most dialogs that one agent holds at the same time, 1 to 100. Default 5.
    #[serde(default = "max_dialogs_per_agent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_dialogs_per_agent: i32,
    /// Logins in the CRM of those members whose e-mail there differs from the one in MANGO, at most
    /// 500.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["extension".to_owned()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub crm_users: Vec<CrmUser>,
}

fn max_dialogs_per_agent() -> i32 {
    5
}

/// How a dialog finds its agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Distribution {
    #[default]
    LeastLoaded,
    Everyone,
}

/// The login in the CRM of one member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrmUser {
    /// The member's internal number, digits in quotes.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+$"))]
    pub extension: String,
    /// Login of the agent in the CRM.
    #[schemars(length(min = 1, max = 250))]
    pub crm_user: String,
}

/// A bot that speaks the Rasa REST channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bot {
    /// Address of the bot, to which `/webhooks/rest/webhook` is added unless it ends so.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub url: String,
    /// The Secret with the bot's own access token, key `token` unless named otherwise. Absent: the
    /// bot asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<TokenSecretRef>,
    /// How long an answer may take, 1s to 60s, before the dialog is handed on (after one repeat).
    /// Default 5s.
    #[serde(default = "bot_timeout")]
    #[x_kube(validation = between("1s", "60s"))]
    pub timeout: Duration,
    /// Who takes the dialogs while the bot is away: exactly one of `employee`, `group`. Required
    /// for a receiver; off hours the channel's receiver serves where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

fn bot_timeout() -> Duration {
    Duration::from_secs(5)
}

/// Who takes the dialogs of a bot that is away: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["employee", "group"], "give exactly one of employee and group"))]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// One employee of the MANGO account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub employee: Option<Employee>,
    /// A group of the MANGO account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

impl Fallback {
    /// The member that is given, never a bot; `None` only for a spec that has findings.
    pub fn get(&self) -> Option<ReceiverRef<'_>> {
        None.or(self.employee.as_ref().map(ReceiverRef::Employee)).or(self.group.as_ref().map(ReceiverRef::Group))
    }
}
