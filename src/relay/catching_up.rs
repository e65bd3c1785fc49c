//! What was said while the relay did not run, was suspended or could not be told of it is not with
//! it yet: until it is, silence says nothing, and no dialog is closed for it.
//!
//! Of the agents that is a look at the outbox, and whoever cannot look cannot close a chat either;
//! of the customers it is an answered poll, what MANGO OFFICE shows, or the dialog's own reading
//! back.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::active::Active;
use super::mango::Rounds;
use super::store::gap;
use super::store::inbox;
use super::store::{StoreError, Tx};
use crate::contract::CustomerId;
use crate::contract::config::Intake;
use crate::time::Millis;

/// MAX or MANGO OFFICE that cannot be asked for so long holds no dialog open any more. The latter
/// lets some six hundred sessions be read in it.
const LIMIT: Millis = 5 * 60_000;
const NEVER: Millis = Millis::MAX;

/// What is heard of, by the relay's running time.
#[derive(Debug)]
pub(super) struct CatchingUp {
    /// Dialogs are read back, and held open for it, at most until then.
    until: AtomicI64,
    outbox: AtomicBool,
    poll: AtomicBool,
    /// Since when the customers may have said what is not heard.
    lacking_since: AtomicI64,
}

/// What a step knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heard {
    #[default]
    Everything,
    /// Whether a dialog is read back is to be seen.
    ButForReadings,
    Nothing,
}

impl CatchingUp {
    pub fn new() -> Self {
        Self {
            until: AtomicI64::new(Millis::MIN),
            outbox: AtomicBool::new(false),
            poll: AtomicBool::new(false),
            lacking_since: AtomicI64::new(NEVER),
        }
    }

    /// The relay goes on.
    pub fn begin(&self, passed: Millis) {
        self.outbox.store(false, Ordering::Relaxed);
        self.poll.store(false, Ordering::Relaxed);
        self.until.store(passed + LIMIT, Ordering::Relaxed);
        self.lacking_since.store(NEVER, Ordering::Relaxed);
    }

    /// All that waits in the outbox has been taken.
    pub fn outbox_seen(&self) {
        self.outbox.store(true, Ordering::Relaxed);
    }

    /// The outbox could not be looked at.
    pub fn outbox_missed(&self) {
        self.outbox.store(false, Ordering::Relaxed);
    }

    /// A poll was not answered.
    pub fn poll_missed(&self) {
        self.poll.store(false, Ordering::Relaxed);
    }

    /// A poll has brought all that waited.
    pub fn polled(&self) {
        self.poll.store(true, Ordering::Relaxed);
    }

    pub fn heard(&self, active: &Active, rounds: &Rounds, passed: Millis) -> Heard {
        let agents = active.creatio.is_none() || self.outbox.load(Ordering::Relaxed);
        let customers = match active.config.channel.intake {
            Intake::Webhook | Intake::None => true,
            Intake::LongPoll => self.poll.load(Ordering::Relaxed),
            Intake::MangoDialogs => rounds.is_heard(),
        };
        if customers {
            self.lacking_since.store(NEVER, Ordering::Relaxed);
        }
        let since = self.lacking_since.load(Ordering::Relaxed).min(passed);
        if !customers {
            self.lacking_since.store(since, Ordering::Relaxed);
        }
        match (agents, customers || passed - since >= LIMIT) {
            (true, true) if passed >= self.until.load(Ordering::Relaxed) => Heard::Everything,
            (true, true) => Heard::ButForReadings,
            _ => Heard::Nothing,
        }
    }
}

impl Heard {
    /// Whether something that this customer or an agent said may not be here yet.
    pub fn may_lack(self, tx: &Tx<'_>, customer: CustomerId, now: Millis) -> Result<bool, StoreError> {
        match self {
            Self::Everything => Ok(false),
            Self::Nothing => Ok(true),
            Self::ButForReadings => Ok(gap::pending(tx, customer, now)?.is_some() || inbox::any_waiting(tx, customer)?),
        }
    }
}
