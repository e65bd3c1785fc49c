//! The site's installer of packages: upload in chunks, backup, installation with a log,
//! compilation, restart, removal.
//!
//! Owns: what an administrator's tool sees of it. A package takes effect only with a restart;
//! `success` of the installation says no more than "accepted". The relay's technical user may do
//! nothing of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::site::{World, not_found};
use crate::floor::faults::shape;
use crate::floor::wire::{Call, Reply};

/// How the next installations end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Installation {
    #[default]
    Succeeds,
    /// A package that ours depends on is not there.
    LacksDependency,
    /// Accepted; the compilation fails, and the old version goes on.
    DoesNotCompile,
    /// Refused in words although done, with one element skipped.
    SkipsModified,
    /// Accepted; the site has to be told to compile.
    WantsBuild,
}

/// What the installer knows.
#[derive(Debug)]
pub(super) struct Installer {
    pub outcome: Installation,
    /// How long a restart takes, in simulated milliseconds.
    pub restart_ms: i64,
    /// The version that the service answers.
    pub version: String,
    uploads: HashMap<String, Vec<u8>>,
    log: String,
    /// What the next restart brings.
    next: Option<String>,
    wants_build: bool,
    restarting_until: i64,
}

impl Default for Installer {
    fn default() -> Self {
        Self {
            outcome: Installation::default(),
            restart_ms: 0,
            version: "1.0.0".to_owned(),
            uploads: HashMap::new(),
            log: "2026-11-29 01:00:00 Application started\n".to_owned(),
            next: None,
            wants_build: false,
            restarting_until: 0,
        }
    }
}

impl World {
    /// Whether the site is down for a restart.
    pub fn is_restarting(&self) -> bool {
        self.now_ms() < self.installer.restarting_until
    }
}

/// `service` and `method` in lower case. None: no route of the installer.
pub(super) fn http(world: &mut World, call: &Call, service: &str, method: &str, user: Uuid) -> Option<Reply> {
    let ours = match service {
        "packageinstallerservice" => {
            ["uploadpackage", "createbackup", "installpackage", "getlogfile"].contains(&method)
        }
        "appinstallerservice" => ["restartapp", "unloadappdomain", "deletepackage"].contains(&method),
        "workspaceexplorerservice" => method == "build",
        _ => false,
    };
    if !ours {
        return None;
    }
    if user == world.technical {
        let words = "Current user does not have permissions for the \"CanManageSolution\" operation";
        return Some(shape(StatusCode::FORBIDDEN, 5, words));
    }
    let expected = if method == "getlogfile" { http::Method::GET } else { http::Method::POST };
    if call.method != expected {
        return Some(Reply::html(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"));
    }
    Some(match method {
        "uploadpackage" => upload(world, call),
        "createbackup" => answer(world.installer.uploads.contains_key(&named(call)), "no such package"),
        "installpackage" => install(world, call),
        "getlogfile" => Reply::body(StatusCode::OK, "text/plain; charset=utf-8", world.installer.log.clone()),
        "build" => {
            world.installer.wants_build = false;
            Reply::json(StatusCode::OK, &json!({"success": true, "buildResult": 0, "errors": [], "message": ""}))
        }
        "deletepackage" => {
            world.package_installed = false;
            answer(true, "")
        }
        _ => restart(world, method),
    })
}

fn answer(success: bool, message: &str) -> Reply {
    let info =
        if success { Value::Null } else { json!({"errorCode": "Exception", "message": message, "stackTrace": null}) };
    Reply::json(StatusCode::OK, &json!({"success": success, "errorInfo": info}))
}

/// The file's name in a body that is a bare text, or an object that names the archive.
fn named(call: &Call) -> String {
    match serde_json::from_slice::<Value>(&call.body) {
        Ok(Value::String(name)) => name,
        Ok(body) => body["ZipPackageName"].as_str().unwrap_or_default().to_owned(),
        Err(_) => String::new(),
    }
}

/// Chunks in their order, each with its place and the length of the whole.
fn upload(world: &mut World, call: &Call) -> Reply {
    let pairs = call.pairs();
    let value = |name: &str| pairs.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value.as_str());
    let name = value("fileName").to_owned();
    let total: usize = value("totalFileLength").parse().unwrap_or(0);
    let range = call.header("content-range").strip_prefix("bytes ").and_then(|range| {
        let (bounds, of) = range.split_once('/')?;
        let (start, end) = bounds.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?, of.parse::<usize>().ok()?))
    });
    let Some((start, end, of)) = range else { return answer(false, "a chunk without Content-Range") };
    let known = world.installer.uploads.get(&name).map_or(0, Vec::len);
    let disposed = call.header("content-disposition").contains(&format!("filename={name}"));
    let typed = call.header("content-type") == value("mimeType");
    if of != total || end + 1 - start != call.body.len() || (start != known && start != 0) || !disposed || !typed {
        return answer(false, "a chunk that does not fit");
    }
    let file = world.installer.uploads.entry(name).or_default();
    if start == 0 {
        file.clear();
    }
    file.extend_from_slice(&call.body);
    answer(true, "")
}

fn install(world: &mut World, call: &Call) -> Reply {
    let Some(bytes) = world.installer.uploads.get(&named(call)) else {
        return answer(false, "The package file was not found");
    };
    let (name, version, files) = match unpack(bytes) {
        Ok(package) => package,
        Err(words) => return answer(false, &format!("InvalidGZipArchiveException: {words}")),
    };
    let installer = &mut world.installer;
    let log = &mut installer.log;
    // Writing to a text cannot fail.
    let _ = writeln!(log, "Installing package {name} {version}: {files} files");
    match installer.outcome {
        Installation::LacksDependency => {
            let _ = writeln!(log, "Package \"OmnichannelMessaging\" on which \"{name}\" depends was not found");
            return answer(false, "Packages installation failed");
        }
        Installation::DoesNotCompile => {
            let place = "conf\\MaxChannel\\Schemas\\MaxInbox\\MaxInbox.cs(12,34)";
            let _ = writeln!(log, "{place}: error CS0246: The type or namespace name 'Gone' could not be found");
        }
        Installation::SkipsModified => {
            let _ = writeln!(log, "Schema \"MaxOutbox\" is skipped because the element has been modified locally");
            installer.next = Some(version);
            return answer(false, "Packages installation failed");
        }
        Installation::Succeeds | Installation::WantsBuild => {
            let _ = writeln!(log, "Package {name} compiled");
            installer.next = Some(version);
            installer.wants_build = installer.outcome == Installation::WantsBuild;
        }
    }
    answer(true, "")
}

/// The restart that this runtime knows; it takes what was installed into use unless that still
/// wants compiling.
fn restart(world: &mut World, method: &str) -> Reply {
    let framework = world.options.runtime == super::Runtime::Framework;
    if framework != (method == "unloadappdomain") {
        return not_found();
    }
    if !world.installer.wants_build
        && let Some(version) = world.installer.next.take()
    {
        world.installer.version = version;
        world.package_installed = true;
    }
    world.installer.restarting_until = world.now_ms() + world.installer.restart_ms;
    world.restart();
    Reply::json(StatusCode::OK, &json!({}))
}

/// Name and version out of the descriptor, and the number of files: records of name and content,
/// each with its length.
fn unpack(bytes: &[u8]) -> Result<(String, String, usize), String> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    records(&plain)
}

fn records(plain: &[u8]) -> Result<(String, String, usize), String> {
    let length = |at: usize| -> Option<usize> {
        usize::try_from(i32::from_le_bytes(plain.get(at..at + 4)?.try_into().ok()?)).ok()
    };
    let mut at = 0;
    let mut files = 0;
    let mut descriptor = None;
    while at < plain.len() {
        let short = || format!("record {} is cut short", files + 1);
        let name_length = 2 * length(at).ok_or_else(short)?;
        let name = plain.get(at + 4..at + 4 + name_length).ok_or_else(short)?;
        let units: Vec<u16> = name.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        at += 4 + name_length;
        let content_length = length(at).ok_or_else(short)?;
        let content = plain.get(at + 4..at + 4 + content_length).ok_or_else(short)?;
        at += 4 + content_length;
        files += 1;
        if String::from_utf16_lossy(&units) == "descriptor.json" {
            descriptor = serde_json::from_slice::<Value>(content).ok();
        }
    }
    let descriptor = descriptor.ok_or("no descriptor.json inside")?;
    let text = |name: &str| descriptor["Descriptor"][name].as_str().unwrap_or_default().to_owned();
    Ok((text("Name"), text("PackageVersion"), files))
}
