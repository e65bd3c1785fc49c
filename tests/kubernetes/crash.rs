//! A controller that dies after any single write: the next one converges to the same objects, and
//! makes nothing twice.

use std::collections::BTreeSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::client::ClientBuilder;
use maxchannel::api::MaxChannel;
use tokio::sync::Notify;
use tower::{Layer, Service};

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Controller, World, until};

/// Does every write up to the `at`-th, and says nothing any more after that one.
#[derive(Clone)]
struct DieAfter {
    at: usize,
    writes: Arc<AtomicUsize>,
    died: Arc<Notify>,
}

impl<S> Layer<S> for DieAfter {
    type Service = Dying<S>;

    fn layer(&self, inner: S) -> Dying<S> {
        Dying { inner, plan: self.clone() }
    }
}

struct Dying<S> {
    inner: S,
    plan: DieAfter,
}

impl<S, B> Service<Request<B>> for Dying<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let counts = request.method() != Method::GET && !request.uri().path().contains("/leases");
        let number = if counts { self.plan.writes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let (answer, plan) = (self.inner.call(request), self.plan.clone());
        Box::pin(async move {
            if number > plan.at {
                // It is dead already.
                return pending().await;
            }
            let answer = answer.await;
            if number == plan.at {
                plan.died.notify_one();
                return pending().await;
            }
            answer
        })
    }
}

/// What there is of the channel in the cluster and outside, by kind and name.
async fn made(world: &World) -> BTreeSet<String> {
    let mut made: BTreeSet<String> = world.leftovers("c1").await.into_iter().collect();
    // Made by Kubernetes itself, later.
    made.retain(|object| !object.contains("::Pod "));
    for collection in ["Channel", "ChatQueue", "ChatQueueOperator", "MaxChannelSettings"] {
        for (number, row) in world.crm.control().rows(collection).iter().enumerate() {
            made.insert(format!("{collection} {number} {}", row["IsActive"]));
        }
    }
    let bots = world.max.control().bots();
    for bot in bots {
        for subscription in bot.subscriptions {
            assert!(made.insert(format!("subscription {}", subscription.url)), "subscribed twice");
        }
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_behind_any_write_the_next_controller_makes_the_same_and_nothing_twice() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.install("rights", &["--set", "replicaCount=0"]);
    world.put_other_secrets().await;
    let mut expected: Option<BTreeSet<String>> = None;
    let mut at = 0;
    loop {
        at += 1;
        let plan = DieAfter { at, writes: Arc::default(), died: Arc::default() };
        let config = world.as_controller("rights").await;
        let (healthy, watching) = maxchannel::controller::clients(config.clone()).unwrap();
        let client = ClientBuilder::try_from(config).unwrap().with_layer(&plan).build();
        let first = Controller::start(fleet.settings(&world), client, watching.clone()).await;
        // Takes the place of the first one when that dies.
        let settings = fleet.settings(&world);
        let leases = world.api::<Lease>();
        let died = plan.died.clone();
        let heir = tokio::spawn(async move {
            died.notified().await;
            first.crash().await;
            // Not waited for: that is another test.
            let _ = leases.delete(&settings.lease, &DeleteParams::default()).await;
            Controller::start(settings, healthy, watching).await
        });
        fleet.add(&world, 1).await;
        fleet::until_ready(&world, 1, Duration::from_mins(1)).await;
        let now = made(&world).await;
        assert_eq!(expected.get_or_insert_with(|| now.clone()), &now, "after a crash behind write {at}");
        world.delete("c1").await;
        until("the channel is gone", Duration::from_mins(1), || async {
            world.api::<MaxChannel>().get_opt("c1").await.unwrap().is_none().then_some(())
        })
        .await;
        let left: Vec<String> = made(&world)
            .await
            .into_iter()
            .filter(|thing| thing.contains("subscription") || thing.ends_with(" true"))
            .collect();
        assert!(left.is_empty(), "after a crash behind write {at} this was left outside: {left:?}");
        until("the objects are gone", Duration::from_mins(1), || async {
            world.leftovers("c1").await.is_empty().then_some(())
        })
        .await;
        if plan.writes.load(Ordering::SeqCst) < at {
            heir.abort();
            break;
        }
        heir.await.unwrap().crash().await;
        let _ = world.api::<Lease>().delete("rights-maxchannel", &DeleteParams::default()).await;
        assert!(at < 100, "a channel does not take so many writes");
    }
    assert!(at > 12, "only {at} writes: was there a channel at all?");
    world.end().await;
}
