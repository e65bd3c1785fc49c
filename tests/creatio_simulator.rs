//! The Creatio double keeps the rules of the package contract and of the Creatio reference: driven over HTTP by a plain client that
//! shares no type with it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(feature = "simulator")]

use maxchannel::simulator::creatio::{
    Answer, Control, Dialect, Expired, Fault, Options, OutFile, Outage, Runtime, Simulator, Switches,
};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

const SOURCE: &str = "max-bot:254700011";
const SENDER: &str = "max:91234567";

struct Site {
    simulator: Simulator,
    control: Control,
    client: Client,
    token: String,
    base: String,
    agent: Uuid,
    queue: Uuid,
    channel: Uuid,
}

fn client() -> Client {
    // The first test of the process installs it for all.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn steady() -> Switches {
    Switches { late_row_every: 0, files_after_ms: 0, rotate_cookies_every: 0, ..Switches::default() }
}

async fn site_with(options: Options) -> Site {
    let simulator = Simulator::start(options).await.unwrap();
    let control = simulator.control();
    let agent = control.add_agent("Иван Орлов", "orlov@acme.example");
    let (channel, queue) = control.add_channel(SOURCE, &[agent]).unwrap();
    let client = client();
    let mut site =
        Site { base: simulator.url(), simulator, control, client, token: String::new(), agent, queue, channel };
    site.sign_in().await;
    site
}

async fn site() -> Site {
    site_with(Options { switches: steady(), ..Options::default() }).await
}

fn message(id: &str, timestamp: i64) -> Value {
    json!({"externalId": id, "channelSource": SOURCE, "sender": SENDER, "name": "Анна Петрова", "phone": "", "timestamp": timestamp,
        "direction": "incoming", "author": "customer", "text": format!("text of {id}"), "type": "text",
        "replacesExternalId": "", "standBy": false, "attachments": []})
}

fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

impl Site {
    async fn sign_in(&mut self) {
        let options = Options::default();
        let answer = self
            .client
            .post(format!("{}/connect/token", self.simulator.identity_url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!(
                "client_id={}&client_secret={}&grant_type=client_credentials",
                options.client_id, options.client_secret
            ))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        self.token = read(answer).await["access_token"].as_str().unwrap().to_owned();
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        self.try_call(method, path, body).await.unwrap()
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, reqwest::Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await
    }

    async fn receive(&self, body: &Value) -> Value {
        let answer = self.call(Method::POST, "/rest/MaxChannelService/receive", Some(body)).await;
        assert_eq!(answer.status(), 200);
        read(answer).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        read(answer).await
    }

    async fn outbox(&self) -> Vec<Value> {
        let filter = format!("ChannelSource%20eq%20'{SOURCE}'%20and%20State%20eq%20'Pending'%20and%20Seq%20gt%200");
        let body = self.get(&format!("/odata/MaxOutbox?$filter={filter}&$orderby=Seq%20asc&$top=100")).await;
        body["value"].as_array().unwrap().clone()
    }

    async fn upload(&self, id: Uuid, bytes: Vec<u8>) -> Value {
        let path = format!("/rest/MaxChannelService/file?id={id}&name=%D1%84.jpg&mimeType=image%2Fjpeg");
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        read(request.header("content-type", "application/octet-stream").body(bytes).send().await.unwrap()).await
    }

    /// A chat of the customer, accepted by the agent.
    async fn accepted_chat(&self) -> Uuid {
        let chat = guid(&self.receive(&message("mid.1", 1000)).await["chatId"]);
        assert!(self.control.accept(chat, self.agent).unwrap());
        chat
    }

    fn rules_broken(&self) -> Vec<String> {
        self.control.violations().iter().map(|entry| entry["rule"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read(answer: Response) -> Value {
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

fn guid(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

fn names(values: &[Value], name: &str) -> Vec<String> {
    values.iter().map(|value| value[name].as_str().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn a_message_reaches_the_agent_and_the_answer_stands_in_the_outbox() {
    let site = site().await;
    let first = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(
        (&first["success"], &first["duplicate"], &first["queued"]),
        (&json!(true), &json!(false), &json!(false))
    );
    let chat = guid(&first["chatId"]);
    assert!(site.control.accept(chat, site.agent).unwrap());
    assert!(!site.control.accept(chat, site.agent).unwrap(), "the second to accept is too late");
    site.control.send(chat, site.agent, "Здравствуйте", Vec::new()).unwrap();
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "Kind"), ["accepted", "message"]);
    assert_eq!(rows[1]["Recipient"], SENDER);
    assert_eq!(rows[1]["Text"], "Здравствуйте");
    assert_eq!(rows[1]["Files"], "");
    assert_eq!(rows[1]["ParentChatId"], Uuid::nil().to_string());
    assert_eq!(rows[1]["AgentName"], "Иван Орлов");
    let path = format!("/odata/MaxOutbox({})", rows[1]["Id"].as_str().unwrap().to_uppercase());
    let patched = site.call(Method::PATCH, &path, Some(&json!({"State": "Delivered"}))).await;
    assert_eq!(patched.status(), 204);
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
    let transcript = site.control.transcript(SENDER);
    assert_eq!(names(&transcript, "text"), ["text of mid.1", "Здравствуйте"]);
    assert_eq!(transcript[1]["outbox"]["state"], "Delivered");
    assert!(site.control.violations().is_empty());
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_stores_nothing() {
    let site = site().await;
    let first = site.receive(&message("mid.1", 1000)).await;
    let again = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(again, with(first, &json!({"duplicate": true})));
    assert_eq!(site.control.transcript(SENDER).len(), 1);
    assert!(site.control.violations().is_empty());
}
