//! Nothing secret and no message stands where it does not belong.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use maxchannel::contract::status;
use maxchannel_simulator::{creatio, mango};
use secrecy::ExposeSecret as _;

use crate::world::World;

/// Reads every object of the namespace but the Secrets, all logs, and what every pod shows under
/// /metrics and, to the controller, /status.
pub async fn assert_nothing_leaks(world: &World, messages: &[&str]) {
    let (crm, mango) = (creatio::Options::default(), mango::Options::default());
    let mut canaries = vec![world.token.clone(), crm.client_secret, mango.api_key, mango.api_salt];
    canaries.extend(messages.iter().map(|text| (*text).to_owned()));
    let namespace = world.namespace.as_str();
    let kinds =
        "mxc,sts,deploy,rs,pod,svc,endpointslice,sa,netpol,ing,cm,pvc,lease,events,role,rolebinding,controllerrevision";
    let mut shown =
        vec![("the objects".to_owned(), world.cluster.kubectl(&["-n", namespace, "get", kinds, "-o", "yaml"]))];
    for pod in world.api::<Pod>().list(&ListParams::default()).await.unwrap() {
        let name = pod.metadata.name.unwrap();
        shown.push((format!("the log of {name}"), world.cluster.kubectl(&["-n", namespace, "logs", &name])));
        let Some(ip) = pod.status.and_then(|status| status.pod_ip) else { continue };
        let client = reqwest::Client::new();
        let token = world.token.clone().into();
        let key = status::key(&token, namespace, name.trim_end_matches("-relay-0"));
        if name.ends_with("-relay-0") {
            let stranger = client.get(format!("http://{ip}:8080/status")).send().await.unwrap();
            assert_eq!(stranger.status().as_u16(), 403, "what a relay knows of customers is for the controller");
        }
        for path in ["metrics", "status"] {
            let request = client.get(format!("http://{ip}:8080/{path}")).bearer_auth(key.expose_secret());
            let text = request.send().await.unwrap().text().await.unwrap();
            shown.push((format!("{path} of {name}"), text));
        }
    }
    assert!(shown.len() >= 7, "both halves must run");
    for (place, text) in shown {
        assert!(!text.is_empty() || place.contains("relay") || place.starts_with("status"), "{place} is empty");
        for canary in &canaries {
            assert!(!text.contains(canary.as_str()), "{canary:?} stands in {place}");
        }
    }
}
