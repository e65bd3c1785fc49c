//! `maxchannel errors`: prints `docs/errors.md`.

use std::process::ExitCode;

use crate::api;

/// Print the catalogue of errors and remedies in Markdown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> ExitCode {
    super::print(&api::errors_markdown())
}
