//! The sender of webhooks: takes events from the queue, signs them, and loses, doubles, mixes up or
//! holds them as control says (MANGO OFFICE API reference, 1.7). Nothing is repeated: no public
//! source says that MANGO does.

use std::sync::Arc;
use std::time::Duration;

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

/// What was delivered: `{path, status}`; status 0: nobody answered.
pub(super) type Delivery = serde_json::Value;

/// Delivers for as long as the site is there.
pub(super) async fn run(site: std::sync::Weak<Site>) {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::floor::loopback_tls())
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    let Ok(client) = client else { return };
    while let Some(site) = site.upgrade() {
        let Some(events) = next(&site) else {
            drop(site);
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        for event in events {
            deliver(&site, &client, &event).await;
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

async fn deliver(site: &Arc<Site>, client: &reqwest::Client, event: &Event) {
    let (url, content_type, body) = {
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
        let (content_type, body) = match world.switches.body_form {
            BodyForm::Form => {
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("vpbx_api_key", key)
                    .append_pair("sign", &signature)
                    .append_pair("json", &text)
                    .finish();
                ("application/x-www-form-urlencoded", form)
            }
            BodyForm::Wrapped => {
                let head = json!({"vpbx_api_key": key, "sign": signature}).to_string();
                ("application/json", format!("{},\"json\":{text}}}", head.trim_end_matches('}')))
            }
            BodyForm::WrappedText => {
                ("application/json", json!({"vpbx_api_key": key, "sign": signature, "json": text}).to_string())
            }
            BodyForm::Bare => ("application/json", text),
        };
        (url, content_type, body)
    };
    let answer = client.post(url).header("content-type", content_type).body(body).send().await;
    let status = answer.map_or(0, |answer| answer.status().as_u16());
    site.lock().deliveries.push(json!({"path": event.path, "status": status}));
}
