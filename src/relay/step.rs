//! One step of a customer's dialog, inside the transaction that also records what follows from it.
//!
//! The rules' effects become rows: messages for the CRM and for MAX, questions to a bot.
//! Must not do I/O: it works on a [`Tx`], in which each row notes whom it wakes after the commit.

use uuid::Uuid;

use super::active::Active;
use super::catching_up::Heard;
use super::render::Incoming;
use super::state::Shared;
use super::store::customer::Customer;
use super::store::to_bot::{self, Question};
use super::store::to_crm::{self, CrmTask};
use super::store::to_max::{self, Origin, Part};
use super::store::{Position, StoreError, Tx};
use super::store::{receipt, restored};
use super::switching;
use crate::creatio::Author;
use crate::max::text;
use crate::policy::{self, Context, Dialog, Effect, Event, Note, ReplyPlace, Rules};
use crate::time::Millis;

/// What a step needs beside the customer.
#[derive(Clone, Copy)]
pub(super) struct Stepper<'a> {
    pub tx: &'a Tx<'a>,
    pub rules: &'a Rules,
    pub context: Context,
    pub heard: Heard,
}

impl Shared {
    /// How much of what was said is here.
    pub(super) fn heard(&self, active: &Active) -> Heard {
        self.catching_up.heard(active, &self.mango_rounds, self.clock.passed())
    }

    /// Steps dialogs by the rules in force, in one transaction with all that follows from it.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        active: &Active,
        work: impl FnOnce(&Stepper<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (rules, context, heard) = (active.rules.clone(), self.context(), self.heard(active));
        self.store.transact(move |tx| work(&Stepper { tx, rules: &rules, context, heard })).await
    }
}

impl Stepper<'_> {
    pub fn now(&self) -> Millis {
        self.context.now
    }

    /// Applies one event and records its effects. `subject` is the message that the event is about,
    /// with its place in the dialog.
    pub fn step(
        &self,
        customer: &mut Customer,
        event: &Event,
        subject: Option<(&Incoming, Position)>,
    ) -> Result<Vec<Effect>, StoreError> {
        let may_lack_words = self.heard.may_lack(self.tx, customer.id, self.now())?;
        let context = Context { may_lack_words, ..self.context };
        let written_in = |dialog: &Dialog| dialog.has_written().then(|| dialog.number());
        let before = written_in(&customer.dialog);
        let effects = policy::step(self.rules, &mut customer.dialog, event, context);
        if before.is_some() && written_in(&customer.dialog) != before {
            to_max::outlive(self.tx, customer.id)?;
        }
        for effect in &effects {
            self.record(customer, effect, event, subject)?;
        }
        Ok(effects)
    }

    fn record(
        &self,
        customer: &mut Customer,
        effect: &Effect,
        event: &Event,
        subject: Option<(&Incoming, Position)>,
    ) -> Result<(), StoreError> {
        match effect {
            Effect::Receive { stand_by } => {
                if let Some((incoming, position)) = subject {
                    let own = matches!(event, Event::Wrote { .. } | Event::WroteBeforeLeaving { .. });
                    let task = CrmTask::Message { incoming: incoming.clone(), stand_by: *stand_by, own };
                    let day = receipt::hand_over(self.tx)?;
                    to_crm::push(self.tx, customer, &task, position, day, self.now())?;
                }
            }
            Effect::ReleaseHistory => self.release_history(customer, None)?,
            // A close message belongs to the chat before and is kept.
            Effect::DropHistory => to_max::drop_history(self.tx, customer.id)?,
            Effect::SendAutoReply { set, index, occurrence, text } => {
                let dialog = customer.dialog.number();
                let reply = ReplyPlace { dialog, set: *set, index: *index, occurrence: *occurrence };
                self.queue_for_max(customer, &Origin::AutoReply { reply: Some(reply) }, &text_parts(text))?;
            }
            Effect::SendCloseMessage { text } => {
                self.queue_for_max(customer, &Origin::CloseMessage, &text_parts(text))?;
            }
            Effect::AskBot { bot } => {
                let text = subject.map_or_else(|| "/start".to_owned(), |(incoming, _)| incoming.question.clone());
                let question = Question { bot: *bot, dialog: customer.dialog.number(), text };
                to_bot::push(self.tx, customer.id, &question, self.now())?;
            }
            // Whoever stepped the bot's answer looks for this effect and sends what he holds.
            Effect::SendBotAnswer => {}
            Effect::HandOver => self.control(customer, &CrmTask::HandOver)?,
            Effect::CloseChat { chat } => self.control(customer, &CrmTask::Close { chat: *chat, refused: 0 })?,
            Effect::TellAgent { note, .. } => {
                let text = match note {
                    Note::CustomerLeft => "[Клиент остановил бота или удалил диалог: сообщения до него не доходят]",
                };
                let external_id = format!("note:{}", Uuid::new_v4());
                self.history(customer, external_id, Author::Bot, text.to_owned(), self.now())?;
            }
        }
        Ok(())
    }

    /// Words of the relay's own, behind everything of their time; see `relay`, "Order".
    pub fn queue_for_crm(&self, customer: &Customer, task: &CrmTask, place: Position) -> Result<(), StoreError> {
        to_crm::push(self.tx, customer, task, place, None, self.now())
    }

    /// A hand-over or a closing: nothing of this customer passes it in either direction.
    fn control(&self, customer: &mut Customer, task: &CrmTask) -> Result<(), StoreError> {
        customer.barrier += 1;
        self.queue_for_crm(customer, task, (0, 0))
    }

    /// An entry of the history goes behind the newest message that the dialog has.
    pub fn history(
        &self,
        customer: &Customer,
        external_id: String,
        author: Author,
        text: String,
        sent_at: Millis,
    ) -> Result<(), StoreError> {
        let task = CrmTask::History { external_id, author, text, sent_at };
        self.queue_for_crm(customer, &task, customer.end_of_dialog())
    }

    /// A message behind all others of the customer's. Returns its row.
    pub fn queue_for_max(&self, customer: &Customer, origin: &Origin, parts: &[Part]) -> Result<i64, StoreError> {
        let row = to_max::push(self.tx, customer.id, origin, parts, self.now())?;
        if matches!(origin, Origin::AutoReply { .. } | Origin::CloseMessage | Origin::Bot)
            && let Some(sending) = restored::doubt(self.tx, self.now(), switching::is_by_mango(self.tx)?)?
        {
            to_max::note_sending(self.tx, row, &sending)?;
        }
        Ok(row)
    }

    /// Writes the history entries of what the customer has been shown and the CRM does not know
    /// yet: of one message, or of all.
    pub fn release_history(&self, customer: &Customer, only: Option<i64>) -> Result<(), StoreError> {
        for message in to_max::unrecorded(self.tx, customer.id, only)? {
            let author = match message.origin {
                Ok(Origin::AutoReply { .. }) => Some(Author::AutoReply),
                Ok(Origin::CloseMessage) => Some(Author::CloseMessage),
                Ok(Origin::Bot) => Some(Author::Bot),
                // What cannot be read has no entry, and holds up none.
                Ok(Origin::Agent { .. } | Origin::Press) | Err(_) => None,
            };
            for (index, part) in message.parts.into_iter().enumerate() {
                let (Some(author), Some(text)) = (author, part.text) else { continue };
                let external_id = part.mid.unwrap_or_else(|| format!("out:{}:{index}", message.id));
                let sent_at = part.sent_at.or(message.ended_at).unwrap_or(self.context.now);
                self.history(customer, external_id, author, text, sent_at)?;
            }
            to_max::mark_recorded(self.tx, message.id)?;
        }
        Ok(())
    }
}

/// A text as the sends that it takes.
pub(super) fn text_parts(text: &str) -> Vec<Part> {
    text::split(text).into_iter().map(|part| Part { text: Some(part.to_owned()), ..Part::default() }).collect()
}
