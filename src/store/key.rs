//! Keys of the database, all big-endian so that a range scan runs in the order of the numbers.
//!
//! | tree   | key                          | value                                     |
//! |--------|------------------------------|-------------------------------------------|
//! | `mbox` | mailbox                      | the mailbox record                        |
//! | `idx`  | mailbox, uid                 | one message, fixed width but for keywords |
//! | `gone` | mailbox, modseq, part        | UIDs that vanished at this modseq         |
//! | `mark` | mailbox                      | modseq from which `gone` is complete      |
//! | `env`  | body key                     | envelope and structures                   |
//! | `head` | body key                     | header                                    |
//! | `body` | body key                     | where the body is, its length and hash    |
//! | `small`| body key                     | a body of at most 4 KiB                   |
//! | `lru`  | hour, body key               | nothing                                   |
//! | `file` | BLAKE3, owner tag, owner key | length of the file                        |
//! | `blob` | name                         | opaque bytes of the engine                |
//!
//! `file` is the reverse of every reference to a file: a file lives as long as one row names it, so there is no
//! counter that a crash could leave wrong.

use std::ops::Deref;

use super::{BodyKey, MailboxId};
use crate::model::{ModSeq, Uid, UidValidity};

const PROVIDER: u8 = 1;
const MESSAGE: u8 = 2;

/// The longest key built here: hour, then the longest body key.
const LONGEST: usize = 18;

/// A short key without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Key {
    fn new(parts: &[&[u8]]) -> Self {
        let mut key = Self { bytes: [0; LONGEST], len: 0 };
        for byte in parts.iter().flat_map(|part| part.iter()) {
            if let Some(slot) = key.bytes.get_mut(usize::from(key.len)) {
                *slot = *byte;
                key.len += 1;
            }
        }
        key
    }

    pub(super) fn mailbox(id: MailboxId) -> Self {
        Self::new(&[&id.0.to_be_bytes()])
    }

    pub(super) fn message(id: MailboxId, uid: Uid) -> Self {
        Self::new(&[&id.0.to_be_bytes(), &uid.0.to_be_bytes()])
    }

    /// `part` tells apart the pieces of one long expunge.
    pub(super) fn vanished(id: MailboxId, modseq: ModSeq, part: u16) -> Self {
        Self::new(&[&id.0.to_be_bytes(), &modseq.0.to_be_bytes(), &part.to_be_bytes()])
    }

    pub(super) fn body(key: BodyKey) -> Self {
        match key {
            BodyKey::Provider(id) => Self::new(&[&[PROVIDER], &id.to_be_bytes()]),
            BodyKey::Message { mailbox, uid_validity, uid } => {
                Self::new(&[&[MESSAGE], &mailbox.0.to_be_bytes(), &uid_validity.0.to_be_bytes(), &uid.0.to_be_bytes()])
            }
        }
    }

    pub(super) fn lru(hour: u32, body: &[u8]) -> Self {
        Self::new(&[&hour.to_be_bytes(), body])
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Key> for sled::IVec {
    fn from(key: Key) -> Self {
        Self::from(&*key)
    }
}

/// The mailbox a key begins with.
pub(super) fn mailbox_of(key: &[u8]) -> Option<MailboxId> {
    Some(MailboxId(u32::from_be_bytes(*key.first_chunk()?)))
}

/// The UID of a message key.
pub(super) fn uid_of(key: &[u8]) -> Option<Uid> {
    let (_, rest) = key.split_first_chunk::<4>()?;
    Some(Uid(u32::from_be_bytes(rest.try_into().ok()?)))
}

/// The mod-sequence of a key of the expunge log.
pub(super) fn modseq_of(key: &[u8]) -> Option<ModSeq> {
    let (_, rest) = key.split_first_chunk::<4>()?;
    Some(ModSeq(u64::from_be_bytes(*rest.first_chunk()?)))
}

/// Reads a body key back.
pub(super) fn body_key(bytes: &[u8]) -> Option<BodyKey> {
    match bytes.split_first()? {
        (&PROVIDER, id) => Some(BodyKey::Provider(u64::from_be_bytes(id.try_into().ok()?))),
        (&MESSAGE, rest) => {
            let (mailbox, rest) = rest.split_first_chunk::<4>()?;
            let (uid_validity, uid) = rest.split_first_chunk::<4>()?;
            Some(BodyKey::Message {
                mailbox: MailboxId(u32::from_be_bytes(*mailbox)),
                uid_validity: UidValidity(u32::from_be_bytes(*uid_validity)),
                uid: Uid(u32::from_be_bytes(uid.try_into().ok()?)),
            })
        }
        _ => None,
    }
}

/// The hour and the body key of an LRU entry.
pub(super) fn lru_entry(key: &[u8]) -> Option<(u32, &[u8])> {
    let (hour, body) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*hour), body))
}

/// Who refers to a file: the tree and the key in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    Body(&'a [u8]),
    Envelope(&'a [u8]),
    Header(&'a [u8]),
    Blob(&'a [u8]),
}

impl<'a> Owner<'a> {
    fn parts(self) -> (u8, &'a [u8]) {
        match self {
            Self::Body(key) => (b'b', key),
            Self::Envelope(key) => (b'e', key),
            Self::Header(key) => (b'h', key),
            Self::Blob(key) => (b'o', key),
        }
    }

    /// The row in `file` that says this owner refers to the file of this hash.
    pub(super) fn reference(self, hash: &[u8; 32]) -> Vec<u8> {
        let (tag, key) = self.parts();
        [hash.as_slice(), &[tag], key].concat()
    }

    /// Reads such a row back.
    pub(super) fn of(reference: &'a [u8]) -> Option<([u8; 32], Self)> {
        let (hash, rest) = reference.split_first_chunk::<32>()?;
        let owner = match rest.split_first()? {
            (b'b', key) => Self::Body(key),
            (b'e', key) => Self::Envelope(key),
            (b'h', key) => Self::Header(key),
            (b'o', key) => Self::Blob(key),
            _ => return None,
        };
        Some((*hash, owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_keys_survive_the_round_trip() {
        let message = BodyKey::Message { mailbox: MailboxId(7), uid_validity: UidValidity(u32::MAX), uid: Uid(1) };
        for key in [BodyKey::Provider(0), BodyKey::Provider(u64::MAX), message] {
            let bytes = Key::body(key);
            assert_eq!(body_key(&bytes), Some(key));
            let lru = Key::lru(9, &bytes);
            assert_eq!(lru_entry(&lru), Some((9, &*bytes)), "no byte is cut off");
        }
        for bad in [&[][..], &[0], &[1, 2], &[2, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(body_key(bad), None);
        }
    }

    #[test]
    fn keys_sort_as_their_numbers() {
        let id = MailboxId(1);
        assert!(*Key::message(id, Uid(255)) < *Key::message(id, Uid(256)));
        assert!(*Key::message(id, Uid(u32::MAX)) < *Key::message(MailboxId(2), Uid(1)));
        assert!(*Key::vanished(id, ModSeq(9), u16::MAX) < *Key::vanished(id, ModSeq(10), 0));
    }
}
