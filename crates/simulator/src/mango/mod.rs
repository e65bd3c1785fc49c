//! A simulator of MANGO OFFICE's server API: employees, groups, balance and the channels of Манго
//! Диалоги.
//!
//! Owns: the signed form, the three envelopes, limits, the penalty box, and an account whose people
//! and groups control sets (MANGO OFFICE reference §1, §2, §3), and the dialogs themselves (§4):
//! sessions, messages, and webhooks, which are lost, doubled and mixed up as control says. Settings
//! are read-only to a client, as in the public API. A fact that no public source settles is a
//! switch ([`Switches`]). Must not share a type with the client that it tests.
//!
//! # Control
//!
//! `/control/…` on the same port, without signature, outside limits and faults; `GET /control`
//! lists the routes.
//!
//! | Route | Does |
//! |---|---|
//! | `POST /control/employees` `{user_id?, name, email?, extension?, abonent_id?, robot?}` | adds or replaces one, answers `{user_id}` |
//! | `GET /control/employees`, `DELETE /control/employees/{user_id}` | reads; takes away, also from its groups |
//! | `POST /control/groups` `{id?, name, extension?, members?: [user_id]}` | adds or replaces one, answers `{id}` |
//! | `GET /control/groups`, `DELETE /control/groups/{id}` | reads; takes away |
//! | `POST /control/widgets` (a widget of the reference, §3) , `GET`, `DELETE` | the groups of channels |
//! | `POST /control/keys` `{apiKey, apiSalt, beside?}` | replaces the account's key and salt; `beside`: takes them too, as those of a second account with the same people |
//! | `POST /control/balance` `{balance}` | |
//! | `POST /control/faults`, `GET`, `DELETE` | next-N rules as in the simulator of Creatio |
//! | `POST /control/outage` `{mode: "drop" \| "badGateway" \| "unavailable" \| null}` | |
//! | `POST /control/throttle` `{calls}` | the next calls are over the limit, without the client's fault |
//! | `POST /control/forgive` | empties the penalty box and the limits |
//! | `GET /control/counters`, `DELETE …` | calls per path, highest number in any one second |
//! | `GET /control/violations`, `DELETE …` | wrong requests and calls over the limit: `{path, code}` |
//! | `POST /control/webhook` `{url}` | where events go: their paths are appended to it; null: nowhere |
//! | `POST /control/say` `{socialUserId, firstName?, lastName?, text \| file, channelId?}` | a client writes; answers `{session_id, message_id}` |
//! | `POST /control/desk` `{what: "take" \| "answer" \| "close" \| "expire" \| "automatic", socialUserId, abonentId, text?}` | an employee works in MANGO's own desk, or the time is over |
//! | `POST /control/delivered` `{chatId, messageId}`, `POST /control/not-delivered` `{chatId, messageId, error}` | an outgoing message reached the client, or did not |
//! | `GET /control/dialogs` | sessions with their messages, closed ones included |
//! | `GET`, `POST /control/events` `{lose?, double?, swap?, hold?}` | what happens to the next webhooks; `GET`: what was delivered |
//! | `GET /control/switches`, `PATCH …`, `POST /control/clock` `{advanceMs}` | |

mod account;
mod control;
mod dialogs;
mod events;
mod site;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use account::{Employee, Group, sign};
pub use control::Control;
pub use dialogs::{ClientMessage, Outgoing};
pub use events::{BodyForm, EventFaults, Receiver, WebhookCall};

use super::floor::wire;
pub use super::floor::{Answer, Fault, Outage};

/// What no public source settles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent unsettled fact")]
pub struct Switches {
    /// Numbers come as strings in every second place (MANGO OFFICE API reference, 1.4).
    pub loose_numbers: bool,
    /// Failures of the VPBX family carry `code`; false: `result`.
    pub failure_as_code: bool,
    /// The HTTP status of failures of the VPBX family: 420, or another 4xx.
    pub failure_status: u16,
    /// Over the limit the HTTP status is 429; false: 200 with the same body.
    pub limit_status: bool,
    /// Channels name employees by `abonent_id`, which differs from `user_id` by this much; 0: the
    /// ids are equal.
    pub abonent_offset: i64,
    /// An unknown path counts as a wrong request.
    pub unknown_path_punished: bool,
    /// New sessions are given to an employee at once; false: they wait.
    pub auto_distribution: bool,
    /// The form of webhook bodies (MANGO OFFICE API reference, 1.7).
    pub body_form: BodyForm,
    /// Paths of webhooks end in a slash.
    pub slash_after_path: bool,
    /// `on_recv_message` and `on_read_message` come under `session/` instead of `session/chat/`.
    pub events_beside_chat: bool,
    /// A transfer tells `on_closed` for the old session, too.
    pub transfer_tells_close: bool,
    /// A transfer to a group tells `on_pending` for the new session.
    pub group_transfer_pends: bool,
    /// A message changes the time of its session.
    pub messages_move_time: bool,
    /// A form with a file is taken where key and signature are parts of it and the part `request`
    /// is what is signed; false: no such form is let in.
    pub multipart_signed_as_forms: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            loose_numbers: true,
            failure_as_code: true,
            failure_status: 420,
            limit_status: true,
            abonent_offset: 1_000_000,
            unknown_path_punished: true,
            auto_distribution: false,
            body_form: BodyForm::Form,
            slash_after_path: false,
            events_beside_chat: false,
            transfer_tells_close: true,
            group_transfer_pends: true,
            messages_move_time: true,
            multipart_signed_as_forms: true,
        }
    }
}

impl Switches {
    /// The kind variant of every fact.
    #[must_use]
    pub fn friendly() -> Self {
        Self { loose_numbers: false, abonent_offset: 0, unknown_path_punished: false, ..Self::default() }
    }
}

/// How an account starts.
#[derive(Clone)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Simulated seconds per second: windows of limits and the penalty shrink by it.
    pub time_scale: f64,
    /// `vpbx_api_key`.
    pub api_key: String,
    /// `vpbx_api_salt`.
    pub api_salt: String,
    /// Unix time in milliseconds that its clock shows first; absent: the real time.
    pub starts_at: Option<i64>,
    pub switches: Switches,
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without key and salt: somebody may start a simulator with real ones.
        formatter
            .debug_struct("Options")
            .field("listen", &self.listen)
            .field("time_scale", &self.time_scale)
            .field("switches", &self.switches)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            time_scale: 1.0,
            api_key: "inventedmangokey".to_owned(),
            api_salt: "inventedmangosalt".to_owned(),
            starts_at: None,
            switches: Switches::default(),
        }
    }
}

/// A running account.
pub struct Simulator {
    site: Arc<site::Site>,
    /// None where it is called inside the process.
    server: Option<wire::Server>,
}

/// The address of an account without a network.
const INSIDE: &str = "http://mango.simulator:1";

impl fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Simulator").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Simulator {
    /// Starts the server. Fails where the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        // Webhooks go out from here; somebody else may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listen = options.listen;
        let site = Arc::new(site::Site::new(options));
        let receiver = events::by_network().ok_or_else(|| io::Error::other("no client for webhooks can be made"))?;
        tokio::spawn(events::run(Arc::downgrade(&site), receiver));
        let at = Arc::clone(&site);
        let server = wire::serve(listen, move |call| {
            let site = Arc::clone(&at);
            async move { site.call(call).await }
        })
        .await?;
        Ok(Self { site, server: Some(server) })
    }

    /// An account without a network: [`Simulator::call`] is its way in and `receiver` takes its
    /// webhooks, so that a test which pauses the time of the async runtime moves everything in it.
    /// To be made inside that runtime.
    pub fn inside(options: Options, receiver: Receiver) -> Self {
        let site = Arc::new(site::Site::new(options));
        tokio::spawn(events::run(Arc::downgrade(&site), receiver));
        Self { site, server: None }
    }

    /// One request; none: the connection was cut without an answer.
    pub async fn call(&self, request: http::Request<Bytes>) -> Option<http::Response<Bytes>> {
        let site = Arc::clone(&self.site);
        let (parts, body) = request.into_parts();
        let call = wire::Call::new(parts, body);
        // A task of its own: a site goes on working when the client has hung up.
        let work = tokio::spawn(async move { site.call(call).await });
        Some(work.await.ok()??.whole())
    }

    /// The base address, which stands for `https://app.mango-office.ru`; without a trailing slash.
    pub fn url(&self) -> String {
        self.server.as_ref().map_or_else(|| INSIDE.to_owned(), wire::Server::url)
    }

    /// The handle by which a test or a demo sets the account; the same actions as `/control`.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.site))
    }

    /// Stops the server and cuts its connections.
    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}
