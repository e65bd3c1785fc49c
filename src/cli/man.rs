//! `maxchannel man`: the manual pages.

use std::{io, path::PathBuf, process::ExitCode};

use clap::CommandFactory as _;

/// Print the manual page, or write the pages of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maxchannel man | man -l -\n  maxchannel man --out ~/.local/share/man/man1")]
pub(super) struct Args {
    /// The folder; it is made where it is missing. One page a command: maxchannel.1,
    /// maxchannel-check.1 and so on.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let command = super::Cli::command();
    let written = match &args.out {
        Some(folder) => std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)),
        None => page(command).map(|text| {
            super::print(&text);
        }),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain("man", super::Output::Text, &format!("the pages cannot be written: {error}"));
            ExitCode::from(super::USAGE)
        }
    }
}

fn page(command: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
