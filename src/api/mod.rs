//! The `MaxChannel` resource: spec, status, conditions, the catalogue of documented errors, and
//! what is wrong with a manifest. Pure.
//!
//! Everything else in the crate may read from here; nothing here reads from elsewhere. No I/O:
//! texts come in, values and sentences go out.

mod allowed;
pub mod catalogue;
mod channel_ref;
pub mod conditions;
mod crd;
mod editor;
mod error_reasons;
mod errors_doc;
pub mod findings;
pub mod logo;
pub mod manifest;
mod path;
mod secret;
mod spec;
mod status;
mod values;
pub(crate) mod yaml;

pub use allowed::AllowedHosts;
pub use catalogue::{Language, Reason};
pub use channel_ref::ChannelRef;
pub use conditions::{ConditionType, Outcome, Pass, Status};
pub use crd::{API_VERSION, GROUP, KIND, VERSION, crd, crd_yaml};
pub use editor::json_schema;
pub use error_reasons::ErrorReasons;
pub use errors_doc::errors_markdown;
pub use findings::{ACCEPT_BOT, Finding, Severity, across, findings, parse, summary};
pub use path::FieldPath;
pub use secret::{SecretProblem, key, passphrase, secret_value};
pub use spec::*;
pub use status::{BotStatus, IntakeKind, MaxChannelStatus, RelayStatus};
pub use values::{Date, Duration, Quantity, TimeOfDay, ValueError};
