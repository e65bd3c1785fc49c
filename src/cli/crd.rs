//! `maxchannel crd`: prints the CustomResourceDefinition.

use std::process::ExitCode;

use crate::api;

/// Print the CustomResourceDefinition of MaxChannel.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  maxchannel crd | kubectl apply --server-side -f -")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> ExitCode {
    super::print(&api::crd_yaml())
}
