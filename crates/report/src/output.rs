//! Writing files whole: to a temporary name beside the target, then renamed over it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::ReportError;

/// Write a file so that a reader sees the old one or the new one, never half of either. A file that is replaced hands its
/// permissions on; a new one has those that the process's umask leaves. A symbolic link stays one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
    }
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // Named and locked as the leftovers that `escape_data::remove_leftovers` looks for.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}-0.tmp", std::process::id()));
    let permissions = fs::metadata(path).ok().map(|old| old.permissions());
    let write = || {
        let mut file = File::create(&temporary)?;
        let _ = file.lock();
        file.write_all(bytes)?;
        permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions))?;
        Ok(file)
    };
    let result = write().map_err(ReportError::io("write", &temporary)).and_then(|_locked| {
        fs::rename(&temporary, path).map_err(ReportError::io("rename a temporary file to", path))
    });
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Remove what the page has no more, if it is there in every format, as only this program leaves it. What cannot be removed stays.
pub(crate) fn take_away(formats: &[PathBuf]) {
    if formats.iter().all(|path| path.is_file()) {
        formats.iter().for_each(|path| _ = fs::remove_file(path));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("figures/a.svg"), folder.path().join("plain"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&path, b"one").unwrap();
        // What the process's umask leaves of 0666, whatever it is.
        fs::write(&plain, b"").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o640, b"two".to_vec()));
        assert_eq!(fs::read_dir(folder.path().join("figures")).unwrap().count(), 1, "no leftover");
    }
}
