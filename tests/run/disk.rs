//! A disk as it may be after a power cut: what a program wrote under `strace`, and of that what had
//! been synced for certain, with any part of the rest.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The calls that are recorded.
pub const CALLS: &str = "trace=openat,close,accept4,pwrite64,write,writev,sendto,recvfrom,read,fsync,fdatasync,\
                         ftruncate,unlink,unlinkat,rename,renameat";

/// What the program did, in its order.
#[derive(Debug)]
pub enum Event {
    Created(PathBuf),
    Wrote {
        file: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncated {
        file: PathBuf,
        length: usize,
    },
    Removed(PathBuf),
    /// A file or a folder is on the disk.
    Synced(PathBuf),
    /// It began to answer 200 to what had come in by that connection, or to send it.
    Answered(String),
    Sent(String),
}

/// Reads the recording of a program; `folder` is what of the disk is of interest.
pub fn events(recording: &str, folder: &Path) -> Vec<Event> {
    let mut reader = Reader { folder, ..Reader::default() };
    let mut begun: HashMap<&str, String> = HashMap::new();
    for line in recording.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            reader.begins(start);
            begun.insert(process, start.to_owned());
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let Some(start) = begun.remove(process) else { continue };
            let Some((_, rest)) = rest.split_once(" resumed>") else { continue };
            reader.ends(&format!("{start}{rest}"));
        } else {
            reader.begins(call);
            reader.ends(call);
        }
    }
    reader.events
}

struct Reader<'a> {
    folder: &'a Path,
    events: Vec<Event>,
    /// Files by their number.
    files: HashMap<u32, PathBuf>,
    /// How far each was written by calls that name no place.
    ends: HashMap<u32, usize>,
    /// What came in by a connection since the last answer.
    heard: HashMap<u32, Vec<u8>>,
}

impl Default for Reader<'_> {
    fn default() -> Self {
        Self {
            folder: Path::new("/"),
            events: Vec::new(),
            files: HashMap::new(),
            ends: HashMap::new(),
            heard: HashMap::new(),
        }
    }
}

impl Reader<'_> {
    /// What counts from the moment in which it begins: it may have happened in part.
    fn begins(&mut self, call: &str) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        match name {
            "pwrite64" | "write" | "writev" | "sendto" => {
                let (Some(number), bytes) = (number(arguments), strings(arguments).concat()) else { return };
                if let Some(file) = self.files.get(&number) {
                    let at = if name == "pwrite64" {
                        let place = arguments.split(") = ").next().and_then(|text| text.rsplit(", ").next());
                        place.and_then(|text| text.trim_end_matches(')').parse().ok()).expect("a place in the file")
                    } else {
                        let end = self.ends.entry(number).or_default();
                        *end += bytes.len();
                        *end - bytes.len()
                    };
                    self.events.push(Event::Wrote { file: file.clone(), at, bytes });
                } else {
                    self.said(number, &bytes);
                }
            }
            "ftruncate" => {
                let file = number(arguments).and_then(|number| self.files.get(&number));
                if let Some(file) = file {
                    let length = arguments.split(", ").nth(1).expect("a length");
                    let length = length.split(')').next().and_then(|text| text.parse().ok()).expect("a length");
                    self.events.push(Event::Truncated { file: file.clone(), length });
                }
            }
            "unlink" | "unlinkat" => {
                let path = path(arguments);
                if self.is_of_interest(&path) {
                    self.events.push(Event::Removed(path));
                }
            }
            "rename" | "renameat" => {
                let moves = strings(arguments)
                    .iter()
                    .any(|path| self.is_of_interest(Path::new(&*String::from_utf8_lossy(path))));
                assert!(!moves, "a file of the store is renamed, which is not played here: {call}");
            }
            _ => {}
        }
    }

    /// What counts once it has ended.
    fn ends(&mut self, call: &str) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        let result: i64 = call.rsplit(" = ").next().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(-1);
        if result < 0 {
            return;
        }
        match name {
            "openat" => {
                let opened = u32::try_from(result).expect("a number");
                let path = path(arguments);
                self.files.remove(&opened);
                if path.starts_with(self.folder) {
                    if arguments.contains("O_CREAT") && self.is_of_interest(&path) {
                        self.events.push(Event::Created(path.clone()));
                    }
                    self.ends.insert(opened, 0);
                    self.files.insert(opened, path);
                }
            }
            "accept4" => {
                let opened = u32::try_from(result).expect("a number");
                self.files.remove(&opened);
                self.heard.insert(opened, Vec::new());
            }
            "close" => {
                if let Some(closed) = number(arguments) {
                    self.files.remove(&closed);
                    self.heard.remove(&closed);
                }
            }
            "recvfrom" | "read" => {
                if let Some(heard) = number(arguments).and_then(|number| self.heard.get_mut(&number)) {
                    heard.extend(strings(arguments).concat());
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(file) = number(arguments).and_then(|number| self.files.get(&number)) {
                    self.events.push(Event::Synced(file.clone()));
                }
            }
            _ => {}
        }
    }

    fn said(&mut self, number: u32, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        match self.heard.get_mut(&number) {
            Some(heard) => {
                let heard = String::from_utf8_lossy(&std::mem::take(heard)).into_owned();
                if text.starts_with("HTTP/1.1 200") {
                    self.events.push(Event::Answered(heard));
                }
            }
            None => self.events.push(Event::Sent(text)),
        }
    }

    fn is_of_interest(&self, path: &Path) -> bool {
        path.starts_with(self.folder)
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("relay.db"))
    }
}

fn number(arguments: &str) -> Option<u32> {
    let end = arguments.find(|c: char| !c.is_ascii_digit())?;
    arguments[..end].parse().ok()
}

fn path(arguments: &str) -> PathBuf {
    strings(arguments)
        .first()
        .map(|bytes| PathBuf::from(String::from_utf8_lossy(bytes).into_owned()))
        .unwrap_or_default()
}

/// The strings of a call, which strace writes byte by byte: `"\x2f\x61"`.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let read = |text: &str| {
        let bytes = text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).expect("two digits"));
        bytes.collect()
    };
    arguments.split('"').skip(1).step_by(2).map(read).collect()
}

/// One file.
#[derive(Clone, Debug, Default)]
struct File {
    /// What is on the disk for certain.
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Its folder knows it for certain, or that it is gone.
    is_linked: bool,
    is_removed: bool,
}

#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// The files of the store as far as the recording goes.
#[derive(Debug)]
pub struct Disk {
    files: HashMap<PathBuf, File>,
    /// No sync counts: as if the program made none.
    never_syncs: bool,
}

impl Disk {
    pub fn new(never_syncs: bool) -> Self {
        Self { files: HashMap::new(), never_syncs }
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Created(path) => {
                let file = self.files.entry(path.clone()).or_default();
                if file.is_removed {
                    *file = File::default();
                }
            }
            Event::Wrote { file, at, bytes } => {
                if let Some(file) = self.files.get_mut(file) {
                    file.pending.push(Pending::Write(*at, bytes.clone()));
                }
            }
            Event::Truncated { file, length } => {
                if let Some(file) = self.files.get_mut(file) {
                    file.pending.push(Pending::Length(*length));
                }
            }
            Event::Removed(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    (file.is_removed, file.is_linked) = (true, false);
                }
            }
            Event::Synced(_) if self.never_syncs => {}
            Event::Synced(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    for pending in std::mem::take(&mut file.pending) {
                        put(&mut file.durable, &pending, |_| true);
                    }
                } else {
                    // A folder.
                    for (_, file) in self.files.iter_mut().filter(|(file, _)| file.parent() == Some(path)) {
                        file.is_linked = true;
                    }
                }
            }
            Event::Answered(_) | Event::Sent(_) => {}
        }
    }

    /// The files as they may be when the power goes now.
    pub fn cut(&self, random: &mut impl FnMut(u64) -> u64) -> Vec<(PathBuf, Vec<u8>)> {
        let mut left = Vec::new();
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(path, _)| (*path).clone());
        for (path, file) in files {
            let is_there = if file.is_linked { !file.is_removed } else { random(2) == 0 };
            if !is_there {
                continue;
            }
            let mut bytes = file.durable.clone();
            let sector = if random(2) == 0 { 512 } else { 4096 };
            match random(5) {
                // Nothing of what was not synced, or all of it.
                0 => {}
                1 => file.pending.iter().for_each(|pending| put(&mut bytes, pending, |_| true)),
                // Up to some write, of which the first sectors.
                2 => {
                    let whole = usize::try_from(random(file.pending.len() as u64 + 1)).unwrap();
                    file.pending[..whole].iter().for_each(|pending| put(&mut bytes, pending, |_| true));
                    if let Some(torn) = file.pending.get(whole) {
                        let until = random(9);
                        put(&mut bytes, torn, |place| (place / sector) as u64 <= until);
                    }
                }
                // Any sectors in any order.
                3 => {
                    for pending in &file.pending {
                        let chosen = random(u64::MAX);
                        put(&mut bytes, pending, |place| chosen >> ((place / sector) % 61) & 1 == 1);
                    }
                }
                // The file has grown, and nothing stands there.
                _ => {
                    for pending in &file.pending {
                        if let Pending::Write(at, written) = pending
                            && bytes.len() < at + written.len()
                        {
                            bytes.resize(at + written.len(), 0);
                        }
                    }
                }
            }
            left.push((path.clone(), bytes));
        }
        left
    }
}

/// What of a change gets onto the disk: the bytes at these places.
fn put(file: &mut Vec<u8>, pending: &Pending, is_written: impl Fn(usize) -> bool) {
    match pending {
        Pending::Length(length) => file.resize(*length, 0),
        Pending::Write(at, bytes) => {
            for (place, byte) in (*at..).zip(bytes).filter(|(place, _)| is_written(*place)) {
                if file.len() <= place {
                    file.resize(place + 1, 0);
                }
                file[place] = *byte;
            }
        }
    }
}
