//! How MAX names chats and messages. People are named by their user ids, which are plain numbers
//! here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a chat in MAX: a dialog, a group or a channel. A dialog's is not the customer's user
/// id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatId(i64);

impl ChatId {
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Groups and channels have negative ids. Where MAX gives the type of a chat, that decides.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// The bare number.
impl fmt::Display for ChatId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The id of a message in MAX (`mid`): opaque, and names the message for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(String);

impl MessageId {
    #[must_use]
    pub fn new(mid: impl Into<String>) -> Self {
        Self(mid.into())
    }

    /// As MAX writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As MAX writes it.
impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
