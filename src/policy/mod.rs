//! The rules of a dialog as a state machine: (rules, dialog, event, time) -> (dialog, effects).
//! Pure: no I/O, no clock, no randomness.
//!
//! The caller (the relay, and `maxchannel rules`) keeps one [`Dialog`] per customer, calls [`step`]
//! for everything that happens, and writes the dialog and what follows from the effects in one
//! transaction: that is what makes every trigger fire once across restarts. It calls [`step`] with
//! [`Event::Tick`] at [`next_due`], and once after each start for every customer whose dialog is
//! not [`Phase::Idle`].
//!
//! # Dialogs
//!
//! - A dialog starts at first contact, the start button or a message, and ends with its closing;
//!   the next contact starts another. The start button within a dialog changes nothing. An edit or
//!   a removal goes into the open chat and touches nothing else; it opens none.
//! - The event of a step counts before its time: whoever writes before the closing was asked for
//!   keeps the dialog open.
//! - A customer who leaves is gone: nothing more is sent to him, the agent is told, the chat stays
//!   open for the agent until he or the time-out closes it. A chat in which only a bot was left is
//!   closed at once. When the customer comes back, that is a new dialog; the chat that the agents
//!   still have carries it. A dialog in which he never wrote ends at once. What he wrote before he
//!   left and what comes only then reaches the agents, and he stays away.
//! - A transfer keeps the dialog. A message taken into an unknown chat means that the known one has
//!   ended or was transferred, and that its report is on the way: a new dialog begins there, its
//!   replies wait for the report, and if it says "transferred" the old dialog goes on.
//! - A customer has one open chat: a dialog goes on in a transferred chat only if no later chat is
//!   known, and the closing of a chat means that all before it are over, transferred or not. Their
//!   own closings are still answered with the close message.
//!
//! # Automatic replies
//!
//! - They stop for good when an agent has answered, when the closing is asked for, and when the
//!   customer leaves.
//! - A set counts from the moment in which both the agents hold the dialog (the customer's appeal;
//!   with a bot, its hand-over) and the set's hours are on for the first time. So a dialog that is
//!   open when the hour strikes goes on with the other set: from its first reply where that set has
//!   not been on yet in this dialog.
//! - A reply is sent only where both its due time and the moment of sending lie in its set's hours;
//!   else it is skipped.
//! - What is overdue is not sent in a burst: of everything overdue only the latest due is sent,
//!   together with what was due within [`TOGETHER`] before it, and only if it is at most [`LATE`]
//!   late. The rest is skipped for good. A reply that had to wait on its way to the customer is
//!   judged once more by the same sentence in the moment in which it is sent ([`is_wanted`]).
//! - A dialog may be found to have begun earlier than anybody knew, because the closing of the one
//!   before it was reported late. What was shown since then counts in it, too.
//! - While a bot holds a dialog, none are sent. Working hours without `offHours` change nothing:
//!   the normal replies run round the clock.
//! - They belong to the CRM history once the customer has written a message of his own; until then
//!   they are held back, and forgotten where the dialog ends without one.
//! - Changed rules apply to open dialogs at once; a reply is known by its place in its set.
//!
//! # Bots
//!
//! - New dialogs outside the working hours go to the off-hours bot, else to the receiver. The
//!   hour's stroke moves no dialog between bot and agents: a bot keeps what it holds until it hands
//!   over, closes or fails; only new dialogs follow the hour.
//! - A bot that is known to be away gets no dialog, and loses one as soon as the customer writes;
//!   one that fails hands over. The fallback of either is the queue in the CRM. An agent who
//!   accepts or answers takes the dialog from the bot.
//!
//! # Closing
//!
//! - By the agent, the bot or the time-out: the close message is sent once for each chat, when the
//!   CRM reports the closing, unless the customer is gone. A dialog without a chat: closed by the
//!   bot it is sent at once, by the time-out it is not (nobody was talking).
//! - Auto-close counts from the latest message from either side, a bot's included, replies and
//!   edits not; and it does not run while the CRM has not taken the customer's message, for then
//!   nobody could answer.
//! - A message after the closing was asked for starts a new dialog behind it; its replies wait for
//!   the report of the closing, so that the close message comes first. If it reports that the
//!   message went into the old chat after all, the old dialog goes on.
//! - A closing of an older chat sends what is owed for that chat and leaves the current dialog
//!   alone. One of a chat that nobody knows (the store was lost) counts only while the current
//!   dialog has no chat of its own.
//!
//! # Time
//!
//! A clock that is set back takes the dialog's own times back with it: what has elapsed stays
//! elapsed, nothing fires twice or is put off. One that jumps forth looks like an outage.

mod dialog;
mod hours;
mod replies;
mod rules;
mod step;
pub mod timeline;

#[cfg(test)]
mod tests;

pub use dialog::{BotRole, ClosedBy, Context, Dialog, Effect, Event, Note, Phase, ReplySet};
pub use hours::{UnknownZone, WorkingHours};
pub use replies::{LATE, ReplyPlace, TOGETHER, is_wanted};
pub use rules::{AutoReply, OffHours, Receiver, Rules};
pub use step::{next_due, step};
