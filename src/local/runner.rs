//! One channel's task: the passes of its keeper, and its relay.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use super::{Input, Memory, Shared};
use crate::api::ChannelRef;
use crate::api::{MaxChannelStatus, Reason};
use crate::channel::keeper::Keeper;
use crate::channel::plan::KnownBot;
use crate::channel::report::RelayState;
use crate::channel::schedule::Subject;
use crate::relay::{Facts, Relay, RelayError, moving};
use crate::telemetry;
use crate::time::Millis;

/// Between two looks at the relay.
const RELAY_INTERVAL: Millis = 2_000;
/// Between two attempts to start a relay whose store cannot be opened.
const RESTART_PAUSE: Millis = 5_000;

/// The relay of a channel, as far as it runs.
#[derive(Debug, Default)]
struct Serving {
    relay: Option<Relay>,
    wanted: String,
    failure: Option<(String, Millis)>,
    /// Why the last configuration was not taken; told once.
    refused: Option<String>,
    facts: Option<Facts>,
}

pub(super) async fn run(
    shared: Shared,
    channel: ChannelRef,
    mut input: watch::Receiver<Input>,
    stop: CancellationToken,
) {
    let memory = Memory::of(&shared.data_dir, &channel);
    let mut keeper = Keeper::new(channel.clone(), shared.clients.clone(), memory.bot(), MaxChannelStatus::default());
    keeper.recall(memory.standing());
    keeper.set_cadence(shared.cadence.clone());
    let mut conflicts = shared.board.conflicts();
    let mut serving = Serving::default();
    let mut standing = keeper.standing().clone();
    loop {
        let given = input.borrow_and_update().clone();
        let conflict = conflicts.borrow_and_update().get(&channel).cloned();
        keeper.set(given.manifest.as_ref().map_err(Clone::clone), &given.secrets, shared.clock.now());
        keeper.set_conflict(conflict);
        let span = telemetry::traced(tracing::debug_span!(
            "pass",
            namespace = %channel.namespace,
            name = %channel.name,
            trace_id = field::Empty,
        ));
        tokio::select! {
            () = stop.cancelled() => break,
            // A change does not wait for a side that hangs; what was under way is looked at anew.
            changed = input.changed() => if changed.is_err() { break } else { continue },
            () = pass(&shared, &channel, &memory, &mut keeper, &mut serving, &mut conflicts).instrument(span) => {}
        }
        if *keeper.standing() != standing {
            standing = keeper.standing().clone();
            if let Err(error) = memory.keep_standing(&standing) {
                tracing::error!("{channel}: {error}");
            }
        }
        let now = shared.clock.now();
        // A due look that could not be made (nobody to ask) must not spin.
        let next = keeper.due().map_or(RELAY_INTERVAL, |due| due.saturating_sub(now)).clamp(200, RELAY_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = input.changed() => if changed.is_err() { break },
            _ = conflicts.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(next.unsigned_abs())) => {}
        }
    }
    // Taken from the port first: MAX is told to come again.
    shared.relays.remove(&channel.namespace, &channel.name);
    shared.relays.set_closed(&channel.namespace, &channel.name, false);
    if let Some(relay) = serving.relay {
        relay.stop().await;
    }
}

async fn pass(
    shared: &Shared,
    channel: &ChannelRef,
    memory: &Memory,
    keeper: &mut Keeper,
    serving: &mut Serving,
    conflicts: &mut watch::Receiver<std::collections::BTreeMap<ChannelRef, crate::channel::claims::Conflict>>,
) {
    let clock = || shared.clock.now();
    let before = keeper.bot().cloned();
    // A bot that is remembered needs no answer of MAX: what waits goes on while the looks are under way.
    if let Some(bot) = &before {
        shared.board.claim_bot(channel, bot.user_id);
    }
    keeper.set_conflict(conflicts.borrow().get(channel).cloned());
    serve(shared, channel, memory, keeper, serving).await;
    keeper.look_at_max(&clock).await;
    if let Some(bot) = keeper.bot() {
        if before.as_ref() != Some(bot) {
            remember(shared, channel, memory, before.as_ref(), bot, serving).await;
        }
        shared.board.claim_bot(channel, bot.user_id);
    }
    shared.board.looked(channel);
    if keeper.status().conditions.is_empty() {
        report(shared, channel, keeper, serving);
    }
    shared.board.settled().await;
    keeper.set_conflict(conflicts.borrow().get(channel).cloned());
    serve(shared, channel, memory, keeper, serving).await;
    act(shared, channel, keeper, serving).await;
    ask_relay(keeper, serving).await;
    report(shared, channel, keeper, serving);
    keeper.look_at_the_rest(&clock).await;
    // What was found out (an owner elsewhere) may mean another configuration.
    serve(shared, channel, memory, keeper, serving).await;
    act(shared, channel, keeper, serving).await;
    ask_relay(keeper, serving).await;
    report(shared, channel, keeper, serving);
}

/// Takes in what the relay says, and tells it of the subscription.
async fn ask_relay(keeper: &mut Keeper, serving: &mut Serving) {
    let Some(relay) = &serving.relay else { return };
    if let Some((made, _)) = keeper.subscribed() {
        relay.subscribed(made).await;
    }
    let facts = relay.facts().await;
    heed(keeper, serving.facts.as_ref(), &facts);
    serving.facts = Some(facts);
}

/// Remembers the channel's bot. Another bot's dialogs are others: what the one before left waiting is set aside, not mixed in.
async fn remember(
    shared: &Shared,
    channel: &ChannelRef,
    memory: &Memory,
    before: Option<&KnownBot>,
    bot: &KnownBot,
    serving: &mut Serving,
) {
    if let Some(former) = before.filter(|before| before.user_id != bot.user_id) {
        shared.relays.remove(&channel.namespace, &channel.name);
        if let Some(relay) = serving.relay.take() {
            relay.stop().await;
        }
        match memory.set_aside(former.user_id) {
            Ok(Some(folder)) => shared.board.say(&format!(
                "{channel}: the channel has another bot now; the messages of bot {} are kept in {}",
                former.user_id,
                folder.display()
            )),
            Ok(None) => {}
            Err(error) => tracing::error!("{channel}: {error}"),
        }
    }
    if let Err(error) = memory.keep_bot(bot) {
        tracing::error!("{channel}: {error}");
    }
}

async fn act(shared: &Shared, channel: &ChannelRef, keeper: &mut Keeper, serving: &Serving) {
    let clock = || shared.clock.now();
    for step in keeper.act(serving.relay.is_some(), &clock).await {
        match step.outcome {
            Ok(()) => shared.board.say(&format!("{channel}: {}", step.action)),
            Err(failure) => tracing::warn!("{channel}: {} did not succeed: {}", step.action, failure.detail),
        }
    }
}

/// A refusal that the relay met asks for a look at that side now, once per refusal.
fn heed(keeper: &mut Keeper, before: Option<&Facts>, now: &Facts) {
    if !now.max.ok && before.is_none_or(|before| before.max.ok || before.max.code != now.max.code) {
        keeper.ask(Subject::Bot);
        keeper.ask(Subject::Subscriptions);
    }
    if !now.crm.ok && before.is_none_or(|before| before.crm.ok || before.crm.code != now.crm.code) {
        keeper.ask(Subject::Crm);
    }
}

/// Brings the relay to the configuration that it shall have.
async fn serve(shared: &Shared, channel: &ChannelRef, memory: &Memory, keeper: &Keeper, serving: &mut Serving) {
    let Some(config) = keeper.relay() else {
        // What is not wanted is not missing.
        shared.relays.set_closed(&channel.namespace, &channel.name, false);
        if let Some(relay) = serving.relay.take() {
            shared.relays.remove(&channel.namespace, &channel.name);
            relay.stop().await;
        }
        return;
    };
    serving.wanted.clone_from(&config.channel.revision);
    if let Ok(folder) = memory.folder()
        && moving::is_held(folder)
    {
        if let Some(relay) = serving.relay.take() {
            shared.relays.remove(&channel.namespace, &channel.name);
            relay.stop().await;
            shared
                .board
                .say(&format!("{channel}: its store is being moved, or has left: nothing is carried from here"));
        }
        serving.facts = Some(Facts::of_moved(&serving.wanted, shared.clock.now()));
        return;
    }
    if let Some(relay) = &serving.relay {
        let refused = relay.apply(config).await.err().map(|error| error.to_string());
        if let Some(error) = refused.as_ref().filter(|_| refused != serving.refused) {
            tracing::error!("{channel}: {error}");
        }
        serving.refused = refused;
        return;
    }
    let now = shared.clock.now();
    if serving.failure.as_ref().is_some_and(|(_, at)| now - at < RESTART_PAUSE) {
        return;
    }
    let opened = match memory.folder() {
        Ok(folder) => Relay::open(config, folder, shared.clock.clone()).await.map_err(|error| {
            let of_the_store = matches!(error, RelayError::Store(_));
            (error.to_string(), of_the_store)
        }),
        Err(error) => Err((error, true)),
    };
    let closed = matches!(opened, Err((_, true)));
    shared.relays.set_closed(&channel.namespace, &channel.name, closed);
    match opened {
        Ok(relay) => {
            shared.relays.insert(&channel.namespace, &channel.name, relay.clone());
            *serving = Serving { wanted: std::mem::take(&mut serving.wanted), ..Serving::default() };
            serving.facts = Some(relay.facts().await);
            serving.relay = Some(relay);
        }
        Err((error, _)) => {
            tracing::error!("{channel}: {error}");
            serving.failure = Some((error, now));
        }
    }
}

fn report(shared: &Shared, channel: &ChannelRef, keeper: &mut Keeper, serving: &Serving) {
    let state = match (&serving.relay, &serving.facts, &serving.failure) {
        (Some(relay), Some(facts), _) => RelayState::Running {
            facts: Box::new(facts.clone()),
            open: relay.is_open(),
            wanted: serving.wanted.clone(),
        },
        (_, _, Some((detail, _))) => RelayState::Failed { reason: Reason::StoreUnwritable, detail: detail.clone() },
        _ => RelayState::Absent { detail: String::new() },
    };
    let status = keeper.report(&state, shared.clock.now()).clone();
    shared.board.publish(channel, &status);
}
