//! Compression: two codecs, and what each is for.
//!
//! A body is written once and read by every client, so it is LZ4 or plain: text of mail becomes 2.3 times smaller and comes
//! back at 2.5 GB/s (zstd-1: 3.8 times, 0.5 GB/s), and base64 is left alone (zstd-1 saves a quarter of it and takes longer than all
//! the rest of a read). Headers and the like lie in the database by the hundred thousand and are read a few at a time: for them
//! size is what counts, and they are zstd. Bodies of older versions are zstd too, and are read as before.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// zstd-1: higher levels gain next to nothing on mail.
const LEVEL: i32 = 1;

/// How bytes were made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Zstd,
    Lz4,
}

thread_local! {
    // Setting zstd up takes ten times as long as a header takes to expand, so each thread keeps its own.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

impl Codec {
    /// Compressed, or nothing if that is not worth undoing it at each read.
    pub(super) fn squeeze(self, raw: &[u8]) -> Option<Vec<u8>> {
        let (squeezed, most) = match self {
            // An error here is out of memory inside zstd; the bytes are then kept as they are.
            Self::Zstd => {
                let squeezed = COMPRESSOR.with_borrow_mut(|zstd| zstd.as_mut()?.compress(raw).ok())?;
                (squeezed, raw.len() - raw.len() / 16)
            }
            Self::Lz4 => (lz4_flex::block::compress(raw), raw.len() - raw.len() / 4),
        };
        (squeezed.len() < most).then_some(squeezed)
    }

    /// Undoes [`Self::squeeze`]; `None` unless it gives exactly `len` bytes.
    pub(super) fn expand(self, bytes: &[u8], len: usize) -> Option<Vec<u8>> {
        let raw = match self {
            Self::Zstd => DECOMPRESSOR.with_borrow_mut(|zstd| zstd.as_mut()?.decompress(bytes, len).ok())?,
            Self::Lz4 => lz4_flex::block::decompress(bytes, len).ok()?,
        };
        (raw.len() == len).then_some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_it_survives_the_round_trip() {
        let text = b"the quick brown fox ".repeat(500);
        for codec in [Codec::Zstd, Codec::Lz4] {
            let squeezed = codec.squeeze(&text).unwrap();
            assert!(squeezed.len() < text.len() / 4, "{codec:?}");
            assert_eq!(codec.expand(&squeezed, text.len()).as_deref(), Some(&text[..]), "{codec:?}");
            for len in [0, 1, text.len() - 1, text.len() + 1, 1 << 20] {
                assert_eq!(codec.expand(&squeezed, len), None, "{codec:?} {len}");
            }
            for cut in [0, 1, squeezed.len() / 2, squeezed.len() - 1] {
                assert_eq!(codec.expand(&squeezed[..cut], text.len()), None, "{codec:?} cut at {cut}");
            }
            assert_eq!(codec.squeeze(b""), None, "{codec:?}");
        }
    }

    /// Six bits in each octet: zstd would save a quarter.
    #[test]
    fn base64_is_left_alone() {
        let mut bits = 1u64;
        let base64: Vec<u8> = (0..20_000)
            .map(|_| {
                bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(bits >> 58) as usize]
            })
            .collect();
        assert!(Codec::Zstd.squeeze(&base64).is_some());
        assert_eq!(Codec::Lz4.squeeze(&base64), None);
    }
}
