//! What a relay stands on: the machine as it is, or one that a test moves.
//!
//! Must not know what is carried.

use std::fmt;
use std::sync::Arc;

use super::store::Place;
use crate::contract::config::MaxConfig;
use crate::creatio::{self, Sites};
use crate::max;
use crate::transport::{Addresses, ReqwestTransport, Transport, Trust};

/// What a relay stands on.
#[derive(Clone)]
pub enum Ground {
    /// The network as it is, a thread for the store, and a socket for the administrator. Relays on
    /// equal sites keep the limits of a CRM together.
    Real(Sites),
    /// For tests that move time: everything outside is reached by this transport, and nothing is
    /// done beside the async runtime.
    Simulated(Arc<dyn Transport>),
}

impl fmt::Debug for Ground {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Real(_) => "Real",
            Self::Simulated(_) => "Simulated",
        })
    }
}

impl Ground {
    pub(super) fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    pub(super) fn place_of_store(&self) -> Place {
        if self.is_real() { Place::Thread } else { Place::Runtime }
    }

    pub(super) fn to_max(&self, max: &MaxConfig) -> Result<max::Transports, String> {
        match self {
            Self::Real(_) => max::transports(max.overridden, max.ca_pem.as_deref(), &max.base_url),
            Self::Simulated(transport) => Ok((Arc::clone(transport), Arc::clone(transport))),
        }
    }

    /// The CRM's client.
    pub(super) fn to_crm(&self, ca_pem: Option<&str>, settings: creatio::Settings) -> Result<creatio::Client, String> {
        let transport = self.external(ca_pem)?;
        Ok(match self {
            Self::Real(sites) => creatio::Client::among(sites, transport, settings),
            Self::Simulated(_) => creatio::Client::new(transport, settings),
        })
    }

    /// To the CRM and to bots; `ca_pem`: beside the public roots.
    pub(super) fn external(&self, ca_pem: Option<&str>) -> Result<Arc<dyn Transport>, String> {
        Ok(match self {
            Self::Real(_) => {
                let trust = ca_pem.map_or_else(|| Ok(Trust::public()), Trust::with_pem)?;
                Arc::new(ReqwestTransport::external(trust, Addresses::Any)?)
            }
            Self::Simulated(transport) => Arc::clone(transport),
        })
    }
}
