//! What is in a body file. The bytes lie in chunks, each hashed (and compressed, where that is worth it) for itself, so that the first bytes
//! of a large message can be served, verified, without reading the last:
//!
//! ```text
//! "mwb1"  chunk size u32  length u64  BLAKE3 of all [32]  owner length u32  owner
//! per chunk: stored length u32 (top bit: zstd, the next: LZ4), BLAKE3 of the raw chunk [32]
//! BLAKE3 of everything above [32]
//! the chunks
//! ```
//! The owner is the key this file was first written for: with it the bodies of a provider that has message ids can
//! be found again when the database is lost.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bytes::Bytes;

use crate::store::codec::Codec;

/// BLAKE3 of the raw bytes.
pub(in crate::store) type Hash = [u8; 32];

const MAGIC: &[u8; 4] = b"mwb1";

/// Raw bytes of a chunk: verified in well under a millisecond, and it fits the cache of a processor.
pub(super) const CHUNK: usize = 512 * 1024;

/// Fixed part of the header, up to the owner.
pub(super) const FIXED: usize = 4 + 4 + 8 + 32 + 4;

/// Longest owner written or believed.
const OWNER: usize = 256;

/// Bytes a chunk takes in the table.
pub(super) const ENTRY: usize = 4 + 32;

/// Mark a compressed chunk.
const ZSTD: u32 = 1 << 31;
const LZ4: u32 = 1 << 30;

/// Buffer before a file that is read piece by piece: header and table are in it.
const BUFFER: u64 = 32 * 1024;

/// Writes a file that is not there; its length.
pub(super) fn write(path: &Path, hash: &Hash, raw: &[u8], owner: &[u8], codec: Codec) -> io::Result<u64> {
    let owner = if owner.len() <= OWNER { owner } else { &[] };
    let mut header = Vec::with_capacity(FIXED + OWNER + ENTRY * raw.len().div_ceil(CHUNK) + 32);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&(CHUNK as u32).to_le_bytes());
    header.extend_from_slice(&(raw.len() as u64).to_le_bytes());
    header.extend_from_slice(hash);
    header.extend_from_slice(&(owner.len() as u32).to_le_bytes());
    header.extend_from_slice(owner);
    let begin = (header.len() + ENTRY * raw.len().div_ceil(CHUNK) + 32) as u64;

    // The table is known only when the chunks are written: they first, then back to the front.
    let mut file = File::create_new(path)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut len = begin;
    for chunk in raw.chunks(CHUNK) {
        let squeezed = codec.squeeze(chunk);
        let stored = squeezed.as_deref().unwrap_or(chunk);
        file.write_all(stored)?;
        len += stored.len() as u64;
        let mark = match codec {
            _ if squeezed.is_none() => 0,
            Codec::Zstd => ZSTD,
            Codec::Lz4 => LZ4,
        };
        header.extend_from_slice(&(stored.len() as u32 | mark).to_le_bytes());
        header.extend_from_slice(blake3::hash(chunk).as_bytes());
    }
    let seal = blake3::hash(&header);
    header.extend_from_slice(seal.as_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    Ok(len)
}

/// An open file, read from its first chunk to its last. Stays readable when the file is removed meanwhile.
pub(in crate::store) struct Chunks {
    file: BufReader<File>,
    owner: Vec<u8>,
    len: u64,
    left: u64,
    table: std::vec::IntoIter<(u32, Hash)>,
}

impl Chunks {
    pub(super) fn open(file: File, hash: &Hash, len: Option<u64>) -> io::Result<Option<Self>> {
        let actual = file.metadata()?.len();
        let mut file = BufReader::with_capacity(actual.min(BUFFER) as usize, file);
        let mut header = vec![0; FIXED];
        if !fill(&mut file, &mut header)? {
            return Ok(None);
        }
        let Some((stated, owner)) = fixed(&header, hash) else { return Ok(None) };
        // The table is not longer than the file, whatever the header claims.
        let table = stated.div_ceil(CHUNK as u64).saturating_mul(ENTRY as u64);
        if len.is_some_and(|len| len != stated) || owner > OWNER || table > actual {
            return Ok(None);
        }
        header.resize(FIXED + owner + table as usize, 0);
        let mut seal = [0; 32];
        if !fill(&mut file, header.get_mut(FIXED..).unwrap_or_default())? || !fill(&mut file, &mut seal)? {
            return Ok(None);
        }
        if blake3::hash(&header) != seal {
            return Ok(None);
        }
        let (owner, entries) = header.split_off(FIXED).split_at_checked(owner).map(split).unwrap_or_default();
        Ok(Some(Self { file, owner, len: stated, left: stated, table: entries.into_iter() }))
    }

    /// Whom it was first written for, and the length of what is in it.
    pub(super) fn label(self) -> (Vec<u8>, u64) {
        (self.owner, self.len)
    }

    /// The next chunk, verified, and its BLAKE3; `None` if it is damaged. Nothing is in it at the end.
    pub(in crate::store) fn next_chunk(&mut self) -> io::Result<Option<(Bytes, Hash)>> {
        let Some((stored, hash)) = self.table.next() else { return Ok(Some((Bytes::new(), Hash::default()))) };
        let len = self.left.min(CHUNK as u64) as usize;
        self.left -= len as u64;
        let mut bytes = vec![0; ((stored & !(ZSTD | LZ4)) as usize).min(CHUNK)];
        if !fill(&mut self.file, &mut bytes)? {
            return Ok(None);
        }
        Ok(chunk_of(stored, bytes.into(), len, &hash).map(|raw| (raw, hash)))
    }

    /// All of it, verified; `None` if any chunk is damaged.
    pub(super) fn whole(mut self) -> io::Result<Option<Bytes>> {
        if self.len <= CHUNK as u64 {
            return Ok(self.next_chunk()?.map(|(only, _)| only));
        }
        let mut whole = Vec::new();
        // A length that fills no memory is a damaged file, though its header checks out.
        if usize::try_from(self.len).map_or(true, |len| whole.try_reserve_exact(len).is_err()) {
            return Ok(None);
        }
        while self.left > 0 {
            match self.next_chunk()? {
                Some((chunk, _)) => whole.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
        Ok(Some(whole.into()))
    }
}

/// The octets of a file that holds a body of this length; nothing if there are more than there can be.
pub(super) fn read_all(mut file: File, len: u64) -> io::Result<Option<Vec<u8>>> {
    // No chunk is stored in more octets than it has.
    let most = FIXED + OWNER + ENTRY * (len as usize).div_ceil(CHUNK) + 32 + len as usize;
    let mut bytes = vec![0; most + 1];
    let mut have = 0;
    while let Some(space) = bytes.get_mut(have..).filter(|space| !space.is_empty()) {
        match file.read(space) {
            Ok(0) => {
                bytes.truncate(have);
                return Ok(Some(bytes));
            }
            Ok(count) => have += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The body in a file read whole, verified.
pub(super) fn whole_of(file: Vec<u8>, hash: &Hash, len: u64) -> Option<Bytes> {
    let (stated, owner) = fixed(file.get(..FIXED)?, hash)?;
    let table = ENTRY * (len as usize).div_ceil(CHUNK);
    let sealed = FIXED.checked_add(owner)?.checked_add(table)?;
    if stated != len
        || owner > OWNER
        || blake3::hash(file.get(..sealed)?) != *file.get(sealed..)?.first_chunk::<32>()?
    {
        return None;
    }
    let (_, entries) = split((&[], file.get(FIXED + owner..sealed)?));
    let file = Bytes::from(file);
    let (mut at, mut left) = (sealed + 32, len as usize);
    let mut chunks = Vec::with_capacity(entries.len());
    for (stored, hash) in entries {
        let end = at.checked_add((stored & !(ZSTD | LZ4)) as usize)?;
        let raw = left.min(CHUNK);
        file.get(at..end)?;
        chunks.push(chunk_of(stored, file.slice(at..end), raw, &hash)?);
        (at, left) = (end, left - raw);
    }
    match chunks.as_slice() {
        // One chunk as it is stands in the file: nothing is copied.
        [only] => Some(only.clone()),
        _ => Some(chunks.concat().into()),
    }
}

/// A chunk from what is stored of it; nothing if that is damaged.
fn chunk_of(stored: u32, bytes: Bytes, len: usize, hash: &Hash) -> Option<Bytes> {
    let raw = match stored & (ZSTD | LZ4) {
        0 => bytes,
        ZSTD => Codec::Zstd.expand(&bytes, len)?.into(),
        LZ4 => Codec::Lz4.expand(&bytes, len)?.into(),
        _ => return None,
    };
    (raw.len() == len && blake3::hash(&raw) == *hash).then_some(raw)
}

/// Length and length of the owner, if the fixed part is of this hash.
fn fixed(header: &[u8], hash: &Hash) -> Option<(u64, usize)> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (chunk, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (of, rest) = rest.split_first_chunk::<32>()?;
    let owner = u32::from_le_bytes(rest.try_into().ok()?);
    let ours = magic == MAGIC && u32::from_le_bytes(*chunk) == CHUNK as u32 && of == hash;
    ours.then_some((u64::from_le_bytes(*len), owner as usize))
}

fn split((owner, table): (&[u8], &[u8])) -> (Vec<u8>, Vec<(u32, Hash)>) {
    let entry = |entry: &[u8]| {
        let (stored, hash) = entry.split_first_chunk::<4>()?;
        Some((u32::from_le_bytes(*stored), hash.try_into().ok()?))
    };
    (owner.to_vec(), table.chunks_exact(ENTRY).filter_map(entry).collect())
}

/// Fills the buffer; false if the file ends before.
fn fill(file: &mut BufReader<File>, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
