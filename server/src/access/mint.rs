//! Keys and tokens of one's own, where there is no login that gives tokens.

use std::fmt;

use data_encoding::BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// A private key, with which tokens are signed by EdDSA.
#[derive(Debug)]
pub struct SigningKey {
    key: EncodingKey,
}

/// A text is no private key of the kind that signs tokens here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is no private key of Ed25519 in PEM; `rejoin token keygen` makes one")]
pub struct SigningKeyError;

/// The two halves of a new key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The private half, which signs.
    pub private: String,
    /// The public half, which the relay is given.
    pub public: String,
}

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: String,
    /// Their roles.
    pub roles: Vec<String>,
    /// The only device that it is good for, if there is one.
    pub device: Option<String>,
    /// Who signs, and for whom.
    pub issuer: String,
    /// The relay that it is for.
    pub audience: String,
    /// When it was made and when it ends, in seconds since 1970.
    pub issued_s: u64,
    /// When it ends.
    pub expires_s: u64,
    /// Its id, by which it can be revoked.
    pub id: String,
}

/// The private half is a secret.
impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl NewKey {
    /// The key of 32 random bytes.
    pub fn of_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = [&PUBLIC_PREFIX, pair.public_key().as_ref()].concat();
        let private = [&PRIVATE_PREFIX, seed.as_slice()].concat();
        Some(Self { private: pem("PRIVATE KEY", &private), public: pem("PUBLIC KEY", &public) })
    }
}

impl SigningKey {
    /// A private key in PEM.
    ///
    /// # Errors
    /// The text is none.
    pub fn of_pem(text: &str) -> Result<Self, SigningKeyError> {
        super::install_signatures();
        let key = EncodingKey::from_ed_pem(text.as_bytes()).map_err(|_| SigningKeyError)?;
        Ok(Self { key })
    }

    /// A token that says this. `user` and `roles` name the claims that the relay reads.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(
        &self,
        claims: &Claims,
        user: &str,
        roles: &str,
    ) -> Result<String, SigningKeyError> {
        let mut said = Map::new();
        let mut say = |claim: &str, value: Value| put(&mut said, claim, value);
        say("iss", json!(claims.issuer));
        say("aud", json!(claims.audience));
        say("iat", json!(claims.issued_s));
        say("exp", json!(claims.expires_s));
        say("jti", json!(claims.id));
        say(user, json!(claims.user));
        say(roles, json!(claims.roles));
        if let Some(device) = &claims.device {
            say("device", json!(device));
        }
        let header = Header::new(Algorithm::EdDSA);
        encode(&header, &said, &self.key).map_err(|_| SigningKeyError)
    }
}

/// Puts a value at a path of names between dots.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(claims.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = claims.entry(first).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

/// What stands before the 32 bytes of a key in its file: RFC 8410, sections 7 and 4. All of it fits
/// into one line of PEM.
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
