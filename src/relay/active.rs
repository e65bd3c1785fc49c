//! The settings in force, with the clients made of them. A change makes another; whoever works
//! keeps the one that he began with.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tracing::field;

use super::RelayError;
use super::ground::Ground;
use super::mango::Mango;
use crate::contract::RelayConfig;
use crate::contract::config::{BotConfig, ChannelConfig};
use crate::policy::{BotRole, Rules};
use crate::transport::{Hold, Transport};
use crate::{creatio, max};

/// The settings in force with the clients made of them.
#[derive(Debug)]
pub(super) struct Active {
    pub config: RelayConfig,
    pub rules: Arc<Rules>,
    pub max: max::Client,
    pub creatio: Option<creatio::Client>,
    pub mango: Option<Mango>,
    /// MANGO OFFICE while it is not the way any more.
    pub left: Option<Mango>,
    pub bots: BotTransport,
    /// Until when the bot of each role is left alone.
    bot_holds: [Hold; 2],
}

/// The transport to bots, whose `Debug` says nothing.
#[derive(Clone)]
pub(super) struct BotTransport(Arc<dyn Transport>);

impl std::fmt::Debug for BotTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BotTransport")
    }
}

impl std::ops::Deref for BotTransport {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Active {
    /// The clients go on where nothing of theirs has changed since `before`.
    pub fn new(config: RelayConfig, before: Option<&Self>, ground: &Ground) -> Result<Self, RelayError> {
        let channel = &config.channel;
        let failed = |reason: String| RelayError::Settings {
            channel: format!("{}/{}", channel.namespace, channel.name),
            reason,
        };
        let (api, files) = ground.to_max(&channel.max).map_err(failed)?;
        let settings = max::Settings { base_url: channel.max.base_url.clone(), token: config.secrets.token.clone() };
        let max = match before {
            Some(before) if before.config.channel.max == channel.max => before.max.with_settings(settings),
            _ => max::Client::new(api, files, settings),
        };
        // The same client goes on where nothing of it has changed: its limits count what was sent a
        // moment ago.
        let unchanged = before.filter(|before| {
            before.config.channel.creatio == channel.creatio
                && same_credentials(before.config.secrets.creatio.as_ref(), config.secrets.creatio.as_ref())
        });
        let creatio = match (&channel.creatio, &config.secrets.creatio) {
            _ if unchanged.is_some() => unchanged.and_then(|before| before.creatio.clone()),
            (Some(settings), Some(credentials)) => {
                let ca_pem = settings.ca_pem.as_deref();
                let settings = creatio::Settings {
                    url: settings.url.clone(),
                    identity_url: settings.identity_url.clone(),
                    runtime: settings.runtime,
                    credentials: credentials.clone(),
                    requests_per_second: settings.requests_per_second,
                    in_flight: settings.in_flight,
                };
                Some(ground.to_crm(ca_pem, settings).map_err(failed)?)
            }
            _ => None,
        };
        let bots = ground.external(None).map_err(failed)?;
        let rules = Arc::new(channel.rules.clone());
        let mango = Mango::new(&config, before.and_then(|before| before.mango.as_ref()), ground).map_err(failed)?;
        let left =
            before.filter(|_| mango.is_none()).and_then(|before| before.mango.clone().or_else(|| before.left.clone()));
        let same = |bot: fn(&ChannelConfig) -> &Option<BotConfig>| {
            let url = |channel| bot(channel).as_ref().map(|bot| &bot.url);
            before.filter(|before| url(&before.config.channel) == url(channel))
        };
        let bot_holds = [
            same(|channel| &channel.bot).map(|before| before.bot_holds[0].clone()).unwrap_or_default(),
            same(|channel| &channel.off_hours_bot).map(|before| before.bot_holds[1].clone()).unwrap_or_default(),
        ];
        Ok(Self { rules, max, creatio, mango, left, bots: BotTransport(bots), bot_holds, config })
    }

    pub fn bot_hold(&self, role: BotRole) -> &Hold {
        &self.bot_holds[usize::from(role == BotRole::OffHours)]
    }

    /// Ours that `shown` is equal to, if any.
    pub fn webhook_secret(&self, shown: &str) -> Option<&SecretString> {
        let mut ours = self.config.secrets.webhook.iter();
        ours.find(|ours| bool::from(ours.expose_secret().as_bytes().ct_eq(shown.as_bytes())))
    }

    /// The span of one thing that is carried: which way, for which channel, and what came of it;
    /// never what or whose.
    pub fn delivery(&self, to: &'static str) -> tracing::Span {
        let channel = &self.config.channel;
        crate::telemetry::traced(tracing::info_span!(
            "delivery",
            to,
            namespace = %channel.namespace,
            name = %channel.name,
            outcome = field::Empty,
            trace_id = field::Empty,
        ))
    }
}

fn same_credentials(one: Option<&creatio::Credentials>, other: Option<&creatio::Credentials>) -> bool {
    use creatio::Credentials::{Forms, OAuth};
    let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
    match (one, other) {
        (Some(OAuth { client_id, client_secret }), Some(OAuth { client_id: id, client_secret: secret })) => {
            client_id == id && same(client_secret, secret)
        }
        (Some(Forms { username, password }), Some(Forms { username: name, password: word })) => {
            username == name && same(password, word)
        }
        (None, None) => true,
        _ => false,
    }
}
