//! The `MaxChannel` resource: spec, status, conditions, the catalogue of documented errors, and what is wrong with a manifest. Pure.

mod spec;
mod status;
mod values;

pub use spec::*;
pub use status::{BotStatus, IntakeKind, MaxChannelStatus, RelayStatus};
pub use values::{Date, Duration, Quantity, TimeOfDay, ValueError};
