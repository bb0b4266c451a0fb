//! Write a file whole or not at all, and read a zip archive under a budget of memory.
//! `cargo run -p escape-files --example archive`

use std::error::Error;
use std::fs::File;
use std::io::Write;

use escape_files::archive::Archive;
use escape_files::budget::Budget;
use escape_files::write_atomically;

/// A zip archive without entries.
const EMPTY: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("escape-files-{}.zip", std::process::id()));
    write_atomically(&path, |file| file.write_all(EMPTY))?;
    let archive = Archive::new(File::open(&path)?)?;
    assert_eq!((archive.names().count(), archive.length()), (0, 22));

    // What a file says that it holds is taken from its budget before it is believed.
    let mut budget = Budget::new(4 * archive.length(), archive.length());
    assert!(budget.take("a million numbers", 1_000_000, 4).is_err());
    std::fs::remove_file(path)?;
    Ok(())
}
