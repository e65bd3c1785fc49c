//! The manifests that a command line names.

use std::path::PathBuf;

use crate::api::manifest::Manifests;
pub(super) use crate::local::disk::read_file;
use crate::local::disk::{FileError, list};

/// The manifests of files, of folders with everything below them (`.yaml`, `.yml`, `.json`, hidden entries left out), and of stdin
/// (`-`). Files are read in the order given, those of a folder by name.
pub fn read(paths: &[PathBuf]) -> Result<Manifests, FileError> {
    let mut manifests = Manifests::default();
    for file in list(paths)? {
        let text = read_file(&file)?;
        manifests.add(&file.display().to_string(), &text);
    }
    Ok(manifests)
}
