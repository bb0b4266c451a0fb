use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use escape_data::write_npz;
use escape_files::write_atomically;
use tempfile::TempDir;

use crate::{contains, dataset, message, read};

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("table.csv");
    write_atomically(&path, |file| file.write_all(b"first")).unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(b"half of the sec")?;
        Err(std::io::Error::other("no more"))
    });
    assert_eq!(error.unwrap_err().to_string(), "no more");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(files(folder.path()), std::slice::from_ref(&path));
    write_atomically(&path, |file| file.write_all(b"second")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(files(folder.path()), [path]);
}

#[test]
fn only_regular_files_are_replaced() {
    let folder = TempDir::new().unwrap();
    let kind = |path: &Path| write_atomically(path, |_| Ok(())).unwrap_err().kind();
    assert_eq!(kind(folder.path()), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(&folder.path().join("..")), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(&folder.path().join("absent").join("a")), std::io::ErrorKind::NotFound);
    #[cfg(unix)]
    assert_eq!(kind(Path::new("/dev/null")), std::io::ErrorKind::InvalidInput);
    assert!(files(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_stays_one() {
    let folder = TempDir::new().unwrap();
    let (file, link) = (folder.path().join("run1.pth"), folder.path().join("best.pth"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write_atomically(&link, |out| out.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[cfg(unix)]
#[test]
fn recordings_are_written_through_a_link() {
    let folder = TempDir::new().unwrap();
    let (file, link) = (folder.path().join("d1.npz"), folder.path().join("d.npz"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write_npz(&link, &dataset()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(read(&file).unwrap(), dataset());
    let error = message(write_npz(folder.path(), &dataset()).unwrap_err());
    contains(&error, &["could not create", "expected the path of a regular file"]);
}

#[cfg(unix)]
#[test]
fn permissions_are_respected_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("private.pth");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    write_atomically(&file, |out| out.write_all(b"new")).unwrap();
    assert_eq!((mode(), fs::read(&file).unwrap()), (0o600, b"new".to_vec()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let error = write_atomically(&file, |out| out.write_all(b"newer")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!((fs::read(&file).unwrap(), files(folder.path()).len()), (b"new".to_vec(), 1));
}
