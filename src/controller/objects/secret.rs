//! What the relay is told: `channel.json` and one file per credential, mounted as one volume.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret as _;

use super::Blueprint;
use crate::contract::RelayConfig;

#[must_use]
pub fn secret(blueprint: &Blueprint, config: &RelayConfig) -> Secret {
    let files = config.files().expect("the settings are made of maps with text keys, which always serialise");
    Secret {
        metadata: blueprint.metadata(),
        type_: Some("Opaque".to_owned()),
        data: Some(
            files
                .into_iter()
                .map(|(name, value)| (name.to_owned(), ByteString(value.expose_secret().as_bytes().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}
