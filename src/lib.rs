//! `maxchannel` connects a MAX bot to MANGO OFFICE and to the CRM Creatio by one manifest and
//! carries every customer message to an agent and every answer back.
//!
//! Dependencies point one way, and `tests/architecture.rs` keeps it so:
//! `time <- api <- policy <- {max, mango, creatio} <- contract <- channel <- {controller, local}`.
//! [`relay`] uses [`policy`], the clients and the [`contract`], and neither half of the rest names
//! it; a simulator shares no type with the client that it tests.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

// Nothing of it is called; Cargo.toml says why it is named there.
use log as _;

pub mod api;
pub mod channel;
pub mod cli;
pub mod contract;
pub mod controller;
pub mod creatio;
pub mod creatio_package;
pub mod local;
pub mod mango;
pub mod max;
pub mod policy;
pub mod relay;
pub mod status_page;
pub mod telemetry;
pub mod time;
pub mod transport;
pub mod web;
