//! The end of a channel: unsubscribe, let the relay finish, deactivate the channel in the CRM, then the objects, the volume claim
//! included, and last the finalizer.
//!
//! Never hangs: what cannot be taken away within [`PATIENCE`] is named in an event, and the channel goes all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use secrecy::{ExposeSecret as _, SecretString};

use super::context::Context;
use super::entry::{self, Entry};
use super::pass::{self, Outcome};
use super::relay_state::{self, PodState};
use super::resource::Channel;
use super::scope::Scope;
use super::{Error, names};
use crate::api::{DeletionPolicy, MaxChannel};
use crate::channel::ChannelRef;
use crate::channel::keeper::Done;
use crate::channel::validate::Secrets;
use crate::policy::Millis;

/// How long the outside is tried.
const PATIENCE: Millis = 120_000;
/// How long the relay may take to deliver what it has.
const DRAIN: Millis = 30_000;
/// Nothing waits for so long: nothing is under way.
const QUIET: Millis = 1_000;

/// One pass over a channel that is being deleted.
///
/// # Errors
/// The API server refuses or does not answer, or this replica leads no more.
pub async fn pass(
    context: &Context,
    scope: &Scope,
    channel: &Arc<Channel>,
    entry: &mut Entry,
) -> Result<Outcome, Error> {
    let done = |changed| Outcome { changed, waiting: false, again_in: Duration::from_hours(1) };
    if !channel.is_held() {
        return Ok(done(false));
    }
    let judged = entry.judge(channel, context);
    let manifest = judged.ok().or_else(|| entry.good.clone());
    // Of a manifest that fits nothing the wish itself is read.
    let policy: DeletionPolicy = channel
        .spec
        .get("deletionPolicy")
        .and_then(|policy| serde_json::from_value(policy.clone()).ok())
        .unwrap_or_default();
    if policy == DeletionPolicy::Delete
        && let Err(left) = leave(context, scope, channel, entry, manifest.as_deref()).await?
    {
        let since = channel.metadata.deletion_timestamp.as_ref().map_or(0, |Time(time)| time.as_millisecond());
        if context.clock.now() - since < PATIENCE || left.is_draining {
            if !left.sentences.is_empty() && left.sentences != entry.waits_for {
                let note =
                    format!("Waits up to {} s to clean up outside: {}", PATIENCE / 1_000, left.sentences.join("; "));
                context.writer.event(channel, EventType::Normal, "DeletionWaits", "Delete", &note).await;
                entry.waits_for = left.sentences;
            }
            return Ok(Outcome { changed: false, waiting: true, again_in: left.again_in });
        }
        let note = format!("Left behind outside, take it away by hand: {}", left.sentences.join("; "));
        context.writer.event(channel, EventType::Warning, "ExternalObjectsLeft", "Delete", &note).await;
    }
    pass::remove_objects(context, scope, channel).await?;
    if policy == DeletionPolicy::Delete {
        let name = channel.reference();
        context.writer.delete::<PersistentVolumeClaim>(&name.namespace, &names::claim(&name.name)).await?;
    }
    context.rollouts.ended(&channel.reference());
    context.writer.hold(channel, false).await?;
    Ok(done(true))
}

/// What is left outside for now.
struct Left {
    sentences: Vec<String>,
    is_draining: bool,
    again_in: Duration,
}

impl Left {
    fn because(sentences: Vec<String>) -> Self {
        Self { sentences, is_draining: false, again_in: Duration::from_secs(2) }
    }

    fn draining() -> Self {
        Self { sentences: Vec::new(), is_draining: true, again_in: Duration::from_millis(500) }
    }
}

/// Takes the channel's objects outside away, as far as it can be done now.
async fn leave(
    context: &Context,
    scope: &Scope,
    channel: &Channel,
    entry: &mut Entry,
    manifest: Option<&MaxChannel>,
) -> Result<Result<(), Left>, Error> {
    let clock = || context.clock.now();
    let name = channel.reference();
    // A bot was never known: nothing can be outside.
    if entry.keeper.bot().is_none() {
        return Ok(Ok(()));
    }
    let Some(manifest) = manifest else {
        return Ok(Err(Left::because(vec![format!("all of {name}, because its manifest cannot be read")])));
    };
    let mut secrets = entry.dereference(channel, scope, context).await?;
    complete(context, scope, &name, manifest, &mut secrets).await?;
    for (name, data) in &entry.gone {
        secrets.entry(name.clone()).or_insert_with(|| data.clone());
    }
    entry.keeper.set(Ok(manifest), &secrets, clock());
    pass::claim(context, entry, &name);
    if entry.conflict.is_some() {
        // Nothing outside is this channel's.
        return Ok(Ok(()));
    }
    entry.keeper.look(&clock).await;
    context.fence.check()?;
    let done = entry.keeper.leave_intake(&clock).await;
    pass::tell_changes(context, channel, &done).await;
    let mut failures = sentences(&done);
    if failures.is_empty() {
        let left_at = *entry.left_at.get_or_insert_with(clock);
        if clock() - left_at < DRAIN && !is_idle(context, scope, entry, &name).await {
            return Ok(Err(Left::draining()));
        }
        context.fence.check()?;
        let done = entry.keeper.remove(&clock).await;
        pass::tell_changes(context, channel, &done).await;
        failures.extend(sentences(&done));
    }
    // What could not be looked at may hold something of ours.
    failures.extend(entry.keeper.unseen());
    Ok(if failures.is_empty() { Ok(()) } else { Err(Left::because(failures)) })
}

fn sentences(done: &[Done]) -> Vec<String> {
    let failed = done.iter().filter_map(|step| step.outcome.as_ref().err().map(|failure| (step, failure)));
    failed.map(|(step, failure)| format!("{} ({})", step.action, failure.detail)).collect()
}

/// Whether the relay has nothing to deliver any more, or cannot be asked because there is none.
async fn is_idle(context: &Context, scope: &Scope, entry: &mut Entry, name: &ChannelRef) -> bool {
    let pod = scope.pods.get(&ObjectRef::new(&names::pod(&name.name)).within(&name.namespace));
    let PodState::Running { ip, .. } = relay_state::of_pod(pod.as_deref()) else { return true };
    let now = context.clock.now();
    match pass::ask(context, name, ip).await {
        Ok(facts) if facts.oldest_seconds == 0 => now - *entry.idle_since.get_or_insert(now) >= QUIET,
        _ => {
            entry.idle_since = None;
            false
        }
    }
}

/// Where Secrets are gone already, as when a whole folder is deleted at once, what the relay was told serves.
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
    if scope.secrets.get(&ObjectRef::new(&of_relay).within(&name.namespace)).is_none() {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &name.namespace);
    let Some(secret) = api.get_opt(&of_relay).await? else { return Ok(()) };
    let told = entry::data(secret);
    let mut give = |secret: &str, key: &str, file: &str| {
        if let Some(value) = told.get(file) {
            let data: &mut BTreeMap<String, SecretString> = secrets.entry(secret.to_owned()).or_default();
            data.entry(key.to_owned()).or_insert_with(|| value.expose_secret().into());
        }
    };
    give(&token.name, &token.key, "token");
    for (key, file) in [
        ("clientId", "creatioClientId"),
        ("clientSecret", "creatioClientSecret"),
        ("username", "creatioUsername"),
        ("password", "creatioPassword"),
        ("notifySecret", "creatioNotifySecret"),
    ] {
        give(&creatio.name, key, file);
    }
    if let Some(ca) = &manifest.spec.creatio.ca_secret_ref
        && let Some(pem) = told.get("channel.json").and_then(|text| ca_of(text.expose_secret()))
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
