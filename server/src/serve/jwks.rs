//! The public keys of a login, fetched from it and kept for when it does not answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use rustls::RootCertStore;

use crate::access::Keys;
use crate::relay::chain;

/// The key set of a login.
#[derive(Debug)]
pub(super) struct Jwks {
    address: String,
    keys: Keys,
    /// Where the last one is kept.
    file: PathBuf,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

impl Jwks {
    /// The set as it was when the relay ran last. It may be empty until the login is asked.
    pub(super) fn kept(address: String, data: &Path) -> Self {
        let file = data.join(FILE);
        let kept = std::fs::read(&file).ok().and_then(|text| {
            let (first, set) = text.split_at(text.iter().position(|byte| *byte == b'\n')? + 1);
            let is_of_here = first.strip_suffix(b"\n") == Some(address.as_bytes());
            Keys::of_set(set).ok().filter(|_| is_of_here)
        });
        let keys = kept.unwrap_or_default();
        Self { address, keys, file, asked: None, answered: None }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Asks the login if it is time: a key is not known, the set is old, or nobody asked yet. Returns
    /// whether there is a new set.
    pub(super) async fn ask(&mut self, is_unknown: bool) -> bool {
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
        let is_due = is_unknown || since(self.answered) > OLD_AFTER;
        if !is_due || since(self.asked) < ASKED_AFTER {
            return false;
        }
        self.asked = Some(Instant::now());
        match fetch(&self.address).await {
            Ok((keys, text)) => {
                self.answered = self.asked;
                self.keys = keys;
                let kept = [self.address.as_bytes(), b"\n", &text].concat();
                if let Err(error) = std::fs::write(&self.file, kept) {
                    tracing::warn!(%error, "the keys of the login are not kept on the disk");
                }
                true
            }
            Err(error) => {
                let login = &self.address;
                tracing::error!(
                    login,
                    error,
                    "the keys of the login cannot be fetched; those of before go on counting"
                );
                false
            }
        }
    }
}

async fn fetch(address: &str) -> Result<(Keys, Vec<u8>), String> {
    let mut response = client()?.get(address).send().await.map_err(|error| chain(&error))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut text = Vec::new();
    while let Some(some) = response.chunk().await.map_err(|error| chain(&error))? {
        text.extend_from_slice(&some);
        if text.len() > SET_BYTES_MAX {
            return Err(format!("it answered with more than {SET_BYTES_MAX} bytes"));
        }
    }
    let keys = Keys::of_set(&text).map_err(|error| error.to_string())?;
    Ok((keys, text))
}

/// A client that goes nowhere else than it is told: a login that redirects could be made to point
/// anywhere.
fn client() -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = rustls::crypto::ring::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(Policy::none())
        .timeout(ANSWER)
        .build()
        .map_err(|error| chain(&error))
}

/// The file of the last set, in the relay's folder: the address, and then the set.
const FILE: &str = "login-keys.json";

/// Bytes of a key set.
const SET_BYTES_MAX: usize = 256 << 10;

/// The time that a login may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The time after which the login may be asked again.
const ASKED_AFTER: Duration = Duration::from_secs(60);

/// The time after which a set is fetched again although nobody misses a key, so that one that was
/// taken back does not count for ever.
const OLD_AFTER: Duration = Duration::from_secs(3600);
