//! The relay's share of a CRM whose limit others share too: with what it goes on, and what it gives
//! up for good, for others may have it by then.

use maxchannel::contract::RelayConfig;
use maxchannel::contract::share::{CrmShare, Share};
use maxchannel::creatio::site;
use maxchannel::relay::Relay;
use maxchannel::time::Clock;
use maxchannel_simulator::{creatio, max};

use crate::relay_config::{TOKEN, relay_config};

type Edit = fn(&mut RelayConfig);

const TOLD: Share = Share { requests: 7, millis: 1_000 };

fn as_before(_: &mut RelayConfig) {}

fn suspended(config: &mut RelayConfig) {
    config.channel.suspended = true;
}

/// Another has the bot, as a controller says it.
fn standing_back(config: &mut RelayConfig) {
    config.channel.suspended = true;
    config.channel.creatio = None;
}

fn without_credentials(config: &mut RelayConfig) {
    config.channel.creatio = None;
}

fn at_another_crm(config: &mut RelayConfig) {
    config.channel.creatio.as_mut().unwrap().url = "http://127.0.0.1:9".parse().unwrap();
}

#[tokio::test]
async fn a_share_is_kept_while_the_crm_is_asked_and_given_up_for_good_when_it_is_not() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let max = max::Simulator::start(max::Options::default()).await.unwrap();
    let crm = creatio::Simulator::start(creatio::Options::default()).await.unwrap();
    let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).unwrap().user_id;
    let mut config = relay_config(&max, &crm, bot);
    config.channel.creatio.as_mut().unwrap().limit_is_shared = true;
    let told = CrmShare { site: site(&crm.url().parse().unwrap()), share: TOLD };
    let cases: [(&str, Edit, Share); 5] = [
        ("nothing of it has changed", as_before, TOLD),
        ("it had no credentials, and is told all the while", without_credentials, TOLD),
        ("it stood back", standing_back, Share::UNTOLD),
        ("it was suspended", suspended, Share::UNTOLD),
        ("it was at another CRM", at_another_crm, Share::UNTOLD),
    ];
    for (why, meanwhile, expected) in cases {
        for restarts in [false, true] {
            let data = tempfile::tempdir().unwrap();
            let mut relay = Relay::open(config.clone(), data.path(), Clock::real()).await.unwrap();
            assert_eq!(relay.take_crm_share(told.clone()).await.unwrap().as_ref(), Some(&told));
            for (number, edit) in [meanwhile, as_before].into_iter().enumerate() {
                let mut config = config.clone();
                edit(&mut config);
                config.channel.revision = format!("{}", number + 2);
                if restarts {
                    relay.kill().await;
                    relay = Relay::open(config, data.path(), Clock::real()).await.unwrap();
                } else {
                    relay.apply(config).await.unwrap();
                }
            }
            let held = relay.facts().await.crm_share.map(|held| held.share);
            assert_eq!(held, Some(expected), "{why}, restarts: {restarts}");
            relay.stop().await;
        }
    }
}
