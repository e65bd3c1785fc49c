//! The relay's address within the cluster: a cluster IP, one port named `http`.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Blueprint, PORT_NAME};
use crate::controller::names;

/// Under the cluster IP.
pub(super) const PORT: i32 = 80;

#[must_use]
pub fn service(blueprint: &Blueprint) -> Service {
    Service {
        metadata: blueprint.metadata(),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::labels(&blueprint.channel.name)),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
