//! The Bloom filters of Automerge's sync messages.
//!
//! Format and probes are those of `automerge::sync::BloomFilter`. Only its own parameters are
//! accepted: the number of probes is a 32-bit number of the sender's choice, and so would be the
//! time to answer; a filter without bits makes Automerge 0.12 divide by zero.

use super::SyncMessageError;
use crate::ChangeHash;
use crate::change::Reader;
use crate::graph::put_varint;

/// A set of changes, as far as a filter can tell: a change in it is always found, and one in a
/// hundred of all others seems to be in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bloom {
    entries: u32,
    bits: Vec<u8>,
}

impl Bloom {
    /// A filter of these changes.
    pub fn of(hashes: impl ExactSizeIterator<Item = ChangeHash>) -> Self {
        let entries = hashes.len() as u32;
        let mut bloom = Self { entries, bits: vec![0; bits_len(entries)] };
        for hash in hashes {
            bloom.probes(&hash).for_each(|probe| bloom.bits[probe / 8] |= 1 << (probe % 8));
        }
        bloom
    }

    /// The number of changes that went in.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether a change is in it. The answer is wrong for one in a hundred changes that are not.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        let is_set = |probe: usize| self.bits[probe / 8] >> (probe % 8) & 1 == 1;
        !self.bits.is_empty() && self.probes(hash).all(is_set)
    }

    /// Bytes it takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bits.len()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        if self.entries > 0 {
            put_varint(&mut bytes, self.entries.into());
            put_varint(&mut bytes, BITS_PER_ENTRY);
            put_varint(&mut bytes, PROBES as u64);
            bytes.extend_from_slice(&self.bits);
        }
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(&bytes);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SyncMessageError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        let entries = reader.u64("entries of a Bloom filter")?;
        let bits_per_entry = reader.u64("bits of a Bloom filter")?;
        let probes = reader.u64("probes of a Bloom filter")?;
        let entries = u32::try_from(entries).ok().filter(|entries| *entries > 0);
        let bits = reader.rest();
        match entries {
            Some(entries)
                if bits_per_entry == BITS_PER_ENTRY
                    && probes == PROBES as u64
                    && bits.len() == bits_len(entries) =>
            {
                Ok(Self { entries, bits: bits.to_vec() })
            }
            _ => Err(SyncMessageError::Bloom),
        }
    }

    /// Enhanced double hashing over the first 12 bytes of a hash.
    fn probes(&self, hash: &ChangeHash) -> impl Iterator<Item = usize> + use<> {
        let modulo = 8 * self.bits.len() as u64;
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&hash.0[at..at + 4]);
            u64::from(u32::from_le_bytes(bytes)) % modulo
        };
        let (mut x, mut y, z) = (word(0), word(4), word(8));
        (0..PROBES).map(move |_| {
            let probe = x;
            x = (x + y) % modulo;
            y = (y + z) % modulo;
            probe as usize
        })
    }
}

fn bits_len(entries: u32) -> usize {
    (u64::from(entries) * BITS_PER_ENTRY).div_ceil(8) as usize
}

const BITS_PER_ENTRY: u64 = 10;
const PROBES: usize = 7;
