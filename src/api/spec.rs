//! The desired state of a channel, field by field. The doc comments of fields are the user's manual: they stand in the CRD and are
//! shown by `kubectl explain`.
//!
//! Unions are optional members and a rule with a readable message, never `oneOf`. Everything has a bound, so that the API server can
//! reckon the cost of the rules. What may be left out and has a value then is a plain field with a default; what may be absent is an
//! `Option` that is never written as `null`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    status::MaxChannelStatus,
    values::{Date, Duration, Quantity, TimeOfDay},
};

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
    /// The Secret that holds the bot's token, which MAX shows once the bot has passed moderation. Key `token` unless named otherwise.
    /// A changed token takes effect within seconds, without a restart.
    pub token_secret_ref: TokenSecretRef,
    /// The account at MANGO OFFICE whose employees and groups take the dialogs. One account carries one MAX channel.
    pub mango: Mango,
    /// The CRM in which the agents answer.
    pub creatio: Creatio,
    /// Who takes the dialogs: exactly one of `employee`, `group`, `bot`. While it is absent customers are not answered, and messages
    /// are kept (documented error 6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Receiver>,
    /// What the customer is told while nobody has answered yet, at most 20. They stop when an agent answers. They enter the history in
    /// the CRM only once the customer has written something himself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub auto_replies: Vec<AutoReply>,
    /// When the company works. Absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_hours: Option<WorkingHours>,
    /// What happens outside working hours: exactly one of `autoReplies` and `bot`. Needs `workingHours`. Absent: the same as within
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_hours: Option<OffHours>,
    /// What the customer is told when the dialog is closed by the agent, by the bot or by time-out. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_message: Option<CloseMessage>,
    /// Closes dialogs in which nobody writes any more. Absent: they stay open until an agent closes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_close: Option<AutoClose>,
    /// The bot's card as it should stand in MAX. It can be changed only in MAX itself; what MAX shows (name, nick, description) is
    /// compared, and a difference is reported. Absent: nothing is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_card: Option<BotCard>,
    /// How updates of MAX reach the relay: exactly one of `webhook`, `longPoll`, `mangoDialogs`. Absent: by webhook where the
    /// installation has a public host, else by long poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intake: Option<Intake>,
    /// The relay's own needs: storage, retention, place and size of its pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relay: Relay,
    /// true: nothing is taken or sent, and nothing outside is changed. MAX keeps webhooks for 8 hours and then drops the subscription,
    /// which is made again on resume. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// What deleting the resource does outside. `Delete` (default): the subscription in MAX is removed, the channel in the CRM is made
    /// inactive, the volume is deleted. `Retain`: both and the volume stay as they are.
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
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
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
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A key of a Secret in the same namespace that holds certificates; the key is `ca.crt` by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    /// Name of the Secret, in the channel's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
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
    /// Number of the account (лицевой счёт), digits in quotes. It cannot be changed: delete the channel and make a new one.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("accountNumber cannot be changed: delete the channel and make a new one for the other account"))]
    pub account_number: String,
    /// The Secret with the keys `apiKey` (the unique code of the PBX) and `apiSalt` (the key for signatures), both from the API
    /// connector of MANGO OFFICE.
    pub credentials_secret_ref: SecretRef,
}

/// The CRM Creatio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Creatio {
    /// Address of the CRM, like `https://acme.creatio.com`. `http://` is taken with a warning: the credentials then travel unprotected.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+"))]
    pub url: String,
    /// Address of the identity service, like `https://acme-is.creatio.com`; needed with `clientId` and `clientSecret`, unused with
    /// `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+"))]
    pub identity_url: Option<String>,
    /// The Secret with the keys `clientId` and `clientSecret`, or `username` and `password`. The key `notifySecret` is optional: with
    /// it the CRM tells the relay at once that an agent has answered.
    pub credentials_secret_ref: SecretRef,
    /// The runtime of the CRM, which decides the prefix of its addresses: `Net` (none), `Framework` (`/0`), `Auto` (default: found out).
    #[serde(default)]
    pub runtime: Runtime,
    /// How often the CRM is asked for agents' answers while a dialog is open, 1s to 5m. Shorter is faster for the customer and costs
    /// more calls. Default 2s.
    #[serde(default = "poll_interval")]
    #[x_kube(validation = between("1s", "5m"))]
    pub poll_interval: Duration,
    /// How much of the CRM the relay may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: CreatioLimits,
    /// The authorities that are trusted for this CRM beside the public ones, for an on-site CRM with certificates of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
}

fn poll_interval() -> Duration {
    Duration::from_secs(2)
}

/// The runtime of the CRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Runtime {
    #[default]
    Auto,
    Net,
    Framework,
}

/// How much of the CRM the relay may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatioLimits {
    /// The most requests in any one second, 1 to 10000. Default 20.
    #[serde(default = "requests_per_second")]
    #[schemars(range(min = 1, max = 10_000))]
    pub requests_per_second: i32,
    /// The most requests at the same time, 1 to 256. Default 8.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 256))]
    pub in_flight: i32,
}

fn requests_per_second() -> i32 {
    20
}

fn in_flight() -> i32 {
    8
}

impl Default for CreatioLimits {
    fn default() -> Self {
        Self { requests_per_second: requests_per_second(), in_flight: in_flight() }
    }
}

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

    /// The people who take dialogs in the end: the receiver itself or, of a bot, its fallback. `None` only for a spec that has
    /// findings.
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
    /// `LeastLoaded` (default): a dialog is offered to the free agent with the fewest. `Everyone`: it is offered to all, and the first
    /// to accept has it.
    #[serde(default)]
    pub distribution: Distribution,
    /// The most dialogs that one agent holds at the same time, 1 to 100. Default 5.
    #[serde(default = "max_dialogs_per_agent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_dialogs_per_agent: i32,
    /// Logins in the CRM of those members whose e-mail there differs from the one in MANGO, at most 500.
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
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+"))]
    pub url: String,
    /// The Secret with the bot's own access token, key `token` unless named otherwise. Absent: the bot asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<TokenSecretRef>,
    /// How long an answer may take, 1s to 60s, before the dialog is handed on (after one repeat). Default 5s.
    #[serde(default = "bot_timeout")]
    #[x_kube(validation = between("1s", "60s"))]
    pub timeout: Duration,
    /// Who takes the dialogs while the bot is away: exactly one of `employee`, `group`. Required for a receiver; off hours the channel's
    /// receiver serves where this is absent.
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

/// One automatic reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.repeatLimit) || has(self.repeatEvery)").field_path(".repeatLimit")
    .message("repeatLimit counts repeats: give repeatEvery, or remove repeatLimit"))]
#[serde(rename_all = "camelCase")]
pub struct AutoReply {
    /// Time from the customer's appeal to the reply, 0s to 24h.
    #[x_kube(validation = between("0s", "24h"))]
    pub after: Duration,
    /// Repeats the reply at this interval, 1m to 24h, until an agent answers. Absent: it is sent once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1m", "24h"))]
    pub repeat_every: Option<Duration>,
    /// The most repeats after the first reply, 1 to 100, only with `repeatEvery`. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub repeat_limit: Option<i32>,
    /// What the customer reads, 1 to 250 characters.
    #[schemars(length(min = 1, max = 250))]
    pub text: String,
}

impl AutoReply {
    /// The most repeats after the first reply: 0 without `repeatEvery`, 3 where no limit is given.
    pub fn repeats(&self) -> u32 {
        match self.repeat_every {
            None => 0,
            Some(_) => self.repeat_limit.map_or(3, i32::unsigned_abs),
        }
    }
}

/// When the company works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkingHours {
    /// The IANA name of the time zone in which the times are meant, like `Europe/Moscow`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// The intervals of an ordinary week, at most 21, without overlaps. Empty: only the extra workdays count.
    #[serde(default)]
    #[schemars(length(max = 21))]
    pub week: Vec<WeekInterval>,
    /// Days on which the company does not work, like `2027-01-01`, at most 400. An interval that began the evening before still ends at
    /// its hour.
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 400))]
    pub holidays: Vec<Date>,
    /// Extra workdays with hours of their own, which replace those of the week on that date; at most 400. A date may stand here more
    /// than once for several intervals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 400))]
    pub workdays: Vec<Workday>,
}

/// One interval on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.from != '24:00'").field_path(".from")
    .message("an interval cannot begin at 24:00: write 00:00 of the next day"))]
#[serde(rename_all = "camelCase")]
pub struct WeekInterval {
    /// The days on which the interval begins: `Mon`, `Tue`, `Wed`, `Thu`, `Fri`, `Sat`, `Sun`.
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Weekday>,
    /// Begin, `00:00` to `23:59`.
    pub from: TimeOfDay,
    /// End, up to `24:00`. Not later than `from`: the interval goes over midnight and ends on the next day.
    pub to: TimeOfDay,
}

/// An extra workday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.from != '24:00'").field_path(".from")
    .message("an interval cannot begin at 24:00: write 00:00 of the next day"))]
#[serde(rename_all = "camelCase")]
pub struct Workday {
    /// The date on which the interval begins, like `2026-12-26`.
    pub date: Date,
    /// Begin, `00:00` to `23:59`.
    pub from: TimeOfDay,
    /// End, up to `24:00`. Not later than `from`: the interval goes over midnight and ends on the next day.
    pub to: TimeOfDay,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What happens outside working hours: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["autoReplies", "bot"],
    "off hours either autoReplies or a bot answer, never both: give exactly one of autoReplies and bot"))]
#[serde(rename_all = "camelCase")]
pub struct OffHours {
    /// Replies that take the place of the ordinary ones, 1 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub auto_replies: Option<Vec<AutoReply>>,
    /// The bot that takes the dialogs. Where it is away its `fallback` serves or, without one, the channel's receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<Bot>,
}

/// What the customer is told when the dialog is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloseMessage {
    /// What the customer reads, 1 to 250 characters.
    #[schemars(length(min = 1, max = 250))]
    pub text: String,
}

/// Closes dialogs in which nobody writes any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoClose {
    /// Time without a message from either side after which the dialog is closed, 1m to 30d.
    #[x_kube(validation = between("1m", "30d"))]
    pub after: Duration,
}

/// The bot's card as it should stand in MAX; each field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BotCard {
    /// The name, 1 to 59 characters: letters, digits and blanks, no emoji.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 59))]
    pub name: Option<String>,
    /// The nick, 11 to 60 characters: begins with a lower-case letter, Latin letters, digits and `_`, ends in `bot`. It cannot be
    /// changed in MAX once the bot exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 11, max = 60), regex(pattern = r"^[a-z][A-Za-z0-9_]*bot$"))]
    pub username: Option<String>,
    /// The company's telephone: `+7` and 7 to 10 digits in groups, like `+7 999-99-99`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub phone: Option<String>,
    /// The company's site: `https://`, at most 1024 characters: Latin letters, digits, dots and hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https://[^\s]+$"))]
    pub site: Option<String>,
    /// The description, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub description: Option<String>,
}

/// How updates of MAX reach the relay: exactly one of the three ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one(&["webhook", "longPoll", "mangoDialogs"],
    "give exactly one of webhook, longPoll and mangoDialogs, or remove intake"))]
#[serde(rename_all = "camelCase")]
pub struct Intake {
    /// MAX calls the relay. Needs a public name with a certificate that MAX trusts, on port 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The relay asks MAX. Needs no public name; MAX limits it to 2 requests a second and means it for trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_poll: Option<LongPoll>,
    /// The bot's token stands in the MANGO cabinet, and the dialogs come through Манго Диалоги.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mango_dialogs: Option<MangoDialogs>,
    /// What is done about another program's subscription of the same bot. `Report` (default): it is named in a condition. `Remove`: it
    /// is removed.
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
    /// The public base address, like `https://gate.acme.ru/max`, where you route it to the relay yourself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+"))]
    pub url: Option<String>,
    /// Makes an Ingress for `host`. Absent: none is made, and you route the host to the relay's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
}

/// The Ingress that is made for the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Name of the IngressClass. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Annotations of the Ingress, such as those of cert-manager; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// The Secret with the certificate. Absent: `<name of the channel>-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub tls_secret_name: Option<String>,
}

/// The relay asks MAX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LongPoll {}

/// The dialogs come through Манго Диалоги.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MangoDialogs {}

/// What is done about another program's subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForeignSubscription {
    #[default]
    Report,
    Remove,
}

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
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Secrets for the registry of the image, in the channel's namespace; at most 8.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaim {
    /// Size of the volume. Default 1Gi.
    #[serde(default = "volume_size")]
    pub size: Quantity,
    /// Name of the StorageClass. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

fn volume_size() -> Quantity {
    "1Gi".parse().expect("1Gi is a quantity")
}

impl Default for VolumeClaim {
    fn default() -> Self {
        Self { size: volume_size(), storage_class_name: None }
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
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// `Equal` (default) compares the value, `Exists` does not.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
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

/// What deleting the resource does outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Retain,
}
