//! What MANGO OFFICE answers, read leniently: numbers may be texts, members may be missing or null
//! (MANGO OFFICE API reference, 1.4).

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                int(deserializer).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// An employee in the VPBX API: `general.user_id`, and `id` of the members of a group.
    UserId
}
id! {
    /// An employee in Манго Диалоги. Documents hint that it equals [`UserId`] and elsewhere show
    /// both for one person (MANGO OFFICE API reference, 2.6), so the two are kept apart.
    AbonentId
}
id! {
    /// A group of employees.
    GroupId
}

impl AbonentId {
    /// The same number as a user's: right for accounts where both number spaces are one. Prove it
    /// by finding the user in the list.
    pub fn as_user(self) -> UserId {
        UserId(self.0)
    }
}

/// A whole number, also in a text.
fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    as_int(&Value::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not a whole number"))
}

pub(super) fn as_int(value: &Value) -> Option<i64> {
    match value {
        #[allow(clippy::cast_possible_truncation)] // A whole number written like 3.0.
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A whole number or 0.
fn int_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(as_int(&Value::deserialize(deserializer)?).unwrap_or(0))
}

/// An id, or none for null, empty and what is no number.
fn opt_id<'de, D: Deserializer<'de>, T: From<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(as_int(&Value::deserialize(deserializer)?).map(T::from))
}

impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl From<i64> for AbonentId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl From<i64> for GroupId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

/// A text, trimmed; empty for null. Numbers come as their digits.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

/// `true`, 1 or `"1"`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(flag) => flag,
        Value::String(text) if text.eq_ignore_ascii_case("true") => true,
        value => as_int(&value).is_some_and(|number| number != 0),
    })
}

/// A list; empty for null and missing.
fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An employee (MANGO OFFICE API reference, 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Employee {
    /// None where the answer carries no ids.
    pub user_id: Option<UserId>,
    pub name: String,
    /// Empty where there is none.
    pub email: String,
    /// The internal number; empty where there is none.
    pub extension: String,
    pub groups: Vec<GroupId>,
}

#[derive(Deserialize)]
pub(super) struct WireEmployees {
    pub users: Vec<WireEmployee>,
}

#[derive(Deserialize)]
pub(super) struct WireEmployee {
    #[serde(default)]
    general: Option<General>,
    #[serde(default)]
    telephony: Option<Telephony>,
    #[serde(default, deserialize_with = "list")]
    groups: Vec<GroupId>,
}

#[derive(Default, Deserialize)]
struct General {
    #[serde(default, deserialize_with = "opt_id")]
    user_id: Option<UserId>,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    email: String,
}

#[derive(Default, Deserialize)]
struct Telephony {
    #[serde(default, deserialize_with = "text")]
    extension: String,
}

impl From<WireEmployee> for Employee {
    fn from(wire: WireEmployee) -> Self {
        let general = wire.general.unwrap_or_default();
        Self {
            user_id: general.user_id,
            name: general.name,
            email: general.email,
            extension: wire.telephony.unwrap_or_default().extension,
            groups: wire.groups,
        }
    }
}

/// A group of employees (MANGO OFFICE API reference, 2.3).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    #[serde(default, deserialize_with = "text")]
    pub name: String,
    #[serde(default, deserialize_with = "text")]
    pub description: String,
    /// The internal number; empty where there is none.
    #[serde(default, deserialize_with = "text")]
    pub extension: String,
    /// Empty unless asked for.
    #[serde(default, rename = "operators", deserialize_with = "list")]
    pub members: Vec<Member>,
}

#[derive(Deserialize)]
pub(super) struct WireGroups {
    #[serde(default, deserialize_with = "list")]
    pub groups: Vec<Group>,
}

/// An employee in a group (the API calls it operator).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Member {
    pub id: UserId,
    #[serde(default, deserialize_with = "text")]
    pub name: String,
    #[serde(default, deserialize_with = "text")]
    pub extension: String,
    #[serde(default, deserialize_with = "int_or_zero")]
    pub priority: i64,
    #[serde(default, deserialize_with = "int_or_zero")]
    pub order: i64,
}

/// Money on the account (MANGO OFFICE API reference, 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The decimal number as MANGO writes it; may be negative.
    pub amount: String,
    /// Like `RUB`.
    pub currency: String,
}

#[derive(Deserialize)]
pub(super) struct WireBalance {
    #[serde(deserialize_with = "text")]
    balance: String,
    #[serde(default, deserialize_with = "text")]
    currency: String,
}

impl From<WireBalance> for Balance {
    fn from(wire: WireBalance) -> Self {
        Self { amount: wire.balance, currency: wire.currency }
    }
}

/// A group of channels of Манго Диалоги (MANGO OFFICE API reference, 3).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Widget {
    #[serde(deserialize_with = "int")]
    pub widget_id: i64,
    #[serde(default, deserialize_with = "text")]
    pub name: String,
    /// Off: messages from messengers do not arrive.
    #[serde(default, deserialize_with = "flag")]
    pub enabled: bool,
    #[serde(default, deserialize_with = "list")]
    pub channels: Vec<Channel>,
}

#[derive(Deserialize)]
pub(super) struct WireWidgets {
    #[serde(default, deserialize_with = "list")]
    pub widgets: Vec<Widget>,
}

/// One channel of a [`Widget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub channel_id: i64,
    pub kind: ChannelType,
    /// Who serves it.
    pub serving: Serving,
}

/// Which messenger (MANGO OFFICE API reference, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelType {
    /// 15.
    Max,
    /// Any other; other surfaces of MANGO number them differently.
    Other(i64),
}

impl From<i64> for ChannelType {
    fn from(number: i64) -> Self {
        if number == 15 { Self::Max } else { Self::Other(number) }
    }
}

/// Who serves a channel or an answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    Group(Option<GroupId>),
    Employee(Option<AbonentId>),
    /// By what the customer picks.
    Question(Vec<Question>),
    /// A mode that is not documented; how a chat-bot looks is unknown.
    Other(String),
}

/// One choice of the customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: i64,
    pub question: String,
    pub serving: Serving,
}

#[derive(Deserialize)]
struct WireChannel {
    #[serde(deserialize_with = "int")]
    channel_id: i64,
    #[serde(rename = "type", deserialize_with = "int")]
    kind: i64,
    #[serde(flatten)]
    serving: WireServing,
    #[serde(default, deserialize_with = "list")]
    questions: Vec<WireQuestion>,
}

#[derive(Deserialize)]
struct WireQuestion {
    #[serde(deserialize_with = "int")]
    id: i64,
    #[serde(default, deserialize_with = "text")]
    question: String,
    #[serde(flatten)]
    serving: WireServing,
}

#[derive(Deserialize)]
struct WireServing {
    #[serde(default, deserialize_with = "text")]
    mode: String,
    #[serde(default, deserialize_with = "opt_id")]
    group_id: Option<GroupId>,
    #[serde(default, deserialize_with = "opt_id")]
    abonent_id: Option<AbonentId>,
}

impl WireServing {
    fn read(self, questions: Vec<WireQuestion>) -> Serving {
        match self.mode.as_str() {
            "group" => Serving::Group(self.group_id),
            "abonent" => Serving::Employee(self.abonent_id),
            "question" => Serving::Question(
                questions
                    .into_iter()
                    .map(|one| Question { id: one.id, question: one.question, serving: one.serving.read(Vec::new()) })
                    .collect(),
            ),
            _ => Serving::Other(self.mode),
        }
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireChannel::deserialize(deserializer)?;
        Ok(Self { channel_id: wire.channel_id, kind: wire.kind.into(), serving: wire.serving.read(wire.questions) })
    }
}
