//! Reading of updates: the shapes of the reference, and everything that is not one of them.

use serde_json::{Value, json};

use super::super::attachment::{Audio, Contact, File, Image, Location, Share, Sticker, Video};
use super::super::update::{Event, parse};
use super::super::{Attachment, Message, MessageId};

fn anna() -> Value {
    json!({"user_id": 91_234_567, "first_name": "Анна", "last_name": "Петрова", "is_bot": false, "last_activity_time": 1_790_000_000_000_i64,
        "name": "Анна Петрова"})
}

fn message(body: Value) -> Value {
    let mut body = body;
    body["mid"] = json!("mid.000000000aff3f9b01a0c4506c7b2a11");
    body["seq"] = json!(117_309_440_008_071_697_i64);
    json!({"sender": anna(), "recipient": {"chat_id": 184_500_123, "chat_type": "dialog", "user_id": 254_700_011},
        "timestamp": 1_790_000_000_123_i64, "body": body})
}

fn lifecycle(update_type: &str, extra: &Value) -> Value {
    let mut update = json!({"update_type": update_type, "timestamp": 1_790_000_030_000_i64, "chat_id": 184_500_123, "user": anna(),
        "user_locale": "ru", "user_id": 91_234_567});
    for (key, value) in extra.as_object().unwrap() {
        update[key] = value.clone();
    }
    update
}

/// MAX Bot API reference, "Example payloads": one of each.
#[test]
fn every_update_of_the_reference_is_read() {
    let callback = json!({"timestamp": 1_790_000_020_001_i64, "callback_id": "f9LHodD0cOL", "payload": "order:512", "user": anna()});
    let updates = [
        json!({"update_type": "message_created", "timestamp": 1_790_000_000_123_i64, "user_locale": "ru", "message": message(json!({"text": "Где заказ?"}))}),
        json!({"update_type": "message_edited", "timestamp": 1_790_000_009_000_i64, "message": message(json!({"text": "Где заказ 512?"}))}),
        json!({"update_type": "message_removed", "timestamp": 1_790_000_010_000_i64, "message_id": "mid.0", "chat_id": 184_500_123, "user_id": 91_234_567}),
        json!({"update_type": "message_callback", "timestamp": 1_790_000_020_001_i64, "callback": callback, "message": message(json!({"text": "Что показать?"}))}),
        json!({"update_type": "message_callback", "timestamp": 1_790_000_020_001_i64, "callback": callback, "message": null}),
        lifecycle("bot_started", &json!({"payload": "promo_7"})),
        lifecycle("bot_started", &json!({"payload": null})),
        lifecycle("bot_stopped", &json!({})),
        lifecycle("dialog_cleared", &json!({})),
        lifecycle("dialog_removed", &json!({})),
        lifecycle("dialog_muted", &json!({"muted_until": 1_790_003_650_000_i64})),
        lifecycle("dialog_unmuted", &json!({})),
        lifecycle("bot_added", &json!({"is_channel": false})),
        lifecycle("bot_removed", &json!({"is_channel": false})),
        lifecycle("user_added", &json!({"inviter_id": 1})),
        lifecycle("user_removed", &json!({"admin_id": 1})),
        lifecycle("chat_title_changed", &json!({"title": "x"})),
        json!({"update_type": "bot_admin_permissions_changed", "timestamp": 1, "chat_id": -1, "user_id": 2, "bot_id": 3}),
        json!({"update_type": "comment_created", "timestamp": 1, "message": message(json!({"text": "x"}))}),
        json!({"update_type": "comment_removed", "timestamp": 1, "message_id": "m", "chat_id": -1, "user_id": 2, "post_id": "p"}),
    ];
    let read: Vec<String> = updates
        .iter()
        .map(|update| {
            let update = parse(&update.to_string());
            let event = match &update.event {
                Event::MessageCreated(message) => format!("MessageCreated({:?})", message.text),
                Event::MessageEdited(message) => format!("MessageEdited({:?})", message.text),
                other => format!("{other:?}").chars().take(100).collect(),
            };
            let name = update.user.as_ref().map(super::super::User::name);
            format!(
                "{event}\n  at {} in {:?} by {:?} {name:?}\n  {}",
                update.timestamp,
                update.chat_id,
                update.user_id,
                update.dedup_key()
            )
        })
        .collect();
    insta::assert_snapshot!(read.join("\n"));
}

#[test]
fn what_is_not_understood_has_a_name_and_never_fails() {
    let unknown = |kind: &str| Event::Unknown { update_type: kind.to_owned() };
    let incomplete = |kind: &str| Event::Incomplete { update_type: kind.to_owned() };
    for (raw, event) in [
        // Voice messages arrived like this in August 2026.
        (
            r#"{"timestamp":1790000000123,"user_locale":"ru","update_type":"message_created"}"#,
            incomplete("message_created"),
        ),
        (r#"{"update_type":"message_created","message":null}"#, incomplete("message_created")),
        (r#"{"update_type":"message_created","message":{"recipient":{"chat_id":1}}}"#, incomplete("message_created")),
        (r#"{"update_type":"message_created","message":{"body":null}}"#, incomplete("message_created")),
        (r#"{"update_type":"message_created","message":"x"}"#, incomplete("message_created")),
        (r#"{"update_type":"message_edited"}"#, incomplete("message_edited")),
        (r#"{"update_type":"message_removed","chat_id":1}"#, incomplete("message_removed")),
        (r#"{"update_type":"message_callback","callback":"x"}"#, incomplete("message_callback")),
        (r#"{"update_type":"bot_started"}"#, incomplete("bot_started")),
        (r#"{"update_type":"from_the_future","chat_id":1}"#, unknown("from_the_future")),
        (r#"{"update_type":7}"#, unknown("")),
        ("{}", unknown("")),
        ("[]", unknown("")),
        ("null", unknown("")),
        ("not json", unknown("")),
        ("", unknown("")),
    ] {
        assert_eq!(parse(raw).event, event, "{raw}");
    }
}

#[test]
fn a_torn_update_is_no_update_and_never_a_panic() {
    let whole =
        json!({"update_type": "message_created", "timestamp": 1, "message": message(json!({"text": "Где заказ?"}))})
            .to_string();
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        assert_eq!(parse(&whole[..end]).event, Event::Unknown { update_type: String::new() });
    }
    let deep = format!(r#"{{"update_type":"message_created","message":{}"#, "[".repeat(100_000));
    assert_eq!(parse(&deep).event, Event::Unknown { update_type: String::new() });
}

#[test]
fn absent_null_and_of_another_type_are_the_same_and_cost_nothing_else() {
    let plain = r#"{"update_type":"message_created","timestamp":5,"message":{"recipient":{},"body":{"mid":"m"}}}"#;
    for odd in ["null", "[]", "7", "\"x\"", "{}", "true", "1.5"] {
        for field in ["sender", "link", "stat", "url"] {
            let raw = plain.replace(r#""recipient""#, &format!(r#""{field}":{odd},"recipient""#));
            let Event::MessageCreated(message) = parse(&raw).event else { panic!("{raw}") };
            assert_eq!(message.mid.as_str(), "m", "{raw}");
        }
        for field in ["attachments", "markup", "text", "seq"] {
            let raw = plain.replace(r#""mid""#, &format!(r#""{field}":{odd},"mid""#));
            let Event::MessageCreated(message) = parse(&raw).event else { panic!("{raw}") };
            assert!(message.attachments.is_empty(), "{raw}");
        }
    }
}

/// Each of these is somebody's word; what is odd in it costs the word nothing.
#[test]
fn what_is_odd_in_a_message_costs_only_itself() {
    let text_of = |raw: &str| match parse(raw).event {
        Event::MessageCreated(message) => Some((message.text.unwrap_or_default(), parse(raw).user_id)),
        _ => None,
    };
    let whole = json!({"update_type": "message_created", "timestamp": 1_790_000_000_123_i64, "message": message(json!({"text": "Где заказ?"}))})
        .to_string();
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for (from, to, text) in [
        ("Где заказ?", "Где \\ud83d", "Где \u{fffd}"),
        ("Анна", "\\ude00", "Где заказ?"),
        ("\"Петрова\"", "\"\\ud83d\\ud83d\"", "Где заказ?"),
        ("\"update_type\"", "\"new\":1e999,\"update_type\"", "Где заказ?"),
        ("\"update_type\"", &format!("\"new\":{deep},\"update_type\""), "Где заказ?"),
        ("\"text\"", "\"text\":\"first\",\"text\"", "Где заказ?"),
        ("\"Где заказ?\"", "512", "512"),
        ("\"mid.000000000aff3f9b01a0c4506c7b2a11\"", "null", "Где заказ?"),
        ("91234567", "\"91234567\"", "Где заказ?"),
        ("91234567", "91234567.0", "Где заказ?"),
        ("\"message_created\"", "null", "Где заказ?"),
        ("{", "\u{feff}{", "Где заказ?"),
        ("\"dialog\"", "[]", "Где заказ?"),
        ("117309440008071697", "{}", "Где заказ?"),
    ] {
        let odd = whole.replacen(from, to, 1);
        assert_ne!(odd, whole);
        assert_eq!(text_of(&odd), Some((text.to_owned(), Some(91_234_567))), "{odd}");
        assert_eq!(parse(&odd).dedup_key(), parse(&odd).dedup_key());
    }
    let unnamed = |text: &str| whole.replace("mid.000000000aff3f9b01a0c4506c7b2a11", "").replace("заказ", text);
    assert_ne!(parse(&unnamed("раз")).dedup_key(), parse(&unnamed("два")).dedup_key());
}

#[test]
fn a_forward_without_a_body_is_a_forward_and_two_edits_without_a_time_are_two() {
    let mut outer = message(json!({"text": ""}));
    outer["body"] = json!(null);
    outer["link"] = json!({"type": "forward", "message": {"text": "привет"}});
    let forward = json!({"update_type": "message_created", "timestamp": 1, "message": outer}).to_string();
    let Event::MessageCreated(read) = parse(&forward).event else { panic!("{forward}") };
    assert_eq!(read.link.unwrap().text.as_deref(), Some("привет"));
    let edit =
        |text: &str| json!({"update_type": "message_edited", "message": message(json!({ "text": text }))}).to_string();
    assert_ne!(parse(&edit("раз")).dedup_key(), parse(&edit("два")).dedup_key());
}

#[test]
fn ids_beyond_what_a_double_holds_are_exact() {
    let Event::MessageCreated(message) =
        parse(&json!({"update_type": "message_created", "message": message(json!({}))}).to_string()).event
    else {
        panic!()
    };
    assert_eq!(message.seq, 117_309_440_008_071_697);
}

#[test]
fn a_repeated_delivery_has_the_same_key_and_another_event_another() {
    let keys = |updates: &[Value]| -> Vec<String> {
        updates.iter().map(|update| parse(&update.to_string()).dedup_key().to_owned()).collect()
    };
    let created = json!({"update_type": "message_created", "timestamp": 1, "message": message(json!({"text": "a"}))});
    let mut repeated = created.clone();
    repeated["timestamp"] = json!(2);
    repeated["user_locale"] = json!("ru");
    let edited =
        |at: i64| json!({"update_type": "message_edited", "timestamp": at, "message": message(json!({"text": "b"}))});
    let voice = |locale: &str| json!({"update_type": "message_created", "timestamp": 1, "user_locale": locale});
    let started = lifecycle("bot_started", &json!({}));
    let same = keys(&[created.clone(), repeated]);
    assert_eq!(same[0], same[1]);
    let mut all =
        keys(&[created, edited(1), edited(2), voice("ru"), voice("en"), started, lifecycle("bot_stopped", &json!({}))]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 7, "{all:#?}");
}

fn attachments(list: &Value) -> Vec<Attachment> {
    Message::parse(&message(json!({ "attachments": list })).to_string()).unwrap().attachments
}

#[test]
fn every_attachment_of_the_reference_is_read_and_any_other_is_kept_by_its_name() {
    let url = |text: &str| text.parse().ok();
    let some = |text: &str| Some(text.to_owned());
    let read = attachments(&json!([
        {"type": "image", "payload": {"photo_id": 8_841_200_331_i64, "token": "P", "url": "https://i.oneme.ru/i?r=1"}},
        {"type": "video", "payload": {"url": null, "token": "V"}, "thumbnail": {"url": "https://i.oneme.ru/t"}, "width": 1, "height": 2, "duration": 3},
        {"type": "audio", "payload": {"url": "https://a.okcdn.ru/1", "token": "A"}, "transcription": null},
        {"type": "file", "payload": {"url": "https://fd.oneme.ru/getfile?sig=1", "token": "F"}, "filename": "счёт.pdf", "size": 48213},
        {"type": "sticker", "payload": {"url": "https://i.oneme.ru/getSmile?smileId=1", "code": "c"}, "width": 1, "height": 1},
        {"type": "contact", "payload": {"vcf_info": "BEGIN:VCARD", "hash": "00", "max_info": {"user_id": 1, "first_name": "А", "is_bot": false}}},
        {"type": "share", "payload": {"url": "https://example.org/", "token": null}, "title": "T", "description": null, "image_url": null},
        {"type": "location", "latitude": 55.75, "longitude": 37},
        {"type": "inline_keyboard", "callback_id": "x", "payload": {"buttons": [[{"type": "new", "text": "x"}]]}},
        {"type": "hologram", "payload": {"x": 1}},
        {"type": "image"},
        {"type": "file", "payload": {"url": "not an address"}, "size": "48213"},
        {"type": "location", "latitude": 1.0},
        {"payload": {}},
        "odd",
    ]));
    let user = serde_json::from_value(json!({"user_id": 1, "first_name": "А"})).ok();
    let unknown = |kind: &str| Attachment::Unknown { kind: kind.to_owned() };
    let expected = vec![
        Attachment::Image(Image {
            photo_id: Some(8_841_200_331),
            token: some("P"),
            url: url("https://i.oneme.ru/i?r=1"),
        }),
        Attachment::Video(Video { url: None, token: some("V"), width: Some(1), height: Some(2), duration: Some(3) }),
        Attachment::Audio(Audio { url: url("https://a.okcdn.ru/1"), token: some("A"), transcription: None }),
        Attachment::File(File {
            url: url("https://fd.oneme.ru/getfile?sig=1"),
            token: some("F"),
            filename: some("счёт.pdf"),
            size: Some(48213),
        }),
        Attachment::Sticker(Sticker { url: url("https://i.oneme.ru/getSmile?smileId=1"), code: some("c") }),
        Attachment::Contact(Contact { vcf_info: some("BEGIN:VCARD"), user }),
        Attachment::Share(Share { url: some("https://example.org/"), title: some("T"), description: None }),
        Attachment::Location(Location { latitude: 55.75, longitude: 37.0 }),
        Attachment::InlineKeyboard,
        unknown("hologram"),
        unknown("image"),
        Attachment::File(File { size: Some(48213), ..File::default() }),
        unknown("location"),
        unknown(""),
        unknown(""),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_forwarded_message_carries_its_content_inside() {
    let mut outer = message(json!({"text": ""}));
    outer["link"] = json!({"type": "forward", "sender": anna(), "chat_id": 1,
        "message": {"mid": "inner", "seq": 1, "text": "привет", "attachments": [{"type": "sticker", "payload": {"code": "c"}}]}});
    let read = Message::parse(&outer.to_string()).unwrap();
    let link = read.link.unwrap();
    assert_eq!(
        (read.text, link.kind.as_str(), link.mid.as_ref().map(MessageId::as_str), link.text.as_deref()),
        (None, "forward", Some("inner"), Some("привет"))
    );
    assert_eq!((link.attachments.len(), link.sender.unwrap().name().as_str()), (1, "Анна Петрова"));
}

#[test]
fn a_name_is_made_of_what_is_there() {
    for (user, name) in [
        (json!({"user_id": 1, "first_name": "Анна", "last_name": "Петрова"}), "Анна Петрова"),
        (json!({"user_id": 1, "first_name": "Анна", "last_name": ""}), "Анна"),
        (json!({"user_id": 1, "first_name": "Анна", "last_name": null}), "Анна"),
        (json!({"user_id": 1, "first_name": "", "username": "anna"}), "anna"),
        (json!({"user_id": 1}), ""),
    ] {
        assert_eq!(serde_json::from_value::<super::super::User>(user).unwrap().name(), name);
    }
}
