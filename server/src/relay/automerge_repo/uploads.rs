//! Whole documents that peers send, on their way through a worker that takes them apart.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rejoin_core::DocumentId;
use rejoin_core::wire::ByeCode;

use super::super::breaches::Breach;
use super::super::folding::tell_message;
use super::super::sessions::chain;
use super::super::{ConnectionId, DocumentKey, Relay};
use super::work::{Incoming, Whole, Work};
use super::{CHUNK_BYTES, Peer, Peers};
use crate::compaction::CompactionError;
use bytes::Bytes;

/// One upload. Connections are numbered once for all relays of a process, so a result that comes
/// after the store was opened anew is not taken for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadId {
    connection: ConnectionId,
    document: DocumentId,
}

/// A whole document to be taken apart into its changes, behind a fence.
#[derive(Debug)]
pub struct Upload {
    /// Its id, by which its result goes.
    pub id: UploadId,
    /// One document chunk, as it came.
    pub bytes: Arc<[u8]>,
}

/// Uploads that wait, and the one under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    waiting: VecDeque<Incoming>,
    /// At the worker with its message, or being taken in without.
    under_way: Option<(UploadId, Option<Incoming>)>,
    /// Documents that could not be taken apart: they are to come as changes.
    failed: BTreeSet<DocumentKey>,
}

impl Uploads {
    pub(super) fn has_failed(&self, key: &DocumentKey) -> bool {
        self.failed.contains(key)
    }

    /// Its connection is gone, and will send them again over the next.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.waiting.retain(|incoming| incoming.connection != id);
        // A document at the worker has to come back first.
        if let Some((upload, None)) = &self.under_way
            && upload.connection == id
        {
            self.under_way = None;
        }
    }

    /// All of it is taken in.
    pub(super) fn end(&mut self, connection: ConnectionId, document: DocumentId) {
        let id = UploadId { connection, document };
        self.under_way.take_if(|(under_way, at_worker)| *under_way == id && at_worker.is_none());
    }

    /// The next one, of another connection than the last if there is one.
    fn next(&mut self) -> Option<Incoming> {
        let next = self.waiting.pop_front()?;
        let is_other = |incoming: &Incoming| incoming.connection != next.connection;
        // A connection with more uploads stands behind all others.
        let (mut others, own) =
            std::mem::take(&mut self.waiting).into_iter().partition::<VecDeque<_>, _>(is_other);
        others.extend(own);
        self.waiting = others;
        Some(next)
    }
}

impl Relay {
    /// A document to take apart, one at a time: give it to a worker, and the worker's result to
    /// [`handle_taken_apart`](Self::handle_taken_apart). Call it after a turn.
    pub fn poll_upload(&mut self) -> Option<Upload> {
        let uploads = &mut self.shared.peers.uploads;
        if uploads.under_way.is_some() {
            return None;
        }
        let incoming = uploads.next()?;
        let bytes = Arc::clone(&incoming.whole.as_ref()?.bytes);
        let id = UploadId { connection: incoming.connection, document: incoming.document };
        uploads.under_way = Some((id, Some(incoming)));
        Some(Upload { id, bytes })
    }

    /// The worker is done with the document it was given: these are its changes, dependencies
    /// first. The next turns take them in like any others.
    pub fn handle_taken_apart(
        &mut self,
        id: UploadId,
        result: Result<Vec<Vec<u8>>, CompactionError>,
    ) {
        let Some((_, at_worker)) = self.shared.peers.uploads.under_way.take_if(|(at, _)| *at == id)
        else {
            return;
        };
        let Some(mut incoming) = at_worker else { return };
        let UploadId { connection, document } = id;
        let max = self.shared.options.peer_bytes_max;
        let weighed = result.and_then(|changes| {
            let bytes: usize = changes.iter().map(|chunk| chunk.len() + CHUNK_BYTES).sum();
            match incoming.bytes + bytes {
                // It would be closed for that whenever it comes back, and send the same again.
                bytes if bytes > max => Err(CompactionError::TooLarge { bytes, max }),
                _ => Ok((changes, bytes)),
            }
        });
        match weighed {
            Ok((changes, bytes)) => {
                let Some((peer, shared)) = self.peer(connection) else { return };
                if peer.closing.is_some() {
                    return;
                }
                incoming.bytes += bytes;
                peer.charge(&mut shared.peers, bytes);
                incoming.whole.iter_mut().for_each(|whole| whole.changes = changes.len());
                incoming.changes.extend(changes.into_iter().map(Bytes::from));
                peer.inbox.push_back(Work::Changes(incoming));
                shared.peers.eventful.insert(connection);
                shared.peers.uploads.under_way = Some((id, None));
                self.shed_peers();
            }
            Err(error) => {
                self.shared.counters.uploads_failed += 1;
                let what = || format!("document {document}: {}", chain(&error));
                self.breach(connection, Breach::Upload, 1, what);
                tell_message(&document, &error);
                let failed = &mut self.shared.peers.uploads.failed;
                if failed.len() >= FAILED_MAX {
                    failed.clear();
                }
                failed.extend(self.connections.peer(connection).map(|peer| peer.key(document)));
                // Over this connection it would not send the changes again.
                let message = "a document could not be taken apart; send it as changes";
                self.close(connection, ByeCode::Unavailable, message);
            }
        }
    }
}

impl Peer {
    /// Other messages about the document wait until it is taken apart.
    pub(super) fn begin_upload(&mut self, peers: &mut Peers, bytes: &[u8], mut incoming: Incoming) {
        incoming.whole = Some(Whole { bytes: bytes.into(), changes: 0 });
        self.keep_waiting(&incoming.document);
        peers.uploads.waiting.push_back(incoming);
    }
}

/// Documents remembered as not to be uploaded whole.
const FAILED_MAX: usize = 10_000;
