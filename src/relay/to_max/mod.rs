//! From the queue of a customer into MAX: one send at a time and in order.
//!
//! What keeps promise 4 of [`super`]: MAX has no idempotency key, so a note of the send is on disk
//! before the POST, and a send whose answer is lost is looked for in the dialog 5 s and 15 s later
//! before it is sent again. What cannot be proved either way is marked uncertain and shown to the
//! agent, never sent again and never dropped in silence.

mod look_back;
mod send;
mod through_mango;

use tracing::Instrument as _;

use super::active::Active;
use super::lanes::Outcome;
use super::metrics::Way;
use super::state::Shared;
use super::step::{Stepper, text_parts};
use super::store::customer::Customer;
use super::store::to_max::{self as queue, Origin, OutFile, Part, Sending, State, Tries};
use super::store::{StoreError, Tx, inbox, outbox, sent};
use crate::contract::CustomerId;
use crate::creatio::{MessageType, Report};
use crate::max::{Message, MessageId, OutgoingAttachment};
use crate::policy::{self, Event, Rules};
use crate::time::Millis;

/// After so long a close message is no farewell any more.
const FAREWELL_LATE: Millis = 24 * 3_600_000;
/// Sends made for one lane before others have their turn.
const TURN: usize = 8;

/// How often a send that may have left by MANGO OFFICE is repeated there once that is not the way
/// any more.
const UNSEEN_ATTEMPTS: u32 = 10;

struct Head {
    id: i64,
    origin: Origin,
    parts: Vec<Part>,
    part: usize,
    sending: Option<Sending>,
    attempts: u32,
    created_at: Millis,
    customer: Customer,
    /// MAX's time of the newest update of the customer's that is known.
    heard_at: Option<Millis>,
}

impl Head {
    /// The file that must be with MAX before the next part can go. Through MANGO OFFICE it is the
    /// part itself, which stays with the lane of files also when it is noted as sent.
    fn missing_file(&self) -> Option<&OutFile> {
        let part = self.parts.get(self.part)?;
        let is_of_files = self.sending.is_none_or(|sending| sending.by_mango);
        part.file.as_ref().filter(|_| part.uploaded.is_none() && is_of_files && part.odd.is_none())
    }

    /// Nobody can look for it at MAX, and it has not been tried for long.
    fn is_unseen(&self) -> bool {
        self.customer.chat_id.is_none() && self.attempts < UNSEEN_ATTEMPTS
    }

    fn tries(&self) -> Tries {
        self.parts.get(self.part).map(|part| part.tries).unwrap_or_default()
    }
}

/// What a try came to. Only what is settled may end a part.
enum Attempt {
    /// The row stays and waits, with its note of a send and the tries of its part.
    Later {
        outcome: Outcome,
        sending: Option<Sending>,
        tries: Tries,
    },
    /// It is not to be sent any more, or not so: what to do is judged anew.
    Overtaken,
    Settled(Verdict),
}

impl Attempt {
    fn name(&self) -> &'static str {
        match self {
            Self::Later { .. } => "later",
            Self::Overtaken => "overtaken",
            Self::Settled(verdict) => verdict.name(),
        }
    }
}

impl From<Verdict> for Attempt {
    fn from(verdict: Verdict) -> Self {
        Self::Settled(verdict)
    }
}

/// What became of the part that is next, for good.
enum Verdict {
    Sent(Box<Message>),
    /// MANGO OFFICE has taken it.
    SentThroughMango {
        mid: String,
        at: Millis,
    },
    /// It is not worth a dialog of its own, and there is none.
    Needless,
    /// Not a message: nothing to remember.
    Done,
    Uploaded(OutgoingAttachment),
    /// MAX takes it for somebody else's film or sound: as a file it goes.
    AsFile,
    Failed {
        words: String,
        gone: bool,
    },
    Uncertain,
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Sent(_) | Self::SentThroughMango { .. } => "sent",
            Self::Needless => "needless",
            Self::Done => "done",
            Self::Uploaded(_) => "uploaded",
            Self::AsFile => "as_file",
            Self::Failed { .. } => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// Works on the lane of one customer, but for files: a lane that waits for one is theirs and holds
/// nothing here.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, false).await
}

/// Brings the file of one customer's next part to MAX, with permits of its own.
pub(super) async fn serve_files(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, true).await
}

async fn work(shared: &Shared, customer: CustomerId, files: bool) -> Outcome {
    let Some(active) = shared.active() else { return Outcome::Wait(1_000) };
    // What an earlier run sent in its last second still counts at MAX.
    let left = shared.send_from - shared.clock.passed();
    if left > 0 {
        return Outcome::Wait(left);
    }
    let mut proved = false;
    for _ in 0..TURN {
        let (rules, now) = (active.rules.clone(), shared.clock.now());
        let head = shared.store.transact(move |tx| load_head(tx, customer, &rules, now)).await;
        let head = match head {
            Ok(head) => head,
            Err(error) => return shared.store_failed(&error),
        };
        let Some(head) = head else { return if proved { Outcome::Done } else { Outcome::Idle } };
        if head.missing_file().is_some() != files {
            // The other kind of work is next.
            if files { &shared.to_max } else { &shared.files_out }.wake(customer);
            return if proved { Outcome::Done } else { Outcome::Idle };
        }
        if !files
            && head.sending.is_none_or(|sending| sending.by_mango)
            && !super::owner::is_ours(shared, &active).await
        {
            return Outcome::Wait(10_000);
        }
        let span = active.delivery("max");
        let tried = match send::attempt(shared, &active, &head).instrument(span.clone()).await {
            Ok(tried) => tried,
            Err(error) => return shared.store_failed(&error),
        };
        span.record("outcome", tried.name());
        let done = match tried {
            Attempt::Settled(verdict) => finish(shared, &active, head, verdict).instrument(span).await,
            Attempt::Overtaken => return Outcome::Unclear(1),
            Attempt::Later { outcome, sending, tries } => match postpone(shared, head, sending, tries).await {
                Ok(()) if outcome == Outcome::Wait(0) => Ok(()),
                Ok(()) => return outcome,
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => proved = true,
            Err(error) => return shared.store_failed(&error),
        }
    }
    Outcome::Done
}

/// Whether what stands at the head of a queue is still to be sent: an automatic reply only as the
/// rules of this moment would show it, and a farewell not on the next day, nor where none is said
/// any more. Whether it waited for MAX or was replayed is the same.
fn is_wanted(origin: &Origin, created_at: Millis, customer: &Customer, rules: &Rules, now: Millis) -> bool {
    match origin {
        Origin::AutoReply { reply: Some(reply) } => policy::is_wanted(rules, &customer.dialog, reply, now),
        Origin::AutoReply { reply: None } => now - created_at <= policy::LATE,
        Origin::CloseMessage => now - created_at <= FAREWELL_LATE && rules.close_message.is_some(),
        Origin::Agent { .. } | Origin::Bot | Origin::Press => true,
    }
}

/// The words in which the channel says that by the rules of this moment; none: they are fixed.
fn words_now<'a>(origin: &Origin, rules: &'a Rules) -> Option<&'a str> {
    match origin {
        Origin::AutoReply { reply: Some(reply) } => {
            rules.replies(reply.set).get(reply.index).map(|known| known.text.as_str())
        }
        Origin::CloseMessage => rules.close_message.as_deref(),
        Origin::AutoReply { reply: None } | Origin::Agent { .. } | Origin::Bot | Origin::Press => None,
    }
}

fn texts(parts: &[Part]) -> Vec<Option<&str>> {
    parts.iter().map(|part| part.text.as_deref()).collect()
}

fn load_head(tx: &Tx<'_>, id: CustomerId, rules: &Rules, now: Millis) -> Result<Option<Head>, StoreError> {
    loop {
        let Some(row) = queue::head(tx, id)? else { return Ok(None) };
        let (origin, parts, sending) = match (row.origin, row.parts, row.sending) {
            (Ok(origin), Ok(parts), Ok(sending)) => (origin, parts, sending),
            (origin, _, sending) => {
                // Where a send may have been under way nobody knows.
                let state = if matches!(sending, Ok(None)) { State::Failed } else { State::Uncertain };
                set_aside(tx, row.id, state, origin.ok().as_ref(), now)?;
                continue;
            }
        };
        let customer = Customer::load(tx, id)?;
        // What may have been sent is not judged, unless a repeat would be one.
        if row.part == 0
            && sending.is_none_or(|sending| sending.by_mango)
            && !is_wanted(&origin, row.created_at, &customer, rules, now)
        {
            tracing::debug!("a message of the channel's own came too late to be shown and is skipped");
            queue::withhold(tx, row.id)?;
            tx.wake(|woken| woken.overdue += 1);
            continue;
        }
        let parts = match words_now(&origin, rules).map(text_parts) {
            // On disk before it is sent: what is looked for later says the same. What was uncertain
            // and is replayed may have been read in its old words.
            Some(now)
                if row.part == 0
                    && sending.is_none()
                    && texts(&now) != texts(&parts)
                    && !queue::is_recorded(tx, row.id)? =>
            {
                queue::put_in_other_words(tx, row.id, &now)?;
                now
            }
            _ => parts,
        };
        let heard_at = inbox::heard_at(tx, id)?;
        let queue::Row { id, part, attempts, created_at, .. } = row;
        return Ok(Some(Head { id, origin, parts, part, sending, attempts, created_at, customer, heard_at }));
    }
}

/// A row that cannot be read has ended; what is behind it goes on.
fn set_aside(tx: &Tx<'_>, row: i64, state: State, origin: Option<&Origin>, now: Millis) -> Result<(), StoreError> {
    tracing::error!("an entry of the queue towards MAX cannot be read and is kept as a dead letter");
    let words = "запись очереди в MAX не читается: уточните у клиента, прежде чем отправлять снова";
    queue::end_unread(tx, row, state, words, now)?;
    if let Some(Origin::Agent { row, .. }) = origin {
        outbox::note_report(tx, *row, &report_of(state, words))?;
    }
    Ok(())
}

/// What the CRM is told of an agent's message.
fn report_of(state: State, words: &str) -> Report {
    match state {
        State::Failed => Report::Failed(words.to_owned()),
        State::Uncertain => Report::Uncertain(words.to_owned()),
        State::Queued | State::Sent => Report::Delivered,
    }
}

/// Lets the head wait where it is.
async fn postpone(shared: &Shared, head: Head, sending: Option<Sending>, tries: Tries) -> Result<(), StoreError> {
    let mut parts = head.parts;
    if let Some(part) = parts.get_mut(head.part) {
        part.tries = tries;
    }
    shared.store.transact(move |tx| queue::postpone(tx, head.id, sending.as_ref(), &parts)).await
}

/// Records what became of the part.
async fn finish(shared: &Shared, active: &Active, head: Head, verdict: Verdict) -> Result<(), StoreError> {
    let from_agent = matches!(head.origin, Origin::Agent { .. });
    let ended = shared
        .step(active, move |stepper| {
            let (tx, now) = (stepper.tx, stepper.context.now);
            let mut told = false;
            // The customer may have been erased while the send was under way.
            if !queue::exists(tx, head.id)? {
                return Ok(None);
            }
            let mut customer = Customer::load(tx, head.customer.id)?;
            let mut parts = head.parts.clone();
            let mut next = head.part;
            let ended = match verdict {
                Verdict::Uploaded(uploaded) => {
                    parts[next].uploaded = Some(uploaded);
                    None
                }
                Verdict::AsFile => {
                    parts[next].uploaded = None;
                    if let Some(file) = &mut parts[next].file {
                        file.kind = MessageType::File;
                    }
                    None
                }
                Verdict::Sent(message) => {
                    if let (None, Some(chat)) = (customer.chat_id, message.recipient.chat_id) {
                        stepper.learn_chat(&mut customer, chat)?;
                    }
                    customer.bot_seq = customer.bot_seq.max(Some(message.seq));
                    sent::insert(tx, &message.mid, customer.id, now)?;
                    parts[next].mid = Some(message.mid.to_string());
                    parts[next].sent_at = Some(message.timestamp);
                    next += 1;
                    (next >= parts.len()).then_some((State::Sent, None))
                }
                Verdict::SentThroughMango { mid, at } => {
                    let id = MessageId::new(mid.clone());
                    sent::insert(tx, &id, customer.id, now)?;
                    parts[next].mid = Some(mid);
                    parts[next].sent_at = Some(at);
                    next += 1;
                    (next >= parts.len()).then_some((State::Sent, None))
                }
                Verdict::Needless => {
                    queue::withhold(tx, head.id)?;
                    tx.wake(|woken| woken.overdue += 1);
                    return Ok(None);
                }
                Verdict::Done => {
                    next += 1;
                    (next >= parts.len()).then_some((State::Sent, None))
                }
                Verdict::Failed { words, gone } => {
                    if gone {
                        stepper.step(&mut customer, &Event::Left, None)?;
                    }
                    let words = of_parts(&words, next, parts.len());
                    // A replay begins anew.
                    if let Some(part) = parts.get_mut(next) {
                        part.tries = Tries::default();
                    }
                    Some((State::Failed, Some(words)))
                }
                Verdict::Uncertain => {
                    let words = "MAX не подтвердил доставку: уточните у клиента, прежде чем отправлять снова";
                    Some((State::Uncertain, Some(of_parts(words, next, parts.len()))))
                }
            };
            if let Some((state, words)) = &ended {
                // What was told once is not told again.
                told = *state == State::Uncertain && head.sending.is_some_and(|sending| sending.told);
                queue::end(tx, head.id, &parts, next, (*state, words.as_deref()), now)?;
                if let (State::Uncertain, Some(sending), None) = (*state, head.sending, customer.chat_id) {
                    // One that nobody could look for is looked for when its dialog is known.
                    let look_at = Some(Millis::MIN);
                    queue::note_sending(tx, head.id, &Sending { look_at, looks: 0, told: true, ..sending })?;
                }
                if !told {
                    conclude(stepper, &customer, &head, *state, words.as_deref().unwrap_or_default())?;
                }
            } else {
                queue::advance(tx, head.id, &parts, next)?;
                // Found, not sent: so may be what is behind it.
                if let Some(found) = head.sending.filter(|sending| sending.whole && next > head.part) {
                    let next = Sending::by_a_lost_store(found.since, found.by_mango);
                    queue::note_sending(tx, head.id, &Sending { told: found.told, ..next })?;
                }
            }
            customer.save(tx, stepper.rules)?;
            Ok(ended.map(|(state, _)| state).filter(|_| !told))
        })
        .await?;
    match ended {
        Some(State::Sent) if from_agent => shared.metrics.delivered(Way::ToMax, shared.clock.now()),
        Some(State::Failed) => drop(shared.metrics.dead_letters_made.inc()),
        Some(State::Uncertain) => drop(shared.metrics.uncertain.inc()),
        _ => {}
    }
    Ok(())
}

/// Tells those who wait for it what became of a message.
fn conclude(
    stepper: &Stepper<'_>,
    customer: &Customer,
    head: &Head,
    state: State,
    words: &str,
) -> Result<(), StoreError> {
    match &head.origin {
        Origin::Agent { row, .. } => outbox::note_report(stepper.tx, *row, &report_of(state, words))?,
        _ if state == State::Failed => queue::mark_recorded(stepper.tx, head.id)?,
        // What belongs to a chat that is over: the CRM adds it to the newest one.
        _ if queue::has_outlived(stepper.tx, head.id)? => stepper.release_history(customer, Some(head.id))?,
        Origin::CloseMessage => stepper.release_history(customer, Some(head.id))?,
        Origin::AutoReply { .. } | Origin::Bot if customer.dialog.has_written() => {
            stepper.release_history(customer, None)?;
        }
        Origin::AutoReply { .. } | Origin::Bot | Origin::Press => {}
    }
    Ok(())
}

fn of_parts(words: &str, index: usize, parts: usize) -> String {
    if parts > 1 {
        format!("Часть {} из {parts} (part {} of {parts}): {words}", index + 1, index + 1)
    } else {
        words.to_owned()
    }
}
