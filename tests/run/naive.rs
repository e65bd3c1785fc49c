//! A relay as somebody might write it in an evening: what comes in is handed on at once, what goes
//! out is sent and reported, and nothing is kept, repeated or looked for. It is here to fail.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use maxchannel::creatio::{self, Author, Credentials, Direction, MessageType, Receive, Report};
use maxchannel::max::{self, NewMessage, Recipient};
use maxchannel::transport::{ReqwestTransport, Trust};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::company::{Company, TOKEN, Way};

#[derive(Clone)]
struct Clients {
    max: max::Client,
    crm: creatio::Client,
    source: String,
}

pub struct Naive {
    clients: Clients,
    port: u16,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Naive {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Naive {
    pub async fn start(company: &Company, way: Way) -> Self {
        assert_eq!(way, Way::Webhook, "nobody would write another in an evening");
        let transport = Arc::new(ReqwestTransport::direct(Trust::public()).unwrap());
        let settings = max::Settings { base_url: company.max.url().parse().unwrap(), token: TOKEN.into() };
        let max = max::Client::new(transport.clone(), transport.clone(), settings);
        let options = maxchannel_simulator::creatio::Options::default();
        let crm = creatio::Client::new(
            transport,
            creatio::Settings {
                url: company.crm.url().parse().unwrap(),
                identity_url: Some(company.crm.identity_url().parse().unwrap()),
                runtime: creatio::Runtime::Auto,
                credentials: Credentials::OAuth {
                    client_id: options.client_id,
                    client_secret: options.client_secret.into(),
                },
                requests_per_second: 10_000,
                in_flight: 8,
            },
        );
        let source = format!("max-bot:{}", company.bot);
        company.crm.control().add_channel(&source, &[company.agent]).unwrap();
        let mut naive = Self { clients: Clients { max, crm, source }, port: company.port, tasks: Vec::new() };
        naive.begin();
        let url = format!("http://127.0.0.1:{}/hook", naive.port);
        naive.clients.max.subscribe(&url, &SecretString::from("invented-secret-0001")).await.unwrap();
        naive
    }

    fn begin(&mut self) {
        let (port, clients) = (self.port, self.clients.clone());
        let routes = Router::new().route("/hook", post(hook)).with_state(self.clients.clone());
        self.tasks.push(tokio::spawn(async move {
            loop {
                // The one before may not have let go of it yet.
                if let Ok(listener) = tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                    let _ = axum::serve(listener, routes.clone()).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
        self.tasks.push(tokio::spawn(outbox(clients)));
    }

    fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    pub fn restart(&mut self) {
        self.stop();
        self.begin();
    }
}

async fn hook(State(clients): State<Clients>, Json(update): Json<Value>) -> Json<Value> {
    // It answers first, so that MAX does not wait, and works then.
    tokio::spawn(async move {
        let message = &update["message"];
        let Some(user) = message["sender"]["user_id"].as_i64() else { return };
        let call = Receive {
            // Its own number: that MAX repeats it does not come to mind.
            external_id: uuid::Uuid::new_v4().to_string(),
            channel_source: clients.source.clone(),
            sender: format!("max:{user}"),
            name: String::new(),
            phone: String::new(),
            timestamp: message["timestamp"].as_i64().unwrap_or_default(),
            direction: Direction::Incoming,
            author: Author::Customer,
            text: message["body"]["text"].as_str().unwrap_or_default().to_owned(),
            kind: MessageType::Text,
            replaces_external_id: String::new(),
            stand_by: false,
            attachments: Vec::new(),
        };
        let _ = clients.crm.receive(&call).await;
    });
    Json(json!({"success": true}))
}

async fn outbox(clients: Clients) {
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Ok(page) = clients.crm.outbox(&clients.source, 0).await else { continue };
        for row in page.rows {
            let user = row.recipient.strip_prefix("max:").and_then(|id| id.parse().ok());
            let Some(user) = user else { continue };
            let mut report = Report::Delivered;
            if !row.text.is_empty() {
                let message = NewMessage { text: Some(row.text.clone()), attachments: None };
                if let Err(error) = clients.max.send(Recipient::User(user), &message).await {
                    report = Report::Failed(error.to_string());
                }
            }
            let _ = clients.crm.report(row.id, &report).await;
        }
    }
}
