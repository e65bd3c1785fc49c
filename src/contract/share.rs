//! How much of what all relays of an installation may ask of one CRM is one relay's.
//!
//! The controller hands it out: the relay is told of it over HTTP, keeps it on disk, and says in
//! its [`Facts`](super::Facts) which one is in force. So nothing is written in the cluster when
//! shares move, and no pod is touched.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::creatio::Pace;

/// `PUT` [`CrmShare`], with the bearer of [`status`](super::status): the one that is in force after
/// it, as [`CrmShare`]. 409: the relay is under the settings of another CRM, or of none to share.
pub const ROUTE: &str = "/crm-share/{namespace}/{name}";

/// The same of one channel.
#[must_use]
pub fn path(namespace: &str, name: &str) -> String {
    format!("/crm-share/{namespace}/{name}")
}

/// At most `requests` in any window of `millis` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub requests: u32,
    pub millis: u32,
}

impl Share {
    /// Of a relay that has not been told of any: next to nothing, for all may be others'.
    pub const UNTOLD: Self = Self { requests: 1, millis: 60_000 };
    /// Of one that has not been told for a while: nobody hands anything out now, and messages shall
    /// not wait for that.
    pub const FORGOTTEN: Self = Self { requests: 1, millis: 1_000 };

    /// The `place`-th of `among` equal shares of so many requests a second, which together are no
    /// more. What does not go into whole requests a second goes to the first; where there are fewer
    /// requests than relays, each has one in as many seconds as make it its share.
    #[must_use]
    pub fn of(requests: usize, among: usize, place: usize) -> Self {
        let (requests, among) = (requests.max(1), among.max(1));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        if requests >= among {
            let one_more = usize::from(place < requests % among);
            return Self { requests: number(requests / among + one_more), millis: 1_000 };
        }
        Self { requests: 1, millis: number((among * 1_000).div_ceil(requests)) }
    }

    /// Requests in a thousand million seconds: whole numbers add up to what they are.
    #[must_use]
    pub fn weight(self) -> u64 {
        u64::from(self.requests) * 1_000_000_000_000 / u64::from(self.millis.max(1))
    }

    /// Requests a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.requests) * 1_000.0 / f64::from(self.millis.max(1))
    }

    #[must_use]
    pub fn pace(self) -> Pace {
        let requests = usize::try_from(self.requests.max(1)).unwrap_or(1);
        Pace { requests, window: Duration::from_millis(u64::from(self.millis.max(1))) }
    }
}

/// A share, and of which CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrmShare {
    /// Scheme, host and port.
    pub site: String,
    #[serde(flatten)]
    pub share: Share,
}
