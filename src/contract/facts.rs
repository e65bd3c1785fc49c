//! What a relay knows of itself and of both sides, as its `/status` answers. Facts only: conditions
//! are made of them elsewhere.

use serde::{Deserialize, Serialize};

use super::Trouble;
use super::admin::Tally;
use super::share::CrmShare;
use crate::time::Millis;

/// What a relay knows of itself and of both sides; conditions are made of it elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Of the settings in force.
    pub revision: String,
    /// Of the program.
    pub version: String,
    pub max: SideFacts,
    pub crm: SideFacts,
    pub bot: SideFacts,
    /// Age of the oldest message waiting in either direction.
    pub oldest_seconds: i64,
    pub dead_letters: i64,
    /// What would be lost with the store. Relays of an older version do not say.
    #[serde(default)]
    pub undelivered: Undelivered,
    pub open_dialogs: i64,
    /// When MAX last brought anything; milliseconds since the epoch.
    pub last_update_at: Option<Millis>,
    /// The last step could be written to disk.
    #[serde(default = "yes")]
    pub store_writable: bool,
    /// The subscription that the relay was last told of, by the time at which MAX says it was made.
    #[serde(default)]
    pub subscribed_at: Option<Millis>,
    /// The next dialogs to be closed for silence, soonest first, at most 20.
    pub auto_close: Vec<AutoClose>,
    /// Of Манго Диалоги, where the dialogs come through them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mango: Option<MangoFacts>,
    /// What it may ask of the CRM, where that is shared out; of one that stands back, what it may
    /// ask as soon as it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crm_share: Option<CrmShare>,
    /// Relays of an older version do not say, nor does one that cannot read its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptFacts>,
}

/// What became of all messages that the store has counted. What does not add up on one day is not
/// made good by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceiptFacts {
    pub to_crm: Tally,
    pub to_max: Tally,
}

impl Facts {
    /// What would be lost with the store; of relays of an older version, which count dead letters
    /// only, those.
    #[must_use]
    pub fn undelivered_in_all(&self) -> Undelivered {
        let dead_letters = self.undelivered.dead_letters.max(self.dead_letters);
        Undelivered { dead_letters, ..self.undelivered }
    }

    /// The same, where it is known: while a store is held nobody looks into it.
    #[must_use]
    pub fn undelivered_if_known(&self) -> Option<Undelivered> {
        (self.store_away() != Some(&Trouble::StoreHeld)).then(|| self.undelivered_in_all())
    }
}

/// Relays of an older version do not say.
const fn yes() -> bool {
    true
}

/// How many messages would be lost with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Undelivered {
    /// Customers' messages and what else waits for the CRM, or has not even been looked at.
    pub to_crm: i64,
    /// Messages that wait for MAX.
    pub to_max: i64,
    /// Messages that were given up, either way.
    pub dead_letters: i64,
}

impl Undelivered {
    #[must_use]
    pub const fn total(self) -> i64 {
        self.to_crm + self.to_max + self.dead_letters
    }

    /// How many there are, and on which way, for conditions and events.
    #[must_use]
    pub fn in_words(self) -> String {
        let Self { to_crm, to_max, dead_letters } = self;
        let parts = [(to_crm, "to the CRM"), (to_max, "to customers"), (dead_letters, "given up (dead letters)")];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let all = self.total();
        format!("{all} undelivered {}: {}", if all == 1 { "message" } else { "messages" }, parts.join(", "))
    }
}

/// What has been seen of the settings in the cabinet of MANGO OFFICE, which no call tells;
/// milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MangoFacts {
    /// When MANGO OFFICE last called, to the minute: it has the relay's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_at: Option<Millis>,
    /// Since when it does not deliver, because MAX refuses the token in the cabinet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Millis>,
    /// When the cabinet last said something to a customer by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automatic_at: Option<Millis>,
    /// When a dialog last ended in which it said nothing by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_at: Option<Millis>,
}

impl MangoFacts {
    /// The cabinet sends automatic messages of its own, as far as was seen last.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        self.automatic_at.is_some() && self.quiet_at <= self.automatic_at
    }

    /// It sends none, and that was seen.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet_at.is_some() && !self.is_automatic()
    }
}

/// When a silent dialog will be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoClose {
    pub customer: String,
    pub at: Millis,
}

/// How one side looks from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SideFacts {
    pub ok: bool,
    /// What it answered, where it is not well.
    pub code: Option<Trouble>,
    /// Since when it is so; milliseconds since the epoch.
    pub since: Millis,
}

impl Facts {
    /// Of a relay whose store is being moved or has left, as the trouble says: it carries nothing,
    /// and has nothing to deliver once the store has left.
    #[must_use]
    pub fn without_store(revision: &str, trouble: Trouble, now: Millis) -> Self {
        let away = SideFacts { ok: false, code: Some(trouble), since: now };
        let well = SideFacts { ok: true, code: None, since: now };
        Self {
            revision: revision.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max: away,
            crm: well.clone(),
            bot: well,
            oldest_seconds: 0,
            dead_letters: 0,
            undelivered: Undelivered::default(),
            open_dialogs: 0,
            last_update_at: None,
            store_writable: true,
            subscribed_at: None,
            auto_close: Vec::new(),
            mango: None,
            crm_share: None,
            receipt: None,
        }
    }

    /// Why the relay carries nothing though it answers: its store is being moved or has left.
    #[must_use]
    pub fn store_away(&self) -> Option<&Trouble> {
        self.max.code.as_ref().filter(|code| matches!(code, Trouble::StoreMoved | Trouble::StoreHeld))
    }
}

impl SideFacts {
    /// Whether this is another trouble than before, so that it is worth a probe of that side.
    #[must_use]
    pub fn is_new_trouble(&self, before: Option<&Self>) -> bool {
        !self.ok && before.is_none_or(|before| before.ok || before.code != self.code)
    }

    /// It answers. Whether it was not well before.
    pub fn set_ok(&mut self, now: Millis) -> bool {
        let news = !self.ok;
        if news {
            *self = Self { ok: true, code: None, since: now };
        }
        news
    }

    /// It is not well; since before, where the trouble is the same.
    pub fn set_failed(&mut self, trouble: Trouble, now: Millis) {
        if self.code.as_ref() != Some(&trouble) {
            *self = Self { ok: false, code: Some(trouble), since: now };
        }
    }
}
