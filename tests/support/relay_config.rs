//! What a relay between the simulators is told. A test changes what it is about.

use maxchannel::contract::config::{ChannelConfig, CreatioConfig, FORMAT, Intake, MaxConfig, RelayConfig, Secrets};
use maxchannel::creatio::{Credentials, Runtime};
use maxchannel::policy::{Receiver, Rules};
use maxchannel_simulator::{creatio, max};
use secrecy::SecretString;

pub const TOKEN: &str = "invented-token-of-a-bot-0001";
pub const WEBHOOK_SECRET: &str = "invented-webhook-secret";

/// The settings of `default/support`: webhooks, people as receivers, no automatic replies, and the
/// defaults of the resource otherwise.
pub fn relay_config(max: &max::Simulator, crm: &creatio::Simulator, bot: i64) -> RelayConfig {
    let client = creatio::Options::default();
    RelayConfig {
        channel: ChannelConfig {
            format: FORMAT,
            revision: "1".to_owned(),
            namespace: "default".to_owned(),
            name: "support".to_owned(),
            installation: None,
            bot_user_id: bot,
            max: MaxConfig {
                base_url: max.url().parse().expect("an address of a simulator"),
                overridden: true,
                ca_pem: None,
            },
            intake: Intake::Webhook,
            creatio: Some(CreatioConfig {
                url: crm.url().parse().expect("an address of a simulator"),
                identity_url: Some(crm.identity_url().parse().expect("an address of a simulator")),
                runtime: Runtime::Auto,
                poll_interval_millis: 2_000,
                requests_per_second: 20,
                limit_is_shared: false,
                in_flight: 8,
                ca_pem: None,
            }),
            rules: Rules { receiver: Receiver::People, ..Rules::default() },
            bot: None,
            off_hours_bot: None,
            retention_seconds: 30 * 86_400,
            suspended: false,
            mango: None,
            sources: Vec::new(),
            log_level: None,
        },
        secrets: Secrets {
            token: SecretString::from(TOKEN),
            webhook: vec![SecretString::from(WEBHOOK_SECRET)],
            creatio: Some(Credentials::OAuth {
                client_id: client.client_id,
                client_secret: SecretString::from(client.client_secret),
            }),
            mango: None,
            notify: None,
            bot: None,
            off_hours_bot: None,
        },
    }
}
