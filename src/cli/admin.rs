//! What `dead-letters` and `erase` share: finding a running relay's socket, and asking it.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::installation::data_dir;
use crate::contract::admin::SOCKET;
use crate::relay::STORE;
use crate::relay::moving::HOLD;
use crate::transport::Trust;

/// An erasure overwrites what it frees, which takes its time in a large store.
const TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, clap::Args)]
pub(super) struct SocketArgs {
    /// The data folder of the running `maxchannel run` or `maxchannel relay`. Default
    /// ~/.local/share/maxchannel.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The channel, where the data folder has several: `namespace/name`, or `name` in the namespace
    /// `default`.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    channel: Option<String>,
}

impl SocketArgs {
    /// The folder of the channel that is meant, whether its relay runs or not.
    ///
    /// # Errors
    /// One sentence: it is not clear which.
    pub(super) fn folder(&self) -> Result<PathBuf, String> {
        let folder = data_dir(self.data_dir.clone())?;
        if let Some(channel) = &self.channel {
            return place_of(&folder, channel);
        }
        let is_channels = |place: &Path| [STORE, SOCKET, HOLD].iter().any(|name| place.join(name).exists());
        if is_channels(&folder) {
            return Ok(folder);
        }
        let below = places(&folder);
        let mut found: Vec<PathBuf> = below.filter(|place| is_channels(place)).collect();
        match found.len() {
            0 => {
                Err(format!("there is no channel in {}: name it with --channel, or give --data-dir", folder.display()))
            }
            1 => Ok(found.remove(0)),
            _ => Err(several(&folder, found.iter().map(PathBuf::as_path))),
        }
    }

    /// The socket of the channel that is meant.
    ///
    /// # Errors
    /// One sentence: there is none, or it is not clear which.
    pub(super) fn find(&self) -> Result<PathBuf, String> {
        let mut found = self.find_all()?;
        if found.len() == 1 {
            return Ok(found.remove(0));
        }
        let folder = data_dir(self.data_dir.clone())?;
        Err(several(&folder, found.iter().filter_map(|path| path.parent())))
    }

    /// The same where nobody may be left out: who is to be erased may stand in the store of a relay
    /// that does not run.
    ///
    /// # Errors
    /// One sentence: there is none, or it is not clear which.
    pub(super) fn find_only(&self) -> Result<PathBuf, String> {
        let folder = data_dir(self.data_dir.clone())?;
        let below = places(&folder);
        let stores: Vec<PathBuf> = below.filter(|place| place.join(STORE).exists()).collect();
        if self.channel.is_some() || stores.len() < 2 {
            return self.find();
        }
        Err(several(&folder, stores.iter().map(PathBuf::as_path)))
    }

    /// The sockets of all channels that are meant and whose relays run, at least one.
    ///
    /// # Errors
    /// One sentence: there is none.
    pub(super) fn find_all(&self) -> Result<Vec<PathBuf>, String> {
        let folder = data_dir(self.data_dir.clone())?;
        let nobody = |place: &Path| {
            format!(
                "nobody answers in {}: is `maxchannel run` or `maxchannel relay` started, and is --data-dir the same?",
                place.display()
            )
        };
        if let Some(channel) = &self.channel {
            let place = place_of(&folder, channel)?;
            let socket = place.join(SOCKET);
            return if is_served(&socket) { Ok(vec![socket]) } else { Err(nobody(&place)) };
        }
        // The folder of one relay in a cluster, else one folder per channel.
        let own = folder.join(SOCKET);
        if own.exists() {
            return if is_served(&own) { Ok(vec![own]) } else { Err(nobody(&folder)) };
        }
        let places = places(&folder);
        let sockets = places.map(|place| place.join(SOCKET)).filter(|path| path.exists());
        let (found, left): (Vec<PathBuf>, Vec<PathBuf>) = sockets.partition(|socket| is_served(socket));
        if found.is_empty() {
            return Err(nobody(&folder));
        }
        for place in left.iter().filter_map(|socket| socket.parent()) {
            eprintln!("maxchannel: no relay runs in {}: that channel is left out", place.display());
        }
        Ok(found)
    }
}

/// Whether a relay listens there. The socket of one that was killed, or whose channel is gone,
/// stays behind and refuses.
fn is_served(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        // Whatever else it is, asking will say.
        Err(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound),
    }
}

fn place_of(folder: &Path, channel: &str) -> Result<PathBuf, String> {
    let (namespace, name) = channel.split_once('/').unwrap_or(("default", channel));
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('/');
    if !plain(namespace) || !plain(name) {
        return Err(format!("--channel {channel:?} is no channel: write it like default/support"));
    }
    Ok(folder.join(namespace).join(name))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Asks the relay behind a socket; with a body it is a POST.
///
/// # Errors
/// One sentence: nobody answers, or what the relay says.
pub(super) async fn ask<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<T, String> {
    let fails = |error: reqwest::Error| {
        let refused = format!("the relay behind {} does not answer: is it running?", socket.display());
        if error.is_connect() { refused } else { format!("the relay behind {}: {error}", socket.display()) }
    };
    // Reqwest wants to know how to do TLS even where there is none, and would ask the machine for
    // its roots: an image has none.
    let tls = Trust::public().client_config()?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .unix_socket(socket)
        .timeout(TIMEOUT)
        .build()
        .map_err(fails)?;
    let address = format!("http://relay{path}");
    let request = match body {
        Some(body) => {
            let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
            client.post(address).header(http::header::CONTENT_TYPE, "application/json").body(body)
        }
        None => client.get(address),
    };
    let answer = request.send().await.map_err(fails)?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(fails)?;
    if !status.is_success() {
        return Err(format!("the relay refuses ({status}): {}", String::from_utf8_lossy(&bytes).trim()));
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| "the relay's answer is not understood: is it of another version?".to_owned())
}

/// The folders that channels may have below a data folder: one for each namespace and name.
fn places(folder: &Path) -> impl Iterator<Item = PathBuf> {
    entries(folder).into_iter().flat_map(|namespace| entries(&namespace))
}

/// One sentence that names the channels among which to choose.
fn several<'a>(folder: &Path, places: impl Iterator<Item = &'a Path>) -> String {
    let names: Vec<String> =
        places.filter_map(|place| place.strip_prefix(folder).ok()).map(|name| name.display().to_string()).collect();
    format!("there are several channels: name one with --channel ({})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_a_channel_has_left_behind_is_left_out_and_the_others_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let place = folder.path().join("default").join(name);
            std::fs::create_dir_all(&place).unwrap();
            place.join(SOCKET)
        };
        let (gone, runs) = (place("gone"), place("support"));
        drop(UnixListener::bind(&gone).unwrap());
        assert!(gone.exists(), "nobody has taken it away");
        let of = |channel: Option<&str>| SocketArgs {
            data_dir: Some(folder.path().to_owned()),
            channel: channel.map(str::to_owned),
        };
        assert!(of(None).find_all().unwrap_err().starts_with("nobody answers in"));
        let _listener = UnixListener::bind(&runs).unwrap();
        assert_eq!(of(None).find_all().unwrap(), std::slice::from_ref(&runs));
        assert_eq!(of(None).find().unwrap(), runs);
        assert_eq!(of(Some("support")).find().unwrap(), runs);
        assert_eq!(of(None).find_only().unwrap(), runs);
        for name in ["stopped", "support"] {
            std::fs::write(place(name).with_file_name(STORE), "").unwrap();
        }
        let several = of(None).find_only().unwrap_err();
        assert!(several.contains("default/stopped") && several.contains("default/support"), "{several}");
        assert_eq!(of(Some("support")).find_only().unwrap(), runs);
        assert!(of(Some("gone")).find().unwrap_err().starts_with("nobody answers in"));
    }
}
