//! The page of `maxchannel demo`: two phones in MAX, the desk of Creatio, the account of MANGO
//! OFFICE, and the relay between them.
//!
//! Owns: the port on loopback and who may ask there, and the tasks that look at the stage.
//! [`scene`] has what is shown, [`acts`] what can be done, [`faults`] the switches, [`edit`] the
//! manifest. The page itself is in `page/`: plain files, linked in.
//!
//! Whoever runs the demo may do everything on it; nobody else can reach it. Another site's page in
//! the same browser is kept out by the name of the host, the origin, and a header that only a page
//! of this origin can set. What people write is data, never markup.

mod acts;
mod bot;
mod edit;
mod faults;
mod scene;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

use self::faults::Switches;
use super::stage::Stage;
use crate::api::Language;
use crate::local::Shown;
use crate::web::live::{self, Parts};
use crate::web::{self, File, page_file};

/// Where the page is, unless that port is taken.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8780);
/// Between two checks of the stage while somebody watches.
const LOOK: Duration = Duration::from_millis(200);
/// Files come in base64.
const BODY: usize = 32 << 20;

const FILES: &[File] = &[
    page_file!("src/cli/demo/playground/page", "index.html"),
    page_file!("src/cli/demo/playground/page", "style.css"),
    page_file!("src/cli/demo/playground/page", "app.js"),
    page_file!("src/cli/demo/playground/page", "explorer.js"),
    page_file!("src/cli/demo/playground/page", "tour.js"),
    page_file!("src/cli/demo/playground/page", "words.js"),
];

/// What the handlers share.
pub(super) struct Playground {
    pub stage: tokio::sync::Mutex<Stage>,
    switches: Mutex<Switches>,
    bot: bot::Bot,
    seen: watch::Sender<Arc<Parts>>,
    /// What the runner said last; none: it does not answer.
    said: Mutex<Option<Shown>>,
    language: Language,
    /// Another one after a restart of the demo.
    run: Uuid,
}

impl Playground {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner has ended although nobody has killed it.
    pub(super) async fn has_ended(&self) -> bool {
        self.stage.lock().await.runner.has_ended()
    }
}

/// Opens the page on the stage; answers its address.
///
/// # Errors
/// One sentence.
pub(super) async fn open(stage: Stage, listen: SocketAddr) -> Result<(Arc<Playground>, String), String> {
    if !listen.ip().is_loopback() {
        return Err(format!(
            "{listen} is not an address of this machine alone: the page lets its reader do everything"
        ));
    }
    let listener = match TcpListener::bind(listen).await {
        Err(error) if listen == ADDRESS && error.kind() == std::io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
        }
        bound => bound,
    };
    let fails = |error: std::io::Error| format!("the page cannot listen on {listen}: {error}");
    let listener = listener.map_err(fails)?;
    let address = listener.local_addr().map_err(fails)?;
    let (bot, language) = (bot::Bot::start().await?, stage.language);
    let mut switches = Switches::new(&stage)?;
    faults::apply(&stage, &mut switches)?;
    let playground = Arc::new(Playground {
        stage: tokio::sync::Mutex::new(stage),
        switches: Mutex::new(switches),
        bot,
        seen: watch::Sender::new(Arc::default()),
        said: Mutex::default(),
        language,
        run: Uuid::new_v4(),
    });
    let routes = Router::new()
        .route("/", get(async || web::serve(FILES, "")))
        .route("/{file}", get(async |Path(name): Path<String>| web::serve(FILES, &name)))
        .route("/api/events", get(events))
        .route("/api/act", post(act))
        .route("/api/check", post(check))
        .route("/api/rules", post(rules))
        .route("/files/max/{number}", get(max_file))
        .route("/files/crm/{id}", get(crm_file))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(axum::middleware::from_fn(guard))
        .with_state(Arc::clone(&playground));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    tokio::spawn(scene::watch_runner(Arc::clone(&playground)));
    tokio::spawn(watch_stage(Arc::clone(&playground)));
    Ok((playground, format!("http://{address}/")))
}

async fn guard(request: Request, next: Next) -> Response {
    if !web::is_for_this_machine(request.headers()) {
        return web::refusal("This page is for whoever sits at this machine: open it by 127.0.0.1 or localhost.\n");
    }
    if !web::is_own(request.method(), request.headers()) {
        return web::refusal("Only the page itself may ask this.\n");
    }
    web::protect(next.run(request).await)
}

/// Looks at the stage again and again, while somebody is there to see it.
async fn watch_stage(playground: Arc<Playground>) {
    loop {
        if playground.seen.receiver_count() > 0 {
            let scene = scene::observe(&playground).await;
            live::put(&playground.seen, scene);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn events(State(playground): State<Arc<Playground>>) -> Response {
    let language = if playground.language == Language::Russian { "ru" } else { "en" };
    let hello = json!({"run": playground.run, "language": language, "version": env!("CARGO_PKG_VERSION")});
    live::stream(playground.seen.subscribe(), &hello)
}

fn answer(outcome: Result<Value, String>) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(message) => (StatusCode::CONFLICT, Json(json!({"error": message}))).into_response(),
    }
}

async fn act(State(playground): State<Arc<Playground>>, Json(act): Json<acts::Act>) -> Response {
    answer(acts::perform(&playground, act).await)
}

async fn check(body: String) -> Response {
    answer(Ok(json!({"findings": crate::cli::check::of_text(&body)})))
}

async fn rules(Json(question): Json<edit::Question>) -> Response {
    answer(edit::explore(&question))
}

/// A file is only ever saved, never shown: it may be anything.
fn download(bytes: Option<Bytes>) -> Response {
    let Some(bytes) = bytes else { return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response() };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    (headers, bytes).into_response()
}

async fn max_file(State(playground): State<Arc<Playground>>, Path(number): Path<u64>) -> Response {
    download(playground.stage.lock().await.max.control().file(number).ok())
}

async fn crm_file(State(playground): State<Arc<Playground>>, Path(id): Path<Uuid>) -> Response {
    download(playground.stage.lock().await.crm.file(id))
}
