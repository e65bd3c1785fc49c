//! The limits of MAX, kept before they are met (MAX Bot API reference, "Rate limits and retries"
//! and "Long polling").
//!
//! Each request waits for its dialog first and for the host last, so that one busy dialog never
//! holds places that others need.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::outgoing::Recipient;
use crate::transport::{Hold, Limiter, Permit};

/// Requests to the API host in any one second, reads and polls included; MAX allows 30.
pub const REQUESTS_PER_SECOND: usize = 25;
/// Sends, edits and callback answers together in any one second in one dialog.
const PER_DIALOG: usize = 2;
/// Polls in any one second.
const POLLS: usize = 2;
const WINDOW: Duration = Duration::from_secs(1);
/// Idle dialogs are forgotten when this many are known, or twice as many as were busy at the last
/// look.
const SWEEP_FROM: usize = 512;

pub(super) struct Limits {
    /// MAX asked to be left alone.
    pub(super) hold: Hold,
    host: Limiter,
    polls: Limiter,
    dialogs: Mutex<Dialogs>,
}

struct Dialogs {
    limiters: HashMap<Recipient, Arc<Limiter>>,
    sweep_at: usize,
}

impl fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limits").finish_non_exhaustive()
    }
}

/// What a request counts against beside the host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Host,
    Dialog(Recipient),
    Poll,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            hold: Hold::default(),
            host: Limiter::new(REQUESTS_PER_SECOND, WINDOW),
            polls: Limiter::new(POLLS, WINDOW),
            dialogs: Mutex::new(Dialogs { limiters: HashMap::new(), sweep_at: SWEEP_FROM }),
        }
    }

    /// Waits until the request may go. Keep both permits until it has ended.
    pub(super) async fn acquire(&self, scope: Scope) -> (Option<Permit>, Permit) {
        let scoped = match scope {
            Scope::Host => None,
            Scope::Poll => Some(self.polls.acquire().await),
            Scope::Dialog(dialog) => Some(self.dialog(dialog).acquire().await),
        };
        (scoped, self.host.acquire().await)
    }

    fn dialog(&self, dialog: Recipient) -> Arc<Limiter> {
        let mut dialogs = self.dialogs.lock().unwrap_or_else(PoisonError::into_inner);
        if dialogs.limiters.len() >= dialogs.sweep_at {
            // A limiter that someone else holds may be about to be used: forgetting it would let a
            // second one count from zero.
            dialogs.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_idle());
            dialogs.sweep_at = (dialogs.limiters.len() * 2).max(SWEEP_FROM);
        }
        Arc::clone(dialogs.limiters.entry(dialog).or_insert_with(|| Arc::new(Limiter::new(PER_DIALOG, WINDOW))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dialogs_that_have_gone_quiet_are_forgotten() {
        let limits = Limits::new();
        for user in 0..10_000 {
            drop(limits.dialog(Recipient::User(user)).acquire().await);
            if user % 100 == 0 {
                tokio::time::advance(WINDOW).await;
            }
        }
        let known = limits.dialogs.lock().unwrap().limiters.len();
        assert!(known <= SWEEP_FROM, "{known} dialogs are remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dialog_that_someone_waits_for_is_not_forgotten() {
        let limits = Limits::new();
        let held = limits.dialog(Recipient::User(0));
        for user in 1..2_000 {
            let _ = limits.dialog(Recipient::User(user));
        }
        assert!(Arc::ptr_eq(&held, &limits.dialog(Recipient::User(0))));
    }
}
