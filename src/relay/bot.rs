//! The bot that holds dialogs: it speaks the Rasa REST channel protocol
//! (`POST …/webhooks/rest/webhook`, `{sender, message}` answered by
//! `[{recipient_id, text, image, buttons, custom}]`), and hands over or closes by `custom`:
//! `{"maxchannel": "handOver"}` or `{"maxchannel": "close"}`.
//!
//! A bot that does not answer within its time, twice, has failed: the rules hand the dialog to the
//! fallback, and new dialogs go there at once until the bot has been left alone for [`AWAY`]. One
//! that answers something else than this protocol is not away: the dialog it concerns goes to the
//! fallback, the others stay. One that asks by `Retry-After` to be left alone is: whose question
//! can still be answered in its time waits so long, and for all others the bot is away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tracing::Instrument as _;

use super::active::Active;
use super::lanes::Outcome;
use super::metrics::Odd;
use super::state::Shared;
use super::step::text_parts;
use super::store::StoreError;
use super::store::customer::Customer;
use super::store::to_bot::{self, Question};
use super::store::to_max::{Button, Origin, Part};
use crate::contract::CustomerId;
use crate::contract::config::BotConfig;
use crate::policy::{BotRole, Effect, Event};
use crate::time::Millis;
use crate::transport::{Hold, Options, whole_characters};

/// How long a bot that failed is left alone.
pub(super) const AWAY: Millis = 30_000;
/// Between two attempts to write an answer down.
const AGAIN: Millis = 1_000;
/// A first try and one more.
const ATTEMPTS: usize = 2;

/// How a bot looks after a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BotState {
    Well,
    NotUnderstood,
    Away,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    messages: Vec<Vec<Part>>,
    hand_over: bool,
    close: bool,
    /// Messages and buttons that could not be read.
    odd_messages: usize,
    odd_buttons: usize,
}

/// What a question came to.
enum Asked {
    Answered(Answer),
    /// It answered what this protocol does not know: it is not away, and nobody else is taken from
    /// it.
    NotUnderstood,
    Silent,
}

/// One message of an answer, each member to be read by itself.
#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    text: Value,
    #[serde(default)]
    image: Value,
    #[serde(default)]
    buttons: Value,
    #[serde(default)]
    custom: Value,
}

/// Works on the lane of one customer.
pub(super) async fn serve(shared: &Shared, id: CustomerId) -> Outcome {
    let Some(active) = shared.active() else { return Outcome::Wait(1_000) };
    let head = shared
        .store
        .transact(move |tx| {
            let Some((row, question)) = to_bot::head(tx, id)? else { return Ok(None) };
            let dialog = Customer::load(tx, id)?.dialog;
            let Some(question) = question else {
                // Nobody knows what was asked: as if the bot had not answered it.
                let bot = dialog.bot().unwrap_or(BotRole::Receiver);
                let question = Question { bot, dialog: dialog.number(), text: String::new() };
                return Ok(Some((row, question, None)));
            };
            let wanted = dialog.number() == question.dialog && dialog.bot() == Some(question.bot);
            Ok(Some((row, question, Some(wanted))))
        })
        .await;
    let (row, question, wanted) = match head {
        Ok(Some(head)) => head,
        Ok(None) => return Outcome::Idle,
        Err(error) => return shared.store_failed(&error),
    };
    let answer = match wanted {
        Some(true) => {
            let span = active.delivery("bot");
            let asked = ask(&active, id, &question).instrument(span.clone()).await;
            span.record("outcome", asked.name());
            shared.note_bot(question.bot, asked.state(), active.bot_hold(question.bot).left());
            match asked {
                Asked::Answered(answer) => Some(answer),
                Asked::NotUnderstood | Asked::Silent => None,
            }
        }
        // Nobody waits for it any more: the dialog is over, or the agents have it. That says
        // nothing about the bot.
        Some(false) => Some(Answer::default()),
        None => {
            shared.metrics.set_aside(Odd::StoreRow, 1);
            None
        }
    };
    if let Some(answer) = &answer {
        shared.metrics.set_aside(Odd::BotMessage, answer.odd_messages);
        shared.metrics.set_aside(Odd::BotButton, answer.odd_buttons);
    }
    // It is kept until it is on disk: asking again would tell the bot the same twice.
    loop {
        let active = shared.active().unwrap_or_else(|| Arc::clone(&active));
        match finish(shared, &active, id, row, question.clone(), answer.clone()).await {
            Ok(()) => return Outcome::Done,
            Err(error) => {
                let outcome = shared.store_failed(&error);
                let is_hopeless = error.is_odd_row() || matches!(error, StoreError::Closed);
                if is_hopeless || *shared.stopping.borrow() {
                    return outcome;
                }
                shared.clock.sleep(AGAIN).await;
            }
        }
    }
}

impl Asked {
    fn name(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::NotUnderstood => "not_understood",
            Self::Silent => "silent",
        }
    }

    fn state(&self) -> BotState {
        match self {
            Self::Answered(_) => BotState::Well,
            Self::NotUnderstood => BotState::NotUnderstood,
            Self::Silent => BotState::Away,
        }
    }
}

async fn ask(active: &Active, id: CustomerId, question: &Question) -> Asked {
    let bot = match question.bot {
        BotRole::Receiver => (active.config.channel.bot.as_ref(), &active.config.secrets.bot),
        BotRole::OffHours => (active.config.channel.off_hours_bot.as_ref(), &active.config.secrets.off_hours_bot),
    };
    let (Some(config), key) = bot else { return Asked::Silent };
    let body = serde_json::json!({ "sender": format!("max:{id}"), "message": question.text }).to_string();
    let hold = active.bot_hold(question.bot);
    let until = tokio::time::Instant::now() + Duration::from_millis(config.timeout_millis);
    for _ in 0..ATTEMPTS {
        if let Some(left) = hold.left() {
            // It says itself when it will answer: in time, or not.
            if tokio::time::Instant::now() + left > until {
                break;
            }
            tokio::time::sleep(left).await;
        }
        if let Some(answer) = call(active, config, hold, key.as_ref(), &body).await {
            // Asking again would tell it the same twice.
            return read(&answer).map_or(Asked::NotUnderstood, Asked::Answered);
        }
    }
    Asked::Silent
}

async fn call(
    active: &Active,
    config: &BotConfig,
    hold: &Hold,
    key: Option<&SecretString>,
    body: &str,
) -> Option<Bytes> {
    let mut request = http::Request::post(config.url.as_str()).header(http::header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        let mut value = http::HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).ok()?;
        value.set_sensitive(true);
        request = request.header(http::header::AUTHORIZATION, value);
    }
    let request = request.body(Bytes::from(body.to_owned())).ok()?;
    let options = Options { timeout: Duration::from_millis(config.timeout_millis), max_answer: 1024 * 1024 };
    let answer = active.bots.send(request, options).await.ok()?;
    hold.on_answer(&answer);
    answer.status().is_success().then(|| answer.into_body())
}

/// Reads an answer message by message and button by button: what is odd is left out alone. None:
/// nothing of it is of the protocol.
pub(super) fn read(body: &[u8]) -> Option<Answer> {
    let messages: Vec<Value> = serde_json::from_str(&whole_characters(body)).ok()?;
    let mut answer = Answer::default();
    let all = messages.len();
    for message in messages {
        let Ok(message) = serde_json::from_value::<WireMessage>(message) else {
            answer.odd_messages += 1;
            continue;
        };
        let mut odd = false;
        let mut text = |value: Value| match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Null => String::new(),
            _ => {
                odd = true;
                String::new()
            }
        };
        let mut parts = text_parts(&text(message.text));
        let image = text(message.image);
        if !image.is_empty() {
            parts.push(Part { text: Some(image), ..Part::default() });
        }
        let buttons: Vec<Button> = match message.buttons {
            Value::Array(buttons) => {
                let all = buttons.len();
                let read: Vec<Button> =
                    buttons.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect();
                answer.odd_buttons += all - read.len();
                read
            }
            Value::Null => Vec::new(),
            _ => {
                answer.odd_buttons += 1;
                Vec::new()
            }
        };
        if !buttons.is_empty() {
            match parts.last_mut() {
                Some(last) => last.buttons = buttons,
                None => parts.push(Part { text: Some("…".to_owned()), buttons, ..Part::default() }),
            }
        }
        if !parts.is_empty() {
            answer.messages.push(parts);
        }
        match message.custom.get("maxchannel").and_then(Value::as_str) {
            Some("handOver") => answer.hand_over = true,
            Some("close") => answer.close = true,
            _ => {}
        }
        answer.odd_messages += usize::from(odd);
    }
    let said = !answer.messages.is_empty() || answer.hand_over || answer.close;
    (said || answer.odd_messages == 0 || answer.odd_messages < all).then_some(answer)
}

async fn finish(
    shared: &Shared,
    active: &Active,
    id: CustomerId,
    row: i64,
    question: Question,
    answer: Option<Answer>,
) -> Result<(), StoreError> {
    shared
        .step(active, move |stepper| {
            let tx = stepper.tx;
            if !to_bot::remove(tx, row)? {
                // The customer has been erased meanwhile.
                return Ok(());
            }
            let mut customer = Customer::load(tx, id)?;
            if customer.dialog.number() == question.dialog {
                match answer {
                    None => drop(stepper.step(&mut customer, &Event::BotFailed, None)?),
                    Some(answer) => {
                        for parts in &answer.messages {
                            let effects = stepper.step(&mut customer, &Event::BotAnswered, None)?;
                            if effects.contains(&Effect::SendBotAnswer) {
                                stepper.queue_for_max(&customer, &Origin::Bot, parts)?;
                            }
                        }
                        if answer.hand_over {
                            stepper.step(&mut customer, &Event::BotHandedOver, None)?;
                        } else if answer.close {
                            stepper.step(&mut customer, &Event::BotClosed, None)?;
                        }
                    }
                }
                customer.save(tx, stepper.rules)?;
            }
            Ok(())
        })
        .await
}
