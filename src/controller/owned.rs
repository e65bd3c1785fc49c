//! Which objects in the cluster are a channel's own, and how they are taken away.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::reflector::ObjectRef;

use super::cache::{Cache, Seen};
use super::context::Context;
use super::resource::Channel;
use super::scope::Scope;
use super::writer::{Deleted, Owned, is_controlled_by};
use super::{Error, names};
use crate::api::ChannelRef;

/// Whether the channel controls an object.
pub fn is_ours(object: &impl kube::Resource, channel: &Channel) -> bool {
    channel.metadata.uid.as_deref().is_some_and(|uid| is_controlled_by(object, uid))
}

/// The same of one whose own metadata is all that is known.
pub fn is_seen_ours(object: &Seen, channel: &Channel) -> bool {
    channel.metadata.uid.is_some() && object.controller.as_deref() == channel.metadata.uid.as_deref()
}

/// The relay's StatefulSet, where it is the channel's.
pub fn own_set(scope: &Scope, name: &ChannelRef) -> Option<Seen> {
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace))?;
    scope.stateful_sets.seen(&name.namespace, &names::relay(&name.name)).filter(|set| is_seen_ours(set, &channel))
}

/// Whether the channel is there to stay, and has a relay.
pub fn is_served(scope: &Scope, name: &ChannelRef) -> bool {
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace));
    channel.is_some_and(|channel| !channel.is_deleted()) && own_set(scope, name).is_some()
}

/// The relay's pod: the one that the channel's own StatefulSet has made.
pub fn own_pod(scope: &Scope, name: &ChannelRef) -> Option<Arc<Pod>> {
    let set = own_set(scope, name)?.uid?;
    let pod = scope.pods.get(&name.namespace, &names::pod(&name.name));
    pod.filter(|pod| is_controlled_by(&**pod, &set))
}

/// Deletes the channel's object of a kind; another's of that name stays.
pub async fn delete<K: Owned>(context: &Context, channel: &Channel) -> Result<bool, Error> {
    let name = channel.reference();
    let relay = names::relay(&name.name);
    let deleted = context.writer.delete_own::<K>(&name, &relay, |found| is_ours(found, channel)).await?;
    Ok(matches!(deleted, Deleted::Done))
}

pub async fn remove_if_there<K: Owned>(context: &Context, cache: &Cache<K>, channel: &Channel) -> Result<bool, Error> {
    let name = channel.reference();
    let found = cache.get(&name.namespace, &names::relay(&name.name));
    let Some(found) = found.filter(|found| is_ours(&**found, channel)) else { return Ok(false) };
    if found.meta().deletion_timestamp.is_some() {
        return Ok(false);
    }
    delete::<K>(context, channel).await
}

/// Deletes the owned objects that are not among `kept`.
pub async fn prune(context: &Context, scope: &Scope, channel: &Channel, kept: &BTreeSet<&str>) -> Result<bool, Error> {
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

/// Deletes everything that the channel owns in the cluster; what cannot be listed here goes with
/// its owner.
///
/// # Errors
/// As for the writes.
pub async fn remove_objects(context: &Context, scope: &Scope, channel: &Channel) -> Result<bool, Error> {
    prune(context, scope, channel, &BTreeSet::new()).await
}
