//! One send through MANGO OFFICE, where a repeat is harmless: it goes under a name of its own, so
//! nothing has to be looked back for, but what a store that is lost may have said by itself.

use super::send::{begin, download, later};
use super::{Attempt, Head, Verdict};
use crate::mango::Upload;
use crate::relay::active::Active;
use crate::relay::lanes::Outcome;
use crate::relay::mango::{self, Mango, Outgoing, Sent};
use crate::relay::owner;
use crate::relay::state::Shared;
use crate::relay::store::StoreError;
use crate::relay::store::to_max::{Origin, Part, Sending};

pub(super) async fn send(
    shared: &Shared,
    active: &Active,
    mango: &Mango,
    head: &Head,
    part: &Part,
) -> Result<Attempt, StoreError> {
    if part.callback_id.is_some() {
        return Ok(Verdict::Done.into());
    }
    let content = match &part.file {
        None => None,
        Some(_) if !mango.config.sends_files => {
            let words =
                "через MANGO OFFICE файлы не передаются (files are not sent through MANGO OFFICE): отправьте ссылку";
            return Ok(Verdict::Failed { words: words.to_owned(), gone: false }.into());
        }
        // A file's lane asks for itself, since for MAX it only makes the file ready.
        Some(_) if !owner::is_ours(shared, active).await => {
            return Ok(later(head, Outcome::Wait(10_000), head.sending));
        }
        Some(file) => match download(shared, active, head, file).await {
            Ok(bytes) => Some((file, bytes)),
            Err(instead) => return Ok(*instead),
        },
    };
    let file = content.as_ref().map(|(file, bytes)| Upload { name: &file.name, mime_type: &file.mime_type, bytes });
    let (name, agent) = match &head.origin {
        Origin::Agent { row, by } => (row.to_string(), *by),
        // Numbers of rows begin anew in a new store, times do not.
        _ => (format!("{}-{}-{}", head.customer.id, head.created_at, head.id), None),
    };
    let titles = part.buttons.iter().map(|button| format!("• {}", button.title));
    let text = part.text.clone().into_iter().chain(titles).collect::<Vec<_>>().join("\n");
    // Where the way in becomes another before the answer is known, the send is looked for at MAX.
    let since = head.heard_at.unwrap_or_else(|| shared.max_time());
    let note = Sending::now(head.customer.newest_seq(), since, true);
    if head.sending.is_none() && !begin(shared, active, head, note).await? {
        return Ok(Attempt::Overtaken);
    }
    let outgoing = Outgoing {
        row: head.id,
        customer: head.customer.id,
        name: format!("{name}-{}", head.part),
        text: &text,
        file,
        agent,
        may_begin: matches!(head.origin, Origin::Agent { .. } | Origin::Bot),
        ends_dialog_of: matches!(head.origin, Origin::CloseMessage).then_some(head.created_at),
        // An agent's row bears the same name in every store.
        said_since: head.sending.filter(|note| note.whole && agent.is_none()).map(|note| note.since),
        attempts: head.attempts,
    };
    Ok(match mango::send(shared, active, mango, &outgoing).await? {
        Sent::Taken { mid, at } => Verdict::SentThroughMango { mid, at }.into(),
        Sent::Needless => Verdict::Needless.into(),
        Sent::Overtaken => Attempt::Overtaken,
        Sent::Later { outcome, left } => {
            let sending = head.sending.or_else(|| left.then_some(note));
            Attempt::Later { outcome, sending, tries: head.tries() }
        }
        Sent::Refused(words) => Verdict::Failed { words, gone: false }.into(),
    })
}
