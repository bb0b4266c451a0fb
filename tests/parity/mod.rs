//! Runs the generator beside this file in the installed PyTorch. Shared by the tests of several crates.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The folder with what PyTorch found, made once a test program; `None` where no Python is named. With
/// `ESCAPE_REQUIRE_PYTHON=1` its absence is a failure.
pub fn reference() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let Some(python) = std::env::var_os("ESCAPE_PYTHON") else {
            assert!(std::env::var_os("ESCAPE_REQUIRE_PYTHON").is_none(), "ESCAPE_PYTHON names no Python");
            eprintln!(
                "skipped: set ESCAPE_PYTHON to a Python with torch, numpy and scipy; scripts/test does"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/reference.py");
        let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(folder)
    });
    folder.as_ref().map(|f| f.path().to_path_buf())
}
