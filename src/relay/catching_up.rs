//! What was said while the relay did not run, or was suspended, is not with it yet when it goes on:
//! until it is, silence says nothing, and no dialog is closed for it.
//!
//! Of the agents that is a look at the outbox; of the customers it is an answered poll, what MANGO
//! OFFICE shows, or the dialog's own reading back.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::active::Active;
use super::mango::Rounds;
use super::store::gap;
use super::store::inbox;
use super::store::{StoreError, Tx};
use crate::contract::CustomerId;
use crate::contract::config::Intake;
use crate::time::Millis;

/// Whoever cannot be asked for so long holds no dialog open any more.
const LIMIT: Millis = 5 * 60_000;

/// What is heard of since the relay went on, by its running time.
#[derive(Debug)]
pub(super) struct CatchingUp {
    until: AtomicI64,
    outbox: AtomicBool,
    poll: AtomicBool,
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
        Self { until: AtomicI64::new(Millis::MIN), outbox: AtomicBool::new(false), poll: AtomicBool::new(false) }
    }

    /// The relay goes on.
    pub fn begin(&self, passed: Millis) {
        self.outbox.store(false, Ordering::Relaxed);
        self.poll.store(false, Ordering::Relaxed);
        self.until.store(passed + LIMIT, Ordering::Relaxed);
    }

    /// All that waits in the outbox has been taken.
    pub fn outbox_seen(&self) {
        self.outbox.store(true, Ordering::Relaxed);
    }

    /// A poll has brought all that waited.
    pub fn polled(&self) {
        self.poll.store(true, Ordering::Relaxed);
    }

    pub fn heard(&self, active: &Active, rounds: &Rounds, passed: Millis) -> Heard {
        if passed >= self.until.load(Ordering::Relaxed) {
            return Heard::Everything;
        }
        let agents = active.creatio.is_none() || self.outbox.load(Ordering::Relaxed);
        let customers = match active.config.channel.intake {
            Intake::Webhook | Intake::None => true,
            Intake::LongPoll => self.poll.load(Ordering::Relaxed),
            Intake::MangoDialogs => rounds.is_settled(),
        };
        if agents && customers { Heard::ButForReadings } else { Heard::Nothing }
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
