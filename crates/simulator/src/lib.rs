//! Simulators of MAX, MANGO OFFICE and Creatio.
//!
//! A simulator is written from the published description of its system and shares no type with the
//! client that it tests: one wrong field name must not be able to agree with itself. It answers on
//! the addresses that it is given, keeps everything in memory, and is bounded. Simulators are for
//! tests and demonstrations and are not part of the release image.

pub mod clock;
pub mod connection;
pub mod creatio;
mod floor;
pub mod mango;
pub mod max;
