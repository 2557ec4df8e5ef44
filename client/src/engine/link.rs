//! The session with a relay, driven from the store: pushes out of the outbox, and everything that
//! comes back into the next commit.

mod digests;
mod pushes;

use std::collections::{BTreeMap, VecDeque};

use rejoin_core::session::{ReplicaEvent, ReplicaSession, SessionError, SpaceStart};
use rejoin_core::wire::{Access, Bye, ByeCode, Cursor, Frame, FrameError, Presence, Wanted};
use rejoin_core::{DocumentId, PeerId, SpaceName, limits};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::apply::{ReceiveError, Received};
use super::{Effect, Engine, EngineError, Turn};
use crate::status::Link;
use crate::store::StoreError;
pub(crate) use digests::recount_digests;
use pushes::{Owed, Push, Pushed, Ticket, push_batches};

/// The session under way.
#[derive(Debug)]
pub(super) struct LinkState {
    session: ReplicaSession,
    /// The relay's name in the store: its address.
    relay: String,
    spaces: Vec<SpaceLink>,
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
    /// How often the relay lacked dependencies of a document.
    missing: BTreeMap<DocumentId, u32>,
    /// When to ask for digests again.
    ask_at: Option<u64>,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct SpaceLink {
    name: SpaceName,
    /// Received, and to be stored with the next commit.
    cursor: Option<Cursor>,
    stored: Option<Cursor>,
    /// Digests were equal at the last checkpoint that had any.
    equal: bool,
    /// The latest digests could not be compared, because something was under way.
    passed_over: bool,
    /// Repairs begun in this session.
    repairs: u32,
    /// Whether the relay takes pushes.
    writable: bool,
}

/// Why the session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// For a person.
    pub reason: String,
    /// Milliseconds the relay asked to stay away.
    pub retry_after_ms: u64,
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
        token: Option<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let mut names = view.spaces()?;
        names.extend(
            self.wanted.iter().filter(|space| !names.contains(space)).cloned().collect::<Vec<_>>(),
        );
        names.truncate(limits::SESSION_SPACES_MAX);
        let starts: Result<Vec<_>, StoreError> = names
            .iter()
            .map(|name| {
                let scratch = self.from_scratch.contains(name);
                let cursor = if scratch { None } else { view.cursor(relay, name)? };
                let holds = !scratch && !view.digests(name)?.is_empty();
                Ok(SpaceStart { name: name.clone(), cursor, holds })
            })
            .collect();
        let starts = starts?;
        let spaces = starts.iter().map(|start| SpaceLink {
            name: start.name.clone(),
            cursor: None,
            stored: start.cursor,
            equal: false,
            passed_over: false,
            repairs: 0,
            writable: true,
        });
        let spaces = spaces.collect();
        let pushes = u32::try_from(push_batches(&view)?).unwrap_or(u32::MAX);
        let session = ReplicaSession::new(now, self.store.device(), token, starts, pushes);
        self.link = Some(LinkState {
            session,
            relay: relay.to_owned(),
            spaces,
            events: VecDeque::new(),
            pushed: Pushed::default(),
            pushes: VecDeque::new(),
            next_ticket: 1,
            tickets: BTreeMap::new(),
            again: Vec::new(),
            owed: VecDeque::new(),
            missing: BTreeMap::new(),
            ask_at: None,
            closing: None,
        });
        self.owe_everything(&view)?;
        self.status.link = Link::Connecting;
        self.status.trouble = None;
        Ok(())
    }

    /// The connection is gone. What was under way begins anew with the next session.
    pub fn handle_disconnected(&mut self) {
        if self.link.is_some() {
            // A cursor that is not stored only means that a little comes again.
            if let Err(error) = self.flush_cursors() {
                warn!(error = &error as &dyn std::error::Error, "cursor not stored");
            }
        }
        self.link = None;
        self.status.link = Link::Offline;
    }

    /// Takes a binary message of the relay. It is handled by the next [`turn`](Self::turn).
    ///
    /// # Errors
    /// Close the connection.
    pub fn handle_message(&mut self, message: &[u8]) -> Result<(), MessageError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        self.counters.frames_received += 1;
        self.counters.bytes_received += message.len() as u64;
        let frame = Frame::decode(message)?;
        self.counters.payload_bytes += payload_bytes(&frame);
        link.session.handle_frame(frame)?;
        while let Some(event) = link.session.poll_event() {
            link.events.push_back(event);
        }
        Ok(())
    }

    /// The next message for the relay. Call again until there is none, after every turn.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn poll_transmit(&mut self, now: u64) -> Result<Option<Vec<u8>>, EngineError> {
        loop {
            let Some(link) = &mut self.link else { return Ok(None) };
            if let Some(frame) = link.session.poll_transmit() {
                let message = frame.encode();
                self.counters.frames_sent += 1;
                self.counters.bytes_sent += message.len() as u64;
                self.counters.payload_bytes += payload_bytes(&frame);
                return Ok(Some(message));
            }
            if link.closing.is_some() || !link.session.can_push() {
                return Ok(None);
            }
            if let Some(push) = link.pushes.pop_front() {
                link.give(push);
            } else if !self.push_next(now)? {
                self.plan_asking(now);
                return Ok(None);
            }
        }
    }

    /// Why the session should be closed, once everything it had to say is sent.
    pub fn poll_close(&self) -> Option<&Closing> {
        self.link.as_ref().and_then(|link| link.closing.as_ref())
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit)
    /// should be called even if nothing happens.
    pub fn poll_timeout(&self) -> Option<u64> {
        let link = self.link.as_ref()?;
        let again = link.again.iter().map(|(at, _)| *at).min();
        let again = again.filter(|_| link.session.can_push());
        link.session.poll_timeout().into_iter().chain(again).chain(link.ask_at).min()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The relay never answered. Close the connection.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), MessageError> {
        self.ask_digests(now);
        let Some(link) = &mut self.link else { return Ok(()) };
        Ok(link.session.handle_timeout(now)?)
    }

    /// Ends the session with a word to the relay.
    pub fn say_bye(&mut self) {
        if let Some(link) = &mut self.link {
            let message = "the replica closes".to_owned();
            link.session.bye(Bye { code: ByeCode::Stopping, message, retry_after_ms: 0 });
            link.close("closed here");
        }
    }

    /// Tells the peers what this one is doing in a document; `None` when it leaves.
    pub fn present(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
        value: Option<Vec<u8>>,
        ttl_ms: u32,
    ) {
        // Before its Welcome a relay takes nothing but pushes.
        let link = self.link.as_mut().filter(|link| link.session.is_welcomed());
        let Some(link) = link else { return };
        let Some(number) = link.number(space) else { return };
        let peer = PeerId(self.store.device().0);
        let ttl_ms = ttl_ms.min(limits::PRESENCE_TTL_MS_MAX);
        let value = value.map(Into::into);
        link.session.present(Presence { space: number, document, peer, value, ttl_ms });
    }

    /// Handles the next event of the session in the transaction. Returns whether there was one.
    pub(super) fn stage_event(&mut self, turn: &mut Turn) -> Result<bool, EngineError> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(event) = link.events.pop_front() else { return Ok(false) };
        match event {
            ReplicaEvent::Welcomed { access, .. } => {
                debug!(relay = link.relay, spaces = access.len(), "welcomed");
                for (space, access) in link.spaces.iter_mut().zip(&access) {
                    space.writable = *access == Access::Write;
                }
                self.status.link = Link::Syncing;
            }
            ReplicaEvent::Acked { ticket } => self.stage_acked(turn, ticket)?,
            ReplicaEvent::Refused { ticket, space, document, refused } => {
                self.stage_refused(turn, ticket, space, document, refused)?;
            }
            ReplicaEvent::Received { space, document, collection, snapshot, changes, position } => {
                let space = link.name(space);
                let received =
                    Received { space, collection, document, snapshot, changes, position };
                self.stage_arrival(turn, received)?;
            }
            ReplicaEvent::Checkpoint { space, cursor, trusted, digests } => {
                self.stage_checkpoint(turn, space, cursor, trusted, digests)?;
            }
            ReplicaEvent::Difference(difference) => self.handle_difference(turn, difference)?,
            ReplicaEvent::RepairGaveUp { space } => {
                let name = link.name(space);
                info!(space = %name, "sets differ too much to repair; exchanging everything");
                link.close("exchanging everything anew");
                self.from_scratch.push(name);
            }
            ReplicaEvent::Wanted { space, documents } => {
                let owed = documents.into_iter().map(|Wanted { document, heads }| Owed {
                    space,
                    document,
                    heads,
                    keys: Vec::new(),
                });
                link.owed.extend(owed);
            }
            ReplicaEvent::Presence(presence) => self.handle_presence(turn, presence)?,
            ReplicaEvent::Bye(bye) => {
                let retry_after_ms = u64::from(bye.retry_after_ms);
                link.closing = Some(Closing { reason: bye.message, retry_after_ms });
            }
        }
        Ok(true)
    }

    fn stage_arrival(&mut self, turn: &mut Turn, received: Received) -> Result<(), EngineError> {
        let (document, space) = (received.document, received.space.clone());
        match self.stage_received(turn, received) {
            Ok(()) => Ok(()),
            Err(ReceiveError::Engine(error @ EngineError::Store(_))) => Err(error),
            Err(error) => {
                // One bad document must not stop the others. Nothing of it is in the transaction
                // but what is sound; the digest will tell that something is missing.
                warn!(doc = %document, error = &error as &dyn std::error::Error, "not taken");
                self.status.trouble = Some(error.to_string());
                drop(self.loaded.take(&document));
                if let Some(space) = self.link.as_mut().and_then(|link| link.space_mut(&space)) {
                    space.equal = false;
                }
                Ok(())
            }
        }
    }

    fn handle_presence(&mut self, turn: &mut Turn, presence: Presence) -> Result<(), EngineError> {
        let Some(link) = &self.link else { return Ok(()) };
        let space = link.name(presence.space);
        let Presence { document, peer, value, ttl_ms, .. } = presence;
        let expires_at = turn.now + u64::from(ttl_ms.min(limits::PRESENCE_TTL_MS_MAX));
        self.presences.put(&space, document, peer, value.map(Vec::from), expires_at);
        if let Some(row) = turn.txn.document(&document)? {
            let collection = row.collection;
            turn.effects.push(Effect::Presence { space, collection, document });
        }
        Ok(())
    }

    pub(super) fn recount_link(&mut self, unix_s: Option<i64>) {
        let Some(link) = &self.link else { return };
        if !link.session.is_welcomed() {
            return;
        }
        let equal = link.spaces.iter().all(|space| space.equal);
        if equal && !link.is_pushing() && link.events.is_empty() && self.status.waiting == 0 {
            self.status.link = Link::Safe;
            self.status.safe_at_s = unix_s.or(self.status.safe_at_s);
        } else {
            self.status.link = Link::Syncing;
        }
    }
}

impl LinkState {
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn space_mut(&mut self, name: &SpaceName) -> Option<&mut SpaceLink> {
        self.spaces.iter_mut().find(|space| space.name == *name)
    }

    fn number(&self, space: &SpaceName) -> Option<u32> {
        self.spaces.iter().position(|link| link.name == *space).map(|at| at as u32)
    }

    /// The session has checked the number.
    fn name(&self, space: u32) -> SpaceName {
        self.spaces[space as usize].name.clone()
    }

    fn close(&mut self, reason: &str) {
        self.closing = Some(Closing { reason: reason.to_owned(), retry_after_ms: 0 });
    }

    /// Whether the relay has yet to answer pushes, or to be given any.
    fn is_pushing(&self) -> bool {
        self.session.in_flight() > 0 || !self.owed.is_empty() || !self.pushes.is_empty()
    }

    /// Sends a push now. What was made of one document may be more than a session takes at once.
    fn give(&mut self, push: Push) {
        let Push { keys, space, document, collection, changes } = push;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, Ticket { keys, refused: false });
        self.session.push(ticket, space, document, collection, changes);
    }
}

fn payload_bytes(frame: &Frame) -> u64 {
    let bytes: usize = match frame {
        Frame::Push(push) => push.changes.iter().map(|chunk| chunk.len()).sum(),
        Frame::Changes(changes) => {
            let snapshot = changes.snapshot.as_ref().map_or(0, |part| part.bytes.len());
            snapshot + changes.changes.iter().map(|chunk| chunk.len()).sum::<usize>()
        }
        _ => 0,
    };
    bytes as u64
}
