//! Whole documents that peers send, on their way through a worker that takes them apart.

use std::collections::VecDeque;
use std::sync::Arc;

use rejoin_core::wire::ByeCode;

use super::super::{ConnectionId, Relay};
use super::work::{Incoming, Whole, Work};
use crate::compaction::CompactionError;

/// A whole document to be taken apart into its changes, behind a fence.
#[derive(Debug)]
pub struct Upload {
    connection: ConnectionId,
    /// One document chunk, as it came.
    pub bytes: Arc<[u8]>,
}

/// Uploads that wait, and the one under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    waiting: VecDeque<(Upload, Incoming)>,
    bytes: usize,
    under_way: Option<(ConnectionId, Incoming)>,
}

impl Upload {
    pub(super) fn new(connection: ConnectionId, bytes: &[u8]) -> Self {
        Self { connection, bytes: bytes.into() }
    }
}

impl Uploads {
    /// Its connection is gone, and will send them again over the next.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.waiting.retain(|(upload, _)| upload.connection != id);
        self.bytes = self.waiting.iter().map(|(upload, _)| upload.bytes.len()).sum();
    }
}

impl Relay {
    /// A document to take apart, one at a time: give it to a worker, and what comes of it to
    /// [`handle_taken_apart`](Self::handle_taken_apart). Call it after a turn.
    pub fn poll_upload(&mut self) -> Option<Upload> {
        let uploads = &mut self.peers.uploads;
        if uploads.under_way.is_some() {
            return None;
        }
        let (upload, mut incoming) = uploads.waiting.pop_front()?;
        uploads.bytes -= upload.bytes.len();
        incoming.whole = Some(Whole { bytes: Arc::clone(&upload.bytes), changes: 0 });
        uploads.under_way = Some((upload.connection, incoming));
        Some(upload)
    }

    /// The worker is done with the document it was given: these are its changes, dependencies
    /// first. The next turns take them in like any others.
    pub fn handle_taken_apart(&mut self, result: Result<Vec<Vec<u8>>, CompactionError>) {
        let Some((id, mut incoming)) = self.peers.uploads.under_way.take() else { return };
        let document = incoming.document;
        match result {
            Ok(changes) => {
                if let Some(whole) = &mut incoming.whole {
                    whole.changes = changes.len();
                }
                incoming.changes.extend(changes);
            }
            Err(error) => {
                incoming.whole = None;
                self.counters.uploads_failed += 1;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(conn = id.0, %document, error, "uploaded document refused");
            }
        }
        if let Some(peer) = self.peers.by_connection.get_mut(&id) {
            peer.inbox.push_back(Work::Changes(incoming));
            self.peers.eventful.insert(id);
        }
    }

    /// Other messages about the document wait until it is taken apart.
    pub(super) fn begin_upload(&mut self, upload: Upload, incoming: Incoming) {
        let id = upload.connection;
        self.keep_waiting(id, &incoming.document);
        let uploads = &mut self.peers.uploads;
        uploads.bytes += upload.bytes.len();
        uploads.waiting.push_back((upload, incoming));
        if self.peers.uploads.bytes > UPLOAD_BYTES_MAX {
            let message = "too many documents are being uploaded; come back later";
            self.close_peer(id, ByeCode::Unavailable, message);
        }
    }
}

/// Bytes of uploads that wait, of all peers together.
const UPLOAD_BYTES_MAX: usize = 256 << 20;
