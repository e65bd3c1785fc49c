//! The control over HTTP: JSON under `/control/` on the port of the API host. `GET /control` lists
//! it.
//!
//! A POST takes one JSON object and answers one; a refusal is 400 with `{"error": "one sentence"}`.
//! Bodies, with optional members marked by `?`:
//!
//! | Request | Body or query → answer |
//! |---|---|
//! | `POST /control/bots` | `{user_id?, token?, name, username?, description?}` → the bot |
//! | `GET /control/bots` | → all bots, with tokens, subscriptions and secrets |
//! | `POST /control/bots/change` | `{bot, name?, username?, description?}` |
//! | `POST /control/bots/issue-token` | `{bot, token?}` → `{token}`; the old one dies |
//! | `POST /control/bots/revoke-token` | `{bot}` |
//! | `POST /control/bots/state` | `{bot, state}`: `"active"`, `"blocked"`, `"deleted"` or `{"refused": {status, code, message}}` |
//! | `POST /control/bots/drop-subscriptions` | `{bot}` |
//! | `POST /control/users` | `{user_id?, first_name?, last_name?, username?, locale?, phone?}` → `{user_id}` |
//! | `POST /control/dialog` | `{user, bot, action}`: `{"start": payload or null}`, `"stop"`, `"restart"`, `"clear"`, `"remove"`, `{"mute": unix ms}`, `"unmute"` → `{chat_id}` |
//! | `POST /control/write` | `{user, bot, text?, attachments?, reply_to?, forward?}` → `{mid}`; in a group `chat` instead of `bot`. Attachments: `{"type": "image" / "file" + name / "audio" / "video", data?: base64}`, `{"type": "sticker", code}`, `{"type": "contact", name, phone, by_button?}`, `{"type": "share", url, title?, description?}`, `{"type": "location", latitude, longitude}` |
//! | `POST /control/edit` | `{user, mid, text}` |
//! | `POST /control/delete` | `{user, mid}` |
//! | `POST /control/press` | `{user, mid, button}`: `{"text": …}`, `{"payload": …}` or `{"number": from 0}` → `{result}` |
//! | `POST /control/groups` | `{bot, owner, title, admin}` → `{chat_id}` |
//! | `POST /control/groups/member` | `{chat, user, by?, joins}` |
//! | `POST /control/groups/remove-bot` | `{chat, user}` |
//! | `GET /control/transcript` | `user` and `bot`, or `chat` (`all=true`: with deleted and cleared) → the transcript; `at_least=N&timeout_ms=T` waits until so many messages are there |
//! | `GET /control/files/<number>` | → the bytes of an attachment |
//! | `GET /control/updates` | `bot` → the updates |
//! | `GET`, `PATCH /control/switches` | the switches; PATCH takes those to turn |
//! | `POST /control/faults` | `{method?, path?, bot?, skip?, times?, effect?, delay_ms?, outcome}`: `"answer"`, `"drop"`, `"reset"`, `"hang"`, `{"truncate": bytes}`, `{"respond": {status, body, content_type}}` |
//! | `POST /control/update-faults` | `{bot?, update_type?, skip?, times?, twist}`: `"duplicate"`, `"out_of_order"`, `"lose"`, `"without_message"`, `"unknown_type"`, `"unknown_attachment"`, `"extra_fields"`, `"nulls"` |
//! | `DELETE /control/faults` | ends all faults |
//! | `POST /control/webhooks/pause` | `{paused}` |
//! | `POST /control/webhooks/route` | `{host, base}` |
//! | `POST /control/webhooks/trust` | `{pem}` |
//! | `GET /control/webhooks/attempts` | → the attempts |
//! | `GET`, `DELETE /control/statistics` | the figures; DELETE sets them to zero |

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::actions::DialogAction;
use super::control::{BotChange, Control, ControlError, Draft, PressWhat};
use super::switches::BotAnswer;
use super::world::BotState;

/// Bodies may carry files in base64.
const BODY: usize = 128 << 20;

const LIST: &[&str] = &[
    "GET /control",
    "GET /control/bots",
    "POST /control/bots",
    "POST /control/bots/change",
    "POST /control/bots/issue-token",
    "POST /control/bots/revoke-token",
    "POST /control/bots/state",
    "POST /control/bots/drop-subscriptions",
    "POST /control/users",
    "POST /control/dialog",
    "POST /control/write",
    "POST /control/edit",
    "POST /control/delete",
    "POST /control/press",
    "POST /control/groups",
    "POST /control/groups/member",
    "POST /control/groups/remove-bot",
    "GET /control/transcript",
    "GET /control/files/<number>",
    "GET /control/updates",
    "GET /control/switches",
    "PATCH /control/switches",
    "POST /control/faults",
    "DELETE /control/faults",
    "POST /control/update-faults",
    "POST /control/webhooks/pause",
    "POST /control/webhooks/route",
    "POST /control/webhooks/trust",
    "GET /control/webhooks/attempts",
    "GET /control/statistics",
    "DELETE /control/statistics",
];

#[derive(Deserialize)]
struct Write {
    user: i64,
    bot: Option<i64>,
    chat: Option<i64>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    attachments: Vec<super::control::DraftAttachment>,
    reply_to: Option<String>,
    forward: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum State_ {
    Active,
    Blocked,
    Deleted,
    Refused(BotAnswer),
}

/// Answers one request to the control.
pub(super) async fn handle(
    State(control): State<Control>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().trim_start_matches("/control").trim_matches('/').to_owned();
    let Ok(body) = axum::body::to_bytes(request.into_body(), BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if method == Method::GET
        && let Some(file) = path.strip_prefix("files/")
    {
        let bytes = file.parse().map_err(|_| ControlError::new("The number of the file is not a number."));
        return match bytes.and_then(|file| control.file(file)) {
            Ok(bytes) => bytes.into_response(),
            Err(error) => (StatusCode::NOT_FOUND, axum::Json(json!({"error": error.to_string()}))).into_response(),
        };
    }
    match answer(&control, &method, &path, &query, &body).await {
        Ok(Some(answer)) => axum::Json(answer).into_response(),
        Ok(None) => {
            (StatusCode::NOT_FOUND, axum::Json(json!({"error": "No such control.", "controls": LIST}))).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error.to_string()}))).into_response(),
    }
}

async fn answer(
    control: &Control,
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    body: &Bytes,
) -> Result<Option<Value>, ControlError> {
    let done = || Ok(Some(json!({})));
    match (method.as_str(), path) {
        ("GET", "") => Ok(Some(json!({"controls": LIST}))),
        ("GET", "bots") => shown(&control.bots()),
        ("POST", "bots") => shown(&control.create_bot(read(body)?)?),
        ("POST", "bots/change") => {
            #[derive(Deserialize)]
            struct Change {
                bot: i64,
                name: Option<String>,
                username: Option<String>,
                description: Option<String>,
            }
            let Change { bot, name, username, description } = read(body)?;
            control.change_bot(bot, BotChange { name, username, description })?;
            done()
        }
        ("POST", "bots/issue-token") => {
            let token = number(body, "bot").and_then(|bot| control.issue_token(bot, text(body, "token")?))?;
            Ok(Some(json!({"token": token})))
        }
        ("POST", "bots/revoke-token") => control.revoke_token(number(body, "bot")?).and_then(|()| done()),
        ("POST", "bots/state") => {
            #[derive(Deserialize)]
            struct Change {
                bot: i64,
                state: State_,
            }
            let Change { bot, state } = read(body)?;
            let state = match state {
                State_::Active => BotState::Active,
                State_::Blocked => BotState::Blocked,
                State_::Deleted => BotState::Deleted,
                State_::Refused(answer) => BotState::Refused(answer),
            };
            control.set_bot_state(bot, state).and_then(|()| done())
        }
        ("POST", "bots/drop-subscriptions") => control.drop_subscriptions(number(body, "bot")?).and_then(|()| done()),
        ("POST", "users") => Ok(Some(json!({"user_id": control.create_user(read(body)?)?}))),
        ("POST", "dialog") => {
            #[derive(Deserialize)]
            struct Act {
                user: i64,
                bot: i64,
                action: DialogAction,
            }
            let Act { user, bot, action } = read(body)?;
            Ok(Some(json!({"chat_id": control.act(user, bot, action)?})))
        }
        ("POST", "write") => {
            let Write { user, bot, chat, text, attachments, reply_to, forward } = read(body)?;
            let draft = Draft { text, attachments, reply_to, forward };
            let mid = match (bot, chat) {
                (_, Some(chat)) => control.write_in_group(user, chat, draft)?,
                (Some(bot), None) => control.write(user, bot, draft)?,
                (None, None) => {
                    return Err(ControlError::new("Name the `bot` of the dialog or the `chat` of the group."));
                }
            };
            Ok(Some(json!({"mid": mid})))
        }
        ("POST", "edit") => {
            let (mid, text) = (required(body, "mid")?, required(body, "text")?);
            control.edit(number(body, "user")?, &mid, &text).and_then(|()| done())
        }
        ("POST", "delete") => control.delete(number(body, "user")?, &required(body, "mid")?).and_then(|()| done()),
        ("POST", "press") => {
            #[derive(Deserialize)]
            struct Press {
                user: i64,
                mid: String,
                button: PressWhat,
            }
            let Press { user, mid, button } = read(body)?;
            Ok(Some(json!({"result": control.press(user, &mid, &button)?})))
        }
        _ => further(control, method, path, query, body).await,
    }
}

async fn further(
    control: &Control,
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    body: &Bytes,
) -> Result<Option<Value>, ControlError> {
    let done = || Ok(Some(json!({})));
    match (method.as_str(), path) {
        ("POST", "groups") => {
            #[derive(Deserialize)]
            struct Group {
                bot: i64,
                owner: i64,
                title: String,
                admin: bool,
            }
            let Group { bot, owner, title, admin } = read(body)?;
            Ok(Some(json!({"chat_id": control.create_group(bot, owner, &title, admin)?})))
        }
        ("POST", "groups/member") => {
            #[derive(Deserialize)]
            struct Member {
                chat: i64,
                user: i64,
                by: Option<i64>,
                joins: bool,
            }
            let Member { chat, user, by, joins } = read(body)?;
            control.set_member(chat, user, by, joins).and_then(|()| done())
        }
        ("POST", "groups/remove-bot") => {
            control.remove_bot(number(body, "chat")?, number(body, "user")?).and_then(|()| done())
        }
        ("GET", "transcript") => transcript(control, query).await,
        ("GET", "updates") => shown(&control.updates(asked(query, "bot")?.ok_or_else(|| missing("bot"))?)?),
        ("GET", "switches") => shown(&control.switches()),
        ("PATCH", "switches") => {
            let mut all = serde_json::to_value(control.switches()).map_err(unreadable)?;
            let turned: serde_json::Map<String, Value> = read(body)?;
            if let Some(all) = all.as_object_mut() {
                all.extend(turned);
            }
            let new = serde_json::from_value(all).map_err(unreadable)?;
            control.set_switches(|switches| *switches = new);
            shown(&control.switches())
        }
        ("POST", "faults") => {
            control.add_fault(read(body)?);
            done()
        }
        ("DELETE", "faults") => {
            control.clear_faults();
            done()
        }
        ("POST", "update-faults") => {
            control.add_update_fault(read(body)?);
            done()
        }
        ("POST", "webhooks/pause") => {
            let Value::Bool(paused) = member(body, "paused")? else { return Err(missing("paused")) };
            control.pause_webhooks(paused);
            done()
        }
        ("POST", "webhooks/route") => {
            control.route_webhooks(&required(body, "host")?, &required(body, "base")?);
            done()
        }
        ("POST", "webhooks/trust") => control.trust_webhooks(&required(body, "pem")?).and_then(|()| done()),
        ("GET", "webhooks/attempts") => shown(&control.webhook_attempts()),
        ("GET", "statistics") => shown(&control.statistics()),
        ("DELETE", "statistics") => {
            control.reset_statistics();
            done()
        }
        _ => Ok(None),
    }
}

async fn transcript(control: &Control, query: &HashMap<String, String>) -> Result<Option<Value>, ControlError> {
    let (user, bot, chat) = (asked(query, "user")?, asked(query, "bot")?, asked(query, "chat")?);
    let all = query.get("all").is_some_and(|all| all == "true");
    let at_least = usize::try_from(asked(query, "at_least")?.unwrap_or(0)).unwrap_or(0);
    let timeout = u64::try_from(asked(query, "timeout_ms")?.unwrap_or(10_000)).unwrap_or(0);
    let read = |control: &Control| match (chat, user, bot) {
        (Some(chat), ..) => control.chat(chat, all),
        (None, Some(user), Some(bot)) => control.transcript(user, bot),
        _ => Err(ControlError::new("Name `user` and `bot`, or `chat`.")),
    };
    if at_least > 0 {
        let enough = |control: &Control| read(control).ok().filter(|seen| seen.messages.len() >= at_least);
        control.wait(Duration::from_millis(timeout), enough).await;
    }
    shown(&read(control)?)
}

fn shown<T: serde::Serialize>(value: &T) -> Result<Option<Value>, ControlError> {
    serde_json::to_value(value).map(Some).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "its signature is what map_err asks for")]
fn unreadable(error: serde_json::Error) -> ControlError {
    ControlError::new(format!("The body does not fit this control: {error}."))
}

fn missing(name: &str) -> ControlError {
    ControlError::new(format!("`{name}` is missing or of another type."))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(unreadable)
}

fn member(body: &[u8], name: &str) -> Result<Value, ControlError> {
    let mut object: serde_json::Map<String, Value> = read(body)?;
    Ok(object.remove(name).unwrap_or_default())
}

fn number(body: &[u8], name: &str) -> Result<i64, ControlError> {
    member(body, name)?.as_i64().ok_or_else(|| missing(name))
}

fn text(body: &[u8], name: &str) -> Result<Option<String>, ControlError> {
    Ok(member(body, name)?.as_str().map(str::to_owned))
}

fn required(body: &[u8], name: &str) -> Result<String, ControlError> {
    text(body, name)?.ok_or_else(|| missing(name))
}

fn asked(query: &HashMap<String, String>, name: &str) -> Result<Option<i64>, ControlError> {
    query.get(name).map(|text| text.parse().map_err(|_| missing(name))).transpose()
}
