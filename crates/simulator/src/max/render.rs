//! The state as the Bot API shows it: users, messages, attachments, chats (MAX Bot API, shared
//! objects; attachments).

use serde_json::{Map, Value, json};

use super::markup::Span;
use super::switches::{TextUnit, VideoUrl};
use super::world::{Attachment, Bot, Chat, ChatKind, DialogState, Linked, Media, MediaKind, Message, World, mid};

impl World {
    /// `User`, for a person or a bot.
    pub(super) fn user_json(&self, id: i64) -> Value {
        let mut user = Map::new();
        let name = if let Some(bot) = self.bots.get(&id) {
            user.insert("user_id".to_owned(), json!(id));
            user.insert("first_name".to_owned(), json!(bot.name));
            if let Some(username) = &bot.username {
                user.insert("username".to_owned(), json!(username));
            }
            user.insert("is_bot".to_owned(), json!(true));
            user.insert("last_activity_time".to_owned(), json!(self.clock.now_ms()));
            bot.name.clone()
        } else if let Some(person) = self.people.get(&id) {
            user.insert("user_id".to_owned(), json!(id));
            user.insert("first_name".to_owned(), json!(person.first_name));
            user.insert("last_name".to_owned(), json!(person.last_name));
            if let Some(username) = &person.username {
                user.insert("username".to_owned(), json!(username));
            }
            user.insert("is_bot".to_owned(), json!(false));
            user.insert("last_activity_time".to_owned(), json!(person.active_at));
            format!("{} {}", person.first_name, person.last_name).trim().to_owned()
        } else {
            user.insert("user_id".to_owned(), json!(id));
            user.insert("first_name".to_owned(), json!("Deleted account"));
            user.insert("is_bot".to_owned(), json!(false));
            "Deleted account".to_owned()
        };
        if self.switches.live_extras {
            user.insert("name".to_owned(), json!(name));
        }
        Value::Object(user)
    }

    /// `UserWithPhoto`.
    pub(super) fn user_with_photo_json(&self, id: i64) -> Value {
        let mut user = self.user_json(id);
        if let Some(description) = self.bots.get(&id).and_then(|bot| bot.description.as_ref()) {
            user["description"] = json!(description);
        }
        user["avatar_url"] = json!(format!("{}/i?r=avatar{id}", self.files_url));
        user["full_avatar_url"] = json!(format!("{}/i?r=avatar{id}full", self.files_url));
        user
    }

    /// `BotInfo`.
    pub(super) fn bot_json(&self, bot: &Bot) -> Value {
        let mut info = self.user_with_photo_json(bot.id);
        if let Some(commands) = &bot.commands {
            info["commands"] = commands.clone();
        }
        info
    }

    /// `Message`.
    pub(super) fn message_json(&self, chat: &Chat, message: &Message) -> Value {
        let recipient = match chat.kind {
            ChatKind::Dialog { user, .. } => {
                let to = if message.sender == chat.bot { user } else { chat.bot };
                json!({"chat_id": chat.id, "chat_type": "dialog", "user_id": to})
            }
            ChatKind::Group { .. } => json!({"chat_id": chat.id, "chat_type": "chat"}),
        };
        let mut out = json!({
            "sender": self.user_json(message.sender),
            "recipient": recipient,
            "timestamp": message.timestamp,
            "body": self.body_json(chat.id, message),
        });
        if let Some(link) = &message.link {
            out["link"] = self.link_json(link);
        }
        out
    }

    fn link_json(&self, link: &Linked) -> Value {
        json!({
            "type": if link.forward { "forward" } else { "reply" },
            "sender": self.user_json(link.message.sender),
            "chat_id": link.chat,
            "message": self.body_json(link.chat, &link.message),
        })
    }

    /// `MessageBody`.
    pub(super) fn body_json(&self, chat: i64, message: &Message) -> Value {
        let mut body = json!({"mid": mid(chat, message.seq), "seq": message.seq, "text": message.text});
        if !message.attachments.is_empty() {
            body["attachments"] = message
                .attachments
                .iter()
                .filter_map(|attachment| self.attachment_json(attachment, message.sender))
                .collect();
        }
        if !message.markup.is_empty() {
            body["markup"] = self.markup_json(message);
        }
        body
    }

    pub(super) fn markup_json(&self, message: &Message) -> Value {
        let unit = self.switches.markup_unit;
        let measure = |from: usize, length: usize| -> usize {
            match unit {
                TextUnit::CodePoints => length,
                TextUnit::Utf16 => message.text.chars().skip(from).take(length).map(char::len_utf16).sum(),
            }
        };
        let show = |span: &Span| {
            let mut out = json!({
                "type": span.style.name(),
                "from": measure(0, span.from),
                "length": measure(span.from, span.length),
            });
            span.style.details(&mut out);
            out
        };
        message.markup.iter().map(show).collect()
    }

    /// `Attachment`; none where its content was dropped for want of room.
    pub(super) fn attachment_json(&self, attachment: &Attachment, sender: i64) -> Option<Value> {
        Some(match attachment {
            Attachment::Media(id) => self.media_json(self.media.get(id)?, sender),
            Attachment::Sticker { code } => json!({
                "type": "sticker",
                "payload": {"url": format!("{}/i/getSmile?smileId={code}&smileType=4", self.files_url), "code": code},
                "width": 168,
                "height": 168,
            }),
            Attachment::Contact { vcf, hash, user } => {
                let mut payload = Map::new();
                payload.insert("vcf_info".to_owned(), json!(vcf));
                if let Some(hash) = hash {
                    payload.insert("hash".to_owned(), json!(hash));
                }
                if let Some(user) = user {
                    payload.insert("max_info".to_owned(), self.user_json(*user));
                }
                json!({"type": "contact", "payload": payload})
            }
            Attachment::Share { url, title, description } => {
                let mut out = json!({"type": "share", "payload": {"url": url, "token": self.signature(url)}});
                if let Some(title) = title {
                    out["title"] = json!(title);
                }
                if let Some(description) = description {
                    out["description"] = json!(description);
                }
                out
            }
            Attachment::Location { latitude, longitude } => {
                json!({"type": "location", "latitude": latitude, "longitude": longitude})
            }
            Attachment::Keyboard { callback_id, rows } => {
                let mut rows = rows.clone();
                let mut out = json!({"type": "inline_keyboard"});
                if self.switches.live_extras {
                    out["callback_id"] = json!(callback_id);
                    for button in rows.as_array_mut().into_iter().flatten().filter_map(Value::as_array_mut).flatten() {
                        if button["type"] == "callback" {
                            button["intent"] = json!("default");
                        }
                    }
                }
                out["payload"] = json!({"buttons": rows});
                out
            }
            Attachment::Unknown(value) => value.clone(),
        })
    }

    fn media_json(&self, media: &Media, sender: i64) -> Value {
        let token = &media.token;
        let url = self.download_url(media, sender);
        match media.kind {
            MediaKind::Image => json!({"type": "image", "payload": {"photo_id": media.id, "token": token, "url": url}}),
            MediaKind::Audio => {
                json!({"type": "audio", "payload": {"url": url, "token": token}, "transcription": null})
            }
            MediaKind::File => json!({
                "type": "file",
                "payload": {"url": url, "token": token},
                "filename": media.name,
                "size": media.bytes.as_ref().map_or(0, bytes::Bytes::len),
            }),
            MediaKind::Video => {
                let mut payload = Map::new();
                match self.switches.video_url {
                    VideoUrl::Usable => {
                        payload.insert("url".to_owned(), json!(url));
                    }
                    VideoUrl::Unsuitable => {
                        payload.insert(
                            "url".to_owned(),
                            json!(format!("{}/video?id={}&type=preview", self.files_url, media.id)),
                        );
                    }
                    VideoUrl::Absent => {}
                }
                payload.insert("token".to_owned(), json!(token));
                json!({
                    "type": "video",
                    "payload": payload,
                    "thumbnail": {"url": format!("{}/i?r=thumbnail{}", self.files_url, media.id)},
                    "width": 1280,
                    "height": 720,
                    "duration": 7,
                })
            }
        }
    }

    /// A fresh address, good until its `expires`.
    pub(super) fn download_url(&self, media: &Media, user: i64) -> String {
        let expires = self.clock.now_ms() + self.clock.shortened_ms(self.switches.download_url_life_ms);
        let signature = self.signature(&format!("{}|{expires}", media.id));
        let (files, id) = (&self.files_url, media.id);
        match media.kind {
            MediaKind::Image => format!("{files}/i?r={signature}&id={id}&expires={expires}"),
            MediaKind::Video => format!("{files}/video?sig={signature}&expires={expires}&srcIp=127.0.0.1&id={id}"),
            MediaKind::Audio => format!("{files}/audio?sig={signature}&expires={expires}&id={id}"),
            MediaKind::File => {
                format!("{files}/getfile?sig={signature}&expires={expires}&clientType=3&id={id}&userId={user}")
            }
        }
    }

    /// `VideoAttachmentDetails`.
    pub(super) fn video_json(&self, media: &Media) -> Value {
        let url = self.download_url(media, media.bot);
        json!({
            "token": media.token,
            "urls": {"mp4_1080": null, "mp4_720": url, "mp4_480": url, "mp4_360": null, "mp4_240": null, "mp4_144": null, "hls": null},
            "thumbnail": {"photo_id": media.id, "token": media.token, "url": format!("{}/i?r=thumbnail{}", self.files_url, media.id)},
            "width": 1280,
            "height": 720,
            "duration": 7,
        })
    }

    /// `Chat`.
    pub(super) fn chat_json(&self, chat: &Chat) -> Value {
        let last = chat.messages.values().next_back().map_or(0, |message| message.timestamp);
        let mut out = match &chat.kind {
            ChatKind::Dialog { user, state } => json!({
                "type": "dialog",
                "status": match state {
                    DialogState::Started => "active",
                    DialogState::Stopped => "suspended",
                    DialogState::Removed => "removed",
                },
                "title": null,
                "participants_count": 2,
                "dialog_with_user": self.user_with_photo_json(*user),
            }),
            ChatKind::Group { title, members, bot_in, .. } => json!({
                "type": "chat",
                "status": if *bot_in { "active" } else { "left" },
                "title": title,
                "participants_count": members.len() + usize::from(*bot_in),
                "owner_id": members.first(),
            }),
        };
        out["chat_id"] = json!(chat.id);
        out["last_event_time"] = json!(last);
        out["is_public"] = json!(false);
        out["messages_count"] = json!(chat.messages.values().filter(|message| !message.deleted).count());
        if let Some(pinned) = chat.pinned.and_then(|seq| chat.messages.get(&seq)) {
            out["pinned_message"] = self.message_json(chat, pinned);
        }
        out
    }
}
