//! The manifests that a command line names.

use std::path::{Path, PathBuf};

use crate::api::manifest::Manifests;
pub(super) use crate::local::disk::{FileError, read_bytes, read_file};
use crate::local::disk::{list, read_stream};

/// The manifests of files, of folders with everything below them (`.yaml`, `.yml`, `.json`, hidden
/// entries left out), and of stdin (`-`), and what could not be read. Files are read in the order
/// given, those of a folder by name.
pub fn read(paths: &[PathBuf]) -> (Manifests, Vec<FileError>) {
    let mut manifests = Manifests::default();
    let (files, mut errors) = list(paths);
    for file in files {
        let text = if is_stream(&file) { read_stream(&file) } else { read_file(&file) };
        match text {
            Ok(text) => manifests.add(&file.display().to_string(), &text),
            Err(error) => errors.push(error),
        }
    }
    (manifests, errors)
}

/// What a shell gives for `<(kustomize build)`: somebody writes there already.
fn is_stream(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path == Path::new("/dev/stdin")
}

/// The manifests, where all of them could be read.
///
/// # Errors
/// What could not be read, one sentence each.
pub fn read_all(paths: &[PathBuf]) -> Result<Manifests, String> {
    let (manifests, errors) = read(paths);
    let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if sentences.is_empty() { Ok(manifests) } else { Err(sentences.join("; ")) }
}
