//! The status page of `maxchannel run`: how each channel stands, what mends it and who can, what
//! waits, and the dead letters.
//!
//! It shows counts and reasons, never a message's text, nor a name or an id of a customer, and no
//! secret. Whoever sits at a machine on which the program listens to that machine only reads it
//! without more ado; everybody else needs the page's own token, and so does everybody who wants to
//! act. The token lies in the data folder ([`TOKEN`]), where only the program's user can read it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Registry, ShownChannel};
use crate::contract::admin::Replay;
use crate::relay::http::Relays;
use crate::telemetry;
use crate::web::{self, File, page_file};

/// The file of the token in the data folder.
pub const TOKEN: &str = "status-page-token";

const FILES: &[File] = &[
    page_file!("src/local/page", "index.html"),
    page_file!("src/local/page", "status.css"),
    page_file!("src/local/page", "status.js"),
];

#[derive(Clone)]
pub(super) struct Page {
    registry: Registry,
    relays: Relays,
    token: Arc<SecretString>,
    /// Nobody but this machine can connect.
    is_local: bool,
}

impl Page {
    /// # Errors
    /// The token can be neither read nor made.
    pub(super) fn new(registry: Registry, relays: Relays, data_dir: &Path, is_local: bool) -> std::io::Result<Self> {
        let token = Arc::new(token(data_dir)?);
        telemetry::hide(&token);
        Ok(Self { registry, relays, token, is_local })
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/", get(async || web::serve(FILES, "")))
            .route("/ui/{file}", get(async |UrlPath(name): UrlPath<String>| web::serve(FILES, &name)))
            .route("/ui/state", get(state))
            .route("/ui/replay", post(replay))
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        shown.is_some_and(|shown| shown.as_bytes().ct_eq(self.token.expose_secret().as_bytes()).into())
    }

    /// Asked from this machine: directly, not through a proxy that stands here for the world.
    fn is_at_home(&self, headers: &HeaderMap) -> bool {
        let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
        self.is_local && web::is_for_this_machine(headers) && !forwarded.iter().any(|name| headers.contains_key(*name))
    }
}

/// The token that is kept, or a new one.
fn token(data_dir: &Path) -> std::io::Result<SecretString> {
    let path = data_dir.join(TOKEN);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned().into()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{token}")?;
    Ok(token.into())
}

async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
    if !web::is_own(method, headers) {
        return web::refusal("Only the page itself may ask this.\n");
    }
    let acts = *method != Method::GET;
    let tells = acts || path == "/ui/state";
    if tells && !page.knows(headers) && (acts || !page.is_at_home(headers)) {
        let words = json!({"error": "the token of the status page is needed", "file": TOKEN});
        return web::protect((StatusCode::UNAUTHORIZED, Json(words)).into_response());
    }
    web::protect(next.run(request).await)
}

async fn state(State(page): State<Page>) -> Json<Value> {
    let shown = page.registry.shown();
    let mut channels = Vec::new();
    for channel in &shown.channels {
        channels.push(told(&page.relays, channel).await);
    }
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "channels": channels, "problems": shown.problems}))
}

async fn told(relays: &Relays, channel: &ShownChannel) -> Value {
    let mut told = json!({"namespace": channel.namespace, "name": channel.name,
        "intake": channel.status.intake.map(|intake| format!("{intake:?}")),
        "bot": channel.status.bot.as_ref().map(|bot| &bot.name), "conditions": web::conditions(&channel.status)});
    let Some(relay) = relays.get(&channel.namespace, &channel.name) else { return told };
    let facts = relay.facts().await;
    told["relay"] = json!({"toCrm": facts.undelivered.to_crm, "toMax": facts.undelivered.to_max,
        "oldestSeconds": facts.oldest_seconds, "openDialogs": facts.open_dialogs, "lastUpdateAt": facts.last_update_at,
        "deadLetters": facts.dead_letters});
    if facts.dead_letters > 0
        && let Ok(letters) = relay.dead_letters().await
    {
        let letters = letters.dead_letters.iter().map(|letter| {
            json!({"id": letter.id, "direction": letter.direction, "author": letter.author, "uncertain": letter.uncertain,
                "ageSeconds": letter.age_seconds, "reason": letter.reason})
        });
        told["letters"] = letters.collect();
    }
    told
}

/// Which dead letters of which channel.
#[derive(Debug, Deserialize)]
struct Wanted {
    namespace: String,
    name: String,
    ids: Vec<String>,
}

async fn replay(State(page): State<Page>, Json(wanted): Json<Wanted>) -> Response {
    let Some(relay) = page.relays.get(&wanted.namespace, &wanted.name) else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "there is no such relay"}))).into_response();
    };
    match relay.replay(Replay { ids: wanted.ids, all: false }).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": telemetry::plain(&error.to_string())})))
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    const HOME: &[(&str, &str)] = &[("host", "127.0.0.1:8080")];

    async fn status(page: &Page, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if method == "POST" { r#"{"namespace":"a","name":"b","ids":[]}"# } else { "" };
        page.clone().router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn reading_needs_the_token_unless_at_home_and_acting_always_does() {
        let folder = tempfile::tempdir().unwrap();
        let page = |is_local| Page::new(Registry::default(), Relays::default(), folder.path(), is_local).unwrap();
        let bearer = format!("Bearer {}", page(true).token.expose_secret());
        let with = |more: &[(&'static str, &'static str)]| [HOME, more].concat();
        for (is_local, headers, expected) in [
            (true, with(&[]), 200),
            (true, vec![("host", "evil.example")], 401),
            (true, with(&[("x-forwarded-for", "203.0.113.7")]), 401),
            (true, with(&[("origin", "http://evil.example")]), 403),
            (false, with(&[]), 401),
            (false, with(&[("authorization", "Bearer wrong")]), 401),
        ] {
            assert_eq!(status(&page(is_local), "GET", "/ui/state", &headers).await, expected, "{is_local} {headers:?}");
        }
        for is_local in [true, false] {
            let page = page(is_local);
            assert_eq!(status(&page, "GET", "/ui/state", &[HOME, &[("authorization", &bearer)]].concat()).await, 200);
            let own = with(&[
                ("origin", "http://127.0.0.1:8080"),
                (web::PAGE_HEADER, "1"),
                ("content-type", "application/json"),
            ]);
            assert_eq!(status(&page, "POST", "/ui/replay", &own).await, 401);
            assert_eq!(
                status(&page, "POST", "/ui/replay", &[&own[..], &[("authorization", &bearer)]].concat()).await,
                404
            );
            assert_eq!(status(&page, "GET", "/", HOME).await, 200);
            assert_eq!(status(&page, "GET", "/ui/nothing", HOME).await, 404);
        }
    }

    #[test]
    fn the_token_is_made_once_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = token(folder.path()).unwrap();
        assert_eq!(first.expose_secret(), token(folder.path()).unwrap().expose_secret());
        let mode = fs::metadata(folder.path().join(TOKEN)).unwrap().permissions().mode();
        assert_eq!((first.expose_secret().len(), mode & 0o777), (64, 0o600));
    }
}
