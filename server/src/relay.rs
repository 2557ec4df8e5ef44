//! The relay's engine: sessions over the store, without sockets, threads, clock or randomness.

mod automerge_repo;
mod bounds;
mod breaches;
mod carrying;
mod connections;
mod counters;
mod devices;
mod entry;
mod erasing;
mod folding;
mod intake;
mod mending;
mod options;
mod pages;
mod presence;
mod pushes;
mod repairs;
mod sessions;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use redb::Database;
#[cfg(feature = "mutants")]
use rejoin_core::change::Change;
use rejoin_core::change::Place;
use rejoin_core::session::{RelayEvent, StoreOutcome};
use rejoin_core::wire::{ChangePiece, Hello, Push, RefusedClass};
use rejoin_core::{ChangeHash, CollectionName, DeviceId, DocumentId, SpaceName};
use sha2::{Digest, Sha256};

pub use automerge_repo::{Upload, UploadId};
pub use breaches::{Breach, Notice};
pub use connections::Close;
pub use counters::{Counters, RefusedCounters};
pub use devices::Visitor;
pub use entry::SignIn;
pub use erasing::Erased;
#[cfg(feature = "mutants")]
pub use options::Mutant;
pub use options::{CompactionPolicy, RelayOptions};
pub(crate) use sessions::chain;
pub use transmit::Outgoing;

use crate::store::{ChangeStore, StoreError};
use automerge_repo::Peers;
use breaches::Breaches;
use carrying::Carrying;
use connections::{Connections, Shared};
use devices::Departures;
use entry::{Entries, proved};
use folding::Folding;
#[cfg(feature = "mutants")]
use intake::Refuse;
use intake::{ERASED, Intake, Right, Verdict, Writer, full};
use mending::Scrubbing;
use presence::Speakers;
use pushes::{Checked, FOREIGN_RETRY_MS, check_push};
use repairs::Repairs;
use sessions::Replica;

/// One connection, as the driver numbers it. A number is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Every session of a relay over its store.
///
/// Methods come in three kinds, as in `quinn_proto::Connection`:
///
/// - `handle_*` takes an event: a connection, a message, its end, time passing;
/// - [`turn`](Self::turn), which works off all that was handled and makes it durable in one commit;
/// - `poll_*` gives the next thing to do: frames to send, a connection to close, a time to call
///   again.
///
/// A driver handles the events that came, calls `turn`, and then, for each connection that can take
/// more, [`poll_transmit`](Self::poll_transmit) and [`poll_close`](Self::poll_close).
/// [`poll_ready`](Self::poll_ready) names connections that may have something to send. Nothing is
/// told to anyone before the commit that holds it: an answer to a push is not even in a session
/// until then.
///
/// Time is in milliseconds of any clock that does not run backwards.
#[derive(Debug)]
pub struct Relay {
    connections: Connections,
    shared: Shared,
    /// The open sessions of each space, each with the space's number in it.
    listeners: BTreeMap<SpaceName, BTreeSet<(ConnectionId, u32)>>,
    /// Replicas' connections with events for the next turn.
    eventful: BTreeSet<ConnectionId>,
    timers: BTreeSet<(u64, ConnectionId)>,
    repairs: Repairs,
    /// The last of the long changes that came in pieces and are kept: a device that has not heard
    /// of it need not push them again.
    uploaded: VecDeque<(DeviceId, ChangeHash)>,
    speakers: Speakers,
    scrubbing: Scrubbing,
    /// The time at which pages are written over that an order to erase left, as it was cut short.
    overwrite_at: Option<u64>,
    departures: Departures,
    entries: Entries,
}

/// The result of changes that were sent, to be told after the commit.
#[derive(Debug)]
struct Answer {
    author: Author,
    name: SpaceName,
    document: DocumentId,
    positions: Option<RangeInclusive<u64>>,
}

/// A document and its space: the same id may be in two spaces.
type DocumentKey = (SpaceName, DocumentId);

/// The sender of changes.
#[derive(Debug)]
enum Author {
    /// A replica, by push `n` into its space number `space`.
    Replica {
        connection: ConnectionId,
        space: u32,
        n: u64,
        bytes: usize,
        /// `None` if the session is over.
        outcome: Option<StoreOutcome>,
    },
    /// A peer, which is told like everyone else.
    Peer,
}

/// The result of a piece of a long change.
enum Pieced {
    /// There was no piece.
    Nothing,
    /// It waits for the others.
    Kept,
    /// It was the last.
    Whole(Vec<u8>),
    Refused(StoreOutcome),
}

impl Relay {
    /// Opens the relay whose store is in `database`, or makes one if it is empty. `ids` is asked
    /// for random bytes only then.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn open(
        database: Database,
        options: RelayOptions,
        ids: impl FnMut() -> [u8; 16],
    ) -> Result<Self, StoreError> {
        let store = ChangeStore::open(database, options.graph_bytes_max, ids)?;
        let shared = Shared {
            repo_name: format!("rejoin-{}", store.relay()).into(),
            store,
            options,
            counters: Counters::default(),
            ready: BTreeSet::new(),
            unread_bytes: 0,
            answers: Vec::new(),
            folding: Folding::default(),
            breaches: Breaches::default(),
            carrying: Carrying::default(),
            peers: Peers::default(),
            #[cfg(feature = "mutants")]
            refuse: None,
        };
        Ok(Self {
            repairs: Repairs::new(shared.options.repair_bytes_max),
            shared,
            connections: Connections::default(),
            listeners: BTreeMap::new(),
            eventful: BTreeSet::new(),
            timers: BTreeSet::new(),
            uploaded: VecDeque::new(),
            speakers: Speakers::default(),
            scrubbing: Scrubbing::default(),
            overwrite_at: None,
            departures: Departures::default(),
            entries: Entries::default(),
        })
    }

    /// Refuses new changes at will from now on, in the class `refuse` returns.
    #[cfg(feature = "mutants")]
    pub fn refuse_changes(
        &mut self,
        refuse: impl FnMut(&DocumentId, &Change) -> Option<RefusedClass> + Send + 'static,
    ) {
        self.shared.refuse = Some(Refuse(Box::new(refuse)));
    }

    /// Works off everything that was handled since the last turn: opens sessions, checks pushes,
    /// commits, and only then lets the sessions answer and forward. `unix_ms` is the time that
    /// clients are told, and from which the age of changes counts.
    ///
    /// # Errors
    /// The store failed, and whether the last commit landed is unknown. Nothing of it was
    /// told. [`stop`](Self::stop) the sessions, send their last frames, and open the relay again.
    pub fn turn(&mut self, now: u64, unix_ms: u64) -> Result<(), StoreError> {
        let worked = self.work(now, unix_ms);
        if worked.is_err() {
            self.shared.store.fail();
            self.shared.answers.clear();
        }
        worked
    }

    /// A connection that may have something to send, each once: poll it as soon as it can take
    /// more.
    pub fn poll_ready(&mut self) -> Option<ConnectionId> {
        self.shared.ready.pop_first()
    }

    /// Whether [`poll_ready`](Self::poll_ready) has more, or another turn is due at once.
    pub fn has_ready(&self) -> bool {
        !self.shared.ready.is_empty()
            || !self.eventful.is_empty()
            || self.shared.peers.has_work()
            || self.shared.store.has_suspects()
    }

    /// The time at which [`handle_timeout`](Self::handle_timeout) is due even if nothing happens;
    /// `None` if only an event makes something due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let session = self.timers.first().map(|(at, _)| *at);
        let others =
            [self.shared.fold_timeout(), self.mending_timeout(), self.shared.breaches.timeout()];
        let others =
            others.into_iter().chain([self.departures_timeout(), self.overwrite_timeout()]);
        let others = others.chain([self.expiry_timeout()]);
        session.into_iter().chain(others.flatten()).min()
    }

    /// Checks that the disk still takes writes, by a small one.
    ///
    /// # Errors
    /// It does not; go on as after a failed [`turn`](Self::turn).
    pub fn probe(&mut self) -> Result<(), StoreError> {
        self.shared.store.probe()
    }

    /// The counts of the relay, and its present state.
    pub fn counters(&self) -> Counters {
        Counters {
            graphs_loaded: self.shared.store.graphs_loaded(),
            graph_bytes: self.shared.store.graph_bytes(),
            unread_bytes: self.shared.unread_bytes,
            peer_bytes: self.shared.peers.bytes(),
            sessions: self.connections.len(),
            queued: self.connections.queued() + self.shared.peers.queued(),
            documents_lost: self.shared.store.losses_len(),
            overwrite_due: self.shared.store.is_overwrite_due(),
            ..self.shared.counters
        }
    }

    /// The counts of the relay, without a look at every session.
    pub(crate) fn totals(&self) -> &Counters {
        &self.shared.counters
    }

    /// The reason why a space takes no new documents, or nothing at all; `None` if it has room.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn space_full(&mut self, space: &SpaceName) -> Result<Option<String>, StoreError> {
        let Shared { options, store, .. } = &mut self.shared;
        full(options, store, space)
    }

    /// From now on a space may have so many documents, and so many bytes of changes. Replicas that
    /// wait for room push again by themselves.
    pub fn handle_quotas(&mut self, documents_max: Option<u64>, bytes_max: Option<u64>) {
        self.shared.options.space_documents_max = documents_max;
        self.shared.options.space_bytes_max = bytes_max;
    }

    /// The store, for an operator's questions.
    pub fn store(&self) -> &ChangeStore {
        &self.shared.store
    }

    /// The store, for questions that it has to look up.
    pub fn store_mut(&mut self) -> &mut ChangeStore {
        &mut self.shared.store
    }

    /// The heads of a document, for a simulation to hold replicas to their marks.
    ///
    /// # Errors
    /// The store could not read.
    #[cfg(feature = "mutants")]
    pub fn heads(&mut self, place: &Place<'_>) -> Result<Vec<ChangeHash>, StoreError> {
        let known = self.shared.store.known(place)?;
        Ok(known.map(|known| known.graph.heads()).unwrap_or_default())
    }

    /// Whether the store has a change, for a simulation to hold the relay to its word.
    ///
    /// # Errors
    /// The store could not read.
    #[cfg(feature = "mutants")]
    pub fn holds(&mut self, place: &Place<'_>, change: &ChangeHash) -> Result<bool, StoreError> {
        let known = self.shared.store.known(place)?;
        Ok(known.is_some_and(|known| known.graph.contains(change)))
    }

    fn work(&mut self, now: u64, unix_ms: u64) -> Result<(), StoreError> {
        self.shared.folding.now = now;
        self.shared.breaches.pass_time(now);
        if self.shared.store.is_failed() {
            return Err(StoreError::Failed);
        }
        self.expire(now, unix_ms);
        self.scrub(now, unix_ms)?;
        self.overwrite_late(now)?;
        self.mend(unix_ms)?;
        let eventful = std::mem::take(&mut self.eventful);
        // A connection that is alone has the whole turn; of many each has a share, and goes on in
        // the next one.
        let share = (TURN_WORK_BYTES / eventful.len().max(1)).max(SHARE_BYTES_MIN);
        for connection in eventful {
            self.admit(now, unix_ms, connection)?;
            let mut spent = 0;
            while spent < share
                && let Some(event) = self.poll_event(connection)
            {
                spent += work_bytes(&event);
                self.handle_event(now, unix_ms, connection, event)?;
                if self.shared.store.is_batch_full() {
                    self.commit_and_tell(unix_ms)?;
                }
            }
            // Events of a connection that is being closed do not count any more.
            let replica = self.connections.replica(connection);
            if replica.is_some_and(|it| it.is_heard() && it.session.has_events()) {
                self.eventful.insert(connection);
            }
        }
        self.work_peers(unix_ms)?;
        self.shared.stage_folded()?;
        self.commit_and_tell(unix_ms)?;
        self.note_departures(now, unix_ms)
    }

    fn poll_event(&mut self, connection: ConnectionId) -> Option<RelayEvent> {
        let replica = self.connections.replica_mut(connection)?;
        if replica.is_heard() { replica.session.poll_event() } else { None }
    }

    fn handle_event(
        &mut self,
        now: u64,
        unix_ms: u64,
        connection: ConnectionId,
        event: RelayEvent,
    ) -> Result<(), StoreError> {
        match event {
            RelayEvent::Hello(hello) => self.welcome(now, unix_ms, connection, hello.into()),
            RelayEvent::Push(mut push) => self.take_push(connection, &mut push),
            RelayEvent::Presence(presence) => {
                self.forward_presence(connection, presence, unix_ms);
                Ok(())
            }
            RelayEvent::Renew(token) => {
                self.renew(connection, token);
                Ok(())
            }
        }
    }

    fn open_session(
        &mut self,
        now: u64,
        unix_ms: u64,
        id: ConnectionId,
        hello: &Hello,
    ) -> Result<(), StoreError> {
        let wanted = hello.spaces.iter();
        let is_short = hello.short.unwrap_or_default();
        let Some(replica) = self.connections.replica(id) else { return Ok(()) };
        let rights = replica.rights.clone().into_iter();
        let opened =
            wanted.zip(rights).map(|(wanted, rights)| self.opened(wanted, is_short, &rights));
        let opened = opened.collect::<Result<_, _>>()?;
        let mut uploaded = 0;
        if let Some(hash) = &hello.upload {
            for wanted in &hello.spaces {
                uploaded = uploaded.max(self.uploaded_bytes(&wanted.name, &hello.device, hash)?);
            }
        }
        self.note_arrival(now, unix_ms, hello)?;
        let Some(replica) = self.connections.replica_mut(id) else { return Ok(()) };
        let (relay, proved) = (self.shared.store.relay(), replica.principal.as_ref().map(proved));
        let who = (proved.clone(), self.shared.carrying.is_open());
        replica.session.handle_opened(now, relay, unix_ms, opened, uploaded, who);
        replica.device = hello.device;
        replica.app = hello.app.clone();
        // Who proves who they are need not claim it.
        replica.identity = proved.or_else(|| hello.identity.clone().map(Vec::from));
        replica.waiting = hello.waiting.unwrap_or_default();
        replica.spaces = hello.spaces.iter().map(|wanted| wanted.name.clone()).collect();
        for (number, wanted) in hello.spaces.iter().enumerate() {
            let listeners = self.listeners.entry(wanted.name.clone()).or_default();
            listeners.insert((id, number as u32));
        }
        self.shared.ready.insert(id);
        Ok(())
    }

    fn take_push(&mut self, id: ConnectionId, push: &mut Push) -> Result<(), StoreError> {
        let Some(name) = self.space_of(id, push.space) else { return Ok(()) };
        let bytes = sessions::push_bytes(push);
        let (n, space, document) = (push.n, push.space, push.document);
        let hash = push.piece.as_ref().map(|piece| kept_as(&name, &piece.hash));
        let right = self.right(id, space, &push.collection);
        let principal = self.connections.replica(id).and_then(|it| it.principal.as_ref());
        let refusal = right.refusal(principal);
        let pieced = match push.piece.take() {
            Some(piece) if let Some(refusal) = refusal => {
                Pieced::Refused(forbidden(piece.hash, refusal))
            }
            Some(piece) => self.take_piece(id, &name, &document, piece)?,
            None => Pieced::Nothing,
        };
        let (positions, outcome) = match pieced {
            Pieced::Refused(outcome) => (None, Some(outcome)),
            Pieced::Kept if push.changes.is_empty() => (None, Some(StoreOutcome::Kept)),
            pieced => {
                if let Pieced::Whole(chunk) = pieced {
                    push.changes.push(chunk.into());
                }
                let place =
                    Place { space: &name, collection: &push.collection, document: &document };
                let Some(replica) = self.connections.replica_mut(id) else { return Ok(()) };
                let Replica { heads_added, principal, .. } = replica;
                let writer = Writer { right, principal: principal.as_ref(), binds: true };
                let intake = Intake::new(&mut self.shared, place, heads_added, writer)?;
                let Checked { positions, outcome } = check_push(push, intake)?;
                match &outcome {
                    Err(no_change) => self.close_for_protocol(id, no_change),
                    Ok(outcome) => self.note_refused(id, &document, outcome),
                }
                if let (Some(hash), Ok(StoreOutcome::Kept)) = (hash, &outcome) {
                    self.note_uploaded(id, hash);
                }
                self.note_kept(id, &positions);
                (positions, outcome.ok())
            }
        };
        let author = Author::Replica { connection: id, space, n, bytes, outcome };
        self.shared.answers.push(Answer { author, name, document, positions });
        Ok(())
    }

    /// What a replica may do with a collection of its space of this number.
    fn right(&self, id: ConnectionId, space: u32, collection: &CollectionName) -> Right {
        self.rights_of(id, space).map_or(Right::None, |rights| Right::of(&rights, collection))
    }

    /// Counts changes that a replica brought.
    fn note_kept(&mut self, id: ConnectionId, positions: &Option<RangeInclusive<u64>>) {
        if let (Some(replica), Some(positions)) = (self.connections.replica_mut(id), positions) {
            replica.changes_kept += 1 + positions.end() - positions.start();
        }
    }

    /// Notes changes that can never be kept. Honest replicas meet this at most once, after a change
    /// of the rules.
    fn note_refused(&mut self, id: ConnectionId, document: &DocumentId, outcome: &StoreOutcome) {
        if let StoreOutcome::Refused { class: RefusedClass::Never, hashes, reason, .. } = outcome
            // Whoever was away could not know of that.
            && reason != ERASED
        {
            let what = || format!("a change of {document}: {reason}");
            self.breach(id, Breach::Change, hashes.len() as u64, what);
        }
    }

    /// The bytes of a long change that a device has pushed to a space; `u64::MAX` if the whole
    /// change was kept.
    fn uploaded_bytes(
        &self,
        space: &SpaceName,
        device: &DeviceId,
        hash: &ChangeHash,
    ) -> Result<u64, StoreError> {
        let kept = kept_as(space, hash);
        match self.uploaded.contains(&(*device, kept)) {
            true => Ok(u64::MAX),
            false => self.shared.store.uploaded(device, &kept),
        }
    }

    /// Keeps a piece of a long change with the next commit, and gives the change when it is whole.
    fn take_piece(
        &mut self,
        id: ConnectionId,
        space: &SpaceName,
        document: &DocumentId,
        piece: ChangePiece,
    ) -> Result<Pieced, StoreError> {
        let Some(replica) = self.connections.replica(id) else { return Ok(Pieced::Kept) };
        let device = replica.device;
        let ChangePiece { hash: change, offset, total, bytes } = piece;
        // Nothing of it is to be in the file, not for a moment either.
        if self.shared.store.is_erased(space, document).is_ok_and(|is_erased| is_erased) {
            return Ok(Pieced::Refused(StoreOutcome::Refused {
                class: RefusedClass::Never,
                hashes: vec![change],
                heads: Vec::new(),
                retry_after_ms: 0,
                reason: ERASED.to_owned(),
            }));
        }
        let hash = kept_as(space, &change);
        if self.uploaded.contains(&(device, hash)) {
            return Ok(Pieced::Kept);
        }
        let end = offset.saturating_add(bytes.len() as u64);
        let staged =
            self.shared.store.stage_upload_part(&device, &hash, offset, total, bytes.into())?;
        if let Some(chunk) = self.shared.store.take_upload(&device, &hash)? {
            return Ok(Pieced::Whole(chunk));
        }
        if staged || end <= self.shared.store.uploaded(&device, &hash)? {
            return Ok(Pieced::Kept);
        }
        Ok(Pieced::Refused(StoreOutcome::Refused {
            class: RefusedClass::Later,
            hashes: vec![change],
            heads: Vec::new(),
            retry_after_ms: self.shared.options.retry_after_ms,
            reason: "a piece of a change does not go on from what the relay holds".to_owned(),
        }))
    }

    /// A long change is in the next commit. Should that fail, everything is forgotten with the
    /// store.
    fn note_uploaded(&mut self, id: ConnectionId, hash: ChangeHash) {
        let Some(replica) = self.connections.replica(id) else { return };
        if self.uploaded.len() >= UPLOADED_MAX {
            self.uploaded.pop_front();
        }
        self.uploaded.push_back((replica.device, hash));
    }

    /// The one place from which sessions learn which changes were stored.
    fn commit_and_tell(&mut self, unix_ms: u64) -> Result<(), StoreError> {
        if !self.shared.store.is_batch_empty() {
            let taken_back = self.take_back()?;
            let bytes = self.shared.store.batch_bytes() as u64;
            self.shared.counters.changes_kept += self.commit(unix_ms)? as u64;
            self.shared.counters.bytes_kept += bytes;
            self.shared.counters.commits += 1;
            taken_back.log();
        }
        for answer in std::mem::take(&mut self.shared.answers) {
            self.tell(answer);
        }
        Ok(())
    }

    fn tell(&mut self, answer: Answer) {
        let Answer { author, name, document, positions } = answer;
        let author = match author {
            Author::Replica { connection: id, space, n, bytes, outcome } => {
                if let Some(replica) = self.connections.replica_mut(id) {
                    replica.push_bytes -= bytes;
                    if let Some(outcome) = outcome {
                        replica.session.handle_stored(n, outcome);
                    }
                    self.shared.ready.insert(id);
                }
                self.weigh(id);
                Some((id, space))
            }
            Author::Peer => None,
        };
        let Some(positions) = positions else { return };
        for (id, number) in self.listeners.get(&name).into_iter().flatten() {
            let Some(replica) = self.connections.replica_mut(*id) else { continue };
            let own = author == Some((*id, *number));
            replica.session.handle_committed(*number, positions.clone(), own);
            self.shared.ready.insert(*id);
        }
        let key = (name, document);
        self.shared.mark_peers(&key);
        self.shared.consider_folding(&key.0, &key.1);
    }

    #[cfg(not(feature = "mutants"))]
    fn commit(&mut self, unix_ms: u64) -> Result<usize, StoreError> {
        self.shared.store.commit(unix_ms)
    }

    #[cfg(feature = "mutants")]
    fn commit(&mut self, unix_ms: u64) -> Result<usize, StoreError> {
        match self.shared.options.mutant {
            Some(Mutant::AckBeforeCommit) => {
                self.shared.store.commit_with(unix_ms, redb::Durability::None)
            }
            _ => self.shared.store.commit(unix_ms),
        }
    }
}

/// The cost of an event in a connection's share of a turn: its bytes, and some more for each
/// change, even a small one.
fn work_bytes(event: &RelayEvent) -> usize {
    match event {
        RelayEvent::Push(push) => {
            sessions::push_bytes(push) + CHANGE_COST_BYTES * push.changes.len()
        }
        _ => CHANGE_COST_BYTES,
    }
}

/// The name under which the pieces of a change are kept for a space. A device that pushes to one
/// space must neither learn of pieces that it, or an impostor, pushed to another, nor go on with
/// them.
fn kept_as(space: &SpaceName, change: &ChangeHash) -> ChangeHash {
    let hash = Sha256::new().chain_update(space.as_str()).chain_update(change.0);
    ChangeHash(hash.finalize().into())
}

/// Bytes of work that all connections together have in one turn: about a twentieth of a second.
const TURN_WORK_BYTES: usize = 4 << 20;

/// Bytes of work that each connection has at least, however many there are.
const SHARE_BYTES_MIN: usize = 64 << 10;

/// The cost of a change beside its bytes.
const CHANGE_COST_BYTES: usize = 512;

/// Long changes that are remembered as pushed.
const UPLOADED_MAX: usize = 256;

/// The answer to a long change for a collection that its author may not write to.
fn forbidden(hash: ChangeHash, Verdict { class, reason }: Verdict) -> StoreOutcome {
    let (hashes, heads, retry_after_ms) = (vec![hash], Vec::new(), FOREIGN_RETRY_MS);
    StoreOutcome::Refused { class, hashes, heads, retry_after_ms, reason }
}
