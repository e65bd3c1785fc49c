//! What strangers write, read as the relay reads it and thrown away: for fuzzing, and for the test
//! that replays what it found.

use std::cell::RefCell;

use super::catching_up::Heard;
use super::intake::Arrival;
use super::step::Stepper;
use super::store::{StoreError, Trial, Tx};
use crate::policy::{Context, Receiver, Rules};
use crate::time::Millis;

/// The bot that the updates are for.
const BOT: i64 = 254_700_011;
const NOW: Millis = 1_790_000_000_000;

thread_local! {
    static STORE: RefCell<Option<Trial>> = const { RefCell::new(None) };
}

/// Takes updates, one in each line, as webhooks bring them: into the inbox, and by the rules from
/// there on.
///
/// # Panics
/// Something of it could not be written, which nothing that MAX sends may cause.
pub fn updates(bytes: &[u8]) {
    STORE.with_borrow_mut(|open| {
        let trial = open.get_or_insert_with(|| Trial::new().expect("a store in memory"));
        let taken = trial.run(|tx| {
            (0..).zip(bytes.split(|byte| *byte == b'\n')).try_for_each(|(number, line)| take(tx, line, NOW + number))
        });
        taken.expect("it is taken");
    });
}

fn take(tx: &Tx<'_>, line: &[u8], now: Millis) -> Result<(), StoreError> {
    let arrival = Arrival::read(String::from_utf8_lossy(line).into_owned(), BOT, now);
    let (_, Some(customer)) = arrival.store(tx, now)? else { return Ok(()) };
    let rules = Rules { receiver: Receiver::People, ..Rules::default() };
    let context = Context { now, ..Context::default() };
    Stepper { tx, rules: &rules, context, heard: Heard::Everything }.take_inbox(customer, 50, &[])?;
    Ok(())
}

/// Reads what a bot has answered.
pub fn bot_answer(bytes: &[u8]) {
    let _ = super::bot::read(bytes);
}
