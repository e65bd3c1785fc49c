//! Signing in, in both kinds, and knowing when one is no longer signed in (Creatio API reference,
//! 1).
//!
//! Invariants: one sign-in at a time, whoever waits takes its result; a refused sign-in is not
//! repeated before a growing pause is over, since too many wrong ones lock the user; an expired
//! session is recognised by the answer, never by a failed transport.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;

use super::error::{Class, Error, excerpt, fault, is_html, retry_after};
use super::wire::{Kind, Outlet, encode};
use super::{Credentials, Runtime, Settings, lenient};
use crate::time::Backoff;
use crate::transport::{Options, Request, Response};

/// Share of a token's life after which it is renewed (Creatio API reference, 1.3: 80-90 %), in
/// percent.
const RENEW_AFTER: u32 = 85;
/// Life of a token that does not say (Creatio API reference, 1.3).
const DEFAULT_LIFE: i64 = 3600;
/// After a refused sign-in.
const AFTER_REFUSAL: Backoff = Backoff::doubling(Duration::from_secs(30), Duration::from_mins(15));
/// Pause after a sign-in that failed for another reason.
const FAILED_PAUSE: Duration = Duration::from_millis(400);
/// Between attempts to renew a token that still serves.
const RENEW_AGAIN: Duration = Duration::from_secs(15);
/// How long a permission refused right after a sign-in is not asked for with another sign-in.
const DENIED: Duration = Duration::from_mins(1);
/// Prefix of .NET Framework sites and of .NET sites (Creatio API reference, 1.2).
const FRAMEWORK: &str = "0/";
const NET: &str = "";

const BPMCSRF: &str = "BPMCSRF";
const FORCE_USE_SESSION: HeaderName = HeaderName::from_static("forceusesession");
const BPMCSRF_HEADER: HeaderName = HeaderName::from_static("bpmcsrf");

/// Why an answer is none: the site did not run the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// 401.
    Unauthorized,
    /// 403: a dead session, a wrong CSRF token, or really a missing right.
    Forbidden,
    /// A redirect to the sign-in page.
    Login,
    /// A redirect to another scheme or host, as `scheme://host`.
    Elsewhere(String),
    /// 200 with a page.
    Page,
}

impl Lost {
    /// The shapes of Creatio API reference, 1.1. `file`: a page may be the wanted answer if it
    /// comes as a file.
    pub fn seen(answer: &Response, root: &Url, file: bool) -> Option<Self> {
        match answer.status() {
            StatusCode::UNAUTHORIZED => Some(Self::Unauthorized),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                let target = location.and_then(|location| root.join(location).ok());
                match target {
                    // The sign-in page may even be another site's (single sign-on).
                    Some(url) if url.path().to_ascii_lowercase().contains("login") => Some(Self::Login),
                    Some(url) if url.origin() != root.origin() => {
                        Some(Self::Elsewhere(url.origin().ascii_serialization()))
                    }
                    _ => Some(Self::Login),
                }
            }
            StatusCode::OK
                if is_html(answer) && !(file && answer.headers().contains_key(header::CONTENT_DISPOSITION)) =>
            {
                Some(Self::Page)
            }
            _ => None,
        }
    }
}

/// One sign-in's result. Late answers of an older session change that one only.
#[derive(Debug)]
pub(super) struct Session {
    /// Counts sign-ins.
    number: u64,
    proof: Proof,
}

enum Proof {
    Token { token: SecretString, renew_at: Instant, expires_at: Instant },
    Cookies(Mutex<Jar>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token { .. } => "Token",
            Self::Cookies(_) => "Cookies",
        })
    }
}

impl Session {
    /// Adds what proves the session to a request.
    pub fn sign(&self, headers: &mut HeaderMap) {
        match &self.proof {
            Proof::Token { token, .. } => {
                if let Some(value) = secret_header(&format!("Bearer {}", token.expose_secret())) {
                    headers.insert(header::AUTHORIZATION, value);
                }
            }
            Proof::Cookies(jar) => {
                let jar = jar.lock().unwrap_or_else(PoisonError::into_inner);
                headers.insert(FORCE_USE_SESSION, HeaderValue::from_static("true"));
                if let Some(value) = secret_header(&jar.header()) {
                    headers.insert(header::COOKIE, value);
                }
                if let Some(value) = jar.get(BPMCSRF).and_then(secret_header) {
                    headers.insert(BPMCSRF_HEADER, value);
                }
            }
        }
    }

    /// Any answer may change cookies, also a failure.
    pub fn keep_cookies(&self, answer: &Response) {
        if let Proof::Cookies(jar) = &self.proof {
            jar.lock().unwrap_or_else(PoisonError::into_inner).keep(answer);
        }
    }

    fn hide(&self, text: &mut String) {
        match &self.proof {
            Proof::Token { token, .. } => hide(text, token.expose_secret()),
            Proof::Cookies(jar) => {
                for (_, value) in &jar.lock().unwrap_or_else(PoisonError::into_inner).cookies {
                    hide(text, value.expose_secret());
                }
            }
        }
    }
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn hide(text: &mut String, secret: &str) {
    if secret.len() >= 4 && text.contains(secret) {
        *text = text.replace(secret, "…");
    }
}

/// The cookies of one site. Paths and life-times are not looked at: all go with every call (Creatio
/// API reference, 1.1).
#[derive(Default)]
struct Jar {
    cookies: Vec<(String, SecretString)>,
}

impl Jar {
    fn keep(&mut self, answer: &Response) {
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let Ok(cookie) = cookie.to_str() else { continue };
            let mut parts = cookie.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            let ended = value.is_empty()
                || parts.any(|attribute| {
                    let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
                    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
                    // A cookie is taken back by an end in the past; servers write 0, a negative age
                    // or the year 1970.
                    (key == "max-age" && value.parse::<i64>().is_ok_and(|age| age <= 0))
                        || (key == "expires" && value.contains("1970"))
                });
            self.cookies.retain(|(kept, _)| kept != name);
            if !ended {
                self.cookies.push((name.to_owned(), SecretString::from(value)));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(kept, _)| kept == name).map(|(_, value)| value.expose_secret())
    }

    fn header(&self) -> String {
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect();
        pairs.join("; ")
    }
}

/// The sessions of one client: at most one at a time.
pub(super) struct Sessions {
    settings: Settings,
    /// Root of the site with a trailing slash and without `0/`.
    root: Url,
    host: String,
    prefix: OnceCell<&'static str>,
    state: tokio::sync::Mutex<State>,
    /// Paths refused right after a sign-in, and when.
    denied: Mutex<HashMap<String, Instant>>,
    /// The current session again, for hiding its secrets without waiting for a sign-in.
    shown: Mutex<Option<Arc<Session>>>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    sign_ins: u64,
    /// The last sign-in failed: when, how, and not to be tried again before.
    failed: Option<Failed>,
    /// Refusals in a row.
    refusals: u32,
    renew_again_at: Option<Instant>,
}

struct Failed {
    at: Instant,
    until: Instant,
    error: Error,
}

impl Sessions {
    pub fn new(settings: Settings) -> Self {
        let mut root = settings.url.clone();
        root.set_query(None);
        root.set_fragment(None);
        let path = root.path().trim_end_matches('/');
        let path = path.strip_suffix("/0").unwrap_or(path);
        root.set_path(&format!("{path}/"));
        let host = match (root.host_str(), root.port()) {
            (Some(host), Some(port)) => format!("the CRM {host}:{port}"),
            (Some(host), None) => format!("the CRM {host}"),
            (None, _) => "the CRM".to_owned(),
        };
        Self {
            settings,
            root,
            host,
            prefix: OnceCell::new(),
            state: tokio::sync::Mutex::default(),
            denied: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn root(&self) -> &Url {
        &self.root
    }

    /// An address below the root of the site.
    pub fn address(&self, path: &str) -> Result<Url, Error> {
        self.root.join(path).map_err(|_| {
            let sentence = format!("no address can be made on {}: check spec.creatio.url", self.host);
            Error::new(Class::WrongAddress, false, sentence)
        })
    }

    /// The prefix, where it is known already.
    pub fn known_prefix(&self) -> Option<&'static str> {
        match self.settings.runtime {
            Runtime::Net => Some(NET),
            Runtime::Framework => Some(FRAMEWORK),
            Runtime::Auto => self.prefix.get().copied(),
        }
    }

    /// The prefix of all paths but the sign-in. The site is asked once; a failure to ask is not
    /// remembered.
    pub async fn prefix(&self, outlet: &Outlet) -> Result<&'static str, Error> {
        match self.known_prefix() {
            Some(prefix) => Ok(prefix),
            None => self.prefix.get_or_try_init(|| self.probe(outlet)).await.copied(),
        }
    }

    /// Health addresses first, then the sign-in pages (Creatio API reference, 1.2).
    async fn probe(&self, outlet: &Outlet) -> Result<&'static str, Error> {
        for (path, prefix, page) in [
            ("api/HealthCheck/Ping", NET, false),
            ("0/api/HealthCheck/Ping", FRAMEWORK, false),
            ("Login/Login.html", NET, true),
            ("0/Login/NuiLogin.aspx", FRAMEWORK, true),
        ] {
            let request = http::Request::get(self.address(path)?.as_str()).body(Bytes::new());
            let Ok(request) = request else { continue };
            let about = "the question which .NET the site runs on";
            let answer = self.exchange(outlet, Kind::Probe, request, about).await?;
            if answer.status() == StatusCode::OK && (page || !is_html(&answer)) {
                return Ok(prefix);
            }
            if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
                return Err(self.unwell(&answer, about));
            }
        }
        let sentence = format!(
            "{} does not show which .NET it runs on (no /api/HealthCheck/Ping with or without /0): check spec.creatio.url, or \
             set spec.creatio.runtime to Net or Framework",
            self.host
        );
        Err(Error::new(Class::WrongAddress, false, sentence))
    }

    /// The session, after a sign-in where there is none.
    pub async fn current(&self, outlet: &Outlet) -> Result<Arc<Session>, Error> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(session) = &state.session {
            match &session.proof {
                Proof::Token { expires_at, .. } if *expires_at <= now => {}
                Proof::Token { renew_at, .. } if *renew_at <= now => {
                    let session = Arc::clone(session);
                    if state.renew_again_at.is_some_and(|at| now < at) {
                        return Ok(session);
                    }
                    // A token that still serves bridges a short failure of the Identity Service.
                    let renewed = self.sign_in(outlet, &mut state, asked).await;
                    if renewed.is_err() {
                        state.renew_again_at = Some(Instant::now() + RENEW_AGAIN);
                    }
                    return Ok(renewed.unwrap_or(session));
                }
                _ => return Ok(Arc::clone(session)),
            }
        }
        self.sign_in(outlet, &mut state, asked).await
    }

    /// Another session than the one that was refused; whoever comes second takes what the first one
    /// got.
    pub async fn renew(&self, outlet: &Outlet, refused: &Session) -> Result<Arc<Session>, Error> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        match &state.session {
            Some(session) if session.number != refused.number => return Ok(Arc::clone(session)),
            _ => state.session = None,
        }
        self.sign_in(outlet, &mut state, asked).await
    }

    async fn sign_in(&self, outlet: &Outlet, state: &mut State, asked: Instant) -> Result<Arc<Session>, Error> {
        if let Some(failed) = &state.failed {
            let now = Instant::now();
            if now < failed.until && failed.error.class() != Class::CredentialsInvalid {
                return Err(failed.error.clone());
            }
            if now < failed.until {
                let wait = (failed.until - now).as_secs() + 1;
                return Err(failed.error.clone().map_sentence(|sentence| {
                    format!("{sentence} (not tried again for another {wait} s, so that the user is not locked)")
                }));
            }
            // Who waited for an attempt that failed shares its result instead of trying in turn.
            if asked < failed.at {
                return Err(failed.error.clone());
            }
        }
        let result = match &self.settings.credentials {
            Credentials::OAuth { client_id, client_secret } => self.token(outlet, client_id, client_secret).await,
            Credentials::Forms { username, password } => self.form(outlet, username, password).await,
        };
        match result {
            Ok(proof) => {
                state.sign_ins += 1;
                state.failed = None;
                state.refusals = 0;
                state.renew_again_at = None;
                let session = Arc::new(Session { number: state.sign_ins, proof });
                state.session = Some(Arc::clone(&session));
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                let error = error.map_sentence(|sentence| self.scrub(sentence));
                let at = Instant::now();
                // Those who come in a crowd share one failure.
                let mut until = at + FAILED_PAUSE;
                if error.class() == Class::CredentialsInvalid {
                    until = at + AFTER_REFUSAL.after(state.refusals);
                    state.refusals += 1;
                }
                state.failed = Some(Failed { at, until, error: error.clone() });
                Err(error)
            }
        }
    }

    /// OAuth 2.0 client credentials (Creatio API reference, 1.3).
    async fn token(&self, outlet: &Outlet, client_id: &str, secret: &SecretString) -> Result<Proof, Error> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: Option<String>,
            #[serde(default, deserialize_with = "lenient::opt_int")]
            expires_in: Option<i64>,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: Option<String>,
            error_description: Option<String>,
        }
        let url = self.identity_url()?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let wrong_address = |what: &str| {
            let sentence = format!(
                "wrong identity service URL: {host} {what} where a token is expected; write the address of the Identity \
                 Service (in the cloud https://<instance>-is.creatio.com) into spec.creatio.identityUrl"
            );
            Error::new(Class::WrongAddress, false, sentence)
        };
        let body = format!(
            "client_id={}&client_secret={}&grant_type=client_credentials",
            encode(client_id),
            encode(secret.expose_secret())
        );
        let request = http::Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(body))
            .map_err(|_| wrong_address("makes no valid address"))?;
        let about = format!("signing in at the Identity Service {host}");
        let answer = self.exchange(outlet, Kind::SignIn, request, &about).await?;
        let status = answer.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Err(self.unwell(&answer, &about));
        }
        if is_html(&answer) {
            return Err(wrong_address("answers a page of HTML"));
        }
        if status.is_redirection() {
            return Err(wrong_address("redirects"));
        }
        if status.is_success() {
            let read = serde_json::from_slice::<Answer>(answer.body()).ok();
            let Some(Answer { access_token: Some(token), expires_in }) = read else {
                return Err(wrong_address("answers no token"));
            };
            let token = SecretString::from(token);
            if secret_header(&format!("Bearer {}", token.expose_secret())).is_none() {
                return Err(wrong_address("answers a token with characters that no header can carry"));
            }
            let life = u64::try_from(expires_in.unwrap_or(DEFAULT_LIFE)).unwrap_or(0).clamp(1, 30 * 24 * 3600);
            let life = Duration::from_secs(life);
            let now = Instant::now();
            return Ok(Proof::Token { token, renew_at: now + life * RENEW_AFTER / 100, expires_at: now + life });
        }
        let refusal = serde_json::from_slice::<Refusal>(answer.body()).ok();
        let Some(Refusal { error: Some(code), error_description }) = refusal else {
            if status == StatusCode::UNAUTHORIZED {
                return Err(refused(&host, "status 401"));
            }
            return Err(wrong_address(&format!("answers status {}", status.as_u16())));
        };
        Err(refused(&host, &excerpt(&format!("{code} {}", error_description.unwrap_or_default()))))
    }

    /// Where tokens are given out.
    fn identity_url(&self) -> Result<Url, Error> {
        let missing = || {
            let sentence = format!(
                "{} is signed in to with clientId and clientSecret, but spec.creatio.identityUrl names no Identity Service: \
                 add its address",
                self.host
            );
            Error::new(Class::WrongAddress, false, sentence)
        };
        let mut url = if let Some(url) = &self.settings.identity_url {
            url.clone()
        } else {
            // The cloud's convention (Creatio API reference, 1.3).
            let instance = self.root.host_str().and_then(|host| host.strip_suffix(".creatio.com"));
            let instance = instance.filter(|instance| !instance.contains('.')).ok_or_else(missing)?;
            let mut url = self.root.clone();
            url.set_host(Some(&format!("{instance}-is.creatio.com"))).map_err(|_| missing())?;
            url.set_path("/");
            url
        };
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/connect/token").unwrap_or(path);
        url.set_path(&format!("{path}/connect/token"));
        Ok(url)
    }

    /// The sign-in form, always at the root of the site (Creatio API reference, 1.1).
    async fn form(&self, outlet: &Outlet, username: &str, password: &SecretString) -> Result<Proof, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(deserialize_with = "lenient::int")]
            code: i64,
            #[serde(default, deserialize_with = "lenient::text")]
            message: String,
            #[serde(default, deserialize_with = "lenient::text")]
            password_change_url: String,
        }
        let body = serde_json::json!({ "UserName": username, "UserPassword": password.expose_secret() }).to_string();
        let url = self.address("ServiceModel/AuthService.svc/Login")?;
        let wrong_address = |what: &str| {
            let sentence =
                format!("{} {what} where the sign-in of Creatio is expected: check spec.creatio.url", self.host);
            Error::new(Class::WrongAddress, false, sentence)
        };
        let request = http::Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header(header::ACCEPT, "application/json")
            .header(FORCE_USE_SESSION, "true")
            .body(Bytes::from(body))
            .map_err(|_| wrong_address("makes no valid address"))?;
        let about = format!("signing in at {}", self.host);
        let answer = self.exchange(outlet, Kind::SignIn, request, &about).await?;
        let status = answer.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Err(self.unwell(&answer, &about));
        }
        if status.is_redirection() {
            let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = target.and_then(|target| self.root.join(target).ok()).filter(Url::has_host);
            let target = target.map_or_else(String::new, |url| format!(" to {}", url.origin().ascii_serialization()));
            return Err(wrong_address(&format!("redirects{target}")));
        }
        if is_html(&answer) {
            return Err(wrong_address("answers a page of HTML"));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(refused(self.host(), &format!("status {}", status.as_u16())));
        }
        let read = status.is_success().then(|| serde_json::from_slice::<Answer>(answer.body()).ok()).flatten();
        let Some(read) = read else { return Err(wrong_address(&format!("answers status {}", status.as_u16()))) };
        if read.code != 0 {
            let why = if read.password_change_url.is_empty() {
                excerpt(&read.message)
            } else {
                "the password must be changed first".to_owned()
            };
            return Err(refused(self.host(), &why));
        }
        let mut jar = Jar::default();
        jar.keep(&answer);
        if jar.cookies.is_empty() {
            return Err(wrong_address("answers no cookie"));
        }
        Ok(Proof::Cookies(Mutex::new(jar)))
    }

    /// One exchange of the sign-in or of a probe: the call it is for has not been sent, so nothing
    /// may have been done.
    async fn exchange(&self, outlet: &Outlet, kind: Kind, request: Request, about: &str) -> Result<Response, Error> {
        let options = Options { max_answer: 1024 * 1024, ..Options::default() };
        outlet.send(kind, request, options).await.map_err(|error| error.error(about, false))
    }

    fn unwell(&self, answer: &Response, about: &str) -> Error {
        let class = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => Class::Throttled { retry_after: retry_after(answer) },
            _ => Class::Transient,
        };
        let what = fault(answer).unwrap_or_default().message;
        let sentence = format!("{about} failed with status {}: {what}", answer.status().as_u16());
        Error::new(class, false, self.scrub(sentence)).answered(answer)
    }

    /// Whether a path was refused for lack of a right a moment ago, so that signing in again cannot
    /// help.
    pub fn is_denied(&self, path: &str) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.get(resource(path)).is_some_and(|at| Instant::now() < *at + DENIED)
    }

    /// Remembers such a refusal.
    pub fn deny(&self, path: &str) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(resource(path).to_owned(), Instant::now());
    }

    /// Takes every secret out of a text.
    pub fn scrub(&self, mut text: String) -> String {
        let secret = match &self.settings.credentials {
            Credentials::OAuth { client_secret, .. } => client_secret,
            Credentials::Forms { password, .. } => password,
        };
        hide(&mut text, secret.expose_secret());
        if let Some(session) = self.shown.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            session.hide(&mut text);
        }
        text
    }
}

fn refused(host: &str, why: &str) -> Error {
    let sentence = format!(
        "{host} refuses the sign-in ({}): put the right credentials into the Secret of spec.creatio",
        why.trim()
    );
    Error::new(Class::CredentialsInvalid, false, sentence)
}

/// A path without keys and options: rights are given per object and service.
fn resource(path: &str) -> &str {
    path.split(['?', '(']).next().unwrap_or(path)
}
