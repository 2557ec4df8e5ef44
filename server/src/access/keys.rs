//! The public keys of those who may say who somebody is.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// Public keys that tokens are checked with.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

/// One public key. It has one algorithm: a token does not choose.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name, which tokens give in their header; a key without one is tried with every token.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Text that is no public key, or no set of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A private key: it does not belong on the relay.
    #[error(
        "this is a private key, which only whoever signs tokens should have; give the relay the \
         public one, which `rejoin token keygen` writes beside it"
    )]
    Private,
    /// Another text.
    #[error(
        "this is no public key that the relay knows: it takes PEM of Ed25519, of P-256, and of RSA \
         with 2048 bits or more"
    )]
    Unknown,
    /// A text that is no key set.
    #[error("this is no JSON Web Key Set: {0}")]
    Set(String),
    /// A set without a key that signs by an algorithm the relay knows.
    #[error("the key set has no key for EdDSA, ES256 or RS256")]
    Empty,
}

impl Keys {
    /// Several sets together.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// The keys of a JSON Web Key Set that sign tokens by an algorithm of ours. The others are left
    /// out, as providers put keys for other uses beside them.
    ///
    /// # Errors
    /// The text is no key set, or has no such key.
    pub fn of_set(json: &[u8]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set =
            serde_json::from_slice(json).map_err(|error| KeyError::Set(error.to_string()))?;
        let keys: Vec<_> = set.keys.into_iter().take(KEYS_MAX).filter_map(of_jwk).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// The keys that a token with this header may be signed with.
    pub(super) fn fitting<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.0.iter().filter(move |key| match (&key.id, id) {
            (Some(key), Some(id)) => key == id,
            (None, _) | (_, None) => true,
        })
    }

    /// Those here and those of others.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

impl Key {
    /// A public key in PEM.
    ///
    /// # Errors
    /// The text is none that the relay knows.
    pub fn of_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let pem = pem.as_bytes();
        let (algorithm, key) = if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (Algorithm::EdDSA, key)
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let is_p256 = key.try_get_as_bytes().is_ok_and(|point| point.len() == P256_POINT_BYTES);
            if !is_p256 {
                return Err(KeyError::Unknown);
            }
            (Algorithm::ES256, key)
        } else if let Ok(key) = DecodingKey::from_rsa_pem(pem)
            && key.try_get_as_bytes().is_ok_and(|key| key.len() >= RSA_KEY_BYTES_MIN)
        {
            (Algorithm::RS256, key)
        } else {
            return Err(KeyError::Unknown);
        };
        Ok(Self { id: None, algorithm, key })
    }
}

fn of_jwk(key: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let named = jwk.common.key_algorithm.map(|named| named.to_string());
    if named.is_some_and(|named| named != format!("{algorithm:?}")) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id, algorithm, key })
}

/// Keys of one set that are looked at. Providers have two or three, and some have one for each app.
const KEYS_MAX: usize = 64;

/// Bytes of a key of RSA with 2048 bits: the modulus, and some for the exponent and their lengths.
const RSA_KEY_BYTES_MIN: usize = 265;

/// Bytes of an uncompressed point of P-256.
const P256_POINT_BYTES: usize = 65;
