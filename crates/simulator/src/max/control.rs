//! The control of the simulator, typed: everything that a customer, the owner of a bot, the
//! platform or a bad network can do to it, and everything that can be read from it.
//! [`super::control_http`] offers the same over HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::actions::DialogAction;
use super::faults::{Fault, UpdateFault};
use super::statistics::{HighestInChat, StatisticsReport, WebhookAttempt};
use super::switches::Switches;
use super::updates::UpdateRecord;
use super::world::{Attachment, BotState, Chat, ChatKind, DialogState, Message, World, mid};
use super::{Shared, dispatch};

/// Why the simulator did not do as told: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError(String);

impl ControlError {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ControlError {}

/// A bot to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewBot {
    /// Its id; none: one is chosen.
    pub user_id: Option<i64>,
    /// Its token; none: 84 characters are invented.
    pub token: Option<String>,
    /// Its display name.
    pub name: String,
    /// Its nick without `@`; none: one like `id7700000000_bot`.
    pub username: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

impl NewBot {
    /// A bot with this name and token.
    pub fn new(name: &str, token: &str) -> Self {
        Self { name: name.to_owned(), token: Some(token.to_owned()), ..Self::default() }
    }
}

/// What the owner of a bot sees. The token is an invented one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BotView {
    /// Its id.
    pub user_id: i64,
    /// The token in force, if any.
    pub token: Option<String>,
    /// Its display name.
    pub name: String,
    /// Its nick.
    pub username: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its webhook subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
}

/// A webhook subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// The subscribed address.
    pub url: String,
    /// The secret, which GET /subscriptions never shows.
    pub secret: Option<String>,
    /// The wanted types; none: all.
    pub update_types: Option<Vec<String>>,
}

/// Changes to a bot's card; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BotChange {
    /// The new display name.
    pub name: Option<String>,
    /// The new nick.
    pub username: Option<String>,
    /// The new description.
    pub description: Option<String>,
}

/// A person to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewUser {
    /// The id; none: one is chosen.
    pub user_id: Option<i64>,
    /// First name.
    pub first_name: String,
    /// Last name; may be empty.
    pub last_name: String,
    /// Nick without `@`.
    pub username: Option<String>,
    /// Language tag.
    pub locale: String,
    /// Phone number for shared contacts.
    pub phone: String,
}

impl Default for NewUser {
    fn default() -> Self {
        Self {
            user_id: None,
            first_name: "Анна".to_owned(),
            last_name: String::new(),
            username: None,
            locale: "ru".to_owned(),
            phone: "+79001234567".to_owned(),
        }
    }
}

impl NewUser {
    /// A person with this first name.
    pub fn named(first_name: &str) -> Self {
        Self { first_name: first_name.to_owned(), ..Self::default() }
    }
}

/// Bytes; base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(pub Bytes);

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

/// What a person sends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// The text.
    pub text: String,
    /// The attachments.
    pub attachments: Vec<DraftAttachment>,
    /// The mid that it answers.
    pub reply_to: Option<String>,
    /// The mid that it forwards.
    pub forward: Option<String>,
}

impl Draft {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// An attachment without a text.
    pub fn attachment(attachment: DraftAttachment) -> Self {
        Self { attachments: vec![attachment], ..Self::default() }
    }
}

/// An attachment that a person sends. Without `data` a small sample is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DraftAttachment {
    /// A picture.
    Image {
        /// Its bytes.
        data: Option<Content>,
    },
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Its bytes.
        data: Option<Content>,
    },
    /// A voice message.
    Audio {
        /// Its bytes.
        data: Option<Content>,
    },
    /// A film.
    Video {
        /// Its bytes.
        data: Option<Content>,
    },
    /// A sticker.
    Sticker {
        /// Its code.
        code: String,
    },
    /// A contact.
    Contact {
        /// Whose.
        name: String,
        /// Phone number.
        phone: String,
        /// Whether it came through a `request_contact` button, which proves it with a hash.
        #[serde(default)]
        by_button: bool,
    },
    /// A shared page.
    Share {
        /// Its address.
        url: String,
        /// Its title.
        title: Option<String>,
        /// Its description.
        description: Option<String>,
    },
    /// A place.
    Location {
        /// Degrees.
        latitude: f64,
        /// Degrees.
        longitude: f64,
    },
    /// Any object, as it stands: for types that nobody knows.
    Unknown(Value),
}

/// Which button is pressed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PressWhat {
    /// The first with this text.
    Text(String),
    /// The first with this payload.
    Payload(String),
    /// By its place, row by row, from 0.
    Number(usize),
}

/// A chat as the customer sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// The chat.
    pub chat_id: i64,
    /// `started`, `stopped`, `removed` or `group`.
    pub state: String,
    /// Oldest first; deleted and cleared messages are absent unless asked for.
    pub messages: Vec<Entry>,
    /// Short notices shown after button presses, with Unix ms.
    pub notifications: Vec<(i64, String)>,
    /// Actions shown (typing and the like), with Unix ms.
    pub actions: Vec<(i64, String)>,
}

impl Transcript {
    /// The texts of the messages, oldest first.
    pub fn texts(&self) -> Vec<&str> {
        self.messages.iter().map(|entry| entry.text.as_str()).collect()
    }

    /// The texts of the bot's messages, oldest first.
    pub fn texts_of_bot(&self) -> Vec<&str> {
        self.messages.iter().filter(|entry| entry.from_bot).map(|entry| entry.text.as_str()).collect()
    }
}

/// One message of a [`Transcript`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The message id.
    pub mid: String,
    /// Its place in the chat.
    pub seq: i64,
    /// Unix ms.
    pub timestamp: i64,
    /// Whether the bot sent it.
    pub from_bot: bool,
    /// Who sent it.
    pub sender_id: i64,
    /// The plain text.
    pub text: String,
    /// The spans of formatted text, as the API shows them.
    pub markup: Value,
    /// The attachments; the keyboard among them.
    pub attachments: Vec<EntryAttachment>,
    /// `reply` or `forward`, and the mid it points to.
    pub link: Option<(String, String)>,
    /// Unix ms of the last edit.
    pub edited_at: Option<i64>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Whether the customer was notified.
    pub notify: bool,
}

/// One attachment of an [`Entry`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryAttachment {
    /// The type, as in the API.
    pub kind: String,
    /// The number of its content, for [`Control::file`].
    pub file: Option<u64>,
    /// File name, where it has one.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: Option<usize>,
    /// The attachment as the API shows it.
    pub shown: Value,
}

/// The control. Cheap to clone; good for as long as the simulator runs.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
}

type Done<T> = Result<T, ControlError>;

impl Control {
    // --- Bots, as their owner and the platform treat them.

    /// Creates a bot and issues its token.
    pub fn create_bot(&self, new: NewBot) -> Done<BotView> {
        let id = self.shared.change(|world| world.make_bot(new))?;
        self.bot(id)
    }

    /// One bot.
    pub fn bot(&self, bot: i64) -> Done<BotView> {
        self.bots().into_iter().find(|view| view.user_id == bot).ok_or_else(|| no_bot(bot))
    }

    /// All bots.
    pub fn bots(&self) -> Vec<BotView> {
        self.shared.read(|world| {
            let view = |bot: &super::world::Bot| BotView {
                user_id: bot.id,
                token: bot.token.clone(),
                name: bot.name.clone(),
                username: bot.username.clone(),
                description: bot.description.clone(),
                subscriptions: bot
                    .subscriptions
                    .iter()
                    .map(|subscription| SubscriptionView {
                        url: subscription.url.clone(),
                        secret: subscription.secret.clone(),
                        update_types: subscription.update_types.clone(),
                    })
                    .collect(),
            };
            world.bots.values().map(view).collect()
        })
    }

    /// Changes the card.
    pub fn change_bot(&self, bot: i64, change: BotChange) -> Done<()> {
        self.shared.change(|world| {
            let found = world.bot_mut(bot)?;
            if let Some(name) = change.name {
                found.name = name;
            }
            if let Some(username) = change.username {
                found.username = Some(username);
            }
            if let Some(description) = change.description {
                found.description = Some(description);
            }
            Ok(())
        })
    }

    /// Issues a new token (none: an invented one); the old one dies, see
    /// [`Switches::old_token_life_ms`]. Answers the new one.
    pub fn issue_token(&self, bot: i64, token: Option<String>) -> Done<String> {
        self.shared.change(|world| world.issue_token(bot, token))
    }

    /// Revokes the token at once.
    pub fn revoke_token(&self, bot: i64) -> Done<()> {
        self.shared.change(|world| world.revoke(bot))
    }

    /// Blocks, deletes or restores a bot.
    pub fn set_bot_state(&self, bot: i64, state: BotState) -> Done<()> {
        self.shared.change(|world| {
            world.bot_mut(bot)?.state = state;
            Ok(())
        })
    }

    /// Removes every subscription of a bot silently, as the platform does after 8 hours without a
    /// 200.
    pub fn drop_subscriptions(&self, bot: i64) -> Done<()> {
        self.shared.change(|world| {
            world.bot_mut(bot)?.subscriptions.clear();
            Ok(())
        })
    }

    // --- People.

    /// Creates a person; answers the id.
    pub fn create_user(&self, new: NewUser) -> Done<i64> {
        self.shared.change(|world| world.make_person(new))
    }

    /// Does something to the dialog as a whole; answers its chat id.
    pub fn act(&self, user: i64, bot: i64, action: DialogAction) -> Done<i64> {
        self.shared.change(|world| world.act(user, bot, action))
    }

    /// Presses start; answers the chat id.
    pub fn start(&self, user: i64, bot: i64) -> Done<i64> {
        self.act(user, bot, DialogAction::Start(None))
    }

    /// Writes into the dialog; answers the mid.
    pub fn write(&self, user: i64, bot: i64, draft: Draft) -> Done<String> {
        self.shared.change(|world| world.write(user, bot, None, draft))
    }

    /// Writes a text into the dialog; answers the mid.
    pub fn say(&self, user: i64, bot: i64, text: &str) -> Done<String> {
        self.write(user, bot, Draft::text(text))
    }

    /// Writes into a group; answers the mid.
    pub fn write_in_group(&self, user: i64, chat: i64, draft: Draft) -> Done<String> {
        self.shared.change(|world| {
            let bot = world.chats.get(&chat).map(|chat| chat.bot);
            world.write(user, bot.ok_or_else(|| no_chat(chat))?, Some(chat), draft)
        })
    }

    /// Edits a message of one's own.
    pub fn edit(&self, user: i64, mid: &str, text: &str) -> Done<()> {
        self.shared.change(|world| world.rewrite_by(user, mid, text.to_owned()))
    }

    /// Deletes a message of one's own.
    pub fn delete(&self, user: i64, mid: &str) -> Done<()> {
        self.shared.change(|world| world.delete_by(user, mid))
    }

    /// Presses a button; answers the callback id, or the mid that the button brought about, or
    /// nothing.
    pub fn press(&self, user: i64, mid: &str, what: &PressWhat) -> Done<String> {
        self.shared.change(|world| world.press(user, mid, what))
    }

    /// Makes a group with the bot in it; answers the chat id.
    pub fn create_group(&self, bot: i64, owner: i64, title: &str, bot_is_admin: bool) -> Done<i64> {
        self.shared.change(|world| world.make_group(bot, owner, title.to_owned(), bot_is_admin))
    }

    /// A person joins or leaves a group; `by`: who added or removed them.
    pub fn set_member(&self, chat: i64, user: i64, by: Option<i64>, joins: bool) -> Done<()> {
        self.shared.change(|world| world.membership(chat, user, by, joins))
    }

    /// The bot is removed from a group.
    pub fn remove_bot(&self, chat: i64, user: i64) -> Done<()> {
        self.shared.change(|world| world.remove_bot(chat, user))
    }

    // --- Reading.

    /// The dialog as the customer sees it.
    pub fn transcript(&self, user: i64, bot: i64) -> Done<Transcript> {
        self.shared.read(|world| {
            let chat = world.dialogs.get(&(user, bot));
            let chat = chat.ok_or_else(|| ControlError::new(format!("User {user} has no dialog with bot {bot}.")))?;
            transcript(world, *chat, false)
        })
    }

    /// Any chat; `all`: with deleted and cleared messages.
    pub fn chat(&self, chat: i64, all: bool) -> Done<Transcript> {
        self.shared.read(|world| transcript(world, chat, all))
    }

    /// The bytes of an attachment.
    pub fn file(&self, file: u64) -> Done<Bytes> {
        let bytes = self.shared.read(|world| world.media.get(&file).and_then(|media| media.bytes.clone()));
        bytes.ok_or_else(|| ControlError::new(format!("There is no file {file}.")))
    }

    /// The updates of a bot that are still kept, oldest first.
    pub fn updates(&self, bot: i64) -> Done<Vec<UpdateRecord>> {
        self.shared.read(|world| {
            let found = world.bots.get(&bot).ok_or_else(|| no_bot(bot))?;
            Ok(found.log.entries.iter().cloned().collect())
        })
    }

    // --- The platform and the network.

    /// The switches in force.
    pub fn switches(&self) -> Switches {
        self.shared.read(|world| world.switches.clone())
    }

    /// Turns switches.
    pub fn set_switches(&self, turn: impl FnOnce(&mut Switches)) {
        self.shared.change(|world| turn(&mut world.switches));
    }

    /// Adds a fault for requests.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.change(|world| world.faults.add(fault));
    }

    /// Adds a fault for updates.
    pub fn add_update_fault(&self, fault: UpdateFault) {
        self.shared.change(|world| world.faults.add_for_updates(fault));
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.change(|world| world.faults.clear());
    }

    /// Holds webhook attempts back, or lets them go. What is under way is not stopped.
    pub fn pause_webhooks(&self, paused: bool) {
        self.shared.paused.send_replace(paused);
    }

    /// Webhooks whose address has this host are delivered to `base` (scheme, host, port) instead,
    /// path and query kept. An empty base ends the route.
    pub fn route_webhooks(&self, host: &str, base: &str) {
        self.shared.change(|world| {
            if base.is_empty() {
                world.routes.remove(host);
            } else {
                world.routes.insert(host.to_owned(), base.to_owned());
            }
        });
    }

    /// Believes these root certificates (PEM) of webhook receivers, beside the public ones.
    pub fn trust_webhooks(&self, pem: &str) -> Done<()> {
        let client = dispatch::client(pem).map_err(ControlError::new)?;
        self.shared.set_client(client);
        Ok(())
    }

    // --- Figures.

    /// All figures.
    pub fn statistics(&self) -> StatisticsReport {
        self.shared.read(|world| {
            let mut report = world.statistics.report.clone();
            report.highest_per_second = world.rates.highest_of_hosts().collect();
            report.highest_per_second_in_chat = world
                .rates
                .highest_of_chats()
                .map(|(chat_id, call, highest)| HighestInChat { chat_id, call, highest })
                .collect();
            report.highest_per_second_in_chat.sort_by_key(|entry| (entry.chat_id, entry.call));
            report
        })
    }

    /// The webhook attempts, oldest first.
    pub fn webhook_attempts(&self) -> Vec<WebhookAttempt> {
        self.shared.read(|world| world.statistics.attempts.iter().cloned().collect())
    }

    /// Sets all figures to zero.
    pub fn reset_statistics(&self) {
        self.shared.change(|world| {
            world.statistics = super::statistics::Statistics::default();
            world.rates.reset_highest();
        });
    }

    /// Waits until `seen` answers something: it is asked now and after every change. None: not
    /// within `at_most` (real time).
    pub async fn wait<T>(&self, at_most: Duration, mut seen: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let mut changes = self.shared.version.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = seen(self) {
                    return Some(found);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(at_most, wait).await.ok().flatten()
    }
}

fn no_bot(bot: i64) -> ControlError {
    ControlError::new(format!("There is no bot {bot}: create it first."))
}

fn no_chat(chat: i64) -> ControlError {
    ControlError::new(format!("There is no chat {chat}."))
}

fn transcript(world: &World, chat: i64, all: bool) -> Done<Transcript> {
    let chat = world.chats.get(&chat).ok_or_else(|| no_chat(chat))?;
    let state = match &chat.kind {
        ChatKind::Dialog { state: DialogState::Started, .. } => "started",
        ChatKind::Dialog { state: DialogState::Stopped, .. } => "stopped",
        ChatKind::Dialog { state: DialogState::Removed, .. } => "removed",
        ChatKind::Group { .. } => "group",
    };
    let shown =
        chat.messages.values().filter(|message| all || (!message.deleted && message.seq > chat.cleared_through));
    Ok(Transcript {
        chat_id: chat.id,
        state: state.to_owned(),
        messages: shown.map(|message| entry(world, chat, message)).collect(),
        notifications: chat.notifications.iter().cloned().collect(),
        actions: chat.shown_actions.iter().cloned().collect(),
    })
}

fn entry(world: &World, chat: &Chat, message: &Message) -> Entry {
    let attachments = message.attachments.iter().filter_map(|attachment| {
        let shown = world.attachment_json(attachment, message.sender)?;
        let media = match attachment {
            Attachment::Media(id) => world.media.get(id),
            _ => None,
        };
        Some(EntryAttachment {
            kind: shown["type"].as_str().unwrap_or_default().to_owned(),
            file: media.map(|media| media.id),
            name: media.map(|media| media.name.clone()).filter(|name| !name.is_empty()),
            size: media.and_then(|media| media.bytes.as_ref()).map(Bytes::len),
            shown,
        })
    });
    let link = message.link.as_ref().map(|link| {
        let kind = if link.forward { "forward" } else { "reply" };
        (kind.to_owned(), mid(link.chat, link.message.seq))
    });
    Entry {
        mid: mid(chat.id, message.seq),
        seq: message.seq,
        timestamp: message.timestamp,
        from_bot: message.sender == chat.bot,
        sender_id: message.sender,
        text: message.text.clone(),
        markup: world.markup_json(message),
        attachments: attachments.collect(),
        link,
        edited_at: message.edited_at,
        deleted: message.deleted,
        notify: message.notify,
    }
}
