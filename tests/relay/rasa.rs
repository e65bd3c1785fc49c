//! A bot that speaks the Rasa REST channel protocol, on loopback: what it was asked is kept, what
//! it answers is set by the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

/// What the bot does with the next questions; the last stands for all that follow.
#[derive(Clone)]
pub enum Does {
    /// Answers every message with these members beside `recipient_id`.
    Answers(Vec<Value>),
    /// Answers 200 with this body, whatever it is.
    Says(&'static str),
    /// Asks to be left alone for so many seconds.
    Busy(&'static str),
    /// Fails at once.
    Fails,
    /// Never answers.
    Hangs,
}

#[derive(Clone)]
pub struct Rasa {
    pub url: String,
    state: Arc<Mutex<Inner>>,
}

struct Inner {
    asked: Vec<Value>,
    keys: Vec<String>,
    plan: VecDeque<Does>,
}

impl Rasa {
    pub async fn start(does: Does) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/rest/webhook", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Inner { asked: Vec::new(), keys: Vec::new(), plan: VecDeque::from([does]) }));
        let app = axum::Router::new().route("/webhooks/rest/webhook", post(answer)).with_state(Arc::clone(&state));
        tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Self { url, state }
    }

    /// From now on it does these, one after another, and then the last of them always.
    pub fn does(&self, plan: impl IntoIterator<Item = Does>) {
        self.state.lock().unwrap().plan = plan.into_iter().collect();
    }

    pub fn says(&self, messages: impl IntoIterator<Item = Value>) {
        self.does([Does::Answers(messages.into_iter().collect())]);
    }

    /// The bodies of all questions so far.
    pub fn asked(&self) -> Vec<Value> {
        self.state.lock().unwrap().asked.clone()
    }

    /// What it was told, question by question.
    pub fn heard(&self) -> Vec<String> {
        self.asked().iter().map(|body| body["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The Authorization headers of all questions so far.
    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().keys.clone()
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Inner>>>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let sender = body["sender"].clone();
    let does = {
        let mut inner = state.lock().unwrap();
        inner.asked.push(body);
        inner.keys.push(headers.get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned());
        if inner.plan.len() > 1 { inner.plan.pop_front().unwrap() } else { inner.plan[0].clone() }
    };
    match does {
        Does::Answers(mut messages) => {
            for message in &mut messages {
                message["recipient_id"] = sender.clone();
            }
            axum::Json(json!(messages)).into_response()
        }
        Does::Says(body) => ([("content-type", "application/json")], body).into_response(),
        Does::Busy(seconds) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds)]).into_response(),
        Does::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Does::Hangs => std::future::pending().await,
    }
}
