//! The outbox on its way to the relay: pushes, their answers, and changes that the relay lacks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rejoin_core::wire::{ChangePiece, Refused, RefusedClass, Wanted};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, ShortHash, SpaceName, limits};
use tracing::{debug, warn};

use super::Session;
use crate::engine::set_aside::Refusal;
use crate::engine::sign_in::{Whose, left_out, waiting_changes};
use crate::engine::{Engine, EngineError, Turn, to_automerge};
use crate::store::{OutboxRow, ReadTxn, StoreError};

/// The origin of a push in flight.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) document: DocumentId,
    /// Keys in the outbox; none for a repair.
    pub(super) keys: Vec<u64>,
    /// A part of it was refused, and the refusal decides about the keys.
    pub(super) refused: bool,
}

/// A document of which the relay lacks everything its heads do not cover.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) space: u32,
    pub(super) document: DocumentId,
    pub(super) heads: Vec<ShortHash>,
    /// Outbox keys that are settled when the last push of it is acknowledged.
    pub(super) keys: Vec<u64>,
}

/// Something of one document that fits into a frame.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) keys: Vec<u64>,
    pub(super) space: u32,
    pub(super) document: DocumentId,
    pub(super) collection: CollectionName,
    pub(super) content: Content,
}

/// The content of a push.
#[derive(Debug)]
pub(super) enum Content {
    Changes(Vec<Vec<u8>>),
    Piece(ChangePiece),
}

impl Push {
    pub(super) fn is_piece(&self) -> bool {
        matches!(self.content, Content::Piece(_))
    }
}

/// The announcement of pushes in a Hello.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// The number of pushes that follow at once.
    pub(super) pushes: u32,
    /// The long change that comes next, if one of the first pushes has one.
    pub(super) upload: Option<ChangeHash>,
}

/// Rows of the outbox that go out together: one document's, with their changes.
#[derive(Debug)]
struct Batch {
    document: DocumentId,
    keys: Vec<u64>,
    changes: Vec<Vec<u8>>,
}

impl Engine {
    pub(super) fn stage_acked(&mut self, turn: &mut Turn, ticket: u64) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(ticket) = session.tickets.remove(&ticket) else { return Ok(()) };
        if ticket.refused {
            return Ok(());
        }
        let mut written = BTreeSet::new();
        for key in ticket.keys {
            let Some((document, space)) = self.stage_key_acked(turn, key)? else { continue };
            let number = self.session.as_ref().and_then(|session| session.number(&space));
            written.extend(number.map(|number| (number, document)));
        }
        for (number, document) in written {
            self.want_what_left_the_list(turn, number, &document)?;
        }
        Ok(())
    }

    /// The relay holds an edit of the outbox. Gives its document and space, if it waited.
    pub(super) fn stage_key_acked(
        &mut self,
        turn: &mut Turn,
        key: u64,
    ) -> Result<Option<(DocumentId, SpaceName)>, EngineError> {
        let Some(edit) = turn.txn.remove_outbox(key)? else { return Ok(None) };
        turn.dirty = true;
        self.status.answers += 1;
        let Some(row) = turn.txn.document(&edit.document)? else { return Ok(None) };
        let folded = edit.from..(edit.from + edit.count).min(row.covered);
        turn.txn.remove_changes(&edit.document, folded, |_| false)?;
        self.newly_held.insert(edit.document);
        Ok(Some((edit.document, row.space)))
    }

    pub(super) fn stage_refused(
        &mut self,
        turn: &mut Turn,
        ticket: u64,
        space: u32,
        document: DocumentId,
        refused: Refused,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(refusal) = session.tickets.get_mut(&ticket) else { return Ok(()) };
        refusal.refused = true;
        let keys = session.take_keys(ticket, &document);
        match refused.class {
            // A relay that is full lacks what waits here, and is not given it over and over.
            RefusedClass::Missing if session.is_full => {
                session.again.push((turn.now + FULL_MS_MIN, keys));
            }
            RefusedClass::Missing => {
                debug!(doc = %document, "relay lacks dependencies");
                let times = session.missing.entry(document).or_default();
                *times += 1;
                // Giving the relay everything did not help, for it refuses the changes it lacks for
                // now. After a while it is given everything once more.
                if *times > MISSING_MAX {
                    *times = MISSING_MAX - 1;
                    session.again.push((turn.now + RETRY_MISSING_MS, keys));
                } else {
                    session.owed.push_back(Owed { space, document, heads: refused.heads, keys });
                }
            }
            RefusedClass::Later => {
                // A long change begins anew, as the relay may hold less of it than it said.
                session.upload = None;
                let wait = u64::from(refused.retry_after_ms).max(RETRY_MS_MIN);
                session.again.push((turn.now + wait, keys));
                if wait >= FULL_MS_MIN {
                    session.is_full = true;
                } else if wait >= FOREIGN_MS_MIN {
                    session.is_foreign = true;
                }
                if session.is_full || session.is_foreign {
                    self.status.trouble = Some(refused.reason);
                }
            }
            RefusedClass::Never | RefusedClass::ActorReused => {
                return self.stage_never(turn, document, keys, &refused);
            }
        }
        Ok(())
    }

    /// The relay will never take something, or only in another place.
    fn stage_never(
        &mut self,
        turn: &mut Turn,
        document: DocumentId,
        keys: Vec<u64>,
        refused: &Refused,
    ) -> Result<(), EngineError> {
        warn!(doc = %document, reason = refused.reason, "relay will never take an edit");
        let refusal = match refused.class {
            RefusedClass::ActorReused => Refusal::Place,
            _ => Refusal::ForGood,
        };
        match self.stage_set_aside(turn, &document, &refused.hashes, &refused.reason, refusal) {
            Err(error @ EngineError::Unreadable { .. }) => {
                // Its edits wait; those of others must not.
                warn!(error = &error as &dyn std::error::Error, "not set aside");
                self.status.trouble = Some(error.to_string());
                Ok(())
            }
            Ok(true) => Ok(()),
            // The relay refused changes that are not here; the edits themselves are still to be answered.
            Ok(false) => {
                if let Some(session) = &mut self.session {
                    session.again.push((turn.now + RETRY_MISSING_MS, keys));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the session the next push. Returns whether there was one.
    pub(super) fn push_next(&mut self, now: u64) -> Result<bool, EngineError> {
        if let Some(owed) = self.session.as_mut().and_then(|session| session.owed.pop_front()) {
            self.push_owed(owed)?;
            return Ok(true);
        }
        let view = self.store.read()?;
        let Some(session) = &mut self.session else { return Ok(false) };
        if let Some(due) = session.again.iter().position(|(at, _)| *at <= now) {
            let (_, keys) = session.again.swap_remove(due);
            push_again(session, &view, keys)?;
            return Ok(true);
        }
        let Some(batch) = session.pushed.next(&view)? else { return Ok(false) };
        push_batch(session, &view, batch)?;
        Ok(true)
    }

    /// The relay lacks something of these documents.
    pub(super) fn stage_wanted(
        &mut self,
        turn: &mut Turn,
        space: u32,
        documents: Vec<Wanted>,
        answers: bool,
    ) -> Result<(), EngineError> {
        for Wanted { document, heads } in documents {
            let Some(row) = turn.txn.document(&document)? else {
                // It was erased by the word of another relay, or of this one as it was before.
                self.stage_not_erased(turn, &document)?;
                continue;
            };
            if !self.status.waiting_for.is_empty() {
                self.stage_known_there(turn, &document, &heads)?;
            }
            let Some(session) = &mut self.session else { return Ok(()) };
            // What may only be read there is not what the relay can be given.
            if !session.may_write(space, &row.collection) {
                continue;
            }
            session.owed.push_back(Owed { space, document, heads, keys: Vec::new() });
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        if let Some((_, answered)) = &mut session.spaces[space as usize].offering {
            *answered |= answers;
        }
        Ok(())
    }

    /// Pushes the changes of a document that the relay lacks, in as many pushes as it takes.
    fn push_owed(&mut self, owed: Owed) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let Some(row) = view.document(&owed.document)? else { return Ok(()) };
        // A relay gets changes only of the space it asks for.
        let space = self.session.as_ref().and_then(|session| session.number(&row.space));
        if space != Some(owed.space) {
            return Ok(());
        }
        let document = match self.load_committed(&view, &owed.document, &row) {
            Ok(document) => document,
            Err(error @ EngineError::Unreadable { .. }) => {
                // One bad document must not stop the others.
                warn!(doc = %owed.document, error = &error as &dyn std::error::Error, "not pushed");
                self.status.trouble = Some(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let known: Vec<_> = if owed.heads.is_empty() {
            Vec::new()
        } else {
            let changes = document.doc.get_changes_meta(&[]);
            let hashes = changes.iter().map(|change| ChangeHash(change.hash.0));
            hashes.filter(|hash| owed.heads.contains(&hash.short())).collect()
        };
        let known = to_automerge(&known);
        let whose = self.session.as_ref().map(|session| &session.pushed.whose);
        let is_held = |of: Option<&String>| whose.is_some_and(|whose| !whose.includes(of));
        let waiting = waiting_changes(&view, &owed.document, true, is_held)?;
        // What builds on an edit of another person waits with it.
        let out = match waiting.is_empty() {
            true => BTreeSet::new(),
            false => left_out(&document, &waiting, true),
        };
        let mut changes = document.doc.get_changes(&known);
        changes.retain(|change| !out.contains(&ChangeHash(change.hash().0)));
        let mut chunks: Vec<_> =
            changes.iter_mut().map(|change| change.bytes().into_owned()).collect();
        self.loaded.put(0, owed.document, document);
        for (_, quarantined) in view.quarantined(&owed.document)? {
            chunks.push(quarantined.chunk.into());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let Owed { space, document, keys, .. } = owed;
        session.push_all(space, row.collection, Batch { document, keys, changes: chunks });
        Ok(())
    }

    /// Sends the pushes that a mutant tells too early.
    #[cfg(feature = "mutants")]
    pub(in crate::engine) fn push_before_commit(
        &mut self,
        id: &DocumentId,
        row: &crate::store::DocumentRow,
        chunks: Vec<Vec<u8>>,
    ) {
        if self.options.mutant != Some(crate::engine::Mutant::PushBeforeCommit) {
            return;
        }
        if let Some(session) = &mut self.session
            && let Some(space) = session.number(&row.space)
        {
            let (keys, collection) = (Vec::new(), row.collection.clone());
            let content = Content::Changes(chunks);
            session.give(Push { keys, space, document: *id, collection, content });
            while let Some(frame) = session.protocol.poll_transmit() {
                self.early.push(frame.encode());
            }
        }
    }

    /// Messages that a mutant sent before the last commit, whether or not that succeeded.
    #[cfg(feature = "mutants")]
    pub fn take_early(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.early)
    }
}

impl Session {
    /// Gives the relay what it may have of the outbox from now on: what was held until now is given
    /// then, and nothing twice.
    pub(in crate::engine) fn push_from_now_on(&mut self, whose: Whose) {
        if self.pushed.whose == whose {
            return;
        }
        // What was made ready and not given yet may be of somebody else.
        self.pushes.clear();
        self.again.clear();
        self.look_again(whose);
    }

    /// Looks through the outbox from its beginning once more, past what was given or is about to be.
    pub(super) fn look_again(&mut self, whose: Whose) {
        let given = self.tickets.values().flat_map(|ticket| &ticket.keys);
        let to_give = self.pushes.iter().flat_map(|push| &push.keys);
        let again = self.again.iter().flat_map(|(_, keys)| keys);
        let ahead = given.chain(to_give).chain(again).copied().collect();
        self.pushed = Pushed { ahead, ..Pushed::none(whose) };
    }

    /// Takes the keys of a push, and of all after it of its document: those of a batch go with its last
    /// push, and the acknowledgement of that one must not settle what was refused in another.
    fn take_keys(&mut self, ticket: u64, document: &DocumentId) -> Vec<u64> {
        let mut keys = Vec::new();
        for (_, ticket) in self.tickets.range_mut(ticket..) {
            if ticket.document == *document {
                keys.append(&mut ticket.keys);
            }
        }
        for push in self.pushes.iter_mut().filter(|push| push.document == *document) {
            keys.append(&mut push.keys);
        }
        keys
    }

    /// Makes pushes of a batch. Its keys go with the last one.
    fn push_all(&mut self, space: u32, collection: CollectionName, batch: Batch) {
        let Batch { document, mut keys, changes } = batch;
        let mut contents = in_frames(changes, self.upload);
        let last = contents.len().saturating_sub(1);
        for (at, content) in contents.drain(..).enumerate() {
            let keys = if at == last { std::mem::take(&mut keys) } else { Vec::new() };
            let collection = collection.clone();
            self.pushes.push_back(Push { keys, space, document, collection, content });
        }
    }

    /// Leaves out those pieces, made before the relay's answer, that the relay holds. The last one
    /// stays, for the change is kept with it.
    pub(super) fn skip_uploaded(&mut self) {
        let Some((hash, uploaded)) = self.upload else { return };
        self.pushes.retain_mut(|push| {
            let Content::Piece(piece) = &mut push.content else { return true };
            let end = piece.offset + piece.bytes.len() as u64;
            if piece.hash != hash || uploaded <= piece.offset {
                return true;
            }
            if end <= uploaded {
                return end == piece.total;
            }
            let rest = piece.bytes[(uploaded - piece.offset) as usize..].to_vec();
            (piece.offset, piece.bytes) = (uploaded, rest.into());
            true
        });
    }
}

fn push_batch(session: &mut Session, view: &ReadTxn, batch: Batch) -> Result<(), EngineError> {
    let Some(row) = view.document(&batch.document)? else { return Ok(()) };
    match session.number(&row.space) {
        Some(space) if session.spaces[space as usize].is_open => {
            session.push_all(space, row.collection, batch);
        }
        Some(_) => {}
        None if session.spaces.len() < limits::SESSION_SPACES_MAX => {
            session.close("a space is new here")
        }
        // Another session would have no room for it either.
        None => warn!(space = %row.space, "more spaces than a session has; edits wait"),
    }
    Ok(())
}

/// Pushes rows that were refused for now, as far as they still wait.
fn push_again(session: &mut Session, view: &ReadTxn, keys: Vec<u64>) -> Result<(), EngineError> {
    let mut batches: BTreeMap<DocumentId, Batch> = BTreeMap::new();
    for key in keys {
        let Some(edit) = waiting_edit(view, key)? else { continue };
        let document = edit.document;
        // It was given before the relay said who is signed in.
        if session.pushed.holds(&edit) {
            session.pushed.held_rows += 1;
            continue;
        }
        let (keys, changes) = (Vec::new(), Vec::new());
        let batch = batches.entry(document).or_insert(Batch { document, keys, changes });
        batch.add(view, key, &edit)?;
    }
    batches.into_values().try_for_each(|batch| push_batch(session, view, batch))
}

fn waiting_edit(view: &ReadTxn, key: u64) -> Result<Option<OutboxRow>, StoreError> {
    let found = view.outbox(key, 1)?.pop();
    Ok(found.filter(|(found, _)| *found == key).map(|(_, edit)| edit))
}

impl Batch {
    fn add(&mut self, view: &ReadTxn, key: u64, edit: &OutboxRow) -> Result<(), StoreError> {
        self.keys.push(key);
        self.changes.extend(view.changes_in(&self.document, edit.from..edit.from + edit.count)?);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.changes.iter().map(Vec::len).sum()
    }
}

/// The part of the outbox that was given to the session.
#[derive(Debug)]
pub(super) struct Pushed {
    whose: Whose,
    /// Every key up to here was, or is held.
    through: u64,
    /// And these, which came before their turn because their document's was.
    ahead: BTreeSet<u64>,
    /// Keys of documents with more than one batch, as they were when the first was made: with a
    /// hundred thousand edits of one document, reading them for each batch would not end.
    later: BTreeMap<DocumentId, VecDeque<u64>>,
    /// Documents in which an edit of another person waits. Later edits build on it, and wait too.
    held: BTreeSet<DocumentId>,
    /// The number of edits that were passed over because they are held.
    held_rows: u64,
}

impl Pushed {
    /// Nothing was given yet; `whose` edits will be.
    pub(super) fn none(whose: Whose) -> Self {
        let (ahead, later, held) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { whose, through: 0, ahead, later, held, held_rows: 0 }
    }

    pub(super) fn whose(&self) -> &Whose {
        &self.whose
    }

    /// Whether everything that is left in the outbox is held.
    pub(super) fn is_rest_held(&self, view: &ReadTxn) -> Result<bool, StoreError> {
        let is_through = view.outbox(self.through + 1, 1)?.is_empty();
        Ok(is_through && view.outbox_len()? <= self.held_rows)
    }

    /// Whether an edit is of another person, or comes after one of its document. If so, all later ones
    /// of the document are held too.
    fn holds(&mut self, edit: &OutboxRow) -> bool {
        if !self.whose.includes(edit.user.as_ref()) {
            self.held.insert(edit.document);
        }
        self.held.contains(&edit.document)
    }

    /// The next rows that make one push: the oldest edit, and the later ones of its document.
    fn next(&mut self, view: &ReadTxn) -> Result<Option<Batch>, StoreError> {
        loop {
            let Some((key, first)) = view.outbox(self.through + 1, 1)?.pop() else {
                self.ahead.clear();
                self.later.clear();
                return Ok(None);
            };
            self.through = key;
            if self.ahead.remove(&key) {
                continue;
            }
            if self.holds(&first) {
                self.held_rows += 1;
                continue;
            }
            return self.with_later(view, key, &first).map(Some);
        }
    }

    fn with_later(
        &mut self,
        view: &ReadTxn,
        key: u64,
        first: &OutboxRow,
    ) -> Result<Batch, StoreError> {
        let document = first.document;
        let mut batch = Batch { document, keys: Vec::new(), changes: Vec::new() };
        batch.add(view, key, first)?;
        let mut bytes = batch.bytes();
        let mut keys = match self.later.remove(&document) {
            Some(keys) => keys,
            None => view.waiting(&document)?.into(),
        };
        while let Some(later) = keys.pop_front() {
            if later <= key || self.ahead.contains(&later) {
                continue;
            }
            let Some(edit) = waiting_edit(view, later)? else { continue };
            if self.holds(&edit) {
                break;
            }
            let many = batch.changes.len() as u64 + edit.count > BATCH_CHANGES_MAX;
            if many || bytes >= limits::PIECE_BYTES {
                keys.push_front(later);
                self.later.insert(document, keys);
                break;
            }
            let had = batch.changes.len();
            batch.add(view, later, &edit)?;
            bytes += batch.changes[had..].iter().map(Vec::len).sum::<usize>();
            self.ahead.insert(later);
        }
        Ok(batch)
    }
}

/// The pushes that the outbox makes at once: the first of them, up to a long change.
pub(super) fn announced(view: &ReadTxn, whose: Whose) -> Result<Announced, EngineError> {
    let (mut pushed, mut announced) = (Pushed::none(whose), Announced::default());
    while announced.pushes < ANNOUNCED_MAX {
        let Some(batch) = pushed.next(view)? else { break };
        for content in in_frames(batch.changes, None) {
            if let Content::Piece(piece) = content {
                announced.upload = Some(piece.hash);
                return Ok(announced);
            }
            announced.pushes += 1;
        }
    }
    Ok(announced)
}

/// Chunks in frames' worths, in order; a long change in pieces of its own, from where the relay has
/// it.
fn in_frames(chunks: Vec<Vec<u8>>, upload: Option<(ChangeHash, u64)>) -> Vec<Content> {
    let mut contents: Vec<Content> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks {
        if chunk.len() > limits::PIECE_BYTES
            && let Ok(change) = rejoin_core::change::parse(&chunk)
        {
            let hash = change.hash();
            let uploaded = upload.filter(|(of, _)| *of == hash).map_or(0, |(_, uploaded)| uploaded);
            contents.extend(in_pieces(hash, &chunk, uploaded).map(Content::Piece));
            continue;
        }
        match contents.last_mut() {
            Some(Content::Changes(changes))
                if changes.len() < limits::FRAME_CHANGES_MAX
                    && bytes + chunk.len() <= limits::PIECE_BYTES =>
            {
                bytes += chunk.len();
                changes.push(chunk);
            }
            _ => {
                bytes = chunk.len();
                contents.push(Content::Changes(vec![chunk]));
            }
        }
    }
    contents
}

/// The pieces of a long change that the relay does not hold yet, at least the last one.
fn in_pieces(hash: ChangeHash, chunk: &[u8], uploaded: u64) -> impl Iterator<Item = ChangePiece> {
    let total = chunk.len() as u64;
    let last = (chunk.len() - 1) / limits::PIECE_BYTES * limits::PIECE_BYTES;
    let from = usize::try_from(uploaded).unwrap_or(usize::MAX).min(last);
    let pieces = chunk[from..].chunks(limits::PIECE_BYTES).enumerate();
    pieces.map(move |(number, piece)| ChangePiece {
        hash,
        offset: (from + number * limits::PIECE_BYTES) as u64,
        total,
        bytes: piece.to_vec().into(),
    })
}

/// Pushes that a Hello announces at most. The relay's first digest waits for them.
const ANNOUNCED_MAX: u32 = 64;

/// Changes put into one push, unless one edit has more.
const BATCH_CHANGES_MAX: u64 = 1024;

/// Times in a session that a document's missing dependencies are pushed at once.
const MISSING_MAX: u32 = 3;

/// Milliseconds to wait by which a relay says that something is not to come from who is signed in.
const FOREIGN_MS_MIN: u64 = 20_000;

/// Milliseconds of a wait that is more than a moment: the relay's operator has to make room.
const FULL_MS_MIN: u64 = 60_000;

/// Milliseconds to wait before changes are pushed again if pushing them at once did not settle it.
const RETRY_MISSING_MS: u64 = 1_000;

/// Milliseconds to wait at least before changes are pushed again that were refused for now.
const RETRY_MS_MIN: u64 = 100;
