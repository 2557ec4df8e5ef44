//! The relay that a replica dials: where it is, whom it is trusted by, and as whom the replica signs
//! in there.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use rejoin_engine::Token;
use sha2::{Digest, Sha256};

/// A relay to dial: its address, and where it needs them a token and roots of trust.
///
/// An address alone is one: `replica.connect("ws://127.0.0.1:4455", ..)`.
///
/// ```
/// # use rejoin::{Credentials, Relay};
/// # async fn fetch() -> Result<String, std::io::Error> { Ok(String::new()) }
/// // A token that lasts, as that of an adapter.
/// let relay = Relay::at("wss://relay.example").with(Credentials::token("eyJhbGciOi.."));
///
/// // Tokens that a login gives, each for a while: a fresh one is fetched in time.
/// let relay = Relay::at("wss://relay.example").with(Credentials::fetched(|| async { fetch().await }));
/// ```
#[derive(Debug, Clone)]
pub struct Relay {
    pub(crate) address: String,
    pub(crate) credentials: Credentials,
    pub(crate) roots: Vec<u8>,
}

impl Relay {
    /// The relay at `ws://host:port`, or at `wss://host` by TLS; `/sync` is the path unless there is
    /// one.
    pub fn at(address: impl Into<String>) -> Self {
        let (address, credentials) = (address.into(), Credentials::none());
        Self { address, credentials, roots: Vec::new() }
    }

    /// Signs in there with these.
    #[must_use]
    pub fn with(self, credentials: impl Into<Credentials>) -> Self {
        Self { credentials: credentials.into(), ..self }
    }

    /// Trusts these certificates too, in PEM, beside those that the system trusts.
    #[must_use]
    pub fn trusting(self, roots: impl Into<Vec<u8>>) -> Self {
        Self { roots: roots.into(), ..self }
    }
}

impl From<&str> for Relay {
    fn from(address: &str) -> Self {
        Self::at(address)
    }
}

impl From<&String> for Relay {
    fn from(address: &String) -> Self {
        Self::at(address)
    }
}

impl From<String> for Relay {
    fn from(address: String) -> Self {
        Self::at(address)
    }
}

/// What a replica signs in with.
#[derive(Clone)]
pub struct Credentials(Kind);

#[derive(Clone)]
enum Kind {
    None,
    Token(String),
    Fetched(Fetch),
}

type Fetched = Result<String, Box<dyn Error + Send + Sync>>;
type Fetch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Fetched> + Send>> + Send + Sync>;

impl Credentials {
    /// Nothing: the relay lets everybody in.
    pub fn none() -> Self {
        Self(Kind::None)
    }

    /// This token, as long as it is good.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Kind::Token(token.into()))
    }

    /// Tokens that a function fetches: one before the first session, and another one when that is
    /// about to expire or was refused. A failure is tried again later, and costs nothing that waits.
    ///
    /// The function runs on the replica's thread, in a runtime of tokio; it should not block.
    pub fn fetched<F, E>(fetch: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Kind::Fetched(Arc::new(move || {
            let fetched = fetch();
            Box::pin(async move { fetched.await.map_err(Into::into) })
        })))
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.0, Kind::None)
    }

    /// Whether another token may come.
    pub(crate) fn is_fetched(&self) -> bool {
        matches!(self.0, Kind::Fetched(_))
    }

    /// A token; `None` where none is needed.
    pub(crate) async fn get(&self) -> Result<Option<String>, String> {
        match &self.0 {
            Kind::None => Ok(None),
            Kind::Token(token) => Ok(Some(token.trim().to_owned())),
            Kind::Fetched(fetch) => match fetch().await {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// A token is a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::None => "Credentials::none()",
            Kind::Token(_) => "Credentials::token(..)",
            Kind::Fetched(_) => "Credentials::fetched(..)",
        })
    }
}

impl From<&str> for Credentials {
    fn from(token: &str) -> Self {
        Self::token(token)
    }
}

impl From<String> for Credentials {
    fn from(token: String) -> Self {
        Self::token(token)
    }
}

/// The token as the engine takes it.
pub(crate) fn to_engine(text: &str) -> Token {
    Token { bytes: text.as_bytes().to_vec(), subject: subject(text) }
}

/// A name for whom a token is of, as its login names them. Nobody has checked it yet.
fn subject(token: &str) -> Option<[u8; 32]> {
    let claims = claims(token)?;
    let (issuer, subject) = (claims.get("iss")?.as_str()?, claims.get("sub")?.as_str()?);
    let named = serde_json::json!([issuer, subject]).to_string();
    Some(Sha256::digest(named.as_bytes()).into())
}

fn claims(token: &str) -> Option<serde_json::Value> {
    let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// Milliseconds until a token should be renewed: a tenth of what is left before it expires, and at
/// most a minute before. `None` if it does not say when it does; the relay will say so then.
pub(crate) fn renew_in_ms(token: &str) -> Option<u64> {
    let claims = claims(token)?;
    let expires_s = claims.get("exp")?.as_f64()?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let lasts_s = claims.get("iat").and_then(|it| it.as_f64()).map(|made_s| expires_s - made_s);
    // A clock that is wrong must not have a token renewed over and over: one that was just fetched
    // cannot have ended, nor last longer than it was made for.
    let left_s = match (expires_s - now_s, lasts_s) {
        (left_s, Some(lasts_s)) if left_s <= 0.0 || left_s > lasts_s => lasts_s,
        (left_s, _) => left_s,
    };
    let left_ms = (left_s * 1000.0).max(0.0) as u64;
    Some(left_ms - (left_ms / 10).min(RENEWED_BEFORE_MS))
}

/// Milliseconds before its end at which a token is renewed at the latest.
const RENEWED_BEFORE_MS: u64 = 60_000;
