//! What went wrong in a call, and what it means for the caller (MAX Bot API reference, "Catalogue of errors").

use std::fmt;
use std::time::Duration;

/// What a failure asks of the caller. The set of codes is open: what is not known is [`Class::Refused`] with MAX's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// The token is not accepted (any 401, `deprecated.token`): stop using it, no repeats.
    Unauthorized,
    /// The bot as a whole is blocked: pause, look at GET /me with long pauses.
    AccountBlocked,
    /// The customer has stopped the bot, removed the dialog or never started it: close the dialog, no repeats until `bot_started`.
    RecipientGone,
    /// An attachment is still being processed: repeat the same send after 1, 2, 4 s, then longer.
    NotReady,
    /// A video or audio token counts as another owner's: upload once more, then send as a file.
    ForeignMedia,
    /// The thing asked for is not there (any more): a message, a video, an expired download address.
    NotFound,
    /// Long polling is not possible now (405 or 409 of GET /updates): look at the subscriptions.
    PollRefused,
    /// Too many requests; wait at least this long where MAX says so.
    Throttled { retry_after: Option<Duration> },
    /// The request itself is wrong or not allowed: a repeat would be refused again.
    Refused,
    /// The file is longer than the caller takes.
    TooLarge,
    /// An attachment's address leads to a host or address from which nothing is fetched; nothing was sent.
    ForbiddenAddress,
    /// No answer, a 5xx, or an answer that is not of this API: may pass. See [`Error::may_have_been_sent`] before repeating a send.
    Transient,
}

/// A failed call. `Display` is one sentence: what happened, to which call, what to do. It never holds the token or a body.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    pub(super) class: Class,
    pub(super) call: &'static str,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) may_have_been_sent: bool,
}

impl Error {
    #[must_use]
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// The HTTP status, where there was an answer. 200 with a class other than [`Class::Transient`] is `success: false`.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// MAX's code, for example `verify.token`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// MAX's own words, else what happened in ours; at most 300 characters, one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the change that the call asks for (a message, an edit, a subscription) may have taken effect all the same: the
    /// connection was lost after the request may have left, a time-out, a 5xx, an answer that cannot be read. Always false for reads
    /// and for uploads and downloads, which put nothing before a customer.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        self.may_have_been_sent
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Error({:?}: {self})", self.class)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, message, .. } = self;
        match (self.status, &self.code) {
            (None, _) => write!(formatter, "{call}: {message}")?,
            (Some(status), None) => write!(formatter, "{call} was answered {status}: {message}")?,
            (Some(status), Some(code)) => write!(formatter, "{call} was answered {status} {code}: {message}")?,
        }
        formatter.write_str("; ")?;
        formatter.write_str(match self.class {
            Class::Unauthorized => "take the current token from the bot's settings",
            Class::AccountBlocked => "ask the support of MAX why the bot is blocked",
            Class::RecipientGone => "the customer has to start the bot again",
            Class::NotReady => "send the same again in a few seconds",
            Class::ForeignMedia => "upload it again, or send it as a file",
            Class::NotFound => "ask MAX for it anew",
            Class::PollRefused => "look for a webhook subscription or a second poller of this bot",
            Class::Throttled { .. } => "slow down",
            Class::Refused => "a repeat would be refused again",
            Class::TooLarge => "raise the limit or ask for it in another way",
            Class::ForbiddenAddress => "attachments are fetched from hosts of MAX only",
            Class::Transient if self.may_have_been_sent => "look whether it took effect before it is sent again",
            Class::Transient => "try again later",
        })
    }
}

impl std::error::Error for Error {}
