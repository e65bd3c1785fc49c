//! What a channel was told to do: the settings of sections 5 to 9 of the product page, ready for
//! use.

use serde::{Deserialize, Serialize};

use super::{ReplySet, UnknownZone, WorkingHours};
use crate::api;
use crate::time::Millis;

/// One automatic reply (product page, section 6).
///
/// Its first occurrence is due `after` the moment from which its set counts; with `repeat_every`
/// there are `repeat_limit` more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoReply {
    /// 0 to 24 h.
    pub after: Millis,
    /// At least one minute; none: shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_every: Option<Millis>,
    /// Repetitions beyond the first showing, 1 to 100; without meaning where `repeat_every` is
    /// none.
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
    /// The same as within them.
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
    /// Nobody is chosen yet (documented error 6): as with [`Receiver::People`]; whether messages
    /// are held back is the relay's business.
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
    /// None: always open. Without meaning where `off_hours` is [`OffHours::None`].
    pub working_hours: Option<WorkingHours>,
    /// Without meaning where `working_hours` is none.
    pub off_hours: OffHours,
    pub receiver: Receiver,
    /// Shown after a closing, 1 to 250 characters.
    pub close_message: Option<String>,
    /// Silence on both sides after which a dialog is closed.
    pub auto_close: Option<Millis>,
}

impl From<&api::AutoReply> for AutoReply {
    fn from(reply: &api::AutoReply) -> Self {
        Self {
            after: reply.after.millis(),
            repeat_every: reply.repeat_every.map(api::Duration::millis),
            repeat_limit: reply.repeats(),
            text: reply.text.clone(),
        }
    }
}

impl Rules {
    /// Every text that customers are sent by these rules.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let off_hours = match &self.off_hours {
            OffHours::AutoReplies(replies) => replies.as_slice(),
            OffHours::None | OffHours::Bot => &[],
        };
        let replies = self.auto_replies.iter().chain(off_hours).map(|reply| reply.text.as_str());
        replies.chain(self.close_message.as_deref())
    }

    /// The rules of a channel whose manifest has no findings. Of one that has, it takes what can be
    /// understood.
    pub fn from_spec(spec: &api::MaxChannelSpec) -> Result<Self, UnknownZone> {
        let replies = |replies: &[api::AutoReply]| replies.iter().map(AutoReply::from).collect();
        Ok(Self {
            auto_replies: replies(&spec.auto_replies),
            working_hours: spec.working_hours.clone().map(WorkingHours::try_from).transpose()?,
            off_hours: match &spec.off_hours {
                Some(api::OffHours { bot: Some(_), .. }) => OffHours::Bot,
                Some(api::OffHours { auto_replies: Some(set), .. }) => OffHours::AutoReplies(replies(set)),
                _ => OffHours::None,
            },
            receiver: match spec.receiver.as_ref().and_then(api::Receiver::get) {
                None => Receiver::Absent,
                Some(api::ReceiverRef::Bot(_)) => Receiver::Bot,
                Some(_) => Receiver::People,
            },
            close_message: spec.close_message.as_ref().map(|message| message.text.clone()),
            auto_close: spec.auto_close.as_ref().map(|close| close.after.millis()),
        })
    }

    /// The replies of a set, in the manifest's order.
    pub fn replies(&self, set: ReplySet) -> &[AutoReply] {
        match (set, &self.off_hours) {
            (ReplySet::Hours, _) => &self.auto_replies,
            (ReplySet::OffHours, OffHours::AutoReplies(replies)) => replies,
            (ReplySet::OffHours, _) => &[],
        }
    }

    /// The hours outside which something else happens than within.
    fn hours(&self) -> Option<&WorkingHours> {
        self.working_hours.as_ref().filter(|_| self.off_hours != OffHours::None)
    }

    /// Whether that moment is not one for `off_hours`: always where no working hours are set, or
    /// nothing for outside them.
    pub fn is_open(&self, at: Millis) -> bool {
        self.hours().is_none_or(|hours| hours.is_open(at))
    }

    /// Whether new dialogs go to the off-hours bot at that moment, so that no reply is shown
    /// (documented error 7).
    pub fn off_hours_bot_active(&self, at: Millis) -> bool {
        self.off_hours == OffHours::Bot && !self.is_open(at)
    }

    /// Whether the set's hours are on at that moment.
    pub fn in_force(&self, set: ReplySet, at: Millis) -> bool {
        self.is_open(at) == (set == ReplySet::Hours)
    }

    /// The first moment at which the set's hours are on, not before `at`; none: never.
    pub fn in_force_from(&self, set: ReplySet, at: Millis) -> Option<Millis> {
        if self.in_force(set, at) { Some(at) } else { self.hours()?.next_change(at) }
    }
}
