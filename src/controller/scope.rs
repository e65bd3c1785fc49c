//! What is watched of one namespace, or of all: the channels, what they own, their pods, and the
//! metadata of Secrets.
//!
//! Caches are kept warm whether this replica leads or not. Every event that concerns a channel
//! becomes a kick of that channel; what a person wrote also interrupts a pass under way, which
//! would finish with what is no longer wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::cache::{Cache, Fill, Filling};
use super::names;
use super::queue::Queue;
use super::resource::Channel;
use super::rollouts;
use crate::api::ChannelRef;
use crate::time::{self, Jitter};

/// So many objects are read at once when a cache is filled: a page of them is in memory as it came
/// and as its types, which is far more than what is kept.
const PAGE: u32 = 100;
/// How many kinds are watched.
const CACHES: usize = 8;

/// One namespace, or all of them.
#[derive(Debug)]
pub struct Scope {
    pub namespace: Option<String>,
    pub channels: Store<Channel>,
    pub secrets: Arc<Cache<PartialObjectMeta<Secret>>>,
    /// Marked are those whose pods are being replaced.
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    pub services: Arc<Cache<Service>>,
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    pub network_policies: Arc<Cache<NetworkPolicy>>,
    pub ingresses: Arc<Cache<Ingress>>,
    pub pods: Arc<Cache<Pod>>,
    /// What waits for a pass.
    pub queue: Queue,
    /// How many caches have been filled. Not asked of the stores: each wakes only the last of those
    /// that wait for it, and the library's own loop waits too (kube-runtime, `DelayedInit`).
    filled: tokio::sync::watch::Sender<usize>,
    /// Kinds that the server refuses to show, with its words: the namespace is gone, or the rights
    /// in it are.
    refused: tokio::sync::watch::Sender<BTreeMap<String, String>>,
    /// By lane.
    kicks: [mpsc::UnboundedSender<ObjectRef<Channel>>; 3],
    index: Mutex<Index>,
}

/// Which channel a Secret concerns, and what was last seen of each channel.
#[derive(Debug, Default)]
struct Index {
    by_secret: HashMap<(String, String), HashSet<ChannelRef>>,
    channels: HashMap<ChannelRef, Known>,
    /// Caches that were filled anew so far: what was deleted meanwhile shows by its absence only.
    fillings: u64,
}

/// What was last seen of one channel.
#[derive(Debug, Default)]
struct Known {
    secrets: BTreeSet<String>,
    desired: u64,
    /// Kinds of owned objects that were deleted since the last pass.
    deleted: BTreeSet<&'static str>,
    /// Events of owned objects so far.
    events: u64,
}

/// Who asks for a pass. Each kind has places of its own, so that neither many probes nor deletions
/// that wait keep an edit waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Usual,
    /// A person has just changed something.
    Edits,
    /// The channel is being deleted.
    Leaving,
}

/// The kicks of one lane.
pub type Kicked = mpsc::UnboundedReceiver<ObjectRef<Channel>>;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Applied,
    Deleted,
}

/// Told of every event of a channel: what is known of it, whether what a person wants has changed.
pub trait Listener: Send + Sync + 'static {
    fn channel(&self, channel: &Channel, happened: Happened, desired_changed: bool);
    /// A Secret of the channel has changed.
    fn secret(&self, channel: &ChannelRef);
}

/// A scope that watches, what kicks each lane, and the tasks that watch.
pub(super) type Started = (Arc<Scope>, [(Lane, Kicked); 3], Vec<tokio::task::JoinHandle<()>>);

impl Scope {
    /// Begins to watch; the kicks come out of the stream.
    pub fn start(client: &Client, namespace: Option<&str>, listener: Arc<dyn Listener>) -> Started {
        let [(usual, usual_kicked), (edits, edits_kicked), (leaving, leaving_kicked)] =
            [mpsc::unbounded(), mpsc::unbounded(), mpsc::unbounded()];
        let kicks = [usual, edits, leaving];
        let kicked = [(Lane::Usual, usual_kicked), (Lane::Edits, edits_kicked), (Lane::Leaving, leaving_kicked)];
        let (channels, channels_writer) = reflector::store();
        let scope = Arc::new(Self {
            namespace: namespace.map(ToOwned::to_owned),
            channels,
            secrets: Arc::default(),
            stateful_sets: Arc::new(Cache::marking(rollouts::is_unfinished)),
            services: Arc::default(),
            service_accounts: Arc::default(),
            network_policies: Arc::default(),
            ingresses: Arc::default(),
            pods: Arc::default(),
            queue: Queue::default(),
            filled: tokio::sync::watch::Sender::new(0),
            refused: tokio::sync::watch::Sender::default(),
            kicks,
            index: Mutex::default(),
        });
        let all = watcher::Config::default().page_size(PAGE);
        let ours = all.clone().labels(names::RELAYS);
        let at = Watching { client, namespace, scope: &scope };
        let mut tasks = vec![
            at.keep(all.clone(), channels_writer, {
                let listener = listener.clone();
                move |scope: &Scope, channel: &Channel, happened| {
                    let changed = scope.note(channel, happened);
                    listener.channel(channel, happened, changed.desired);
                    if changed.edit {
                        scope.hurry(&channel.reference());
                    } else if changed.any {
                        scope.kick(&channel.reference());
                    }
                }
            }),
            at.keep(
                all,
                Filling::new(&scope.secrets),
                move |scope: &Scope, secret: &PartialObjectMeta<Secret>, happened| {
                    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                    for channel in scope.users_of(&namespace, &name) {
                        listener.secret(&channel);
                        if scope.is_filled() {
                            scope.hurry(&channel);
                        } else {
                            scope.kick(&channel);
                        }
                    }
                    scope.owned("Secret", secret, happened);
                },
            ),
        ];
        macro_rules! owned {
            ($($kind:literal: $type:ty => $cache:expr),* $(,)?) => {
                $(tasks.push(at.keep(ours.clone(), Filling::new(&$cache), |scope: &Scope, object: &$type, happened| {
                    scope.owned($kind, object, happened);
                }));)*
            };
        }
        owned!(
            "StatefulSet": StatefulSet => scope.stateful_sets,
            "Service": Service => scope.services,
            "ServiceAccount": ServiceAccount => scope.service_accounts,
            "NetworkPolicy": NetworkPolicy => scope.network_policies,
            "Ingress": Ingress => scope.ingresses,
            "Pod": Pod => scope.pods,
        );
        debug_assert_eq!(tasks.len(), CACHES, "each kind fills one cache");
        (scope, kicked, tasks)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether channels of this namespace are watched here.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|ours| ours == namespace)
    }

    /// Returns once all caches are filled.
    pub async fn ready(&self) {
        // The sender lives as long as the scope.
        let _ = self.filled.subscribe().wait_for(|filled| *filled == CACHES).await;
    }

    /// Returns the server's words once it refuses to show this scope.
    pub async fn refused(&self) -> String {
        let mut refused = self.refused.subscribe();
        // The sender lives as long as the scope.
        let words = refused.wait_for(|refused| !refused.is_empty()).await;
        words.ok().and_then(|refused| refused.values().next().cloned()).unwrap_or_default()
    }

    /// Returns once the server shows the scope again.
    pub async fn shown(&self) {
        let _ = self.refused.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    /// Asks for a pass over a channel.
    pub fn kick(&self, channel: &ChannelRef) {
        self.queue.put(channel, Duration::ZERO);
        self.send(Lane::Usual, channel);
    }

    /// Asks for a pass over a channel that a person has just changed.
    fn hurry(&self, channel: &ChannelRef) {
        self.queue.put(channel, Duration::ZERO);
        self.send(Lane::Edits, channel);
    }

    /// Asks for a pass over a channel that is being deleted.
    pub fn leaves(&self, channel: &ChannelRef) {
        self.send(Lane::Leaving, channel);
    }

    fn send(&self, lane: Lane, channel: &ChannelRef) {
        // Nobody listens any more only at the end of the process.
        let _ = self.kicks[lane as usize].unbounded_send(ObjectRef::new(&channel.name).within(&channel.namespace));
    }

    fn is_filled(&self) -> bool {
        *self.filled.borrow() == CACHES
    }

    /// Asks for a pass over every channel.
    pub fn kick_all(&self) {
        for channel in self.channels.state() {
            self.kick(&channel.reference());
        }
    }

    /// The kinds of owned objects that were deleted since the last call.
    pub fn take_deleted(&self, channel: &ChannelRef) -> BTreeSet<&'static str> {
        self.index().channels.get_mut(channel).map(|known| std::mem::take(&mut known.deleted)).unwrap_or_default()
    }

    /// Changes whenever an owned object of the channel may have changed.
    pub fn events(&self, channel: &ChannelRef) -> (u64, u64) {
        let index = self.index();
        (index.channels.get(channel).map_or(0, |known| known.events), index.fillings)
    }

    /// Whether more than one channel refers to a Secret.
    pub fn is_shared(&self, namespace: &str, name: &str) -> bool {
        let users = |index: &Index| index.by_secret.get(&(namespace.to_owned(), name.to_owned())).map(HashSet::len);
        users(&self.index()).is_some_and(|users| users > 1)
    }

    fn users_of(&self, namespace: &str, name: &str) -> HashSet<ChannelRef> {
        self.index().by_secret.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    fn owned<K: Resource<DynamicType = ()>>(&self, kind: &'static str, object: &K, happened: Happened) {
        let labels = object.labels();
        if labels.get(names::LABEL_MANAGED_BY).map(String::as_str) != Some("maxchannel") {
            return;
        }
        let Some(instance) = labels.get(names::LABEL_INSTANCE) else { return };
        let channel = ChannelRef::new(object.namespace().unwrap_or_default(), instance);
        let mut index = self.index();
        if let Some(known) = index.channels.get_mut(&channel) {
            known.events += 1;
            if happened == Happened::Deleted {
                known.deleted.insert(kind);
            }
        }
        drop(index);
        self.kick(&channel);
    }

    fn note(&self, channel: &Channel, happened: Happened) -> Changed {
        let name = channel.reference();
        let mut index = self.index();
        let secrets = if happened == Happened::Deleted { BTreeSet::new() } else { channel.secret_names() };
        let before = index.channels.remove(&name);
        let none = BTreeSet::new();
        for gone in before.as_ref().map_or(&none, |known| &known.secrets).difference(&secrets) {
            let key = (name.namespace.clone(), gone.clone());
            if let Some(users) = index.by_secret.get_mut(&key) {
                users.remove(&name);
                if users.is_empty() {
                    index.by_secret.remove(&key);
                }
            }
        }
        for secret in &secrets {
            index.by_secret.entry((name.namespace.clone(), secret.clone())).or_default().insert(name.clone());
        }
        if happened == Happened::Deleted {
            return Changed { desired: true, any: false, edit: false };
        }
        let desired = channel.desired_hash();
        let desired_changed = before.as_ref().is_none_or(|known| known.desired != desired);
        // At the start all are new, and nobody has just changed them.
        let edit = desired_changed && (before.is_some() || self.is_filled());
        index.channels.insert(name, Known { secrets, desired, ..before.unwrap_or_default() });
        // What we write ourselves, the status and the finalizer, needs no further pass; a lost
        // finalizer does.
        Changed { desired: desired_changed, any: desired_changed || !channel.has_finalizer(), edit }
    }
}

#[derive(Clone, Copy)]
struct Changed {
    desired: bool,
    any: bool,
    edit: bool,
}

struct Watching<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    scope: &'a Arc<Scope>,
}

impl Watching<'_> {
    /// Keeps one cache up to date for as long as the process lives.
    fn keep<K>(
        &self,
        config: watcher::Config,
        mut cache: impl Fill<K>,
        on: impl Fn(&Scope, &K, Happened) + Send + 'static,
    ) -> tokio::task::JoinHandle<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let scope = self.scope.clone();
        let stream = watcher(api, config).backoff(Pauses::default()).modify(prune);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            let mut told = String::new();
            let mut is_filled = false;
            while let Some(event) = stream.next().await {
                let gone = event.as_ref().map_or_else(|_| Vec::new(), |event| cache.take(event));
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        on(&scope, &object, Happened::Applied);
                    }
                    Ok(watcher::Event::Delete(object)) => on(&scope, &object, Happened::Deleted),
                    Ok(watcher::Event::Init) => {}
                    Ok(watcher::Event::InitDone) => {
                        scope.refused.send_if_modified(|refused| refused.remove(K::kind(&()).as_ref()).is_some());
                        scope.index().fillings += 1;
                        if !std::mem::replace(&mut is_filled, true) {
                            scope.filled.send_modify(|filled| *filled += 1);
                        }
                        for gone in &gone {
                            on(&scope, gone, Happened::Deleted);
                        }
                        told.clear();
                    }
                    Err(error) => {
                        if let Some(words) = refusal(&error) {
                            let kind = K::kind(&()).into_owned();
                            scope
                                .refused
                                .send_if_modified(|refused| refused.insert(kind, words.clone()) != Some(words));
                        }
                        let error = error.to_string();
                        if error != told {
                            tracing::warn!(kind = %K::kind(&()), "the watch is interrupted and begun again: {error}");
                            told = error;
                        }
                    }
                }
            }
        })
    }
}

/// The server's words where it refuses to show what is watched, which no repetition mends: rights
/// or the namespace are missing.
fn refusal(error: &watcher::Error) -> Option<String> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    matches!(status.code, 403 | 404).then(|| status.message.clone())
}

/// Between attempts at a watch: doubling, and up to a half less by chance, so that many replicas do
/// not come back at the same moment. Shorter than the library's half minute: what changed while the
/// API server was away is seen soon after it is back.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Pauses {
    const GROWING: time::Backoff = time::Backoff::doubling(Duration::from_millis(500), Duration::from_secs(8));
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole = Self::GROWING.after(self.0);
        self.0 = self.0.saturating_add(1);
        Some(Jitter::shorter(50).of(whole))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What nobody here reads is not kept.
fn prune<K: Resource + 'static>(object: &mut K) {
    // Not cleared: that would keep its room.
    *object.managed_fields_mut() = Vec::new();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    if let Some(pod) = (object as &mut dyn std::any::Any).downcast_mut::<Pod>() {
        pod.spec = None;
    }
}
