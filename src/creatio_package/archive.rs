//! The two archives in which a package travels: the vendor's `.gz`, and a `.zip` around it.
//!
//! A `.gz` is one gzip member around records without count or terminator: length of the name in
//! UTF-16 units, the name in UTF-16LE with `\` between folders, length of the content in bytes, the
//! content; lengths are 32-bit little endian (docs/reference/creatio-package.md, "Archive"). Both
//! archives are the same bytes for the same files.

use std::io::{self, Read as _, Write as _};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};

use super::File;

/// More than any package of ours: a longer content is a damaged archive.
const LONGEST_CONTENT: usize = 64 * 1024 * 1024;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive is no gzip file, or is cut short: {0}")]
    Gzip(#[from] io::Error),
    #[error("the archive is damaged: record {record} ends after the end of the file")]
    Short { record: usize },
    #[error("the archive is damaged: the name of record {record} is no text")]
    Name { record: usize },
}

/// Packs files in their order.
///
/// # Errors
/// Never in practice: everything happens in memory.
pub fn pack(files: &[File]) -> io::Result<Vec<u8>> {
    // No time and no name in the header: the same files make the same bytes.
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    for file in files {
        let name: Vec<u16> = file.path.replace('/', "\\").encode_utf16().collect();
        gzip.write_all(&length(name.len())?)?;
        for unit in &name {
            gzip.write_all(&unit.to_le_bytes())?;
        }
        gzip.write_all(&length(file.content.len())?)?;
        gzip.write_all(&file.content)?;
    }
    gzip.finish()
}

/// Unpacks what [`pack`], or the vendor's own tools, have packed.
///
/// # Errors
/// The archive is damaged.
pub fn unpack(bytes: &[u8]) -> Result<Vec<File>, ArchiveError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut plain)?;
    let mut rest = plain.as_slice();
    let mut files = Vec::new();
    while !rest.is_empty() {
        let short = ArchiveError::Short { record: files.len() + 1 };
        let Some(file) = record(&mut rest) else { return Err(short) };
        let (name, content) = file;
        let path =
            String::from_utf16(&name).map_err(|_| ArchiveError::Name { record: files.len() + 1 })?.replace('\\', "/");
        files.push(File { path, content });
    }
    Ok(files)
}

/// A `.zip` with one archive in its root, as the Application Hub takes it.
///
/// # Errors
/// Never in practice: everything happens in memory.
pub fn zip(name: &str, archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    // The content is compressed already. No time of the machine: the same archive makes the same
    // bytes.
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    zip.start_file(name, options)?;
    zip.write_all(archive)?;
    Ok(zip.finish()?.into_inner())
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    let length = i32::try_from(length).map_err(|_| io::Error::other("a record of an archive is over 2 GiB"))?;
    Ok(length.to_le_bytes())
}

/// One record, taken from the beginning; none where it is longer than what is left.
fn record(rest: &mut &[u8]) -> Option<(Vec<u16>, Vec<u8>)> {
    let units = take_length(rest)?;
    let name = take(rest, units.checked_mul(2)?)?;
    let name = name.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let bytes = take_length(rest)?;
    Some((name, take(rest, bytes)?.to_vec()))
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?;
    let length = i32::from_le_bytes(bytes.try_into().ok()?);
    usize::try_from(length).ok().filter(|length| *length <= LONGEST_CONTENT)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, content: &[u8]) -> File {
        File { path: path.to_owned(), content: content.to_vec() }
    }

    /// The record as the vendor writes it, byte by byte.
    #[test]
    fn a_record_is_length_name_length_content_in_little_endian() {
        let packed = pack(&[file("A/я.cs", b"xy")]).unwrap();
        let mut plain = Vec::new();
        MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
        let expected: &[u8] = b"\x06\0\0\0A\0\\\0\x4f\x04.\0c\0s\0\x02\0\0\0xy";
        assert_eq!(plain, expected);
    }

    #[test]
    fn a_damaged_archive_is_refused_with_the_record_that_is_cut() {
        let packed = |plain: &[u8]| {
            let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        };
        for (plain, words) in [
            (b"\x01\0\0\0a\0\x05\0\0\0xy".as_slice(), "record 1"),
            (b"\x01\0\0\0a\0\0\0\0\0\xff\xff\xff\xff".as_slice(), "record 2"),
            (b"\x01\0\0".as_slice(), "record 1"),
            (b"\x01\0\0\0\0\xd8\0\0\0\0".as_slice(), "name of record 1"),
        ] {
            let error = unpack(&packed(plain)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(unpack(b"PK\x03\x04").unwrap_err().to_string().contains("no gzip"));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_the_same(
            files in prop::collection::vec(("[A-Za-zА-я_.]{1,12}(/[a-z]{1,8}){0,3}", prop::collection::vec(any::<u8>(), 0..200)), 0..8)
        ) {
            let files: Vec<File> = files.into_iter().map(|(path, content)| File { path, content }).collect();
            let packed = pack(&files).unwrap();
            prop_assert_eq!(unpack(&packed).unwrap(), files.clone());
            prop_assert_eq!(pack(&files).unwrap(), packed);
        }
    }
}
