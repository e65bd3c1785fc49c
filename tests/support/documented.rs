//! The shell blocks of the documents, run as they stand.
//!
//! Every block of every page is run by one of two stories, on one machine (`tests/run`) or in a
//! cluster (`tests/kubernetes`), but for the commands of `HELD`, which cannot be run here: of those
//! it is only checked that what they name is there. A block that no story runs fails its story. A
//! block of the language `text` right behind one is what it prints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Beginnings of commands that no test runs, and why.
pub const HELD: &[(&str, &str)] = &[
    ("docker ", "there is no container engine here: the story gives the node the image under the name that is pushed"),
    ("cargo install ", "a release is compiled for minutes: the story runs the same program, built for the tests"),
    ("make", "each target is minutes of CI, CI itself, or what tests/demo.rs plays"),
    ("sops ", "the program is in no registry that is reached from here"),
    ("open ", "it opens a browser; the page is looked at by tests/browser"),
    ("maxchannel creatio-install ", "our simulator takes no package; tests/creatio_contract runs the package itself"),
    ("kubectl --context ", "two clusters at once: tests/local/moving.rs moves between two installations"),
];

/// Beginnings of commands that go on until they are stopped.
const STAY: &[&str] = &["maxchannel run ", "maxchannel status --watch", "kubectl -n maxchannel port-forward "];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Clone, Debug)]
pub struct Block {
    /// Below the root of the repository.
    pub page: String,
    /// The how-manieth shell block of its page, from 1.
    pub number: usize,
    pub commands: Vec<String>,
    /// What it prints, where the page says it.
    pub output: Option<String>,
}

impl Block {
    pub fn is_for_a_cluster(&self) -> bool {
        let is_for_one = |command: &String| {
            command.starts_with("kubectl ")
                || command.starts_with("helm ")
                || command.contains(" --cluster")
                || command.contains("$(kubectl ")
        };
        self.commands.iter().any(is_for_one)
    }
}

pub fn held(command: &str) -> bool {
    HELD.iter().any(|(beginning, _)| command.starts_with(beginning))
}

/// Every page that people read. The references of other companies' interfaces have no commands.
pub fn pages() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    below(root(), &mut found);
    found.sort();
    found
}

/// A fenced block: its language, its text, the line behind it.
fn fences(text: &str) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            match open.take() {
                Some((language, text)) => found.push((language, text, number + 1)),
                None => open = Some((language.trim().to_owned(), String::new())),
            }
        } else if let Some((_, text)) = &mut open {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

/// The first block of a language on a page that holds some words.
pub fn text_of(page: &str, language: &str, words: &str) -> String {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let found = fences(&text).into_iter().find(|(own, text, _)| own == language && text.contains(words));
    found.unwrap_or_else(|| panic!("{page} has no block of {language} with {words}")).1
}

pub fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        let page = page.display().to_string();
        let lines: Vec<&str> = text.lines().collect();
        let mut number = 0;
        let fences = fences(&text);
        for (index, (language, text, end)) in fences.iter().enumerate() {
            let known = ["sh", "text", "yaml", "json", "toml", "rust", "csharp", "sql", "lua", "http"];
            assert!(known.contains(&language.as_str()), "{page}:{end}: say of what language the block above is");
            if language != "sh" {
                continue;
            }
            number += 1;
            // Only an empty line may be between a block and what it prints.
            let output = fences.get(index + 1).filter(|(language, text, behind)| {
                let begin = behind - text.lines().count() - 2;
                language == "text" && lines[*end..begin].iter().all(|line| line.trim().is_empty())
            });
            let output = output.map(|(_, text, _)| text.clone());
            blocks.push(Block { page: page.clone(), number, commands: commands(text), output });
        }
    }
    blocks
}

/// The commands of a block: continued lines joined, comments left out.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continued = false;
    for line in text.lines() {
        let line = line.trim();
        let line = if line.starts_with('#') { "" } else { line.split("  #").next().unwrap().trim_end() };
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part.trim_end(), true));
        match commands.last_mut().filter(|_| continued) {
            Some(last) => *last = format!("{last} {part}"),
            None if part.is_empty() => {}
            None => commands.push(part.to_owned()),
        }
        continued = goes_on;
    }
    commands
}

/// Where the blocks are run: a folder, as a person has one open.
pub struct Story {
    pub folder: PathBuf,
    /// What is put in the place of addresses and paths that are a company's or the machine's own.
    pub instead: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
    for_a_cluster: bool,
    ran: BTreeSet<String>,
    stays: Vec<(String, Child)>,
}

impl Drop for Story {
    fn drop(&mut self) {
        for (_, child) in &mut self.stays {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Story {
    /// `folder` gets `bin`, first on the path, with the program in it.
    pub fn new(folder: &Path, for_a_cluster: bool) -> Self {
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_maxchannel"), bin.join("maxchannel")).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let home = folder.display().to_string();
        let environment = [("PATH", path), ("HOME", home), ("LANG", "C".to_owned())];
        Self {
            folder: folder.to_owned(),
            instead: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            for_a_cluster,
            ran: BTreeSet::new(),
            stays: Vec::new(),
        }
    }

    /// Runs a block of a page; each command must succeed, and print what the page says.
    pub fn run(&mut self, page: &str, number: usize) {
        let blocks = blocks();
        let block = blocks.iter().find(|block| block.page == page && block.number == number);
        let block = block.unwrap_or_else(|| panic!("{page} has no shell block {number}"));
        let mut printed = String::new();
        for command in block.commands.iter().filter(|command| !held(command)) {
            // What is there already is not made a second time.
            let is_once = command.starts_with("helm install") || command.starts_with("ln -s");
            if self.ran.insert(command.clone()) || !is_once {
                printed += &self.command(page, command);
            }
        }
        if let Some(expected) = &block.output {
            says(&printed, expected).unwrap_or_else(|line| {
                panic!("{page}, block {number}: this line is not printed: {line}\nPrinted:\n{printed}")
            });
        }
    }

    /// A command of the story itself, which no page has.
    pub fn also(&mut self, command: &str) -> String {
        self.command("between the pages", command)
    }

    fn command(&mut self, page: &str, command: &str) -> String {
        let text = self.instead.iter().fold(command.to_owned(), |text, (from, to)| text.replace(from, to));
        let stays = STAY.iter().any(|beginning| command.starts_with(beginning));
        // One process, which is then the one that is stopped.
        let script = if stays { format!("exec {text}") } else { text.clone() };
        let mut shell = Command::new("bash");
        shell.args(["-euc", &script]).current_dir(&self.folder);
        shell.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        if stays {
            let log = std::fs::File::create(self.log_of(command)).unwrap();
            let child = shell.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
            self.stays.push((command.to_owned(), child));
            return String::new();
        }
        let output = shell.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{page}: {text}\nends with {}: {printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Where what a command prints goes that stays.
    pub fn log_of(&self, command: &str) -> PathBuf {
        let name: String = command.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
        self.folder.join(format!("{name}.log"))
    }

    /// Stops, as Ctrl-C does, what the last block has left running. It must be running still, and
    /// have printed something.
    pub fn stop(&mut self) {
        for (command, mut child) in std::mem::take(&mut self.stays) {
            let log = std::fs::read_to_string(self.log_of(&command)).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && !log.is_empty(), "{command} has ended by itself ({ended:?}): {log}");
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
            child.wait().unwrap();
        }
    }

    /// Every block of this kind must have been run, word for word.
    pub fn assert_whole(&self) {
        let mut left = Vec::new();
        // The same page in the other language has the same commands, which another test sees.
        for block in blocks().iter().filter(|block| !block.page.ends_with(".en.md")) {
            if block.is_for_a_cluster() == self.for_a_cluster {
                let new = block.commands.iter().filter(|one| !held(one) && !self.ran.contains(*one));
                left.extend(new.map(|command| format!("{}, block {}: {command}", block.page, block.number)));
            }
        }
        assert!(left.is_empty(), "nothing runs these commands of the documents:\n{}", left.join("\n"));
    }
}

/// Whether the lines are printed in that order; `…` stands for anything, blanks for blanks.
fn says(printed: &str, expected: &str) -> Result<(), String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = printed.lines().map(words);
    for line in expected.lines().map(words).filter(|line| !line.is_empty() && line != "…") {
        let parts: Vec<&str> = line.split('…').collect();
        let fits = |printed: &String| {
            let mut rest = printed.as_str();
            for (index, part) in parts.iter().enumerate() {
                match rest.find(part) {
                    Some(0) => rest = &rest[part.len()..],
                    Some(at) if index > 0 => rest = &rest[at + part.len()..],
                    _ => return false,
                }
            }
            rest.is_empty() || parts.last().is_some_and(|last| last.is_empty())
        };
        if !lines.any(|printed| fits(&printed)) {
            return Err(line);
        }
    }
    Ok(())
}

/// `channel.yaml` and `secrets.yaml` of the first steps, with the addresses and the secrets of a
/// company.
pub fn manifests(crm: &str, identity: &str, secrets: &[(&str, &str)]) -> (String, String) {
    let channel = text_of("docs/start.md", "yaml", "kind: MaxChannel")
        .replace("https://acme.creatio.com", crm)
        .replace("https://acme-is.creatio.com", identity);
    let mut text = text_of("docs/start.md", "yaml", "kind: Secret");
    for (key, value) in secrets {
        let empty = format!("{key}: \"…\"");
        assert!(text.contains(&empty), "docs/start.md has no {key} to fill in");
        text = text.replace(&empty, &format!("{key}: \"{value}\""));
    }
    assert!(!text.contains('…'), "something is left to fill in: {text}");
    (channel, text)
}
