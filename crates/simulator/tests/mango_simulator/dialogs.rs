//! Манго Диалоги: the states of a session, its refusals, and the webhooks in all their forms.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use maxchannel_simulator::mango::{BodyForm, ClientMessage, EventFaults, Switches, sign};
use serde_json::{Value, json};

use super::{Account, account, account_with};

const IVAN: i64 = 300_052_407;
const MARIA: i64 = 300_052_408;
const GROUP: i64 = 10_048_964;

/// What came to the other side: path and body.
type Came = Arc<Mutex<Vec<(String, String)>>>;

async fn listen(account: &Account) -> Came {
    let came = Came::default();
    let router = Router::new().fallback(|State(came): State<Came>, uri: Uri, body: String| async move {
        came.lock().unwrap().push((uri.path().to_owned(), body));
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    account.control.set_webhook(Some(&format!("http://{}/base", listener.local_addr().unwrap())));
    tokio::spawn(axum::serve(listener, router.with_state(Arc::clone(&came))).into_future());
    came
}

async fn until(came: &Came, count: usize) -> Vec<(String, String)> {
    for _ in 0..2_000 {
        let seen = came.lock().unwrap().clone();
        if seen.len() >= count {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{count} webhooks do not come: {:?}", came.lock().unwrap());
}

fn said(text: &str) -> ClientMessage {
    ClientMessage { social_user_id: "4711".to_owned(), text: text.to_owned(), ..ClientMessage::default() }
}

impl Account {
    /// A method of `/cc/md/session/`; answers the text of the refusal, or "OK".
    async fn session(&self, method: &str, mut request: Value) -> (String, Value) {
        request["id"] = json!("r");
        self.control.forgive();
        let (_, body) = self.call(&format!("/cc/md/session/{method}"), &request.to_string()).await;
        let told = if body["code"] == 1000 { "OK" } else { body["error"].as_str().unwrap_or("?") };
        (told.to_owned(), body)
    }
}

#[tokio::test]
async fn a_session_goes_its_way_and_refuses_everything_else_in_the_documented_words() {
    let account = account().await;
    account.control.max_channel_for_group(GROUP);
    let first = account.control.say(&said("Здравствуйте")).unwrap();
    let session = first["session_id"].clone();
    let chat = account.control.dialogs()[0]["chat_id"].clone();
    let on = |abonent: i64| json!({"session_id": session, "abonent_id": abonent});
    let message = |abonent: i64, local: &str| {
        json!({"chat_id": chat, "abonent_id": abonent, "local_message_id": local,
            "payload": {"type": "text", "text": "Слушаю вас"}})
    };
    for (method, request, told) in [
        ("close", on(IVAN), "Session not taken"),
        ("chat/send_message", message(IVAN, "1"), "Session not taken"),
        ("take", on(1), "Operator not found"),
        ("take", json!({"session_id": "none", "abonent_id": IVAN}), "Session not found"),
        ("take", on(IVAN), "OK"),
        ("take", on(MARIA), "Session already taken"),
        ("chat/send_message", message(MARIA, "1"), "Operator not assigned"),
        ("chat/send_message", message(IVAN, "1"), "OK"),
        ("chat/send_message", message(IVAN, "1"), "local_message_id must be unique"),
        ("chat/history", json!({"chat_id": "none"}), "Chat not found"),
        (
            "create",
            json!({"channel_id": 70_001, "social_user_id": "4711", "abonent_id": IVAN}),
            "Session already exists",
        ),
        ("transfer", json!({"session_id": session, "group_id": 5}), "Group not found"),
        ("transfer", on(IVAN), "Operator already assigned"),
        ("close", on(IVAN), "OK"),
        ("close", on(IVAN), "Session closed"),
        ("chat/send_message", message(IVAN, "2"), "Session closed"),
        ("create", json!({"channel_id": 70_001, "social_user_id": "nobody", "abonent_id": IVAN}), "Channel not found"),
        ("create", json!({"channel_id": 70_001, "social_user_id": "4711", "abonent_id": MARIA}), "OK"),
    ] {
        assert_eq!(account.session(method, request.clone()).await.0, told, "{method} {request}");
    }
    let (_, history) = account.session("chat/history", json!({ "chat_id": chat })).await;
    let texts: Vec<&Value> =
        history["messages"].as_array().unwrap().iter().map(|one| &one["payload"]["text"]).collect();
    assert_eq!(texts, ["Здравствуйте", "Слушаю вас"]);
    let made = account.control.dialogs()[1]["session_id"].clone();
    let moved = account.session("transfer", json!({"session_id": made, "abonent_id": IVAN})).await;
    assert_eq!(moved.0, "OK");
    let child = account.control.dialogs()[2].clone();
    assert_eq!([&child["parent_session_id"], &child["state"]], [&made, &json!("dialog")]);
    let (_, open) = account.call("/cc/md/sessions", r#"{"id":"r"}"#).await;
    assert_eq!(open["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(account.control.violations(), [] as [Value; 0], "refusals of a session are no wrong requests");
}

#[tokio::test]
async fn events_are_signed_in_every_form_and_a_message_comes_before_its_session() {
    for form in [BodyForm::Form, BodyForm::Wrapped, BodyForm::WrappedText, BodyForm::Bare] {
        for auto_distribution in [false, true] {
            let switches = Switches { body_form: form, auto_distribution, ..Switches::friendly() };
            let account = account_with(switches).await;
            account.control.max_channel_for_employee(IVAN);
            let came = listen(&account).await;
            account.control.say(&said("Здравствуйте & до свидания")).unwrap();
            let seen = until(&came, if auto_distribution { 3 } else { 2 }).await;
            let paths: Vec<&str> = seen.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
            assert_eq!(paths, ["on_message", "on_pending", "on_dialog"][..paths.len()]);
            assert!(seen[0].0.starts_with("/base/events/cc/md/session/chat/"), "{seen:?}");
            let (key, signature, text) = match form {
                BodyForm::Form => {
                    let get = |name: &str| {
                        let mut pairs = url::form_urlencoded::parse(seen[0].1.as_bytes());
                        pairs.find(|(own, _)| own == name).unwrap().1.into_owned()
                    };
                    (get("vpbx_api_key"), get("sign"), get("json"))
                }
                BodyForm::Bare => (String::new(), String::new(), seen[0].1.clone()),
                BodyForm::Wrapped | BodyForm::WrappedText => {
                    let body: Value = serde_json::from_str(&seen[0].1).unwrap();
                    let text = match &body["json"] {
                        Value::String(text) => text.clone(),
                        _ => seen[0].1.split_once("\"json\":").unwrap().1.strip_suffix('}').unwrap().to_owned(),
                    };
                    let word = |name: &str| body[name].as_str().unwrap().to_owned();
                    (word("vpbx_api_key"), word("sign"), text)
                }
            };
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["message"]["payload"]["text"], "Здравствуйте & до свидания");
            if form != BodyForm::Bare {
                assert_eq!(signature, sign(&key, text.as_bytes(), "inventedmangosalt"), "{form:?}");
            }
        }
    }
}

#[tokio::test]
async fn webhooks_are_lost_doubled_mixed_up_and_held_as_control_says() {
    let account = account().await;
    account.control.max_channel_for_employee(IVAN);
    let came = listen(&account).await;
    account.control.event_faults(EventFaults { hold: true, ..EventFaults::default() });
    for text in ["1", "2", "3", "4", "5"] {
        account.control.say(&said(text)).unwrap();
    }
    assert!(came.lock().unwrap().is_empty());
    account.control.event_faults(EventFaults { lose: 2, double: 1, swap: 1, hold: false });
    // Lost: "1" and its session.
    let seen = until(&came, 5).await;
    let texts: Vec<&str> = seen
        .iter()
        .map(|(_, body)| {
            ["1", "2", "3", "4", "5"]
                .into_iter()
                .find(|text| body.contains(&format!("text%22%3A%22{text}%22")))
                .unwrap()
        })
        .collect();
    assert_eq!(texts, ["2", "2", "4", "3", "5"]);
}
