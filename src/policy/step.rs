//! One event applied to one dialog; the rules are stated at the head of [`super`].

use uuid::Uuid;

use super::{
    BotRole, Context, Dialog, Effect, Event, Millis, Note, Receiver, Rules,
    dialog::{Closing, Current, Fate, Holder},
    replies,
};

/// Applies one event. The effects are to be carried out in their order, and recorded together with the dialog.
pub fn step(rules: &Rules, dialog: &mut Dialog, event: &Event, context: Context) -> Vec<Effect> {
    dialog.follow_clock(context.now);
    let mut effects = Vec::new();
    let mut step = Step { rules, dialog, context, effects: &mut effects };
    match event {
        Event::Started => step.started(),
        Event::Wrote { message } => step.wrote(message),
        Event::Amended { .. } => step.amended(),
        Event::Left => step.left(),
        Event::Taken { message, chat } => step.taken(message, *chat),
        Event::AgentAccepted { chat } => {
            step.agent_in(*chat);
        }
        Event::AgentAnswered { chat } => step.agent_answered(*chat),
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

/// When [`step`] has to be called with [`Event::Tick`]; none: not before something else happens. May be in the past. To be asked again
/// after each step and after each change of the rules.
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
            // The bot ended the dialog, but the CRM has not even named the chat: the customer goes on with the bot.
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
        self.dialog.wrote_to = bot;
    }

    fn amended(&mut self) {
        self.effects.push(Effect::Receive { stand_by: self.dialog.bot().is_some() });
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
        let fate = self.dialog.fate(chat);
        let Some(current) = &mut self.dialog.current else {
            if fate.is_none() {
                self.discover(chat);
            }
            return;
        };
        if current.chat.is_some() {
            if current.chat != Some(chat) && fate.is_none() {
                self.move_to(chat);
            }
            return;
        }
        let opener = current.opener.as_deref() == Some(message);
        match fate {
            None | Some(Fate::Left) => self.adopt(chat),
            // Its closing came first: this dialog is over with it.
            Some(Fate::Done) if opener => self.end(),
            // The closing took no effect.
            Some(Fate::Open) if opener => self.rejoin(chat),
            // A message of an earlier dialog.
            Some(_) => {}
        }
    }

    /// An agent acts in a chat; whether it is the one of the current dialog.
    fn agent_in(&mut self, chat: Uuid) -> bool {
        let fate = self.dialog.fate(chat);
        match &mut self.dialog.current {
            Some(current) if current.chat == Some(chat) => {}
            Some(current) if current.chat.is_none() && matches!(fate, None | Some(Fate::Left)) => self.adopt(chat),
            Some(_) if fate.is_none() => self.move_to(chat),
            None if fate.is_none() => self.discover(chat),
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
        let answered = if here { self.dialog.current.as_mut() } else { self.dialog.before.as_deref_mut() };
        if let Some(answered) = answered.filter(|answered| answered.chat == Some(chat)) {
            answered.answered = true;
            answered.last = now;
        }
    }

    fn transferred(&mut self, parent: Uuid, chat: Uuid) {
        let fate = self.dialog.fate(parent);
        self.dialog.set_fate(parent, Fate::Done);
        if self.dialog.fate(chat).is_some() {
            return;
        }
        if let Some(before) = self.dialog.before.as_deref_mut().filter(|before| before.chat == Some(parent)) {
            before.chat = Some(chat);
            before.closing = Closing::No;
            if self.dialog.chat() == Some(chat) {
                self.rejoin(chat);
            } else {
                self.dialog.set_fate(chat, Fate::Open);
            }
            return;
        }
        match &mut self.dialog.current {
            Some(current) if current.chat == Some(parent) => {
                current.chat = Some(chat);
                // The chat that was to be closed is over already.
                current.closing = Closing::No;
            }
            Some(current) if current.chat == Some(chat) => {}
            Some(current) if current.chat.is_none() && matches!(fate, None | Some(Fate::Left)) => self.adopt(chat),
            None => self.discover(chat),
            Some(_) => self.dialog.set_fate(chat, fate.unwrap_or(Fate::Open)),
        }
    }

    fn chat_closed(&mut self, chat: Uuid) {
        let fate = self.dialog.fate(chat);
        let current = self.dialog.chat();
        let owed = match fate {
            _ if current == Some(chat) => {
                self.end();
                true
            }
            Some(Fate::Open) => true,
            Some(Fate::Left | Fate::Done) => false,
            None => current.is_none(),
        };
        self.dialog.before.take_if(|before| before.chat == Some(chat));
        self.dialog.set_fate(chat, Fate::Done);
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
            if current.wrote {
                self.effects.push(Effect::HandOver);
            }
        }
    }

    fn auto_close(&mut self) {
        if self.dialog.auto_close_at(self.rules).is_some_and(|at| at <= self.context.now) {
            match self.dialog.chat() {
                Some(chat) => self.close(chat),
                None => self.end(),
            }
        }
    }

    /// A sign of life from the customer; whether it starts a dialog.
    fn contact(&mut self) -> bool {
        let back = std::mem::take(&mut self.dialog.gone);
        match self.dialog.current.take() {
            Some(current) if !back && current.closing != Closing::Asked => {
                self.dialog.current = Some(current);
                return false;
            }
            Some(current) if back => {
                self.forget_history(&current);
                if let Some(chat) = current.chat {
                    self.dialog.set_fate(chat, Fate::Left);
                }
            }
            Some(current) => self.set_aside(current),
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
        self.dialog.current.insert(Current {
            since,
            last: self.context.now,
            holder,
            chat: None,
            opener: None,
            wrote: false,
            answered: false,
            closing: Closing::No,
            shown: Vec::new(),
            shown_off: Vec::new(),
        })
    }

    /// The CRM has opened a chat for a message that was taken for one of an earlier dialog.
    fn discover(&mut self, chat: Uuid) {
        let since = self.dialog.wrote_at;
        let holder = self.dialog.wrote_to.map_or(Holder::People { since }, Holder::Bot);
        self.begin(since, holder).wrote = true;
        self.adopt(chat);
    }

    /// The same while a dialog is known: it has ended or was transferred, and the report will tell.
    fn move_to(&mut self, chat: Uuid) {
        if let Some(old) = self.dialog.current.take() {
            self.forget_history(&old);
            self.set_aside(old);
        }
        self.discover(chat);
    }

    fn set_aside(&mut self, old: Current) {
        if let Some(chat) = old.chat {
            self.dialog.set_fate(chat, Fate::Open);
            self.dialog.before = Some(Box::new(old));
        }
    }

    /// The dialog before goes on in that chat.
    fn rejoin(&mut self, chat: Uuid) {
        let (Some(mut old), Some(new)) = (self.dialog.before.take(), self.dialog.current.take()) else { return };
        old.answered |= new.answered;
        old.wrote |= new.wrote;
        old.last = old.last.max(new.last);
        old.closing = Closing::No;
        if old.holder.bot().is_some() {
            old.holder = new.holder;
        }
        self.dialog.current = Some(*old);
        self.adopt(chat);
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
            self.forget_history(&current);
        }
    }

    fn forget_history(&mut self, ended: &Current) {
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
