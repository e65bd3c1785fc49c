//! What a relay is told: the channel's settings and its credentials, as resolved by the controller
//! or the local runner.
//!
//! In a cluster both stand in one mounted Secret: `channel.json` (this format) and one file per
//! credential. Unknown members are ignored, so that a newer controller can feed an older relay;
//! [`FORMAT`] grows only when an old relay would do wrong.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::policy::Rules;

/// The newest format of `channel.json` that this program writes and understands.
pub const FORMAT: u32 = 1;

/// Everything about a channel that is not secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelConfig {
    /// [`FORMAT`] of the writer; a relay refuses a higher one.
    pub format: u32,
    /// Names this state of the settings and credentials; reported back in `/status`.
    pub revision: String,
    pub namespace: String,
    pub name: String,
    /// The installation to which the channel belongs; none: of a controller that had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The bot's user id from GET /me; every id in Creatio is made from it.
    pub bot_user_id: i64,
    pub max: MaxConfig,
    pub intake: Intake,
    /// Absent while the CRM is not configured or its credentials are missing: the inbox keeps.
    pub creatio: Option<CreatioConfig>,
    /// The rules of dialogs.
    pub rules: Rules,
    /// The bot that takes dialogs in working hours, if the receiver is one.
    pub bot: Option<BotConfig>,
    /// The bot that takes dialogs outside working hours.
    pub off_hours_bot: Option<BotConfig>,
    /// How long finished messages stay on disk, in seconds.
    pub retention_seconds: u64,
    /// True: nothing is taken or sent; webhooks are answered 503.
    pub suspended: bool,
    /// How to reach Манго Диалоги, where the dialogs come that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mango: Option<MangoConfig>,
    /// Where customers may come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// How much the relay's own process logs, as in `MAXCHANNEL_LOG`; none: what it was started
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
}

/// How to reach MAX.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaxConfig {
    pub base_url: Url,
    /// The address is not MAX's own but set for a test: attachments may then come from it.
    pub overridden: bool,
    /// A PEM bundle in place of the built-in Ministry root.
    pub ca_pem: Option<String>,
}

/// A place from which customers come, by the name that stands in the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    /// What the agent reads.
    pub title: String,
}

/// How updates reach the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Intake {
    /// MAX posts to `/webhooks/max/<namespace>/<name>/<installation>/<fingerprint>`, or to that
    /// without the installation; the secrets are [`Secrets::webhook`].
    Webhook,
    /// The relay polls GET /updates.
    LongPoll,
    /// Dialogs come through Манго Диалоги; see [`ChannelConfig::mango`].
    MangoDialogs,
    /// Neither: another intake is not there yet.
    None,
}

/// How to reach Манго Диалоги, and who the agents are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MangoConfig {
    pub base_url: Url,
    pub employees: Vec<MangoEmployee>,
    /// Networks from which calls without a signature are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsigned_from: Vec<String>,
    /// Agents' files are handed over, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sends_files: bool,
}

/// An agent by the number at MANGO OFFICE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MangoEmployee {
    /// The user in the CRM.
    pub crm_user: Uuid,
    pub id: i64,
}

/// How to reach Creatio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatioConfig {
    pub url: Url,
    pub identity_url: Option<Url>,
    pub runtime: crate::creatio::Runtime,
    /// Between two checks of the outbox while a dialog is open.
    pub poll_interval_millis: u64,
    pub requests_per_second: usize,
    /// The relay shares that with others and is told how much is its own
    /// ([`share`](super::share)); until then it asks next to nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limit_is_shared: bool,
    pub in_flight: usize,
    /// A PEM bundle beside the public roots, for a CRM on the company's own site.
    pub ca_pem: Option<String>,
}

/// A bot that speaks the Rasa REST channel protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotConfig {
    pub url: Url,
    pub timeout_millis: u64,
}

/// The credentials of a channel.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The MAX token.
    pub token: SecretString,
    /// The webhook secrets taken now: the current one first, then those of tokens just replaced.
    pub webhook: Vec<SecretString>,
    pub creatio: Option<crate::creatio::Credentials>,
    /// Key and salt of the account at MANGO OFFICE, where the dialogs come through it.
    pub mango: Option<(SecretString, SecretString)>,
    /// What Creatio sends with its hints.
    pub notify: Option<SecretString>,
    /// Bearer keys of the bots.
    pub bot: Option<SecretString>,
    pub off_hours_bot: Option<SecretString>,
}

/// Settings and credentials together.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    pub channel: ChannelConfig,
    pub secrets: Secrets,
}

/// Why a configuration folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "{file} cannot be read ({source}): the relay needs the folder that the controller mounts, given by --config"
    )]
    Unreadable { file: String, source: std::io::Error },
    #[error("{file} is not understood ({source}): it must be written by a controller of the same or a nearby version")]
    Malformed { file: String, source: serde_json::Error },
    #[error("channel.json has format {found}, this relay understands up to {FORMAT}: update the relay's image")]
    TooNew { found: u32 },
}

impl ChannelConfig {
    /// `max-bot:<user id>`, the name of the bot towards Creatio (wire contract, "Set-up through
    /// OData").
    #[must_use]
    pub fn channel_source(&self) -> String {
        format!("max-bot:{}", self.bot_user_id)
    }

    /// The row of `Channel` in Creatio.
    #[must_use]
    pub fn channel_id(&self) -> Uuid {
        crate::creatio::ids::channel(&self.channel_source())
    }
}

impl CreatioConfig {
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_millis.max(100))
    }
}

/// The files of the mounted Secret.
pub mod file {
    pub const CHANNEL: &str = "channel.json";
    pub const TOKEN: &str = "token";
    pub const WEBHOOK: &str = "webhookSecrets";
    pub const CREATIO_CLIENT_ID: &str = "creatioClientId";
    pub const CREATIO_CLIENT_SECRET: &str = "creatioClientSecret";
    pub const CREATIO_USERNAME: &str = "creatioUsername";
    pub const CREATIO_PASSWORD: &str = "creatioPassword";
    pub const MANGO_KEY: &str = "mangoApiKey";
    pub const MANGO_SALT: &str = "mangoApiSalt";
    pub const NOTIFY: &str = "creatioNotifySecret";
    pub const BOT: &str = "botKey";
    pub const OFF_HOURS_BOT: &str = "offHoursBotKey";
}

impl RelayConfig {
    /// See [`status::key`](super::status::key).
    #[must_use]
    pub fn status_key(&self) -> SecretString {
        super::status::key(&self.secrets.token, &self.channel.namespace, &self.channel.name)
    }

    /// Reads a mounted folder.
    ///
    /// # Errors
    /// A file is missing, unreadable or not understood; the message names it.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let text = read_file(folder, file::CHANNEL)?;
        let channel: ChannelConfig = serde_json::from_str(&text)
            .map_err(|source| ConfigError::Malformed { file: file::CHANNEL.to_owned(), source })?;
        if channel.format > FORMAT {
            return Err(ConfigError::TooNew { found: channel.format });
        }
        let optional = |name: &str| match read_file(folder, name) {
            Ok(text) => Ok(Some(SecretString::from(text))),
            Err(ConfigError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let creatio = match (optional(file::CREATIO_CLIENT_ID)?, optional(file::CREATIO_CLIENT_SECRET)?) {
            (Some(id), Some(client_secret)) => {
                Some(crate::creatio::Credentials::OAuth { client_id: id.expose_secret().to_owned(), client_secret })
            }
            _ => match (optional(file::CREATIO_USERNAME)?, optional(file::CREATIO_PASSWORD)?) {
                (Some(name), Some(password)) => {
                    Some(crate::creatio::Credentials::Forms { username: name.expose_secret().to_owned(), password })
                }
                _ => None,
            },
        };
        let webhook = optional(file::WEBHOOK)?
            .map(|lines| lines.expose_secret().lines().map(SecretString::from).collect())
            .unwrap_or_default();
        Ok(Self {
            channel,
            secrets: Secrets {
                token: SecretString::from(read_file(folder, file::TOKEN)?),
                webhook,
                creatio,
                mango: optional(file::MANGO_KEY)?.zip(optional(file::MANGO_SALT)?),
                notify: optional(file::NOTIFY)?,
                bot: optional(file::BOT)?,
                off_hours_bot: optional(file::OFF_HOURS_BOT)?,
            },
        })
    }

    /// The folder's files by name, as [`RelayConfig::read`] takes them: the data of the Secret
    /// `<name>-relay`.
    ///
    /// # Errors
    /// Never in practice: the settings always serialise.
    pub fn files(&self) -> Result<Vec<(&'static str, SecretString)>, serde_json::Error> {
        let mut files = vec![
            (file::CHANNEL, SecretString::from(serde_json::to_string(&self.channel)?)),
            (file::TOKEN, self.secrets.token.clone()),
        ];
        let lines: Vec<&str> = self.secrets.webhook.iter().map(ExposeSecret::expose_secret).collect();
        if !lines.is_empty() {
            files.push((file::WEBHOOK, SecretString::from(lines.join("\n"))));
        }
        match &self.secrets.creatio {
            Some(crate::creatio::Credentials::OAuth { client_id, client_secret }) => {
                files.push((file::CREATIO_CLIENT_ID, SecretString::from(client_id.clone())));
                files.push((file::CREATIO_CLIENT_SECRET, client_secret.clone()));
            }
            Some(crate::creatio::Credentials::Forms { username, password }) => {
                files.push((file::CREATIO_USERNAME, SecretString::from(username.clone())));
                files.push((file::CREATIO_PASSWORD, password.clone()));
            }
            None => {}
        }
        if let Some((key, salt)) = &self.secrets.mango {
            files.push((file::MANGO_KEY, key.clone()));
            files.push((file::MANGO_SALT, salt.clone()));
        }
        for (name, secret) in [
            (file::NOTIFY, &self.secrets.notify),
            (file::BOT, &self.secrets.bot),
            (file::OFF_HOURS_BOT, &self.secrets.off_hours_bot),
        ] {
            if let Some(secret) = secret {
                files.push((name, secret.clone()));
            }
        }
        Ok(files)
    }
}

fn read_file(folder: &Path, name: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(folder.join(name))
        .map_err(|source| ConfigError::Unreadable { file: name.to_owned(), source })
}
