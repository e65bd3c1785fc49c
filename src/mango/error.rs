//! What went wrong at MANGO OFFICE, as a class to act on and one sentence to read.

use std::fmt;
use std::time::Duration;

/// What can be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Key or salt is wrong: a person must put the right pair in place.
    CredentialsInvalid,
    /// Too many requests, perhaps of other customers: try again with growing pauses.
    Throttled,
    /// MANGO blocks the key for wrong requests, or would after one more; nothing is sent for so
    /// long.
    Penalty { left: Duration },
    /// The account is blocked, closed, out of money or lacks the service.
    Billing { code: u16 },
    /// Refused with that result code (or HTTP status, below 1000); the same request will be refused
    /// again.
    Refused { code: u16 },
    /// MANGO is there and fails at the moment: try again with growing pauses.
    Transient,
    /// No answer came: try again with growing pauses.
    Unreachable,
}

/// One failed call. `Display` is one sentence: what happened, to which call, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    class: Class,
    sentence: String,
    /// MANGO's own words.
    words: String,
    /// MANGO wants nothing for so long.
    retry_after: Option<Duration>,
}

impl Error {
    pub(super) fn new(class: Class, sentence: impl Into<String>) -> Self {
        Self { class, sentence: sentence.into(), words: String::new(), retry_after: None }
    }

    pub(super) fn with_words(self, words: &str) -> Self {
        Self { words: words.to_owned(), ..self }
    }

    pub(super) fn with_retry_after(self, left: Duration) -> Self {
        Self { retry_after: Some(left), ..self }
    }

    /// How long MANGO asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Which refusal of Манго Диалоги it is, by MANGO's own words.
    pub fn dialog_refusal(&self) -> Option<super::dialogs::DialogRefusal> {
        super::dialogs::DialogRefusal::of(&self.words)
    }

    /// What can be done about it.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}
