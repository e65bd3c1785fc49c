//! What we send: recipients, messages, attachments, answers and actions, in the shapes of the MAX
//! Bot API reference, "POST /messages" and "Outgoing attachment payloads". Nothing is written as
//! null: a field we have nothing to say about is absent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::ChatId;

/// Whom a message goes to. It travels in the query, never in the body (MAX Bot API reference, "POST
/// /messages").
///
/// Use [`Recipient::User`] for a dialog, always: a dialog's chat id was seen refused, and the limit
/// of two per second is kept by this value, so one dialog named in two ways would be counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Recipient {
    /// A person who has started the bot, by user id.
    User(i64),
    /// A group or channel, by chat id (negative as a rule).
    Chat(ChatId),
}

/// The body of POST /messages and PUT /messages. At least one of text and attachments must carry
/// content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Plain text, at most 4000 UTF-16 units: see [`super::text::split`]. No mark-up is
    /// interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// In an edit: `None` keeps what is there, an empty list removes it, a list replaces it. A file
    /// or audio must be alone; pictures and videos mix, up to 12 (MAX Bot API reference, "Limits").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<OutgoingAttachment>>,
}

impl NewMessage {
    /// Text alone.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), attachments: None }
    }

    /// One attachment, with or without text.
    #[must_use]
    pub fn attachment(attachment: OutgoingAttachment, text: Option<String>) -> Self {
        Self { text, attachments: Some(vec![attachment]) }
    }
}

/// An attachment of a message of ours (MAX Bot API reference, "Outgoing attachment payloads").
///
/// Uploaded ones are named by the token that [`super::Client::upload`] gave. The same bot may send
/// it again in other messages, so it may be stored and sent later; a token belongs to the type it
/// was uploaded as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum OutgoingAttachment {
    Image(UploadedToken),
    Video(UploadedToken),
    Audio(UploadedToken),
    File(UploadedToken),
    /// Buttons under the text; see [`OutgoingAttachment::keyboard`].
    InlineKeyboard(Keyboard),
}

impl OutgoingAttachment {
    pub(super) fn uploaded(kind: UploadKind, token: String) -> Self {
        let payload = UploadedToken { token };
        match kind {
            UploadKind::Image => Self::Image(payload),
            UploadKind::Video => Self::Video(payload),
            UploadKind::Audio => Self::Audio(payload),
            UploadKind::File => Self::File(payload),
        }
    }

    /// Rows of buttons, each a title and what `message_callback` brings back when it is pressed.
    /// MAX takes titles of 1 to 128 characters, payloads of up to 1024, 7 buttons in a row and 29
    /// rows (MAX Bot API reference, "Inline keyboard": 30 are documented, 29 were seen accepted). A
    /// keyboard may stand beside any other attachment.
    #[must_use]
    pub fn keyboard(rows: Vec<Vec<(String, String)>>) -> Self {
        let button = |(text, payload)| Button::Callback { text, payload };
        Self::InlineKeyboard(Keyboard {
            buttons: rows.into_iter().map(|row| row.into_iter().map(button).collect()).collect(),
        })
    }
}

/// The payload of every uploaded attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedToken {
    /// Not a secret of the account: it names one uploaded file to the bot that uploaded it.
    pub token: String,
}

/// The payload of a keyboard, row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyboard {
    pub buttons: Vec<Vec<Button>>,
}

/// One button. Of MAX's kinds only the one that answers to the bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Button {
    Callback { text: String, payload: String },
}

/// The types of POST /uploads, which are also the types of the attachments that come of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UploadKind {
    /// jpg, jpeg, png, gif, tiff, bmp, heic; up to 50 MB.
    Image,
    /// mp4, mov, mkv, webm; up to 250 MB.
    Video,
    /// Up to 256 MB and 60 minutes.
    Audio,
    /// Anything else, up to 4 GB; MAX refuses some extensions.
    File,
}

impl UploadKind {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::File => "file",
        }
    }
}

/// The body of POST /answers; at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallbackAnswer {
    /// Takes the place of the message that holds the button.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<NewMessage>,
    /// A short notice on the customer's screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<String>,
}

/// What the customer is shown while we work (POST /chats/{chatId}/actions). Failures are harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    TypingOn,
    SendingPhoto,
    SendingVideo,
    SendingAudio,
    SendingFile,
    MarkSeen,
}

/// Which part of a chat's history to read (GET /messages); the newest come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Only messages before this time, Unix milliseconds.
    pub before: Option<i64>,
    /// Only messages after this time, Unix milliseconds.
    pub after: Option<i64>,
    /// 1 to 100.
    pub count: u32,
}

/// The longest wait that GET /updates keeps to since 2026-05-11 (MAX Bot API reference, "Long
/// polling").
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(30);
