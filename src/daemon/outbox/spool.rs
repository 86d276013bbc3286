//! Files of the outbox: a message as it comes in, kept or gone.
//!
//! A file belongs to one row. It is written and made to last before the row is, and removed after it; what a crash leaves without a row
//! nobody was told of, and it is removed at the next start.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::net::files;

/// A file being written. Dropped before it is kept, it goes.
pub(super) struct Spool {
    file: File,
    held: Held,
    octets: u64,
}

/// A file that goes unless it is kept.
pub(super) struct Held {
    path: PathBuf,
    kept: bool,
}

impl Held {
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, kept: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It has its row.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}

/// The name of a new file.
pub(super) fn new_name() -> String {
    format!("{}.eml", token())
}

/// Random, and never twice.
pub(super) fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Spool {
    pub(super) async fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(new_name());
        let (dir, new) = (dir.to_owned(), path.clone());
        let made = tokio::task::spawn_blocking(move || {
            files::make_lasting_private_dir(&dir)?;
            files::create_private(&new)
        });
        let file = made.await.map_err(io::Error::other)??;
        Ok(Self { file: File::from_std(file), held: Held::of(path), octets: 0 })
    }

    pub(super) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets).await?;
        self.octets += octets.len() as u64;
        Ok(())
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    pub(super) fn path(&self) -> &Path {
        &self.held.path
    }

    pub(super) fn name(&self) -> String {
        self.held.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// All of it is on the disk when this returns.
    pub(super) async fn sync(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let dir = self.held.path.parent().map(Path::to_owned).unwrap_or_default();
        tokio::task::spawn_blocking(move || files::sync_directory(&dir)).await.map_err(io::Error::other)?
    }

    /// It is written.
    pub(super) fn done(self) -> Held {
        self.held
    }
}

/// Another file with the same content, on the disk as far as the first is.
pub(super) fn copy(dir: &Path, name: &str) -> io::Result<String> {
    let copy = new_name();
    let (from, to) = (dir.join(name), dir.join(&copy));
    if std::fs::hard_link(&from, &to).is_err() {
        let mut file = files::create_private(&to)?;
        io::copy(&mut std::fs::File::open(&from)?, &mut file)?;
        file.sync_all()?;
    }
    files::sync_directory(dir)?;
    Ok(copy)
}

/// A file with this content, on the disk when this returns.
pub(super) fn write(dir: &Path, content: &[u8]) -> io::Result<String> {
    let name = new_name();
    files::write_new(&dir.join(&name), content)?;
    Ok(name)
}

/// One that is not there is as good as removed; any other costs some room until the next start.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file of the outbox cannot be removed");
    }
}

/// Removes what no row names. Only where nothing is being written.
pub(super) fn sweep(dir: &Path, named: &HashSet<String>) -> io::Result<()> {
    let files = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        let file = file?;
        if !named.contains(&*file.file_name().to_string_lossy()) {
            remove(&file.path());
        }
    }
    Ok(())
}

/// A trace header (RFC 5321 §4.4) of one transaction alone.
pub(super) fn trace(token: &str, now: std::time::SystemTime) -> String {
    let date = time::OffsetDateTime::from(now).format(&time::format_description::well_known::Rfc2822);
    let date = date.unwrap_or_default();
    format!("Received: from localhost by localhost (outbox) with ESMTPSA id {token};\r\n\t{date}\r\n")
}

/// A message out of the lines DATA sends, the lone dot left out.
pub(super) fn undotted(dotted: &[u8]) -> Vec<u8> {
    let text = dotted.strip_suffix(b".\r\n").unwrap_or(dotted);
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}

/// The same of a message that is to be held once only, in its place.
pub(super) fn undot(message: &mut Vec<u8>) {
    if message.ends_with(b".\r\n") {
        message.truncate(message.len() - 3);
    }
    let (mut to, mut starts_line) = (0, true);
    for from in 0..message.len() {
        let byte = message.get(from).copied().unwrap_or_default();
        if !(starts_line && byte == b'.')
            && let Some(place) = message.get_mut(to)
        {
            *place = byte;
            to += 1;
        }
        starts_line = byte == b'\n';
    }
    message.truncate(to);
}

/// The same without the trace header we put before it.
pub(super) fn untraced(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"Received: from localhost by localhost (") {
        return message;
    }
    let mut rest = message;
    loop {
        let Some(end) = memchr::memchr(b'\n', rest) else { return message };
        rest = rest.get(end + 1..).unwrap_or_default();
        if !matches!(rest.first(), Some(b' ' | b'\t')) {
            return rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_traces() {
        assert_eq!(undotted(b"a\r\n..\r\n...b\r\n.\r\n"), b"a\r\n.\r\n..b\r\n");
        assert_eq!(undotted(b".\r\n"), b"");
        for dotted in [&b"a\r\n..\r\n...b\r\n.\r\n"[..], b".\r\n", b"", b"..", b"\n..x\n", b"a\r\n"] {
            let mut message = dotted.to_vec();
            undot(&mut message);
            assert_eq!(message, undotted(dotted));
        }
        let traced = b"Received: from localhost by localhost (mailweir) with ESMTPSA;\r\n\tnow\r\nSubject: x\r\n\r\nReceived: y\r\n";
        assert_eq!(untraced(traced), b"Subject: x\r\n\r\nReceived: y\r\n");
        assert_eq!(untraced(b"Received: from elsewhere\r\n"), b"Received: from elsewhere\r\n");
    }

    #[tokio::test]
    async fn what_is_not_kept_goes() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("outbox/a");
        let mut kept = Spool::create(&inner).await.unwrap();
        kept.write(b"one").await.unwrap();
        kept.sync().await.unwrap();
        let name = kept.name();
        kept.done().keep();
        drop(Spool::create(&inner).await.unwrap());
        let twin = copy(&inner, &name).unwrap();
        write(&inner, b"nobody's").unwrap();
        sweep(&inner, &HashSet::from([name.clone(), twin.clone()])).unwrap();
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 2);
        remove(&inner.join(&name));
        remove(&inner.join(&name));
        assert_eq!(std::fs::read(inner.join(&twin)).unwrap(), b"one");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&inner), mode(&inner.join(twin))), (0o700, 0o600));
        }
    }
}
