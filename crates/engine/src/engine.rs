//! The replica without I/O of its own but its store: edits and frames in, commits and frames out.
//!
//! A driver collects edits of this process and messages of the relay, calls [`Engine::turn`], which
//! makes one commit of them, and then sends the messages that [`Engine::poll_transmit`] gives. Time
//! is an argument, random bytes come from the constructor, so a simulation can drive the same
//! engine from a seed. Applications use `Replica` of the crate `rejoin`.
//!
//! **Invariant:** nothing is pushed, and no watcher is told, before the commit that holds it.

mod apply;
mod batch;
mod derive;
mod edit;
mod error;
mod foresee;
mod history;
mod idle;
mod import;
mod invariants;
mod lineage;
mod loaded;
mod salvage;
mod saved;
mod schemas;
mod session;
mod set_aside;
mod settle;
mod sign_in;
mod stage;
mod suspects;
mod undo;
mod undone;
mod view;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rejoin_core::schema::Schema;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Identity, PeerId, SpaceName};

pub use crate::write::WriteError;
pub use batch::{Batch, Read};
use derive::reviews_collection;
pub use edit::{Content, Decision, Edit, EditOutcome, Target};
pub use error::{EditError, EngineError, ReadError, SettleError};
pub use foresee::Foreseen;
pub use history::{HistoryEntry, Kind};
pub use import::{Cell, Row, RowOutcome};
use loaded::{Loaded, LoadedDocument};
pub use salvage::{Rebuilt, is_whole, rebuild};
use session::Session;
pub use session::recount_digests;
pub use session::{Closing, MessageError};
pub use sign_in::{SignOutError, Token};
use stage::{Origin, Touched};
pub use stage::{Unsound, check_document};
use suspects::Notes;
pub use suspects::Suspects;
use tracing::warn;
pub use undone::{FieldUndone, Kept, KeptWhy, UndoError, Undone, UndoneDocument, Way};

use crate::diff::Op;
use crate::presence::Presences;
use crate::status::{Link, Status};
use crate::store::{DocumentRow, ReadTxn, SignedInRow, Store, StoreError, WriteTxn};
use crate::watch::{DocumentChanged, Filter, Watcher, Watchers};

/// A replica, driven from outside.
pub struct Engine {
    store: Arc<Store>,
    options: EngineOptions,
    random: Box<dyn FnMut() -> [u8; 16] + Send>,
    loaded: Loaded,
    session: Option<Session>,
    /// Spaces to sync besides those that have documents.
    wanted: Vec<SpaceName>,
    watchers: Watchers,
    presences: Presences,
    status: Status,
    counters: Counters,
    /// Changes made anew after a refusal. Refused again, they are not made a third time.
    authored_anew: BTreeSet<ChangeHash>,
    /// The identity as which the replica edits.
    identity: Option<Identity>,
    /// Who is signed in, also while there is no connection.
    signed_in: Option<SignedInRow>,
    /// Schemas that were looked up, by space and collection; a collection without a schema has an
    /// empty one.
    schemas: BTreeMap<(SpaceName, CollectionName), Arc<Schema>>,
    /// Fields that were warned of because their schema does not name them.
    unknown_fields: BTreeSet<(SpaceName, CollectionName, String)>,
    /// Documents with edits that the relay acknowledged since its last checkpoint.
    newly_held: BTreeSet<DocumentId>,
    /// Documents whose schema changed, so that their values and reviews are to be derived anew.
    behind: BTreeSet<DocumentId>,
    /// Whether some of them are behind because another version of the rules derived them: a field
    /// that was plain by those rules need not be so by these.
    derives_anew: bool,
    /// The bytes of a long change that the relay had when it was last asked.
    uploaded: Option<(ChangeHash, u64)>,
    /// Notes of the changes that are being applied, for a process that comes after this one.
    notes: Notes,
    /// The steps of batches that are under way.
    batches: Batches,
    /// Whether a step was taken back that can be made again.
    may_redo: bool,
    /// Everything loaded was forgotten.
    is_lost: bool,
    /// The time at which pages of the file are to be written over that may still hold something that
    /// was erased.
    overwrite_at: Option<u64>,
    /// Messages that a mutant sent before its commit.
    #[cfg(feature = "mutants")]
    early: Vec<Vec<u8>>,
}

/// The step of each batch and the number of edits in it, by the batch's number and the user.
type Batches = BTreeMap<(u64, Option<String>), (u64, u64)>;

/// Limits of one engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Documents kept in memory. The default is 256.
    pub documents_loaded_max: usize,
    /// Bytes of stored documents kept in memory; in memory they take several times that. The
    /// default is 32 MiB.
    pub loaded_bytes_max: u64,
    /// Milliseconds after which an unused document leaves memory. The default is 60,000.
    pub idle_ms: u64,
    /// Bytes of a document's value up to which the value is written with every edit. Of larger
    /// documents it is written when it is next read, or when the document leaves memory. The
    /// default is 16 KiB.
    pub value_bytes_eager_max: usize,
    /// Messages handled in one commit at most. The default is 512.
    pub events_per_turn_max: usize,
    /// Steps that can be [taken back](Engine::undo), or a few more. The default is 1,000; 0 keeps none.
    pub undo_steps_max: u64,
    /// A deliberate fault, for the simulation to catch.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            documents_loaded_max: 256,
            loaded_bytes_max: 32 << 20,
            idle_ms: 60_000,
            value_bytes_eager_max: 16 << 10,
            events_per_turn_max: 512,
            undo_steps_max: 1000,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// Deliberate faults, to show that the simulation would notice them.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Some edits never reach the outbox.
    SkippedOutboxRow,
    /// Edits are pushed before their commit.
    PushBeforeCommit,
    /// Older documents count as received when the first of them has come.
    MarkTooEarly,
    /// Pieces are counted and not kept.
    ForgottenPiece,
}

/// Counts of an engine since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Documents read from the store into memory.
    pub documents_loaded: u64,
    /// Commits.
    pub commits: u64,
    /// Changes from relays that were applied.
    pub changes_applied: u64,
    /// Changes from relays that were known already.
    pub changes_known: u64,
    /// Changes that could not be applied.
    pub changes_quarantined: u64,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes of change chunks and snapshots in frames, both ways.
    pub payload_bytes: u64,
    /// Sessions in which a relay said that it has more of a long change than before.
    pub uploads_gained: u64,
    /// Repairs begun because digests differed.
    pub repairs: u64,
}

/// One commit in the making.
struct Turn {
    txn: WriteTxn,
    /// Milliseconds of the driver's clock.
    now: u64,
    /// Seconds since 1970 by the device's clock.
    unix_s: i64,
    effects: Vec<Effect>,
    /// Documents whose values are to be written before the commit.
    touched: BTreeMap<DocumentId, Touched>,
    /// Whether anything was written.
    dirty: bool,
}

impl Turn {
    fn begin(store: &Store, now: u64, unix_s: i64) -> Result<Self, StoreError> {
        let (effects, touched) = (Vec::new(), BTreeMap::new());
        Ok(Self { txn: store.write()?, now, unix_s, effects, touched, dirty: false })
    }
}

/// News that are told when the commit is durable.
enum Effect {
    Changed { space: SpaceName, collection: CollectionName, change: DocumentChanged },
    Presence { space: SpaceName, collection: CollectionName, document: DocumentId },
}

impl Engine {
    /// An engine over an open store. `random` gives 16 unpredictable bytes a call: actor and
    /// document ids come from it.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn new(
        store: Arc<Store>,
        options: EngineOptions,
        random: impl FnMut() -> [u8; 16] + Send + 'static,
    ) -> Result<Self, EngineError> {
        let overwrite_at = store.read()?.is_overwrite_due()?.then_some(0);
        let mut engine = Self {
            store,
            options,
            random: Box::new(random),
            loaded: Loaded::default(),
            session: None,
            wanted: Vec::new(),
            watchers: Watchers::default(),
            presences: Presences::default(),
            status: Status::offline(),
            counters: Counters::default(),
            authored_anew: BTreeSet::new(),
            identity: None,
            signed_in: None,
            schemas: BTreeMap::new(),
            unknown_fields: BTreeSet::new(),
            newly_held: BTreeSet::new(),
            behind: BTreeSet::new(),
            derives_anew: false,
            uploaded: None,
            notes: Notes::none(),
            batches: BTreeMap::new(),
            may_redo: true,
            is_lost: false,
            overwrite_at,
            #[cfg(feature = "mutants")]
            early: Vec::new(),
        };
        let view = engine.store.read()?;
        (engine.identity, engine.signed_in) = (view.identity()?, view.signed_in()?);
        // A changed schema left documents behind, of which only some may have been derived anew.
        engine.behind.extend(view.stale()?);
        engine.derives_anew = view.is_derived_otherwise()?;
        if engine.derives_anew && engine.behind.is_empty() {
            let txn = engine.store.write()?;
            txn.put_derived()?;
            txn.commit()?;
            engine.derives_anew = false;
        }
        drop(view);
        engine.recount(None)?;
        Ok(engine)
    }

    /// Keeps a note of the changes that are being applied, so that changes which end the process
    /// are found. `left` is the note that the process before left; `note` puts another one in its
    /// place, which has to survive this process but not the machine.
    pub fn note_applying(&mut self, left: Suspects, note: impl FnMut(&Suspects) + Send + 'static) {
        self.notes = Notes::new(left, Box::new(note));
    }

    /// The identity as which the replica edits, if it has one.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Edits as somebody from now on; the replica keeps it.
    ///
    /// # Errors
    /// As [`turn`](Self::turn), or somebody else is signed in.
    pub fn act_as(&mut self, identity: Option<Identity>) -> Result<(), EditError> {
        if self.store.read()?.identity()? == identity {
            return Ok(());
        }
        self.author(identity.clone())?;
        let txn = self.store.write()?;
        txn.put_identity(identity.as_ref())?;
        if let Err(error) = txn.commit() {
            self.forget();
            return Err(error.into());
        }
        self.counters.commits += 1;
        self.identity = identity;
        Ok(())
    }

    /// Makes one commit of these edits and of the messages taken since the last turn. The results
    /// are in the order of the edits.
    ///
    /// # Errors
    /// The commit failed, and whether it became durable is unknown: the session is gone
    /// and no document is loaded any more. Open the file again with [`Store::reopen`].
    pub fn turn(
        &mut self,
        now: u64,
        unix_s: i64,
        edits: Vec<Edit>,
    ) -> Result<Vec<Result<EditOutcome, EditError>>, EngineError> {
        if edits.is_empty() && !self.has_messages() {
            return Ok(Vec::new());
        }
        // Automerge is fenced at the calls that take bytes from outside; this fence is for panics
        // that nobody foresaw. The transaction is dropped with everything of this turn in it.
        let turned = catch_unwind(AssertUnwindSafe(|| self.try_turn(now, unix_s, edits)))
            .unwrap_or_else(|panic| Err(EngineError::Panicked { reason: said(&*panic) }));
        self.notes.end(turned.is_ok());
        if turned.is_err() {
            self.forget();
        } else if let Err(error) = self.unload(now, 0) {
            // The commit of the turn is durable, and is answered so.
            warn!(error = &error as &dyn std::error::Error, "documents could not be unloaded");
            self.forget();
        }
        turned
    }

    /// The results that edits would have, one after the other. Nothing of them is kept.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn preview(
        &mut self,
        now: u64,
        unix_s: i64,
        edits: Vec<Edit>,
    ) -> Result<Vec<Result<EditOutcome, EditError>>, EngineError> {
        let batches = self.batches.clone();
        let previewed = catch_unwind(AssertUnwindSafe(|| {
            let mut turn = Turn::begin(&self.store, now, unix_s)?;
            Ok(edits.into_iter().map(|edit| self.stage_edit(&mut turn, edit)).collect())
        }));
        // The loaded documents hold the edits now.
        self.forget_unkept(batches);
        previewed.unwrap_or_else(|panic| Err(EngineError::Panicked { reason: said(&*panic) }))
    }

    /// Whether messages wait for the next [`turn`](Self::turn).
    pub fn has_messages(&self) -> bool {
        self.session.as_ref().is_some_and(Session::has_events)
    }

    /// Forgets everything that the store may not hold: after a failed commit.
    pub fn forget(&mut self) {
        self.loaded.clear();
        self.schemas.clear();
        self.newly_held.clear();
        self.batches.clear();
        self.may_redo = true;
        self.session = None;
        self.status.link = Link::Offline;
        self.is_lost = true;
    }

    /// Whether the loaded documents were [forgotten](Self::forget) since the file was last opened.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The file was opened again. It is known now whether the last commit became durable: the
    /// status is counted anew, and watchers are told to read again.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn handle_reopened(&mut self) -> Result<(), EngineError> {
        let view = self.store.read()?;
        (self.identity, self.signed_in) = (view.identity()?, view.signed_in()?);
        drop(view);
        self.recount(None)?;
        self.watchers.read_again();
        self.is_lost = false;
        Ok(())
    }

    /// The store this engine writes.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The state of the replica towards its relay.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Notes for people that the driver dials, or why it failed to.
    pub fn set_dialling(&mut self, dialling: bool, trouble: Option<String>) {
        if self.session.is_none() {
            self.status.link = if dialling { Link::Connecting } else { Link::Offline };
        }
        self.status.trouble = trouble;
    }

    /// The attempt to connect goes on, for the reason that the last one failed.
    pub fn go_on_dialling(&mut self) {
        if self.session.is_none() && self.status.link != Link::SignedOut {
            self.status.link = Link::Connecting;
        }
    }

    /// There is no token with which a relay lets this replica in, for this reason. Everything that
    /// waits goes on waiting.
    pub fn set_signed_out(&mut self, reason: String) {
        self.status.link = Link::SignedOut;
        self.status.trouble = Some(reason);
    }

    /// Gives the relay a fresh token on the open connection.
    pub fn renew(&mut self, token: Vec<u8>) {
        if let Some(session) = &mut self.session {
            session.renew(token);
        }
    }

    /// The counts so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Documents in memory.
    pub fn documents_in_memory(&self) -> usize {
        self.loaded.len()
    }

    /// Syncs a space even while it has no document here. Takes effect with the next session.
    pub fn want_space(&mut self, space: &SpaceName) {
        if !self.wanted.contains(space) {
            self.wanted.push(space.clone());
        }
    }

    /// Watches a collection, or one document of it.
    pub fn watch(
        &mut self,
        space: SpaceName,
        collection: CollectionName,
        document: Option<DocumentId>,
    ) -> Watcher {
        self.watchers.add(Filter { space: Some(space), collection, document })
    }

    /// Watches the reviews of a space, or of all.
    pub fn watch_reviews(&mut self, space: Option<SpaceName>) -> Watcher {
        let (collection, document) = (reviews_collection(), None);
        self.watchers.add(Filter { space, collection, document })
    }

    /// The present activity of the peers of a space in a document.
    pub fn presences(&self, now: u64, document: &DocumentId) -> Vec<(PeerId, Vec<u8>)> {
        self.presences.of(now, document)
    }

    /// Brings the stored values of these documents up to date; they are behind only for documents
    /// over [`EngineOptions::value_bytes_eager_max`].
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn refresh(&mut self, now: u64, documents: &[DocumentId]) -> Result<(), EngineError> {
        let mut refreshed = Ok(());
        for some in documents.chunks(REFRESHED_AT_ONCE) {
            refreshed = self.try_refresh(now, some);
            if refreshed.is_err() {
                self.forget();
                break;
            }
            // The document that was loaded for it must not fill the memory; its value was just
            // written.
            let view = self.store.read()?;
            self.unload_looked_at(&view)?;
        }
        refreshed
    }

    /// Brings the values that lists read up to date. If more documents are behind a changed schema
    /// than can be derived at once, they stay behind: [`catch_up`](Self::catch_up) derives them
    /// little by little, and [`Status::behind`] counts them.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn refresh_listed(&mut self, now: u64) -> Result<(), EngineError> {
        let mut stale = self.store.read()?.stale()?;
        if stale.len() > REFRESHED_AT_ONCE {
            stale.retain(|id| !self.behind.contains(id));
        }
        self.refresh(now, &stale)
    }

    fn try_turn(
        &mut self,
        now: u64,
        unix_s: i64,
        edits: Vec<Edit>,
    ) -> Result<Vec<Result<EditOutcome, EditError>>, EngineError> {
        let mut turn = Turn::begin(&self.store, now, unix_s)?;
        let mut results = Vec::with_capacity(edits.len());
        for edit in edits {
            let result = self.stage_edit(&mut turn, edit);
            if let Err(EditError::Store(error)) = result {
                return Err(error.into());
            }
            results.push(result);
        }
        for _ in 0..self.options.events_per_turn_max.max(1) {
            if !self.stage_event(&mut turn)? {
                break;
            }
        }
        self.finish(turn)?;
        Ok(results)
    }

    /// Commits, and then tells.
    fn finish(&mut self, mut turn: Turn) -> Result<(), EngineError> {
        self.stage_values(&mut turn)?;
        if turn.dirty {
            self.stage_cursors(&turn.txn)?;
            turn.txn.commit()?;
            self.counters.commits += 1;
        } else {
            drop(turn.txn);
        }
        self.tell(turn.effects);
        self.recount(Some(turn.unix_s))
    }

    /// Brings the status up to date with the store.
    fn recount(&mut self, unix_s: Option<i64>) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let waiting = view.outbox_len()?;
        if unix_s.is_none() {
            self.recount_set_aside(&view)?;
            // The last commit may have held an answer that was not told to anybody.
            self.status.answers += 1;
        }
        if waiting > self.status.waiting || unix_s.is_none() {
            self.status.edited_at_s = match unix_s {
                Some(now_s) => Some(now_s),
                None => view.outbox_last()?.map(|row| row.time_s),
            };
        }
        self.status.waiting = waiting;
        self.status.waiting_for.clear();
        if let Some(SignedInRow { user, .. }) = &self.signed_in {
            self.status.waiting_for = view.waiting_users()?;
            self.status.waiting_for.remove(user);
        }
        if waiting == 0 {
            self.status.edited_at_s = None;
        }
        self.status.behind = self.behind.len() as u64;
        self.recount_link(&view, unix_s)?;
        self.recount_progress(&view)?;
        Ok(())
    }

    fn try_refresh(&mut self, now: u64, documents: &[DocumentId]) -> Result<(), EngineError> {
        let txn = self.store.write()?;
        let (mut dirty, mut effects) = (false, Vec::new());
        for id in documents {
            let Some(row) = txn.document(id)? else { continue };
            if !txn.is_stale(id)? {
                continue;
            }
            self.rederive(&txn, now, id, row, &mut effects)?;
            dirty = true;
        }
        let is_left = |behind: &DocumentId| !documents.contains(behind);
        let ends = self.derives_anew && !self.behind.iter().any(is_left);
        if ends {
            txn.put_derived()?;
            dirty = true;
        }
        if dirty {
            txn.commit()?;
            self.counters.commits += 1;
        }
        self.derives_anew &= !ends;
        documents.iter().for_each(|id| _ = self.behind.remove(id));
        self.status.behind = self.behind.len() as u64;
        self.tell(effects);
        Ok(())
    }

    /// Tells the news of a commit.
    fn tell(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Changed { space, collection, change } => {
                    self.watchers.changed(&space, &collection, &change);
                }
                Effect::Presence { space, collection, document } => {
                    self.watchers.presence(&space, &collection, document);
                }
            }
        }
    }

    /// Takes a document out of memory, or reads it from the transaction under way.
    fn load(
        &mut self,
        txn: &WriteTxn,
        id: &DocumentId,
        row: &DocumentRow,
    ) -> Result<LoadedDocument, EngineError> {
        if let Some(document) = self.loaded.take(id) {
            return Ok(document);
        }
        self.counters.documents_loaded += 1;
        LoadedDocument::load(id, row, txn.snapshot(id)?, &txn.changes(id, row.covered)?)
    }

    /// As [`load`](Self::load), without a transaction under way.
    fn load_committed(
        &mut self,
        view: &ReadTxn,
        id: &DocumentId,
        row: &DocumentRow,
    ) -> Result<LoadedDocument, EngineError> {
        if let Some(document) = self.loaded.take(id) {
            return Ok(document);
        }
        self.counters.documents_loaded += 1;
        LoadedDocument::load(id, row, view.snapshot(id)?, &view.changes(id, row.covered)?)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.status)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason".into())
}

/// Heads as Automerge names them.
pub(crate) fn to_automerge(heads: &[ChangeHash]) -> Vec<automerge::ChangeHash> {
    heads.iter().map(|head| automerge::ChangeHash(head.0)).collect()
}

/// Documents whose values are brought up to date in one commit.
const REFRESHED_AT_ONCE: usize = 256;
