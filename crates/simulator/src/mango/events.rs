//! The sender of webhooks: takes events from the queue, signs them, and loses, doubles, mixes up or
//! holds them as control says (MANGO OFFICE API reference, 1.7). Nothing is repeated: no public
//! source says that MANGO does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::account::sign;
use super::dialogs::Event;
use super::site::Site;

/// In what form an event stands in the body; which is right is not settled (MANGO OFFICE API
/// reference, 1.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyForm {
    /// Key, signature and JSON as a form.
    #[default]
    Form,
    /// The three as an object, the event as an object in it.
    Wrapped,
    /// The three as an object, the event as a text in it.
    WrappedText,
    /// The event alone, unsigned.
    Bare,
}

/// What happens to events on their way.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EventFaults {
    /// So many of the next ones are lost.
    pub lose: u32,
    /// So many of the next ones come twice.
    pub double: u32,
    /// So many of the next ones come behind the one that follows them.
    pub swap: u32,
    /// Nothing leaves; what happens meanwhile waits.
    pub hold: bool,
}

/// One webhook call, for a receiver that is in the same process.
#[derive(Clone, Debug)]
pub struct WebhookCall {
    pub url: String,
    pub body: Bytes,
}

/// A receiver in the same process: answers the status, or why there is none.
pub type Receiver = Arc<dyn Fn(WebhookCall) -> BoxFuture<'static, Result<u16, String>> + Send + Sync>;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was delivered: `{path, status}`; status 0: nobody answered.
pub(super) type Delivery = serde_json::Value;

/// A receiver at the end of a network.
pub(super) fn by_network() -> Option<Receiver> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::floor::loopback_tls())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .ok()?;
    Some(Arc::new(move |call: WebhookCall| {
        let content_type =
            if call.body.starts_with(b"{") { "application/json" } else { "application/x-www-form-urlencoded" };
        let answer = client.post(call.url).header("content-type", content_type).body(call.body).send();
        Box::pin(async move { answer.await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string()) })
    }))
}

/// Delivers for as long as the site is there.
pub(super) async fn run(site: std::sync::Weak<Site>, receiver: Receiver) {
    let Some(woken) = site.upgrade().map(|site| Arc::clone(&site.woken)) else { return };
    while let Some(site) = site.upgrade() {
        let Some(events) = next(&site) else {
            drop(site);
            woken.notified().await;
            continue;
        };
        for event in events {
            deliver(&site, &receiver, &event).await;
        }
    }
}

/// The next to be delivered, as often and in the order in which they shall come.
fn next(site: &Arc<Site>) -> Option<Vec<Event>> {
    let mut world = site.lock();
    if world.event_faults.hold || world.webhook.is_none() {
        if world.webhook.is_none() {
            world.dialogs.events.clear();
        }
        return None;
    }
    let event = world.dialogs.events.pop_front()?;
    let faults = &mut world.event_faults;
    let take = |left: &mut u32| {
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    };
    if take(&mut faults.lose) {
        return Some(Vec::new());
    }
    if take(&mut faults.double) {
        return Some(vec![event.clone(), event]);
    }
    if faults.swap > 0
        && let Some(following) = world.dialogs.events.pop_front()
    {
        world.event_faults.swap -= 1;
        return Some(vec![following, event]);
    }
    Some(vec![event])
}

async fn deliver(site: &Arc<Site>, receiver: &Receiver, event: &Event) {
    let call = {
        let world = site.lock();
        let Some(base) = &world.webhook else { return };
        let slash = if world.switches.slash_after_path { "/" } else { "" };
        let path = if world.switches.events_beside_chat {
            event
                .path
                .replace("/chat/on_recv_message", "/on_recv_message")
                .replace("/chat/on_read_message", "/on_read_message")
        } else {
            event.path.to_owned()
        };
        let url = format!("{}{path}{slash}", base.trim_end_matches('/'));
        let (key, salt) = (&world.options.api_key, &world.options.api_salt);
        let text = event.body.to_string();
        let signature = sign(key, text.as_bytes(), salt);
        let body = match world.switches.body_form {
            BodyForm::Form => url::form_urlencoded::Serializer::new(String::new())
                .append_pair("vpbx_api_key", key)
                .append_pair("sign", &signature)
                .append_pair("json", &text)
                .finish(),
            BodyForm::Wrapped => {
                let head = json!({"vpbx_api_key": key, "sign": signature}).to_string();
                format!("{},\"json\":{text}}}", head.trim_end_matches('}'))
            }
            BodyForm::WrappedText => json!({"vpbx_api_key": key, "sign": signature, "json": text}).to_string(),
            BodyForm::Bare => text,
        };
        WebhookCall { url, body: body.into() }
    };
    let answer = tokio::time::timeout(PATIENCE, receiver(call)).await;
    let status = answer.ok().and_then(Result::ok).unwrap_or(0);
    site.lock().deliveries.push(json!({"path": event.path, "status": status}));
}
