//! A simulator of a Creatio site with the package `MaxChannel`: sign-in, OData, chats, the
//! package's service and outbox, and agents that are driven through a control API.
//!
//! Owns: everything that a client of such a site can see over HTTP, kept in memory. A fact that no
//! public source settles is a switch ([`Switches`]) whose default is the more hostile variant;
//! [`Switches::friendly`] has the others. Must not share a type with the client that it tests and
//! must not talk to anything but loopback (the hints to `NotifyUrl`).
//!
//! The site listens on one port, its Identity Service on another, both plain HTTP. Ready at the
//! start: the provider row MAX, routing rules, chat statuses, one technical user with an OAuth
//! application and a forms login ([`Options`]). People are added by control.
//!
//! # Control
//!
//! `/control/…` on the site's port, without sign-in, outside counters and faults; `GET /control`
//! lists the routes. Times are simulated milliseconds. Chats, users and customers are named by
//! their ids; a customer is the `sender` of the package contract (`max:91234567`).
//!
//! | Route | Does |
//! |---|---|
//! | `POST /control/agents` `{name, email?, userEmail?, login?, password?, active?, id?}` | adds a Contact and a SysAdminUnit of type 4, answers `{id, contactId}` |
//! | `PATCH /control/agents/{id}` `{active?, state?}` | `active`: the user; `state`: `Active` or `Inactive` for chats |
//! | `GET /control/agents`, `GET /control/agents/{id}/chats` | the people; what one of them is offered and holds |
//! | `GET /control/chats[?sender=]`, `GET /control/chats/{id}` | chats; one with its conversation as the agent sees it |
//! | `POST /control/chats/{id}/accept` `{agentId}` | `{accepted}`; false where another was faster |
//! | `POST /control/chats/{id}/send` `{agentId, text?, files?: [{name, mimeType, base64}]}` | text first, then one message with all files: `{sent, messageIds, chatId, error}` |
//! | `POST /control/chats/{id}/transfer` `{agentId, toAgentId}` or `{agentId, toQueueId}` | `{chatId}` of the child |
//! | `POST /control/chats/{id}/close` `{agentId}` | completes it, reason `agent` |
//! | `GET /control/customers`, `GET /control/transcript/{sender}` | all customers; everything of one in the order in which it was stored, with states of outbox rows |
//! | `GET /control/files/{id}` | the bytes of a file |
//! | `GET /control/outbox` | all rows, also those that are not visible yet |
//! | `POST /control/outbox/hold` `{sender, ms}` | the customer's rows stay invisible for so long (a late commit) |
//! | `GET /control/violations`, `DELETE …` | broken rules of the contract; forget them |
//! | `GET /control/counters`, `DELETE …` | calls per path, the highest number in any one second, most in flight; from zero |
//! | `POST /control/faults` (a [`Fault`] or an array), `GET`, `DELETE` | next-N rules |
//! | `POST /control/outage` `{mode: "drop" \| "badGateway" \| "unavailable" \| null}` | the whole site and its Identity Service |
//! | `POST /control/restart` | sessions, memory queues and calls under way are lost |
//! | `POST /control/sessions/expire` `{shape?}`, `POST /control/tokens/revoke` | signs everybody out, optionally with another shape of refusal |
//! | `POST /control/lock` `{channelSource, sender, calls}` | the next N `receive` or `handOver` of the customer find the lock taken (`queued:true`) |
//! | `POST /control/package` `{installed?, version?, installation?, restartMs?}` | without it: unknown collections, 404 HTML; what the service answers; how the next installations end ([`Installation`]); how long a restart takes |
//! | `POST /control/rights` `{object, denied}` | takes the technical user's rights on an object away |
//! | `POST /control/rows/hide` `{id, hidden}` | the technical user cannot see that one row |
//! | `POST /control/rows/spoil` `{id, column, raw}` | lists show `raw` in the place of a column: `"\ud83d"`, `"no Guid"`, `[]` |
//! | `POST /control/outbox/broken` `{broken}` | the package cannot write its rows: an agent's send fails |
//! | `GET /control/switches`, `PATCH …` | reads and changes [`Switches`] |
//! | `POST /control/clock` `{advanceMs}` | moves simulated time on |
//! | `GET /control/odata/{entity}`, `POST …`, `PATCH …/{id}`, `DELETE …/{id}` | rows as an administrator sees and sets them |

mod auth;
mod batch;
mod chat;
mod control;
mod filter;
mod installer;
mod odata;
mod outbox;
mod package;
mod receive;
mod routing;
mod schema;
mod services;
mod site;
mod store;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use control::{Control, OutFile, Sent};
pub use installer::Installation;

use super::floor::wire;
pub use super::floor::{Answer, Fault, Outage};

/// Paths and pages of the site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Runtime {
    /// No prefix.
    #[default]
    Net,
    /// Paths begin with `/0`.
    Framework,
}

impl Runtime {
    /// `/0` or nothing.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Net => "",
            Self::Framework => "/0",
        }
    }
}

/// The database under the site: wording of its errors, precision of times (6 or 3 digits), and
/// whether texts compare without case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dialect {
    #[default]
    PostgreSql,
    SqlServer,
}

/// How a site refuses a session that has ended (Creatio API reference, 1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Expired {
    /// 401.
    #[default]
    Unauthorized,
    /// 403.
    Forbidden,
    /// 302 to the login page.
    Redirect,
    /// 200 with the login page.
    LoginPage,
}

/// What no public source settles, and what an administrator can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent unsettled fact")]
pub struct Switches {
    /// How cookies of an ended session are refused.
    pub expired: Expired,
    /// A refused bearer token gets an HTML page; false: an empty body. Both 401.
    pub token_refusal_html: bool,
    /// A refused bearer token is refused in the shape of `expired` too.
    pub token_refusal_as_expired: bool,
    /// `/connect/token` at the CRM's own host answers 200 with HTML; false: 404.
    pub token_page_at_crm: bool,
    /// Cookies without `ForceUseSession` are no session.
    pub force_use_session: bool,
    /// Every so many calls the session's cookies are replaced and the old ones end; 0: never.
    pub rotate_cookies_every: u32,
    /// Minutes after the last call until a session ends.
    pub session_minutes: i64,
    /// Simulated seconds that a bearer token lives.
    pub token_seconds: i64,
    /// A user is locked after so many wrong passwords; 0: never.
    pub lock_user_after: u32,
    /// The status of a duplicate key and of other refusals of the database: 500 or 400.
    pub database_error_status: u16,
    /// Errors carry `innererror`; false: they only say that an error has occurred.
    pub detailed_errors: bool,
    /// An unknown collection answers 200 with `{"Message": …}`; false: 404.
    pub unknown_collection_ok: bool,
    /// Missing rights answer 500 with an entity error; false: 403.
    pub denied_as_error: bool,
    /// `ContactId eq <guid>` works for lookups; false: only `Contact/Id eq <guid>`.
    pub lookup_column_filter: bool,
    /// `in (…)` works in `$filter`.
    pub in_operator: bool,
    /// Options inside `$expand(…)` work.
    pub nested_expand_options: bool,
    /// The zero Guid clears a lookup; false: it is a foreign key that does not exist.
    pub zero_guid_clears: bool,
    /// Unknown members of a body are ignored; false: an error.
    pub unknown_members_ignored: bool,
    /// A time without zone is refused; false: it is stored as none, silently.
    pub zoneless_time_refused: bool,
    /// Server-side page size, with `@odata.nextLink`; 0: none (20 000 rows).
    pub page_size: usize,
    /// The longest query string taken; 0: any.
    pub query_limit: usize,
    /// Rights on chats are checked by `OmnichannelChatService` (8.3.2).
    pub chat_rights: bool,
    /// Stock services answer Guids in upper case.
    pub upper_case_guids: bool,
    /// The largest file (system setting `MaxFileSize`).
    pub max_file_size: usize,
    /// `handOver` keeps the chat; false: a child takes over.
    pub hand_over_same_chat: bool,
    /// A chat is empty, and cannot be closed, also where only its parents have messages. Off
    /// although it is the more hostile variant: after a hand-over it leaves a chat that nobody can
    /// close.
    pub own_messages_only: bool,
    /// Calls that break the order rules of the contract are answered `bad_request`; false: taken.
    /// Recorded either way.
    pub refuse_disorder: bool,
    /// `Seq` jumps by more than one.
    pub seq_gaps: bool,
    /// Every so many outbox rows one becomes visible late; 0: never.
    pub late_row_every: u32,
    /// How late, in simulated milliseconds.
    pub late_row_ms: i64,
    /// How long after the agent's send the request ends and its files can be downloaded, in
    /// simulated milliseconds.
    pub files_after_ms: i64,
    /// The most rows of one answer (`MaxEntityRowCount`).
    pub max_rows: usize,
    /// The status of a refusal by the Identity Service: 400 or 401.
    pub token_error_status: u16,
    /// Rows carry `@odata.etag`.
    pub etags: bool,
    /// The status of deleting a row that does not exist: 404, or 204.
    pub delete_missing_status: u16,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            expired: Expired::Unauthorized,
            token_refusal_html: true,
            token_refusal_as_expired: false,
            token_page_at_crm: true,
            force_use_session: true,
            rotate_cookies_every: 50,
            session_minutes: 60,
            token_seconds: 3600,
            lock_user_after: 5,
            database_error_status: 500,
            detailed_errors: true,
            unknown_collection_ok: true,
            denied_as_error: false,
            lookup_column_filter: false,
            in_operator: false,
            nested_expand_options: false,
            zero_guid_clears: false,
            unknown_members_ignored: false,
            zoneless_time_refused: false,
            page_size: 40,
            query_limit: 2048,
            chat_rights: true,
            upper_case_guids: true,
            max_file_size: 10_485_760,
            hand_over_same_chat: false,
            own_messages_only: false,
            refuse_disorder: true,
            seq_gaps: true,
            late_row_every: 7,
            late_row_ms: 1500,
            files_after_ms: 400,
            max_rows: 20_000,
            token_error_status: 400,
            etags: true,
            delete_missing_status: 404,
        }
    }
}

impl Switches {
    /// The kind variant of every fact: no late rows, no gaps, nothing rotated, every form of filter
    /// taken.
    #[must_use]
    pub fn friendly() -> Self {
        Self {
            token_refusal_html: false,
            token_page_at_crm: false,
            force_use_session: false,
            rotate_cookies_every: 0,
            lock_user_after: 0,
            unknown_collection_ok: false,
            lookup_column_filter: true,
            in_operator: true,
            nested_expand_options: true,
            zero_guid_clears: true,
            unknown_members_ignored: true,
            zoneless_time_refused: true,
            page_size: 0,
            query_limit: 0,
            chat_rights: false,
            upper_case_guids: false,
            refuse_disorder: false,
            seq_gaps: false,
            late_row_every: 0,
            files_after_ms: 0,
            etags: false,
            ..Self::default()
        }
    }
}

/// How a site starts.
#[derive(Clone)]
pub struct Options {
    /// Address of the site; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of its Identity Service; port 0 takes a free one.
    pub identity_listen: SocketAddr,
    pub runtime: Runtime,
    pub dialect: Dialect,
    /// Simulated seconds per second.
    pub time_scale: f64,
    /// Work done for each call, in real milliseconds.
    pub work_ms: u64,
    /// The OAuth application of the technical user.
    pub client_id: String,
    pub client_secret: String,
    /// The forms login of the technical user.
    pub login: String,
    pub password: String,
    /// The system setting `MaxChannelNotifySecret`.
    pub notify_secret: String,
    pub switches: Switches,
    /// The time that it shows at the start, Unix ms; none: the real one.
    pub starts_at: Option<i64>,
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secrets: somebody may start a simulator with real ones.
        formatter
            .debug_struct("Options")
            .field("listen", &self.listen)
            .field("identity_listen", &self.identity_listen)
            .field("runtime", &self.runtime)
            .field("dialect", &self.dialect)
            .field("time_scale", &self.time_scale)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: free,
            identity_listen: free,
            runtime: Runtime::Net,
            dialect: Dialect::PostgreSql,
            time_scale: 1.0,
            work_ms: 0,
            client_id: "C0FFEE00C0FFEE00C0FFEE00C0FFEE00".to_owned(),
            client_secret: "invented-client-secret".to_owned(),
            login: "max.relay".to_owned(),
            password: "invented-password".to_owned(),
            notify_secret: "invented-notify-secret".to_owned(),
            switches: Switches::default(),
            starts_at: None,
        }
    }
}

/// A running site.
pub struct Simulator {
    site: Arc<site::Site>,
    /// Those of the site and of its Identity Service; none where it is called inside the process.
    servers: Option<(wire::Server, wire::Server)>,
    ticker: tokio_util::sync::DropGuard,
}

const INSIDE: &str = "http://crm.simulator:1";
const INSIDE_IDENTITY: &str = "http://crm.simulator:2";

impl fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Simulator").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Simulator {
    /// Starts the site and its Identity Service. Fails where an address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let (listen, identity_listen) = (options.listen, options.identity_listen);
        let site = Arc::new(site::Site::new(options, true));
        let at = Arc::clone(&site);
        let crm = wire::serve(listen, move |call| {
            let site = Arc::clone(&at);
            async move { site.crm(call).await }
        })
        .await?;
        let at = Arc::clone(&site);
        let identity = wire::serve(identity_listen, move |call| {
            let site = Arc::clone(&at);
            async move { site.identity(call).await }
        })
        .await?;
        site.set_url(crm.url());
        let ticker = site::tick(Arc::clone(&site), Duration::from_millis(50));
        Ok(Self { site, servers: Some((crm, identity)), ticker })
    }

    /// A site without a network: [`Simulator::call`] is its way in, and hints do not leave it, so
    /// that a test which pauses the time of the async runtime moves everything in it. To be made
    /// inside that runtime.
    pub fn inside(options: Options) -> Self {
        let site = Arc::new(site::Site::new(options, false));
        site.set_url(INSIDE.to_owned());
        // Whoever asks sees what time has brought about; this is for what nobody asks for.
        let ticker = site::tick(Arc::clone(&site), Duration::from_secs(5));
        Self { site, servers: None, ticker }
    }

    /// One request to the site or to its Identity Service, by its address; none: the connection was
    /// cut without an answer.
    pub async fn call(&self, request: http::Request<Bytes>) -> Option<http::Response<Bytes>> {
        let site = Arc::clone(&self.site);
        let (parts, body) = request.into_parts();
        let to_identity = parts.uri.port_u16() == Some(2);
        let call = wire::Call::new(parts, body);
        // A task of its own: a site goes on working when the client has hung up.
        let work =
            tokio::spawn(async move { if to_identity { site.identity(call).await } else { site.crm(call).await } });
        Some(work.await.ok()??.whole())
    }

    /// The site's address, without a trailing slash and without the prefix.
    pub fn url(&self) -> String {
        self.servers.as_ref().map_or_else(|| INSIDE.to_owned(), |(crm, _)| crm.url())
    }

    /// The Identity Service's address, without a trailing slash.
    pub fn identity_url(&self) -> String {
        self.servers.as_ref().map_or_else(|| INSIDE_IDENTITY.to_owned(), |(_, identity)| identity.url())
    }

    /// The handle by which a test or a demo drives the site; the same actions as `/control`.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.site))
    }

    /// Stops both servers and cuts their connections.
    pub async fn stop(self) {
        drop(self.ticker);
        if let Some((crm, identity)) = self.servers {
            crm.stop().await;
            identity.stop().await;
        }
    }
}
