//! The name by which everything here speaks of one channel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a channel: that of its `MaxChannel`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelRef {
    pub namespace: String,
    pub name: String,
}

impl ChannelRef {
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// `<namespace>/<name>`.
impl fmt::Display for ChannelRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}
