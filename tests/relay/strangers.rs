//! What those may do who know no secret of ours, and what becomes of an update that is too long.

use std::time::Duration;

use maxchannel::contract::config::Intake;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{World, quiet_rules};

/// Status line, headers and body of an answer without its date.
async fn answer_to(world: &World, call: &[u8]) -> String {
    let mut connection = TcpStream::connect(world.address()).await.unwrap();
    connection.write_all(call).await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // Up to the end of the head: no stranger's answer has a body.
    while !answer.ends_with(b"\r\n\r\n") {
        let read = connection.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..read]);
    }
    let text = String::from_utf8(answer).unwrap().to_lowercase();
    text.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stranger_gets_the_same_answer_before_sending_a_body_and_a_missing_channel_is_none() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    let ours = String::from_utf8(World::webhook_call("{}")).unwrap();
    let path = ours.split(' ').nth(1).unwrap().to_owned();
    let secret = ours.lines().find(|line| line.starts_with("X-Max")).unwrap().to_owned();
    let call = |path: &str, secret: &str| {
        // Announced, and never sent.
        format!("POST {path} HTTP/1.1\r\nHost: relay\r\n{secret}Content-Length: 900000\r\n\r\n").into_bytes()
    };
    let calls = [
        ("no such channel", call("/webhooks/max/default/nobody/00000000", "X-Max-Bot-Api-Secret: guess\r\n")),
        ("a wrong secret", call(&path, "X-Max-Bot-Api-Secret: guess\r\n")),
        ("no secret", call(&path, "")),
        ("a wrong fingerprint", call("/webhooks/max/default/support/00000000", &format!("{secret}\r\n"))),
    ];
    let expected = answer_to(&world, &calls[0].1).await;
    assert!(expected.starts_with("http/1.1 403"), "{expected}");
    for (what, call) in &calls {
        assert_eq!(answer_to(&world, call).await, expected, "{what}");
    }
    // Nor does it show that a channel is about to start; to MAX it says that it must come again.
    world.stop().await;
    for (what, call) in &calls {
        assert_eq!(answer_to(&world, call).await, expected, "{what}, without a relay");
    }
}

pub async fn a_webhook_comes_through_a_thousand_connections_that_say_nothing(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let mut silent = Vec::new();
    for number in 0..1_000 {
        let mut connection = TcpStream::connect(world.address()).await.unwrap();
        match number % 3 {
            0 => {}
            1 => drop(connection.write_all(b"POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost:").await),
            _ => {
                let head =
                    "POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost: relay\r\nContent-Length: 900000\r\n\r\n";
                let _ = connection.write_all(head.as_bytes()).await;
                let _ = connection.write_all(&vec![b'x'; 20_000]).await;
            }
        }
        silent.push(connection);
    }
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    world.until_true("the agent has it", || world.received(&anna).len() == 1).await;
    assert_eq!(silent.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authentic_update_of_any_length_is_taken_once_and_the_agent_has_its_words() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let text = |megabytes: usize| json!("x".repeat(megabytes * 1024 * 1024 + 1));
    let list = json!(vec![json!({"of": "no use"}); 600_000]);
    for (number, (what, long)) in
        [("1 MiB", text(1)), ("3 MiB", text(3)), ("12 MiB", text(12)), ("a list of 10 MiB", list)]
            .into_iter()
            .enumerate()
    {
        let user = 9_000_000 + number;
        let update = json!({
            "update_type": "message_created", "timestamp": 1_790_000_000_000_i64, "a_long_one": long,
            "message": {
                "sender": {"user_id": user, "first_name": "Анна", "is_bot": false},
                "recipient": {"chat_id": user + 100, "chat_type": "dialog", "user_id": 1},
                "timestamp": 1_790_000_000_000_i64,
                "body": {"mid": format!("mid.{user}"), "seq": user, "text": "вопрос", "attachments": null},
            },
        });
        let call = World::webhook_call(&update.to_string());
        for _ in 0..2 {
            let mut connection = TcpStream::connect(world.address()).await.unwrap();
            connection.write_all(&call).await.unwrap();
            let mut answer = [0; 12];
            tokio::time::timeout(Duration::from_mins(1), connection.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200", "{what}");
        }
        let received = |sender: &str| {
            let entries = world.crm.control().transcript(sender);
            entries.iter().filter(|entry| entry["text"] == "вопрос").count()
        };
        let sender = format!("max:{user}");
        world.until_true(&format!("the agent has it: {what}"), || received(&sender) == 1).await;
    }
    let metrics = world.relay.metrics().await;
    assert!(metrics.contains("maxchannel_relay_set_aside_total{kind=\"long_update\"} 4"), "{metrics}");
}
