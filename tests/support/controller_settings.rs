//! How a controller in a test's process is set up. A test changes what it is about.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use maxchannel::api;
use maxchannel::channel::Installation;
use maxchannel::channel::schedule::Cadence;
use maxchannel::contract::InstallationId;
use maxchannel::controller::{self, RelayLink, RelayPods, Settings};
use uuid::Uuid;

/// A controller of one namespace and of the simulators at these addresses, with the defaults of
/// the chart otherwise.
pub fn controller_settings(namespace: &str, max: &str, mango: &str) -> Settings {
    Settings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        installation: Installation {
            id: InstallationId::default(),
            max_url: max.parse().expect("an address of a simulator"),
            max_overridden: true,
            max_ca_pem: None,
            mango_url: mango.parse().expect("an address of a simulator"),
            public_url: None,
            mango_base: None,
            max_error_reasons: api::ErrorReasons::default(),
            language: api::Language::English,
        },
        cadence: Cadence::default(),
        relay_interval: Duration::from_secs(30),
        deletion_patience: Duration::from_mins(2),
        namespace: namespace.to_owned(),
        pod: "controller".to_owned(),
        identity: format!("controller_{}", Uuid::new_v4().simple()),
        lease: "maxchannel".to_owned(),
        shards: 1,
        // Far longer than an attempt takes on a busy machine: whoever loses the lease begins anew.
        lease_duration: Duration::from_secs(6),
        namespaces: vec![namespace.to_owned()],
        relay_image: "localhost/maxchannel:dev".to_owned(),
        relay_pull_policy: None,
        relay_defaults: controller::RelayDefaults::default(),
        rollout_parallelism: controller::Parallelism::default(),
        relay_env: BTreeMap::new(),
        relay_pods: RelayPods {
            listen: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            run_as_user: Some(65532),
            network: controller::NetworkAccess::default(),
            gateway: None,
            extras: controller::PodExtras::default(),
        },
        allowed_hosts: api::AllowedHosts::default(),
        log_level: tokio::sync::watch::channel(None).1,
        webhook_host: None,
        webhook_ingress: None,
        relay_link: RelayLink::default(),
        status_page: None,
    }
}
