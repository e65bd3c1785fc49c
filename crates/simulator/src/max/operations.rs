//! What each operation of the Bot API does to the state (MAX Bot API, all operations).

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::Operation;
use super::dispatch::Subscription;
use super::rates::ChatCall;
use super::refusal::Refusal;
use super::switches::CheckOrder;
use super::world::{Attachment, Chat, ChatKind, MediaKind, Upload, World, is_mid};

const HOUR_MS: u64 = 3_600_000;

/// One call: who, where, and with what.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) bot: i64,
    pub(super) parameters: Vec<String>,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
    /// External pictures, by address.
    pub(super) fetched: HashMap<String, Bytes>,
}

impl Call {
    /// An optional number of the query within bounds; empty and `null` are absent.
    pub(super) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty() && *text != "null") else {
            return Ok(None);
        };
        let value: i64 =
            text.parse().map_err(|_| Refusal::payload(format!("Invalid value of parameter '{name}': {text}")))?;
        if value > most {
            return Err(Refusal::at_most(name, value, most));
        }
        if value < least {
            return Err(Refusal::at_least(name, value, least));
        }
        Ok(Some(value))
    }

    /// An optional comma-separated list of the query.
    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        let text = self.query.get(name).filter(|text| !text.is_empty())?;
        Some(text.split(',').map(|item| item.trim().to_owned()).collect())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.query.get(name).filter(|text| !text.is_empty()).map(String::as_str).ok_or_else(|| Refusal::missing(name))
    }

    fn mid(&self) -> Result<&str, Refusal> {
        let mid = self.required("message_id")?;
        if is_mid(mid) { Ok(mid) } else { Err(Refusal::message_id(mid)) }
    }

    fn chat(&self) -> i64 {
        self.parameters.first().and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

fn done() -> Value {
    json!({"success": true})
}

fn failed(message: &str) -> Value {
    json!({"success": false, "message": message})
}

impl World {
    pub(super) fn operate(&mut self, operation: Operation, call: &Call) -> Result<Value, Refusal> {
        match operation {
            Operation::Me => {
                let bot = self.bots.get(&call.bot).ok_or_else(|| Refusal::token("Invalid access_token"))?;
                Ok(self.bot_json(bot))
            }
            Operation::EditCommands => self.edit_commands(call),
            Operation::GetSubscriptions => Ok(self.subscriptions(call.bot)),
            Operation::Subscribe => self.subscribe(call),
            Operation::Unsubscribe => self.unsubscribe(call),
            Operation::GetUploadUrl => self.upload_url(call),
            Operation::SendMessage => self.send(call),
            Operation::EditMessage => self.edit(call),
            Operation::DeleteMessage => self.delete(call),
            Operation::GetMessages => self.messages(call),
            Operation::GetMessage => {
                let mid = call.parameters.first().map(String::as_str).unwrap_or_default();
                let (chat, seq) = self.find(call.bot, mid).ok_or_else(|| Refusal::not_found("Message not found"))?;
                let (chat, message) = self.message(chat, seq).ok_or_else(|| Refusal::not_found("Message not found"))?;
                Ok(self.message_json(chat, message))
            }
            // Comments belong to posts of channels, and this simulator has no channels: no message
            // has any.
            Operation::Comments => Err(Refusal::not_found("Post not found")),
            Operation::Answer => self.answer(call),
            Operation::Video => {
                let token = call.parameters.first().map(String::as_str).unwrap_or_default();
                let media = self.media_tokens.get(token).and_then(|id| self.media.get(id));
                let video = media.filter(|media| media.bot == call.bot && media.kind == MediaKind::Video);
                video.map(|media| self.video_json(media)).ok_or_else(|| Refusal::not_found("Video not found"))
            }
            _ => self.operate_on_chat(operation, call),
        }
    }

    fn edit_commands(&mut self, call: &Call) -> Result<Value, Refusal> {
        let commands = call.body["commands"].as_array().ok_or_else(Refusal::body)?;
        if commands.len() > 32 {
            return Err(Refusal::too_long("commands", commands.len(), 32));
        }
        for command in commands {
            let name = command["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(Refusal::body)?;
            if name.chars().count() > 64 {
                return Err(Refusal::too_long("name", name.chars().count(), 64));
            }
        }
        let commands = Value::from(commands.clone());
        if let Some(bot) = self.bots.get_mut(&call.bot) {
            bot.commands = Some(commands.clone());
        }
        Ok(json!({"commands": commands}))
    }

    fn subscriptions(&self, bot: i64) -> Value {
        let found = self.bots.get(&bot).map(|bot| bot.subscriptions.as_slice()).unwrap_or_default();
        let show = |subscription: &Subscription| json!({"url": subscription.url, "time": subscription.time, "update_types": subscription.update_types});
        json!({"subscriptions": found.iter().map(show).collect::<Vec<_>>()})
    }

    fn subscribe(&mut self, call: &Call) -> Result<Value, Refusal> {
        let url = match &call.body["url"] {
            Value::Null => return Err(Refusal::missing("url")),
            url => url.as_str().ok_or_else(Refusal::body)?,
        };
        let secret = match &call.body["secret"] {
            Value::Null => None,
            secret => Some(secret.as_str().ok_or_else(Refusal::body)?),
        };
        if let Some(secret) = secret {
            let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if !(5..=256).contains(&secret.len()) || !secret.bytes().all(alphabet) {
                return Err(Refusal::payload("Field 'secret' does not match ^[\\w-]{5,256}$"));
            }
        }
        let update_types = match &call.body["update_types"] {
            Value::Null => None,
            types => {
                let names = types.as_array().ok_or_else(Refusal::body)?.iter().map(Value::as_str);
                let names: Vec<String> =
                    names.map(|name| name.map(str::to_owned)).collect::<Option<_>>().ok_or_else(Refusal::body)?;
                Some(names).filter(|names| !names.is_empty())
            }
        };
        if let Some(refused) = self.webhook_refusal(url) {
            return Ok(failed(refused));
        }
        let (now, id) = (self.clock.now_ms(), self.next());
        let most = self.switches.max_subscriptions;
        let Some(bot) = self.bots.get_mut(&call.bot) else { return Err(Refusal::token("Invalid access_token")) };
        let secret = secret.map(str::to_owned);
        if let Some(existing) = bot.subscriptions.iter_mut().find(|subscription| subscription.url == url) {
            existing.secret = secret;
            existing.update_types = update_types;
            existing.time = now;
        } else if bot.subscriptions.len() >= most {
            return Ok(failed("Too many subscriptions"));
        } else {
            bot.subscriptions.push(Subscription::new(id, url.to_owned(), secret, update_types, now));
        }
        Ok(done())
    }

    fn webhook_refusal(&self, url: &str) -> Option<&'static str> {
        let Ok(parsed) = url::Url::parse(url) else { return Some("Invalid url") };
        if parsed.scheme() != "https" && !(self.switches.allow_http_webhooks && parsed.scheme() == "http") {
            return Some("Url must start with https://");
        }
        // The parser forgets a port that is the scheme's own, so the text is looked at.
        let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        if port && !self.switches.allow_any_webhook_port {
            return Some("Url must not contain a port");
        }
        None
    }

    fn unsubscribe(&mut self, call: &Call) -> Result<Value, Refusal> {
        let url = call.required("url")?;
        let Some(bot) = self.bots.get_mut(&call.bot) else { return Ok(failed("Subscription not found")) };
        let before = bot.subscriptions.len();
        bot.subscriptions.retain(|subscription| subscription.url != url);
        Ok(if bot.subscriptions.len() < before { done() } else { failed("Subscription not found") })
    }

    fn upload_url(&mut self, call: &Call) -> Result<Value, Refusal> {
        let name = call.required("type")?;
        let kind = MediaKind::from_name(name)
            .ok_or_else(|| Refusal::payload(format!("Invalid value of parameter 'type': {name}")))?;
        let expires = self.clock.now_ms() + self.clock.shortened_ms(self.switches.upload_url_life_ms);
        let signature = self.opaque(40);
        let moving = matches!(kind, MediaKind::Video | MediaKind::Audio);
        let media = moving.then(|| self.store(kind, call.bot, String::new(), String::new(), None));
        let path = match kind {
            MediaKind::Image => "uploadImage",
            MediaKind::File => "api/upload.do",
            MediaKind::Video | MediaKind::Audio => "upload.do",
        };
        let mut answer = json!({"url": format!("{}/{path}?sig={signature}&expires={expires}", self.files_url)});
        if let Some(media) = media.and_then(|id| self.media.get(&id)) {
            answer["token"] = json!(media.token);
        }
        self.uploads.insert(
            signature,
            Upload { bot: call.bot, kind, expires, media, used: false, chunks: std::collections::BTreeMap::new() },
        );
        Ok(answer)
    }

    fn send(&mut self, call: &Call) -> Result<Value, Refusal> {
        let user = call.number("user_id", i64::MIN, i64::MAX)?;
        let chat = call.number("chat_id", i64::MIN, i64::MAX)?;
        if user.is_none() && chat.is_none() {
            return Err(Refusal::payload("Unknown recipient"));
        }
        let recipient = self.recipient(call.bot, user, chat);
        if let Ok(chat) = recipient {
            self.rates.chat(chat, ChatCall::Send, Instant::now(), &self.switches)?;
        }
        if self.switches.check_order == CheckOrder::RecipientFirst {
            recipient.clone()?;
        }
        let composed = self.compose(call.bot, &call.body, &call.fetched, false)?;
        let chat = recipient?;
        let seq = self.add_message(chat, composed.into_message(call.bot)).ok_or_else(|| Refusal::no_chat(chat))?;
        if self.switches.echo_own_messages {
            self.emit_message("message_created", chat, seq);
        }
        let (chat, message) = self.message(chat, seq).ok_or_else(|| Refusal::no_chat(chat))?;
        Ok(json!({"message": self.message_json(chat, message)}))
    }

    /// Whether `bot` may still change a message of its own; else why not.
    fn may_change(&self, bot: i64, chat: i64, seq: i64, hours: Option<u64>) -> Result<(), &'static str> {
        let Some((chat, message)) = self.message(chat, seq) else { return Err("Message not found") };
        if message.sender != bot {
            return Err("Message is not yours");
        }
        let keyboard = message.attachments.iter().any(|attachment| matches!(attachment, Attachment::Keyboard { .. }));
        let age = self.clock.now_ms() - message.timestamp;
        match hours {
            Some(hours) if chat.is_dialog() && !keyboard && age > self.clock.shortened_ms(hours * HOUR_MS) => {
                Err("Message is too old")
            }
            _ => Ok(()),
        }
    }

    fn edit(&mut self, call: &Call) -> Result<Value, Refusal> {
        let mid = call.mid()?;
        let found = self.find(call.bot, mid);
        if let Some((chat, _)) = found {
            self.rates.chat(chat, ChatCall::Edit, Instant::now(), &self.switches)?;
        }
        let keeps =
            found.and_then(|(chat, seq)| self.message(chat, seq)).is_some_and(|(_, m)| !m.attachments.is_empty());
        let composed = self.compose(call.bot, &call.body, &call.fetched, keeps)?;
        let Some((chat, seq)) = found else { return Ok(failed("Message not found")) };
        if let Err(why) = self.may_change(call.bot, chat, seq, Some(self.switches.edit_age_hours)) {
            return Ok(failed(why));
        }
        self.rewrite(chat, seq, composed);
        Ok(done())
    }

    fn rewrite(&mut self, chat: i64, seq: i64, composed: super::compose::Composed) {
        let now = self.clock.now_ms();
        if let Some(message) = self.message_mut(chat, seq) {
            message.text = composed.text;
            message.markup = composed.markup;
            if let Some(attachments) = composed.attachments {
                message.attachments = attachments;
            }
            if composed.link.is_some() {
                message.link = composed.link;
            }
            message.edited_at = Some(now);
        }
        if self.switches.echo_own_messages {
            self.emit_message("message_edited", chat, seq);
        }
    }

    fn delete(&mut self, call: &Call) -> Result<Value, Refusal> {
        let mid = call.mid()?;
        let Some((chat, seq)) = self.find(call.bot, mid) else { return Ok(failed("Message not found")) };
        self.rates.chat(chat, ChatCall::Delete, Instant::now(), &self.switches)?;
        let in_group =
            self.chats.get(&chat).is_some_and(|found| matches!(found.kind, ChatKind::Group { bot_admin: true, .. }));
        if !in_group && let Err(why) = self.may_change(call.bot, chat, seq, self.switches.delete_age_hours) {
            return Ok(failed(why));
        }
        if let Some(message) = self.message_mut(chat, seq) {
            message.deleted = true;
        }
        Ok(done())
    }

    fn messages(&self, call: &Call) -> Result<Value, Refusal> {
        let count = call.number("count", 1, 100)?.unwrap_or(50);
        let after = call.number("after", 0, i64::MAX)?.or(call.number("to", 0, i64::MAX)?);
        let before = call.number("before", 0, i64::MAX)?.or(call.number("from", 0, i64::MAX)?);
        if let Some(mids) = call.list("message_ids") {
            if let Some(bad) = mids.iter().find(|mid| !is_mid(mid)) {
                return Err(Refusal::message_id(bad));
            }
            let found = mids.iter().filter_map(|mid| self.find(call.bot, mid));
            let found = found.filter_map(|(chat, seq)| self.message(chat, seq));
            return Ok(
                json!({"messages": found.map(|(chat, message)| self.message_json(chat, message)).collect::<Vec<_>>()}),
            );
        }
        let Some(id) = call.number("chat_id", i64::MIN, i64::MAX)? else { return Err(Refusal::missing("chat_id")) };
        let chat = self.chats.get(&id).filter(|chat| chat.bot == call.bot).ok_or_else(|| Refusal::no_chat(id))?;
        let allowed = match &chat.kind {
            ChatKind::Dialog { .. } => self.switches.dialog_reading_allowed,
            ChatKind::Group { bot_in, bot_admin, .. } => *bot_in && *bot_admin,
        };
        if !allowed {
            return Err(Refusal::denied("You don't have access to this chat"));
        }
        let wanted = chat.messages.values().rev().filter(|message| {
            !message.deleted
                && after.is_none_or(|after| message.timestamp > after)
                && before.is_none_or(|before| message.timestamp < before)
        });
        let page = wanted.take(usize::try_from(count).unwrap_or(50));
        Ok(json!({"messages": page.map(|message| self.message_json(chat, message)).collect::<Vec<_>>()}))
    }

    fn answer(&mut self, call: &Call) -> Result<Value, Refusal> {
        let id = call.required("callback_id")?;
        let now = self.clock.now_ms();
        let life = self.switches.callback_life_ms.map(|life| self.clock.shortened_ms(life));
        let press = self
            .presses
            .get(id)
            .filter(|press| press.bot == call.bot && life.is_none_or(|life| press.at + life > now))
            .map(|press| (press.chat, press.seq));
        let (chat, seq) = press.ok_or_else(|| Refusal::payload("callback_id: Callback identifier is invalid"))?;
        self.rates.chat(chat, ChatCall::Answer, Instant::now(), &self.switches)?;
        if !call.body.is_object() {
            return Err(Refusal::body());
        }
        let notification = match &call.body["notification"] {
            Value::Null => None,
            text => Some(text.as_str().ok_or_else(Refusal::body)?.to_owned()),
        };
        let message = Some(&call.body["message"]).filter(|message| !message.is_null());
        if message.is_none() && notification.is_none() && !self.switches.empty_answer_accepted {
            return Err(Refusal::payload("Invalid request. `message` or `notification` required"));
        }
        if let Some(message) = message {
            let keeps = self.message(chat, seq).is_some_and(|(_, message)| !message.attachments.is_empty());
            let composed = self.compose(call.bot, message, &call.fetched, keeps)?;
            if self.message(chat, seq).is_none_or(|(_, message)| message.deleted) {
                return Ok(failed("Message not found"));
            }
            self.rewrite(chat, seq, composed);
        }
        if let (Some(text), Some(chat)) = (notification, self.chats.get_mut(&chat)) {
            remember(&mut chat.notifications, (now, text));
        }
        Ok(done())
    }

    fn operate_on_chat(&mut self, operation: Operation, call: &Call) -> Result<Value, Refusal> {
        let id = call.chat();
        let chat = self.chats.get(&id).filter(|chat| chat.bot == call.bot).ok_or_else(|| Refusal::no_chat(id))?;
        match operation {
            Operation::GetChat => Ok(self.chat_json(chat)),
            Operation::Action => {
                let actions =
                    ["typing_on", "sending_photo", "sending_video", "sending_audio", "sending_file", "mark_seen"];
                let action =
                    call.body["action"].as_str().filter(|action| actions.contains(action)).ok_or_else(Refusal::body)?;
                self.recipient(call.bot, chat.user(), Some(id))?;
                let now = self.clock.now_ms();
                if let Some(chat) = self.chats.get_mut(&id) {
                    remember(&mut chat.shown_actions, (now, action.to_owned()));
                }
                Ok(done())
            }
            Operation::GetPin => {
                let pinned = chat.pinned.and_then(|seq| chat.messages.get(&seq)).filter(|message| !message.deleted);
                Ok(json!({"message": pinned.map(|message| self.message_json(chat, message))}))
            }
            Operation::Pin => {
                let mid = call.body["message_id"].as_str().ok_or_else(Refusal::body)?;
                let Some((_, seq)) = self.find(call.bot, mid).filter(|(chat, _)| *chat == id) else {
                    return Ok(failed("Message not found"));
                };
                if let Some(chat) = self.chats.get_mut(&id) {
                    chat.pinned = Some(seq);
                }
                Ok(done())
            }
            Operation::Unpin => {
                let pinned = self.chats.get_mut(&id).and_then(|chat| chat.pinned.take());
                Ok(if pinned.is_some() { done() } else { failed("Nothing is pinned") })
            }
            _ => self.operate_on_group(operation, call, id),
        }
    }

    /// What exists for groups only: a dialog answers 403.
    fn operate_on_group(&mut self, operation: Operation, call: &Call, id: i64) -> Result<Value, Refusal> {
        let denied = || Refusal::denied("Not available in dialogs");
        let chat = self.chats.get(&id).ok_or_else(denied)?;
        let ChatKind::Group { members, bot_in, bot_admin, .. } = &chat.kind else { return Err(denied()) };
        if !bot_in {
            return Err(Refusal::denied("Bot is not a member of this chat"));
        }
        let admin = *bot_admin;
        let members = members.clone();
        match operation {
            Operation::Membership => Ok(self.member_json(chat, call.bot)),
            Operation::GetAdmins => {
                let admins = admin.then_some(call.bot).into_iter().chain(members.first().copied());
                Ok(json!({"members": admins.map(|user| self.member_json(chat, user)).collect::<Vec<_>>()}))
            }
            Operation::GetMembers => self.members(call, chat, &members),
            Operation::Leave => {
                if let Some(ChatKind::Group { bot_in, .. }) = self.chats.get_mut(&id).map(|chat| &mut chat.kind) {
                    *bot_in = false;
                }
                Ok(done())
            }
            _ if !admin => Err(Refusal::denied("Bot is not an administrator of this chat")),
            Operation::EditChat => {
                let title = call.body["title"].as_str().map(str::to_owned);
                if let (Some(new), Some(ChatKind::Group { title, .. })) =
                    (title, self.chats.get_mut(&id).map(|chat| &mut chat.kind))
                {
                    *title = new;
                }
                self.chats.get(&id).map(|chat| self.chat_json(chat)).ok_or_else(|| Refusal::no_chat(id))
            }
            Operation::RemoveMember => {
                let user = call.number("user_id", i64::MIN, i64::MAX)?.ok_or_else(|| Refusal::missing("user_id"))?;
                let gone = match self.chats.get_mut(&id).map(|chat| &mut chat.kind) {
                    Some(ChatKind::Group { members, .. }) => members.remove(&user),
                    _ => false,
                };
                Ok(if gone { done() } else { failed("User not found") })
            }
            Operation::AddMembers => {
                let users = call.body["user_ids"].as_array().ok_or_else(Refusal::body)?;
                let users: Vec<i64> = users.iter().filter_map(Value::as_i64).collect();
                let (known, unknown): (Vec<i64>, Vec<i64>) =
                    users.into_iter().partition(|user| self.people.contains_key(user));
                if let Some(ChatKind::Group { members, .. }) = self.chats.get_mut(&id).map(|chat| &mut chat.kind) {
                    members.extend(known);
                }
                if unknown.is_empty() {
                    return Ok(done());
                }
                Ok(json!({
                    "success": false,
                    "failed_user_ids": unknown,
                    "failed_user_details": [{"error_code": "add.participant.not.found", "user_ids": unknown}],
                }))
            }
            // The simulator keeps one owner per group and the bot's own right; other administrators
            // are not modelled.
            _ => Ok(failed("Administrators of this chat cannot be changed")),
        }
    }

    fn members(&self, call: &Call, chat: &Chat, members: &BTreeSet<i64>) -> Result<Value, Refusal> {
        let count = usize::try_from(call.number("count", 1, 100)?.unwrap_or(20)).unwrap_or(20);
        let marker = call.number("marker", i64::MIN, i64::MAX)?;
        let only: Option<Vec<i64>> =
            call.list("user_ids").map(|ids| ids.iter().filter_map(|id| id.parse().ok()).collect());
        let mut wanted = members.iter().filter(|user| {
            marker.is_none_or(|marker| **user >= marker) && only.as_ref().is_none_or(|only| only.contains(user))
        });
        let page: Vec<Value> = wanted.by_ref().take(count).map(|user| self.member_json(chat, *user)).collect();
        Ok(json!({"members": page, "marker": wanted.next()}))
    }

    fn member_json(&self, chat: &Chat, user: i64) -> Value {
        let (owner, admin) = match &chat.kind {
            ChatKind::Group { members, bot_admin, .. } => {
                let owner = members.first() == Some(&user);
                (owner, owner || (user == chat.bot && *bot_admin))
            }
            ChatKind::Dialog { .. } => (false, false),
        };
        let mut member = self.user_with_photo_json(user);
        member["last_access_time"] = json!(self.clock.now_ms());
        member["join_time"] = json!(chat.messages.values().next().map_or(0, |message| message.timestamp));
        member["is_owner"] = json!(owner);
        member["is_admin"] = json!(admin);
        if user == chat.bot && admin {
            member["permissions"] = json!([
                "read_all_messages",
                "write",
                "delete",
                "pin_message",
                "change_chat_info",
                "add_remove_members"
            ]);
        }
        member
    }
}

/// A list that keeps the newest thousand.
fn remember(list: &mut std::collections::VecDeque<(i64, String)>, entry: (i64, String)) {
    if list.len() >= 1000 {
        list.pop_front();
    }
    list.push_back(entry);
}
