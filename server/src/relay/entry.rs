//! Who comes in, with which rights, and for how long.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rejoin_core::wire::{Access, ByeCode, Hello};
use rejoin_core::{Collections, Identity, SpaceName};
use sha2::{Digest, Sha256};

use super::connections::Connection;
use super::{ConnectionId, Relay};
use crate::access::{LEEWAY_S, Principal, Rights, Rules, TokenError};
use crate::store::{Revoked, StoreError};

/// Where a replica stands before its session is open.
#[derive(Debug, Default)]
pub(super) enum Entry {
    /// It has not said who it is.
    #[default]
    Outside,
    /// Its token is being looked at.
    Asked(Box<Hello>),
    /// Its token was right, and its session is opened with the next turn.
    Admitted(Box<Hello>),
    /// Its session is open.
    Inside,
}

/// The rules by which connections come in, and what is known of their tokens.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// `None` where everybody may come in without a token.
    rules: Option<Arc<Rules>>,
    tokens: VecDeque<SignIn>,
    /// When tokens end, in seconds since 1970.
    expiries: BTreeSet<(u64, ConnectionId)>,
    /// The relay's time and the time of the world, in milliseconds, at the last turn.
    clocks: (u64, u64),
}

/// A token to be looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The connection that it came by.
    pub connection: ConnectionId,
    /// The token.
    pub token: Vec<u8>,
}

/// A token is a secret.
impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Entries {
    /// A connection is gone, or has another token.
    pub(super) fn forget(&mut self, id: ConnectionId, principal: Option<&Principal>) {
        self.tokens.retain(|it| it.connection != id);
        if let Some(principal) = principal {
            self.expiries.remove(&(principal.expires_s, id));
        }
    }
}

impl Relay {
    /// From now on these rules count, and nobody comes in without a token. Sessions whose rights are
    /// others by them are ended, and may come back at once.
    ///
    /// With another login, all are ended that came in by a token of the one before.
    pub fn handle_rules(&mut self, rules: Arc<Rules>, is_other_login: bool) {
        let before = self.entries.rules.replace(Arc::clone(&rules));
        let is_same = before.is_some_and(|before| Arc::ptr_eq(&before, &rules));
        if is_same && !is_other_login {
            return;
        }
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get(id) else { continue };
            let (principal, is_same) = match connection {
                Connection::Replica(replica) => {
                    let principal = replica.principal.as_ref();
                    let mut spaces = replica.spaces.iter().zip(&replica.rights);
                    let is_same =
                        spaces.all(|(space, before)| self.rights(principal, space) == *before);
                    (principal, is_same)
                }
                Connection::Peer(peer) => {
                    let principal = peer.principal.as_ref();
                    (principal, self.rights(principal, peer.space()) == peer.rights)
                }
            };
            if !is_same || (is_other_login && principal.is_some()) {
                self.close(id, ByeCode::Rights, "your rights changed; dial again");
            }
        }
    }

    /// The next token to be looked at. Answer with [`handle_signed_in`](Self::handle_signed_in).
    pub fn poll_sign_in(&mut self) -> Option<SignIn> {
        self.entries.tokens.pop_front()
    }

    /// A token was looked at. A session is opened with the next turn, and one that is open goes on
    /// with the new token, unless it is another person's or their rights are others now.
    pub fn handle_signed_in(&mut self, id: ConnectionId, signed_in: Result<Principal, TokenError>) {
        let signed_in = signed_in.and_then(|principal| self.check_device(id, principal));
        let Some(replica) = self.connections.replica(id) else { return };
        if replica.closing.is_some() {
            return;
        }
        let principal = match signed_in {
            Ok(principal) => principal,
            Err(error) => return self.close(id, ByeCode::SignIn, &error.to_string()),
        };
        let before = replica.principal.as_ref();
        if before.is_some_and(|before| before.user != principal.user) {
            let message = "this token is another person's; connect anew with it";
            return self.close(id, ByeCode::SignIn, message);
        }
        let rights = |space| self.rights(Some(&principal), space);
        let rights: Vec<_> = replica.spaces.iter().map(rights).collect();
        if rights != replica.rights {
            return self.close(id, ByeCode::Rights, "your rights changed; dial again");
        }
        self.entries.forget(id, before);
        self.entries.expiries.insert((principal.expires_s, id));
        let Some(replica) = self.connections.replica_mut(id) else { return };
        replica.principal = Some(principal);
        if let Entry::Asked(hello) = std::mem::take(&mut replica.entry) {
            replica.entry = Entry::Admitted(hello);
            self.eventful.insert(id);
        } else {
            replica.entry = Entry::Inside;
            tracing::debug!(conn = id.0, "token renewed");
        }
    }

    /// Shuts somebody out from now on, or lets them in again without a time, in seconds since 1970.
    /// Their sessions end.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn revoke(&mut self, what: &Revoked, since_s: Option<u64>) -> Result<(), StoreError> {
        self.shared.store.revoke(what, since_s)?;
        for id in self.connections.ids() {
            let (principal, device) = match self.connections.get(id) {
                Some(Connection::Replica(replica)) => {
                    let device = match &replica.entry {
                        Entry::Asked(hello) | Entry::Admitted(hello) => hello.device,
                        Entry::Outside | Entry::Inside => replica.device,
                    };
                    (&replica.principal, Some(device))
                }
                Some(Connection::Peer(peer)) => (&peer.principal, None),
                None => continue,
            };
            let is_revoked =
                principal.as_ref().is_some_and(|it| self.shared.store.is_revoked(it, device));
            if is_revoked {
                self.close(id, ByeCode::SignIn, &TokenError::Revoked.to_string());
            }
        }
        Ok(())
    }

    /// Notes when the ticket of a peer ends, and sends away one that has no rights.
    pub(super) fn admit_peer(&mut self, id: ConnectionId, principal: Option<Principal>) {
        match principal {
            Some(principal) if self.shared.store.is_revoked(&principal, None) => {
                self.close(id, ByeCode::SignIn, &TokenError::Revoked.to_string());
            }
            Some(principal) => drop(self.entries.expiries.insert((principal.expires_s, id))),
            None if self.entries.rules.is_none() => {}
            None => self.close(id, ByeCode::SignIn, &TokenError::Missing.to_string()),
        }
    }

    /// A token may be good for one device only.
    fn check_device(
        &self,
        id: ConnectionId,
        principal: Principal,
    ) -> Result<Principal, TokenError> {
        let Some(replica) = self.connections.replica(id) else { return Ok(principal) };
        let device = match &replica.entry {
            Entry::Asked(hello) => hello.device,
            _ => replica.device,
        };
        if self.shared.store.is_revoked(&principal, Some(device)) {
            return Err(TokenError::Revoked);
        }
        match &principal.device {
            Some(named) if *named != device.to_string() => Err(TokenError::Device),
            _ => Ok(principal),
        }
    }

    /// A replica says hello: without rules its session is opened at once.
    pub(super) fn welcome(
        &mut self,
        now: u64,
        unix_ms: u64,
        id: ConnectionId,
        hello: Box<Hello>,
    ) -> Result<(), StoreError> {
        if self.entries.rules.is_none() {
            return self.let_in(now, unix_ms, id, &hello);
        }
        match hello.token.clone() {
            None => self.close(id, ByeCode::SignIn, &TokenError::Missing.to_string()),
            Some(token) => {
                let Some(replica) = self.connections.replica_mut(id) else { return Ok(()) };
                replica.entry = Entry::Asked(hello);
                self.entries.tokens.push_back(SignIn { connection: id, token: token.into() });
            }
        }
        Ok(())
    }

    /// A replica gives a fresh token.
    pub(super) fn renew(&mut self, id: ConnectionId, token: Vec<u8>) {
        if self.entries.rules.is_some() {
            // The last one counts.
            self.entries.tokens.retain(|it| it.connection != id);
            self.entries.tokens.push_back(SignIn { connection: id, token });
        }
    }

    /// Opens the session of a replica whose token was found right.
    pub(super) fn admit(
        &mut self,
        now: u64,
        unix_ms: u64,
        id: ConnectionId,
    ) -> Result<(), StoreError> {
        let Some(replica) = self.connections.replica_mut(id) else { return Ok(()) };
        if replica.closing.is_some() || !matches!(replica.entry, Entry::Admitted(_)) {
            return Ok(());
        }
        match std::mem::take(&mut replica.entry) {
            Entry::Admitted(hello) => self.let_in(now, unix_ms, id, &hello),
            _ => Ok(()),
        }
    }

    fn let_in(
        &mut self,
        now: u64,
        unix_ms: u64,
        id: ConnectionId,
        hello: &Hello,
    ) -> Result<(), StoreError> {
        let Some(replica) = self.connections.replica(id) else { return Ok(()) };
        let rights = |wanted: &_| self.rights(replica.principal.as_ref(), wanted);
        let rights = hello.spaces.iter().map(|wanted| rights(&wanted.name)).collect();
        let Some(replica) = self.connections.replica_mut(id) else { return Ok(()) };
        replica.rights = rights;
        replica.entry = Entry::Inside;
        self.open_session(now, unix_ms, id, hello)
    }

    /// The rights of somebody in a space.
    pub(super) fn rights(&self, principal: Option<&Principal>, space: &SpaceName) -> Arc<Rights> {
        let rights = match (&self.entries.rules, principal) {
            (None, _) => match self.shared.options.access {
                Access::None => Rights::none(),
                Access::Read => Rights { read: Collections::All, write: Collections::none() },
                Access::Write => Rights::all(),
            },
            (Some(_), None) => Rights::none(),
            (Some(rules), Some(principal)) => Rights::of(rules, principal, space),
        };
        Arc::new(rights)
    }

    /// Ends the sessions whose tokens have expired.
    pub(super) fn expire(&mut self, now: u64, unix_ms: u64) {
        self.entries.clocks = (now, unix_ms);
        self.end_carrying(unix_ms);
        while let Some((expires_s, id)) = self.entries.expiries.first().copied()
            && ends_ms(expires_s) <= unix_ms
        {
            self.entries.expiries.pop_first();
            self.close(id, ByeCode::SignIn, &TokenError::Expired.to_string());
        }
    }

    /// The time at which the next token ends.
    pub(super) fn expiry_timeout(&self) -> Option<u64> {
        let (now, unix_ms) = self.entries.clocks;
        let (expires_s, _) = self.entries.expiries.first()?;
        Some(now.saturating_add(ends_ms(*expires_s).saturating_sub(unix_ms)))
    }
}

/// Milliseconds since 1970 at which a token ends for good.
fn ends_ms(expires_s: u64) -> u64 {
    expires_s.saturating_add(LEEWAY_S).saturating_mul(1000)
}

/// A name for what somebody may read, which is another one when that changes.
pub(super) fn scope(read: &Collections) -> Option<u64> {
    let names = read.names()?;
    let mut hash = Sha256::new();
    for name in names {
        // A name has no control character, so that none runs into the next.
        hash.update(name.as_str());
        hash.update([0]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_at(8);
    Some(first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The identity that a token proves, in the bytes that changes carry. Roles are many, and a change
/// names one.
pub(super) fn proved(principal: &Principal) -> Vec<u8> {
    Identity::user(principal.user.clone()).to_author()
}
