//! The promises of the MAX double, seen from outside: over HTTP, and through its control.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, clippy::similar_names)]

#[path = "max_simulator/bench.rs"]
mod bench;
#[path = "max_simulator/published.rs"]
mod published;

use maxchannel::simulator::max::{
    BotAnswer, BotState, ChatCall, CheckOrder, DeliveryOrder, DialogAction, Draft, DraftAttachment, Fault, NewBot,
    NewUser, OmittedMarker, Outcome, ParallelPollers, PollUnderWebhook, PressWhat, RemovedDialog, SuspendedIn,
    Switches, Twist, UnsubscribeWindow, UpdateFault, VideoUrl,
};
use serde_json::{Value, json};

use bench::{Bench, LONG, Receiver};

#[tokio::test]
async fn every_answer_and_every_webhook_body_has_the_published_shape() {
    for switches in [Switches::for_tests(), Switches { nulls: true, ..Switches::for_tests() }] {
        let bench = Bench::start(Switches { host_per_second: 0, chat_per_second: 0, ..switches }, 1.0).await;
        let (control, bot, user) = (bench.control(), bench.bot, bench.user);
        let receiver = Receiver::start().await;
        bench.ok("POST", "/subscriptions", json!({"url": receiver.url("/hook"), "secret": "secret-1"})).await;
        bench.ok("GET", "/subscriptions", Value::Null).await;
        bench.ok("GET", "/me", Value::Null).await;
        bench.ok("PATCH", "/me/commands", json!({"commands": [{"name": "start", "description": "Начать"}]})).await;

        // Everything a customer can do.
        let chat = control.act(user, bot, DialogAction::Start(Some("promo_7".to_owned()))).unwrap();
        let mid = control.say(user, bot, "Здравствуйте").unwrap();
        let attachments = [
            DraftAttachment::Image { data: None },
            DraftAttachment::File { name: "счёт.pdf".to_owned(), data: None },
            DraftAttachment::Audio { data: None },
            DraftAttachment::Video { data: None },
            DraftAttachment::Sticker { code: "5f3a".to_owned() },
            DraftAttachment::Contact { name: "Анна".to_owned(), phone: "+79001234567".to_owned(), by_button: true },
            DraftAttachment::Share {
                url: "https://acme.example/1".to_owned(),
                title: Some("Товар".to_owned()),
                description: None,
            },
            DraftAttachment::Location { latitude: 55.75, longitude: 37.61 },
        ];
        for attachment in attachments {
            control.write(user, bot, Draft::attachment(attachment)).unwrap();
        }
        control.write(user, bot, Draft { forward: Some(mid.clone()), ..Draft::default() }).unwrap();
        control
            .write(user, bot, Draft { text: "ответ".to_owned(), reply_to: Some(mid.clone()), ..Draft::default() })
            .unwrap();
        control.edit(user, &mid, "Здравствуйте!").unwrap();

        // Everything the bot can do.
        let keyboard = json!({"text": "**Что** показать?", "format": "markdown", "attachments": [{"type": "inline_keyboard", "payload": {"buttons": [
            [{"type": "callback", "text": "Статус", "payload": "status"}, {"type": "message", "text": "Да"}],
            [{"type": "request_contact", "text": "Телефон"}, {"type": "link", "text": "Сайт", "url": "https://acme.example"}],
        ]}}]});
        let sent = bench.ok("POST", &format!("/messages?user_id={user}"), keyboard).await;
        assert_eq!(sent["message"]["body"]["markup"], json!([{"type": "strong", "from": 0, "length": 3}]));
        let asked = sent["message"]["body"]["mid"].as_str().unwrap().to_owned();
        let callback = control.press(user, &asked, &PressWhat::Text("Статус".to_owned())).unwrap();
        control.press(user, &asked, &PressWhat::Text("Да".to_owned())).unwrap();
        control.press(user, &asked, &PressWhat::Text("Телефон".to_owned())).unwrap();
        bench.ok("POST", &format!("/answers?callback_id={callback}"), json!({"notification": "Смотрю"})).await;
        bench.ok("POST", &format!("/answers?callback_id={callback}"), json!({"message": {"text": "В пути"}})).await;
        for kind in ["image", "video", "audio", "file"] {
            let payload = bench.upload(kind, "a.bin", b"bytes").await;
            let body = json!({"attachments": [{"type": kind, "payload": payload}]});
            let sent = bench.ok("POST", &format!("/messages?chat_id={chat}"), body).await;
            if kind == "video" {
                let token = sent["message"]["body"]["attachments"][0]["payload"]["token"].as_str().unwrap().to_owned();
                bench.ok("GET", &format!("/videos/{token}"), Value::Null).await;
            }
        }
        bench.ok("PUT", &format!("/messages?message_id={asked}"), json!({"text": "Готово", "attachments": []})).await;
        bench.ok("GET", &format!("/messages?chat_id={chat}&count=100"), Value::Null).await;
        bench.ok("GET", &format!("/messages?message_ids={asked},{mid}"), Value::Null).await;
        bench.ok("GET", &format!("/messages/{asked}"), Value::Null).await;
        bench.ok("POST", &format!("/chats/{chat}/actions"), json!({"action": "typing_on"})).await;
        bench.ok("GET", &format!("/chats/{chat}/pin"), Value::Null).await;
        bench.ok("PUT", &format!("/chats/{chat}/pin"), json!({"message_id": asked})).await;
        bench.ok("GET", &format!("/chats/{chat}"), Value::Null).await;
        bench.ok("DELETE", &format!("/chats/{chat}/pin"), Value::Null).await;
        bench.ok("DELETE", &format!("/messages?message_id={asked}"), Value::Null).await;

        // A group.
        let group = control.create_group(bot, user, "Совет", true).unwrap();
        let other = control.create_user(NewUser::named("Олег")).unwrap();
        control.set_member(group, other, Some(user), true).unwrap();
        let said = control.write_in_group(other, group, Draft::text("Всем привет")).unwrap();
        assert!(said.starts_with("mid.f"), "the mid of a negative chat begins with f: {said}");
        bench.ok("POST", &format!("/messages?chat_id={group}"), json!({"text": "И вам"})).await;
        bench.ok("GET", &format!("/chats/{group}/members"), Value::Null).await;
        bench.ok("GET", &format!("/chats/{group}/members/me"), Value::Null).await;
        bench.ok("GET", &format!("/chats/{group}/members/admins"), Value::Null).await;
        bench.ok("PATCH", &format!("/chats/{group}"), json!({"title": "Новый совет"})).await;
        bench.call("POST", &format!("/chats/{group}/members"), json!({"user_ids": [1]})).await;
        control.set_member(group, other, None, false).unwrap();
        control.remove_bot(group, user).unwrap();

        control.delete(user, &mid).unwrap();
        control.act(user, bot, DialogAction::Mute(1_790_003_650_000)).unwrap();
        for action in
            [DialogAction::Unmute, DialogAction::Clear, DialogAction::Stop, DialogAction::Restart, DialogAction::Remove]
        {
            control.act(user, bot, action).unwrap();
        }

        let expected = control.updates(bot).unwrap();
        let received = receiver.take(expected.len()).await;
        let mut kinds: Vec<&str> = received.iter().map(|(_, update)| update["update_type"].as_str().unwrap()).collect();
        for (secret, update) in &received {
            assert_eq!(secret.as_deref(), Some("secret-1"));
            published::check("Update", update);
        }
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(
            kinds,
            [
                "bot_added",
                "bot_removed",
                "bot_started",
                "bot_stopped",
                "dialog_cleared",
                "dialog_muted",
                "dialog_removed",
                "dialog_unmuted",
                "message_callback",
                "message_created",
                "message_edited",
                "message_removed",
                "user_added",
                "user_removed",
            ]
        );
        bench.ok("DELETE", &format!("/subscriptions?url={}", receiver.url("/hook")), Value::Null).await;
        control.start(user, bot).unwrap();
        let polled = bench.ok("GET", "/updates?timeout=30", Value::Null).await;
        assert_eq!(polled["updates"].as_array().unwrap().len(), 1, "what came under the webhook does not come again");
    }
}

/// Method, path and query, body, and the expected status, code and part of the message.
type Refused = (&'static str, &'static str, Value, u16, &'static str, &'static str);

#[tokio::test]
async fn each_refusal_has_its_status_code_and_words() {
    let bench = Bench::start(Switches { host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let chat = control.start(user, bot).unwrap();
    let mid = control.say(user, bot, "привет").unwrap();
    let stranger = control.create_user(NewUser::named("Олег")).unwrap();
    let stopped = control.create_user(NewUser::named("Пётр")).unwrap();
    control.start(stopped, bot).unwrap();
    control.act(stopped, bot, DialogAction::Stop).unwrap();

    let button = |button: Value| json!({"text": "t", "attachments": [{"type": "inline_keyboard", "payload": {"buttons": [[button]]}}]});
    let keyboard = |rows: usize, columns: usize, kind: &str| {
        let one = json!({"type": kind, "text": "t", "payload": "p", "url": "https://a.example"});
        json!({"text": "t", "attachments": [{"type": "inline_keyboard", "payload": {"buttons": vec![vec![one; columns]; rows]}}]})
    };
    let attach = |list: Value| json!({"attachments": list});
    let to = "/messages?user_id=USER";
    let payload = "proto.payload";
    let table: Vec<Refused> = vec![
        (
            "GET",
            "/nowhere",
            Value::Null,
            404,
            "method.not.found",
            "Path /nowhere is not recognized. Please check docs at https://dev.max.ru/docs",
        ),
        ("PATCH", "/messages", Value::Null, 404, "method.not.found", "is not recognized"),
        ("POST", "/me/commands", json!({}), 404, "method.not.found", "is not recognized"),
        (
            "GET",
            "/me?access_token=x",
            Value::Null,
            403,
            "deprecated.token",
            "Query parameter access_token is deprecated, use Authorization header",
        ),
        ("PATCH", "/me/commands", json!([]), 400, payload, "Can't deserialize body"),
        ("POST", "/subscriptions", json!({}), 400, payload, "Missing required parameter: url"),
        (
            "POST",
            "/subscriptions",
            json!({"url": "https://a.example/x", "secret": "ab"}),
            400,
            payload,
            "does not match",
        ),
        (
            "POST",
            "/subscriptions",
            json!({"url": "https://a.example/x", "secret": "with blank"}),
            400,
            payload,
            "does not match",
        ),
        ("GET", "/updates?timeout=1500", Value::Null, 400, payload, "Field 'timeout' value (1500) must be at most 90"),
        ("GET", "/updates?limit=0", Value::Null, 400, payload, "Field 'limit' value (0) must be at least 1"),
        ("POST", "/uploads", Value::Null, 400, payload, "Missing required parameter: type"),
        ("POST", "/uploads?type=photo", Value::Null, 400, payload, "photo"),
        ("POST", "/messages", json!({"text": "t", "user_id": 1}), 400, payload, "Unknown recipient"),
        ("POST", to, json!("text"), 400, payload, "Can't deserialize body"),
        ("POST", to, json!({"text": 5}), 400, payload, "Can't deserialize body"),
        ("POST", to, json!({"text": "x".repeat(4001)}), 400, payload, "Field 'text' size (4001) must be at most 4000"),
        ("POST", to, json!({"text": ""}), 400, payload, ""),
        ("POST", to, json!({"text": "<b></b><br>", "format": "HTML"}), 400, payload, ""),
        ("POST", to, json!({"text": "t", "format": "bbcode"}), 400, payload, "bbcode"),
        (
            "POST",
            to,
            json!({"text": "t", "link": {"type": "forward", "mid": "MID"}}),
            400,
            payload,
            "errors.forward.text.not-empty",
        ),
        ("POST", to, json!({"link": {"type": "reply", "mid": "mid.00"}}), 400, payload, "Invalid message_id: mid.00"),
        (
            "POST",
            to,
            attach(json!([{"type": "image", "payload": {}}])),
            400,
            payload,
            "No `photos`, `url` or `token` provided. Check payload.",
        ),
        (
            "POST",
            to,
            attach(json!([{"type": "image", "payload": {"token": "x"}}])),
            400,
            payload,
            "Invalid photo token provided: x",
        ),
        (
            "POST",
            to,
            attach(json!([{"type": "image", "payload": {"url": "http://8.8.8.8/a.png"}}])),
            400,
            payload,
            "Failed to upload image.",
        ),
        (
            "POST",
            to,
            attach(json!([{"type": "video", "payload": {}}])),
            400,
            payload,
            "Missing `token` in video attachment",
        ),
        (
            "POST",
            to,
            attach(json!([{"type": "video", "payload": {"token": "x"}}])),
            400,
            payload,
            "Key: errors.process.attachment.movie.not.owner",
        ),
        (
            "POST",
            to,
            attach(json!([{"type": "file", "payload": {"token": "x"}}, {"type": "file", "payload": {"token": "x"}}])),
            400,
            payload,
            "Must be only one file attachment in message",
        ),
        ("POST", to, attach(json!([{"type": "reply_keyboard"}])), 400, payload, "Can't deserialize body"),
        (
            "POST",
            to,
            button(json!({"type": "link", "text": "t", "url": "tel:1"})),
            400,
            payload,
            "Must have only http/https links format in buttons",
        ),
        ("POST", to, button(json!({"type": "callback", "text": "t"})), 400, payload, "errors.required"),
        ("POST", to, button(json!({"type": "chat", "text": "t"})), 400, payload, ""),
        (
            "POST",
            to,
            button(json!({"type": "open_app", "text": "t", "web_app": "b", "payload": "a=b"})),
            400,
            payload,
            "payload",
        ),
        ("POST", to, keyboard(31, 1, "callback"), 400, payload, "errors.maxRows"),
        ("POST", to, keyboard(1, 8, "callback"), 400, payload, "errors.maxRowSize"),
        ("POST", to, keyboard(1, 4, "link"), 400, payload, "errors.maxRowSize"),
        ("POST", "/messages?user_id=STRANGER", json!({"text": "t"}), 404, "dialog.not.found", "Dialog not found"),
        ("POST", "/messages?user_id=STOPPED", json!({"text": "t"}), 403, "chat.denied", "error.dialog.suspended"),
        (
            "POST",
            "/messages?chat_id=192607418",
            json!({"text": "t"}),
            404,
            "chat.not.found",
            "Chat 192607418 not found",
        ),
        ("PUT", "/messages?message_id=%20", json!({"text": "t"}), 400, payload, "Invalid message_id: "),
        ("PUT", "/messages", json!({"text": "t"}), 400, payload, "Missing required parameter: message_id"),
        ("GET", "/messages", Value::Null, 400, payload, "Missing required parameter: chat_id"),
        (
            "GET",
            "/messages?chat_id=CHAT&count=101",
            Value::Null,
            400,
            payload,
            "Field 'count' value (101) must be at most 100",
        ),
        ("GET", "/messages/mid.00", Value::Null, 404, "not.found", ""),
        ("POST", "/answers?callback_id=x", json!({}), 400, payload, "callback_id: Callback identifier is invalid"),
        ("POST", "/chats/CHAT/actions", json!({"action": "dance"}), 400, payload, "Can't deserialize body"),
        ("GET", "/chats/CHAT/members", Value::Null, 403, "chat.denied", ""),
        ("GET", "/chats/5", Value::Null, 404, "chat.not.found", "Chat 5 not found"),
        ("GET", "/videos/unknown", Value::Null, 404, "not.found", ""),
    ];
    for (method, path, body, status, code, words) in table {
        let path = path.replace("USER", &user.to_string()).replace("STRANGER", &stranger.to_string());
        let path = path.replace("STOPPED", &stopped.to_string()).replace("CHAT", &chat.to_string());
        let body = serde_json::from_str(&body.to_string().replace("MID", &mid)).unwrap();
        let (got, answer) = bench.call(method, &path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert_eq!(answer["code"], code, "{method} {path}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(words), "{method} {path}: {message}");
    }
    assert_eq!(control.transcript(user, bot).unwrap().texts(), ["привет"], "nothing that was refused took effect");

    // 200 that is a failure.
    for (method, path, body) in [
        ("POST", "/subscriptions", json!({"url": "ftp://a.example/x"})),
        ("DELETE", "/subscriptions?url=https://nobody.example", Value::Null),
        ("PUT", "/messages?message_id=mid.00", json!({"text": "t"})),
        ("DELETE", "/messages?message_id=mid.00", Value::Null),
        ("PUT", "/messages?message_id=MID", json!({"text": "t"})),
        ("DELETE", "/messages?message_id=MID", Value::Null),
    ] {
        let (status, answer) = bench.call(method, &path.replace("MID", &mid), body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(false)), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_token_is_checked_after_the_path_and_before_everything_else() {
    let bench = Bench::start(Switches { host_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot) = (bench.control(), bench.bot);
    for (header, message) in [
        (None, "No access token"),
        (Some("Bearer tokenA"), "Malformed access token"),
        (Some("unknown"), "Invalid access_token"),
    ] {
        for (method, path) in [("GET", "/me"), ("PUT", "/messages"), ("POST", "/messages")] {
            let (status, answer) = bench.call_as(header, method, path, Value::Null).await;
            assert_eq!((status, &answer["code"], &answer["message"]), (401, &json!("verify.token"), &json!(message)));
        }
        assert_eq!(bench.call_as(header, "PATCH", "/messages", Value::Null).await.0, 404, "the path comes first");
    }

    let old = control.bot(bot).unwrap().token.unwrap();
    let new = control.issue_token(bot, None).unwrap();
    assert_eq!(bench.call_as(Some(&old), "GET", "/me", Value::Null).await.0, 401);
    assert_eq!(bench.call_as(Some(&new), "GET", "/me", Value::Null).await.0, 200);
    let moderated =
        BotAnswer { status: 403, code: "bot.moderated".to_owned(), message: "На модерации".to_owned() };
    for (state, status, code) in [
        (BotState::Blocked, 403, "account.blocked"),
        (BotState::Deleted, 401, "verify.token"),
        (BotState::Refused(moderated), 403, "bot.moderated"),
    ] {
        control.set_bot_state(bot, state).unwrap();
        let (got, answer) = bench.call_as(Some(&new), "GET", "/me", Value::Null).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)));
    }
    control.set_bot_state(bot, BotState::Active).unwrap();
    assert_eq!(bench.call_as(Some(&new), "GET", "/me", Value::Null).await.0, 200);
    control.revoke_token(bot).unwrap();
    assert_eq!(bench.call_as(Some(&new), "GET", "/me", Value::Null).await.0, 401);
}

#[tokio::test]
async fn a_send_meets_the_state_of_the_dialog_in_every_position_of_the_switches() {
    let bench = Bench::start(Switches { host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let path = format!("/messages?user_id={user}");
    let send = || bench.call("POST", &path, json!({"text": "t"}));
    let seen = |(status, answer): (u16, Value)| (status, answer["code"].as_str().unwrap_or_default().to_owned());
    assert_eq!(seen(send().await), (404, "dialog.not.found".to_owned()));
    let chat = control.start(user, bot).unwrap();
    assert_eq!(seen(send().await).0, 200);
    control.act(user, bot, DialogAction::Stop).unwrap();
    assert_eq!(seen(send().await), (403, "chat.denied".to_owned()));
    control.set_switches(|switches| switches.suspended_in = SuspendedIn::Code);
    assert_eq!(seen(send().await), (403, "error.dialog.suspended".to_owned()));
    control.act(user, bot, DialogAction::Restart).unwrap();
    assert_eq!(seen(send().await).0, 200);
    control.act(user, bot, DialogAction::Remove).unwrap();
    assert_eq!(seen(send().await), (403, "error.dialog.suspended".to_owned()));
    control.set_switches(|switches| switches.removed_dialog = RemovedDialog::ChatNotFound);
    assert_eq!(seen(send().await), (404, "chat.not.found".to_owned()));
    assert_eq!(control.start(user, bot).unwrap(), chat, "the dialog keeps its id");
    assert_eq!(
        control.transcript(user, bot).unwrap().texts().len(),
        0,
        "a removed dialog begins anew for the customer"
    );
    let by_chat = format!("/messages?chat_id={chat}");
    assert_eq!(bench.call("POST", &by_chat, json!({"text": "t"})).await.0, 200);
    control.set_switches(|switches| switches.dialog_chat_id_accepted = false);
    assert_eq!(bench.call("POST", &by_chat, json!({"text": "t"})).await.0, 404);
    let read = format!("/messages?chat_id={chat}");
    assert_eq!(bench.call("GET", &read, Value::Null).await.0, 200);
    control.set_switches(|switches| switches.dialog_reading_allowed = false);
    assert_eq!(seen(bench.call("GET", &read, Value::Null).await), (403, "chat.denied".to_owned()));
    let bad = |order| {
        control.set_switches(|switches| switches.check_order = order);
        bench.call("POST", "/messages?user_id=5", json!({"text": ""}))
    };
    assert_eq!(bad(CheckOrder::BodyFirst).await.0, 400);
    assert_eq!(bad(CheckOrder::RecipientFirst).await.0, 404);
}

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
        // The first poll is waiting once its request has been counted and its slot taken: then the second is refused.
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
async fn more_than_the_limits_within_one_second_is_refused_and_the_highest_figure_is_kept() {
    let bench = Bench::start(Switches { rate_window_ms: 600_000, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let chat = control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bench.call("POST", &path, json!({"text": "t"})).await.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
    let (_, headers, answer) = bench.raw("POST", &path, json!({"text": "t"})).await;
    assert_eq!(answer["code"], "too.many.requests");
    assert_eq!(headers.get("retry-after").unwrap(), "1");
    control.set_switches(|switches| switches.retry_after = None);
    assert!(!bench.raw("POST", &path, json!({"text": "t"})).await.1.contains_key("retry-after"));
    let mut passed = 0;
    while bench.call("GET", "/me", Value::Null).await.0 == 200 {
        passed += 1;
    }
    assert_eq!(passed, 25, "30 in all, five of them were sends");
    let statistics = control.statistics();
    assert_eq!(statistics.too_many_requests, 4);
    let sends = statistics
        .highest_per_second_in_chat
        .iter()
        .find(|entry| entry.chat_id == chat && entry.call == ChatCall::Send);
    assert!(sends.is_some_and(|entry| entry.highest >= 1));
    assert!(statistics.highest_per_second[&bot] >= 1);
    assert_eq!(control.transcript(user, bot).unwrap().messages.len(), 2, "what was refused did not take effect");
}

#[tokio::test]
async fn a_webhook_that_fails_is_repeated_later_while_newer_updates_go_on() {
    let bench = Bench::start(Switches::for_tests(), 30_000.0).await;
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
        |control: &maxchannel::simulator::max::Control| (control.statistics().webhook_successes >= 4).then_some(());
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
        let gone = |control: &maxchannel::simulator::max::Control| {
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
async fn uploads_answer_by_their_kind_and_the_customer_gets_the_bytes() {
    let switches = Switches {
        host_per_second: 0,
        chat_per_second: 0,
        not_ready_sends: 1,
        xml_declaration: true,
        ..Switches::for_tests()
    };
    let bench = Bench::start(switches, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for kind in ["image", "video", "audio", "file"] {
        let content = format!("content of {kind}");
        let payload = bench.upload(kind, "имя.bin", content.as_bytes()).await;
        let body = json!({"attachments": [{"type": kind, "payload": payload}]});
        if kind != "image" {
            let (status, answer) = bench.call("POST", &path, body.clone()).await;
            let expected = format!("Key: errors.process.attachment.{kind}.not.processed");
            assert_eq!(
                (status, &answer["code"], &answer["message"]),
                (400, &json!("attachment.not.ready"), &json!(expected))
            );
        }
        bench.ok("POST", &path, body).await;
        let transcript = control.transcript(user, bot).unwrap();
        let attachment = &transcript.messages.last().unwrap().attachments[0];
        assert_eq!((attachment.kind.as_str(), attachment.name.as_deref()), (kind, Some("имя.bin")));
        assert_eq!(control.file(attachment.file.unwrap()).unwrap(), content);
    }
    // Chunks, out of order.
    let slot = bench.ok("POST", "/uploads?type=video", Value::Null).await;
    let url = slot["url"].as_str().unwrap();
    assert_eq!(bench.chunk(url, "bytes 4-8/9", b"56789").await, (201, "4-8/9".to_owned()));
    let (status, body) = bench.chunk(url, "bytes 0-3/9", b"1234").await;
    assert!(status == 200 && body.ends_with("<retval>1</retval>"), "{status} {body}");
    // An address serves one upload, needs the field, and never the token.
    assert_eq!(bench.chunk(url, "bytes 0-3/4", b"1234").await.0, 403);
    let slot = bench.ok("POST", "/uploads?type=file", Value::Null).await;
    let url = slot["url"].as_str().unwrap();
    assert_eq!(bench.form(url, "file", "a", b"x", None).await.0, 400);
    assert_eq!(bench.form(url, "data", "a", b"x", Some(&bench.token)).await.0, 403);
    assert_eq!(control.statistics().tokens_at_file_hosts, 1);
    assert_eq!(bench.form(url, "data", "a", b"x", None).await.0, 200);
    // The incident of June 2026.
    control.set_switches(|switches| switches.movie_not_owner = true);
    let payload = bench.upload("video", "a.mp4", b"film").await;
    let (status, answer) =
        bench.call("POST", &path, json!({"attachments": [{"type": "video", "payload": payload}]})).await;
    assert_eq!((status, answer["message"].as_str()), (400, Some("Key: errors.process.attachment.movie.not.owner")));
}

#[tokio::test]
async fn a_download_address_expires_and_the_message_gives_a_new_one() {
    let switches = Switches { download_url_life_ms: 0, video_url: VideoUrl::Absent, ..Switches::for_tests() };
    let bench = Bench::start(switches, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let file = DraftAttachment::File { name: "a.txt".to_owned(), data: None };
    let mid = control.write(user, bot, Draft::attachment(file)).unwrap();
    let url_of = |message: &Value| message["body"]["attachments"][0]["payload"]["url"].as_str().unwrap().to_owned();
    let old = url_of(&bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await);
    assert!(old.starts_with(&bench.files_url()) && old.contains("expires="));
    assert_eq!(bench.get(&old, None).await.0, 403);
    control.set_switches(|switches| switches.download_url_life_ms = 60_000);
    let new = url_of(&bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await);
    assert_eq!(bench.get(&new, None).await, (200, b"contents of a file\n".to_vec()));
    assert_eq!(bench.get(&new, Some(&bench.token)).await.0, 403);
    assert_eq!(bench.get(&new.replace("sig=", "sig=0"), None).await.0, 403);
    let statistics = control.statistics();
    assert_eq!((statistics.downloads, statistics.expired_downloads, statistics.tokens_at_file_hosts), (1, 1, 1));
    let film = control.write(user, bot, Draft::attachment(DraftAttachment::Video { data: None })).unwrap();
    let message = bench.call("GET", &format!("/messages/{film}"), Value::Null).await.1;
    assert_eq!(message["body"]["attachments"][0]["payload"]["url"], Value::Null);
    let token = message["body"]["attachments"][0]["payload"]["token"].as_str().unwrap();
    let video = bench.ok("GET", &format!("/videos/{token}"), Value::Null).await;
    assert_eq!(bench.get(video["urls"]["mp4_720"].as_str().unwrap(), None).await.0, 200);
}

#[tokio::test]
async fn a_fault_meets_the_request_with_or_without_its_effect() {
    let bench = Bench::start(Switches { host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for (effect, outcome, status) in [
        (true, Outcome::Drop, None),
        (false, Outcome::Drop, None),
        (true, Outcome::Reset, None),
        (false, Outcome::Reset, None),
        (true, Outcome::error(500, "internal", "Oops"), Some(500)),
        (false, Outcome::html(502), Some(502)),
        (false, Outcome::Answer, Some(200)),
    ] {
        let before = control.transcript(user, bot).unwrap().messages.len();
        let takes = effect || outcome == Outcome::Answer;
        let fault = Fault {
            method: Some("POST".to_owned()),
            path: Some("/messages".to_owned()),
            bot: Some(bot),
            effect,
            outcome,
            ..Fault::default()
        };
        control.add_fault(fault.clone());
        assert_eq!(bench.status("POST", &path, json!({"text": "t"})).await, status, "{fault:?}");
        let after = control.transcript(user, bot).unwrap().messages.len();
        assert_eq!(after - before, usize::from(takes), "{fault:?}");
        assert_eq!(bench.status("POST", &path, json!({"text": "t"})).await, Some(200), "the rule has ended");
    }
    // A hanging answer ends when the caller gives up; the effect took place.
    let before = control.transcript(user, bot).unwrap().messages.len();
    control.add_fault(Fault { effect: true, outcome: Outcome::Hang, ..Fault::default() });
    let hanging = bench.status("POST", &path, json!({"text": "t"}));
    let seen =
        control.wait(LONG, |control| (control.transcript(user, bot).ok()?.messages.len() > before).then_some(()));
    tokio::select! {
        status = hanging => panic!("answered {status:?}"),
        seen = seen => seen.unwrap(),
    }
    // A download cut off in the middle.
    let mid = control.write(user, bot, Draft::attachment(DraftAttachment::Image { data: None })).unwrap();
    let message = bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await;
    let url = message["body"]["attachments"][0]["payload"]["url"].as_str().unwrap();
    control.add_fault(Fault { path: Some("/i".to_owned()), outcome: Outcome::Truncate(10), ..Fault::default() });
    assert!(bench.try_get(url).await.is_none());
    assert!(bench.try_get(url).await.is_some());
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
async fn an_echo_comes_only_where_the_switch_says_so_and_edits_obey_their_age() {
    let switches = Switches { polls_per_second: 0, host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() };
    // A day lasts 86 ms here, so that an age can pass.
    let bench = Bench::start(switches, 1_000_000.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for (echo, expected) in [(false, 0), (true, 1)] {
        control.set_switches(|switches| switches.echo_own_messages = echo);
        let before = control.updates(bot).unwrap().len();
        bench.ok("POST", &path, json!({"text": "t"})).await;
        let after = control.updates(bot).unwrap();
        assert_eq!(after.len() - before.min(after.len()), expected);
    }
    let sent = bench.ok("POST", &path, json!({"text": "t"})).await;
    let mid = sent["message"]["body"]["mid"].as_str().unwrap().to_owned();
    let edit = format!("/messages?message_id={mid}");
    control.set_switches(|switches| switches.edit_age_hours = 0);
    let too_old = loop {
        let (status, answer) = bench.call("PUT", &edit, json!({"text": "u"})).await;
        assert_eq!(status, 200);
        if answer["success"] == json!(false) {
            break answer;
        }
    };
    assert_eq!(too_old["message"], "Message is too old");
}

#[tokio::test]
async fn the_control_over_http_does_what_it_lists() {
    let bench = Bench::start(Switches::for_tests(), 1.0).await;
    let listed = bench.control_call("GET", "", Value::Null).await.1;
    for entry in listed["controls"].as_array().unwrap() {
        let (method, path) = entry.as_str().unwrap().split_once(' ').unwrap();
        let path = path.trim_start_matches("/control").replace("<number>", "1");
        let (status, answer) = bench.control_call(method, &path, json!({})).await;
        let known = status != 404 || answer["error"] == "There is no file 1.";
        assert!(known, "{entry}: {status} {answer}");
    }
    bench.control().clear_faults();
    let ok = async |method: &str, path: &str, body: Value| {
        let (status, answer) = bench.control_call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    };
    let bot =
        ok("POST", "/bots", json!({"name": "Вторая поддержка", "token": "token-of-two"})).await["user_id"].clone();
    let user = ok("POST", "/users", json!({"first_name": "Олег"})).await["user_id"].clone();
    ok("POST", "/dialog", json!({"user": user, "bot": bot, "action": {"start": "from_site"}})).await;
    let said = ok(
        "POST",
        "/write",
        json!({"user": user, "bot": bot, "text": "раз", "attachments": [
            {"type": "file", "name": "a.txt", "data": "0KTQsNC50Ls="}
        ]}),
    )
    .await;
    ok("POST", "/edit", json!({"user": user, "mid": said["mid"], "text": "два"})).await;
    let transcript = ok("GET", &format!("/transcript?user={user}&bot={bot}&at_least=1"), Value::Null).await;
    assert_eq!(transcript["messages"][0]["text"], "два");
    let file = &transcript["messages"][0]["attachments"][0]["file"];
    let bytes = bench.get(&format!("{}/control/files/{file}", bench.url()), None).await;
    assert_eq!(bytes, (200, "Файл".as_bytes().to_vec()));
    let updates = ok("GET", &format!("/updates?bot={bot}"), Value::Null).await;
    assert_eq!(updates.as_array().unwrap().len(), 3);
    ok("POST", "/faults", json!({"path": "/me", "outcome": {"respond": {"status": 500, "body": "{}", "content_type": "application/json"}}})).await;
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 500);
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 200);
    ok("PATCH", "/switches", json!({"echo_own_messages": true, "suspended_in": "code"})).await;
    assert!(bench.control().switches().echo_own_messages);
    let (status, answer) = bench.control_call("PATCH", "/switches", json!({"echo": true})).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("echo"), "{answer}");
    ok("POST", "/bots/state", json!({"bot": bot, "state": "blocked"})).await;
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 403);
    let statistics = ok("GET", "/statistics", Value::Null).await;
    assert_eq!(statistics["requests"]["GET /me"], 3);
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

#[tokio::test]
async fn a_stopped_simulator_frees_its_ports() {
    let bench = Bench::start(Switches::for_tests(), 1.0).await;
    let address = bench.url().trim_start_matches("http://").to_owned();
    bench.stop().await;
    drop(tokio::net::TcpListener::bind(address).await.expect("the port is still taken"));
}

/// Two bots never see each other's dialogs, tokens or uploads.
#[tokio::test]
async fn bots_are_strangers_to_each_other() {
    let bench = Bench::start(Switches { host_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let other = control.create_bot(NewBot::new("Другая", "token-of-other")).unwrap();
    let chat = control.start(user, bot).unwrap();
    let mid = control.say(user, bot, "секрет").unwrap();
    control.start(user, other.user_id).unwrap();
    let payload = bench.upload("file", "a", b"x").await;
    for (method, path, body, status) in [
        ("GET", format!("/messages/{mid}"), Value::Null, 404),
        ("GET", format!("/messages?chat_id={chat}"), Value::Null, 404),
        ("POST", format!("/messages?chat_id={chat}"), json!({"text": "t"}), 404),
        (
            "POST",
            format!("/messages?user_id={user}"),
            json!({"attachments": [{"type": "file", "payload": payload}]}),
            400,
        ),
    ] {
        let (got, answer) = bench.call_as(Some("token-of-other"), method, &path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
    }
}
