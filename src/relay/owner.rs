//! Whether the bot is still this installation's, asked of the owner's mark in the CRM before
//! anything is sent to a customer.
//!
//! A bot that is moved to another installation has two relays for a moment, and until the
//! controller of the old one notices, which may be never where it has died, both would bring what
//! the agents write. The new one waits for longer than an answer is trusted here.
//!
//! Must not: hold a message up because the CRM does not answer, or say anything where the channel
//! does not know its installation.

use std::time::Duration;

use super::active::Active;
use super::state::Shared;
use crate::creatio::{MaxChannelSettings, ids};
use crate::time::Millis;

/// How long an answer is trusted.
const TRUSTED: Millis = 2_000;
/// And one that the bot is another's.
const TRUSTED_ELSEWHERE: Millis = 10_000;
/// How long the CRM may take for it.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// What was answered last.
#[derive(Debug, Default)]
pub(super) struct Ownership(tokio::sync::Mutex<Answer>);

#[derive(Debug, Default)]
struct Answer {
    asked_at: Option<Millis>,
    elsewhere: bool,
}

impl Ownership {
    /// Another installation has the bot, as was answered last.
    pub(super) fn is_elsewhere(&self) -> bool {
        // Whoever asks right now will say.
        self.0.try_lock().is_ok_and(|answer| answer.elsewhere)
    }
}

/// False: another installation has the bot, and this relay leaves everything to it.
pub(super) async fn is_ours(shared: &Shared, active: &Active) -> bool {
    let channel = &active.config.channel;
    let (Some(installation), Some(creatio)) = (&channel.installation, &active.creatio) else { return true };
    // One asks for all.
    let mut answer = shared.ownership.0.lock().await;
    let now = shared.clock.passed();
    let trusted = if answer.elsewhere { TRUSTED_ELSEWHERE } else { TRUSTED };
    let is_fresh = answer.asked_at.is_some_and(|at| now - at < trusted);
    if is_fresh || (!answer.elsewhere && !shared.crm_is_well()) {
        return !answer.elsewhere;
    }
    let settings = creatio.get::<MaxChannelSettings>(ids::settings(&channel.channel_source()));
    let seen = tokio::time::timeout(ASK_LIMIT, settings).await;
    answer.asked_at = Some(now);
    if let Ok(Ok(Some(settings))) = seen {
        let ours = format!("{installation}/{}/{}", channel.namespace, channel.name);
        let mark = settings.owner.trim();
        // One of two parts is from before installations had ids, an empty one is nobody's.
        let elsewhere = mark.split('/').count() > 2 && mark != ours;
        if elsewhere && !answer.elsewhere {
            tracing::warn!(mark, "the bot is another installation's now: nothing more is sent from here");
        }
        answer.elsewhere = elsewhere;
    }
    !answer.elsewhere
}
