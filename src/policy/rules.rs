//! What a channel was told to do: the settings of sections 5 to 9 of the product page, ready for use.

use serde::{Deserialize, Serialize};

use super::{Millis, ReplySet, WorkingHours};

/// One automatic reply (product page, section 6).
///
/// Its first occurrence is due `after` the moment from which its set counts; with `repeat_every` there are `repeat_limit` more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoReply {
    /// 0 to 24 h.
    pub after: Millis,
    /// At least one minute; none: shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_every: Option<Millis>,
    /// Repetitions beyond the first showing, 1 to 100; without meaning where `repeat_every` is none.
    #[serde(default)]
    pub repeat_limit: u32,
    /// 1 to 250 characters.
    pub text: String,
}

impl AutoReply {
    /// How often the reply is shown at most in one dialog.
    pub fn occurrences(&self) -> u32 {
        if self.repeat_every.is_some() { self.repeat_limit.saturating_add(1) } else { 1 }
    }

    /// When the occurrence is due, counted from the moment from which the set counts.
    pub fn due(&self, occurrence: u32) -> Millis {
        self.after + self.repeat_every.unwrap_or(0) * Millis::from(occurrence)
    }

    /// How many occurrences are due by then, counted in the same way.
    pub(super) fn occurrences_by(&self, elapsed: Millis) -> u32 {
        if elapsed < self.after {
            return 0;
        }
        let Some(every) = self.repeat_every.filter(|every| *every > 0) else { return self.occurrences() };
        let due = u32::try_from((elapsed - self.after) / every).unwrap_or(u32::MAX).saturating_add(1);
        due.min(self.occurrences())
    }
}

/// What happens outside the working hours (product page, section 8): one or the other, never both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OffHours {
    /// Nothing is shown.
    #[default]
    None,
    /// These replace the normal replies.
    AutoReplies(Vec<AutoReply>),
    /// New dialogs go to a bot.
    Bot,
}

/// Who takes a new dialog within the working hours (product page, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Receiver {
    /// Nobody is chosen yet (documented error 6): as with [`Receiver::People`]; whether messages are held back is the relay's business.
    #[default]
    Absent,
    /// An employee or a group: the queue in the CRM.
    People,
    /// A bot; its fallback is the queue in the CRM.
    Bot,
}

/// Everything that decides what happens in a dialog. The default shows nothing and closes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    /// The normal replies, at most 20.
    pub auto_replies: Vec<AutoReply>,
    /// None: always open.
    pub working_hours: Option<WorkingHours>,
    /// Without meaning where `working_hours` is none.
    pub off_hours: OffHours,
    pub receiver: Receiver,
    /// Shown after a closing, 1 to 250 characters.
    pub close_message: Option<String>,
    /// Silence on both sides after which a dialog is closed.
    pub auto_close: Option<Millis>,
}

impl Rules {
    /// The replies of a set, in the manifest's order.
    pub fn replies(&self, set: ReplySet) -> &[AutoReply] {
        match (set, &self.off_hours) {
            (ReplySet::Hours, _) => &self.auto_replies,
            (ReplySet::OffHours, OffHours::AutoReplies(replies)) => replies,
            (ReplySet::OffHours, _) => &[],
        }
    }

    /// Whether the company is open; always where no working hours are set.
    pub fn is_open(&self, at: Millis) -> bool {
        self.working_hours.as_ref().is_none_or(|hours| hours.is_open(at))
    }

    /// Whether new dialogs go to the off-hours bot at that moment, so that no reply is shown (documented error 7).
    pub fn off_hours_bot_active(&self, at: Millis) -> bool {
        self.off_hours == OffHours::Bot && !self.is_open(at)
    }

    /// Whether the set's hours are on at that moment.
    pub fn in_force(&self, set: ReplySet, at: Millis) -> bool {
        self.is_open(at) == (set == ReplySet::Hours)
    }

    /// The first moment at which the set's hours are on, not before `at`; none: never.
    pub fn in_force_from(&self, set: ReplySet, at: Millis) -> Option<Millis> {
        if self.in_force(set, at) { Some(at) } else { self.working_hours.as_ref()?.next_change(at) }
    }
}
