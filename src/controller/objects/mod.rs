//! What a channel owns in the cluster: one builder per object. Pure, and cannot fail: names and
//! lengths were settled before.
//!
//! Builders state the full intent: a field left out is a field given up in server-side apply.

mod http_route;
mod ingress;
mod network_policy;
mod secret;
mod service;
mod service_account;
mod stateful_set;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use http_route::{Gateway, HTTPRoute, http_route};
pub use ingress::ingress;
pub use network_policy::{NetworkAccess, network_policy};
pub use secret::secret;
pub use service::service;
pub use service_account::service_account;
pub use stateful_set::{PodExtras, stateful_set};

use super::names;
use super::settings::RelayPods;
use crate::api::ChannelRef;
use crate::api::{self, MaxChannel};

/// Where the relay listens in its pod.
pub const PORT: i32 = 8080;
/// The port's name on container and Service.
pub const PORT_NAME: &str = "http";

/// What the builders need of a channel and of the installation.
#[derive(Clone, Debug)]
pub struct Blueprint {
    pub channel: ChannelRef,
    pub owner: Option<OwnerReference>,
    pub relay: api::Relay,
    pub image: String,
    pub pull_policy: Option<String>,
    /// The installation's environment variables for relays.
    pub env: BTreeMap<String, String>,
    pub pods: RelayPods,
    pub takes_webhooks: bool,
    /// MANGO OFFICE brings the dialogs, in MAX's place.
    pub is_called_by_mango: bool,
    /// The public host and the Ingress to be made for it, if one is to be made.
    pub ingress: Option<(String, api::Ingress)>,
    /// The public host and the Gateway that serves it, where no Ingress does.
    pub gateway: Option<(String, Gateway)>,
}

impl Blueprint {
    /// `manifest` must have the installation's defaults filled in already.
    #[must_use]
    pub fn new(
        channel: &ChannelRef,
        manifest: &MaxChannel,
        owner: Option<OwnerReference>,
        image: &str,
        pull_policy: Option<&str>,
        env: &BTreeMap<String, String>,
        pods: &RelayPods,
    ) -> Self {
        let intake = manifest.spec.intake.as_ref();
        let webhook = intake.and_then(|intake| intake.webhook.as_ref());
        Self {
            channel: channel.clone(),
            owner,
            relay: manifest.spec.relay.clone(),
            image: image.to_owned(),
            pull_policy: pull_policy.map(ToOwned::to_owned),
            env: env.clone(),
            pods: pods.clone(),
            takes_webhooks: webhook.is_some(),
            is_called_by_mango: intake.is_some_and(|intake| intake.mango_dialogs.is_some()),
            gateway: webhook
                .filter(|webhook| webhook.ingress.is_none())
                .and_then(|webhook| Some((webhook.host.clone()?, pods.gateway.clone()?))),
            ingress: webhook.and_then(|webhook| Some((webhook.host.clone()?, webhook.ingress.clone()?))),
        }
    }

    /// Opens the installation's public host to MANGO OFFICE where that brings the dialogs: such an
    /// intake names no host of its own. Without a host the relay asks.
    #[must_use]
    pub fn with_public_host(mut self, host: Option<&str>, ingress: Option<&api::Ingress>) -> Self {
        if let Some(host) = host.filter(|_| self.is_called_by_mango) {
            self.takes_webhooks = true;
            self.ingress = ingress.map(|ingress| (host.to_owned(), ingress.clone()));
            let gateway = self.pods.gateway.clone().filter(|_| ingress.is_none());
            self.gateway = gateway.map(|gateway| (host.to_owned(), gateway));
        }
        self
    }

    /// The pod's own disk in place of a claim.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.relay.storage.as_ref().is_some_and(|storage| storage.ephemeral.is_some())
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(names::relay(&self.channel.name)),
            namespace: Some(self.channel.namespace.clone()),
            labels: Some(names::labels(&self.channel.name)),
            owner_references: self.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }
}
