//! Whether files and folders can be read and written, found out before the work. Nothing that is there is replaced
//! unless that was asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::session::{Session, usage};

/// Makes sure, before long work, that a file can be written where it is wanted, and that none is there that nobody
/// asked to replace.
///
/// # Errors
/// It cannot, in words.
pub fn check_file(session: &Session, path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(usage(format!("{}: this is a folder; name a file to write", path.display())));
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(usage(format!("{}: no folder {}; make it first", path.display(), folder.display())));
    }
    if !session.force && path.exists() {
        return Err(usage(format!(
            "{}: is there already; name another file to write, or replace it with --force",
            path.display()
        )));
    }
    probe(folder).with_context(|| not_writable(path))
}

/// Makes sure that a result does not replace what it is made from.
///
/// # Errors
/// It does.
pub fn check_apart(out: &Path, inputs: &[&Path]) -> Result<()> {
    let real = |p: &Path| p.canonicalize().ok();
    match inputs.iter().find(|i| real(out).is_some_and(|o| real(i) == Some(o))) {
        Some(input) => Err(usage(format!(
            "{}: this is {}, which is read here; name another file to write",
            out.display(),
            input.display()
        ))),
        None => Ok(()),
    }
}

/// Makes sure that a folder for results is there or can be made, and that files can be written in it. Nothing is
/// made yet: a command that is refused for its input leaves nothing behind. What the folder holds already is looked
/// at by whoever knows what would be replaced, see [`check_results`].
///
/// # Errors
/// It cannot, in words.
pub fn check_folder(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(usage(format!("{}: {} is a file; name a folder", path.display(), there.display())));
    }
    probe(there).with_context(|| not_writable(path))
}

/// Makes sure that a folder holds none of the files that are to be written into it, unless they may be replaced.
/// `what` they are together, and `otherwise` what can be done besides replacing them and choosing another folder.
///
/// # Errors
/// It holds one, which is named.
pub fn check_results(
    session: &Session,
    folder: &Path,
    files: &[&str],
    what: &str,
    otherwise: &str,
) -> Result<()> {
    match files.iter().find(|file| folder.join(file).exists()) {
        Some(file) if !session.force => Err(usage(format!(
            "{}: holds {what} already ({file}); {otherwise}choose another folder, or replace it with --force",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes a folder for results, right before they come.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| not_writable(path))
}

fn not_writable(path: &Path) -> String {
    format!("{}: cannot be written; choose another place", path.display())
}

fn probe(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(folder).map(drop)
}

/// Recordings that must be there: a file, or a folder of `.npy` files.
///
/// # Errors
/// It is not there.
pub fn existing_data(path: &Path) -> Result<PathBuf> {
    if path.is_dir() { Ok(path.to_path_buf()) } else { existing(path) }
}

/// A file that must be there.
///
/// # Errors
/// It is not there, or no file.
pub fn existing(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let why = if path.is_dir() {
        "this is a folder, expected a file"
    } else if path.exists() {
        "this is a device or pipe, expected a file"
    } else {
        "no such file"
    };
    Err(anyhow::anyhow!("{}: {why}; check the path", path.display()))
}
