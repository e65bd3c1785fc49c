//! The `MaxChannel` resource: spec, status, conditions, the catalogue of documented errors, and what is wrong with a manifest. Pure.
//!
//! Everything else in the crate may read from here; nothing here reads from elsewhere. No I/O: texts come in, values and sentences go
//! out.

pub mod catalogue;
pub mod conditions;
mod spec;
mod status;
mod values;

pub use catalogue::{ErrorReasons, Language, Reason};
pub use conditions::{ConditionType, Outcome, Pass, Status};
pub use spec::*;
pub use status::{BotStatus, IntakeKind, MaxChannelStatus, RelayStatus};
pub use values::{Date, Duration, Quantity, TimeOfDay, ValueError};
