//! The API host: routing, token, limits, faults, and the long poll. What an operation does is in
//! [`super::operations`].
//!
//! The order of checks is the one seen on the live service: path and method, token, parameters and
//! body, recipient (MAX Bot API, order of checks). The limits stand between token and parameters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::compose::external_pictures;
use super::dispatch::guard;
use super::faults::{Fault, Outcome, add_fields, add_nulls};
use super::link::Link;
use super::operations::Call;
use super::refusal::Refusal;
use super::switches::{ParallelPollers, PollUnderWebhook};

/// Bodies of API calls are small; more is refused.
const BODY: usize = 1 << 20;
/// An external picture may be as large as an uploaded one.
const PICTURE: usize = 50 << 20;
/// A poll holds at most so long and gives at most so many updates (notice of May 2026).
const POLL_SECONDS: i64 = 30;
const POLL_UPDATES: i64 = 100;

/// The operations of schema 0.0.33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Me,
    EditCommands,
    GetSubscriptions,
    Subscribe,
    Unsubscribe,
    GetUpdates,
    GetUploadUrl,
    SendMessage,
    EditMessage,
    DeleteMessage,
    GetMessages,
    GetMessage,
    Comments,
    Answer,
    Video,
    GetChat,
    EditChat,
    Action,
    GetPin,
    Pin,
    Unpin,
    Membership,
    Leave,
    GetAdmins,
    AddAdmins,
    RemoveAdmin,
    GetMembers,
    AddMembers,
    RemoveMember,
}

/// Method, path pattern, operation. `{chat}`, `{user}`: a number; `{mid}`, `{token}`: their
/// documented patterns.
pub(super) const ROUTES: [(&str, &str, Operation); 33] = [
    ("GET", "/me", Operation::Me),
    ("PATCH", "/me/commands", Operation::EditCommands),
    ("GET", "/subscriptions", Operation::GetSubscriptions),
    ("POST", "/subscriptions", Operation::Subscribe),
    ("DELETE", "/subscriptions", Operation::Unsubscribe),
    ("GET", "/updates", Operation::GetUpdates),
    ("POST", "/uploads", Operation::GetUploadUrl),
    ("POST", "/messages", Operation::SendMessage),
    ("PUT", "/messages", Operation::EditMessage),
    ("DELETE", "/messages", Operation::DeleteMessage),
    ("GET", "/messages", Operation::GetMessages),
    ("GET", "/messages/{mid}", Operation::GetMessage),
    ("GET", "/messages/{mid}/comments", Operation::Comments),
    ("POST", "/messages/{mid}/comments", Operation::Comments),
    ("PUT", "/messages/{mid}/comments", Operation::Comments),
    ("DELETE", "/messages/{mid}/comments", Operation::Comments),
    ("GET", "/messages/{mid}/comments/{mid}", Operation::Comments),
    ("POST", "/answers", Operation::Answer),
    ("GET", "/videos/{token}", Operation::Video),
    ("GET", "/chats/{chat}", Operation::GetChat),
    ("PATCH", "/chats/{chat}", Operation::EditChat),
    ("POST", "/chats/{chat}/actions", Operation::Action),
    ("GET", "/chats/{chat}/pin", Operation::GetPin),
    ("PUT", "/chats/{chat}/pin", Operation::Pin),
    ("DELETE", "/chats/{chat}/pin", Operation::Unpin),
    ("GET", "/chats/{chat}/members/me", Operation::Membership),
    ("DELETE", "/chats/{chat}/members/me", Operation::Leave),
    ("GET", "/chats/{chat}/members/admins", Operation::GetAdmins),
    ("POST", "/chats/{chat}/members/admins", Operation::AddAdmins),
    ("DELETE", "/chats/{chat}/members/admins/{user}", Operation::RemoveAdmin),
    ("GET", "/chats/{chat}/members", Operation::GetMembers),
    ("POST", "/chats/{chat}/members", Operation::AddMembers),
    ("DELETE", "/chats/{chat}/members", Operation::RemoveMember),
];

/// The route of a request: its name for the statistics, the operation, and what stood for the
/// placeholders.
fn route(method: &str, path: &str) -> Option<(String, Operation, Vec<String>)> {
    ROUTES.iter().filter(|(wanted, ..)| *wanted == method).find_map(|(_, pattern, operation)| {
        let mut parameters = Vec::new();
        let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return Some((format!("{method} {pattern}"), *operation, parameters)),
                (Some(wanted), Some(found)) if wanted.starts_with('{') => {
                    if !fits(wanted, found) {
                        return None;
                    }
                    parameters.push(found.to_owned());
                }
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return None,
            }
        }
    })
}

fn fits(placeholder: &str, text: &str) -> bool {
    match placeholder {
        "{chat}" | "{user}" => text.parse::<i64>().is_ok(),
        "{mid}" => super::world::is_mid(text),
        _ => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'),
    }
}

/// Answers one request to the API host.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(link): ConnectInfo<Link>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let Some((name, operation, parameters)) = route(method, path) else {
        let name = format!("{method} (unknown path)");
        shared.change(|world| {
            world.statistics.request(&name);
            world.statistics.answer(&name, 404);
        });
        return Refusal::path(path).into_response();
    };
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let known = shared.change(|world| {
        world.statistics.request(&name);
        let bot = parts.headers.get(header::AUTHORIZATION).and_then(|token| token.to_str().ok());
        bot.and_then(|token| world.tokens.get(token)).map(|entry| entry.bot)
    });
    let fault = shared.change(|world| world.faults.meet(method, path, known));
    let run = async {
        let Ok(body) = axum::body::to_bytes(body, BODY).await else {
            return Refusal::new(413, "proto.payload", "Body is too large").into_response();
        };
        match serve(&shared, &parts.headers, operation, parameters, query, body).await {
            Ok(mut answer) => {
                shared.read(|world| {
                    if world.switches.nulls {
                        add_nulls(&mut answer);
                    }
                    if world.switches.extra_fields {
                        add_fields(&mut answer);
                    }
                });
                axum::Json(answer).into_response()
            }
            Err(refusal) => refusal.into_response(),
        }
    };
    let response = met(&shared, &link, fault, run).await;
    let status = response.status().as_u16();
    shared.change(|world| world.statistics.answer(&name, status));
    response
}

/// The outcome of a request that may have met a fault.
pub(super) async fn met(
    shared: &Arc<Shared>,
    link: &Link,
    fault: Option<Fault>,
    run: impl Future<Output = Response>,
) -> Response {
    let Some(fault) = fault else { return run.await };
    shared.change(|world| world.statistics.report.faults += 1);
    let true_answer = if fault.effect || matches!(fault.outcome, Outcome::Answer | Outcome::Truncate(_)) {
        Some(run.await)
    } else {
        None
    };
    tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    match (fault.outcome, true_answer) {
        (Outcome::Drop, _) => link.drop_it(),
        (Outcome::Reset, _) => link.reset(),
        (Outcome::Hang, _) => std::future::pending().await,
        (Outcome::Respond { status, body, content_type }, _) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let content_type =
                HeaderValue::from_str(&content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
            return (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        }
        (Outcome::Busy { status, retry_after }, _) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
            let after = HeaderValue::from_str(&retry_after).unwrap_or(HeaderValue::from_static("1"));
            return (status, [(header::RETRY_AFTER, after)]).into_response();
        }
        (Outcome::Truncate(length), Some(answer)) => return cut(answer, length).await,
        (_, Some(answer)) => return answer,
        (Outcome::Answer | Outcome::Truncate(_), None) => {}
    }
    // The connection breaks when this is written: not a byte of it leaves.
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn cut(answer: Response, length: usize) -> Response {
    let (mut parts, body) = answer.into_parts();
    let Ok(whole) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let first = whole.slice(..length.min(whole.len()));
    let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    Response::from_parts(parts, Body::from_stream(stream::iter([Ok(first), broken])))
}

async fn serve(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    operation: Operation,
    parameters: Vec<String>,
    query: HashMap<String, String>,
    body: Bytes,
) -> Result<Value, Refusal> {
    if query.contains_key("access_token") {
        return Err(Refusal::token_in_query());
    }
    let token = headers.get(header::AUTHORIZATION).map(|token| token.to_str().unwrap_or_default()).unwrap_or_default();
    if token.is_empty() {
        return Err(Refusal::token("No access token"));
    }
    if token.contains(char::is_whitespace) {
        return Err(Refusal::token("Malformed access token"));
    }
    let bot = shared.change(|world| {
        let bot = world.bot_of(token)?;
        world.rates.host(bot, Instant::now(), &world.switches)?;
        Ok::<_, Refusal>(bot)
    })?;
    let mut call = Call { bot, parameters, query, body: Value::Null, fetched: HashMap::new() };
    match operation {
        Operation::GetUpdates => return poll(shared, &call).await,
        Operation::SendMessage | Operation::EditMessage | Operation::Answer => {
            call.body = serde_json::from_slice(&body).map_err(|_| Refusal::body())?;
            let new_message = if operation == Operation::Answer { &call.body["message"] } else { &call.body };
            let pictures = external_pictures(new_message);
            for url in pictures {
                if let Some(bytes) = fetch(shared, &url).await {
                    call.fetched.insert(url, bytes);
                }
            }
        }
        Operation::Subscribe
        | Operation::EditCommands
        | Operation::Action
        | Operation::Pin
        | Operation::EditChat
        | Operation::AddAdmins
        | Operation::AddMembers => {
            call.body = serde_json::from_slice(&body).map_err(|_| Refusal::body())?;
        }
        _ => {}
    }
    shared.change(|world| world.operate(operation, &call))
}

/// An external picture, from near addresses only.
async fn fetch(shared: &Shared, url: &str) -> Option<Bytes> {
    guard(url).ok()?;
    let answer = shared.client().ok()?.get(url).timeout(Duration::from_secs(10)).send().await.ok()?;
    if !answer.status().is_success() || answer.content_length().is_some_and(|size| size > PICTURE as u64) {
        return None;
    }
    answer.bytes().await.ok().filter(|bytes| !bytes.is_empty() && bytes.len() <= PICTURE)
}

/// Counts a waiting poll for as long as it waits.
struct Waiting {
    shared: Arc<Shared>,
    bot: i64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.change(|world| {
            if let Some(bot) = world.bots.get_mut(&self.bot) {
                bot.log.pollers = bot.log.pollers.saturating_sub(1);
            }
        });
    }
}

async fn poll(shared: &Arc<Shared>, call: &Call) -> Result<Value, Refusal> {
    shared.change(|world| world.rates.poll(call.bot, Instant::now(), &world.switches))?;
    let limit = call.number("limit", 1, 1000)?.unwrap_or(100).min(POLL_UPDATES);
    let limit = usize::try_from(limit).unwrap_or(1);
    let timeout = call.number("timeout", 0, 90)?.unwrap_or(30).min(POLL_SECONDS);
    let marker = call.number("marker", i64::MIN, i64::MAX)?;
    let types = call.list("types");
    let deadline = Instant::now() + Duration::from_secs(timeout.unsigned_abs());
    let _waiting = shared.change(|world| {
        let parallel = world.switches.parallel_pollers;
        let found = world.bots.get_mut(&call.bot).ok_or_else(|| Refusal::token("Invalid access_token"))?;
        if found.log.pollers > 0 && parallel == ParallelPollers::Conflict {
            return Err(Refusal::new(409, "conflict", "Another long polling request is being served"));
        }
        found.log.pollers += 1;
        Ok(Waiting { shared: shared.clone(), bot: call.bot })
    })?;
    let mut changes = shared.version.subscribe();
    loop {
        changes.borrow_and_update();
        let (updates, next) = shared.change_quietly(|world| {
            let under_webhook = world.switches.poll_under_webhook;
            let (omitted, filter) = (world.switches.omitted_marker, world.switches.types_filter_acknowledges);
            let found = world.bots.get_mut(&call.bot).ok_or_else(|| Refusal::token("Invalid access_token"))?;
            if !found.subscriptions.is_empty() {
                return match under_webhook {
                    PollUnderWebhook::Empty => Ok((Vec::new(), found.log.read(marker, 0, None, omitted, false).1)),
                    PollUnderWebhook::MethodNotAllowed => Err(Refusal::new(
                        405,
                        "method.not.allowed",
                        "Long polling is off while a webhook is subscribed",
                    )),
                    PollUnderWebhook::Conflict => {
                        Err(Refusal::new(409, "conflict", "Long polling is off while a webhook is subscribed"))
                    }
                };
            }
            Ok(found.log.read(marker, limit, types.as_deref(), omitted, filter))
        })?;
        if !updates.is_empty() || Instant::now() >= deadline {
            return Ok(json!({"updates": updates, "marker": next}));
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.stop.cancelled() => return Ok(json!({"updates": [], "marker": next})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_verbs_are_those_of_the_schema() {
        for (method, path, expected) in [
            ("GET", "/me", Some("GET /me")),
            ("GET", "/chats/-70801234567890/members/me", Some("GET /chats/{chat}/members/me")),
            ("GET", "/messages/mid.00ff", Some("GET /messages/{mid}")),
            ("PATCH", "/messages", None),
            ("PATCH", "/me", None),
            ("GET", "/chats", None),
            ("GET", "/chats/somewhere", None),
            ("GET", "//me", None),
            ("GET", "/me/", None),
        ] {
            assert_eq!(route(method, path).map(|(name, ..)| name).as_deref(), expected, "{method} {path}");
        }
    }
}
