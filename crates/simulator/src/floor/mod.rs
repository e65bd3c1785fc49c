//! What the doubles of web sites stand on: whole requests in and whole answers out, faults in the
//! way, counters, and the part of the control API that each has. Must not know Creatio or MANGO
//! OFFICE.

pub(super) mod control;
pub(super) mod faults;
pub(super) mod wire;

pub use faults::{Answer, Fault, Outage};
