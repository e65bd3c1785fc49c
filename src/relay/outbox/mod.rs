//! From Creatio to the relay: the package's outbox, and the look at the chats that stands behind
//! it.
//!
//! A row is taken in the transaction that records what follows, and is finished only by its report.
//!
//! Order: rows of one customer become visible in their order, but a row may become visible after a
//! higher one of another customer (wire contract, "Seq"). So what was read at one moment may be
//! taken as it stands, while of what was read in pieces, or from a cursor on, an earlier row of the
//! same customer may lie behind: then only that is taken which was seen before a second reading
//! from the beginning, together with what that reading shows before it. The cursor spares reading a
//! long row of waiting rows at every look.

mod chats;
pub(super) mod reports;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use super::active::Active;
use super::metrics::Odd;
use super::state::Shared;
use super::step::{Stepper, text_parts};
use super::store::customer::{self, Customer};
use super::store::outbox as rows;
use super::store::receipt::{self, Counted};
use super::store::to_crm;
use super::store::to_max::{self, Origin, OutFile, Part, Sending};
use super::store::{StoreError, Tx, closing, erased, meta};
use super::switching;
use super::trouble;
use crate::contract::CustomerId;
use crate::contract::Trouble;
use crate::contract::admin::Direction;
use crate::creatio::{self, CloseReason, OddRow, OutboxKind, OutboxRow, Report};
use crate::policy::{ClosedBy, Event};
use crate::time::Millis;

/// A look from the beginning finds rows that became visible late and those whose report was lost.
const SWEEP_INTERVAL: Millis = 30_000;
const CHATS_INTERVAL: Millis = 60_000;
/// Between two looks while no dialog is open, and while hints arrive.
const IDLE_INTERVAL: Millis = 15_000;
const HINTED_INTERVAL: Millis = 30_000;
/// Hints closer together than this are one.
const HINT_SPACING: Millis = 100;

/// Looks at the outbox until the relay stops.
pub(super) async fn run(shared: &Shared) {
    // In passed time, like every pause here.
    let mut swept_at: Millis = Millis::MIN / 2;
    let mut chats_at = shared.clock.passed();
    // Since when no look has succeeded.
    let mut away_since: Option<Millis> = None;
    // Where looks begin while more than a page waits; from the beginning otherwise: what becomes
    // visible late stands before it.
    let mut cursor = 0;
    loop {
        let Some((active, creatio)) = ready(shared) else {
            tokio::select! { () = shared.clock.sleep(1_000) => {}, () = shared.outbox_wake.notified() => {} }
            continue;
        };
        let now = shared.clock.passed();
        let hinted = shared.hinted.swap(false, Ordering::Relaxed);
        if now - swept_at >= SWEEP_INTERVAL {
            cursor = 0;
        }
        let polled = poll(shared, &active, &creatio, &mut cursor).await;
        let (found, swept) = match polled {
            Ok(looked) => {
                away_since = None;
                looked
            }
            Err(error) => {
                away_since = away_since.or(Some(now));
                error.note(shared);
                tracing::debug!(%error, "the outbox could not be looked at");
                (0, false)
            }
        };
        if swept {
            swept_at = now;
        }
        if away_since.is_none() && shared.clock.passed() - chats_at >= CHATS_INTERVAL {
            chats_at = shared.clock.passed();
            if let Err(error) = chats::poll(shared, &active, &creatio).await {
                tracing::debug!(%error, "the chats could not be looked at");
            }
        }
        // Rows that no hint announced: the hints do not reach us, so they are not relied on.
        if found > 0 && !hinted {
            shared.hints_work.store(false, Ordering::Relaxed);
        }
        let pause = match away_since {
            // One back-off for looks and lanes: hints and wakes do not shorten it.
            Some(since) => {
                shared.clock.sleep(super::lanes::between_probes(shared.clock.passed() - since)).await;
                continue;
            }
            None if shared.hints_work.load(Ordering::Relaxed) => HINTED_INTERVAL,
            None if shared.any_open.load(Ordering::Relaxed) => {
                active.config.channel.creatio.as_ref().map_or(IDLE_INTERVAL, |creatio| {
                    Millis::try_from(creatio.poll_interval().as_millis()).unwrap_or(IDLE_INTERVAL)
                })
            }
            None => IDLE_INTERVAL,
        };
        let sweep_in = (swept_at + SWEEP_INTERVAL - shared.clock.passed()).max(0);
        let pause = pause.min(sweep_in).max(HINT_SPACING);
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            () = shared.outbox_wake.notified() => {
                tokio::time::sleep(Duration::from_millis(HINT_SPACING.unsigned_abs())).await;
            }
        }
    }
}

fn ready(shared: &Shared) -> Option<(Arc<Active>, creatio::Client)> {
    let active = shared.active().filter(|active| !active.config.channel.suspended)?;
    let creatio = active.creatio.clone()?;
    Some((active, creatio))
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Creatio(#[from] creatio::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PollError {
    /// A disk that is full says nothing about the CRM.
    fn note(&self, shared: &Shared) {
        if matches!(self, Self::Creatio(_)) {
            shared.catching_up.outbox_missed();
        }
        match self {
            // A site without the package has no such table.
            Self::Creatio(error) if error.class() == creatio::Class::NotFound => {
                shared.crm_failed(Trouble::PackageMissing);
            }
            Self::Creatio(error) => shared.crm_failed(trouble::of_crm(error).unwrap_or(Trouble::CrmUnreachable)),
            Self::Store(error) => {
                shared.store_failed(error);
            }
        }
    }
}

/// One look. Returns how many rows were new, and whether it was one from the beginning.
async fn poll(
    shared: &Shared,
    active: &Active,
    creatio: &creatio::Client,
    cursor: &mut i64,
) -> Result<(usize, bool), PollError> {
    let (first, any_open, many_wait) = shared
        .store
        .transact(|tx| {
            let first = meta::get(tx, meta::OUTBOX_LOOKED)?.is_none();
            Ok((first, customer::any_open(tx)?, rows::more_wait_than(tx, creatio::OUTBOX_PAGE)?))
        })
        .await?;
    shared.any_open.store(any_open, Ordering::Relaxed);
    if !many_wait {
        *cursor = 0;
    }
    let from_the_beginning = *cursor == 0;
    let source = active.config.channel.channel_source();
    let Seen { rows: seen, odd, at_once } = pages(creatio, &source, *cursor).await?;
    note_odd(shared, odd).await?;
    let taken = if at_once && from_the_beginning {
        take(shared, active, seen, first).await?
    } else {
        *cursor = seen.iter().map(|row| row.seq).max().unwrap_or(*cursor).max(*cursor);
        let rows = if any_unknown(shared, &seen).await? {
            let again = pages(creatio, &source, 0).await?;
            certain(seen, again.rows)
        } else {
            seen
        };
        take(shared, active, rows, first).await?
    };
    shared.crm_answered();
    // What is another installation's was left where it is: the first look is still to come.
    let Some(new) = taken else { return Ok((0, from_the_beginning)) };
    if first {
        shared.store.transact(|tx| meta::set(tx, meta::OUTBOX_LOOKED, "1")).await?;
    }
    if from_the_beginning {
        shared.catching_up.outbox_seen();
    }
    Ok((new, from_the_beginning))
}

/// What a reading of the outbox shows.
struct Seen {
    rows: Vec<OutboxRow>,
    /// What cannot be read as a row.
    odd: Vec<OddRow>,
    /// It shows one moment.
    at_once: bool,
}

/// All waiting rows after a number, page after page.
async fn pages(creatio: &creatio::Client, source: &str, mut after: i64) -> Result<Seen, creatio::Error> {
    let mut seen = Seen { rows: Vec::new(), odd: Vec::new(), at_once: true };
    loop {
        let page = creatio.outbox(source, after).await?;
        let newest = page.rows.iter().map(|row| row.seq).chain(page.odd.iter().filter_map(|odd| odd.seq)).max();
        // A page without a number to go on from is the last that can be asked for.
        let last = page.last || newest.is_none_or(|newest| newest <= after);
        after = newest.unwrap_or(after).max(after);
        seen.rows.extend(page.rows);
        seen.odd.extend(page.odd);
        if last {
            return Ok(seen);
        }
        seen.at_once = false;
    }
}

/// What cannot be read is reported as failed where it names itself, so that the agent knows and the
/// row waits no longer.
async fn note_odd(shared: &Shared, odd: Vec<OddRow>) -> Result<(), StoreError> {
    if odd.is_empty() {
        return Ok(());
    }
    let now = shared.clock.now();
    let fresh = shared.fresh_reports();
    // They stay where they are, and are counted once.
    let unnamed = odd.iter().filter(|odd| odd.id.is_none() && shared.is_first_look_at(odd)).count();
    let new = shared
        .store
        .transact(move |tx| {
            let mut new = 0;
            for odd in &odd {
                let Some(id) = odd.id else { continue };
                if rows::is_known(tx, id, fresh.contains(&id), now)? {
                    continue;
                }
                rows::insert(tx, id, now)?;
                let day = receipt::day(now);
                receipt::count(tx, day, Direction::ToMax, Counted::Received, 1)?;
                receipt::count(tx, day, Direction::ToMax, Counted::Withheld, 1)?;
                let what =
                    if odd.members.is_empty() { String::new() } else { format!(" ({})", odd.members.join(", ")) };
                let words = format!("запись исходящих CRM не читается{what}: клиенту ничего не отправлено");
                rows::note_report(tx, id, &Report::Failed(words))?;
                new += 1;
            }
            Ok(new)
        })
        .await?;
    let new = new + unnamed;
    if new == 0 {
        return Ok(());
    }
    shared.metrics.set_aside(Odd::OutboxRow, new);
    tracing::warn!(count = new, "rows of the CRM's outbox cannot be read and are set aside");
    Ok(())
}

/// Of two readings one after the other: for each customer what was seen in the first, and all that
/// stands before it.
fn certain(seen: Vec<OutboxRow>, again: Vec<OutboxRow>) -> Vec<OutboxRow> {
    let mut newest: HashMap<String, i64> = HashMap::new();
    for row in &seen {
        let newest = newest.entry(row.recipient.clone()).or_insert(row.seq);
        *newest = row.seq.max(*newest);
    }
    let mut rows: BTreeMap<i64, OutboxRow> = seen.into_iter().map(|row| (row.seq, row)).collect();
    let before = again.into_iter().filter(|row| newest.get(&row.recipient).is_some_and(|newest| row.seq <= *newest));
    rows.extend(before.map(|row| (row.seq, row)));
    rows.into_values().collect()
}

async fn any_unknown(shared: &Shared, rows: &[OutboxRow]) -> Result<bool, StoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    shared.store.transact(move |tx| rows::any_unknown(tx, &ids)).await
}

/// Takes what is new; how much that was. None: another installation has the bot.
async fn take(
    shared: &Shared,
    active: &Active,
    rows: Vec<OutboxRow>,
    first: bool,
) -> Result<Option<usize>, StoreError> {
    // A first look that another installation has emptied is none either.
    if rows.is_empty() && !first {
        return Ok(Some(0));
    }
    if !super::owner::is_ours(shared, active).await {
        return Ok(None);
    }
    let fresh = shared.fresh_reports();
    let (new, odd_files) = shared
        .step(active, move |stepper| {
            let (mut new, mut odd_files) = (0, 0);
            for row in &rows {
                if take_row(stepper, row, first, &fresh)? {
                    new += 1;
                    odd_files += row.odd_files.len() + usize::from(row.files_unreadable);
                }
            }
            Ok((new, odd_files))
        })
        .await?;
    shared.metrics.set_aside(Odd::OutboxFile, odd_files);
    Ok(Some(new))
}

/// Takes one row unless it was taken before. Returns whether it was new. `first`: the store has
/// never seen the outbox.
fn take_row(stepper: &Stepper<'_>, row: &OutboxRow, first: bool, fresh: &HashSet<Uuid>) -> Result<bool, StoreError> {
    let now = stepper.context.now;
    if rows::is_known(stepper.tx, row.id, fresh.contains(&row.id), now)? {
        return Ok(false);
    }
    rows::insert(stepper.tx, row.id, now)?;
    let report = |report: &Report| rows::note_report(stepper.tx, row.id, report);
    // The other kinds say something to the relay, and nothing to the customer.
    let is_message = matches!(row.kind, OutboxKind::Message);
    let count = |what| {
        if is_message { receipt::count(stepper.tx, receipt::day(now), Direction::ToMax, what, 1) } else { Ok(()) }
    };
    count(Counted::Received)?;
    let Some(customer) = customer_id(&row.recipient) else {
        count(Counted::Withheld)?;
        let words = format!("получатель «{}» не из MAX", row.recipient);
        report(&Report::Failed(words))?;
        return Ok(true);
    };
    let mut customer = Customer::load(stepper.tx, customer)?;
    let is_forgotten = is_forgotten(stepper.tx, &customer)?;
    let step = |customer: &mut Customer, event: Event| {
        if is_forgotten { Ok(()) } else { stepper.step(customer, &event, None).map(drop) }
    };
    match &row.kind {
        OutboxKind::Message => match parts(row) {
            Ok(parts) => {
                // Whoever is written to has a dialog again.
                if let Some(chat) = row.chat_id {
                    stepper.step(&mut customer, &Event::AgentAnswered { chat }, None)?;
                }
                to_customer(stepper, &customer, row, &parts, first)?;
            }
            Err(words) => {
                count(Counted::Withheld)?;
                report(&Report::Failed(words.to_owned()))?;
            }
        },
        OutboxKind::Accepted => {
            if let Some(chat) = row.chat_id {
                step(&mut customer, Event::AgentAccepted { chat })?;
            }
            report(&Report::Delivered)?;
        }
        OutboxKind::Transferred => {
            if let (Some(parent), Some(chat)) = (row.parent_chat_id, row.chat_id) {
                step(&mut customer, Event::Transferred { parent, chat })?;
            }
            report(&Report::Delivered)?;
        }
        OutboxKind::Closed => {
            // A closing from before the store says nothing of the dialogs that it knows, unless it
            // is the chat of one: that came into being while the first look was on its way.
            if let Some(chat) = row.chat_id
                && closing::note(stepper.tx, chat, now)?
            {
                if !first || customer.dialog.waits_for_closing(chat) {
                    let by = match &row.reason {
                        Some(CloseReason::Timeout) => ClosedBy::Timeout,
                        Some(CloseReason::Relay) => ClosedBy::Relay,
                        Some(CloseReason::Agent | CloseReason::Other(_)) | None => ClosedBy::Agent,
                    };
                    step(&mut customer, Event::ChatClosed { chat, by })?;
                } else if to_crm::is_under_way(stepper.tx, customer.id)? {
                    // It may be the chat of what is under way, whose answer is lost.
                    closing::leave_unclaimed(stepper.tx, chat)?;
                }
            }
            report(&Report::Delivered)?;
        }
        OutboxKind::Other(kind) => {
            report(&Report::Failed(format!("вид записи «{kind}» этой версии MaxChannel неизвестен")))?;
        }
    }
    if !is_forgotten || !customer.dialog.is_blank() {
        customer.save(stepper.tx, stepper.rules)?;
    }
    Ok(true)
}

/// Whether the customer was erased and has written nothing since. The chat goes on in the CRM, and
/// what becomes of it there neither brings a dialog back nor says goodbye to somebody who asked to
/// be forgotten.
fn is_forgotten(tx: &Tx<'_>, customer: &Customer) -> Result<bool, StoreError> {
    Ok(customer.dialog.is_blank() && erased::person(tx, customer.id)?.is_some())
}

/// `max:<user id>` (wire contract, "Recipient").
fn customer_id(recipient: &str) -> Option<CustomerId> {
    recipient.strip_prefix("max:")?.parse().ok()
}

fn parts(row: &OutboxRow) -> Result<Vec<Part>, &'static str> {
    if row.files_unreadable {
        return Err("список файлов сообщения не читается");
    }
    let mut parts = text_parts(&row.text);
    parts.extend(row.files.iter().map(|file| Part {
        file: Some(OutFile {
            id: file.id,
            name: file.name.clone(),
            mime_type: file.mime_type.clone(),
            kind: file.kind,
        }),
        ..Part::default()
    }));
    // Behind everything that can be sent: the message has then failed in this part alone.
    parts.extend(row.odd_files.iter().map(|place| Part {
        odd: Some(format!("запись файла {place} в списке файлов CRM не читается, файл не отправлен")),
        ..Part::default()
    }));
    if parts.is_empty() { Err("в сообщении нет ни текста, ни файлов") } else { Ok(parts) }
}

/// What waits when a store looks for the first time may have been sent by a relay whose store is
/// lost: it is looked for before it is sent. Not by the row's time: the clocks of the CRM and ours
/// may differ.
fn to_customer(
    stepper: &Stepper<'_>,
    customer: &Customer,
    row: &OutboxRow,
    parts: &[Part],
    first: bool,
) -> Result<(), StoreError> {
    let since = first.then(|| row.created_on.map_or(0, jiff::Timestamp::as_millisecond));
    let message = stepper.queue_for_max(customer, &Origin::Agent { row: row.id, by: row.agent_id }, parts)?;
    if let Some(since) = since {
        let sending = Sending::by_a_lost_store(since, switching::is_by_mango(stepper.tx)?);
        to_max::note_sending(stepper.tx, message, &sending)?;
    }
    Ok(())
}
