//! From the queue of a customer into Creatio: receive, history, hand-over, close, one call at a
//! time and in order.
//!
//! What keeps promises 2 and 3 of [`super`]: a row is marked as attempted, with its time stamp,
//! before the first call, and from then on nothing passes it; it is finished in the same
//! transaction that steps the dialog. `queued:true` is no acknowledgement. A row that Creatio will
//! never take becomes a dead letter and the agent is told.

mod attempt;
mod files;

use tracing::Instrument as _;
use uuid::Uuid;

use super::active::Active;
use super::lanes::Outcome;
use super::metrics::Way;
use super::pause;
use super::render::Incoming;
use super::state::Shared;
use super::store::customer::Customer;
use super::store::receipt::Counted;
use super::store::to_crm::{self as queue, CrmTask, Head};
use super::store::{StoreError, Tx, closing};
use crate::contract::CustomerId;
use crate::creatio::Author;
use crate::policy::{ClosedBy, Event, Receiver};
use crate::time::Millis;

/// Calls made for one lane before others have their turn.
const TURN: usize = 16;
/// How the keys of lines begin that are the relay's own.
const NOTE: &str = "note:";
/// How long a new appeal waits before it is looked at again while nobody takes any; a changed
/// manifest rouses it at once.
const RECEIVER_PAUSE: Millis = 30_000;

/// What a try came to. Only what is settled may change or remove the row.
enum Attempt {
    /// The row stays, perhaps with another task, and waits.
    Later(Outcome, Option<CrmTask>),
    Settled(Verdict),
}

impl Attempt {
    fn later(outcome: Outcome) -> Self {
        Self::Later(outcome, None)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Later(..) => "later",
            Self::Settled(verdict) => verdict.name(),
        }
    }
}

impl From<Verdict> for Attempt {
    fn from(verdict: Verdict) -> Self {
        Self::Settled(verdict)
    }
}

/// What became of a head for good.
enum Verdict {
    /// Creatio has it: into which chat.
    Taken { chat: Option<Uuid> },
    /// A closing is certain.
    Closed { chat: Uuid },
    /// What was to be closed goes on as another chat.
    Moved { parent: Uuid, chat: Uuid },
    /// There was nothing to do for it.
    Needless,
    /// The task has changed (a file is stored or given up) and goes on.
    Changed(CrmTask),
    /// Creatio will never take it.
    Refused(String),
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "taken",
            Self::Closed { .. } => "closed",
            Self::Moved { .. } => "moved",
            Self::Needless => "needless",
            Self::Changed(_) => "changed",
            Self::Refused(_) => "refused",
        }
    }
}

impl Head {
    /// The file that must be in the CRM before the message can go.
    fn missing_file(&self) -> Option<(&Incoming, usize)> {
        let CrmTask::Message { incoming, .. } = &self.task else { return None };
        let index = incoming.files.iter().position(|file| file.stored.is_none())?;
        Some((incoming, index))
    }
}

/// Works on the lane of one customer, but for files: a lane that waits for one is theirs and holds
/// nothing here.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, false).await
}

/// Brings the files of one customer's next message into the CRM, with permits of their own.
pub(super) async fn serve_files(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, true).await
}

async fn work(shared: &Shared, customer: CustomerId, files: bool) -> Outcome {
    let Some(active) = shared.active().filter(|active| active.creatio.is_some()) else { return Outcome::Wait(1_000) };
    let mut proved = false;
    let marked = shared.marked_head(customer);
    let loaded = if marked.is_some() { Ok(marked) } else { load(shared, &active, customer).await };
    let mut head = match loaded {
        Ok(Some(head)) => head,
        Ok(None) => return Outcome::Idle,
        Err(error) => return shared.store_failed(&error),
    };
    for _ in 0..TURN {
        let Some(creatio) = &active.creatio else { return Outcome::Wait(1_000) };
        // Its files, too: they are fetched when somebody is there to see them.
        if head.waits {
            return Outcome::Wait(RECEIVER_PAUSE);
        }
        if head.missing_file().is_some() != files {
            // The other kind of work is next.
            if files { &shared.to_crm } else { &shared.files_in }.wake(customer);
            return if proved { Outcome::Done } else { Outcome::Idle };
        }
        let span = active.delivery("crm");
        let trying = attempt::attempt(shared, &active, creatio, &head).instrument(span.clone());
        let tried = match shared.to_crm.probe_limit(customer).filter(|_| !files) {
            // Whoever asks whether the CRM is back asks for all, and must not hang for all.
            Some(limit) => tokio::time::timeout(limit, trying)
                .await
                .unwrap_or_else(|_| Attempt::later(Outcome::Outage(pause(head.attempts)))),
            None => trying.await,
        };
        span.record("outcome", tried.name());
        let verdict = match tried {
            Attempt::Settled(verdict) => verdict,
            Attempt::Later(outcome, changed) => return postpone(shared, &head, outcome, changed).await,
        };
        proved = true;
        head = match finish(shared, &active, head, verdict).instrument(span).await {
            Ok(Some(next)) => next,
            Ok(None) => return Outcome::Done,
            Err(error) => return shared.store_failed(&error),
        };
    }
    Outcome::Done
}

/// Lets the head wait where it is.
async fn postpone(shared: &Shared, head: &Head, outcome: Outcome, changed: Option<CrmTask>) -> Outcome {
    let row = head.id;
    let written = shared.store.transact(move |tx| queue::postpone(tx, row, changed.as_ref())).await;
    written.map_or_else(|error| shared.store_failed(&error), |()| outcome)
}

async fn load(shared: &Shared, active: &Active, customer: CustomerId) -> Result<Option<Head>, StoreError> {
    let receiver = active.rules.receiver;
    shared.store.transact(move |tx| load_head(tx, customer, receiver)).await
}

/// Marks the head in the commit that brings it, where it is sent at once.
pub(super) fn mark_head(tx: &Tx<'_>, id: CustomerId, receiver: Receiver) -> Result<(), StoreError> {
    let head = load_head(tx, id, receiver)?;
    tx.wake(|woken| woken.head = head.map(Box::new));
    Ok(())
}

/// Reads the head and marks it, so that after a crash it is the head still and says the same.
fn load_head(tx: &Tx<'_>, id: CustomerId, receiver: Receiver) -> Result<Option<Head>, StoreError> {
    loop {
        let Some(row) = queue::head(tx, id)? else { return Ok(None) };
        let Some(task) = row.task else {
            set_aside(tx, row.id)?;
            continue;
        };
        let customer = Customer::load(tx, id)?;
        let timestamp = match (row.timestamp, &task) {
            (Some(timestamp), _) => timestamp,
            (None, CrmTask::History { sent_at, .. }) => *sent_at,
            (None, _) => row.position.0.max(customer.crm_timestamp + 1),
        };
        // A dialog whose chat the agents have goes on, and so does what may have reached the CRM
        // before.
        let waits = receiver == Receiver::Absent
            && matches!(task, CrmTask::Message { own: true, .. })
            && !row.attempted
            && customer.dialog.chat().is_none();
        if !waits {
            queue::mark_attempted(tx, row.id, timestamp)?;
        }
        let queue::Row { id, attempts, position, .. } = row;
        return Ok(Some(Head { id, task, attempts, position, timestamp, waits, customer }));
    }
}

/// A row that cannot be read becomes a dead letter in its place, and a note in the dialog says so:
/// what is behind it goes on.
fn set_aside(tx: &Tx<'_>, row: i64) -> Result<(), StoreError> {
    tracing::error!("an entry of the queue towards the CRM cannot be read and is kept as a dead letter");
    let note = Incoming {
        external_id: format!("{NOTE}{}", Uuid::new_v4()),
        text: "[Запись очереди в CRM не читается: сообщение клиента могло остаться непереданным. Спросите администратора MaxChannel]"
            .to_owned(),
        ..Incoming::default()
    };
    let task = CrmTask::Message { incoming: note, stand_by: false, own: true };
    queue::replace(tx, row, &task, "запись очереди не читается")
}

fn add_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// Records what became of the head, steps the dialog, and takes the next head in the same commit.
async fn finish(shared: &Shared, active: &Active, head: Head, verdict: Verdict) -> Result<Option<Head>, StoreError> {
    let delivered = matches!((&head.task, &verdict), (CrmTask::Message { .. }, Verdict::Taken { .. }));
    let dead = matches!(verdict, Verdict::Refused(_));
    let next = shared
        .step(active, move |stepper| {
            let (tx, rules, now) = (stepper.tx, stepper.rules, stepper.context.now);
            // The customer may have been erased while the call was under way.
            if !queue::exists(tx, head.id)? {
                return load_head(tx, head.customer.id, rules.receiver);
            }
            // Read anew: the dialog may have moved while the call was under way.
            let mut customer = Customer::load(tx, head.customer.id)?;
            match (verdict, &head.task) {
                (Verdict::Changed(task), _) => queue::change(tx, head.id, &task)?,
                (Verdict::Taken { chat }, CrmTask::Message { incoming, own, .. }) => {
                    queue::remove(tx, head.id, Counted::Delivered)?;
                    customer.crm_timestamp = customer.crm_timestamp.max(head.timestamp);
                    if *own {
                        customer.delivered = customer.delivered.max(Some(head.position));
                    }
                    // An edit, too, may turn out to have opened a chat: whoever closed the one
                    // before was faster.
                    if let Some(chat) = chat {
                        let event = Event::Taken { message: incoming.external_id.clone(), chat };
                        stepper.step(&mut customer, &event, None)?;
                        // The first look at the outbox saw its closing, and could not tell whose it
                        // was while the answer to the message that opened it was lost.
                        if closing::claim(tx, chat)? && customer.dialog.waits_for_closing(chat) {
                            let event = Event::ChatClosed { chat, by: ClosedBy::Agent };
                            stepper.step(&mut customer, &event, None)?;
                        }
                    }
                }
                (Verdict::Taken { chat }, CrmTask::HandOver) => {
                    queue::remove(tx, head.id, Counted::Delivered)?;
                    if let (Some(parent), Some(chat)) = (customer.dialog.chat(), chat)
                        && parent != chat
                    {
                        stepper.step(&mut customer, &Event::Transferred { parent, chat }, None)?;
                    }
                }
                (Verdict::Moved { parent, chat }, _) => {
                    queue::remove(tx, head.id, Counted::Delivered)?;
                    stepper.step(&mut customer, &Event::Transferred { parent, chat }, None)?;
                }
                (Verdict::Closed { chat }, _) => {
                    queue::remove(tx, head.id, Counted::Delivered)?;
                    if closing::note(tx, chat, now)? {
                        stepper.step(&mut customer, &Event::ChatClosed { chat, by: ClosedBy::Relay }, None)?;
                    }
                }
                (Verdict::Refused(reason), task) => {
                    queue::bury(tx, head.id, &reason)?;
                    if let CrmTask::Message { incoming, stand_by, own } = task
                        && !incoming.external_id.starts_with(NOTE)
                    {
                        let text = format!("[CRM не приняла сообщение клиента: {reason}. Администратор MaxChannel может передать его снова]");
                        let external_id = format!("{NOTE}{}", Uuid::new_v4());
                        if customer.dialog.chat().is_some() || !*own {
                            stepper.history(&customer, external_id, Author::Bot, text, now)?;
                        } else {
                            // Nobody reads the history of a chat that is not there: the note itself
                            // calls the agents.
                            let note = Incoming { external_id, text, ..Incoming::default() };
                            let task = CrmTask::Message { incoming: note, stand_by: *stand_by, own: true };
                            stepper.queue_for_crm(&customer, &task, head.position)?;
                        }
                    }
                }
                (Verdict::Taken { .. }, _) => queue::remove(tx, head.id, Counted::Delivered)?,
                (Verdict::Needless, _) => queue::remove(tx, head.id, Counted::Withheld)?,
            }
            customer.save(tx, rules)?;
            load_head(tx, customer.id, rules.receiver)
        })
        .await?;
    if delivered {
        shared.metrics.delivered(Way::ToCrm, shared.clock.now());
    }
    if dead {
        shared.metrics.dead_letters_made.inc();
        tracing::warn!("a message was refused by the CRM and kept as a dead letter: see `maxchannel dead-letters`");
    }
    Ok(next)
}
