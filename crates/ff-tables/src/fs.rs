//! Writing files so that a crash, a full disk or a reader in between never sees half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces a file as a whole: writes beside it, syncs, renames. Parent folders are made.
///
/// # Errors
/// Whatever the file system says; then the old file is as it was and nothing is left beside it.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = parent(path);
    fs::create_dir_all(dir)?;
    let temporary = beside(path);
    let written = write_synced(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a leftover temporary file is never read.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
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
    let probe = beside(&dir.join("probe"));
    // A page, because a full disk still makes empty files.
    let written = write_synced(&probe, &[b' '; 4096]);
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name in the same folder that no other process or thread uses.
fn beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    parent(path).join(format!(".{name}.{}.{count}.tmp", std::process::id()))
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
