//! The way in by a Gateway that all channels share: a route of the channel's own paths, made and
//! removed with the wish for it.
//!
//! The definitions are those of the Gateway API itself; nobody serves the routes here.

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::json;

use crate::fleet::Fleet;
use crate::world::{Cluster, PATIENCE, World, tool, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_has_a_route_at_the_shared_gateway_for_as_long_as_it_takes_webhooks_there() {
    let Some(cluster) = Cluster::get().await else { return };
    let definitions = tool("gateway-api").join("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml");
    cluster.kubectl(&["apply", "--server-side", "-f", definitions.to_str().unwrap()]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/httproutes.gateway.networking.k8s.io",
        "--timeout=60s",
    ]);
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let gateway = json!({"name": "public", "namespace": "edge", "sectionName": "https"});
    // The rights in routes are granted where there is a Gateway, and only there.
    world.install("rights", &["--set", "replicaCount=0", "--set-json", &format!("webhook.gateway={gateway}")]);
    let mut settings = fleet.settings(&world);
    settings.relay_pods.gateway = Some(serde_json::from_value(gateway.clone()).unwrap());
    settings.webhook_host = Some("max.acme.example".to_owned());
    let controller = world.controller_with(settings).await;
    world.put_other_secrets().await;
    fleet.prepare(&world, 1).await;
    let mut manifest = fleet.manifest(&world, 1);
    manifest["spec"].as_object_mut().unwrap().remove("intake");
    let channel = world.apply(&manifest).await;

    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let routes: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let is_there = async || routes.get_opt("c1-relay").await.unwrap();
    let route = until("the route is made", PATIENCE, &is_there).await;
    assert_eq!(route.metadata.owner_references.as_ref().unwrap()[0].uid, channel.metadata.uid.clone().unwrap());
    let parent = &route.data["spec"]["parentRefs"][0];
    assert_eq!(
        (&parent["name"], &parent["namespace"], &parent["sectionName"]),
        (&json!("public"), &json!("edge"), &json!("https"))
    );
    assert_eq!(route.data["spec"]["hostnames"], json!(["max.acme.example"]));
    let paths = route.data["spec"]["rules"][0]["matches"].to_string();
    assert!(paths.contains(&format!("/webhooks/max/{}/c1/", world.namespace)), "{paths}");
    assert_eq!(route.data["spec"]["rules"][0]["backendRefs"][0]["name"], "c1-relay");
    assert!(world.api::<Ingress>().get_opt("c1-relay").await.unwrap().is_none(), "and no certificate of its own");

    // The server has filled in what was left out; that is no reason to write it again.
    let version = route.metadata.resource_version;
    manifest["spec"]["autoReplies"] = json!([{"after": "2h", "text": "Другой текст"}]);
    world.apply(&manifest).await;
    let told = async || {
        let secret = world.api::<k8s_openapi::api::core::v1::Secret>().get("c1-relay").await.unwrap();
        String::from_utf8(secret.data?.remove("channel.json")?.0).unwrap().contains("Другой текст").then_some(())
    };
    until("the edit is applied", PATIENCE, told).await;
    assert_eq!(is_there().await.unwrap().metadata.resource_version, version);

    // Nobody tells of what becomes of a route, and it is looked after all the same.
    let before = is_there().await.unwrap().metadata.uid;
    routes.delete("c1-relay", &DeleteParams::default()).await.unwrap();
    let again = until("it is made again when somebody deletes it", PATIENCE, &is_there).await;
    assert_ne!(again.metadata.uid, before);
    let elsewhere = json!({"spec": {"hostnames": ["elsewhere.example"]}});
    routes.patch("c1-relay", &PatchParams::default(), &Patch::Merge(elsewhere)).await.unwrap();
    until("it is repaired when somebody changes it", PATIENCE, async || {
        (is_there().await?.data["spec"]["hostnames"] == json!(["max.acme.example"])).then_some(())
    })
    .await;

    manifest["spec"]["intake"] = json!({"longPoll": {}});
    world.apply(&manifest).await;
    until("who polls needs no route", PATIENCE, async || is_there().await.is_none().then_some(())).await;
    manifest["spec"].as_object_mut().unwrap().remove("intake");
    world.apply(&manifest).await;
    until("it is made again", PATIENCE, &is_there).await;
    world.delete("c1").await;
    until("it goes with its channel", PATIENCE, async || is_there().await.is_none().then_some(())).await;
    controller.stop().await;
    world.end().await;
}
