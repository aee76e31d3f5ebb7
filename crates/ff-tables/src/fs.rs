//! Writing files so that a crash, a full disk or a reader in between never sees half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Replaces a file as a whole: writes beside it, syncs, renames. Parent folders are made.
///
/// # Errors
/// Whatever the file system says; then the old file is as it was and nothing is left beside it.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = parent(path);
    fs::create_dir_all(dir)?;
    let mut file = beside(dir)?;
    write_synced(file.as_file_mut(), contents)?;
    file.persist(path)?;
    // The rename itself must reach the disk too. Where a folder cannot be opened (Windows) the system sees to it.
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
    Ok(())
}

/// Waits until no other process holds the folder of a file, and holds it until the result is dropped: for whoever reads a
/// file in order to write it again. Systems and file systems without locks of folders give `None`: then it is up to the user.
pub fn lock_folder_of(path: &Path) -> Option<File> {
    let folder = File::open(parent(path)).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

/// Tries whether files can be made in a folder, making the folder where it is missing.
///
/// # Errors
/// Whatever the file system says about making or writing a file there.
pub fn ensure_writable(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut probe = beside(dir)?;
    // A page, because a full disk still makes empty files.
    write_synced(probe.as_file_mut(), &[b' '; 4096])?;
    probe.close()
}

fn write_synced(file: &mut File, contents: &[u8]) -> io::Result<()> {
    file.write_all(contents)?;
    file.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden file in a folder, removed where it is not persisted, with the permissions that any new file has.
fn beside(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".forgefield-").suffix(".tmp");
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a/b.json");
        replace(&path, b"one").expect("writable");
        replace(&path, b"two").expect("writable");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(fs::read_dir(dir.path().join("a")).expect("there").count(), 1);
        ensure_writable(&dir.path().join("a")).expect("writable");
        assert_eq!(fs::read_dir(dir.path().join("a")).expect("there").count(), 1);
        // Whoever may read other new files may read this one.
        fs::write(dir.path().join("plain"), b"").expect("writable");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions();
        assert_eq!(mode(&path), mode(&dir.path().join("plain")));
    }

    #[test]
    fn a_refused_write_is_an_error_and_keeps_the_old_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("file");
        replace(&file, b"old").expect("writable");
        // A file where a folder should be refuses even root, which a read-only mode does not.
        assert!(replace(&file.join("table.json"), b"new").is_err());
        assert!(ensure_writable(&file.join("folder")).is_err());
        assert_eq!(fs::read(&file).expect("there"), b"old");
    }
}
