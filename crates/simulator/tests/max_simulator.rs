//! The promises of the MAX simulator, seen from outside: over HTTP, and through its control.

#![allow(clippy::unwrap_used, clippy::similar_names)]

#[path = "max_simulator/bench.rs"]
mod bench;
#[path = "max_simulator/content.rs"]
mod content;
#[path = "max_simulator/control.rs"]
mod control;
#[path = "max_simulator/published.rs"]
mod published;
#[path = "max_simulator/updates.rs"]
mod updates;

use maxchannel_simulator::max::{
    BotAnswer, BotState, CheckOrder, DialogAction, Draft, DraftAttachment, NewBot, NewUser, PressWhat, RemovedDialog,
    SuspendedIn, Switches,
};
use serde_json::{Value, json};

use bench::{Bench, Receiver};

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
