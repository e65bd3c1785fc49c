//! Whom MAX's clients trust (MAX Bot API reference, "Certificates"): the public roots and the root
//! of the Russian Ministry of Digital Development, for MAX hosts only. The root is pinned, never a
//! sub CA, because those change.

use std::sync::Arc;

use url::Url;

use crate::transport::{Addresses, ReqwestTransport, Transport, Trust};

/// "Russian Trusted Root CA", valid to 2032-02-27, as published at gosuslugi.ru/tls.
const MINISTRY_ROOT: &str = include_str!("russian_trusted_root_ca.pem");

/// The transport to the API host, and the one for uploads and downloads.
pub type Transports = (Arc<dyn Transport>, Arc<dyn Transport>);

/// The transport to the API host and the one for uploads and downloads, in this order.
///
/// `ca_pem` takes the place of the Ministry root (the public roots stay). The second transport
/// connects to public addresses only; where `base_url` is an override for tests, its host is let
/// through all the same, on any port.
///
/// # Errors
/// A certificate is broken.
pub fn transports(overridden: bool, ca_pem: Option<&str>, base_url: &Url) -> Result<Transports, String> {
    let trust = Trust::with_pem(ca_pem.unwrap_or(MINISTRY_ROOT))?;
    let except = base_url.host_str().filter(|_| overridden).map(ToOwned::to_owned);
    let api = ReqwestTransport::external(trust.clone(), Addresses::Any)?;
    let files = ReqwestTransport::external(trust, Addresses::PublicOnly { except })?;
    Ok((Arc::new(api), Arc::new(files)))
}
