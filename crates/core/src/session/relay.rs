//! The relay's end of a session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use minicbor::bytes::ByteVec;

use super::{HANDSHAKE_MS_MAX, SessionError};
use crate::limits;
use crate::wire::{
    Access, Ack, Changes, Checkpoint, CollectionDigest, Frame, Hello, Presence, Push, Refused,
    RefusedClass, Repair, SnapshotPart, SpaceGranted, Start, Want, Wanted, Welcome, reason,
};
use crate::{ChangeHash, CollectionName, DocumentId, Epoch, PeerId, RelayId, ShortHash};

/// One replica's session, as the relay sees it.
///
/// What the replica still lacks is kept as a set of dirty documents with the first position unsent,
/// never as a queue of frames: a slow reader costs an entry per document, and gets one catch-up when
/// it drains. The driver calls [`poll_transmit`](Self::poll_transmit) only when the socket can take
/// more, and answers each [`Transmit::Read`] from the store with
/// [`handle_read`](Self::handle_read) before it polls again.
#[derive(Debug)]
pub struct RelaySession {
    state: State,
    opened_at: u64,
    readers: Vec<Reader>,
    events: VecDeque<RelayEvent>,
    control: VecDeque<Frame>,
    /// Push number due next.
    push_due: u64,
    /// Highest push answered, and highest acknowledged to the replica.
    answered: u64,
    acked: u64,
    /// Pushes announced by the Hello that are not answered yet; the first digest waits for them.
    announced: u64,
    presences: BTreeMap<(u32, DocumentId, PeerId), Presence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingHello,
    Opening,
    Open,
}

/// What the session asks of its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum RelayEvent {
    /// Authenticate, look up the spaces and answer with [`RelaySession::handle_opened`].
    Hello(Hello),
    /// Check, store and, after the commit, answer with [`RelaySession::handle_stored`].
    Push(Push),
    /// Forward to the other sessions of the space.
    Presence(Presence),
    /// Check the fresh token.
    Renew(Vec<u8>),
}

/// One space of a Hello, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The lifetime of the store.
    pub epoch: Epoch,
    /// What the session may do.
    pub access: Access,
    /// Where sending starts.
    pub start: Start,
    /// The highest committed position.
    pub position: u64,
    /// Documents with something after the start, each with the first position unsent.
    pub unsent: Vec<(DocumentId, u64)>,
}

/// How a push ended, after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// All of it is durable.
    Kept,
    /// Some of it is not kept.
    Refused {
        /// What the replica can do.
        class: RefusedClass,
        /// The changes not kept.
        hashes: Vec<ChangeHash>,
        /// The heads the relay holds, with [`RefusedClass::Missing`].
        heads: Vec<ShortHash>,
        /// Milliseconds to wait, with [`RefusedClass::Later`].
        retry_after_ms: u32,
        /// Why, for a person.
        reason: String,
    },
}

/// What to do with the socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Transmit {
    /// Send this.
    Frame(Frame),
    /// Read this from the store, answer, and poll again.
    Read(Read),
}

/// A question to the store. `space` is the place in the Hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// About [`limits::FRAME_PAYLOAD_BYTES`] of a document from a position on. Where that needs
    /// changes that were folded away, a part of the snapshot instead.
    Document {
        /// Which space.
        space: u32,
        /// Which document.
        document: DocumentId,
        /// The first position wanted.
        from: u64,
        /// Of a snapshot under way: the last position it covers, and the bytes sent.
        snapshot: Option<(u64, u64)>,
    },
    /// Which position of a document is the first that a holder of `heads` lacks.
    Locate {
        /// Which space.
        space: u32,
        /// Which document.
        document: DocumentId,
        /// The heads held.
        heads: Vec<ShortHash>,
    },
    /// Coded symbols; from 0 on over the present set.
    Symbols {
        /// Which space.
        space: u32,
        /// The first symbol.
        from: u32,
        /// How many.
        count: u32,
    },
    /// The digests of the space's collections as committed.
    Digests {
        /// Which space.
        space: u32,
    },
}

/// The store's answer to the [`Read`] just polled.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadAnswer {
    /// To [`Read::Document`]; `None` if there is no such document.
    Document(Option<Part>),
    /// To [`Read::Locate`].
    Located(Located),
    /// To [`Read::Symbols`].
    Symbols(Vec<u8>),
    /// To [`Read::Digests`].
    Digests(Vec<CollectionDigest>),
    /// The store could not read; the document is tried again when it is next dirty or wanted.
    Failed,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Changes in the order of their positions.
    Changes {
        /// The document's collection.
        collection: CollectionName,
        /// Each with its position.
        changes: Vec<(u64, Vec<u8>)>,
        /// The first position not included, if there is more.
        next: Option<u64>,
    },
    /// A part of the snapshot.
    Snapshot {
        /// The document's collection.
        collection: CollectionName,
        /// The last position the snapshot covers.
        covers: u64,
        /// Where the part begins.
        offset: u64,
        /// The whole snapshot's bytes.
        total: u64,
        /// The part.
        bytes: Vec<u8>,
    },
}

/// Where a document's missing changes begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The first position the asker lacks, if it lacks any.
    pub from: Option<u64>,
    /// The heads the relay holds, if the asker has something the relay does not know.
    pub wanted: Option<Vec<ShortHash>>,
}

/// One space, as far as this session has come in it.
#[derive(Debug)]
struct Reader {
    access: Access,
    /// Highest position committed.
    position: u64,
    dirty: BTreeMap<DocumentId, Dirty>,
    /// The dirty documents by first unsent position: committed since the session began, which go
    /// first, and from before.
    live: BTreeSet<(u64, DocumentId)>,
    backfill: BTreeSet<(u64, DocumentId)>,
    wanted: VecDeque<Wanted>,
    /// Documents the relay wants from the replica.
    wants: Vec<Wanted>,
    repair: Option<(u32, u32)>,
    /// The last position told, and when.
    told: u64,
    told_at: u64,
    /// A digest is due as soon as nothing is unsent.
    digest_due: bool,
}

#[derive(Debug, Default)]
struct Dirty {
    from: u64,
    live: bool,
    snapshot: Option<(u64, u64)>,
    /// Positions the replica itself pushed, which it need not be sent.
    own: BTreeSet<u64>,
}

impl RelaySession {
    /// A session whose connection was just accepted.
    pub fn new(now: u64) -> Self {
        Self {
            state: State::AwaitingHello,
            opened_at: now,
            readers: Vec::new(),
            events: VecDeque::new(),
            control: VecDeque::new(),
            push_due: 1,
            answered: 0,
            acked: 0,
            announced: 0,
            presences: BTreeMap::new(),
        }
    }

    /// Takes a frame from the replica.
    ///
    /// # Errors
    /// The replica broke the protocol: say Bye and close.
    pub fn handle_frame(&mut self, frame: Frame) -> Result<(), SessionError> {
        match (self.state, frame) {
            (State::AwaitingHello, Frame::Hello(hello)) => {
                self.state = State::Opening;
                self.announced = u64::from(hello.pushes);
                self.events.push_back(RelayEvent::Hello(hello));
                Ok(())
            }
            (State::AwaitingHello, frame) => {
                Err(SessionError::Unexpected { frame: frame.name(), when: "before Hello" })
            }
            (_, Frame::Push(push)) => self.handle_push(push),
            (State::Opening, frame) => {
                Err(SessionError::Unexpected { frame: frame.name(), when: "before Welcome" })
            }
            (State::Open, Frame::Want(want)) => self.handle_want(want),
            (State::Open, Frame::Repair(repair)) => self.handle_repair(&repair),
            (State::Open, Frame::Presence(presence)) => {
                self.reader(presence.space)?;
                self.events.push_back(RelayEvent::Presence(presence));
                Ok(())
            }
            (State::Open, Frame::Renew(renew)) => {
                self.events.push_back(RelayEvent::Renew(renew.token.into()));
                Ok(())
            }
            (State::Open, frame) => {
                Err(SessionError::Unexpected { frame: frame.name(), when: "from a replica" })
            }
        }
    }

    /// The Hello was accepted: one answer for each of its spaces, in order.
    pub fn handle_opened(&mut self, now: u64, relay: RelayId, time_ms: u64, spaces: Vec<Opened>) {
        let granted = spaces
            .iter()
            .map(|space| SpaceGranted {
                epoch: space.epoch,
                start: space.start,
                access: space.access,
            })
            .collect();
        self.control.push_back(Frame::Welcome(Welcome {
            relay,
            spaces: granted,
            time_ms,
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
        }));
        self.readers = spaces.into_iter().map(|space| Reader::new(now, space)).collect();
        self.state = State::Open;
    }

    /// The commit that decided push `n` is durable. Pushes are answered in order.
    pub fn handle_stored(&mut self, n: u64, outcome: StoreOutcome) {
        debug_assert_eq!(n, self.answered + 1, "pushes are answered in order");
        self.answered = n;
        if let StoreOutcome::Refused { class, hashes, heads, retry_after_ms, reason: why } = outcome
        {
            let reason = reason(why);
            let refused = Refused { n, class, hashes, heads, retry_after_ms, reason };
            self.control.push_back(Frame::Refused(refused));
        }
    }

    /// A commit put changes of a document at these positions; `own` if this session pushed them.
    pub fn handle_committed(
        &mut self,
        space: u32,
        document: DocumentId,
        positions: RangeInclusive<u64>,
        own: bool,
    ) {
        let Some(reader) = self.readers.get_mut(space as usize) else { return };
        if reader.access == Access::None {
            return;
        }
        reader.position = reader.position.max(*positions.end());
        if own {
            reader.keep_own(&document, positions);
        } else {
            reader.mark(document, *positions.start(), true);
        }
    }

    /// Another peer of the space is doing something.
    pub fn handle_presence(&mut self, presence: Presence) {
        let key = (presence.space, presence.document, presence.peer);
        if self.presences.len() < limits::PRESENCES_MAX || self.presences.contains_key(&key) {
            self.presences.insert(key, presence);
        }
    }

    /// Answers the [`Read`] that was polled last.
    pub fn handle_read(&mut self, now: u64, read: Read, answer: ReadAnswer) -> Option<Frame> {
        match (read, answer) {
            (Read::Document { space, document, .. }, ReadAnswer::Document(Some(part))) => {
                self.readers.get_mut(space as usize)?.send_part(space, document, part)
            }
            (Read::Document { space, document, .. }, _) => {
                self.readers.get_mut(space as usize)?.clean(&document);
                None
            }
            (Read::Locate { space, document, .. }, ReadAnswer::Located(located)) => {
                let reader = self.readers.get_mut(space as usize)?;
                reader.digest_due = true;
                if let Some(from) = located.from {
                    reader.mark(document, from, false);
                }
                if let Some(heads) = located.wanted {
                    reader.wants.push(Wanted { document, heads });
                }
                None
            }
            (Read::Symbols { space, from, count }, ReadAnswer::Symbols(symbols)) => {
                let symbols = Some(ByteVec::from(symbols));
                Some(Frame::Repair(Repair { space, from, count, symbols }))
            }
            (Read::Digests { space }, ReadAnswer::Digests(digests)) => {
                let reader = self.readers.get_mut(space as usize)?;
                reader.digest_due = false;
                Some(reader.tell(now, space, Some(digests)))
            }
            (Read::Digests { space }, _) => {
                self.readers.get_mut(space as usize)?.digest_due = false;
                None
            }
            _ => None,
        }
    }

    /// What the driver is to do, in order.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// What to send next. Live edits go before what came earlier; a checkpoint goes when its turn
    /// comes. Call when the socket can take more.
    pub fn poll_transmit(&mut self, now: u64) -> Option<Transmit> {
        if let Some(frame) = self.control.pop_front() {
            return Some(Transmit::Frame(frame));
        }
        if self.acked < self.answered {
            self.acked = self.answered;
            return Some(Transmit::Frame(Frame::Ack(Ack { n: self.acked })));
        }
        if let Some((_, presence)) = self.presences.pop_first() {
            return Some(Transmit::Frame(Frame::Presence(presence)));
        }
        let patient = now < self.opened_at + ANNOUNCED_MS_MAX;
        let settled = self.answered >= self.announced || !patient;
        let mut readers = self.readers.iter_mut().enumerate();
        readers.find_map(|(space, reader)| reader.poll(now, space as u32, settled))
    }

    /// When [`poll_transmit`](Self::poll_transmit) or [`handle_timeout`](Self::handle_timeout)
    /// should be called even if nothing happens.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.state != State::Open {
            return Some(self.opened_at + HANDSHAKE_MS_MAX);
        }
        let patience = self.opened_at + ANNOUNCED_MS_MAX;
        self.readers.iter().filter_map(|reader| reader.timeout(patience)).min()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The replica never said Hello.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), SessionError> {
        if self.state == State::AwaitingHello && now >= self.opened_at + HANDSHAKE_MS_MAX {
            let seconds = HANDSHAKE_MS_MAX / 1000;
            return Err(SessionError::Timeout { awaited: "Hello", seconds });
        }
        Ok(())
    }

    /// Whether the Hello was accepted.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether everything the session was to be sent has been polled.
    pub fn is_drained(&self) -> bool {
        self.control.is_empty()
            && self.acked == self.answered
            && self.readers.iter().all(Reader::is_drained)
    }

    /// Entries kept for this session, for limits and metrics.
    pub fn queued(&self) -> usize {
        let readers = self.readers.iter().map(|reader| reader.dirty.len() + reader.wanted.len());
        self.control.len() + self.events.len() + self.presences.len() + readers.sum::<usize>()
    }

    fn handle_push(&mut self, push: Push) -> Result<(), SessionError> {
        if push.n != self.push_due {
            return Err(SessionError::PushOrder { got: push.n, expected: self.push_due });
        }
        if self.push_due - self.answered > limits::PUSHES_IN_FLIGHT_MAX as u64 {
            return Err(SessionError::TooManyPushes { max: limits::PUSHES_IN_FLIGHT_MAX });
        }
        if self.state == State::Open {
            self.reader(push.space)?;
        }
        self.push_due += 1;
        self.events.push_back(RelayEvent::Push(push));
        Ok(())
    }

    fn handle_want(&mut self, want: Want) -> Result<(), SessionError> {
        let reader = self.reader(want.space)?;
        if reader.wanted.len() + want.documents.len() > limits::WANTED_MAX {
            return Err(SessionError::TooManyWanted { max: limits::WANTED_MAX });
        }
        reader.wanted.extend(want.documents);
        reader.digest_due = true;
        Ok(())
    }

    fn handle_repair(&mut self, repair: &Repair) -> Result<(), SessionError> {
        let reader = self.reader(repair.space)?;
        if reader.repair.is_some() {
            return Err(SessionError::Unexpected { frame: "Repair", when: "before the answer" });
        }
        reader.repair = Some((repair.from, repair.count));
        Ok(())
    }

    fn reader(&mut self, space: u32) -> Result<&mut Reader, SessionError> {
        self.readers
            .get_mut(space as usize)
            .filter(|reader| reader.access != Access::None)
            .ok_or(SessionError::Space { space })
    }
}

impl Reader {
    fn new(now: u64, opened: Opened) -> Self {
        let mut reader = Self {
            access: opened.access,
            position: opened.position,
            dirty: BTreeMap::new(),
            live: BTreeSet::new(),
            backfill: BTreeSet::new(),
            wanted: VecDeque::new(),
            wants: Vec::new(),
            repair: None,
            told: 0,
            told_at: now,
            digest_due: opened.access != Access::None,
        };
        for (document, from) in opened.unsent {
            reader.mark(document, from, false);
        }
        reader
    }

    fn mark(&mut self, document: DocumentId, from: u64, live: bool) {
        let Some(dirty) = self.dirty.get_mut(&document) else {
            self.dirty.insert(document, Dirty { from, live, ..Dirty::default() });
            self.queue(live).insert((from, document));
            return;
        };
        let (was, was_live) = (dirty.from, dirty.live);
        if from < was {
            dirty.from = from;
            dirty.snapshot = None;
        }
        dirty.live |= live;
        let (from, live) = (dirty.from, dirty.live);
        self.queue(was_live).remove(&(was, document));
        self.queue(live).insert((from, document));
    }

    /// Remembers the replica's own changes where a catch-up of the document is still to come. Over
    /// the limit they are sent back, which costs bytes and nothing else.
    fn keep_own(&mut self, document: &DocumentId, positions: RangeInclusive<u64>) {
        if let Some(dirty) = self.dirty.get_mut(document)
            && dirty.own.len() < limits::FRAME_CHANGES_MAX
        {
            dirty.own.extend(positions);
        }
    }

    fn clean(&mut self, document: &DocumentId) {
        if let Some(dirty) = self.dirty.remove(document) {
            self.queue(dirty.live).remove(&(dirty.from, *document));
        }
    }

    fn queue(&mut self, live: bool) -> &mut BTreeSet<(u64, DocumentId)> {
        if live { &mut self.live } else { &mut self.backfill }
    }

    fn poll(&mut self, now: u64, space: u32, settled: bool) -> Option<Transmit> {
        if self.access == Access::None {
            return None;
        }
        if let Some((from, count)) = self.repair.take() {
            return Some(Transmit::Read(Read::Symbols { space, from, count }));
        }
        if let Some(&(from, document)) = self.live.first() {
            return Some(self.read_document(space, document, from));
        }
        if let Some(wanted) = self.wanted.pop_front() {
            let Wanted { document, heads } = wanted;
            return Some(Transmit::Read(Read::Locate { space, document, heads }));
        }
        if !self.wants.is_empty() {
            let rest = self.wants.split_off(self.wants.len().min(limits::WANT_DOCUMENTS_MAX));
            let documents = std::mem::replace(&mut self.wants, rest);
            return Some(Transmit::Frame(Frame::Want(Want { space, documents })));
        }
        if now >= self.told_at + CHECKPOINT_MS && self.settled_position() > self.told {
            return Some(self.checkpoint(now, space, settled));
        }
        if let Some(&(from, document)) = self.backfill.first() {
            return Some(self.read_document(space, document, from));
        }
        if self.digest_due && settled {
            return Some(Transmit::Read(Read::Digests { space }));
        }
        None
    }

    /// When to poll although nothing happens. While something is unsent, the socket sets the pace.
    fn timeout(&self, patience: u64) -> Option<u64> {
        if self.access == Access::None || !self.is_drained() {
            return None;
        }
        if self.told < self.position {
            return Some(self.told_at + CHECKPOINT_MS);
        }
        self.digest_due.then_some(patience)
    }

    fn read_document(&self, space: u32, document: DocumentId, from: u64) -> Transmit {
        let snapshot = self.dirty.get(&document).and_then(|dirty| dirty.snapshot);
        Transmit::Read(Read::Document { space, document, from, snapshot })
    }

    fn checkpoint(&mut self, now: u64, space: u32, settled: bool) -> Transmit {
        if settled && self.is_drained() {
            return Transmit::Read(Read::Digests { space });
        }
        Transmit::Frame(self.tell(now, space, None))
    }

    fn tell(&mut self, now: u64, space: u32, digests: Option<Vec<CollectionDigest>>) -> Frame {
        self.told = self.told.max(self.settled_position());
        self.told_at = now;
        Frame::Checkpoint(Checkpoint { space, position: self.told, digests })
    }

    /// The highest position up to which nothing is unsent.
    fn settled_position(&self) -> u64 {
        let first = self.live.first().into_iter().chain(self.backfill.first());
        first.map(|(from, _)| from.saturating_sub(1)).min().unwrap_or(self.position)
    }

    fn is_drained(&self) -> bool {
        self.dirty.is_empty() && self.wanted.is_empty() && self.wants.is_empty()
    }

    fn send_part(&mut self, space: u32, document: DocumentId, part: Part) -> Option<Frame> {
        let mut dirty = self.dirty.remove(&document)?;
        self.queue(dirty.live).remove(&(dirty.from, document));
        let position;
        let (collection, snapshot, changes, next) = match part {
            Part::Snapshot { collection, covers, offset, total, bytes } => {
                let sent = offset + bytes.len() as u64;
                dirty.snapshot = (sent < total).then_some((covers, sent));
                let next = if sent < total { dirty.from } else { covers + 1 };
                position = Some(covers);
                let part = SnapshotPart { offset, total, bytes: ByteVec::from(bytes) };
                let more = sent < total || next <= self.position;
                (collection, Some(part), Vec::new(), more.then_some(next))
            }
            Part::Changes { collection, changes, next } => {
                position = changes.last().map(|(at, _)| *at);
                let others = changes.into_iter().filter(|(at, _)| !dirty.own.contains(at));
                let changes: Vec<_> = others.map(|(_, chunk)| ByteVec::from(chunk)).collect();
                (collection, None, changes, next)
            }
        };
        if let Some(next) = next {
            dirty.from = next;
            dirty.own = dirty.own.split_off(&next);
            self.queue(dirty.live).insert((next, document));
            self.dirty.insert(document, dirty);
        }
        (snapshot.is_some() || !changes.is_empty()).then_some(Frame::Changes(Changes {
            space,
            document,
            collection,
            snapshot,
            changes,
            position,
        }))
    }
}

/// Milliseconds the first digest waits for the pushes that the Hello announced.
const ANNOUNCED_MS_MAX: u64 = 5_000;

/// Milliseconds between two checkpoints of a space. Short enough that a lost connection costs
/// little, long enough that live edits are not doubled in frames.
const CHECKPOINT_MS: u64 = 200;
