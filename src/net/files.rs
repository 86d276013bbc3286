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
    replace(path, content, access, |_| Ok(()))
}

/// `finish` is done to the new file before it takes the old one's place.
fn replace(
    path: &Path,
    content: &[u8],
    access: Access,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_name(path);
    let outcome = write_then_rename(&temporary, path, content, access, finish);
    if outcome.is_err() {
        // What remains of the attempt; that it may not exist is not a second fault.
        let _ = std::fs::remove_file(&temporary);
    }
    outcome
}

/// Replaces what is in a file of somebody's own: with the mode and the owner it has, and where a link leads to, not the link. One that is
/// not there yet is made, for its owner only.
///
/// # Errors
/// Also when mode and owner cannot be kept: nothing has changed then.
pub(crate) fn rewrite(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link that leads nowhere is there, and is an error.
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return write_atomic(path, content, Access::OwnerOnly);
    }
    let path = std::fs::canonicalize(path)?;
    let old = std::fs::metadata(&path)?;
    replace(&path, content, Access::OwnerOnly, |file| keep_access(file, &old))
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

fn write_then_rename(
    temporary: &Path,
    path: &Path,
    content: &[u8],
    access: Access,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = create_new(temporary, access)?;
    file.write_all(content)?;
    finish(&file)?;
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

/// The same, made to survive a crash: each directory that is new stands in the one above it, on the disk. Nothing is written where all
/// are there.
pub(crate) fn make_lasting_private_dir(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    make_private_dir(path)?;
    // From the top: what is lost of a crash between two of these was told to nobody.
    missing
        .iter()
        .rev()
        .filter_map(|dir| dir.parent())
        .try_for_each(|above| sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above }))
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

/// Makes a new file only its owner can read; nothing of it is made to last yet.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    create_new(path, Access::OwnerOnly)
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

/// Gives a new file the owner, the group and the mode of the old one; the owner first, as that may take bits off the mode.
#[cfg(unix)]
fn keep_access(file: &File, old: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let (uid, gid, mode) = (old.uid(), old.gid(), old.permissions().mode() & 0o7777);
    let failed = |what: String, error: io::Error| {
        let mend = "run this as its owner or as root";
        io::Error::new(error.kind(), format!("its {what} would be lost ({error}); {mend}"))
    };
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (uid, gid) {
        fchown(file, Some(uid), Some(gid)).map_err(|error| failed(format!("owner {uid}:{gid}"), error))?;
    }
    let set = file.set_permissions(std::fs::Permissions::from_mode(mode));
    set.map_err(|error| failed(format!("mode {mode:04o}"), error))
}

/// Elsewhere the directory's access list is inherited.
#[cfg(not(unix))]
fn keep_access(_file: &File, _old: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// Makes the rename itself survive a crash.
#[cfg(unix)]
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_directory(_dir: &Path) -> io::Result<()> {
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
        let (lasting, again) = (dir.path().join("c/d/e"), dir.path().join("c/d/e"));
        make_lasting_private_dir(&lasting).unwrap();
        make_lasting_private_dir(&again).unwrap();
        assert_eq!([&lasting, &dir.path().join("c")].map(|made| mode(made)), [0o700; 2]);
        assert!(make_lasting_private_dir(Path::new("")).is_ok());
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

    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_mode_its_owner_and_the_link_to_it() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let (real, link) = (dir.path().join("real/file"), dir.path().join("link"));
        std::fs::write(&real, "old").unwrap();
        // Root gives it to somebody else; others may only see that theirs stays theirs.
        let may_give = chown(&real, Some(4711), Some(4712)).is_ok();
        let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
        let before = owner(&real);
        assert_eq!(before == (4711, 4712), may_give);
        symlink("real/file", &link).unwrap();
        for mode in [0o640, 0o600, 0o644, 0o660] {
            std::fs::set_permissions(&real, std::fs::Permissions::from_mode(mode)).unwrap();
            let new = format!("new {mode}");
            rewrite(&link, new.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&real).unwrap(), new);
            assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(owner(&real), before);
        }
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path().join("real")).unwrap().count(), 1, "no temporary file is left");
        std::fs::remove_file(&real).unwrap();
        assert!(rewrite(&link, b"x").is_err(), "a link that leads nowhere");
        rewrite(&real, b"x").unwrap();
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
