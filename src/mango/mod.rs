//! The client of the MANGO OFFICE APIs: employees, groups, balance, and Манго Диалоги with its
//! channels, appeals and messages. It changes no setting: no public method does.
//!
//! Owns: the signed form, the three envelopes of answers, the meaning of result codes, the limits,
//! and the penalty box (MANGO OFFICE API reference, sections 1-4 and 2.8). MANGO blocks a key after
//! two wrong requests (3xxx) within two minutes, so:
//!
//! Invariants: nothing is looked up by a name or number that may not exist, everything is listed
//! and filtered by the caller; after a 3xxx no request of that kind leaves for two minutes; as long
//! as a key is unproven, one request at a time; a 401 is first taken for the block. Must not retry,
//! and must not put key, salt or signature anywhere but into the request.

mod client;
mod code;
pub mod dialogs;
mod error;
pub mod webhook;
mod wire;

#[cfg(test)]
mod tests;

use secrecy::SecretString;
use url::Url;

pub use client::{Client, Upload};
pub use error::{Class, Error};
pub use wire::{
    AbonentId, Balance, Channel, ChannelType, Employee, Group, GroupId, Member, Question, Serving, UserId, Widget,
};

/// Where the APIs are, unless overridden for tests (MANGO OFFICE API reference, 1.1).
pub const DEFAULT_URL: &str = "https://app.mango-office.ru";

/// Where the APIs are, and the pair that signs requests. One pair belongs to one account and serves
/// all APIs (MANGO OFFICE API reference, 1.2); share one [`Client`] per pair, since limits and
/// penalties count per pair.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Normally [`DEFAULT_URL`].
    pub base_url: Url,
    /// `vpbx_api_key`, "Уникальный код вашей АТС".
    pub api_key: SecretString,
    /// `vpbx_api_salt`, "Ключ для создания подписи"; never sent.
    pub api_salt: SecretString,
    /// Of the 10 requests a second to Манго Диалоги that an account has (MANGO OFFICE API
    /// reference, 1.6), those of this client: [`OF_RELAY`] or [`OF_LOOKS`].
    pub dialogs_per_second: usize,
}

/// An account serves one channel, whose relay has nearly all that the account may ask of Манго
/// Диалоги.
pub const OF_RELAY: usize = 9;
/// Whoever looks after the channel has the rest.
pub const OF_LOOKS: usize = 1;
