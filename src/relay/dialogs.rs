//! What MAX has told of a dialog, taken in the order of MAX: each update becomes a step, or is left
//! and counted.

use uuid::Uuid;

use super::came_from;
use super::metrics::Left;
use super::placing::{self, Scene};
use super::render::{self, Incoming};
use super::step::Stepper;
use super::store::customer::Customer;
use super::store::inbox::{self, State};
use super::store::receipt;
use super::store::to_crm::{self, CrmTask};
use super::store::to_max::{self, Origin, Part};
use super::store::{Position, StoreError};
use super::unseen_edits;
use crate::contract::CustomerId;
use crate::contract::config::Source;
use crate::creatio::Author;
use crate::max::update::{self, Update};
use crate::max::{ChatId, MessageId};
use crate::policy::{Effect, Event, Phase};
use crate::time::Millis;

impl Stepper<'_> {
    /// Takes the updates of one customer that wait, at most `limit`, in the order of MAX. Returns
    /// whether there may be more.
    pub fn take_inbox(&self, id: CustomerId, limit: u32, sources: &[Source]) -> Result<bool, StoreError> {
        let rows = inbox::waiting(self.tx, id, limit)?;
        if rows.is_empty() {
            return Ok(false);
        }
        let mut customer = Customer::load(self.tx, id)?;
        for row in &rows {
            let update = update::parse(&row.raw);
            let taken = Taken {
                row: row.id,
                update: &update,
                position: row.position,
                received_at: row.received_at,
                raw: &row.raw,
                sources,
            };
            let state = self.take_counted(&mut customer, &taken, row.day)?;
            inbox::set_state(self.tx, row.id, state)?;
        }
        customer.save(self.tx, self.rules)?;
        Ok(rows.len() == limit as usize)
    }

    /// Takes the update of one customer that nothing waits before, and which stands in the inbox as
    /// taken.
    pub fn take_alone(&self, mut customer: Customer, taken: &Taken<'_>, day: i64) -> Result<(), StoreError> {
        let state = self.take_counted(&mut customer, taken, Some(day))?;
        if state != State::Taken {
            inbox::set_state(self.tx, taken.row, state)?;
        }
        customer.save(self.tx, self.rules)
    }

    /// Takes an update and counts what has become of it. `day`: on which it came, where that is
    /// counted.
    fn take_counted(&self, customer: &mut Customer, taken: &Taken<'_>, day: Option<i64>) -> Result<State, StoreError> {
        receipt::begin(self.tx, day);
        let fate = self.take_update(customer, taken)?;
        // What a customer wrote is either handed over, or left for a reason that is counted.
        let is_message = matches!(taken.update.event, update::Event::MessageCreated(_));
        receipt::end(self.tx, !is_message || matches!(fate, Fate::Left(_)))?;
        Ok(match fate {
            Fate::Done => State::Taken,
            Fate::Unseen => State::Unseen,
            Fate::Left(left) => {
                self.tx.wake(|woken| woken.left.push(left));
                if left == Left::NoChat { State::Unseen } else { State::Taken }
            }
        })
    }

    /// The dialog's chat in MAX is known. Where it was not, sends that nobody could look for are
    /// looked for now.
    pub fn learn_chat(&self, customer: &mut Customer, chat: ChatId) -> Result<(), StoreError> {
        if customer.chat_id.is_none() {
            to_max::look_for_unseen(self.tx, customer.id)?;
        }
        customer.chat_id = Some(chat);
        Ok(())
    }

    /// The same from what waits: MANGO OFFICE names no chat, so after it was the way in the first
    /// message of MAX's tells it, and with it what is to be read back before that message.
    pub fn learn_chat_from_inbox(&self, id: CustomerId, limit: u32) -> Result<(), StoreError> {
        if Customer::has_chat(self.tx, id)? {
            return Ok(());
        }
        let mut customer = Customer::load(self.tx, id)?;
        for row in inbox::waiting(self.tx, id, limit)? {
            let update = update::parse(&row.raw);
            if let (Scene::Dialog { chat: Some(chat) }, true) = (Scene::of(&update), tells_the_chat(&update.event)) {
                self.learn_chat(&mut customer, chat)?;
                return customer.save(self.tx, self.rules);
            }
        }
        Ok(())
    }

    fn take_update(&self, customer: &mut Customer, taken: &Taken<'_>) -> Result<Fate, StoreError> {
        let Taken { update, position, received_at, .. } = *taken;
        let scene = Scene::of(update);
        if !scene.is_in_dialog(customer.chat_id) {
            return Ok(Fate::Left(Left::OtherChat));
        }
        let said = placing::said_time(update, received_at);
        let is_late = said.is_some_and(|at| Some(at) < customer.presence_at);
        if let (Scene::Dialog { chat: Some(chat) }, true) = (scene, tells_the_chat(&update.event))
            && (!is_late || customer.chat_id.is_none())
        {
            self.learn_chat(customer, chat)?;
        }
        if !is_late && let Some(name) = update.user.as_ref().map(crate::max::User::name).filter(|name| !name.is_empty())
        {
            customer.name = render::name(&name);
        }
        match &update.event {
            update::Event::MessageCreated(message) if self.is_twin(customer, message, taken)? => {
                return Ok(Fate::Left(Left::Twin));
            }
            update::Event::MessageCreated(message) => {
                let position = self.place(customer, message, position)?;
                let taken = &Taken { position, ..*taken };
                let Some(incoming) = self.unless_merged(customer, message, update, position)? else {
                    return Ok(Fate::Left(Left::Merged));
                };
                customer.taken = customer.taken.max(Some(position));
                self.wrote(customer, &incoming, taken, said)?;
            }
            update::Event::MessageCallback { callback_id, .. } => {
                if let Some(callback_id) = callback_id {
                    let part = Part { callback_id: Some(callback_id.clone()), ..Part::default() };
                    self.queue_for_max(customer, &Origin::Press, &[part])?;
                }
                if let Some(incoming) = render::incoming(update, position.0) {
                    self.wrote(customer, &incoming, taken, said)?;
                }
            }
            update::Event::MessageEdited(edited)
                if unseen_edits::was_read(self.tx, customer.id, edited, (taken.row, position.0))? =>
            {
                return Ok(Fate::Done);
            }
            update::Event::MessageEdited(_) | update::Event::MessageRemoved { .. } => {
                let Some(incoming) = render::incoming(update, position.0) else { return Ok(Fate::Done) };
                return self.amended(customer, &incoming, position);
            }
            update::Event::BotStarted { payload } if is_late => {
                self.came_from(customer, payload.as_deref(), taken)?;
                return Ok(Fate::Left(Left::Late));
            }
            update::Event::BotStopped | update::Event::DialogRemoved if is_late => {
                return Ok(Fate::Left(Left::Late));
            }
            update::Event::BotStarted { payload } => {
                customer.presence_at = customer.presence_at.max(said);
                self.step(customer, &Event::Started, None)?;
                self.came_from(customer, payload.as_deref(), taken)?;
            }
            update::Event::BotStopped | update::Event::DialogRemoved => {
                customer.presence_at = customer.presence_at.max(said);
                self.step(customer, &Event::Left, None)?;
            }
            update::Event::Incomplete { update_type } => {
                // Of what is no message nothing is lost.
                if matches!(update_type.as_str(), "message_created" | "message_callback") {
                    self.unreadable(customer, taken, said)?;
                }
            }
            update::Event::Unknown { .. } => super::mango::take(self, customer, taken.raw, position)?,
            update::Event::DialogCleared
            | update::Event::DialogMuted { .. }
            | update::Event::DialogUnmuted
            | update::Event::Elsewhere => {}
        }
        Ok(Fate::Done)
    }

    /// A message or a press of the customer's. `said`: its time, if MAX told it.
    fn wrote(
        &self,
        customer: &mut Customer,
        incoming: &Incoming,
        taken: &Taken<'_>,
        said: Option<Millis>,
    ) -> Result<(), StoreError> {
        let position = taken.position;
        let message = incoming.external_id.clone();
        let with_origin = self.with_origin(customer, incoming, taken)?;
        let incoming = with_origin.as_ref().unwrap_or(incoming);
        // Who has left since stays away; what he wrote before that reaches the agents all the same.
        let event = if customer.dialog.is_gone() && said.is_some_and(|at| Some(at) <= customer.presence_at) {
            Event::WroteBeforeLeaving { message }
        } else {
            Event::Wrote { message }
        };
        customer.newest = customer.newest.max(Some(position));
        customer.presence_at = customer.presence_at.max(said);
        self.step(customer, &event, Some((incoming, position)))?;
        Ok(())
    }

    /// A start in a dialog in which the customer has written is told at once; before that it waits
    /// for the first message, for a start alone opens no chat.
    fn came_from(&self, customer: &Customer, payload: Option<&str>, taken: &Taken<'_>) -> Result<(), StoreError> {
        self.tx.wake(|woken| woken.starts.push(came_from::label(payload, taken.sources)));
        let line = came_from::line(payload, taken.sources).filter(|_| has_talked(customer));
        let Some(line) = line else { return Ok(()) };
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, taken.update.dedup_key().as_bytes());
        self.history(customer, format!("note:{id}"), Author::Bot, line, taken.position.0)
    }

    /// The customer's first message with where they came from, if the start before it said so.
    fn with_origin(
        &self,
        customer: &Customer,
        incoming: &Incoming,
        taken: &Taken<'_>,
    ) -> Result<Option<Incoming>, StoreError> {
        if has_talked(customer) {
            return Ok(None);
        }
        let after = customer.newest.map_or(Millis::MIN, |(at, _)| at);
        for raw in inbox::starts(self.tx, customer.id, customer.chat_id, (after, taken.position.0))? {
            if let update::Event::BotStarted { payload } = update::parse(&raw).event
                && let Some(line) = came_from::line(payload.as_deref(), taken.sources)
            {
                let text = [line.as_str(), &incoming.text].join("\n").trim_end().to_owned();
                return Ok(Some(Incoming { text, ..incoming.clone() }));
            }
        }
        Ok(None)
    }

    /// An edit or a removal goes where the message is. It opens no chat: where none is open it
    /// joins the newest one.
    fn amended(&self, customer: &mut Customer, incoming: &Incoming, position: Position) -> Result<Fate, StoreError> {
        let message = incoming.external_id.clone();
        let effects = self.step(customer, &Event::Amended { message }, Some((incoming, position)))?;
        if effects.iter().any(|effect| matches!(effect, Effect::Receive { .. })) {
            return Ok(Fate::Done);
        }
        if customer.delivered.is_none() {
            return Ok(Fate::Left(Left::NoChat));
        }
        let task = after_the_close(incoming, self.now());
        let day = receipt::hand_over(self.tx)?;
        to_crm::push(self.tx, customer, &task, customer.end_of_dialog(), day, self.now())?;
        Ok(Fate::Unseen)
    }

    /// What the agents are to get of an original that may come after its own edit or removal: as it
    /// is, in the words of the edit, or nothing, where they know all of it.
    fn unless_merged(
        &self,
        customer: &Customer,
        message: &crate::max::Message,
        update: &Update,
        position: Position,
    ) -> Result<Option<Incoming>, StoreError> {
        let original = render::incoming(update, position.0);
        let known = inbox::amendments(self.tx, customer.id, &message.mid)?;
        // What still waits in the queue comes behind the original by its own place.
        if known.is_empty() || self.waits_for_crm(customer, &message.mid)? {
            return Ok(original);
        }
        let mut newest = None;
        for (raw, state) in &known {
            match update::parse(raw).event {
                update::Event::MessageEdited(edited) if *state == State::Unseen => newest = Some(edited),
                _ => return Ok(None),
            }
        }
        Ok(newest.map(|edited| render::edited_before_it_came(&edited, &message.mid)).or(original))
    }

    /// Whether an edit or removal of that message waits for the CRM and has not been attempted.
    fn waits_for_crm(&self, customer: &Customer, mid: &MessageId) -> Result<bool, StoreError> {
        let replaces = render::id_in_crm(mid.as_str());
        Ok(to_crm::untried(self.tx, customer.id)?
            .iter()
            .any(|task| matches!(task, CrmTask::Message { incoming, own: false, .. } if incoming.replaces == replaces)))
    }

    /// What is a message and cannot be read is kept as a dead letter, and the agents are called to
    /// it.
    fn unreadable(&self, customer: &mut Customer, taken: &Taken<'_>, said: Option<Millis>) -> Result<(), StoreError> {
        let (letter, note) = render::unreadable(taken.raw, taken.update.dedup_key());
        let task = CrmTask::Message { incoming: letter, stand_by: false, own: true };
        let reason = "MAX прислал сообщение, в котором нет того, что в нём обязательно";
        let day = receipt::hand_over(self.tx)?;
        to_crm::push_dead(self.tx, customer, &task, taken.position, day, reason, self.now())?;
        // The note about it is not what the customer wrote.
        receipt::leave_it_at_that(self.tx);
        self.wrote(customer, &note, taken, said)
    }
}

/// An update with what its row says of it.
#[derive(Clone, Copy)]
pub(super) struct Taken<'a> {
    pub row: i64,
    pub update: &'a Update,
    pub position: Position,
    pub received_at: Millis,
    pub raw: &'a str,
    pub sources: &'a [Source],
}

/// What became of an update.
enum Fate {
    Done,
    /// It stands behind a closed chat, where nobody looks for an appeal.
    Unseen,
    Left(Left),
}

/// Whether what happens now joins what the customer has written before.
fn has_talked(customer: &Customer) -> bool {
    customer.dialog.has_written() && !matches!(customer.dialog.phase(), Phase::Closing | Phase::Left)
}

/// Only a start or a message of the dialog itself tells its chat.
fn tells_the_chat(event: &update::Event) -> bool {
    matches!(event, update::Event::BotStarted { .. } | update::Event::MessageCreated(_))
}

/// An edit or removal as an entry of the newest chat, which opens none (wire contract, "An outgoing
/// entry without an open chat").
pub(super) fn after_the_close(incoming: &Incoming, now: Millis) -> CrmTask {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, incoming.external_id.as_bytes());
    CrmTask::History {
        external_id: format!("note:{id}"),
        author: Author::Bot,
        text: render::after_the_close(incoming),
        sent_at: now,
    }
}
