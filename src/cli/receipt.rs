//! `maxchannel receipt`: what became of every message, day by day.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::civil::Date;

use super::admin::{SocketArgs, ask};
use super::dead_letters::json;
use super::{Output, USAGE};
use crate::contract::admin::{Receipt, ReceiptDay, Tally, route};

/// Show what became of every message: received, delivered, repeated, given up, uncertain, doubled.
///
/// Asks the running relay through a socket in its data folder; in a cluster by `kubectl exec` in
/// the relay's pod. A message counts for the day on which it came, by UTC; a day before counting
/// began is not known. Exit code 0: it adds up; 1: it does not, so that something is lost or
/// doubled; 2: nobody answers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel receipt\n  maxchannel receipt --day 2026-11-29 --channel crm/support -o json\n  \
                        kubectl maxchannel receipt support -n crm"
)]
pub(super) struct Args {
    /// Only this day. Default: the last thirty.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    day: Option<Date>,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "a day is written like 2026-11-29".to_owned())
}

pub(super) fn run(args: &Args) -> ExitCode {
    super::in_runtime(show(args)).unwrap_or_else(|message: String| {
        eprintln!("maxchannel receipt: {message}");
        ExitCode::from(USAGE)
    })
}

async fn show(args: &Args) -> Result<ExitCode, String> {
    let path = args.day.map_or_else(|| route::RECEIPT.to_owned(), |day| format!("{}?day={day}", route::RECEIPT));
    let mut receipts: Vec<Receipt> = Vec::new();
    for socket in args.socket.find_all()? {
        receipts.push(ask(&socket, &path, None::<&()>).await?);
    }
    let text = match args.output {
        Output::Json => json(&serde_json::json!({ "channels": receipts }))?,
        Output::Text => receipts.iter().map(as_text).collect::<Vec<_>>().join("\n"),
    };
    let printed = super::print(&text);
    let adds_up = receipts.iter().flat_map(|receipt| &receipt.days).all(ReceiptDay::adds_up);
    if !adds_up {
        eprintln!(
            "maxchannel receipt: it does not add up, and that is a fault of MaxChannel: see docs/alerts/MaxChannelReceiptOff.md"
        );
        return Ok(ExitCode::from(1));
    }
    Ok(printed)
}

fn as_text(receipt: &Receipt) -> String {
    let since = receipt.since.as_deref().unwrap_or("the start of the relay");
    let mut text = format!("{}: counted since {since}, by days of UTC\n", receipt.channel);
    if let Some(restored) = &receipt.restored {
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "a backup was put in place: of {} to {} nothing is known", restored.from, restored.until);
    }
    if receipt.days.is_empty() {
        text.push_str("no message came yet\n");
        return text;
    }
    let head = columns(&Tally::default()).map(|(name, _)| format!("{name:>11}")).concat();
    let _ = writeln!(text, "{:<12}{:<8}{head}", "day", "");
    for day in &receipt.days {
        if !day.known {
            let _ = writeln!(text, "{:<12}not known: it was not counted yet", day.day);
        }
        for (direction, tally) in [("to CRM", &day.to_crm), ("to MAX", &day.to_max)] {
            let Some(tally) = tally else { continue };
            let figures = columns(tally).map(|(_, figure)| format!("{figure:>11}")).concat();
            let _ = writeln!(text, "{:<12}{direction:<8}{figures}", day.day);
        }
    }
    text
}

fn columns(tally: &Tally) -> [(&'static str, i64); 10] {
    [
        ("received", tally.received),
        ("delivered", tally.delivered),
        ("waiting", tally.waiting),
        ("dead", tally.dead),
        ("uncertain", tally.uncertain),
        ("withheld", tally.withheld),
        ("erased", tally.erased),
        ("repeated", tally.repeated),
        ("lost", tally.lost),
        ("doubled", tally.doubled),
    ]
}
