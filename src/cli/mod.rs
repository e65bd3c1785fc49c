//! The command line: one file per subcommand, each with its `Args` and a `run` that returns the
//! exit code.
//!
//! Exit codes: 0 it is as it should be, 1 it is not, 2 wrong usage or an I/O error. Results go to
//! stdout, complaints to stderr, colours to terminals only.

mod admin;
mod check;
mod completions;
mod controller;
mod crd;
mod creatio_install;
mod creatio_package;
mod dead_letters;
#[cfg(feature = "simulator")]
mod demo;
#[cfg(test)]
mod documented;
mod erase;
mod errors;
mod external;
pub mod files;
mod installation;
mod kubectl;
mod man;
mod moving;
mod plan;
mod receipt;
pub mod relay;
mod remove;
mod reports;
mod rules;
mod run;
mod schema;
#[cfg(feature = "simulator")]
mod simulator;
mod status;
mod widget;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::telemetry;

/// Connects a MAX bot to MANGO OFFICE and to the CRM Creatio by one manifest.
#[derive(Debug, Parser)]
#[command(
    name = "maxchannel",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    /// The form of what is logged, whatever the command's own is; also MAXCHANNEL_LOG_FORMAT.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<Output>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Completions(completions::Args),
    Controller(Box<controller::Args>),
    Crd(crd::Args),
    CreatioInstall(creatio_install::Args),
    CreatioPackage(creatio_package::Args),
    DeadLetters(dead_letters::Args),
    #[cfg(feature = "simulator")]
    Demo(demo::Args),
    /// What `maxchannel demo` starts in the place of `maxchannel run`.
    #[cfg(feature = "simulator")]
    #[command(hide = true)]
    DemoRunner(Box<run::Args>),
    Erase(erase::Args),
    Man(man::Args),
    Export(moving::ExportArgs),
    Import(moving::ImportArgs),
    Plan(plan::Args),
    Receipt(receipt::Args),
    Relay(relay::Args),
    Remove(remove::Args),
    Rules(rules::Args),
    Run(run::Args),
    Schema(schema::Args),
    Status(status::Args),
    #[cfg(feature = "simulator")]
    Simulator(simulator::Args),
    Widget(widget::Args),
    #[command(hide = true)]
    Errors(errors::Args),
}

/// The form of results and of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// JSON: one document, or an object a line.
    Json,
}

/// Wrong usage or an I/O error.
pub(crate) const USAGE: u8 = 2;

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    let mut arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let program = arguments.first().and_then(|path| std::path::Path::new(path).file_stem()).map(ToOwned::to_owned);
    if program.as_deref().is_some_and(|name| name == kubectl::PLUGIN) {
        match kubectl::run(arguments.split_off(1)) {
            Ok(code) => return code,
            Err(words) => arguments.extend(words),
        }
    } else if program.as_deref().is_some_and(|name| name == kubectl::COMPLETION) {
        return kubectl::complete(&arguments[1..]);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Some(format) = cli.log_format {
        telemetry::choose(match format {
            Output::Text => telemetry::Format::Text,
            Output::Json => telemetry::Format::Json,
        });
    }
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Controller(args) => controller::run(&args),
        Command::Crd(args) => crd::run(&args),
        Command::CreatioInstall(args) => creatio_install::run(&args),
        Command::CreatioPackage(args) => creatio_package::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        #[cfg(feature = "simulator")]
        Command::Demo(args) => demo::run(&args),
        #[cfg(feature = "simulator")]
        Command::DemoRunner(args) => demo::run_as_child(*args),
        Command::Erase(args) => erase::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Export(args) => moving::export(&args),
        Command::Import(args) => moving::import(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Receipt(args) => receipt::run(&args),
        Command::Relay(args) => relay::run(&args, cli.log_format),
        Command::Remove(args) => remove::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Run(args) => run::run(args),
        Command::Schema(args) => schema::run(&args),
        Command::Status(args) => status::run(&args),
        #[cfg(feature = "simulator")]
        Command::Simulator(args) => simulator::run(&args),
        Command::Widget(args) => widget::run(&args),
        Command::Errors(args) => errors::run(&args),
    }
}

/// Runs what needs tasks and the network to its end.
pub(crate) fn in_runtime<T, E: From<RuntimeError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Runtime::new().map_err(RuntimeError)?;
    runtime.block_on(work)
}

/// The runtime cannot be started.
#[derive(Debug)]
pub(crate) struct RuntimeError(std::io::Error);

impl From<RuntimeError> for String {
    fn from(error: RuntimeError) -> Self {
        format!("the runtime cannot be started: {}", error.0)
    }
}

impl From<RuntimeError> for (u8, String) {
    fn from(error: RuntimeError) -> Self {
        (USAGE, error.into())
    }
}

/// Writes to stdout; a reader that has gone, like `head`, is no error.
pub(crate) fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maxchannel: cannot write to stdout: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether stdout takes colours.
pub(crate) fn colours() -> bool {
    telemetry::colours(&std::io::stdout())
}

/// Says on stderr why a command cannot do its work; whoever asked for JSON gets `{"error": …}` on
/// stdout as well.
pub(crate) fn complain(command: &str, output: Output, message: &str) {
    eprintln!("maxchannel {command}: {}", telemetry::plain(message));
    if output == Output::Json {
        print(&format!("{:#}\n", serde_json::json!({ "error": message })));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_visible_command_has_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands_mut().filter(|subcommand| !subcommand.is_hide_set()) {
            let help = subcommand.render_long_help().to_string();
            assert!(help.contains("Example"), "{} has no example:\n{help}", subcommand.get_name());
        }
    }
}
