//! The calls: signing, limits, the penalty box, and the three envelopes of answers.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::code::{Meaning, meaning};
use super::wire::{WireBalance, WireEmployees, WireGroups, WireWidgets, as_int};
use super::{Balance, Class, Employee, Error, Group, Settings, Widget};
use crate::transport::{Hold, Limiter, Options, Response, Transport, Waited, readable};

/// How long a wrong request counts: two minutes (MANGO OFFICE API reference, 1.5), and a little for
/// the way and the clocks.
const PENALTY: Duration = Duration::from_secs(125);
/// The slowest line that a file is given time for.
const UPLOAD_BYTES_PER_SECOND: usize = 256 * 1024;
const FORM_TYPE: &str = "application/x-www-form-urlencoded";
/// What may stand bare in a form.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Errors of Манго Диалоги that stay although their code is the 5000 of a server fault (MANGO
/// OFFICE API reference, 4.1).
const LASTING: &[&str] = &[
    "not found",
    "disabled",
    "unsupported",
    "does not support",
    "already",
    "not taken",
    "closed",
    "assigned",
    "unique",
];

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Method {
    Employees,
    Groups,
    Balance,
    Widgets,
    Sessions,
    Create,
    Take,
    Transfer,
    Close,
    Send,
    SendFile,
    History,
}

impl Method {
    fn path(self) -> &'static str {
        match self {
            Self::Employees => "/vpbx/config/users/request",
            Self::Groups => "/vpbx/groups",
            Self::Balance => "/vpbx/account/balance",
            Self::Widgets => "/cc/md/widgets",
            Self::Sessions => "/cc/md/sessions",
            Self::Create => "/cc/md/session/create",
            Self::Take => "/cc/md/session/take",
            Self::Transfer => "/cc/md/session/transfer",
            Self::Close => "/cc/md/session/close",
            Self::Send | Self::SendFile => "/cc/md/session/chat/send_message",
            Self::History => "/cc/md/session/chat/history",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Employees => "the list of employees",
            Self::Groups => "the list of groups",
            Self::Balance => "the balance",
            Self::Widgets => "the list of channels",
            Self::Sessions => "the list of dialogs",
            Self::Create => "the start of a dialog",
            Self::Take => "the taking of a dialog",
            Self::Transfer => "the transfer of a dialog",
            Self::Close => "the closing of a dialog",
            Self::Send => "a message",
            Self::SendFile => "a file",
            Self::History => "the messages of a dialog",
        }
    }

    /// Of Манго Диалоги, whose refusals mean something else.
    fn is_of_dialogs(self) -> bool {
        !matches!(self, Self::Employees | Self::Groups | Self::Balance)
    }
}

/// A file beside a request.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    pub name: &'a str,
    pub mime_type: &'a str,
    pub bytes: &'a [u8],
}

/// One client of one account. Clones share the limits and the penalty box; so must all that use one
/// key.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    settings: Settings,
    any: Limiter,
    dialogs: Limiter,
    send: Limiter,
    history: Limiter,
    employees: Limiter,
    balance: Limiter,
    /// What MANGO asks for by `Retry-After`.
    hold: Hold,
    breaker: Mutex<Breaker>,
    /// Held over a call while the key is unproven, so that a wrong key costs one wrong request and
    /// not several.
    unproven: tokio::sync::Mutex<()>,
}

/// The penalty box as far as it is seen from here.
#[derive(Default)]
struct Breaker {
    standing: Standing,
    /// Nothing at all leaves before.
    closed: Option<(Instant, Closed)>,
    /// Nothing of this kind leaves before.
    methods: HashMap<Method, (Instant, u16)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// No call has succeeded yet.
    #[default]
    Unproven,
    Proven,
    /// A 401 came: the block, or a wrong key. The next call is preceded by a harmless one.
    Suspect,
}

#[derive(Clone)]
enum Closed {
    /// After a 401.
    Blocked,
    /// After a refusal of key or signature, with its sentence.
    Invalid(String),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.shared.settings.base_url.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; nothing is sent before the first call.
    pub fn new(transport: Arc<dyn Transport>, settings: Settings) -> Self {
        // MANGO OFFICE API reference, 1.6: per product.
        let shared = Shared {
            transport,
            dialogs: Limiter::new(settings.dialogs_per_second, Duration::from_secs(1)),
            settings,
            any: Limiter::new(10, Duration::from_secs(1)),
            send: Limiter::new(4, Duration::from_secs(1)),
            history: Limiter::new(4, Duration::from_secs(1)),
            employees: Limiter::new(1, Duration::from_secs(2)),
            balance: Limiter::new(2, Duration::from_secs(1)),
            hold: Hold::default(),
            breaker: Mutex::default(),
            unproven: tokio::sync::Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Until when MANGO OFFICE is left alone.
    #[must_use]
    pub fn hold(&self) -> &Hold {
        &self.shared.hold
    }

    /// All employees with their ids and groups.
    ///
    /// # Errors
    /// See [`Class`].
    pub async fn employees(&self) -> Result<Vec<Employee>, Error> {
        // Without both fields the answer carries neither ids nor groups (MANGO OFFICE API
        // reference, 2.2).
        let answer: WireEmployees =
            self.call(Method::Employees, &json!({ "ext_fields": ["general.user_id", "groups"] })).await?;
        Ok(answer.users.into_iter().map(Employee::from).collect())
    }

    /// All groups, with their members if wanted.
    ///
    /// # Errors
    /// See [`Class`].
    pub async fn groups(&self, show_users: bool) -> Result<Vec<Group>, Error> {
        let answer: WireGroups = self.call(Method::Groups, &json!({ "show_users": u8::from(show_users) })).await?;
        Ok(answer.groups)
    }

    /// The balance of the account; the cheapest proof that key and salt are right.
    ///
    /// # Errors
    /// See [`Class`].
    pub async fn balance(&self) -> Result<Balance, Error> {
        let answer: WireBalance = self.call(Method::Balance, &json!({})).await?;
        Ok(answer.into())
    }

    /// All groups of channels of Манго Диалоги; empty where there are none.
    ///
    /// # Errors
    /// See [`Class`].
    pub async fn widgets(&self) -> Result<Vec<Widget>, Error> {
        let answer: WireWidgets = self.call(Method::Widgets, &json!({ "id": Uuid::new_v4() })).await?;
        Ok(answer.widgets)
    }

    pub(super) async fn call<T: DeserializeOwned>(&self, method: Method, json: &Value) -> Result<T, Error> {
        self.call_with(method, json, None).await
    }

    /// The same with a file beside.
    pub(super) async fn call_with<T: DeserializeOwned>(
        &self,
        method: Method,
        json: &Value,
        file: Option<&Upload<'_>>,
    ) -> Result<T, Error> {
        let standing = self.open(method)?;
        if standing == Standing::Proven {
            return self.exchange(method, json, file, standing).await;
        }
        let _alone = self.shared.unproven.lock().await;
        // Whoever had the lock may have learned something.
        let mut standing = self.open(method)?;
        if standing == Standing::Suspect && method != Method::Balance {
            self.exchange::<Value>(Method::Balance, &json!({}), None, standing).await?;
            standing = Standing::Proven;
        }
        // Whether a file is let in says nothing of the key.
        if standing == Standing::Unproven && file.is_some() {
            self.exchange::<Value>(Method::Balance, &json!({}), None, standing).await?;
            standing = Standing::Proven;
        }
        self.exchange(method, json, file, standing).await
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.shared.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may leave now.
    fn open(&self, method: Method) -> Result<Standing, Error> {
        let mut breaker = self.breaker();
        let now = Instant::now();
        if let Some((until, why)) = breaker.closed.clone() {
            if now < until {
                let left = until - now;
                return Err(match why {
                    Closed::Blocked => blocked(method, left),
                    Closed::Invalid(sentence) => Error::new(
                        Class::CredentialsInvalid,
                        format!("{sentence} (not asked again for another {} s)", seconds(left)),
                    ),
                });
            }
            breaker.closed = None;
        }
        if let Some((until, code)) = breaker.methods.get(&method).copied() {
            if now < until {
                let left = until - now;
                let sentence = format!(
                    "MANGO OFFICE refused {} with {code}, and a second wrong request within two minutes would block the \
                     key: nothing like it is sent for another {} s",
                    method.noun(),
                    seconds(left)
                );
                return Err(Error::new(Class::Penalty { left }, sentence));
            }
            breaker.methods.remove(&method);
        }
        Ok(breaker.standing)
    }

    /// `standing`: that of the key when the request leaves; others may change it meanwhile.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        json: &Value,
        file: Option<&Upload<'_>>,
        standing: Standing,
    ) -> Result<T, Error> {
        let shared = &*self.shared;
        let json = json.to_string();
        let (key, salt) = (shared.settings.api_key.expose_secret(), shared.settings.api_salt.expose_secret());
        let (content_type, body) = match file {
            None => (FORM_TYPE.to_owned(), Bytes::from(form(key, salt, &json))),
            Some(file) => multipart(key, &sign(key, salt, &json), &json, file),
        };
        let timeout = Options::default().timeout
            + Duration::from_secs(file.map_or(0, |file| file.bytes.len() / UPLOAD_BYTES_PER_SECOND) as u64);
        let base = shared.settings.base_url.as_str().trim_end_matches('/');
        let mut request = http::Request::post(format!("{base}{}", method.path()))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json")
            .body(body)
            .map_err(|_| Error::new(Class::Unreachable, "the address of MANGO OFFICE is no valid URL: check it"))?;
        let began = Instant::now();
        // The narrow limit first: a place under the wide one is then not held while waiting.
        let _narrow = match method {
            Method::Employees => Some(shared.employees.acquire().await),
            Method::Balance => Some(shared.balance.acquire().await),
            Method::Send | Method::SendFile => Some(shared.send.acquire().await),
            Method::History => Some(shared.history.acquire().await),
            _ => None,
        };
        let _wider = if method.is_of_dialogs() { Some(shared.dialogs.acquire().await) } else { None };
        let _wide = shared.any.acquire().await;
        if let Some(left) = shared.hold.left() {
            let sentence = format!(
                "MANGO OFFICE asks to be left alone: {} is not asked for another {} s",
                method.noun(),
                seconds(left)
            );
            return Err(Error::new(Class::Throttled, sentence).with_retry_after(left));
        }
        request.extensions_mut().insert(Waited(began.elapsed()));
        let answer =
            shared.transport.send(request, Options { timeout, ..Options::default() }).await.map_err(|error| {
                Error::new(Class::Unreachable, format!("{} was not answered: {error}", method.noun()))
            })?;
        shared.hold.on_answer(&answer);
        self.read(method, &answer, standing).map_err(|error| match shared.hold.left() {
            Some(left) => error.with_retry_after(left),
            None => error,
        })
    }

    fn read<T: DeserializeOwned>(&self, method: Method, answer: &Response, standing: Standing) -> Result<T, Error> {
        let status = answer.status();
        let body: Option<Value> = readable(answer.body()).filter(Value::is_object);
        let member = |name: &str| body.as_ref().and_then(|body| body.get(name));
        let code = ["code", "result"]
            .into_iter()
            .filter_map(|name| member(name).and_then(as_int))
            .find_map(|code| u16::try_from(code).ok().filter(|code| *code >= 1000));
        let words =
            ["error", "message", "description"].into_iter().find_map(|name| member(name).and_then(Value::as_str));
        let words = words.map(|words| self.safe(words)).unwrap_or_default();
        let refusal = Refusal { method, status, words: &words, request_id: self.request_id(answer) };
        // The body first: the HTTP status alone says too little (MANGO OFFICE API reference, 1.4).
        let told_status = member("status").and_then(as_int);
        if told_status == Some(429) || (code.is_none() && status == StatusCode::TOO_MANY_REQUESTS) {
            return Err(refusal.error(Class::Throttled, "too many requests, ask less often"));
        }
        match code {
            Some(code) => self.judge(&refusal, code)?,
            None if status == StatusCode::UNAUTHORIZED => return Err(self.unauthorized(&refusal, standing)),
            None if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                return Err(refusal.error(Class::Transient, "try again later"));
            }
            None if status == StatusCode::FORBIDDEN => {
                return Err(refusal.error(
                    Class::Refused { code: 403 },
                    "check the list of addresses that may call the API (Интеграции → API коннектор)",
                ));
            }
            None if status.is_redirection() => {
                let about = "a redirect, which is not followed: check the address of MANGO OFFICE";
                return Err(refusal.error(Class::Unreachable, about));
            }
            // MANGO OFFICE gives a code with every refusal of its own, so it was somebody else, and
            // nothing is said of the key.
            None if !status.is_success() => {
                let about = "not an answer of this API: check the address of MANGO OFFICE, and whether it is https://";
                return Err(refusal.error(Class::Unreachable, about));
            }
            None => {}
        }
        let read = body.map(serde_json::from_value).transpose().ok().flatten();
        let Some(read) = read else {
            return Err(refusal.error(Class::Transient, "the answer is not the documented JSON"));
        };
        self.prove();
        Ok(read)
    }

    /// What a result code means, and what it closes.
    fn judge(&self, refusal: &Refusal<'_>, code: u16) -> Result<(), Error> {
        let (mut meaning, about) = meaning(code);
        // In Манго Диалоги 3100 is "Authorization failed", and 5000 covers everything (MANGO OFFICE
        // API reference, 4.1).
        let dialogs = refusal.method.is_of_dialogs();
        if dialogs && code == 3100 {
            meaning = Meaning::Credentials;
        }
        // The key is known to be good: it is the way in which a form with a file is signed, which
        // no document tells.
        if refusal.method == Method::SendFile && meaning == Meaning::Credentials {
            meaning = Meaning::BadRequest;
        }
        let lower = refusal.words.to_lowercase();
        if dialogs && code == 5000 && LASTING.iter().any(|lasting| lower.contains(lasting)) {
            meaning = Meaning::Refused;
        }
        let about = format!("{code}, {about}");
        let class = match meaning {
            Meaning::Success => return Ok(()),
            Meaning::Credentials => {
                let error = refusal.error(
                    Class::CredentialsInvalid,
                    &format!("{about}: put the right apiKey and apiSalt (Интеграции → API коннектор) into the Secret"),
                );
                self.close_key(Closed::Invalid(error.to_string()), Standing::Unproven);
                return Err(error);
            }
            Meaning::BadRequest => {
                self.breaker().methods.insert(refusal.method, (Instant::now() + PENALTY, code));
                Class::Refused { code }
            }
            // Whoever is told such a thing was let in.
            Meaning::Billing => {
                self.prove();
                Class::Billing { code }
            }
            Meaning::Refused => {
                self.prove();
                Class::Refused { code }
            }
            Meaning::Throttled => Class::Throttled,
            Meaning::Transient => Class::Transient,
        };
        Err(refusal.error(class, &about))
    }

    /// 401 without a code: the block for wrong requests, unless the harmless call after two minutes
    /// meets it too.
    fn unauthorized(&self, refusal: &Refusal<'_>, standing: Standing) -> Error {
        if standing == Standing::Suspect {
            let error = refusal.error(
                Class::CredentialsInvalid,
                "two minutes after the last wrong request it refuses the key still: put the right apiKey and apiSalt \
                 (Интеграции → API коннектор) into the Secret",
            );
            self.close_key(Closed::Invalid(error.to_string()), Standing::Suspect);
            return error;
        }
        self.close_key(Closed::Blocked, Standing::Suspect);
        blocked(refusal.method, PENALTY)
    }

    /// The key is let in, unless it was closed since: an answer from before proves nothing.
    fn prove(&self) {
        let mut breaker = self.breaker();
        if breaker.closed.is_none() {
            breaker.standing = Standing::Proven;
        }
    }

    fn close_key(&self, why: Closed, standing: Standing) {
        let mut breaker = self.breaker();
        breaker.standing = standing;
        breaker.closed = Some((Instant::now() + PENALTY, why));
    }

    /// A foreign text made fit for a sentence.
    fn safe(&self, text: &str) -> String {
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in [&self.shared.settings.api_key, &self.shared.settings.api_salt] {
            let secret = secret.expose_secret();
            if secret.len() >= 4 {
                text = text.replace(secret, "…");
            }
        }
        text.chars().take(200).collect()
    }

    /// What to quote to MANGO's support (MANGO OFFICE API reference, 1.4).
    fn request_id(&self, answer: &Response) -> Option<String> {
        let id = answer.headers().get("x-uuid")?.to_str().ok()?;
        Some(self.safe(id)).filter(|id| !id.is_empty())
    }
}

struct Refusal<'a> {
    method: Method,
    status: StatusCode,
    words: &'a str,
    request_id: Option<String>,
}

impl Refusal<'_> {
    fn error(&self, class: Class, about: &str) -> Error {
        let said = if self.words.is_empty() { String::new() } else { format!(" \"{}\"", self.words) };
        let id = self.request_id.as_ref().map_or_else(String::new, |id| format!(" (request {id})"));
        let (method, status) = (self.method.noun(), self.status.as_u16());
        Error::new(class, format!("MANGO OFFICE refuses {method} with status {status}{said}{id}: {about}"))
            .with_words(self.words)
    }
}

fn blocked(method: Method, left: Duration) -> Error {
    let sentence = format!(
        "MANGO OFFICE does not let the key in (401), probably for two wrong requests within two minutes: {} is not asked for \
         another {} s",
        method.noun(),
        seconds(left)
    );
    Error::new(Class::Penalty { left }, sentence)
}

/// Whole seconds, rounded up.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// The three fields of every request; `json` is signed as it is sent (MANGO OFFICE API reference,
/// 1.3).
fn form(key: &str, salt: &str, json: &str) -> String {
    let sign = sign(key, salt, json);
    let encode = |text| utf8_percent_encode(text, FORM);
    format!("vpbx_api_key={}&sign={sign}&json={}", encode(key), encode(json))
}

/// A form with a file: what a request without one holds as fields, its parts hold, and what is
/// signed is the part `request`. The part and its name are documented, its signing is not.
fn multipart(key: &str, sign: &str, json: &str, file: &Upload<'_>) -> (String, Bytes) {
    let boundary = format!("maxchannel-{}", Uuid::new_v4().simple());
    let name = file.name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let is_type = http::HeaderValue::from_str(file.mime_type).is_ok() && file.mime_type.contains('/');
    let mime_type = if is_type { file.mime_type } else { "application/octet-stream" };
    let field = |name: &str, text: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let head = field("vpbx_api_key", key)
        + &field("sign", sign)
        + &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"request\"\r\nContent-Type: \
             application/json\r\n\r\n{json}\r\n"
        )
        + &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: \
             {mime_type}\r\n\r\n"
        );
    let tail = format!("\r\n--{boundary}--\r\n");
    let mut whole = BytesMut::with_capacity(head.len() + file.bytes.len() + tail.len());
    for part in [head.as_bytes(), file.bytes, tail.as_bytes()] {
        whole.extend_from_slice(part);
    }
    (format!("multipart/form-data; boundary={boundary}"), whole.freeze())
}

/// Lower-case hex of SHA-256 over key, json and salt: no HMAC (MANGO OFFICE API reference, 1.3).
pub(super) fn sign(key: &str, salt: &str, json: &str) -> String {
    let digest = Sha256::new().chain_update(key).chain_update(json).chain_update(salt).finalize();
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
