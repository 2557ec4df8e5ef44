//! The relay's end of a session.

mod ask;
mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use minicbor::bytes::ByteVec;

pub use ask::{BackfillPage, Batch, Large, Located, LogPage, Part, Read, ReadAnswer};
use reader::Reader;

use super::short::Usual;
use super::{HANDSHAKE_MS_MAX, SessionError};
use crate::limits;
use crate::wire::{
    Access, Ack, Backfill, Begun, Frame, Hello, Listing, Presence, Push, Refused, RefusedClass,
    Repair, SpaceGranted, Start, Want, Welcome, reason,
};
use crate::{
    ChangeHash, CollectionName, Collections, DocumentId, Epoch, PeerId, RelayId, ShortHash,
};

/// One replica's session, as the relay sees it.
///
/// The changes that the replica still lacks are kept as two marks: one in the log of the space,
/// from which all new changes are read in the order they came, and one in its documents by their
/// last change, from which older documents are read backwards. So a slow reader costs the same as
/// any other, and every 16 KiB that arrive count, whenever the line is cut. The driver calls
/// [`poll_transmit`](Self::poll_transmit) only when the socket can take more, and answers each
/// [`Transmit::Read`] from the store with [`handle_read`](Self::handle_read) before it polls again.
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
    /// What the Welcome told of each space, and frames leave out.
    usual: Vec<Usual>,
    /// Documents of which the replica has a part, by space.
    begun: Vec<Vec<Begun>>,
    presences: BTreeMap<(u32, DocumentId, PeerId), Presence>,
    /// Bytes that those take, and bytes that `control` takes.
    presence_bytes: usize,
    control_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingHello,
    Opening,
    Open,
}

/// A request of the session to its driver.
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
    /// The access that the session has.
    pub access: Access,
    /// The point at which sending starts.
    pub start: Start,
    /// The highest committed position.
    pub position: u64,
    /// The position after which everything is sent.
    pub sent: u64,
    /// The older documents that are sent.
    pub backfill: Option<Backfill>,
    /// Documents that go before all others.
    pub first: Vec<DocumentId>,
    /// Documents that the space has.
    pub documents: u64,
    /// The collections that the replica may read.
    pub read: Collections,
    /// The collections that it may write to.
    pub write: Collections,
    /// A name for those that it may read; `None` for all.
    pub scope: Option<u64>,
    /// The collection that frames of changes leave out; `None` where the replica did not say that
    /// they may.
    pub usual: Option<CollectionName>,
}

/// The outcome of a push, after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// All of it is durable.
    Kept,
    /// Some of it is not kept.
    Refused {
        /// The way in which the replica can react.
        class: RefusedClass,
        /// The changes not kept.
        hashes: Vec<ChangeHash>,
        /// The heads the relay holds, with [`RefusedClass::Missing`].
        heads: Vec<ShortHash>,
        /// Milliseconds to wait, with [`RefusedClass::Later`].
        retry_after_ms: u32,
        /// The reason, for a person.
        reason: String,
    },
}

/// The next step of a driver whose socket can take more.
#[derive(Debug, Clone, PartialEq)]
pub enum Transmit {
    /// Send this.
    Frame(Frame),
    /// Read this from the store, answer, and poll again.
    Read(Read),
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
            usual: Vec::new(),
            begun: Vec::new(),
            presences: BTreeMap::new(),
            presence_bytes: 0,
            control_bytes: 0,
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
                let begun =
                    hello.spaces.iter().map(|space| space.begun.clone().unwrap_or_default());
                self.begun = begun.collect();
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
            (State::Open, Frame::Listing(listing)) => self.handle_listing(&listing),
            (State::Open, Frame::Offer(offer)) => {
                let reader = self.reader(offer.space)?;
                if reader.offer.is_some() {
                    let when = "before the answer";
                    return Err(SessionError::Unexpected { frame: "Offer", when });
                }
                reader.offer = Some(offer.documents);
                Ok(())
            }
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
    /// `uploaded` is how many bytes the relay holds of the change the Hello names, and `identity` is
    /// who the replica proved to be. With `carries`, what others wrote is taken from them, too.
    pub fn handle_opened(
        &mut self,
        now: u64,
        relay: RelayId,
        time_ms: u64,
        spaces: Vec<Opened>,
        uploaded: u64,
        (identity, carries): (Option<Vec<u8>>, bool),
    ) {
        let granted = spaces
            .iter()
            .map(|space| SpaceGranted {
                epoch: space.epoch,
                start: space.start,
                access: space.access,
                position: space.sent,
                backfill: space.backfill,
                documents: space.documents,
                usual: space.usual.clone(),
                read: space.read.names(),
                write: space.write.names(),
                scope: space.scope,
            })
            .collect::<Vec<_>>();
        self.usual = granted.iter().map(Usual::of).collect();
        self.control.push_back(Frame::Welcome(Welcome {
            relay,
            spaces: granted,
            time_ms,
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
            uploaded,
            identity: identity.map(Into::into),
            carries: carries.then_some(true),
        }));
        let begun =
            std::mem::take(&mut self.begun).into_iter().chain(std::iter::repeat(Vec::new()));
        // Parts of documents in another store mean nothing here.
        let opened = spaces.into_iter().zip(begun).map(|(space, begun)| match space.start {
            Start::Cursor => Reader::new(now, space, begun),
            Start::Beginning | Start::Now => Reader::new(now, space, Vec::new()),
        });
        self.readers = opened.collect();
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
            let frame = Frame::Refused(refused);
            self.control_bytes += control_bytes(&frame);
            self.control.push_back(frame);
        }
    }

    /// A commit put changes at these positions; `own` if this session pushed them.
    pub fn handle_committed(&mut self, space: u32, positions: RangeInclusive<u64>, own: bool) {
        let reader = self.readers.get_mut(space as usize);
        if let Some(reader) = reader.filter(|reader| reader.access != Access::None) {
            reader.committed(positions, own);
        }
    }

    /// The relay's state of a space changed in another way than by new changes: damage was found,
    /// or mended. The replica is told the digests again.
    pub fn handle_digests_changed(&mut self, space: u32) {
        let reader = self.readers.get_mut(space as usize);
        if let Some(reader) = reader.filter(|reader| reader.access != Access::None) {
            reader.digest_due = true;
        }
    }

    /// Another peer of the space tells its present activity.
    pub fn handle_presence(&mut self, presence: Presence) {
        let key = (presence.space, presence.document, presence.peer);
        let before = self.presences.get(&key).map_or(0, presence_bytes);
        let bytes = self.presence_bytes - before + presence_bytes(&presence);
        let has_room = bytes <= limits::PRESENCES_BYTES_MAX
            && (self.presences.len() < limits::PRESENCES_MAX || before > 0);
        if has_room {
            self.presence_bytes = bytes;
            self.presences.insert(key, presence);
        }
    }

    /// Answers the [`Read`] that was polled last.
    pub fn handle_read(&mut self, now: u64, read: Read, answer: ReadAnswer) -> Option<Frame> {
        let reader = self.readers.get_mut(read.space() as usize)?;
        match (read, answer) {
            (Read::Log { space, .. }, ReadAnswer::Log(page)) => reader.take_log(space, page),
            (Read::Backfill { space, .. }, ReadAnswer::Backfill(page)) => {
                reader.take_backfill(space, page);
            }
            (Read::Document { space, document, .. }, answer) => {
                let part = match answer {
                    ReadAnswer::Document(part) => part,
                    _ => None,
                };
                reader.take_part(space, document, part);
            }
            (Read::Locate { space, document, .. }, ReadAnswer::Located(located)) => {
                reader.take_located(space, document, located);
            }
            (Read::Symbols { space, from, count }, ReadAnswer::Symbols(symbols)) => {
                let symbols = Some(ByteVec::from(symbols));
                return Some(Frame::Repair(Repair { space, from, count, symbols }));
            }
            (Read::Digests { space }, answer) => {
                reader.digest_due = false;
                match answer {
                    ReadAnswer::Digests { digests, lost } => {
                        return Some(reader.tell(now, space, Some((digests, lost))));
                    }
                    // The marks are true, but nothing is said of changes before the session.
                    ReadAnswer::Withheld if reader.is_untold() => {
                        return Some(reader.tell(now, space, None));
                    }
                    _ => {}
                }
            }
            (Read::Listing { space, .. }, ReadAnswer::Listing(documents, backfill)) => {
                let documents = Some(documents);
                return Some(Frame::Listing(Listing { space, backfill, documents }));
            }
            (Read::Compare { .. }, ReadAnswer::Compared(wanted)) => reader.take_compared(wanted),
            _ => {}
        }
        None
    }

    /// The next request to the driver, in order.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// The next thing to send. Live edits go before older ones; a checkpoint goes when its turn
    /// comes. Call when the socket can take more.
    pub fn poll_transmit(&mut self, now: u64) -> Option<Transmit> {
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= control_bytes(&frame);
            return Some(Transmit::Frame(frame));
        }
        if self.acked < self.answered {
            self.acked = self.answered;
            return Some(Transmit::Frame(Frame::Ack(Ack { n: self.acked })));
        }
        if let Some((_, presence)) = self.presences.pop_first() {
            self.presence_bytes -= presence_bytes(&presence);
            return Some(Transmit::Frame(Frame::Presence(presence)));
        }
        let patient = now < self.opened_at + ANNOUNCED_MS_MAX;
        let settled = self.answered >= self.announced || !patient;
        let mut readers = self.readers.iter_mut().enumerate();
        let mut next =
            readers.find_map(|(space, reader)| reader.poll(now, space as u32, settled))?;
        if let Transmit::Frame(Frame::Changes(changes)) = &mut next
            && let Some(usual) = self.usual.get(changes.space as usize)
        {
            usual.shorten(changes);
        }
        Some(next)
    }

    /// The time at which [`poll_transmit`](Self::poll_transmit) and
    /// [`handle_timeout`](Self::handle_timeout) should be called even if nothing happens; `None` if
    /// only an event makes something due.
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

    /// The session is ending: nothing is sent any more except, with `answers`, the answers to
    /// pushes. All else is let go, for a replica that does not read may take long to be gone.
    pub fn handle_ending(&mut self, answers: bool) {
        self.readers.clear();
        self.events.clear();
        self.presences.clear();
        self.presence_bytes = 0;
        if !answers {
            self.control.clear();
            self.control_bytes = 0;
        }
    }

    /// Bytes kept for this session until its replica reads: at most
    /// [`SESSION_UNREAD_BYTES_MAX`](limits::SESSION_UNREAD_BYTES_MAX), or it is to be closed.
    pub fn unread_bytes(&self) -> usize {
        let readers = self.readers.iter().map(Reader::unread_bytes);
        self.control_bytes + self.presence_bytes + readers.sum::<usize>()
    }

    /// The marks of each space that the replica was told last: the position up to which it has
    /// everything, and the older documents that it lacks. `None` for a replica that began without a
    /// mark of this store, and compares what it has.
    pub fn marks(&self) -> impl Iterator<Item = Option<(u64, Option<Backfill>)>> {
        self.readers.iter().map(Reader::told)
    }

    /// Changes that the replica was not sent yet, of all spaces together; older documents that are
    /// still to come count with their changes.
    pub fn behind(&self) -> u64 {
        self.readers.iter().map(Reader::behind).sum()
    }

    /// Whether there is something for [`poll_event`](Self::poll_event).
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Entries kept for this session, for limits and metrics.
    pub fn queued(&self) -> usize {
        let readers = self.readers.iter().map(Reader::queued);
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
        reader.want(want.documents);
        reader.digest_due = true;
        Ok(())
    }

    fn handle_listing(&mut self, listing: &Listing) -> Result<(), SessionError> {
        let reader = self.reader(listing.space)?;
        if reader.listing.is_some() {
            let when = "before the answer";
            return Err(SessionError::Unexpected { frame: "Listing", when });
        }
        reader.listing = listing.backfill;
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

fn presence_bytes(presence: &Presence) -> usize {
    64 + presence.value.as_ref().map_or(0, |value| value.len())
}

/// Memory that an answer takes. Only refusals can be large.
fn control_bytes(frame: &Frame) -> usize {
    match frame {
        Frame::Refused(refused) => {
            let Refused { hashes, heads, reason, .. } = refused;
            128 + 32 * hashes.len() + 8 * heads.len() + reason.len()
        }
        _ => 0,
    }
}

/// Milliseconds the first digest waits for the pushes that the Hello announced.
const ANNOUNCED_MS_MAX: u64 = 5_000;

/// Milliseconds between two checkpoints of a space. Short enough that a lost connection costs
/// little, long enough that live edits are not doubled in frames.
const CHECKPOINT_MS: u64 = 200;
