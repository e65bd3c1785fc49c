//! Whom a dialog is with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A customer, by the user id in MAX. Not the id of the dialog's chat, which is a
/// [`ChatId`](crate::max::ChatId).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomerId(i64);

impl CustomerId {
    /// Before every other, where customers are gone through in their order.
    pub const FIRST: Self = Self(i64::MIN);

    /// The customer with that user id in MAX.
    #[must_use]
    pub const fn new(user_id: i64) -> Self {
        Self(user_id)
    }

    /// The user id in MAX.
    #[must_use]
    pub const fn user_id(self) -> i64 {
        self.0
    }
}

/// The bare number.
impl fmt::Display for CustomerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for CustomerId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
