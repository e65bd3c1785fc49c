//! The relay as a whole against a slow and obvious model of its promises.
//!
//! A sequence is made of a seed: updates of all kinds, in dialogs and in a group, repeated, late,
//! odd; acts of agents; faults of either side and of the bot; a full disk; and restarts, kills and
//! the loss of the store in the middle. It is played in one process against the simulators of MAX
//! and Creatio, without a network and in the time of a paused runtime, which moves only while
//! everybody waits: hours take a moment. Then everything is mended, and when it has come to rest
//! the promises at the head of `src/relay/mod.rs` must hold ([`verdict`]).
//!
//! `make simulate` plays [`SEQUENCES`] of them; `make simulate SEED=7 SEQUENCES=1` plays one again.
//! The way in is one of the three, as the seed decides or `INTAKE=mangoDialogs` says. Through MANGO
//! OFFICE its simulator stands between that of MAX and the relay; the model is the same, but for
//! what MANGO OFFICE does not tell and for what is done in its own desk.
//! What fails is shortened to the steps that are needed and printed.
//!
//! What the seed decides: the setting, the steps, the pauses between them, how long each request
//! and answer is on its way, and which calls MAX gives up. What it does not: the fifth of chance in
//! the relay's own pauses, the order in which a task looks at several things that are ready, ids,
//! and with them the order of maps. So a seed nearly always plays the same, but a fault that hangs
//! on a few milliseconds may take some repetitions to be seen again: `SEQUENCES=20 REPEAT=1` plays
//! one seed twenty times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::similar_names, reason = "a plan is played")]
#![allow(clippy::struct_excessive_bools, reason = "a plan is made of choices that do not exclude each other")]

mod bot;
mod plan;
mod play;
mod random;
#[path = "../support/relay_config.rs"]
mod relay_config;
mod stage;
mod turns;
mod verdict;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plan::{Plan, Step};
use play::Play;

/// So many with the other tests; as many more as wanted by `make simulate`.
const SEQUENCES: u64 = 2_000;
/// How long everything may take to come to rest, in looks and in milliseconds between them.
const LOOKS: usize = 240;
const BETWEEN_LOOKS: i64 = 30_000;
/// So much longer it must stay as it is.
const STILL: i64 = 200_000;
/// How long a failing sequence is shortened, in real time.
const SHORTENING: Duration = Duration::from_mins(1);

#[test]
fn the_promises_hold_in_every_sequence() {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let first: u64 = setting("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"));
    let count = setting("SEQUENCES").map_or(SEQUENCES, |count| count.parse().expect("SEQUENCES is a number"));
    let (repeat, intake) = (setting("REPEAT").is_some(), setting("INTAKE"));
    let intake = intake.as_deref();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<(Plan, Failure)>> = Mutex::new(None);
    let counts: Mutex<HashMap<&'static str, usize>> = Mutex::default();
    let began = Instant::now();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let plan = Plan::new(if repeat { first } else { first + number }, intake);
                    match run(&plan, Some(&counts)) {
                        Ok(()) => {}
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            let mut failed = failed.lock().unwrap();
                            if failed.as_ref().is_none_or(|(known, _)| known.seed > plan.seed) {
                                *failed = Some((plan, failure));
                            }
                        }
                    }
                }
            });
        }
    });
    let played = next.into_inner().min(count);
    println!("{played} sequences from seed {first} in {:.1?}: {:?}", began.elapsed(), counts.into_inner().unwrap());
    if let Some((plan, failure)) = failed.into_inner().unwrap() {
        let (short, failure) = shorten(plan.clone(), failure);
        panic!(
            "seed {seed} breaks a promise (make simulate INTAKE={way} SEED={seed} SEQUENCES=1):\n{broken}\n\n\
             the {of} steps of seed {seed}, shortened to {left}:\n{short}\nwhat was to be seen then:\n{shown}",
            seed = plan.seed,
            way = intake.unwrap_or_default(),
            broken = failure.broken.join("\n"),
            of = plan.steps.len(),
            left = short.steps.len(),
            shown = failure.shown,
        );
    }
}

/// What went wrong in a sequence.
struct Failure {
    broken: Vec<String>,
    shown: String,
}

/// Plays a sequence and judges it.
fn run(plan: &Plan, counts: Option<&Mutex<HashMap<&'static str, usize>>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play_and_judge(plan, counts))));
    // A task that hangs must not hold the others.
    runtime.shutdown_background();
    played.unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let broken = vec![format!("a panic: {}", words.unwrap_or_default())];
        Err(Failure { broken, shown: String::new() })
    })
}

async fn play_and_judge(plan: &Plan, counts: Option<&Mutex<HashMap<&'static str, usize>>>) -> Result<(), Failure> {
    let mut play = Play::new(plan).await;
    for (step, pause) in &plan.steps {
        play.play(*step, *pause).await;
    }
    play.mend().await;
    let mut missing = Vec::new();
    for _ in 0..LOOKS {
        play.stage.pass_under_control(BETWEEN_LOOKS).await;
        missing = verdict::missing(&play, plan).await;
        if missing.is_empty() {
            break;
        }
    }
    play.stage.pass_under_control(STILL).await;
    let mut broken = missing;
    broken.extend(verdict::broken(&play, plan).await);
    if let Some(counts) = counts {
        verdict::coverage(&play, &mut counts.lock().unwrap());
    }
    play.stage.end(false).await;
    broken.extend(verdict::in_the_files(&play));
    if broken.is_empty() {
        return Ok(());
    }
    let mut shown = verdict::shown(&play);
    let _ = writeln!(shown, "MAX's calls: {:?}", play.stage.max.control().statistics().answers);
    if let Some(mango) = &play.stage.mango {
        let _ = writeln!(shown, "MANGO's: {}", mango.control().counters());
    }
    Err(Failure { broken, shown })
}

/// Leaves out of a failing sequence what is not needed for its failing, as far as time allows.
fn shorten(mut plan: Plan, mut failure: Failure) -> (Plan, Failure) {
    let until = Instant::now() + SHORTENING;
    let mut length = plan.steps.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < plan.steps.len() && Instant::now() < until {
            let mut fewer = plan.clone();
            fewer.steps.drain(at..(at + length).min(plan.steps.len()));
            match run(&fewer, None) {
                Err(again) => (plan, failure) = (fewer, again),
                Ok(()) => at += length,
            }
        }
        length /= 2;
    }
    (plan, failure)
}

#[test]
fn one_seed_is_one_plan() {
    for intake in [None, Some("webhook"), Some("longPoll"), Some("mangoDialogs")] {
        assert_eq!(Plan::new(7, intake).to_string(), Plan::new(7, intake).to_string());
        assert_ne!(Plan::new(7, intake).to_string(), Plan::new(8, intake).to_string());
    }
    // Every kind of step comes in some sequence.
    let kinds: std::collections::HashSet<std::mem::Discriminant<Step>> = (0..300)
        .flat_map(|seed| Plan::new(seed, (seed % 2 == 0).then_some("mangoDialogs")).steps)
        .map(|(step, _)| std::mem::discriminant(&step))
        .collect();
    assert_eq!(kinds.len(), 46, "kinds of steps");
}
