//! Every write to the API server but the lease's. Nothing is written that is so already, and
//! nothing once this replica leads no more.
//!
//! What was applied last is remembered per object, so that neither a watch that lags behind nor a
//! value that the server writes in another form (`1000m` becomes `1`) makes a second write of the
//! same.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cache::Seen;
use super::events::Events;
use super::lease::Fence;
use super::metrics::Metrics;
use super::resource::Channel;
use super::{Error, compare, names, refusal};
use crate::api::{API_VERSION, ChannelRef, KIND, MaxChannelStatus};
use crate::telemetry;

/// The kinds of object that a channel may own in the cluster.
pub trait Owned:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Owned for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// What an apply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Made,
    Changed,
    /// It had been changed by somebody else.
    Repaired,
    /// A field that cannot be changed made it necessary.
    Recreated,
}

/// Whether an object carries the channel's own controller reference. Names and labels say nothing:
/// anybody may give them.
#[must_use]
pub fn is_controlled_by(object: &impl Resource, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

pub fn controller_of(object: &impl Resource) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whose an object that we make is.
fn channel_of(object: &impl Resource) -> ChannelRef {
    let meta = object.meta();
    let owner = controller_of(object).map(|owner| owner.name.clone());
    ChannelRef::new(meta.namespace.clone().unwrap_or_default(), owner.unwrap_or_default())
}

/// What is said of an object that is not the channel's.
#[must_use]
pub fn foreign(object: &impl Resource) -> String {
    match controller_of(object) {
        Some(owner) => format!("it belongs to {} {} (uid {})", owner.kind, owner.name, owner.uid),
        None => "it does not carry this channel's controller reference".to_owned(),
    }
}

/// What was applied last, by kind. Boxed: a map has room for more kinds than there are.
pub type Memory = BTreeMap<&'static str, Box<Applied>>;

/// One object that was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    wanted: String,
    /// The version before the apply, by which a watch that lags behind is known.
    before: Option<String>,
    /// The version that the apply answered.
    after: Option<String>,
    /// The object that the apply answered, without what changes by itself.
    answered: u64,
    /// The generation that the apply answered.
    pub generation: Option<i64>,
    at: Instant,
}

impl Applied {
    /// Whether what is seen is what the apply answered.
    pub fn is_version(&self, seen: &Seen) -> bool {
        self.after.is_some() && self.after.as_deref() == seen.version.as_deref()
    }
}

/// A watch that is further behind than this is not waited for.
const WATCH_LAG: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    fence: Fence,
    events: Events,
    pub metrics: Arc<Metrics>,
}

impl Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    #[must_use]
    pub fn new(client: Client, fence: Fence, instance: &str, metrics: Arc<Metrics>) -> Self {
        Self { events: Events::new(client.clone(), instance), client, fence, metrics }
    }

    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Makes an object as it shall be. `live` is what the watch knows, by which most calls see that
    /// nothing is to do. One that the watch does not show is created, which the server does only
    /// where nobody has the name. Else the object is read: the watch lags behind, has no data of
    /// Secrets, and does not show what others have made under the name. What is there and does not
    /// carry the channel's controller reference is left alone, and what is ours is written at the
    /// version that was read.
    ///
    /// # Errors
    /// The object is another's, or the API server refuses or does not answer.
    pub async fn apply<K: Owned>(
        &self,
        kind: &'static str,
        memory: &mut Memory,
        live: Live<K>,
        wanted: K,
    ) -> Result<Change, Error> {
        let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let version = live.version();
        let known = memory.get(kind).map(AsRef::as_ref);
        let mut body = serde_json::to_value(&wanted).map_err(|error| Error::Bug(error.to_string()))?;
        let hash = hash_of(&body);
        if let Some(known) = known.filter(|known| known.wanted == hash)
            && (version == known.after || (version == known.before && known.at.elapsed() < WATCH_LAG))
        {
            return Ok(Change::None);
        }
        body["metadata"]["annotations"][names::APPLIED] = json!(hash);
        let channel = channel_of(&wanted);
        let owner = wanted.owner_references().first().map(|owner| owner.uid.as_str());
        if let Live::Whole(seen) = &live
            && owner.is_some_and(|uid| is_controlled_by(&**seen, uid))
            && let Some(same) = as_it_shall_be(&**seen, &body, known, &hash)?
        {
            memory.insert(kind, same);
            return Ok(Change::None);
        }
        if matches!(live, Live::Absent)
            && known.is_none()
            && let Some(answer) = self.create(&channel, &api, &body).await?
        {
            memory.insert(kind, Applied::answered(hash, None, &answer)?);
            tracing::info!(object = %name, kind, change = ?Change::Made, "applied");
            return Ok(Change::Made);
        }
        let live = api.get_opt(&name).await?;
        if let Some(live) = &live
            && !owner.is_some_and(|uid| is_controlled_by(live, uid))
        {
            memory.remove(kind);
            return Err(Error::Foreign(foreign(live)));
        }
        let mut change = Change::Made;
        let mut same_wish = false;
        if let Some(live) = &live {
            same_wish = live.annotations().get(names::APPLIED) == Some(&hash);
            if let Some(same) = as_it_shall_be(live, &body, known, &hash)? {
                memory.insert(kind, same);
                return Ok(Change::None);
            }
            change = if same_wish { Change::Repaired } else { Change::Changed };
        }
        let answer = match self.patch(&channel, &api, &name, &body, live.as_ref()).await {
            // What was taken before is good: what stands in its way are others' edits, which our
            // apply leaves where they are.
            Err(Error::Api(kube::Error::Api(status)))
                if status.is_invalid()
                    // A policy says nothing about the object that is there, which must not be lost
                    // to it.
                    && !refusal::is_policy(&status.message)
                    && live.is_some() && (same_wish || is_immutable(&status.message)) =>
            {
                if let Some(live) = &live {
                    self.delete(&channel, live).await?;
                }
                change = Change::Recreated;
                self.patch(&channel, &api, &name, &body, None).await?
            }
            other => other?,
        };
        if change == Change::Repaired {
            self.metrics.drift_repairs.inc();
        }
        memory.insert(kind, Applied::answered(hash, version, &answer)?);
        tracing::info!(object = %name, kind, ?change, "applied");
        Ok(change)
    }

    /// Creates an object; none: somebody has the name.
    async fn create<K: Owned>(&self, channel: &ChannelRef, api: &Api<K>, body: &Value) -> Result<Option<K>, Error> {
        self.fence.check(channel)?;
        let parameters = PostParams { field_manager: Some(names::MANAGER.to_owned()), ..PostParams::default() };
        let object = serde_json::from_value(body.clone()).map_err(|error| Error::Bug(error.to_string()))?;
        match api.create(&parameters, &object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Applies; onto the very object and version that was read, where there is one.
    async fn patch<K: Owned>(
        &self,
        channel: &ChannelRef,
        api: &Api<K>,
        name: &str,
        body: &Value,
        onto: Option<&K>,
    ) -> Result<K, Error> {
        let mut body = body.clone();
        if let Some(onto) = onto {
            body["metadata"]["uid"] = json!(onto.uid());
            body["metadata"]["resourceVersion"] = json!(self.own_as_applied(channel, api, name, onto).await?);
        }
        self.fence.check(channel)?;
        body["apiVersion"] = json!(K::api_version(&()));
        body["kind"] = json!(K::kind(&()));
        Ok(api.patch(name, &PatchParams::apply(names::MANAGER).force(), &Patch::Apply(&body)).await?)
    }

    /// The server notes the fields of an object that was created as those of an update, and an
    /// apply would not take away what is no longer wanted of them: before the first one they are
    /// noted as applied (client-go does the same, `csaupgrade`). Answers the version to apply onto.
    async fn own_as_applied<K: Owned>(
        &self,
        channel: &ChannelRef,
        api: &Api<K>,
        name: &str,
        onto: &K,
    ) -> Result<Option<String>, Error> {
        let mut noted = onto.managed_fields().to_vec();
        let is_ours = |entry: &&mut ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(names::MANAGER)
                && entry.operation.as_deref() == Some("Update")
                && entry.subresource.is_none()
        };
        let Some(entry) = noted.iter_mut().find(is_ours) else { return Ok(onto.resource_version()) };
        entry.operation = Some("Apply".to_owned());
        self.fence.check(channel)?;
        let body = json!({"metadata": {
            "uid": onto.uid(), "resourceVersion": onto.resource_version(), "managedFields": noted,
        }});
        Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await?.resource_version())
    }

    /// Deletes the object of that name where it is the channel's by `is_ours`; another's is left
    /// alone. Answers whether there is none any more that is ours.
    ///
    /// # Errors
    /// As for [`Writer::apply`].
    pub async fn delete_own<K: Owned>(
        &self,
        channel: &ChannelRef,
        name: &str,
        is_ours: impl Fn(&K) -> bool,
    ) -> Result<Deleted, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &channel.namespace);
        match api.get_opt(name).await? {
            None => Ok(Deleted::Absent),
            Some(found) if !is_ours(&found) => Ok(Deleted::Foreign),
            Some(found) => self.delete(channel, &found).await.map(|()| Deleted::Done),
        }
    }

    /// Deletes the very object and version that was read; one that is gone already is fine.
    async fn delete<K: Owned>(&self, channel: &ChannelRef, found: &K) -> Result<(), Error> {
        self.fence.check(channel)?;
        let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let this = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        match api.delete(&name, &DeleteParams::background().preconditions(this)).await {
            Ok(_) => {
                tracing::info!(object = %name, kind = %K::kind(&()), "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the status; the version of the object before.
    ///
    /// # Errors
    /// As for [`Writer::apply`].
    pub async fn status(&self, channel: &Channel, status: &MaxChannelStatus) -> Result<(), Error> {
        self.fence.check(&channel.reference())?;
        let api: Api<Channel> = Api::namespaced(self.client.clone(), &channel.namespace().unwrap_or_default());
        let mut body = json!({"apiVersion": API_VERSION, "kind": KIND, "status": status});
        // An apply of a status must not make a channel that has just gone: the server refuses
        // another uid.
        body["metadata"] = json!({"name": channel.name_any(), "uid": channel.uid()});
        let parameters = PatchParams::apply(names::MANAGER).force();
        match api.patch_status(&channel.name_any(), &parameters, &Patch::Apply(&body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds our finalizer to a channel; refused by the server where the channel has changed
    /// meanwhile.
    ///
    /// # Errors
    /// As for [`Writer::apply`].
    pub async fn add_finalizer(&self, channel: &Channel) -> Result<(), Error> {
        self.set_finalizer(channel, true).await
    }

    /// The contrary of [`Writer::add_finalizer`].
    ///
    /// # Errors
    /// As for [`Writer::apply`].
    pub async fn remove_finalizer(&self, channel: &Channel) -> Result<(), Error> {
        self.set_finalizer(channel, false).await
    }

    async fn set_finalizer(&self, channel: &Channel, is_present: bool) -> Result<(), Error> {
        self.fence.check(&channel.reference())?;
        let api: Api<Channel> = Api::namespaced(self.client.clone(), &channel.namespace().unwrap_or_default());
        let mut finalizers: Vec<&str> =
            channel.finalizers().iter().map(String::as_str).filter(|name| *name != names::FINALIZER).collect();
        if is_present {
            finalizers.push(names::FINALIZER);
        }
        let body = json!({"metadata": {"resourceVersion": channel.resource_version(), "finalizers": finalizers}});
        match api.patch(&channel.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Touches the relay's pod, so that the kubelet brings its volumes up to date.
    ///
    /// # Errors
    /// As for [`Writer::apply`].
    pub async fn touch(&self, channel: &ChannelRef, pod: &Pod, value: &str) -> Result<(), Error> {
        self.fence.check(channel)?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        // Another pod of that name is refused by the uid.
        let body = json!({"metadata": {"uid": pod.uid(), "annotations": {names::CONFIG: value}}});
        match api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells of something on a channel. A failure to do so is logged and nothing else: events are
    /// for people.
    pub async fn event(&self, channel: &Channel, type_: EventType, reason: &str, action: &str, note: &str) {
        if self.fence.check(&channel.reference()).is_ok() {
            self.record(&channel.object_ref(&()), type_, reason, action, note).await;
        }
    }

    /// Tells of something that concerns no channel, on any object: by one replica.
    pub async fn tell(&self, about: &ObjectReference, type_: EventType, reason: &str, action: &str, note: &str) {
        if self.fence.is_first() {
            self.record(about, type_, reason, action, note).await;
        }
    }

    async fn record(&self, about: &ObjectReference, type_: EventType, reason: &str, action: &str, note: &str) {
        let note: String = telemetry::redacted(note)
            .chars()
            .take(1_000)
            .scan(0, |bytes, c| {
                // The server takes 1 kB.
                *bytes += c.len_utf8();
                (*bytes <= 1_000).then_some(c)
            })
            .collect();
        if let Err(error) = self.events.tell(about, type_, reason, action, &note).await {
            tracing::warn!(reason, "an event could not be written: {error}");
        }
    }
}

/// What became of an object that was to be deleted.
#[derive(Debug)]
pub enum Deleted {
    Done,
    Absent,
    /// It is another's, and stays.
    Foreign,
}

/// An object as the watch knows it.
#[derive(Clone, Debug)]
pub enum Live<K> {
    Whole(Arc<K>),
    /// Only its version is known.
    Version(Option<String>),
    /// The watch shows none.
    Absent,
    /// The kind is not watched.
    Unwatched,
}

impl<K: Owned> Live<K> {
    pub fn of(seen: Option<Arc<K>>) -> Self {
        seen.map_or(Self::Absent, Self::Whole)
    }

    fn version(&self) -> Option<String> {
        match self {
            Self::Whole(object) => object.resource_version(),
            Self::Version(version) => version.clone(),
            Self::Absent | Self::Unwatched => None,
        }
    }
}

impl Applied {
    /// `before`: the version before the apply.
    fn answered<K: Owned>(wanted: String, before: Option<String>, answer: &K) -> Result<Box<Self>, Error> {
        let value = serde_json::to_value(answer).map_err(|error| Error::Bug(error.to_string()))?;
        Ok(Box::new(Self {
            wanted,
            before,
            after: answer.resource_version(),
            answered: compare::hash(&value),
            generation: answer.meta().generation,
            at: Instant::now(),
        }))
    }
}

/// What is remembered of an object that needs no write: it was applied as it is wanted, and nobody
/// has changed it since.
fn as_it_shall_be<K: Owned>(
    live: &K,
    body: &Value,
    known: Option<&Applied>,
    hash: &str,
) -> Result<Option<Box<Applied>>, Error> {
    if live.annotations().get(names::APPLIED).map(String::as_str) != Some(hash) {
        return Ok(None);
    }
    let value = serde_json::to_value(live).map_err(|error| Error::Bug(error.to_string()))?;
    let answered = compare::hash(&value);
    let is_same = compare::contains(&value, body)
        || known.is_some_and(|known| known.wanted == hash && known.answered == answered);
    if !is_same {
        return Ok(None);
    }
    Applied::answered(hash.to_owned(), live.resource_version(), live).map(Some)
}

fn hash_of(body: &Value) -> String {
    format!("{:016x}", compare::hash(body))
}

/// Whether `found` was last applied as something other than `wanted`.
pub fn is_applied_otherwise<K: Owned>(found: &K, wanted: &K) -> bool {
    let wanted = serde_json::to_value(wanted).map(|body| hash_of(&body)).ok();
    found.annotations().get(names::APPLIED) != wanted.as_ref()
}

/// Whether a refusal is about a field that cannot be changed.
fn is_immutable(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("immutable")
        || message.contains("updates to statefulset spec")
        || message.contains("may not change")
}
