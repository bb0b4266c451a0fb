//! Runs the generator beside this file in the installed PyTorch. Shared by the tests of several crates.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The Python with PyTorch; `None` where none is named. With `ESCAPE_REQUIRE_PYTHON=1` its absence is a failure.
pub fn python() -> Option<OsString> {
    let python = std::env::var_os("ESCAPE_PYTHON");
    if python.is_none() {
        assert!(std::env::var_os("ESCAPE_REQUIRE_PYTHON").is_none(), "ESCAPE_PYTHON names no Python");
        eprintln!("skipped: set ESCAPE_PYTHON to a Python with torch, numpy and scipy; scripts/test does");
    }
    python
}

/// The folder with what PyTorch found, made once a test program; `None` where [`python`] names
/// none.
pub fn reference() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/reference.py");
        let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(folder)
    });
    folder.as_ref().map(|f| f.path().to_path_buf())
}
