//! The controller and its relays on a real Kubernetes: API server, controller manager, scheduler,
//! kubelet.
//!
//! The cluster comes from `tests/kubernetes/up.sh`, whose `env` file sets `KUBECONFIG` and
//! `CLUSTER_…`; without it these tests skip, loudly, and fail where CI is set. Simulators of MAX,
//! MANGO OFFICE and Creatio run in this process, at an address that pods reach. One namespace per
//! test. `make test-kubernetes` does all of it.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
#[path = "../support/any_account.rs"]
mod any_account;
mod audit;
mod bench;
mod canary;
#[path = "../support/controller_settings.rs"]
mod controller_settings;
mod crash;
mod definition;
#[allow(dead_code, reason = "shared with the tests on one machine")]
#[path = "../support/documented.rs"]
mod documented;
mod documents;
mod errors;
mod fleet;
mod flux;
mod fresh;
mod gateway;
mod hosts;
mod install;
mod isolation;
mod leader;
mod leaving;
mod life;
mod owned;
mod ownership;
mod page;
mod policies;
mod refused;
mod relay_killed;
mod rights;
mod shards;
mod steady;
mod trouble;
mod verdicts;
mod watching;
mod world;
