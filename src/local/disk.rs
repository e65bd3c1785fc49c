//! Files and folders with manifests, found and read on the disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// The most folders below each other; a link that leads back ends here.
const MAX_DEPTH: usize = 16;

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {reason}", path = path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub reason: String,
}

/// The files meant by the paths: files as they are, and of folders everything below them that ends in `.yaml`, `.yml` or `.json`.
///
/// # Errors
/// A folder cannot be read.
pub fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let error = |reason: String| FileError { path: folder.to_owned(), reason };
    if depth > MAX_DEPTH {
        return Err(error(format!("more than {MAX_DEPTH} folders below each other: is there a link that leads back?")));
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries: Vec<PathBuf> =
        entries.map_err(|problem| error(problem.to_string()))?.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = entry.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if hidden {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, depth + 1, files)?;
        } else if manifest {
            files.push(entry);
        }
    }
    Ok(())
}

/// The text of one file, or of stdin (`-`).
///
/// # Errors
/// It cannot be read, is too long, or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String, FileError> {
    use io::Read as _;
    let error = |reason: String| FileError { path: path.to_owned(), reason };
    let reader: Box<dyn io::Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(path).map_err(|problem| error(problem.to_string()))?)
    };
    let mut bytes = Vec::new();
    reader.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|problem| error(problem.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(error(format!("it is longer than {MAX_FILE} bytes: split it")));
    }
    String::from_utf8(bytes).map_err(|_| error("it is not UTF-8: save it as UTF-8".to_owned()))
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
        let found = list(&[folder.join("note.txt"), folder.clone()]).unwrap();
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
