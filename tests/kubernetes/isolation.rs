//! What hangs outside delays neither an edit nor another channel.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::fleet::Fleet;
use crate::world::{Cluster, World, until};

const HANGING: usize = 200;
const HEALTHY: usize = 10;
const EDITS: usize = 60;
/// Far above what it takes, two seconds at most, and far below what a hanging CRM takes.
const APPLIED: Duration = Duration::from_secs(10);

/// Takes connections and never answers.
async fn hole(at: SocketAddr) -> String {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_applied_at_once_beside_two_hundred_channels_whose_crm_hangs() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::alone(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let nowhere = hole(SocketAddr::new(world.cluster.host, 0)).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    world.put_other_secrets().await;
    for number in 0..HEALTHY {
        fleet.add(&world, number).await;
    }
    for number in 0..HEALTHY {
        world.until_ready(&format!("c{number}")).await;
    }
    for number in HEALTHY..HEALTHY + HANGING {
        fleet.prepare(&world, number).await;
        let mut manifest = fleet.manifest(&world, number);
        manifest["spec"]["creatio"]["url"] = json!(nowhere);
        manifest["spec"]["creatio"]["identityUrl"] = json!(nowhere);
        world.apply(&manifest).await;
    }
    let last = format!("c{}-relay", HEALTHY + HANGING - 1);
    until("the last of those that hang has its relay", Duration::from_mins(3), || async {
        world.api::<Secret>().get_opt(&last).await.unwrap()
    })
    .await;
    let mut taken = Vec::new();
    for edit in 0..EDITS {
        let name = format!("c{}", edit % HEALTHY);
        let text = format!("Правка номер {edit}.");
        let mut manifest = fleet.manifest(&world, edit % HEALTHY);
        manifest["spec"]["autoReplies"] = json!([{"after": "1h", "text": text}]);
        world.apply(&manifest).await;
        let began = Instant::now();
        until(&format!("edit {edit} is applied"), APPLIED, || async {
            let secret = world.api::<Secret>().get(&format!("{name}-relay")).await.unwrap();
            let told = String::from_utf8(secret.data?.remove("channel.json")?.0).unwrap();
            told.contains(&text).then_some(())
        })
        .await;
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    eprintln!("from edit to applied: median {:?}, p99 {:?}", taken[EDITS / 2], taken[EDITS * 99 / 100]);
    // The status of the edit is there as well, and says of the others what hangs.
    world.until_ready("c0").await;
    let hanging = format!("c{HEALTHY}");
    world.until_condition(&hanging, "CrmConnected", "False", "CrmUnreachable", Duration::from_mins(2)).await;
    controller.stop().await;
    world.end().await;
}
