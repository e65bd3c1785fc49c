//! From MAX to the disk: webhook, long poll, and the reading back of a gap. What is acknowledged is on disk (promise 1 of [`super`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use rusqlite::{Connection, params};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::config::Intake;
use super::dialogs::{Customer, Position, Stepper, Woken};
use super::lanes::{CustomerId, Outcome};
use super::store::{StoreError, meta};
use super::{Active, Shared};
use crate::max::update::{self, Event};
use crate::max::{Class, History, Message};
use crate::policy::Millis;

/// Updates of one customer taken in one transaction.
const TURN: u32 = 50;
/// How long MAX may take for a page of a dialog that is read back. Waiting for our own limits comes on top: after a start many
/// dialogs are read at once, and one that gave up for that would deliver a later message first.
const READ_BACK_LIMIT: Duration = Duration::from_secs(1);
/// Pages of 100 that are read back at the most.
const READ_BACK_PAGES: usize = 5;
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
const MARKER: &str = "marker";

/// One update as it goes into the inbox.
struct Arrival {
    key: String,
    /// None: it concerns no dialog of ours, or nobody can tell whose it is.
    customer: Option<CustomerId>,
    position: Position,
    raw: String,
    kind: &'static str,
}

impl Arrival {
    fn read(raw: String, bot_user_id: i64) -> Self {
        let update = update::parse(&raw);
        let (position, kind) = match &update.event {
            Event::MessageCreated(message) => ((message.timestamp, message.seq), "message"),
            Event::Unknown { .. } => ((update.timestamp, 0), "unknown"),
            Event::Incomplete { .. } => ((update.timestamp, 0), "incomplete"),
            _ => ((update.timestamp, 0), "other"),
        };
        let in_dialog = match &update.event {
            Event::MessageCreated(message) | Event::MessageEdited(message) => message.recipient.is_dialog(),
            Event::Elsewhere | Event::Unknown { .. } | Event::Incomplete { .. } => false,
            _ => true,
        };
        // The bot's own messages may be echoed (MAX Bot API, "Who gets what").
        let customer = update.user_id.filter(|user| in_dialog && *user != bot_user_id);
        let key = match update.dedup_key() {
            "" => format!("raw:{}", super::hex(&Sha256::digest(raw.as_bytes())[..16])),
            key => key.to_owned(),
        };
        Self { key, customer, position, raw, kind }
    }

    fn store(&self, connection: &Connection, now: Millis) -> Result<bool, StoreError> {
        let inserted = connection
            .prepare_cached(
                "INSERT OR IGNORE INTO inbox (key, customer, at, seq, raw, received_at, done) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.key,
                self.customer,
                self.position.0,
                self.position.1,
                self.raw,
                now,
                self.customer.is_none()
            ])?;
        Ok(inserted > 0)
    }
}

/// Whether a request comes from MAX: the fingerprint in the path and the secret in the header belong to one of ours.
fn is_authentic(active: &Active, fingerprint: &str, secret: Option<&str>) -> bool {
    secret.and_then(|secret| active.webhook_secret(secret)).is_some_and(|ours| {
        bool::from(super::fingerprint(ours.expose_secret()).as_bytes().ct_eq(fingerprint.as_bytes()))
    })
}

/// Takes one webhook call. 200 only after the update is on disk; anything else makes MAX repeat it, and makes us read back.
pub(super) async fn webhook(shared: &Shared, fingerprint: &str, secret: Option<&str>, body: &[u8]) -> StatusCode {
    let Some(active) = shared.active() else { return StatusCode::SERVICE_UNAVAILABLE };
    if !is_authentic(&active, fingerprint, secret) {
        shared.metrics.forbidden.inc();
        return StatusCode::FORBIDDEN;
    }
    if active.config.channel.suspended {
        shared.note_gap();
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let raw = String::from_utf8_lossy(body).into_owned();
    match store(shared, &active, vec![raw], None).await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            shared.note_gap();
            tracing::error!(%error, "an update could not be stored; MAX keeps it and is answered 503");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

async fn store(shared: &Shared, active: &Active, raws: Vec<String>, marker: Option<i64>) -> Result<(), StoreError> {
    let bot = active.config.channel.bot_user_id;
    let arrivals: Vec<Arrival> = raws.into_iter().map(|raw| Arrival::read(raw, bot)).collect();
    let now = shared.clock.now();
    let arrivals = shared
        .store
        .change(move |connection| {
            let mut taken = Vec::with_capacity(arrivals.len());
            let mut woken = Woken::default();
            for arrival in arrivals {
                let new = arrival.store(connection, now)?;
                taken.push((new, arrival.kind));
                if new {
                    woken.dialogs.extend(arrival.customer);
                }
            }
            if let Some(marker) = marker {
                meta::set(connection, MARKER, &marker.to_string())?;
            }
            Ok((taken, woken))
        })
        .await?;
    shared.last_update_at.store(now, Ordering::Relaxed);
    for (new, kind) in arrivals {
        shared.metrics.update(kind, new);
        tracing::debug!(kind, new, "an update of MAX is on disk");
    }
    Ok(())
}

/// Polls while the configuration says so, until the relay stops.
pub(super) async fn poll(shared: &Shared) {
    let mut failures = 0_u32;
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
        let marker = match shared.store.write(|connection| meta::number(connection, MARKER)).await {
            Ok(marker) => marker,
            Err(error) => {
                tracing::error!(%error, "the long-poll marker cannot be read");
                shared.clock.sleep(1_000).await;
                continue;
            }
        };
        let answer = tokio::select! {
            answer = active.max.updates(marker, POLL_TIMEOUT) => answer,
            // Another token or another intake: what this poll would bring stays with MAX, since its marker is never sent.
            () = super::timers::changed(&mut settings) => continue,
        };
        let failed = match answer {
            Ok(updates) => {
                shared.max_answered();
                let raws = updates.updates.iter().map(|raw| raw.get().to_owned()).collect();
                store(shared, &active, raws, updates.marker).await.err().map(|error| error.to_string())
            }
            Err(error) => {
                match error.class() {
                    Class::Unauthorized | Class::AccountBlocked => {
                        shared.max_failed(error.code().unwrap_or("Unauthorized"));
                    }
                    Class::PollRefused => shared.max_failed("PollRefused"),
                    _ => shared.max_failed("MaxUnreachable"),
                }
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

/// Works on the lane of one customer: reads a gap back where there may be one, then lets the rules take what is in the inbox.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    let Some(active) = shared.active() else { return Outcome::Wait(1_000) };
    let has_gap =
        active.config.channel.intake == Intake::Webhook || shared.gap.load(Ordering::Acquire) > shared.first_gap;
    if has_gap && let Err(error) = read_back(shared, &active, customer).await {
        return shared.store_failed(&error);
    }
    let rules = active.rules.clone();
    let context = shared.context();
    let taken = shared
        .store
        .change(move |connection| {
            let mut stepper = Stepper { connection, rules: &rules, context, woken: Woken::default() };
            let more = stepper.take_inbox(customer, TURN)?;
            Ok((more, stepper.woken))
        })
        .await;
    match taken {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Idle,
        Err(error) => shared.store_failed(&error),
    }
}

/// After a gap a dialog's messages are read back, to the newest customer message that was taken before it; in a dialog without one
/// no further than the making of the store, so that old history is never imported.
async fn read_back(shared: &Shared, active: &Active, id: CustomerId) -> Result<(), StoreError> {
    let gap = shared.gap.load(Ordering::Acquire);
    let wanted = shared
        .store
        .write(move |connection| {
            let customer = Customer::load(connection, id)?;
            if customer.read_back >= gap {
                return Ok(None);
            }
            // The first update of a new customer names the dialog that his row does not know yet.
            let chat_id = match customer.chat_id {
                Some(chat_id) => Some(chat_id),
                None => connection
                    .prepare_cached("SELECT raw FROM inbox WHERE customer = ?1 AND done = 0 ORDER BY at DESC LIMIT 1")?
                    .query_map([id], |row| row.get::<_, String>(0))?
                    .next()
                    .transpose()?
                    .and_then(|raw| update::parse(&raw).chat_id),
            };
            let made_at = meta::number(connection, meta::MADE_AT)?.unwrap_or(0);
            // What was erased is not brought back from MAX.
            let made_at = made_at.max(meta::number(connection, meta::ERASED_AT)?.unwrap_or(0));
            Ok(chat_id.map(|chat_id| (chat_id, customer.taken.unwrap_or((made_at, 0)))))
        })
        .await?;
    let Some((chat_id, bound)) = wanted else { return Ok(()) };
    let (arrivals, bot_seq) = match missed(active, chat_id, bound).await {
        Ok(found) => found,
        Err(error) if matches!(error.class(), Class::Refused | Class::NotFound | Class::RecipientGone) => {
            shared.metrics.read_backs_refused.inc();
            (Vec::new(), None)
        }
        // No answer within the limit: the messages go on, and the next update asks again.
        Err(_) => return Ok(()),
    };
    let now = shared.clock.now();
    let found = shared
        .store
        .write(move |connection| {
            let mut found = 0;
            for arrival in &arrivals {
                found += u64::from(arrival.store(connection, now)?);
            }
            // The row may not exist yet: then it is made with the first update.
            connection
                .prepare_cached(
                    "INSERT INTO customer (id, read_back, bot_seq) VALUES (?1, ?2, ?3)
                     ON CONFLICT (id) DO UPDATE SET read_back = ?2, bot_seq = coalesce(max(bot_seq, ?3), bot_seq, ?3)",
                )?
                .execute(params![id, gap, bot_seq])?;
            Ok(found)
        })
        .await?;
    shared.metrics.read_back.inc_by(found);
    Ok(())
}

/// The customer's messages after `bound`, and the newest message of the bot's that the dialog shows.
async fn missed(
    active: &Active,
    chat_id: i64,
    bound: Position,
) -> Result<(Vec<Arrival>, Option<i64>), crate::max::Error> {
    let bot = active.config.channel.bot_user_id;
    let mut arrivals = Vec::new();
    let mut bot_seq = None;
    let mut before = None;
    for _ in 0..READ_BACK_PAGES {
        let page =
            active.max.messages_raw(chat_id, History { before, after: None, count: 100 }, READ_BACK_LIMIT).await?;
        let mut oldest: Option<Millis> = None;
        let mut reached = page.len() < 100;
        for raw in &page {
            let Some(message) = Message::parse(raw.get()) else { continue };
            oldest = Some(oldest.map_or(message.timestamp, |oldest| oldest.min(message.timestamp)));
            if (message.timestamp, message.seq) <= bound {
                reached = true;
                continue;
            }
            match &message.sender {
                Some(sender) if sender.id == bot => bot_seq = bot_seq.max(Some(message.seq)),
                Some(_) => {
                    let update = format!(
                        r#"{{"update_type":"message_created","timestamp":{},"message":{}}}"#,
                        message.timestamp,
                        raw.get()
                    );
                    arrivals.push(Arrival::read(update, bot));
                }
                None => {}
            }
        }
        if reached || oldest.is_none() || oldest == before {
            break;
        }
        before = oldest;
    }
    Ok((arrivals, bot_seq))
}
