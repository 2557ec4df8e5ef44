//! Secrets, which stand in configurations by reference only.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

/// Where a secret is: `env:NAME` or `file:PATH`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretRef(String);

/// A secret cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretError {
    /// It stands in the configuration itself, or is no reference.
    #[error("secrets are not written here; give `env:NAME` or `file:PATH` of where it is")]
    Inline,
    /// It is not where it is said to be.
    #[error("there is no secret at {place}: {why}")]
    Missing {
        /// The reference.
        place: String,
        /// What is in the way.
        why: String,
    },
}

impl SecretRef {
    /// The secret, without white space around it.
    ///
    /// # Errors
    /// It is not there, or empty.
    pub fn resolve(&self) -> Result<String, SecretError> {
        let missing = |why: String| SecretError::Missing { place: self.0.clone(), why };
        let found = match self.0.split_once(':') {
            Some(("env", name)) => std::env::var(name).map_err(|error| missing(error.to_string())),
            Some(("file", path)) => {
                std::fs::read_to_string(path).map_err(|error| missing(error.to_string()))
            }
            _ => Err(SecretError::Inline),
        }?;
        let secret = found.trim();
        if secret.is_empty() {
            Err(missing("it is empty".to_owned()))
        } else {
            Ok(secret.to_owned())
        }
    }
}

impl SecretRef {
    /// The file that it is in, if it is in one.
    pub fn file(&self) -> Option<PathBuf> {
        self.0.strip_prefix("file:").map(PathBuf::from)
    }

    /// Whether it stays as it was when the process began, whatever somebody changes.
    pub fn is_fixed(&self) -> bool {
        self.0.starts_with("env:")
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        let is_reference = ["env:", "file:"]
            .iter()
            .any(|kind| text.strip_prefix(kind).is_some_and(|place| !place.is_empty()));
        if is_reference { Ok(Self(text)) } else { Err(SecretError::Inline) }
    }
}

/// The reference, which is no secret.
impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
