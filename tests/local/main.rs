//! Channels from files on one machine, against simulators of MAX, MANGO OFFICE and Creatio.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, clippy::unused_self)]

#[path = "../support/any_account.rs"]
mod any_account;
mod commands;
mod crashes;
mod lifecycle;
mod limits;
mod moving;
mod troubles;
mod world;
