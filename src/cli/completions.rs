//! `maxchannel completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Print the completions for a shell.
///
/// Where the shell looks for them is its own affair; the examples are those of the usual places.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel completions bash > ~/.local/share/bash-completion/completions/maxchannel\n  \
                        maxchannel completions zsh > ~/.zfunc/_maxchannel\n  \
                        maxchannel completions fish > ~/.config/fish/completions/maxchannel.fish"
)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "maxchannel", &mut text);
    super::print(&String::from_utf8_lossy(&text))
}
