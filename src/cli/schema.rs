//! `maxchannel schema`: prints the JSON Schema of a manifest, for editors.

use std::process::ExitCode;

use crate::api;

/// Print the JSON Schema of a MaxChannel manifest, for editors.
///
/// An editor with yaml-language-server completes and describes fields by it: write it to a file and
/// name that in the first line of a manifest,
/// `# yaml-language-server: $schema=maxchannel.schema.json`, or in the editor's settings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  maxchannel schema > maxchannel.schema.json")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> ExitCode {
    super::print(&format!("{:#}\n", api::json_schema()))
}
