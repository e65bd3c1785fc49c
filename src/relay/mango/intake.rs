//! From events of Манго Диалоги to the inbox, and from the inbox to the rules.

use std::net::IpAddr;

use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::intake::Arrival;
use super::super::render;
use super::super::state::Shared;
use super::super::step::Stepper;
use super::super::store::customer::Customer;
use super::super::store::mango::{self as store, Known, State};
use super::super::store::receipt::{self, Counted};
use super::super::store::{Position, StoreError, Tx, erased, inbox};
use super::super::switching::{OF_MANGO, same_words};
use super::{ANSWERED, CLOSED, OURS, UNDELIVERED, noted, work};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::creatio::Author;
use crate::mango::dialogs::{ChatMessage, Event, Payload, Session, SessionState};
use crate::mango::{ChannelType, webhook as proof};
use crate::max::update::is_time;
use crate::policy;
use crate::time::Millis;
use crate::transport::readable;

/// No clock is so far ahead.
const FAR_AHEAD: Millis = 86_400_000;

/// Takes one webhook call. 200 only after what it says is on disk.
pub(in crate::relay) async fn webhook(shared: &Shared, caller: Option<IpAddr>, body: &[u8]) -> StatusCode {
    let Some(active) = shared.active() else { return StatusCode::SERVICE_UNAVAILABLE };
    let mango = active.mango.as_ref().or(active.left.as_ref());
    let proved = mango.and_then(|mango| proof::prove(body, &mango.key, &mango.salt));
    // An unsigned one could be anybody's, but for the networks that the settings name.
    let is_trusted = mango.is_some_and(|mango| mango.trusts(caller));
    let Some(proved) = proved.filter(|proved| proved.signed || is_trusted) else {
        shared.metrics.forbidden.inc();
        return StatusCode::FORBIDDEN;
    };
    match work::is_way(shared, &active).await {
        Ok(true) => {}
        Ok(false) => return StatusCode::FORBIDDEN,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE,
    }
    if active.config.channel.suspended {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let value = readable(proved.json.as_bytes()).unwrap_or_else(|| json!(proved.json));
    let event = Event::read(&value);
    let unknown = (event == Event::Other && !value["typing"].is_boolean()).then_some(value);
    match take_call(shared, active.config.channel.bot_user_id, event, unknown).await {
        Ok(()) => {
            shared.last_update_at.store(shared.clock.now(), std::sync::atomic::Ordering::Relaxed);
            shared.mango_wake.notify_one();
            StatusCode::OK
        }
        Err(error) => {
            shared.mango_rounds.note_loss();
            tracing::error!(%error, "an event of Манго Диалоги could not be stored; it is found by asking");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The same of a call, which shows that MANGO OFFICE has our address.
/// What is not known is kept as it came.
async fn take_call(shared: &Shared, bot: i64, event: Event, unknown: Option<Value>) -> Result<(), StoreError> {
    let now = shared.clock.now();
    let is_unknown = unknown.is_some();
    shared
        .store
        .transact(move |tx| {
            noted::called(tx, now)?;
            if let Some(event) = unknown {
                let raw = json!({"update_type": "mango_unknown", "event": event}).to_string();
                Arrival::read(raw, bot, now).store(tx, now)?;
            }
            Ok(())
        })
        .await?;
    if is_unknown {
        shared.metrics.update("unknown", true);
    }
    take_events(shared, bot, Source::Call, vec![event]).await.map(drop)
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// MANGO OFFICE called.
    Call,
    /// It was asked which sessions are open.
    List,
    /// It was asked for the messages of a session.
    History,
}

/// Writes down what events say. Whether a message of a client's was new.
pub(super) async fn take_events(
    shared: &Shared,
    bot: i64,
    source: Source,
    events: Vec<Event>,
) -> Result<bool, StoreError> {
    let now = shared.clock.now();
    // One that lies far ahead is odd and shows no clock.
    let times = events.iter().map(Event::time).filter(|time| is_time(*time) && *time < now + FAR_AHEAD);
    let passed = shared.clock.passed();
    if let Some(newest) = times.max() {
        shared.mango_rounds.heard(newest, passed, now);
    }
    let (ahead, corrected) = shared.mango_rounds.corrected().unzip();
    let (taken, forgets) = shared
        .store
        .transact(move |tx| {
            for (customer, at) in corrected.into_iter().flatten() {
                erased::put_right(tx, customer, at)?;
            }
            let mut taking = Taking { tx, bot, source, now, taken: Vec::new(), forgets: false };
            for event in events {
                taking.event(event)?;
            }
            // What was asked for is known for the most part, and nobody has repeated it.
            let known = taking.taken.iter().filter(|(_, is_new)| !is_new).count();
            if source == Source::Call && known > 0 {
                let known = i64::try_from(known).unwrap_or(i64::MAX);
                receipt::count(tx, receipt::day(now), Direction::ToCrm, Counted::Repeated, known)?;
            }
            Ok((taking.taken, taking.forgets))
        })
        .await?;
    if let Some(ahead) = ahead {
        shared.mango_rounds.written(ahead);
    }
    if forgets {
        shared.store.purge().await?;
    }
    let found = taken.iter().any(|(kind, new)| *new && *kind == "message");
    for (kind, new) in taken {
        shared.metrics.update(kind, new);
    }
    Ok(found)
}

/// One transaction's taking of events.
pub(super) struct Taking<'a> {
    pub tx: &'a Tx<'a>,
    pub bot: i64,
    pub source: Source,
    pub now: Millis,
    pub taken: Vec<(&'static str, bool)>,
    /// Something of a person who was erased was still on disk, and is not any more.
    pub forgets: bool,
}

impl Taking<'_> {
    pub fn event(&mut self, event: Event) -> Result<(), StoreError> {
        match event {
            Event::Session(session) => self.session(&session),
            Event::Message { session_id, chat_id, message } => self.found(&session_id, &chat_id, message),
            Event::Undelivered { chat_id, message_id, error } => self.undelivered(&chat_id, &message_id, &error),
            Event::Delivered { chat_id, message_id } => match store::in_chat(self.tx, &chat_id)? {
                Some(_) => noted::delivered(self.tx, &message_id),
                None => Ok(()),
            },
            Event::Other => Ok(()),
        }
    }

    /// A message, whose session may not be known.
    fn found(&mut self, session_id: &str, chat: &str, message: ChatMessage) -> Result<(), StoreError> {
        let known = match store::get(self.tx, session_id)? {
            None if !chat.is_empty() => store::with_chat(self.tx, chat)?,
            known => known,
        };
        let Some(known) = known else {
            // What was asked for and is not known any more was erased meanwhile.
            let is_gone = self.source == Source::History || self.is_forgotten(&message)?;
            return if is_gone { Ok(()) } else { self.hold(session_id, chat, message) };
        };
        if known.is_max == Some(false) {
            return Ok(());
        }
        if let Some(mark) = &known.of_erased {
            // Only the person's own new words bring them back; who it is the next list of sessions
            // tells.
            if !message.from_client || self.is_of_before(mark, &message)? {
                return Ok(());
            }
        } else if known.is_max.is_some() && known.customer.is_some() {
            return self.message(known, chat, &message);
        }
        let known = Known { of_erased: None, ..known };
        store::put(self.tx, &known)?;
        self.hold(&known.id, chat, message)
    }

    /// Keeps a message until its session tells whose it is.
    fn hold(&self, session: &str, chat: &str, mut message: ChatMessage) -> Result<(), StoreError> {
        if message.local_id.starts_with(OURS) && !message.from_client {
            // Of ours it only counts that it is there.
            message.payload = Payload::default();
        }
        if self.is_forgotten(&message)? { Ok(()) } else { store::hold(self.tx, session, chat, &message, self.now) }
    }

    /// Whether it was erased with its person, or found to be of before that.
    fn is_forgotten(&self, message: &ChatMessage) -> Result<bool, StoreError> {
        for key in keys_of_mango(&message.id) {
            if erased::contains(self.tx, &key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a message is from before the erasure of a person with that mark. What a call brings
    /// may have waited long, but is nothing old unless MANGO OFFICE had told of younger things by
    /// then; for what was asked for its clock counts, as far as it is known.
    fn is_of_before(&self, mark: &str, message: &ChatMessage) -> Result<bool, StoreError> {
        if self.is_forgotten(message)? {
            return Ok(true);
        }
        let before = erased::before(self.tx, mark)?;
        let bound = if self.source == Source::History { before.by_clock.max(before.heard) } else { before.heard };
        let is_old = is_time(message.time) && message.time <= bound;
        if is_old {
            self.forget(message)?;
        }
        Ok(is_old)
    }

    /// Whatever brings it again, it stays forgotten.
    fn forget(&self, message: &ChatMessage) -> Result<(), StoreError> {
        keys_of_mango(&message.id).iter().try_for_each(|key| erased::remember(self.tx, key, self.now))
    }

    /// A session of a person who was erased is noted without the person, until they say something
    /// new in it. Answers the person's mark, if it is one.
    fn is_of_erased(&self, session: &Session, before: Option<&Known>) -> Result<Option<String>, StoreError> {
        if let Some(known) = before {
            return Ok(known.of_erased.clone());
        }
        let Some(client) = &session.client else { return Ok(None) };
        let customer = customer_of(&client.id);
        let Some(mark) = erased::person(self.tx, customer)? else { return Ok(None) };
        let known = Known { id: session.id.clone(), chat: session.chat_id.clone(), ..Known::default() };
        for (_, message) in store::held_for(self.tx, &known)? {
            let is_old = self.is_of_before(&mark, &message)? || self.was_held(&message.id, customer)?;
            if message.from_client && !is_old {
                return Ok(None);
            }
        }
        Ok(Some(mark))
    }

    /// Whether the message waited for its session when that person was erased.
    fn was_held(&self, message: &str, customer: CustomerId) -> Result<bool, StoreError> {
        erased::contains(self.tx, &while_held(message, customer))
    }

    fn session(&mut self, session: &Session) -> Result<(), StoreError> {
        let before = store::get(self.tx, &session.id)?;
        let is_new = before.is_none();
        let of_erased = self.is_of_erased(session, before.as_ref())?;
        let mut known = before.unwrap_or_default();
        known.id.clone_from(&session.id);
        known.of_erased = of_erased;
        let state = match session.state {
            SessionState::Pending => State::Pending,
            SessionState::Dialog => State::Dialog,
            SessionState::Closed => State::Closed,
        };
        // It was only hidden for a while.
        if self.source == Source::List && known.is_assumed && state != State::Closed {
            let found = Known { is_assumed: false, is_drained: false, told: false, brought: false, ..known };
            known = Known { state, ..found };
        }
        // Closed is final, of two events the younger one counts, whichever comes first, and of two
        // with the same time the one that is further.
        let is_younger = session.updated_at > known.updated_at
            || (state >= known.state && (session.updated_at == known.updated_at || session.updated_at == 0));
        if known.state != State::Closed && (is_younger || state == State::Closed) {
            known.state = state;
            known.employee = session.employee.map(|id| id.0).or(known.employee);
            if known.state == State::Closed {
                known.closed_at = self.now;
            } else {
                known.seen_at = self.now;
            }
        }
        known.updated_at = known.updated_at.max(session.updated_at);
        known.chat = session.chat_id.clone().or(known.chat);
        known.channel = session.channel_id.or(known.channel);
        known.serves = session.serves.map(|id| id.0).or(known.serves);
        if let Some(kind) = session.channel_type {
            known.is_max = Some(kind == ChannelType::Max);
        }
        if let Some(client) = session.client.as_ref().filter(|_| known.of_erased.is_none()) {
            known.social_user.clone_from(&client.id);
            known.name.clone_from(&client.name);
            known.customer = Some(customer_of(&client.id));
        }
        // What is handed on brings the client's words along, and is the same appeal.
        if let Some(parent) = session.parent.as_deref().filter(|_| known.appealed_at == 0) {
            known.appealed_at = store::get(self.tx, parent)?.map_or(0, |parent| parent.appealed_at);
        }
        store::put(self.tx, &known)?;
        if is_new && known.of_erased.is_some() {
            // Whose they are was not known when that person was erased.
            for (_, message) in store::release(self.tx, &known)? {
                self.forget(&message)?;
                self.forgets = true;
            }
        }
        if known.customer.is_some() && known.is_max.is_some() {
            for (chat, message) in store::release(self.tx, &known)? {
                let was_held = known.customer.map(|customer| self.was_held(&message.id, customer));
                if was_held.transpose()?.unwrap_or_default() {
                    self.forget(&message)?;
                    self.forgets = true;
                    continue;
                }
                let known = store::get(self.tx, &session.id)?.unwrap_or_default();
                self.message(known, &chat, &message)?;
            }
        }
        Ok(())
    }

    fn message(&mut self, mut known: Known, chat: &str, message: &ChatMessage) -> Result<(), StoreError> {
        let Some(customer) = known.customer.filter(|_| known.is_max == Some(true)) else { return Ok(()) };
        if known.chat.is_none() && !chat.is_empty() {
            known.chat = Some(chat.to_owned());
            store::put(self.tx, &known)?;
        }
        let is_ours = message.local_id.starts_with(OURS) && !message.from_client;
        // An appeal that began with an agent's message is one of the dialog, too.
        if (is_ours || message.from_client) && !known.brought && !self.is_erased(customer, message)? {
            known.brought = true;
            if message.from_client && known.appealed_at == 0 {
                known.appealed_at = self.now;
            }
            store::put(self.tx, &known)?;
        }
        if is_ours {
            return Ok(());
        }
        let at = if is_time(message.time) { message.time } else { self.now };
        if self.is_erased(customer, message)? {
            return Ok(());
        }
        if message.from_client {
            let raw = as_update(customer, self.bot, &known.name, at, message).to_string();
            let arrival = Arrival::read(raw, self.bot, self.now);
            return self.arrive(&arrival, "message");
        }
        let raw = json!({"update_type": ANSWERED, "timestamp": at, "message": message.id,
            "text": words(&message.payload), "by": message.employee, "session": known.id});
        let key = format!("{ANSWERED}:{}", message.id);
        self.arrive(&Arrival::of_mango(key, customer, (at, number(&message.id)), raw.to_string()), "other")
    }

    /// Whether it is of before an erasure of a person who is back since.
    fn is_erased(&self, customer: CustomerId, message: &ChatMessage) -> Result<bool, StoreError> {
        match erased::person(self.tx, customer)? {
            Some(mark) => self.is_of_before(&mark, message),
            None => Ok(false),
        }
    }

    fn undelivered(&mut self, chat: &str, message: &str, error: &str) -> Result<(), StoreError> {
        let Some(customer) = store::in_chat(self.tx, chat)? else { return Ok(()) };
        if noted::is_refusal(error) {
            noted::refused(self.tx, message, self.now)?;
        }
        let raw = json!({"update_type": UNDELIVERED, "timestamp": self.now, "error": error});
        let key = format!("{UNDELIVERED}:{message}");
        self.arrive(&Arrival::of_mango(key, customer, (self.now, 0), raw.to_string()), "other")
    }

    /// The session is over; where its client has no other, the rules are told.
    pub fn closed(&mut self, known: &Known) -> Result<(), StoreError> {
        if known.ended_here {
            // Of this the rules know, and the status sees what the cabinet did not say.
            return if known.automatic { Ok(()) } else { noted::quiet(self.tx, self.now) };
        }
        let Some(customer) = known.customer.filter(|_| known.brought) else { return Ok(()) };
        let others = store::of_customer(self.tx, customer)?;
        if others.iter().any(|other| other.state != State::Closed) {
            return Ok(());
        }
        // By MANGO's clock, so that it stands before what a later session brings, and behind what
        // this one has brought.
        let at = if is_time(known.updated_at) { known.updated_at } else { self.now };
        let at = at.max(inbox::heard_at(self.tx, customer)?.unwrap_or(at));
        let raw = json!({"update_type": CLOSED, "timestamp": at});
        let key = format!("{CLOSED}:{}", known.id);
        self.arrive(&Arrival::of_mango(key, customer, (at, i64::MAX), raw.to_string()), "other")
    }

    fn arrive(&mut self, arrival: &Arrival, kind: &'static str) -> Result<(), StoreError> {
        let (is_new, _) = arrival.store(self.tx, self.now)?;
        self.taken.push((kind, is_new));
        Ok(())
    }
}

/// The keys under which a message may be taken, by its id at MANGO OFFICE.
pub(in crate::relay) fn keys_of_mango(message: &str) -> [String; 2] {
    [format!("message_created:{OF_MANGO}{message}"), format!("{ANSWERED}:{message}")]
}

/// The key of a message that waits for its session while somebody is erased, whose it may be.
pub(in crate::relay) fn while_held(message: &str, customer: CustomerId) -> String {
    format!("mango_held:{message}:{customer}")
}

/// The customer's number: the messenger's own, so that the same person is known whatever the
/// intake.
pub(super) fn customer_of(social_user: &str) -> CustomerId {
    if let Some(id) = social_user.parse().ok().filter(|id: &i64| *id > 0) {
        return CustomerId::new(id);
    }
    let digest = Sha256::digest(social_user.as_bytes());
    let bytes = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // Above every id of MAX, and a number that JSON keeps.
    CustomerId::new(i64::try_from((bytes >> 12) | 1 << 51).unwrap_or(i64::MAX))
}

/// An order among messages of one millisecond, as far as their ids have one.
fn number(id: &str) -> i64 {
    id.parse().unwrap_or(0)
}

/// The same as a number that is none of MAX's: below all of them.
fn place(id: &str) -> i64 {
    number(id).clamp(0, i64::MAX / 2) - i64::MAX
}

/// What a message says, in words.
fn words(payload: &Payload) -> String {
    let file = match payload.link.as_str() {
        "" => String::new(),
        link => format!("[Файл] {} {link}", payload.name).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let lines: Vec<&str> = [payload.text.as_str(), &file].into_iter().filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] if payload.kind.is_empty() || payload.kind == "text" => "[Сообщение без текста]".to_owned(),
        [] => format!("[{}]", payload.kind),
        lines => lines.join("\n"),
    }
}

/// A client's message as MAX would have brought it.
fn as_update(customer: CustomerId, bot: i64, name: &str, at: Millis, message: &ChatMessage) -> Value {
    let payload = &message.payload;
    let kind = payload.kind.as_str();
    let is_file = !payload.link.is_empty() && matches!(kind, "file" | "image" | "video" | "audio");
    let attachments = if is_file {
        // As a file, whatever it is: its name is MANGO's.
        let name = if payload.name.is_empty() { kind } else { &payload.name };
        json!([{"type": "file", "payload": {"url": payload.link}, "filename": name}])
    } else {
        json!([])
    };
    let text = if is_file { payload.text.clone() } else { words(payload) };
    json!({
        "update_type": "message_created",
        "timestamp": at,
        "message": {
            "sender": {"user_id": customer, "first_name": name, "is_bot": false},
            "recipient": {"chat_type": "dialog", "user_id": bot},
            "timestamp": at,
            "body": {"mid": format!("{OF_MANGO}{}", message.id), "seq": place(&message.id), "text": text, "attachments": attachments}
        }
    })
}

/// Lets the rules take what is no message of the client's.
pub(in crate::relay) fn take(
    stepper: &Stepper<'_>,
    customer: &mut Customer,
    raw: &str,
    (at, _): Position,
) -> Result<(), StoreError> {
    let value: Value = serde_json::from_str(raw).unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    match value["update_type"].as_str() {
        Some(ANSWERED) if stepper.is_own_echo(customer, &text("text"), at)? => {}
        Some(ANSWERED) if is_automatic(stepper, &value) => {
            noted::automatic(stepper.tx, stepper.now())?;
            if let Some(known) = store::get(stepper.tx, &text("session"))? {
                store::put(stepper.tx, &Known { automatic: true, ..known })?;
            }
            let line = format!("[Автоматическое сообщение MANGO OFFICE] {}", text("text"));
            let id = format!("mango:{}", render::id_in_crm(&text("message")));
            stepper.history(customer, id, Author::Bot, line, at)?;
        }
        Some(ANSWERED) => {
            let line = format!("[Ответ сотрудника из MANGO OFFICE] {}", text("text"));
            let id = format!("mango:{}", render::id_in_crm(&text("message")));
            stepper.history(customer, id, Author::Bot, line, at)?;
            stepper.step(customer, &policy::Event::AnsweredElsewhere, None)?;
        }
        // The client may have written again since.
        Some(CLOSED) if store::of_customer(stepper.tx, customer.id)?.iter().all(|one| one.state == State::Closed) => {
            let sessions = store::of_customer(stepper.tx, customer.id)?;
            if sessions.last().is_some_and(|last| !last.automatic) {
                noted::quiet(stepper.tx, stepper.now())?;
            }
            stepper.step(customer, &policy::Event::ClosedElsewhere, None)?;
        }
        Some(UNDELIVERED) => {
            let line = format!("[MANGO OFFICE не доставил сообщение клиенту: {}]", text("error"));
            let id = format!("note:{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, raw.as_bytes()));
            stepper.history(customer, id, Author::Bot, line, at)?;
        }
        _ => {}
    }
    Ok(())
}

/// Whether the cabinet itself said it: no employee did, or it is what the rules say, too.
fn is_automatic(stepper: &Stepper<'_>, value: &Value) -> bool {
    value["by"].is_null()
        || stepper.rules.texts().any(|own| same_words(own, value["text"].as_str().unwrap_or_default()))
}
