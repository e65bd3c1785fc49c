//! The CRM in which the agents answer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CaSecretRef, SecretRef, between, is_default};
use crate::api::values::Duration;

/// The CRM Creatio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Creatio {
    /// Address of the CRM, like `https://acme.creatio.com`. `http://` is taken with a warning: the
    /// credentials then travel unprotected.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub url: String,
    /// Address of the identity service, like `https://acme-is.creatio.com`; needed with `clientId`
    /// and `clientSecret`, unused with `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub identity_url: Option<String>,
    /// The Secret with the keys `clientId` and `clientSecret`, or `username` and `password`. The
    /// key `notifySecret` is optional: with it the CRM tells the relay at once that an agent has
    /// answered.
    pub credentials_secret_ref: SecretRef,
    /// The runtime of the CRM, which decides the prefix of its addresses: `Net` (none), `Framework`
    /// (`/0`), `Auto` (default: found out).
    #[serde(default)]
    pub runtime: Runtime,
    /// How often the CRM is asked for agents' answers while a dialog is open, 1s to 5m. Shorter is
    /// faster for the customer and costs more calls. Default 2s.
    #[serde(default = "poll_interval")]
    #[x_kube(validation = between("1s", "5m"))]
    pub poll_interval: Duration,
    /// How much of the CRM the relay may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: CreatioLimits,
    /// The authorities that are trusted for this CRM beside the public ones, for an on-site CRM
    /// with certificates of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
}

fn poll_interval() -> Duration {
    Duration::from_secs(2)
}

/// The runtime of the CRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Runtime {
    #[default]
    Auto,
    Net,
    Framework,
}

/// How much of the CRM the relay may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatioLimits {
    /// The most requests in any one second, 1 to 10000. Default 20. Kept together by all channels
    /// of the installation whose `url` has the same scheme, host and port; where they name
    /// different limits, the lowest counts.
    #[serde(default = "requests_per_second")]
    #[schemars(range(min = 1, max = 10_000))]
    pub requests_per_second: i32,
    /// The most requests at the same time, 1 to 256. Default 8. Each channel has its own.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 256))]
    pub in_flight: i32,
}

fn requests_per_second() -> i32 {
    20
}

fn in_flight() -> i32 {
    8
}

impl Default for CreatioLimits {
    fn default() -> Self {
        Self { requests_per_second: requests_per_second(), in_flight: in_flight() }
    }
}
