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
/// A process that is killed leaves its temporary file behind; whoever writes next in the same folder removes it, see
/// [`remove_leftovers`].
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
    remove_leftovers(folder);
    let (mut file, temporary) = create_beside(folder, &name.to_string_lossy())?;
    fill(&mut file)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()?;
    temporary.become_file(&target)?;
    // Not before: the lock on it says that it is no leftover.
    drop(file);
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
            Ok(file) => {
                // A file system without locks has no leftovers removed either.
                let _ = file.lock();
                // Another process may have taken it for a leftover before it was locked.
                if path.try_exists()? {
                    return Ok((file, Temporary(Some(path))));
                }
            }
            // Left behind by a process of the same number that was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Remove the temporary files that processes which were killed within [`write_atomically`] left in a folder. One whose
/// process lives is locked by it and stays; what cannot be looked at or removed stays too.
pub fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !is_temporary(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let abandoned = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if abandoned {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a name is one of [`create_beside`]: `.NAME.PROCESS-NUMBER.tmp`.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let middle = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
    let numbers =
        middle.and_then(|rest| rest.rsplit_once('.')).and_then(|(_, numbers)| numbers.split_once('-'));
    numbers.is_some_and(|(process, count)| number(process) && number(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_temporaries_of_ours_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".last.pth.123-0.tmp", ".x.tmp", "notes.tmp", ".a.1-b.tmp", ".alive.csv.7-1.tmp"] {
            fs::write(at(name), "x").unwrap();
        }
        let alive = File::open(at(".alive.csv.7-1.tmp")).unwrap();
        alive.lock().unwrap();
        write_atomically(&at("table.csv"), |file| io::Write::write_all(file, b"1")).unwrap();
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".a.1-b.tmp", ".alive.csv.7-1.tmp", ".x.tmp", "notes.tmp", "table.csv"]);
        drop(alive);
        remove_leftovers(folder.path());
        assert!(!at(".alive.csv.7-1.tmp").exists());
    }
}
