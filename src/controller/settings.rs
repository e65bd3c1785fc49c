//! How the controller is set up, and what that fills in where a manifest is silent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

use super::objects::{Gateway, NetworkAccess, PodExtras};
use super::relay_link::RelayLink;
use super::rollouts::Parallelism;
use crate::api::{
    AllowedHosts, ChannelRef, Ingress, Intake, MaxChannel, Resources, SecretRef, Storage, Toleration, VolumeClaim,
    Webhook,
};
use crate::channel::Installation;
use crate::channel::schedule::Cadence;
use crate::time::{Jitter, Millis};

/// What relays have where their channels say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RelayDefaults {
    pub resources: Option<Resources>,
    pub volume_claim: VolumeClaim,
    /// In the channels' namespaces.
    pub image_pull_secrets: Vec<SecretRef>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    /// What every pod has, whatever its channel says.
    pub pod: PodExtras,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub installation: Installation,
    pub cadence: Cadence,
    /// Between two checks of a relay.
    pub relay_interval: Duration,
    /// How long a deletion tries to take away what is outside, counted from its first try in this
    /// process.
    pub deletion_patience: Duration,
    /// The controller's own namespace and pod.
    pub namespace: String,
    pub pod: String,
    /// Names this process in the lease and in events.
    pub identity: String,
    pub lease: String,
    /// Into how many shards the channels are divided, each with a Lease of its own.
    pub shards: u32,
    pub lease_duration: Duration,
    /// Watched namespaces; empty: all.
    pub namespaces: Vec<String>,
    pub relay_image: String,
    pub relay_pull_policy: Option<String>,
    /// What relays have where their channels say nothing.
    pub relay_defaults: RelayDefaults,
    /// How many relays are replaced at once when something of their pods changes.
    pub rollout_parallelism: Parallelism,
    /// Environment variables of the relays' pods: what cannot change while one runs.
    pub relay_env: BTreeMap<String, String>,
    pub relay_pods: RelayPods,
    /// Where channels may send what is theirs.
    pub allowed_hosts: AllowedHosts,
    /// The log level that the relays shall have too; none: what they are started with.
    pub log_level: watch::Receiver<Option<String>>,
    /// The public host of channels that name none, and of those that MANGO OFFICE calls.
    pub webhook_host: Option<String>,
    /// The Ingress of channels with a host and without an ingress of their own.
    pub webhook_ingress: Option<Ingress>,
    pub relay_link: RelayLink,
    /// Where the status page is; none: there is none.
    pub status_page: Option<StatusPage>,
}

/// See [`crate::status_page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPage {
    pub listen: SocketAddr,
    /// The file with the page's token.
    pub token: PathBuf,
}

/// What every relay's pod and the objects beside it have of the installation.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayPods {
    /// Where a relay listens in its pod.
    pub listen: IpAddr,
    /// User, group and owner of the volume; none: the platform's choice.
    pub run_as_user: Option<i64>,
    pub network: NetworkAccess,
    /// Where channels with a host and without an ingress of their own have their route.
    pub gateway: Option<Gateway>,
    pub extras: PodExtras,
}

impl Settings {
    /// The manifest with what the installation says where the manifest is silent.
    #[must_use]
    pub fn with_defaults(&self, mut manifest: MaxChannel) -> MaxChannel {
        if let (None, Some(host)) = (&manifest.spec.intake, &self.webhook_host) {
            manifest.spec.intake = Some(Intake {
                webhook: Some(Webhook { host: Some(host.clone()), url: None, ingress: None }),
                long_poll: None,
                mango_dialogs: None,
                on_foreign_subscription: crate::api::ForeignSubscription::default(),
            });
        }
        let (relay, defaults) = (&mut manifest.spec.relay, &self.relay_defaults);
        if relay.resources.is_none() {
            relay.resources.clone_from(&defaults.resources);
        }
        if relay.image_pull_secrets.is_empty() {
            relay.image_pull_secrets.clone_from(&defaults.image_pull_secrets);
        }
        if relay.node_selector.is_empty() {
            relay.node_selector.clone_from(&defaults.node_selector);
        }
        if relay.tolerations.is_empty() {
            relay.tolerations.clone_from(&defaults.tolerations);
        }
        let storage = relay
            .storage
            .get_or_insert_with(|| Storage { volume_claim: Some(VolumeClaim::default()), ephemeral: None });
        if let Some(claim) = &mut storage.volume_claim {
            if claim.size.is_none() {
                claim.size.clone_from(&defaults.volume_claim.size);
            }
            if claim.storage_class_name.is_none() {
                claim.storage_class_name.clone_from(&defaults.volume_claim.storage_class_name);
            }
        }
        if let Some(webhook) = manifest.spec.intake.as_mut().and_then(|intake| intake.webhook.as_mut())
            && webhook.host.is_some()
            && webhook.ingress.is_none()
        {
            webhook.ingress.clone_from(&self.webhook_ingress);
        }
        manifest
    }

    /// What of the manifest this installation does not allow, one sentence each.
    #[must_use]
    pub fn forbidden(&self, manifest: &MaxChannel) -> Vec<String> {
        let value = serde_json::to_value(manifest).unwrap_or_default();
        self.allowed_hosts.findings(&value).iter().map(ToString::to_string).collect()
    }

    /// Until the next probe of a relay that runs as it shall.
    #[must_use]
    pub fn relay_pause(&self, channel: &ChannelRef, now: Millis) -> Millis {
        i64::try_from(jittered(channel, self.relay_interval, now).as_millis()).unwrap_or(30_000)
    }
}

/// A pause, up to a fifth longer or shorter, so that many channels do not come at the same moment.
#[must_use]
pub fn jittered(channel: &ChannelRef, pause: Duration, now: Millis) -> Duration {
    Jitter::either_way(20).by(pause, (channel, now))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pauses_of_many_channels_do_not_fall_together() {
        let pauses: BTreeSet<Duration> = (0..100)
            .map(|number| jittered(&ChannelRef::new("n", number.to_string()), Duration::from_secs(30), 0))
            .collect();
        assert!(pauses.len() > 80);
        assert!(pauses.iter().all(|pause| (24_000..=36_000).contains(&pause.as_millis())));
    }
}
