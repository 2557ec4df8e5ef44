//! Tokens: what a relay believes of who somebody is.

use std::collections::BTreeSet;

use jsonwebtoken::{Validation, decode, decode_header};
use rejoin_core::limits::TOKEN_BYTES_MAX;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Keys, TokenRules};

/// Somebody whose token is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user, as the provider names them.
    pub user: String,
    /// Their roles.
    pub roles: BTreeSet<String>,
    /// The only device that the token is good for, in the form of a device id, if it names one.
    pub device: Option<String>,
    /// The id of the token, by which it can be revoked.
    pub token: Option<String>,
    /// The time at which the token was made, in seconds since 1970.
    pub issued_s: Option<u64>,
    /// The time at which the token ends, in seconds since 1970.
    pub expires_s: u64,
}

/// A token that is not right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is none.
    #[error("sign in: this relay lets in who has a token")]
    Missing,
    /// It has too many bytes.
    #[error("the token has {len} bytes, and at most {TOKEN_BYTES_MAX} are read")]
    Large {
        /// Its bytes.
        len: usize,
    },
    /// It cannot be read.
    #[error("the token is no JSON Web Token that is signed by EdDSA, ES256 or RS256")]
    Malformed,
    /// No key of the relay has the name that it gives, or fits its algorithm.
    #[error("the token is signed with a key that this relay does not know")]
    UnknownKey,
    /// Its signature is not by the key.
    #[error("the signature of the token is not right")]
    Signature,
    /// It is by another login.
    #[error("the token is by another login than the one that this relay trusts")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another service than this relay")]
    Audience,
    /// Its time is over.
    #[error("the token has expired; sign in again")]
    Expired,
    /// Its time is still to come.
    #[error("the token is not good yet; is the clock of this relay or of the login wrong?")]
    NotYet,
    /// It does not say what has to be said.
    #[error("the token has no {claim:?} that the relay can read")]
    Claim {
        /// The name of the claim.
        claim: String,
    },
    /// Somebody took it back.
    #[error("the token was revoked; ask whoever looks after the relay")]
    Revoked,
    /// It is another device's.
    #[error("the token is for another device than this one")]
    Device,
}

impl Principal {
    /// Reads a token that is to be good at `now_s`, in seconds since 1970. Clocks may differ by
    /// [`LEEWAY_S`].
    ///
    /// The algorithm is that of the key, never the token's choice, and a key that the token brings or
    /// points to (`jwk`, `jku`, `x5c`, `x5u`) is not looked at.
    ///
    /// # Errors
    /// The token is not right; the error says in which way.
    pub fn of_token(
        token: &[u8],
        rules: &TokenRules,
        keys: &Keys,
        now_s: u64,
    ) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Large { len: token.len() });
        }
        let claims = verified(token, keys)?;
        if claims.get("iss").and_then(Value::as_str) != Some(rules.issuer.as_str()) {
            return Err(TokenError::Issuer);
        }
        if !texts(claims.get("aud")).contains(rules.audience.as_str()) {
            return Err(TokenError::Audience);
        }
        let expires_s = seconds(&claims, "exp")?.ok_or_else(|| unread("exp"))?;
        if expires_s.saturating_add(LEEWAY_S) <= now_s {
            return Err(TokenError::Expired);
        }
        if seconds(&claims, "nbf")?.is_some_and(|from| from > now_s.saturating_add(LEEWAY_S)) {
            return Err(TokenError::NotYet);
        }
        let issued_s = seconds(&claims, "iat")?;
        let user = at(&claims, &rules.user).and_then(Value::as_str);
        let user = user.filter(|user| !user.trim().is_empty() && user.len() <= NAME_BYTES_MAX);
        let user = user.ok_or_else(|| unread(&rules.user))?.to_owned();
        let roles = texts(at(&claims, &rules.roles));
        let roles = roles.into_iter().take(ROLES_MAX).map(str::to_owned).collect();
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let (device, token) = (text("device"), text("jti"));
        Ok(Self { user, roles, device, token, issued_s, expires_s })
    }
}

/// What a token says, after its signature was found right.
fn verified(token: &[u8], keys: &Keys) -> Result<Map<String, Value>, TokenError> {
    let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
    let fitting = keys.fitting(header.kid.as_deref());
    let mut fitting = fitting.filter(|key| key.algorithm == header.alg).peekable();
    if fitting.peek().is_none() {
        return Err(TokenError::UnknownKey);
    }
    for key in fitting {
        // Its times and names are looked at by this module, with the clock that it is given.
        let mut signed = Validation::new(key.algorithm);
        signed.validate_exp = false;
        signed.validate_nbf = false;
        signed.validate_aud = false;
        signed.required_spec_claims.clear();
        if let Ok(token) = decode(token, &key.key, &signed) {
            return Ok(token.claims);
        }
    }
    Err(TokenError::Signature)
}

/// The value at a path of names between dots, as `realm_access.roles`.
fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    // Some providers have names with dots in them, as those that are addresses.
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(claims.get(first)?.as_object()?, rest)
}

/// One text, or several in a list.
fn texts(value: Option<&Value>) -> BTreeSet<&str> {
    match value {
        Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    }
}

/// A time in seconds since 1970; some providers write fractions.
fn seconds(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, TokenError> {
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match (value.as_u64(), value.as_f64()) {
            (Some(whole), _) => Ok(Some(whole)),
            (None, Some(part)) if part >= 0.0 && part.is_finite() => Ok(Some(part as u64)),
            _ => Err(unread(claim)),
        },
    }
}

fn unread(claim: &str) -> TokenError {
    TokenError::Claim { claim: claim.to_owned() }
}

/// Seconds by which the clocks of a relay and of a login may differ.
pub const LEEWAY_S: u64 = 60;

/// Bytes of a user's name.
const NAME_BYTES_MAX: usize = 256;

/// Roles that are looked at.
const ROLES_MAX: usize = 256;
