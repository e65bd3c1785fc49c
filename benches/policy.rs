//! How many steps of the policy one core does, and what an open dialog weighs:
//! `cargo bench --bench policy`.
//!
//! 10 000 customers live through a whole dialog each, with the rules of the example in the README:
//! the start button, a message, its reply times, an agent who accepts and answers, more messages,
//! the closing. As the relay does, each step is followed by asking when the next is due.
//!
//! Asked for: 1 million a second on one core. Measured on two shared cores: 13 million steps, 7
//! million with the question; an open dialog is 200 bytes as a value, 245 as JSON.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use maxchannel::policy::{ClosedBy, Context, Dialog, Event, Rules, next_due, step};
use maxchannel::time::Millis;
use serde_json::json;
use uuid::Uuid;

const CUSTOMERS: u32 = 10_000;
const RUNS: usize = 9;
/// 2026-11-24 in Moscow, 10:00: within the hours of the rules.
const START: Millis = 1_795_503_600_000;

fn rules() -> Rules {
    serde_json::from_value(json!({
        "autoReplies": [
            {"after": 30_000, "text": "Здравствуйте! Ищем свободного оператора."},
            {"after": 180_000, "repeatEvery": 300_000, "repeatLimit": 3, "text": "Вы в очереди, ответим в порядке обращения."},
        ],
        "workingHours": {"timeZone": "Europe/Moscow",
            "week": [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "18:00"}], "holidays": ["2027-01-01"]},
        "offHours": {"autoReplies": [{"after": 0, "text": "Мы ответим в рабочее время."}]},
        "receiver": "people",
        "closeMessage": "Спасибо за обращение!",
        "autoClose": 86_400_000,
    }))
    .expect("the rules are written as the policy reads them")
}

/// A dialog as it goes, with the milliseconds since its start.
fn story(chat: Uuid) -> Vec<(Millis, Event)> {
    let wrote = |number: u32| Event::Wrote { message: format!("mid.{number:032x}") };
    let taken = |number: u32| Event::Taken { message: format!("mid.{number:032x}"), chat };
    vec![
        (0, Event::Started),
        (5_000, wrote(1)),
        (5_100, taken(1)),
        (30_000, Event::Tick),
        (60_000, wrote(2)),
        (60_100, taken(2)),
        (180_000, Event::Tick),
        (200_000, Event::AgentAccepted { chat }),
        (230_000, Event::AgentAnswered { chat }),
        (250_000, wrote(3)),
        (250_100, taken(3)),
        (300_000, Event::AgentAnswered { chat }),
        (400_000, Event::ChatClosed { chat, by: ClosedBy::Agent }),
    ]
}

fn run(rules: &Rules, stories: &[Vec<(Millis, Event)>], ask: bool) -> (u32, Duration) {
    let mut dialogs = vec![Dialog::default(); stories.len()];
    let mut steps = 0;
    let begin = Instant::now();
    for (dialog, story) in dialogs.iter_mut().zip(stories) {
        for (after, event) in story {
            let context = Context { now: START + after, ..Context::default() };
            black_box(step(rules, dialog, event, context));
            if ask {
                black_box(next_due(rules, dialog));
            }
            steps += 1;
        }
    }
    (steps, begin.elapsed())
}

fn main() {
    let rules = rules();
    let stories: Vec<_> = (0..CUSTOMERS).map(|customer| story(Uuid::from_u128(u128::from(customer) + 1))).collect();
    for (name, ask) in [("step", false), ("step and next_due", true)] {
        let mut rates: Vec<_> = (0..RUNS)
            .map(|_| {
                let (steps, time) = run(&rules, &stories, ask);
                f64::from(steps) / time.as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.2} million a second (median of {RUNS} runs of {} steps)",
            rates[RUNS / 2] / 1e6,
            CUSTOMERS * 13
        );
    }

    let mut dialog = Dialog::default();
    let mut heaviest = 0;
    for (after, event) in &story(Uuid::from_u128(u128::MAX))[..12] {
        step(&rules, &mut dialog, event, Context { now: START + after, ..Context::default() });
        heaviest = heaviest.max(serde_json::to_string(&dialog).expect("a dialog can be written down").len());
    }
    println!(
        "an open dialog: {} bytes as a value, without its few small lists; at most {heaviest} bytes as JSON",
        size_of::<Dialog>()
    );
}
