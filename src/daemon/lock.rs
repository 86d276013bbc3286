//! One daemon per data directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use fs4::fs_std::FileExt;

/// Held while the daemon runs; the system gives it back even after a crash.
pub(crate) struct DataDirLock {
    _file: File,
}

const MEND: &str = "Set `data_dir` to a directory this user can write.";

impl DataDirLock {
    /// Makes the directory if need be, without taking its lock.
    pub(crate) fn make_dir(dir: &Path) -> Result<(), String> {
        make_private(dir).map_err(|error| format!("cannot make the data directory {}: {error}. {MEND}", dir.display()))
    }

    /// The process that runs on this directory now, if one does.
    pub(crate) fn holder(dir: &Path) -> Option<u32> {
        let path = dir.join("lock");
        let file = File::options().write(true).open(&path).ok()?;
        if file.try_lock_exclusive().ok()? {
            return None;
        }
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Makes the directory if need be and takes its lock; the error says what to do.
    pub(crate) fn take(dir: &Path) -> Result<Self, String> {
        Self::make_dir(dir)?;
        let path = dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| format!("cannot write {}: {error}. {MEND}", path.display()))?;
        match file.try_lock_exclusive() {
            Ok(true) => {
                // For whoever wants to tell us something; without it they cannot, and we run all the same.
                let noted = file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
                if let Err(error) = noted {
                    tracing::warn!(file = %path.display(), %error, "our process number cannot be noted");
                }
                Ok(Self { _file: file })
            }
            Ok(false) => {
                Err(format!("another mailweir is running with the data directory {}; stop it first", dir.display()))
            }
            Err(error) => Err(format!("cannot lock {}: {error}", path.display())),
        }
    }
}

/// Mail is nobody else's business.
fn make_private(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }
    #[cfg(not(unix))]
    fs::create_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert_eq!(DataDirLock::holder(&data), None);
        let first = DataDirLock::take(&data).unwrap();
        assert_eq!(DataDirLock::holder(&data), Some(std::process::id()));
        assert!(DataDirLock::take(&data).err().unwrap().contains("another mailweir is running"));
        drop(first);
        assert_eq!(DataDirLock::holder(&data), None);
        assert!(DataDirLock::take(&data).is_ok());
    }
}
