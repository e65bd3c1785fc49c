//! The end of a channel: unsubscribe, let the relay finish, deactivate the channel in the CRM, then
//! the objects, the volume claim included, and last the finalizer.
//!
//! Nothing that was acknowledged is thrown away: while the relay has messages that are not
//! delivered, the deletion waits, says for how many, and goes on by itself. What a relay said last
//! counts where it does not come back within the installation's patience, for since then something
//! may have come in; of one that has run and has not said anything to this process the deletion
//! waits for a word. Whoever does not want to says so by an annotation ([`names::FORCE_DELETE`]).
//! Where the volume is gone, or the pod that kept them on its own disk, there is nothing to wait
//! for.
//!
//! Else it never hangs: what cannot be taken away outside within the installation's patience,
//! counted in tries of this process ([`Tried`]), is named in an event, and the channel goes all the
//! same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::channel_state::{self, ChannelState, Judged};
use super::context::Context;
use super::owned::{self, is_seen_ours};
use super::pass::{self, Outcome};
use super::relay_link;
use super::relay_state::{self, PodState};
use super::resource::Channel;
use super::scope::Scope;
use super::writer::Deleted;
use super::{Error, names, status};
use crate::api::ChannelRef;
use crate::api::{DeletionPolicy, MaxChannel, key};
use crate::channel;
use crate::channel::claims::Conflict;
use crate::channel::reconciler::Done;
use crate::channel::report::RelayState;
use crate::channel::validate::Secrets;
use crate::contract::Undelivered;
use crate::contract::config::file;
use crate::time::Millis;

/// How long a relay that does not say what it has is waited for after nothing comes in any more.
const DRAIN: Millis = 30_000;
/// What is delivered sooner than this is not worth a word.
const TOLD_AFTER: Millis = 3_000;
/// Nothing waits for so long: nothing is under way.
const QUIET: Millis = 1_000;

/// For how long a deletion was tried: the time between two tries, and of a longer gap in which
/// nothing could be tried (without the API server, without the lease, in a machine that slept) no
/// more than a share of the patience.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    length: Millis,
    last: Option<Millis>,
}

impl Tried {
    /// So many tries at least, however long the gaps between them.
    const TRIES: Millis = 5;
    /// No gap at all: tries follow each other sooner.
    const NO_GAP: Millis = 5_000;

    /// Notes another try; answers for how long it was tried before.
    fn again(&mut self, passed: Millis, patience: Millis) -> Millis {
        let gap = self.last.map_or(0, |last| passed - last);
        self.length += gap.min((patience / Self::TRIES).max(Self::NO_GAP));
        self.last = Some(passed);
        self.length
    }
}

/// One pass over a channel that is being deleted.
///
/// # Errors
/// The API server refuses or does not answer, or this replica leads no more.
pub async fn pass(
    context: &Context,
    scope: &Scope,
    channel: &Arc<Channel>,
    state: &mut ChannelState,
) -> Result<Outcome, Error> {
    let done = |changed| Outcome { changed, waiting: false, again_in: Duration::from_hours(1) };
    if !channel.has_finalizer() {
        return Ok(done(false));
    }
    if let Some(start) = state.start.take() {
        status::tell(context, channel, start.end()).await;
    }
    // Whether it comes up as it was changed is nothing to wait for any more.
    context.ended_rollout(&channel.reference());
    let judged = state.judge(channel, context);
    let manifest = judged.or_else(|problems| state.good.clone().ok_or(problems));
    // Of a manifest that fits nothing what it says is read.
    let policy: DeletionPolicy = channel.member("deletionPolicy").unwrap_or_default();
    let now = context.clock.now();
    let patience = i64::try_from(context.settings.deletion_patience.as_millis()).unwrap_or(i64::MAX);
    let tried_for = state.deleting.again(context.clock.passed(), patience);
    let forced = channel.annotations().get(names::FORCE_DELETE).is_some_and(|value| value == "true");
    // With the volume left where it is, what is undelivered stays too.
    let keeps_store =
        policy == DeletionPolicy::Retain && manifest.as_deref().map_or(true, |manifest| !is_ephemeral(manifest));
    if policy == DeletionPolicy::Delete
        && let Err(left) = leave(context, scope, channel, state, &manifest, forced, patience).await?
    {
        if left.is_draining || tried_for < patience {
            return wait(context, channel, state, left, patience).await;
        }
        let note = format!("Left behind outside, take it away by hand: {}", left.sentences.join("; "));
        context.writer.event(channel, EventType::Warning, "ExternalObjectsLeft", "Delete", &note).await;
    }
    if !keeps_store {
        // Asked again: in between something may have come in.
        let (held, _) = undelivered(context, scope, channel, state, &manifest).await?;
        let is_told = matches!(held, Held::Known(undelivered) if undelivered != Undelivered::default());
        // One that stands back has no relay that could say more than it has.
        if is_told || (held == Held::Unknown && state.conflict.is_none()) {
            if !forced {
                let left = Left { again_in: Duration::from_secs(2), ..Left::draining(held) };
                return wait(context, channel, state, left, patience).await;
            }
            let note = format!("Dropped with the channel, as {} asks: {}", names::FORCE_DELETE, held.in_words());
            context.writer.event(channel, EventType::Warning, "UndeliveredDropped", "Delete", &note).await;
        }
    }
    let removed = remove(context, scope, channel, policy).await;
    if state.refusals.take("deletion", "what the channel has in the cluster", "", now, removed)?.is_some() {
        return Ok(done(true));
    }
    // As of a channel that stays, the server's words are told.
    state.reconciler.set_generation(channel.metadata.generation.unwrap_or(0));
    state.reconciler.set_deletion(None);
    let changed = status::report(context, channel, state, &RelayState::Absent { detail: String::new() }).await?;
    let again_in = state.refusals.due().map_or(patience, |due| due - now).max(1_000);
    Ok(Outcome { changed, waiting: true, again_in: Duration::from_millis(again_in.unsigned_abs()) })
}

/// Takes away what the channel has in the cluster, and last the finalizer.
async fn remove(context: &Context, scope: &Scope, channel: &Channel, policy: DeletionPolicy) -> Result<(), Error> {
    owned::remove_objects(context, scope, channel).await?;
    if policy == DeletionPolicy::Delete {
        remove_claim(context, channel).await?;
    }
    context.writer.remove_finalizer(channel).await
}

fn is_ephemeral(manifest: &MaxChannel) -> bool {
    manifest.spec.relay.storage.as_ref().is_some_and(|storage| storage.ephemeral.is_some())
}

/// Tells what the deletion waits for, in an event and in the status, each time that it changes.
async fn wait(
    context: &Context,
    channel: &Channel,
    state: &mut ChannelState,
    left: Left,
    patience: Millis,
) -> Result<Outcome, Error> {
    let mut told = left.sentences;
    let holds = left.held != Held::Known(Undelivered::default());
    if holds {
        told.insert(0, left.held.in_words());
    }
    let mut changed = false;
    if !told.is_empty() && told != state.waits_for {
        let (type_, note) = if holds {
            let note = format!(
                "Waits until everything is delivered: {}; {}: \"true\" drops it",
                told.join("; "),
                names::FORCE_DELETE
            );
            (EventType::Warning, note)
        } else {
            (EventType::Normal, format!("Waits up to {} s to clean up outside: {}", patience / 1_000, told.join("; ")))
        };
        // Events of one reason count as one and keep the first note: another number is another
        // event.
        let action = match left.held {
            Held::Known(undelivered) => format!("Delete{}", undelivered.total()),
            Held::Unknown => "DeleteUnheard".to_owned(),
        };
        context.writer.event(channel, type_, "DeletionWaits", &action, &note).await;
        state.reconciler.set_deletion(Some(told.join("; ")));
        state.waits_for = told;
        let relay = match &state.facts {
            Some(facts) => {
                RelayState::Running { facts: Box::new(facts.clone()), open: true, wanted: facts.revision.clone() }
            }
            None => RelayState::Absent { detail: String::new() },
        };
        changed = status::report(context, channel, state, &relay).await?;
    }
    Ok(Outcome { changed, waiting: true, again_in: left.again_in })
}

/// What the relay holds that was acknowledged and not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Known(Undelivered),
    /// It has run, does not answer, and has said nothing to this process.
    Unknown,
}

impl Held {
    fn in_words(self) -> String {
        match self {
            Self::Known(undelivered) => undelivered.in_words(),
            Self::Unknown => "what the relay has not delivered, which is not known while it does not run".to_owned(),
        }
    }
}

/// Deletes the volume claim where it was made for this channel; another's is named and stays.
async fn remove_claim(context: &Context, channel: &Channel) -> Result<(), Error> {
    let name = channel.reference();
    let claim = names::claim(&name.name);
    let is_ours = |found: &PersistentVolumeClaim| {
        let uid = found.annotations().get(names::CHANNEL);
        uid.is_some() && uid == channel.metadata.uid.as_ref()
    };
    if let Deleted::Foreign = context.writer.delete_own(&name, &claim, is_ours).await? {
        let note = format!(
            "PersistentVolumeClaim {claim} stays: it was not made for this channel, or by a version that did not note for which; \
             delete it by hand if nothing in it is needed"
        );
        context.writer.event(channel, EventType::Normal, "VolumeClaimLeft", "Delete", &note).await;
    }
    Ok(())
}

/// What is left outside for now.
struct Left {
    sentences: Vec<String>,
    /// The relay may still deliver something.
    is_draining: bool,
    held: Held,
    again_in: Duration,
}

impl Left {
    fn because(sentences: Vec<String>) -> Self {
        let held = Held::Known(Undelivered::default());
        Self { sentences, is_draining: false, held, again_in: Duration::from_secs(2) }
    }

    fn draining(held: Held) -> Self {
        // What goes at once is told to nobody.
        Self { sentences: Vec::new(), is_draining: true, held, again_in: Duration::from_millis(500) }
    }
}

/// Takes the channel's objects outside away, as far as it can be done now.
async fn leave(
    context: &Context,
    scope: &Scope,
    channel: &Channel,
    state: &mut ChannelState,
    manifest: &Judged,
    forced: bool,
    patience: Millis,
) -> Result<Result<(), Left>, Error> {
    let clock = || context.clock.now();
    let name = channel.reference();
    // A bot was never known: nothing can be outside.
    if state.reconciler.bot().is_none() {
        return Ok(Ok(()));
    }
    let manifest = match manifest {
        Ok(manifest) => &**manifest,
        Err(problems) => {
            let why = problems.join("; ");
            return Ok(Err(Left::because(vec![format!("all of {name}, because its manifest cannot be used: {why}")])));
        }
    };
    state.dereference(channel, scope, context).await?;
    let mut secrets = state.secrets();
    complete(context, scope, &name, manifest, &mut secrets).await?;
    for (name, data) in &state.gone {
        secrets.entry(name.clone()).or_insert_with(|| data.clone());
    }
    state.reconciler.set(Ok(manifest), &secrets, clock());
    pass::claim(context, state, &name);
    let has_relay = match &state.conflict {
        // Nothing outside is this channel's.
        Some(Conflict::Bot { .. }) => return Ok(Ok(())),
        // Of the account nothing is looked at or changed here; the bot and the marks are its own.
        Some(Conflict::Account { .. }) => {
            state.reconciler.set_conflict(None);
            false
        }
        None => true,
    };
    channel::pass::observe(&mut state.reconciler, &clock).await;
    context.fence.check(&name)?;
    let done = state.reconciler.leave_intake(&clock).await;
    status::tell_changes(context, channel, &done).await;
    let mut failures = sentences(&done);
    if failures.is_empty() {
        let passed = context.clock.passed();
        let left_for = passed - *state.left_at.get_or_insert(passed);
        if !forced && has_relay {
            let (held, word) = undelivered(context, scope, channel, state, &Ok(Arc::new(manifest.clone()))).await?;
            let nothing = Held::Known(Undelivered::default());
            if word == Word::Former && held == nothing {
                if left_for < patience.max(DRAIN) {
                    let held = if left_for < TOLD_AFTER { nothing } else { Held::Unknown };
                    return Ok(Err(Left::draining(held)));
                }
                let words = "The relay did not come back to say what it holds; when it last said so, that was nothing";
                context.writer.event(channel, EventType::Warning, "RelayUnheard", "Delete", words).await;
            } else {
                let is_idle = is_idle(context, scope, state, &name, held == nothing);
                if held != nothing && left_for >= TOLD_AFTER {
                    return Ok(Err(Left { again_in: Duration::from_secs(1), ..Left::draining(held) }));
                }
                if held != nothing || (left_for < DRAIN && !is_idle) {
                    return Ok(Err(Left::draining(nothing)));
                }
            }
        }
        context.fence.check(&name)?;
        let done = state.reconciler.remove(&clock).await;
        status::tell_changes(context, channel, &done).await;
        failures.extend(sentences(&done));
    }
    // What could not be looked at may hold something of ours.
    failures.extend(state.reconciler.unseen());
    Ok(if failures.is_empty() { Ok(()) } else { Err(Left::because(failures)) })
}

fn sentences(done: &[Done]) -> Vec<String> {
    let failed = done.iter().filter_map(|step| step.outcome.as_ref().err().map(|failure| (step, failure)));
    failed.map(|(step, failure)| format!("{} ({})", step.action, failure.detail)).collect()
}

/// Whether the relay has had nothing to deliver for a moment, or cannot be asked because there is
/// none.
fn is_idle(context: &Context, scope: &Scope, state: &mut ChannelState, name: &ChannelRef, holds_nothing: bool) -> bool {
    if !holds_nothing {
        state.idle_since = None;
        return false;
    }
    let pod = owned::own_pod(scope, name);
    let PodState::Running { .. } = relay_state::of_pod(pod.as_deref(), &[], context.clock.now()) else {
        return true;
    };
    let now = context.clock.passed();
    match &state.facts {
        Some(facts) if facts.oldest_seconds == 0 => now - *state.idle_since.get_or_insert(now) >= QUIET,
        _ => {
            state.idle_since = None;
            false
        }
    }
}

/// Whether more may be heard of what a relay holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It has just said so, has never run, or has nothing to come back with.
    Last,
    /// From before: it does not answer now, and may hold what has come in since.
    Former,
}

/// What the relay has not delivered: as it says now, or as it said last.
async fn undelivered(
    context: &Context,
    scope: &Scope,
    channel: &Channel,
    state: &mut ChannelState,
    manifest: &Judged,
) -> Result<(Held, Word), Error> {
    let name = channel.reference();
    state.facts = None;
    if let Some(place) = relay_link::place(context, scope, &name) {
        let config = state.reconciler.relay();
        if let Ok(facts) = relay_link::ask(context, &name, &place, config.as_ref()).await {
            state.undelivered = facts.undelivered_if_known().or(state.undelivered);
            state.facts = Some(facts);
        }
    }
    let has_run =
        channel.status.as_ref().is_some_and(|status| status.relay.is_some()) && context.settings.relay_link.has_pods();
    let held = match state.undelivered {
        Some(undelivered) => Held::Known(undelivered),
        None if has_run => Held::Unknown,
        None => Held::Known(Undelivered::default()),
    };
    let nothing = Held::Known(Undelivered::default());
    if state.facts.is_some() || !has_run {
        return Ok((held, Word::Last));
    }
    if !is_store_gone(context, scope, &name, manifest.as_deref().is_ok_and(is_ephemeral)).await? {
        return Ok((held, Word::Former));
    }
    if held == nothing {
        return Ok((held, Word::Last));
    }
    state.undelivered = Some(Undelivered::default());
    let note = format!("Lost with the relay's volume, which is gone: {}", held.in_words());
    context.writer.event(channel, EventType::Warning, "UndeliveredLost", "Delete", &note).await;
    Ok((nothing, Word::Last))
}

/// Whether what the relay kept its messages on is gone, as when the whole namespace is being
/// deleted.
async fn is_store_gone(context: &Context, scope: &Scope, name: &ChannelRef, is_ephemeral: bool) -> Result<bool, Error> {
    if !context.settings.relay_link.has_pods() || owned::own_pod(scope, name).is_some() {
        return Ok(false);
    }
    if is_ephemeral {
        return Ok(true);
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.writer.client().clone(), &name.namespace);
    let claim = claims.get_opt(&names::claim(&name.name)).await?;
    Ok(claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()))
}

/// Where Secrets are gone already, as when a whole folder is deleted at once, what the relay was
/// told serves.
async fn complete(
    context: &Context,
    scope: &Scope,
    name: &ChannelRef,
    manifest: &MaxChannel,
    secrets: &mut Secrets,
) -> Result<(), Error> {
    let token = &manifest.spec.token_secret_ref;
    let creatio = &manifest.spec.creatio.credentials_secret_ref;
    if secrets.contains_key(&token.name) && secrets.contains_key(&creatio.name) {
        return Ok(());
    }
    let of_relay = names::relay(&name.name);
    let known = scope.secrets.seen(&name.namespace, &of_relay);
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace));
    if !known.zip(channel).is_some_and(|(secret, channel)| is_seen_ours(&secret, &channel)) {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &name.namespace);
    let Some(secret) = api.get_opt(&of_relay).await? else { return Ok(()) };
    let told = channel_state::data(secret);
    let mut give = |secret: &str, key: &str, from: &str| {
        if let Some(value) = told.get(from) {
            let data: &mut BTreeMap<String, SecretString> = secrets.entry(secret.to_owned()).or_default();
            data.entry(key.to_owned()).or_insert_with(|| value.expose_secret().into());
        }
    };
    give(&token.name, &token.key, file::TOKEN);
    for (name, from) in [
        (key::CLIENT_ID, file::CREATIO_CLIENT_ID),
        (key::CLIENT_SECRET, file::CREATIO_CLIENT_SECRET),
        (key::USERNAME, file::CREATIO_USERNAME),
        (key::PASSWORD, file::CREATIO_PASSWORD),
        (key::NOTIFY_SECRET, file::NOTIFY),
    ] {
        give(&creatio.name, name, from);
    }
    if let Some(ca) = &manifest.spec.creatio.ca_secret_ref
        && let Some(pem) = told.get(file::CHANNEL).and_then(|text| ca_of(text.expose_secret()))
    {
        secrets.entry(ca.name.clone()).or_default().entry(ca.key.clone()).or_insert_with(|| pem.into());
    }
    tracing::info!(namespace = %name.namespace, name = %name.name, "Secrets are gone: the relay's own serve for the deletion");
    Ok(())
}

fn ca_of(channel: &str) -> Option<String> {
    let channel: serde_json::Value = serde_json::from_str(channel).ok()?;
    channel.pointer("/creatio/caPem")?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A controller that tries every two seconds gives up when it should; one that could not try
    /// for hours has not been patient for hours.
    #[test]
    fn patience_counts_tries_and_not_the_time_in_which_nothing_was_tried() {
        const PATIENCE: Millis = 120_000;
        let mut steady = Tried::default();
        let tries = (0..1_000).position(|number| steady.again(1_000_000 + number * 2_000, PATIENCE) >= PATIENCE);
        assert_eq!(tries, Some(60));
        let mut rare = Tried::default();
        let tries = (0..1_000).position(|number| rare.again(number * 3_600_000, PATIENCE) >= PATIENCE);
        assert_eq!(tries, Some(5));
        let mut hasty = Tried::default();
        let tries = (0..1_000).position(|number| hasty.again(number * 2_000, 1_000) >= 1_000);
        assert_eq!(tries, Some(1), "a short patience is as short as it says");
    }
}
