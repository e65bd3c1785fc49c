//! Callers that hang up before they are answered: what is on disk is worked on all the same.

use maxchannel::contract::config::Intake;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::world::{Sends, World, mango_call, quiet_rules};

fn update(user: i64, text: &str) -> String {
    json!({
        "update_type": "message_created", "timestamp": 1_790_000_000_000_i64,
        "message": {
            "sender": {"user_id": user, "first_name": "Анна", "is_bot": false},
            "recipient": {"chat_id": user + 1_000_000, "chat_type": "dialog", "user_id": 1},
            "timestamp": 1_790_000_000_000_i64,
            "body": {"mid": format!("mid.{user}"), "seq": user, "text": text, "attachments": null},
        },
    })
    .to_string()
}

/// The same as MANGO OFFICE tells it: the message, and whose it is.
fn events(user: i64, text: &str) -> [String; 2] {
    let (session, chat) = (format!("session-{user}"), format!("chat-{user}"));
    let at = 1_790_000_000_000_i64;
    let message = json!({"message_id": user.to_string(), "direction": "incoming", "client_id": "client", "time": at,
        "payload": {"type": "text", "text": text}});
    let channel = json!({"channel_id": 5, "type": 15, "mode": "abonent", "abonent_id": 7});
    let whose = json!({"session_id": session, "state": "pending", "update_time": at,
        "widget": {"widget_id": 1, "channels": [channel]},
        "variables": {"social_user": {"social_user_id": user.to_string(), "first_name": "Анна"}}});
    [
        json!({"id": "message", "session_id": session, "chat_id": chat, "message": message}).to_string(),
        json!({"id": "session", "session": whose}).to_string(),
    ]
}

/// The calls that bring what one customer writes.
type Calls = fn(i64) -> Vec<Vec<u8>>;

/// Everybody writes once; each call is cut off, and then MAX repeats it as it does.
pub async fn what_was_stored_for_a_caller_that_hung_up_reaches_the_crm_without_a_restart(intake: Intake) {
    // Of MAX's updates nobody but these callers brings any.
    let (world, calls): (_, Calls) = if intake == Intake::Webhook {
        let one = |customer| vec![World::webhook_call(&update(customer, "вопрос"))];
        (World::start(quiet_rules(), Intake::None).await, one)
    } else {
        (World::start(quiet_rules(), intake).await, |customer| {
            events(customer, "вопрос").map(|one| mango_call(&one)).into()
        })
    };
    let customers: Vec<i64> = (7_000_001..7_000_121).collect();
    for customer in &customers {
        for call in calls(*customer) {
            let mut connection = TcpStream::connect(world.address()).await.unwrap();
            connection.write_all(&call).await.unwrap();
        }
    }
    let mut statuses = Vec::new();
    for customer in &customers {
        for call in calls(*customer) {
            let mut connection = TcpStream::connect(world.address()).await.unwrap();
            connection.write_all(&call).await.unwrap();
            let mut answer = [0; 12];
            connection.read_exact(&mut answer).await.unwrap();
            statuses.push(String::from_utf8_lossy(&answer).into_owned());
        }
    }
    assert!(statuses.iter().all(|status| status == "HTTP/1.1 200"), "{statuses:?}");
    world
        .until_true("every message that was answered 200 is in the CRM", || {
            let arrived = world.crm.control().customers();
            customers.iter().all(|customer| arrived.contains(&format!("max:{customer}")))
        })
        .await;
    world.assert_contract_kept();
}

pub async fn dead_letters_whose_replay_was_cut_off_are_delivered_all_the_same(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    world.sends(Sends::Refused, 0, 0);
    let answers: Vec<String> = (1..=12).map(|number| format!("ответ {number}")).collect();
    for answer in &answers {
        world.crm.control().send(chat, world.agent, answer, Vec::new()).unwrap();
    }
    world
        .until_true("all have failed", || {
            world.reports().len() == answers.len() && world.reports().iter().all(|(state, _)| state == "Failed")
        })
        .await;
    world.sends_are_well();
    let body = json!({"all": true}).to_string();
    let mut connection = UnixStream::connect(world.data_dir().join("admin.sock")).await.unwrap();
    let call = format!(
        "POST /dead-letters/replay HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(call.as_bytes()).await.unwrap();
    drop(connection);
    // Whether it was heard is chance; whoever asks again must not find rows that nobody works on.
    let mut connection = UnixStream::connect(world.data_dir().join("admin.sock")).await.unwrap();
    connection.write_all(call.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    world.until_true("the customer has them all", || world.seen(&anna) == answers).await;
}
