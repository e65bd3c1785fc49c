//! What one half tells the other: the controller (or the local runner) the relay, and the relay
//! whoever asks.
//!
//! - [`config`]: what a relay is told, as `channel.json` and one file per credential.
//! - [`Facts`] and [`Trouble`]: what a relay knows, as it answers under [`status::PATH`].
//! - [`share`]: how much a relay may ask of its CRM.
//! - [`webhook`]: the addresses that MAX and the CRM call, and the secret that MAX shows.
//! - [`admin`]: what the administrator asks a relay for.
//! - [`CustomerId`]: whom a dialog is with.
//! - [`InstallationId`]: whose both halves are.
//! - [`digest`]: names of what is secret or long.
//!
//! Whatever stands here is read by a program of another version: unknown members are ignored, and
//! what is new may be absent.
//!
//! Must not: decide anything, or reach outside but for the files of [`config`].

pub mod admin;
pub mod config;
mod customer_id;
pub mod digest;
mod facts;
mod installation;
pub mod share;
pub mod status;
mod trouble;
pub mod webhook;

pub use config::RelayConfig;
pub use customer_id::CustomerId;
pub use facts::{AutoClose, Facts, MangoFacts, ReceiptFacts, SideFacts, Undelivered};
pub use installation::InstallationId;
pub use trouble::Trouble;
