//! Attachments of incoming messages (MAX Bot API reference, "Incoming attachments").

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use super::lenient;
use super::message::User;

/// One attachment of a message. Every optional part may be missing or null; an address that is not
/// a URL counts as missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Attachment {
    /// Normally webp, without a file name.
    Image(Image),
    /// Its address may be missing or unsuitable: then [`super::Client::video`] gives better ones.
    Video(Video),
    /// A voice message or a piece of music.
    Audio(Audio),
    /// Any other file.
    File(File),
    /// A picture of a set.
    Sticker(Sticker),
    /// A card; [`super::vcard::read`] reads it.
    Contact(Contact),
    /// A link with a preview.
    Share(Share),
    /// Where the customer is.
    Location(Location),
    /// The buttons of a message of the bot: nothing of it concerns us.
    InlineKeyboard,
    /// A type this program does not know, or a known one whose parts do not fit. `kind` is the word
    /// MAX used, empty if none.
    Unknown { kind: String },
}

impl Attachment {
    /// Whether it was sent as one: a preview of a link is added by MAX, and a keyboard is none.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Video(_) | Self::Audio(_) | Self::File(_) | Self::Sticker(_))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub photo_id: Option<i64>,
    pub token: Option<String>,
    pub url: Option<Url>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Video {
    pub url: Option<Url>,
    /// For [`super::Client::video`].
    pub token: Option<String>,
    /// Pixels.
    pub width: Option<i64>,
    /// Pixels.
    pub height: Option<i64>,
    /// Seconds.
    pub duration: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audio {
    pub url: Option<Url>,
    pub token: Option<String>,
    /// What MAX heard in it, where it listened.
    pub transcription: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    pub url: Option<Url>,
    pub token: Option<String>,
    /// As the customer's device named it: not a safe path.
    pub filename: Option<String>,
    /// Bytes.
    pub size: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sticker {
    pub url: Option<Url>,
    pub code: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The card as vCard text.
    pub vcf_info: Option<String>,
    /// The MAX user it names, where it names one.
    pub user: Option<User>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// As MAX has it: the customer sees it even where it is no complete address.
    pub url: Option<String>,
    pub title: Option<String>,
    pub description: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
}

impl<'de> Deserialize<'de> for Attachment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(read(Value::deserialize(deserializer)?))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(rename = "type", deserialize_with = "lenient::text_or_empty")]
    kind: String,
    /// Of a share, should it not stand in the payload.
    #[serde(deserialize_with = "lenient::text")]
    url: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    payload: Option<Payload>,
    #[serde(deserialize_with = "lenient::text")]
    filename: Option<String>,
    #[serde(deserialize_with = "lenient::integer")]
    size: Option<i64>,
    #[serde(deserialize_with = "lenient::integer")]
    width: Option<i64>,
    #[serde(deserialize_with = "lenient::integer")]
    height: Option<i64>,
    #[serde(deserialize_with = "lenient::integer")]
    duration: Option<i64>,
    #[serde(deserialize_with = "lenient::text")]
    transcription: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    title: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    description: Option<String>,
    #[serde(deserialize_with = "lenient::float")]
    latitude: Option<f64>,
    #[serde(deserialize_with = "lenient::float")]
    longitude: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    #[serde(deserialize_with = "lenient::integer")]
    photo_id: Option<i64>,
    #[serde(deserialize_with = "lenient::text")]
    url: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    token: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    code: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    vcf_info: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    max_info: Option<User>,
}

fn read(value: Value) -> Attachment {
    let wire: Wire = serde_json::from_value(value).unwrap_or_default();
    let Wire { kind, payload, .. } = wire;
    let unknown = |kind: String| Attachment::Unknown { kind };
    if kind == "location" {
        return match (wire.latitude, wire.longitude) {
            (Some(latitude), Some(longitude)) => Attachment::Location(Location { latitude, longitude }),
            _ => unknown(kind),
        };
    }
    if kind == "inline_keyboard" {
        return Attachment::InlineKeyboard;
    }
    // A preview without a payload has its words still.
    let payload = payload.or_else(|| (kind == "share").then(Payload::default));
    let Some(Payload { photo_id, url: address, token, code, vcf_info, max_info }) = payload else {
        return unknown(kind);
    };
    let url = address.as_deref().and_then(|address| Url::parse(address).ok());
    match kind.as_str() {
        "image" => Attachment::Image(Image { photo_id, token, url }),
        "video" => {
            Attachment::Video(Video { url, token, width: wire.width, height: wire.height, duration: wire.duration })
        }
        "audio" => Attachment::Audio(Audio { url, token, transcription: wire.transcription }),
        "file" => Attachment::File(File { url, token, filename: wire.filename, size: wire.size }),
        "sticker" => Attachment::Sticker(Sticker { url, code }),
        "contact" => Attachment::Contact(Contact { vcf_info, user: max_info }),
        "share" => {
            let url = address.or(wire.url).filter(|url| !url.trim().is_empty());
            Attachment::Share(Share { url, title: wire.title, description: wire.description })
        }
        _ => unknown(kind),
    }
}
