//! What people do: start, stop, write, press; and what the owner of a bot does (simulator checklist
//! 2 and 3).

use std::collections::VecDeque;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use super::compose::{linked_to, vcard};
use super::control::{ControlError, Draft, DraftAttachment, PressWhat};
use super::files::PIXEL;
use super::world::{
    Attachment, Bot, BotState, Chat, ChatKind, DialogState, MediaKind, Message, Person, Press, TokenEntry, World, hex,
    mid, parse_mid,
};

/// The longest payload of a start address (MAX Bot API, deep links); longer ones are dropped.
const START_PAYLOAD: usize = 128;

/// What a person did to the dialog as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialogAction {
    /// Pressed start, with the payload of the start address, if any.
    Start(Option<String>),
    /// Stopped the bot.
    Stop,
    /// Started it again after a stop; the same as `Start(None)`.
    Restart,
    /// Cleared the history.
    Clear,
    /// Deleted the dialog: `dialog_removed` and `bot_stopped`.
    Remove,
    /// Switched notifications off until this Unix ms.
    Mute(i64),
    /// Switched notifications on.
    Unmute,
}

impl World {
    pub(super) fn bot_mut(&mut self, bot: i64) -> Result<&mut Bot, ControlError> {
        self.bots.get_mut(&bot).ok_or_else(|| ControlError::new(format!("There is no bot {bot}: create it first.")))
    }

    fn known_person(&self, user: i64) -> Result<&Person, ControlError> {
        self.people
            .get(&user)
            .ok_or_else(|| ControlError::new(format!("There is no user {user}: create the user first.")))
    }

    pub(super) fn make_bot(&mut self, new: super::control::NewBot) -> Result<i64, ControlError> {
        let id = match new.user_id {
            Some(id) => id,
            None => 254_700_000 + i64::try_from(self.next()).unwrap_or(0),
        };
        if id <= 0 || self.bots.contains_key(&id) || self.people.contains_key(&id) {
            return Err(ControlError::new(format!("The id {id} is taken or not positive: choose another one.")));
        }
        self.bots.insert(
            id,
            Bot {
                id,
                name: new.name,
                username: Some(new.username.unwrap_or_else(|| format!("id{}_bot", 7_700_000_000 + id % 100_000_000))),
                description: new.description,
                commands: None,
                state: BotState::Active,
                token: None,
                subscriptions: Vec::new(),
                log: super::updates::Log::default(),
            },
        );
        self.issue_token(id, new.token)?;
        Ok(id)
    }

    /// A new token takes the place of the old one, which dies at once or after
    /// [`super::Switches::old_token_life_ms`].
    pub(super) fn issue_token(&mut self, bot: i64, token: Option<String>) -> Result<String, ControlError> {
        let token = token.unwrap_or_else(|| self.opaque(84));
        if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ControlError::new("A token must not be empty and contains no spaces: give another one."));
        }
        if self.tokens.get(&token).is_some_and(|entry| entry.bot != bot) {
            return Err(ControlError::new("This token belongs to another bot: give another one."));
        }
        let dies_at = self.clock.now_ms() + self.clock.shortened_ms(self.switches.old_token_life_ms);
        let old = self.bot_mut(bot)?.token.replace(token.clone());
        if let Some(entry) = old.and_then(|old| self.tokens.get_mut(&old)) {
            entry.dies_at = Some(dies_at);
        }
        self.tokens.insert(token.clone(), TokenEntry { bot, dies_at: None });
        Ok(token)
    }

    /// The token dies at once; the bot has none until the next issue.
    pub(super) fn revoke(&mut self, bot: i64) -> Result<(), ControlError> {
        let now = self.clock.now_ms();
        let old = self.bot_mut(bot)?.token.take();
        if let Some(entry) = old.and_then(|old| self.tokens.get_mut(&old)) {
            entry.dies_at = Some(now);
        }
        Ok(())
    }

    pub(super) fn make_person(&mut self, new: super::control::NewUser) -> Result<i64, ControlError> {
        let id = match new.user_id {
            Some(id) => id,
            None => 91_234_000 + i64::try_from(self.next()).unwrap_or(0),
        };
        if id <= 0 || self.bots.contains_key(&id) || self.people.contains_key(&id) {
            return Err(ControlError::new(format!("The id {id} is taken or not positive: choose another one.")));
        }
        let active_at = self.clock.now_ms();
        self.people.insert(
            id,
            Person {
                first_name: new.first_name,
                last_name: new.last_name,
                username: new.username,
                locale: new.locale,
                phone: new.phone,
                active_at,
            },
        );
        Ok(id)
    }

    fn new_chat(&mut self, id: i64, bot: i64, kind: ChatKind) {
        let chat = Chat {
            id,
            bot,
            kind,
            messages: std::collections::BTreeMap::new(),
            last_seq: 0,
            cleared_through: 0,
            muted_until: None,
            pinned: None,
            shown_actions: VecDeque::new(),
            notifications: VecDeque::new(),
        };
        self.chats.insert(id, chat);
    }

    /// The open dialog of a person and a bot.
    fn open_dialog(&self, user: i64, bot: i64) -> Result<i64, ControlError> {
        self.known_person(user)?;
        let chat = self.dialogs.get(&(user, bot)).and_then(|id| self.chats.get(id));
        match chat.map(|chat| (&chat.kind, chat.id)) {
            Some((ChatKind::Dialog { state: DialogState::Started, .. }, id)) => Ok(id),
            Some(_) => {
                Err(ControlError::new(format!("User {user} has stopped or removed bot {bot}: start it again first.")))
            }
            None => Err(ControlError::new(format!("User {user} has not started bot {bot}: start it first."))),
        }
    }

    fn set_dialog(&mut self, chat: i64, new: DialogState) {
        if let Some(ChatKind::Dialog { state, .. }) = self.chats.get_mut(&chat).map(|chat| &mut chat.kind) {
            *state = new;
        }
    }

    fn active(&mut self, user: i64) {
        let now = self.clock.now_ms();
        if let Some(person) = self.people.get_mut(&user) {
            person.active_at = now;
        }
    }

    /// Answers the id of the dialog.
    pub(super) fn act(&mut self, user: i64, bot: i64, action: DialogAction) -> Result<i64, ControlError> {
        self.known_person(user)?;
        self.bot_mut(bot)?;
        self.active(user);
        match action {
            DialogAction::Start(payload) => Ok(self.start(user, bot, payload)),
            DialogAction::Restart => Ok(self.start(user, bot, None)),
            DialogAction::Stop => {
                let chat = self.open_dialog(user, bot)?;
                self.set_dialog(chat, DialogState::Stopped);
                self.emit_about("bot_stopped", chat, user, json!({}));
                Ok(chat)
            }
            DialogAction::Remove => {
                let chat = *self.dialogs.get(&(user, bot)).ok_or_else(|| {
                    ControlError::new(format!("User {user} has no dialog with bot {bot}: start it first."))
                })?;
                self.set_dialog(chat, DialogState::Removed);
                if let Some(found) = self.chats.get_mut(&chat) {
                    found.cleared_through = found.last_seq;
                }
                self.emit_about("bot_stopped", chat, user, json!({}));
                self.emit_about("dialog_removed", chat, user, json!({}));
                Ok(chat)
            }
            DialogAction::Clear => {
                let chat = self.open_dialog(user, bot)?;
                if let Some(found) = self.chats.get_mut(&chat) {
                    found.cleared_through = found.last_seq;
                }
                self.emit_about("dialog_cleared", chat, user, json!({}));
                Ok(chat)
            }
            DialogAction::Mute(until) => {
                let chat = self.open_dialog(user, bot)?;
                if let Some(found) = self.chats.get_mut(&chat) {
                    found.muted_until = Some(until);
                }
                self.emit_about("dialog_muted", chat, user, json!({"muted_until": until}));
                Ok(chat)
            }
            DialogAction::Unmute => {
                let chat = self.open_dialog(user, bot)?;
                if let Some(found) = self.chats.get_mut(&chat) {
                    found.muted_until = None;
                }
                self.emit_about("dialog_unmuted", chat, user, json!({}));
                Ok(chat)
            }
        }
    }

    fn start(&mut self, user: i64, bot: i64, payload: Option<String>) -> i64 {
        let existing = self.dialogs.get(&(user, bot)).copied();
        let open = self.open_dialog(user, bot).is_ok();
        let chat = existing.unwrap_or_else(|| {
            let id = 184_500_000 + i64::try_from(self.next()).unwrap_or(0);
            self.new_chat(id, bot, ChatKind::Dialog { user, state: DialogState::Started });
            self.dialogs.insert((user, bot), id);
            id
        });
        self.set_dialog(chat, DialogState::Started);
        let payload = payload.filter(|payload| payload.chars().count() <= START_PAYLOAD);
        // In an open dialog there is no start button: only a start address with a payload can be
        // followed again.
        if !open || (payload.is_some() && self.switches.start_in_open_dialog) {
            let more = payload.map_or_else(|| json!({}), |payload| json!({"payload": payload}));
            self.emit_about("bot_started", chat, user, more);
        }
        chat
    }

    /// A person writes into a dialog, or a member into a group. Answers the mid.
    pub(super) fn write(
        &mut self,
        user: i64,
        bot: i64,
        group: Option<i64>,
        draft: Draft,
    ) -> Result<String, ControlError> {
        let chat = match group {
            None => self.open_dialog(user, bot)?,
            Some(id) => match self.chats.get(&id).map(|chat| &chat.kind) {
                Some(ChatKind::Group { members, .. }) if members.contains(&user) => id,
                _ => {
                    return Err(ControlError::new(format!(
                        "User {user} is not a member of a group {id}: create it first."
                    )));
                }
            },
        };
        self.active(user);
        let linked = |world: &Self, forward: bool, mid: &str| {
            let found = parse_mid(mid).and_then(|(chat, seq)| world.message(chat, seq));
            let (chat, message) = found.ok_or_else(|| ControlError::new(format!("There is no message {mid}.")))?;
            Ok::<_, ControlError>(linked_to(forward, chat.id, message))
        };
        let link = match (&draft.forward, &draft.reply_to) {
            (Some(mid), _) => Some(linked(self, true, mid)?),
            (None, Some(mid)) => Some(linked(self, false, mid)?),
            (None, None) => None,
        };
        let mut attachments = Vec::new();
        for attachment in draft.attachments {
            attachments.push(self.drafted(user, bot, attachment));
        }
        let message = Message {
            seq: 0,
            timestamp: 0,
            sender: user,
            text: draft.text,
            markup: Vec::new(),
            attachments,
            link,
            edited_at: None,
            deleted: false,
            notify: true,
        };
        let missing = || ControlError::new(format!("Chat {chat} is gone."));
        let seq = self.add_message(chat, message).ok_or_else(missing)?;
        if self.bot_reads(chat) {
            self.emit_message("message_created", chat, seq);
        }
        Ok(mid(chat, seq))
    }

    /// Dialogs always; groups only where the bot is an administrator (MAX Bot API, who gets what).
    fn bot_reads(&self, chat: i64) -> bool {
        match self.chats.get(&chat).map(|chat| &chat.kind) {
            Some(ChatKind::Dialog { .. }) => true,
            Some(ChatKind::Group { bot_in, bot_admin, .. }) => *bot_in && *bot_admin,
            None => false,
        }
    }

    fn drafted(&mut self, user: i64, bot: i64, attachment: DraftAttachment) -> Attachment {
        match attachment {
            DraftAttachment::Image { data } => {
                let bytes = data.map_or(Bytes::from_static(PIXEL), |data| data.0);
                Attachment::Media(self.store(
                    MediaKind::Image,
                    bot,
                    String::new(),
                    "image/webp".to_owned(),
                    Some(bytes),
                ))
            }
            DraftAttachment::File { name, data } => {
                let bytes = data.map_or(Bytes::from_static(b"contents of a file\n"), |data| data.0);
                Attachment::Media(self.store(
                    MediaKind::File,
                    bot,
                    name,
                    "application/octet-stream".to_owned(),
                    Some(bytes),
                ))
            }
            DraftAttachment::Audio { data } => {
                let bytes = data.map_or(Bytes::from_static(b"OggS voice"), |data| data.0);
                Attachment::Media(self.store(
                    MediaKind::Audio,
                    bot,
                    "audio.ogg".to_owned(),
                    "audio/ogg".to_owned(),
                    Some(bytes),
                ))
            }
            DraftAttachment::Video { data } => {
                let bytes = data.map_or(Bytes::from_static(b"\0\0\0\x18ftypmp42 film"), |data| data.0);
                Attachment::Media(self.store(
                    MediaKind::Video,
                    bot,
                    "video.mp4".to_owned(),
                    "video/mp4".to_owned(),
                    Some(bytes),
                ))
            }
            DraftAttachment::Sticker { code } => Attachment::Sticker { code },
            DraftAttachment::Contact { name, phone, by_button } => {
                let vcf = vcard(&name, &phone);
                let token = self.bots.get(&bot).and_then(|bot| bot.token.clone()).filter(|_| by_button);
                let hash = token.map(|token| contact_hash(&token, &vcf));
                Attachment::Contact { vcf, hash, user: Some(user) }
            }
            DraftAttachment::Share { url, title, description } => Attachment::Share { url, title, description },
            DraftAttachment::Location { latitude, longitude } => Attachment::Location { latitude, longitude },
            DraftAttachment::Unknown(value) => Attachment::Unknown(value),
        }
    }

    fn own_message(&self, user: i64, mid: &str) -> Result<(i64, i64), ControlError> {
        let found = parse_mid(mid).filter(|(chat, seq)| {
            self.message(*chat, *seq).is_some_and(|(_, message)| !message.deleted && message.sender == user)
        });
        found.ok_or_else(|| ControlError::new(format!("User {user} has no message {mid}.")))
    }

    pub(super) fn rewrite_by(&mut self, user: i64, mid: &str, text: String) -> Result<(), ControlError> {
        let (chat, seq) = self.own_message(user, mid)?;
        let now = self.clock.now_ms();
        if let Some(message) = self.message_mut(chat, seq) {
            message.text = text;
            message.edited_at = Some(now);
        }
        self.active(user);
        if self.bot_reads(chat) {
            self.emit_message("message_edited", chat, seq);
        }
        Ok(())
    }

    pub(super) fn delete_by(&mut self, user: i64, deleted: &str) -> Result<(), ControlError> {
        let (chat, seq) = self.own_message(user, deleted)?;
        if let Some(message) = self.message_mut(chat, seq) {
            message.deleted = true;
        }
        self.active(user);
        if self.bot_reads(chat) {
            let bot = self.chats.get(&chat).map(|chat| chat.bot).unwrap_or_default();
            let update = json!({
                "update_type": "message_removed",
                "timestamp": self.clock.now_ms(),
                "message_id": mid(chat, seq),
                "chat_id": chat,
                "user_id": user,
            });
            self.emit(bot, chat, update);
        }
        Ok(())
    }

    /// Presses a button of a message. Answers the callback id of a callback button, or what the
    /// button brought about.
    pub(super) fn press(&mut self, user: i64, pressed: &str, what: &PressWhat) -> Result<String, ControlError> {
        let none =
            || ControlError::new(format!("There is no such button on message {pressed}: look at the transcript."));
        let (chat, seq) = parse_mid(pressed).ok_or_else(none)?;
        let (found, message) = self.message(chat, seq).filter(|(_, message)| !message.deleted).ok_or_else(none)?;
        let bot = found.bot;
        let dialog = found.is_dialog();
        let rows = message.attachments.iter().find_map(|attachment| match attachment {
            Attachment::Keyboard { rows, .. } => rows.as_array(),
            _ => None,
        });
        let mut buttons = rows.into_iter().flatten().filter_map(Value::as_array).flatten();
        let button = match what {
            PressWhat::Text(text) => buttons.find(|button| button["text"].as_str() == Some(text)),
            PressWhat::Payload(payload) => buttons.find(|button| button["payload"].as_str() == Some(payload)),
            PressWhat::Number(number) => buttons.nth(*number),
        };
        let button = button.cloned().ok_or_else(none)?;
        let person = self.known_person(user)?.clone();
        self.active(user);
        let group = (!dialog).then_some(chat);
        match button["type"].as_str() {
            Some("callback") => {
                let id = self.opaque(120);
                let at = self.clock.now_ms();
                self.presses.insert(id.clone(), Press { bot, chat, seq, at });
                let mut update = json!({
                    "update_type": "message_callback",
                    "timestamp": at,
                    "callback": {"timestamp": at, "callback_id": id, "payload": button["payload"], "user": self.user_json(user)},
                });
                if let Some((chat, message)) = self.message(chat, seq) {
                    update["message"] = self.message_json(chat, message);
                }
                if dialog {
                    update["user_locale"] = json!(person.locale);
                }
                self.emit(bot, chat, update);
                Ok(id)
            }
            Some("message") => {
                let text = button["text"].as_str().unwrap_or_default().to_owned();
                self.write(user, bot, group, Draft { text, ..Draft::default() })
            }
            Some("request_contact") => {
                let name = format!("{} {}", person.first_name, person.last_name).trim().to_owned();
                let contact = DraftAttachment::Contact { name, phone: person.phone, by_button: true };
                self.write(user, bot, group, Draft { attachments: vec![contact], ..Draft::default() })
            }
            Some("request_geo_location") => {
                let place = DraftAttachment::Location { latitude: 55.7558, longitude: 37.6173 };
                self.write(user, bot, group, Draft { attachments: vec![place], ..Draft::default() })
            }
            // These act on the person's device only.
            Some("link" | "open_app" | "clipboard") => Ok(String::new()),
            _ => Err(none()),
        }
    }

    /// A group with the bot in it: `bot_added` by `owner`.
    pub(super) fn make_group(&mut self, bot: i64, owner: i64, title: String, admin: bool) -> Result<i64, ControlError> {
        self.known_person(owner)?;
        self.bot_mut(bot)?;
        let id = -70_801_234_560_000 - i64::try_from(self.next()).unwrap_or(0);
        let kind = ChatKind::Group { title, members: [owner].into(), bot_in: true, bot_admin: admin };
        self.new_chat(id, bot, kind);
        self.emit_about("bot_added", id, owner, json!({"is_channel": false}));
        Ok(id)
    }

    /// A person joins (`by`: whoever added them) or leaves a group.
    pub(super) fn membership(
        &mut self,
        chat: i64,
        user: i64,
        by: Option<i64>,
        joins: bool,
    ) -> Result<(), ControlError> {
        self.known_person(user)?;
        let Some(ChatKind::Group { members, .. }) = self.chats.get_mut(&chat).map(|chat| &mut chat.kind) else {
            return Err(ControlError::new(format!("There is no group {chat}: create it first.")));
        };
        let (update_type, who) = if joins {
            members.insert(user);
            ("user_added", "inviter_id")
        } else {
            members.remove(&user);
            ("user_removed", "admin_id")
        };
        if self.bot_reads(chat) {
            let mut more = json!({"is_channel": false});
            if let Some(by) = by {
                more[who] = json!(by);
            }
            self.emit_about(update_type, chat, user, more);
        }
        Ok(())
    }

    /// `bot_removed` by `user`.
    pub(super) fn remove_bot(&mut self, chat: i64, user: i64) -> Result<(), ControlError> {
        let Some(ChatKind::Group { bot_in, .. }) = self.chats.get_mut(&chat).map(|chat| &mut chat.kind) else {
            return Err(ControlError::new(format!("There is no group {chat}: create it first.")));
        };
        *bot_in = false;
        self.emit_about("bot_removed", chat, user, json!({"is_channel": false}));
        Ok(())
    }
}

/// Proof that a contact came through the button: lower-case hex HMAC-SHA-256 of the card, keyed by
/// the bot's token.
fn contact_hash(token: &str, vcf: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else { return String::new() };
    mac.update(vcf.as_bytes());
    hex(&mac.finalize().into_bytes())
}
