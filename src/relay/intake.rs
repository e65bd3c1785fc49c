//! From MAX to the disk: webhook and long poll; [`super::gaps`] reads back what neither has
//! brought. What is acknowledged is on disk (promise 1 of [`super`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::active::Active;
use super::dialogs::Taken;
use super::gaps;
use super::lanes::Outcome;
use super::metrics::Odd;
use super::moments;
use super::placing::{self, Scene, Whose};
use super::state::Shared;
use super::step::Stepper;
use super::store::gap::{self, Kind, Pending};
use super::store::receipt::{self, Counted};
use super::store::{Extent, Position, StoreError, Tx, customer::Customer, inbox, meta};
use super::to_crm;
use super::unseen_edits::{self, Reading};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::contract::config::{Intake, Source};
use crate::contract::{Trouble, digest};
use crate::max;
use crate::max::update::{self, Event, Update};
use crate::policy::Receiver;
use crate::time::Millis;

/// Updates of one customer taken in one transaction.
const TURN: u32 = 50;
const POLL_TIMEOUT: Duration = Duration::from_secs(30);

/// One update as it goes into the inbox.
pub(super) struct Arrival {
    key: String,
    whose: Whose,
    position: Position,
    /// When it was, if MAX says so.
    said: Option<Millis>,
    raw: String,
    /// None: no messenger brings it.
    update: Option<Update>,
    kind: &'static str,
}

impl Arrival {
    pub fn read(raw: String, bot_user_id: i64, received_at: Millis) -> Self {
        let update = update::parse(&raw);
        let kind = match &update.event {
            Event::Unknown { .. } => "unknown",
            _ if Scene::of(&update) == Scene::Elsewhere => "elsewhere",
            Event::MessageCreated(_) => "message",
            Event::Incomplete { .. } => "incomplete",
            _ => "other",
        };
        let key = match update.dedup_key() {
            "" => format!("raw:{}", digest::hex(&Sha256::digest(raw.as_bytes())[..16])),
            key => key.to_owned(),
        };
        let position = placing::position(&update, received_at);
        let said = placing::said_time(&update, received_at);
        Self { key, whose: Whose::of(&update, bot_user_id), position, said, raw, update: Some(update), kind }
    }

    /// Something that happened at MANGO OFFICE and that no messenger brings.
    pub fn of_mango(key: String, customer: CustomerId, position: Position, raw: String) -> Self {
        Self { key, whose: Whose::Customer(customer), position, said: None, raw, update: None, kind: "other" }
    }

    /// The edit that a message which is known has had in a gap.
    pub fn unseen_edit(
        &self,
        tx: &Tx<'_>,
        customer: CustomerId,
        (bot, now): (i64, Millis),
        reading: Reading,
    ) -> Result<Option<Self>, StoreError> {
        let found = unseen_edits::find(tx, customer, &self.raw, reading)?;
        Ok(found.map(|edit| Self { key: edit.key, ..Self::read(edit.raw, bot, now) }))
    }

    /// Whether it says itself that it is this customer's.
    pub fn is_of(&self, customer: CustomerId) -> bool {
        self.whose == Whose::Customer(customer)
    }

    /// Writes it down unless it is known. Returns whether it was new, and whose it is, if
    /// anybody's.
    pub fn store(&self, tx: &Tx<'_>, now: Millis) -> Result<(bool, Option<CustomerId>), StoreError> {
        let customer = match self.whose {
            Whose::Customer(customer) => Some(customer),
            Whose::DialogOf(chat) => Customer::in_chat(tx, chat)?,
            Whose::Nobody => None,
        };
        let is_new = inbox::insert(tx, &self.key, customer, self.position, &self.raw, now)?;
        Ok((is_new, customer))
    }
}

/// Whether a request comes from MAX: the fingerprint in the path and the secret in the header
/// belong to one of ours.
pub(super) fn is_authentic(active: &Active, fingerprint: &str, secret: Option<&str>) -> bool {
    secret.and_then(|secret| active.webhook_secret(secret)).is_some_and(|ours| {
        bool::from(crate::contract::webhook::fingerprint(ours).as_bytes().ct_eq(fingerprint.as_bytes()))
    })
}

/// Takes one webhook call. 200 only after the update is on disk; anything else makes MAX repeat it,
/// and makes us read back.
pub(super) async fn webhook(shared: &Shared, fingerprint: &str, secret: Option<&str>, body: &[u8]) -> StatusCode {
    let Some(active) = shared.active() else { return StatusCode::SERVICE_UNAVAILABLE };
    if !is_authentic(&active, fingerprint, secret) {
        shared.metrics.forbidden.inc();
        return StatusCode::FORBIDDEN;
    }
    let raw = String::from_utf8_lossy(body).into_owned();
    // By MAX's time, for the reading back is by it.
    let refused = |shared: &Shared| {
        let at = update::parse(&String::from_utf8_lossy(body)).timestamp;
        shared.readings.note_refused(if at > 0 { at } else { shared.clock.now() });
    };
    if active.config.channel.suspended {
        refused(shared);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    match store(shared, &active, vec![raw], None).await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            refused(shared);
            tracing::error!(%error, "an update could not be stored; MAX keeps it and is answered 503");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Takes what is longer than anything MAX is known to send, cut down to what can be read: what the
/// customer said is in it, and as it came it would never become shorter by being repeated.
pub(super) async fn huge(
    shared: &Shared,
    fingerprint: &str,
    secret: Option<&str>,
    body: &[u8],
    length: usize,
) -> StatusCode {
    let status = webhook(shared, fingerprint, secret, body).await;
    if status == StatusCode::OK {
        shared.metrics.set_aside(Odd::LongUpdate, 1);
        tracing::warn!(
            length,
            kept = body.len(),
            "MAX sent an update that is longer than any known: what is long in it was cut"
        );
    }
    status
}

async fn store(shared: &Shared, active: &Active, raws: Vec<String>, marker: Option<i64>) -> Result<(), StoreError> {
    let bot = active.config.channel.bot_user_id;
    let now = shared.clock.now();
    let arrivals: Vec<Arrival> = raws.into_iter().map(|raw| Arrival::read(raw, bot, now)).collect();
    // With the first update that is taken again the gap behind those that were not is on disk, too.
    let gap = shared.readings.take_refused();
    let heard = arrivals.iter().filter_map(|arrival| arrival.said).max();
    let corrected = shared.moments.heard(heard, shared.clock.passed());
    let at_once = AtOnce::of(shared, active, &arrivals);
    let (rules, context, heard) = (active.rules.clone(), shared.context(), shared.heard(active));
    let stored = shared
        .store
        .transact_whole(move |tx, extent| {
            let stepper = Stepper { tx, rules: &rules, context, heard };
            let at_once = at_once.as_ref().filter(|_| extent == Extent::Whole);
            let mut taken = Vec::with_capacity(arrivals.len());
            moments::correct(tx, &corrected)?;
            if let Some(since) = gap {
                gap::note(tx, since, Kind::Repeated, now)?;
            }
            for arrival in &arrivals {
                let (is_new, customer) = match at_once {
                    Some(at_once) => at_once.take(&stepper, arrival, now)?,
                    None => arrival.store(tx, now)?,
                };
                if !is_new {
                    receipt::count(tx, receipt::day(now), Direction::ToCrm, Counted::Repeated, 1)?;
                }
                taken.push((is_new, customer.is_some(), arrival.kind));
            }
            if let Some(marker) = marker {
                meta::set(tx, meta::MARKER, &marker.to_string())?;
            }
            Ok(taken)
        })
        .await;
    let arrivals = stored.inspect_err(|_| gap.into_iter().for_each(|since| shared.readings.note_refused(since)))?;
    shared.moments.written();
    shared.last_update_at.store(now, Ordering::Relaxed);
    for (new, placed, kind) in arrivals {
        shared.metrics.update(kind, new);
        tracing::debug!(kind, new, "an update of MAX is on disk");
        if new && !placed && matches!(kind, "message" | "incomplete") {
            tracing::warn!(
                kind,
                "MAX sent a message without saying whose it is: it is kept as it came and shown to nobody"
            );
        }
    }
    Ok(())
}

/// Polls while the configuration says so, until the relay stops.
pub(super) async fn poll(shared: &Shared) {
    let (mut failures, mut noted_at, mut limit) = (0_u32, None, max::POLL_LIMIT);
    let mut settings = shared.active.subscribe();
    loop {
        let active = settings
            .borrow_and_update()
            .clone()
            .filter(|active| active.config.channel.intake == Intake::LongPoll && !active.config.channel.suspended);
        let Some(active) = active else {
            super::timers::changed(&mut settings).await;
            continue;
        };
        if !super::owner::is_ours(shared, &active).await {
            tokio::select! {
                () = shared.clock.sleep(10_000) => {}
                () = super::timers::changed(&mut settings) => {}
            }
            continue;
        }
        let marker = match shared.store.transact(|tx| meta::number(tx, meta::MARKER)).await {
            Ok(marker) => marker,
            Err(error) => {
                tracing::error!(%error, "the long-poll marker cannot be read");
                shared.clock.sleep(1_000).await;
                continue;
            }
        };
        let answer = tokio::select! {
            answer = active.max.updates(marker, limit, POLL_TIMEOUT) => answer,
            // Another token or another intake: what this poll would bring stays with MAX, since its
            // marker is never sent.
            () = super::timers::changed(&mut settings) => continue,
        };
        let failed = match answer {
            Ok(updates) => {
                shared.max_answered();
                let is_all = updates.updates.len() < std::mem::replace(&mut limit, max::POLL_LIMIT);
                if let Err(error) = gaps::polled(shared, &mut noted_at).await {
                    shared.store_failed(&error);
                    shared.clock.sleep(1_000).await;
                    continue;
                }
                let raws = updates.updates.iter().map(|raw| raw.get().to_owned()).collect();
                let stored = store(shared, &active, raws, updates.marker).await;
                if stored.is_ok() && is_all {
                    shared.catching_up.polled();
                }
                stored.err().map(|error| error.to_string())
            }
            // Many together are too much.
            Err(error) if error.class() == &max::Class::TooLarge && limit > 1 => {
                limit = (limit / max::FEWER).max(1);
                continue;
            }
            Err(error) => {
                shared.catching_up.poll_missed();
                shared.max_failed(&error, Some(Trouble::MaxUnreachable));
                Some(error.to_string())
            }
        };
        match failed {
            None => failures = 0,
            Some(error) => {
                failures += 1;
                tracing::debug!(error, "a poll failed");
                tokio::select! {
                    () = shared.clock.sleep(super::pause(failures).min(10_000)) => {}
                    () = super::timers::changed(&mut settings) => {}
                }
            }
        }
    }
}

/// What a turn of a customer's lane came to.
enum Turn {
    Taken {
        more: bool,
    },
    /// What waits may not be the first of what the customer wrote.
    Behind(Pending),
}

/// Works on the lane of one customer: lets the rules take what is in the inbox, and where there may
/// be a gap before it waits for the reading back, for a moment.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    let Some(active) = shared.active() else { return Outcome::Wait(1_000) };
    if (active.mango.is_some() || active.left.is_some())
        && let Some(left) = shared.mango_rounds.wait_for(customer, shared.clock.now())
    {
        shared.mango_wake.notify_one();
        return Outcome::Wait(Millis::try_from(left.as_millis()).unwrap_or(0).max(1));
    }
    match turn(shared, &active, customer, false).await {
        Ok(Turn::Taken { more: true }) => Outcome::Done,
        Ok(Turn::Taken { more: false }) => Outcome::Idle,
        Ok(Turn::Behind(pending)) => match shared.readings.wait_for(customer, &pending) {
            // The reading ends the wait; a lane that waits holds nobody up.
            Some(left) => Outcome::Wait(Millis::try_from(left.as_millis()).unwrap_or(0).max(1)),
            None => match turn(shared, &active, customer, true).await {
                Ok(Turn::Taken { more: false }) => Outcome::Idle,
                Ok(_) => Outcome::Done,
                Err(error) => shared.store_failed(&error),
            },
        },
        Err(error) => shared.store_failed(&error),
    }
}

/// `unread`: although the dialog is not read back.
async fn turn(shared: &Shared, active: &Active, customer: CustomerId, unread: bool) -> Result<Turn, StoreError> {
    let sources = active.config.channel.sources.clone();
    shared.step(active, move |stepper| take_turn(stepper, customer, &sources, unread)).await
}

fn take_turn(
    stepper: &Stepper<'_>,
    customer: CustomerId,
    sources: &[Source],
    unread: bool,
) -> Result<Turn, StoreError> {
    let (tx, now) = (stepper.tx, stepper.context.now);
    let is_known = gap::is_known(tx, customer)?;
    if is_known && !unread {
        stepper.learn_chat_from_inbox(customer, TURN)?;
    }
    if is_known
        && !unread
        && let Some(pending) = gap::pending(tx, customer, now)?
    {
        return Ok(Turn::Behind(pending));
    }
    let first = if is_known { None } else { gap::first_waiting(tx, customer)? };
    let more = stepper.take_inbox(customer, TURN, sources)?;
    if !is_known {
        gap::introduce(tx, customer, first, now)?;
    }
    Ok(Turn::Taken { more })
}

/// What a single update is followed by in the commit that writes it down, where nothing is in its
/// way: its customer's turn, and the mark of what is then sent to the CRM. Each would be a commit
/// of its own, and a commit is most of what a message costs. What fails here is left to the lane,
/// which tells of it.
struct AtOnce {
    customer: CustomerId,
    sources: Vec<Source>,
    /// None: the CRM's lane has more to do, or cannot be served.
    receiver: Option<Receiver>,
}

impl AtOnce {
    fn of(shared: &Shared, active: &Active, arrivals: &[Arrival]) -> Option<Self> {
        let [Arrival { whose: Whose::Customer(customer), .. }] = arrivals else { return None };
        // What comes by MANGO OFFICE as well waits for its half.
        let is_alone = active.mango.is_none() && active.left.is_none() && shared.dialogs.is_free(*customer);
        let is_served = active.creatio.is_some() && shared.to_crm.is_free(*customer);
        let receiver = is_served.then_some(active.rules.receiver);
        is_alone.then(|| Self { customer: *customer, sources: active.config.channel.sources.clone(), receiver })
    }

    /// The same as [`Arrival::store`] and [`take_turn`], without what is between the two.
    fn take(
        &self,
        stepper: &Stepper<'_>,
        arrival: &Arrival,
        now: Millis,
    ) -> Result<(bool, Option<CustomerId>), StoreError> {
        let (tx, id) = (stepper.tx, self.customer);
        let Some(update) = &arrival.update else { return arrival.store(tx, now) };
        let customer = Customer::load(tx, id)?;
        let is_known = gap::is_known(tx, id)?;
        // What is to be read back comes before it.
        let is_behind = is_known && (customer.chat_id.is_none() || gap::pending(tx, id, now)?.is_some());
        if is_behind || inbox::any_waiting(tx, id)? {
            return arrival.store(tx, now);
        }
        let Arrival { key, position, raw, .. } = arrival;
        let Some(row) = inbox::insert_taken(tx, key, id, *position, raw, now)? else { return Ok((false, Some(id))) };
        let taken = Taken { row, update, position: *position, received_at: now, raw, sources: &self.sources };
        stepper.take_alone(customer, &taken, receipt::day(now))?;
        if !is_known {
            gap::introduce(tx, id, Some(position.0).filter(|at| *at > 0), now)?;
        }
        if let Some(receiver) = self.receiver {
            to_crm::mark_head(tx, id, receiver)?;
        }
        Ok((true, Some(id)))
    }
}
