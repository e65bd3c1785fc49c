//! The package MaxChannel that is installed into Creatio, made from its sources:
//! `maxchannel creatio-package`.
//!
//! Owns: what the package is called and holds ([`definition`]), the vendor's forms of it
//! ([`metadata`]), the archives ([`archive`]) and the reader that checks what was written
//! ([`difference`]). Pure: no file, no clock, no network.
//!
//! Invariants: the same program makes the same bytes; every id is the same for ever; no binary of
//! ours or of the vendor's is in the package, the site compiles the sources. Must not install
//! anything: that is `creatio`'s.

pub mod archive;
pub mod definition;
pub mod difference;
mod metadata;

#[cfg(test)]
mod tests;

pub use definition::{NAME, VERSION};

/// One file of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// With `/` between folders.
    pub path: String,
    pub content: Vec<u8>,
}

/// How the site compiles the package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Into a library of its own: an error of ours stops nobody else's code. For sites from 8.1 on.
    #[default]
    Assembly,
    /// Into the site's one library of configuration, for sites that cannot do the other.
    Simple,
}

/// The archive's name; the site calls the application after it, so it stays the same for ever.
#[must_use]
pub fn archive_name(zip: bool) -> String {
    format!("{NAME}.{}", if zip { "zip" } else { "gz" })
}

/// All files of the package in their order.
#[must_use]
pub fn files(form: Form) -> Vec<File> {
    let mut files = vec![metadata::descriptor(form == Form::Assembly)];
    if form == Form::Assembly {
        files.extend(metadata::project());
    }
    files.extend(definition::objects().iter().flat_map(metadata::object));
    files.extend(definition::SOURCES.iter().flat_map(metadata::source));
    files.extend(definition::bindings().iter().flat_map(metadata::binding));
    // Folder by folder, as archives of the vendor are.
    let rank = |file: &File| match file.path.split('/').next() {
        Some("Files") => 1,
        Some("Schemas") => 2,
        Some("Resources") => 3,
        Some("Data") => 4,
        _ => 0,
    };
    files.sort_by_key(rank);
    files
}

/// The package as the `.gz` that a site installs.
///
/// # Errors
/// Never in practice: everything happens in memory.
pub fn package(form: Form) -> std::io::Result<Vec<u8>> {
    archive::pack(&files(form))
}

/// Whether a version that a site answers is older than the one that this program installs. A
/// version that is none of numbers and dots is not judged.
#[must_use]
pub fn is_older(version: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<u32>>>();
    numbers(version).is_some_and(|own| numbers(VERSION).is_some_and(|ours| own < ours))
}
