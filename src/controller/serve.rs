//! The relay of a channel, within one pass: its objects are brought to what they shall be, their
//! turn is kept among those whose pods are replaced, and it is asked how it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::cache::Cache;
use super::channel_state::{ChannelState, Settled};
use super::context::Context;
use super::objects::{Blueprint, HTTPRoute};
use super::owned::{delete, is_served, own_pod, prune, remove_if_there};
use super::refusal::Refusals;
use super::resource::Channel;
use super::rollouts::Turn;
use super::scope::Scope;
use super::start::News;
use super::status::tell;
use super::writer::{Change, Live, Owned, is_applied_otherwise};
use super::{Error, compare, names, objects, relay_link, rollouts, volume};
use crate::api::ChannelRef;
use crate::api::Reason;
use crate::channel::reconciler::{Brought, Done};
use crate::channel::relay_config::{with_log_level, with_shared_limit};
use crate::channel::report::{RelayState, Unapplied};
use crate::contract::RelayConfig;
use crate::time::{Backoff, Millis};

/// How long the kubelet is waited for before the pod is touched again.
/// The longest wait is short, because after an API server that was away the kubelet's own watches
/// come back at any time within a minute, and a touch before that brings nothing.
const TOUCH_AGAIN: Backoff = Backoff::doubling(Duration::from_secs(3), Duration::from_secs(10));
/// After so many touches, which is some five minutes, the relay itself must be refusing the
/// configuration: then it is touched rarely.
const TOUCHES: u32 = 30;
const TOUCH_RARELY: Millis = 120_000;

/// The relay as this pass finds and leaves it.
#[derive(Debug)]
pub struct Serving {
    pub found: RelayState,
    /// What it shall have.
    pub config: Option<RelayConfig>,
    pub changed: bool,
    waits_for_others: bool,
    asked: bool,
    /// Changes outside that were tried.
    pub done: Vec<Done>,
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
    pub async fn serve(
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
            context.ended_rollout(&name);
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
                )
                .with_public_host(settings.webhook_host.as_deref(), settings.webhook_ingress.as_ref());
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
            self.changed |= enlarge(context, channel, blueprint, refusals, &desired).await?;
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
        if is_foreign {
            // It would take a turn and not use it.
            context.ended_rollout(name);
        }
        let asks = is_due && !is_foreign;
        let waits = strands.or_else(|| asks.then(|| waits_for_others(context, scope, name, is_running)).flatten());
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

    /// Takes in what an errand has brought; whether anything is not as it was before.
    pub fn take(&mut self, state: &mut ChannelState, brought: Brought, now: Millis) -> bool {
        let taken = state.reconciler.take(brought, now);
        for step in taken.done {
            self.changed = true;
            match &step.outcome {
                Ok(()) => tracing::info!("{}", step.action),
                Err(failure) => tracing::warn!("{} did not succeed: {}", step.action, failure.detail),
            }
            self.done.push(step);
        }
        taken.is_news
    }
}

/// Makes the relay's volume as large as it shall be; whether it was enlarged.
async fn enlarge(
    context: &Context,
    channel: &Channel,
    blueprint: &Blueprint,
    refusals: &mut Refusals,
    desired: &str,
) -> Result<bool, Error> {
    let (name, now) = (&blueprint.channel, context.clock.now());
    let claim = blueprint.relay.storage.as_ref().and_then(|storage| storage.volume_claim.clone()).unwrap_or_default();
    let outcome = volume::resize(context, name, &claim.size(), claim.storage_class_name.as_deref()).await;
    let object = format!("PersistentVolumeClaim {}", names::claim(&name.name));
    let Some((is_enlarged, in_the_way)) = refusals.take("size", &object, desired, now, outcome)? else {
        return Ok(false);
    };
    if let Some(unapplied) = in_the_way {
        refusals.put("size", desired, now, unapplied);
    }
    if is_enlarged {
        let note = format!("{object} is enlarged to {}", claim.size());
        context.writer.event(channel, EventType::Normal, "VolumeEnlarged", "EnlargeVolume", &note).await;
    }
    Ok(is_enlarged)
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
        None => context.ended_rollout(name),
    }
}

/// Tells how a relay that is being replaced comes up, and whose turn is next.
pub async fn follow_rollout(context: &Context, scope: &Scope, channel: &Channel, relay: &RelayState) {
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
