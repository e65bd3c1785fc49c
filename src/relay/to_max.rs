//! From the queue of a customer into MAX: one send at a time and in order.
//!
//! What keeps promise 4 of [`super`]: MAX has no idempotency key, so a note of the send is on disk before the POST, and a send whose
//! answer is lost is looked for in the dialog 5 s and 15 s later before it is sent again. What cannot be proved either way is marked
//! uncertain and shown to the agent, never sent again and never dropped in silence.

use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument as _;

use super::dialogs::Stepper;
use super::lanes::{CustomerId, Outcome};
use super::metrics::Way;
use super::store::customer::Customer;
use super::store::to_max::{self as queue, Button, Origin, OutFile, Part, Sending, State, Tries};
use super::store::{StoreError, Tx, inbox, outbox, sent};
use super::{Active, Shared, pause};
use crate::creatio::{MessageType, Report};
use crate::max::{
    self, Attachment, CallbackAnswer, Class, History, Message, NewMessage, OutgoingAttachment, Recipient, UploadKind,
};
use crate::policy::{self, Event, Rules};
use crate::time::{Backoff, Millis};

/// While MAX is still processing a file.
const NOT_READY: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));
/// While the CRM has not written a file yet.
const ABSENT: Backoff = Backoff::doubling(Duration::from_millis(500), Duration::from_secs(30));
/// When a send without an answer is looked for, counted from the loss of its answer.
const LOOKS: [Millis; 2] = [5_000, 15_000];
/// How often MAX is asked again for a file that it is still processing, or the CRM for one that it has not written yet.
const NOT_READY_ATTEMPTS: u32 = 10;
/// The same where the CRM refuses the file.
const REFUSED_ATTEMPTS: u32 = 4;
/// After so long a close message is no farewell any more.
const FAREWELL_LATE: Millis = 24 * 3_600_000;
/// Sends made for one lane before others have their turn.
const TURN: usize = 8;

struct Head {
    id: i64,
    origin: Origin,
    parts: Vec<Part>,
    part: usize,
    sending: Option<Sending>,
    attempts: u32,
    customer: Customer,
    /// MAX's time of the newest update of the customer's that is known.
    heard_at: Option<Millis>,
}

impl Head {
    /// The file that must be with MAX before the next part can go.
    fn missing_file(&self) -> Option<&OutFile> {
        let part = self.parts.get(self.part)?;
        part.file.as_ref().filter(|_| part.uploaded.is_none() && self.sending.is_none() && part.odd.is_none())
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
    Settled(Verdict),
}

impl Attempt {
    fn name(&self) -> &'static str {
        match self {
            Self::Later { .. } => "later",
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
            Self::Sent(_) => "sent",
            Self::Done => "done",
            Self::Uploaded(_) => "uploaded",
            Self::AsFile => "as_file",
            Self::Failed { .. } => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// Works on the lane of one customer, but for files: a lane that waits for one is theirs and holds nothing here.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, false).await
}

/// Brings the file of one customer's next part to MAX, with places of its own.
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
        if !files && head.sending.is_none() && !super::owner::is_ours(shared, &active).await {
            return Outcome::Wait(10_000);
        }
        let span = active.delivery("max");
        let tried = match attempt(shared, &active, &head).instrument(span.clone()).await {
            Ok(tried) => tried,
            Err(error) => return shared.store_failed(&error),
        };
        span.record("outcome", tried.name());
        let done = match tried {
            Attempt::Settled(verdict) => finish(shared, &active, head, verdict).instrument(span).await,
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

/// Whether what stands at the head of a queue is still to be sent: an automatic reply only as the rules of this moment would show it,
/// and a farewell not on the next day. Whether it waited for MAX or was replayed is the same.
fn is_wanted(origin: &Origin, created_at: Millis, customer: &Customer, rules: &Rules, now: Millis) -> bool {
    match origin {
        Origin::AutoReply { reply: Some(reply) } => policy::is_wanted(rules, &customer.dialog, reply, now),
        Origin::AutoReply { reply: None } => now - created_at <= policy::LATE,
        Origin::CloseMessage => now - created_at <= FAREWELL_LATE,
        Origin::Agent { .. } | Origin::Bot | Origin::Press => true,
    }
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
        // What may have been sent is not judged.
        if row.part == 0 && sending.is_none() && !is_wanted(&origin, row.created_at, &customer, rules, now) {
            tracing::debug!("a message of the channel's own came too late to be shown and is skipped");
            queue::remove(tx, row.id)?;
            tx.wake(|woken| woken.overdue += 1);
            continue;
        }
        let heard_at = inbox::heard_at(tx, id)?;
        let queue::Row { id, part, attempts, .. } = row;
        return Ok(Some(Head { id, origin, parts, part, sending, attempts, customer, heard_at }));
    }
}

/// A row that cannot be read has ended; what is behind it goes on.
fn set_aside(tx: &Tx<'_>, row: i64, state: State, origin: Option<&Origin>, now: Millis) -> Result<(), StoreError> {
    tracing::error!("an entry of the queue towards MAX cannot be read and is kept as a dead letter");
    let words = "запись очереди в MAX не читается: уточните у клиента, прежде чем отправлять снова";
    queue::end_unread(tx, row, state, words, now)?;
    if let Some(Origin::Agent { row }) = origin {
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

async fn attempt(shared: &Shared, active: &Active, head: &Head) -> Result<Attempt, StoreError> {
    let Some(part) = head.parts.get(head.part) else { return Ok(Verdict::Done.into()) };
    if let Some(words) = &part.odd {
        return Ok(Verdict::Failed { words: words.clone(), gone: false }.into());
    }
    if let Some(sending) = head.sending {
        return look_back(shared, active, head, part, sending).await;
    }
    let to = Recipient::User(head.customer.id);
    if let Some(callback_id) = &part.callback_id {
        let answer = CallbackAnswer { notification: Some("Принято".to_owned()), message: None };
        // Only the spinner hangs on it, and it is worth nothing later.
        let _ = active.max.answer_callback(to, callback_id, &answer).await;
        return Ok(Verdict::Done.into());
    }
    if let Some(file) = head.missing_file() {
        return Ok(upload(shared, active, head, file).await);
    }
    // By MAX's clock, since it is MAX's messages that are held against it: ours may be ahead or behind.
    let since = head.heard_at.unwrap_or_else(|| shared.max_time());
    let sending = Sending { after_seq: head.customer.newest_seq(), since, look_at: None, looks: 0 };
    let row = head.id;
    shared.store.transact(move |tx| queue::note_sending(tx, row, &sending)).await?;
    Ok(match active.max.send(to, &new_message(part)).await {
        Ok(message) => {
            shared.max_answered();
            shared.note_max_time(message.timestamp);
            tracing::debug!(mid = message.mid, part = head.part + 1, of = head.parts.len(), "MAX has taken a message");
            Verdict::Sent(Box::new(message)).into()
        }
        Err(error) if error.may_have_been_sent() => {
            let pause = LOOKS[0].max(asked(&error));
            let sending = Sending { look_at: Some(shared.clock.passed() + pause), ..sending };
            let outcome = if error.is_not_understood() {
                shared.max_failed("MaxNotUnderstood");
                Outcome::Wait(pause)
            } else {
                Outcome::Outage(pause)
            };
            later(head, outcome, Some(sending))
        }
        Err(error) => refusal(shared, head, part, &error),
    })
}

fn later(head: &Head, outcome: Outcome, sending: Option<Sending>) -> Attempt {
    Attempt::Later { outcome, sending, tries: head.tries() }
}

/// How long MAX asks to be left alone.
fn asked(error: &max::Error) -> Millis {
    error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX))
}

fn new_message(part: &Part) -> NewMessage {
    let mut attachments: Vec<OutgoingAttachment> = part.uploaded.clone().into_iter().collect();
    if !part.buttons.is_empty() {
        // One to a row: titles of any length can be read. What exceeds MAX's bounds would make it refuse the whole message.
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let row = |button: &Button| vec![(cut(&button.title, 128), cut(&button.payload, 1024))];
        attachments.push(OutgoingAttachment::keyboard(part.buttons.iter().take(29).map(row).collect()));
    }
    NewMessage { text: part.text.clone(), attachments: (!attachments.is_empty()).then_some(attachments) }
}

/// An answer that says: not sent.
fn refusal(shared: &Shared, head: &Head, part: &Part, error: &max::Error) -> Attempt {
    let outage = |pause: Millis| later(head, Outcome::Outage(pause.max(asked(error))), None);
    let failed = |words: String| Verdict::Failed { words, gone: false }.into();
    let tries = head.tries();
    match error.class() {
        Class::Unauthorized => {
            shared.max_failed(error.code().unwrap_or("Unauthorized"));
            outage(10_000)
        }
        Class::AccountBlocked => {
            shared.max_failed(error.code().unwrap_or("AccountBlocked"));
            outage(60_000)
        }
        Class::Throttled { .. } => {
            shared.metrics.throttled.inc();
            shared.max_failed("throttled");
            outage(1_000)
        }
        Class::RecipientGone => Verdict::Failed {
            words: "клиент остановил бота или удалил диалог".to_owned(),
            gone: true,
        }
        .into(),
        Class::NotReady if tries.not_ready < NOT_READY_ATTEMPTS => Attempt::Later {
            outcome: Outcome::Wait(NOT_READY.millis_after(tries.not_ready)),
            sending: None,
            tries: Tries { not_ready: tries.not_ready + 1, ..tries },
        },
        Class::NotReady => failed("MAX не смог обработать файл".to_owned()),
        Class::ForeignMedia if !matches!(part.uploaded, None | Some(OutgoingAttachment::File(_))) => {
            Verdict::AsFile.into()
        }
        Class::Transient => {
            shared.max_failed("MaxUnreachable");
            outage(pause(head.attempts))
        }
        Class::ForeignMedia
        | Class::NotFound
        | Class::PollRefused
        | Class::Refused
        | Class::TooLarge
        | Class::ForbiddenAddress => failed(format!("MAX отказал: {}", error.message())),
    }
}

async fn upload(shared: &Shared, active: &Active, head: &Head, file: &OutFile) -> Attempt {
    let failed = |words: String| Verdict::Failed { words, gone: false }.into();
    let wait = |pause: Millis, tries| Attempt::Later { outcome: Outcome::Wait(pause), sending: None, tries };
    let tries = head.tries();
    let Some(creatio) = &active.creatio else { return wait(5_000, tries) };
    let bytes: Bytes = match creatio.download_file(file.id, super::LARGEST_FILE).await {
        Ok(Some(download)) => download.bytes,
        // The agent's own request may not have ended yet.
        Ok(None) if tries.absent < NOT_READY_ATTEMPTS => {
            return wait(ABSENT.millis_after(tries.absent), Tries { absent: tries.absent + 1, ..tries });
        }
        Ok(None) => return failed(format!("CRM не отдаёт файл «{}»", file.name)),
        Err(error) if error.class() == crate::creatio::Class::TooLarge => {
            return failed(format!("файл «{}» слишком велик", file.name));
        }
        Err(error) => {
            use crate::creatio::Class as Crm;
            let asked =
                error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
            let pause = pause(head.attempts).max(asked);
            let counted = match error.class() {
                // An outage of the CRM says nothing about the file, and nothing that was counted in it counts.
                _ if !shared.crm_is_well() => Tries { refused: 0, failed: 0, ..tries },
                Crm::Throttled { .. } | Crm::CredentialsInvalid => tries,
                Crm::Transient | Crm::Unreachable => Tries { failed: tries.failed + 1, ..tries },
                _ => Tries { refused: tries.refused + 1, ..tries },
            };
            // Everything else of the CRM is well, so it is this file, and the customer's next messages wait behind it.
            if counted.failed >= NOT_READY_ATTEMPTS || counted.refused >= REFUSED_ATTEMPTS {
                return failed(format!("CRM не отдаёт файл «{}»", file.name));
            }
            return wait(pause, counted);
        }
    };
    match active.max.upload(upload_kind(file), &file.name, &file.mime_type, bytes).await {
        Ok(uploaded) => Verdict::Uploaded(uploaded).into(),
        Err(error) => refusal(shared, head, &head.parts[head.part], &error),
    }
}

/// What MAX takes as a picture, film or sound; everything else is a file (MAX Bot API reference, "Limits").
fn upload_kind(file: &OutFile) -> UploadKind {
    let subtype = file.mime_type.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    match file.kind {
        MessageType::Image if ["jpg", "jpeg", "png", "gif", "tiff", "bmp", "heic"].contains(&subtype.as_str()) => {
            UploadKind::Image
        }
        MessageType::Video if ["mp4", "quicktime", "mov", "x-matroska", "mkv", "webm"].contains(&subtype.as_str()) => {
            UploadKind::Video
        }
        MessageType::Audio => UploadKind::Audio,
        _ => UploadKind::File,
    }
}

/// Looks whether a send without an answer is in the dialog.
async fn look_back(
    shared: &Shared,
    active: &Active,
    head: &Head,
    part: &Part,
    sending: Sending,
) -> Result<Attempt, StoreError> {
    let now = shared.clock.passed();
    let look_at = sending.look_at.unwrap_or(now + LOOKS[0]);
    let sending = Sending { look_at: Some(look_at), ..sending };
    if look_at > now {
        return Ok(later(head, Outcome::Wait(look_at - now), Some(sending)));
    }
    let looks = sending.looks + 1;
    // Not found: once more after a while, then it was not sent.
    let again =
        LOOKS.get(looks).map(|next| Sending { looks, look_at: Some(look_at + next - LOOKS[looks - 1]), ..sending });
    let Some(chat_id) = head.customer.chat_id else {
        // Without the dialog's id there is nothing to look into.
        return Ok(match again {
            Some(again) => later(head, Outcome::Wait(0), Some(again)),
            None => Verdict::Uncertain.into(),
        });
    };
    shared.metrics.look_backs.inc();
    let history = match active.max.messages(chat_id, History { before: None, after: None, count: 100 }).await {
        Ok(history) => history,
        Err(error) => {
            let refused =
                error.status().is_some_and(|status| (400..500).contains(&status) && status != 401 && status != 429)
                    || matches!(error.class(), Class::Refused | Class::NotFound | Class::RecipientGone);
            return Ok(if refused {
                Verdict::Uncertain.into()
            } else {
                later(head, Outcome::Outage(asked(&error).max(2_000)), Some(sending))
            });
        }
    };
    let bot = active.config.channel.bot_user_id;
    let mut candidates: Vec<Message> =
        history.into_iter().filter(|message| is_match(message, part, bot, &sending)).collect();
    candidates.sort_by_key(|message| (message.timestamp, message.seq));
    let mids: Vec<String> = candidates.iter().map(|message| message.mid.clone()).collect();
    let ours = shared.store.transact(move |tx| sent::are_ours(tx, &mids)).await?;
    if let Some(found) = candidates.into_iter().zip(ours).find_map(|(message, ours)| (!ours).then_some(message)) {
        return Ok(Verdict::Sent(Box::new(found)).into());
    }
    Ok(later(head, Outcome::Wait(0), again))
}

fn is_match(message: &Message, part: &Part, bot: i64, sending: &Sending) -> bool {
    let words = |text: &Option<String>| text.as_deref().unwrap_or_default().trim().to_owned();
    let files =
        message.attachments.iter().filter(|attachment| !matches!(attachment, Attachment::InlineKeyboard)).count();
    let newer = match sending.after_seq {
        Some(seq) => message.seq > seq,
        // Clocks of different machines: a minute of doubt is on the side of not sending twice.
        None => message.timestamp >= sending.since - 60_000,
    };
    message.sender.as_ref().is_some_and(|sender| sender.id == bot)
        && newer
        && words(&message.text) == words(&part.text)
        && files == usize::from(part.uploaded.is_some() || part.file.is_some())
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
                    customer.chat_id = customer.chat_id.or(message.recipient.chat_id);
                    customer.bot_seq = customer.bot_seq.max(Some(message.seq));
                    sent::insert(tx, &message.mid, customer.id, now)?;
                    parts[next].mid = Some(message.mid);
                    parts[next].sent_at = Some(message.timestamp);
                    next += 1;
                    (next >= parts.len()).then_some((State::Sent, None))
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
            match &ended {
                Some((state, words)) => {
                    queue::end(tx, head.id, &parts, next, (*state, words.as_deref()), now)?;
                    conclude(stepper, &customer, &head, *state, words.as_deref().unwrap_or_default())?;
                }
                None => queue::advance(tx, head.id, &parts, next)?,
            }
            customer.save(tx, stepper.rules)?;
            Ok(ended.map(|(state, _)| state))
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
        Origin::Agent { row } => outbox::note_report(stepper.tx, *row, &report_of(state, words))?,
        _ if state == State::Failed => queue::mark_recorded(stepper.tx, head.id)?,
        // A close message belongs to the chat that is over: the CRM adds it to the newest one.
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
