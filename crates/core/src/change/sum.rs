//! A check whether a stored chunk still has the bytes that were written, made while it is read
//! piece by piece.

use sha2::{Digest, Sha256};

/// Adds up the bytes of one chunk, to hold them against the checksum in its header. A snapshot may
/// have hundreds of megabytes, so it is not taken into memory for this.
#[derive(Debug, Clone, Default)]
pub struct ChunkSum {
    /// The magic and the checksum, which the sum does not cover.
    header: Vec<u8>,
    hasher: Sha256,
}

impl ChunkSum {
    /// A sum over nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the bytes that come next.
    pub fn update(&mut self, bytes: &[u8]) {
        let missing = HEADER_BYTES - self.header.len();
        let (header, rest) = bytes.split_at(missing.min(bytes.len()));
        self.header.extend_from_slice(header);
        self.hasher.update(rest);
    }

    /// Whether all bytes together are a chunk with the checksum that its header says.
    pub fn is_sound(self) -> bool {
        let Some((_, checksum)) = self.header.split_first_chunk::<4>() else { return false };
        let sum: [u8; 32] = self.hasher.finalize().into();
        checksum == &sum[..4]
    }
}

/// Bytes of the magic and the checksum.
const HEADER_BYTES: usize = 8;
