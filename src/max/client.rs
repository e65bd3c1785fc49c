//! The calls of the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::Settings;
use super::error::{Call, Class, Error, POLL};
use super::files::{self, Download};
use super::ids::{ChatId, MessageId};
use super::limits::{Limits, Scope};
use super::message::{Bot, Message, Subscription, SubscriptionList, VideoDetails};
use super::outgoing::{
    Action, CallbackAnswer, History, LONGEST_POLL, NewMessage, OutgoingAttachment, Recipient, UploadKind,
};
use crate::transport::{Hold, Options, Permit, Request, Response, Transport, Waited};

/// One bot at the API. Cheap to clone; clones share the limits.
#[derive(Clone)]
pub struct Client {
    api: Arc<dyn Transport>,
    files: Arc<dyn Transport>,
    base_url: Url,
    /// `None`: the token holds what no header may. Marked sensitive, so that no `Debug` shows it.
    authorization: Option<HeaderValue>,
    limits: Arc<Limits>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base_url", &self.base_url.as_str()).finish_non_exhaustive()
    }
}

/// The answer of GET /updates.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// As they came; [`super::update::parse`] reads them.
    pub updates: Vec<Box<RawValue>>,
    /// What to ask with next time, once these are on disk; `None`: keep the marker you have.
    pub marker: Option<i64>,
}

/// The right to send one message into one dialog now; dropping it leaves it unused.
#[derive(Debug)]
pub struct Turn {
    to: Recipient,
    permits: (Option<Permit>, Permit),
    waited: Duration,
}

/// For an API call. A message is answered at once; media is fetched and processed after the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Beyond what a poll may wait (MAX Bot API reference, "Long polling": a margin of 10 s).
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// Updates in one answer, the most that MAX gives.
pub const POLL_LIMIT: usize = 100;
/// Where an answer was too large, so many times fewer are asked for: each attempt is a whole
/// download.
pub const FEWER: usize = 8;
/// For a whole download.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_mins(2);
/// For a whole upload, and a second more for each of these many bytes.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(1);
const UPLOAD_BYTES_PER_SECOND: usize = 256 * 1024;
/// Answers of upload hosts are a token.
const LONGEST_UPLOAD_ANSWER: usize = 1024 * 1024;

impl Client {
    /// `files` carries uploads and downloads and never gets the token; [`super::transports`] makes
    /// both.
    #[must_use]
    pub fn new(api: Arc<dyn Transport>, files: Arc<dyn Transport>, settings: Settings) -> Self {
        Self::with_limits(api, files, settings, Arc::new(Limits::new()))
    }

    /// The same bot under a new token or address, with the same limits: changing a token does not
    /// double the allowance.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self::with_limits(Arc::clone(&self.api), Arc::clone(&self.files), settings, Arc::clone(&self.limits))
    }

    fn with_limits(
        api: Arc<dyn Transport>,
        files: Arc<dyn Transport>,
        settings: Settings,
        limits: Arc<Limits>,
    ) -> Self {
        let token = settings.token.expose_secret().trim();
        let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let mut authorization = HeaderValue::from_str(token).ok().filter(|_| plain);
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Self { api, files, base_url: settings.base_url, authorization, limits }
    }

    /// Until when MAX is left alone.
    #[must_use]
    pub fn hold(&self) -> &Hold {
        &self.limits.hold
    }

    /// GET /me.
    pub async fn me(&self) -> Result<Bot, Error> {
        self.read(Call::read("GET /me"), &["me"]).await
    }

    /// GET /subscriptions.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        let list: SubscriptionList = self.read(Call::read("GET /subscriptions"), &["subscriptions"]).await?;
        Ok(list.subscriptions)
    }

    /// POST /subscriptions for all update types. The same URL again replaces its settings; another
    /// URL adds a subscription.
    ///
    /// MAX takes `https://` URLs without a port, and secrets of 5 to 256 characters of
    /// `A-Z a-z 0-9 _ -`.
    pub async fn subscribe(&self, url: &str, secret: &SecretString) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            url: &'a str,
            secret: &'a str,
        }
        let secret = secret.expose_secret();
        let call =
            Outgoing { secret, ..Outgoing::new(Call::change("POST /subscriptions"), Method::POST, &["subscriptions"]) };
        self.exchange(call.json(&Body { url, secret })?).await.map(drop)
    }

    /// DELETE /subscriptions, by the exact URL.
    pub async fn unsubscribe(&self, url: &str) -> Result<(), Error> {
        let call = Outgoing::new(Call::change("DELETE /subscriptions"), Method::DELETE, &["subscriptions"]);
        self.exchange(call.query("url", &url)).await.map(drop)
    }

    /// GET /updates: all types, at most `limit` ([`POLL_LIMIT`]), waiting at most `timeout` (cut at
    /// 30 s) for the first.
    /// At most two polls a second.
    ///
    /// [`Class::PollRefused`] where a webhook or another poller stands in the way, if MAX says so;
    /// it may also answer with nothing. [`Class::TooLarge`] where fewer have to be asked for.
    pub async fn updates(&self, marker: Option<i64>, limit: usize, timeout: Duration) -> Result<Updates, Error> {
        #[derive(serde::Deserialize)]
        struct Wire {
            #[serde(default)]
            updates: Option<Vec<Box<RawValue>>>,
            #[serde(default)]
            marker: Option<i64>,
        }
        let timeout = timeout.min(LONGEST_POLL);
        let mut call = Outgoing::new(Call::read(POLL), Method::GET, &["updates"])
            .query("limit", &limit)
            .query("timeout", &timeout.as_secs());
        if let Some(marker) = marker {
            call = call.query("marker", &marker);
        }
        call.scope = Scope::Poll;
        call.timeout = timeout + POLL_MARGIN;
        let Wire { updates, marker } = self.answer(call).await?;
        Ok(Updates { updates: updates.unwrap_or_default(), marker })
    }

    /// Waits until a message may go into this dialog within the limits. Nothing is sent yet, so
    /// whoever waited can look once more whether it is still to be said.
    pub async fn turn(&self, to: Recipient) -> Turn {
        let began = Instant::now();
        let permits = self.limits.acquire(Scope::Dialog(to)).await;
        Turn { to, permits, waited: began.elapsed() }
    }

    /// POST /messages. There is no idempotency key: see [`Error::may_have_been_sent`].
    pub async fn send(&self, to: Recipient, message: &NewMessage) -> Result<Message, Error> {
        self.send_in(self.turn(to).await, message).await
    }

    /// The same in a turn that has come.
    pub async fn send_in(&self, turn: Turn, message: &NewMessage) -> Result<Message, Error> {
        #[derive(serde::Deserialize)]
        struct Wire {
            message: Message,
        }
        let (key, id) = match turn.to {
            Recipient::User(id) => ("user_id", id),
            Recipient::Chat(id) => ("chat_id", id.get()),
        };
        let mut call = Outgoing::new(Call::change("POST /messages"), Method::POST, &["messages"]).query(key, &id);
        call.turn = Some(turn);
        let Wire { message } = self.answer(call.json(message)?).await?;
        Ok(message)
    }

    /// PUT /messages. `dialog` is where the message stands, named as in [`Client::send`]: the limit
    /// of two a second counts per dialog, and a message id does not tell it.
    pub async fn edit(&self, dialog: Recipient, mid: &MessageId, message: &NewMessage) -> Result<(), Error> {
        let mut call =
            Outgoing::new(Call::change("PUT /messages"), Method::PUT, &["messages"]).query("message_id", mid);
        call.scope = Scope::Dialog(dialog);
        self.exchange(call.json(message)?).await.map(drop)
    }

    /// GET /messages/{messageId}, which also gives fresh addresses of its attachments.
    /// [`Class::NotFound`] if unknown.
    pub async fn message(&self, mid: &MessageId) -> Result<Message, Error> {
        self.read(Call::read("GET /messages/{messageId}"), &["messages", mid.as_str()]).await
    }

    /// GET /messages of a chat, newest first. What cannot be read as a message is left out;
    /// [`Client::messages_raw`] has it.
    pub async fn messages(&self, chat_id: ChatId, query: History) -> Result<Vec<Message>, Error> {
        let raw = self.messages_raw(chat_id, query, CALL_TIMEOUT).await?;
        Ok(raw.iter().filter_map(|message| Message::parse(message.get())).collect())
    }

    /// The same as it came, for keeping; [`Message::parse`] reads each. `timeout` is for MAX's
    /// answer: waiting for our own limits is not in it.
    pub async fn messages_raw(
        &self,
        chat_id: ChatId,
        query: History,
        timeout: Duration,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        #[derive(serde::Deserialize)]
        struct Wire {
            messages: Vec<Box<RawValue>>,
        }
        let mut call =
            Outgoing::new(Call::read("GET /messages"), Method::GET, &["messages"]).query("chat_id", &chat_id);
        if let Some(before) = query.before {
            call = call.query("before", &before);
        }
        if let Some(after) = query.after {
            call = call.query("after", &after);
        }
        call.timeout = timeout;
        let Wire { messages } = self.answer(call.query("count", &query.count.clamp(1, 100))).await?;
        Ok(messages)
    }

    /// POST /answers. `dialog` as in [`Client::edit`].
    pub async fn answer_callback(
        &self,
        dialog: Recipient,
        callback_id: &str,
        answer: &CallbackAnswer,
    ) -> Result<(), Error> {
        let mut call =
            Outgoing::new(Call::change("POST /answers"), Method::POST, &["answers"]).query("callback_id", &callback_id);
        call.scope = Scope::Dialog(dialog);
        self.exchange(call.json(answer)?).await.map(drop)
    }

    /// POST /chats/{chatId}/actions. Failures are harmless.
    pub async fn action(&self, chat_id: ChatId, action: Action) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body {
            action: Action,
        }
        let chat_id = chat_id.to_string();
        let call = Call::change("POST /chats/{chatId}/actions");
        let call = Outgoing::new(call, Method::POST, &["chats", &chat_id, "actions"]);
        self.exchange(call.json(&Body { action })?).await.map(drop)
    }

    /// POST /uploads, then the bytes to the address it gives. The outcome can be sent at once;
    /// until MAX has processed it the send is answered [`Class::NotReady`]. `name` is what the
    /// customer sees of a file.
    pub async fn upload(
        &self,
        kind: UploadKind,
        name: &str,
        mime: &str,
        bytes: Bytes,
    ) -> Result<OutgoingAttachment, Error> {
        #[derive(serde::Deserialize)]
        struct Endpoint {
            url: Url,
            #[serde(default)]
            token: Option<String>,
        }
        let call = Call::read("POST /uploads");
        let endpoint: Endpoint =
            self.answer(Outgoing::new(call, Method::POST, &["uploads"]).query("type", &kind.as_str())).await?;
        let call = Call::read("the upload of a file");
        let address = files::upload_address(&endpoint.url, &self.base_url)
            .ok_or_else(|| call.not_made(Class::ForbiddenAddress, "MAX named an upload address that is not https"))?;
        let boundary = format!("maxchannel-{}", Uuid::new_v4().simple());
        let timeout = UPLOAD_TIMEOUT + Duration::from_secs((bytes.len() / UPLOAD_BYTES_PER_SECOND) as u64);
        let body = files::multipart(&boundary, name, mime, &bytes);
        drop(bytes);
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
            .map_err(|_| call.not_made(Class::Refused, "the form's boundary fits no header"))?;
        headers.insert(CONTENT_TYPE, content_type);
        let options = Options { timeout, max_answer: LONGEST_UPLOAD_ANSWER };
        let request = request(call, Method::POST, &address, headers, body)?;
        let answer = self.files.send(request, options).await.map_err(|error| call.transport(&error))?;
        if !answer.status().is_success() {
            return Err(call.foreign(&answer, Class::Refused));
        }
        let token = files::upload_token(kind, endpoint.token, answer.body()).ok_or_else(|| call.no_token(&answer))?;
        Ok(OutgoingAttachment::uploaded(kind, token))
    }

    /// Fetches an attachment of at most `max_bytes`, without the token, from hosts of MAX (and the
    /// API host itself) only.
    /// [`Class::NotFound`]: the address has expired, [`Client::message`] has a new one.
    /// [`Class::TooLarge`]: longer than `max_bytes`.
    pub async fn download(&self, url: &Url, max_bytes: usize) -> Result<Download, Error> {
        let call = Call::read("the download of an attachment");
        let address = files::download_address(url, &self.base_url).ok_or_else(|| {
            let host = url.host_str().unwrap_or("no host");
            call.not_made(Class::ForbiddenAddress, &format!("the address ({host}) is not of MAX"))
        })?;
        let options = Options { timeout: DOWNLOAD_TIMEOUT, max_answer: max_bytes };
        let request = request(call, Method::GET, &address, HeaderMap::new(), Bytes::new())?;
        let answer = self.files.send(request, options).await.map_err(|error| call.transport(&error))?;
        if !answer.status().is_success() {
            return Err(call.foreign(&answer, Class::NotFound));
        }
        let (parts, bytes) = answer.into_parts();
        Ok(Download::new(&parts.headers, bytes))
    }

    /// GET /videos/{videoToken}: the addresses behind a video attachment.
    pub async fn video(&self, token: &str) -> Result<VideoDetails, Error> {
        self.read(Call::read("GET /videos/{videoToken}"), &["videos", token]).await
    }

    async fn read<T: DeserializeOwned>(&self, call: Call, path: &[&str]) -> Result<T, Error> {
        self.answer(Outgoing::new(call, Method::GET, path)).await
    }

    async fn answer<T: DeserializeOwned>(&self, outgoing: Outgoing<'_>) -> Result<T, Error> {
        let call = outgoing.call;
        let answer = self.exchange(outgoing).await?;
        if let Ok(read) = serde_json::from_slice(answer.body()) {
            return Ok(read);
        }
        // Half an emoji in one message of a dialog must not hide the others.
        let text = String::from_utf8_lossy(answer.body());
        serde_json::from_str(&super::lenient::sound(&text)).map_err(|_| call.unreadable(&answer))
    }

    /// One request to the API host within its limits; the answer is 2xx, JSON, and not
    /// `success: false`.
    async fn exchange(&self, outgoing: Outgoing<'_>) -> Result<Response, Error> {
        let call = outgoing.call;
        let Some(authorization) = &self.authorization else {
            let reason =
                "the token is empty or contains spaces or other characters that no token has, nothing was sent";
            return Err(call.not_made(Class::Unauthorized, reason));
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.clone());
        if !outgoing.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let address = outgoing.address(&self.base_url);
        let mut request = request(call, outgoing.method, &address, headers, outgoing.body)?;
        let options = Options { timeout: outgoing.timeout, ..Options::default() };
        let answer = {
            let began = Instant::now();
            let (_places, waited) = match outgoing.turn {
                Some(Turn { permits, waited, .. }) => (permits, waited),
                None => (self.limits.acquire(outgoing.scope).await, began.elapsed()),
            };
            if let Some(left) = self.limits.hold.left() {
                return Err(call.held(left));
            }
            request.extensions_mut().insert(Waited(waited));
            self.api.send(request, options).await.map_err(|error| call.transport(&error))?
        };
        self.limits.hold.on_answer(&answer);
        let secrets = [authorization.to_str().unwrap_or_default(), outgoing.secret];
        if !answer.status().is_success() {
            return Err(call.refused(&answer, &secrets));
        }
        match serde_json::from_slice::<Success>(answer.body()) {
            Ok(Success { success: Some(false) }) => Err(call.unsuccessful(&answer, &secrets)),
            Ok(_) => Ok(answer),
            Err(_) => Err(call.unreadable(&answer)),
        }
    }
}

/// What several calls answer with, and any might: 200 and `success: false` is a refusal (MAX Bot
/// API reference, "Error envelope"). Without `success` it is none.
#[derive(serde::Deserialize)]
struct Success {
    #[serde(default, deserialize_with = "super::lenient::option")]
    success: Option<bool>,
}

/// One request to the API host, not yet with an address and a token.
struct Outgoing<'a> {
    call: Call,
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Bytes,
    scope: Scope,
    /// A turn that has come already; else it is waited for.
    turn: Option<Turn>,
    timeout: Duration,
    /// A secret in the body, which an answer may repeat and an error must not.
    secret: &'a str,
}

impl<'a> Outgoing<'a> {
    fn new(call: Call, method: Method, path: &[&'a str]) -> Self {
        let (query, body) = (Vec::new(), Bytes::new());
        let path = path.to_vec();
        Self { call, method, path, query, body, scope: Scope::Host, turn: None, timeout: CALL_TIMEOUT, secret: "" }
    }

    fn query(mut self, key: &'static str, value: &dyn fmt::Display) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body);
        self.body = body.map_err(|_| self.call.not_made(Class::Refused, "the body cannot be written as JSON"))?.into();
        Ok(self)
    }

    fn address(&self, base_url: &Url) -> Url {
        let mut address = base_url.clone();
        if let Ok(mut path) = address.path_segments_mut() {
            path.pop_if_empty().extend(&self.path);
        }
        address.set_query(None);
        if !self.query.is_empty() {
            address.query_pairs_mut().extend_pairs(&self.query);
        }
        address
    }
}

fn request(call: Call, method: Method, address: &Url, headers: HeaderMap, body: Bytes) -> Result<Request, Error> {
    let mut request = http::Request::builder()
        .method(method)
        .uri(address.as_str())
        .body(body)
        .map_err(|_| call.not_made(Class::Refused, "the address is not one that HTTP can carry"))?;
    *request.headers_mut() = headers;
    Ok(request)
}
