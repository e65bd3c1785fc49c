//! What MAX tells us: bots, people, messages, subscriptions (MAX Bot API reference, "Shared
//! objects"). Reading is lenient: only what a thing cannot be named without is required. All ids
//! are `i64`: `seq` exceeds 2^53.

use serde::{Deserialize, Deserializer};
use url::Url;

use super::attachment::Attachment;
use super::ids::{ChatId, MessageId};
use super::lenient;

/// The bot itself, as GET /me shows it. No field tells its moderation state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Bot {
    /// The same value as `recipient.user_id` of incoming dialog messages.
    pub user_id: i64,
    /// The display name of the bot's card («Название»).
    #[serde(rename = "first_name", default, deserialize_with = "lenient::or_default")]
    pub name: String,
    /// The nick without `@`; `https://max.ru/<username>` opens the bot.
    #[serde(default, deserialize_with = "lenient::option")]
    pub username: Option<String>,
    /// Of the card.
    #[serde(default, deserialize_with = "lenient::option")]
    pub description: Option<String>,
}

/// A person or a bot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct User {
    #[serde(rename = "user_id", deserialize_with = "lenient::id")]
    pub id: i64,
    #[serde(default, deserialize_with = "lenient::text_or_empty")]
    pub first_name: String,
    /// May be absent, null or empty.
    #[serde(default, deserialize_with = "lenient::text")]
    pub last_name: Option<String>,
    /// The nick without `@`, where one is set.
    #[serde(default, deserialize_with = "lenient::text")]
    pub username: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub is_bot: bool,
}

impl User {
    /// First and last name with one blank between; the nick, else an empty text, where neither is
    /// given.
    #[must_use]
    pub fn name(&self) -> String {
        let last = self.last_name.as_deref().unwrap_or_default();
        let full = format!("{} {last}", self.first_name.trim());
        match full.trim() {
            "" => self.username.clone().unwrap_or_default(),
            name => name.to_owned(),
        }
    }
}

/// Where a message was written. The dialog's `chat_id` is not the customer's user id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Addressee {
    /// Positive in dialogs, negative in groups and channels; go by `chat_type`, never by the sign.
    #[serde(default, deserialize_with = "lenient::chat")]
    pub chat_id: Option<ChatId>,
    /// `dialog`, `chat` or `channel`; an open set.
    #[serde(default, deserialize_with = "lenient::text_or_empty")]
    pub chat_type: String,
    /// In a dialog: who it was written to. The bot for a customer's message, the customer for the
    /// bot's.
    #[serde(default, deserialize_with = "lenient::integer")]
    pub user_id: Option<i64>,
}

/// A message. Order within a dialog is by (`timestamp`, `seq`).
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub mid: MessageId,
    /// Strictly rising inside a chat; exceeds 2^53. 0 where MAX gave none.
    pub seq: i64,
    /// Unix milliseconds of the writing (not of an edit). 0 where MAX gave none.
    pub timestamp: i64,
    /// Absent for posts of channels.
    pub sender: Option<User>,
    pub recipient: Addressee,
    /// Plain text, without mark-up. `None` where there is none or it is empty.
    pub text: Option<String>,
    /// The links that stand behind words of the text.
    pub marks: Vec<LinkMark>,
    pub attachments: Vec<Attachment>,
    /// The message it answers or forwards.
    pub link: Option<Link>,
}

/// A message inside another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// `forward` or `reply`; an open set.
    pub kind: String,
    /// Who wrote the inner message.
    pub sender: Option<User>,
    pub mid: Option<MessageId>,
    pub text: Option<String>,
    /// As in [`Message`].
    pub marks: Vec<LinkMark>,
    pub attachments: Vec<Attachment>,
}

/// An address behind words of a text, which the text itself does not show.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LinkMark {
    /// Where the words begin, and how long they are: UTF-16 units, though MAX does not document the
    /// unit.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub from: usize,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub length: usize,
    pub url: String,
}

impl LinkMark {
    /// The words of `text` that are the link.
    #[must_use]
    pub fn words(&self, text: &str) -> String {
        let units: Vec<u16> = text.encode_utf16().skip(self.from).take(self.length).collect();
        String::from_utf16_lossy(&units)
    }
}

impl Message {
    /// Reads one message of the API. `None` if it is not an object with an id in `body.mid`.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        serde_json::from_value(lenient::value(raw)?).ok()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireMessage::deserialize(deserializer)?;
        let mid = wire.body.mid.filter(|mid| !mid.is_empty()).ok_or_else(|| serde::de::Error::missing_field("mid"))?;
        Ok(Self {
            mid: MessageId::new(mid),
            seq: wire.body.seq,
            timestamp: wire.timestamp,
            sender: wire.sender,
            recipient: wire.recipient,
            text: wire.body.text.filter(|text| !text.is_empty()),
            marks: wire.body.markup,
            attachments: wire.body.attachments,
            link: wire.link.map(|link| Link {
                kind: link.kind,
                sender: link.sender,
                mid: link.message.mid.map(MessageId::new),
                text: link.message.text.filter(|text| !text.is_empty()),
                marks: link.message.markup,
                attachments: link.message.attachments,
            }),
        })
    }
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default, deserialize_with = "lenient::option")]
    sender: Option<User>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    recipient: Addressee,
    #[serde(default, deserialize_with = "lenient::integer_or_zero")]
    timestamp: i64,
    #[serde(default, deserialize_with = "lenient::option")]
    link: Option<WireLink>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    body: WireBody,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireBody {
    #[serde(deserialize_with = "lenient::text")]
    mid: Option<String>,
    #[serde(deserialize_with = "lenient::integer_or_zero")]
    seq: i64,
    #[serde(deserialize_with = "lenient::text")]
    text: Option<String>,
    #[serde(deserialize_with = "lenient::list")]
    markup: Vec<LinkMark>,
    #[serde(deserialize_with = "lenient::list")]
    attachments: Vec<Attachment>,
}

#[derive(Deserialize)]
struct WireLink {
    #[serde(rename = "type", default, deserialize_with = "lenient::text_or_empty")]
    kind: String,
    #[serde(default, deserialize_with = "lenient::option")]
    sender: Option<User>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    message: WireBody,
}

/// One webhook subscription (GET /subscriptions). The secret is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    pub url: String,
    /// Unix milliseconds of its making, 0 where MAX gave none.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub time: i64,
    /// `None`: all types.
    #[serde(default, deserialize_with = "lenient::option")]
    pub update_types: Option<Vec<String>>,
}

/// Where a video's pictures are (GET /videos/{videoToken}).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoDetails {
    /// MP4 files by height in pixels, the highest first.
    pub mp4: Vec<(u32, Url)>,
    /// Pixels.
    pub width: Option<i64>,
    /// Pixels.
    pub height: Option<i64>,
    /// Seconds.
    pub duration: Option<i64>,
}

impl<'de> Deserialize<'de> for VideoDetails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default, deserialize_with = "lenient::or_default")]
            urls: serde_json::Map<String, serde_json::Value>,
            #[serde(default, deserialize_with = "lenient::option")]
            width: Option<i64>,
            #[serde(default, deserialize_with = "lenient::option")]
            height: Option<i64>,
            #[serde(default, deserialize_with = "lenient::option")]
            duration: Option<i64>,
        }
        let wire = Wire::deserialize(deserializer)?;
        let mut mp4: Vec<(u32, Url)> = wire
            .urls
            .iter()
            .filter_map(|(key, url)| Some((key.strip_prefix("mp4_")?.parse().ok()?, url.as_str()?.parse().ok()?)))
            .collect();
        mp4.sort_by_key(|(height, _)| std::cmp::Reverse(*height));
        Ok(Self { mp4, width: wire.width, height: wire.height, duration: wire.duration })
    }
}

/// The answer of GET /subscriptions. Without the list it is another system's answer, and not "no
/// subscriptions".
#[derive(Deserialize)]
pub(super) struct SubscriptionList {
    #[serde(deserialize_with = "lenient::list")]
    pub subscriptions: Vec<Subscription>,
}
