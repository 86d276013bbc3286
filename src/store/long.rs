//! Values of any length: kept in the row while they are short, in a file when they are not.
//!
//! No row may be longer than [`value::LONGEST`]. What is longer, compressed, goes to a file as bodies do; the row
//! then holds the hash.

use bytes::Bytes;

use super::codec::Codec;
use super::files::Hash;
use super::key::Owner;
use super::value::{self, Long};
use super::{Error, Inner};

/// Room for what surrounds the bytes in a row.
const FRAME: usize = 32;

/// Shorter values gain nothing from compression.
const WORTH: usize = 256;

/// An envelope with its structures is kept plain up to here: reading a thousand of them must not decompress.
const PLAIN: usize = 4096;

/// Longest length believed of a compressed value in a row: 7 KiB can claim anything.
const EXPANDED: u64 = 64 << 20;

/// How a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Plain as long as it is small: read often, a few fields at a time.
    Quick,
    /// Compressed whenever that helps.
    Dense,
}

impl Inner {
    /// The row for these bytes; writes the file if it takes one. The caller holds the lock of the owner, writes the
    /// row, and then calls [`Inner::release_long`] with what the row was before.
    pub(super) fn long_value(&self, owner: Owner<'_>, raw: &[u8], form: Form) -> Result<Vec<u8>, Error> {
        let plain = match form {
            Form::Quick => PLAIN,
            Form::Dense => WORTH,
        };
        if raw.len() <= plain {
            return Ok(Long::Plain(raw).value());
        }
        let len = raw.len() as u64;
        let codec = Codec::Zstd;
        match codec.squeeze(raw) {
            Some(bytes) if bytes.len() + FRAME <= value::LONGEST && len <= EXPANDED => {
                return Ok(Long::Squeezed { codec, len, bytes: &bytes }.value());
            }
            None if raw.len() + FRAME <= value::LONGEST => return Ok(Long::Plain(raw).value()),
            _ => {}
        }
        let hash = *blake3::hash(raw).as_bytes();
        self.refer(&hash, raw, owner)?;
        Ok(Long::File { len, hash }.value())
    }

    /// The bytes of a row; nothing if they are damaged or their file is gone.
    pub(super) fn long_read(&self, value: &[u8]) -> Result<Option<Bytes>, Error> {
        match Long::read(value) {
            None => Ok(None),
            Some(Long::Plain(bytes)) => Ok(Some(Bytes::copy_from_slice(bytes))),
            Some(Long::Squeezed { len, .. }) if len > EXPANDED => Ok(None),
            Some(Long::Squeezed { codec, len, bytes }) => Ok(codec.expand(bytes, len as usize).map(Bytes::from)),
            Some(Long::File { len, hash }) => self.file(self.files.read(&hash, len)),
        }
    }

    /// Gives up the file the old row referred to, unless the new one refers to it too.
    pub(super) fn release_long(&self, owner: Owner<'_>, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Error> {
        let hash = |value: Option<&[u8]>| match value.and_then(Long::read) {
            Some(Long::File { hash, .. }) => Some(hash),
            _ => None,
        };
        match hash(old) {
            Some(old) if hash(new) != Some(old) => self.release(&old, owner).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Writes the file, if it is not there already, and the row that says `owner` refers to it.
    pub(super) fn refer(&self, hash: &Hash, raw: &[u8], owner: Owner<'_>) -> Result<(), Error> {
        let reference = owner.reference(hash);
        let _guard = self.files.lock(hash);
        let len = self.file(self.files.put(hash, raw, reference.get(32..).unwrap_or_default()))?;
        self.sled(self.trees.file.insert(reference, value::number_value(len)))?;
        Ok(())
    }

    /// Takes the row away; the last one takes the file with it. Returns the bytes freed.
    pub(super) fn release(&self, hash: &Hash, owner: Owner<'_>) -> Result<u64, Error> {
        let _guard = self.files.lock(hash);
        self.sled(self.trees.file.remove(owner.reference(hash)))?;
        match self.trees.file.scan_prefix(hash).next() {
            Some(other) => self.sled(other).map(|_| 0),
            None => self.file(self.files.remove(hash)),
        }
    }
}
