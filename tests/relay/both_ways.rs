//! What a day of a channel is made of: text, files, replies, closings.

use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Rules};
use maxchannel_simulator::creatio::{self, OutFile};
use maxchannel_simulator::max::{Content, Draft, DraftAttachment, VideoUrl};

use crate::world::{Sends, World, quiet_rules};

pub async fn a_customer_and_an_agent_talk(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте, где мой заказ?");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Сейчас посмотрю", Vec::new()).unwrap();
    world.until_true("the answer is with the customer", || world.seen(&anna) == ["Сейчас посмотрю"]).await;
    world.say(&anna, "Спасибо");
    world
        .until_true("both messages are with the agent", || {
            world.received(&anna) == ["Здравствуйте, где мой заказ?", "Спасибо"]
        })
        .await;
    world.until_true("the row is reported", || world.reports() == [("Delivered".to_owned(), String::new())]).await;
    world.assert_contract_kept();
}

pub async fn files_go_both_ways_byte_for_byte(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    let data = |bytes: &[u8]| Some(Content(bytes.to_vec().into()));
    for attachment in [
        DraftAttachment::Image { data: data(b"\xff\xd8picture") },
        DraftAttachment::File { name: "счёт.pdf".to_owned(), data: data(b"%PDF bill") },
        DraftAttachment::Audio { data: data(b"ID3 voice") },
        DraftAttachment::Video { data: data(b"....ftyp film") },
    ] {
        world.max.control().write(anna.id, world.bot, Draft::attachment(attachment)).unwrap();
    }
    let entries = world
        .until("four files are with the agent", || {
            let entries = world.history(&anna);
            (entries.iter().map(|entry| entry.attachments.len()).sum::<usize>() == 4).then_some(entries)
        })
        .await;
    let stored: Vec<Vec<u8>> = entries
        .iter()
        .flat_map(|entry| &entry.attachments)
        .map(|file| world.crm.control().file(file["id"].as_str().unwrap().parse().unwrap()).unwrap().to_vec())
        .collect();
    assert_eq!(stored, [&b"\xff\xd8picture"[..], b"%PDF bill", b"ID3 voice", b"....ftyp film"]);

    let chat = world.accept(&anna).await;
    let files = vec![
        OutFile {
            name: "схема.png".to_owned(), mime_type: "image/png".to_owned(), bytes: b"\x89PNG plan".to_vec()
        },
        OutFile {
            name: "договор.docx".to_owned(),
            mime_type: "application/msword".to_owned(),
            bytes: b"PK contract".to_vec(),
        },
    ];
    world.crm.control().send(chat, world.agent, "Смотрите вложения", files).unwrap();
    let got = world
        .until("the text and both files are with the customer", || {
            let transcript = world.max.control().transcript(anna.id, world.bot).unwrap();
            let from_bot: Vec<_> = transcript.messages.into_iter().filter(|entry| entry.from_bot).collect();
            (from_bot.len() == 3).then_some(from_bot)
        })
        .await;
    assert_eq!(got[0].text, "Смотрите вложения");
    let bytes: Vec<Vec<u8>> = got[1..]
        .iter()
        .map(|entry| world.max.control().file(entry.attachments[0].file.unwrap()).unwrap().to_vec())
        .collect();
    assert_eq!(bytes, [&b"\x89PNG plan"[..], b"PK contract"]);
    assert_eq!(world.max.control().statistics().tokens_at_file_hosts, 0, "the token went to a file host");
    world.until_true("all rows are reported", || world.reports().iter().all(|(state, _)| state == "Delivered")).await;
    world.assert_contract_kept();
}

/// The address of a film in a message may be missing, or be none of the film.
pub async fn films_reach_the_agent_whatever_address_they_come_with(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    for (number, address) in [VideoUrl::Usable, VideoUrl::Unsuitable, VideoUrl::Absent].into_iter().enumerate() {
        world.max.control().set_switches(|switches| switches.video_url = address);
        let data = Some(Content(format!("....ftyp film {number}").into_bytes().into()));
        let draft = Draft::attachment(DraftAttachment::Video { data });
        world.max.control().write(anna.id, world.bot, draft).unwrap();
        let entry = world.until("it is with the agent", || world.history(&anna).into_iter().nth(number)).await;
        assert_eq!((entry.text.as_str(), entry.attachments.len()), ("", 1), "{address:?}");
        let id = entry.attachments[0]["id"].as_str().unwrap().parse().unwrap();
        let bytes = world.crm.control().file(id).unwrap();
        assert_eq!(bytes.to_vec(), format!("....ftyp film {number}").into_bytes(), "{address:?}");
    }
    world.assert_contract_kept();
}

pub async fn replies_come_until_an_agent_answers_and_enter_the_history_behind_the_first_message(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![
            AutoReply { after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned() },
            AutoReply {
                after: 60_000, repeat_every: Some(60_000), repeat_limit: 3, text: "Вы в очереди".to_owned()
            },
        ],
        close_message: Some("Спасибо за обращение!".to_owned()),
        ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.until_true("the first reply is shown at the start", || world.seen(&anna) == ["Ищем агента"]).await;
    assert!(world.history(&anna).is_empty(), "a reply entered the history before the customer wrote");
    world.say(&anna, "Здравствуйте");
    world.until_true("the second reply is repeated", || world.seen(&anna).len() >= 3).await;
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Слушаю вас", Vec::new()).unwrap();
    world.until_true("the agent's answer is shown", || world.seen(&anna).last().unwrap() == "Слушаю вас").await;
    let shown = world.seen(&anna).len();
    world.crm.control().close(chat, world.agent).unwrap();
    world
        .until_true("the close message is shown and recorded", || {
            world.seen(&anna).last().unwrap() == "Спасибо за обращение!"
                && world.history(&anna).iter().any(|entry| entry.author == "closeMessage")
        })
        .await;
    assert_eq!(
        world.seen(&anna).len(),
        shown + 1,
        "something was shown after the agent's answer: {:?}",
        world.seen(&anna)
    );
    let history = world.history(&anna);
    assert_eq!(history[0].text, "Здравствуйте");
    let replies: Vec<&str> =
        history.iter().filter(|entry| entry.author == "autoReply").map(|entry| entry.text.as_str()).collect();
    assert_eq!(replies.len(), shown - 1);
    assert_eq!(replies[0], "Ищем агента");
    assert!(
        history.iter().all(|entry| entry.chat == history[0].chat),
        "the close message joins the chat that it closes"
    );
    world.assert_contract_kept();
}

pub async fn what_creatio_cannot_show_becomes_a_readable_line(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    let control = world.max.control();
    for attachment in [
        DraftAttachment::Sticker { code: "fd7".to_owned() },
        DraftAttachment::Location { latitude: 55.75, longitude: 37.61 },
        DraftAttachment::Unknown(serde_json::json!({ "type": "hologram", "payload": {} })),
    ] {
        control.write(anna.id, world.bot, Draft::attachment(attachment)).unwrap();
    }
    let mid = world.say(&anna, "Опечтка");
    world.until_true("four messages are with the agent", || world.received(&anna).len() == 4).await;
    control.edit(anna.id, &mid, "Опечатка").unwrap();
    world.until_true("the edit is with the agent", || world.received(&anna).len() == 5).await;
    control.delete(anna.id, &mid).unwrap();
    world.until_true("the removal is with the agent", || world.received(&anna).len() == 6).await;
    insta::assert_json_snapshot!("what_creatio_cannot_show_becomes_a_readable_line", world.received(&anna));
    world.assert_contract_kept();
}

pub async fn a_changed_text_takes_effect_in_an_open_dialog_without_a_restart(intake: Intake) {
    let closing = |text: &str| Rules { close_message: Some(text.to_owned()), ..quiet_rules() };
    let mut world = World::start(closing("До свидания"), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.apply(closing("Всего доброго"), 2).await;
    world.crm.control().close(chat, world.agent).unwrap();
    world.until_true("the close message is shown", || !world.seen(&anna).is_empty()).await;
    assert_eq!(world.seen(&anna), ["Всего доброго"]);
}

/// The customers' side is in the way meanwhile.
pub async fn what_waits_says_goodbye_as_the_manifest_does_by_then_or_not_at_all(intake: Intake) {
    let closing = |text: Option<&str>| Rules { close_message: text.map(str::to_owned), ..quiet_rules() };
    for (then, expected) in [(Some("Всего доброго"), vec!["Всего доброго"]), (None, Vec::new())]
    {
        let mut world = World::start(closing(Some("До свидания")), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "вопрос");
        let chat = world.accept(&anna).await;
        let before = world.sends_seen();
        world.sends(Sends::Hasty, 0, 0);
        world.crm.control().close(chat, world.agent).unwrap();
        world.until_true("it is tried", || world.sends_seen() > before).await;
        world.apply(closing(then), 2).await;
        world.sends_are_well();
        for _ in 0..10_000 {
            if world.relay.facts().await.undelivered.to_max == 0 {
                break;
            }
            world.moment().await;
        }
        assert_eq!(
            (world.relay.facts().await.undelivered.to_max, world.seen(&anna)),
            (0, expected.iter().map(|text| (*text).to_owned()).collect())
        );
    }
}

/// While a backlog is read in several answers its first rows are reported and vanish.
pub async fn answers_of_agents_keep_their_order_though_the_crm_shows_few_rows_at_a_time(intake: Intake) {
    // MANGO OFFICE takes four messages a second.
    let names = ["Анна", "Борис", "Вера", "Глеб", "Дарья"];
    let names = if intake == Intake::MangoDialogs { &names[..1] } else { &names[..] };
    let world = World::start(quiet_rules(), intake).await;
    world.crm.control().switches(|switches| switches.page_size = 5);
    let customers: Vec<_> = names.iter().map(|name| world.customer(name)).collect();
    let mut chats = Vec::new();
    for customer in &customers {
        world.say(customer, "Здравствуйте");
        chats.push(world.accept(customer).await);
    }
    // Slow answers, so that much happens between two of them.
    world.crm.control().fault(creatio::Fault {
        method: Some("GET".to_owned()),
        path: "/odata/MaxOutbox".to_owned(),
        count: 1_000,
        hold_ms: 100,
        ..creatio::Fault::default()
    });
    let texts: Vec<String> = (0..24).map(|number| format!("ответ {number}")).collect();
    for (number, burst) in texts.chunks(8).enumerate() {
        // More is said while some of what was said before is on its way.
        let some_are_out = || customers.iter().all(|customer| world.seen(customer).len() + 5 >= number * 8);
        world.until_true("some are out", some_are_out).await;
        for text in burst {
            for chat in &chats {
                world.crm.control().send(*chat, world.agent, text, Vec::new()).unwrap();
            }
        }
    }
    for customer in &customers {
        world.until_true("everything is with the customer", || world.seen(customer).len() >= texts.len()).await;
        assert_eq!(world.seen(customer), texts);
    }
    world.assert_contract_kept();
}
