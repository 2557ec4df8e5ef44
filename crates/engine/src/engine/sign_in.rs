//! Who is signed in, and whose edits may therefore go to the relay.
//!
//! A relay takes a change only from the person whose name it bears. What another person made on the
//! same device stays in the outbox until that person signs in again: it is not sent by somebody else,
//! and not made anew in their name.

use std::collections::BTreeSet;

use rejoin_core::change::is_reserved_bytes;
use rejoin_core::{ChangeHash, DocumentId, Identity};
use thiserror::Error;
use tracing::info;

use super::set_aside::Refusal;
use super::{EditError, Engine, EngineError, LoadedDocument, Turn};
use crate::store::{ReadTxn, SignedInRow, StoreError};

/// The token with which a replica signs in at a relay.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// A name for whom it is of, if it says so: two tokens with one name are one person's.
    pub subject: Option<[u8; 32]>,
}

/// A token is a secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// Whose edits go to the relay in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of everybody: the relay takes no tokens, or what anybody carries.
    Everybodys,
    /// Those that bear no name: it is not known yet whom the relay knows the token as.
    Nobodys,
    /// Those of a user, and those that bear no name.
    Of(String),
}

impl Whose {
    pub(super) fn includes(&self, user: Option<&String>) -> bool {
        match (self, user) {
            (Self::Everybodys, _) | (_, None) => true,
            (Self::Nobodys, Some(_)) => false,
            (Self::Of(signed_in), Some(user)) => signed_in == user,
        }
    }
}

/// The replica was not signed out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignOutError {
    /// Edits wait that nobody else can send.
    #[error(
        "{} of {user} that no relay holds would stay here until {user} signs in again; sync first, or \
         discard {}",
        if *.edits == 1 { "1 edit".to_owned() } else { format!("{edits} edits") },
        if *.edits == 1 { "it" } else { "them" }
    )]
    Unsent {
        /// Who is signed in.
        user: String,
        /// How many edits wait.
        edits: u64,
    },
    /// The file could not be read or written.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The replica was closed.
    #[error("the replica is closed; open it again")]
    Closed,
}

impl From<StoreError> for SignOutError {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl Engine {
    /// Who is signed in, if somebody is: the relay said so when it last let this replica in.
    pub fn signed_in(&self) -> Option<&SignedInRow> {
        self.signed_in.as_ref()
    }

    /// The author of an edit that is made as `given`. Who is signed in edits under their own name.
    pub(super) fn author(&self, given: Option<Identity>) -> Result<Option<Identity>, EditError> {
        let author = given.or_else(|| self.identity.clone());
        let Some(SignedInRow { user, .. }) = &self.signed_in else { return Ok(author) };
        match author {
            None => Ok(Some(Identity::user(user))),
            Some(author) if author.user == *user => Ok(Some(author)),
            Some(author) => {
                Err(EditError::SignedIn { signed_in: user.clone(), author: author.user })
            }
        }
    }

    /// Whose edits go to a relay before it has said who it knows the token as.
    pub(super) fn whose_at_first(&self, relay: &str, token: Option<&Token>) -> Whose {
        let Some(token) = token else { return Whose::Everybodys };
        let known = self.signed_in.as_ref().filter(|it| it.relay == relay);
        let known = known.filter(|it| it.subject.is_some_and(|of| Some(*of) == token.subject));
        known.map_or(Whose::Nobodys, |it| Whose::Of(it.user.clone()))
    }

    /// The relay says as whom it knows this replica: from now on that is who edits here.
    pub(super) fn stage_signed_in(
        &mut self,
        turn: &mut Turn,
        user: Option<String>,
        carries: bool,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.status.signed_in.clone_from(&user);
        let whose = match &user {
            Some(user) if !carries => Whose::Of(user.clone()),
            _ => Whose::Everybodys,
        };
        session.push_from_now_on(whose);
        let Some(user) = user else { return Ok(()) };
        let (relay, subject) = (session.relay.clone(), session.subject.map(Into::into));
        let row = SignedInRow { user, relay, subject };
        if self.signed_in.as_ref() != Some(&row) {
            turn.txn.put_signed_in(Some(&row))?;
            turn.dirty = true;
        }
        if self.identity.as_ref().is_some_and(|identity| identity.user != row.user) {
            // The name of the device is the device's, whoever uses it.
            let device = self.identity.take().and_then(|identity| identity.device);
            let identity = Identity { device, ..Identity::user(&row.user) };
            turn.txn.put_identity(Some(&identity))?;
            turn.dirty = true;
            self.identity = Some(identity);
        }
        self.signed_in = Some(row);
        Ok(())
    }

    /// Signs out who is signed in: the session ends, and edits are nobody's until somebody signs in.
    /// With `discard`, those edits of theirs that no relay holds are set aside for good, and the
    /// documents are as they were without them.
    ///
    /// # Errors
    /// Such edits wait, and are not to be discarded; or the file could not be written.
    pub fn sign_out(&mut self, now: u64, unix_s: i64, discard: bool) -> Result<(), SignOutError> {
        let Some(SignedInRow { user, .. }) = self.signed_in.clone() else { return Ok(()) };
        let waiting = self.store.read()?.waiting_users()?.remove(&user).unwrap_or(0);
        if waiting > 0 && !discard {
            return Err(SignOutError::Unsent { user, edits: waiting });
        }
        self.handle_disconnected();
        let is_theirs = |of: Option<&String>| of == Some(&user);
        let view = self.store.read()?;
        let rows = view.outbox(0, usize::MAX)?.into_iter().map(|(_, row)| row);
        let rows = rows.filter(|row| is_theirs(row.user.as_ref()));
        let documents: BTreeSet<_> = rows.map(|row| row.document).collect();
        drop(view);
        let reason = format!("{user} discarded it when they signed out");
        for some in documents.into_iter().collect::<Vec<_>>().chunks(DISCARDED_AT_ONCE) {
            let mut turn = Turn::begin(&self.store, now, unix_s)?;
            turn.dirty = true;
            let discarded = some.iter().try_for_each(|id| {
                let hashes = self.discarded_changes(&turn, id, is_theirs)?;
                self.stage_set_aside(&mut turn, id, &hashes, &reason, Refusal::Discarded).map(drop)
            });
            if let Err(error) = discarded {
                // Documents that are loaded are without what is not committed.
                self.forget();
                return Err(error.into());
            }
            self.finish_or_forget(turn)?;
        }
        let mut turn = Turn::begin(&self.store, now, unix_s)?;
        turn.txn.put_signed_in(None)?;
        turn.txn.put_identity(None)?;
        turn.dirty = true;
        (self.signed_in, self.identity) = (None, None);
        self.finish_or_forget(turn)?;
        info!("signed out");
        Ok(())
    }

    /// The waiting changes of a document that somebody discards.
    fn discarded_changes(
        &mut self,
        turn: &Turn,
        id: &DocumentId,
        is_theirs: impl Fn(Option<&String>) -> bool,
    ) -> Result<Vec<ChangeHash>, EngineError> {
        let waiting = waiting_changes(&self.store.read()?, id, false, is_theirs)?;
        let Some(row) = turn.txn.document(id)? else { return Ok(Vec::new()) };
        let document = self.load(&turn.txn, id, &row)?;
        let out = left_out(&document, &waiting, false);
        self.loaded.put(turn.now, *id, document);
        Ok(out.into_iter().collect())
    }

    fn finish_or_forget(&mut self, turn: Turn) -> Result<(), EngineError> {
        let finished = self.finish(turn);
        if finished.is_err() {
            self.forget();
        }
        finished
    }
}

/// The changes of a document that wait for a relay and were made by some users, and with `and_later` all
/// that wait behind them.
pub(super) fn waiting_changes(
    view: &ReadTxn,
    id: &DocumentId,
    and_later: bool,
    is_of: impl Fn(Option<&String>) -> bool,
) -> Result<BTreeSet<ChangeHash>, StoreError> {
    let (mut hashes, mut is_later) = (BTreeSet::new(), false);
    for key in view.waiting(id)? {
        let Some((_, row)) = view.outbox(key, 1)?.pop().filter(|(found, _)| *found == key) else {
            continue;
        };
        if is_of(row.user.as_ref()) || is_later {
            is_later = and_later;
            let chunks = view.changes_in(id, row.places())?;
            let parsed = chunks.iter().map(|chunk| rejoin_core::change::hash_of(chunk));
            hashes.extend(parsed.flatten());
        }
    }
    Ok(hashes)
}

/// Of changes that are `waiting`, those without which a document is as if they had not been made, and with
/// `and_dependants` all that build on them. A genesis or birth is everybody's: it stays as long as
/// something that stays builds on it.
pub(super) fn left_out(
    document: &LoadedDocument,
    waiting: &BTreeSet<ChangeHash>,
    and_dependants: bool,
) -> BTreeSet<ChangeHash> {
    let changes = document.doc.get_changes_meta(&[]);
    let mut out = BTreeSet::new();
    for change in &changes {
        let hash = ChangeHash(change.hash.0);
        let is_shared = is_reserved_bytes(change.actor.to_bytes());
        let builds = change.deps.iter().any(|dep| out.contains(&ChangeHash(dep.0)));
        if (waiting.contains(&hash) && !is_shared) || (and_dependants && builds) {
            out.insert(hash);
        }
    }
    let mut needed = BTreeSet::new();
    for change in changes.iter().rev() {
        let hash = ChangeHash(change.hash.0);
        if out.contains(&hash) {
            // Something that stays builds on it, and so on all that this one builds on.
            if needed.contains(&hash) {
                needed.extend(change.deps.iter().map(|dep| ChangeHash(dep.0)));
            }
            continue;
        }
        if waiting.contains(&hash) && !needed.contains(&hash) {
            out.insert(hash);
            continue;
        }
        needed.extend(change.deps.iter().map(|dep| ChangeHash(dep.0)));
    }
    out
}

/// Documents of which edits are discarded with one commit.
const DISCARDED_AT_ONCE: usize = 64;
