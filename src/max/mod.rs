//! The client of the MAX Bot API.
//!
//! Owns: every call of the API that the relay and the controller need, what its answers and
//! refusals mean ([`Error`], [`Class`]), the limits of MAX, whom to trust for it, and the reading
//! of updates and messages.
//!
//! Invariants:
//! - The bot token travels in the header `Authorization` to the API host and nowhere else: no
//!   query, no other host, no log, no `Debug`, no error (MAX Bot API reference, "Authorisation").
//! - At most [`REQUESTS_PER_SECOND`] requests in any second towards the API host, reads included,
//!   and at most two per dialog for messages, as counted at the other side. Clones of one
//!   [`Client`] share the count.
//! - Reading never fails on what it does not know: unknown types, unknown fields, nulls and missing
//!   parts each have a name.
//!
//! Must not: retry (that is the caller's table), keep state of a dialog, follow redirects, or know
//! MANGO OFFICE or Creatio.

pub mod attachment;
mod client;
pub mod deep_link;
mod error;
mod files;
mod ids;
mod lenient;
mod limits;
mod message;
mod outgoing;
#[cfg(test)]
mod tests;
pub mod text;
mod trust;
pub mod update;
pub mod vcard;

use secrecy::SecretString;
use url::Url;

pub use attachment::Attachment;
pub use client::{Client, FEWER, POLL_LIMIT, Turn, Updates};
pub use error::{Class, Error};
pub use files::Download;
pub use ids::{ChatId, MessageId};
pub use limits::REQUESTS_PER_SECOND;
pub use message::{Addressee, Bot, Link, LinkMark, Message, Subscription, User, VideoDetails};
pub use outgoing::{
    Action, Button, CallbackAnswer, History, Keyboard, NewMessage, OutgoingAttachment, Recipient, UploadKind,
    UploadedToken,
};
pub use trust::{Transports, transports};

/// Where the API is (MAX Bot API reference, "Base URL history": it has changed twice within a year,
/// so it is a setting).
pub const DEFAULT_BASE_URL: &str = "https://platform-api2.max.ru";

/// Where the API is and who we are to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address that the paths of the reference are appended to; [`DEFAULT_BASE_URL`] outside
    /// tests. With or without a slash at its end.
    pub base_url: Url,
    /// The bot token, opaque. Blanks and line ends around it are cut off.
    pub token: SecretString,
}
