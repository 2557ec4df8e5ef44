//! One sector, encrypted.
//!
//! A sector is sealed by AES-256-GCM, and redb writes sectors for years under one key. The nonces of
//! GCM have 96 bits, which is too few to draw them at random that often: two equal ones under one
//! key would give both sectors away. So a sector is not sealed by the file's key, but by one that is
//! derived from it and from a *salt* of 128 random bits, as in XAES-256-GCM. Each opening of the file
//! draws a salt, and another after [`SECTORS_PER_SALT`] sectors. Beneath a salt the nonces are drawn
//! at random, and not counted: a machine that is brought back from a snapshot would count on from
//! where it was, and use its numbers again. Salt, nonce and tag stand behind each sector.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, random};

/// The sectors of one file, as they are on the disk.
pub(crate) struct Cipher {
    data_key: hmac::Key,
    /// The salt in use, and how many sectors may still be sealed with it.
    writing: Mutex<Option<Writing>>,
    /// Keys of salts that were met lately.
    known: Mutex<HashMap<[u8; SALT_BYTES], Arc<LessSafeKey>>>,
}

struct Writing {
    salt: [u8; SALT_BYTES],
    key: Arc<LessSafeKey>,
    left: u64,
}

/// A sector was altered, or is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Altered;

impl Cipher {
    pub(crate) fn new(data_key: &[u8; KEY_BYTES]) -> Self {
        let data_key = hmac::Key::new(hmac::HMAC_SHA256, data_key);
        Self { data_key, writing: Mutex::default(), known: Mutex::default() }
    }

    /// Encrypts the bytes in place, and writes behind them what it takes to open them. They open only
    /// with the same `place`.
    pub(crate) fn seal(&self, place: &[u8], sealed: &mut [u8]) -> io::Result<()> {
        let (salt, key) = self.writing_key()?;
        let nonce: [u8; NONCE_BYTES] = random()?;
        let (bytes, trailer) = sealed.split_at_mut(sealed.len() - TRAILER_BYTES);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                bytes,
            )
            .map_err(|_| io::Error::other("a page could not be encrypted"))?;
        trailer[..TAG_BYTES].copy_from_slice(tag.as_ref());
        trailer[TAG_BYTES..TAG_BYTES + SALT_BYTES].copy_from_slice(&salt);
        trailer[TAG_BYTES + SALT_BYTES..].copy_from_slice(&nonce);
        Ok(())
    }

    /// Decrypts in place what [`seal`](Self::seal) made, and gives the bytes.
    pub(crate) fn open<'a>(&self, place: &[u8], sealed: &'a mut [u8]) -> Result<&'a [u8], Altered> {
        let (in_tag, trailer) = sealed.split_at_mut(sealed.len() - SALT_BYTES - NONCE_BYTES);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&trailer[..SALT_BYTES]);
        let nonce =
            Nonce::try_assume_unique_for_key(&trailer[SALT_BYTES..]).map_err(|_| Altered)?;
        let key = self.known_key(&salt);
        let opened = key.open_in_place(nonce, Aad::from(place), in_tag).map_err(|_| Altered)?;
        Ok(opened)
    }

    /// The key to seal with now.
    fn writing_key(&self) -> io::Result<([u8; SALT_BYTES], Arc<LessSafeKey>)> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let used_up = writing.as_ref().is_none_or(|it| it.left == 0);
        if used_up {
            let salt = random()?;
            *writing = Some(Writing { salt, key: self.known_key(&salt), left: SECTORS_PER_SALT });
        }
        let it = writing.as_mut().expect("one was just put there if there was none");
        it.left -= 1;
        Ok((it.salt, Arc::clone(&it.key)))
    }

    fn known_key(&self, salt: &[u8; SALT_BYTES]) -> Arc<LessSafeKey> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(salt) {
            return Arc::clone(key);
        }
        if known.len() == SALTS_KNOWN_MAX {
            // They cost less to make anew than to keep in order.
            known.clear();
        }
        let derived = hmac::sign(&self.data_key, &[SECTORS, &salt[..]].concat());
        let key = Arc::new(aes(derived.as_ref()));
        known.insert(*salt, Arc::clone(&key));
        key
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// The key of one header: it wraps the file's own.
pub(crate) fn wrapping_key(secret: &[u8; KEY_BYTES], salt: &[u8]) -> LessSafeKey {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derived = hmac::sign(&secret, &[HEADERS, salt].concat());
    aes(derived.as_ref())
}

fn aes(derived: &[u8]) -> LessSafeKey {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    bytes.copy_from_slice(derived);
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, &bytes[..]).expect("a sum of SHA-256 has 32 bytes"),
    )
}

/// Bytes of a sector, as redb sees it.
pub(crate) const SECTOR_BYTES: usize = 4096;

/// What stands behind each sector: a tag, a salt and a nonce.
pub(crate) const TRAILER_BYTES: usize = TAG_BYTES + SALT_BYTES + NONCE_BYTES;
pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const NONCE_BYTES: usize = 12;
const SALT_BYTES: usize = 16;

/// Sectors that are sealed with one salt: 64 GiB of them. The chance that two of their nonces are
/// equal is one in 2^49.
const SECTORS_PER_SALT: u64 = 1 << 24;

/// Keys that are kept in memory. Each opening of a file draws a salt, so most pages share a few.
const SALTS_KNOWN_MAX: usize = 1024;

/// What keys of one kind are derived with, so that none of them is one of the other kind.
const SECTORS: &[u8] = b"sealed redb: sectors";
const HEADERS: &[u8] = b"sealed redb: header";
