//! `maxchannel dead-letters`: what could not be delivered, and the replay of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::admin::{SocketArgs, ask};
use super::{Output, USAGE};
use crate::contract::admin::{DeadLetters, Direction, Replay, Replayed};

/// Show what could not be delivered, and have it delivered again.
///
/// Asks the running relay through a socket in its data folder; in a cluster by `kubectl exec` in
/// the relay's pod.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel dead-letters list\n  maxchannel dead-letters replay max-17 crm-4 --channel crm/support\n  \
                        kubectl exec support-relay-0 -- maxchannel dead-letters replay --all --data-dir /var/lib/maxchannel"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(List),
    Replay(ReplayArgs),
}

/// List dead letters, oldest first: id, direction, customer, age, reason.
///
/// `uncertain` ones may be with the customer already. Exit code 0: listed; 2: nobody answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  maxchannel dead-letters list --show-text -o json")]
struct List {
    /// Show the messages' texts too.
    #[arg(long)]
    show_text: bool,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Deliver dead letters again.
///
/// A customer's message goes back into the queue to the CRM. A message to a customer is sent again,
/// and the agent's message is reported Delivered once it is. Exit code 0: all are tried again; 1:
/// an id names no dead letter; 2: nobody answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  maxchannel dead-letters replay max-17 crm-4")]
struct ReplayArgs {
    /// Ids as `list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that have failed. Uncertain ones, which the customer may have, must be named.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let outcome = match &args.command {
        Command::List(list) => super::in_runtime(run_list(list)),
        Command::Replay(replay) => super::in_runtime(run_replay(replay)),
    };
    outcome.unwrap_or_else(|message: String| {
        eprintln!("maxchannel dead-letters: {message}");
        ExitCode::from(USAGE)
    })
}

async fn run_list(args: &List) -> Result<ExitCode, String> {
    let path = if args.show_text { "/dead-letters?text=true" } else { "/dead-letters" };
    let found: DeadLetters = ask(&args.socket.find()?, path, None::<&()>).await?;
    let text = match args.output {
        Output::Json => json(&found)?,
        Output::Text => as_text(&found),
    };
    Ok(super::print(&text))
}

async fn run_replay(args: &ReplayArgs) -> Result<ExitCode, String> {
    let wanted = Replay { ids: args.ids.clone(), all: args.all };
    let done: Replayed = ask(&args.socket.find()?, "/dead-letters/replay", Some(&wanted)).await?;
    let printed = match args.output {
        Output::Json => super::print(&json(&done)?),
        Output::Text => super::print(&format!("{} tried again\n", done.replayed.len())),
    };
    for id in &done.unknown {
        eprintln!("maxchannel dead-letters: {id} names no dead letter; `maxchannel dead-letters list` shows them");
    }
    Ok(if done.unknown.is_empty() { printed } else { ExitCode::from(1) })
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn as_text(found: &DeadLetters) -> String {
    if found.dead_letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut text = String::new();
    for letter in &found.dead_letters {
        let direction = match letter.direction {
            Direction::ToCrm => "to CRM",
            Direction::ToMax => "to MAX",
        };
        let uncertain = if letter.uncertain { " uncertain" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}  {direction}{uncertain}  {} ({})  {}  {}",
            letter.id,
            letter.customer,
            letter.author,
            age(letter.age_seconds),
            one_line(&letter.reason)
        );
        if let Some(words) = &letter.text {
            let _ = writeln!(text, "    {}", one_line(words));
        }
    }
    if found.more {
        text.push_str("there are more than are shown\n");
    }
    text
}

/// Customers' words must not be able to forge lines or move the cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn age(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
