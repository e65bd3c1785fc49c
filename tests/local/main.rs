//! Channels from files on one machine, against simulators of MAX, MANGO OFFICE and Creatio.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, clippy::unused_self)]

mod commands;
mod crashes;
mod lifecycle;
mod moving;
mod troubles;
mod world;
