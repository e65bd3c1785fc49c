//! A bot's token in MANGO's cabinet: what customers write to the bot in the simulator of MAX
//! becomes sessions of the simulator of MANGO OFFICE, and what goes out there reaches the customer
//! as the bot's message.
//!
//! Texts and files go both ways. Nothing is repeated and nothing is lost between the two; while
//! MANGO OFFICE is deaf ([`mango::Control::deaf`]) what customers write waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::mango::{self, Outgoing};
use super::max;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How requests reach the simulator of MAX; no answer: the connection was cut.
pub type ToMax = Arc<dyn Fn(http::Request<Bytes>) -> BoxFuture<'static, Option<http::Response<Bytes>>> + Send + Sync>;

/// The two simulators, and the bot that connects them.
#[derive(Clone, Debug)]
pub struct Connection {
    pub mango: mango::Control,
    pub max: max::Control,
    /// Where the bot's messages are posted.
    pub max_url: String,
    pub bot: i64,
    pub token: String,
}

/// What customers write, on its way to MANGO OFFICE.
#[derive(Debug)]
pub struct Inbound {
    connection: Connection,
    /// The number of the newest update that was looked at.
    newest: i64,
    taken: HashSet<String>,
}

impl Inbound {
    /// Hands on what customers have written since the last time.
    pub fn carry(&mut self) {
        let Connection { mango, max, bot, .. } = &self.connection;
        if mango.is_deaf() {
            return;
        }
        let Ok(updates) = max.updates(*bot) else { return };
        let after = self.newest;
        for record in updates.iter().filter(|record| record.number > after) {
            self.newest = self.newest.max(record.number);
            // The simulator of MAX may tell a message twice.
            if !self.taken.insert(record.update["message"]["body"]["mid"].to_string()) {
                continue;
            }
            for said in client_messages(&record.update, *bot) {
                if let Err(error) = mango.say(&said) {
                    tracing::warn!(
                        error,
                        "the simulator of MANGO OFFICE does not take a message of the bot's customer"
                    );
                }
            }
        }
    }
}

impl Connection {
    /// Carries in both directions until it is dropped.
    pub async fn run(self) {
        let client = reqwest::Client::new();
        let to_max: ToMax = Arc::new(move |request| {
            let client = client.clone();
            Box::pin(async move {
                let answer = client.execute(request.try_into().ok()?).await.ok()?;
                let status = answer.status();
                let mut whole = http::Response::new(answer.bytes().await.ok()?);
                *whole.status_mut() = status;
                Some(whole)
            })
        });
        let (mut inbound, outgoing) = (self.inbound(), self.mango.connect_messenger());
        let carry = async {
            loop {
                inbound.carry();
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::join!(carry, self.outbound(outgoing, &to_max));
    }

    /// The way in, for whoever carries when it is time.
    #[must_use]
    pub fn inbound(&self) -> Inbound {
        Inbound { connection: self.clone(), newest: i64::MIN, taken: HashSet::new() }
    }

    /// Posts what goes out, one after the other.
    pub async fn outbound(&self, mut outgoing: mpsc::UnboundedReceiver<Outgoing>, to_max: &ToMax) {
        while let Some(message) = outgoing.recv().await {
            // What MAX refuses is lost, as told there.
            let _ = self.post(&message, to_max).await;
        }
    }

    async fn post(&self, message: &Outgoing, to_max: &ToMax) -> Option<()> {
        let mut body = json!({ "text": message.payload["text"] });
        if let Some(file) = &message.file {
            let name = message.payload["name"].as_str().unwrap_or("file").replace('"', "'");
            let place = self.ask(to_max, "/uploads?type=file", "application/json", Bytes::new()).await?;
            let boundary = "----connection";
            let head =
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"{name}\"\r\n\r\n");
            let tail = format!("\r\n--{boundary}--\r\n");
            let form = [head.as_bytes(), &file[..], tail.as_bytes()].concat();
            let kind = format!("multipart/form-data; boundary={boundary}");
            let uploaded = self.ask(to_max, place["url"].as_str()?, &kind, form.into()).await?;
            body["attachments"] = json!([{"type": "file", "payload": {"token": uploaded["token"]}}]);
        }
        let path = format!("/messages?user_id={}", message.social_user_id);
        self.ask(to_max, &path, "application/json", body.to_string().into()).await.map(drop)
    }

    /// Posts to a path or an address. Where MAX is in haste, away, or still busy with a file, it
    /// waits: what is behind must not overtake it. None: MAX refuses it.
    async fn ask(&self, to_max: &ToMax, path: &str, content_type: &str, body: Bytes) -> Option<Value> {
        // An upload host is not shown the token.
        let is_api = path.starts_with('/');
        let url = if is_api { format!("{}{path}", self.max_url) } else { path.to_owned() };
        loop {
            let mut request = http::Request::post(&url).header("Content-Type", content_type);
            if is_api {
                request = request.header("Authorization", &self.token);
            }
            let request = request.body(body.clone()).ok()?;
            let answer = to_max(request).await;
            let is_busy = answer.as_ref().is_none_or(|answer| {
                let status = answer.status();
                status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || String::from_utf8_lossy(answer.body()).contains("attachment.not.ready")
            });
            match answer {
                Some(answer) if answer.status().is_success() => {
                    return Some(serde_json::from_slice(answer.body()).unwrap_or_default());
                }
                _ if is_busy => tokio::time::sleep(LOOK).await,
                answer => {
                    let status = answer.map(|answer| answer.status());
                    tracing::warn!(?status, path, "the simulator of MAX refuses a message of MANGO OFFICE's");
                    return None;
                }
            }
        }
    }
}

/// One message of MAX as MANGO OFFICE shows it: the text, then each file. A group is none of its
/// dialogs.
fn client_messages(update: &Value, bot: i64) -> Vec<mango::ClientMessage> {
    let message = &update["message"];
    let sender = &message["sender"];
    let is_group = message["recipient"]["chat_type"] != "dialog";
    if update["update_type"] != "message_created" || sender["user_id"] == bot || is_group {
        return Vec::new();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let whose = mango::ClientMessage {
        social_user_id: sender["user_id"].to_string(),
        first_name: text(&sender["first_name"]),
        last_name: text(&sender["last_name"]),
        ..mango::ClientMessage::default()
    };
    let body = &message["body"];
    let words = text(&body["text"]);
    let mut said = Vec::new();
    if !words.is_empty() {
        said.push(mango::ClientMessage { text: words, ..whose.clone() });
    }
    for attachment in body["attachments"].as_array().into_iter().flatten() {
        let url = &attachment["payload"]["url"];
        if url.is_string() {
            let name = if attachment["filename"].is_string() { &attachment["filename"] } else { &attachment["type"] };
            let file = json!({"type": attachment["type"], "name": name, "link": url});
            said.push(mango::ClientMessage { file: Some(file), ..whose.clone() });
        }
    }
    said
}
