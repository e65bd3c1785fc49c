//! The status page: how each channel stands, what mends it and who can, what waits, and the dead
//! letters. One page for `maxchannel run` and for the controller, over a [`Source`] of what each of
//! them knows.
//!
//! It shows counts and reasons, never a message's text, nor a name or an id of a customer, and no
//! secret. Whoever sits at a machine on which the program listens to that machine only reads it
//! without more ado; everybody else needs the page's own token, and so does everybody who wants to
//! act. The token lies in a file, which is read whenever somebody shows one, so that it can be
//! replaced.
//!
//! What changes is told at once over a stream of events ([`web::live`]) that the page reads by
//! `fetch`, because a browser's `EventSource` cannot show a token. Nothing is looked at while
//! nobody reads.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::api::{ChannelRef, MaxChannelStatus};
use crate::contract::Facts;
use crate::contract::admin::{DeadLetter, Replayed};
use crate::telemetry;
use crate::web::live::{self, Parts};
use crate::web::{self, File, page_file};

/// Between two looks while somebody reads.
const LOOK: Duration = Duration::from_secs(1);
/// A token that is shorter can be guessed, and is none.
const SHORTEST_TOKEN: usize = 16;

const FILES: &[File] = &[
    page_file!("src/status_page/page", "index.html"),
    page_file!("src/status_page/page", "status.css"),
    page_file!("src/status_page/page", "status.js"),
];

/// One channel, as far as it is known.
#[derive(Clone, Debug)]
pub struct Told {
    pub channel: ChannelRef,
    pub status: MaxChannelStatus,
    /// What its relay says; none: it says nothing.
    pub facts: Option<Facts>,
    pub letters: Vec<DeadLetter>,
}

/// Everything that the page shows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub channels: Vec<Told>,
    /// What keeps all channels from being served, one sentence each.
    pub problems: Vec<String>,
}

/// Why dead letters are not replayed: the HTTP status and one sentence.
pub type Refused = (StatusCode, String);

/// What the page is made of.
pub trait Source: Send + Sync + 'static {
    fn observe(&self) -> BoxFuture<'_, Seen>;

    /// Tries these dead letters of a channel again.
    fn replay(&self, channel: ChannelRef, ids: Vec<String>) -> BoxFuture<'_, Result<Replayed, Refused>>;
}

/// Where the page's token lies.
#[derive(Clone, Debug)]
pub struct Token {
    pub file: PathBuf,
    /// Where people find it, in English and Russian.
    pub place: [String; 2],
}

impl Token {
    /// # Errors
    /// The file can be neither read nor made.
    pub fn make(&self) -> std::io::Result<()> {
        match fs::read_to_string(&self.file) {
            Ok(text) if text.trim().len() >= SHORTEST_TOKEN => return Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.file)?;
        writeln!(file, "{token}")
    }

    /// The token as it is now; none: there is none, and nobody is let in.
    #[must_use]
    pub fn read(&self) -> Option<SecretString> {
        let token = fs::read_to_string(&self.file).ok()?.trim().to_owned();
        if token.len() < SHORTEST_TOKEN {
            return None;
        }
        let token = SecretString::from(token);
        telemetry::hide(&token);
        Some(token)
    }
}

/// The page on one port. Cheap to clone; the last clone that is dropped ends its looks.
#[derive(Clone)]
pub struct Page {
    source: Arc<dyn Source>,
    token: Token,
    /// Nobody but this machine can connect.
    is_local: bool,
    parts: watch::Sender<Arc<Parts>>,
    _looks: Arc<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Page")
            .field("token", &self.token)
            .field("is_local", &self.is_local)
            .finish_non_exhaustive()
    }
}

impl Page {
    /// Must be called within an async runtime.
    pub fn new(source: Arc<dyn Source>, token: Token, is_local: bool) -> Self {
        let parts = watch::Sender::new(Arc::default());
        let looks = tokio::spawn(look(source.clone(), parts.clone()));
        Self { source, token, is_local, parts, _looks: Arc::new(AbortOnDropHandle::new(looks)) }
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(async || web::serve(FILES, "")))
            .route("/ui/{file}", get(async |UrlPath(name): UrlPath<String>| web::serve(FILES, &name)))
            .route("/ui/state", get(state))
            .route("/ui/events", get(events))
            .route("/ui/replay", post(replay))
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let (Some(shown), Some(token)) = (shown, self.token.read()) else { return false };
        shown.as_bytes().ct_eq(token.expose_secret().as_bytes()).into()
    }

    /// Asked from this machine: directly, not through a proxy that stands here for the world.
    fn is_at_home(&self, headers: &HeaderMap) -> bool {
        let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
        self.is_local && web::is_for_this_machine(headers) && !forwarded.iter().any(|name| headers.contains_key(*name))
    }
}

async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
    if !web::is_own(method, headers) {
        return web::refusal("Only the page itself may ask this.\n");
    }
    let acts = *method != Method::GET;
    let tells = acts || matches!(path, "/ui/state" | "/ui/events");
    if tells && !page.knows(headers) && (acts || !page.is_at_home(headers)) {
        let [en, ru] = &page.token.place;
        let words = json!({"error": "the token of the status page is needed", "place": {"en": en, "ru": ru}});
        return web::protect((StatusCode::UNAUTHORIZED, Json(words)).into_response());
    }
    web::protect(next.run(request).await)
}

/// Looks again and again, while somebody is there to see it.
async fn look(source: Arc<dyn Source>, parts: watch::Sender<Arc<Parts>>) {
    loop {
        if parts.receiver_count() > 0 {
            let seen = source.observe().await;
            let mut now = Parts::new();
            now.insert("problems".to_owned(), json!(seen.problems).to_string().into());
            for one in &seen.channels {
                now.insert(format!("channel {}", one.channel), told(one).to_string().into());
            }
            live::put(&parts, now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn events(State(page): State<Page>) -> Response {
    live::stream(page.parts.subscribe(), &json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn state(State(page): State<Page>) -> Json<Value> {
    let seen = page.source.observe().await;
    let channels: Vec<Value> = seen.channels.iter().map(told).collect();
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "channels": channels, "problems": seen.problems}))
}

fn told(one: &Told) -> Value {
    let status = &one.status;
    let mut told = json!({"namespace": one.channel.namespace, "name": one.channel.name,
        "intake": status.intake.map(|intake| format!("{intake:?}")),
        "bot": status.bot.as_ref().map(|bot| &bot.name), "conditions": web::conditions(status)});
    let Some(facts) = &one.facts else { return told };
    told["relay"] = json!({"toCrm": facts.undelivered.to_crm, "toMax": facts.undelivered.to_max,
        "oldestSeconds": facts.oldest_seconds, "openDialogs": facts.open_dialogs, "lastUpdateAt": facts.last_update_at,
        "deadLetters": facts.dead_letters});
    let letters = one.letters.iter().map(|letter| {
        json!({"id": letter.id, "direction": letter.direction, "author": letter.author, "uncertain": letter.uncertain,
            "ageSeconds": letter.age_seconds, "reason": letter.reason})
    });
    told["letters"] = letters.collect();
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
    match page.source.replay(ChannelRef::new(&wanted.namespace, &wanted.name), wanted.ids).await {
        Ok(done) => Json(done).into_response(),
        Err((status, words)) => (status, Json(json!({"error": telemetry::plain(&words)}))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use axum::body::Body;
    use futures::StreamExt as _;
    use tower::ServiceExt as _;

    use super::*;

    const HOME: &[(&str, &str)] = &[("host", "127.0.0.1:8080")];

    /// One channel with a dead letter of a customer who must not be told.
    struct Known;

    impl Source for Known {
        fn observe(&self) -> BoxFuture<'_, Seen> {
            let letter = DeadLetter {
                id: "crm-1".to_owned(),
                direction: crate::contract::admin::Direction::ToCrm,
                customer: "max:4711".to_owned(),
                author: "customer".to_owned(),
                uncertain: false,
                age_seconds: 60,
                reason: "the CRM refuses it".to_owned(),
                text: Some("invented words".to_owned()),
            };
            let mut facts = Facts::without_store("1", crate::contract::Trouble::StoreMoved, 0);
            facts.dead_letters = 1;
            facts.auto_close.push(crate::contract::AutoClose { customer: "max:4711".to_owned(), at: 1 });
            let told = Told {
                channel: ChannelRef::new("crm", "support"),
                status: MaxChannelStatus::default(),
                facts: Some(facts),
                letters: vec![letter],
            };
            Box::pin(std::future::ready(Seen { channels: vec![told], problems: Vec::new() }))
        }

        fn replay(&self, _: ChannelRef, _: Vec<String>) -> BoxFuture<'_, Result<Replayed, Refused>> {
            Box::pin(std::future::ready(Err((StatusCode::NOT_FOUND, "there is no such relay".to_owned()))))
        }
    }

    fn token(folder: &std::path::Path) -> Token {
        Token { file: folder.join("token"), place: ["here".to_owned(), "тут".to_owned()] }
    }

    fn page(folder: &std::path::Path, is_local: bool) -> Page {
        Page::new(Arc::new(Known), token(folder), is_local)
    }

    async fn answer(page: &Page, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if method == "POST" { r#"{"namespace":"a","name":"b","ids":[]}"# } else { "" };
        page.clone().router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    async fn status(page: &Page, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        answer(page, method, path, headers).await.status().as_u16()
    }

    #[tokio::test]
    async fn reading_needs_the_token_unless_at_home_and_acting_always_does() {
        let folder = tempfile::tempdir().unwrap();
        token(folder.path()).make().unwrap();
        let bearer = format!("Bearer {}", token(folder.path()).read().unwrap().expose_secret());
        let with = |more: &[(&'static str, &'static str)]| [HOME, more].concat();
        for path in ["/ui/state", "/ui/events"] {
            for (is_local, headers, expected) in [
                (true, with(&[]), 200),
                (true, vec![("host", "evil.example")], 401),
                (true, with(&[("x-forwarded-for", "203.0.113.7")]), 401),
                (true, with(&[("origin", "http://evil.example")]), 403),
                (false, with(&[]), 401),
                (false, with(&[("authorization", "Bearer wrong")]), 401),
                (false, with(&[("authorization", "Bearer ")]), 401),
            ] {
                let page = page(folder.path(), is_local);
                assert_eq!(status(&page, "GET", path, &headers).await, expected, "{path} {is_local} {headers:?}");
            }
        }
        for is_local in [true, false] {
            let page = page(folder.path(), is_local);
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

    #[tokio::test]
    async fn what_is_told_names_no_customer_and_no_text_and_comes_as_events_too() {
        let folder = tempfile::tempdir().unwrap();
        let page = page(folder.path(), true);
        let whole = answer(&page, "GET", "/ui/state", HOME).await.into_body();
        let whole = axum::body::to_bytes(whole, 1 << 20).await.unwrap();
        let whole = String::from_utf8(whole.to_vec()).unwrap();
        let mut stream = answer(&page, "GET", "/ui/events", HOME).await.into_body().into_data_stream();
        let mut told = String::new();
        while !told.contains("crm-1") {
            told.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
        assert!(told.contains("event: hello\ndata: {") && told.contains(r#""name":"channel crm/support""#), "{told}");
        for text in [whole, told] {
            assert!(text.contains("the CRM refuses it"), "{text}");
            assert!(!text.contains("4711") && !text.contains("invented words"), "{text}");
        }
    }

    #[test]
    fn the_token_is_made_once_nobody_else_can_read_it_and_a_new_one_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let token = token(folder.path());
        assert!(token.read().is_none(), "without a token nobody is let in");
        token.make().unwrap();
        let first = token.read().unwrap();
        token.make().unwrap();
        assert_eq!(first.expose_secret(), token.read().unwrap().expose_secret());
        let mode = fs::metadata(&token.file).unwrap().permissions().mode();
        assert_eq!((first.expose_secret().len(), mode & 0o777), (64, 0o600));
        fs::write(&token.file, "another-invented-token\n").unwrap();
        assert_eq!(token.read().unwrap().expose_secret(), "another-invented-token");
        fs::write(&token.file, "short").unwrap();
        assert!(token.read().is_none(), "one that can be guessed is none");
    }
}
