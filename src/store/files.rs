//! The directory of body files: `cas/<aa>/<BLAKE3 in hex>`, written under `tmp/` and renamed.
//!
//! A file is named by the BLAKE3 of the raw bytes in it, is never changed, and is verified whenever it is read. It
//! is not synced: what a power cut tears is noticed by the hash and fetched again. What is in a file: [`one`].

mod one;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::codec::Codec;
pub(super) use one::{Chunks, Hash};
use one::{read_all, whole_of, write};

/// A body up to this length is read by one call, header, table and bytes; most are, and then opening is what costs.
const AT_ONCE: u64 = 1 << 20;

/// What a file system takes for a file at least.
const BLOCK: u64 = 4096;

/// Locks for the files of a hash: enough that two pool threads seldom meet.
const STRIPES: usize = 64;

/// The files of one account.
pub(super) struct Files {
    cas: PathBuf,
    tmp: PathBuf,
    /// Bytes taken on disk by all files, in whole blocks.
    bytes: AtomicU64,
    serial: AtomicU64,
    stripes: Vec<Mutex<()>>,
}

impl Files {
    /// Makes the directories and throws away what a crash left half written.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let (cas, tmp) = (dir.join("cas"), dir.join("tmp"));
        if tmp.exists() {
            fs::remove_dir_all(&tmp)?;
        }
        fs::create_dir_all(&cas)?;
        fs::create_dir_all(&tmp)?;
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Ok(Self { cas, tmp, bytes: AtomicU64::new(0), serial: AtomicU64::new(0), stripes })
    }

    /// Bytes taken on disk by all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Held while a file and the rows that refer to it must not change under one.
    pub(super) fn lock(&self, hash: &Hash) -> MutexGuard<'_, ()> {
        let index = usize::from(hash[0]) % STRIPES;
        // The guarded value is nothing, so a panic under the lock leaves nothing half done in it.
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        let name = blake3::Hash::from_bytes(*hash).to_hex();
        let aa = name.get(..2).unwrap_or_default();
        self.cas.join(aa).join(name.as_str())
    }

    /// Writes the file unless a sound one is there; returns its length. Call under [`Files::lock`].
    pub(super) fn put(&self, hash: &Hash, raw: &[u8], owner: &[u8]) -> io::Result<u64> {
        let path = self.path(hash);
        let old = match fs::metadata(&path) {
            Ok(meta) => {
                if self.is_sound(hash, raw.len() as u64) {
                    return Ok(meta.len());
                }
                on_disk(meta.len())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let tmp = self.tmp.join(self.serial.fetch_add(1, Ordering::Relaxed).to_string());
        let written = write(&tmp, hash, raw, owner, Codec::Lz4).and_then(|len| {
            match fs::rename(&tmp, &path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(path.parent().unwrap_or(&self.cas))?;
                    fs::rename(&tmp, &path)?;
                }
                other => other?,
            }
            Ok(len)
        });
        match written {
            Ok(len) => {
                self.bytes.fetch_add(on_disk(len), Ordering::Relaxed);
                self.take(old);
                Ok(len)
            }
            Err(error) => {
                // What is left of it would only be swept at the next start.
                let _ = fs::remove_file(&tmp);
                Err(error)
            }
        }
    }

    /// Removes the file; returns the bytes freed, 0 if there was none. Call under [`Files::lock`].
    pub(super) fn remove(&self, hash: &Hash) -> io::Result<u64> {
        let path = self.path(hash);
        let freed = match fs::metadata(&path).and_then(|meta| fs::remove_file(&path).map(|()| meta.len())) {
            Ok(len) => on_disk(len),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.take(freed);
        Ok(freed)
    }

    fn take(&self, bytes: u64) {
        let less = |now: u64| Some(now.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn exists(&self, hash: &Hash) -> bool {
        self.path(hash).exists()
    }

    /// Length of the file, if there is one.
    pub(super) fn len(&self, hash: &Hash) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(hash)) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file for reading; `None` if it is absent or its header is not what it must be.
    pub(super) fn open_file(&self, hash: &Hash, len: u64) -> io::Result<Option<Chunks>> {
        match File::open(self.path(hash)) {
            Ok(file) => Chunks::open(file, hash, Some(len)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole, verified; `None` if it is absent or damaged.
    pub(super) fn read(&self, hash: &Hash, len: u64) -> io::Result<Option<Bytes>> {
        if len > AT_ONCE {
            return match self.open_file(hash, len)? {
                Some(chunks) => chunks.whole(),
                None => Ok(None),
            };
        }
        match File::open(self.path(hash)) {
            Ok(file) => Ok(read_all(file, len)?.and_then(|bytes| whole_of(bytes, hash, len))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_sound(&self, hash: &Hash, len: u64) -> bool {
        self.read(hash, len).is_ok_and(|bytes| bytes.is_some())
    }

    /// Whom the file was first written for, and the length of what is in it.
    pub(super) fn label(&self, hash: &Hash) -> io::Result<Option<(Vec<u8>, u64)>> {
        let file = match File::open(self.path(hash)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Chunks::open(file, hash, None)?.map(Chunks::label))
    }

    /// Every file: its hash and length. Files with other names are told with no hash.
    pub(super) fn walk(&self, mut each: impl FnMut(Option<Hash>, u64, &Path)) -> io::Result<()> {
        for dir in fs::read_dir(&self.cas)? {
            let dir = dir?.path();
            if !dir.is_dir() {
                each(None, 0, &dir);
                continue;
            }
            for file in fs::read_dir(&dir)? {
                let file = file?;
                let len = match file.metadata() {
                    Ok(meta) => meta.len(),
                    // Evicted while we walk.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let path = file.path();
                let hash = file.file_name().to_str().and_then(|name| blake3::Hash::from_hex(name).ok());
                let hash = hash.map(|hash| *hash.as_bytes()).filter(|hash| self.path(hash) == path);
                each(hash, len, &path);
            }
        }
        Ok(())
    }
}

/// What a file of this length takes on disk.
pub(super) fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::one::{CHUNK, ENTRY, FIXED};
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|n| b"the quick brown fox "[n % 20] ^ u8::try_from(n / 7000 % 8).unwrap()).collect()
    }

    #[test]
    fn bytes_survive_the_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let mut sum = 0;
        for len in [0, 1, 5000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17] {
            let raw = text(len);
            let hash = *blake3::hash(&raw).as_bytes();
            let stored = files.put(&hash, &raw, b"owner").unwrap();
            sum += on_disk(stored);
            assert_eq!(files.put(&hash, &raw, b"other").unwrap(), stored, "the same file");
            assert_eq!(files.read(&hash, len as u64).unwrap().as_deref(), Some(&*raw), "{len}");
            assert_eq!(files.read(&hash, len as u64 + 1).unwrap(), None, "another length is another message");
            assert_eq!(files.label(&hash).unwrap(), Some((b"owner".to_vec(), len as u64)));
            assert_eq!(files.bytes(), sum);
        }
        let mut seen = 0;
        files.walk(|hash, len, _| seen += hash.map_or(0, |_| on_disk(len))).unwrap();
        assert_eq!(seen, sum);
    }

    /// Piece by piece, as large bodies are read.
    fn pieces(files: &Files, hash: &Hash, len: u64) -> Option<Vec<u8>> {
        let (mut chunks, mut whole) = (files.open_file(hash, len).unwrap()?, Vec::new());
        loop {
            let (piece, hash) = chunks.next_chunk().unwrap()?;
            if piece.is_empty() {
                return Some(whole);
            }
            assert_eq!(*blake3::hash(&piece).as_bytes(), hash);
            whole.extend_from_slice(&piece);
        }
    }

    #[test]
    fn files_of_an_older_version_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        for len in [900, CHUNK + 900, 3 * CHUNK] {
            let raw = text(len);
            let hash = *blake3::hash(&raw).as_bytes();
            let path = files.path(&hash);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let stored = write(&path, &hash, &raw, b"owner", Codec::Zstd).unwrap();
            assert!(stored < len as u64 / 2, "compressed");
            assert_eq!(files.read(&hash, len as u64).unwrap().as_deref(), Some(&*raw), "{len}");
            assert_eq!(pieces(&files, &hash, len as u64).as_ref(), Some(&raw), "{len}");
        }
    }

    #[test]
    fn no_damage_gets_through() {
        no_damage_gets_through_to(&text(CHUNK + 900));
    }

    #[test]
    fn no_damage_gets_through_to_what_is_stored_as_it_is() {
        no_damage_gets_through_to(&super::super::tests::noise(5, CHUNK + 900));
    }

    fn no_damage_gets_through_to(raw: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let hash = *blake3::hash(raw).as_bytes();
        files.put(&hash, raw, b"").unwrap();
        let path = files.path(&hash);
        let sound = fs::read(&path).unwrap();
        let table = FIXED + 2 * ENTRY + 32;
        let mut places: Vec<usize> = (0..table).collect();
        places.extend((table..sound.len()).step_by(997).chain([sound.len() - 1]));
        for place in places {
            let mut bad = sound.clone();
            bad[place] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            let read = files.read(&hash, raw.len() as u64).unwrap();
            assert!(read.is_none_or(|read| read == raw), "byte {place}: wrong bytes");
            let read = pieces(&files, &hash, raw.len() as u64);
            assert!(read.is_none_or(|read| read == raw), "byte {place}: wrong bytes, piece by piece");
            fs::write(&path, &sound[..place]).unwrap();
            assert_eq!(files.read(&hash, raw.len() as u64).unwrap(), None, "cut at {place}");
            assert_eq!(pieces(&files, &hash, raw.len() as u64), None, "cut at {place}, piece by piece");
        }
        // Another sound file under this name.
        let other = *blake3::hash(b"other").as_bytes();
        files.put(&other, b"other", b"").unwrap();
        fs::copy(files.path(&other), &path).unwrap();
        assert_eq!(files.read(&hash, 5).unwrap(), None);
        // Writing it again mends it.
        files.put(&hash, raw, b"").unwrap();
        assert!(files.is_sound(&hash, raw.len() as u64));
        assert_eq!(files.remove(&hash).unwrap(), on_disk(sound.len() as u64));
        assert_eq!(files.remove(&hash).unwrap(), 0);
    }
}
