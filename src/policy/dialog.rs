//! What may happen to a customer, what follows from it, and what is remembered of a dialog. The
//! rules are in [`super::step`].

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Rules;
use crate::time::Millis;

/// Which set of replies an automatic reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplySet {
    Hours,
    OffHours,
}

/// Which of a channel's two possible bots: `receiver.bot` or `offHours.bot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BotRole {
    Receiver,
    OffHours,
}

/// Who ended a chat (column `Reason` of the package's outbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClosedBy {
    Agent,
    Timeout,
    Relay,
}

/// Something that happened to a customer. Events of one customer are stepped one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The start button, also again after a stop.
    Started,
    /// A message of the customer's own: text, file, sticker, press of a button …; `message` is its
    /// id in MAX.
    Wrote {
        message: String,
    },
    /// The same, and it comes only now although he has left since: it reaches the agents, and he
    /// stays away.
    WroteBeforeLeaving {
        message: String,
    },
    /// An edit or a removal of an earlier message: goes into the open chat, if there is one; opens
    /// no dialog and stops nothing.
    Amended {
        message: String,
    },
    /// The customer stopped or blocked the bot, or removed the dialog.
    Left,
    /// The CRM has taken that message of the customer into that chat.
    Taken {
        message: String,
        chat: Uuid,
    },
    AgentAccepted {
        chat: Uuid,
    },
    /// The chat goes on as another: a transfer of the CRM, or the answer to [`Effect::HandOver`]
    /// where it names another chat.
    Transferred {
        parent: Uuid,
        chat: Uuid,
    },
    AgentAnswered {
        chat: Uuid,
    },
    /// An employee has answered in another program than the CRM.
    AnsweredElsewhere,
    /// The dialog was closed in another program than the CRM: its chat goes the same way, and
    /// nothing more is sent.
    ClosedElsewhere,
    /// The CRM reports a closing; may come twice, and may concern an older chat. Chats that were
    /// closed before the caller's store was made are not stepped.
    ChatClosed {
        chat: Uuid,
        by: ClosedBy,
    },
    /// The bot has an answer for the customer; stepped before it is sent, see
    /// [`Effect::SendBotAnswer`].
    BotAnswered,
    /// The bot wants an agent to go on. Answers that came with it are stepped first.
    BotHandedOver,
    /// The bot ends the dialog. Answers that came with it are stepped first.
    BotClosed,
    /// The bot did not answer in time, twice.
    BotFailed,
    /// Time has passed.
    Tick,
}

/// What the world looks like at a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    pub now: Millis,
    /// `receiver.bot` is known to be unreachable: new dialogs go to its fallback at once.
    pub bot_away: bool,
    /// The same of `offHours.bot`.
    pub off_hours_bot_away: bool,
    /// Something that the customer or an agent said may not have been heard yet: silence says
    /// nothing.
    pub may_lack_words: bool,
}

/// What an agent is told in the chat that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Note {
    /// The customer stopped the bot; nothing more reaches him until he comes back.
    CustomerLeft,
}

/// What the caller has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Put the message of this event into the customer's queue towards the CRM.
    Receive { stand_by: bool },
    /// Replies and bot answers shown so far in this dialog may go into the CRM history, behind the
    /// message of this event. Later ones of the dialog go there at once ([`Dialog::has_written`]).
    ReleaseHistory,
    /// Those of a dialog that ended without a message of the customer's own are forgotten.
    DropHistory,
    /// `(dialog number, set, index, occurrence)` is unique for a customer.
    SendAutoReply { set: ReplySet, index: usize, occurrence: u32, text: String },
    /// After a closing; once for each.
    SendCloseMessage { text: String },
    /// Pass the message of this event, or the start, to the bot.
    AskBot { bot: BotRole },
    /// Send the answer of this event: the bot still holds the dialog. Where this effect is missing,
    /// the answer is dropped.
    SendBotAnswer,
    /// End stand-by: `handOver` in the customer's queue towards the CRM; where the answer names
    /// another chat, step [`Event::Transferred`] before anything later of that queue.
    HandOver,
    /// `CloseActiveChat` in the customer's queue towards the CRM; [`Event::ChatClosed`] by
    /// [`ClosedBy::Relay`] comes back.
    CloseChat { chat: Uuid },
    /// A line for the agent in the chat.
    TellAgent { chat: Uuid, note: Note },
}

/// The named states of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// There is no dialog.
    Idle,
    /// The customer pressed start and has written nothing yet; nobody but a bot has been called.
    Started,
    /// A bot holds it.
    WithBot,
    /// The customer has written and no agent has answered.
    Waiting,
    /// An agent has answered.
    Served,
    /// The closing is under way in the CRM.
    Closing,
    /// The customer has left; the chat is still open for the agent.
    Left,
}

/// Who has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Holder {
    /// The agents, since then: from there the replies count.
    People {
        since: Millis,
    },
    Bot(BotRole),
}

impl Holder {
    pub(super) fn bot(self) -> Option<BotRole> {
        match self {
            Self::People { .. } => None,
            Self::Bot(role) => Some(role),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Closing {
    #[default]
    No,
    /// To be closed as soon as the CRM has named the chat.
    WhenTaken,
    /// [`Effect::CloseChat`] has been asked for.
    Asked,
}

/// A dialog from first contact to close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Current {
    /// The customer's appeal.
    pub(super) since: Millis,
    /// The latest message from either side, or the moment in which the CRM took the first.
    pub(super) last: Millis,
    pub(super) holder: Holder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chat: Option<Uuid>,
    /// The customer's message that opens it, as long as the CRM has not taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) opener: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) wrote: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) answered: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) closing: Closing,
    #[serde(flatten)]
    pub(super) shown: Shown,
}

/// Of each reply, by its place in the set, the first occurrence that is still to be decided.
/// Nothing before it is ever sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown_off: Vec<u32>,
}

impl Shown {
    pub(super) fn next_occurrence(&self, set: ReplySet, index: usize) -> u32 {
        let shown = if set == ReplySet::Hours { &self.shown } else { &self.shown_off };
        shown.get(index).copied().unwrap_or(0)
    }

    pub(super) fn decide(&mut self, set: ReplySet, index: usize, next: u32) {
        let shown = if set == ReplySet::Hours { &mut self.shown } else { &mut self.shown_off };
        if shown.len() <= index {
            shown.resize(index + 1, 0);
        }
        shown[index] = next;
    }
}

impl Current {
    /// What was taken for a later dialog was this one.
    pub(super) fn go_on(&mut self, later: &Self) {
        self.answered |= later.answered;
        self.wrote |= later.wrote;
        self.last = self.last.max(later.last);
        self.closing = Closing::No;
        if self.holder.bot().is_some() {
            self.holder = later.holder;
        }
    }

    /// Moves its times back, when the clock is found to have been set back.
    fn set_back(&mut self, by: Millis) {
        self.since -= by;
        self.last -= by;
        if let Holder::People { since } = &mut self.holder {
            *since -= by;
        }
    }
}

/// What an earlier chat of the customer may still bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fate {
    /// Its closing has not been reported: the close message is owed.
    Open,
    /// The same, but its customer left before: nothing is owed.
    Left,
    /// Closed before anybody knew whose it was: the close message is owed if it turns out to be the
    /// customer's dialog gone on.
    Unannounced,
    /// Closed: over.
    Done,
    /// Transferred: it goes on as that chat.
    Became(Uuid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) chat: Uuid,
    pub(super) fate: Fate,
}

/// Everything about one customer's current dialog, and what must be remembered of earlier ones.
///
/// As JSON it is stored by the relay; a field that a later version adds has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dialog {
    /// The time of the last step.
    pub(super) seen: Millis,
    pub(super) number: u32,
    /// The customer has stopped the bot: nothing can be sent to him.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) gone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<Current>,
    /// Earlier dialogs of which it is not known yet whether they have been closed or go on in a
    /// later chat, in the order of their chats: hardly ever one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) before: Vec<Current>,
    /// The customer's last own message, and whether it stands by for a bot in the CRM.
    pub(super) wrote_at: Millis,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) stands_by: bool,
    /// What the dialog that ended last has shown since that message. Should the message turn out to
    /// have opened another one, it counts there.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) shown_since: Shown,
    /// It was closed where the customer writes, and the customer has written nothing since: a chat
    /// that turns out to be its own is closed, too.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) over_elsewhere: bool,
    /// The newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<Past>,
}

/// Earlier chats that are remembered: reports about older ones have long been finished in the
/// outbox.
const REMEMBERED: usize = 8;

impl Dialog {
    pub fn phase(&self) -> Phase {
        match &self.current {
            None => Phase::Idle,
            Some(_) if self.gone => Phase::Left,
            Some(current) if current.closing != Closing::No => Phase::Closing,
            Some(Current { holder: Holder::Bot(_), .. }) => Phase::WithBot,
            Some(current) if current.answered => Phase::Served,
            Some(current) if current.wrote || current.chat.is_some() => Phase::Waiting,
            Some(_) => Phase::Started,
        }
    }

    /// The chat of the current dialog, once the CRM has named it.
    pub fn chat(&self) -> Option<Uuid> {
        self.current.as_ref()?.chat
    }

    /// Whether the customer has written in the current dialog: what is shown to him then belongs to
    /// the CRM history.
    pub fn has_written(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.wrote)
    }

    /// Whether nothing is known of any dialog, neither of this customer's words nor of a chat.
    pub fn is_blank(&self) -> bool {
        self.current.is_none() && self.before.is_empty() && self.past.is_empty()
    }

    /// Whether the CRM has, or is about to have, a chat that stays open: what is no appeal may go
    /// there, since it opens none.
    pub fn has_open_chat(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| (current.chat.is_some() || current.wrote) && current.closing != Closing::Asked)
    }

    /// Whether that is the chat of the current dialog, or of an earlier one whose closing has not
    /// been reported.
    pub fn waits_for_closing(&self, chat: Uuid) -> bool {
        self.chat() == Some(chat) || matches!(self.fate(chat), Some(Fate::Open | Fate::Left))
    }

    /// Whether the customer has left and has not come back.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The bot that holds the current dialog.
    pub fn bot(&self) -> Option<BotRole> {
        self.current.as_ref()?.holder.bot()
    }

    /// Counts the customer's dialogs from 1. An answer of a bot that was asked in another dialog is
    /// not stepped.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// When the current dialog closes by itself if nobody writes, for `/status`.
    pub fn auto_close_at(&self, rules: &Rules) -> Option<Millis> {
        let current = self.current.as_ref().filter(|current| current.closing == Closing::No)?;
        // What the CRM has not taken yet nobody could answer.
        let untaken = current.wrote && current.chat.is_none();
        if untaken { None } else { Some(current.last + rules.auto_close?) }
    }

    /// Somebody has set the clock back by so much. One whose last step was in `knowing` may have
    /// been stepped by the new time already, and stays as it is. Returns whether it is another.
    pub fn clock_was_set_back(&mut self, by: Millis, knowing: &RangeInclusive<Millis>) -> bool {
        let may_know = knowing.contains(&self.seen);
        if !may_know {
            self.set_back(by);
            self.seen -= by;
        }
        !may_know
    }

    /// Whether its last step was before that.
    #[must_use]
    pub fn is_older_than(&self, at: Millis) -> bool {
        self.seen < at
    }

    fn set_back(&mut self, by: Millis) {
        for dialog in self.current.iter_mut().chain(&mut self.before) {
            dialog.set_back(by);
        }
        self.wrote_at -= by;
    }

    /// Follows the clock. Where it has been set back, the dialog's own times go back with it, so
    /// that what has elapsed stays elapsed.
    pub(super) fn follow_clock(&mut self, now: Millis) {
        let back = self.seen - now;
        if back > 0 {
            self.set_back(back);
        }
        self.seen = now;
    }

    pub(super) fn fate(&self, chat: Uuid) -> Option<Fate> {
        self.past.iter().find(|past| past.chat == chat).map(|past| past.fate)
    }

    /// The chat as which that one goes on, as far as transfers are known.
    pub(super) fn goes_on_as(&self, mut chat: Uuid) -> Uuid {
        // As many transfers as are remembered, should they ever run in a circle.
        for _ in 0..REMEMBERED {
            match self.fate(chat) {
                Some(Fate::Became(child)) => chat = child,
                _ => break,
            }
        }
        chat
    }

    pub(super) fn set_fate(&mut self, chat: Uuid, fate: Fate) {
        match self.past.iter_mut().find(|past| past.chat == chat) {
            Some(past) => past.fate = fate,
            None => self.past.push(Past { chat, fate }),
        }
        if self.past.len() > REMEMBERED {
            let oldest = self.past.remove(0);
            self.take_before(oldest.chat);
        }
    }

    /// Where in `before` the dialog in that chat stands.
    pub(super) fn before_in(&self, chat: Uuid) -> Option<usize> {
        self.before.iter().position(|before| before.chat == Some(chat))
    }

    /// The earlier dialog in that chat, which is no longer in question.
    pub(super) fn take_before(&mut self, chat: Uuid) -> Option<Current> {
        let place = self.before_in(chat)?;
        Some(self.before.remove(place))
    }

    /// The earlier dialog in that chat is over, and so is whatever was before it: a customer has
    /// one open chat.
    pub(super) fn finish_before(&mut self, chat: Uuid) {
        if let Some(place) = self.before_in(chat) {
            self.before.drain(..=place);
        }
    }

    pub(super) fn forget(&mut self, chat: Uuid) {
        self.past.retain(|past| past.chat != chat);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
