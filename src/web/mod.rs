//! What every page of ours in a browser has: files that are linked in, the headers they go out
//! with, who may ask for them, and a channel's conditions in words.
//!
//! A page is plain HTML, CSS and ES modules: nothing to build, nothing fetched from elsewhere, no
//! inline script or style, so that the policy can forbid both. What people have written reaches it
//! as JSON and is shown as text only.
//!
//! Must not: hold a text or a name of a customer, or know what a page is for.

pub mod live;

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::api::{ConditionType, Language, MaxChannelStatus, Reason, catalogue};

/// The header in which a page shows that it is ours: a form or a script of another site cannot set
/// it.
pub const PAGE_HEADER: &str = "x-maxchannel-page";

const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// A file of a page: its name, and its text as it was when the program was built.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub name: &'static str,
    pub text: &'static str,
    /// Where it lies in the sources.
    pub path: &'static str,
}

impl File {
    /// A development build reads it anew, so that a page can be changed without a build.
    fn content(&self) -> Cow<'static, str> {
        let fresh = if cfg!(debug_assertions) { std::fs::read_to_string(self.path).ok() } else { None };
        fresh.map_or(Cow::Borrowed(self.text), Cow::Owned)
    }
}

/// `page_file!("src/local/page", "status.js")`: a [`File`] below the root of the project.
macro_rules! page_file {
    ($folder:literal, $name:literal) => {
        $crate::web::File {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder, "/", $name)),
            path: concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder, "/", $name),
        }
    };
}

pub(crate) use page_file;

/// The file of that name, `index.html` for an empty one.
pub fn serve(files: &[File], name: &str) -> Response {
    let name = if name.is_empty() { "index.html" } else { name };
    let Some(file) = files.iter().find(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, "There is no such page.\n").into_response();
    };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, kind)], Body::from(file.content().into_owned())).into_response()
}

/// Puts the headers of a page on an answer, whatever it is.
pub fn protect(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

/// Whether the request names this machine, as a browser that was led here by another name (DNS
/// rebinding) does not.
#[must_use]
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a page of the same origin asks: no other site can set the header, and none is let in by
/// `Origin` or `Sec-Fetch-Site`. A navigation to the page itself is nobody's.
#[must_use]
pub fn is_own(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin = text("origin").map(|origin| {
        let host = text("host").unwrap_or_default();
        origin == format!("http://{host}") || origin == format!("https://{host}")
    });
    if *method == Method::GET {
        let navigates = text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
        return origin.unwrap_or(true) && (!foreign || navigates);
    }
    !foreign && origin == Some(true) && headers.contains_key(PAGE_HEADER)
}

/// The answer to whoever may not ask.
pub fn refusal(words: &'static str) -> Response {
    protect((StatusCode::FORBIDDEN, words).into_response())
}

/// A channel's conditions with everything that a page says of them, in both languages.
#[must_use]
pub fn conditions(status: &MaxChannelStatus) -> Value {
    status.conditions.iter().map(condition).collect()
}

fn condition(condition: &Condition) -> Value {
    let Condition { type_, status, reason, message, last_transition_time, .. } = condition;
    let mut told = json!({"type": type_, "status": status, "reason": reason, "since": last_transition_time});
    let kind = type_.parse::<ConditionType>().ok();
    let entry = kind.and_then(|kind| catalogue::entry(kind, reason.parse::<Reason>().ok()?));
    let Some(entry) = entry else {
        told["message"] = json!(message);
        return told;
    };
    let both = |say: fn(&catalogue::Entry, Language) -> &'static str| json!({"en": say(entry, Language::English), "ru": say(entry, Language::Russian)});
    told["error"] = json!(entry.error);
    told["class"] = json!(format!("{:?}", entry.class));
    told["cause"] = both(|entry, language| entry.text(language).cause);
    told["remedy"] = both(|entry, language| entry.text(language).remedy);
    told["who"] = both(|entry, language| entry.mender.describe(language));
    told["detail"] = json!(entry.detail(message));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_page_of_this_machine_answers_to_names_of_this_machine_only() {
        for (host, right) in [
            ("127.0.0.1:8780", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:8780", true),
            ("evil.example:8780", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_for_this_machine(&headers(&[("host", host)])), right, "{host}");
        }
        assert!(!is_for_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn only_a_page_of_the_same_origin_may_act() {
        const HOST: (&str, &str) = ("host", "127.0.0.1:8780");
        const OWN: (&str, &str) = ("origin", "http://127.0.0.1:8780");
        const PAGE: (&str, &str) = (PAGE_HEADER, "1");
        for (given, right) in [
            (vec![HOST, OWN, PAGE], true),
            (vec![HOST, OWN, PAGE, ("sec-fetch-site", "same-origin")], true),
            (vec![HOST, OWN], false),
            (vec![HOST, PAGE], false),
            (vec![HOST, ("origin", "http://evil.example"), PAGE], false),
            (vec![HOST, ("origin", "null"), PAGE], false),
            (vec![HOST, OWN, PAGE, ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(is_own(&Method::POST, &headers(&given)), right, "{given:?}");
        }
        for (given, right) in [
            (vec![HOST], true),
            (vec![HOST, ("sec-fetch-site", "cross-site")], false),
            (vec![HOST, ("origin", "http://evil.example")], false),
            (
                vec![
                    HOST,
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                true,
            ),
            (
                vec![
                    HOST,
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                false,
            ),
        ] {
            assert_eq!(is_own(&Method::GET, &headers(&given)), right, "{given:?}");
        }
    }
}
