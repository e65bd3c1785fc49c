//! What a page shows, told as it changes: server-sent events that name a part and its new value.
//!
//! Whoever connects is told everything once; so a reader that comes again after the program was
//! restarted needs no memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The parts of a page by their names, each as JSON.
pub type Parts = BTreeMap<String, Arc<str>>;

/// A stream that has nothing to tell says so, lest somebody takes it for dead.
const STILL_HERE: Duration = Duration::from_secs(10);

/// Shows these parts from now on; where nothing has changed nobody is woken.
pub fn put(shown: &watch::Sender<Arc<Parts>>, parts: Parts) {
    shown.send_if_modified(|before| {
        let news = **before != parts;
        if news {
            *before = Arc::new(parts);
        }
        news
    });
}

/// `hello` once, then `part` for every part that is new or has changed; one that is gone is null.
pub fn stream(parts: watch::Receiver<Arc<Parts>>, hello: &Value) -> Response {
    let hello = format!("retry: 500\nevent: hello\ndata: {hello}\n\n");
    let state = (parts, Parts::new(), Some(hello));
    let stream = futures::stream::unfold(state, |(mut parts, mut told, hello)| async move {
        if let Some(hello) = hello {
            return Some((Ok::<_, Infallible>(Bytes::from(hello)), (parts, told, None)));
        }
        loop {
            let text = news(&parts.borrow_and_update(), &mut told);
            if !text.is_empty() {
                return Some((Ok(text.into()), (parts, told, None)));
            }
            match tokio::time::timeout(STILL_HERE, parts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some((Ok(Bytes::from_static(b": still here\n\n")), (parts, told, None))),
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

fn news(parts: &Parts, told: &mut Parts) -> String {
    let mut text = String::new();
    let mut tell = |name: &str, value: &str| {
        // Compact JSON has no line feeds.
        let _ = write!(text, "event: part\ndata: {{\"name\":{},\"value\":{value}}}\n\n", json!(name));
    };
    told.retain(|name, _| {
        let stays = parts.contains_key(name);
        if !stays {
            tell(name, "null");
        }
        stays
    });
    for (name, value) in parts {
        if told.get(name) != Some(value) {
            tell(name, value);
            told.insert(name.clone(), Arc::clone(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_told_and_what_is_gone_is_null() {
        let parts = |given: &[(&str, &str)]| -> Parts {
            given.iter().map(|(name, value)| ((*name).to_owned(), Arc::from(*value))).collect()
        };
        let mut told = Parts::new();
        for (now, expected) in [
            (parts(&[("a", "1"), ("b", "2")]), &[("a", "1"), ("b", "2")][..]),
            (parts(&[("a", "1"), ("b", "3")]), &[("b", "3")]),
            (parts(&[("a", "1"), ("b", "3")]), &[]),
            (parts(&[("b", "3")]), &[("a", "null")]),
            (parts(&[("a", "1"), ("b", "3")]), &[("a", "1")]),
        ] {
            let lines: Vec<String> = expected
                .iter()
                .map(|(name, value)| format!("event: part\ndata: {{\"name\":\"{name}\",\"value\":{value}}}\n\n"))
                .collect();
            assert_eq!(news(&now, &mut told), lines.concat());
        }
    }
}
