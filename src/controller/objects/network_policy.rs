//! Who may reach the relay: its one port, from anywhere. Ingress only: MAX, MANGO OFFICE and each company's Creatio have addresses that a
//! policy cannot name.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Blueprint, PORT_NAME};
use crate::controller::names;

#[must_use]
pub fn network_policy(blueprint: &Blueprint) -> NetworkPolicy {
    NetworkPolicy {
        metadata: blueprint.metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::labels(&blueprint.channel.name)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::String(PORT_NAME.to_owned())),
                    protocol: Some("TCP".to_owned()),
                    ..NetworkPolicyPort::default()
                }]),
                from: None,
            }]),
            egress: None,
        }),
    }
}
