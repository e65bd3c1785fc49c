//! QR codes as pictures.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::{Compression, Crc, write::ZlibEncoder};
use qrcode::{Color, EcLevel, QrCode};

/// The blank around a code, in its modules: less and readers miss it (ISO/IEC 18004).
const MARGIN: usize = 4;
/// How large a module is in the picture, so that it can be printed at the width of a hand.
const PIXELS: usize = 16;

/// Whether each module is dark, row by row, the margin included.
struct Modules {
    side: usize,
    dark: Vec<bool>,
}

impl Modules {
    fn of(text: &str) -> Result<Self, String> {
        // A quarter of it may be dirty or folded.
        let code = QrCode::with_error_correction_level(text, EcLevel::Q)
            .map_err(|error| format!("no QR code can be made of {text}: {error}"))?;
        let width = code.width();
        let side = width + 2 * MARGIN;
        let mut dark = vec![false; side * side];
        for (index, colour) in code.to_colors().into_iter().enumerate() {
            let (row, column) = (index / width + MARGIN, index % width + MARGIN);
            dark[row * side + column] = colour == Color::Dark;
        }
        Ok(Self { side, dark })
    }
}

/// The code as lines: one path of the dark runs.
pub(super) fn svg(text: &str) -> Result<String, String> {
    let Modules { side, dark } = Modules::of(text)?;
    let mut path = String::new();
    for (row, line) in dark.chunks(side).enumerate() {
        let mut column = 0;
        for run in line.chunk_by(|one, other| one == other) {
            if run[0] {
                let _ = write!(path, "M{column} {row}h{}v1h-{}z", run.len(), run.len());
            }
            column += run.len();
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" role=\"img\">\n\
         <title>{}</title><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/>\n</svg>\n",
        super::button::escaped(text)
    ))
}

/// The code as a picture of black and white (PNG, 1 bit).
pub(super) fn png(text: &str) -> Result<Vec<u8>, String> {
    let Modules { side, dark } = Modules::of(text)?;
    let width = side * PIXELS;
    let mut lines = ZlibEncoder::new(Vec::new(), Compression::best());
    for row in dark.chunks(side) {
        // The filter "none", then eight pixels to a byte, white is 1: a module is two whole bytes.
        let mut line = vec![0_u8];
        for module in row {
            line.extend([if *module { 0 } else { 0xff }; PIXELS / 8]);
        }
        for _ in 0..PIXELS {
            lines.write_all(&line).map_err(|error| error.to_string())?;
        }
    }
    let lines = lines.finish().map_err(|error| error.to_string())?;
    let width = u32::try_from(width).map_err(|error| error.to_string())?.to_be_bytes();
    let head = [&width[..], &width, &[1, 0, 0, 0, 0]].concat();
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", head), (b"IDAT", lines), (b"IEND", Vec::new())] {
        let length = u32::try_from(data.len()).map_err(|error| error.to_string())?;
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(&data);
        picture.extend(length.to_be_bytes());
        picture.extend(kind);
        picture.extend(data);
        picture.extend(crc.sum().to_be_bytes());
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn both_pictures_show_the_same_modules_with_a_margin() {
        let text = "https://max.ru/id7700000000_bot?start=delivery";
        let Modules { side, dark } = Modules::of(text).unwrap();
        let picture = png(text).unwrap();
        assert_eq!(picture[16..20], u32::try_from(side * PIXELS).unwrap().to_be_bytes());
        let length = usize::try_from(u32::from_be_bytes(picture[33..37].try_into().unwrap())).unwrap();
        let mut lines = Vec::new();
        flate2::read::ZlibDecoder::new(&picture[41..41 + length]).read_to_end(&mut lines).unwrap();
        let stride = 1 + side * PIXELS / 8;
        assert_eq!(lines.len(), stride * side * PIXELS);
        let vector = svg(text).unwrap();
        let vector = vector.rsplit("<path").next().unwrap();
        for row in 0..side {
            for column in 0..side {
                let byte = lines[row * PIXELS * stride + 1 + column * PIXELS / 8];
                assert_eq!(byte == 0, dark[row * side + column], "{row} {column}");
            }
            let is_blank = !dark[row * side..(row + 1) * side].contains(&true);
            assert_eq!(is_blank, !(MARGIN..side - MARGIN).contains(&row));
            assert_eq!(!vector.contains(&format!(" {row}h")), is_blank, "row {row} of the lines");
        }
    }
}
