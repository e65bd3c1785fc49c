//! The bot that holds dialogs: it speaks the Rasa REST channel protocol (`POST …/webhooks/rest/webhook`, `{sender, message}` answered
//! by `[{recipient_id, text, image, buttons, custom}]`), and hands over or closes by `custom`: `{"maxchannel": "handOver"}` or
//! `{"maxchannel": "close"}`.
//!
//! A bot that does not answer within its time, twice, has failed: the rules hand the dialog to the fallback, and new dialogs go
//! there at once until the bot has been left alone for [`AWAY`].

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tracing::Instrument as _;

use super::config::BotConfig;
use super::dialogs::{Button, Customer, Origin, Part, Question, Stepper, Woken, text_parts};
use super::lanes::{CustomerId, Outcome};
use super::store::StoreError;
use super::{Active, Shared};
use crate::policy::{BotRole, Effect, Event, Millis};
use crate::transport::Options;

/// How long a bot that failed is left alone.
pub(super) const AWAY: Millis = 30_000;
/// A first try and one more.
const ATTEMPTS: usize = 2;

#[derive(Debug, Default)]
struct Answer {
    messages: Vec<Vec<Part>>,
    hand_over: bool,
    close: bool,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    buttons: Option<Vec<Button>>,
    #[serde(default)]
    custom: Option<WireCustom>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireCustom {
    maxchannel: Option<String>,
}

/// Works on the lane of one customer.
pub(super) async fn serve(shared: &Shared, id: CustomerId) -> Outcome {
    let Some(active) = shared.active() else { return Outcome::Wait(1_000) };
    let head = shared
        .store
        .write(move |connection| {
            let found = connection
                .prepare_cached("SELECT id, body FROM to_bot WHERE customer = ?1 ORDER BY id LIMIT 1")?
                .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
                .optional()?;
            let Some((row, body)) = found else { return Ok(None) };
            let question: Question = serde_json::from_str(&body)?;
            let dialog = Customer::load(connection, id)?.dialog;
            let wanted = dialog.number() == question.dialog && dialog.bot() == Some(question.bot);
            Ok(Some((row, question, wanted)))
        })
        .await;
    let (row, question, wanted) = match head {
        Ok(Some(head)) => head,
        Ok(None) => return Outcome::Idle,
        Err(error) => return shared.store_failed(&error),
    };
    // Nobody waits for it any more: the dialog is over, or the agents have it. That says nothing about the bot.
    let answer = if wanted {
        let span = active.delivery("bot");
        let answer = ask(&active, id, &question).instrument(span.clone()).await;
        span.record("outcome", if answer.is_some() { "answered" } else { "silent" });
        shared.note_bot(question.bot, answer.is_some());
        answer
    } else {
        Some(Answer::default())
    };
    match finish(shared, &active, id, row, question, answer).await {
        Ok(()) => Outcome::Done,
        Err(error) => shared.store_failed(&error),
    }
}

async fn ask(active: &Active, id: CustomerId, question: &Question) -> Option<Answer> {
    let (config, key) = match question.bot {
        BotRole::Receiver => (active.config.channel.bot.as_ref()?, &active.config.secrets.bot),
        BotRole::OffHours => (active.config.channel.off_hours_bot.as_ref()?, &active.config.secrets.off_hours_bot),
    };
    let body = serde_json::json!({ "sender": format!("max:{id}"), "message": question.text }).to_string();
    for _ in 0..ATTEMPTS {
        if let Some(answer) = call(active, config, key.as_ref(), &body).await {
            return Some(answer);
        }
    }
    None
}

async fn call(active: &Active, config: &BotConfig, key: Option<&SecretString>, body: &str) -> Option<Answer> {
    let mut request = http::Request::post(config.url.as_str()).header(http::header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        let mut value = http::HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).ok()?;
        value.set_sensitive(true);
        request = request.header(http::header::AUTHORIZATION, value);
    }
    let request = request.body(Bytes::from(body.to_owned())).ok()?;
    let options = Options { timeout: Duration::from_millis(config.timeout_millis), max_answer: 1024 * 1024 };
    let answer = active.bots.send(request, options).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let messages: Vec<WireMessage> = serde_json::from_slice(answer.body()).ok()?;
    Some(read(messages))
}

fn read(messages: Vec<WireMessage>) -> Answer {
    let mut answer = Answer::default();
    for message in messages {
        let mut parts = message.text.as_deref().map(text_parts).unwrap_or_default();
        if let Some(image) = message.image.filter(|image| !image.is_empty()) {
            parts.push(Part { text: Some(image), ..Part::default() });
        }
        if let Some(buttons) = message.buttons.filter(|buttons| !buttons.is_empty()) {
            match parts.last_mut() {
                Some(last) => last.buttons = buttons,
                None => parts.push(Part { text: Some("…".to_owned()), buttons, ..Part::default() }),
            }
        }
        if !parts.is_empty() {
            answer.messages.push(parts);
        }
        match message.custom.unwrap_or_default().maxchannel.as_deref() {
            Some("handOver") => answer.hand_over = true,
            Some("close") => answer.close = true,
            _ => {}
        }
    }
    answer
}

async fn finish(
    shared: &Shared,
    active: &Active,
    id: CustomerId,
    row: i64,
    question: Question,
    answer: Option<Answer>,
) -> Result<(), StoreError> {
    let rules = active.rules.clone();
    let context = shared.context();
    shared
        .store
        .change(move |connection| {
            let mut stepper = Stepper { connection, rules: &rules, context, woken: Woken::default() };
            if connection.prepare_cached("DELETE FROM to_bot WHERE id = ?1")?.execute(params![row])? == 0 {
                // The customer has been erased meanwhile.
                return Ok(((), stepper.woken));
            }
            let mut customer = Customer::load(connection, id)?;
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
                customer.save(connection, &rules)?;
            }
            Ok(((), stepper.woken))
        })
        .await
}
