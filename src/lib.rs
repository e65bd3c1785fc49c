//! `maxchannel` connects a MAX bot to MANGO OFFICE and to the CRM Creatio by one manifest and carries every customer message to an
//! agent and every answer back.
//!
//! Dependencies point one way, and `tests/architecture.rs` keeps it so:
//! `api <- policy <- {max, mango, creatio} <- channel <- {controller, local}`; [`relay`] uses [`policy`] and the clients, never the
//! controller; a simulator shares no type with the client that it tests.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod api;
pub mod channel;
pub mod cli;
pub mod controller;
pub mod creatio;
pub mod creatio_package;
pub mod local;
pub mod mango;
pub mod max;
pub mod policy;
pub mod relay;
pub mod telemetry;
pub mod time;
pub mod transport;
