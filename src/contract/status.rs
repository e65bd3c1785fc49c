//! How the controller asks a relay for its [`Facts`](super::Facts): one path, one key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Where a relay states its facts.
pub const PATH: &str = "/status";

/// What whoever asks a relay for its `/status` shows as a bearer: derived from the bot's token,
/// which both halves have, so that nothing has to be kept, and unlike the webhook's secret, which
/// MAX has too.
#[must_use]
pub fn key(token: &SecretString, namespace: &str, name: &str) -> SecretString {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token.expose_secret().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("status/{namespace}/{name}").as_bytes());
    SecretString::from(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
