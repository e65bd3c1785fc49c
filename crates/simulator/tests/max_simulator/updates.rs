//! Updates: by long poll, by webhook, and bent.

use maxchannel_simulator::max::{
    DeliveryOrder, OmittedMarker, ParallelPollers, PollUnderWebhook, Switches, Twist, UnsubscribeWindow, UpdateFault,
};
use serde_json::{Value, json};

use super::bench::{Bench, LONG, Receiver};

#[tokio::test]
async fn a_poll_waits_for_updates_and_its_marker_acknowledges_them() {
    let bench = Bench::start(Switches { polls_per_second: 0, host_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let waiting = bench.call("GET", "/updates?timeout=30", Value::Null);
    let start = async {
        control.wait(LONG, |_| Some(())).await;
        control.start(user, bot).unwrap();
    };
    let ((_, first), ()) = tokio::join!(waiting, start);
    assert_eq!(first["updates"][0]["update_type"], "bot_started");
    let marker = first["marker"].as_i64().unwrap();
    for n in 0..120 {
        control.say(user, bot, &n.to_string()).unwrap();
    }
    let poll = |query: String| bench.call("GET", query.leak(), Value::Null);
    let texts = |answer: &Value| -> Vec<String> {
        let updates = answer["updates"].as_array().unwrap();
        updates.iter().map(|update| update["message"]["body"]["text"].as_str().unwrap_or("-").to_owned()).collect()
    };
    let (_, batch) = poll(format!("/updates?timeout=0&limit=1000&marker={marker}")).await;
    assert_eq!(texts(&batch), (0..100).map(|n| n.to_string()).collect::<Vec<_>>(), "at most 100, whatever is asked");
    let (_, again) = poll(format!("/updates?timeout=0&marker={marker}")).await;
    assert_eq!(texts(&again), texts(&batch), "a marker that is not passed on loses nothing");
    let next = batch["marker"].as_i64().unwrap();
    let (_, rest) = poll(format!("/updates?timeout=0&marker={next}")).await;
    assert_eq!(texts(&rest).len(), 20);
    let (_, unread) = poll("/updates?timeout=0".to_owned()).await;
    assert_eq!(texts(&unread).len(), 20, "what no marker acknowledged");
    control.set_switches(|switches| switches.omitted_marker = OmittedMarker::Latest);
    let (_, latest) = poll("/updates?timeout=0".to_owned()).await;
    assert_eq!(texts(&latest), ["119"]);
    let (_, empty) = poll(format!("/updates?timeout=0&marker={}", rest["marker"])).await;
    assert_eq!((texts(&empty).len(), &empty["marker"]), (0, &rest["marker"]), "an empty poll has a usable marker");

    let receiver = Receiver::start().await;
    bench.ok("POST", "/subscriptions", json!({"url": receiver.url("/hook")})).await;
    for (position, status) in
        [(PollUnderWebhook::Empty, 200), (PollUnderWebhook::MethodNotAllowed, 405), (PollUnderWebhook::Conflict, 409)]
    {
        control.set_switches(|switches| switches.poll_under_webhook = position);
        assert_eq!(poll("/updates?timeout=0".to_owned()).await.0, status, "{position:?}");
    }
    bench.ok("DELETE", &format!("/subscriptions?url={}", receiver.url("/hook")), Value::Null).await;

    control.set_switches(|switches| switches.parallel_pollers = ParallelPollers::Conflict);
    let end = rest["marker"].as_i64().unwrap();
    let first = poll(format!("/updates?timeout=30&marker={end}"));
    let second = async {
        // The first poll is waiting once its request has been counted and its slot taken: then the
        // second is refused.
        loop {
            let (status, _) = bench.call("GET", format!("/updates?timeout=0&marker={end}").leak(), Value::Null).await;
            if status == 409 {
                break;
            }
        }
        control.say(user, bot, "конец").unwrap();
    };
    let ((status, answer), ()) = tokio::join!(first, second);
    if status == 200 {
        assert_eq!(texts(&answer), ["конец"]);
    } else {
        assert_eq!(status, 409, "the second came first");
    }
}

#[tokio::test]
async fn a_webhook_that_fails_is_repeated_later_while_newer_updates_go_on() {
    let bench = Bench::start(Switches::for_tests(), 3_000.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let receiver = Receiver::start().await;
    let filtered = Receiver::start().await;
    bench.ok("POST", "/subscriptions", json!({"url": receiver.url("/a"), "secret": "secret-1"})).await;
    bench.ok("POST", "/subscriptions", json!({"url": filtered.url("/b"), "update_types": ["bot_started"]})).await;
    control.start(user, bot).unwrap();
    receiver.take(1).await;
    receiver.answer_next(&[500, 204, 301]);
    control.pause_webhooks(true);
    for text in ["1", "2"] {
        control.say(user, bot, text).unwrap();
    }
    control.pause_webhooks(false);
    let seen = receiver.take(5).await;
    let mut texts: Vec<&str> =
        seen.iter().map(|(_, update)| update["message"]["body"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts[0], "1");
    texts.sort_unstable();
    assert_eq!(
        texts.iter().filter(|text| **text == "1").count() + texts.iter().filter(|text| **text == "2").count(),
        5
    );
    assert!(seen.iter().all(|(secret, _)| secret.as_deref() == Some("secret-1")));
    assert_eq!(filtered.take(1).await[0].1["update_type"], "bot_started");
    let done =
        |control: &maxchannel_simulator::max::Control| (control.statistics().webhook_successes >= 4).then_some(());
    control.wait(LONG, done).await.unwrap();
    assert_eq!(filtered.count(), 1, "only the wanted types");
    // Nothing but 200 counts: 500, 204 and 301 were repeated.
    let statuses: Vec<Option<u16>> =
        control.webhook_attempts().iter().filter_map(|a| Some(a.status).filter(|s| *s != Some(200))).collect();
    assert_eq!(statuses, [Some(500), Some(204), Some(301)]);
}

#[tokio::test]
async fn in_strict_order_a_failed_update_holds_up_its_chat_only() {
    let switches = Switches { delivery_order: DeliveryOrder::Strict, ..Switches::for_tests() };
    let bench = Bench::start(switches, 6_000.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let receiver = Receiver::start().await;
    bench.ok("POST", "/subscriptions", json!({"url": receiver.url("/a")})).await;
    receiver.answer_next(&[503, 503]);
    control.start(user, bot).unwrap();
    for text in ["1", "2", "3"] {
        control.say(user, bot, text).unwrap();
    }
    let seen = receiver.take(6).await;
    let texts: Vec<&str> =
        seen.iter().map(|(_, update)| update["message"]["body"]["text"].as_str().unwrap_or("start")).collect();
    assert_eq!(texts, ["start", "start", "start", "1", "2", "3"]);
}

#[tokio::test]
async fn a_subscription_that_nobody_answers_ends_silently() {
    for window in [UnsubscribeWindow::Subscription, UnsubscribeWindow::Update] {
        let switches = Switches { unsubscribe_window: window, ..Switches::for_tests() };
        let bench = Bench::start(switches, 60_000.0).await;
        let (control, bot, user) = (bench.control(), bench.bot, bench.user);
        // Port 9 of the loopback is nobody's.
        bench.ok("POST", "/subscriptions", json!({"url": "http://127.0.0.1:9/hook"})).await;
        control.start(user, bot).unwrap();
        let gone = |control: &maxchannel_simulator::max::Control| {
            control.bot(bot).ok()?.subscriptions.is_empty().then_some(())
        };
        control.wait(LONG, gone).await.expect("the subscription is still there");
        assert_eq!(control.statistics().unsubscribed, 1);
        let attempts = control.webhook_attempts();
        assert!((2..=11).contains(&attempts.len()), "{} attempts", attempts.len());
        assert!(attempts.iter().all(|attempt| attempt.status.is_none() && attempt.error.is_some()));
        let listed = bench.ok("GET", "/subscriptions", Value::Null).await;
        assert_eq!(listed, json!({"subscriptions": []}));
    }
}

#[tokio::test]
async fn without_the_test_switches_only_https_without_a_port_is_subscribed() {
    let bench = Bench::start(Switches::default(), 1.0).await;
    for (url, taken) in [
        ("https://max.example/hook", true),
        ("http://max.example/hook", false),
        ("https://max.example:443/hook", false),
        ("https://max.example:8443/hook", false),
        ("not an address", false),
    ] {
        let (status, answer) = bench.call("POST", "/subscriptions", json!({"url": url})).await;
        assert_eq!((status, &answer["success"]), (200, &json!(taken)), "{url}: {answer}");
    }
    // A route lets the real address be delivered to a test's receiver.
    let (control, receiver) = (bench.control(), Receiver::start().await);
    control.route_webhooks("max.example", &receiver.base());
    control.start(bench.user, bench.bot).unwrap();
    assert_eq!(receiver.take(1).await[0].1["update_type"], "bot_started");
}

#[tokio::test]
async fn update_faults_bend_the_stream() {
    let bench = Bench::start(Switches { polls_per_second: 0, host_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let mut marker = bench.ok("GET", "/updates?timeout=0", Value::Null).await["marker"].as_i64().unwrap();
    for (twist, expected) in [
        (Twist::Duplicate, vec!["1", "1", "2"]),
        (Twist::OutOfOrder, vec!["2", "1"]),
        (Twist::Lose, vec!["2"]),
        (Twist::WithoutMessage, vec!["-", "2"]),
        (Twist::UnknownType, vec!["1", "2"]),
        (Twist::UnknownAttachment, vec!["1", "2"]),
        (Twist::ExtraFields, vec!["1", "2"]),
        (Twist::Nulls, vec!["1", "2"]),
    ] {
        control.add_update_fault(UpdateFault {
            twist,
            update_type: Some("message_created".to_owned()),
            ..UpdateFault::default()
        });
        for text in ["1", "2"] {
            control.say(user, bot, text).unwrap();
        }
        let (.., answer) = bench.raw("GET", &format!("/updates?timeout=0&marker={marker}"), Value::Null).await;
        marker = answer["marker"].as_i64().unwrap();
        let updates = answer["updates"].as_array().unwrap();
        let texts: Vec<&str> =
            updates.iter().map(|update| update["message"]["body"]["text"].as_str().unwrap_or("-")).collect();
        assert_eq!(texts, expected, "{twist:?}");
        let first = &updates[0];
        match twist {
            Twist::UnknownType => assert_eq!(first["update_type"], "message_teleported"),
            Twist::UnknownAttachment => assert_eq!(first["message"]["body"]["attachments"][0]["type"], "hologram"),
            Twist::ExtraFields => assert!(first["message"]["sender"]["unannounced"].is_object()),
            Twist::Nulls => assert_eq!(first["message"].get("link"), Some(&Value::Null)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn in_the_hostile_position_a_careful_client_still_gets_every_message() {
    let bench = Bench::start(Switches { not_ready_sends: 0, ..Switches::hostile() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let receiver = Receiver::start().await;
    let (status, ..) =
        bench.raw("POST", "/subscriptions", json!({"url": receiver.url("/hook"), "secret": "secret-1"})).await;
    assert_eq!(status, 200);
    control.start(user, bot).unwrap();
    for n in 0..20 {
        control.say(user, bot, &n.to_string()).unwrap();
    }
    let (status, _, answer) = bench.raw("POST", &format!("/messages?user_id={user}"), json!({"text": "ответ"})).await;
    assert_eq!((status, &answer["message"]["body"]["text"]), (200, &json!("ответ")));
    assert!(answer["unannounced"].is_object());
    assert_eq!(answer["message"].get("link"), Some(&Value::Null));
    let mut received: Vec<(i64, String)> = Vec::new();
    for (_, update) in receiver.take(22).await {
        let body = &update["message"]["body"];
        received.push((body["seq"].as_i64().unwrap_or(0), body["text"].as_str().unwrap_or("start").to_owned()));
    }
    // They come in any order, the bot's own among them; seq puts them right.
    received.sort();
    let texts: Vec<String> = received.into_iter().map(|(_, text)| text).collect();
    let expected = ["start".to_owned()].into_iter().chain((0..20).map(|n| n.to_string())).chain(["ответ".to_owned()]);
    assert_eq!(texts, expected.collect::<Vec<_>>());
}
