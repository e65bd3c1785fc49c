//! Files and folders with manifests, found and read on the disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// The most folders below each other; a link that leads back ends here.
const MAX_DEPTH: usize = 16;

const NOT_UTF8: &str = "it is not UTF-8: save it as UTF-8";

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {reason}", path = path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub reason: String,
}

/// The files meant by the paths: files as they are, and of folders everything below them that ends
/// in `.yaml`, `.yml` or `.json`. A folder that cannot be read is told beside them and hides no
/// other.
pub fn list(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<FileError>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            walk(path, 0, &mut files, &mut errors);
        } else {
            files.push(path.clone());
        }
    }
    (files, errors)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, errors: &mut Vec<FileError>) {
    let mut fails = |reason: String| errors.push(FileError { path: folder.to_owned(), reason });
    if depth > MAX_DEPTH {
        return fails(format!("more than {MAX_DEPTH} folders below each other: is there a link that leads back?"));
    }
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return fails(error.to_string()),
    };
    let mut entries: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = entry.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if hidden {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, depth + 1, files, errors);
        } else if manifest {
            files.push(entry);
        }
    }
}

/// The bytes of a regular file; anything else could wait for ever or never end.
///
/// # Errors
/// It is no regular file, cannot be read, or is longer than `most`.
pub fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let error = |reason: String| FileError { path: path.to_owned(), reason };
    let metadata = fs::metadata(path).map_err(|problem| error(problem.to_string()))?;
    if !metadata.is_file() {
        return Err(error("it is not a regular file".to_owned()));
    }
    let file = fs::File::open(path).map_err(|problem| error(problem.to_string()))?;
    bounded(file, most).map_err(error)
}

fn bounded(reader: impl io::Read, most: u64) -> Result<Vec<u8>, String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|problem| problem.to_string())?;
    if bytes.len() as u64 > most { Err(format!("it is longer than {most} bytes")) } else { Ok(bytes) }
}

/// The text of a pipe that somebody else writes to.
///
/// # Errors
/// It cannot be read, is too long, or is not UTF-8.
pub fn read_stream(path: &Path) -> Result<String, FileError> {
    let error = |reason: String| FileError { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(|problem| error(problem.to_string()))?;
    String::from_utf8(bounded(file, MAX_FILE).map_err(error)?).map_err(|_| error(NOT_UTF8.to_owned()))
}

/// The text of one regular file, or of stdin (`-`).
///
/// # Errors
/// It cannot be read, is too long, or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String, FileError> {
    let error = |reason: String| FileError { path: path.to_owned(), reason };
    let bytes = if path == Path::new("-") {
        bounded(io::stdin(), MAX_FILE).map_err(error)?
    } else {
        read_bytes(path, MAX_FILE)?
    };
    String::from_utf8(bytes).map_err(|_| error(NOT_UTF8.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_by_name_with_what_is_below_and_without_hidden_entries() {
        let folder = std::env::temp_dir().join(format!("maxchannel-files-{}", std::process::id()));
        fs::create_dir_all(folder.join("b/.hidden")).unwrap();
        for name in ["c.yml", "a.yaml", "b/x.json", "b/.hidden/y.yaml", ".z.yaml", "note.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let (found, errors) = list(&[folder.join("note.txt"), folder.clone()]);
        assert!(errors.is_empty());
        let names: Vec<_> = found.iter().map(|file| file.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["note.txt", "a.yaml", "b/x.json", "c.yml"]);
        fs::write(folder.join("a.yaml"), b"\xff").unwrap();
        assert!(
            read_file(&folder.join("a.yaml")).unwrap_err().to_string().ends_with("it is not UTF-8: save it as UTF-8")
        );
        assert!(read_file(&folder.join("missing.yaml")).unwrap_err().to_string().contains("missing.yaml"));
        fs::remove_dir_all(folder).unwrap();
    }
}
