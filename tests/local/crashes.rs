//! A crash after any single change outside costs nothing: the next start comes to the same, and
//! nothing is made twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use maxchannel::api::ChannelRef;
use maxchannel::api::{self, manifest::Manifests};
use maxchannel::channel::observe::Clients;
use maxchannel::channel::pass;
use maxchannel::channel::plan::KnownBot;
use maxchannel::channel::reconciler::Reconciler;
use maxchannel::channel::validate::Secrets;
use maxchannel::transport::{Options, Request, ReqwestTransport, Response, Transport, TransportError, Trust};
use serde_json::Value;

use crate::world::{TOKEN, World, act};

/// Lets so many changes through; after the last of them the process is dead: its answer is lost,
/// and nothing leaves any more.
struct Mortal {
    inner: ReqwestTransport,
    changes_left: Arc<AtomicUsize>,
}

impl Transport for Mortal {
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        async move {
            let dead =
                || TransportError::NotSent { host: "outside".to_owned(), reason: "the process is dead".to_owned() };
            let path = request.uri().path().to_owned();
            let reads =
                request.method() == http::Method::GET || path.contains("/connect/token") || path.contains("/vpbx/");
            let left = self.changes_left.load(Ordering::SeqCst);
            if left == 0 {
                return Err(dead());
            }
            let answer = self.inner.send(request, options).await;
            if !reads && self.changes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
                return Err(dead());
            }
            answer
        }
        .boxed()
    }
}

pub fn clients(world: &World, changes: usize) -> (Arc<Clients>, Arc<AtomicUsize>) {
    let changes_left = Arc::new(AtomicUsize::new(changes));
    let transport = || -> Arc<dyn Transport> {
        let inner = ReqwestTransport::direct(Trust::public()).unwrap();
        Arc::new(Mortal { inner, changes_left: changes_left.clone() })
    };
    let installation = Arc::new(world.installation());
    (Arc::new(Clients::over(installation, (transport(), transport()), transport(), transport())), changes_left)
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A reconciler as a fresh process has it.
pub fn reconciler(world: &World, clients: Arc<Clients>, bot: Option<KnownBot>) -> Reconciler {
    keeper_of(world, &world.channel("support", ""), clients, bot)
}

/// The same under another manifest.
pub fn keeper_of(world: &World, channel: &str, clients: Arc<Clients>, bot: Option<KnownBot>) -> Reconciler {
    let mut manifests = Manifests::default();
    manifests.add("a.yaml", channel);
    manifests.add("b.yaml", &world.secrets(TOKEN));
    let manifest = api::parse(&manifests.channels[0].value).unwrap();
    let secrets: Secrets = manifests.secrets.into_iter().map(|secret| (secret.name, secret.data)).collect();
    let mut reconciler = Reconciler::new(ChannelRef::new("default", "support"), clients, bot, Arc::default());
    reconciler.set(Ok(&manifest), &secrets, now());
    reconciler
}

/// Everything that was made outside, without times.
fn outside(world: &World) -> Vec<Value> {
    let mut all: Vec<Value> = ["MaxChannelSettings", "Channel", "ChatQueue", "ChatQueueOperator"]
        .iter()
        .flat_map(|entity| world.rows(entity))
        .map(|mut row| {
            if let Some(row) = row.as_object_mut() {
                row.retain(|name, _| !name.ends_with("On") && !name.ends_with("ById"));
            }
            row
        })
        .collect();
    all.extend(world.subscriptions().into_iter().map(Value::String));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_every_single_change_converges_to_the_same_and_makes_nothing_twice() {
    let reference = World::new().await;
    let (unhurt, left) = clients(&reference, 1_000);
    let mut whole = reconciler(&reference, unhurt, None);
    pass::observe(&mut whole, &now).await;
    let done = act(&mut whole, &now).await;
    assert!(done.iter().all(|step| step.outcome.is_ok()), "{done:?}");
    assert!(done.len() >= 6, "settings, queue, two agents, channel, subscription: {done:?}");
    assert_eq!(whole.plan(), [], "a second pass has nothing to do");
    assert_eq!(1_000 - left.load(Ordering::SeqCst), done.len(), "one request per change");
    let count = outside(&reference).len();

    for crash_at in 1..=done.len() {
        let world = World::new().await;
        let (mortal, _) = clients(&world, crash_at);
        let mut first = reconciler(&world, mortal, None);
        pass::observe(&mut first, &now).await;
        act(&mut first, &now).await;
        let bot = first.bot().cloned();
        drop(first);

        // The looks of the dead process count towards MANGO's limits.
        world.mango.control().forgive();
        let (healthy, _) = clients(&world, 1_000);
        let mut second = reconciler(&world, healthy, bot);
        pass::observe(&mut second, &now).await;
        act(&mut second, &now).await;
        assert_eq!(second.plan(), [], "crash after change {crash_at}");
        assert_eq!(outside(&world).len(), count, "crash after change {crash_at}: {:#?}", outside(&world));
        let row = world.channel_row().unwrap();
        assert_eq!(row["IsActive"], true);
        assert_eq!(world.queue_agents().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_takes_the_subscription_the_activity_and_the_owner_mark_and_can_be_repeated() {
    let world = World::new().await;
    let (healthy, _) = clients(&world, 1_000);
    let mut first = reconciler(&world, healthy.clone(), None);
    pass::observe(&mut first, &now).await;
    act(&mut first, &now).await;

    world.mango.control().forgive();
    let mut remover = reconciler(&world, healthy.clone(), None);
    pass::observe(&mut remover, &now).await;
    let done = remover.remove(&now).await;
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(remover.unseen(), Vec::<String>::new());
    assert!(world.subscriptions().is_empty());
    assert_eq!(world.channel_row().unwrap()["IsActive"], false);
    assert_eq!(world.rows("MaxChannelSettings")[0]["Owner"], "");

    let mut again = reconciler(&world, healthy, None);
    pass::observe(&mut again, &now).await;
    assert!(again.remove(&now).await.is_empty(), "nothing of ours is left");
}
