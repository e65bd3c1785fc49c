//! What shows how the cabinet of MANGO OFFICE is set up, since no call tells it: noted as it is
//! seen, on disk, for the status.

use super::super::store::{StoreError, Tx, meta};
use crate::contract::MangoFacts;
use crate::time::Millis;

/// When MANGO OFFICE last called, to the minute.
const CALLED_AT: &str = "mango_called_at";
/// Since when a message was not delivered because MAX refuses the token in the cabinet, and the
/// newest such message.
const REFUSED_SINCE: &str = "mango_refused_since";
const REFUSED_MESSAGE: &str = "mango_refused_message";
/// When a message was first taken after that.
const TAKEN_AFTER: &str = "mango_taken_after";
/// See [`MangoFacts`].
const AUTOMATIC_AT: &str = "mango_automatic_at";
const QUIET_AT: &str = "mango_quiet_at";

/// A refusal of delivery comes within this time after the message was taken.
const REFUSED_WITHIN: Millis = 60_000;
/// MANGO's word for a token that MAX does not take.
const REFUSAL: &str = "authorization-failed";

/// Whether an error of a delivery says that MAX refuses the token.
pub(super) fn is_refusal(error: &str) -> bool {
    error.trim().to_lowercase().replace(['_', ' '], "-").contains(REFUSAL)
}

pub(super) fn called(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    let before = meta::number(tx, CALLED_AT)?;
    if before.is_none_or(|before| (now - before).abs() >= 60_000) {
        meta::set(tx, CALLED_AT, &now.to_string())?;
    }
    Ok(())
}

/// A message was not delivered because MAX refuses the token.
pub(super) fn refused(tx: &Tx<'_>, message: &str, now: Millis) -> Result<(), StoreError> {
    if meta::number(tx, REFUSED_SINCE)?.is_none() || is_mended(tx, now)? {
        meta::set(tx, REFUSED_SINCE, &now.to_string())?;
    }
    meta::set(tx, REFUSED_MESSAGE, message)?;
    meta::remove(tx, TAKEN_AFTER)
}

/// A message was taken; whether it is delivered is told later, or not at all.
pub(super) fn taken(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    if meta::number(tx, REFUSED_SINCE)?.is_some() && meta::number(tx, TAKEN_AFTER)?.is_none() {
        meta::set(tx, TAKEN_AFTER, &now.to_string())?;
    }
    Ok(())
}

/// A message was delivered or read. What is told of one from before the refusal changes nothing.
pub(super) fn delivered(tx: &Tx<'_>, message: &str) -> Result<(), StoreError> {
    let Some(refused) = meta::get(tx, REFUSED_MESSAGE)? else { return Ok(()) };
    let number = |id: &str| id.parse::<u64>().ok();
    let is_later = match (number(message), number(&refused)) {
        (Some(message), Some(refused)) => message > refused,
        _ => message != refused,
    };
    if is_later { mended(tx) } else { Ok(()) }
}

/// The token is taken again, or nothing is known of it any more.
pub(in crate::relay) fn mended(tx: &Tx<'_>) -> Result<(), StoreError> {
    for key in [REFUSED_SINCE, REFUSED_MESSAGE, TAKEN_AFTER] {
        meta::remove(tx, key)?;
    }
    Ok(())
}

fn is_mended(tx: &Tx<'_>, now: Millis) -> Result<bool, StoreError> {
    Ok(meta::number(tx, TAKEN_AFTER)?.is_some_and(|taken| now - taken >= REFUSED_WITHIN))
}

/// The cabinet said something to a customer by itself.
pub(super) fn automatic(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    meta::set(tx, AUTOMATIC_AT, &now.to_string())
}

/// A dialog ended in which it said nothing by itself.
pub(super) fn quiet(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    // Of two in one moment the one that was said counts.
    let is_later = meta::number(tx, AUTOMATIC_AT)?.is_none_or(|automatic| now > automatic);
    if is_later { meta::set(tx, QUIET_AT, &now.to_string()) } else { Ok(()) }
}

pub(in crate::relay) fn facts(tx: &Tx<'_>, now: Millis) -> Result<MangoFacts, StoreError> {
    let refused_since = meta::number(tx, REFUSED_SINCE)?;
    Ok(MangoFacts {
        called_at: meta::number(tx, CALLED_AT)?,
        refused_since: if is_mended(tx, now)? { None } else { refused_since },
        automatic_at: meta::number(tx, AUTOMATIC_AT)?,
        quiet_at: meta::number(tx, QUIET_AT)?,
    })
}
