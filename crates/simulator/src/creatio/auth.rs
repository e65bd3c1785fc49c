//! Who is calling: forms sessions with cookies and CSRF, and bearer tokens of the Identity Service
//! (Creatio API reference, 1).
//!
//! Owns: users that can sign in, sessions, tokens, and the shapes in which a dead session is
//! refused. Must not know what a call wants.

use std::collections::HashMap;

use base64::Engine as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Expired, Runtime, Switches};
use crate::floor::wire::{Call, Reply};

/// A user who can sign in with a password.
#[derive(Clone)]
pub(super) struct Login {
    pub password: String,
    pub user: Uuid,
    pub wrong: u32,
    pub must_change: bool,
}

struct Session {
    user: Uuid,
    login: String,
    loader: String,
    ticket: String,
    csrf: String,
    /// Ticket and CSRF value before the last rotation: calls that were under way then still pass.
    previous: (String, String),
    ends_ms: i64,
    calls: u32,
}

#[derive(Default)]
pub(super) struct Auth {
    pub logins: HashMap<String, Login>,
    /// Client id to secret and user.
    pub clients: HashMap<String, (String, Uuid)>,
    sessions: HashMap<String, Session>,
    /// Token to user and end.
    tokens: HashMap<String, (Uuid, i64)>,
}

/// Who calls, and cookies to set with the answer.
pub(super) struct Caller {
    pub user: Uuid,
    pub cookies: Vec<String>,
}

fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

impl Auth {
    pub fn expire_sessions(&mut self) {
        self.sessions.clear();
    }

    pub fn revoke_tokens(&mut self) {
        self.tokens.clear();
    }

    /// `POST /ServiceModel/AuthService.svc/Login`.
    pub fn login(&mut self, call: &Call, runtime: Runtime, switches: &Switches, now_ms: i64) -> Reply {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or(Value::Null);
        let (Some(name), Some(password)) = (body["UserName"].as_str(), body["UserPassword"].as_str()) else {
            return Reply::html(StatusCode::BAD_REQUEST, "Request Error");
        };
        let refused = |message: &str, change: Value| {
            Reply::json(
                StatusCode::OK,
                &json!({"Code": 1, "Message": message, "Exception": {"Message": message},
                "PasswordChangeUrl": change, "RedirectUrl": null}),
            )
        };
        let Some(login) = self.logins.get_mut(&name.to_lowercase()) else {
            return refused("Invalid username or password specified", Value::Null);
        };
        if switches.lock_user_after > 0 && login.wrong >= switches.lock_user_after {
            return refused("The user account is locked", Value::Null);
        }
        if login.password != password {
            login.wrong += 1;
            return refused("Invalid username or password specified", Value::Null);
        }
        login.wrong = 0;
        if login.must_change {
            return refused("Your password has expired", json!("/Login/ChangePassword.html"));
        }
        let session = Session {
            user: login.user,
            login: name.to_owned(),
            loader: random(),
            ticket: random(),
            csrf: token_text(),
            previous: (String::new(), String::new()),
            ends_ms: now_ms + switches.session_minutes * 60_000,
            calls: 0,
        };
        let mut reply = Reply::json(
            StatusCode::OK,
            &json!({"Code": 0, "Message": "", "Exception": null, "PasswordChangeUrl": null, "RedirectUrl": null}),
        );
        for cookie in session.cookies(runtime) {
            reply = reply.with("set-cookie", cookie);
        }
        self.sessions.insert(session.loader.clone(), session);
        reply
    }

    /// `POST /connect/token` of the Identity Service.
    pub fn token(&mut self, call: &Call, switches: &Switches, now_ms: i64, scale: f64) -> Reply {
        let status = StatusCode::from_u16(switches.token_error_status).unwrap_or(StatusCode::BAD_REQUEST);
        let refused = |error: &str| Reply::json(status, &json!({"error": error}));
        if !call.header("content-type").starts_with("application/x-www-form-urlencoded") {
            return refused("invalid_request");
        }
        let text = String::from_utf8_lossy(&call.body);
        let form: HashMap<String, String> =
            url::form_urlencoded::parse(text.as_bytes()).map(|(name, value)| (name.into(), value.into())).collect();
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return refused("unsupported_grant_type");
        }
        let basic = call.header("authorization").strip_prefix("Basic ").and_then(|encoded| {
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            let (id, secret) = String::from_utf8(decoded)
                .ok()?
                .split_once(':')
                .map(|(id, secret)| (id.to_owned(), secret.to_owned()))?;
            Some((super::wire::decode(&id), super::wire::decode(&secret)))
        });
        let given = basic.or_else(|| Some((form.get("client_id")?.clone(), form.get("client_secret")?.clone())));
        let known = given.and_then(|(id, secret)| self.clients.get(&id).filter(|(own, _)| *own == secret));
        let Some((_, user)) = known else {
            return refused("invalid_client");
        };
        let token = format!("{}.{}.{}", token_text(), random(), token_text());
        self.tokens.insert(token.clone(), (*user, now_ms + switches.token_seconds * 1000));
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds of a token's life")]
        let seconds = ((switches.token_seconds as f64 / scale) as i64).max(1);
        Reply::json(
            StatusCode::OK,
            &json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer",
            "scope": format!("ApplicationAccess_{}", random())}),
        )
    }

    /// Who sends this call; the refusal where it is nobody, or where the CSRF header is missing.
    pub fn caller(&mut self, call: &Call, runtime: Runtime, switches: &Switches, now_ms: i64) -> Result<Caller, Reply> {
        if let Some(token) = call.header("authorization").strip_prefix("Bearer ") {
            return match self.tokens.get(token) {
                Some((user, ends)) if *ends > now_ms => Ok(Caller { user: *user, cookies: Vec::new() }),
                _ if switches.token_refusal_as_expired => Err(dead_session(runtime, switches.expired)),
                _ if switches.token_refusal_html => Err(Reply::html(StatusCode::UNAUTHORIZED, "401 Unauthorized")),
                _ => Err(Reply::empty(StatusCode::UNAUTHORIZED)),
            };
        }
        let dead = || dead_session(runtime, switches.expired);
        let cookies = cookies(call);
        let cookie = |name: &str| cookies.get(name).map_or("", String::as_str);
        if switches.force_use_session && !call.header("forceusesession").eq_ignore_ascii_case("true") {
            return Err(dead());
        }
        let loader = cookie("BPMLOADER").to_owned();
        let ticket = cookie(".ASPXAUTH");
        let Some(session) = self.sessions.get_mut(&loader).filter(|session| {
            session.ends_ms > now_ms && !ticket.is_empty() && (session.ticket == ticket || session.previous.0 == ticket)
        }) else {
            return Err(dead());
        };
        session.ends_ms = now_ms + switches.session_minutes * 60_000;
        session.calls += 1;
        let safe = matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let csrf = call.header("bpmcsrf");
        let known = !csrf.is_empty() && (csrf == session.csrf || csrf == session.previous.1);
        let forged = !safe && (!known || cookie("BPMCSRF") != csrf);
        let user = session.user;
        let mut set = Vec::new();
        if !forged && switches.rotate_cookies_every > 0 && session.calls.is_multiple_of(switches.rotate_cookies_every) {
            session.previous =
                (std::mem::replace(&mut session.ticket, random()), std::mem::replace(&mut session.csrf, token_text()));
            set = session.cookies(runtime);
        }
        if forged {
            return Err(Reply::html(StatusCode::FORBIDDEN, "403 Forbidden"));
        }
        Ok(Caller { user, cookies: set })
    }
}

impl Session {
    fn cookies(&self, runtime: Runtime) -> Vec<String> {
        let path = if runtime == Runtime::Framework { "/0" } else { "/" };
        let name = self.login.chars().map(|char| u32::from(char).to_string()).collect::<Vec<_>>().join("|");
        vec![
            format!("BPMLOADER={}; path={path}; HttpOnly; SameSite=Lax", self.loader),
            format!(".ASPXAUTH={}; path={path}; HttpOnly; SameSite=Lax", self.ticket),
            format!("BPMCSRF={}; path=/; SameSite=Lax", self.csrf),
            format!("UserName={name}; expires=Fri, 31 Dec 2038 23:59:59 GMT; path=/; HttpOnly"),
            "UserType=General; path=/".to_owned(),
        ]
    }
}

/// 22 characters of base64, with its `/` and `+`.
fn token_text() -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(Uuid::new_v4().as_bytes())
}

fn cookies(call: &Call) -> HashMap<String, String> {
    call.headers
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The page where people sign in.
pub(super) fn login_path(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Net => "/Login/Login.html",
        Runtime::Framework => "/0/Login/NuiLogin.aspx",
    }
}

fn dead_session(runtime: Runtime, shape: Expired) -> Reply {
    match shape {
        Expired::Unauthorized => Reply::html(StatusCode::UNAUTHORIZED, "401 Unauthorized"),
        Expired::Forbidden => Reply::html(StatusCode::FORBIDDEN, "403 Forbidden"),
        Expired::Redirect => Reply::empty(StatusCode::FOUND).with("location", login_path(runtime)),
        Expired::LoginPage => Reply::html(StatusCode::OK, "Creatio - Login"),
    }
}
