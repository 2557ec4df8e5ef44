//! Tickets for apps of automerge-repo, which dial one fixed address for ever and can say nothing
//! else: who has a token gets one, puts it into the address, and comes in with it until the token
//! ends.
//!
//! A ticket says who it is for and is signed with a key of the relay's own, so that it is good across
//! restarts and nothing has to be kept for it.

use std::io;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::access::{LEEWAY_S, Principal, TokenError};

/// Signs tickets and reads them.
#[derive(Clone)]
pub(super) struct Tickets {
    key: [u8; 32],
}

/// What a ticket says.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    user: String,
    roles: Vec<String>,
    /// The origin of the page that it was given to; `None` for a program.
    origin: Option<String>,
    token: Option<String>,
    issued_s: Option<u64>,
    expires_s: u64,
    /// The login whose token it was given for.
    login: String,
}

impl Tickets {
    /// With the key in the relay's folder, which is made if there is none.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
                Ok(key) => Ok(Self { key }),
                Err(_) => Err(io::Error::other(format!("{} is no key; remove it", path.display()))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 32] = rand::random();
                write_secret(&path, &key)?;
                Ok(Self { key })
            }
            Err(error) => Err(error),
        }
    }

    /// A ticket for somebody, and for pages of this origin if it is asked for by one.
    pub(super) fn give(&self, principal: &Principal, origin: Option<&str>, login: &str) -> String {
        let Principal { user, roles, token, issued_s, expires_s, .. } = principal.clone();
        let roles = roles.into_iter().collect();
        let origin = origin.map(str::to_owned);
        let login = login.to_owned();
        let said = Said { user, roles, origin, token, issued_s, expires_s, login };
        let said = serde_json::to_vec(&said).expect("texts and numbers are JSON");
        let signature = self.mac(&said).finalize().into_bytes();
        format!("{}.{}", BASE64URL_NOPAD.encode(&said), BASE64URL_NOPAD.encode(&signature))
    }

    /// Reads a ticket that is shown by a page of this origin, at this time in seconds since 1970.
    pub(super) fn read(
        &self,
        ticket: &str,
        origin: Option<&str>,
        login: &str,
        now_s: u64,
    ) -> Result<Principal, TokenError> {
        let (said, signature) = ticket.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes());
        let said = decode(said).map_err(|_| TokenError::Malformed)?;
        let signature = decode(signature).map_err(|_| TokenError::Malformed)?;
        self.mac(&said).verify_slice(&signature).map_err(|_| TokenError::Signature)?;
        let said: Said = serde_json::from_slice(&said).map_err(|_| TokenError::Malformed)?;
        if said.origin.as_deref() != origin {
            return Err(TokenError::Audience);
        }
        if said.login != login {
            return Err(TokenError::Issuer);
        }
        if said.expires_s.saturating_add(LEEWAY_S) <= now_s {
            return Err(TokenError::Expired);
        }
        let Said { user, roles, token, issued_s, expires_s, .. } = said;
        let roles = roles.into_iter().collect();
        Ok(Principal { user, roles, device: None, token, issued_s, expires_s })
    }

    fn mac(&self, said: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        mac.update(PURPOSE);
        mac.update(said);
        mac
    }
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What a crash left half written must not be taken for a key.
    let half = path.with_extension("half");
    let _ = std::fs::remove_file(&half);
    let mut file = options.open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(half, path)
}

/// The file of the key, in the relay's folder.
const FILE: &str = "tickets.key";

/// What the key signs, so that nothing else that it may come to sign is taken for a ticket.
const PURPOSE: &[u8] = b"rejoin ticket 1\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Principal {
        Principal {
            user: "ann".to_owned(),
            roles: ["dispatch".to_owned()].into(),
            device: None,
            token: Some("a1".to_owned()),
            issued_s: Some(90),
            expires_s: 1000,
        }
    }

    #[test]
    fn a_ticket_is_good_for_its_origin_and_time_and_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let origin = Some("https://app.example");
        let ticket = Tickets::open(folder.path()).unwrap().give(&ann(), origin, "a");
        let tickets = Tickets::open(folder.path()).unwrap();
        assert_eq!(tickets.read(&ticket, origin, "a", 1059), Ok(ann()));
        assert_eq!(tickets.read(&ticket, origin, "a", 1060), Err(TokenError::Expired));
        assert_eq!(tickets.read(&ticket, None, "a", 100), Err(TokenError::Audience));
        let other = Some("https://other.example");
        assert_eq!(tickets.read(&ticket, other, "a", 100), Err(TokenError::Audience));
        let elsewhere = tempfile::tempdir().unwrap();
        let others = Tickets::open(elsewhere.path()).unwrap();
        assert_eq!(others.read(&ticket, origin, "a", 100), Err(TokenError::Signature));
        assert_eq!(tickets.read(&ticket, origin, "b", 100), Err(TokenError::Issuer));
    }

    #[test]
    fn a_ticket_that_was_altered_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let tickets = Tickets::open(folder.path()).unwrap();
        let ticket = tickets.give(&ann(), None, "a");
        for at in 0..ticket.len() {
            let mut altered = ticket.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(tickets.read(&altered, None, "a", 100).is_err(), "byte {at}");
        }
        for wrong in ["", ".", "a.b", &ticket[..ticket.len() - 1]] {
            assert!(tickets.read(wrong, None, "a", 100).is_err());
        }
    }
}
