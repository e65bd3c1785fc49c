//! From the queue of a customer into Creatio: receive, history, hand-over, close, one call at a time and in order.
//!
//! What keeps promises 2 and 3 of [`super`]: a row is marked as attempted, with its time stamp, before the first call, and from then
//! on nothing passes it; it is finished in the same transaction that steps the dialog. `queued:true` is no acknowledgement. A row
//! that Creatio will never take becomes a dead letter and the agent is told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument as _;
use url::Url;
use uuid::Uuid;

use super::lanes::{CustomerId, Outcome};
use super::metrics::Way;
use super::placing::is_before;
use super::render::{self, Incoming, IncomingFile, StoredFile};
use super::store::customer::Customer;
use super::store::to_crm::{self as queue, CrmTask};
use super::store::{Position, StoreError, Tx, closing};
use super::{Active, Shared, pause};
use crate::creatio::{self, Author, ChatStatus, Direction, ErrorCode, FileUpload, MessageType, Receive, ReceiveAnswer};
use crate::max;
use crate::policy::{ClosedBy, Event, Receiver};
use crate::time::{Backoff, Millis};

/// Calls made for one lane before others have their turn.
const TURN: usize = 16;
/// How often the fetching of one file is tried before the message goes without it: of one that fails while others come, and of one
/// that fails while none comes, which may be an outage of the file host.
const FILE_ATTEMPTS: u32 = 8;
const FILE_OUTAGES: u32 = 60;
/// How long a call that was slow while others waited is left to itself.
const GAVE_WAY_PAUSE: Millis = 5_000;
/// How the keys of lines begin that are the relay's own.
const NOTE: &str = "note:";
/// How long a new appeal waits before it is looked at again while nobody takes any; a changed manifest rouses it at once.
const RECEIVER_PAUSE: Millis = 30_000;
/// Between questions after what Creatio has only queued (wire contract, "queued:true is no acknowledgement").
const QUEUED: Backoff = Backoff::Steps(&[Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)]);
/// How often an unclear closing is tried before the customer's lane goes on without it.
const CLOSE_ATTEMPTS: u32 = 6;

/// The head of a customer's queue, marked as attempted.
struct Head {
    id: i64,
    task: CrmTask,
    attempts: u32,
    position: Position,
    timestamp: Millis,
    /// It is a new appeal, and nobody is chosen to take any.
    waits: bool,
    customer: Customer,
}

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

/// Works on the lane of one customer, but for files: a lane that waits for one is theirs and holds nothing here.
pub(super) async fn serve(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, false).await
}

/// Brings the files of one customer's next message into the CRM, with places of their own.
pub(super) async fn serve_files(shared: &Shared, customer: CustomerId) -> Outcome {
    work(shared, customer, true).await
}

async fn work(shared: &Shared, customer: CustomerId, files: bool) -> Outcome {
    let Some(active) = shared.active().filter(|active| active.creatio.is_some()) else { return Outcome::Wait(1_000) };
    let mut proved = false;
    let mut head = match load(shared, &active, customer).await {
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
        let trying = attempt(shared, &active, creatio, &head).instrument(span.clone());
        let tried = match shared.to_crm.knock_limit(customer).filter(|_| !files) {
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
        // A dialog whose chat the agents have goes on, and so does what may have reached the CRM before.
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

/// A row that cannot be read becomes a dead letter in its place, and a note in the dialog says so: what is behind it goes on.
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

async fn attempt(shared: &Shared, active: &Active, creatio: &creatio::Client, head: &Head) -> Attempt {
    if let Some((incoming, index)) = head.missing_file() {
        return store_file(shared, active, creatio, head, incoming, index).await;
    }
    match &head.task {
        CrmTask::Message { incoming, stand_by, own } => {
            if !*own {
                match chat_is_open(creatio, &head.customer).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let CrmTask::History { external_id, author, text, sent_at } =
                            super::dialogs::after_the_close(incoming, head.timestamp)
                        else {
                            return Verdict::Needless.into();
                        };
                        return receive(
                            shared,
                            creatio,
                            head,
                            &history(active, head, external_id, author, text, sent_at),
                        )
                        .await;
                    }
                    Err(error) => return failure(shared, head, &error),
                }
            }
            let is_late = *own && head.customer.delivered.is_some_and(|delivered| is_before(head.position, delivered));
            if is_late && head.attempts == 0 {
                shared.metrics.late.inc();
            }
            let call = message(active, head, incoming, *stand_by, is_late);
            receive(shared, creatio, head, &call).await
        }
        CrmTask::History { external_id, author, text, sent_at } => {
            let call = history(active, head, external_id.clone(), *author, text.clone(), *sent_at);
            receive(shared, creatio, head, &call).await
        }
        CrmTask::HandOver => {
            let Some(chat) = head.customer.dialog.chat() else { return Verdict::Needless.into() };
            match creatio.hand_over(chat).await {
                Ok(answer) if answer.success => taken(shared, head, answer.queued, answer.chat_id),
                Ok(answer) => refusal(shared, head, answer.error_code.as_ref(), &answer.error_message),
                Err(error) => failure(shared, head, &error),
            }
        }
        CrmTask::Close { chat, refused } => close(shared, creatio, head, *chat, *refused).await,
    }
}

/// Whether the customer's chat is open in the CRM, where it may be closed before anybody has told. What is no appeal asks first, for
/// it would open another.
async fn chat_is_open(creatio: &creatio::Client, customer: &Customer) -> Result<bool, creatio::Error> {
    let Some(chat) = customer.dialog.chat().filter(|_| customer.dialog.has_open_chat()) else { return Ok(false) };
    Ok(match creatio.chat(chat).await? {
        None => true,
        Some(row) => match row.status {
            ChatStatus::Waiting | ChatStatus::InProgress | ChatStatus::BotProcessing => true,
            // Transferred, it goes on as its child.
            ChatStatus::Completed
            | ChatStatus::CompletedByBot
            | ChatStatus::HandedOverToAgent
            | ChatStatus::Other(_) => !creatio.children(chat).await?.is_empty(),
        },
    })
}

fn history(
    active: &Active,
    head: &Head,
    external_id: String,
    author: Author,
    text: String,
    sent_at: Millis,
) -> Receive {
    Receive {
        external_id,
        timestamp: sent_at,
        direction: Direction::Outgoing,
        author,
        text,
        ..blank(active, &head.customer)
    }
}

fn blank(active: &Active, customer: &Customer) -> Receive {
    Receive {
        external_id: String::new(),
        channel_source: active.config.channel.channel_source(),
        sender: format!("max:{}", customer.id),
        name: customer.name.clone(),
        phone: String::new(),
        timestamp: 0,
        direction: Direction::Incoming,
        author: Author::Customer,
        text: String::new(),
        kind: MessageType::Text,
        replaces_external_id: String::new(),
        stand_by: false,
        attachments: Vec::new(),
    }
}

fn message(active: &Active, head: &Head, incoming: &Incoming, stand_by: bool, is_late: bool) -> Receive {
    let attachments: Vec<creatio::Attachment> = incoming
        .files
        .iter()
        .filter_map(|file| {
            let stored = file.stored.as_ref()?;
            Some(creatio::Attachment {
                id: file.id,
                name: file.name.clone(),
                mime_type: stored.mime_type.clone(),
                size: stored.size,
                kind: file.kind,
            })
        })
        .collect();
    Receive {
        external_id: incoming.external_id.clone(),
        timestamp: head.timestamp,
        text: if is_late { render::late(&incoming.text, head.position.0) } else { incoming.text.clone() },
        kind: attachments.last().map_or(MessageType::Text, |last| last.kind),
        replaces_external_id: incoming.replaces.clone(),
        stand_by,
        attachments,
        ..blank(active, &head.customer)
    }
}

async fn receive(shared: &Shared, creatio: &creatio::Client, head: &Head, call: &Receive) -> Attempt {
    match creatio.receive(call).await {
        Ok(answer) if answer.success => {
            let ReceiveAnswer { duplicate, queued, .. } = answer;
            tracing::debug!(external_id = call.external_id, duplicate, queued, "the CRM has answered to a message");
            taken(shared, head, queued, answer.chat_id)
        }
        Ok(answer) => refusal(shared, head, answer.error_code.as_ref(), &answer.error_message),
        Err(error) => failure(shared, head, &error),
    }
}

/// What a success is worth: `queued` is no acknowledgement.
fn taken(shared: &Shared, head: &Head, queued: bool, chat: Option<Uuid>) -> Attempt {
    if queued {
        return Attempt::later(Outcome::Wait(QUEUED.millis_after(head.attempts)));
    }
    shared.crm_answered();
    Verdict::Taken { chat }.into()
}

/// The table of error codes of the wire contract.
fn refusal(shared: &Shared, head: &Head, code: Option<&ErrorCode>, words: &str) -> Attempt {
    match code {
        Some(code @ (ErrorCode::ChannelNotFound | ErrorCode::ChannelInactive)) => {
            shared.crm_failed(code.as_str());
            Attempt::later(Outcome::Outage(30_000))
        }
        Some(ErrorCode::FileNotFound) => match &head.task {
            CrmTask::Message { incoming, stand_by, own } => {
                let mut again = incoming.clone();
                if again.files.iter().all(|file| !file.lost) {
                    for file in &mut again.files {
                        file.stored = None;
                        file.lost = true;
                    }
                } else {
                    for file in again.files.drain(..) {
                        add_line(&mut again.text, &render::missing_file(&file.name, "CRM его не находит"));
                    }
                }
                Verdict::Changed(CrmTask::Message { incoming: again, stand_by: *stand_by, own: *own }).into()
            }
            _ => Verdict::Refused(words.to_owned()).into(),
        },
        Some(ErrorCode::BadRequest) => Verdict::Refused(words.to_owned()).into(),
        Some(ErrorCode::Internal | ErrorCode::Other(_)) | None => Attempt::later(Outcome::Wait(pause(head.attempts))),
    }
}

fn failure(shared: &Shared, head: &Head, error: &creatio::Error) -> Attempt {
    if error.gave_way() {
        // The call may go on in the CRM; its repeat is answered as what it is.
        return Attempt::later(Outcome::Unclear(GAVE_WAY_PAUSE));
    }
    let outage = |code, pause: Millis| {
        shared.crm_failed(code);
        let asked = error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
        Attempt::later(Outcome::Outage(pause.max(asked)))
    };
    match error.class() {
        creatio::Class::CredentialsInvalid => outage("CredentialsInvalid", 10_000),
        creatio::Class::AccessDenied => outage("AccessDenied", 10_000),
        creatio::Class::PackageMissing => outage("PackageMissing", 10_000),
        creatio::Class::WrongAddress => outage("CrmUnreachable", 10_000),
        creatio::Class::Throttled { .. } => outage("Throttled", pause(head.attempts)),
        creatio::Class::NotUnderstood => {
            shared.crm_failed("CrmNotUnderstood");
            Attempt::later(Outcome::Wait(pause(head.attempts)))
        }
        creatio::Class::Transient | creatio::Class::Unreachable => outage("CrmUnreachable", pause(head.attempts)),
        creatio::Class::BadRequest => Verdict::Refused(error.to_string()).into(),
        creatio::Class::NotFound | creatio::Class::AlreadyExists | creatio::Class::InUse | creatio::Class::TooLarge => {
            Attempt::later(Outcome::Wait(pause(head.attempts)))
        }
    }
}

/// The chat itself is asked first: after an unclear closing it may be over already, and one that was transferred goes on as another,
/// which closing the old one would leave open without a word.
async fn close(shared: &Shared, creatio: &creatio::Client, head: &Head, chat: Uuid, refused: u32) -> Attempt {
    match creatio.chat(chat).await {
        Ok(None) => return hidden(shared, chat).await,
        Ok(Some(row)) => {
            shared.note_hidden_chat(chat, false);
            let has_ended = matches!(row.status, ChatStatus::Completed | ChatStatus::CompletedByBot);
            if has_ended || row.status == ChatStatus::HandedOverToAgent {
                return match creatio.children(chat).await {
                    Ok(children) => match children.last() {
                        Some(child) => Verdict::Moved { parent: chat, chat: child.id }.into(),
                        // The child of a hand-over comes a moment later.
                        None if !has_ended && head.attempts < CLOSE_ATTEMPTS => {
                            Attempt::later(Outcome::Wait(pause(head.attempts)))
                        }
                        None => Verdict::Closed { chat }.into(),
                    },
                    Err(error) => failure(shared, head, &error),
                };
            }
        }
        Err(error) => return failure(shared, head, &error),
    }
    match creatio.close_chat(chat).await {
        Ok(()) => {
            shared.crm_answered();
            Verdict::Closed { chat }.into()
        }
        // The site answers 500 for a chat that it cannot complete; the customer must not wait for it for ever.
        Err(error) if error.status() == Some(500) && refused + 1 >= CLOSE_ATTEMPTS => {
            Verdict::Refused(error.to_string()).into()
        }
        Err(error) if error.status() == Some(500) => {
            let counted = CrmTask::Close { chat, refused: refused + 1 };
            Attempt::Later(Outcome::Wait(pause(refused)), Some(counted))
        }
        Err(error) => failure(shared, head, &error),
    }
}

/// A chat that the technical user does not see: it may be open, so nobody may be told that it is over, unless the outbox has said so.
async fn hidden(shared: &Shared, chat: Uuid) -> Attempt {
    let known = shared.store.transact(move |tx| closing::contains(tx, chat)).await;
    match known {
        Ok(true) => {
            shared.note_hidden_chat(chat, false);
            Verdict::Needless.into()
        }
        Ok(false) => {
            shared.note_hidden_chat(chat, true);
            tracing::warn!(%chat, "the technical user cannot see a chat that is to be closed: give it the right to read all chats");
            Attempt::later(Outcome::Wait(10_000))
        }
        Err(error) => Attempt::later(shared.store_failed(&error)),
    }
}

/// Fetches one file from MAX and puts it into the CRM; the message goes on without it where that cannot be.
async fn store_file(
    shared: &Shared,
    active: &Active,
    creatio: &creatio::Client,
    head: &Head,
    incoming: &Incoming,
    index: usize,
) -> Attempt {
    let CrmTask::Message { stand_by, own, .. } = &head.task else { return Verdict::Needless.into() };
    let task = |incoming| CrmTask::Message { incoming, stand_by: *stand_by, own: *own };
    let changed = |incoming| Verdict::Changed(task(incoming)).into();
    let without = |reason: &str| {
        let mut rest = incoming.clone();
        let file = rest.files.remove(index);
        add_line(&mut rest.text, &render::missing_file(&file.name, reason));
        changed(rest)
    };
    let file = &incoming.files[index];
    let fetched = shared.files_fetched.load(Ordering::Relaxed);
    let (bytes, mime_type, name) = match fetch(&active.max, file, shared.largest_file()).await {
        Ok(found) => found,
        Err(FetchError::NoAddress) => return without("у него нет адреса"),
        Err(FetchError::Max(error)) => {
            let mut counted = incoming.clone();
            let tried = &mut counted.files[index];
            match error.class() {
                max::Class::TooLarge => return without("он больше, чем принимает CRM"),
                max::Class::ForbiddenAddress => return without("он лежит не на серверах MAX"),
                max::Class::NotFound => return without("MAX его больше не отдаёт"),
                max::Class::Refused => return without("MAX его не отдаёт"),
                // These say nothing about the file.
                max::Class::Unauthorized | max::Class::AccountBlocked | max::Class::Throttled { .. } => {}
                // Others came meanwhile, or the host answered for this one: it is this file.
                _ if error.status() == Some(500) || shared.files_fetched.load(Ordering::Relaxed) > fetched => {
                    tried.failures += 1;
                }
                _ => tried.outages += 1,
            }
            if tried.failures >= FILE_ATTEMPTS || tried.outages >= FILE_OUTAGES {
                return without("MAX его не отдаёт");
            }
            let asked =
                error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
            let pause = pause(tried.failures.max(head.attempts)).max(asked);
            return Attempt::Later(Outcome::Wait(pause), Some(task(counted)));
        }
    };
    shared.files_fetched.fetch_add(1, Ordering::Relaxed);
    let size = bytes.len() as u64;
    match creatio.upload_file(file.id, &name, &mime_type, bytes).await {
        Ok(FileUpload::Stored { .. }) => {
            let mut with = incoming.clone();
            with.files[index].name = name;
            with.files[index].stored = Some(StoredFile { mime_type, size });
            changed(with)
        }
        Ok(FileUpload::TooBig { max_bytes }) => {
            if let Some(limit) = max_bytes {
                shared.set_largest_file(limit);
            }
            without("он больше, чем принимает CRM")
        }
        Err(error) => failure(shared, head, &error),
    }
}

/// Why a file cannot be had from MAX.
enum FetchError {
    NoAddress,
    Max(max::Error),
}

impl From<max::Error> for FetchError {
    fn from(error: max::Error) -> Self {
        Self::Max(error)
    }
}

fn address_of(attachment: &max::Attachment) -> Option<&Url> {
    match attachment {
        max::Attachment::Image(image) => image.url.as_ref(),
        max::Attachment::Video(video) => video.url.as_ref(),
        max::Attachment::Audio(audio) => audio.url.as_ref(),
        max::Attachment::File(file) => file.url.as_ref(),
        _ => None,
    }
}

async fn fetch(max: &max::Client, file: &IncomingFile, largest: usize) -> Result<(Bytes, String, String), FetchError> {
    let mut address = file.url.clone();
    if let (None, Some(token)) = (&address, &file.video_token) {
        address = max.video(token).await?.mp4.into_iter().next().map(|(_, url)| url);
    }
    let first = match &address {
        Some(url) => Some(max.download(url, largest).await),
        None => None,
    };
    let download = match first {
        Some(Ok(download)) => download,
        Some(Err(error)) if ![max::Class::NotFound, max::Class::Refused].contains(error.class()) => {
            return Err(error.into());
        }
        // Addresses expire; the message itself has a fresh one.
        expired_or_none => {
            let fresh = max.message(&file.mid).await?;
            let attachments = match fresh.link {
                Some(link) if file.in_link => link.attachments,
                _ => fresh.attachments,
            };
            let url = attachments.get(file.index).and_then(address_of).filter(|url| Some(*url) != address.as_ref());
            match (url, expired_or_none) {
                (Some(url), _) => max.download(url, largest).await?,
                (None, Some(Err(error))) => return Err(error.into()),
                (None, _) => return Err(FetchError::NoAddress),
            }
        }
    };
    let name = match file.kind {
        MessageType::File => file.name.clone(),
        _ => with_extension(&file.name, &download.mime),
    };
    Ok((download.bytes, download.mime, name))
}

/// Pictures, sounds and films come without a name: theirs ends as their content says.
fn with_extension(name: &str, mime_type: &str) -> String {
    let extension = match mime_type {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "audio/mpeg" => "mp3",
        "audio/ogg" => "ogg",
        "audio/mp4" => "m4a",
        _ => return name.to_owned(),
    };
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{extension}")
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
                    queue::remove(tx, head.id)?;
                    customer.crm_timestamp = customer.crm_timestamp.max(head.timestamp);
                    if *own {
                        customer.delivered = customer.delivered.max(Some(head.position));
                    }
                    // An edit, too, may turn out to have opened a chat: whoever closed the one before was faster.
                    if let Some(chat) = chat {
                        let event = Event::Taken { message: incoming.external_id.clone(), chat };
                        stepper.step(&mut customer, &event, None)?;
                    }
                }
                (Verdict::Taken { chat }, CrmTask::HandOver) => {
                    queue::remove(tx, head.id)?;
                    if let (Some(parent), Some(chat)) = (customer.dialog.chat(), chat)
                        && parent != chat
                    {
                        stepper.step(&mut customer, &Event::Transferred { parent, chat }, None)?;
                    }
                }
                (Verdict::Moved { parent, chat }, _) => {
                    queue::remove(tx, head.id)?;
                    stepper.step(&mut customer, &Event::Transferred { parent, chat }, None)?;
                }
                (Verdict::Closed { chat }, _) => {
                    queue::remove(tx, head.id)?;
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
                            // Nobody reads the history of a chat that is not there: the note itself calls the agents.
                            let note = Incoming { external_id, text, ..Incoming::default() };
                            let task = CrmTask::Message { incoming: note, stand_by: *stand_by, own: true };
                            stepper.queue_for_crm(&customer, &task, head.position)?;
                        }
                    }
                }
                (Verdict::Taken { .. } | Verdict::Needless, _) => queue::remove(tx, head.id)?,
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
