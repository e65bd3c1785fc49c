//! The client against a scripted transport: what it writes, what it makes of answers, when it
//! writes.

mod calls;
mod pace;
mod schemas;
mod tls;
mod updates;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Client, Settings};
use crate::transport::{Options, Request, Response, Transport, TransportError};

/// Invented, and unlike anything else in these tests, so that it is found wherever it gets to.
const TOKEN: &str = "f9LHodD0cOKInventedTokenThatNobodyHasEverHad_-00";

/// Gives prepared answers one after another and remembers what it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Response, TransportError>>>,
    seen: Mutex<Vec<(Request, Options)>>,
}

impl Script {
    fn answer(&self, status: u16, body: &str) -> &Self {
        self.answers.lock().unwrap().push_back(Ok(answer(status, body)));
        self
    }

    fn fail(&self, error: TransportError) {
        self.answers.lock().unwrap().push_back(Err(error));
    }

    fn take(&self) -> Vec<(Request, Options)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Transport for Script {
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        let answer = self.answers.lock().unwrap().pop_front();
        let answer =
            answer.unwrap_or_else(|| panic!("no answer is prepared for {} {}", request.method(), request.uri()));
        self.seen.lock().unwrap().push((request, options));
        async move { answer }.boxed()
    }
}

fn answer(status: u16, body: &str) -> Response {
    http::Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn settings(base_url: &str) -> Settings {
    Settings { base_url: base_url.parse().unwrap(), token: TOKEN.to_owned().into() }
}

/// A client at the real address, with the scripts of its two transports.
fn client() -> (Client, Arc<Script>, Arc<Script>) {
    let (api, files) = (Arc::new(Script::default()), Arc::new(Script::default()));
    (Client::new(api.clone(), files.clone(), settings(super::DEFAULT_BASE_URL)), api, files)
}

/// A request as text, every header of it, the time-out, and the body.
fn render(request: &Request, options: Options) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let mark = if value.is_sensitive() { " (sensitive)" } else { "" };
        writeln!(text, "{name}: {}{mark}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    writeln!(text, "within {} s", options.timeout.as_secs()).unwrap();
    match serde_json::from_slice::<Value>(request.body()) {
        Ok(json) => text.push_str(&serde_json::to_string_pretty(&json).unwrap()),
        Err(_) => text.push_str(&String::from_utf8_lossy(request.body()).replace('\r', "\\r")),
    }
    text
}
