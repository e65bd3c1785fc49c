//! One customer's dialog: what it remembers, what may happen to it, and what follows.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Millis, Rules};

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
    /// A message of the customer's own: text, file, sticker, press of a button …; `message` is its id in MAX.
    Wrote {
        message: String,
    },
    /// An edit or a removal of an earlier message: goes to the CRM, opens no dialog and stops nothing.
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
    /// The chat goes on as another: a transfer of the CRM, or the answer to [`Effect::HandOver`] where it names another chat.
    Transferred {
        parent: Uuid,
        chat: Uuid,
    },
    AgentAnswered {
        chat: Uuid,
    },
    /// The CRM reports a closing; may come twice, and may concern an older chat.
    ChatClosed {
        chat: Uuid,
        by: ClosedBy,
    },
    /// The bot has an answer for the customer; stepped before it is sent, see [`Effect::SendBotAnswer`].
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
    /// Replies and bot answers shown so far in this dialog may go into the CRM history, behind the message of this event.
    /// Later ones of the dialog go there at once ([`Dialog::has_written`]).
    ReleaseHistory,
    /// Those of a dialog that ended without a message of the customer's own are forgotten.
    DropHistory,
    /// `(dialog number, set, index, occurrence)` is unique for a customer.
    SendAutoReply { set: ReplySet, index: usize, occurrence: u32, text: String },
    /// After a closing; once for each.
    SendCloseMessage { text: String },
    /// Pass the message of this event, or the start, to the bot.
    AskBot { bot: BotRole },
    /// Send the answer of this event: the bot still holds the dialog. Where this effect is missing, the answer is dropped.
    SendBotAnswer,
    /// End stand-by: `handOver` in the customer's queue towards the CRM; where the answer names another chat, step [`Event::Transferred`]
    /// before anything later of that queue.
    HandOver,
    /// `CloseActiveChat` in the customer's queue towards the CRM; [`Event::ChatClosed`] by [`ClosedBy::Relay`] comes back.
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

/// Everything about one customer's current dialog, and what must be remembered of earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dialog {
    /// The time of the last step.
    seen: Millis,
    number: u32,
}

impl Dialog {
    pub fn phase(&self) -> Phase {
        Phase::Idle
    }

    /// The chat of the current dialog, once the CRM has named it.
    pub fn chat(&self) -> Option<Uuid> {
        None
    }

    /// Whether the customer has written in the current dialog: what is shown to him then belongs to the CRM history.
    pub fn has_written(&self) -> bool {
        false
    }

    /// Counts the customer's dialogs from 1. An answer of a bot that was asked in another dialog is not stepped.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// When the current dialog closes by itself if nobody writes, for `/status`.
    pub fn auto_close_at(&self, _rules: &Rules) -> Option<Millis> {
        None
    }
}

/// Applies one event. The effects are to be carried out in their order, and recorded together with the dialog.
pub fn step(_rules: &Rules, dialog: &mut Dialog, _event: &Event, context: Context) -> Vec<Effect> {
    dialog.seen = context.now;
    Vec::new()
}

/// When [`step`] has to be called with [`Event::Tick`]; none: not before something else happens. May be in the past. Ask again after each
/// step and after each change of the rules.
pub fn next_due(_rules: &Rules, _dialog: &Dialog) -> Option<Millis> {
    None
}
