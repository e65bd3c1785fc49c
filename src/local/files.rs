//! The manifests of one machine: files and folders, read again every second.
//!
//! What stands in a file counts until the file says something else. A file that is broken or
//! half-written keeps what it said before, and what is wrong is told with file and line. What has
//! vanished counts for [`GRACE`] more, because editors and git replace files by taking them away
//! for a moment; after that it is gone here, and nothing is changed outside. A file or folder that
//! is there and cannot be read (no right, no file handle left) says nothing: whatever stood below
//! it still counts.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::disk;
use crate::api::ChannelRef;
use crate::api::manifest::{ChannelManifest, Manifests, SecretManifest};
use crate::channel::validate::Secrets;
use crate::time::Millis;

/// How long a manifest that has vanished still counts, milliseconds.
pub const GRACE: Millis = 5_000;

/// A manifest, and whether it stands in the files now.
#[derive(Clone, Debug)]
struct Kept<T> {
    manifest: T,
    /// Place among all manifests when it was last read.
    place: usize,
    /// It stands there, or its file is broken and keeps what it said before.
    present: bool,
    /// When it was last present.
    seen: Millis,
}

/// The files and what they said last.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    hash: Option<u64>,
    channels: BTreeMap<ChannelRef, Kept<ChannelManifest>>,
    secrets: BTreeMap<ChannelRef, Kept<SecretManifest>>,
    problems: Vec<Problem>,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub file: String,
    /// One sentence with file and line.
    pub sentence: String,
}

/// What counts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In the order of the files.
    pub channels: Vec<ChannelManifest>,
    /// By namespace.
    pub secrets: BTreeMap<String, Secrets>,
    pub problems: Vec<Problem>,
}

impl Files {
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, hash: None, channels: BTreeMap::new(), secrets: BTreeMap::new(), problems: Vec::new() }
    }

    /// Reads again; a snapshot comes back where anything has changed since the last one.
    pub fn poll(&mut self, now: Millis) -> Option<Snapshot> {
        let Found { texts, problems, unreadable } = read(&self.paths);
        let mut hasher = DefaultHasher::new();
        (&texts, &problems).hash(&mut hasher);
        let hash = hasher.finish();
        let changed = self.hash.replace(hash) != Some(hash);
        if changed {
            self.take(&texts, problems, &unreadable);
        }
        let forgotten = forget(&mut self.channels, now) | forget(&mut self.secrets, now);
        (changed || forgotten).then(|| self.snapshot())
    }

    fn take(&mut self, texts: &[(String, String)], mut problems: Vec<Problem>, unreadable: &[PathBuf]) {
        let mut manifests = Manifests::default();
        for (file, text) in texts {
            manifests.add(file, text);
        }
        problems.extend(
            manifests.errors.iter().map(|note| Problem { file: note.place.file.clone(), sentence: note.to_string() }),
        );
        let broken: BTreeSet<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
        let broken =
            |file: &str| broken.contains(file) || unreadable.iter().any(|folder| Path::new(file).starts_with(folder));
        merge(&mut self.channels, manifests.channels, &broken, |one| (&one.namespace, &one.name, &one.source.file));
        merge(&mut self.secrets, manifests.secrets, &broken, |one| (&one.namespace, &one.name, &one.source.file));
        self.problems = problems;
    }

    fn snapshot(&self) -> Snapshot {
        let mut channels: Vec<&Kept<ChannelManifest>> = self.channels.values().collect();
        channels.sort_by_key(|kept| kept.place);
        let mut secrets: BTreeMap<String, Secrets> = BTreeMap::new();
        for kept in self.secrets.values() {
            let secret = &kept.manifest;
            secrets.entry(secret.namespace.clone()).or_default().insert(secret.name.clone(), secret.data.clone());
        }
        Snapshot {
            channels: channels.into_iter().map(|kept| kept.manifest.clone()).collect(),
            secrets,
            problems: self.problems.clone(),
        }
    }
}

fn merge<T>(
    kept: &mut BTreeMap<ChannelRef, Kept<T>>,
    read: Vec<T>,
    broken: &impl Fn(&str) -> bool,
    name: impl Fn(&T) -> (&String, &String, &String),
) {
    for one in kept.values_mut() {
        one.present = broken(name(&one.manifest).2.as_str());
    }
    for (place, manifest) in read.into_iter().enumerate() {
        let (namespace, called, _) = name(&manifest);
        let key = ChannelRef::new(namespace.clone(), called.clone());
        // The time is set by the reading that follows.
        kept.insert(key, Kept { manifest, place, present: true, seen: Millis::MIN });
    }
}

/// Drops what has been missing for too long; true where that was anything.
fn forget<T>(kept: &mut BTreeMap<ChannelRef, Kept<T>>, now: Millis) -> bool {
    let before = kept.len();
    kept.retain(|_, one| {
        if one.present {
            one.seen = now;
        }
        now - one.seen < GRACE
    });
    kept.len() != before
}

/// What one reading of the disk has found.
#[derive(Default)]
struct Found {
    /// By the names of the files.
    texts: Vec<(String, String)>,
    problems: Vec<Problem>,
    /// Files and folders that are there, but nobody knows what stands in them.
    unreadable: Vec<PathBuf>,
}

fn read(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        // One by one, so that a path that cannot be read hides no other.
        let (files, errors) = disk::list(std::slice::from_ref(path));
        for error in errors {
            found.problems.push(Problem { file: error.path.display().to_string(), sentence: error.to_string() });
            found.unreadable.push(error.path);
        }
        for file in files {
            let name = file.display().to_string();
            match disk::read_file(&file) {
                Ok(text) => found.texts.push((name, text)),
                Err(error) => {
                    found.problems.push(Problem { file: name, sentence: error.to_string() });
                    // A folder that has vanished looks like a file that has.
                    if !std::fs::symlink_metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                        found.unreadable.push(file);
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: bot}\nstringData: {token: one}\n";

    fn channel(name: &str) -> String {
        format!("apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {{name: {name}}}\nspec: {{}}\n")
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        snapshot.channels.iter().map(|channel| channel.name.clone()).collect()
    }

    #[test]
    fn a_broken_or_vanished_file_keeps_what_it_said_and_only_a_lasting_loss_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        fs::write(&first, format!("{}---\n{SECRET}", channel("one"))).unwrap();
        fs::write(&second, channel("two")).unwrap();
        let mut files = Files::new(vec![folder.path().to_owned()]);

        let snapshot = files.poll(0).unwrap();
        assert_eq!(names(&snapshot), ["one", "two"]);
        assert!(snapshot.secrets["default"]["bot"].contains_key("token"));
        assert!(files.poll(1_000).is_none(), "nothing has changed");

        fs::write(&first, "apiVersion: [\n").unwrap();
        let snapshot = files.poll(2_000).unwrap();
        assert_eq!(names(&snapshot), ["one", "two"], "a broken file keeps its channels");
        assert!(snapshot.secrets["default"].contains_key("bot"), "and its secrets");
        assert!(snapshot.problems[0].sentence.contains("a.yaml:2: "), "{:?}", snapshot.problems);
        assert!(files.poll(60_000).is_none(), "however long it stays broken");

        fs::remove_file(&second).unwrap();
        assert_eq!(names(&files.poll(61_000).unwrap()), ["one", "two"], "a file may be missing for a moment");
        fs::write(&second, channel("two")).unwrap();
        assert_eq!(names(&files.poll(63_000).unwrap()), ["one", "two"]);
        fs::remove_file(&second).unwrap();
        assert_eq!(names(&files.poll(64_000).unwrap()), ["one", "two"]);
        assert!(files.poll(63_000 + GRACE - 1).is_none());
        assert_eq!(names(&files.poll(64_000 + GRACE).unwrap()), ["one"], "what stays away is gone");

        fs::write(&first, channel("one")).unwrap();
        files.poll(70_000).unwrap();
        let snapshot = files.poll(70_000 + GRACE).unwrap();
        assert!(snapshot.secrets.is_empty(), "a Secret taken out of a whole file is gone");
        assert_eq!(snapshot.problems, []);
    }

    /// As where the process has no file handle left, or somebody has taken the right to read away.
    #[test]
    fn a_folder_that_cannot_be_read_changes_nothing_however_long_that_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let (above, below) = (folder.path().join("channels"), folder.path().join("channels/below"));
        fs::create_dir_all(&below).unwrap();
        fs::write(above.join("a.yaml"), format!("{}---\n{SECRET}", channel("one"))).unwrap();
        fs::write(below.join("b.yaml"), channel("two")).unwrap();
        let mut files = Files::new(vec![above.clone()]);
        assert_eq!(names(&files.poll(0).unwrap()), ["one", "two"]);
        // Links that lead back cannot be listed, whoever asks: not even root can.
        std::os::unix::fs::symlink(&below, below.join("again")).unwrap();
        let snapshot = files.poll(1_000).unwrap();
        assert!(!snapshot.problems.is_empty());
        assert_eq!(names(&snapshot), ["one", "two"]);
        assert!(files.poll(1_000 + 10 * GRACE).is_none(), "its manifests were given up");
        fs::remove_file(below.join("again")).unwrap();
        assert_eq!(names(&files.poll(100_000).unwrap()), ["one", "two"]);
        // One that is gone is gone.
        fs::remove_dir_all(&above).unwrap();
        files.poll(101_000).unwrap();
        assert!(names(&files.poll(101_000 + GRACE).unwrap()).is_empty());
    }
}
