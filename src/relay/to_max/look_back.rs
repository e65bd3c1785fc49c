//! The look for a send whose answer was lost: MAX has no idempotency key, but it shows what the
//! dialog has.

use super::send::{asked, later};
use super::{Attempt, Head, Verdict};
use crate::max::{Class, History, Message, MessageId};
use crate::relay::active::Active;
use crate::relay::finding::{self, Found};
use crate::relay::lanes::Outcome;
use crate::relay::state::Shared;
use crate::relay::store::to_max::{Part, Sending};
use crate::relay::store::{StoreError, sent};
use crate::time::Millis;

/// When a send without an answer is looked for, counted from the loss of its answer.
pub(super) const LOOKS: [Millis; 2] = [5_000, 15_000];

/// Looks whether a send without an answer is in the dialog.
pub(super) async fn look_back(
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
    let again = LOOKS.get(looks).map(|next| Sending {
        looks,
        look_at: Some(look_at.saturating_add(next - LOOKS[looks - 1])),
        ..sending
    });
    let chat_id = match head.customer.chat_id {
        Some(chat_id) => chat_id,
        // Without the dialog's id there is nothing to look into.
        None => match finding::chat_of(shared, active, head.id, head.customer.id).await? {
            Found::Chat(chat_id) => chat_id,
            Found::NotYet => return Ok(later(head, Outcome::Wait(2_000), Some(sending))),
            Found::Nowhere => {
                return Ok(match again {
                    Some(again) => later(head, Outcome::Wait(0), Some(again)),
                    None => Verdict::Uncertain.into(),
                });
            }
        },
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
    let mids: Vec<MessageId> = candidates.iter().map(|message| message.mid.clone()).collect();
    let ours = shared.store.transact(move |tx| sent::are_ours(tx, &mids)).await?;
    if let Some(found) = candidates.into_iter().zip(ours).find_map(|(message, ours)| (!ours).then_some(message)) {
        return Ok(Verdict::Sent(Box::new(found)).into());
    }
    if sending.told {
        return Ok(Verdict::Uncertain.into());
    }
    Ok(later(head, Outcome::Wait(0), again))
}

fn is_match(message: &Message, part: &Part, bot: i64, sending: &Sending) -> bool {
    let words = |text: &Option<String>| text.as_deref().unwrap_or_default().trim().to_owned();
    let files = message.attachments.iter().filter(|attachment| attachment.is_sent()).count();
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
