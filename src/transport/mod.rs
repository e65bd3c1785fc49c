//! One HTTP exchange with an outside system, as a small trait, so that tests can put faults,
//! scripts and simulated networks in the place of the real one.
//!
//! Owns: what "the request never left" and "the request may have left" mean, time-outs, the cap on
//! answers, which certificates are trusted, the proxy on the way out, and the strict limiter that
//! every client uses. Must not know MAX, MANGO OFFICE or Creatio, must not retry, must not follow
//! redirects, and must never put a header's value or a request body into an error.

mod hold;
mod json;
mod limiter;
mod listener;
mod proxy;
mod reqwest_transport;
mod retry_after;

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use hold::{Changes, Hold};
pub use json::{readable, whole_characters};
pub use limiter::{Limiter, Permit};
pub use listener::listen;
pub use proxy::{ADDRESS as PROXY_ADDRESS, EXCEPT as PROXY_EXCEPT, Proxy, go_through};
pub use reqwest_transport::{Addresses, ReqwestTransport, Trust, trust_too};
pub use retry_after::retry_after;

/// A request to an absolute address; the body is whole and in memory.
pub type Request = http::Request<Bytes>;
/// An answer, whatever its status; the body is whole and at most [`Options::max_answer`] long.
pub type Response = http::Response<Bytes>;

/// The bounds of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// From the first byte to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer taken, in bytes; a longer one is [`TransportError::TooLarge`].
    pub max_answer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), max_answer: 16 * 1024 * 1024 }
    }
}

/// Why no whole answer came back. The texts name the host, never the path, the query, a header or a
/// body.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransportError {
    /// The request certainly did not reach the other side: name not found, connection refused,
    /// connect time-out.
    #[error("no connection to {host}: {reason}")]
    NotSent { host: String, reason: String },
    /// The other side's certificate does not verify; nothing was sent.
    #[error("the certificate of {host} does not verify ({reason}): check the host, the clock and the trusted roots")]
    Certificate { host: String, reason: String },
    /// The address is private and only public ones are allowed here; nothing was sent.
    #[error("{host} is a private address, from which attachments are not fetched")]
    PrivateAddress { host: String },
    /// The request may have reached the other side: time-out or broken connection after it had
    /// begun.
    #[error("no answer from {host}: {reason}")]
    Lost { host: String, reason: String },
    /// The answer is longer than [`Options::max_answer`]; the request did take effect.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLarge { host: String, limit: usize },
}

impl TransportError {
    /// The kind in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "not_sent",
            Self::Certificate { .. } => "certificate",
            Self::PrivateAddress { .. } => "private_address",
            Self::Lost { .. } => "lost",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// Whether the other side certainly saw nothing of the request.
    #[must_use]
    pub fn certainly_not_sent(&self) -> bool {
        matches!(self, Self::NotSent { .. } | Self::Certificate { .. } | Self::PrivateAddress { .. })
    }
}

/// How long a request was held back by the limits that its client keeps: an extension of
/// [`Request`], for whoever measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited(pub Duration);

/// Carries one request to an external system and one answer back.
pub trait Transport: Send + Sync + 'static {
    /// Never retries and never follows a redirect.
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>>;
}
