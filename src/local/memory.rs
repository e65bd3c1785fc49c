//! What the runner remembers over restarts: of a channel, in its own folder, its bot, so that a
//! restart while MAX is away still relays, and whose the bot is; of the data folder the
//! installation's id, and a lock, so that two runners never share a store.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::api::ChannelRef;
use crate::channel::plan::KnownBot;
use crate::channel::reconciler::Standing;
use crate::contract::InstallationId;

const BOT: &str = "bot.json";
const STANDING: &str = "standing.json";
/// In the data folder, not in a channel's: what is copied to another machine with a channel is not
/// who we are.
const INSTALLATION: &str = "installation";

/// A channel's folder.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    #[must_use]
    pub fn of(data_dir: &Path, channel: &ChannelRef) -> Self {
        Self { folder: data_dir.join(&channel.namespace).join(&channel.name) }
    }

    /// The folder, which is made where it is not there.
    ///
    /// # Errors
    /// One sentence.
    pub fn folder(&self) -> Result<&Path, String> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", self.folder.display()))?;
        Ok(&self.folder)
    }

    /// The bot that this channel had; none for a new channel, or where the file cannot be read.
    #[must_use]
    pub fn bot(&self) -> Option<KnownBot> {
        let path = self.folder.join(BOT);
        let text = fs::read(&path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!("{} is not understood and left aside: {error}", path.display()))
            .ok()
    }

    /// Puts the store of a former bot into a folder of its own beside; none where there was no
    /// store.
    ///
    /// # Errors
    /// One sentence.
    pub fn set_aside(&self, former: i64) -> Result<Option<PathBuf>, String> {
        let folder = self.folder()?;
        crate::relay::set_aside(folder, former)
            .map_err(|error| format!("the store of bot {former} cannot be set aside in {}: {error}", folder.display()))
    }

    /// Remembers the bot: whole or not at all, whenever the power fails.
    ///
    /// # Errors
    /// One sentence.
    pub fn keep_bot(&self, bot: &KnownBot) -> Result<(), String> {
        let folder = self.folder()?;
        serde_json::to_vec(bot)
            .map_err(io::Error::from)
            .and_then(|text| write(folder, BOT, &text))
            .map_err(|error| format!("the bot cannot be remembered in {}: {error}", folder.display()))
    }

    /// Whose the bot was when it was seen last.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let path = self.folder.join(STANDING);
        let Ok(text) = fs::read(&path) else { return Standing::default() };
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!("{} is not understood and left aside: {error}", path.display()))
            .unwrap_or_default()
    }

    /// Remembers whose the bot is.
    ///
    /// # Errors
    /// One sentence.
    pub fn keep_standing(&self, standing: &Standing) -> Result<(), String> {
        let folder = self.folder()?;
        serde_json::to_vec(standing)
            .map_err(io::Error::from)
            .and_then(|text| write(folder, STANDING, &text))
            .map_err(|error| format!("whose the bot is cannot be remembered in {}: {error}", folder.display()))
    }
}

/// Writes a file whole or not at all.
fn write(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    io::Write::write_all(&mut file, text)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// The id of the installation that this data folder is, made the first time.
///
/// # Errors
/// One sentence.
pub fn installation_id(data_dir: &Path) -> Result<String, String> {
    if let Some(id) = known_installation_id(data_dir)? {
        return Ok(id);
    }
    let id = uuid::Uuid::new_v4().to_string();
    fs::create_dir_all(data_dir)
        .and_then(|()| write(data_dir, INSTALLATION, format!("{id}\n").as_bytes()))
        .map_err(|error| format!("the installation's id cannot be kept in {}: {error}", data_dir.display()))?;
    Ok(id)
}

/// The id of the installation that this data folder is; none where nothing has run in it.
///
/// # Errors
/// One sentence.
pub fn known_installation_id(data_dir: &Path) -> Result<Option<String>, String> {
    let path = data_dir.join(INSTALLATION);
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => {
            InstallationId::given(&text)
                .map_err(|error| format!("{}: {error}; a lost id is given by --installation-id", path.display()))?;
            Ok(Some(text.trim().to_owned()))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("the installation's id in {} cannot be read: {error}", path.display()))
        }
        _ => Ok(None),
    }
}

/// The data folder, held by one process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// The folder cannot be written, or another process holds it.
    pub fn take(data_dir: &Path) -> Result<Self, String> {
        fs::create_dir_all(data_dir).map_err(|error| error.to_string())?;
        let file = File::create(data_dir.join("lock")).map_err(|error| error.to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err("another maxchannel uses it; stop that one, or give another folder with --data-dir".to_owned())
            }
            Err(TryLockError::Error(error)) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_is_remembered_and_a_data_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::of(folder.path(), &ChannelRef::new("crm", "support"));
        assert_eq!(memory.bot(), None);
        let bot =
            KnownBot { user_id: 254_700_011, username: Some("id77_bot".to_owned()), name: "Служба".to_owned() };
        memory.keep_bot(&bot).unwrap();
        assert_eq!(memory.bot(), Some(bot));
        fs::write(folder.path().join("crm/support/bot.json"), "{").unwrap();
        assert_eq!(memory.bot(), None, "a broken file is as none");

        assert_eq!(known_installation_id(folder.path()), Ok(None), "who only looks makes none");
        let id = installation_id(folder.path()).unwrap();
        assert_eq!(known_installation_id(folder.path()), Ok(Some(id)));

        assert_eq!(memory.set_aside(7).unwrap(), None, "there is no store yet");
        for _ in 0..2 {
            fs::write(folder.path().join("crm/support/relay.db"), "store").unwrap();
            fs::write(folder.path().join("crm/support/relay.db-wal"), "log").unwrap();
            let aside = memory.set_aside(7).unwrap().unwrap();
            assert!(aside.join("relay.db").exists() && aside.join("relay.db-wal").exists());
            assert!(!folder.path().join("crm/support/relay.db").exists());
        }

        let held = Lock::take(folder.path()).unwrap();
        assert!(Lock::take(folder.path()).unwrap_err().contains("another maxchannel"));
        drop(held);
        Lock::take(folder.path()).unwrap();
    }
}
