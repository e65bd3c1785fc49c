//! One call to the site: limits, prefix, session, replay, and the reading of what came back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::Settings;
use super::error::{Class, Error, Fault, classify, excerpt, fault, is_html, retry_after};
use super::permits::Permits;
use super::session::{Lost, Session, Sessions};
use super::sites::Place;
use crate::transport::{Hold, Options, Request, Response, Transport, TransportError, Waited, whole_characters};

/// From first to last byte of an answer (Creatio API reference, 10.3).
const TIMEOUT: Duration = Duration::from_secs(30);
/// The same for files.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest answer that is not a file (Creatio API reference, 10.3).
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// All that may stand bare in a query or a path segment; the rest is percent-encoded, the blank as
/// `%20`.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'(').remove(b')').remove(b',');

pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    SignIn,
    Probe,
    OData,
    Package,
    Chat,
    File,
    /// The outbox and what else tells of the agents' acts; counted with OData.
    Outbox,
    /// A report on a row of the outbox; counted with OData.
    Report,
}

/// Requests sent, by kind. Creatio's plans count OData calls and calls of own web services apart
/// (Creatio API reference, 2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Sign-ins, at the site or at the Identity Service.
    pub sign_in: u64,
    /// Probes for the runtime.
    pub probe: u64,
    /// Reads and writes of rows.
    pub odata: u64,
    /// Calls of the package's service but file uploads.
    pub package: u64,
    /// Calls of stock chat services.
    pub chat: u64,
    /// Uploads and downloads.
    pub file: u64,
}

impl Calls {
    /// Name and value of each counter, for metrics.
    pub fn by_kind(&self) -> [(&'static str, u64); 6] {
        [
            ("sign_in", self.sign_in),
            ("probe", self.probe),
            ("odata", self.odata),
            ("package", self.package),
            ("chat", self.chat),
            ("file", self.file),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, calls)| calls).sum()
    }
}

#[derive(Debug, Default)]
struct Counters([AtomicU64; 8]);

/// One call, before prefix and session.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub method: Method,
    pub kind: Kind,
    /// After the prefix, without a leading slash.
    pub path: String,
    /// Instead of prefix and path: the next page of a list, on the same site.
    pub absolute: Option<Url>,
    pub body: Bytes,
    pub content_type: Option<&'static str>,
    /// The call as a noun, for sentences.
    pub about: String,
    pub timeout: Duration,
    pub max_answer: usize,
    /// A page of HTML may be the wanted answer when it comes as a file.
    pub any_content: bool,
    /// An answer to one who has no right to it is wanted, too: its body says something.
    pub though_denied: bool,
    /// Words that no sentence may repeat.
    pub private: &'a [&'a str],
    /// Beside those that every call has.
    pub headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Call<'_> {
    fn new(method: Method, kind: Kind, path: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            method,
            kind,
            path: path.into(),
            absolute: None,
            body: Bytes::new(),
            content_type: None,
            about: about.into(),
            timeout: TIMEOUT,
            max_answer: MAX_ANSWER,
            any_content: false,
            though_denied: false,
            private: &[],
            headers: Vec::new(),
        }
    }

    pub fn get(kind: Kind, path: impl Into<String>, about: impl Into<String>) -> Self {
        Self::new(Method::GET, kind, path, about)
    }

    pub fn post(kind: Kind, path: impl Into<String>, about: impl Into<String>, body: Bytes) -> Self {
        Self { body, ..Self::new(Method::POST, kind, path, about) }
    }

    pub fn post_json(kind: Kind, path: impl Into<String>, about: impl Into<String>, body: &impl Serialize) -> Self {
        // Serialising to memory fails only for maps with keys that are no strings; the bodies here
        // have none.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { content_type: Some("application/json; charset=utf-8"), ..Self::post(kind, path, about, body.into()) }
    }

    /// A write through OData; the caller adds the body.
    pub fn write(method: Method, path: impl Into<String>, about: impl Into<String>) -> Self {
        let content_type = Some("application/json; charset=utf-8; IEEE754Compatible=true");
        Self { content_type, ..Self::new(method, Kind::OData, path, about) }
    }

    /// Whether a lost answer leaves a change behind.
    fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// The limits and the transport, below the session: everything that leaves goes through
/// [`Outlet::send`].
pub(super) struct Outlet {
    transport: Arc<dyn Transport>,
    place: Place,
    in_flight: Permits,
    hold: Hold,
    counters: Counters,
}

impl Outlet {
    /// Sends one request within the limits.
    pub async fn send(&self, kind: Kind, mut request: Request, options: Options) -> Result<Response, Unsent> {
        let began = Instant::now();
        let (place, _file) = self.in_flight.acquire(kind).await;
        let _permit = self.place.limiter().acquire().await;
        if let Some(left) = self.hold.left() {
            return Err(Unsent::Held(left));
        }
        request.extensions_mut().insert(Waited(began.elapsed()));
        self.counters.0[kind as usize].fetch_add(1, Ordering::Relaxed);
        place.sent();
        let answer = tokio::select! {
            answer = self.transport.send(request, options) => answer.map_err(Unsent::Transport)?,
            () = place.gives_way() => return Err(Unsent::GaveWay),
        };
        place.answered();
        self.hold.on_answer(&answer);
        Ok(answer)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unsent {
    Transport(TransportError),
    /// The site asked to be left alone so long; nothing was sent.
    Held(Duration),
    /// It was slow while others waited.
    GaveWay,
}

impl Unsent {
    /// The error of a call that it is about. `changes`: a lost answer may leave a change behind.
    pub fn error(&self, about: &str, changes: bool) -> Error {
        match self {
            Self::Transport(error) => {
                let class = match error {
                    TransportError::TooLarge { .. } => Class::TooLarge,
                    _ => Class::Unreachable,
                };
                let done = changes && !error.certainly_not_sent();
                Error::new(class, done, format!("{about} failed: {error}{}", remedy(class)))
            }
            Self::Held(left) => {
                let sentence =
                    format!("{about} waits: the CRM asked to be left alone for another {} s", left.as_secs() + 1);
                Error::new(Class::Throttled { retry_after: Some(*left) }, false, sentence).retry_after_of(*left)
            }
            Self::GaveWay => {
                let sentence = format!("{about} took long while others waited: it is tried again");
                Error::new(Class::Unreachable, changes, sentence).giving_way()
            }
        }
    }
}

/// A client of one site, shared by its clones.
pub(super) struct Wire {
    outlet: Outlet,
    sessions: Sessions,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Wire {
    pub fn new(transport: Arc<dyn Transport>, settings: Settings, place: Place) -> Self {
        let outlet = Outlet {
            transport,
            place,
            in_flight: Permits::new(settings.in_flight),
            hold: Hold::default(),
            counters: Counters::default(),
        };
        Self { outlet, sessions: Sessions::new(settings) }
    }

    pub fn hold(&self) -> &Hold {
        &self.outlet.hold
    }

    pub fn place(&self) -> &Place {
        &self.outlet.place
    }

    pub fn calls(&self) -> Calls {
        let count = |kind: Kind| self.outlet.counters.0[kind as usize].load(Ordering::Relaxed);
        Calls {
            sign_in: count(Kind::SignIn),
            probe: count(Kind::Probe),
            odata: count(Kind::OData) + count(Kind::Outbox) + count(Kind::Report),
            package: count(Kind::Package),
            chat: count(Kind::Chat),
            file: count(Kind::File),
        }
    }

    /// The site's host, as sentences name it.
    pub fn host(&self) -> &str {
        self.sessions.host()
    }

    /// An address of the site's own host, made one that leads there: behind a proxy a site may
    /// write `http` or another port.
    pub fn on_site(&self, url: &Url) -> Option<Url> {
        let root = self.sessions.root();
        if url.host() != root.host() {
            return None;
        }
        let mut own = root.clone();
        own.set_path(url.path());
        own.set_query(url.query());
        Some(own)
    }

    /// What stands before every path of this site: nothing, or `0/`.
    pub async fn prefix(&self) -> Result<&'static str, Error> {
        self.sessions.prefix(&self.outlet).await
    }

    /// The address of a collection, against which relative next links are read.
    pub fn odata_root(&self, collection: &str) -> Result<Url, Error> {
        let prefix = self.sessions.known_prefix().unwrap_or_default();
        self.sessions.address(&format!("{prefix}odata/{collection}"))
    }

    /// Sends one call in a session. Whatever is an answer to the call itself comes back, also
    /// refusals; sign-in happens inside, and a call that was not run because nobody was signed in
    /// is replayed once.
    pub async fn send(&self, call: &Call<'_>) -> Result<Response, Error> {
        let prefix = self.sessions.prefix(&self.outlet).await?;
        let mut session = self.sessions.current(&self.outlet).await?;
        let mut renewed = false;
        loop {
            let request = self.request(call, prefix, &session)?;
            let options = Options { timeout: call.timeout, max_answer: call.max_answer };
            let answer =
                self.outlet.send(call.kind, request, options).await.map_err(|error| self.unanswered(call, &error))?;
            session.keep_cookies(&answer);
            let Some(lost) = Lost::seen(&answer, self.sessions.root(), call.any_content) else { return Ok(answer) };
            if let Lost::Elsewhere(target) = &lost {
                let sentence =
                    format!("{} redirects to {target}: write that address into spec.creatio.url", self.host());
                return Err(Error::new(Class::WrongAddress, false, sentence));
            }
            if renewed || (lost == Lost::Forbidden && self.sessions.is_denied(&call.path)) {
                return self.still_lost(call, &lost, answer);
            }
            session = self.sessions.renew(&self.outlet, &session).await?;
            renewed = true;
        }
    }

    /// The same shape again in a session that was made a moment ago.
    fn still_lost(&self, call: &Call<'_>, lost: &Lost, answer: Response) -> Result<Response, Error> {
        let host = self.host();
        let (class, sentence) = match lost {
            Lost::Forbidden if call.though_denied => {
                self.sessions.deny(&call.path);
                return Ok(answer);
            }
            Lost::Forbidden => {
                self.sessions.deny(&call.path);
                let what = fault(&answer).unwrap_or_default().message;
                let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
                (
                    Class::AccessDenied,
                    format!("{host} forbids {}{what}: give the technical user the right to it", call.about),
                )
            }
            Lost::Unauthorized => (
                Class::CredentialsInvalid,
                format!(
                    "{host} does not accept the session made a moment ago for {}: check that the credentials and the \
                     Identity Service belong to this site",
                    call.about
                ),
            ),
            Lost::Login | Lost::Elsewhere(_) => (
                Class::AccessDenied,
                format!(
                    "{host} sends {} to the sign-in page right after signing in: check that the technical user may use \
                     the site",
                    call.about
                ),
            ),
            // A page with status 200: the caller knows what it means for its path.
            Lost::Page => return Ok(answer),
        };
        Err(self.scrubbed(call, Error::new(class, false, sentence)))
    }

    fn request(&self, call: &Call<'_>, prefix: &str, session: &Session) -> Result<Request, Error> {
        let address = match &call.absolute {
            Some(url) => url.clone(),
            None => self.sessions.address(&format!("{prefix}{}", call.path))?,
        };
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(address.as_str())
            .body(call.body.clone())
            .map_err(|_| self.no_address(call))?;
        let headers = request.headers_mut();
        let accept = if call.any_content { "*/*" } else { "application/json" };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(content_type) = call.content_type.filter(|_| !call.body.is_empty() || call.method == Method::POST) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        headers.extend(call.headers.iter().cloned());
        session.sign(headers);
        Ok(request)
    }

    fn no_address(&self, call: &Call<'_>) -> Error {
        let sentence = format!("{} makes no valid address on {}: check spec.creatio.url", call.about, self.host());
        Error::new(Class::BadRequest, false, sentence)
    }

    fn unanswered(&self, call: &Call<'_>, error: &Unsent) -> Error {
        self.scrubbed(call, error.error(&call.about, call.changes()))
    }

    /// The error that a refusal means.
    pub fn refusal(&self, call: &Call<'_>, answer: &Response) -> Error {
        let status = answer.status();
        let fault = fault(answer).unwrap_or_default();
        let deleting = call.method == Method::DELETE;
        let class = classify(status, &fault, deleting, retry_after(answer));
        // The site said what it did not do, but for faults that may come after the commit.
        let done = call.changes() && class == Class::Transient && status != StatusCode::TOO_MANY_REQUESTS;
        let sentence = format!(
            "{} refuses {} with status {}: {}{}",
            self.host(),
            call.about,
            status.as_u16(),
            words(&fault),
            remedy(class)
        );
        self.scrubbed(call, Error::new(class, done, sentence).answered(answer))
    }

    /// JSON out of an answer that must have it; half an emoji in a text is replaced.
    pub fn parse<T: DeserializeOwned>(&self, call: &Call<'_>, answer: &Response) -> Result<T, Error> {
        if !answer.status().is_success() || is_html(answer) {
            return Err(self.refusal(call, answer));
        }
        serde_json::from_str(&whole_characters(answer.body())).map_err(|error| self.unreadable(call, &error))
    }

    /// The same as it came, for a `T` that keeps its parts unread.
    pub fn parse_raw<T: DeserializeOwned>(&self, call: &Call<'_>, answer: &Response) -> Result<T, Error> {
        if !answer.status().is_success() || is_html(answer) {
            return Err(self.refusal(call, answer));
        }
        serde_json::from_str(&String::from_utf8_lossy(answer.body())).map_err(|error| self.unreadable(call, &error))
    }

    /// An answer for a call whose success says nothing: any 2xx that tells of no failure.
    pub fn expect_done(&self, call: &Call<'_>, answer: &Response) -> Result<(), Error> {
        let success = answer.status().is_success();
        if success && !is_html(answer) {
            let value: Option<serde_json::Value> = serde_json::from_slice(answer.body()).ok();
            let told = value.as_ref().and_then(serde_json::Value::as_object).is_some_and(|object| {
                let is_false =
                    |name: &str| object.get(name).is_some_and(|flag| *flag == serde_json::Value::Bool(false));
                let row = object.contains_key("Id");
                is_false("success")
                    || is_false("Success")
                    || object.contains_key("error")
                    || object.contains_key("responseStatus")
                    || (!row && (object.contains_key("Message") || object.contains_key("message")))
            });
            if !told {
                return Ok(());
            }
        }
        Err(self.refusal(call, answer))
    }

    /// An answer that is cut short or has another shape than documented.
    pub fn unreadable(&self, call: &Call<'_>, error: &serde_json::Error) -> Error {
        // serde's words may quote the value; its place is enough to find it.
        let what = if error.is_eof() { "ends too early" } else { "has not the documented shape" };
        let sentence = format!(
            "the answer of {} to {} {what} (line {}, column {}): try again, and report it if it stays",
            self.host(),
            call.about,
            error.line(),
            error.column()
        );
        let class = if error.is_eof() { Class::Transient } else { Class::NotUnderstood };
        self.scrubbed(call, Error::new(class, call.changes(), sentence))
    }

    /// 404 or a page where the package should answer (contract, `ping`).
    pub fn package_missing(&self, answer: &Response) -> Error {
        let sentence = format!(
            "{} has no MaxChannelService (status {}{}): install the package MaxChannel in the CRM, and check \
             spec.creatio.runtime if it is set",
            self.host(),
            answer.status().as_u16(),
            if is_html(answer) { ", a page of HTML" } else { "" }
        );
        Error::new(Class::PackageMissing, false, sentence)
    }

    /// A foreign text made fit for a sentence: short, on one line, without secrets and the call's
    /// own words.
    pub fn excerpt(&self, call: &Call<'_>, text: &str) -> String {
        excerpt(&self.scrub(call, text.to_owned()))
    }

    fn scrubbed(&self, call: &Call<'_>, error: Error) -> Error {
        error.map_sentence(|sentence| self.scrub(call, sentence))
    }

    fn scrub(&self, call: &Call<'_>, text: String) -> String {
        let mut text = self.sessions.scrub(text);
        for word in call.private.iter().filter(|word| word.chars().count() >= 3) {
            // The beginning is enough to hide: what follows was cut already where it was long.
            let start: String = word.chars().take(40).collect();
            for form in [*word, start.trim()] {
                text = text.replace(form, "…");
            }
        }
        text
    }
}

/// What the site said, or that it said nothing.
fn words(fault: &Fault) -> String {
    match (fault.message.as_str(), fault.html) {
        ("", _) => "it gives no reason".to_owned(),
        (message, true) => format!("a page of HTML where JSON is expected, \"{message}\""),
        (message, false) => message.trim_end_matches('.').to_owned(),
    }
}

fn remedy(class: Class) -> &'static str {
    match class {
        Class::AccessDenied => "; give the technical user the right to it",
        Class::NotFound => "; check the address and that the object still exists",
        Class::Throttled { .. } => "; lower spec.creatio.limits",
        Class::InUse => "; switch it off instead of deleting it",
        Class::BadRequest => "; the same request would be refused again",
        Class::AlreadyExists => "; read it back",
        Class::Transient => "; try again later",
        Class::Unreachable => "; check the address and the network",
        _ => "",
    }
}
