//! `maxchannel creatio-install`: installs, upgrades or removes the package in the CRMs of some
//! manifests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::creatio_package::{Form, bytes};
use super::installation::InstallationArgs;
use super::{USAGE, files};
use crate::api;
use crate::channel::observe::Clients;
use crate::channel::validate::{self, Secrets};
use crate::contract::webhook;
use crate::creatio::install::{Pace, Package, Progress};
use crate::creatio_package::{NAME, VERSION, archive_name};
use crate::telemetry;

/// Install the package in Creatio, or upgrade or remove it.
///
/// Signs in with an administrator's credentials from a Secret of the manifests (keys username and
/// password, or clientId and clientSecret), uploads the package, makes a backup, installs, shows
/// the site's own log, restarts the site and waits until the new version answers. A restart signs
/// everybody out: choose a quiet hour; messages wait meanwhile and none is lost. May be repeated at
/// any time. Exit code 0: the version is there; 1: it is not; 2: wrong usage, or a file cannot be
/// read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel creatio-install -f channel.yaml -f admin.yaml --admin-secret creatio-admin\n  \
                        maxchannel creatio-install -f channels/ --admin-secret creatio-admin --remove"
)]
pub(super) struct Args {
    /// Files or folders with the manifests of the channels and the administrator's Secret; `-` is
    /// stdin.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required = true)]
    paths: Vec<PathBuf>,
    /// The name of the Secret with the administrator's credentials. Keep it out of the cluster: it
    /// is needed here only.
    #[arg(long, value_name = "NAME")]
    admin_secret: String,
    /// How the site compiles the package.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Make no backup before the installation.
    #[arg(long)]
    no_backup: bool,
    /// How long to wait until the new version answers.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    wait: api::Duration,
    /// Take the package off the site, with its objects and their rows, instead of installing it.
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args) -> ExitCode {
    telemetry::start(telemetry::Format::Text, "warn");
    let outcome = super::in_runtime(async {
        let sites = sites(args)?;
        let package = Package {
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            file_name: archive_name(false),
            bytes: bytes(args.form.into(), false)?.into(),
        };
        let mut all = true;
        for (host, client) in sites {
            all &= serve(args, &host, &client, &package).await;
        }
        Ok::<_, String>(all)
    });
    match outcome {
        Ok::<_, String>(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("maxchannel creatio-install: {}", telemetry::redacted(&message));
            ExitCode::from(USAGE)
        }
    }
}

async fn serve(args: &Args, host: &str, client: &crate::creatio::Client, package: &Package) -> bool {
    let say = |line: &str| {
        // A reader that has gone is no reason to stop half-way.
        let _ = super::print(&telemetry::redacted(&format!("{host}: {line}\n")));
    };
    let wait = Duration::from_millis(u64::try_from(args.wait.millis()).unwrap_or_default());
    let pace = Pace { wait, ..Pace::default() };
    let done = if args.remove {
        client.uninstall(NAME).await.map(|()| say(&format!("{NAME} is removed")))
    } else {
        client.install(package, !args.no_backup, pace, &|progress| say(&line(&progress))).await
    };
    match done {
        Ok(()) => true,
        Err(error) => {
            say(&format!("! {error}"));
            false
        }
    }
}

fn line(progress: &Progress) -> String {
    match progress {
        Progress::Found(Some(version)) => format!("version {version} answers; version {VERSION} is to be installed"),
        Progress::Found(None) => format!("the package is not there; version {VERSION} is to be installed"),
        Progress::Uploading { sent, total } => format!("uploaded {sent} of {total} bytes"),
        Progress::BackingUp => "the site makes a backup of what the package changes".to_owned(),
        Progress::Installing => "the site installs the package, which may take minutes".to_owned(),
        Progress::Log(line) => format!("| {line}"),
        Progress::AnswerLost(words) => {
            format!("no answer to the installation ({words}); its log and the new version decide")
        }
        Progress::Restarting => "the site restarts; everybody is signed out".to_owned(),
        Progress::Waiting => format!("waiting until version {VERSION} answers"),
        Progress::Compiling => {
            "the site answers without the service; it is told to compile its configuration".to_owned()
        }
        Progress::Installed(version) => format!("version {version} is installed and answers"),
    }
}

/// Each CRM of the manifests once, with a client that signs in as the administrator.
fn sites(args: &Args) -> Result<BTreeMap<String, crate::creatio::Client>, String> {
    let manifests = files::read_all(&args.paths)?;
    if let Some(error) = manifests.doubts().next() {
        return Err(error.to_string());
    }
    if manifests.channels.is_empty() {
        return Err("no MaxChannel in the files given: is the path right?".to_owned());
    }
    let mut secrets: BTreeMap<&str, Secrets> = BTreeMap::new();
    for secret in &manifests.secrets {
        secret.data.values().for_each(telemetry::hide);
        secrets.entry(&secret.namespace).or_default().insert(secret.name.clone(), secret.data.clone());
    }
    let clients = Clients::new(Arc::new(args.installation.installation()?))?;
    let mut sites = BTreeMap::new();
    for manifest in &manifests.channels {
        let place = manifest.place(&api::FieldPath::default());
        let at = |words: &str| format!("{}:{}: {words}", place.file, place.line);
        let mut channel = api::parse(&manifest.value).map_err(|findings| {
            findings.first().map_or_else(|| at("it cannot be read"), |finding| at(&finding.to_string()))
        })?;
        channel.spec.creatio.credentials_secret_ref.name.clone_from(&args.admin_secret);
        let none = Secrets::new();
        let own = secrets.get(manifest.namespace.as_str()).unwrap_or(&none);
        let desired =
            validate::validate(&channel, own, clients.installation()).map_err(|words| at(&words.join("; ")))?;
        let access = desired.crm_access.as_ref().map_err(|unusable| at(unusable.sentence()))?;
        sites.insert(site(&desired.crm.url), clients.crm(&desired.crm, access)?);
    }
    Ok(sites)
}

/// What tells one CRM from another: a host may serve several, under paths of their own.
fn site(url: &Url) -> String {
    webhook::root(url).to_owned()
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
