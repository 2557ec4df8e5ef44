//! The replica's end of a session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::bytes::ByteVec;

use super::short::Usual;
use super::{HANDSHAKE_MS_MAX, SessionError};
use crate::limits;
use crate::repair::{RepairDecoder, RepairItem};
use crate::wire::{
    Access, Backfill, Begun, Bye, ChangePiece, Changes, Checkpoint, CollectionDigest, Cursor,
    Erased, Frame, Hello, Listed, Listing, Nothing, Offer, Piece, PieceOf, Presence, Push, Refused,
    Renew, Repair, SpaceWanted, Start, Want, Wanted, Welcome,
};
use crate::{ChangeHash, CollectionName, Collections, DeviceId, DocumentId, Epoch, SpaceName};

/// One session with a relay, as the replica sees it.
///
/// The driver gives local changes with [`push`](Self::push) after their commit, while
/// [`can_push`](Self::can_push) says that the relay keeps up, and handles each [`ReplicaEvent`].
/// Everything in an event is to be committed before the next [`ReplicaEvent::Checkpoint`] moves
/// the cursor.
#[derive(Debug)]
pub struct ReplicaSession {
    opened_at: u64,
    welcomed: bool,
    spaces: Vec<Space>,
    events: VecDeque<ReplicaEvent>,
    outgoing: VecDeque<Frame>,
    push_due: u64,
    in_flight: BTreeMap<u64, Pushed>,
    bytes_in_flight: usize,
    upload: Option<ChangeHash>,
}

/// The words of a replica about itself when it begins a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The id of the replica file.
    pub device: DeviceId,
    /// Proof for the relay of who the replica is.
    pub token: Option<Vec<u8>>,
    /// The program and its version.
    pub app: Option<String>,
    /// The identity of the person who edits, in the bytes that changes carry.
    pub identity: Option<Vec<u8>>,
    /// The spaces it takes part in.
    pub spaces: Vec<SpaceStart>,
    /// The number of pushes that the driver is going to make at once; the relay sends its first
    /// digest after them.
    pub pushes: u32,
    /// The long change that it pushes next.
    pub upload: Option<ChangeHash>,
    /// Edits that wait for a relay.
    pub waiting: u64,
}

/// The state of a replica in one space when a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStart {
    /// The space.
    pub name: SpaceName,
    /// The cursor of the last session with this relay.
    pub cursor: Option<Cursor>,
    /// Whether the replica holds documents of it.
    pub holds: bool,
    /// Documents of which a part has come, at most [`limits::BEGUN_MAX`].
    pub begun: Vec<Begun>,
}

/// The state of a space when the relay has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The access to it.
    pub access: Access,
    /// The point from which the relay goes on.
    pub start: Start,
    /// The marks it goes on from.
    pub cursor: Cursor,
    /// Documents that it has there.
    pub documents: u64,
    /// The collections that the replica may read.
    pub read: Collections,
    /// The collections that it may write to.
    pub write: Collections,
}

/// An event for the driver. `space` is the place in the list the session began with.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplicaEvent {
    /// The relay answered.
    Welcomed {
        /// The relay's clock, milliseconds since 1970.
        time_ms: u64,
        /// The state of each space.
        spaces: Vec<Granted>,
        /// Bytes that the relay holds of [`Opening::upload`].
        uploaded: u64,
        /// The identity that [`Opening::token`] proved, in the bytes that changes carry.
        identity: Option<Vec<u8>>,
        /// Whether the relay takes what other people wrote, too.
        carries: bool,
    },
    /// The push with this ticket is durable at the relay, or was refused before.
    Acked {
        /// The driver's name for the push.
        ticket: u64,
    },
    /// The relay did not keep everything of the push with this ticket. [`Acked`](Self::Acked)
    /// follows.
    Refused {
        /// The driver's name for the push.
        ticket: u64,
        /// Its space.
        space: u32,
        /// Its document.
        document: DocumentId,
        /// The message of the relay.
        refused: Refused,
    },
    /// Changes to apply and commit, or a piece of something larger, to keep until it is whole.
    Received {
        /// The space.
        space: u32,
        /// The document.
        document: DocumentId,
        /// The document's collection.
        collection: CollectionName,
        /// A piece of a snapshot or of a long change.
        piece: Option<Piece>,
        /// Change chunks, dependencies first.
        changes: Vec<Vec<u8>>,
        /// The relay's position of the last change, if it says so.
        position: Option<u64>,
        /// For a document that is sent by itself: whether more of it follows.
        more: Option<bool>,
    },
    /// Everything up to the cursor has been received. If `trusted`, store the cursor after, or
    /// with, all that came before it. If there are digests and no local change waits, compare them,
    /// and call [`ReplicaSession::handle_equal`] or [`ReplicaSession::start_repair`].
    Checkpoint {
        /// The space.
        space: u32,
        /// The cursor.
        cursor: Cursor,
        /// Whether it is known that the replica has all changes from before the session.
        trusted: bool,
        /// The relay's digests at the cursor.
        digests: Option<Vec<CollectionDigest>>,
        /// Documents of which the relay lost changes to damage that nobody has brought back yet,
        /// said with digests.
        lost: u64,
    },
    /// The repair found the documents that differ: push those that are missing there, and
    /// [`want`](ReplicaSession::want) the rest.
    Difference(Difference),
    /// The sets differ so much that listing the documents costs less than repairing: ask for the
    /// [`list`](ReplicaSession::list), and [`offer`](ReplicaSession::offer) the documents held
    /// here.
    RepairGaveUp {
        /// The space.
        space: u32,
    },
    /// The relay has nothing more of a document that was wanted.
    Nothing {
        /// The space.
        space: u32,
        /// The document.
        document: DocumentId,
    },
    /// An operator erased a document: nothing of it is to be kept.
    Erased {
        /// The space.
        space: u32,
        /// The document.
        document: DocumentId,
        /// Its collection.
        collection: CollectionName,
    },
    /// Documents of the relay: [`want`](ReplicaSession::want) those that are absent here, or have
    /// other heads.
    Listed {
        /// The space.
        space: u32,
        /// The documents.
        documents: Vec<Listed>,
        /// The positions that are left to ask for.
        left: Option<Backfill>,
    },
    /// The relay lacks changes of these documents: push those that its heads do not cover.
    Wanted {
        /// The space.
        space: u32,
        /// The documents, with the heads the relay holds.
        documents: Vec<Wanted>,
        /// Whether these are all documents of the offer of which it lacks changes.
        answers: bool,
    },
    /// The present activity of another peer.
    Presence(Presence),
    /// The relay ends the session.
    Bye(Bye),
}

/// Documents in which the two sides of a repair differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The space.
    pub space: u32,
    /// Held only by the relay.
    pub missing_here: Vec<DocumentId>,
    /// Held only by the replica.
    pub missing_there: Vec<DocumentId>,
    /// Held by both with other heads.
    pub differing: Vec<DocumentId>,
}

#[derive(Debug)]
struct Space {
    epoch: Option<Epoch>,
    scope: Option<u64>,
    trusted: bool,
    access: Access,
    /// What frames of changes leave out.
    usual: Usual,
    repair: Option<Repairing>,
}

#[derive(Debug)]
struct Repairing {
    decoder: RepairDecoder,
    local: BTreeSet<DocumentId>,
    asked: u32,
    /// The number of symbols beyond which listing costs less.
    symbols_max: u32,
    /// The digests were equal meanwhile: the answer to come is of no use.
    is_over: bool,
    /// The answer to come is to a question of an earlier repair. Then this one begins.
    is_next: bool,
}

#[derive(Debug)]
struct Pushed {
    ticket: u64,
    space: u32,
    document: DocumentId,
    bytes: usize,
}

impl ReplicaSession {
    /// A session over a connection that was just opened.
    pub fn new(now: u64, opening: Opening) -> Self {
        let Opening { device, token, app, identity, spaces, pushes, upload, waiting } = opening;
        let open = spaces.iter().map(|_| Space {
            epoch: None,
            scope: None,
            trusted: false,
            access: Access::Write,
            usual: Usual::default(),
            repair: None,
        });
        let spaces_open = open.collect();
        let spaces = spaces.into_iter().map(|space| SpaceWanted {
            name: space.name,
            cursor: space.cursor,
            holds: space.holds,
            begun: Some(space.begun).filter(|begun| !begun.is_empty()),
        });
        let (token, identity) = (token.map(ByteVec::from), identity.map(ByteVec::from));
        let spaces = spaces.collect();
        let (short, waiting) = (Some(true), Some(waiting).filter(|waiting| *waiting > 0));
        let hello = Hello { token, device, spaces, pushes, app, identity, upload, short, waiting };
        Self {
            opened_at: now,
            welcomed: false,
            spaces: spaces_open,
            events: VecDeque::new(),
            outgoing: VecDeque::from([Frame::Hello(hello)]),
            push_due: 1,
            in_flight: BTreeMap::new(),
            bytes_in_flight: 0,
            upload,
        }
    }

    /// The long change that the session was opened with.
    pub fn upload(&self) -> Option<ChangeHash> {
        self.upload
    }

    /// Takes a frame from the relay.
    ///
    /// # Errors
    /// The relay broke the protocol: close and dial again.
    pub fn handle_frame(&mut self, frame: Frame) -> Result<(), SessionError> {
        match frame {
            Frame::Welcome(welcome) if !self.welcomed => self.handle_welcome(welcome),
            Frame::Bye(bye) => {
                self.events.push_back(ReplicaEvent::Bye(bye));
                Ok(())
            }
            frame if !self.welcomed => {
                Err(SessionError::Unexpected { frame: frame.name(), when: "before Welcome" })
            }
            Frame::Ack(ack) => {
                self.handle_ack(ack.n);
                Ok(())
            }
            Frame::Refused(refused) => self.handle_refused(refused),
            Frame::Changes(changes) => self.handle_changes(changes),
            Frame::Checkpoint(checkpoint) => self.handle_checkpoint(checkpoint),
            Frame::Repair(repair) => self.handle_symbols(repair),
            Frame::Want(want) => {
                self.space(want.space)?;
                let Want { space, documents, answers } = want;
                self.events.push_back(ReplicaEvent::Wanted { space, documents, answers });
                Ok(())
            }
            Frame::Listing(listing) => {
                self.space(listing.space)?;
                let Listing { space, backfill: left, documents } = listing;
                let documents = documents.unwrap_or_default();
                self.events.push_back(ReplicaEvent::Listed { space, documents, left });
                Ok(())
            }
            Frame::Nothing(nothing) => {
                self.space(nothing.space)?;
                let Nothing { space, document } = nothing;
                self.events.push_back(ReplicaEvent::Nothing { space, document });
                Ok(())
            }
            Frame::Erased(Erased { space, document, collection }) => {
                self.space(space)?;
                self.events.push_back(ReplicaEvent::Erased { space, document, collection });
                Ok(())
            }
            Frame::Presence(presence) => {
                self.space(presence.space)?;
                self.events.push_back(ReplicaEvent::Presence(presence));
                Ok(())
            }
            frame => Err(SessionError::Unexpected { frame: frame.name(), when: "from a relay" }),
        }
    }

    /// Whether the relay keeps up: fewer pushes and bytes wait for an answer than allowed.
    pub fn can_push(&self) -> bool {
        self.in_flight.len() < limits::PUSHES_IN_FLIGHT_MAX
            && self.bytes_in_flight < limits::PUSH_BYTES_IN_FLIGHT_MAX
    }

    /// Sends committed changes of one document, dependencies first, together within
    /// [`limits::FRAME_CHANGES_MAX`] and a frame's bytes. `ticket` comes back when they are
    /// answered.
    pub fn push(
        &mut self,
        ticket: u64,
        space: u32,
        document: DocumentId,
        collection: CollectionName,
        changes: Vec<Vec<u8>>,
    ) {
        let bytes = changes.iter().map(Vec::len).sum();
        let n = self.next_push(Pushed { ticket, space, document, bytes });
        let changes = changes.into_iter().map(ByteVec::from).collect();
        let push = Push { space, n, document, collection, changes, piece: None };
        self.outgoing.push_back(Frame::Push(push));
    }

    /// Sends a piece of a long change.
    pub fn push_piece(
        &mut self,
        ticket: u64,
        space: u32,
        document: DocumentId,
        collection: CollectionName,
        piece: ChangePiece,
    ) {
        let bytes = piece.bytes.len();
        let n = self.next_push(Pushed { ticket, space, document, bytes });
        let (changes, piece) = (Vec::new(), Some(piece));
        let push = Push { space, n, document, collection, changes, piece };
        self.outgoing.push_back(Frame::Push(push));
    }

    fn next_push(&mut self, pushed: Pushed) -> u64 {
        let n = self.push_due;
        self.push_due += 1;
        self.bytes_in_flight += pushed.bytes;
        self.in_flight.insert(n, pushed);
        n
    }

    /// Asks for the relay's documents, by the positions of their last changes.
    pub fn list(&mut self, space: u32, backfill: Backfill) {
        let (backfill, documents) = (Some(backfill), None);
        self.outgoing.push_back(Frame::Listing(Listing { space, backfill, documents }));
    }

    /// Tells the relay of documents that are held here.
    pub fn offer(&mut self, space: u32, documents: Vec<Listed>) {
        self.outgoing.push_back(Frame::Offer(Offer { space, documents }));
    }

    /// Asks for the changes of these documents that the relay has beyond their heads.
    pub fn want(&mut self, space: u32, documents: Vec<Wanted>) {
        for page in documents.chunks(limits::WANT_DOCUMENTS_MAX) {
            let documents = page.to_vec();
            self.outgoing.push_back(Frame::Want(Want { space, documents, answers: false }));
        }
    }

    /// Asks for another checkpoint with digests, after one that could not be compared.
    pub fn ask_digests(&mut self, space: u32) {
        let (documents, answers) = (Vec::new(), false);
        self.outgoing.push_back(Frame::Want(Want { space, documents, answers }));
    }

    /// Tells the other peers of a space the activity of this one.
    pub fn present(&mut self, presence: Presence) {
        self.outgoing.push_back(Frame::Presence(presence));
    }

    /// Says goodbye; close when it is sent.
    pub fn bye(&mut self, bye: Bye) {
        self.outgoing.push_back(Frame::Bye(bye));
    }

    /// Gives the relay a fresh token on the open connection.
    pub fn renew(&mut self, token: Vec<u8>) {
        self.outgoing.push_back(Frame::Renew(Renew { token: token.into() }));
    }

    /// The digests of the last checkpoint were those of the replica.
    pub fn handle_equal(&mut self, space: u32) {
        if let Some(space) = self.spaces.get_mut(space as usize) {
            space.trusted = true;
            if let Some(repairing) = &mut space.repair {
                repairing.is_over = true;
            }
        }
    }

    /// The digests differed: finds the documents that do, given all that the replica holds, with at
    /// most `symbols_max` coded symbols. Does nothing while a repair is under way.
    pub fn start_repair(&mut self, number: u32, items: Vec<RepairItem>, symbols_max: u32) {
        let Some(space) = self.spaces.get_mut(number as usize) else { return };
        let is_next = match &space.repair {
            Some(repairing) if !repairing.is_over => return,
            earlier => earlier.is_some(),
        };
        let local = items.iter().map(|item| item.document).collect();
        let decoder = RepairDecoder::new(items.into_iter());
        let asked = decoder.symbols_wanted();
        let symbols_max = symbols_max.min(limits::REPAIR_SYMBOLS_TOTAL_MAX);
        space.repair =
            Some(Repairing { decoder, local, asked, symbols_max, is_over: false, is_next });
        if !is_next {
            self.ask_symbols(number, 0, asked);
        }
    }

    /// The marks are to be trusted from now on: the documents from before them are listed, page by
    /// page.
    pub fn trust(&mut self, space: u32) {
        if let Some(space) = self.spaces.get_mut(space as usize) {
            space.trusted = true;
        }
    }

    /// Whether a repair of the space is under way.
    pub fn is_repairing(&self, space: u32) -> bool {
        let repair = self.spaces.get(space as usize).and_then(|space| space.repair.as_ref());
        repair.is_some_and(|repairing| !repairing.is_over)
    }

    /// The next event, in order.
    pub fn poll_event(&mut self) -> Option<ReplicaEvent> {
        self.events.pop_front()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.outgoing.pop_front()
    }

    /// The time at which [`handle_timeout`](Self::handle_timeout) should be called even if nothing
    /// happens; `None` if only an event makes something due.
    pub fn poll_timeout(&self) -> Option<u64> {
        (!self.welcomed).then_some(self.opened_at + HANDSHAKE_MS_MAX)
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The relay never answered: close and dial again.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), SessionError> {
        if !self.welcomed && now >= self.opened_at + HANDSHAKE_MS_MAX {
            let seconds = HANDSHAKE_MS_MAX / 1000;
            return Err(SessionError::Timeout { awaited: "Welcome", seconds });
        }
        Ok(())
    }

    /// Whether the relay answered.
    pub fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    /// Pushes without an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn handle_welcome(&mut self, welcome: Welcome) -> Result<(), SessionError> {
        if welcome.spaces.len() != self.spaces.len() {
            return Err(SessionError::Unexpected { frame: "Welcome", when: "for other spaces" });
        }
        for (space, granted) in self.spaces.iter_mut().zip(&welcome.spaces) {
            space.epoch = Some(granted.epoch);
            space.scope = granted.scope;
            space.access = granted.access;
            space.trusted = granted.start != Start::Now;
            space.usual = Usual::of(granted);
        }
        self.welcomed = true;
        let spaces = welcome.spaces.iter().map(|space| Granted {
            access: space.access,
            start: space.start,
            cursor: Cursor {
                epoch: space.epoch,
                position: space.position,
                backfill: space.backfill,
                scope: space.scope,
            },
            documents: space.documents,
            read: Collections::of_names(space.read.clone()),
            write: Collections::of_names(space.write.clone()),
        });
        let (time_ms, spaces, uploaded) = (welcome.time_ms, spaces.collect(), welcome.uploaded);
        let (identity, carries) = (welcome.identity.map(Vec::from), welcome.carries == Some(true));
        let welcomed = ReplicaEvent::Welcomed { time_ms, spaces, uploaded, identity, carries };
        self.events.push_back(welcomed);
        Ok(())
    }

    fn handle_ack(&mut self, n: u64) {
        let rest = self.in_flight.split_off(&n.saturating_add(1));
        for pushed in std::mem::replace(&mut self.in_flight, rest).into_values() {
            self.bytes_in_flight -= pushed.bytes;
            self.events.push_back(ReplicaEvent::Acked { ticket: pushed.ticket });
        }
    }

    fn handle_refused(&mut self, refused: Refused) -> Result<(), SessionError> {
        let Some(pushed) = self.in_flight.get(&refused.n) else {
            return Err(SessionError::Unexpected { frame: "Refused", when: "for no push" });
        };
        let Pushed { ticket, space, document, .. } = *pushed;
        self.events.push_back(ReplicaEvent::Refused { ticket, space, document, refused });
        Ok(())
    }

    fn handle_changes(&mut self, mut changes: Changes) -> Result<(), SessionError> {
        let collection = self.space(changes.space)?.usual.restore(&mut changes)?;
        let Changes { space, document, piece, changes, position, more, .. } = changes;
        let piece = piece.filter(|piece| piece.kind != PieceOf::Unknown);
        if let Some(Piece { offset, total, bytes, .. }) = &piece {
            let end = offset.saturating_add(bytes.len() as u64);
            let fits = *total <= limits::SNAPSHOT_BYTES_MAX as u64 && end <= *total;
            // Pieces are of a document that is sent by itself, and more follows until its last.
            let is_told = more.is_some_and(|more| more || end == *total);
            if !fits || bytes.is_empty() || !is_told {
                return Err(SessionError::Piece { offset: *offset, total: *total });
            }
        }
        self.events.push_back(ReplicaEvent::Received {
            space,
            document,
            collection,
            piece,
            changes: changes.into_iter().map(Vec::from).collect(),
            position,
            more,
        });
        Ok(())
    }

    fn handle_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), SessionError> {
        let Checkpoint { space: number, position, digests, backfill, lost } = checkpoint;
        let space = self.space(number)?;
        let Some(epoch) = space.epoch else {
            return Err(SessionError::Unexpected { frame: "Checkpoint", when: "before Welcome" });
        };
        let (trusted, scope) = (space.trusted, space.scope);
        let cursor = Cursor { epoch, position, backfill, scope };
        let (space, lost) = (number, lost.unwrap_or(0));
        self.events.push_back(ReplicaEvent::Checkpoint { space, cursor, trusted, digests, lost });
        Ok(())
    }

    fn handle_symbols(&mut self, repair: Repair) -> Result<(), SessionError> {
        let number = repair.space;
        let space = self.space(number)?;
        let (Some(repairing), Some(symbols)) = (&mut space.repair, repair.symbols) else {
            return Err(SessionError::Unexpected { frame: "Repair", when: "without a question" });
        };
        if repairing.is_over {
            space.repair = None;
            return Ok(());
        }
        if std::mem::take(&mut repairing.is_next) {
            let asked = repairing.asked;
            self.ask_symbols(number, 0, asked);
            return Ok(());
        }
        repairing.decoder.add(&symbols)?;
        if repairing.decoder.symbols() != repairing.asked {
            return Err(SessionError::Unexpected { frame: "Repair", when: "with other symbols" });
        }
        if repairing.decoder.is_decoded() {
            let difference = repairing.difference(number);
            space.repair = None;
            self.events.push_back(ReplicaEvent::Difference(difference));
        } else if repairing.asked >= repairing.symbols_max {
            space.repair = None;
            self.events.push_back(ReplicaEvent::RepairGaveUp { space: number });
        } else {
            let from = repairing.asked;
            let wanted = repairing.decoder.symbols_wanted().saturating_sub(from);
            let count = wanted.clamp(1, limits::REPAIR_SYMBOLS_MAX);
            repairing.asked = from + count;
            self.ask_symbols(number, from, count);
        }
        Ok(())
    }

    fn ask_symbols(&mut self, space: u32, from: u32, count: u32) {
        let repair = Repair { space, from, count, symbols: None };
        self.outgoing.push_back(Frame::Repair(repair));
    }

    fn space(&mut self, space: u32) -> Result<&mut Space, SessionError> {
        self.spaces
            .get_mut(space as usize)
            .filter(|space| space.access != Access::None)
            .ok_or(SessionError::Space { space })
    }
}

impl Repairing {
    fn difference(&self, space: u32) -> Difference {
        let found = self.decoder.difference();
        let remote: BTreeSet<_> = found.remote_only.iter().map(|item| item.document).collect();
        let mut difference = Difference {
            space,
            missing_here: Vec::new(),
            missing_there: Vec::new(),
            differing: Vec::new(),
        };
        for document in &remote {
            let is_here = self.local.contains(document);
            let side =
                if is_here { &mut difference.differing } else { &mut difference.missing_here };
            side.push(*document);
        }
        let local_only = found.local_only.iter().map(|item| item.document);
        difference.missing_there = local_only.filter(|id| !remote.contains(id)).collect();
        difference
    }
}
