//! Nothing that is a customer's word vanishes, however odd the update that brings it.

use maxchannel::contract::config::Intake;
use serde_json::{Value, json};

use crate::order::{created, message, now, user};
use crate::world::{World, quiet_rules};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_emoji_costs_nothing_wherever_it_stands() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    for (number, (from, to)) in
        [("TEXT", "TEXT \\ud83d"), ("Анна", "Анна \\ude00"), ("a.txt", "\\ud83d\\ud83d.txt"), ("PAYLOAD", "\\udc00")]
            .into_iter()
            .enumerate()
    {
        let at = now();
        let mut whole = message(&world, &anna, &format!("half-{number}"), at, "TEXT");
        whole["body"]["attachments"] = json!([{"type": "file", "filename": "a.txt", "payload": {"url": "https://example.org/none", "token": "t"}}]);
        let update = if from == "PAYLOAD" {
            json!({"update_type": "message_callback", "timestamp": at, "user_locale": "ru",
                "callback": {"callback_id": "c", "timestamp": at, "payload": "PAYLOAD", "user": user(anna.id)}})
        } else {
            created(&whole)
        };
        let raw = update.to_string().replace(from, to);
        assert!(raw.contains("\\u"), "{raw}");
        assert_eq!(world.bring(&raw).await, http::StatusCode::OK);
        world.until_true(&format!("{to} is with the agent"), || world.received(&anna).len() == number + 1).await;
    }
    let received = world.received(&anna);
    assert!(received[0].starts_with("TEXT \u{fffd}"), "{received:?}");
    assert!(received[2].contains("\u{fffd}\u{fffd}.txt"), "{received:?}");
    assert_eq!(received[3], "[Нажата кнопка] \u{fffd}");
    world.assert_contract_kept();
}

/// Every way of breaking one field of a message; whatever is left of it reaches the agent, and
/// nothing becomes a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_odd_in_any_field_is_with_the_agent() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    let odd = [
        json!(null),
        json!(0),
        json!("12"),
        json!(12),
        json!(-1),
        json!([]),
        json!({}),
        json!(true),
        json!(1.5),
        json!(9e18),
        json!("x"),
    ];
    let mut expected = 1;
    for (number, value) in odd.iter().enumerate() {
        for field in [
            "/timestamp",
            "/user_locale",
            "/message/timestamp",
            "/message/sender/first_name",
            "/message/recipient/chat_type",
            "/message/recipient",
            "/message/recipient/user_id",
            "/message/body/mid",
            "/message/body/seq",
            "/message/body/attachments",
            "/message/body/markup",
            "/message/link",
            "/message/sender",
        ] {
            // The same id as one of the others, which is taken for a repetition.
            if field == "/message/body/mid" && value == &json!("12") {
                continue;
            }
            // A millisecond to each, so that whatever of the two times is odd the other tells its
            // place.
            let at = now();
            while now() == at {
                std::hint::spin_loop();
            }
            let mut update =
                created(&message(&world, &anna, &format!("odd-{number}-{}", field.replace('/', ".")), now(), "слово"));
            update["message"]["link"] = Value::Null;
            update["message"]["body"]["attachments"] = Value::Null;
            update["message"]["body"]["markup"] = Value::Null;
            update["unique"] = json!(expected);
            *update.pointer_mut(field).unwrap() = value.clone();
            world.deliver(&update).await;
            expected += 1;
        }
    }
    world.until_true("all are with the agent", || world.received(&anna).len() >= expected).await;
    let received = world.received(&anna);
    assert_eq!(received.len(), expected);
    for text in &received[1..] {
        assert!(text.ends_with("слово") || text.contains("вложение"), "{text}");
        assert!(!text.contains("получено с опозданием"), "{text}");
    }
    let metrics = world.relay.metrics().await;
    assert!(metrics.contains("maxchannel_relay_dead_letters 0\n"), "something was given up");
    assert_eq!(world.crm.control().customers(), std::slice::from_ref(&anna.sender));
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_of_a_customer_without_any_time_bears_that_of_its_receipt() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let began = now().min(world.now());
    for (number, odd) in [json!(null), json!(0), json!("12"), json!(-1), json!({})].into_iter().enumerate() {
        let customer = world.customer(&format!("Клиент {number}"));
        let mut update = created(&message(&world, &customer, &format!("timeless-{number}"), now(), "слово"));
        update["timestamp"] = odd.clone();
        update["message"]["timestamp"] = odd.clone();
        world.deliver(&update).await;
        world.until_true(&format!("{odd}: it is with the agent"), || world.received(&customer).len() == 1).await;
        let entry = &world.history(&customer)[0];
        assert_eq!(entry.text, "слово");
        assert!(entry.timestamp >= began, "{odd}: {}", entry.timestamp);
    }
    assert!(world.relay.metrics().await.contains("maxchannel_relay_dead_letters 0\n"), "something was given up");
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_without_a_body_of_its_own_is_shown() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    for (number, body) in [json!(null), json!(7), json!([])].into_iter().enumerate() {
        let mut forward = created(&message(&world, &anna, "-", now(), "-"));
        forward["unique"] = json!(number);
        forward["message"]["body"] = body.clone();
        forward["message"]["link"] = json!({"type": "forward", "sender": user(1), "chat_id": 1,
            "message": {"mid": format!("inner-{number}"), "seq": 1, "text": "пересланное слово"}});
        world.deliver(&forward).await;
        world.until_true(&format!("{body}: it is with the agent"), || world.received(&anna).len() == number + 1).await;
        assert!(world.received(&anna)[number].ends_with("пересланное слово"), "{:?}", world.received(&anna));
    }
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_a_message_and_cannot_be_read_is_a_dead_letter_that_the_agent_hears_of() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    let recipient = json!({"chat_id": anna.chat, "chat_type": "dialog", "user_id": world.bot});
    for (number, update) in [
        json!({"update_type": "message_created", "user_id": anna.id, "user_locale": "ru"}),
        json!({"update_type": "message_created", "chat_id": anna.chat, "message": "odd"}),
        json!({"update_type": "message_created", "message": {"sender": user(anna.id), "recipient": recipient, "body": null}}),
        json!({"update_type": "message_created", "message": {"recipient": recipient, "body": 7}}),
        json!({"update_type": "message_callback", "user_id": anna.id, "callback": 7}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut update = update;
        update["timestamp"] = json!(now());
        world.deliver(&update).await;
        world.until_true(&format!("the agent hears of {update}"), || world.received(&anna).len() == number + 2).await;
        assert!(world.received(&anna)[number + 1].contains("не смог прочитать"));
    }
    let metrics = world.relay.metrics().await;
    assert!(metrics.contains("maxchannel_relay_dead_letters 5\n"), "{metrics}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(["erase", "--customer", &anna.id.to_string(), "-o", "json", "--data-dir"])
        .arg(world.data_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.relay.metrics().await.contains("maxchannel_relay_dead_letters 0\n"));
    world.assert_contract_kept();
}
