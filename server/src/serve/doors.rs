//! `access.toml` and the keys that it names, on the disk and at a login: they are read again when they
//! change, and count as a whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::command::Command;
use super::engine::EngineHandle;
use super::jwks::Jwks;
use crate::access::{AccessFault, Key, KeyError, Keys, Principal, Rules, TokenError, TokenRules};

/// The rules that count now, and the keys that tokens are checked with.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    pub(super) rules: Arc<Rules>,
    keys: Keys,
    /// Whether a key that is not known may be among those of the login by now.
    pub(super) may_ask: bool,
    /// Whether tokens of before are to be checked again.
    pub(super) is_other_login: bool,
    /// A name for the login and the keys of its files, by which a ticket knows whether it still counts.
    pub(super) login: Arc<str>,
}

/// What the engine's thread needs to look at tokens.
#[derive(Debug)]
pub(super) struct Entrance {
    /// `None` where everybody may come in without a token.
    pub(super) doors: Option<Doors>,
    /// Asks for the keys of the login.
    pub(super) unknown: mpsc::Sender<()>,
}

/// `access.toml`, or a file that it names, is not right.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DoorsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason why not.
        source: io::Error,
    },
    /// `access.toml` is not right.
    #[error("{} is not right", path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: AccessFault,
    },
    /// A file of keys is not right.
    #[error("{} is not right", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

/// What the files say, and how they looked when they were read.
#[derive(Debug)]
pub(super) struct Read {
    rules: Arc<Rules>,
    keys: Keys,
    /// The address of the key set of the login.
    remote: Option<String>,
    stamps: Vec<(PathBuf, Stamp)>,
    /// The texts of the files of keys.
    key_texts: Vec<Vec<u8>>,
}

type Stamp = Option<(SystemTime, u64)>;

impl Doors {
    /// Reads a token, at this time in seconds since 1970.
    pub(super) fn verify(&self, token: &[u8], now_s: u64) -> Result<Principal, TokenError> {
        Principal::of_token(token, &self.rules.token, &self.keys, now_s)
    }
}

/// Reads `access.toml` and the files that it names, and says what is wrong with them.
///
/// # Errors
/// One of them is not right.
pub fn check(path: &Path) -> Result<Rules, DoorsError> {
    Read::of(path).map(|read| Rules::clone(&read.rules))
}

impl Read {
    pub(super) fn of(path: &Path) -> Result<Self, DoorsError> {
        crate::access::install_signatures();
        let mut stamps = Vec::new();
        let mut read = |path: &Path| {
            // The stamp is of before, so that a change while it is read is seen afterwards.
            stamps.push((path.to_owned(), stamp(path)));
            let path = path.to_owned();
            std::fs::read(&path).map_err(|source| DoorsError::Unreadable { path, source })
        };
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        let rules = Rules::read(&text)
            .map_err(|source| DoorsError::Rules { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let (mut keys, mut key_texts) = (Keys::default(), Vec::new());
        for name in &rules.token.keys {
            let path = folder.join(name);
            let text = read(&path)?;
            let key = Key::of_pem(&String::from_utf8_lossy(&text));
            let key = key.map_err(|source| DoorsError::Keys { path, source })?;
            keys = keys.with(Keys::of([key]));
            key_texts.push(text);
        }
        let mut remote = None;
        match rules.token.jwks.as_deref() {
            Some(address) if address.contains("://") => remote = Some(address.to_owned()),
            Some(name) => {
                let path = folder.join(name);
                let text = read(&path)?;
                let set = Keys::of_set(&text);
                keys = keys.with(set.map_err(|source| DoorsError::Keys { path, source })?);
                key_texts.push(text);
            }
            None => {}
        }
        Ok(Self { rules: Arc::new(rules), keys, remote, stamps, key_texts })
    }

    fn is_stale(&self) -> bool {
        self.stamps.iter().any(|(path, before)| stamp(path) != *before)
    }

    fn is_other_login(&self, before: &Self) -> bool {
        self.rules.token != before.rules.token || self.key_texts != before.key_texts
    }

    /// With the keys of the login, as far as they are known.
    pub(super) fn doors(&self, remote: Option<&Jwks>) -> Doors {
        let of_login = remote.map(|jwks| jwks.keys().clone()).unwrap_or_default();
        Doors {
            rules: Arc::clone(&self.rules),
            keys: self.keys.clone().with(of_login),
            may_ask: self.remote.is_some(),
            is_other_login: false,
            login: self.login(),
        }
    }

    fn login(&self) -> Arc<str> {
        let TokenRules { issuer, audience, .. } = &self.rules.token;
        let mut hash = Sha256::new();
        for part in [issuer.as_bytes(), audience.as_bytes()]
            .into_iter()
            .chain(self.key_texts.iter().map(Vec::as_slice))
        {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        HEXLOWER.encode(&hash.finalize()[..8]).into()
    }

    /// The keys of the login as they were when the relay ran last.
    pub(super) fn jwks(&self, data: &Path) -> Option<Jwks> {
        self.remote.as_ref().map(|address| Jwks::kept(address.clone(), data))
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Tells the engine of rules and keys that change, for as long as it is polled. `unknown` asks for
/// the keys of the login once more, and every such question is answered by what counts then.
pub(super) async fn follow(
    mut read: Read,
    mut jwks: Option<Jwks>,
    data: PathBuf,
    engine: EngineHandle,
    told: watch::Sender<Doors>,
    mut unknown: mpsc::Receiver<()>,
) {
    let mut refused: Option<Instant> = None;
    loop {
        let is_asked = tokio::select! {
            asked = unknown.recv() => match asked {
                Some(()) => true,
                None => return,
            },
            () = sleep(LOOK_AFTER) => false,
        };
        let mut news = is_asked;
        if let Some(jwks) = &mut jwks {
            news |= jwks.ask(is_asked).await;
        }
        let mut is_other_login = false;
        if read.is_stale() {
            match Read::of(&read.stamps[0].0) {
                Ok(now) => {
                    is_other_login = now.is_other_login(&read);
                    if now.remote != read.remote {
                        jwks = now.jwks(&data);
                    }
                    (read, refused, news) = (now, None, true);
                    tracing::info!("the rules of access were read again");
                }
                // A file that is being written may be half there; it is said once a minute.
                Err(error) if refused.is_none_or(|at| at.elapsed() > REFUSED_AGAIN) => {
                    refused = Some(Instant::now());
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the rules of access stay as they were");
                }
                Err(_) => {}
            }
        }
        if news {
            let doors = Doors { is_other_login, ..read.doors(jwks.as_ref()) };
            told.send_replace(doors.clone());
            engine.tell(Command::Doors(doors)).await;
        }
    }
}

/// The time between two looks whether a file changed.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The time after which it is said again that a file is not right.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
