//! A bot's token in MANGO's cabinet: what customers write to the bot in the simulator of MAX
//! becomes sessions of the simulator of MANGO OFFICE, and what goes out there reaches the customer
//! as the bot's message.
//!
//! Texts go both ways, files from the customer only. Nothing is repeated and nothing is lost
//! between the two.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::{mango, max};

/// Between two looks at both.
const LOOK: Duration = Duration::from_millis(20);

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

impl Connection {
    /// Carries in both directions until it is dropped.
    pub async fn run(self) {
        let client = reqwest::Client::new();
        let (mut taken, mut said, mut sent) = (i64::MIN, HashSet::new(), HashSet::new());
        loop {
            taken = self.to_mango(taken, &mut said);
            self.to_max(&client, &mut sent).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Hands on what customers have written since the update of that number; answers the newest.
    fn to_mango(&self, after: i64, taken: &mut HashSet<String>) -> i64 {
        let Ok(updates) = self.max.updates(self.bot) else { return after };
        let mut newest = after;
        for record in updates.iter().filter(|record| record.number > after) {
            newest = newest.max(record.number);
            // The simulator of MAX may tell a message twice.
            if !taken.insert(record.update["message"]["body"]["mid"].to_string()) {
                continue;
            }
            for said in client_messages(&record.update, self.bot) {
                if let Err(error) = self.mango.say(&said) {
                    tracing::warn!(
                        error,
                        "the simulator of MANGO OFFICE does not take a message of the bot's customer"
                    );
                }
            }
        }
        newest
    }

    /// Posts one text. Where MAX is in haste or away it waits for it: what is behind must not
    /// overtake it.
    async fn post(&self, client: &reqwest::Client, user: &str, text: &Value) {
        loop {
            let call = client
                .post(format!("{}/messages?user_id={user}", self.max_url))
                .header("Authorization", &self.token)
                .header("Content-Type", "application/json")
                .body(json!({ "text": text }).to_string());
            match call.send().await.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => return,
                Ok(status) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    tracing::warn!(%status, "the simulator of MAX refuses a message of MANGO OFFICE's");
                    return;
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Posts what has gone out since.
    async fn to_max(&self, client: &reqwest::Client, sent: &mut HashSet<String>) {
        for session in self.mango.dialogs() {
            let Some(user) = session["variables"]["social_user"]["social_user_id"].as_str() else { continue };
            for message in session["messages"].as_array().into_iter().flatten() {
                let id = message["message_id"].as_str().unwrap_or_default();
                if message["direction"] != "outgoing" || !sent.insert(id.to_owned()) {
                    continue;
                }
                self.post(client, user, &message["payload"]["text"]).await;
            }
        }
    }
}

/// One message of MAX as MANGO OFFICE shows it: the text, then each file.
fn client_messages(update: &Value, bot: i64) -> Vec<mango::ClientMessage> {
    let message = &update["message"];
    let sender = &message["sender"];
    if update["update_type"] != "message_created" || sender["user_id"] == bot {
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
