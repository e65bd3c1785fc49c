//! One channel's task: the passes of its reconciler, and its relay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing::{Instrument as _, field};

use super::{Input, Memory, Shared};
use crate::api::{ChannelRef, Reason};
use crate::channel::claims::Conflict;
use crate::channel::errands::{Awaiting, Errands};
use crate::channel::pass::{MOMENT, Shell, pass};
use crate::channel::plan::KnownBot;
use crate::channel::reconciler::{Brought, May, Reconciler, Side};
use crate::channel::report::RelayState;
use crate::contract::Facts;
use crate::relay::http::Beginning;
use crate::relay::{Ground, Relay, RelayError, moving};
use crate::telemetry;
use crate::time::Millis;

/// Between two checks of the relay.
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

impl Serving {
    fn state(&self) -> RelayState {
        match (&self.relay, &self.facts, &self.failure) {
            (Some(relay), Some(facts), _) => RelayState::Running {
                facts: Box::new(facts.clone()),
                open: relay.is_open(),
                wanted: self.wanted.clone(),
            },
            (None, Some(facts), _) if facts.store_away().is_some() => {
                RelayState::Running { facts: Box::new(facts.clone()), open: false, wanted: self.wanted.clone() }
            }
            (_, _, Some((detail, _))) => RelayState::Failed { reason: Reason::StoreUnwritable, detail: detail.clone() },
            _ => RelayState::Absent { detail: String::new() },
        }
    }
}

pub(super) async fn run(
    shared: Shared,
    channel: ChannelRef,
    mut input: watch::Receiver<Input>,
    beginning: Option<Beginning>,
    stop: CancellationToken,
) {
    let memory = Memory::of(&shared.data_dir, &channel);
    let mut reconciler = Reconciler::new(channel.clone(), shared.clients.clone(), memory.bot(), Arc::default());
    reconciler.recall(memory.standing());
    reconciler.set_cadence(shared.cadence.clone());
    let conflicts = shared.registry.conflicts();
    let mut standing = reconciler.standing().clone();
    let mut task = Task {
        remembered: reconciler.bot().cloned(),
        errands: Errands::new(Arc::default()),
        serving: Serving::default(),
        wake: Arc::default(),
        shared,
        channel,
        memory,
        reconciler,
        conflicts,
        beginning,
    };
    loop {
        let given = input.borrow_and_update().clone();
        task.begin(&given);
        let span = telemetry::traced(tracing::debug_span!(
            "pass",
            namespace = %task.channel.namespace,
            name = %task.channel.name,
            trace_id = field::Empty,
        ));
        let mut steps = Steps { task: &mut task, is_settled: false, awaiting: None, until: None };
        tokio::select! {
            () = stop.cancelled() => break,
            // A change does not wait for a side that hangs.
            changed = input.changed() => if changed.is_err() { break } else { continue },
            outcome = pass(&mut steps).instrument(span) => { let Ok(()) = outcome; }
        }
        drop(steps);
        if *task.reconciler.standing() != standing {
            standing = task.reconciler.standing().clone();
            if let Err(error) = task.memory.keep_standing(&standing) {
                tracing::error!("{}: {error}", task.channel);
            }
        }
        let pause = task.pause();
        tokio::select! {
            () = stop.cancelled() => break,
            changed = input.changed() => if changed.is_err() { break },
            _ = task.conflicts.changed() => {}
            () = task.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    // Taken from the port first: MAX is told to come again.
    let Task { shared, channel, serving, .. } = task;
    shared.relays.remove(&channel.namespace, &channel.name);
    shared.relays.set_closed(&channel.namespace, &channel.name, false);
    if let Some(relay) = serving.relay {
        relay.stop().await;
    }
}

/// What is kept of the channel between passes.
struct Task {
    shared: Shared,
    channel: ChannelRef,
    memory: Memory,
    reconciler: Reconciler,
    /// The bot that the data folder has.
    remembered: Option<KnownBot>,
    conflicts: watch::Receiver<BTreeMap<ChannelRef, Conflict>>,
    /// What is under way outside.
    errands: Errands,
    /// Something came back while no pass waited for it.
    wake: Arc<Notify>,
    serving: Serving,
    /// Until the relay has been served for the first time.
    beginning: Option<Beginning>,
}

impl Task {
    fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    /// Takes the manifest and the secrets of the moment.
    fn begin(&mut self, given: &Input) {
        let now = self.now();
        self.reconciler.set(given.manifest.as_ref().map_err(Clone::clone), &given.secrets, now);
        self.learn_conflict();
    }

    fn learn_conflict(&mut self) {
        let conflict = self.conflicts.borrow_and_update().get(&self.channel).cloned();
        self.reconciler.set_conflict(conflict);
    }

    /// Until the next pass.
    fn pause(&self) -> Duration {
        let due = self.reconciler.due_at(|side| !self.errands.is_busy(side));
        // A due probe that could not be made (nobody to ask) must not spin.
        let next = due.map_or(RELAY_INTERVAL, |due| due.saturating_sub(self.now())).clamp(200, RELAY_INTERVAL);
        Duration::from_millis(next.unsigned_abs())
    }

    /// Takes in what came back from outside, and tells what was changed there.
    fn take(&mut self, brought: Brought) -> bool {
        let now = self.now();
        let taken = self.reconciler.take(brought, now);
        for step in taken.done {
            let channel = &self.channel;
            match step.outcome {
                Ok(()) => self.shared.registry.say(Level::INFO, &format!("{channel}: {}", step.action)),
                Err(failure) => tracing::warn!("{channel}: {} did not succeed: {}", step.action, failure.detail),
            }
        }
        taken.is_news
    }

    fn report(&mut self) {
        let now = self.now();
        let status = self.reconciler.report(&self.serving.state(), now).clone();
        self.shared.registry.publish(&self.channel, &status);
    }
}

/// The steps of a pass on this machine.
struct Steps<'a> {
    task: &'a mut Task,
    /// All channels of the beginning have said whose bots they are: whoever must stand back knows
    /// it.
    is_settled: bool,
    /// While it is there, nobody is woken for what comes back.
    awaiting: Option<Awaiting>,
    /// Until when what was sent is waited for.
    until: Option<Instant>,
}

impl Shell for Steps<'_> {
    type Error = Infallible;
    type Brought = Brought;

    async fn claim(&mut self) {
        let Task { shared, channel, memory, reconciler, remembered, serving, .. } = &mut *self.task;
        if let Some(bot) = reconciler.bot() {
            if remembered.as_ref() != Some(bot) {
                remember(shared, channel, memory, remembered.as_ref(), bot, serving).await;
                *remembered = Some(bot.clone());
            }
            shared.registry.claim_bot(channel, bot.user_id);
        }
        if !self.is_settled && !self.task.reconciler.awaits_bot() {
            self.task.shared.registry.looked(&self.task.channel);
            if self.task.reconciler.status().conditions.is_empty() {
                self.task.report();
            }
            self.task.shared.registry.settled().await;
            self.is_settled = true;
        }
        self.task.learn_conflict();
    }

    async fn serve(&mut self) -> Result<(), Infallible> {
        let Task { shared, channel, memory, reconciler, serving, .. } = &mut *self.task;
        serve(shared, channel, memory, reconciler, serving).await;
        self.task.beginning = None;
        let Task { reconciler, serving, .. } = &mut *self.task;
        ask_relay(reconciler, serving).await;
        Ok(())
    }

    fn send(&mut self, side: Side) -> bool {
        // Whose the bot is counts for the rest.
        if side != Side::Max && !self.is_settled {
            return false;
        }
        let now = self.task.now();
        let Task { reconciler, errands, serving, wake, .. } = &mut *self.task;
        self.awaiting.get_or_insert_with(|| errands.expect());
        let (may, wake): (May, _) = (Arc::new(|| true), wake.clone());
        errands.send_due(reconciler, (side, &serving.state()), &may, now, move || wake.notify_one())
    }

    async fn next(&mut self, is_awaited: bool) -> Option<Brought> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + MOMENT);
        self.task.errands.next_or_arrived(is_awaited, until).await
    }

    fn take(&mut self, brought: Brought) -> bool {
        self.task.take(brought)
    }

    async fn report(&mut self) -> Result<(), Infallible> {
        drop(self.awaiting.take());
        while let Some(brought) = self.task.errands.arrived() {
            self.task.take(brought);
            // Between the last probe and this one: the rest is for the next pass.
            self.task.wake.notify_one();
        }
        self.task.report();
        Ok(())
    }
}

/// Takes in what the relay says, and tells it of the subscription.
async fn ask_relay(reconciler: &mut Reconciler, serving: &mut Serving) {
    let Some(relay) = &serving.relay else { return };
    if let Some((made, _)) = reconciler.subscribed() {
        relay.subscribed(made).await;
    }
    let facts = relay.facts().await;
    reconciler.hear(serving.facts.as_ref(), &facts);
    serving.facts = Some(facts);
}

/// Remembers the channel's bot. Another bot's dialogs are others: what the one before left waiting
/// is set aside, not mixed in.
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
            Ok(Some(folder)) => shared.registry.say(
                Level::INFO,
                &format!(
                    "{channel}: the channel has another bot now; the messages of bot {} are kept in {}",
                    former.user_id,
                    folder.display()
                ),
            ),
            Ok(None) => {}
            Err(error) => tracing::error!("{channel}: {error}"),
        }
    }
    if let Err(error) = memory.keep_bot(bot) {
        tracing::error!("{channel}: {error}");
    }
}

/// Brings the relay to the configuration that it shall have.
async fn serve(shared: &Shared, channel: &ChannelRef, memory: &Memory, reconciler: &Reconciler, serving: &mut Serving) {
    let Some(config) = reconciler.relay() else {
        // What is not wanted is not missing.
        shared.relays.set_closed(&channel.namespace, &channel.name, false);
        if let Some(relay) = serving.relay.take() {
            shared.relays.remove(&channel.namespace, &channel.name);
            relay.stop().await;
        }
        // Nobody looks any more whether the store is away.
        serving.facts = serving.facts.take().filter(|facts| facts.store_away().is_none());
        return;
    };
    serving.wanted.clone_from(&config.channel.revision);
    if let Ok(folder) = memory.folder()
        && let Some(trouble) = moving::why_held(folder)
    {
        if let Some(relay) = serving.relay.take() {
            shared.relays.remove(&channel.namespace, &channel.name);
            relay.stop().await;
            shared.registry.say(
                Level::INFO,
                &format!("{channel}: its store is being moved, or has left: nothing is carried from here"),
            );
        }
        serving.facts = Some(Facts::without_store(&serving.wanted, trouble, shared.clock.now()));
        return;
    }
    if serving.relay.is_none() {
        // What stands here speaks of a store that was away.
        serving.facts = None;
    }
    if let Some(relay) = &serving.relay {
        let refused = relay.apply(config).await.err().map(|error| error.to_string());
        if let Some(error) = refused.as_ref().filter(|_| refused != serving.refused) {
            tracing::error!("{channel}: {error}");
        }
        serving.refused = refused;
        return;
    }
    // By passed time: a clock that is set back keeps nothing closed.
    let now = shared.clock.passed();
    if serving.failure.as_ref().is_some_and(|(_, at)| now - at < RESTART_PAUSE) {
        return;
    }
    let opened = match memory.folder() {
        Ok(folder) => {
            let ground = Ground::Real(shared.clients.sites().clone());
            Relay::open_on(ground, config, folder, shared.clock.clone()).await.map_err(|error| {
                let of_the_store = matches!(error, RelayError::Store(_));
                (error.to_string(), of_the_store)
            })
        }
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
