//! What the relay is told, and the name of that state. Pure.

use secrecy::{ExposeSecret, SecretString};

use super::Installation;
use super::validate::{CrmAccess, Desired, DesiredIntake};
use crate::contract::config::{
    ChannelConfig, CreatioConfig, FORMAT, Intake, MangoConfig, MangoEmployee, MaxConfig, RelayConfig, Secrets,
};
use crate::contract::digest::fingerprint;
use crate::contract::webhook;

/// What of the external systems may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// False while another has the bot, or it is not known yet whether one has: nothing is taken,
    /// sent or asked for. MAX keeps what it could not hand over.
    pub ours: bool,
}

/// The configuration of the relay for a bot under a token.
///
/// `token` is the one in force, which is that of the manifest once MAX has taken it; `retired` are
/// tokens replaced so recently that MAX may still call their address.
#[must_use]
pub fn relay_config(
    desired: &Desired,
    installation: &Installation,
    bot_user_id: i64,
    token: &SecretString,
    retired: &[SecretString],
    access: Access,
    employees: Vec<MangoEmployee>,
) -> RelayConfig {
    let crm = desired.crm_access.as_ref().ok().filter(|_| access.ours);
    let webhook_secrets = || {
        std::iter::once(token).chain(retired).map(|token| webhook::secret(token, &desired.channel)).collect::<Vec<_>>()
    };
    let intake = match &desired.intake {
        DesiredIntake::Webhook { .. } => Intake::Webhook,
        DesiredIntake::LongPoll => Intake::LongPoll,
        DesiredIntake::MangoDialogs => Intake::MangoDialogs,
    };
    let channel = ChannelConfig {
        format: FORMAT,
        revision: String::new(),
        namespace: desired.channel.namespace.clone(),
        name: desired.channel.name.clone(),
        bot_user_id,
        max: MaxConfig {
            base_url: installation.max_url.clone(),
            overridden: installation.max_overridden,
            ca_pem: installation.max_ca_pem.clone(),
        },
        creatio: crm.map(|access| creatio(desired, access)),
        rules: desired.rules.clone(),
        bot: desired.bot.as_ref().map(|bot| bot.config.clone()),
        off_hours_bot: desired.off_hours_bot.as_ref().map(|bot| bot.config.clone()),
        retention_seconds: desired.retention_seconds,
        suspended: desired.suspended || !access.ours,
        installation: Some(desired.installation.as_str().to_owned()),
        mango: (intake == Intake::MangoDialogs).then(|| MangoConfig {
            base_url: installation.mango_url.clone(),
            employees,
            unsigned_from: desired.unsigned_from.clone(),
            sends_files: desired.sends_files,
        }),
        sources: desired.sources.clone(),
        log_level: None,
        intake,
    };
    let secrets = Secrets {
        token: token.clone(),
        webhook: if intake_takes_calls(&channel.intake) { webhook_secrets() } else { Vec::new() },
        creatio: crm.map(|access| access.credentials.clone()),
        mango: desired
            .mango
            .as_ref()
            .ok()
            .filter(|_| channel.intake == Intake::MangoDialogs)
            .map(|access| (access.api_key.clone(), access.api_salt.clone())),
        notify: crm.and_then(|access| access.notify.clone()),
        bot: desired.bot.as_ref().and_then(|bot| bot.key.clone()),
        off_hours_bot: desired.off_hours_bot.as_ref().and_then(|bot| bot.key.clone()),
    };
    let mut config = RelayConfig { channel, secrets };
    config.channel.revision = revision(&config, crm);
    config
}

/// The same with a log level, which is the installation's and may change while everything runs; its
/// revision is another then.
#[must_use]
pub fn with_log_level(mut config: RelayConfig, level: Option<&str>) -> RelayConfig {
    if let Some(level) = level {
        config.channel.revision = fingerprint([config.channel.revision.as_str(), level]);
        config.channel.log_level = Some(level.to_owned());
    }
    config
}

/// The same for a relay in a cluster, which is told apart what of the CRM's limit is its own.
#[must_use]
pub fn with_shared_limit(mut config: RelayConfig) -> RelayConfig {
    if let Some(creatio) = &mut config.channel.creatio {
        creatio.limit_is_shared = true;
        config.channel.revision = fingerprint([config.channel.revision.as_str(), "the limit of the CRM is shared"]);
    }
    config
}

fn intake_takes_calls(intake: &Intake) -> bool {
    *intake == Intake::Webhook
}

fn creatio(desired: &Desired, access: &CrmAccess) -> CreatioConfig {
    let address = &desired.crm;
    CreatioConfig {
        url: address.url.clone(),
        identity_url: address.identity_url.clone(),
        runtime: address.runtime,
        poll_interval_millis: u64::try_from(address.poll_interval).unwrap_or(2_000),
        requests_per_second: address.requests_per_second,
        limit_is_shared: false,
        in_flight: address.in_flight,
        ca_pem: access.ca_pem.clone(),
    }
}

/// Changes with any setting and any credential, and tells none of them.
fn revision(config: &RelayConfig, crm: Option<&CrmAccess>) -> String {
    let settings = serde_json::to_string(&config.channel).unwrap_or_default();
    let secrets = &config.secrets;
    let optional = |secret: &Option<SecretString>| {
        secret.as_ref().map_or(String::new(), |secret| secret.expose_secret().to_owned())
    };
    let webhook: Vec<&str> = secrets.webhook.iter().map(ExposeSecret::expose_secret).collect();
    fingerprint([
        settings.as_str(),
        secrets.token.expose_secret(),
        webhook.join("\n").as_str(),
        crm.map_or("", |access| access.fingerprint.as_str()),
        secrets.mango.as_ref().map_or("", |(key, _)| key.expose_secret()),
        secrets.mango.as_ref().map_or("", |(_, salt)| salt.expose_secret()),
        optional(&secrets.notify).as_str(),
        optional(&secrets.bot).as_str(),
        optional(&secrets.off_hours_bot).as_str(),
    ])
}
