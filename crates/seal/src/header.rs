//! The header: the file's own key, wrapped by the owner's.
//!
//! The file's own key is drawn when the file is made, and never changes. The owner's key only wraps
//! it, so it can be changed without writing a page, and to write over the header is to lose every
//! page. The header stands in two places, so that a power loss while it is written costs neither.

use argon2::{Algorithm, Argon2, Params, Version};
use redb::StorageBackend;
use ring::aead::{Aad, Nonce};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::cipher::{NONCE_BYTES, TAG_BYTES, wrapping_key};
use crate::error::SealError;
use crate::key::{KEY_BYTES, Key, Secret, random};

/// A header, with the bytes that it has on the disk:
///
/// ```text
///   0  16  magic
///  16   2  version: 1
///  18   1  cipher: 1 is AES-256-GCM
///  19   1  what the owner has: 0 is 32 bytes, 1 is a passphrase by way of Argon2id
///  20  12  costs of Argon2id: KiB of memory, passes, lanes; zeros if there is none
///  32   8  sequence: the header with the greater one counts
///  40  16  salt
///  56  12  nonce
///  68  48  the file's own key, sealed with all that stands before the nonce's end
/// 116  32  SHA-256 of all before it, which tells a torn header from another key
/// ```
///
/// Numbers are in little-endian order.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES],
}

/// What Argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Header {
    /// A header for a file's own key.
    pub(crate) fn wrap(
        data_key: &[u8; KEY_BYTES],
        key: &Key,
        sequence: u64,
    ) -> Result<Self, SealError> {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[VERSION_AT] = VERSION;
        bytes[CIPHER_AT] = CIPHER;
        let costs = match key.0 {
            Secret::Bytes(_) => None,
            Secret::Passphrase(_) => Some(COSTS),
        };
        if let Some(costs) = costs {
            bytes[OWNER_AT] = OWNER_PASSPHRASE;
            for (at, number) in [costs.memory_kib, costs.passes, costs.lanes].iter().enumerate() {
                let at = COSTS_AT + at * 4;
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
        }
        bytes[SEQUENCE_AT..SALT_AT].copy_from_slice(&sequence.to_le_bytes());
        bytes[SALT_AT..NONCE_AT].copy_from_slice(&random::<SALT_BYTES>()?);
        let nonce: [u8; NONCE_BYTES] = random()?;
        bytes[NONCE_AT..WRAPPED_AT].copy_from_slice(&nonce);
        let secret = secret(key, costs, &bytes[SALT_AT..NONCE_AT])?;
        let (before, after) = bytes.split_at_mut(WRAPPED_AT);
        after[..KEY_BYTES].copy_from_slice(data_key);
        let tag = wrapping_key(&secret, &before[SALT_AT..NONCE_AT])
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&*before),
                &mut after[..KEY_BYTES],
            )
            .map_err(|_| SealError::Io(std::io::Error::other("the key could not be wrapped")))?;
        after[KEY_BYTES..KEY_BYTES + TAG_BYTES].copy_from_slice(tag.as_ref());
        let sum = digest(&SHA256, &bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(sum.as_ref());
        Ok(Self { bytes })
    }

    /// The file's own key.
    pub(crate) fn unwrap(&self, key: &Key) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        let bytes = &self.bytes;
        if bytes[VERSION_AT..CIPHER_AT] != [VERSION, 0] || bytes[CIPHER_AT] != CIPHER {
            return Err(SealError::Newer);
        }
        let costs = match (bytes[OWNER_AT], &key.0) {
            (OWNER_KEY, Secret::Bytes(_)) => None,
            (OWNER_PASSPHRASE, Secret::Passphrase(_)) => Some(self.costs()),
            (OWNER_KEY, _) => return Err(SealError::OpensWithKey),
            (OWNER_PASSPHRASE, _) => return Err(SealError::OpensWithPassphrase),
            _ => return Err(SealError::Newer),
        };
        let salt = &bytes[SALT_AT..NONCE_AT];
        let secret = secret(key, costs, salt)?;
        let nonce = Nonce::try_assume_unique_for_key(&bytes[NONCE_AT..WRAPPED_AT])
            .expect("these are as many bytes as a nonce has");
        let mut wrapped = Zeroizing::new([0; KEY_BYTES + TAG_BYTES]);
        wrapped.copy_from_slice(&bytes[WRAPPED_AT..SUM_AT]);
        let opened = wrapping_key(&secret, salt)
            .open_in_place(nonce, Aad::from(&bytes[..WRAPPED_AT]), &mut wrapped[..])
            .map_err(|_| SealError::WrongKey)?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        data_key.copy_from_slice(opened);
        Ok(data_key)
    }

    pub(crate) fn sequence(&self) -> u64 {
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&self.bytes[SEQUENCE_AT..SALT_AT]);
        u64::from_le_bytes(sequence)
    }

    fn costs(&self) -> Costs {
        let number = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&self.bytes[COSTS_AT + at * 4..COSTS_AT + at * 4 + 4]);
            u32::from_le_bytes(number)
        };
        Costs { memory_kib: number(0), passes: number(1), lanes: number(2) }
    }

    /// A header, if these are the bytes of a whole one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let is_whole = bytes[..MAGIC.len()] == MAGIC
            && bytes[SUM_AT..] == *digest(&SHA256, &bytes[..SUM_AT]).as_ref();
        is_whole.then_some(Self { bytes })
    }
}

/// The headers at the beginning of a file.
pub(crate) struct Headers {
    places: [Option<Header>; 2],
    /// Whether it looks as if there had been one.
    had_any: bool,
}

impl Headers {
    /// Reads them, of a file that may be anything.
    pub(crate) fn read(file: &dyn StorageBackend) -> std::io::Result<Self> {
        let len = file.len()?;
        let mut had_any = false;
        let mut places = [None, None];
        for (at, place) in places.iter_mut().enumerate() {
            let offset = at as u64 * PLACE_BYTES;
            let mut bytes = [0; HEADER_BYTES];
            if len < offset + HEADER_BYTES as u64 {
                continue;
            }
            file.read(offset, &mut bytes)?;
            had_any |= bytes[..MAGIC.len()] == MAGIC;
            *place = Header::read(&bytes);
        }
        Ok(Self { places, had_any })
    }

    /// The header that counts.
    pub(crate) fn last(&self) -> Option<&Header> {
        self.places.iter().flatten().max_by_key(|header| header.sequence())
    }

    /// Whether the file is encrypted, or was.
    pub(crate) fn are_there(&self) -> bool {
        self.had_any
    }

    /// What it means that none counts.
    pub(crate) fn lack(&self) -> SealError {
        match self.had_any {
            true => SealError::Damaged("its header is damaged"),
            false => SealError::NotSealed,
        }
    }

    /// Puts a header in both places, one after the other, so that one of them is whole at any time.
    /// None that was there before is left.
    pub(crate) fn replace(
        &self,
        file: &dyn StorageBackend,
        header: &Header,
    ) -> std::io::Result<()> {
        // The place of the one that counted comes last.
        let counted = self.places.iter().position(|place| place.as_ref() == self.last());
        let last = counted.unwrap_or(1);
        for at in [1 - last, last] {
            if self.places[at].as_ref() == Some(header) {
                continue;
            }
            let mut place = [0; PLACE_BYTES as usize];
            place[..HEADER_BYTES].copy_from_slice(&header.bytes);
            file.write(at as u64 * PLACE_BYTES, &place)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

/// The 32 bytes of the owner, or those that a passphrase gives.
fn secret(
    key: &Key,
    costs: Option<Costs>,
    salt: &[u8],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    match (&key.0, costs) {
        (Secret::Bytes(bytes), _) => Ok(bytes.clone()),
        (Secret::Passphrase(passphrase), costs) => {
            let costs = costs.unwrap_or(COSTS);
            let refused = || SealError::Damaged("its header asks for costs that no file has");
            // Whoever altered the file must not have this device spend all of its memory.
            if costs.memory_kib > MEMORY_KIB_MAX || costs.passes > PASSES_MAX {
                return Err(refused());
            }
            let params = Params::new(costs.memory_kib, costs.passes, costs.lanes, Some(KEY_BYTES));
            let argon =
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(|_| refused())?);
            let mut derived = Zeroizing::new([0; KEY_BYTES]);
            argon
                .hash_password_into(passphrase.as_bytes(), salt, &mut derived[..])
                .map_err(|_| refused())?;
            Ok(derived)
        }
    }
}

/// Bytes of a file before those that redb sees: two places for headers, each in a block of the disk
/// that it has for itself.
pub(crate) const HEADERS_BYTES: u64 = 2 * PLACE_BYTES;
const PLACE_BYTES: u64 = 4096;

const MAGIC: [u8; 16] = *b"sealed redb\n\x1a\x00\xff\r";
const VERSION: u8 = 1;
const CIPHER: u8 = 1;
const OWNER_KEY: u8 = 0;
const OWNER_PASSPHRASE: u8 = 1;

const VERSION_AT: usize = 16;
const CIPHER_AT: usize = 18;
const OWNER_AT: usize = 19;
const COSTS_AT: usize = 20;
const SEQUENCE_AT: usize = 32;
const SALT_AT: usize = 40;
const SALT_BYTES: usize = NONCE_AT - SALT_AT;
const NONCE_AT: usize = 56;
const WRAPPED_AT: usize = NONCE_AT + NONCE_BYTES;
const SUM_AT: usize = WRAPPED_AT + KEY_BYTES + TAG_BYTES;
const HEADER_BYTES: usize = SUM_AT + 32;

/// The second of the two choices that RFC 9106 recommends, with one lane: it is computed in one.
const COSTS: Costs = Costs { memory_kib: 64 << 10, passes: 3, lanes: 1 };

/// What a header may ask for.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
