//! The frames that a connection is sent next.

use std::sync::Arc;

use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::session::{Located, Read, ReadAnswer, RelaySession, Transmit};
use rejoin_core::wire::{ByeCode, Frame};
use rejoin_core::{Collections, DocumentId, SpaceName};

use super::connections::{Closing, Connection};
use super::pages::{backfill_page, compare, digests, listing, log_page};
use super::{ConnectionId, Relay};
use crate::access::Rights;
use crate::store::StoreError;

/// Frames for one connection, encoded.
pub type Outgoing = Vec<Vec<u8>>;

impl Relay {
    /// The frames to send on a connection that can take more: about `budget_bytes` of them, made
    /// now from the store. Empty if there are none; after a long search it may be empty while
    /// [`poll_ready`](Self::poll_ready) still names the connection.
    pub fn poll_transmit(&mut self, now: u64, id: ConnectionId, budget_bytes: usize) -> Outgoing {
        self.shared.ready.remove(&id);
        let frames = self.frames_for(now, id, budget_bytes);
        self.weigh(id);
        frames
    }

    fn frames_for(&mut self, now: u64, id: ConnectionId, budget_bytes: usize) -> Outgoing {
        let mut frames = Outgoing::new();
        let mut spent = 0;
        while spent < budget_bytes {
            match self.step(now, id) {
                Step::Send(frame, cost) => {
                    self.shared.counters.frames_out += 1;
                    self.shared.counters.bytes_out += frame.len() as u64;
                    spent += frame.len() + cost;
                    frames.push(frame);
                }
                Step::Searched(cost) => spent += cost,
                Step::Idle => {
                    self.set_timer(now, id);
                    return frames;
                }
            }
        }
        self.shared.ready.insert(id);
        frames
    }

    fn step(&mut self, now: u64, id: ConnectionId) -> Step {
        let replica = match self.connections.get_mut(id) {
            Some(Connection::Replica(replica)) => replica,
            Some(Connection::Peer(peer)) => return peer.step(&mut self.shared),
            None => return Step::Idle,
        };
        if let Some(closing) = &mut replica.closing {
            let frame = last_frame(now, &mut replica.session, closing);
            return frame.map_or(Step::Idle, |frame| Step::Send(frame, 0));
        }
        match replica.session.poll_transmit(now) {
            None => Step::Idle,
            Some(Transmit::Frame(frame)) => Step::Send(frame.encode(), 0),
            Some(Transmit::Read(read)) => self.step_read(now, id, read),
        }
    }

    fn step_read(&mut self, now: u64, id: ConnectionId, read: Read) -> Step {
        let cost = self.read_cost(id, &read);
        let answer = match self.answer(id, &read) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Step::Searched(cost),
            Err(error) => self.answer_failure(id, &error),
        };
        let Some(replica) = self.connections.replica_mut(id) else { return Step::Idle };
        match replica.session.handle_read(now, read, answer) {
            // A costly read ends the poll with the frame it found: other connections come first
            // then.
            Some(frame) => Step::Send(frame.encode(), cost),
            None => Step::Searched(cost),
        }
    }

    /// The cost of a read in a budget of bytes: about a kilobyte for ten microseconds.
    fn read_cost(&mut self, id: ConnectionId, read: &Read) -> usize {
        let per_document = match read {
            Read::Symbols { space, from: 0, .. } => {
                let Some(name) = self.space_of(id, *space) else { return READ_COST_BYTES };
                // Each goes into a set, with its heads.
                100 * self.shared.store.documents_of(&name).unwrap_or_default() as usize
            }
            Read::Locate { space, document, heads } if !heads.is_empty() => {
                let Some(name) = self.space_of(id, *space) else { return READ_COST_BYTES };
                // Each change may be looked at.
                8 * self.shared.store.changes_of(&name, document).unwrap_or_default()
            }
            Read::Listing { .. } => PIECE_BYTES,
            Read::Compare { documents, .. } => 200 * documents.len(),
            _ => 0,
        };
        READ_COST_BYTES + per_document
    }

    /// `None` when the session is to be closed instead.
    fn answer(&mut self, id: ConnectionId, read: &Read) -> Result<Option<ReadAnswer>, StoreError> {
        let Some(name) = self.space_of(id, read.space()) else { return Ok(None) };
        let Some(rights) = self.rights_of(id, read.space()) else { return Ok(None) };
        let may_read = &rights.read;
        let answer = match read {
            Read::Log { after, through, backfill, .. } => ReadAnswer::Log(log_page(
                &mut self.shared.store,
                &name,
                *after,
                *through,
                *backfill,
                may_read,
            )?),
            Read::Backfill { backfill, begun, .. } => ReadAnswer::Backfill(backfill_page(
                &mut self.shared.store,
                &name,
                *backfill,
                begun,
                may_read,
            )?),
            Read::Document { document, .. } if self.is_hidden(&name, document, may_read)? => {
                ReadAnswer::Document(None)
            }
            Read::Document { document, from, piece, .. } => {
                let part = self.shared.store.part(&name, document, *from, *piece, PIECE_BYTES)?;
                ReadAnswer::Document(part)
            }
            Read::Locate { space, document, heads } => {
                // A replica that wants certain documents is done with its repair.
                self.repairs.end(&(id, *space));
                let located = match self.is_hidden(&name, document, may_read)? {
                    // As of one that is not here.
                    true => Located { from: None, wanted: (!heads.is_empty()).then(Vec::new) },
                    false => self.shared.store.locate(&name, document, heads)?,
                };
                ReadAnswer::Located(located)
            }
            Read::Symbols { space, from, count } => return self.symbols(id, *space, *from, *count),
            Read::Digests { .. } if self.shared.store.is_unsound(&name) => ReadAnswer::Withheld,
            Read::Digests { .. } => ReadAnswer::Digests {
                digests: digests(&mut self.shared.store, &name, may_read)?,
                lost: self.lost(&name, may_read)?,
            },
            Read::Listing { backfill, .. } => {
                let (documents, left) =
                    listing(&mut self.shared.store, &name, *backfill, may_read)?;
                ReadAnswer::Listing(documents, left)
            }
            Read::Compare { documents, .. } => {
                ReadAnswer::Compared(compare(&mut self.shared.store, &name, documents, may_read)?)
            }
        };
        Ok(Some(answer))
    }

    fn symbols(
        &mut self,
        id: ConnectionId,
        space: u32,
        from: u32,
        count: u32,
    ) -> Result<Option<ReadAnswer>, StoreError> {
        if from == 0 {
            let Some(name) = self.space_of(id, space) else { return Ok(None) };
            let Some(rights) = self.rights_of(id, space) else { return Ok(None) };
            let items = self.shared.store.repair_items(&name, &rights.read)?;
            self.repairs.begin((id, space), items);
        }
        match self.repairs.symbols((id, space), from, count) {
            Some(Ok(symbols)) => Ok(Some(ReadAnswer::Symbols(symbols))),
            Some(Err(error)) => {
                self.close_for_protocol(id, &error);
                Ok(None)
            }
            None => {
                let message = "the repair was dropped for others; begin a new session";
                self.close(id, ByeCode::Unavailable, message);
                Ok(None)
            }
        }
    }

    /// The rights of a replica in its space of this number.
    pub(super) fn rights_of(&self, id: ConnectionId, space: u32) -> Option<Arc<Rights>> {
        self.connections.replica(id)?.rights.get(space as usize).cloned()
    }

    /// The number of documents that a replica may read and that lost changes.
    fn lost(&mut self, space: &SpaceName, may_read: &Collections) -> Result<u64, StoreError> {
        let all = self.shared.store.documents_lost(space)?;
        if all == 0 || *may_read == Collections::All {
            return Ok(all);
        }
        let mut lost = 0;
        for loss in self.shared.store.losses()?.iter().filter(|loss| loss.space == *space) {
            lost += u64::from(!self.is_hidden(space, &loss.document, may_read)?);
        }
        Ok(lost)
    }

    /// Whether a document is to look as if it were not there.
    pub(super) fn is_hidden(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        may_read: &Collections,
    ) -> Result<bool, StoreError> {
        if *may_read == Collections::All {
            return Ok(false);
        }
        let collection = self.shared.store.collection_of(space, document)?;
        Ok(collection.is_none_or(|collection| !may_read.contains(&collection)))
    }

    /// One damaged document is passed over, and no digest is told until it is mended: no replica is
    /// to take it for whole. Any other error ends the session, so that no checkpoint claims changes
    /// that were not read, and the next turn fails.
    fn answer_failure(&mut self, id: ConnectionId, error: &StoreError) -> ReadAnswer {
        if error.is_confined() {
            self.shared.store.suspect(error);
            return ReadAnswer::Failed;
        }
        tracing::error!(conn = id.0, error = error as &dyn std::error::Error, "read failed");
        self.shared.store.fail();
        let message = "the relay cannot read its store at present";
        self.close(id, ByeCode::Unavailable, message);
        ReadAnswer::Failed
    }
}

/// The result of asking a connection once.
pub(super) enum Step {
    /// This frame, encoded, and the cost of finding it beside its bytes.
    Send(Vec<u8>, usize),
    /// The store was read at this cost, and there is nothing to send from it.
    Searched(usize),
    Idle,
}

/// The answers a session is owed, if it is to have them, and then Bye.
fn last_frame(now: u64, session: &mut RelaySession, closing: &mut Closing) -> Option<Vec<u8>> {
    if closing.after_answers {
        if let Some(Transmit::Frame(frame)) = session.poll_transmit(now)
            && matches!(frame, Frame::Welcome(_) | Frame::Ack(_) | Frame::Refused(_))
        {
            return Some(frame.encode());
        }
        closing.after_answers = false;
    }
    closing.last.take()
}

/// The least cost of a read in a budget of bytes, so that a thousand fruitless ones end a poll,
/// too.
const READ_COST_BYTES: usize = 1024;
