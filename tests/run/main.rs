//! The real program: `maxchannel run` as a process of its own between the simulators, as a person
//! starts it, and killed as nobody should.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod company;
mod disk;
#[allow(dead_code, reason = "shared with the tests in a cluster")]
#[path = "../support/documented.rs"]
mod documented;
mod documents;
mod faults;
mod kill;
mod naive;
#[cfg(feature = "otlp")]
mod otlp;
mod power_cut;
mod run;
mod soak;
mod starts;
mod strangers;
mod telling;
mod widget;
