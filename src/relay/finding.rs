//! The dialog of a customer whom this store does not know, as after its loss: MAX tells a bot the
//! id of a dialog with each message of it and in no other way. The CRM keeps the ids of the
//! messages that it was handed, and MAX gives a message by its id.

use super::active::Active;
use super::state::Shared;
use super::store::StoreError;
use super::store::customer::Customer;
use super::store::to_max;
use crate::contract::CustomerId;
use crate::max::{ChatId, Message, MessageId};
use crate::{creatio, max};

/// How many of the newest messages are asked for: the customer may have taken some back.
const MESSAGES: usize = 5;

/// What became of the search.
pub(super) enum Found {
    Chat(ChatId),
    /// Neither side can tell.
    Nowhere,
    /// One of the two has not answered.
    NotYet,
}

/// Searches for whom that row of the queue towards MAX is, and remembers what is found.
pub(super) async fn chat_of(shared: &Shared, active: &Active, row: i64, id: CustomerId) -> Result<Found, StoreError> {
    let Some(creatio) = &active.creatio else { return Ok(Found::Nowhere) };
    let keys = match creatio.newest_keys(&active.config.channel.channel_source(), &format!("max:{id}")).await {
        Ok(keys) => keys,
        Err(error) => {
            use creatio::Class::{CredentialsInvalid, Throttled, Transient, Unreachable};
            tracing::debug!(%error, "the CRM does not say which messages it has of a customer");
            let later = matches!(error.class(), CredentialsInvalid | Throttled { .. } | Transient | Unreachable);
            return Ok(if later { Found::NotYet } else { Found::Nowhere });
        }
    };
    let mut later = false;
    for mid in message_ids(&keys) {
        match active.max.message(&mid).await {
            Ok(message) => {
                if let Some(chat) = dialog_of(&message, id) {
                    remember(shared, active, row, id, chat).await?;
                    return Ok(Found::Chat(chat));
                }
            }
            Err(error) => {
                use max::Class::{AccountBlocked, Throttled, Transient, Unauthorized};
                let class = error.class();
                later |= matches!(class, AccountBlocked | Throttled { .. } | Transient | Unauthorized);
            }
        }
    }
    Ok(if later { Found::NotYet } else { Found::Nowhere })
}

/// The ids of MAX's messages among the keys of the contract: an edit and a removal name their
/// message first, what the relay made up for a message of unknown id begins with `out:`.
fn message_ids(keys: &[String]) -> Vec<MessageId> {
    let mut ids: Vec<&str> = Vec::new();
    for key in keys {
        let id = key.split(':').next().unwrap_or_default();
        if !id.is_empty() && id != "out" && !ids.contains(&id) && ids.len() < MESSAGES {
            ids.push(id);
        }
    }
    ids.into_iter().map(MessageId::new).collect()
}

/// The dialog in which a message stands, if it is this customer's.
fn dialog_of(message: &Message, id: CustomerId) -> Option<ChatId> {
    let sender = message.sender.as_ref().map(|sender| sender.id);
    let theirs = sender == Some(id.user_id()) || message.recipient.user_id == Some(id.user_id());
    message.recipient.chat_id.filter(|chat| theirs && chat.get() > 0)
}

async fn remember(shared: &Shared, active: &Active, row: i64, id: CustomerId, chat: ChatId) -> Result<(), StoreError> {
    shared
        .step(active, move |stepper| {
            let mut customer = Customer::load(stepper.tx, id)?;
            // The person may have been erased meanwhile, and the row with it.
            if customer.chat_id.is_none() && to_max::exists(stepper.tx, row)? {
                stepper.learn_chat(&mut customer, chat)?;
                customer.save(stepper.tx, stepper.rules)?;
            }
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_messages_are_told_from_the_other_keys_of_the_contract() {
        let keys = ["mid.2:edit:17", "out:0f8f", "mid.2", "mid.1:removed", "", "raw"].map(str::to_owned);
        assert_eq!(message_ids(&keys), ["mid.2", "mid.1", "raw"].map(MessageId::new));
    }
}
