//! The session with a relay, driven from the store: pushes out of the outbox, and everything that
//! comes back into the next commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rejoin_core::repair::RepairItem;
use rejoin_core::session::{Difference, ReplicaEvent, ReplicaSession, SessionError, SpaceStart};
use rejoin_core::wire::{
    Access, Bye, ByeCode, CollectionDigest, Cursor, Frame, FrameError, Presence, Refused,
    RefusedClass, Wanted,
};
use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, PeerId, SetDigest, ShortHash, SpaceName, heads_hash,
    limits,
};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::apply::{ReceiveError, Received};
use super::{Effect, Engine, EngineError, Turn};
use crate::status::Link;
use crate::store::{OutboxRow, ReadView, StoreError, WriteView};

/// The session under way.
#[derive(Debug)]
pub(super) struct LinkState {
    session: ReplicaSession,
    /// The relay's name in the store: its address.
    relay: String,
    spaces: Vec<SpaceLink>,
    events: VecDeque<ReplicaEvent>,
    pushed: Pushed,
    next_ticket: u64,
    tickets: BTreeMap<u64, Ticket>,
    /// Outbox keys to push again, and when.
    again: Vec<(u64, Vec<u64>)>,
    /// Documents of which the relay lacks something.
    owed: VecDeque<Owed>,
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
    /// Repairs begun in this session.
    repairs: u32,
    /// Whether the relay takes pushes.
    writable: bool,
}

/// What a push in flight was made of.
#[derive(Debug, Default)]
struct Ticket {
    /// Keys in the outbox; none for a repair.
    keys: Vec<u64>,
    /// Something of it was refused, and the refusal says what becomes of the keys.
    refused: bool,
}

/// A document of which the relay lacks everything its heads do not cover.
#[derive(Debug)]
struct Owed {
    space: u32,
    document: DocumentId,
    heads: Vec<ShortHash>,
    /// Outbox keys that are settled when the last push of it is acknowledged.
    keys: Vec<u64>,
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
            next_ticket: 1,
            tickets: BTreeMap::new(),
            again: Vec::new(),
            owed: VecDeque::new(),
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
            if link.closing.is_some() || !link.session.can_push() || !self.push_next(now)? {
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
        link.session.poll_timeout().into_iter().chain(again).min()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The relay never answered. Close the connection.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), MessageError> {
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
        let Some(link) = &mut self.link else { return };
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
            ReplicaEvent::Received { space, document, collection, snapshot, changes } => {
                let space = link.name(space);
                let received = Received { space, collection, document, snapshot, changes };
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
            ReplicaEvent::Presence(presence) => self.handle_presence(turn, presence),
            ReplicaEvent::Bye(bye) => {
                let retry_after_ms = u64::from(bye.retry_after_ms);
                link.closing = Some(Closing { reason: bye.message, retry_after_ms });
            }
        }
        Ok(true)
    }

    fn stage_arrival(&mut self, turn: &mut Turn, received: Received) -> Result<(), EngineError> {
        let document = received.document;
        match self.stage_received(turn, received) {
            Ok(()) => Ok(()),
            Err(ReceiveError::Engine(error @ EngineError::Store(_))) => Err(error),
            Err(error) => {
                // One bad document must not stop the others. Nothing of it is in the transaction
                // but what is sound; the digest will tell that something is missing.
                warn!(doc = %document, error = &error as &dyn std::error::Error, "not taken");
                self.status.trouble = Some(error.to_string());
                drop(self.loaded.take(&document));
                Ok(())
            }
        }
    }

    fn stage_acked(&mut self, turn: &mut Turn, ticket: u64) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(ticket) = link.tickets.remove(&ticket) else { return Ok(()) };
        if ticket.refused {
            return Ok(());
        }
        for key in ticket.keys {
            let Some(edit) = turn.txn.remove_outbox(key)? else { continue };
            turn.dirty = true;
            let Some(row) = turn.txn.document(&edit.document)? else { continue };
            let folded = edit.from..(edit.from + edit.count).min(row.covered);
            turn.txn.remove_changes(&edit.document, folded, |_| false)?;
        }
        Ok(())
    }

    fn stage_refused(
        &mut self,
        turn: &mut Turn,
        ticket: u64,
        space: u32,
        document: DocumentId,
        refused: Refused,
    ) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(refusal) = link.tickets.get_mut(&ticket) else { return Ok(()) };
        refusal.refused = true;
        let keys = std::mem::take(&mut refusal.keys);
        match refused.class {
            RefusedClass::Missing => {
                debug!(doc = %document, "relay lacks dependencies");
                link.owed.push_back(Owed { space, document, heads: refused.heads, keys });
            }
            RefusedClass::Later => {
                let wait = u64::from(refused.retry_after_ms).max(RETRY_MS_MIN);
                link.again.push((turn.now + wait, keys));
            }
            RefusedClass::Never | RefusedClass::ActorReused => {
                warn!(doc = %document, reason = refused.reason, "relay will never take an edit");
                let anew = refused.class == RefusedClass::ActorReused;
                self.stage_set_aside(turn, &document, &refused.hashes, &refused.reason, anew)?;
            }
        }
        Ok(())
    }

    fn stage_checkpoint(
        &mut self,
        turn: &mut Turn,
        number: u32,
        cursor: Cursor,
        trusted: bool,
        digests: Option<Vec<CollectionDigest>>,
    ) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let quiet = link.session.in_flight() == 0 && link.owed.is_empty();
        let Some(space) = link.spaces.get_mut(number as usize) else { return Ok(()) };
        let comparable = digests.filter(|_| quiet);
        let compared = match comparable {
            Some(theirs) if turn.txn.outbox(0, 1)?.is_empty() => {
                Some(same_digests(&turn.txn, &space.name, &theirs)?)
            }
            _ => None,
        };
        match compared {
            Some(true) => {
                if !space.equal {
                    turn.dirty |= space.stored != Some(cursor);
                }
                space.equal = true;
                space.cursor = Some(cursor);
                link.session.handle_equal(number);
                let name = &space.name;
                self.from_scratch.retain(|scratch| scratch != name);
            }
            Some(false) => {
                space.equal = false;
                let wanted = space.repairs < REPAIRS_PER_SESSION_MAX;
                if wanted && !link.session.is_repairing(number) {
                    space.repairs += 1;
                    info!(space = %space.name, "digests differ; repairing");
                    self.counters.repairs += 1;
                    let items = repair_items(&turn.txn, &space.name)?;
                    link.session.start_repair(number, items);
                }
            }
            None if trusted => space.cursor = Some(cursor),
            None => {}
        }
        Ok(())
    }

    fn handle_difference(
        &mut self,
        turn: &mut Turn,
        difference: Difference,
    ) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Difference { space, missing_here, missing_there, differing } = difference;
        debug!(
            missing_here = missing_here.len(),
            missing_there = missing_there.len(),
            differing = differing.len(),
            "repair found"
        );
        if missing_here.is_empty() && missing_there.is_empty() && differing.is_empty() {
            // Nothing differs but the sum: ours is wrong.
            let name = link.name(space);
            turn.dirty |= recount_digests(&turn.txn, &name)?;
            return Ok(());
        }
        let mut wanted: Vec<_> = missing_here
            .into_iter()
            .map(|document| Wanted { document, heads: Vec::new() })
            .collect();
        for document in differing {
            let row = turn.txn.document(&document)?;
            let heads = row.map(|row| row.heads.iter().map(ChangeHash::short).collect());
            wanted.push(Wanted { document, heads: heads.unwrap_or_default() });
        }
        link.session.want(space, wanted);
        link.owed.extend(missing_there.into_iter().map(|document| Owed {
            space,
            document,
            heads: Vec::new(),
            keys: Vec::new(),
        }));
        Ok(())
    }

    fn handle_presence(&mut self, turn: &mut Turn, presence: Presence) {
        let Some(link) = &self.link else { return };
        let space = link.name(presence.space);
        let Presence { document, peer, value, ttl_ms, .. } = presence;
        let expires_at = turn.now + u64::from(ttl_ms.min(limits::PRESENCE_TTL_MS_MAX));
        self.presences.put(&space, document, peer, value.map(Vec::from), expires_at);
        turn.effects.push(Effect::Presence { space, document });
    }

    /// Gives the session the next push. Returns whether there was one.
    fn push_next(&mut self, now: u64) -> Result<bool, EngineError> {
        if let Some(owed) = self.link.as_mut().and_then(|link| link.owed.pop_front()) {
            self.push_owed(owed)?;
            return Ok(true);
        }
        let view = self.store.read()?;
        let Some(link) = &mut self.link else { return Ok(false) };
        if let Some(due) = link.again.iter().position(|(at, _)| *at <= now) {
            let (_, keys) = link.again.swap_remove(due);
            let mut rows = Vec::new();
            for key in keys {
                rows.extend(view.outbox(key, 1)?.into_iter().filter(|(found, _)| *found == key));
            }
            push_rows(link, &view, rows)?;
            return Ok(true);
        }
        let batch = link.pushed.next(&view)?;
        if batch.is_empty() {
            return Ok(false);
        }
        push_rows(link, &view, batch)?;
        Ok(true)
    }

    /// Pushes what the relay lacks of a document, in as many pushes as it takes.
    fn push_owed(&mut self, owed: Owed) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let Some(row) = view.document(&owed.document)? else { return Ok(()) };
        let document = self.load_committed(&view, &owed.document, &row)?;
        let known: Vec<_> = if owed.heads.is_empty() {
            Vec::new()
        } else {
            let changes = document.doc.get_changes_meta(&[]);
            let hashes = changes.iter().map(|change| ChangeHash(change.hash.0));
            hashes.filter(|hash| owed.heads.contains(&hash.short())).collect()
        };
        let known = super::to_automerge(&known);
        let mut chunks: Vec<_> = document
            .doc
            .get_changes(&known)
            .iter_mut()
            .map(|change| change.bytes().into_owned())
            .collect();
        self.loaded.put(0, owed.document, document);
        for (_, quarantined) in view.quarantined(&owed.document)? {
            chunks.push(quarantined.chunk.into());
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let batches = in_frames(chunks);
        let last = batches.len();
        for (at, changes) in batches.into_iter().enumerate() {
            let keys = if at + 1 == last { owed.keys.clone() } else { Vec::new() };
            link.push(keys, owed.space, owed.document, row.collection.clone(), changes);
        }
        Ok(())
    }

    /// After a repair that gave up, the relay is given everything.
    fn owe_everything(&mut self, view: &ReadView) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if self.from_scratch.is_empty() {
            return Ok(());
        }
        let mut owed = VecDeque::new();
        view.each_document(|document, row| {
            if self.from_scratch.contains(&row.space)
                && let Some(space) = link.number(&row.space)
            {
                owed.push_back(Owed { space, document, heads: Vec::new(), keys: Vec::new() });
            }
        })?;
        link.owed = owed;
        Ok(())
    }

    /// Sends what a mutant tells too early.
    #[cfg(feature = "mutants")]
    pub(super) fn push_before_commit(
        &mut self,
        id: &DocumentId,
        row: &crate::store::DocumentRow,
        chunks: Vec<Vec<u8>>,
    ) {
        if self.options.mutant != Some(super::Mutant::PushBeforeCommit) {
            return;
        }
        if let Some(link) = &mut self.link
            && let Some(space) = link.number(&row.space)
        {
            link.push(Vec::new(), space, *id, row.collection.clone(), chunks);
            while let Some(frame) = link.session.poll_transmit() {
                self.early.push(frame.encode());
            }
        }
    }

    /// Messages that a mutant sent before the last commit, whether or not that succeeded.
    #[cfg(feature = "mutants")]
    pub fn take_early(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.early)
    }

    pub(super) fn stage_cursors(&mut self, txn: &WriteView) -> Result<(), StoreError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        for space in &mut link.spaces {
            if space.cursor.is_some() && space.cursor != space.stored {
                txn.put_cursor(&link.relay, &space.name, space.cursor.as_ref())?;
                space.stored = space.cursor;
            }
        }
        Ok(())
    }

    pub(super) fn flush_cursors(&mut self) -> Result<(), EngineError> {
        let due = self.link.as_ref().is_some_and(|link| {
            let mut spaces = link.spaces.iter();
            spaces.any(|space| space.cursor.is_some() && space.cursor != space.stored)
        });
        if due {
            let txn = self.store.write()?;
            self.stage_cursors(&txn)?;
            txn.commit()?;
            self.counters.commits += 1;
        }
        Ok(())
    }

    pub(super) fn recount_link(&mut self, unix_s: Option<i64>) {
        let Some(link) = &self.link else { return };
        if !link.session.is_welcomed() {
            return;
        }
        let equal = link.spaces.iter().all(|space| space.equal);
        let idle = link.session.in_flight() == 0 && link.owed.is_empty() && link.events.is_empty();
        if equal && idle && self.status.waiting == 0 {
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

    fn push(
        &mut self,
        keys: Vec<u64>,
        space: u32,
        document: DocumentId,
        collection: CollectionName,
        changes: Vec<Vec<u8>>,
    ) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, Ticket { keys, refused: false });
        self.session.push(ticket, space, document, collection, changes);
    }
}

/// Pushes outbox rows of one document.
fn push_rows(
    link: &mut LinkState,
    view: &ReadView,
    rows: Vec<(u64, OutboxRow)>,
) -> Result<(), EngineError> {
    let mut groups: BTreeMap<DocumentId, Vec<(u64, OutboxRow)>> = BTreeMap::new();
    for (key, edit) in rows {
        groups.entry(edit.document).or_default().push((key, edit));
    }
    for (document, edits) in groups {
        let Some(row) = view.document(&document)? else { continue };
        let Some(space) = link.number(&row.space) else {
            link.close("a space is new here");
            continue;
        };
        if !link.spaces[space as usize].writable {
            continue;
        }
        let mut changes = Vec::new();
        for (_, edit) in &edits {
            changes.extend(view.changes_in(&document, edit.from..edit.from + edit.count)?);
        }
        let mut keys: Vec<_> = edits.iter().map(|(key, _)| *key).collect();
        let mut batches = in_frames(changes);
        let last = batches.pop().unwrap_or_default();
        for batch in batches {
            link.push(Vec::new(), space, document, row.collection.clone(), batch);
        }
        link.push(std::mem::take(&mut keys), space, document, row.collection, last);
    }
    Ok(())
}

/// How far the outbox was given to the session.
#[derive(Debug, Default)]
struct Pushed {
    /// Every key up to here was.
    through: u64,
    /// And these, which came before their turn because their document's was.
    ahead: BTreeSet<u64>,
}

impl Pushed {
    /// The next rows that make one push: the oldest edit, and the later ones of its document.
    fn next(&mut self, view: &ReadView) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
        loop {
            let Some((key, first)) = view.outbox(self.through + 1, 1)?.pop() else {
                self.ahead.clear();
                return Ok(Vec::new());
            };
            self.through = key;
            if self.ahead.remove(&key) {
                continue;
            }
            return self.with_later(view, key, first);
        }
    }

    fn with_later(
        &mut self,
        view: &ReadView,
        key: u64,
        first: OutboxRow,
    ) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
        let mut changes = first.count;
        let document = first.document;
        let mut batch = vec![(key, first)];
        for later in view.waiting(&document)? {
            if later <= key || self.ahead.contains(&later) {
                continue;
            }
            let Some((_, edit)) = view.outbox(later, 1)?.pop() else { break };
            changes += edit.count;
            if changes > BATCH_CHANGES_MAX {
                break;
            }
            self.ahead.insert(later);
            batch.push((later, edit));
        }
        Ok(batch)
    }
}

/// How many pushes the outbox makes.
fn push_batches(view: &ReadView) -> Result<usize, EngineError> {
    let (mut pushed, mut batches) = (Pushed::default(), 0);
    loop {
        let batch = pushed.next(view)?;
        if batch.is_empty() {
            return Ok(batches);
        }
        let mut chunks = Vec::new();
        for (_, edit) in &batch {
            chunks.extend(view.changes_in(&edit.document, edit.from..edit.from + edit.count)?);
        }
        batches += in_frames(chunks).len().max(1);
    }
}

/// Chunks in frames' worths, in order.
fn in_frames(chunks: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut frames: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = usize::MAX;
    for chunk in chunks {
        let full = frames.last().is_none_or(|frame| frame.len() >= limits::FRAME_CHANGES_MAX);
        if full || bytes.saturating_add(chunk.len()) > limits::FRAME_PAYLOAD_BYTES {
            frames.push(Vec::new());
            bytes = 0;
        }
        bytes += chunk.len();
        if let Some(frame) = frames.last_mut() {
            frame.push(chunk);
        }
    }
    frames
}

fn same_digests(
    txn: &WriteView,
    space: &SpaceName,
    theirs: &[CollectionDigest],
) -> Result<bool, StoreError> {
    let ours: BTreeMap<_, _> = txn
        .digests(space)?
        .into_iter()
        .map(|(collection, row)| (collection, row.digest))
        .filter(|(_, digest)| !digest.is_empty())
        .collect();
    let theirs: BTreeMap<_, _> = theirs
        .iter()
        .filter(|theirs| !theirs.digest.is_empty())
        .map(|theirs| (theirs.collection.clone(), theirs.digest))
        .collect();
    Ok(ours == theirs)
}

fn repair_items(txn: &WriteView, space: &SpaceName) -> Result<Vec<RepairItem>, StoreError> {
    let mut items = Vec::new();
    txn.each_document(|document, row| {
        if row.space == *space {
            items.push(RepairItem { document, heads: heads_hash(&row.heads).short() });
        }
    })?;
    Ok(items)
}

/// Adds up the digests of a space anew. Returns whether any was wrong.
pub(crate) fn recount_digests(txn: &WriteView, space: &SpaceName) -> Result<bool, StoreError> {
    let mut sums: BTreeMap<CollectionName, (SetDigest, u64)> = BTreeMap::new();
    txn.each_document(|document, row| {
        if row.space == *space {
            let (digest, documents) = sums.entry(row.collection).or_default();
            digest.insert(&document, &heads_hash(&row.heads));
            *documents += 1;
        }
    })?;
    let stored = txn.digests(space)?;
    let gone = stored.iter().filter(|(collection, _)| !sums.contains_key(collection));
    let gone: Vec<_> = gone.map(|(collection, _)| collection.clone()).collect();
    for collection in gone {
        sums.insert(collection, (SetDigest::default(), 0));
    }
    let mut wrong = false;
    for (collection, (digest, documents)) in sums {
        let row = crate::store::DigestRow { digest, documents };
        if txn.digest(space, &collection)? != row {
            wrong = true;
            txn.put_digest(space, &collection, &row)?;
        }
    }
    Ok(wrong)
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

/// Repairs of a space begun in one session. What three do not repair needs a person.
const REPAIRS_PER_SESSION_MAX: u32 = 3;

/// Changes put into one push, unless one edit has more.
const BATCH_CHANGES_MAX: u64 = 1024;

/// Milliseconds to wait at least before pushing again what was refused for now.
const RETRY_MS_MIN: u64 = 100;
