//! Writing files whole: to a temporary name beside the target, then renamed over it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::ReportError;

/// Write a file so that a reader sees the old one or the new one, never half of either.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    let result = written.map_err(ReportError::io("write", &temporary)).and_then(|()| {
        fs::rename(&temporary, path).map_err(ReportError::io("rename a temporary file to", path))
    });
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result
}
