//! What the doubles of web sites stand on: whole requests in and whole answers out, faults in the
//! way, counters, and the part of the control API that each has. Must not know Creatio or MANGO
//! OFFICE.

pub(super) mod control;
pub(super) mod faults;
pub(super) mod wire;

pub use faults::{Answer, Fault, Outage};

/// Of clients that call plain loopback addresses: the library needs a TLS configuration all the
/// same, and takes one from the process only where somebody has set it.
pub fn loopback_tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    // The ring provider supports the default versions.
    let builder = builder.with_safe_default_protocol_versions().expect("ring has the default TLS versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}
