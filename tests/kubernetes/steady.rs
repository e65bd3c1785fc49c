//! A steady state writes nothing: neither to the API server, but for the lease, nor outside.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::audit::{self, Mark, Request};
use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Controller, World, until};

/// Counted for so long, seconds: `MAXCHANNEL_STEADY_SECONDS`.
fn duration() -> Duration {
    let given = std::env::var("MAXCHANNEL_STEADY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(180))
}

const CHANNELS: usize = 50;

/// Writes of the namespace's controllers, those to the lease aside.
fn writes(world: &World, mark: Mark) -> Vec<Request> {
    let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
    let all = audit::since(&world.cluster, mark, |who| who == user).into_iter();
    all.filter(|request| request.is_write() && request.resource != "leases").collect()
}

/// Returns when nothing has been written for five seconds.
async fn settled(world: &World) {
    loop {
        let mark = audit::mark(&world.cluster);
        tokio::time::sleep(Duration::from_secs(5)).await;
        if writes(world, mark).is_empty() {
            return;
        }
    }
}

async fn unchanged(controller: &Controller) -> u64 {
    let metrics = controller.metrics().await;
    let line = metrics.lines().find(|line| line.contains("reconciles_total{outcome=\"unchanged\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_state_and_every_second_pass_write_nothing() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    world.put_other_secrets().await;
    for number in 0..CHANNELS {
        fleet.add(&world, number).await;
    }
    fleet::until_ready(&world, CHANNELS, Duration::from_mins(3)).await;
    settled(&world).await;

    // Passes over every channel, with nothing to do: its Secret was touched.
    let mark = audit::mark(&cluster);
    let before = unchanged(&controller).await;
    for number in 0..CHANNELS {
        let body = json!({"metadata": {"annotations": {"somebody": "touched it"}}});
        let name = format!("bot-{number}");
        world.api::<Secret>().patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }
    let enough = before + CHANNELS as u64;
    until("each channel has had a pass", Duration::from_mins(1), || async {
        (unchanged(&controller).await >= enough).then_some(())
    })
    .await;
    assert!(writes(&world, mark).is_empty(), "{:#?}", writes(&world, mark));

    // A controller that begins anew finds everything as it shall be.
    controller.stop().await;
    let mark = audit::mark(&cluster);
    let outside = (fleet::max_writes(&world.max), fleet::crm_writes(&world.crm));
    let controller = world.controller_with(fleet.settings(&world)).await;
    until("each channel has had a pass", Duration::from_mins(1), || async {
        (unchanged(&controller).await >= CHANNELS as u64).then_some(())
    })
    .await;
    assert!(writes(&world, mark).is_empty(), "{:#?}", writes(&world, mark));

    tokio::time::sleep(duration()).await;
    assert!(writes(&world, mark).is_empty(), "{:#?}", writes(&world, mark));
    assert_eq!(
        (fleet::max_writes(&world.max), fleet::crm_writes(&world.crm)),
        outside,
        "something was written outside"
    );
    controller.stop().await;
    world.end().await;
}
