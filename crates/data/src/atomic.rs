//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Write `path` so that, whatever happens, there is either the old file or the complete new one.
///
/// `fill` writes a temporary file in the same folder, which is flushed to disk and then renamed to `path`. On any
/// error, of `fill` too, the temporary file is removed and `path` is left as it was. A symbolic link stays one: the
/// file it points to is replaced; only a link that points nowhere is replaced itself. A file that is replaced hands its
/// permissions on.
///
/// # Errors
/// Whatever `fill` or the system answers; [`io::ErrorKind::InvalidInput`] if `path` names no file or is there and
/// is no regular file (a folder, a device); [`io::ErrorKind::PermissionDenied`] if it is a file that may not be written.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let invalid = |problem| Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    let existing = fs::metadata(&target).ok();
    if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
        return invalid("expected the path of a regular file, got a folder or a device");
    }
    let permissions = existing.map(|existing| existing.permissions());
    if permissions.as_ref().is_some_and(fs::Permissions::readonly) {
        let problem = "expected a file that may be replaced, got one that is read-only";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let Some(name) = target.file_name() else {
        return invalid("expected the path of a file, got one that names none");
    };
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (mut file, temporary) = create_beside(folder, &name.to_string_lossy())?;
    fill(&mut file)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()?;
    drop(file);
    temporary.become_file(&target)?;
    // The name is safe on disk only once the folder is; not every system can flush a folder.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Removes the file when dropped, unless it has become another.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn become_file(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, target)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn create_beside(folder: &Path, name: &str) -> io::Result<(File, Temporary)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A long name with an addition could exceed what the file system takes.
    let stem: String = name.chars().take(40).collect();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{stem}.{}-{count}.tmp", std::process::id()));
        match OpenOptions::new().write(true).read(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, Temporary(Some(path)))),
            // Left behind by a process of the same number that was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}
