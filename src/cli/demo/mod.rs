//! `maxchannel demo`: a MAX customer talks to an agent in Creatio through the relay, all on this
//! machine.
//!
//! [`stage`] has what runs, [`play`] the script of `--once`, [`table`] what becomes of it,
//! [`playground`] the page.

mod child;
mod crm;
mod play;
mod playground;
mod stage;
mod table;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

pub(super) use self::child::run_as_child;
use self::crm::Choice;
use self::stage::{IntakeChoice, Lines, NAMESPACE, ORDERS, SUPPORT, Stage, watch};
use super::installation::language;
use super::simulator::ended;
use super::{USAGE, status};
use crate::api::Language;

/// How long the runner may take until its first channel is ready.
const START: Duration = Duration::from_secs(30);
/// The script is broken off after this, although no single step has taken too long.
const LIMIT: Duration = Duration::from_secs(150);
/// How many lines of the runner are shown where the script did not go as expected.
const LAST_LINES: usize = 30;

/// Show a MAX customer and an agent in Creatio talk to each other, all on this machine.
///
/// Starts simulators of MAX, MANGO OFFICE and Creatio and `maxchannel run` on a temporary folder
/// with two channels, tells where to look and what to type, and serves until Ctrl-C. A page in the
/// browser shows both sides and what is between them, and lets you write, break things and mend
/// them. With --once a scripted conversation is played instead, in which the runner is also killed
/// and started again, and a table tells what was expected and what was seen.
///
/// Exit code of --once: 0 if all of it happened, 1 if not, 2 if it could not be started. Nothing
/// outside this machine is asked, and nothing is left behind.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel demo --open\n  maxchannel demo --once\n  maxchannel demo --once --creatio package\n  maxchannel demo --once --intake mangoDialogs"
)]
pub(super) struct Args {
    /// Play a scripted conversation, print what happened, and end.
    #[arg(long)]
    once: bool,
    /// Where the page is: an address of this machine. Default 127.0.0.1:8780, or a free port where
    /// that is taken.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "once", default_value_t = playground::ADDRESS, hide_default_value = true)]
    listen: SocketAddr,
    /// Open the page in the browser.
    #[arg(long, conflicts_with = "once")]
    open: bool,
    /// The language of conditions and remedies: `en` or `ru`. Default: by LC_ALL, LC_MESSAGES,
    /// LANG.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// Who plays Creatio: its `simulator`, or the `package` itself over its engine, which needs
    /// mono.
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Choice::Simulator)]
    creatio: Choice,
    /// The way in which messages come: `webhook`, `longPoll` or `mangoDialogs`, as in a manifest.
    #[arg(long, value_name = "INTAKE", value_enum, requires = "once", default_value_t = IntakeChoice::Webhook)]
    intake: IntakeChoice,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let language = language(args.lang);
    let work = async {
        tokio::select! {
            outcome = async {
                if args.once { once(language, args).await } else { serve(language, args).await }
            } => outcome,
            ended = ended() => match ended {
                // Dropping the stage ends the runner and removes the folder. A script that was
                // broken off has not happened.
                Ok(()) => Ok(!args.once),
                Err(error) => Err(format!("signals cannot be watched: {error}")),
            },
        }
    };
    match super::in_runtime(work) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("maxchannel demo: {message}");
            ExitCode::from(USAGE)
        }
    }
}

/// Plays the script; whether all of it happened.
async fn once(language: Language, args: &Args) -> Result<bool, String> {
    super::print(
        "Playing a conversation between two customers in MAX and two agents in Creatio; this takes about half a minute.\n\n",
    );
    let mut stage = Stage::set(Lines::Kept, language, args.creatio, args.intake).await?;
    let started = std::time::Instant::now();
    let mut table = table::Table::default();
    let in_time = tokio::time::timeout(LIMIT, play::play(&mut stage, &mut table)).await.is_ok();
    super::print(&format!("{}It took {} s.\n", table.text(super::colours()), started.elapsed().as_secs()));
    if !in_time {
        eprintln!("\nIt was broken off after {} s.", LIMIT.as_secs());
    }
    if !table.all_happened() {
        eprintln!("\nThe last lines of the runner:\n{}", stage.runner.last_lines(LAST_LINES));
    }
    Ok(table.all_happened())
}

/// Serves until it is dropped.
async fn serve(language: Language, args: &Args) -> Result<bool, String> {
    super::print("Starting the simulators and the runner; these are the lines of `maxchannel run`:\n\n");
    let mut stage = Stage::set(Lines::Shown, language, args.creatio, args.intake).await?;
    let ready = watch(
        START,
        async || condition(&stage.runner.url, SUPPORT, "Ready").await,
        |ready| ready.as_ref().is_some_and(|ready| ready.0 == "True"),
    );
    if ready.await.is_none_or(|ready| ready.0 != "True") {
        let how = if stage.runner.has_ended() { "maxchannel run has ended" } else { "the channel is not ready" };
        return Err(format!("{how}, {} s after the start; its lines above say why", START.as_secs()));
    }
    let anna = stage.customer("Анна")?;
    stage.customer("Борис")?;
    let where_to_look = where_to_look(&stage, anna);
    let (playground, url) = playground::open(stage, args.listen).await?;
    super::print(&format!("\nThe playground\n  {url}\n{where_to_look}"));
    if args.open {
        show(&url);
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if playground.has_ended().await {
            return Err("maxchannel run has ended; its lines above say why".to_owned());
        }
    }
}

/// Starts the browser. Where that fails, the address that was printed is still there.
fn show(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = std::process::Command::new(program)
        .arg(url)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    if let Err(error) = started {
        eprintln!("maxchannel demo: the browser cannot be started by {program}: {error}; open {url}");
    }
}

/// Status, reason and message of a condition, as `/status` shows it.
async fn condition(url: &str, channel: &str, kind: &str) -> Option<(String, String, String)> {
    let shown = status::ask(url).await.ok()?;
    let channel = shown.channels.into_iter().find(|one| one.namespace == NAMESPACE && one.name == channel)?;
    let condition = channel.status.conditions.into_iter().find(|one| one.type_ == kind)?;
    Some((condition.status, condition.reason, condition.message))
}

fn where_to_look(stage: &Stage, customer: i64) -> String {
    let (max, mango, crm, run) = (stage.max.url(), stage.mango.url(), stage.crm.url(), &stage.runner.url);
    let bot = stage.bot;
    let agent = &stage.agents[0];
    let (name, id) = (agent.name, agent.id);
    let folder = stage.folder.path().join("channels");
    let folder = folder.display();
    let (program, command) = (stage.runner.program(), stage.runner.command_line());
    format!(
        r#"
Where to look
  MAX           {max}/control
  MANGO OFFICE  {mango}/control
  Creatio       {crm}/control
  the runner    {run}/status
  manifests     {folder}

  Each /control lists what can be done to that simulator. The runner was started as one would start it by hand:
    {command}
  It watches the manifests: change a text there, and it takes effect within seconds. The channel {NAMESPACE}/{ORDERS} shows what a
  revoked token looks like, with its remedy:
    {program} status --server {run}

What to type in another terminal
  Anna, user {customer}, has pressed start at the bot {bot}. Write as the customer:
    curl -s {max}/control/write -d '{{"user": {customer}, "bot": {bot}, "text": "Здравствуйте! Где мой заказ?"}}'
  Accept the chat and answer as the agent {name}:
    CHAT=$(curl -s '{crm}/control/chats?sender=max:{customer}' | grep -o '"id":"[^"]*"' | tail -n 1 | cut -d '"' -f 4)
    curl -s {crm}/control/chats/$CHAT/accept -d '{{"agentId": "{id}"}}'
    curl -s {crm}/control/chats/$CHAT/send -d '{{"agentId": "{id}", "text": "Уже в пути!"}}'
  What the customer sees, and what the agent sees:
    curl -s '{max}/control/transcript?user={customer}&bot={bot}'
    curl -s {crm}/control/chats/$CHAT
  Close the dialog; the customer is shown the close message:
    curl -s {crm}/control/chats/$CHAT/close -d '{{"agentId": "{id}"}}'

Ctrl-C ends it all.
"#
    )
}
