//! A simulator with one bot and one person, a client that checks every answer, and a webhook
//! receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use maxchannel_simulator::max::{Control, NewBot, NewUser, Options, Simulator, Switches};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::published;

/// How long something that must happen may take at most.
pub const LONG: Duration = Duration::from_secs(30);

pub struct Bench {
    simulator: Simulator,
    client: reqwest::Client,
    pub bot: i64,
    pub user: i64,
    pub token: String,
}

fn client() -> reqwest::Client {
    // Another test may have been first: then it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap()
}

impl Bench {
    pub async fn start(switches: Switches, time_scale: f64) -> Self {
        let simulator = Simulator::start(Options { switches, time_scale, ..Options::default() }).await.unwrap();
        let control = simulator.control();
        let token = "EXAMPLE_token-of-the-first-bot_0123456789".to_owned();
        let bot = control.create_bot(NewBot::new("Служба поддержки", &token)).unwrap().user_id;
        let user = control.create_user(NewUser { last_name: "Петрова".to_owned(), ..NewUser::default() }).unwrap();
        Self { simulator, client: client(), bot, user, token }
    }

    pub fn control(&self) -> Control {
        self.simulator.control()
    }

    pub fn url(&self) -> String {
        self.simulator.url()
    }

    pub fn files_url(&self) -> String {
        self.simulator.files_url()
    }

    pub async fn stop(self) {
        self.simulator.stop().await;
    }

    async fn exchange(
        &self,
        authorization: Option<&str>,
        method: &str,
        path: &str,
        body: Value,
    ) -> Option<(u16, HeaderMap, Value)> {
        let method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url()));
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        if !body.is_null() {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        Some((status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A call; its answer is checked against the published shapes.
    pub async fn call_as(&self, authorization: Option<&str>, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, answer) = self.exchange(authorization, method, path, body).await.expect("no answer");
        if answer.get("outcome").is_none() && answer != json!({}) {
            published::check_answer(method, path, status, &answer, self.control().switches().video_url);
        }
        (status, answer)
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(Some(&self.token), method, path, body).await
    }

    pub async fn raw(&self, method: &str, path: &str, body: Value) -> (u16, HeaderMap, Value) {
        self.exchange(Some(&self.token), method, path, body).await.expect("no answer")
    }

    /// A call that must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        assert_ne!(answer["success"], json!(false), "{method} {path}: {answer}");
        answer
    }

    /// The status, or none where the connection broke.
    pub async fn status(&self, method: &str, path: &str, body: Value) -> Option<u16> {
        self.exchange(Some(&self.token), method, path, body).await.map(|(status, ..)| status)
    }

    pub async fn control_call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, answer) =
            self.exchange(None, method, &format!("/control{path}"), body).await.expect("no answer");
        (status, answer)
    }

    /// Both steps of an upload; answers the payload to send.
    pub async fn upload(&self, kind: &str, name: &str, content: &[u8]) -> Value {
        let slot = self.ok("POST", &format!("/uploads?type={kind}"), Value::Null).await;
        let (status, body) = self.form(slot["url"].as_str().unwrap(), "data", name, content, None).await;
        assert_eq!(status, 200, "{body}");
        match kind {
            "image" => serde_json::from_str(&body).unwrap(),
            "file" => {
                let answer: Value = serde_json::from_str(&body).unwrap();
                assert!(answer["fileId"].is_i64());
                json!({"token": answer["token"]})
            }
            _ => {
                assert!(body.ends_with("<retval>1</retval>"), "{body}");
                json!({"token": slot["token"]})
            }
        }
    }

    pub async fn form(&self, url: &str, field: &str, name: &str, content: &[u8], token: Option<&str>) -> (u16, String) {
        let part = reqwest::multipart::Part::bytes(content.to_vec()).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().part(field.to_owned(), part);
        let mut request = self.client.post(url).multipart(form);
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn chunk(&self, url: &str, range: &str, content: &[u8]) -> (u16, String) {
        let request = self.client.post(url).header("Content-Range", range).header("X-File-Name", "film.mp4");
        let answer = request.body(content.to_vec()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn get(&self, url: &str, token: Option<&str>) -> (u16, Vec<u8>) {
        let mut request = self.client.get(url);
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    /// The whole content, or none where it broke off.
    pub async fn try_get(&self, url: &str) -> Option<Vec<u8>> {
        Some(self.client.get(url).send().await.ok()?.bytes().await.ok()?.to_vec())
    }
}

#[derive(Default)]
struct Inbox {
    received: Vec<(Option<String>, Value)>,
    taken: usize,
    answers: VecDeque<u16>,
}

/// Receives webhooks on a port of its own.
pub struct Receiver {
    base: String,
    inbox: Arc<Mutex<Inbox>>,
    changed: watch::Sender<usize>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (inbox, changed) = (Arc::new(Mutex::new(Inbox::default())), watch::Sender::new(0));
        let router = axum::Router::new().fallback(receive).with_state((inbox.clone(), changed.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, inbox, changed }
    }

    pub fn base(&self) -> String {
        self.base.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The next requests are answered with these; later ones with 200.
    pub fn answer_next(&self, statuses: &[u16]) {
        lock(&self.inbox).answers.extend(statuses);
    }

    pub fn count(&self) -> usize {
        lock(&self.inbox).received.len()
    }

    /// Waits for so many requests more and answers them with their secrets.
    pub async fn take(&self, count: usize) -> Vec<(Option<String>, Value)> {
        let mut changes = self.changed.subscribe();
        let wanted = lock(&self.inbox).taken + count;
        tokio::time::timeout(LONG, changes.wait_for(|received| *received >= wanted))
            .await
            .unwrap_or_else(|_| panic!("{} of {wanted} webhooks came", self.count()))
            .unwrap();
        let mut inbox = lock(&self.inbox);
        let taken = std::mem::replace(&mut inbox.taken, wanted);
        inbox.received[taken..wanted].to_vec()
    }
}

fn lock(inbox: &Mutex<Inbox>) -> std::sync::MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    State((inbox, changed)): State<(Arc<Mutex<Inbox>>, watch::Sender<usize>)>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let secret = headers.get("x-max-bot-api-secret").map(|value| value.to_str().unwrap().to_owned());
    let update = serde_json::from_str(&body).unwrap();
    let (status, count) = {
        let mut inbox = lock(&inbox);
        inbox.received.push((secret, update));
        (inbox.answers.pop_front().unwrap_or(200), inbox.received.len())
    };
    changed.send_replace(count);
    StatusCode::from_u16(status).unwrap()
}
