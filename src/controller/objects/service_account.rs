//! The relay's identity: no rights, no token.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Blueprint;

#[must_use]
pub fn service_account(blueprint: &Blueprint) -> ServiceAccount {
    ServiceAccount {
        metadata: blueprint.metadata(),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
