//! Installing, upgrading and removing the package MaxChannel on a site, with an administrator's
//! credentials (docs/reference/creatio-package.md, "Installation").
//!
//! A site says `success` before it has compiled, and may say nothing at all because a proxy has
//! given up: so the log is read while it works, and only the package's own `ping` with the new
//! version counts as installed. Must not be used with the technical user's credentials, and must
//! not keep an administrator's.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error::Error;
use super::wire::{Call, Kind, encode};
use super::{Class, Client, lenient};

/// Of an upload; the vendor's own tools use the same.
const CHUNK: usize = 1024 * 1024;
/// A site may compile for so long.
const INSTALL_LIMIT: Duration = Duration::from_mins(30);

/// How an installation is paced.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two readings of the log, and between two pings.
    pub interval: Duration,
    /// A site that answers without our service for so long has not compiled it: it is told to.
    pub build_after: Duration,
    /// How long a site that is restarting is waited for.
    pub wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let (interval, build_after) = (Duration::from_secs(3), Duration::from_mins(2));
        Self { interval, build_after, wait: Duration::from_mins(10) }
    }
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Package {
    /// Like `MaxChannel`.
    pub name: String,
    /// What `ping` answers once it is installed.
    pub version: String,
    /// Like `MaxChannel.gz`.
    pub file_name: String,
    pub bytes: Bytes,
}

/// How the installation goes, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// What the site answers now: the version that is there, or none.
    Found(Option<String>),
    Uploading {
        sent: usize,
        total: usize,
    },
    BackingUp,
    Installing,
    /// A new line of the site's own log.
    Log(String),
    /// The answer to the installation was lost; the log and `ping` decide.
    AnswerLost(String),
    Restarting,
    Waiting,
    /// The site answers and does not know the service: it is told to compile.
    Compiling,
    Installed(String),
}

/// Why the package is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    #[error(
        "{host} does not let this user install packages: sign in as an administrator who may manage configuration \
         (operation CanManageSolution); the relay's technical user must not have that right"
    )]
    NoRights { host: String },
    #[error(
        "{host} lacks the package {package}, on which MaxChannel stands: install the chats of Creatio (Omnichannel) \
         first"
    )]
    MissingDependency { host: String, package: String },
    #[error(
        "{host} cannot compile the package ({error}): nothing of the old version is lost; send the line and the site's \
         version to whoever gave you the package, and try --form simple meanwhile"
    )]
    Compile { host: String, error: String },
    #[error(
        "{host} has skipped parts of the package because they were modified on the site ({elements}): undo those changes \
         in the configuration section, then install again"
    )]
    ModifiedLocally { host: String, elements: String },
    #[error("{host} refuses the installation ({words}): read the log above")]
    Refused { host: String, words: String },
    #[error(
        "{host} does not answer with version {version} after {minutes} min (last: {last}): look into the log of the site, \
         compile the configuration there, and run the command again; it changes nothing that is done"
    )]
    NotServed { host: String, version: String, minutes: u64, last: String },
    #[error(transparent)]
    Call(Error),
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "lenient::flag")]
    success: bool,
    #[serde(default, rename = "errorInfo")]
    error_info: Option<ErrorInfo>,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorInfo {
    #[serde(default, rename = "errorCode", deserialize_with = "lenient::text")]
    code: String,
    #[serde(default, deserialize_with = "lenient::text")]
    message: String,
}

/// What became of the call that installs.
enum Outcome {
    Accepted,
    Refused(String),
    Lost(String),
}

impl Client {
    /// Installs or upgrades the package and returns when its `ping` answers with the new version.
    ///
    /// # Errors
    /// See [`InstallError`]. The command may be repeated at any time: what is done stays done.
    pub async fn install(
        &self,
        package: &Package,
        back_up: bool,
        pace: Pace,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), InstallError> {
        let found = self.version().await?;
        progress(Progress::Found(found.clone()));
        if found.as_deref() == Some(&package.version) {
            progress(Progress::Installed(package.version.clone()));
            return Ok(());
        }
        self.upload(package, progress).await?;
        if back_up {
            progress(Progress::BackingUp);
            self.back_up(package).await?;
        }
        progress(Progress::Installing);
        let mut log = Log::default();
        self.read_log(&mut log, progress).await;
        let outcome = self.install_uploaded(package, pace, &mut log, progress).await?;
        self.read_log(&mut log, progress).await;
        self.judge(&log)?;
        match outcome {
            Outcome::Accepted => {}
            Outcome::Lost(words) => progress(Progress::AnswerLost(words)),
            Outcome::Refused(words) => return Err(InstallError::Refused { host: self.host(), words }),
        }
        progress(Progress::Restarting);
        self.restart().await?;
        self.wait(package, pace, &mut log, progress).await
    }

    /// Takes the package off the site, its objects and their rows included.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn uninstall(&self, package: &str) -> Result<(), InstallError> {
        let about = format!("the removal of the package {package}");
        let mut call = Call::post_json(
            Kind::Package,
            "ServiceModel/AppInstallerService.svc/DeletePackage",
            about,
            &json!(package),
        );
        call.timeout = INSTALL_LIMIT;
        match self.installer_answer(&call).await? {
            Answer { success: true, .. } => Ok(()),
            answer => Err(InstallError::Refused { host: self.host(), words: words(&answer) }),
        }
    }

    fn host(&self) -> String {
        self.wire.host().to_owned()
    }

    /// The version that the site serves now; none where it serves none.
    async fn version(&self) -> Result<Option<String>, InstallError> {
        match self.installed().await {
            Ok(ping) => Ok(Some(ping.version)),
            // The package of another contract is there, and is replaced all the same.
            Err(error) if error.class() == Class::PackageMissing => Ok(None),
            // A technical user's right, which an administrator may lack; and a proxy or the site's
            // own pages of errors may have taken the version away.
            Err(error) if error.class() == Class::AccessDenied => Ok(None),
            Err(error) => Err(InstallError::Call(error)),
        }
    }

    async fn upload(&self, package: &Package, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<(), InstallError> {
        let total = package.bytes.len();
        let mime = if std::path::Path::new(&package.file_name).extension().is_some_and(|extension| extension == "zip") {
            "application/x-zip-compressed"
        } else {
            "application/gzip"
        };
        let path = format!(
            "ServiceModel/PackageInstallerService.svc/UploadPackage?totalFileLength={total}&fileName={}&mimeType={}",
            encode(&package.file_name),
            encode(mime)
        );
        let mut sent = 0;
        while sent < total {
            let end = (sent + CHUNK).min(total);
            let mut call =
                Call::post(Kind::File, path.clone(), "the upload of the package", package.bytes.slice(sent..end));
            call.content_type = Some(mime);
            call.timeout = super::wire::FILE_TIMEOUT;
            call.headers = vec![
                header_of(header::CONTENT_RANGE, &format!("bytes {sent}-{}/{total}", end - 1)),
                header_of(header::CONTENT_DISPOSITION, &format!("attachment; filename={}", package.file_name)),
            ];
            let answer = self.installer_answer(&call).await?;
            if !answer.success {
                return Err(InstallError::Refused { host: self.host(), words: words(&answer) });
            }
            sent = end;
            progress(Progress::Uploading { sent, total });
        }
        Ok(())
    }

    async fn back_up(&self, package: &Package) -> Result<(), InstallError> {
        let body = json!({
            "Name": package.name, "Code": package.name, "ZipPackageName": package.file_name, "LastUpdate": 0,
        });
        let path = "ServiceModel/PackageInstallerService.svc/CreateBackup";
        let mut call = Call::post_json(Kind::Package, path, "the backup before the installation", &body);
        call.timeout = INSTALL_LIMIT;
        match self.installer_answer(&call).await? {
            Answer { success: true, .. } => Ok(()),
            answer => Err(InstallError::Refused { host: self.host(), words: words(&answer) }),
        }
    }

    /// Starts the installation and reads the log until it answers.
    async fn install_uploaded(
        &self,
        package: &Package,
        pace: Pace,
        log: &mut Log,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Outcome, InstallError> {
        let path = "ServiceModel/PackageInstallerService.svc/InstallPackage";
        let mut call = Call::post_json(Kind::Package, path, "the installation", &json!(package.file_name));
        call.timeout = INSTALL_LIMIT;
        let mut answer = std::pin::pin!(self.installer_answer(&call));
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                () = tokio::time::sleep(pace.interval) => self.read_log(log, progress).await,
            }
        };
        match answer {
            Ok(Answer { success: true, .. }) => Ok(Outcome::Accepted),
            Ok(answer) => Ok(Outcome::Refused(words(&answer))),
            // A proxy that gave up says nothing of the site.
            Err(InstallError::Call(error)) if error.may_have_been_done() => Ok(Outcome::Lost(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn log(&self) -> Option<String> {
        let path = "ServiceModel/PackageInstallerService.svc/GetLogFile";
        let mut call = Call::get(Kind::Package, path, "the log of the installation");
        call.any_content = true;
        let answer = self.wire.send(&call).await.ok()?;
        answer.status().is_success().then(|| String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// A log that cannot be read now is read next time.
    async fn read_log(&self, log: &mut Log, progress: &(dyn Fn(Progress) + Send + Sync)) {
        let Some(text) = self.log().await else { return };
        for line in log.take(&text) {
            progress(Progress::Log(line));
        }
    }

    /// What the log says of a failure.
    fn judge(&self, log: &Log) -> Result<(), InstallError> {
        let host = self.host();
        if let Some(error) = log.lines.iter().find_map(|line| compile_error(line)) {
            return Err(InstallError::Compile { host, error });
        }
        if let Some(package) = log.lines.iter().find_map(|line| missing_dependency(line)) {
            return Err(InstallError::MissingDependency { host, package });
        }
        let modified: Vec<String> = log.lines.iter().filter_map(|line| modified_locally(line)).collect();
        if !modified.is_empty() {
            return Err(InstallError::ModifiedLocally { host, elements: modified.join("; ") });
        }
        Ok(())
    }

    /// .NET waits to be told; .NET Framework restarts by itself. Either may end the connection.
    async fn restart(&self) -> Result<(), InstallError> {
        let framework = !self.wire.prefix().await.map_err(InstallError::Call)?.is_empty();
        let method = if framework { "UnloadAppDomain" } else { "RestartApp" };
        let path = format!("ServiceModel/AppInstallerService.svc/{method}");
        let call = Call::post_json(Kind::Package, path, "the restart of the site", &json!({}));
        match self.wire.send(&call).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.class(), Class::Unreachable | Class::Transient) => Ok(()),
            Err(error) => Err(InstallError::Call(error)),
        }
    }

    /// Waits for the new version; a site that answers without it is told once to compile.
    async fn wait(
        &self,
        package: &Package,
        pace: Pace,
        log: &mut Log,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), InstallError> {
        progress(Progress::Waiting);
        let began = Instant::now();
        let mut without_since: Option<Instant> = None;
        let mut compiled = false;
        loop {
            let last = match self.installed().await {
                Ok(ping) if ping.version == package.version => {
                    progress(Progress::Installed(ping.version));
                    return Ok(());
                }
                Ok(ping) => format!("version {}", ping.version),
                Err(error) if error.class() == Class::CredentialsInvalid => return Err(InstallError::Call(error)),
                Err(error) => {
                    if matches!(error.class(), Class::Unreachable | Class::Transient) {
                        without_since = None;
                    }
                    error.to_string()
                }
            };
            self.read_log(log, progress).await;
            self.judge(log)?;
            let since = *without_since.get_or_insert_with(Instant::now);
            if !compiled && since.elapsed() >= pace.build_after {
                compiled = true;
                progress(Progress::Compiling);
                self.build().await?;
                self.restart().await?;
            }
            if began.elapsed() >= pace.wait {
                let minutes = pace.wait.as_secs() / 60;
                let version = package.version.clone();
                return Err(InstallError::NotServed { host: self.host(), version, minutes, last });
            }
            tokio::time::sleep(pace.interval).await;
        }
    }

    /// Compiles what has changed on the site. A lost answer says nothing: `ping` decides.
    async fn build(&self) -> Result<(), InstallError> {
        #[derive(Deserialize)]
        struct Built {
            #[serde(default)]
            errors: Value,
        }
        let path = "ServiceModel/WorkspaceExplorerService.svc/Build";
        let mut call = Call::post_json(Kind::Package, path, "the compilation", &json!({}));
        call.timeout = INSTALL_LIMIT;
        let answer = match self.wire.send(&call).await {
            Ok(answer) => answer,
            Err(error) if error.may_have_been_done() => return Ok(()),
            Err(error) => return Err(InstallError::Call(error)),
        };
        let errors = serde_json::from_slice::<Built>(answer.body()).map(|built| built.errors).unwrap_or_default();
        match errors.as_array().and_then(|errors| errors.first()) {
            Some(error) => {
                let error: String = error.to_string().chars().take(300).collect();
                Err(InstallError::Compile { host: self.host(), error })
            }
            None => Ok(()),
        }
    }

    async fn installer_answer(&self, call: &Call<'_>) -> Result<Answer, InstallError> {
        let denied = |error: Error| match error.class() {
            Class::AccessDenied => InstallError::NoRights { host: self.host() },
            _ => InstallError::Call(error),
        };
        let answer = self.wire.send(call).await.map_err(denied)?;
        let answer: Answer = self.wire.parse(call, &answer).map_err(denied)?;
        let info = answer.error_info.as_ref();
        if !answer.success && info.is_some_and(|info| info.code.contains("Security")) {
            return Err(InstallError::NoRights { host: self.host() });
        }
        Ok(answer)
    }
}

fn header_of(name: HeaderName, value: &str) -> (HeaderName, HeaderValue) {
    // Numbers and a file name of ours.
    (name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")))
}

fn words(answer: &Answer) -> String {
    match &answer.error_info {
        Some(info) if !info.message.is_empty() => super::error::excerpt(&info.message),
        _ => "it gives no reason".to_owned(),
    }
}

/// The site's log as far as it was read. None: not yet.
#[derive(Debug, Default)]
struct Log {
    read: Option<String>,
    lines: Vec<String>,
}

impl Log {
    /// The whole lines that are new. A log that began anew is new as a whole; what is there at the
    /// first reading is old, for errors of former installations stand in it.
    fn take(&mut self, text: &str) -> Vec<String> {
        let Some(read) = &self.read else {
            self.read = Some(text.to_owned());
            return Vec::new();
        };
        let rest = text.strip_prefix(read.as_str()).unwrap_or(text);
        let whole = rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: Vec<String> =
            rest[..whole].lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        self.read = Some(text[..text.len() - (rest.len() - whole)].to_owned());
        self.lines.extend(lines.iter().cloned());
        lines
    }
}

/// `…/MaxInbox.cs(12,34): error CS0246: …` from the file's name on.
fn compile_error(line: &str) -> Option<String> {
    let at = line.find("error CS")?;
    let file = line[..at].trim_end().trim_end_matches(':').rsplit(['/', '\\']).next().unwrap_or_default();
    let words = &line[at..];
    Some(if file.is_empty() { words.to_owned() } else { format!("{file}: {words}") })
}

/// The package that a line says is missing.
fn missing_dependency(line: &str) -> Option<String> {
    let lower = line.to_lowercase();
    let missing =
        ["not found", "does not exist", "is missing", "not installed"].iter().any(|words| lower.contains(words));
    let about = ["depend", "package"].iter().any(|words| lower.contains(words));
    if !missing || !about {
        return None;
    }
    ["OmnichannelMessaging", "CrtBase"].into_iter().find(|package| line.contains(package)).map(str::to_owned)
}

/// The element that was skipped.
fn modified_locally(line: &str) -> Option<String> {
    let at = line.find("because the element has been modified locally")?;
    Some(line[..at].trim().trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_say_which_failure_it_is() {
        let cases = [
            (
                r"C:\inetpub\site\conf\MaxChannel\Schemas\MaxInbox\MaxInbox.cs(12,34): error CS0246: no type 'X'",
                Some("MaxInbox.cs(12,34): error CS0246: no type 'X'"),
                None,
                None,
            ),
            ("/app/pkg/MaxInbox.cs(1,1): error CS0012: y", Some("MaxInbox.cs(1,1): error CS0012: y"), None, None),
            ("error CS5001: no Main", Some("error CS5001: no Main"), None, None),
            ("Dependency package \"OmnichannelMessaging\" not found", None, Some("OmnichannelMessaging"), None),
            ("Package OmnichannelMessaging installed", None, None, None),
            (
                "Schema \"MaxOutbox\" is skipped because the element has been modified locally",
                None,
                None,
                Some("Schema \"MaxOutbox\" is skipped"),
            ),
            ("0 errors, 2 warnings", None, None, None),
        ];
        for (line, compile, dependency, modified) in cases {
            assert_eq!(compile_error(line).as_deref(), compile, "{line}");
            assert_eq!(missing_dependency(line).as_deref(), dependency, "{line}");
            assert_eq!(modified_locally(line).as_deref(), modified, "{line}");
        }
    }

    #[test]
    fn every_line_of_a_growing_log_is_told_once_and_a_cut_one_waits_for_its_end() {
        let mut log = Log::default();
        assert_eq!(log.take("before\n"), Vec::<String>::new());
        assert_eq!(log.take("before\none\ntw"), ["one"]);
        assert_eq!(log.take("before\none\ntwo\n"), ["two"]);
        assert_eq!(log.take("before\none\ntwo\n"), Vec::<String>::new());
        assert_eq!(log.take("anew\n"), ["anew"]);
    }
}
