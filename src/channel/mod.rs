//! What makes a channel work: validate -> observe -> plan -> execute -> report.
//!
//! Used unchanged by the local runner and by the controller in a cluster; each of them brings manifests, secrets and time in and carries
//! statuses and relay configurations out. The steps:
//!
//! - [`validate`]: manifest and secrets become [`Desired`](validate::Desired). Pure.
//! - [`observe`]: what MAX, MANGO OFFICE and Creatio say. Reads, never writes.
//! - [`receiver`]: who takes the dialogs, from what was seen. Pure.
//! - [`plan`]: the difference as data, one [`Action`](plan::Action) per change. Pure.
//! - [`execute`]: one action at a time, each harmless when repeated.
//! - [`relay_config`]: what the relay is told. Pure.
//! - [`report`]: everything seen becomes the status. Pure.
//! - [`keeper`]: the order of the steps, and when which of them is due.
//!
//! Must not know files, Kubernetes or a clock; must not decide dialogs, which are the relay's.

pub mod claims;
pub mod execute;
mod installation;
pub mod keeper;
pub mod observe;
pub mod plan;
pub mod receiver;
pub mod relay_config;
pub mod report;
pub mod schedule;
pub mod validate;
pub mod webhook;

#[cfg(test)]
mod tests;

pub use installation::InstallationId;
use sha2::{Digest, Sha256};
use url::Url;

use crate::api::{self, Language};

/// What is the same for all channels of one installation.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Stands in whatever is ours outside, so that two installations never take each other's for their own.
    pub id: InstallationId,
    pub max_url: Url,
    /// The address of MAX is not its own but set for a test: plain `http://` public addresses are then taken too.
    pub max_overridden: bool,
    /// A PEM bundle in place of the built-in Ministry root.
    pub max_ca_pem: Option<String>,
    pub mango_url: Url,
    /// What the world sees of us; beats the host of a manifest.
    pub public_url: Option<Url>,
    /// Which answers of GET /me mean which documented error; the installation's own rows before the built-in ones.
    pub max_error_reasons: api::ErrorReasons,
    /// The language of messages in conditions.
    pub language: Language,
}

/// Names a state of something secret without telling it: the first 16 hex digits of a SHA-256 over the parts.
#[must_use]
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..8])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
