//! The definition itself: missing at the start, older than the program, upgraded under live
//! objects, and objects that fit no schema.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use maxchannel::api::{self, MaxChannel};
use maxchannel::controller::Channel;
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, PATIENCE, World, until};

const NAME: &str = "maxchannels.maxchannel.dev";

/// As an early release may have been: the same version, without most of the rules.
fn loose() -> CustomResourceDefinition {
    let mut definition = api::crd();
    for version in &mut definition.spec.versions {
        let whole = version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        whole.x_kubernetes_validations = None;
        let spec = JSONSchemaProps {
            type_: Some("object".to_owned()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        whole.properties.as_mut().unwrap().insert("spec".to_owned(), spec);
    }
    definition
}

pub async fn install(world: &World, definition: &CustomResourceDefinition) {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let parameters = PatchParams::apply("test").force();
    api.patch(NAME, &parameters, &Patch::Apply(definition)).await.unwrap();
    let established = kube::runtime::conditions::is_crd_established();
    let wait = kube::runtime::wait::await_condition(api, NAME, established);
    tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
}

/// Takes the definition away, and with it every channel that a test which failed has left.
pub async fn remove(world: &World) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    until("the definition is gone", PATIENCE, || async {
        let _ = definitions.delete(NAME, &DeleteParams::default()).await;
        // A test that failed has left a channel that nobody takes away any more.
        let all: Api<Channel> = Api::all(world.client.clone());
        for left in all.list(&ListParams::default()).await.into_iter().flatten() {
            let one: Api<Channel> = Api::namespaced(world.client.clone(), left.metadata.namespace.as_deref().unwrap());
            let body = Patch::Merge(json!({"metadata": {"finalizers": []}}));
            let _ = one.patch(left.metadata.name.as_deref().unwrap(), &PatchParams::default(), &body).await;
        }
        definitions.get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_definition_is_waited_for_an_older_one_serves_and_an_upgrade_changes_nothing_for_live_channels() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::alone(&cluster).await;
    remove(&world).await;
    let fleet = Fleet::start(&world).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    let ready = || async {
        let answer = reqwest::get(format!("http://{}/readyz", controller.running.address)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, why) = until("it says what is missing", PATIENCE, || async {
        Some(ready().await).filter(|(_, why)| why.contains(NAME))
    })
    .await;
    assert_eq!(status, 503, "{why}");
    let alive = reqwest::get(format!("http://{}/healthz", controller.running.address)).await.unwrap();
    assert!(alive.status().is_success());
    assert!(controller.metrics().await.contains("maxchannel_controller_crd_missing 1"));

    install(&world, &loose()).await;
    until("it is ready", PATIENCE, || async { (ready().await.0 == 200).then_some(()) }).await;
    let raw: Api<Channel> = Api::namespaced(world.client.clone(), &world.namespace);
    for (name, spec) in [("nonsense", json!({"tokenSecretRef": 7})), ("empty", json!({}))] {
        let body = json!({"apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel", "metadata": {"name": name}, "spec": spec});
        raw.patch(name, &PatchParams::apply("person").force(), &Patch::Apply(body)).await.unwrap();
    }
    world.put_other_secrets().await;
    fleet.add(&world, 1).await;
    world.until_condition("c1", "Ready", "True", "Ready", PATIENCE).await;
    for name in ["nonsense", "empty"] {
        until("the broken one says so", PATIENCE, || async {
            let broken = raw.get(name).await.unwrap();
            let invalid = broken.conditions().iter().any(|one| one.type_ == "SpecValid" && one.status == "False");
            invalid.then_some(())
        })
        .await;
    }

    let before = world.api::<MaxChannel>().get("c1").await.unwrap();
    install(&world, &api::crd()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = world.api::<MaxChannel>().get("c1").await.unwrap();
    assert_eq!((before.spec, before.status), (after.spec, after.status));
    for name in ["nonsense", "empty"] {
        raw.delete(name, &DeleteParams::default()).await.unwrap();
        until("the broken one is gone", PATIENCE, || async {
            raw.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    fleet::until_ready(&world, 1, PATIENCE).await;
    controller.stop().await;
    world.end().await;
}
