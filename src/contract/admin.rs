//! What the administrator of one channel may ask its relay for, over a unix socket in the channel's
//! data folder.

use serde::{Deserialize, Serialize};

use super::CustomerId;

/// The name of the socket in the channel's data folder.
pub const SOCKET: &str = "admin.sock";
/// What the socket answers.
pub mod route {
    /// `GET`, with `?text=true` for the words too: [`DeadLetters`](super::DeadLetters).
    pub const DEAD_LETTERS: &str = "/dead-letters";
    /// `POST` [`Replay`](super::Replay): [`Replayed`](super::Replayed).
    pub const REPLAY: &str = "/dead-letters/replay";
    /// `GET`, with `?day=2026-11-29` for one day: [`Receipt`](super::Receipt).
    pub const RECEIPT: &str = "/receipt";
    /// `POST` [`Erase`](super::Erase): [`Erased`](super::Erased).
    pub const ERASE: &str = "/erase";
}

/// Which way a message was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the customer to the CRM.
    ToCrm,
    /// To the customer in MAX.
    ToMax,
}

/// One message that was not delivered, or of which nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `crm-<n>` or `max-<n>`: what a replay names.
    pub id: String,
    pub direction: Direction,
    /// `max:<user id>`.
    pub customer: String,
    /// Whose words: `customer`, `agent`, `autoReply`, `closeMessage`, `bot`; `relay` where there
    /// are none.
    pub author: String,
    /// True: MAX never confirmed it, and it may be with the customer.
    pub uncertain: bool,
    pub age_seconds: i64,
    /// Why, as the agent was told.
    pub reason: String,
    /// Only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The answer to `GET /dead-letters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    pub dead_letters: Vec<DeadLetter>,
    /// There are more than are shown.
    pub more: bool,
}

/// Which dead letters to replay: those of `ids`, or with `all` every one that has certainly failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replay {
    pub ids: Vec<String>,
    /// Uncertain ones are left out: the customer may have them, so each must be named.
    pub all: bool,
}

/// What became of a [`Replay`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    pub replayed: Vec<String>,
    /// Ids that name no dead letter.
    pub unknown: Vec<String>,
}

/// Whom to erase, by the user id in MAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erase {
    pub customer: CustomerId,
}

/// How many rows of a person are gone; all zero: nothing was known of that person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// The person's dialog.
    pub dialogs: usize,
    /// Updates of MAX as they came in.
    pub updates: usize,
    /// Entries of the queue towards the CRM, dead letters among them.
    pub to_crm: usize,
    /// Messages to the customer, sent or not.
    pub to_max: usize,
    /// Ids of sent messages.
    pub sent: usize,
    /// Questions to a bot.
    pub to_bot: usize,
}

/// What became of the messages of some time in one direction:
/// `received = delivered + dead + uncertain + withheld + erased + waiting + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    pub received: i64,
    pub delivered: i64,
    /// Given up, with a reason; kept, unless the retention or an erasure has taken them away.
    pub dead: i64,
    /// MAX never confirmed them, and they may be with the customer.
    pub uncertain: i64,
    /// What nobody is to be shown: starts, groups, unknown updates, overdue replies.
    pub withheld: i64,
    /// Erased with their person before they were delivered.
    pub erased: i64,
    pub waiting: i64,
    /// Came again and were known: nothing came of it.
    pub repeated: i64,
    /// Nothing is told of them. Always 0.
    pub lost: i64,
    /// More is told of them than can be. Always 0.
    pub doubled: i64,
}

impl Tally {
    /// What became of the messages, for metrics.
    #[must_use]
    pub const fn outcomes(&self) -> [(&'static str, i64); 8] {
        [
            ("received", self.received),
            ("delivered", self.delivered),
            ("dead", self.dead),
            ("uncertain", self.uncertain),
            ("withheld", self.withheld),
            ("erased", self.erased),
            ("waiting", self.waiting),
            ("repeated", self.repeated),
        ]
    }

    /// By what it does not add up, for metrics.
    #[must_use]
    pub const fn imbalance(&self) -> [(&'static str, i64); 2] {
        [("lost", self.lost), ("doubled", self.doubled)]
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |all, one| Self {
            received: all.received + one.received,
            delivered: all.delivered + one.delivered,
            dead: all.dead + one.dead,
            uncertain: all.uncertain + one.uncertain,
            withheld: all.withheld + one.withheld,
            erased: all.erased + one.erased,
            waiting: all.waiting + one.waiting,
            repeated: all.repeated + one.repeated,
            lost: all.lost + one.lost,
            doubled: all.doubled + one.doubled,
        })
    }
}

/// The messages that came on one day, which is one of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptDay {
    /// `2026-11-29`
    pub day: String,
    /// False: nothing was counted yet, and the tallies are missing.
    pub known: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_crm: Option<Tally>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_max: Option<Tally>,
}

impl ReceiptDay {
    /// Whether it adds up, as far as it is known.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        [self.to_crm, self.to_max].into_iter().flatten().all(|tally| tally.lost == 0 && tally.doubled == 0)
    }
}

/// A time of which a backup that was put in place knows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub from: String,
    pub until: String,
}

/// The answer to `GET /receipt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// `namespace/name`
    pub channel: String,
    /// Since when is counted.
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// The newest first.
    pub days: Vec<ReceiptDay>,
}
