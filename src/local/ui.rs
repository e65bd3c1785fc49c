//! What the status page of `maxchannel run` shows: the registry, and what each relay says of
//! itself.

use axum::http::StatusCode;
use futures::future::BoxFuture;

use super::Registry;
use crate::api::ChannelRef;
use crate::contract::admin::{Replay, Replayed};
use crate::relay::http::Relays;
use crate::status_page::{Refused, Seen, Source, Told};

/// The file of the page's token in the data folder.
pub const TOKEN: &str = "status-page-token";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub registry: Registry,
    pub relays: Relays,
}

impl Source for Here {
    fn observe(&self) -> BoxFuture<'_, Seen> {
        Box::pin(async {
            let shown = self.registry.shown();
            let mut seen = Seen { channels: Vec::new(), problems: shown.problems };
            for one in shown.channels {
                let channel = ChannelRef::new(&one.namespace, &one.name);
                let mut told = Told { channel, status: one.status, facts: None, letters: Vec::new() };
                if let Some(relay) = self.relays.get(&one.namespace, &one.name) {
                    let facts = relay.facts().await;
                    if facts.dead_letters > 0 {
                        // Where they cannot be read their number is still told.
                        told.letters = relay.dead_letters().await.map(|found| found.dead_letters).unwrap_or_default();
                    }
                    told.facts = Some(facts);
                }
                seen.channels.push(told);
            }
            seen
        })
    }

    fn replay(&self, channel: ChannelRef, ids: Vec<String>) -> BoxFuture<'_, Result<Replayed, Refused>> {
        Box::pin(async move {
            let Some(relay) = self.relays.get(&channel.namespace, &channel.name) else {
                return Err((StatusCode::NOT_FOUND, "there is no such relay".to_owned()));
            };
            let done = relay.replay(Replay { ids, all: false }).await;
            done.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        })
    }
}
