//! The intake through Манго Диалоги: dialogs arrive by signed webhooks and by asking, and what goes
//! to the customer goes the same way.
//!
//! - A client's message becomes an update of MAX in the inbox, under its id at MANGO, so that
//!   rules, order and the CRM are those of every intake. MANGO repeats nothing that we have not
//!   taken: what webhooks lose is found by asking for the open sessions and their messages.
//! - A message may come before its session, and only the session says whose it is: such a message
//!   is held on disk.
//! - While a webhook may be missing (after a start, an outage, or a loss that asking has found), a
//!   message waits for the end of a round of asking, for 1.5 s at most, so that what was lost
//!   stands before it.
//! - Of two messages in one millisecond neither is missed: a session that has changed is read once
//!   more.
//! - When it is not the way any more it is asked for ten more minutes, and only for messages.
//! - Only channels of MAX (type 15) count.
//! - An employee who answers in MANGO's own desk is told of in the CRM and ends the automatic
//!   replies. Our own messages come back as events; they bear names that we gave ([`OURS`]), and
//!   these names make a repeated send harmless.
//! - What the cabinet says by itself (no employee said it, or it has the words of a message of the
//!   manifest's own) is no answer: it is told of in the CRM, and the status names it.
//! - A session that closes closes the chat, unless the client has another session, which is what a
//!   transfer looks like. A dialog that is over here closes its session, also one that began with
//!   an agent's message; what the client writes into it in that moment begins another dialog,
//!   which that close does not end. A farewell that is under way meanwhile is not said into the
//!   client's next session, but into one that was handed on: that is the same appeal. Where it
//!   stands open which of the two a session is, the farewell waits until it was read.
//! - A session that has left the list is read at once, before it counts as closed: what was last
//!   written in it stands before what is written in the next one.
//! - Nothing of before an erasure is taken again, whether it is called, listed or read once more:
//!   each message is known by its name, and what had not reached us by its time at MANGO OFFICE. An
//!   erasure never counts as later than it was by that clock, so what the client writes afterwards
//!   is taken, whatever our clock shows. Only the client's own new words bring the person back. A
//!   message that was held when its person was erased goes with them.
//! - Files go out by a setting only; a refusal of one says nothing of the key.
//!
//! Must not: trust a call without a signature but from the networks that the settings name, or set
//! anything up: no public method does.

mod intake;
mod noted;
mod rounds;
mod send;
mod work;

use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::ground::Ground;
pub(super) use intake::{keys_of_mango, take, webhook, while_held};
pub(super) use noted::{facts as noted_facts, mended};
pub(super) use rounds::Rounds;
pub(super) use send::{Outgoing, Sent, send};
pub(super) use work::run;

use crate::contract::RelayConfig;
use crate::contract::config::{Intake, MangoConfig};
use crate::mango;

/// Names of messages that are ours begin so.
const OURS: &str = "mxc-";
/// Kinds of updates that no messenger sends.
const ANSWERED: &str = "mango_answered";
const CLOSED: &str = "mango_closed";
const UNDELIVERED: &str = "mango_undelivered";

/// The client and the pair that proves calls.
#[derive(Clone, Debug)]
pub(super) struct Mango {
    pub client: mango::Client,
    pub config: MangoConfig,
    key: SecretString,
    salt: SecretString,
    unsigned_from: Vec<IpNet>,
}

impl Mango {
    /// None: another intake, or the account's key is not known.
    pub fn new(config: &RelayConfig, before: Option<&Self>, ground: &Ground) -> Result<Option<Self>, String> {
        let (Intake::MangoDialogs, Some(settings), Some((key, salt))) =
            (&config.channel.intake, &config.channel.mango, &config.secrets.mango)
        else {
            return Ok(None);
        };
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        // The same client goes on: limits and penalties count what was sent a moment ago.
        let unchanged = before.filter(|before| {
            before.config.base_url == settings.base_url && same(&before.key, key) && same(&before.salt, salt)
        });
        let client = if let Some(before) = unchanged {
            before.client.clone()
        } else {
            let (base_url, api_key, api_salt) = (settings.base_url.clone(), key.clone(), salt.clone());
            let dialogs_per_second = mango::OF_RELAY;
            let settings = mango::Settings { base_url, api_key, api_salt, dialogs_per_second };
            mango::Client::new(ground.external(None)?, settings)
        };
        let networks = settings
            .unsigned_from
            .iter()
            .map(|network| network.parse().map_err(|_| format!("{network:?} of mango.unsignedFrom is not a network")));
        let unsigned_from = networks.collect::<Result<_, String>>()?;
        Ok(Some(Self { client, config: settings.clone(), key: key.clone(), salt: salt.clone(), unsigned_from }))
    }

    /// Whether a call without a signature is taken from there.
    fn trusts(&self, caller: Option<IpAddr>) -> bool {
        let caller = caller.map(|caller| caller.to_canonical());
        caller.is_some_and(|caller| self.unsigned_from.iter().any(|network| network.contains(&caller)))
    }
}
