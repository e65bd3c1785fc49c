//! Several controllers at work at once: each channel is one's alone at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use maxchannel::api::MaxChannel;
use maxchannel::controller;
use serde_json::json;

use crate::audit;
use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Controller, PATIENCE, World, until};

const CHANNELS: usize = 24;

async fn replica(world: &World, fleet: &Fleet, agent: &str, shards: u32) -> Controller {
    let mut config = world.as_controller("rights").await;
    config.headers.push((http::header::USER_AGENT, agent.parse().unwrap()));
    let (client, watching) = controller::clients(config).unwrap();
    let mut settings = fleet.settings(world);
    settings.identity = agent.to_owned();
    settings.shards = shards;
    settings.lease_duration = Duration::from_secs(9);
    Controller::start(settings, client, watching).await
}

/// Each of these has shards, they have as many as there shall be, and nobody else has any.
async fn until_held(world: &World, holders: &[&str], shards: usize) {
    let began = Instant::now();
    loop {
        let leases = world.api::<Lease>().list(&ListParams::default()).await.unwrap().items;
        let first = leases.iter().find(|lease| lease.name_any() == "rights-maxchannel");
        let said = first.and_then(|lease| lease.annotations().get("maxchannel.dev/shards").cloned());
        let holder = |lease: &Lease| lease.spec.clone()?.holder_identity.filter(|holder| !holder.is_empty());
        let held: Vec<String> = leases.iter().filter_map(holder).collect();
        let by: BTreeSet<&str> = held.iter().map(String::as_str).collect();
        let is_said = said.as_deref().unwrap_or("1") == shards.to_string();
        if is_said && held.len() == shards && by == holders.iter().copied().collect() {
            return;
        }
        let stand = leases.iter().map(|lease| (lease.name_any(), lease.annotations(), &lease.spec));
        let stand: Vec<_> = stand.collect();
        assert!(began.elapsed() < PATIENCE, "{holders:?} do not have the {shards} shards: {stand:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each channel is edited, and its status speaks of the edit.
async fn edit_all(world: &World, after: &str) {
    let mut wanted = BTreeMap::new();
    for number in 0..CHANNELS {
        let name = format!("c{number}");
        let body = json!({"spec": {"autoReplies": [{"after": after, "text": "Скоро ответим."}]}});
        let api = world.api::<MaxChannel>();
        let edited = api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
        wanted.insert(name, edited.metadata.generation);
    }
    until(&format!("every channel has {after}"), PATIENCE, || async {
        let all = world.api::<MaxChannel>().list(&ListParams::default()).await.unwrap();
        let is_told = |channel: &MaxChannel| {
            let told = channel.status.as_ref().and_then(|status| status.observed_generation);
            told == wanted[&channel.name_any()]
        };
        all.iter().all(is_told).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_channel_is_written_by_one_controller_at_a_time_whoever_comes_goes_or_is_killed() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.install("rights", &["--set", "replicaCount=0,shards=3"]);
    let mark = audit::mark(&cluster);
    let first = replica(&world, &fleet, "replica-one", 2).await;
    let second = replica(&world, &fleet, "replica-two", 2).await;
    until_held(&world, &["replica-one", "replica-two"], 2).await;
    world.put_other_secrets().await;
    for number in 0..CHANNELS {
        fleet.add(&world, number).await;
    }
    fleet::until_ready(&world, CHANNELS, PATIENCE).await;
    // Killed: what it had is taken over.
    second.crash().await;
    until_held(&world, &["replica-one"], 2).await;
    edit_all(&world, "2h").await;
    // One that comes is given its share.
    let third = replica(&world, &fleet, "replica-three", 2).await;
    until_held(&world, &["replica-one", "replica-three"], 2).await;
    edit_all(&world, "3h").await;
    // Another number of shards, as by an upgrade that replaces one controller after the other.
    let fourth = replica(&world, &fleet, "replica-four", 3).await;
    let fifth = replica(&world, &fleet, "replica-five", 3).await;
    let sixth = replica(&world, &fleet, "replica-six", 3).await;
    first.stop().await;
    third.stop().await;
    until_held(&world, &["replica-five", "replica-four", "replica-six"], 3).await;
    edit_all(&world, "4h").await;
    for controller in [fourth, fifth, sixth] {
        controller.stop().await;
    }

    let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
    let mut writes = audit::since(&cluster, mark, |who| who == user);
    writes.retain(|request| request.is_write() && request.code < 300 && request.resource != "leases");
    writes.sort_by_key(|request| request.at);
    let mut by_channel: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for write in writes {
        let name = write.name.split('.').next().unwrap_or_default();
        let channel = name.strip_suffix("-relay").unwrap_or(name).to_owned();
        let agents = by_channel.entry(channel).or_default();
        if agents.last() != Some(&write.agent) {
            agents.push(write.agent);
        }
    }
    by_channel.retain(|channel, _| channel.starts_with('c'));
    assert_eq!(by_channel.len(), CHANNELS);
    let mut all = BTreeSet::new();
    for (channel, agents) in by_channel {
        let each: BTreeSet<_> = agents.iter().cloned().collect();
        assert_eq!(each.len(), agents.len(), "writes of two controllers are mixed in {channel}: {agents:?}");
        all.extend(each);
    }
    assert_eq!(all.len(), 6, "every controller had channels: {all:?}");
    world.end().await;
}
