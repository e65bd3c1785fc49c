//! One pass over one channel, as a table of contents: dereference -> validate -> observe -> build
//! -> apply -> plan and execute -> status.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;

use super::cache::{Cache, Seen};
use super::channel_state::{ChannelState, Settled};
use super::context::Context;
use super::objects::{self, Blueprint, HTTPRoute};
use super::refusal;
use super::relay_link;
use super::resource::Channel;
use super::rollouts::{self, Turn};
use super::scope::Scope;
use super::start::{News, Start};
use super::withheld::Withheld;
use super::writer::{Change, Deleted, Live, Owned, is_applied_otherwise, is_controlled_by};
use super::{Error, compare, events, names, start, volume};
use crate::api::ChannelRef;
use crate::api::{ConditionType, Reason, conditions};
use crate::channel;
use crate::channel::errands::Awaiting;
use crate::channel::pass::{MOMENT, Shell};
use crate::channel::reconciler::{Brought, Done, May, Side};
use crate::channel::relay_config::{with_log_level, with_shared_limit};
use crate::channel::report::{RelayState, Unapplied};
use crate::contract::RelayConfig;
use crate::time::{Backoff, Millis};

/// Between two checks of something that is about to change.
const SOON: Millis = 1_000;
/// A due probe that could not be made must not spin.
const NOT_SOONER: Millis = 2_000;
/// How long the kubelet is waited for before the pod is touched again.
/// The longest wait is short, because after an API server that was away the kubelet's own watches
/// come back at any time within a minute, and a touch before that brings nothing.
const TOUCH_AGAIN: Backoff = Backoff::doubling(Duration::from_secs(3), Duration::from_secs(10));
/// After so many touches, which is some five minutes, the relay itself must be refusing the
/// configuration: then it is touched rarely.
const TOUCHES: u32 = 30;
const TOUCH_RARELY: Millis = 120_000;
/// More channels than that are many.
const MANY: usize = 100;

/// What a pass did.
#[derive(Debug)]
pub struct Outcome {
    pub changed: bool,
    /// Something is on its way and nothing wrong with that.
    pub waiting: bool,
    pub again_in: Duration,
}

/// One pass over a channel that is not being deleted.
///
/// # Errors
/// The API server refuses or does not answer, or this replica leads no more.
pub async fn pass(
    context: &Context,
    scope: &Arc<Scope>,
    channel: &Arc<Channel>,
    state: &mut ChannelState,
) -> Result<Outcome, Error> {
    let clock = || context.clock.now();
    let name = channel.reference();
    if let Some(start) = &mut state.start {
        start.is_busy = scope.queue.is_busy();
    }
    let mut has_finalizer = true;
    if !channel.has_finalizer() {
        // Before anything is made outside. The watch brings the channel back with the finalizer.
        let outcome = context.writer.add_finalizer(channel).await;
        has_finalizer =
            state.refusals.take("finalizer", "the finalizer of the channel", "", clock(), outcome)?.is_some();
    }
    for kind in scope.take_deleted(&name) {
        state.applied.remove(kind);
    }

    state.dereference(channel, scope, context).await?;
    let judged = state.judge(channel, context);
    withhold(context, scope, channel, state).await?;
    let judged = judged.as_deref().map_err(|problems| state.withheld.told(problems.clone()));
    state.tell_reconciler(channel, judged, clock());
    state.reconciler.set_generation(channel.metadata.generation.unwrap_or(0));
    let relay = Serving::default();
    if !has_finalizer {
        claim(context, state, &name);
        // Whatever were made outside now could stay there for ever.
        let wrote = report(context, channel, state, &relay.found).await?;
        let again_in = next(context, (&name, state), false, false, clock());
        let again_in = Duration::from_millis(again_in.unsigned_abs());
        return Ok(Outcome { changed: wrote, waiting: true, again_in });
    }
    let mut steps = Steps { context, scope, channel, state, name, relay, awaiting: None, until: None, waiting: false };
    channel::pass::pass(&mut steps).await?;
    let Steps { waiting, ref relay, .. } = steps;
    Ok(Outcome { changed: relay.changed, waiting, again_in: steps.pause() })
}

/// The steps of a pass in a cluster.
struct Steps<'a> {
    context: &'a Context,
    scope: &'a Arc<Scope>,
    channel: &'a Arc<Channel>,
    state: &'a mut ChannelState,
    name: ChannelRef,
    relay: Serving,
    /// While it is there, nobody is kicked for what comes back.
    awaiting: Option<Awaiting>,
    /// Until when what was sent is waited for.
    until: Option<Instant>,
    /// Something is on its way to the relay.
    waiting: bool,
}

impl Steps<'_> {
    fn now(&self) -> Millis {
        self.context.clock.now()
    }

    fn pause(&self) -> Duration {
        let is_many = self.scope.channels.len() > MANY;
        let millis = next(self.context, (&self.name, self.state), is_many, self.waiting, self.now());
        Duration::from_millis(millis.unsigned_abs())
    }
}

impl Shell for Steps<'_> {
    type Error = Error;
    type Brought = Brought;

    async fn claim(&mut self) {
        claim(self.context, self.state, &self.name);
    }

    /// What is remembered needs no answer from outside: a relay that lost an object has it back
    /// before anybody is asked.
    async fn serve(&mut self) -> Result<(), Error> {
        Box::pin(self.relay.serve(self.context, self.scope, self.channel, self.state)).await
    }

    fn send(&mut self, side: Side) -> bool {
        let now = self.now();
        let (fence, channel) = (self.context.fence.clone(), self.name.clone());
        let may: May = Arc::new(move || fence.check(&channel).is_ok());
        let ChannelState { reconciler, errands, .. } = &mut *self.state;
        self.awaiting.get_or_insert_with(|| errands.expect());
        let (scope, name) = (self.scope.clone(), self.name.clone());
        errands.send_due(reconciler, (side, &self.relay.found), &may, now, move || scope.kick(&name))
    }

    async fn next(&mut self, is_awaited: bool) -> Option<Brought> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + MOMENT);
        self.state.errands.next_or_arrived(is_awaited, until).await
    }

    fn take(&mut self, brought: Brought) {
        let now = self.now();
        self.relay.take(self.state, brought, now);
    }

    async fn report(&mut self) -> Result<(), Error> {
        drop(self.awaiting.take());
        while let Some(brought) = self.state.errands.arrived() {
            self.take(brought);
            // Between the last probe and this one: the rest is for the next pass.
            self.scope.kick(&self.name);
        }
        let (context, channel) = (self.context, self.channel);
        tell_changes(context, channel, &self.relay.done).await;
        follow_rollout(context, self.scope, channel, &self.relay.found).await;
        let mut is_told = relay_link::tell_subscription(context, self.scope, self.state, &self.name).await;
        if let Some(config) = &self.relay.config {
            is_told &= relay_link::tell_share(context, self.scope, self.state, (channel, config)).await;
        }
        self.waiting = !is_told || self.relay.found.is_pending();
        let is_first = channel.conditions().is_empty() && self.state.written.is_none();
        if is_first
            && is_coming(self.state, &self.relay.found)
            && context.clock.now() < self.state.first_until(context, self.scope)
        {
            return Ok(());
        }
        self.relay.changed |= report(context, channel, self.state, &self.relay.found).await?;
        Ok(())
    }
}

/// Holds a relay back that an earlier process has told of hosts which are not allowed any more,
/// while there is nothing else to tell it.
async fn withhold(context: &Context, scope: &Scope, channel: &Channel, state: &mut ChannelState) -> Result<(), Error> {
    let now = context.clock.now();
    let ChannelState { withheld, refusals, good, .. } = state;
    if good.is_some() {
        *withheld = Withheld::default();
    } else if !refusals.waits("withheld", "", now) {
        let object = format!("Secret {}", names::relay(&channel.reference().name));
        let outcome = withheld.observe(context, scope, channel).await;
        refusals.take("withheld", &object, "", now, outcome)?;
    }
    Ok(())
}

/// Why the relay's pod may not be replaced now; if it may, it counts from here on.
fn waits_for_others(context: &Context, scope: &Scope, name: &ChannelRef, is_running: bool) -> Option<Unapplied> {
    let mut begun = rollouts::channels_of(scope.stateful_sets.marked(), &names::relay(""));
    // Of those that are going, or are none of ours, nothing is waited for.
    begun.retain(|other| is_served(scope, other));
    match context.rollouts.may_begin(name, is_running, scope.stateful_sets.len(), &begun) {
        Turn::Go => None,
        Turn::Wait(detail) => Some(Unapplied { reason: Reason::RolloutWaiting, detail, is_harmless: true }),
        Turn::Halted(detail) => Some(Unapplied { reason: Reason::RolloutHalted, detail, is_harmless: true }),
    }
}

/// Takes in what became of a StatefulSet that was to be applied: none, it was refused.
fn follow_change(
    context: &Context,
    name: &ChannelRef,
    change: Option<Change>,
    generation: Option<i64>,
    replaces: bool,
) {
    match change {
        // Written before, and the watch is late.
        Some(Change::None) if replaces => {}
        Some(Change::None) => context.rollouts.unchanged(name, generation),
        Some(_) => context.rollouts.written(name, generation),
        // It runs on as it is.
        None => context.rollouts.ended(name).iter().for_each(|next| context.kick(next)),
    }
}

/// Tells how a relay that is being replaced comes up, and whose turn is next.
async fn follow_rollout(context: &Context, scope: &Scope, channel: &Channel, relay: &RelayState) {
    let name = channel.reference();
    let failing = match relay {
        RelayState::Failed { reason, detail } => Some(format!("{reason}, {detail}")),
        RelayState::Absent { .. } | RelayState::Unheard | RelayState::Running { .. } => None,
    };
    if failing.is_none() && !context.rollouts.is_away(&name) {
        return;
    }
    let found = scope.stateful_sets.get(&name.namespace, &names::relay(&name.name));
    let pod = own_pod(scope, &name);
    let is_of_change = found.as_deref().zip(pod.as_deref()).is_none_or(|(set, pod)| rollouts::is_newest(set, pod));
    let failing = failing.filter(|_| is_of_change);
    let news = context.rollouts.observe(&name, found.as_deref(), failing.as_deref());
    if news.came_up {
        let note = "The relay runs as it was changed";
        context.writer.event(channel, EventType::Normal, "RelayUpdated", "RollOut", note).await;
    }
    if let Some(why) = news.failed {
        let note = format!("The changed relay does not come up ({why}): no other relay is changed until it does");
        context.writer.event(channel, EventType::Warning, "RolloutHalted", "RollOut", &note).await;
    }
    news.next.iter().for_each(|next| context.kick(next));
}

/// Events for what was changed outside.
pub async fn tell_changes(context: &Context, channel: &Channel, done: &[Done]) {
    for told in events::of_changes(done, context.settings.installation.language) {
        context.writer.event(channel, EventType::Normal, &told.reason, told.action, &told.note).await;
    }
}

pub async fn tell(context: &Context, channel: &Channel, all: impl IntoIterator<Item = News>) {
    for News { type_, reason, action, note, .. } in all {
        context.writer.event(channel, type_, &reason, &action, &note).await;
    }
}

/// Whether all is as it shall be, and the relay has nothing to do.
fn is_well(state: &ChannelState) -> bool {
    let ready = conditions::find(&state.reconciler.status().conditions, ConditionType::Ready);
    ready.is_some_and(|ready| ready.status == "True") && state.undelivered.is_some_and(|left| left.total() == 0)
}

/// How long until the next pass.
fn next(
    context: &Context,
    (name, state): (&ChannelRef, &ChannelState),
    is_many: bool,
    waits_for_relay: bool,
    now: Millis,
) -> Millis {
    let due = state
        .reconciler
        .due_at(|side| !state.errands.is_busy(side))
        .map(|due| if due <= now { NOT_SOONER } else { due - now });
    let pause = context.settings.relay_pause(name, now);
    // Where there are many, a relay that is well is asked when MAX is, which makes half the passes.
    let with_max = due.filter(|due| (pause..=2 * pause).contains(due) && is_many && is_well(state));
    let steady = if waits_for_relay { SOON } else { with_max.unwrap_or(pause) };
    let refused = state.refusals.due().map(|due| due - now);
    let told = state.warnings.due().map(|due| due - now);
    let first = state.first_until.filter(|_| state.written.is_none()).map(|due| due - now).filter(|due| *due > 0);
    let start = state.start.as_ref().and_then(Start::due).map(|due| due - now);
    [due, refused, told, first, start].into_iter().flatten().fold(steady, Millis::min).max(200)
}

/// Says what the channel asks for and finds out whether another holds it.
pub fn claim(context: &Context, state: &mut ChannelState, name: &ChannelRef) {
    let (_, api_key, bot) = state.reconciler.claim().unwrap_or_default();
    state.conflict = context.claim(name, api_key, bot);
    state.reconciler.set_conflict(state.conflict.clone());
}

/// The relay as this pass finds and leaves it.
#[derive(Debug)]
struct Serving {
    found: RelayState,
    /// What it shall have.
    config: Option<RelayConfig>,
    changed: bool,
    waits_for_others: bool,
    asked: bool,
    /// Changes outside that were tried.
    done: Vec<Done>,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            found: RelayState::Absent { detail: String::new() },
            config: None,
            changed: false,
            waits_for_others: false,
            asked: false,
            done: Vec::new(),
        }
    }
}

impl Serving {
    /// Brings the owned objects to what they shall be and asks the relay how it is.
    async fn serve(
        &mut self,
        context: &Context,
        scope: &Arc<Scope>,
        channel: &Channel,
        state: &mut ChannelState,
    ) -> Result<(), Error> {
        let name = channel.reference();
        if state.conflict.is_some() {
            state.settled = None;
            let pruned = prune(context, scope, channel, &BTreeSet::new()).await;
            let now = context.clock.now();
            self.changed |= state.refusals.take("deletion", "the relay", "", now, pruned)?.unwrap_or(false);
            context.rollouts.ended(&name).iter().for_each(|next| context.kick(next));
            self.found = RelayState::Absent { detail: String::new() };
            return Ok(());
        }
        let level = context.settings.log_level.borrow().clone();
        let config = state.reconciler.relay();
        let config = config.map(|config| with_log_level(with_shared_limit(config), level.as_deref()));
        self.config.clone_from(&config);
        let Some(manifest) = state.good.clone() else {
            // Never usable: what an earlier process has made stays as it is, or is held back.
            self.found = relay_link::probe(context, scope, state, &name, None).await;
            if let (RelayState::Running { facts, wanted, .. }, Some(held)) = (&mut self.found, &state.withheld.revision)
                && facts.revision != *held
            {
                wanted.clone_from(held);
                let held = held.clone();
                self.changed |= touch(context, scope, state, &name, &held).await?;
            }
            return Ok(());
        };
        let changed_before = std::mem::take(&mut self.changed);
        let is_for_later = holds_back(context, scope, state, &name);
        if let Some(config) = config.as_ref().filter(|_| !is_for_later) {
            // Most passes only ask how things stand: where neither the channel nor any object has
            // changed, nothing is compared again.
            let now = Settled {
                desired: channel.desired_hash(),
                revision: config.channel.revision.clone(),
                events: scope.events(&name),
            };
            if state.settled.as_ref() != Some(&now) {
                state.settled = None;
                let settings = &context.settings;
                let blueprint = Blueprint::new(
                    &name,
                    &manifest,
                    channel.owner(),
                    &settings.relay_image,
                    settings.relay_pull_policy.as_deref(),
                    &settings.relay_env,
                    &settings.relay_pods,
                );
                Box::pin(self.apply(context, scope, channel, state, &blueprint, config)).await?;
                // A route is not watched: whether it is still there shows only by another look.
                let has_route = context.settings.relay_pods.gateway.is_some();
                let is_settled = !self.changed && !self.waits_for_others && !has_route && state.refusals.is_empty();
                state.settled = Some(now).filter(|_| is_settled);
            }
        }
        // Asked once per pass, unless there is news for the relay.
        if self.changed || !std::mem::replace(&mut self.asked, true) {
            self.found = relay_link::probe(context, scope, state, &name, config.as_ref()).await;
        } else if let (RelayState::Running { wanted, .. }, Some(config)) = (&mut self.found, &config) {
            wanted.clone_from(&config.channel.revision);
        }
        self.changed |= changed_before;
        // Also of one that does not answer now: what it said last was under another configuration.
        if let (Some(facts), Some(config)) = (&state.facts, &config)
            && facts.revision != config.channel.revision
        {
            let wanted = config.channel.revision.clone();
            let now = context.clock.now();
            if !state.refusals.waits("touch", &wanted, now) {
                let touched = touch(context, scope, state, &name, &wanted).await;
                let object = format!("Pod {}", names::pod(&name.name));
                self.changed |= state.refusals.take("touch", &object, &wanted, now, touched)?.unwrap_or(false);
            }
        } else {
            state.refusals.clear("touch");
        }
        Ok(())
    }

    async fn apply(
        &mut self,
        context: &Context,
        scope: &Scope,
        channel: &Channel,
        state: &mut ChannelState,
        blueprint: &Blueprint,
        config: &RelayConfig,
    ) -> Result<(), Error> {
        let name = &blueprint.channel;
        let ChannelState { applied: memory, refusals, undelivered, .. } = state;
        let writer = &context.writer;
        let now = context.clock.now();
        let desired = format!("{:x} {}", channel.desired_hash(), config.channel.revision);
        let object = names::relay(&name.name);
        let mut changes = Vec::new();
        // Each by itself: what is refused of one does not keep the others.
        macro_rules! apply {
            ($kind:literal, $live:expr, $wanted:expr) => {
                if !refusals.waits($kind, &desired, now) {
                    let outcome = writer.apply($kind, memory, $live, $wanted).await;
                    let object = format!("{} {object}", $kind);
                    if let Some(change) = refusals.take($kind, &object, &desired, now, outcome)? {
                        changes.push(($kind, change));
                    }
                }
            };
        }
        let known_secret = scope.secrets.seen(&name.namespace, &object);
        let secret_live =
            known_secret.map_or(Live::<Secret>::Absent, |secret| Live::Version(secret.version.map(Into::into)));
        apply!("ServiceAccount", live(&scope.service_accounts, name), objects::service_account(blueprint));
        apply!("Secret", secret_live, objects::secret(blueprint, config));
        apply!("Service", live(&scope.services, name), objects::service(blueprint));
        apply!("NetworkPolicy", live(&scope.network_policies, name), objects::network_policy(blueprint));
        let mut wanted = objects::stateful_set(blueprint);
        let found = scope.stateful_sets.get(&name.namespace, &object);
        if let Some(found) = &found {
            volume::keep_template(&mut wanted, found);
        }
        if found.is_none() || blueprint.is_ephemeral() {
            refusals.clear("size");
        } else if !refusals.waits("size", &desired, now) {
            let claim = blueprint.relay.storage.as_ref().and_then(|storage| storage.volume_claim.clone());
            let claim = claim.unwrap_or_default();
            let outcome = volume::resize(context, name, &claim.size(), claim.storage_class_name.as_deref()).await;
            let object = format!("PersistentVolumeClaim {}", names::claim(&name.name));
            if let Some((is_enlarged, in_the_way)) = refusals.take("size", &object, &desired, now, outcome)? {
                if let Some(unapplied) = in_the_way {
                    refusals.put("size", &desired, now, unapplied);
                }
                if is_enlarged {
                    self.changed = true;
                    let note = format!("{object} is enlarged to {}", claim.size());
                    writer.event(channel, EventType::Normal, "VolumeEnlarged", "EnlargeVolume", &note).await;
                }
            }
        }
        self.waits_for_others = false;
        let replaces = found.as_ref().is_some_and(|found| replaces_pod(found, &wanted));
        // A pod would read another's Secret, or write into another's volume.
        if found.is_some() || blueprint.is_ephemeral() {
            refusals.clear("claim");
        } else if !refusals.waits("claim", &desired, now) {
            let outcome = may_use_claim(context, name).await;
            let claim = format!("PersistentVolumeClaim {}", names::claim(&name.name));
            refusals.take("claim", &claim, &desired, now, outcome)?;
        }
        let is_foreign = ["ServiceAccount", "Secret", "claim"].iter().any(|step| refusals.is_foreign(step));
        let is_running = found.as_ref().and_then(|found| found.status.as_ref()?.ready_replicas).unwrap_or(0) > 0;
        let tries_image = found.as_ref().is_some_and(|found| rollouts::has_another_image(found, &wanted));
        let is_due = replaces && (is_running || tries_image) && !refusals.waits("StatefulSet", &desired, now);
        let strands = volume::strands(found.as_deref(), &wanted, *undelivered);
        let has_turn = strands.is_none();
        let waits = strands.or_else(|| is_due.then(|| waits_for_others(context, scope, name, is_running)).flatten());
        let mut goes = waits.is_none();
        if let Some(unapplied) = waits {
            self.waits_for_others = true;
            refusals.put("rollout", &desired, now, unapplied);
            // The rest of the change may be what mends it.
            if let (true, false, Some(found)) = (has_turn, is_running, &found) {
                rollouts::keep_image(&mut wanted, found);
                goes = replaces_pod(found, &wanted);
            }
        } else if !is_foreign {
            refusals.clear("rollout");
        }
        if goes && !is_foreign {
            apply!("StatefulSet", Live::of(found.clone()), wanted);
            let change = changes.iter().find(|(kind, _)| *kind == "StatefulSet").map(|(_, change)| *change);
            let generation = memory.get("StatefulSet").and_then(|applied| applied.generation);
            follow_change(context, name, change, generation, replaces);
        }
        if let Some(ingress) = objects::ingress(blueprint) {
            apply!("Ingress", live(&scope.ingresses, name), ingress);
        } else {
            // What was applied before counts for nothing any more: the same may be wanted again at
            // once.
            memory.remove("Ingress");
            let removed = remove_if_there(context, &scope.ingresses, channel).await;
            let object = format!("Ingress {object}");
            self.changed |= refusals.take("Ingress", &object, &desired, now, removed)?.unwrap_or(false);
        }
        // Not watched, for many clusters do not know the kind: it is read whenever anything of the
        // channel has changed.
        if context.settings.relay_pods.gateway.is_some() {
            if let Some(route) = objects::http_route(blueprint) {
                apply!("HTTPRoute", Live::Unwatched, route);
            } else {
                memory.remove("HTTPRoute");
                let removed = delete::<HTTPRoute>(context, channel).await;
                let object = format!("HTTPRoute {object}");
                self.changed |= refusals.take("HTTPRoute", &object, &desired, now, removed)?.unwrap_or(false);
            }
        }
        self.tell_objects(context, channel, state, (blueprint, changes)).await;
        Ok(())
    }

    /// Events for what was made or made again.
    async fn tell_objects(
        &mut self,
        context: &Context,
        channel: &Channel,
        state: &mut ChannelState,
        (blueprint, changes): (&Blueprint, Vec<(&str, Change)>),
    ) {
        let name = &blueprint.channel;
        for (kind, change) in changes {
            self.changed |= change != Change::None;
            match change {
                Change::Made if kind == "StatefulSet" && blueprint.is_ephemeral() => {
                    let note = "The relay keeps undelivered messages on the pod's own disk: they die with the pod (relay.storage.ephemeral)";
                    context.writer.event(channel, EventType::Warning, "EphemeralStorage", "CreateRelay", note).await;
                }
                Change::Made if kind == "StatefulSet" => {
                    let news = News::done("RelayCreated", "CreateRelay", "The relay is made");
                    match &mut state.start {
                        Some(start) => start.keep(news, context.clock.now()),
                        None => tell(context, channel, [news]).await,
                    }
                }
                Change::Recreated => {
                    let note = format!(
                        "{kind} {} is made again, because it cannot be changed to what it shall be",
                        names::relay(&name.name)
                    );
                    context.writer.event(channel, EventType::Normal, "Recreated", "RecreateObject", &note).await;
                }
                _ => {}
            }
        }
    }

    /// Takes in what an errand has brought.
    fn take(&mut self, state: &mut ChannelState, brought: Brought, now: Millis) {
        for step in state.reconciler.take(brought, now) {
            self.changed = true;
            match &step.outcome {
                Ok(()) => tracing::info!("{}", step.action),
                Err(failure) => tracing::warn!("{} did not succeed: {}", step.action, failure.detail),
            }
            self.done.push(step);
        }
    }
}

/// Whether the relay of a new channel waits for the answer that says whether the bot is the
/// channel's: its configuration is then written once, and its pod begins with it. Not for long: a
/// CRM that hangs keeps nobody from seeing the relay.
fn holds_back(context: &Context, scope: &Scope, state: &mut ChannelState, name: &ChannelRef) -> bool {
    let is_made = state.applied.contains_key("Secret")
        || scope.secrets.seen(&name.namespace, &names::relay(&name.name)).is_some();
    let now = context.clock.now();
    !is_made && state.reconciler.awaits_marks() && now < state.first_until(context, scope)
}

/// Whether more is known in a moment: somebody is being asked or told.
fn is_coming(state: &ChannelState, relay: &RelayState) -> bool {
    let is_relay_coming = match relay {
        RelayState::Unheard => true,
        RelayState::Failed { reason, .. } => *reason == Reason::RelayUnreachable,
        RelayState::Running { .. } => relay.is_pending() || !state.reconciler.plan().is_empty(),
        RelayState::Absent { .. } => false,
    };
    is_relay_coming || state.errands.is_any()
}

fn live<K: Owned>(cache: &Cache<K>, channel: &ChannelRef) -> Live<K> {
    Live::of(cache.get(&channel.namespace, &names::relay(&channel.name)))
}

/// Whether the claim that the relay's pod would use may be used: there is none, or it was made for
/// a channel of this name, be it one that was deleted and has left its volume
/// (`deletionPolicy: Retain`), or by a version that did not say for which.
async fn may_use_claim(context: &Context, name: &ChannelRef) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.writer.client().clone(), &name.namespace);
    let Some(claim) = api.get_opt(&names::claim(&name.name)).await? else { return Ok(()) };
    let labels = names::labels(&name.name);
    let is_relays = labels.iter().all(|(key, value)| claim.labels().get(key) == Some(value));
    if is_relays || claim.annotations().contains_key(names::CHANNEL) {
        return Ok(());
    }
    Err(Error::Foreign("it was not made for a relay".to_owned()))
}

/// Whether applying would put another pod in the place of the one that runs, because something else
/// is wanted than before.
fn replaces_pod(found: &StatefulSet, wanted: &StatefulSet) -> bool {
    let template =
        |set: &StatefulSet| serde_json::to_value(set.spec.as_ref().map(|spec| &spec.template)).unwrap_or_default();
    is_applied_otherwise(found, wanted) && !compare::contains(&template(found), &template(wanted))
}

/// Deletes the owned objects that are not among `kept`.
async fn prune(context: &Context, scope: &Scope, channel: &Channel, kept: &BTreeSet<&str>) -> Result<bool, Error> {
    let mut changed = false;
    macro_rules! prune {
        ($($kind:literal: $store:expr),*) => {
            $(if !kept.contains($kind) { changed |= remove_if_there(context, $store, channel).await?; })*
        };
    }
    prune!(
        "Ingress": &scope.ingresses,
        "StatefulSet": &scope.stateful_sets,
        "Service": &scope.services,
        "NetworkPolicy": &scope.network_policies,
        "ServiceAccount": &scope.service_accounts
    );
    let name = channel.reference();
    let secret = scope.secrets.seen(&name.namespace, &names::relay(&name.name));
    if !kept.contains("Secret") && secret.is_some_and(|secret| is_seen_ours(&secret, channel)) {
        changed |= delete::<Secret>(context, channel).await?;
    }
    Ok(changed)
}

pub fn is_ours(object: &impl kube::Resource, channel: &Channel) -> bool {
    channel.metadata.uid.as_deref().is_some_and(|uid| is_controlled_by(object, uid))
}

pub fn is_seen_ours(object: &Seen, channel: &Channel) -> bool {
    channel.metadata.uid.is_some() && object.controller.as_deref() == channel.metadata.uid.as_deref()
}

/// Deletes the channel's object of a kind; another's of that name stays.
async fn delete<K: Owned>(context: &Context, channel: &Channel) -> Result<bool, Error> {
    let name = channel.reference();
    let relay = names::relay(&name.name);
    let deleted = context.writer.delete_own::<K>(&name, &relay, |found| is_ours(found, channel)).await?;
    Ok(matches!(deleted, Deleted::Done))
}

/// The relay's StatefulSet, where it is the channel's.
pub fn own_set(scope: &Scope, name: &ChannelRef) -> Option<Seen> {
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace))?;
    scope.stateful_sets.seen(&name.namespace, &names::relay(&name.name)).filter(|set| is_seen_ours(set, &channel))
}

/// Whether the channel is there to stay, and has a relay.
fn is_served(scope: &Scope, name: &ChannelRef) -> bool {
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace));
    channel.is_some_and(|channel| !channel.is_deleted()) && own_set(scope, name).is_some()
}

/// The relay's pod: the one that the channel's own StatefulSet has made.
pub fn own_pod(scope: &Scope, name: &ChannelRef) -> Option<Arc<Pod>> {
    let set = own_set(scope, name)?.uid?;
    let pod = scope.pods.get(&name.namespace, &names::pod(&name.name));
    pod.filter(|pod| is_controlled_by(&**pod, &set))
}

async fn remove_if_there<K: Owned>(context: &Context, cache: &Cache<K>, channel: &Channel) -> Result<bool, Error> {
    let name = channel.reference();
    let found = cache.get(&name.namespace, &names::relay(&name.name));
    let Some(found) = found.filter(|found| is_ours(&**found, channel)) else { return Ok(false) };
    if found.meta().deletion_timestamp.is_some() {
        return Ok(false);
    }
    delete::<K>(context, channel).await
}

/// Deletes everything that the channel owns in the cluster; what cannot be listed here goes with
/// its owner.
///
/// # Errors
/// As for the writes.
pub async fn remove_objects(context: &Context, scope: &Scope, channel: &Channel) -> Result<bool, Error> {
    prune(context, scope, channel, &BTreeSet::new()).await
}

/// How long the kubelet is waited for after it was touched `times` times again.
fn touch_pause(times: u32) -> Millis {
    if times < TOUCHES { TOUCH_AGAIN.millis_after(times) } else { TOUCH_RARELY }
}

/// Makes the kubelet bring the configuration to the pod now, and again where it was faster than its
/// own cache.
async fn touch(
    context: &Context,
    scope: &Scope,
    state: &mut ChannelState,
    name: &ChannelRef,
    revision: &str,
) -> Result<bool, Error> {
    let now = context.clock.now();
    let Some(pod) = own_pod(scope, name).filter(|_| context.settings.relay_link.has_pods()) else { return Ok(false) };
    let times = match &state.touched {
        Some((touched, times, at)) if touched == revision => {
            if now - at < touch_pause(*times) {
                return Ok(false);
            }
            times + 1
        }
        _ => 0,
    };
    context.writer.touch(name, &pod, &format!("{revision}-{times}")).await?;
    state.touched = Some((revision.to_owned(), times, now));
    Ok(true)
}

/// Writes the status where it differs, and tells of transitions.
pub async fn report(
    context: &Context,
    channel: &Channel,
    state: &mut ChannelState,
    relay: &RelayState,
) -> Result<bool, Error> {
    let now = context.clock.now();
    if let Some(start) = state.start.take_if(|start| start.is_late(now)) {
        tell(context, channel, start.end()).await;
    }
    state.reconciler.set_unapplied(state.refusals.all());
    let status = state.reconciler.report(relay, now).clone();
    let version = channel.resource_version();
    if let Some(there) = channel.status.as_ref().filter(|there| **there == status) {
        state.reconciler.share_status(there);
        if let Some((_, written)) = state.written.as_mut().filter(|(_, written)| written == there) {
            written.clone_from(there);
        }
        return Ok(false);
    }
    // The watch lags behind what was just written.
    if state.written.as_ref().is_some_and(|(from, written)| *from == version && *written == status) {
        return Ok(false);
    }
    let ready = conditions::find(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True");
    let is_troubled = state.reconciler.is_refused_at_max()
        || status.conditions.iter().any(|condition| start::is_trouble(condition, state.facts.is_some()));
    let before = state.written.as_ref().map(|(_, written)| written).or(channel.status.as_ref());
    let is_progress = !ready && !is_troubled && before.is_some_and(|before| start::is_of_same_wish(before, &status));
    if is_progress && state.start.as_mut().is_some_and(|start| start.holds_status(now)) {
        return Ok(false);
    }
    if let Err(error) = context.writer.status(channel, &status).await {
        if let Some((reason, words)) = refusal::reason(&error) {
            // Where the status cannot say it, an event does.
            let note = format!("The status of the channel cannot be written: {words}");
            context.writer.event(channel, EventType::Warning, reason.as_str(), "WriteStatus", &note).await;
        }
        return Err(error);
    }
    let before = state.written.replace((version, status.clone())).map(|(_, before)| before);
    let before = before.as_ref().map_or_else(|| channel.conditions(), |before| &before.conditions);
    let mut news: Vec<News> = status.conditions.iter().filter_map(|condition| transition(before, condition)).collect();
    if let Some(mut start) = state.start.take() {
        start.wrote_status(now);
        if is_troubled {
            news.splice(0..0, start.end());
        } else if ready {
            news = start.ready(news);
        } else {
            for news in news.drain(..) {
                start.keep(news, now);
            }
            state.start = Some(start);
        }
    }
    tell(context, channel, news).await;
    if ready && !state.was_ready {
        state.was_ready = true;
        if let Some(Time(made)) = &channel.metadata.creation_timestamp {
            let since = context.clock.now() - made.as_millisecond();
            context.metrics.time_to_ready.observe(Duration::from_millis(since.max(0).unsigned_abs()).as_secs_f64());
        }
    }
    Ok(true)
}

/// The news of a condition, if it has any worth an event: it fails, for another reason than before,
/// or it holds again.
fn transition(before: &[Condition], now: &Condition) -> Option<News> {
    let type_: ConditionType = now.type_.parse().ok()?;
    if type_ == ConditionType::Stalled {
        return None;
    }
    let before = before.iter().find(|before| before.type_ == now.type_);
    let was = before.map_or("Unknown", |before| before.status.as_str());
    let event = match now.status.as_str() {
        // What `Ready` says stands in the event of the condition that fails.
        "False"
            if type_ != ConditionType::Ready
                && before.is_none_or(|before| before.status != "False" || before.reason != now.reason) =>
        {
            if start::is_expected(now) {
                EventType::Normal
            } else {
                EventType::Warning
            }
        }
        "True" if was == "False" || (was != "True" && type_ == ConditionType::Ready) => EventType::Normal,
        _ => return None,
    };
    // Two conditions may fail for reasons of the same name.
    let (reason, action, note) = (now.reason.clone(), start::check(&now.type_), now.message.clone());
    Some(News { type_: event, reason, action, note, is_done: now.status == "True" })
}
