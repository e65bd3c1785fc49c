//! One event applied to one dialog; the rules are stated at the head of [`super`].

use uuid::Uuid;

use super::{
    BotRole, Context, Dialog, Effect, Event, Note, Receiver, Rules,
    dialog::{Closing, Current, Fate, Holder, Shown},
    replies,
};
use crate::time::Millis;

/// Applies one event. The effects are to be carried out in their order, and recorded together with
/// the dialog.
pub fn step(rules: &Rules, dialog: &mut Dialog, event: &Event, context: Context) -> Vec<Effect> {
    dialog.follow_clock(context.now);
    let mut effects = Vec::new();
    let mut step = Step { rules, dialog, context, effects: &mut effects };
    match event {
        Event::Started => step.started(),
        Event::Wrote { message } => step.wrote(message),
        Event::WroteBeforeLeaving { message } => step.wrote_before_leaving(message),
        Event::Amended { .. } => step.amended(),
        Event::Left => step.left(),
        Event::Taken { message, chat } => step.taken(message, *chat),
        Event::AgentAccepted { chat } => {
            step.agent_in(*chat);
        }
        Event::AgentAnswered { chat } => step.agent_answered(*chat),
        Event::AnsweredElsewhere => step.answered_elsewhere(),
        Event::ClosedElsewhere => step.closed_elsewhere(),
        Event::Transferred { parent, chat } => step.transferred(*parent, *chat),
        Event::ChatClosed { chat, .. } => step.chat_closed(*chat),
        Event::BotAnswered => step.bot_answered(),
        Event::BotHandedOver | Event::BotFailed => step.hand_over(),
        Event::BotClosed => step.bot_closed(),
        Event::Tick => {}
    }
    step.auto_close();
    replies::send(rules, dialog, &mut effects);
    effects
}

/// When [`step`] has to be called with [`Event::Tick`]; none: not before something else happens.
/// May be in the past. To be asked again after each step and after each change of the rules.
pub fn next_due(rules: &Rules, dialog: &Dialog) -> Option<Millis> {
    [dialog.auto_close_at(rules), replies::next_due(rules, dialog)].into_iter().flatten().min()
}

struct Step<'a> {
    rules: &'a Rules,
    dialog: &'a mut Dialog,
    context: Context,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    fn started(&mut self) {
        if self.contact()
            && let Some(bot) = self.dialog.bot()
        {
            self.effects.push(Effect::AskBot { bot });
        }
    }

    fn wrote(&mut self, message: &str) {
        self.contact();
        if let Some(current) = &mut self.dialog.current {
            // The bot ended the dialog, but the CRM has not even named the chat: the customer goes
            // on with the bot.
            current.closing = Closing::No;
        }
        if self.dialog.bot().is_some_and(|role| self.is_away(role)) {
            self.hand_over();
        }
        let now = self.context.now;
        let Some(current) = &mut self.dialog.current else { return };
        current.last = now;
        let bot = current.holder.bot();
        self.effects.push(Effect::Receive { stand_by: bot.is_some() });
        if !current.wrote {
            current.wrote = true;
            current.opener = current.chat.is_none().then(|| message.to_owned());
            self.effects.push(Effect::ReleaseHistory);
        }
        self.effects.extend(bot.map(|bot| Effect::AskBot { bot }));
        self.dialog.wrote_at = now;
        self.dialog.stands_by = bot.is_some();
    }

    fn wrote_before_leaving(&mut self, message: &str) {
        if !self.dialog.gone {
            return self.wrote(message);
        }
        if self.dialog.has_open_chat() {
            self.effects.push(Effect::Receive { stand_by: self.dialog.bot().is_some() });
            return;
        }
        // His only word, and nobody has read it: the agents are called, and told that he has left.
        self.wrote(message);
        self.left();
    }

    fn amended(&mut self) {
        if self.dialog.has_open_chat() {
            self.effects.push(Effect::Receive { stand_by: self.dialog.bot().is_some() });
        }
    }

    fn left(&mut self) {
        if self.dialog.gone {
            return;
        }
        self.dialog.gone = true;
        let Some(current) = &mut self.dialog.current else { return };
        let nobody_called = current.holder.bot().is_some();
        match current.chat {
            None if !current.wrote => self.end(),
            None if nobody_called => current.closing = Closing::WhenTaken,
            // The agent is told once the CRM has named the chat.
            None => {}
            Some(_) if current.closing == Closing::Asked => {}
            Some(chat) => {
                self.effects.push(Effect::TellAgent { chat, note: Note::CustomerLeft });
                if nobody_called {
                    self.close(chat);
                }
            }
        }
    }

    fn taken(&mut self, message: &str, chat: Uuid) {
        let chat = self.dialog.goes_on_as(chat);
        let fate = self.dialog.fate(chat);
        let Some(current) = &mut self.dialog.current else {
            if fate.is_none() {
                self.discover(chat);
                self.close_if_over(chat);
            }
            return;
        };
        if current.chat.is_some() {
            if current.chat != Some(chat) && fate.is_none() {
                self.move_to(chat);
                self.close_if_over(chat);
            }
            return;
        }
        let opener = current.opener.as_deref() == Some(message);
        match fate {
            None => self.adopt(chat),
            // A message of an earlier dialog.
            _ if !opener => {}
            // Its closing came first: this dialog is over with it.
            Some(Fate::Done | Fate::Unannounced) => self.end(),
            // The closing took no effect.
            _ => match self.dialog.take_before(chat) {
                Some(before) => self.rejoin(before),
                None => self.adopt(chat),
            },
        }
    }

    /// An agent acts in a chat; whether it is the one of the current dialog.
    fn agent_in(&mut self, chat: Uuid) -> bool {
        let unknown = self.dialog.fate(chat).is_none();
        match &self.dialog.current {
            Some(current) if current.chat == Some(chat) => {}
            Some(Current { chat: None, .. }) if unknown => self.adopt(chat),
            Some(Current { chat: Some(_), .. }) if unknown => self.move_to(chat),
            None if unknown => self.discover(chat),
            _ => return false,
        }
        let since = self.context.now;
        if let Some(current) = &mut self.dialog.current
            && current.holder.bot().is_some()
        {
            current.holder = Holder::People { since };
        }
        true
    }

    fn agent_answered(&mut self, chat: Uuid) {
        let now = self.context.now;
        let here = self.agent_in(chat);
        let mut known = self.dialog.current.iter_mut().filter(|_| here).chain(&mut self.dialog.before);
        if let Some(answered) = known.find(|dialog| dialog.chat == Some(chat)) {
            answered.answered = true;
            answered.last = now;
        }
    }

    fn answered_elsewhere(&mut self) {
        self.hand_over();
        let now = self.context.now;
        if let Some(current) = &mut self.dialog.current {
            current.answered = true;
            current.last = now;
        }
    }

    /// What was waiting for the CRM when the dialog was closed elsewhere has opened another chat.
    fn close_if_over(&mut self, chat: Uuid) {
        if self.dialog.over_elsewhere {
            self.close(chat);
        }
    }

    fn closed_elsewhere(&mut self) {
        self.dialog.over_elsewhere = true;
        let Some(current) = &mut self.dialog.current else { return };
        match current.chat {
            _ if current.closing != Closing::No => {}
            Some(chat) => self.close(chat),
            None if current.wrote => current.closing = Closing::WhenTaken,
            None => self.end(),
        }
    }

    fn transferred(&mut self, parent: Uuid, chat: Uuid) {
        let fate = self.dialog.fate(parent);
        self.dialog.set_fate(parent, Fate::Became(chat));
        let chat = self.dialog.goes_on_as(chat);
        let place = self.dialog.before_in(parent);
        let before = place.map(|place| (place, self.dialog.before.remove(place)));
        match (self.dialog.fate(chat), before) {
            // Its closing was reported first.
            (Some(Fate::Unannounced), _) => {
                if self.dialog.chat() == Some(parent) {
                    self.end();
                }
                self.dialog.set_fate(chat, Fate::Done);
                if fate != Some(Fate::Left) {
                    self.say_goodbye();
                }
            }
            (Some(Fate::Left | Fate::Done | Fate::Became(_)), _) | (Some(Fate::Open), None) => {}
            (Some(Fate::Open) | None, Some((place, mut before))) => {
                before.chat = Some(chat);
                before.closing = Closing::No;
                // Where no later chat is known, neither of the current dialog nor of one in
                // question, it is the closing that has come to nothing.
                if self.dialog.chat().map_or(place == self.dialog.before.len(), |known| known == chat) {
                    self.rejoin(before);
                } else {
                    if let Some(child) = self.dialog.take_before(chat) {
                        before.go_on(&child);
                    }
                    self.dialog.set_fate(chat, fate.unwrap_or(Fate::Open));
                    self.dialog.before.insert(place.min(self.dialog.before.len()), before);
                }
            }
            (None, None) => self.branched(parent, chat, fate),
        }
    }

    /// A transfer into a chat that was not known, of one that is not in question.
    fn branched(&mut self, parent: Uuid, chat: Uuid, fate: Option<Fate>) {
        match &mut self.dialog.current {
            Some(current) if current.chat == Some(parent) => {
                current.chat = Some(chat);
                // What was to be closed goes on as another chat, and that is to be closed now.
                if std::mem::take(&mut current.closing) == Closing::Asked {
                    self.close(chat);
                }
            }
            Some(current) if current.chat == Some(chat) => {}
            Some(current) if current.chat.is_none() && fate.is_none() => self.adopt(chat),
            None if fate.is_none() => self.discover(chat),
            // Nothing is known of a parent without a fate: another transfer may still tell whose it
            // was.
            _ => {
                if let Some(fate) = fate {
                    self.dialog.set_fate(chat, fate);
                }
            }
        }
    }

    fn chat_closed(&mut self, chat: Uuid) {
        let fate = self.dialog.fate(chat);
        let current = self.dialog.chat();
        let (fate, owed) = match fate {
            _ if current == Some(chat) => {
                self.end();
                self.dialog.before.clear();
                (Fate::Done, true)
            }
            Some(Fate::Open) => (Fate::Done, true),
            Some(Fate::Left | Fate::Done) => (Fate::Done, false),
            Some(Fate::Became(child)) => (Fate::Became(child), false),
            None if current.is_none() => (Fate::Done, true),
            None | Some(Fate::Unannounced) => (Fate::Unannounced, false),
        };
        self.dialog.finish_before(chat);
        self.dialog.set_fate(chat, fate);
        if owed {
            self.say_goodbye();
        }
    }

    fn bot_answered(&mut self) {
        let now = self.context.now;
        if let Some(current) = &mut self.dialog.current
            && current.holder.bot().is_some()
            && current.closing == Closing::No
            && !self.dialog.gone
        {
            current.last = now;
            self.effects.push(Effect::SendBotAnswer);
        }
    }

    fn bot_closed(&mut self) {
        let Some(current) = &mut self.dialog.current else { return };
        if current.holder.bot().is_none() || current.closing != Closing::No {
            return;
        }
        match current.chat {
            Some(chat) => self.close(chat),
            None if current.wrote => current.closing = Closing::WhenTaken,
            None => {
                self.end();
                self.say_goodbye();
            }
        }
    }

    /// From the bot to the agents.
    fn hand_over(&mut self) {
        let since = self.context.now;
        if let Some(current) = &mut self.dialog.current
            && current.holder.bot().is_some()
            && current.closing == Closing::No
        {
            current.holder = Holder::People { since };
            if current.wrote || current.chat.is_some() {
                self.end_stand_by();
            }
        }
    }

    /// Where the customer's last message stands by for a bot, the agents are called to it.
    fn end_stand_by(&mut self) {
        if std::mem::take(&mut self.dialog.stands_by) {
            self.effects.push(Effect::HandOver);
        }
    }

    fn auto_close(&mut self) {
        if self.context.may_lack_words {
            return;
        }
        if self.dialog.auto_close_at(self.rules).is_some_and(|at| at <= self.context.now) {
            match self.dialog.chat() {
                Some(chat) => self.close(chat),
                None => self.end(),
            }
        }
    }

    /// A sign of life from the customer; whether it starts a dialog.
    fn contact(&mut self) -> bool {
        self.dialog.over_elsewhere = false;
        let back = std::mem::take(&mut self.dialog.gone);
        match self.dialog.current.take() {
            Some(current) if !back && current.closing != Closing::Asked => {
                self.dialog.current = Some(current);
                return false;
            }
            Some(old) => {
                if back {
                    self.ended(&old);
                }
                match old.chat {
                    Some(chat) if old.closing == Closing::Asked => {
                        self.dialog.set_fate(chat, if back { Fate::Left } else { Fate::Open });
                        self.dialog.before.push(old);
                    }
                    Some(chat) => {
                        // The agents still have his chat: it carries the new dialog, too.
                        self.begin(self.context.now, Holder::People { since: self.context.now }).chat = Some(chat);
                        return true;
                    }
                    None => {}
                }
            }
            None => {}
        }
        let now = self.context.now;
        let role = if self.rules.off_hours_bot_active(now) {
            Some(BotRole::OffHours)
        } else {
            (self.rules.receiver == Receiver::Bot).then_some(BotRole::Receiver)
        };
        let holder = role.filter(|role| !self.is_away(*role)).map_or(Holder::People { since: now }, Holder::Bot);
        self.begin(now, holder);
        true
    }

    fn begin(&mut self, since: Millis, holder: Holder) -> &mut Current {
        self.dialog.number = self.dialog.number.saturating_add(1);
        self.dialog.shown_since = Shown::default();
        self.dialog.current.insert(Current {
            since,
            last: self.context.now,
            holder,
            chat: None,
            opener: None,
            wrote: false,
            answered: false,
            closing: Closing::No,
            shown: Shown::default(),
        })
    }

    /// The CRM has opened a chat for a message that was taken for one of an earlier dialog. The
    /// agents get it, as they would have had the next message of that one; a bot that was asked
    /// then is not waited for.
    fn discover(&mut self, chat: Uuid) {
        let since = self.dialog.wrote_at;
        let shown = std::mem::take(&mut self.dialog.shown_since);
        let found = self.begin(since, Holder::People { since });
        found.wrote = true;
        found.shown = shown;
        self.adopt(chat);
    }

    /// The same while a dialog is known: it has ended or was transferred, and the report will tell.
    fn move_to(&mut self, chat: Uuid) {
        if let Some(old) = self.dialog.current.take() {
            self.ended(&old);
            if let Some(chat) = old.chat {
                self.dialog.set_fate(chat, Fate::Open);
                self.dialog.before.push(old);
            }
        }
        self.discover(chat);
    }

    /// The current dialog turns out to be an earlier one that goes on.
    fn rejoin(&mut self, mut before: Current) {
        let chat = before.chat;
        if let Some(current) = self.dialog.current.take() {
            before.go_on(&current);
        }
        self.dialog.current = Some(before);
        if let Some(chat) = chat {
            self.adopt(chat);
        }
    }

    /// The current dialog is in that chat.
    fn adopt(&mut self, chat: Uuid) {
        self.dialog.forget(chat);
        let gone = self.dialog.gone;
        let now = self.context.now;
        let Some(current) = &mut self.dialog.current else { return };
        current.chat = Some(chat);
        current.opener = None;
        current.last = now;
        let close = current.closing == Closing::WhenTaken;
        if current.holder.bot().is_none() {
            // A message of an earlier dialog, which its bot never answered.
            self.end_stand_by();
        }
        if gone {
            self.effects.push(Effect::TellAgent { chat, note: Note::CustomerLeft });
        }
        if close {
            self.close(chat);
        }
    }

    fn close(&mut self, chat: Uuid) {
        if let Some(current) = &mut self.dialog.current {
            current.closing = Closing::Asked;
            self.effects.push(Effect::CloseChat { chat });
        }
    }

    fn end(&mut self) {
        if let Some(current) = self.dialog.current.take() {
            self.ended(&current);
        }
    }

    fn ended(&mut self, ended: &Current) {
        self.dialog.shown_since = replies::shown_since(self.rules, ended, self.dialog.wrote_at);
        if !ended.wrote {
            self.effects.push(Effect::DropHistory);
        }
    }

    fn say_goodbye(&mut self) {
        if !self.dialog.gone {
            self.effects.extend(self.rules.close_message.clone().map(|text| Effect::SendCloseMessage { text }));
        }
    }

    fn is_away(&self, role: BotRole) -> bool {
        match role {
            BotRole::Receiver => self.context.bot_away,
            BotRole::OffHours => self.context.off_hours_bot_away,
        }
    }
}
