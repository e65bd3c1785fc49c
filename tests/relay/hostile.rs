//! What fuzzing begins with, and what it has found, read once more by everybody's tests
//! (`make fuzz` looks for more).

#[path = "../../fuzz/readers.rs"]
mod readers;

use std::path::Path;

#[test]
fn nothing_that_was_written_by_others_makes_a_reader_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, read) in readers::ALL {
        let mut inputs = 0;
        for kind in ["corpus", "found"] {
            let Ok(files) = std::fs::read_dir(folder.join(kind).join(name)) else { continue };
            for file in files {
                let file = file.unwrap().path();
                let bytes = std::fs::read(&file).unwrap();
                println!("{}", file.display());
                read(&bytes);
                // Cut off, and with something in its place that belongs nowhere.
                for place in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
                    read(&bytes[..place]);
                    let mut changed = bytes.clone();
                    changed[place] = changed[place].wrapping_add(u8::try_from(place % 255).unwrap());
                    read(&changed);
                }
                inputs += 1;
            }
        }
        assert!(inputs > 0, "nothing to read for {name}");
    }
}
