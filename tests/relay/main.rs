//! The relay between the simulators of MAX and Creatio: its promises, one test each. Time runs fast
//! (see [`world::World`]), so that what takes minutes takes seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod both_ways;
mod bots;
mod dialogs;
mod gaps;
mod hang_ups;
mod hostile;
mod interleavings;
mod keeping;
mod mango;
mod mango_odd;
mod odd;
mod order;
mod patience;
mod places;
mod rasa;
#[path = "../support/relay_config.rs"]
mod relay_config;
mod shares;
mod starts;
mod strange;
mod strangers;
mod switching;
mod upgrade;
mod ways;
mod world;
