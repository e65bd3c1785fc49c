//! One limit for each site, however many clients of this process ask it.
//!
//! Every member names the most that may be sent; the lowest of them holds for all together. A
//! visitor keeps what the members keep, and its own only while there is no member: a client that is
//! kept for later shall not hold others to a limit that nobody wants any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use crate::transport::Limiter;

/// At most so many requests in any window of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub requests: usize,
    pub window: Duration,
}

impl Pace {
    /// 0 is taken as 1.
    #[must_use]
    pub fn per_second(requests: usize) -> Self {
        Self { requests: requests.max(1), window: Duration::from_secs(1) }
    }

    /// Whether it lets less through in the long run.
    fn is_below(&self, other: &Self) -> bool {
        let weighed = |one: &Self, other: &Self| one.requests as u128 * other.window.as_nanos();
        weighed(self, other) < weighed(other, self)
    }
}

/// What makes two addresses one site: scheme, host in lower case, and port.
#[must_use]
pub fn site(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The sites that this process asks. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sites(Arc<Mutex<HashMap<String, Site>>>);

#[derive(Debug)]
struct Site {
    limiter: Limiter,
    members: BTreeMap<u64, Pace>,
    next: u64,
    /// Members and visitors.
    users: usize,
}

impl Site {
    fn settle(&self) {
        let lowest = self.members.values().copied().reduce(|one, other| if other.is_below(&one) { other } else { one });
        if let Some(Pace { requests, window }) = lowest {
            self.limiter.set(requests, window);
        }
    }
}

impl Sites {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Site>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the limit of a site no higher than this, until what is answered is dropped.
    #[must_use]
    pub fn enter(&self, url: &Url, pace: Pace) -> Place {
        self.join(url, pace, true)
    }

    pub(super) fn visit(&self, url: &Url, pace: Pace) -> Place {
        self.join(url, pace, false)
    }

    fn join(&self, url: &Url, pace: Pace, is_member: bool) -> Place {
        let name = site(url);
        let mut sites = self.lock();
        let found = sites.entry(name.clone()).or_insert_with(|| Site {
            limiter: Limiter::new(pace.requests, pace.window),
            members: BTreeMap::new(),
            next: 0,
            users: 0,
        });
        found.users += 1;
        let number = is_member.then_some(found.next);
        found.next += 1;
        if let Some(number) = number {
            found.members.insert(number, pace);
            found.settle();
        }
        Place { sites: self.clone(), name, number, limiter: found.limiter.clone() }
    }
}

/// A place among those of a site; dropping it leaves.
#[derive(Debug)]
pub struct Place {
    sites: Sites,
    name: String,
    /// None: a visitor.
    number: Option<u64>,
    limiter: Limiter,
}

impl Place {
    pub(super) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(super) fn set(&self, pace: Pace) {
        let mut sites = self.sites.lock();
        let Some(site) = sites.get_mut(&self.name) else { return };
        match self.number {
            Some(number) => {
                site.members.insert(number, pace);
                site.settle();
            }
            None if site.members.is_empty() => site.limiter.set(pace.requests, pace.window),
            None => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sites = self.sites.lock();
        let Some(site) = sites.get_mut(&self.name) else { return };
        site.users -= 1;
        if let Some(number) = self.number {
            site.members.remove(&number);
            site.settle();
        }
        if site.users == 0 {
            sites.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_site_are_one_site() {
        let sites = |urls: &[&str]| {
            let mut sites: Vec<String> = urls.iter().map(|url| site(&url.parse().unwrap())).collect();
            sites.dedup();
            sites.len()
        };
        let same = ["https://acme.creatio.com", "HTTPS://ACME.Creatio.com:443/0/", "https://u@acme.creatio.com/?a=b#c"];
        assert_eq!(sites(&same), 1);
        let others =
            ["https://acme.creatio.com", "http://acme.creatio.com", "https://acme.creatio.com:8443", "https://b.ru"];
        assert_eq!(sites(&others), others.len());
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_limit_of_the_members_holds_for_all_of_a_site_together() {
        let sites = Sites::default();
        let url: Url = "https://acme.creatio.com".parse().unwrap();
        let left = |place: &Place| {
            let mut held = Vec::new();
            while let Ok(permit) = place.limiter().try_take() {
                held.push(permit);
            }
            held.len()
        };
        let window = Duration::from_secs(10);
        let visitor = sites.visit(&url, Pace::per_second(9));
        assert_eq!(left(&visitor), 9, "nobody else is there");
        tokio::time::advance(window).await;
        let one = sites.enter(&url, Pace::per_second(5));
        let other = sites.enter(&"https://ACME.creatio.com/0".parse().unwrap(), Pace::per_second(3));
        let elsewhere = sites.enter(&"https://b.ru".parse().unwrap(), Pace::per_second(7));
        visitor.set(Pace::per_second(1));
        assert_eq!((left(&one), left(&other), left(&visitor), left(&elsewhere)), (3, 0, 0, 7));
        tokio::time::advance(window).await;
        drop(other);
        assert_eq!((left(&visitor), left(&one)), (5, 0), "the lower limit has gone with its member");
        tokio::time::advance(window).await;
        one.set(Pace { requests: 1, window });
        assert_eq!((left(&visitor), left(&one)), (1, 0));
        drop((one, visitor, elsewhere));
        assert!(sites.lock().is_empty());
    }
}
