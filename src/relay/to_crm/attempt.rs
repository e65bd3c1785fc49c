//! One call to the CRM for the head of a queue, and what its answer is worth.

use std::time::Duration;

use uuid::Uuid;

use super::{Attempt, Head, Verdict, add_line, files};
use crate::contract::Trouble;
use crate::creatio::{self, Author, ChatStatus, Direction, ErrorCode, MessageType, Receive, ReceiveAnswer};
use crate::relay::active::Active;
use crate::relay::dialogs::after_the_close;
use crate::relay::lanes::Outcome;
use crate::relay::pause;
use crate::relay::placing::is_before;
use crate::relay::render::{self, Incoming};
use crate::relay::state::Shared;
use crate::relay::store::closing;
use crate::relay::store::customer::Customer;
use crate::relay::store::to_crm::CrmTask;
use crate::relay::trouble;
use crate::time::{Backoff, Millis};

/// How long a call that was slow while others waited is left to itself.
const GAVE_WAY_PAUSE: Millis = 5_000;
/// Between questions after what Creatio has only queued (wire contract, "queued:true is no
/// acknowledgement").
const QUEUED: Backoff = Backoff::Steps(&[Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)]);
/// How often an unclear closing is tried before the customer's lane goes on without it.
const CLOSE_ATTEMPTS: u32 = 6;

/// One call for the head of a queue.
pub(super) async fn attempt(shared: &Shared, active: &Active, creatio: &creatio::Client, head: &Head) -> Attempt {
    if let Some((incoming, index)) = head.missing_file() {
        return files::store(shared, active, creatio, head, incoming, index).await;
    }
    match &head.task {
        CrmTask::Message { incoming, stand_by, own } => {
            // On disk before the first call: a repeat says the same, whatever has become of the
            // chat meanwhile.
            if !*own && !incoming.placed {
                return match chat_is_open(creatio, &head.customer).await {
                    Ok(true) => {
                        let incoming = Incoming { placed: true, ..incoming.clone() };
                        Verdict::Changed(CrmTask::Message { incoming, stand_by: *stand_by, own: false }).into()
                    }
                    Ok(false) => Verdict::Changed(after_the_close(incoming, head.timestamp)).into(),
                    Err(error) => failure(shared, head, &error),
                };
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

/// Whether the customer's chat is open in the CRM, where it may be closed before anybody has told.
/// What is no appeal asks first, for it would open another.
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
        Some(ErrorCode::ChannelNotFound) => {
            shared.crm_failed(Trouble::ChannelNotFound);
            Attempt::later(Outcome::Outage(30_000))
        }
        Some(ErrorCode::ChannelInactive) => {
            shared.crm_failed(Trouble::ChannelInactive);
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

pub(super) fn failure(shared: &Shared, head: &Head, error: &creatio::Error) -> Attempt {
    if error.gave_way() {
        // The call may go on in the CRM; its repeat is answered as what it is.
        return Attempt::later(Outcome::Unclear(GAVE_WAY_PAUSE));
    }
    if let Some(trouble) = trouble::of_crm(error) {
        shared.crm_failed(trouble);
    }
    let outage = |pause: Millis| {
        let asked = error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
        Attempt::later(Outcome::Outage(pause.max(asked)))
    };
    match error.class() {
        creatio::Class::CredentialsInvalid
        | creatio::Class::AccessDenied
        | creatio::Class::PackageMissing
        | creatio::Class::WrongAddress => outage(10_000),
        creatio::Class::Throttled { .. } | creatio::Class::Transient | creatio::Class::Unreachable => {
            outage(pause(head.attempts))
        }
        creatio::Class::BadRequest => Verdict::Refused(error.to_string()).into(),
        creatio::Class::NotUnderstood
        | creatio::Class::NotFound
        | creatio::Class::AlreadyExists
        | creatio::Class::InUse
        | creatio::Class::TooLarge => Attempt::later(Outcome::Wait(pause(head.attempts))),
    }
}

/// The chat itself is asked first: after an unclear closing it may be over already, and one that
/// was transferred goes on as another, which closing the old one would leave open without a word.
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
        // The site answers 500 for a chat that it cannot complete; the customer must not wait for
        // it for ever.
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

/// A chat that the technical user does not see: it may be open, so nobody may be told that it is
/// over, unless the outbox has said so.
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
