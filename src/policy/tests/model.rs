//! Automatic replies against a reading of their rules that writes every occurrence down and looks
//! at each minute of the calendar.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::hours::{Plan, moments, plans};
use crate::policy::{
    AutoReply, ClosedBy, Context, Dialog, Effect, Event, LATE, OffHours, Receiver, ReplySet, Rules, TOGETHER, next_due,
    step,
};
use crate::time::Millis;

const MINUTE: Millis = 60_000;
const FAR: Millis = 2 * 1440 * MINUTE;

fn sets() -> impl Strategy<Value = Vec<AutoReply>> {
    let after = prop_oneof![
        Just(0),
        (0i64..120).prop_map(|minutes| minutes * MINUTE),
        (0i64..600).prop_map(|seconds| seconds * 1000)
    ];
    let every = prop::option::of((1i64..90).prop_map(|minutes| minutes * MINUTE));
    let reply = (after, every, 1u32..6).prop_map(|(after, repeat_every, repeat_limit)| AutoReply {
        after,
        repeat_every,
        repeat_limit,
        text: format!("{after} {repeat_every:?}"),
    });
    prop::collection::vec(reply, 0..5)
}

type Sent = (ReplySet, usize, u32);

/// What is known of a dialog in which nothing has stopped the replies yet.
struct Model<'a> {
    plan: Option<&'a Plan>,
    rules: &'a Rules,
    waiting_since: Millis,
    begins: BTreeMap<ReplySet, Option<Millis>>,
    decided: BTreeSet<Sent>,
}

impl Model<'_> {
    fn on(&self, set: ReplySet, at: Millis) -> bool {
        self.plan.is_none_or(|plan| plan.is_open(at)) == (set == ReplySet::Hours)
    }

    /// The first moment of waiting within the set's hours: now, or the first minute of them.
    fn begin(&mut self, set: ReplySet) -> Option<Millis> {
        if let Some(known) = self.begins.get(&set) {
            return *known;
        }
        let mut at = self.waiting_since;
        while !self.on(set, at) && at < self.waiting_since + FAR {
            at += MINUTE - at.rem_euclid(MINUTE);
        }
        let begin = Some(at).filter(|at| self.on(set, *at));
        self.begins.insert(set, begin);
        begin
    }

    fn occurrences(&mut self, set: ReplySet) -> Vec<(Millis, Sent)> {
        let Some(begin) = self.begin(set) else { return Vec::new() };
        let mut all = Vec::new();
        for (index, reply) in self.rules.replies(set).iter().enumerate() {
            all.push((begin + reply.after, (set, index, 0)));
            if let Some(every) = reply.repeat_every {
                for repetition in 1..=reply.repeat_limit {
                    all.push((begin + reply.after + every * Millis::from(repetition), (set, index, repetition)));
                }
            }
        }
        all.sort_unstable();
        all
    }

    fn sends(&mut self, now: Millis) -> Vec<Sent> {
        let set = if self.on(ReplySet::Hours, now) { ReplySet::Hours } else { ReplySet::OffHours };
        let due: Vec<_> =
            self.occurrences(set).into_iter().filter(|(at, sent)| *at <= now && !self.decided.contains(sent)).collect();
        self.decided.extend(due.iter().map(|(_, sent)| *sent));
        let within: Vec<_> = due.into_iter().filter(|(at, _)| self.on(set, *at)).collect();
        let latest = within.iter().map(|(at, _)| *at).max().unwrap_or(Millis::MIN);
        if now.saturating_sub(latest) > LATE {
            return Vec::new();
        }
        within.into_iter().filter(|(at, _)| *at >= latest - TOGETHER).map(|(_, sent)| sent).collect()
    }

    fn next(&mut self, now: Millis) -> Option<Millis> {
        let all = [self.occurrences(ReplySet::Hours), self.occurrences(ReplySet::OffHours)].concat();
        all.into_iter()
            .filter(|(at, sent)| *at > now && !self.decided.contains(sent) && self.on(sent.0, *at))
            .map(|(at, _)| at)
            .min()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Writes,
    Starts,
    AgentAnswers,
    Closed,
    Leaves,
    BotHandsOver,
    Nothing,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => Just(Act::Writes),
        2 => Just(Act::Starts),
        1 => Just(Act::AgentAnswers),
        2 => Just(Act::Closed),
        1 => Just(Act::Leaves),
        2 => Just(Act::BotHandsOver),
        3 => Just(Act::Nothing),
    ]
}

fn sent(effects: &[Effect]) -> Vec<Sent> {
    let reply = |effect: &Effect| match effect {
        Effect::SendAutoReply { set, index, occurrence, .. } => Some((*set, *index, *occurrence)),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

fn restart(dialog: &Dialog) -> Dialog {
    serde_json::from_str(&serde_json::to_string(dialog).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(super::cases(3000))]

    #[test]
    fn replies_are_sent_as_an_obvious_model_says_through_hours_outages_and_restarts(
        plan in prop::option::of(plans()),
        auto_replies in sets(),
        off in sets(),
        bot in any::<bool>(),
        start in moments(),
        acts in prop::collection::vec((acts(), 0i64..400, any::<bool>()), 1..8),
    ) {
        let rules = Rules {
            auto_replies,
            working_hours: plan.as_ref().map(Plan::hours),
            off_hours: OffHours::AutoReplies(off),
            receiver: if bot { Receiver::Bot } else { Receiver::People },
            ..Rules::default()
        };
        let mut now = start;
        let mut dialog = Dialog::default();
        // The model's dialog: none, with the bot, waiting, or served.
        let mut open = false;
        let mut with_bot = false;
        let mut model: Option<Model<'_>> = None;
        let mut chats = 0;

        for (number, (act, minutes, running)) in acts.iter().enumerate() {
            // Time passes: with the relay running, which ticks when it has asked to be, or down.
            let until = now + minutes * MINUTE;
            if *running {
                while let Some(due) = next_due(&rules, &dialog).filter(|due| *due < until) {
                    prop_assert!(due > now, "time goes on");
                    now = due;
                    dialog = restart(&dialog);
                    let effects = step(&rules, &mut dialog, &Event::Tick, Context { now, ..Context::default() });
                    prop_assert_eq!(sent(&effects), model.as_mut().map(|model| model.sends(now)).unwrap_or_default());
                }
            }
            now = until;
            let waits = |since| Model {
            plan: plan.as_ref(),
            rules: &rules,
            waiting_since: since,
            begins: BTreeMap::new(),
            decided: BTreeSet::new(),
        };
            let event = match act {
                Act::Writes | Act::Starts => {
                    if !open {
                        (open, with_bot) = (true, bot);
                        model = (!bot).then(|| waits(now));
                        chats += 1;
                    }
                    if matches!(act, Act::Writes) { Event::Wrote { message: format!("mid.{number}") } } else { Event::Started }
                }
                Act::AgentAnswers if dialog.has_written() => {
                    (model, with_bot) = (None, false);
                    Event::AgentAnswered { chat: Uuid::from_u128(chats) }
                }
                Act::Closed if dialog.has_written() => {
                    (model, open, with_bot) = (None, false, false);
                    Event::ChatClosed { chat: Uuid::from_u128(chats), by: ClosedBy::Agent }
                }
                Act::Leaves if !dialog.has_written() => {
                    (model, open, with_bot) = (None, false, false);
                    Event::Left
                }
                Act::BotHandsOver => {
                    if with_bot {
                        with_bot = false;
                        model = Some(waits(now));
                    }
                    Event::BotHandedOver
                }
                _ => Event::Tick,
            };
            dialog = restart(&dialog);
            let effects = step(&rules, &mut dialog, &event, Context { now, ..Context::default() });
            prop_assert_eq!(sent(&effects), model.as_mut().map(|model| model.sends(now)).unwrap_or_default());
            if let Event::Wrote { message } = event {
                let taken = Event::Taken { message, chat: Uuid::from_u128(chats) };
                prop_assert_eq!(step(&rules, &mut dialog, &taken, Context { now, ..Context::default() }), []);
            }
            let next = model.as_mut().and_then(|model| model.next(now));
            let asked = next_due(&rules, &dialog);
            prop_assert!(asked == next || asked.is_some_and(|asked| asked > start + FAR), "{asked:?} {next:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_neither_doubles_nor_loses_nor_puts_off_a_reply_or_the_closing(
        auto_replies in sets(),
        jumps in prop::collection::vec((1i64..200, 0i64..600), 0..6),
    ) {
        let rules = Rules { auto_replies, auto_close: Some(1000 * MINUTE), ..Rules::default() };
        let chat = Uuid::from_u128(1);
        let mut dialog = Dialog::default();
        let start = 1_790_000_000_000;
        let (mut now, mut set_back) = (start, 0);
        let mut all = Vec::new();
        let mut closed = Vec::new();
        let mut run = |event: &Event, now: Millis, set_back: Millis, dialog: &mut Dialog| {
            *dialog = restart(dialog);
            let effects = step(&rules, dialog, event, Context { now, ..Context::default() });
            let elapsed = now + set_back - start;
            all.extend(sent(&effects).into_iter().map(|sent| (sent, elapsed)));
            closed.extend(effects.iter().filter(|effect| matches!(effect, Effect::CloseChat { .. })).map(|_| elapsed));
        };
        run(&Event::Wrote { message: "mid.1".to_owned() }, now, 0, &mut dialog);
        run(&Event::Taken { message: "mid.1".to_owned(), chat }, now, 0, &mut dialog);
        for (minutes, back) in jumps.into_iter().chain([(2000, 0)]) {
            let end = now + minutes * MINUTE;
            while let Some(due) = next_due(&rules, &dialog).filter(|due| *due <= end) {
                run(&Event::Tick, due, set_back, &mut dialog);
            }
            // The clock was right until then; the relay starts again with a clock that is not.
            run(&Event::Tick, end, set_back, &mut dialog);
            set_back += back * MINUTE;
            now = end - back * MINUTE;
            run(&Event::Tick, now, set_back, &mut dialog);
        }
        all.sort_unstable();
        let mut expected = Vec::new();
        for (index, reply) in rules.auto_replies.iter().enumerate() {
            for occurrence in 0..reply.occurrences() {
                if reply.due(occurrence) < 1000 * MINUTE {
                    expected.push(((ReplySet::Hours, index, occurrence), reply.due(occurrence)));
                }
            }
        }
        prop_assert_eq!(all, expected, "each reply once, when its time has elapsed");
        prop_assert_eq!(closed, [1000 * MINUTE]);
    }

    #[test]
    fn whatever_the_clock_does_nothing_comes_twice_in_a_burst_or_outside_its_hours(
        plan in plans(),
        auto_replies in sets(),
        off in sets(),
        start in moments(),
        jumps in prop::collection::vec(-600i64..600, 1..12),
    ) {
        let rules = Rules {
            auto_replies,
            working_hours: Some(plan.hours()),
            off_hours: OffHours::AutoReplies(off),
            ..Rules::default()
        };
        let mut dialog = Dialog::default();
        let mut now = start;
        let mut seen = BTreeSet::new();
        let mut event = Event::Started;
        for jump in jumps {
            dialog = restart(&dialog);
            let effects = step(&rules, &mut dialog, &event, Context { now, ..Context::default() });
            event = Event::Tick;
            let sent = sent(&effects);
            for key in &sent {
                prop_assert!(seen.insert(*key), "{key:?} came twice");
                prop_assert_eq!(plan.is_open(now), key.0 == ReplySet::Hours);
            }
            let due: Vec<_> = sent
                .iter()
                .map(|(set, index, occurrence)| rules.replies(*set)[*index].due(*occurrence))
                .collect();
            let spread = due.iter().max().unwrap_or(&0) - due.iter().min().unwrap_or(&0);
            prop_assert!(spread <= TOGETHER, "{sent:?} came at once");
            now = if jump % 3 == 0 { next_due(&rules, &dialog).unwrap_or(now) } else { now + jump * MINUTE };
        }
    }
}
