//! What makes a channel work: validate -> observe -> plan -> execute -> report.
//!
//! Used unchanged by the local runner and by the controller in a cluster; each of them brings
//! manifests, secrets and time in and carries statuses and relay configurations out. The steps:
//!
//! - [`validate`]: manifest and secrets become [`Desired`](validate::Desired). Pure.
//! - [`observe`]: what MAX, MANGO OFFICE and Creatio say. Reads, never writes.
//! - [`receiver`]: who takes the dialogs, from what was seen. Pure.
//! - [`plan`]: the difference as data, one [`Action`](plan::Action) per change. Pure.
//! - [`execute`]: one action at a time, each harmless when repeated.
//! - [`relay_config`]: what the relay is told. Pure.
//! - `manual_steps`: what only a person can set in the cabinet of MANGO OFFICE. Pure.
//! - [`report`]: everything seen becomes the status. Pure.
//! - [`reconciler`]: what was seen of one channel, and which step is due.
//! - [`errands`]: what is under way outside.
//! - [`pass`](mod@pass): the order of the steps.
//!
//! Must not know files, Kubernetes or a clock; must not decide dialogs, which are the relay's.

mod bot_at_max;
pub mod claims;
pub mod errands;
pub mod execute;
mod manual_steps;
pub mod observe;
pub mod pass;
pub mod plan;
pub mod receiver;
pub mod reconciler;
pub mod relay_config;
pub mod report;
pub mod schedule;
pub mod shares;
pub mod subscription;
pub mod validate;

#[cfg(test)]
mod tests;

use url::Url;

use crate::api::{self, Language};
use crate::contract::InstallationId;

/// What is the same for all channels of one installation.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Stands in whatever is ours outside, so that two installations never take each other's for
    /// their own.
    pub id: InstallationId,
    pub max_url: Url,
    /// The address of MAX is not its own but set for a test: plain `http://` public addresses are
    /// then taken too.
    pub max_overridden: bool,
    /// A PEM bundle in place of the built-in Ministry root.
    pub max_ca_pem: Option<String>,
    pub mango_url: Url,
    /// What the world sees of us; beats the host of a manifest.
    pub public_url: Option<Url>,
    /// Where MANGO OFFICE reaches channels whose dialogs it brings: their manifests name no host.
    pub mango_base: Option<Url>,
    /// Which answers of GET /me mean which documented error; the installation's own rows before the
    /// built-in ones.
    pub max_error_reasons: api::ErrorReasons,
    /// The language of messages in conditions.
    pub language: Language,
}
