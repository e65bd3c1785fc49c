//! The bot's logo: whether MAX would take it. Only the first bytes of the picture are looked at,
//! never its pixels.
//!
//! The rules are those of the product page, "Карточка бота: ключевые требования к полям": 500x500
//! px, at most 5 MB, JPG or PNG, 1:1.

/// The side of the square, in pixels.
const SIDE: u32 = 500;
/// The most bytes.
pub const MAX_BYTES: u64 = 5 * 1024 * 1024;

/// What is wrong with the picture: sentences with the remedy, none if MAX would take it.
pub fn logo_findings(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    if bytes.len() as u64 > MAX_BYTES {
        found.push(format!("the picture has {} bytes, at most {MAX_BYTES} are allowed: compress it", bytes.len()));
    }
    match size(bytes) {
        None => found.push("the file is neither a JPG nor a PNG picture: convert it".to_owned()),
        Some((width, height)) if width != height => {
            found.push(format!("the picture is {width}x{height}, not square: cut it to {SIDE}x{SIDE}"));
        }
        Some((SIDE, SIDE)) => {}
        Some((width, height)) => found.push(format!("the picture is {width}x{height}: resize it to {SIDE}x{SIDE}")),
    }
    found
}

/// Width and height; `None` where the bytes are of neither format or end too early.
fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    png_size(bytes).or_else(|| jpeg_size(bytes))
}

fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let sides = header.get(4..)?.strip_prefix(b"IHDR")?;
    let side = |at: usize| Some(u32::from_be_bytes(sides.get(at..at + 4)?.try_into().ok()?));
    Some((side(0)?, side(4)?))
}

fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        // A segment begins with any number of 0xFF and its kind.
        let mark = rest.iter().position(|byte| *byte != 0xff).filter(|at| *at > 0)?;
        let kind = rest[mark];
        rest = &rest[mark + 1..];
        if matches!(kind, 0x01 | 0xd0..=0xd7) {
            continue;
        }
        let length = usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
        // All frame headers, without the tables that have numbers among them.
        if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
            let side = |at: usize| Some(u32::from(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?)));
            return Some((side(5)?, side(3)?));
        }
        rest = rest.get(length.max(2)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes(), b"\x08\x06\0\0\0"]
            .concat()
    }

    fn jpeg(width: u16, height: u16) -> Vec<u8> {
        let tables =
            b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xdb\x00\x04\x00\x00\xff\xff\xc2\x00\x11\x08";
        [tables.as_slice(), &height.to_be_bytes(), &width.to_be_bytes(), b"\x03"].concat()
    }

    #[test]
    fn a_logo_is_a_square_jpg_or_png_of_500_pixels_and_at_most_5_megabytes() {
        let heavy = [png(500, 500), vec![0; 5 * 1024 * 1024]].concat();
        let table: [(Vec<u8>, &[&str]); 9] = [
            (png(500, 500), &[]),
            (jpeg(500, 500), &[]),
            (png(512, 512), &["the picture is 512x512: resize it to 500x500"]),
            (jpeg(500, 400), &["the picture is 500x400, not square: cut it to 500x500"]),
            (b"GIF89a\xf4\x01\xf4\x01".to_vec(), &["the file is neither a JPG nor a PNG picture: convert it"]),
            (png(500, 500)[..20].to_vec(), &["the file is neither a JPG nor a PNG picture: convert it"]),
            (jpeg(500, 500)[..30].to_vec(), &["the file is neither a JPG nor a PNG picture: convert it"]),
            (Vec::new(), &["the file is neither a JPG nor a PNG picture: convert it"]),
            (heavy, &["the picture has 5242909 bytes, at most 5242880 are allowed: compress it"]),
        ];
        for (bytes, expected) in table {
            assert_eq!(logo_findings(&bytes), expected, "{:?}", &bytes[..bytes.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(
            kind in 0usize..3,
            tail in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let head: &[u8] = [b"".as_slice(), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"][kind];
            let _ = logo_findings(&[head, &tail].concat());
        }
    }
}
