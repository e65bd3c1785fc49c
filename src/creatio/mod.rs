//! The client of Creatio: sign-in, OData, files, chat services and the package MaxChannel.
//!
//! Owns: the wire shapes (package contract, version 1; Creatio API reference, sections 1-3, 5.4, 6,
//! 7), the session in both kinds of sign-in, the runtime's path prefix, the limits of the spec, and
//! the meaning of every failure as a [`Class`] and one sentence.
//!
//! Invariants: a request is replayed at most once, and only when the site said that it did not run
//! it because nobody was signed in; one sign-in at a time; a refused password is not tried again in
//! a hurry; no secret, cookie or message text is in any error or `Debug`. Must not retry anything
//! else, must not keep order (one call per customer at a time is the caller's), must not know MAX.

mod chat;
mod error;
pub mod install;
mod lenient;
mod odata;
mod package;
mod permits;
mod session;
mod setup;
mod sites;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, Weak};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

pub use chat::{Chat, ChatStatus};
pub use error::{Class, Error};
pub use odata::{Created, Deleted, Entity, Query, guid_literal, text_literal, time_literal};
pub use package::{
    Attachment, Author, CloseReason, Direction, Download, ErrorCode, FileUpload, HandOverAnswer, MessageType,
    OUTBOX_PAGE, OddRow, OutboxFile, OutboxKind, OutboxPage, OutboxRow, OutboxState, Ping, Receive, ReceiveAnswer,
    Report,
};
pub use setup::{Channel, ChatQueue, ChatQueueAgent, MaxChannelSettings, RoutingRule, User, ids};
pub use sites::{Pace, Place, Sites, site};
pub use wire::Calls;

use crate::transport::{Hold, Transport};
use wire::Wire;

/// Who signs in at the CRM. The user behind it is a technical one, with the rights of the
/// integration and no more.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// OAuth 2.0 client credentials, given out by the Identity Service (Creatio API reference,
    /// 1.3).
    OAuth {
        /// The application's client id; no secret.
        client_id: String,
        /// The application's client secret.
        client_secret: SecretString,
    },
    /// The sign-in form with cookies, for sites without an Identity Service (Creatio API reference,
    /// 1.1).
    Forms {
        /// Login of the technical user.
        username: String,
        /// Its password.
        password: SecretString,
    },
}

/// Which .NET the site runs on; it decides the prefix of all paths but the sign-in (Creatio API
/// reference, 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// Ask the site once and remember the answer.
    #[default]
    Auto,
    /// .NET 6 and 8: no prefix.
    Net,
    /// .NET Framework: prefix `/0`.
    Framework,
}

/// Where the CRM is, who signs in, and how much it may be asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Root of the site. A trailing `/` or `/0` does no harm.
    pub url: Url,
    /// Root of the Identity Service. Without it the cloud's convention is used:
    /// `<instance>-is.creatio.com`.
    pub identity_url: Option<Url>,
    /// See [`Runtime`].
    pub runtime: Runtime,
    /// See [`Credentials`].
    pub credentials: Credentials,
    /// At most so many requests in any one second, sign-ins included; 0 is taken as 1.
    pub requests_per_second: usize,
    /// At most so many requests under way at once, sign-ins included; 0 is taken as 1.
    pub in_flight: usize,
}

/// One signed-in client of one site. Clones share the session, the limits and the counters.
#[derive(Clone, Debug)]
pub struct Client {
    wire: Arc<Wire>,
    /// The users as they were read last, for as long as anybody holds them.
    users: Arc<Mutex<Weak<Vec<User>>>>,
}

impl Client {
    /// Makes a client with a limit of its own; nothing is sent before the first call.
    pub fn new(transport: Arc<dyn Transport>, settings: Settings) -> Self {
        Self::among(&Sites::default(), transport, settings)
    }

    /// Makes a client that keeps one limit together with all others of its site: the lowest of
    /// theirs.
    pub fn among(sites: &Sites, transport: Arc<dyn Transport>, settings: Settings) -> Self {
        let place = sites.enter(&settings.url, Pace::per_second(settings.requests_per_second));
        Self::at(place, transport, settings)
    }

    /// Makes a client that keeps the limit of the others of its site, and its own only while there
    /// are none.
    pub fn beside(sites: &Sites, transport: Arc<dyn Transport>, settings: Settings) -> Self {
        let place = sites.visit(&settings.url, Pace::per_second(settings.requests_per_second));
        Self::at(place, transport, settings)
    }

    fn at(place: sites::Place, transport: Arc<dyn Transport>, settings: Settings) -> Self {
        Self { wire: Arc::new(Wire::new(transport, settings, place)), users: Arc::default() }
    }

    /// Another limit from now on, in the place of that of the settings.
    pub fn set_pace(&self, pace: Pace) {
        self.wire.place().set(pace);
    }

    /// Whether the limit is in force: after a lower one was set, what was sent before counts for a
    /// while.
    #[must_use]
    pub fn keeps_pace(&self) -> bool {
        self.wire.place().limiter().is_kept()
    }

    /// Until when the site is left alone.
    pub fn hold(&self) -> &Hold {
        self.wire.hold()
    }

    /// How many requests this client has sent since it was made, by kind: Creatio's plans count
    /// calls.
    pub fn calls(&self) -> Calls {
        self.wire.calls()
    }
}
