//! A dialog that is closed where the customer writes, and what the CRM still has under way then.

use uuid::Uuid;

use crate::policy::{ClosedBy, Context, Dialog, Effect, Event, Receiver, Rules, step};

const A: Uuid = Uuid::from_u128(0xA);
const B: Uuid = Uuid::from_u128(0xB);
const C: Uuid = Uuid::from_u128(0xC);

fn wrote(message: &str) -> Event {
    Event::Wrote { message: message.to_owned() }
}

fn taken(message: &str, chat: Uuid) -> Event {
    Event::Taken { message: message.to_owned(), chat }
}

fn closed(chat: Uuid) -> Event {
    Event::ChatClosed { chat, by: ClosedBy::Agent }
}

#[test]
fn a_close_elsewhere_ends_every_chat_of_what_was_written_before_it_and_none_of_what_is_written_after_it() {
    use Event::ClosedElsewhere as Elsewhere;
    for (what, receiver, events, expected) in [
        ("its chat", Receiver::People, vec![wrote("1"), taken("1", A), Elsewhere], vec![A]),
        ("once", Receiver::People, vec![wrote("1"), taken("1", A), Elsewhere, Elsewhere], vec![A]),
        ("the chat that is opened later", Receiver::People, vec![wrote("1"), Elsewhere, taken("1", A)], vec![A]),
        (
            "another chat, for the agents had closed the first",
            Receiver::People,
            vec![wrote("1"), taken("1", A), wrote("2"), closed(A), Elsewhere, taken("2", B)],
            vec![B],
        ),
        (
            "the same, and nobody had told of that close",
            Receiver::People,
            vec![wrote("1"), taken("1", A), wrote("2"), Elsewhere, taken("2", B)],
            vec![A, B],
        ),
        (
            "the chat that a hand-over under way has made",
            Receiver::Bot,
            vec![wrote("1"), taken("1", A), Event::BotFailed, Elsewhere, Event::Transferred { parent: A, chat: B }],
            vec![A, B],
        ),
        (
            "no chat of what is written afterwards",
            Receiver::People,
            vec![wrote("1"), taken("1", A), Elsewhere, closed(A), wrote("2"), taken("2", B), wrote("3"), taken("3", C)],
            vec![A],
        ),
    ] {
        let rules = Rules { receiver, ..Rules::default() };
        let mut dialog = Dialog::default();
        let mut chats = Vec::new();
        for (now, event) in (1..).zip(&events) {
            let effects = step(&rules, &mut dialog, event, Context { now: now * 1_000, ..Context::default() });
            chats.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::CloseChat { chat } => Some(chat),
                _ => None,
            }));
        }
        assert_eq!(chats, expected, "{what}");
    }
}
