//! The product page, sections 5 to 9, sentence by sentence: what the customer, the agents and the
//! CRM see.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::policy::{
    Receiver, Rules,
    timeline::{Act, Line, Party, play},
};
use crate::time::Millis;

/// Monday, 2026-11-23, 10:00 in Moscow.
const START: &str = "2026-11-23T07:00:00Z";

struct Case {
    /// Section and number of the sentence on the page.
    sentence: &'static str,
    says: &'static str,
    rules: Value,
    /// `10m customer writes`, from [`START`].
    acts: &'static [&'static str],
    /// What is sent, `time party what text`; everything but `crm message`, unless the case is about
    /// that.
    sent: &'static [&'static str],
}

fn millis(text: &str) -> Millis {
    let mut total = 0;
    for part in text.split_inclusive(|c: char| c.is_ascii_alphabetic()) {
        let (number, unit) = part.split_at(part.len() - 1);
        let unit = match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => panic!("{text:?} is no span"),
        };
        total += number.parse::<Millis>().unwrap() * unit;
    }
    total
}

fn act(words: &str) -> Act {
    match words {
        "customer starts" => Act::CustomerStarts,
        "customer writes" => Act::CustomerWrites("?".to_owned()),
        "customer edits" => Act::CustomerEdits,
        "customer leaves" => Act::CustomerLeaves,
        "agent accepts" => Act::AgentAccepts,
        "agent answers" => Act::AgentAnswers("!".to_owned()),
        "agent transfers" => Act::AgentTransfers,
        "agent closes" => Act::AgentCloses,
        "bot answers" => Act::BotAnswers("beep".to_owned()),
        "bot hands over" => Act::BotHandsOver,
        "bot closes" => Act::BotCloses,
        "bot fails" => Act::BotFails,
        "bot away" => Act::BotsAway,
        "bot back" => Act::BotsBack,
        _ => panic!("{words:?} is no act"),
    }
}

fn shown(line: &Line, start: Millis) -> String {
    let mut seconds = (line.at - start) / 1000;
    let mut time = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= length {
            time += &(seconds / length).to_string();
            time += unit;
            seconds %= length;
        }
    }
    if seconds > 0 || time.is_empty() {
        time += &seconds.to_string();
        time += "s";
    }
    let party = serde_json::to_value(line.party).unwrap();
    let text = line.text.as_deref().unwrap_or_default();
    format!("{time} {} {} {text}", party.as_str().unwrap(), line.what).trim_end().to_owned()
}

fn check(case: &Case) {
    let start = START.parse::<Timestamp>().unwrap().as_millisecond();
    let mut rules: Rules = serde_json::from_value(case.rules.clone()).unwrap();
    if case.rules.get("receiver").is_none() {
        rules.receiver = Receiver::People;
    }
    let acts: Vec<_> = case
        .acts
        .iter()
        .map(|line| {
            let (at, words) = line.split_once(' ').unwrap();
            (start + millis(at), act(words))
        })
        .collect();
    let messages = case.sent.iter().any(|line| line.contains(" crm message"))
        || case.acts.iter().all(|act| act.ends_with("customer edits"));
    let (lines, _) = play(&rules, &acts, start + millis("40d"));
    let sent: Vec<_> = lines
        .iter()
        .filter(|line| !line.happened && (messages || (line.party, line.what) != (Party::Crm, "message")))
        .map(|line| shown(line, start))
        .collect();
    assert_eq!(sent, case.sent, "sentence {}: «{}»\nacts {:?}", case.sentence, case.says, case.acts);
}

fn replies(replies: &[(&str, &str)]) -> Value {
    replies.iter().map(|(after, text)| json!({"after": millis(after), "text": text})).collect()
}

fn office() -> Value {
    json!({"timeZone": "Europe/Moscow", "week": [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "18:00"}]})
}

#[test]
fn section_5_who_takes_the_appeals() {
    let bot = || json!({"receiver": "bot", "autoReplies": replies(&[("30s", "A")])});
    for case in [
        Case {
            sentence: "5.1",
            says: "кто будет принимать обращение — сотрудник … или группа",
            rules: json!({"receiver": "people"}),
            acts: &["0s customer writes", "1m customer writes"],
            sent: &["0s crm message", "1m crm message"],
        },
        Case {
            sentence: "5.1",
            says: "… and with nobody chosen (error 6) the relay keeps the message, replies go on, nothing is closed",
            rules: json!({"receiver": "absent", "autoReplies": replies(&[("30s", "A")]), "autoClose": millis("1h")}),
            acts: &["0s customer writes"],
            sent: &["0s crm message", "30s customer autoReply A"],
        },
        Case {
            sentence: "5.1",
            says: "… чат-бот",
            rules: json!({"receiver": "bot"}),
            acts: &["0s customer starts", "1s bot answers", "5s customer writes", "6s bot answers"],
            sent: &[
                "0s bot ask",
                "1s customer botAnswer",
                "5s crm message",
                "5s crm history",
                "5s bot ask",
                "6s customer botAnswer",
            ],
        },
        Case {
            sentence: "5.3",
            says: "при недоступности чат-бота: a bot that fails hands over, and the agents' replies count from there",
            rules: bot(),
            acts: &["0s customer writes", "10s bot fails", "20s customer writes"],
            sent: &["0s crm message", "0s bot ask", "10s crm handOver", "20s crm message", "40s customer autoReply A"],
        },
        Case {
            sentence: "5.3",
            says: "… a bot that is known to be away is not asked, and loses a dialog when its customer writes",
            rules: bot(),
            acts: &[
                "0s customer starts",
                "1s bot away",
                "10s customer writes",
                "1h agent closes",
                "2h customer writes",
            ],
            sent: &[
                "0s bot ask",
                "10s crm message",
                "40s customer autoReply A",
                "2h crm message",
                "2h30s customer autoReply A",
            ],
        },
        Case {
            sentence: "5.3",
            says: "… and gets new dialogs when it is back",
            rules: bot(),
            acts: &[
                "0s bot away",
                "0s customer writes",
                "20s agent closes",
                "1m bot back",
                "2m customer writes",
                "3m bot hands over",
            ],
            sent: &["2m bot ask", "3m crm handOver", "3m30s customer autoReply A"],
        },
        Case {
            sentence: "5.3",
            says: "… a bot that has handed over is not asked again, and what it still says is not sent",
            rules: bot(),
            acts: &[
                "0s customer writes",
                "1s bot hands over",
                "2s agent answers",
                "3s bot answers",
                "4s customer writes",
                "5s bot fails",
            ],
            sent: &["0s bot ask", "1s crm handOver"],
        },
        Case {
            sentence: "5.3",
            says: "… and an agent who answers takes the dialog from the bot",
            rules: bot(),
            acts: &["0s customer writes", "1s agent answers", "2s bot answers", "3s customer writes"],
            sent: &["0s bot ask"],
        },
    ] {
        check(&case);
    }
}

#[test]
fn section_6_automatic_replies() {
    let two = || json!({"autoReplies": replies(&[("30s", "A"), ("3m", "B")])});
    let repeating = || {
        json!({"autoReplies": [{"after": 30_000, "text": "A"},
            {"after": 180_000, "repeatEvery": 300_000, "repeatLimit": 2, "text": "B"}]})
    };
    for case in [
        Case {
            sentence: "6.1",
            says: "один или несколько Автоматических ответов",
            rules: two(),
            acts: &["0s customer writes"],
            sent: &["30s customer autoReply A", "3m customer autoReply B"],
        },
        Case {
            sentence: "6.2",
            says: "чтобы убедить клиента дождаться ответа: none after an agent's answer",
            rules: two(),
            acts: &["0s customer writes", "20s agent accepts", "1m agent answers", "2m customer writes"],
            sent: &["30s customer autoReply A"],
        },
        Case {
            sentence: "6.2",
            says: "… nor after a transfer of an answered dialog, nor after its end",
            rules: two(),
            acts: &["0s customer writes", "10s agent answers", "15s agent transfers", "4m agent closes"],
            sent: &[],
        },
        Case {
            sentence: "6.2",
            says: "… a transfer before any answer stops nothing",
            rules: two(),
            acts: &["0s customer writes", "10s agent transfers", "1m agent answers"],
            sent: &["30s customer autoReply A"],
        },
        Case {
            sentence: "6.2",
            says: "… and the next appeal has its replies again",
            rules: two(),
            acts: &[
                "0s customer writes",
                "10s agent answers",
                "1h agent closes",
                "2h customer writes",
                "2h1m agent closes",
            ],
            sent: &["2h30s customer autoReply A"],
        },
        Case {
            sentence: "6.4",
            says: "время с момента обращения пользователя: from the start button, whatever follows",
            rules: two(),
            acts: &[
                "0s customer starts",
                "20s customer writes",
                "25s customer starts",
                "40s customer writes",
                "50s customer edits",
            ],
            sent: &[
                "20s crm message",
                "30s customer autoReply A",
                "40s crm message",
                "50s crm message",
                "3m customer autoReply B",
            ],
        },
        Case {
            sentence: "6.4",
            says: "… an edit of an old message is no appeal and opens no chat",
            rules: two(),
            acts: &["0s customer edits"],
            sent: &[],
        },
        Case {
            sentence: "6.4",
            says: "… nothing is sent to a customer who has left, and coming back is a new appeal",
            rules: two(),
            acts: &["0s customer writes", "10s customer leaves", "1h customer starts", "1h40s customer leaves"],
            sent: &["10s agent customerLeft", "1h30s customer autoReply A", "1h40s agent customerLeft"],
        },
        Case {
            sentence: "6.6",
            says: "настроить периодичность отображения каждого",
            rules: repeating(),
            acts: &["0s customer writes"],
            sent: &[
                "30s customer autoReply A",
                "3m customer autoReply B",
                "8m customer autoReply B",
                "13m customer autoReply B",
            ],
        },
        Case {
            sentence: "6.6",
            says: "… until an agent answers",
            rules: repeating(),
            acts: &["0s customer writes", "9m agent answers"],
            sent: &["30s customer autoReply A", "3m customer autoReply B", "8m customer autoReply B"],
        },
        Case {
            sentence: "6.7",
            says: "сохраняются в истории обращения, только если пользователь написал: behind the message that opens the chat",
            rules: two(),
            acts: &["0s customer starts", "1m customer writes", "2m customer writes"],
            sent: &[
                "30s customer autoReply A",
                "1m crm message",
                "1m crm history",
                "2m crm message",
                "3m customer autoReply B",
            ],
        },
        Case {
            sentence: "6.7",
            says: "… and never those of a dialog in which he did not",
            rules: json!({"autoReplies": replies(&[("30s", "A")]), "autoClose": millis("1h")}),
            acts: &["0s customer starts", "2h customer writes", "2h1s agent closes"],
            sent: &["30s customer autoReply A", "1h crm nothing", "2h crm message"],
        },
    ] {
        check(&case);
    }
}

#[test]
fn section_7_the_close_message() {
    let rules = || json!({"closeMessage": "bye", "autoClose": millis("1h"), "autoReplies": replies(&[("0s", "A")])});
    let bot = || json!({"closeMessage": "bye", "autoClose": millis("1h"), "receiver": "bot"});
    for case in [
        Case {
            sentence: "7.1",
            says: "при активации опции: without it nothing is shown",
            rules: json!({"autoClose": millis("1h")}),
            acts: &["0s customer writes"],
            sent: &["1h crm closeChat"],
        },
        Case {
            sentence: "7.3",
            says: "сообщение будет отправлено клиенту после закрытия",
            rules: rules(),
            acts: &["0s customer writes", "1m agent answers", "2m agent closes", "3m agent closes"],
            sent: &["0s customer autoReply A", "2m customer closeMessage bye"],
        },
        Case {
            sentence: "7.5",
            says: "закрытия обращения оператором: also of one whom nobody answered",
            rules: rules(),
            acts: &["0s customer writes", "2m agent closes"],
            sent: &["0s customer autoReply A", "2m customer closeMessage bye"],
        },
        Case {
            sentence: "7.5",
            says: "автоматического завершения чат-ботом",
            rules: bot(),
            acts: &["0s customer writes", "1s bot answers", "1s bot closes", "2s bot closes"],
            sent: &["0s bot ask", "1s customer botAnswer", "1s crm closeChat", "1s customer closeMessage bye"],
        },
        Case {
            sentence: "7.5",
            says: "… also of a dialog in which only the bot has spoken",
            rules: bot(),
            acts: &["0s customer starts", "1s bot answers", "1s bot closes"],
            sent: &["0s bot ask", "1s customer botAnswer", "1s crm nothing", "1s customer closeMessage bye"],
        },
        Case {
            sentence: "7.5",
            says: "по истечении тайм-аута",
            rules: rules(),
            acts: &["0s customer writes", "10m agent answers"],
            sent: &["0s customer autoReply A", "1h10m crm closeChat", "1h10m customer closeMessage bye"],
        },
        Case {
            sentence: "7.5",
            says: "… each closing once, dialog after dialog",
            rules: rules(),
            acts: &["0s customer writes", "2h customer writes", "2h5m agent closes"],
            sent: &[
                "0s customer autoReply A",
                "1h crm closeChat",
                "1h customer closeMessage bye",
                "2h customer autoReply A",
                "2h5m customer closeMessage bye",
            ],
        },
        Case {
            sentence: "7.5",
            says: "… and none to a customer who has left",
            rules: rules(),
            acts: &["0s customer writes", "10m customer leaves"],
            sent: &["0s customer autoReply A", "10m agent customerLeft", "1h crm closeChat"],
        },
    ] {
        check(&case);
    }
}

#[test]
fn section_8_outside_the_working_hours() {
    let with_replies = || {
        json!({"workingHours": office(), "autoReplies": replies(&[("30s", "day"), ("20m", "day again")]),
            "offHours": {"autoReplies": replies(&[("0s", "night"), ("20m", "night again")])}})
    };
    let with_bot = || {
        json!({"workingHours": office(), "autoReplies": replies(&[("30s", "day")]), "offHours": "bot", "autoClose": millis("2d"),
            "receiver": "people"})
    };
    for case in [
        Case {
            sentence: "8.1",
            says: "выпадающий список доступных чат-ботов: the bot takes new dialogs, and no reply is shown",
            rules: with_bot(),
            acts: &["9h customer writes", "9h1s bot answers", "9h1m bot closes"],
            sent: &["9h bot ask", "9h1s customer botAnswer", "9h1m crm closeChat"],
        },
        Case {
            sentence: "8.1",
            says: "… and keeps them when the hour strikes; new ones go to the agents",
            rules: with_bot(),
            acts: &[
                "9h customer writes",
                "24h customer writes",
                "24h1m bot closes",
                "25h customer writes",
                "25h1m agent answers",
            ],
            sent: &[
                "9h bot ask",
                "1d bot ask",
                "1d1m crm closeChat",
                "1d1h30s customer autoReply day",
                "3d1h1m crm closeChat",
            ],
        },
        Case {
            sentence: "8.1",
            says: "… a dialog of the agents stays with them after hours",
            rules: with_bot(),
            acts: &["7h59m customer writes", "9h customer writes", "9h1m agent answers"],
            sent: &["7h59m30s customer autoReply day", "2d9h1m crm closeChat"],
        },
        Case {
            sentence: "8.1",
            says: "… one that the bot hands over at night is told so in the morning",
            rules: with_bot(),
            acts: &["9h customer writes", "9h1m bot hands over", "1d agent answers"],
            sent: &["9h bot ask", "9h1m crm handOver", "23h30s customer autoReply day", "3d crm closeChat"],
        },
        Case {
            sentence: "8.2",
            says: "отправлять автоответы в нерабочее время: they replace the normal ones",
            rules: with_replies(),
            acts: &["9h customer writes", "9h30m agent closes"],
            sent: &["9h customer autoReply night", "9h20m customer autoReply night again"],
        },
        Case {
            sentence: "8.2",
            says: "… and only outside the hours",
            rules: with_replies(),
            acts: &["0s customer writes", "1h agent closes"],
            sent: &["30s customer autoReply day", "20m customer autoReply day again"],
        },
        Case {
            sentence: "8.2",
            says: "… whoever waits when the hours end goes on with the other set, and back in the morning, each once",
            rules: with_replies(),
            acts: &["7h50m customer writes", "3d agent answers"],
            sent: &[
                "7h50m30s customer autoReply day",
                "8h customer autoReply night",
                "8h20m customer autoReply night again",
            ],
        },
        Case {
            sentence: "8.2",
            says: "… whoever waits when the hours begin goes on with the normal set",
            rules: with_replies(),
            acts: &["22h50m customer writes", "3d agent answers"],
            sent: &[
                "22h50m customer autoReply night",
                "23h30s customer autoReply day",
                "23h20m customer autoReply day again",
            ],
        },
        Case {
            sentence: "8.2",
            says: "… where the block is left empty, the hours change nothing",
            rules: json!({"workingHours": office(), "autoReplies": replies(&[("30s", "day")])}),
            acts: &["7h59m40s customer writes", "10h agent closes"],
            sent: &["8h10s customer autoReply day"],
        },
    ] {
        check(&case);
    }
}

/// Section 8, sentence 4: «невозможно одновременно использовать оба переключателя».
#[test]
fn rules_with_both_an_off_hours_bot_and_off_hours_replies_cannot_be_written() {
    let both = json!({"offHours": {"autoReplies": [], "bot": {}}});
    assert!(serde_json::from_value::<Rules>(both).is_err());
}

#[test]
fn section_9_automatic_closing() {
    let rules = || json!({"autoClose": millis("1h"), "autoReplies": replies(&[("50m", "A")])});
    for case in [
        Case {
            sentence: "9.1",
            says: "период для автоматического завершения: from the last message of either side",
            rules: rules(),
            acts: &["0s customer writes", "30m agent answers", "1h20m customer writes"],
            sent: &["2h20m crm closeChat"],
        },
        Case {
            sentence: "9.1",
            says: "… replies and edits are no messages",
            rules: rules(),
            acts: &["0s customer writes", "55m customer edits"],
            sent: &["0s crm message", "50m customer autoReply A", "55m crm message", "1h crm closeChat"],
        },
        Case {
            sentence: "9.1",
            says: "… a bot's answers are",
            rules: json!({"autoClose": millis("1h"), "receiver": "bot"}),
            acts: &["0s customer writes", "40m bot answers"],
            sent: &["0s bot ask", "40m customer botAnswer", "1h40m crm closeChat"],
        },
        Case {
            sentence: "9.1",
            says: "… a dialog in which nobody wrote ends without a word",
            rules: json!({"autoClose": millis("1h"), "closeMessage": "bye"}),
            acts: &["0s customer starts"],
            sent: &["1h crm nothing"],
        },
        Case {
            sentence: "9.1",
            says: "… without a period nothing ends by itself",
            rules: json!({}),
            acts: &["0s customer writes", "1m agent answers"],
            sent: &[],
        },
    ] {
        check(&case);
    }
}
