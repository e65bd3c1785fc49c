//! Interleavings: a CRM that takes, closes and transfers in its own time, reports late and twice,
//! and a relay that is restarted at will.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use uuid::Uuid;

use crate::policy::{
    AutoReply, ClosedBy, Context, Dialog, Effect, Event, OffHours, Phase, Receiver, ReplySet, Rules, next_due, step,
};
use crate::time::Millis;

const MINUTE: Millis = 60_000;

#[derive(Clone, Debug)]
enum Action {
    Start,
    Write,
    Edit,
    Leave,
    AgentAccepts,
    AgentAnswers,
    AgentCloses,
    AgentTransfers,
    Bot(Event),
    BotAway(bool),
    /// The CRM works on the first thing in the relay's queue.
    CrmWorks,
    /// The relay gets the answer to that.
    RelayHears,
    /// The relay reads the first row of the outbox; true: and reads it again later.
    RelayReads(bool),
    Pass(Millis),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Start),
        6 => Just(Action::Write),
        1 => Just(Action::Leave),
        1 => Just(Action::Edit),
        2 => Just(Action::AgentAccepts),
        3 => Just(Action::AgentAnswers),
        4 => Just(Action::AgentCloses),
        2 => Just(Action::AgentTransfers),
        4 => prop::sample::select(vec![Event::BotAnswered, Event::BotHandedOver, Event::BotClosed, Event::BotFailed])
            .prop_map(Action::Bot),
        1 => any::<bool>().prop_map(Action::BotAway),
        9 => Just(Action::CrmWorks),
        9 => Just(Action::RelayHears),
        9 => any::<bool>().prop_map(Action::RelayReads),
        6 => prop_oneof![Just(1000), Just(MINUTE), Just(31 * MINUTE), Just(3 * 60 * MINUTE)].prop_map(Action::Pass),
    ]
}

fn rules(repeat: bool, auto_close: Option<Millis>, receiver: Receiver) -> Rules {
    let reply = |after| AutoReply {
        after,
        repeat_every: repeat.then_some(10 * MINUTE),
        repeat_limit: 3,
        text: format!("after {after}"),
    };
    Rules {
        auto_replies: vec![reply(0), reply(30_000), reply(7 * MINUTE)],
        working_hours: None,
        off_hours: OffHours::None,
        receiver,
        close_message: Some("bye".to_owned()),
        auto_close,
    }
}

/// What the relay has put into the customer's queue.
#[derive(Debug)]
enum Call {
    Receive { message: String, stand_by: bool, own: bool },
    HandOver,
    Close(Uuid),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chat {
    closed: bool,
    child: Option<Uuid>,
    stand_by: bool,
    answered: bool,
}

/// What the relay will hear; none: nothing that the policy has to know.
struct Answer(Option<Event>);

struct World {
    rules: Rules,
    dialog: Dialog,
    context: Context,
    chats: BTreeMap<Uuid, Chat>,
    open: Option<Uuid>,
    messages: usize,
    queue: VecDeque<Call>,
    /// Of the call in flight.
    answer: Option<Answer>,
    outbox: VecDeque<Event>,
    shown: BTreeSet<(u32, ReplySet, usize, u32)>,
    said_goodbye: BTreeSet<Uuid>,
    has_left: bool,
    replies: usize,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            dialog: Dialog::default(),
            context: Context { now: 1_700_000_000_000, ..Context::default() },
            chats: BTreeMap::new(),
            open: None,
            messages: 0,
            queue: VecDeque::new(),
            answer: None,
            outbox: VecDeque::new(),
            shown: BTreeSet::new(),
            said_goodbye: BTreeSet::new(),
            has_left: false,
            replies: 0,
        }
    }

    fn open_chat(&mut self, chat: Chat) -> Uuid {
        let id = Uuid::from_u128(1 + self.chats.len() as u128);
        self.chats.insert(id, chat);
        self.open = Some(id);
        id
    }

    fn in_chat(&mut self) -> Option<(Uuid, &mut Chat)> {
        let id = self.open?;
        self.chats.get_mut(&id).map(|chat| (id, chat))
    }

    /// The open chat goes on as another.
    fn branch(&mut self, stand_by: bool) -> Option<Event> {
        let (parent, chat) = self.in_chat()?;
        let child = Chat { stand_by, ..*chat };
        let chat = self.open_chat(child);
        if let Some(state) = self.chats.get_mut(&parent) {
            state.child = Some(chat);
        }
        Some(Event::Transferred { parent, chat })
    }

    fn step(&mut self, event: &Event) {
        // A restart between any two steps.
        self.dialog = serde_json::from_str(&serde_json::to_string(&self.dialog).unwrap()).unwrap();
        if let Event::Started | Event::Wrote { .. } = event {
            if self.has_left {
                // A new appeal, also in the old chat.
                self.chats.values_mut().for_each(|chat| chat.answered = false);
            }
            self.has_left = false;
        }
        let effects = step(&self.rules, &mut self.dialog, event, self.context);
        for effect in effects {
            match effect {
                Effect::Receive { stand_by } => {
                    let (Event::Wrote { message } | Event::Amended { message }) = event else {
                        panic!("nothing to receive in {event:?}")
                    };
                    self.queue.push_back(Call::Receive {
                        message: message.clone(),
                        stand_by,
                        own: matches!(event, Event::Wrote { .. }),
                    });
                }
                Effect::HandOver => self.queue.push_back(Call::HandOver),
                Effect::CloseChat { chat } => self.queue.push_back(Call::Close(chat)),
                Effect::SendAutoReply { set, index, occurrence, .. } => {
                    assert!(!self.has_left, "nothing is sent to a customer who has left");
                    assert_ne!(self.dialog.phase(), Phase::Served, "no reply after an agent's answer");
                    assert!(self.dialog.bot().is_none(), "no reply while a bot holds the dialog");
                    assert!(self.shown.insert((self.dialog.number(), set, index, occurrence)), "each occurrence once");
                    self.replies += 1;
                }
                Effect::SendCloseMessage { .. } => {
                    assert!(!self.has_left, "nothing is sent to a customer who has left");
                    match event {
                        Event::ChatClosed { chat, .. } | Event::Transferred { chat, .. } => {
                            let mut chat = *chat;
                            while let Some(child) = self.chats[&chat].child {
                                chat = child;
                            }
                            assert!(self.chats[&chat].closed);
                            assert!(self.said_goodbye.insert(chat), "one close message for each closing");
                        }
                        Event::BotClosed => assert!(self.dialog.chat().is_none()),
                        _ => panic!("a close message after {event:?}"),
                    }
                }
                Effect::TellAgent { chat, .. } => assert!(self.chats.contains_key(&chat)),
                Effect::AskBot { .. } | Effect::SendBotAnswer => assert!(!self.has_left),
                Effect::ReleaseHistory | Effect::DropHistory => {}
            }
        }
        let again = step(&self.rules, &mut self.dialog.clone(), &Event::Tick, self.context);
        assert_eq!(again, [], "a step leaves nothing to do at its time");
        assert!(next_due(&self.rules, &self.dialog).is_none_or(|due| due > self.context.now));
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Start => self.step(&Event::Started),
            Action::Write => {
                self.messages += 1;
                self.step(&Event::Wrote { message: format!("mid.{}", self.messages) });
            }
            // The relay hands an edit on only where its message is in the open chat; elsewhere the
            // CRM would open one for it.
            Action::Edit if self.open.is_some() && self.queue.is_empty() && self.answer.is_none() => {
                self.step(&Event::Amended { message: format!("mid.{}:edit", self.messages) });
                self.crm_works();
                self.relay_hears();
            }
            Action::Edit => {}
            Action::Leave => {
                self.has_left = true;
                self.step(&Event::Left);
            }
            Action::AgentAccepts => {
                if let Some((chat, state)) = self.in_chat() {
                    state.stand_by = false;
                    self.outbox.push_back(Event::AgentAccepted { chat });
                }
            }
            Action::AgentAnswers => {
                if let Some((chat, state)) = self.in_chat() {
                    (state.stand_by, state.answered) = (false, true);
                    self.outbox.push_back(Event::AgentAnswered { chat });
                }
            }
            Action::AgentCloses => {
                if let Some((chat, state)) = self.in_chat() {
                    state.closed = true;
                    self.open = None;
                    self.outbox.push_back(Event::ChatClosed { chat, by: ClosedBy::Agent });
                }
            }
            Action::AgentTransfers => {
                let row = self.branch(false);
                self.outbox.extend(row);
            }
            Action::Bot(event) => self.step(event),
            Action::BotAway(away) => self.context.bot_away = *away,
            Action::CrmWorks => self.crm_works(),
            Action::RelayHears => self.relay_hears(),
            Action::RelayReads(again) => {
                if let Some(row) = self.outbox.pop_front() {
                    self.step(&row);
                    if *again && matches!(row, Event::ChatClosed { .. }) {
                        self.outbox.push_back(row);
                    }
                }
            }
            Action::Pass(span) => {
                let end = self.context.now + span;
                while let Some(due) = next_due(&self.rules, &self.dialog).filter(|due| *due <= end) {
                    self.context.now = due;
                    self.step(&Event::Tick);
                }
                self.context.now = end;
            }
        }
    }

    fn crm_works(&mut self) {
        // One call in flight for each customer.
        if self.answer.is_some() {
            return;
        }
        let Some(call) = self.queue.pop_front() else { return };
        self.answer = Some(Answer(match call {
            Call::Receive { message, stand_by, own } => {
                if !stand_by && self.in_chat().is_some_and(|(_, chat)| chat.stand_by) {
                    let row = self.branch(false);
                    self.outbox.extend(row);
                }
                let chat = self.open.unwrap_or_else(|| self.open_chat(Chat { stand_by, ..Chat::default() }));
                own.then_some(Event::Taken { message, chat })
            }
            Call::HandOver => match self.in_chat() {
                Some((_, Chat { stand_by: true, .. })) => self.branch(false),
                _ => None,
            },
            Call::Close(chat) => {
                if self.open == Some(chat) {
                    self.open = None;
                    self.chats.get_mut(&chat).unwrap().closed = true;
                    self.outbox.push_back(Event::ChatClosed { chat, by: ClosedBy::Relay });
                }
                self.chats[&chat].closed.then_some(Event::ChatClosed { chat, by: ClosedBy::Relay })
            }
        }));
    }

    fn relay_hears(&mut self) {
        if let Some(Answer(Some(answer))) = self.answer.take() {
            self.step(&answer);
        }
    }

    /// Everybody finishes what is under way; no time passes.
    fn settle(&mut self) {
        while !(self.queue.is_empty() && self.answer.is_none() && self.outbox.is_empty()) {
            self.crm_works();
            self.relay_hears();
            if let Some(row) = self.outbox.pop_front() {
                self.step(&row);
            }
        }
    }
}

/// Plays the actions, lets everybody finish, and looks at both ends.
fn play(rules: Rules, actions: &[Action]) {
    let mut world = World::new(rules);
    for action in actions {
        world.act(action);
    }
    world.settle();

    assert_eq!(world.dialog.chat(), world.open, "the dialog is in the chat that is open");
    let phase = world.dialog.phase();
    if world.open.is_none() {
        assert!(matches!(phase, Phase::Idle | Phase::Started | Phase::WithBot), "{phase:?} without a chat");
        assert!(!world.dialog.has_written(), "no message is left in a closed chat");
    }
    assert_ne!(phase, Phase::Closing);

    let closed: BTreeSet<_> = world.chats.iter().filter(|(_, chat)| chat.closed).map(|(id, _)| *id).collect();
    if actions.iter().any(|action| matches!(action, Action::Leave)) {
        assert!(world.said_goodbye.is_subset(&closed));
    } else {
        assert_eq!(world.said_goodbye, closed, "exactly one close message for each closing");
    }

    let chat = world.open.map(|chat| world.chats[&chat]).unwrap_or_default();
    if world.open.is_some() && world.dialog.bot().is_none() && phase != Phase::Left {
        assert!(!chat.stand_by, "the agents have been called to what no bot holds");
    }
    let before = world.replies;
    world.act(&Action::Pass(24 * 60 * MINUTE));
    if chat.answered {
        assert_eq!(world.replies, before, "no reply after an agent's answer");
    }
    if world.rules.auto_close.is_some() {
        world.settle();
        assert_eq!((world.open, world.dialog.phase()), (None, Phase::Idle), "silence ends every dialog");
    }
}

proptest! {
    #![proptest_config(super::cases(3000))]

    #[test]
    fn in_every_order_of_events_the_relay_and_the_crm_agree_in_the_end(
        repeat: bool,
        auto_close in prop::option::of(Just(30 * MINUTE)),
        receiver in prop::sample::select(vec![Receiver::People, Receiver::Bot]),
        actions in prop::collection::vec(actions(), 0..70),
    ) {
        play(rules(repeat, auto_close, receiver), &actions);
    }
}

/// Orders that were once played wrongly, so that they are played each time.
#[test]
fn these_orders_of_events_end_well() {
    use Action::{
        AgentAccepts, AgentAnswers, AgentCloses, AgentTransfers, CrmWorks, Leave, Pass, RelayHears, RelayReads, Start,
        Write,
    };
    let (people, bot, half_an_hour) = (Receiver::People, Receiver::Bot, Some(30 * MINUTE));
    let hand_over = || Action::Bot(Event::BotHandedOver);
    let read = || RelayReads(false);
    for (receiver, auto_close, actions) in [
        // He leaves and comes back before the CRM has taken what the bot got.
        (bot, None, vec![Write, Leave, Start, hand_over()]),
        // He comes back while the chat that an agent had taken from the bot is being closed.
        (bot, None, vec![Write, CrmWorks, AgentAccepts, Leave, read(), Write, AgentAccepts]),
        // An agent takes the first of two messages from the bot and closes.
        (bot, None, vec![Write, Write, CrmWorks, AgentAccepts, read(), AgentCloses]),
        // An agent acts in the handed over chat before the answer to the hand-over is heard.
        (bot, None, vec![Write, hand_over(), CrmWorks, RelayHears, CrmWorks, AgentCloses, read()]),
        (bot, None, vec![Write, hand_over(), CrmWorks, RelayHears, CrmWorks, AgentTransfers, read()]),
        (bot, None, vec![Write, hand_over(), CrmWorks, RelayHears, CrmWorks, AgentAnswers, read()]),
        // Two transfers, with messages between them.
        (
            people,
            None,
            vec![Write, Write, CrmWorks, RelayHears, AgentAnswers, Write, AgentTransfers, CrmWorks, AgentTransfers],
        ),
        // He leaves and comes back into a chat that is still open.
        (people, None, vec![Write, Leave, CrmWorks, RelayHears, Start]),
        // The closing comes to nothing, because the chat was transferred meanwhile; he presses
        // start behind it.
        (
            people,
            half_an_hour,
            vec![Write, CrmWorks, RelayHears, AgentTransfers, AgentTransfers, Pass(31 * MINUTE), Start],
        ),
        (
            bot,
            half_an_hour,
            vec![
                Write,
                CrmWorks,
                RelayHears,
                AgentTransfers,
                Pass(31 * MINUTE),
                AgentTransfers,
                Start,
                Pass(31 * MINUTE),
            ],
        ),
        // Messages go into a chat that was transferred, closed, and opened anew, before the relay
        // reads of any of it; he presses start while both of these chats are in question.
        (
            bot,
            half_an_hour,
            vec![
                Start,
                Write,
                Write,
                Write,
                Action::Bot(Event::BotClosed),
                Leave,
                RelayHears,
                Leave,
                Start,
                Start,
                CrmWorks,
                AgentTransfers,
                Leave,
                AgentCloses,
                RelayHears,
                CrmWorks,
                RelayHears,
                Pass(31 * MINUTE),
                Start,
            ],
        ),
        // A chat is closed before the relay reads of the two transfers that led there.
        (
            people,
            half_an_hour,
            vec![
                Write,
                CrmWorks,
                Write,
                AgentTransfers,
                AgentTransfers,
                RelayHears,
                CrmWorks,
                RelayHears,
                Pass(31 * MINUTE),
            ],
        ),
        // The same, and he presses start before the closing is reported.
        (
            people,
            half_an_hour,
            vec![
                Write,
                Write,
                CrmWorks,
                AgentTransfers,
                RelayHears,
                AgentTransfers,
                CrmWorks,
                RelayHears,
                Pass(31 * MINUTE),
                Start,
            ],
        ),
    ] {
        play(rules(false, auto_close, receiver), &actions);
    }
}
