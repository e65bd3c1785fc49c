//! What the status page of the controller shows: the conditions as the watch has them, and what
//! each relay says of itself.
//!
//! Any replica serves it, the leader or not: relays are asked from here, and only while somebody
//! reads. It changes nothing in the cluster; what a person has tried again is done by the relay
//! that has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::context::Context;
use super::relay_link::{self, Told};
use crate::api::ChannelRef;
use crate::contract::admin::{Replay, Replayed};
use crate::status_page::{self, Page, Refused, Seen, Source, Token};

/// What a relay has said counts for so long.
const FRESH: Duration = Duration::from_secs(5);
/// Relays that are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// Serves the page until the task is dropped.
pub async fn serve(context: Arc<Context>, listener: TcpListener, address: SocketAddr) {
    let Some(settings) = &context.settings.status_page else { return };
    let place = [
        "It is in the Secret that the chart's value statusPage.tokenSecretRef names.".to_owned(),
        "Он в Secret, который назван в значении чарта statusPage.tokenSecretRef.".to_owned(),
    ];
    let token = Token { file: settings.token.clone(), place };
    if token.read().is_none() {
        tracing::warn!(file = %token.file.display(), "the status page has no token of 16 characters or more, so nobody can act on it");
    }
    let cluster = Cluster { context: context.clone(), relays: Mutex::default() };
    let page = Page::new(Arc::new(cluster), token, address.ip().is_loopback());
    if let Err(error) = axum::serve(listener, page.router()).await {
        tracing::error!(%error, "the status page is closed");
    }
}

struct Cluster {
    context: Arc<Context>,
    relays: Mutex<HashMap<ChannelRef, Known>>,
}

/// What a relay said last, and what it was shown for that.
#[derive(Clone, Debug)]
struct Known {
    asked_at: Instant,
    key: Option<SecretString>,
    told: Option<Told>,
}

impl Cluster {
    async fn tell(&self, mut one: status_page::Told) -> status_page::Told {
        let context = &*self.context;
        let known = self.relays.lock().unwrap_or_else(PoisonError::into_inner).get(&one.channel).cloned();
        let told = match known {
            Some(known) if known.asked_at.elapsed() < FRESH => known.told,
            known => {
                let scope = context.scopes().into_iter().find(|scope| scope.covers(&one.channel.namespace));
                let place = scope.and_then(|scope| relay_link::place(context, &scope, &one.channel));
                let mut key = known.and_then(|known| known.told.and(known.key));
                if key.is_none() && place.is_some() {
                    key = relay_link::status_key(context, &one.channel, None).await;
                }
                let told = match &place {
                    Some(place) => relay_link::ask_with_letters(context, place, key.as_ref()).await.ok(),
                    None => None,
                };
                let known = Known { asked_at: Instant::now(), key, told: told.clone() };
                self.relays.lock().unwrap_or_else(PoisonError::into_inner).insert(one.channel.clone(), known);
                told
            }
        };
        if let Some((facts, letters)) = told {
            (one.facts, one.letters) = (Some(facts), letters);
        }
        one
    }
}

impl Source for Cluster {
    fn observe(&self) -> BoxFuture<'_, Seen> {
        Box::pin(async {
            let scopes = self.context.scopes();
            let channels: Vec<_> = scopes.iter().flat_map(|scope| scope.channels.state()).collect();
            let told = channels.iter().map(|channel| status_page::Told {
                channel: channel.reference(),
                status: channel.status.as_deref().cloned().unwrap_or_default(),
                facts: None,
                letters: Vec::new(),
            });
            let mut told: Vec<_> = futures::stream::iter(told.map(|one| self.tell(one)).collect::<Vec<_>>())
                .buffer_unordered(ASKED_AT_ONCE)
                .collect()
                .await;
            told.sort_by(|one, other| one.channel.cmp(&other.channel));
            let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
            relays.retain(|name, _| told.iter().any(|one| one.channel == *name));
            Seen { channels: told, problems: Vec::new() }
        })
    }

    fn replay(&self, channel: ChannelRef, ids: Vec<String>) -> BoxFuture<'_, Result<Replayed, Refused>> {
        Box::pin(async move {
            let context = &*self.context;
            let scope = context.scopes().into_iter().find(|scope| scope.covers(&channel.namespace));
            let place = scope.and_then(|scope| relay_link::place(context, &scope, &channel));
            let place = place.ok_or_else(|| (StatusCode::NOT_FOUND, "there is no such relay".to_owned()))?;
            let key = relay_link::status_key(context, &channel, None).await;
            let wanted = Replay { ids, all: false };
            let done = relay_link::replay(context, &place, key.as_ref(), &wanted).await;
            self.relays.lock().unwrap_or_else(PoisonError::into_inner).remove(&channel);
            done.map_err(|error| (StatusCode::BAD_GATEWAY, format!("the relay of {channel} was asked: {error}")))
        })
    }
}
