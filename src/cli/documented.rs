//! Every command line of the documents is one that the program takes.

use clap::Parser as _;
use std::path::{Path, PathBuf};

use super::Cli;

#[test]
fn every_command_in_the_documents_is_one_that_the_program_takes() {
    let mut refused = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for line in shell_lines(&std::fs::read_to_string(&page).expect("a page")) {
            for words in commands(&line) {
                seen += 1;
                if let Err(error) = Cli::try_parse_from(&words)
                    && error.use_stderr()
                {
                    refused.push(format!("{}: {line}\n{error}", page.display()));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(seen > 40, "only {seen} commands were found: has the form of the pages changed?");
}

fn pages() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md"), root.join("README.ru.md"), root.join("examples/rules/README.md")];
    below(&root.join("docs"), &mut found);
    found
}

/// The lines of fenced blocks without a language or of a shell, and those that are indented by
/// four; continued lines joined.
fn shell_lines(page: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut fence: Option<bool> = None;
    let mut continued = false;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                Some(_) => None,
                None => Some(matches!(language.trim(), "" | "sh" | "bash" | "console")),
            };
            continue;
        }
        if fence == Some(false) || (fence.is_none() && !line.starts_with("    ")) {
            continue;
        }
        let text = line.trim().trim_start_matches("$ ");
        match lines.last_mut().filter(|_| continued) {
            Some(last) => last.push_str(text.trim_end_matches('\\')),
            None => lines.push(text.trim_end_matches('\\').to_owned()),
        }
        continued = text.ends_with('\\');
    }
    lines
}

/// The words of each call of the program in a line, without what the shell takes for itself. Also
/// behind `kubectl exec … --`.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let end = |current: &mut Vec<String>, calls: &mut Vec<Vec<String>>| {
        let start = current.iter().position(|word| word == "maxchannel" || word == "/maxchannel");
        // The name alone may be an argument of something else, like a release of Helm.
        if let Some(start) = start.filter(|start| *start == 0 || current[start - 1] == "--") {
            calls.push(std::iter::once("maxchannel".to_owned()).chain(current[start + 1..].to_vec()).collect());
        }
        current.clear();
    };
    let mut redirected = false;
    for word in words(line) {
        match word.as_str() {
            "#" => break,
            "|" | "&&" | "||" | ";" | "&" => end(&mut current, &mut calls),
            ">" | "<" | ">>" => redirected = true,
            _ if redirected => redirected = false,
            _ => current.push(word),
        }
    }
    end(&mut current, &mut calls);
    calls
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut started = false;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                started = true;
            }
            (None, _) if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            _ => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}
