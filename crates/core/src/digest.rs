//! Hashes of 32 bytes that tell which changes are held: for a document a hash of its heads, for a
//! set of documents a sum that is kept up to date one document at a time.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest, Sha256};

use crate::{ChangeHash, DocumentId, ShortHash};

/// SHA-256 over a document's heads. It tells in 32 bytes which changes a replica holds, since heads
/// fix their ancestors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct HeadsHash(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

impl HeadsHash {
    /// What an erased document counts with, which has no heads. No set of heads has this hash.
    pub const ERASED: Self = Self([0xff; 32]);

    /// The first 8 bytes, enough to notice that one known document differs.
    pub fn short(&self) -> ShortHash {
        ChangeHash(self.0).short()
    }
}

impl fmt::Display for HeadsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ChangeHash(self.0), f)
    }
}

impl fmt::Debug for HeadsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ChangeHash(self.0), f)
    }
}

/// The hash of a set of heads. Their order does not matter, nor whether one is named twice. A
/// document without a change has a hash, too.
pub fn heads_hash(heads: &[ChangeHash]) -> HeadsHash {
    let mut sorted = heads.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut hasher = Sha256::new_with_prefix(HEADS_DOMAIN);
    for head in &sorted {
        hasher.update(head.0);
    }
    HeadsHash(hasher.finalize().into())
}

/// The state of a collection in 32 bytes: the sum of one hash for each document and its heads.
///
/// A sum, because it follows every change at the cost of two hashes, without a look at the other
/// documents, in any order; and because digests of collections add up, so a reader's digest is the
/// sum over what it may read. The sum is of four lanes of 64 bits, each modulo 2^64. Unlike the
/// exclusive or, it does not forget a document that was counted twice by mistake.
///
/// # Strength
/// Two sets that differ by accident have the same digest with probability 2^-256. Against intent it
/// is weaker than its 32 bytes look: someone who may write very many documents can search for
/// two sets of them with the same sum, by Wagner's generalised birthday attack and with work
/// nearer 2^32 than 2^128. That hides a difference only among documents the searcher wrote, and
/// only once a replica lacks just those, which the searcher cannot bring about here. It forges
/// nothing: a digest decides whether to look closer, and changes are still known by their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SetDigest {
    lanes: [u64; 4],
}

impl SetDigest {
    /// The digest of no documents.
    pub const EMPTY: Self = Self { lanes: [0; 4] };

    /// Counts a document in, at these heads.
    pub fn insert(&mut self, document: &DocumentId, heads: &HeadsHash) {
        self.add(&Self::of(document, heads));
    }

    /// Takes out a document that was counted in at just these heads. If it was not, the digest is
    /// that of no set, and there is no error.
    pub fn remove(&mut self, document: &DocumentId, heads: &HeadsHash) {
        self.combine(&Self::of(document, heads), u64::wrapping_sub);
    }

    /// Moves a document that was counted in at heads `from` to heads `to`.
    pub fn replace(&mut self, document: &DocumentId, from: &HeadsHash, to: &HeadsHash) {
        self.remove(document, from);
        self.insert(document, to);
    }

    /// Counts in everything `other` counts, as of another collection.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Whether this is the digest of no documents.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The lanes in order, each little endian.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.lanes) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); any 32 bytes are a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = u64::from_le_bytes(*chunk);
        }
        Self { lanes }
    }

    fn of(document: &DocumentId, heads: &HeadsHash) -> Self {
        let hasher = Sha256::new_with_prefix(ITEM_DOMAIN).chain_update(document.0);
        Self::from_bytes(hasher.chain_update(heads.0).finalize().into())
    }

    fn combine(&mut self, other: &Self, operation: fn(u64, u64) -> u64) {
        for (lane, other) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = operation(*lane, other);
        }
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<C> Encode<C> for SetDigest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for SetDigest {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let wrong = |_| minicbor::decode::Error::message("a set digest has 32 bytes");
        d.bytes()?.try_into().map(Self::from_bytes).map_err(wrong)
    }
}

/// Frozen: part of every heads hash.
const HEADS_DOMAIN: &[u8] = b"rejoin heads 1\0";

/// Frozen: part of every digest in every store.
const ITEM_DOMAIN: &[u8] = b"rejoin set digest 1\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn document(n: u8) -> DocumentId {
        DocumentId([n; 16])
    }

    fn heads(n: u8) -> HeadsHash {
        HeadsHash([n; 32])
    }

    fn digest(items: &[(u8, u8)]) -> SetDigest {
        let mut digest = SetDigest::EMPTY;
        for (id, at) in items {
            digest.insert(&document(*id), &heads(*at));
        }
        digest
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        assert_eq!(digest(&[(1, 1), (2, 2), (3, 3)]), digest(&[(3, 3), (1, 1), (2, 2)]));
        assert_ne!(digest(&[(1, 1), (2, 2)]), digest(&[(1, 2), (2, 1)]));
        assert_ne!(digest(&[(1, 1)]), digest(&[(1, 1), (1, 1)]));
        assert_ne!(digest(&[(1, 1), (1, 1)]), SetDigest::EMPTY);
    }

    #[test]
    fn replacing_is_inserting_the_new_heads_from_the_start() {
        let mut moved = digest(&[(1, 1), (2, 2)]);
        moved.replace(&document(1), &heads(1), &heads(9));
        assert_eq!(moved, digest(&[(1, 9), (2, 2)]));
        moved.remove(&document(2), &heads(2));
        moved.remove(&document(1), &heads(9));
        assert!(moved.is_empty());
    }

    #[test]
    fn collections_add_up() {
        let mut sum = digest(&[(1, 1), (2, 2)]);
        sum.add(&digest(&[(3, 3)]));
        sum.add(&SetDigest::EMPTY);
        assert_eq!(sum, digest(&[(1, 1), (2, 2), (3, 3)]));
    }

    #[test]
    fn bytes_round_trip_alone_and_in_cbor() {
        let digest = digest(&[(1, 1), (2, 2)]);
        assert_eq!(SetDigest::from_bytes(digest.to_bytes()), digest);
        let cbor = minicbor::to_vec(digest).unwrap();
        assert_eq!(cbor[..2], [0x58, 32]);
        assert_eq!(minicbor::decode::<SetDigest>(&cbor).unwrap(), digest);
        for wrong in [&[0x41, 0][..], &[0x80], &cbor[..20]] {
            assert!(minicbor::decode::<SetDigest>(wrong).is_err());
        }
    }

    #[test]
    fn the_digest_of_one_document_is_frozen() {
        let expected = "02751b7418fc9a3c33d676080ee3fb30192180d69a96d214b62bbccff240ebc6";
        assert_eq!(digest(&[(1, 2)]).to_string(), expected);
    }

    #[test]
    fn heads_hash_is_of_the_set_and_frozen() {
        let [a, b] = [ChangeHash([1; 32]), ChangeHash([2; 32])];
        assert_eq!(heads_hash(&[a, b]), heads_hash(&[b, a, b]));
        assert_ne!(heads_hash(&[a]), heads_hash(&[]));
        assert_eq!(
            heads_hash(&[b, a]).to_string(),
            "e00c657e0875a9f639d2932dd8e7999856f5310d2a2d55475a9632c582a18e80"
        );
    }
}
