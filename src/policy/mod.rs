//! The rules of a dialog as a state machine: (rules, dialog, event, time) -> (dialog, effects). Pure: no I/O, no clock, no randomness.
//!
//! The caller (the relay, and `maxchannel rules`) keeps one [`Dialog`] per customer, calls [`step`] for everything that happens, and writes
//! the dialog and what follows from the effects in one transaction. It calls [`step`] with [`Event::Tick`] at [`next_due`], and once after
//! each start for every customer whose dialog is not [`Phase::Idle`].

mod dialog;
mod hours;
mod rules;

pub use dialog::{BotRole, ClosedBy, Context, Dialog, Effect, Event, Note, Phase, ReplySet, next_due, step};
pub use hours::{HoursError, Interval, WorkingHours};
pub use rules::{AutoReply, OffHours, Receiver, Rules};

/// Milliseconds since 1970-01-01T00:00:00Z, or a span in milliseconds.
pub type Millis = i64;
