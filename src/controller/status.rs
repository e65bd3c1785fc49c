//! Writes the status where it differs, and tells of what has changed in events.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use kube::runtime::events::EventType;

use super::channel_state::ChannelState;
use super::context::Context;
use super::resource::Channel;
use super::start::News;
use super::{Error, events, refusal, start};
use crate::api::{ConditionType, conditions};
use crate::channel::reconciler::Done;
use crate::channel::report::RelayState;

/// Writes the status where it differs, and tells of transitions.
pub async fn report(
    context: &Context,
    channel: &Channel,
    state: &mut ChannelState,
    relay: &RelayState,
) -> Result<bool, Error> {
    let now = context.clock.now();
    if let Some(start) = state.start.take_if(|start| start.is_late(now)) {
        tell(context, channel, start.end()).await;
    }
    state.reconciler.set_unapplied(state.refusals.all());
    let status = state.reconciler.report(relay, now).clone();
    let version = channel.resource_version();
    if let Some(there) = channel.status.as_ref().filter(|there| **there == status) {
        state.reconciler.share_status(there);
        if let Some((_, written)) = state.written.as_mut().filter(|(_, written)| written == there) {
            written.clone_from(there);
        }
        return Ok(false);
    }
    // The watch lags behind what was just written.
    if state.written.as_ref().is_some_and(|(from, written)| *from == version && *written == status) {
        return Ok(false);
    }
    let ready = conditions::find(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True");
    let is_troubled = state.reconciler.is_refused_at_max()
        || status.conditions.iter().any(|condition| start::is_trouble(condition, state.facts.is_some()));
    let before = state.written.as_ref().map(|(_, written)| written).or(channel.status.as_ref());
    let is_progress = !ready && !is_troubled && before.is_some_and(|before| start::is_of_same_wish(before, &status));
    if is_progress && state.start.as_mut().is_some_and(|start| start.holds_status(now)) {
        return Ok(false);
    }
    if let Err(error) = context.writer.status(channel, &status).await {
        if let Some((reason, words)) = refusal::reason(&error) {
            // Where the status cannot say it, an event does.
            let note = format!("The status of the channel cannot be written: {words}");
            context.writer.event(channel, EventType::Warning, reason.as_str(), "WriteStatus", &note).await;
        }
        return Err(error);
    }
    let before = state.written.replace((version, status.clone())).map(|(_, before)| before);
    let before = before.as_ref().map_or_else(|| channel.conditions(), |before| &before.conditions);
    let mut news: Vec<News> = status.conditions.iter().filter_map(|condition| transition(before, condition)).collect();
    if let Some(mut start) = state.start.take() {
        start.wrote_status(now);
        if is_troubled {
            news.splice(0..0, start.end());
        } else if ready {
            news = start.ready(news);
        } else {
            for news in news.drain(..) {
                start.keep(news, now);
            }
            state.start = Some(start);
        }
    }
    tell(context, channel, news).await;
    if ready && !state.was_ready {
        state.was_ready = true;
        if let Some(Time(made)) = &channel.metadata.creation_timestamp {
            let since = context.clock.now() - made.as_millisecond();
            context.metrics.time_to_ready.observe(Duration::from_millis(since.max(0).unsigned_abs()).as_secs_f64());
        }
    }
    Ok(true)
}

/// The news of a condition, if it has any worth an event: it fails, for another reason than before,
/// or it holds again.
fn transition(before: &[Condition], now: &Condition) -> Option<News> {
    let type_: ConditionType = now.type_.parse().ok()?;
    if type_ == ConditionType::Stalled {
        return None;
    }
    let before = before.iter().find(|before| before.type_ == now.type_);
    let was = before.map_or("Unknown", |before| before.status.as_str());
    let event = match now.status.as_str() {
        // What `Ready` says stands in the event of the condition that fails.
        "False"
            if type_ != ConditionType::Ready
                && before.is_none_or(|before| before.status != "False" || before.reason != now.reason) =>
        {
            if start::is_expected(now) {
                EventType::Normal
            } else {
                EventType::Warning
            }
        }
        "True" if was == "False" || (was != "True" && type_ == ConditionType::Ready) => EventType::Normal,
        _ => return None,
    };
    // Two conditions may fail for reasons of the same name.
    let (reason, action, note) = (now.reason.clone(), start::check(&now.type_), now.message.clone());
    Some(News { type_: event, reason, action, note, is_done: now.status == "True" })
}

/// Events for what was changed outside.
pub async fn tell_changes(context: &Context, channel: &Channel, done: &[Done]) {
    for told in events::of_changes(done, context.settings.installation.language) {
        context.writer.event(channel, EventType::Normal, &told.reason, told.action, &told.note).await;
    }
}

/// Events.
pub async fn tell(context: &Context, channel: &Channel, all: impl IntoIterator<Item = News>) {
    for News { type_, reason, action, note, .. } in all {
        context.writer.event(channel, type_, &reason, &action, &note).await;
    }
}
