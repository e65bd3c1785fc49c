//! A dialog told beforehand: what would be sent to whom, when and why, if these things happened.
//! Time is simulated.
//!
//! The CRM of a timeline is an obliging one: it takes each message at once and closes at once; what
//! it does late or twice is the business of [`super::step`]. A bot of a timeline says what the acts
//! let it say, and nothing else.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    BotRole, ClosedBy, Context, Dialog, Effect, Event, Note, OffHours, Phase, Receiver, ReplySet, Rules,
    dialog::Holder, next_due, step,
};
use crate::time::Millis;

/// Somebody does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    CustomerStarts,
    CustomerWrites(String),
    CustomerEdits,
    CustomerLeaves,
    AgentAccepts,
    AgentAnswers(String),
    AgentTransfers,
    AgentCloses,
    BotAnswers(String),
    BotHandsOver,
    BotCloses,
    /// The bot does not answer the request that it has.
    BotFails,
    /// The bots are found to be unreachable, and are back.
    BotsAway,
    BotsBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Party {
    Customer,
    Crm,
    Agent,
    Bot,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub at: Millis,
    /// True: `party` did this; false: it is sent to `party`.
    pub happened: bool,
    pub party: Party,
    /// A short name such as `writes` or `autoReply`.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The rule behind it, in words; empty where something happened from outside.
    pub why: String,
    /// The state of the dialog afterwards.
    pub phase: Phase,
}

/// Plays the acts, which must be in order of time, and lets time pass until `until`. Returns the
/// state in which that leaves the dialog, too.
pub fn play(rules: &Rules, acts: &[(Millis, Act)], until: Millis) -> (Vec<Line>, Phase) {
    let mut play = Play {
        rules,
        dialog: Dialog::default(),
        context: Context::default(),
        open: None,
        chats: 0,
        messages: 0,
        held: 0,
        lines: Vec::new(),
    };
    for (at, act) in acts {
        play.pass_until(*at);
        play.context.now = *at;
        play.act(act);
    }
    play.pass_until(until.saturating_add(1));
    (play.lines, play.dialog.phase())
}

struct Play<'a> {
    rules: &'a Rules,
    dialog: Dialog,
    context: Context,
    /// The chat that is open in the CRM.
    open: Option<Uuid>,
    chats: u128,
    messages: u32,
    /// What has been shown to the customer and is held back from the CRM history.
    held: u32,
    lines: Vec<Line>,
}

impl Play<'_> {
    /// Lets everything happen that is due before that time.
    fn pass_until(&mut self, end: Millis) {
        while let Some(due) = next_due(self.rules, &self.dialog).filter(|due| *due < end) {
            self.context.now = due.max(self.context.now);
            self.happen(Event::Tick);
        }
    }

    fn act(&mut self, act: &Act) {
        let (party, what, text, event) = match act {
            Act::CustomerStarts => (Party::Customer, "starts", None, Some(Event::Started)),
            Act::CustomerWrites(text) => {
                self.messages += 1;
                let message = format!("message {}", self.messages);
                (Party::Customer, "writes", Some(text), Some(Event::Wrote { message }))
            }
            Act::CustomerEdits => {
                (Party::Customer, "edits", None, Some(Event::Amended { message: format!("message {}", self.messages) }))
            }
            Act::CustomerLeaves => (Party::Customer, "leaves", None, Some(Event::Left)),
            Act::AgentAccepts => (Party::Agent, "accepts", None, self.open.map(|chat| Event::AgentAccepted { chat })),
            Act::AgentAnswers(text) => {
                (Party::Agent, "answers", Some(text), self.open.map(|chat| Event::AgentAnswered { chat }))
            }
            Act::AgentTransfers => {
                let transferred = self.open.map(|parent| Event::Transferred { parent, chat: self.new_chat() });
                (Party::Agent, "transfers", None, transferred)
            }
            Act::AgentCloses => {
                let closed = self.open.take().map(|chat| Event::ChatClosed { chat, by: ClosedBy::Agent });
                (Party::Agent, "closes", None, closed)
            }
            Act::BotAnswers(text) => (Party::Bot, "answers", Some(text), Some(Event::BotAnswered)),
            Act::BotHandsOver => (Party::Bot, "handsOver", None, Some(Event::BotHandedOver)),
            Act::BotCloses => (Party::Bot, "closes", None, Some(Event::BotClosed)),
            Act::BotFails => (Party::Bot, "fails", None, Some(Event::BotFailed)),
            Act::BotsAway | Act::BotsBack => {
                let away = *act == Act::BotsAway;
                (self.context.bot_away, self.context.off_hours_bot_away) = (away, away);
                (Party::Bot, if away { "away" } else { "back" }, None, Some(Event::Tick))
            }
        };
        let line = self.lines.len();
        let why =
            if event.is_some() { String::new() } else { "there is no chat to do it in: without effect".to_owned() };
        self.line(true, party, what, text.cloned(), why);
        if let Some(event) = event {
            self.happen(event);
        }
        self.lines[line].phase = self.dialog.phase();
    }

    fn new_chat(&mut self) -> Uuid {
        self.chats += 1;
        let chat = Uuid::from_u128(self.chats);
        self.open = Some(chat);
        chat
    }

    /// Steps the event and what it brings about.
    fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let silent = self.dialog.auto_close_at(self.rules);
            for effect in step(self.rules, &mut self.dialog, &event, self.context) {
                match (&effect, &event) {
                    // Without a receiver the relay keeps it.
                    (Effect::Receive { .. }, Event::Wrote { message }) if self.rules.receiver != Receiver::Absent => {
                        let chat = self.open.unwrap_or_else(|| self.new_chat());
                        events.push_back(Event::Taken { message: message.clone(), chat });
                    }
                    (Effect::CloseChat { chat }, _) => {
                        self.open.take_if(|open| *open == *chat);
                        events.push_back(Event::ChatClosed { chat: *chat, by: ClosedBy::Relay });
                    }
                    _ => {}
                }
                self.tell(&effect, &event, silent);
            }
        }
    }

    fn tell(&mut self, effect: &Effect, event: &Event, silent: Option<Millis>) {
        let (party, what, text, why) = match effect {
            Effect::Receive { stand_by } => (Party::Crm, "message", None, self.why_there(*stand_by, event)),
            Effect::SendAutoReply { set, index, occurrence, text } => {
                (Party::Customer, "autoReply", Some(text.clone()), self.why_reply(*set, *index, *occurrence))
            }
            Effect::SendCloseMessage { text } => {
                let why = match event {
                    Event::ChatClosed { by: ClosedBy::Agent, .. } => "an agent has closed the dialog",
                    Event::ChatClosed { .. } => "the dialog has been closed",
                    _ => "the bot has closed the dialog",
                };
                (Party::Customer, "closeMessage", Some(text.clone()), format!("closeMessage: {why}"))
            }
            Effect::AskBot { bot } => (Party::Bot, "ask", None, format!("{} holds the dialog", bot_name(*bot))),
            Effect::SendBotAnswer => (Party::Customer, "botAnswer", None, "the bot holds the dialog".to_owned()),
            Effect::HandOver => {
                let why = match event {
                    Event::BotFailed => "the bot did not answer in time",
                    Event::BotHandedOver => "the bot wants an agent",
                    _ => "the bot is away",
                };
                (Party::Crm, "handOver", None, format!("{why}: the agents are called"))
            }
            Effect::CloseChat { .. } => {
                let why = match event {
                    Event::BotClosed => "the bot has closed the dialog".to_owned(),
                    Event::Left => "the customer has left, and only the bot was there".to_owned(),
                    _ if silent.is_some() => {
                        format!(
                            "autoClose: no message from either side for {}",
                            span(self.rules.auto_close.unwrap_or(0))
                        )
                    }
                    _ => "the dialog is over".to_owned(),
                };
                (Party::Crm, "closeChat", None, why)
            }
            Effect::TellAgent { note: Note::CustomerLeft, .. } => (
                Party::Agent,
                "customerLeft",
                None,
                "the customer has stopped the bot: nothing more is sent".to_owned(),
            ),
            Effect::ReleaseHistory if self.held == 0 => return,
            Effect::ReleaseHistory => {
                let why =
                    format!("the customer has written: what was shown so far, {} in number, with its times", self.held);
                (Party::Crm, "history", None, why)
            }
            Effect::DropHistory => {
                let why = "the customer has written nothing: what was shown stays out of the history";
                (Party::Crm, "nothing", None, why.to_owned())
            }
        };
        match effect {
            Effect::SendAutoReply { .. } | Effect::SendBotAnswer if !self.dialog.has_written() => self.held += 1,
            Effect::ReleaseHistory | Effect::DropHistory => self.held = 0,
            _ => {}
        }
        self.line(false, party, what, text, why);
    }

    fn why_there(&self, stand_by: bool, event: &Event) -> String {
        if stand_by {
            return "for the history; the chat stands by while the bot holds the dialog".to_owned();
        }
        if matches!(event, Event::Amended { .. }) {
            return "an edit of an earlier message".to_owned();
        }
        match (self.rules.is_open(self.context.now), self.rules.receiver, self.dialog.phase()) {
            (_, Receiver::Absent, _) => {
                "no receiver is chosen (documented error 6): kept until there is one".to_owned()
            }
            (_, _, Phase::Served) => "an agent has the dialog".to_owned(),
            (false, ..) if self.rules.off_hours == OffHours::Bot => {
                "the off-hours bot is not there: to the agents".to_owned()
            }
            (false, ..) => "to the agents, outside the working hours".to_owned(),
            (true, Receiver::Bot, _) => "to the agents: the bot does not hold the dialog".to_owned(),
            (true, ..) => "to the agents".to_owned(),
        }
    }

    fn why_reply(&self, set: ReplySet, index: usize, occurrence: u32) -> String {
        let (Some(current), Some(reply)) = (&self.dialog.current, self.rules.replies(set).get(index)) else {
            return String::new();
        };
        let since = match current.holder {
            Holder::People { since } => since,
            Holder::Bot(_) => current.since,
        };
        let begin = self.rules.in_force_from(set, since).unwrap_or(since);
        let (name, hour) = match set {
            ReplySet::Hours => ("autoReplies", "the working hours began"),
            ReplySet::OffHours => ("offHours.autoReplies", "the working hours ended"),
        };
        let from = if begin != since {
            hour
        } else if since == current.since {
            "the appeal"
        } else {
            "the bot handed over"
        };
        let time = if occurrence > 0 {
            format!("repetition {occurrence} of {},", reply.repeat_limit)
        } else {
            "due".to_owned()
        };
        let due = begin + reply.due(occurrence);
        let late =
            if self.context.now > due { format!(", {} late", span(self.context.now - due)) } else { String::new() };
        format!("{name}[{index}]: {time} {} after {from}{late}; no agent has answered", span(reply.due(occurrence)))
    }

    fn line(&mut self, happened: bool, party: Party, what: &'static str, text: Option<String>, why: String) {
        let phase = self.dialog.phase();
        self.lines.push(Line { at: self.context.now, happened, party, what, text, why, phase });
    }
}

fn bot_name(role: BotRole) -> &'static str {
    match role {
        BotRole::Receiver => "receiver.bot",
        BotRole::OffHours => "offHours.bot",
    }
}

/// A span in the manifest's words: `90s` is `1m30s`.
fn span(millis: Millis) -> String {
    let mut text = String::new();
    let mut rest = millis;
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= length {
            text += &(rest / length).to_string();
            text += unit;
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
