//! How both forwarders hand a message to the CRM: one call, no disk, no repeat.

use std::env;

use serde_json::{Value, json};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub fn setting(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| format!("{name} must be set").into())
}

#[derive(Clone)]
pub struct Crm {
    client: reqwest::Client,
    url: String,
    token: String,
    source: String,
}

impl Crm {
    pub async fn sign_in() -> Result<Self, Failure> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (id, secret) = (setting("CLIENT_ID")?, setting("CLIENT_SECRET")?);
        let form = [("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret)];
        let address = format!("{}/connect/token", setting("IDENTITY_URL")?);
        let answer: Value = client.post(address).form(&form).send().await?.error_for_status()?.json().await?;
        let token = answer["access_token"].as_str().ok_or("no token")?.to_owned();
        let url = format!("{}/rest/MaxChannelService/receive", setting("CRM_URL")?);
        Ok(Self { client, url, token, source: setting("CHANNEL_SOURCE")? })
    }

    pub async fn forward(&self, mid: &str, user: i64, name: &str, timestamp: i64, text: &str) -> Result<(), Failure> {
        let message = json!({
            "externalId": mid, "channelSource": self.source, "sender": format!("max:{user}"), "name": name, "phone": "",
            "timestamp": timestamp, "direction": "incoming", "author": "customer", "text": text, "type": "text",
            "replacesExternalId": "", "standBy": false, "attachments": [],
        });
        let answer = self.client.post(&self.url).bearer_auth(&self.token).header("ForceUseSession", "true").json(&message);
        let answer: Value = answer.send().await?.error_for_status()?.json().await?;
        if answer["success"] == true { Ok(()) } else { Err(answer.to_string().into()) }
    }
}
