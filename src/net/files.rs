//! Files that hold keys: never readable by others, not even for a moment, and never half written.
//!
//! A file is made under a temporary name with its final mode, written, synced and renamed over the old one, so a crash or a full
//! disk leaves either the old content or the new (Law 12). What is one system's own stands in the small functions at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Mode 0600.
    OwnerOnly,
    /// Mode 0644.
    Everybody,
}

/// Replaces `path` by `content`, whole or not at all.
pub(crate) fn write_atomic(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let temporary = temporary_name(path);
    let outcome = write_then_rename(&temporary, path, content, access);
    if outcome.is_err() {
        // What remains of the attempt; that it may not exist is not a second fault.
        let _ = std::fs::remove_file(&temporary);
    }
    outcome
}

/// Makes a file only its owner can read; one that is there already is left alone, and an error.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create_new(path, Access::OwnerOnly)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file must not be taken for a whole one; that it cannot be removed is not a second fault.
        let _ = std::fs::remove_file(path);
    }
    written?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn write_then_rename(temporary: &Path, path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let mut file = create_new(temporary, access)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:016x}.tmp", rand::random::<u64>()))
}

/// Makes a directory (and those above it) that only its owner can enter; one that exists is left as it is.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Takes a key file of ours away from others who can read it; true if that was needed.
#[cfg(unix)]
pub(crate) fn make_private(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(true)
}

/// Elsewhere the access list inherited from the user's own directory keeps others out.
#[cfg(not(unix))]
pub(crate) fn make_private(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn create_new(path: &Path, access: Access) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mode = match access {
        Access::OwnerOnly => 0o600,
        Access::Everybody => 0o644,
    };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn create_new(path: &Path, _access: Access) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes the rename itself survive a crash.
#[cfg(unix)]
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_dir: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn keys_are_private_and_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        let inner = dir.path().join("a/b");
        make_private_dir(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        let key = inner.join("key");
        write_atomic(&key, b"one", Access::OwnerOnly).unwrap();
        write_atomic(&key, b"two", Access::OwnerOnly).unwrap();
        assert_eq!((std::fs::read(&key).unwrap(), mode(&key)), (b"two".to_vec(), 0o600));
        assert!(!make_private(&key).unwrap());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(make_private(&key).unwrap());
        assert_eq!(mode(&key), 0o600);
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1, "no temporary file is left");
        // A failed write leaves nothing behind: the target is a directory.
        assert!(write_atomic(&inner, b"x", Access::Everybody).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
