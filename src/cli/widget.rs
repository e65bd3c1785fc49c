//! `maxchannel widget`: what leads customers to the bot: the deep link, its QR code, and a button
//! for the company's site.

mod button;
mod code;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::installation::language;
use super::status::{self, Place};
use super::{Output, USAGE, files};
use crate::api::{Language, Widget, WidgetSource};
use crate::max::deep_link;

/// Make the link, the QR code and the site's button that lead customers to the bot.
///
/// Without --as it prints the links of all sources of spec.widget. The bot's nick is that of --bot,
/// of spec.botCard, or in a cluster of the channel's status. Exit code 0: made; 1: the manifest has
/// errors; 2: wrong usage, or a file cannot be read or written.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The button is one file without scripts from elsewhere: put its text before </body> of a page. A page that \
                  forbids inline scripts gets the same button; only the page's path is then not told.\n\nExamples:\n  \
                  maxchannel widget -f channel.yaml\n  maxchannel widget -f channel.yaml --source delivery --as button > button.html\n  \
                  maxchannel widget -f channel.yaml --source leaflet --as png > leaflet.png\n  \
                  maxchannel widget -f channel.yaml --dir site/\n  kubectl maxchannel widget support -n crm --as svg"
)]
pub(super) struct Args {
    /// The channel: `name` or `namespace/name`. Needed where there are several.
    name: Option<String>,
    /// Files or folders with the MaxChannel; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required_unless_present = "cluster")]
    files: Vec<PathBuf>,
    /// Ask the cluster of the kubeconfig instead.
    #[arg(long, conflicts_with = "files")]
    cluster: bool,
    /// Namespace in the cluster. Default: that of the context.
    #[arg(short, long, value_name = "NAMESPACE", requires = "cluster")]
    namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    context: Option<String>,
    /// The bot's nick in MAX.
    #[arg(long, value_name = "NICK")]
    bot: Option<String>,
    /// The source that the link names: one of spec.widget.sources. Default: the link names none.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The path of the page that the link names, like `/order`; the button finds it by itself.
    #[arg(long, value_name = "PATH", requires = "source")]
    page: Option<String>,
    /// What to make.
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    kind: Option<Kind>,
    /// Make everything for every source into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["kind", "source"])]
    dir: Option<PathBuf>,
    /// The language of the button where the page has neither Russian nor English: `en` or `ru`.
    /// Default: by LC_ALL, LC_MESSAGES, LANG.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// The form of the list of links.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The word that names this command.
pub(super) const NAME: &str = "widget";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The deep link.
    Link,
    /// The QR code as a picture.
    Png,
    /// The QR code as lines, for print.
    Svg,
    /// The button, as a piece of HTML.
    Button,
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Link => "txt",
            Self::Png => "png",
            Self::Svg => "svg",
            Self::Button => "html",
        }
    }
}

/// What there is to complain about, and the exit code.
type Complaint = (u8, String);

pub(super) fn run(args: &Args) -> ExitCode {
    match make(args) {
        Ok(made) => write(&made),
        Err((code, message)) => {
            super::complain(NAME, args.output, &message);
            ExitCode::from(code)
        }
    }
}

fn write(bytes: &[u8]) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("maxchannel widget: cannot write to stdout: {error}");
            ExitCode::from(USAGE)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn usage(message: String) -> Complaint {
    (USAGE, message)
}

/// What is known of the channel.
struct Found {
    name: String,
    nick: Option<String>,
    widget: Widget,
}

fn make(args: &Args) -> Result<Vec<u8>, Complaint> {
    let found = if args.cluster { in_cluster(args)? } else { in_files(args)? };
    let nick = args.bot.clone().or(found.nick).ok_or_else(|| {
        let how = "give it with --bot, or write it into spec.botCard.username";
        usage(format!("the nick of the bot of {} is not known: {how}", found.name))
    })?;
    if !is_nick(&nick) {
        let rule = "Latin letters, digits and `_`, at most 60, like id7700000000_bot";
        return Err(usage(format!("{nick:?} is not the nick of a bot: {rule}")));
    }
    let widget = &found.widget;
    let source = args.source.as_deref().map(|name| known(widget, name, &found.name)).transpose()?;
    if let Some(page) = args.page.as_deref().filter(|page| !page.starts_with('/') || page.contains(char::is_control)) {
        return Err(usage(format!("--page {page:?} is not the path of a page: it begins with /, like /order")));
    }
    let making = Making { nick: &nick, widget, language: language(args.lang) };
    if let Some(folder) = &args.dir {
        return making.all(folder).map(String::into_bytes).map_err(usage);
    }
    match args.kind {
        Some(kind) => making.one(kind, source, args.page.as_deref()).map_err(usage),
        None => Ok(making.list(source, args.page.as_deref(), args.output).into_bytes()),
    }
}

fn is_nick(nick: &str) -> bool {
    (1..=60).contains(&nick.len()) && nick.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn known<'a>(widget: &'a Widget, name: &str, channel: &str) -> Result<&'a WidgetSource, Complaint> {
    widget.sources.iter().find(|source| source.name == name).ok_or_else(|| {
        let names: Vec<&str> = widget.sources.iter().map(|source| source.name.as_str()).collect();
        let names =
            if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
        usage(format!("spec.widget.sources of {channel} has no source {name:?}: {names}"))
    })
}

fn in_files(args: &Args) -> Result<Found, Complaint> {
    let manifests = files::read_all(&args.files).map_err(usage)?;
    if let Some(error) = manifests.errors.first() {
        return Err((1, error.to_string()));
    }
    let is_meant = |namespace: &str, name: &str| {
        args.name.as_ref().is_none_or(|given| *given == name || *given == format!("{namespace}/{name}"))
    };
    let meant: Vec<_> =
        manifests.channels.iter().filter(|channel| is_meant(&channel.namespace, &channel.name)).collect();
    let [channel] = meant[..] else {
        let names: Vec<String> =
            manifests.channels.iter().map(|channel| format!("{}/{}", channel.namespace, channel.name)).collect();
        return Err(usage(match (names.is_empty(), meant.is_empty()) {
            (true, _) => "there is no MaxChannel in these files: is the path right?".to_owned(),
            (false, true) => format!("there is no such channel, only {}", names.join(", ")),
            (false, false) => format!("say which channel: {}", names.join(", ")),
        }));
    };
    let spec = match channel.parse() {
        Ok(manifest) => manifest.spec,
        Err(findings) => {
            let lines: Vec<String> =
                findings.into_iter().map(|(place, finding)| format!("{place}: {finding}")).collect();
            return Err((1, lines.join("\n")));
        }
    };
    Ok(Found {
        name: format!("{}/{}", channel.namespace, channel.name),
        nick: spec.bot_card.and_then(|card| card.username),
        widget: spec.widget.unwrap_or_default(),
    })
}

fn in_cluster(args: &Args) -> Result<Found, Complaint> {
    let (namespace, name) = match args.name.as_deref().map(|name| name.split_once('/').ok_or(name)) {
        Some(Ok((namespace, name))) => (Some(namespace.to_owned()), Some(name)),
        Some(Err(name)) => (args.namespace.clone(), Some(name)),
        None => (args.namespace.clone(), None),
    };
    let channels =
        super::in_runtime(status::channels(args.context.as_deref(), Place::Namespace(namespace))).map_err(usage)?;
    let names: Vec<String> = channels.iter().map(|channel| channel.reference().name).collect();
    let mut meant = channels.into_iter().filter(|channel| name.is_none_or(|name| channel.reference().name == name));
    let (Some(channel), None) = (meant.next(), meant.next()) else {
        return Err(usage(format!("say which channel: {}", names.join(", "))));
    };
    let in_status = channel.status.as_ref().and_then(|status| status.bot.as_ref()?.username.clone());
    // What cannot be read as a spec was refused by the API server.
    let spec = serde_json::to_value(&channel).ok().and_then(|value| value.get("spec").cloned()).unwrap_or_default();
    let widget = serde_json::from_value(spec["widget"].clone()).unwrap_or_default();
    let in_card = spec["botCard"]["username"].as_str().map(str::to_owned);
    Ok(Found { name: channel.reference().to_string(), nick: in_status.or(in_card), widget })
}

struct Making<'a> {
    nick: &'a str,
    widget: &'a Widget,
    language: Language,
}

impl Making<'_> {
    fn link(&self, source: Option<&WidgetSource>, page: Option<&str>) -> String {
        let payload = source.map(|source| deep_link::payload(&source.name, page)).unwrap_or_default();
        deep_link::link(self.nick, &payload)
    }

    fn one(&self, kind: Kind, source: Option<&WidgetSource>, page: Option<&str>) -> Result<Vec<u8>, String> {
        let link = self.link(source, page);
        Ok(match kind {
            Kind::Link => format!("{link}\n").into_bytes(),
            Kind::Png => code::png(&link)?,
            Kind::Svg => code::svg(&link)?.into_bytes(),
            Kind::Button => {
                let name = source.map(|source| source.name.as_str());
                button::html(&link, name, self.widget.greeting.as_deref(), self.language).into_bytes()
            }
        })
    }

    fn all(&self, folder: &Path) -> Result<String, String> {
        let failed = |path: &Path, error: std::io::Error| format!("{} cannot be written: {error}", path.display());
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        let mut told = String::new();
        for source in std::iter::once(None).chain(self.widget.sources.iter().map(Some)) {
            for kind in [Kind::Link, Kind::Png, Kind::Svg, Kind::Button] {
                let name = source.map_or("max", |source| source.name.as_str());
                let path = folder.join(format!("{name}.{}", kind.extension()));
                std::fs::write(&path, self.one(kind, source, None)?).map_err(|error| failed(&path, error))?;
                let _ = writeln!(told, "{}", path.display());
            }
        }
        Ok(told)
    }

    fn list(&self, only: Option<&WidgetSource>, page: Option<&str>, output: Output) -> String {
        let sources: Vec<Option<&WidgetSource>> = match only {
            Some(source) => vec![Some(source)],
            None => std::iter::once(None).chain(self.widget.sources.iter().map(Some)).collect(),
        };
        let named = sources.into_iter().map(|source| (source, self.link(source, page)));
        match output {
            Output::Json => {
                let links: Vec<_> = named
                    .map(|(source, link)| {
                        json!({"source": source.map(|source| &source.name), "title": source.map(|source| &source.title),
                            "link": link})
                    })
                    .collect();
                format!("{:#}\n", json!({"links": links}))
            }
            Output::Text => named.fold(String::new(), |mut text, (source, link)| {
                let _ = match source {
                    Some(source) => writeln!(text, "{link}  {}", source.title),
                    None => writeln!(text, "{link}"),
                };
                text
            }),
        }
    }
}
