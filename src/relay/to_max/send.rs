//! One call to MAX for the part that is next, and what its answer is worth.

use std::time::Duration;

use bytes::Bytes;

use super::{Attempt, Head, Verdict, look_back, through_mango};
use crate::creatio::MessageType;
use crate::max::{self, CallbackAnswer, Class, NewMessage, OutgoingAttachment, Recipient, UploadKind};
use crate::relay::active::Active;
use crate::relay::lanes::Outcome;
use crate::relay::mango::Mango;
use crate::relay::pause;
use crate::relay::state::{LARGEST_FILE, Shared};
use crate::relay::store::StoreError;
use crate::relay::store::to_max::{self as queue, Button, OutFile, Part, Sending, Tries};
use crate::time::{Backoff, Millis};

/// While MAX is still processing a file.
const NOT_READY: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));
/// While the CRM has not written a file yet.
const ABSENT: Backoff = Backoff::doubling(Duration::from_millis(500), Duration::from_secs(30));
/// How often MAX is asked again for a file that it is still processing, or the CRM for one that it
/// has not written yet.
const NOT_READY_ATTEMPTS: u32 = 10;
/// The same where the CRM refuses the file.
const REFUSED_ATTEMPTS: u32 = 4;

/// One call for the part that is next.
pub(super) async fn attempt(shared: &Shared, active: &Active, head: &Head) -> Result<Attempt, StoreError> {
    let Some(part) = head.parts.get(head.part) else { return Ok(Verdict::Done.into()) };
    if let Some(words) = &part.odd {
        return Ok(Verdict::Failed { words: words.clone(), gone: false }.into());
    }
    if let Some(mango) = way_by_mango(active, head) {
        return through_mango::send(shared, active, mango, head, part).await;
    }
    if let Some(sending) = head.sending {
        return look_back::look_back(shared, active, head, part, sending).await;
    }
    let to = Recipient::User(head.customer.id.user_id());
    if let Some(callback_id) = &part.callback_id {
        let answer = CallbackAnswer { notification: Some("Принято".to_owned()), message: None };
        // Only the spinner hangs on it, and it is worth nothing later.
        let _ = active.max.answer_callback(to, callback_id, &answer).await;
        return Ok(Verdict::Done.into());
    }
    if let Some(file) = head.missing_file() {
        return Ok(upload(shared, active, head, file).await);
    }
    // By MAX's clock, since it is MAX's messages that are held against it: ours may be ahead or
    // behind.
    let since = head.heard_at.unwrap_or_else(|| shared.max_time());
    let sending = Sending::now(head.customer.newest_seq(), since, false);
    let turn = active.max.turn(to).await;
    // Much may have come about while it waited for its turn.
    if !begin(shared, active, head, sending).await? {
        return Ok(Attempt::Overtaken);
    }
    Ok(match active.max.send_in(turn, &new_message(part)).await {
        Ok(message) => {
            shared.max_answered();
            shared.note_max_time(message.timestamp);
            tracing::debug!(mid = %message.mid, part = head.part + 1, of = head.parts.len(), "MAX has taken a message");
            Verdict::Sent(Box::new(message)).into()
        }
        Err(error) if error.may_have_been_sent() => {
            let pause = look_back::LOOKS[0].max(asked(&error));
            let sending = Sending { look_at: Some(shared.clock.passed() + pause), ..sending };
            let outcome = if error.is_not_understood() {
                shared.max_failed(&error, None);
                Outcome::Wait(pause)
            } else {
                Outcome::Outage(pause)
            };
            later(head, outcome, Some(sending))
        }
        Err(error) => refusal(shared, head, part, &error),
    })
}

/// MANGO OFFICE, where the part goes that way. What may have left for MAX is looked for there
/// first, whatever the way is now.
fn way_by_mango<'a>(active: &'a Active, head: &Head) -> Option<&'a Mango> {
    match (head.sending, &active.mango, &active.left) {
        (None, Some(mango), _) => Some(mango),
        (Some(sending), Some(mango), _) if sending.by_mango => Some(mango),
        // Its dialog at MAX is not known: whether it has left only a repeat under its name can
        // show.
        (Some(sending), None, Some(left)) if sending.by_mango && head.is_unseen() => Some(left),
        _ => None,
    }
}

/// Writes the note of a send that is about to leave. False, and nothing is written: it must not
/// leave any more, because the settings are others, the person was erased, or the rules of this
/// moment do not want it.
pub(super) async fn begin(shared: &Shared, active: &Active, head: &Head, sending: Sending) -> Result<bool, StoreError> {
    let is_in_force =
        shared.active().is_some_and(|now| std::ptr::eq(&raw const *now, active) && !now.config.channel.suspended);
    if !is_in_force {
        return Ok(false);
    }
    let (rules, now, id, row) = (active.rules.clone(), shared.clock.now(), head.customer.id, head.id);
    shared
        .store
        .transact(move |tx| {
            let head = super::load_head(tx, id, &rules, now)?.filter(|head| head.id == row && head.sending.is_none());
            if head.is_some() {
                queue::note_sending(tx, row, &sending)?;
            }
            Ok(head.is_some())
        })
        .await
}

pub(super) fn later(head: &Head, outcome: Outcome, sending: Option<Sending>) -> Attempt {
    Attempt::Later { outcome, sending, tries: head.tries() }
}

/// How long MAX asks to be left alone.
pub(super) fn asked(error: &max::Error) -> Millis {
    error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX))
}

fn new_message(part: &Part) -> NewMessage {
    let mut attachments: Vec<OutgoingAttachment> = part.uploaded.clone().into_iter().collect();
    if !part.buttons.is_empty() {
        // One to a row: titles of any length can be read. What exceeds MAX's bounds would make it
        // refuse the whole message.
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
    shared.max_failed(error, None);
    match error.class() {
        Class::Unauthorized => outage(10_000),
        Class::AccountBlocked => outage(60_000),
        Class::Throttled { .. } => {
            shared.metrics.throttled.inc();
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
        Class::Transient => outage(pause(head.attempts)),
        Class::ForeignMedia
        | Class::NotFound
        | Class::PollRefused
        | Class::Refused
        | Class::TooLarge
        | Class::ForbiddenAddress => failed(format!("MAX отказал: {}", error.message())),
    }
}

async fn upload(shared: &Shared, active: &Active, head: &Head, file: &OutFile) -> Attempt {
    let bytes = match download(shared, active, head, file).await {
        Ok(bytes) => bytes,
        Err(instead) => return *instead,
    };
    match active.max.upload(upload_kind(file), &file.name, &file.mime_type, bytes).await {
        Ok(uploaded) => Verdict::Uploaded(uploaded).into(),
        Err(error) => refusal(shared, head, &head.parts[head.part], &error),
    }
}

/// A file of the CRM's, or what becomes of the try instead.
pub(super) async fn download(
    shared: &Shared,
    active: &Active,
    head: &Head,
    file: &OutFile,
) -> Result<Bytes, Box<Attempt>> {
    let failed = |words: String| Err(Box::new(Verdict::Failed { words, gone: false }.into()));
    let wait = |pause: Millis, tries| {
        let outcome = Outcome::Wait(pause);
        Err(Box::new(Attempt::Later { outcome, sending: head.sending, tries }))
    };
    let tries = head.tries();
    let Some(creatio) = &active.creatio else { return wait(5_000, tries) };
    match creatio.download_file(file.id, LARGEST_FILE).await {
        Ok(Some(download)) => Ok(download.bytes),
        // The agent's own request may not have ended yet.
        Ok(None) if tries.absent < NOT_READY_ATTEMPTS => {
            wait(ABSENT.millis_after(tries.absent), Tries { absent: tries.absent + 1, ..tries })
        }
        Ok(None) => failed(format!("CRM не отдаёт файл «{}»", file.name)),
        Err(error) if error.class() == crate::creatio::Class::TooLarge => {
            failed(format!("файл «{}» слишком велик", file.name))
        }
        Err(error) => {
            use crate::creatio::Class as Crm;
            let asked =
                error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
            let pause = pause(head.attempts).max(asked);
            let counted = match error.class() {
                // An outage of the CRM says nothing about the file, and nothing that was counted in
                // it counts.
                _ if !shared.crm_is_well() => Tries { refused: 0, failed: 0, ..tries },
                Crm::Throttled { .. } | Crm::CredentialsInvalid => tries,
                Crm::Transient | Crm::Unreachable => Tries { failed: tries.failed + 1, ..tries },
                _ => Tries { refused: tries.refused + 1, ..tries },
            };
            // Everything else of the CRM is well, so it is this file, and the customer's next
            // messages wait behind it.
            if counted.failed >= NOT_READY_ATTEMPTS || counted.refused >= REFUSED_ATTEMPTS {
                return failed(format!("CRM не отдаёт файл «{}»", file.name));
            }
            wait(pause, counted)
        }
    }
}

/// What MAX takes as a picture, film or sound; everything else is a file (MAX Bot API reference,
/// "Limits").
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
