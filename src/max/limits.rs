//! The limits of MAX, kept before they are met (MAX Bot API reference, "Rate limits and retries").

/// Requests to the API host in any one second, reads and polls included; MAX allows 30.
pub const REQUESTS_PER_SECOND: usize = 25;
