//! `maxchannel erase`: a person's data are taken out of a channel's store.

use std::process::ExitCode;

use super::admin::{SocketArgs, ask};
use super::dead_letters::json;
use super::{Output, USAGE};
use crate::contract::CustomerId;
use crate::contract::admin::{Erase, Erased};

/// Erase everything that the relay holds of one customer.
///
/// Asks the running relay through a socket in its data folder; in a cluster by `kubectl exec` in
/// the relay's pod. What waits for the customer is not sent any more, and the agent is told. What
/// the CRM and MAX hold is theirs to erase. Should the customer write again, that is a first
/// contact. Exit code 0: erased, or nothing was known; 2: nobody answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  maxchannel erase --customer 91234567 --channel crm/support")]
pub(super) struct Args {
    /// The customer's user id in MAX, also written `max:<id>` as in the CRM.
    #[arg(long, value_name = "ID", value_parser = customer)]
    customer: CustomerId,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn customer(text: &str) -> Result<CustomerId, String> {
    text.strip_prefix("max:").unwrap_or(text).parse().map_err(|_| "a MAX user id is a number, like 91234567".to_owned())
}

pub(super) fn run(args: &Args) -> ExitCode {
    super::in_runtime(erase(args)).unwrap_or_else(|message: String| {
        eprintln!("maxchannel erase: {message}");
        ExitCode::from(USAGE)
    })
}

async fn erase(args: &Args) -> Result<ExitCode, String> {
    let erased: Erased = ask(&args.socket.find_only()?, "/erase", Some(&Erase { customer: args.customer })).await?;
    let text = match args.output {
        Output::Json => json(&erased)?,
        Output::Text if erased == Erased::default() => format!("nothing was known of max:{}\n", args.customer),
        Output::Text => format!(
            "max:{} is erased: {} dialog, {} updates, {} messages to the CRM, {} messages to MAX, {} questions to a bot\n",
            args.customer, erased.dialogs, erased.updates, erased.to_crm, erased.to_max, erased.to_bot
        ),
    };
    Ok(super::print(&text))
}
