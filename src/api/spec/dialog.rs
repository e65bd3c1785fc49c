//! What customers are told, and when: replies, working hours, closing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bot, between, exactly_one};
use crate::api::values::{Date, Duration, TimeOfDay};

/// One automatic reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.repeatLimit) || has(self.repeatEvery)").field_path(".repeatLimit")
    .message("repeatLimit counts repeats: give repeatEvery, or remove repeatLimit"))]
#[serde(rename_all = "camelCase")]
pub struct AutoReply {
    /// Time from the customer's appeal to the reply, 0s to 24h.
    #[x_kube(validation = between("0s", "24h"))]
    pub after: Duration,
    /// Repeats the reply at this interval, 1m to 24h, until an agent answers. Absent: it is sent
    /// once.
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
    /// The intervals of an ordinary week, at most 21, without overlaps. Empty: only the extra
    /// workdays count.
    #[serde(default)]
    #[schemars(length(max = 21))]
    pub week: Vec<WeekInterval>,
    /// Days on which the company does not work, like `2027-01-01`, at most 400. An interval that
    /// began the evening before still ends at its hour.
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 400))]
    pub holidays: Vec<Date>,
    /// Extra workdays with hours of their own, which replace those of the week on that date; at
    /// most 400. A date may stand here more than once for several intervals.
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
    /// End, up to `24:00`. Not later than `from`: the interval goes over midnight and ends on the
    /// next day.
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
    /// End, up to `24:00`. Not later than `from`: the interval goes over midnight and ends on the
    /// next day.
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
    /// The bot that takes the dialogs. Where it is away its `fallback` serves or, without one, the
    /// channel's receiver.
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
