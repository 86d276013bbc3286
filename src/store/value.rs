//! Values of the database: fixed-width or length-prefixed fields, a version byte first, a crc32c last.
//!
//! Nothing here is a library's own serialisation, so a new version of a dependency cannot make an old cache
//! unreadable. A value that does not check out is reported as absent, and its owner treats that as a miss: wrong
//! bytes are never served. A version byte nobody knows is a miss too, so a format change empties the cache softly.

use std::collections::HashMap;

use super::codec::Codec;
use super::{BodyKey, MailboxRecord};
use crate::model::{Flags, InternalDate, Keyword, MessageMeta, ModSeq, SystemFlags, Uid, UidSet, UidValidity};

/// Version of every value written today.
const VERSION: u8 = 1;

/// No value may be longer: 16 values of 8 KiB make a page of sled 0.34 spill into files that are never synced.
pub(super) const LONGEST: usize = 7 * 1024;

/// Ranges in one row of the expunge log: 8 bytes each, well below [`LONGEST`].
pub(super) const RANGES_PER_ROW: usize = 800;

/// Bytes of keyword names kept for one message; beyond it the message is left out of the index and asked for again
/// at every start. Providers allow far less (Dovecot: 50 bytes a name).
const KEYWORD_BYTES: usize = 6 * 1024;

/// Writes fields one after the other.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 5);
        bytes.push(VERSION);
        Self(bytes)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, number: u8) -> &mut Self {
        self.raw(&[number])
    }

    pub(super) fn u32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    pub(super) fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    /// A length of four bytes and the bytes. Callers pass nothing near 4 GiB.
    pub(super) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    /// The value with its checksum.
    pub(super) fn seal(&mut self) -> Vec<u8> {
        let sum = crc32c::crc32c(&self.0);
        self.u32(sum);
        std::mem::take(&mut self.0)
    }
}

/// Reads fields one after the other; nothing past the end.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The fields of a sealed value, if its checksum and version are right.
    pub(super) fn unseal(value: &'a [u8]) -> Option<Self> {
        let (bytes, sum) = value.split_last_chunk::<4>()?;
        if crc32c::crc32c(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut reader = Self(bytes);
        (reader.u8()? == VERSION).then_some(reader)
    }

    pub(super) fn raw(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn field(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.raw(usize::try_from(len).ok()?)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn mailbox_value(record: &MailboxRecord) -> Vec<u8> {
    let mut out = Writer::new(64 + record.name.len());
    out.field(record.name.as_bytes())
        .u32(record.uid_validity.0)
        .u32(record.uid_next.0)
        .u64(record.highest_modseq.0)
        .u64(record.upstream_modseq)
        .u32(record.exists)
        .u8(u8::from(record.read_only))
        .u8(u8::from(record.permanent.is_some()))
        .field(record.permanent.as_deref().unwrap_or_default().as_bytes());
    out.seal()
}

pub(super) fn mailbox_record(value: &[u8]) -> Option<MailboxRecord> {
    let mut from = Reader::unseal(value)?;
    let record = MailboxRecord {
        name: String::from_utf8(from.field()?.to_vec()).ok()?,
        uid_validity: UidValidity(from.u32()?),
        uid_next: Uid(from.u32()?),
        highest_modseq: ModSeq(from.u64()?),
        upstream_modseq: from.u64()?,
        exists: from.u32()?,
        read_only: from.u8()? != 0,
        permanent: {
            let limited = from.u8()? != 0;
            let text = String::from_utf8(from.field()?.to_vec()).ok()?;
            limited.then_some(text)
        },
    };
    from.is_empty().then_some(record)
}

/// A message as kept in `idx`: the fixed fields, then the keywords' names separated by spaces. Names rather than
/// numbers of a table: few messages have any, a row stays readable by itself, and [`Messages`] shares what repeats.
/// Nothing when the keywords are beyond all reason.
pub(super) fn message_value(message: &MessageMeta) -> Option<Vec<u8>> {
    let mut out = Writer::new(48);
    out.u8(message.flags.system.bits())
        .u64(message.modseq.0)
        .raw(&message.internal_date.seconds.to_le_bytes())
        .raw(&message.internal_date.zone.to_le_bytes())
        .u32(message.size)
        .u64(message.gm_msgid);
    let fixed = out.0.len();
    for (index, keyword) in message.flags.keywords().iter().enumerate() {
        if index > 0 {
            out.u8(b' ');
        }
        out.raw(keyword.as_str().as_bytes());
    }
    (out.0.len() - fixed <= KEYWORD_BYTES).then(|| out.seal())
}

/// Reads messages of one mailbox and shares equal keyword lists between them: of 100,000 messages most have the
/// same few.
#[derive(Default)]
pub(super) struct Messages {
    keywords: HashMap<Vec<u8>, Flags>,
}

impl Messages {
    /// Distinct keyword lists remembered; a mailbox with more of them is read a little slower.
    const LISTS: usize = 4096;

    pub(super) fn read(&mut self, uid: Uid, value: &[u8]) -> Option<MessageMeta> {
        let mut from = Reader::unseal(value)?;
        let system = SystemFlags::from_bits(from.u8()?);
        let modseq = ModSeq(from.u64()?);
        let internal_date =
            InternalDate { seconds: i64::from_le_bytes(from.array()?), zone: i16::from_le_bytes(from.array()?) };
        let size = from.u32()?;
        let gm_msgid = from.u64()?;
        let mut flags = self.flags(from.rest())?;
        flags.system = system;
        Some(MessageMeta { uid, flags, modseq, internal_date, size, gm_msgid })
    }

    fn flags(&mut self, names: &[u8]) -> Option<Flags> {
        if names.is_empty() {
            return Some(Flags::default());
        }
        if let Some(flags) = self.keywords.get(names) {
            return Some(flags.clone());
        }
        let keywords: Option<Vec<Keyword>> = std::str::from_utf8(names).ok()?.split(' ').map(Keyword::new).collect();
        let flags = Flags::new(SystemFlags::default(), keywords?);
        if self.keywords.len() < Self::LISTS {
            self.keywords.insert(names.to_vec(), flags.clone());
        }
        Some(flags)
    }
}

/// The provider's id of a message row, without the rest.
pub(super) fn provider_id(value: &[u8]) -> Option<u64> {
    let mut from = Reader::unseal(value)?;
    from.raw(1 + 8 + 8 + 2 + 4)?;
    from.u64()
}

/// Cuts a set into rows of the expunge log.
pub(super) fn vanished_values(uids: &UidSet) -> Vec<Vec<u8>> {
    let ranges: Vec<_> = uids.ranges().collect();
    let row = |ranges: &[std::ops::RangeInclusive<u32>]| {
        let mut out = Writer::new(ranges.len() * 8);
        for range in ranges {
            out.u32(*range.start()).u32(*range.end());
        }
        out.seal()
    };
    ranges.chunks(RANGES_PER_ROW).map(row).collect()
}

pub(super) fn vanished_set(value: &[u8]) -> Option<UidSet> {
    let mut from = Reader::unseal(value)?;
    let mut uids = UidSet::new();
    while !from.is_empty() {
        let start = from.u32()?;
        uids.insert_range(start..=from.u32()?);
    }
    Some(uids)
}

pub(super) fn number_value(number: u64) -> Vec<u8> {
    Writer::new(8).u64(number).seal()
}

pub(super) fn number(value: &[u8]) -> Option<u64> {
    Reader::unseal(value)?.u64()
}

/// Where a body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `small`.
    Inline,
    /// In the file of its hash.
    File,
}

/// What `body` says of a message: fixed width, so that scans and LRU updates never touch the bytes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyRecord {
    pub(super) place: Place,
    /// Octets of the raw message.
    pub(super) len: u64,
    /// Hour of the last known read, in hours since the epoch; its row in `lru` has the same.
    pub(super) hour: u32,
    /// BLAKE3 of the raw message.
    pub(super) hash: [u8; 32],
}

impl BodyRecord {
    pub(super) fn value(&self) -> Vec<u8> {
        let place = match self.place {
            Place::Inline => 1,
            Place::File => 2,
        };
        Writer::new(48).u8(place).u64(self.len).u32(self.hour).raw(&self.hash).seal()
    }

    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let mut from = Reader::unseal(value)?;
        let place = match from.u8()? {
            1 => Place::Inline,
            2 => Place::File,
            _ => return None,
        };
        let record = Self { place, len: from.u64()?, hour: from.u32()?, hash: from.array()? };
        from.is_empty().then_some(record)
    }
}

/// A value of any length: as it is, compressed, or in a file of its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Long<'a> {
    Plain(&'a [u8]),
    Squeezed { codec: Codec, len: u64, bytes: &'a [u8] },
    File { len: u64, hash: [u8; 32] },
}

impl<'a> Long<'a> {
    pub(super) fn value(&self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => Writer::new(bytes.len() + 1).u8(0).raw(bytes).seal(),
            Self::Squeezed { codec, len, bytes } => {
                let tag = match codec {
                    Codec::Zstd => 1,
                    Codec::Lz4 => 3,
                };
                Writer::new(bytes.len() + 9).u8(tag).u64(*len).raw(bytes).seal()
            }
            Self::File { len, hash } => Writer::new(41).u8(2).u64(*len).raw(hash).seal(),
        }
    }

    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let mut from = Reader::unseal(value)?;
        match from.u8()? {
            0 => Some(Self::Plain(from.rest())),
            1 => Some(Self::Squeezed { codec: Codec::Zstd, len: from.u64()?, bytes: from.rest() }),
            2 => Some(Self::File { len: from.u64()?, hash: from.array()? }),
            3 => Some(Self::Squeezed { codec: Codec::Lz4, len: from.u64()?, bytes: from.rest() }),
            _ => None,
        }
    }
}

/// A body key in words, for findings.
pub(super) fn name_of(key: &[u8]) -> String {
    match super::key::body_key(key) {
        Some(BodyKey::Provider(id)) => format!("provider id {id}"),
        Some(BodyKey::Message { mailbox, uid_validity, uid }) => {
            format!("mailbox {} uidvalidity {uid_validity} uid {uid}", mailbox.0)
        }
        None => format!("malformed key {key:02x?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: Flags) -> MessageMeta {
        MessageMeta {
            uid: Uid(7),
            flags,
            modseq: ModSeq(u64::MAX >> 1),
            internal_date: InternalDate { seconds: -5, zone: -1439 },
            size: u32::MAX,
            gm_msgid: u64::MAX,
        }
    }

    #[test]
    fn values_survive_the_round_trip() {
        let record = MailboxRecord {
            name: "Entwürfe/ß".into(),
            uid_validity: UidValidity(1),
            uid_next: Uid(u32::MAX),
            highest_modseq: ModSeq(3),
            upstream_modseq: 4,
            exists: 5,
            read_only: true,
            permanent: Some("\\Seen \\*".into()),
        };
        for record in [record, MailboxRecord::default()] {
            assert_eq!(mailbox_record(&mailbox_value(&record)), Some(record));
        }
        let mut messages = Messages::default();
        for names in ["", "\\Seen", "$Forwarded", "\\Draft \\Deleted a b c"] {
            let message = message(Flags::parse(names.split_whitespace()));
            let value = message_value(&message).unwrap();
            assert_eq!(messages.read(Uid(7), &value).as_ref(), Some(&message), "{names}");
            assert_eq!(messages.read(Uid(7), &value).as_ref(), Some(&message), "{names}: the second time");
            assert_eq!(provider_id(&value), Some(u64::MAX));
        }
        let body = BodyRecord { place: Place::File, len: 1 << 40, hour: 9, hash: [7; 32] };
        assert_eq!(BodyRecord::read(&body.value()), Some(body));
        let squeezed = [Codec::Zstd, Codec::Lz4].map(|codec| Long::Squeezed { codec, len: 4, bytes: b"abc" });
        for long in squeezed.into_iter().chain([Long::Plain(b"x"), Long::File { len: 9, hash: [1; 32] }]) {
            assert_eq!(Long::read(&long.value()), Some(long));
        }
    }

    #[test]
    fn one_flipped_bit_is_a_miss() {
        let value = message_value(&message(Flags::parse(["\\Seen", "work"]))).unwrap();
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Messages::default().read(Uid(7), &bad), None, "bit {bit}");
        }
        for len in 0..value.len() {
            assert_eq!(Messages::default().read(Uid(7), &value[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn keywords_beyond_reason_are_refused() {
        let many = (0..60).map(|n| Keyword::new(&format!("{n:0200}")).unwrap());
        assert_eq!(message_value(&message(Flags::new(SystemFlags::default(), many))), None);
        let some = (0..20).map(|n| Keyword::new(&format!("{n:0200}")).unwrap());
        let value = message_value(&message(Flags::new(SystemFlags::default(), some))).unwrap();
        assert!(value.len() <= LONGEST);
    }

    #[test]
    fn long_expunges_are_cut_and_joined() {
        let uids: UidSet = (1..=5000).map(|n| n * 2).collect();
        let rows = vanished_values(&uids);
        assert_eq!(rows.len(), 5000_usize.div_ceil(RANGES_PER_ROW));
        assert!(rows.iter().all(|row| row.len() <= LONGEST));
        let joined = rows.iter().fold(UidSet::new(), |all, row| all.union(&vanished_set(row).unwrap()));
        assert_eq!(joined, uids);
    }
}
