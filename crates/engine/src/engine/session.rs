//! The session with a relay, driven from the store: pushes out of the outbox, and everything that
//! comes back into the next commit.

mod digests;
mod erased;
mod held;
mod older;
mod pushes;

use std::collections::{BTreeMap, VecDeque};

use rejoin_core::session::{
    Granted, Opening, ReplicaEvent, ReplicaSession, SessionError, SpaceStart,
};
use rejoin_core::wire::{Access, Bye, ByeCode, Frame, FrameError, Presence, Start};
use rejoin_core::{
    ChangeHash, CollectionName, Collections, DocumentId, Identity, PeerId, SpaceName, limits,
};
use thiserror::Error;
use tracing::{debug, warn};

use super::sign_in::Token;
use super::{Effect, Engine, EngineError, Turn};
use crate::status::{Link, Progress};
use crate::store::{CursorRow, ReadTxn, StoreError};
pub use digests::recount_digests;
use older::Arrival;
use pushes::{Announced, Content, Owed, Push, Pushed, Ticket, announced};

/// The session under way.
#[derive(Debug)]
pub(super) struct Session {
    protocol: ReplicaSession,
    /// The relay's name in the store: its address.
    pub(super) relay: String,
    /// A name for whom the token is of, if it says so.
    pub(super) subject: Option<[u8; 32]>,
    spaces: Vec<SpaceSession>,
    events: VecDeque<ReplicaEvent>,
    pushed: Pushed,
    /// Made, and given to the session as it takes them.
    pushes: VecDeque<Push>,
    next_ticket: u64,
    tickets: BTreeMap<u64, Ticket>,
    /// Outbox keys to push again, and when.
    again: Vec<(u64, Vec<u64>)>,
    /// Documents of which the relay lacks something.
    owed: VecDeque<Owed>,
    /// The number of times that the relay lacked dependencies of a document.
    missing: BTreeMap<DocumentId, u32>,
    /// The number of times that changes of a document came that build on absent ones.
    lacking: BTreeMap<DocumentId, u32>,
    /// The time to ask for digests again.
    ask_at: Option<u64>,
    /// The long change that comes first in the outbox, and how much of it the relay holds.
    upload: Option<(ChangeHash, u64)>,
    /// Whether the relay takes nothing new at present, for a reason that an operator has to end.
    is_full: bool,
    /// Whether something waits here that is not to come from who is signed in.
    is_foreign: bool,
    /// Bytes received in all before this session.
    bytes_before: u64,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct SpaceSession {
    name: SpaceName,
    /// Received, and to be stored with the next commit.
    cursor: Option<CursorRow>,
    stored: Option<CursorRow>,
    /// Documents that the relay was asked for and has not answered.
    wanting: usize,
    /// Whether the relay was asked for a listing.
    is_listing: bool,
    /// The last document of the offer that the relay is answering, and whether it has.
    offering: Option<(DocumentId, bool)>,
    /// Documents the relay had when the session began.
    documents: u64,
    /// The marks at which digests differed: a listing that takes their place begins there.
    listed_to: Option<CursorRow>,
    /// Digests were equal at the last checkpoint that had any.
    equal: bool,
    /// Documents of which the relay had lost changes at that checkpoint.
    lost: u64,
    /// The latest digests could not be compared, because something was under way.
    passed_over: bool,
    /// Repairs begun in this session.
    repairs: u32,
    /// Whether the relay takes pushes, or says of each why not.
    is_open: bool,
    /// The collections that may be read there, and those that may be written to.
    read: Collections,
    write: Collections,
}

/// The reason why the session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// For a person.
    pub reason: String,
    /// Milliseconds the relay asked to stay away.
    pub retry_after_ms: u64,
    /// For a machine.
    pub code: ByeCode,
}

/// The relay sent something that is not a frame, or not allowed. The connection is to be closed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not allowed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Engine {
    /// A connection to a relay was opened: begins a session over it. `relay` names it in the store,
    /// by its address.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn handle_connected(
        &mut self,
        now: u64,
        relay: &str,
        token: Option<Token>,
    ) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let mut names = view.spaces()?;
        names.extend(
            self.wanted.iter().filter(|space| !names.contains(space)).cloned().collect::<Vec<_>>(),
        );
        names.truncate(limits::SESSION_SPACES_MAX);
        let begun = names.iter().map(|name| SpaceSession::begin(&view, relay, name));
        let begun: Vec<_> = begun.collect::<Result<_, _>>()?;
        let (starts, spaces): (Vec<SpaceStart>, Vec<_>) = begun.into_iter().unzip();
        let whose = self.whose_at_first(relay, token.as_ref());
        let Announced { pushes, upload } = announced(&view, whose.clone())?;
        let subject = token.as_ref().and_then(|token| token.subject);
        let opening = Opening {
            device: self.store.device(),
            token: token.map(|token| token.bytes),
            app: Some(concat!("rejoin ", env!("CARGO_PKG_VERSION")).to_owned()),
            identity: self.identity.as_ref().map(|identity| identity.to_author()),
            spaces: starts,
            pushes,
            upload,
            waiting: view.outbox_len()?,
        };
        let protocol = ReplicaSession::new(now, opening);
        self.session = Some(Session {
            protocol,
            relay: relay.to_owned(),
            subject,
            spaces,
            events: VecDeque::new(),
            pushed: Pushed::none(whose),
            pushes: VecDeque::new(),
            next_ticket: 1,
            tickets: BTreeMap::new(),
            again: Vec::new(),
            owed: VecDeque::new(),
            missing: BTreeMap::new(),
            lacking: BTreeMap::new(),
            ask_at: None,
            upload: None,
            is_full: false,
            is_foreign: false,
            bytes_before: self.counters.bytes_received,
            closing: None,
        });
        // Until the relay has said that the token counts, nothing has changed for a person.
        if self.status.link != Link::SignedOut {
            self.status.link = Link::Connecting;
            self.status.trouble = None;
        }
        Ok(())
    }

    /// The connection is gone. Pushes and repairs that were under way begin anew with the next
    /// session.
    pub fn handle_disconnected(&mut self) {
        if self.session.is_some() {
            // A cursor that is not stored only means that a little comes again.
            if let Err(error) = self.flush_cursors() {
                warn!(error = &error as &dyn std::error::Error, "cursor not stored");
            }
        }
        self.session = None;
        self.status.lost = 0;
        self.status.signed_in = None;
        self.status.link = Link::Offline;
    }

    /// Takes a binary message of the relay. It is handled by the next [`turn`](Self::turn).
    ///
    /// # Errors
    /// Close the connection.
    pub fn handle_message(&mut self, message: &[u8]) -> Result<(), MessageError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.counters.frames_received += 1;
        self.counters.bytes_received += message.len() as u64;
        // A later version may say what this one does not know.
        let Some(frame) = Frame::decode(message)? else { return Ok(()) };
        self.counters.payload_bytes += payload_bytes(&frame);
        session.protocol.handle_frame(frame)?;
        while let Some(event) = session.protocol.poll_event() {
            session.events.push_back(event);
        }
        Ok(())
    }

    /// The next message for the relay. Call again until there is none, after every turn.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn poll_transmit(&mut self, now: u64) -> Result<Option<Vec<u8>>, EngineError> {
        loop {
            let Some(session) = &mut self.session else { return Ok(None) };
            if let Some(frame) = session.protocol.poll_transmit() {
                let message = frame.encode();
                self.counters.frames_sent += 1;
                self.counters.bytes_sent += message.len() as u64;
                self.counters.payload_bytes += payload_bytes(&frame);
                return Ok(Some(message));
            }
            if session.closing.is_some() || !session.protocol.can_push() {
                return Ok(None);
            }
            if let Some(push) = session.next_push() {
                session.give(push);
            } else if !session.pushes.is_empty() {
                // A long change waits to hear how much of it the relay has.
                return Ok(None);
            } else if !self.push_next(now)? {
                let is_any_held = !self.status.waiting_for.is_empty();
                let view = if is_any_held { Some(self.store.read()?) } else { None };
                let given = view.as_ref().zip(self.session.as_ref());
                let given = given.map(|(view, session)| session.is_rest_given(view)).transpose()?;
                self.plan_asking(now, given == Some(true));
                if let Some(view) = view {
                    // What was passed over is not told by any event.
                    self.recount_link(&view, None)?;
                }
                return Ok(None);
            }
        }
    }

    /// The reason why the session should be closed, once everything it had to say is sent.
    pub fn poll_close(&self) -> Option<&Closing> {
        self.session.as_ref().and_then(|session| session.closing.as_ref())
    }

    /// The time at which [`handle_timeout`](Self::handle_timeout) and
    /// [`poll_transmit`](Self::poll_transmit) should be called even if nothing happens; `None` if
    /// only an event makes something due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let session = self.session.as_ref()?;
        let again = session.again.iter().map(|(at, _)| *at).min();
        let again = again.filter(|_| session.protocol.can_push());
        session.protocol.poll_timeout().into_iter().chain(again).chain(session.ask_at).min()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The relay never answered. Close the connection.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), MessageError> {
        self.ask_digests(now);
        let Some(session) = &mut self.session else { return Ok(()) };
        Ok(session.protocol.handle_timeout(now)?)
    }

    /// Ends the session with a word to the relay.
    pub fn say_bye(&mut self) {
        if let Some(session) = &mut self.session {
            let message = "the replica closes".to_owned();
            session.protocol.bye(Bye { code: ByeCode::Stopping, message, retry_after_ms: 0 });
            session.close("closed here");
        }
    }

    /// Tells the peers the activity of this one in a document; `None` when it leaves.
    pub fn present(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
        value: Option<Vec<u8>>,
        ttl_ms: u32,
    ) {
        // Before its Welcome a relay takes only pushes.
        let session = self.session.as_mut().filter(|session| session.protocol.is_welcomed());
        let Some(session) = session else { return };
        let Some(number) = session.number(space) else { return };
        let peer = PeerId::of_device(&self.store.device());
        let ttl_ms = ttl_ms.min(limits::PRESENCE_TTL_MS_MAX);
        let value = value.map(Into::into);
        session.protocol.present(Presence { space: number, document, peer, value, ttl_ms });
    }

    /// Handles the next event of the session in the transaction. Returns whether there was one.
    pub(super) fn stage_event(&mut self, turn: &mut Turn) -> Result<bool, EngineError> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let Some(event) = session.events.pop_front() else {
            let due = session.is_offer_due();
            return if due { self.go_on_offering(turn).map(|()| true) } else { Ok(false) };
        };
        match event {
            ReplicaEvent::Welcomed { spaces, uploaded, identity, carries, .. } => {
                let user = identity.map(|bytes| Identity::from_author(&bytes).user);
                self.stage_signed_in(turn, user, carries)?;
                self.stage_welcomed(turn, &spaces, uploaded)?;
            }
            ReplicaEvent::Acked { ticket } => {
                self.stage_acked(turn, ticket)?;
            }
            ReplicaEvent::Refused { ticket, space, document, refused } => {
                self.stage_refused(turn, ticket, space, document, refused)?;
            }
            ReplicaEvent::Received {
                space,
                document,
                collection,
                piece,
                changes,
                position,
                more,
            } => {
                let arrival =
                    Arrival { space, document, collection, piece, changes, position, more };
                self.stage_arrival(turn, arrival)?;
            }
            ReplicaEvent::Checkpoint { space, cursor, trusted, digests, lost } => {
                let digests = digests.map(|digests| (digests, lost));
                self.stage_held(turn, space, cursor.position)?;
                self.stage_checkpoint(turn, space, cursor, trusted, digests)?;
            }
            ReplicaEvent::Difference(difference) => self.handle_difference(turn, difference)?,
            ReplicaEvent::RepairGaveUp { space } => self.begin_listing(turn, space)?,
            ReplicaEvent::Erased { space, document, collection } => {
                self.stage_erased(turn, space, document, collection)?;
            }
            ReplicaEvent::Nothing { space, document } => {
                self.stage_answered(turn, space, &document)?;
            }
            ReplicaEvent::Listed { space, documents, left } => {
                self.stage_listed(turn, space, &documents, left)?;
            }
            ReplicaEvent::Wanted { space, documents, answers } => {
                self.stage_wanted(turn, space, documents, answers)?;
            }
            ReplicaEvent::Presence(presence) => self.handle_presence(turn, presence)?,
            ReplicaEvent::Bye(bye) => {
                let retry_after_ms = u64::from(bye.retry_after_ms);
                let (reason, code) = (bye.message, bye.code);
                session.closing = Some(Closing { reason, retry_after_ms, code });
            }
        }
        Ok(true)
    }

    /// The relay says how each space stands with it.
    fn stage_welcomed(
        &mut self,
        turn: &mut Turn,
        spaces: &[Granted],
        uploaded: u64,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        debug!(relay = session.relay, spaces = spaces.len(), "welcomed");
        if self.status.link == Link::SignedOut {
            self.status.trouble = None;
        }
        session.upload = session.first_long().map(|hash| (hash, uploaded));
        if let Some((hash, uploaded)) = session.upload {
            let before =
                self.uploaded.filter(|(of, _)| *of == hash).map_or(0, |(_, before)| before);
            self.counters.uploads_gained += u64::from(uploaded > before);
            self.uploaded = session.upload;
        }
        session.skip_uploaded();
        for (space, granted) in session.spaces.iter_mut().zip(spaces) {
            if granted.access == Access::None {
                let name = &space.name;
                self.status.trouble = Some(format!(
                    "the relay gives no access to space {name}; ask whoever looks after it"
                ));
            }
            // What may only be read is refused with its reason, so that it does not wait in silence.
            space.is_open = granted.access != Access::None;
            space.read = granted.read.clone();
            space.write = granted.write.clone();
            space.documents = granted.documents;
            let stored = space.stored;
            space.cursor = match granted.start {
                Start::Cursor => stored.map(|row| row.at(granted.cursor)),
                Start::Beginning => Some(granted.cursor.into()),
                Start::Now => None,
            };
            if granted.start != Start::Cursor {
                // Parts of documents that had come belong to positions that mean nothing any more.
                turn.txn.forget_arrivals(&session.relay, &space.name)?;
                turn.txn.put_cursor(&session.relay, &space.name, None)?;
                turn.dirty |= stored.is_some();
                space.stored = None;
            }
        }
        self.status.link = Link::Syncing;
        for number in 0..spaces.len() as u32 {
            self.go_on(turn, number)?;
        }
        Ok(())
    }

    fn handle_presence(&mut self, turn: &mut Turn, presence: Presence) -> Result<(), EngineError> {
        let Some(session) = &self.session else { return Ok(()) };
        let space = session.name(presence.space);
        let Presence { document, peer, value, ttl_ms, .. } = presence;
        let expires_at = turn.now + u64::from(ttl_ms.min(limits::PRESENCE_TTL_MS_MAX));
        self.presences.put(&space, document, peer, value.map(Vec::from), expires_at);
        if let Some(row) = turn.txn.document(&document)? {
            let collection = row.collection;
            turn.effects.push(Effect::Presence { space, collection, document });
        }
        Ok(())
    }

    pub(super) fn recount_link(
        &mut self,
        view: &ReadTxn,
        unix_s: Option<i64>,
    ) -> Result<(), StoreError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if !session.protocol.is_welcomed() {
            return Ok(());
        }
        let equal = session.spaces.iter().all(|space| space.equal && space.is_whole());
        self.status.lost = session.spaces.iter().map(|space| space.lost).sum();
        let equal = equal && self.status.lost == 0;
        let is_quiet = equal && !session.is_pushing() && session.events.is_empty();
        if is_quiet && self.status.waiting == 0 {
            let (was_full, was_foreign) = (session.is_full, session.is_foreign);
            (session.is_full, session.is_foreign) = (false, false);
            if was_full || was_foreign {
                self.status.trouble = None;
            }
            self.status.link = Link::Safe;
            self.status.safe_at_s = unix_s.or(self.status.safe_at_s);
        } else if is_quiet && !self.status.waiting_for.is_empty() && session.is_rest_given(view)? {
            self.status.link = Link::Held;
        } else {
            self.status.link = Link::Syncing;
        }
        Ok(())
    }

    /// Counts the progress of older documents, while they come.
    pub(super) fn recount_progress(&mut self, view: &ReadTxn) -> Result<(), StoreError> {
        self.status.is_partial = view.is_partial()?;
        self.status.progress = None;
        let Some(session) = &self.session else { return Ok(()) };
        if !session.protocol.is_welcomed() || session.spaces.iter().all(SpaceSession::is_whole) {
            return Ok(());
        }
        let mut progress = Progress {
            documents: 0,
            of: 0,
            bytes: self.counters.bytes_received - session.bytes_before,
        };
        for space in &session.spaces {
            let digests = view.digests(&space.name)?;
            let here: u64 = digests.iter().map(|(_, digest)| digest.documents).sum();
            progress.documents += here;
            progress.of += space.documents.max(here);
        }
        self.status.progress = Some(progress);
        Ok(())
    }
}

impl SpaceSession {
    /// The state with which a session with a relay begins in a space, and the words for the relay
    /// about it.
    fn begin(
        view: &ReadTxn,
        relay: &str,
        name: &SpaceName,
    ) -> Result<(SpaceStart, Self), StoreError> {
        let stored = view.cursor_to_begin(relay, name)?;
        let begun = match stored {
            Some(_) => view.begun(relay, name, limits::BEGUN_MAX)?,
            None => Vec::new(),
        };
        let start = SpaceStart {
            name: name.clone(),
            cursor: stored.map(|cursor| cursor.cursor()),
            holds: !view.digests(name)?.is_empty(),
            begun,
        };
        let space = Self {
            name: name.clone(),
            cursor: stored,
            stored,
            wanting: 0,
            is_listing: false,
            offering: None,
            documents: 0,
            listed_to: None,
            equal: false,
            lost: 0,
            passed_over: false,
            repairs: 0,
            is_open: true,
            read: Collections::All,
            write: Collections::All,
        };
        Ok((start, space))
    }

    /// Whether the relay has said which documents of the last offer it wants: the next offer is due
    /// once those are with it.
    fn is_offer_answered(&self) -> bool {
        let offers = |cursor: CursorRow| cursor.offered.is_some() && cursor.listing.is_none();
        let answered = self.offering.is_some_and(|(_, answered)| answered);
        answered && self.cursor.is_some_and(offers)
    }

    /// Whether no older document is still to come or to go.
    fn is_whole(&self) -> bool {
        self.wanting == 0 && self.cursor.is_some_and(|cursor| cursor.is_whole())
    }
}

impl Session {
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || self.is_offer_due()
    }

    /// Whether the next offer can go. It may be that nothing was pushed of the last one: the relay
    /// may want a document of which it just has more changes itself.
    fn is_offer_due(&self) -> bool {
        self.spaces.iter().any(SpaceSession::is_offer_answered) && !self.is_pushing()
    }

    fn number(&self, space: &SpaceName) -> Option<u32> {
        self.spaces.iter().position(|session| session.name == *space).map(|at| at as u32)
    }

    /// The session has checked the number.
    fn name(&self, space: u32) -> SpaceName {
        self.spaces[space as usize].name.clone()
    }

    /// The collections that may be read in a space.
    fn may_read(&self, space: u32) -> Collections {
        self.spaces[space as usize].read.clone()
    }

    /// Whether the relay takes changes of a collection.
    fn may_write(&self, space: u32, collection: &CollectionName) -> bool {
        self.spaces[space as usize].write.contains(collection)
    }

    /// Gives the relay a fresh token. Before its Welcome it takes only pushes, and has just been given
    /// one.
    pub(super) fn renew(&mut self, token: Vec<u8>) {
        if self.protocol.is_welcomed() {
            self.protocol.renew(token);
        }
    }

    fn close(&mut self, reason: &str) {
        let (reason, code) = (reason.to_owned(), ByeCode::Stopping);
        self.closing = Some(Closing { reason, retry_after_ms: 0, code });
    }

    /// Whether the relay has yet to answer pushes, or to be given any.
    fn is_pushing(&self) -> bool {
        self.protocol.in_flight() > 0 || !self.owed.is_empty() || !self.pushes.is_empty()
    }

    /// The next push, unless it is a piece of a long change and the relay has yet to say how much
    /// of it has come.
    fn next_push(&mut self) -> Option<Push> {
        let waits = self.pushes.front().is_some_and(Push::is_piece) && !self.protocol.is_welcomed();
        if waits { None } else { self.pushes.pop_front() }
    }

    /// The change of which a piece is pushed next.
    fn first_long(&self) -> Option<ChangeHash> {
        self.protocol.upload()
    }

    /// Sends a push now. The changes of one document may be more than a session takes at once.
    fn give(&mut self, push: Push) {
        let Push { keys, space, document, collection, content } = push;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, Ticket { document, keys, refused: false });
        match content {
            Content::Changes(changes) => {
                self.protocol.push(ticket, space, document, collection, changes);
            }
            Content::Piece(piece) => {
                self.protocol.push_piece(ticket, space, document, collection, piece);
            }
        }
    }
}

fn payload_bytes(frame: &Frame) -> u64 {
    let bytes: usize = match frame {
        Frame::Push(push) => {
            let piece = push.piece.as_ref().map_or(0, |piece| piece.bytes.len());
            piece + push.changes.iter().map(|chunk| chunk.len()).sum::<usize>()
        }
        Frame::Changes(changes) => {
            let piece = changes.piece.as_ref().map_or(0, |piece| piece.bytes.len());
            piece + changes.changes.iter().map(|chunk| chunk.len()).sum::<usize>()
        }
        _ => 0,
    };
    bytes as u64
}
