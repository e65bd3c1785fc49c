//! Who may reach the relay: its one port, from anywhere unless the installation says who brings
//! webhooks and who reads metrics. Where a relay may go is free unless the installation says
//! otherwise: MAX, MANGO OFFICE and each company's Creatio have addresses that a policy cannot
//! name.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::{Blueprint, PORT_NAME};
use crate::controller::names;

/// Who may reach relays, and where relays may go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkAccess {
    /// The controller, which asks for `/status`.
    pub controller: Vec<NetworkPolicyPeer>,
    /// What brings webhooks, such as the ingress controller; empty: anybody.
    pub ingress: Vec<NetworkPolicyPeer>,
    /// What reads `/metrics`; empty: anybody.
    pub monitoring: Vec<NetworkPolicyPeer>,
    /// Where relays may go; empty: anywhere.
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl NetworkAccess {
    /// Who may reach a relay; none: anybody.
    fn peers(&self, takes_webhooks: bool) -> Option<Vec<NetworkPolicyPeer>> {
        let open = self.monitoring.is_empty() || (takes_webhooks && self.ingress.is_empty());
        let ingress = if takes_webhooks { self.ingress.as_slice() } else { &[] };
        (!open).then(|| [&self.controller, ingress, &self.monitoring].concat())
    }
}

#[must_use]
pub fn network_policy(blueprint: &Blueprint) -> NetworkPolicy {
    let access = &blueprint.pods.network;
    let (mut policy_types, mut egress) = (vec!["Ingress".to_owned()], None);
    if !access.egress.is_empty() {
        policy_types.push("Egress".to_owned());
        egress = Some(access.egress.clone());
    }
    NetworkPolicy {
        metadata: blueprint.metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::labels(&blueprint.channel.name)),
                ..LabelSelector::default()
            }),
            policy_types: Some(policy_types),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::String(PORT_NAME.to_owned())),
                    protocol: Some("TCP".to_owned()),
                    ..NetworkPolicyPort::default()
                }]),
                from: access.peers(blueprint.takes_webhooks),
            }]),
            egress,
        }),
    }
}
