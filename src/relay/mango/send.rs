//! A text to the customer through Манго Диалоги. Every send bears a name made of what it is, so a
//! repeat is recognised by MANGO itself: an agent's message never comes twice, and nothing has to
//! be looked for. Only what the channel says by itself bears the name of a store: what a store that
//! is lost may have said is looked for in the chats.

use super::super::active::Active;
use super::super::lanes::Outcome;
use super::super::pause;
use super::super::state::Shared;
use super::super::store::mango::{self as store, Known, State};
use super::super::store::{StoreError, Tx, sent, to_max};
use super::super::switching::{OF_MANGO, same_words};
use super::intake::{Source, customer_of, take_events};
use super::{Mango, OURS, noted, work};
use crate::contract::CustomerId;
use crate::mango::dialogs::{ChatMessage, DialogRefusal, Event, Listing, Session};
use crate::mango::{AbonentId, ChannelType, Class, Error, Serving, Upload};
use crate::max::MessageId;
use crate::max::update::is_time;
use crate::time::{self, Millis};
use uuid::Uuid;

/// Steps towards one send: to find, make, take and hand over its session.
const STEPS: usize = 6;
/// How far our clock may be ahead of MANGO's where a message is looked for.
const DOUBT: Millis = 60_000;

/// What is to be sent.
#[derive(Debug)]
pub(in crate::relay) struct Outgoing<'a> {
    /// Its row in the queue, which goes when the person is erased.
    pub row: i64,
    pub customer: CustomerId,
    /// The same whenever this part is sent.
    pub name: String,
    pub text: &'a str,
    /// A file in the place of the text.
    pub file: Option<Upload<'a>>,
    /// The agent's user in the CRM.
    pub agent: Option<Uuid>,
    /// It may begin a session: what an agent or a bot says, not what the channel says by itself.
    pub may_begin: bool,
    /// A farewell of that time: what the client appealed with later is not what it ends.
    pub ends_dialog_of: Option<Millis>,
    /// A store that is lost may have said it since, under another name.
    pub said_since: Option<Millis>,
    pub attempts: u32,
}

/// What became of it.
#[derive(Debug)]
pub(in crate::relay) enum Sent {
    Taken {
        mid: String,
        at: Millis,
    },
    /// There is no session, and this is not worth one.
    Needless,
    /// `left`: it may have left all the same.
    Later {
        outcome: Outcome,
        left: bool,
    },
    Refused(String),
    /// The person was erased meanwhile: nothing more is done for the message.
    Overtaken,
}

/// Sends, or says why not.
pub(in crate::relay) async fn send(
    shared: &Shared,
    active: &Active,
    mango: &Mango,
    outgoing: &Outgoing<'_>,
) -> Result<Sent, StoreError> {
    let own = mango.config.employees.iter().find(|one| Some(one.crm_user) == outgoing.agent).map(|one| one.id);
    let first = own.or(mango.config.employees.first().map(|one| one.id));
    let name = format!("{OURS}{}", outgoing.name);
    // `is_tried`: what counts as closed because it is not listed; `is_asked`: how it stands was asked.
    let (mut handed_over, mut is_tried, mut is_asked, mut left) = (false, false, false, false);
    if let Some(since) = outgoing.said_since {
        match said_before(shared, mango, outgoing, since).await? {
            Ok(Some(message)) => return Ok(Sent::Taken { mid: format!("{OF_MANGO}{}", message.id), at: message.time }),
            Ok(None) => {}
            Err(error) => return failed(shared, outgoing, &error, left).await,
        }
    }
    for _ in 0..STEPS {
        let (row, customer) = (outgoing.row, outgoing.customer);
        let known = move |tx: &Tx<'_>| {
            if to_max::exists(tx, row)? { store::of_customer(tx, customer).map(Some) } else { Ok(None) }
        };
        let Some(mut known) = shared.store.transact(known).await? else { return Ok(Sent::Overtaken) };
        let known = known.pop();
        if let (Some(created_at), Some(known)) = (outgoing.ends_dialog_of, &known) {
            let is_new = !known.brought && known.appealed_at == 0;
            // A time that is still to come is one of before the clock was set back.
            if (created_at + 1..=shared.clock.now()).contains(&known.appealed_at)
                || (known.state == State::Pending && is_new)
            {
                return Ok(Sent::Needless);
            }
            // Whether the client has written in it since is found by reading it.
            if known.state == State::Dialog && is_new && known.read_to == 0 {
                return Ok(Sent::Later { outcome: Outcome::Wait(pause(outgoing.attempts)), left });
            }
        }
        let step = match known {
            // A customer of before the dialogs came this way.
            None => {
                let (Some(employee), true) = (first, outgoing.may_begin) else { return Ok(Sent::Needless) };
                let widgets = match mango.client.widgets().await {
                    Ok(widgets) => widgets,
                    Err(error) => return failed(shared, outgoing, &error, left).await,
                };
                let mut channels = widgets.iter().flat_map(|widget| &widget.channels);
                let Some(channel) = channels.find(|channel| channel.kind == ChannelType::Max) else {
                    return Ok(nobody());
                };
                let user = customer.to_string();
                let employee = match &channel.serving {
                    Serving::Employee(Some(id)) if handed_over => id.0,
                    _ => employee,
                };
                mango.client.create_session(channel.channel_id, &user, AbonentId(employee)).await.map(drop)
            }
            // It may have been handed on as one that nothing has told of yet.
            Some(known) if known.state == State::Closed && !outgoing.may_begin && !is_asked => Ok(()),
            Some(known) if known.state == State::Closed && !may_be_open(&known, &mut is_tried) => {
                let (Some(channel), true) = (known.channel, outgoing.may_begin) else { return Ok(Sent::Needless) };
                // Where MANGO does not know the agent by that number, whoever had it before.
                let (own, first) = (own.filter(|_| !handed_over), first.filter(|_| !handed_over));
                let Some(employee) = own.or(known.employee).or(known.serves).or(first) else { return Ok(nobody()) };
                let made = mango.client.create_session(channel, &known.social_user, AbonentId(employee)).await;
                made.map(drop)
            }
            Some(Known { state: State::Pending, id, serves, .. }) => {
                // What the channel says by itself takes no appeal out of the group's distribution.
                let anybody = first.filter(|_| outgoing.may_begin);
                // Where MANGO does not know the agent by that number, whoever has the channel.
                let own = own.filter(|_| !handed_over);
                let Some(employee) = own.or(serves).or(anybody.filter(|_| !handed_over)) else { return Ok(nobody()) };
                mango.client.take_session(&id, AbonentId(employee)).await
            }
            Some(Known { chat: Some(chat), employee: Some(has), id, .. }) => {
                if let Some(own) = own.filter(|own| *own != has && !handed_over) {
                    // Under the agent's own name, if MANGO knows the agent by that number.
                    handed_over = true;
                    mango.client.transfer_session(&id, AbonentId(own)).await
                } else {
                    let (client, employee) = (&mango.client, AbonentId(has));
                    let sent = match &outgoing.file {
                        Some(file) => client.send_file(&chat, employee, &name, file).await,
                        None => client.send_text(&chat, employee, &name, outgoing.text).await,
                    };
                    match sent {
                        Ok((id, at)) => {
                            let now = shared.clock.now();
                            if is_time(at) {
                                shared.mango_rounds.heard(at, shared.clock.passed(), now);
                            }
                            shared.store.transact(move |tx| noted::taken(tx, now)).await?;
                            return Ok(Sent::Taken { mid: format!("{OF_MANGO}{id}"), at });
                        }
                        Err(error) if error.dialog_refusal() == Some(DialogRefusal::NotUnique) => {
                            return Ok(Sent::Taken { mid: format!("{OF_MANGO}{name}"), at: shared.clock.now() });
                        }
                        // The kind of request is in the way, not the account.
                        Err(error) if outgoing.file.is_some() && matches!(error.class(), Class::Penalty { .. }) => {
                            return Ok(Sent::Refused(error.to_string()));
                        }
                        Err(error) => {
                            left = error.dialog_refusal().is_none()
                                && matches!(error.class(), Class::Transient | Class::Unreachable);
                            Err(error)
                        }
                    }
                }
            }
            // Its chat is told by the next event or answer.
            Some(_) => Ok(()),
        };
        if let Err(error) = step {
            match error.dialog_refusal() {
                Some(
                    DialogRefusal::SessionClosed
                    | DialogRefusal::SessionNotFound
                    | DialogRefusal::ChatNotFound
                    | DialogRefusal::AlreadyTaken
                    | DialogRefusal::NotAssigned
                    | DialogRefusal::AlreadyAssigned
                    | DialogRefusal::SessionNotTaken
                    | DialogRefusal::SessionExists,
                ) => {}
                Some(DialogRefusal::EmployeeNotFound | DialogRefusal::GroupNotFound)
                    if first.is_some() && !handed_over =>
                {
                    handed_over = true;
                }
                Some(DialogRefusal::EmployeeNotFound | DialogRefusal::GroupNotFound) if handed_over => {}
                Some(DialogRefusal::TokenRefused) => {
                    let now = shared.clock.now();
                    shared.store.transact(move |tx| noted::refused(tx, "", now)).await?;
                    return Ok(Sent::Later { outcome: Outcome::Outage(60_000), left: false });
                }
                Some(_) => return Ok(Sent::Refused(error.to_string())),
                None => return failed(shared, outgoing, &error, left).await,
            }
        }
        // How it stands now.
        is_asked = true;
        match mango.client.sessions().await {
            Ok(sessions) => {
                let Listing { sessions, ids, is_whole } = sessions;
                if outgoing.may_begin {
                    know_again(shared, outgoing, &sessions).await?;
                }
                let events = sessions.into_iter().map(Event::Session).collect();
                take_events(shared, active.config.channel.bot_user_id, Source::List, events).await?;
                let now = shared.clock.now();
                shared
                    .store
                    .transact(move |tx| {
                        for known in store::of_customer(tx, customer)? {
                            if known.state != State::Closed && is_whole && !ids.contains(&known.id) {
                                let known = Known { state: State::Closed, is_assumed: true, ..known };
                                store::put(tx, &Known { closed_at: now, ..known })?;
                            }
                        }
                        Ok(())
                    })
                    .await?;
            }
            Err(error) => return failed(shared, outgoing, &error, left).await,
        }
    }
    Ok(Sent::Later { outcome: Outcome::Wait(pause(outgoing.attempts)), left })
}

/// The message in the customer's chats that says the same and is not known to be another.
async fn said_before(
    shared: &Shared,
    mango: &Mango,
    outgoing: &Outgoing<'_>,
    since: Millis,
) -> Result<Result<Option<ChatMessage>, Error>, StoreError> {
    let customer = outgoing.customer;
    let sessions = shared.store.transact(move |tx| store::of_customer(tx, customer)).await?;
    for chat in sessions.into_iter().filter_map(|known| known.chat) {
        let mut messages = match mango.client.chat_history(&chat, since.saturating_sub(DOUBT).max(0)).await {
            Ok(messages) => messages,
            Err(error) if error.dialog_refusal().is_some() => continue,
            Err(error) => return Ok(Err(error)),
        };
        messages.retain(|message| {
            let is_ours = !message.from_client && message.local_id.starts_with(OURS);
            is_ours && same_words(&message.payload.text, outgoing.text)
        });
        let ids: Vec<_> = messages.iter().map(|message| MessageId::new(format!("{OF_MANGO}{}", message.id))).collect();
        let known = shared.store.transact(move |tx| sent::are_ours(tx, &ids)).await?;
        let found = messages.into_iter().zip(known).find_map(|(message, is_known)| (!is_known).then_some(message));
        if found.is_some() {
            return Ok(Ok(found));
        }
    }
    Ok(Ok(None))
}

/// Whoever writes to a person who was erased knows the person again.
async fn know_again(shared: &Shared, outgoing: &Outgoing<'_>, sessions: &[Session]) -> Result<(), StoreError> {
    let (row, customer) = (outgoing.row, outgoing.customer);
    let is_theirs = |session: &&Session| session.client.as_ref().is_some_and(|one| customer_of(&one.id) == customer);
    let ids: Vec<String> = sessions.iter().filter(is_theirs).map(|session| session.id.clone()).collect();
    shared
        .store
        .transact(move |tx| {
            // Written before the person was erased.
            if !to_max::exists(tx, row)? {
                return Ok(());
            }
            for id in &ids {
                let known = store::get(tx, id)?.unwrap_or_else(|| Known { id: id.clone(), ..Known::default() });
                if known.customer.is_none() {
                    store::put(tx, &Known { of_erased: None, ..known })?;
                }
            }
            Ok(())
        })
        .await
}

/// Whether a session that counts as closed, because it is not listed any more, has not been tried
/// yet.
fn may_be_open(known: &Known, is_tried: &mut bool) -> bool {
    known.is_assumed && known.chat.is_some() && known.employee.is_some() && !std::mem::replace(is_tried, true)
}

fn nobody() -> Sent {
    Sent::Later { outcome: Outcome::Wait(10_000), left: false }
}

async fn failed(shared: &Shared, outgoing: &Outgoing<'_>, error: &Error, left: bool) -> Result<Sent, StoreError> {
    let outcome = match error.class() {
        Class::Refused { .. } => return Ok(Sent::Refused(error.to_string())),
        Class::Transient | Class::Unreachable => {
            Outcome::Outage(pause(outgoing.attempts).max(error.retry_after().map_or(0, time::millis)))
        }
        _ => Outcome::Outage(work::refused(shared, error).await?),
    };
    Ok(Sent::Later { outcome, left })
}
