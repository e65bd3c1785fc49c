//! What the client promises, against a scripted site.

mod answers;
mod requests;
mod session;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::*;
use crate::transport::{Options, Request, Response, Transport, TransportError, Waited};

pub(super) type Reply = Result<Response, TransportError>;
type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A site that answers by a function and remembers what it was asked, and when.
pub(super) struct Site {
    script: Box<Script>,
    /// How long an answer takes.
    takes: Duration,
    seen: Mutex<Vec<(Instant, Request)>>,
    at_once: Mutex<(usize, usize)>,
}

impl Site {
    pub fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Self::slow(Duration::ZERO, script)
    }

    pub fn slow(takes: Duration, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), takes, seen: Mutex::default(), at_once: Mutex::default() })
    }

    /// Every request as text: method, address, headers but `accept`, body.
    pub fn shown(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, request)| show(request)).collect()
    }

    pub fn last(&self) -> String {
        self.shown().pop().unwrap()
    }

    /// How long each request was held back by the limits, as it says.
    pub fn waits(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().iter().map(|(_, request)| request.extensions().get::<Waited>().unwrap().0).collect()
    }

    pub fn times(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// How many requests went to addresses with this piece in them.
    pub fn count(&self, piece: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(_, request)| request.uri().to_string().contains(piece)).count()
    }

    pub fn most_at_once(&self) -> usize {
        self.at_once.lock().unwrap().1
    }
}

fn show(request: &Request) -> String {
    let mut lines = vec![format!("{} {}", request.method(), request.uri())];
    for (name, value) in request.headers().iter().filter(|(name, _)| *name != "accept") {
        lines.push(format!("{name}: {}", value.to_str().unwrap()));
    }
    if !request.body().is_empty() {
        lines.push(String::from_utf8_lossy(request.body()).into_owned());
    }
    lines.join("\n")
}

impl Transport for Site {
    fn send(&self, request: Request, _options: Options) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let reply = (self.script)(&request);
            self.seen.lock().unwrap().push((Instant::now(), request));
            {
                let mut at_once = self.at_once.lock().unwrap();
                at_once.0 += 1;
                at_once.1 = at_once.1.max(at_once.0);
            }
            tokio::time::sleep(self.takes).await;
            self.at_once.lock().unwrap().0 -= 1;
            reply
        })
    }
}

#[allow(clippy::unnecessary_wraps)] // A reply as a script gives it.
pub(super) fn answer(status: u16, content_type: &str, body: &str) -> Reply {
    let mut builder = http::Response::builder().status(status);
    if !content_type.is_empty() {
        builder = builder.header("content-type", content_type);
    }
    Ok(builder.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

pub(super) fn json(status: u16, body: &str) -> Reply {
    answer(status, "application/json; charset=utf-8", body)
}

pub(super) fn page(status: u16) -> Reply {
    answer(status, "text/html", "<html><style>p{}</style><title>Sign in</title><p>Please sign in</html>")
}

pub(super) const TOKEN: &str = r#"{"access_token":"token-1","expires_in":3600,"token_type":"Bearer"}"#;

pub(super) fn oauth() -> Credentials {
    Credentials::OAuth { client_id: "C0FFEE".into(), client_secret: "s3cret&canary".into() }
}

pub(super) fn forms() -> Credentials {
    Credentials::Forms { username: "max.relay".into(), password: "s3cret&canary".into() }
}

pub(super) fn settings(credentials: Credentials) -> Settings {
    Settings {
        url: "https://acme.example".parse().unwrap(),
        identity_url: Some("https://acme-is.example".parse().unwrap()),
        runtime: Runtime::Net,
        credentials,
        requests_per_second: 10_000,
        in_flight: 256,
    }
}

/// A client that gets a token at once, and the script for everything else.
pub(super) fn signed_in(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Client, Arc<Site>) {
    let site = Site::new(
        move |request| {
            if request.uri().path() == "/connect/token" { json(200, TOKEN) } else { script(request) }
        },
    );
    (Client::new(site.clone(), settings(oauth())), site)
}
