//! The rows that make a channel in the CRM (contract, "Set-up through OData"), as typed reads and
//! as what is written.
//!
//! Every row has an id made from the channel source, so that a crash, a move or a rename makes
//! nothing twice.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{Class, Error};
use super::odata::Entity;
use super::{Client, Query, lenient};

/// Ids of the set-up rows: UUIDv5 (contract, "Set-up through OData").
pub mod ids {
    use uuid::{Uuid, uuid};

    /// UUIDv5 of the DNS name `maxchannel.dev`; the namespace of all others.
    pub const fn namespace() -> Uuid {
        uuid!("bab06c62-a577-5588-8533-7dd877152375")
    }

    fn of(name: &str) -> Uuid {
        Uuid::new_v5(&namespace(), name.as_bytes())
    }

    /// The row `MAX` of `ChannelProvider`, shipped with the package.
    pub fn provider() -> Uuid {
        of("channel-provider/MAX")
    }

    /// `MaxChannelSettings` of a channel source.
    pub fn settings(source: &str) -> Uuid {
        of(&format!("settings/{source}"))
    }

    /// `Channel` of a channel source.
    pub fn channel(source: &str) -> Uuid {
        of(&format!("channel/{source}"))
    }

    /// `ChatQueue` of a channel source.
    pub fn queue(source: &str) -> Uuid {
        of(&format!("queue/{source}"))
    }

    /// `ChatQueueOperator`: one agent (a `SysAdminUnit`) in the queue of a channel source.
    pub fn queue_agent(source: &str, agent: Uuid) -> Uuid {
        of(&format!("queue-agent/{source}/{}", agent.hyphenated()))
    }
}

/// A row of `MaxChannelSettings`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct MaxChannelSettings {
    #[serde(skip_serializing)]
    pub id: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// Where the package tells of new outbox rows; empty: nowhere.
    #[serde(default, deserialize_with = "lenient::text")]
    pub notify_url: String,
    #[serde(default, deserialize_with = "lenient::text")]
    pub bot_user_id: String,
    /// `<namespace>/<name>` of the `MaxChannel` that owns the row; empty: nobody.
    #[serde(default, deserialize_with = "lenient::text")]
    pub owner: String,
}

impl Entity for MaxChannelSettings {
    const COLLECTION: &'static str = "MaxChannelSettings";
    const COLUMNS: &'static str = "Id,Name,NotifyUrl,BotUserId,Owner";
}

/// A row of `Channel`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Channel {
    #[serde(skip_serializing)]
    pub id: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// [`ids::provider`].
    #[serde(default, deserialize_with = "lenient::guid")]
    pub provider_id: Option<Uuid>,
    /// [`ids::settings`].
    #[serde(default, deserialize_with = "lenient::guid")]
    pub msg_settings_id: Option<Uuid>,
    /// The channel source, `max-bot:<user id of the bot>`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub source: String,
    #[serde(default, deserialize_with = "lenient::guid")]
    pub chat_queue_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::flag")]
    pub is_active: bool,
}

impl Entity for Channel {
    const COLLECTION: &'static str = "Channel";
    const COLUMNS: &'static str = "Id,Name,ProviderId,MsgSettingsId,Source,ChatQueueId,IsActive";
}

/// A row of `ChatQueue`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct ChatQueue {
    #[serde(skip_serializing)]
    pub id: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// See [`Client::routing_rules`].
    #[serde(default, deserialize_with = "lenient::guid")]
    pub operator_routing_rule_id: Option<Uuid>,
    /// Dialogs at once per agent.
    #[serde(default, deserialize_with = "lenient::int")]
    pub simultaneous_chats: i64,
    /// Minutes to Creatio's own closing; always 0, since the relay closes.
    #[serde(default, deserialize_with = "lenient::int")]
    pub chat_timeout: i64,
}

impl Entity for ChatQueue {
    const COLLECTION: &'static str = "ChatQueue";
    const COLUMNS: &'static str = "Id,Name,OperatorRoutingRuleId,SimultaneousChats,ChatTimeout";
}

/// A row of `ChatQueueOperator`: an agent in a queue.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct ChatQueueAgent {
    #[serde(skip_serializing)]
    pub id: Uuid,
    #[serde(default, deserialize_with = "lenient::guid")]
    pub chat_queue_id: Option<Uuid>,
    /// The agent: a `SysAdminUnit` (Creatio's column is called `Operator`).
    #[serde(default, rename = "OperatorId", deserialize_with = "lenient::guid")]
    pub agent_id: Option<Uuid>,
}

impl Entity for ChatQueueAgent {
    const COLLECTION: &'static str = "ChatQueueOperator";
    const COLUMNS: &'static str = "Id,ChatQueueId,OperatorId";
}

/// A row of the lookup `OperatorRoutingRules`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct RoutingRule {
    pub id: Uuid,
    /// `ForFree` or `ForEveryone` (contract, `ChatQueue`).
    #[serde(default, deserialize_with = "lenient::text")]
    pub code: String,
}

impl Entity for RoutingRule {
    const COLLECTION: &'static str = "OperatorRoutingRules";
    const COLUMNS: &'static str = "Id,Code";
}

/// An active user of the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Id of the `SysAdminUnit`.
    pub id: Uuid,
    /// The login.
    pub name: String,
    /// `Contact/Email`, else `Email`; trimmed, may be empty.
    pub email: String,
    pub contact_id: Option<Uuid>,
}

impl User {
    /// Whether this is the user with that e-mail; case does not count (contract, "Set-up through
    /// OData").
    pub fn has_email(&self, email: &str) -> bool {
        let email = email.trim();
        !email.is_empty() && self.email.to_lowercase() == email.to_lowercase()
    }

    /// Whether this is the user with that login; case does not count.
    pub fn has_name(&self, name: &str) -> bool {
        !name.trim().is_empty() && self.name.to_lowercase() == name.trim().to_lowercase()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireUser {
    id: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    name: String,
    #[serde(default, deserialize_with = "lenient::text")]
    email: String,
    #[serde(default, deserialize_with = "lenient::opt_flag")]
    active: Option<bool>,
    #[serde(default, deserialize_with = "lenient::opt_int")]
    sys_admin_unit_type_value: Option<i64>,
    #[serde(default, deserialize_with = "lenient::guid")]
    contact_id: Option<Uuid>,
    contact: Option<WireContact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireContact {
    #[serde(default, deserialize_with = "lenient::guid")]
    id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::text")]
    email: String,
}

/// `SysAdminUnitTypeValue` of a user, as against roles and organisations (contract, "Set-up through
/// OData").
const USER: i64 = 4;
/// Rows of users on one page.
const PAGE: usize = 200;

impl WireUser {
    fn read(self) -> Option<User> {
        let user = self.sys_admin_unit_type_value.is_none_or(|kind| kind == USER) && self.active != Some(false);
        let contact = self.contact.filter(|contact| !contact.email.trim().is_empty());
        let contact_id = self.contact_id.or(contact.as_ref().and_then(|contact| contact.id));
        let email = contact.map_or(self.email, |contact| contact.email).trim().to_owned();
        user.then_some(User { id: self.id, name: self.name, email, contact_id })
    }
}

impl Client {
    /// Both routing rules, to be found by their `Code`.
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn routing_rules(&self) -> Result<Vec<RoutingRule>, Error> {
        self.list(Query::new()).await
    }

    /// The agents in a queue.
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn queue_agents(&self, queue: Uuid) -> Result<Vec<ChatQueueAgent>, Error> {
        self.list(Query::new().filter(format!("ChatQueue/Id eq {}", queue.hyphenated()))).await
    }

    /// All active users with their e-mails; whoever looks for one compares here, without case. Who
    /// finds the same users as another clone of this client holds the other's list: a site may have
    /// thousands, and as many channels.
    ///
    /// # Errors
    /// The site refuses, or no answer came. A site has at least one active user, the one that asks,
    /// so an empty list is an error.
    pub async fn users(&self) -> Result<Arc<Vec<User>>, Error> {
        let found = self.active_users().await?;
        let mut held = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = held.upgrade().filter(|same| **same == found) {
            return Ok(same);
        }
        let found = Arc::new(found);
        *held = Arc::downgrade(&found);
        Ok(found)
    }

    async fn active_users(&self) -> Result<Vec<User>, Error> {
        let narrow = Query::new()
            .select("Id,Name,Email,Active,SysAdminUnitTypeValue,ContactId")
            .filter(format!("SysAdminUnitTypeValue eq {USER} and Active eq true"));
        let users = match self.all_users(&narrow).await {
            Ok(users) if !users.is_empty() => return Ok(users),
            // A site that knows one of the columns under no such name refuses or finds nothing:
            // read all and choose here.
            Ok(_) => self.all_users(&Query::new()).await?,
            Err(error) if matches!(error.class(), Class::BadRequest) => self.all_users(&Query::new()).await?,
            Err(error) => return Err(error),
        };
        if users.is_empty() {
            return Err(Error::new(
                Class::AccessDenied,
                false,
                format!(
                    "the CRM {} shows no active user (SysAdminUnit): give the technical user the right to read users",
                    self.wire.host()
                ),
            ));
        }
        Ok(users)
    }

    async fn all_users(&self, query: &Query) -> Result<Vec<User>, Error> {
        let mut users = Vec::new();
        let mut seen = HashSet::new();
        for page in 0.. {
            let query = query.clone().expand("Contact").order_by("Id asc").top(PAGE).skip(page * PAGE);
            let rows: Vec<WireUser> = self.rows("SysAdminUnit", &query).await?;
            // A site that does not know `$skip` would give the same page for ever.
            let known = seen.len();
            let last = rows.len() < PAGE;
            let rows: Vec<_> = rows.into_iter().filter(|row| seen.insert(row.id)).collect();
            users.extend(rows.into_iter().filter_map(WireUser::read));
            if last || seen.len() == known {
                break;
            }
        }
        Ok(users)
    }
}
