//! Connections as the engine's thread knows them, and the frames that were given to them and are
//! not written yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rejoin_core::limits::PIECE_BYTES;
use tokio::sync::mpsc::Sender;

use super::command::Batch;
use super::room::Account;
use crate::relay::ConnectionId;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_id: BTreeMap<ConnectionId, Link>,
    /// Bytes of large batches that were given to them and are not written, and of all others.
    large_bytes: usize,
    small_bytes: usize,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) remote: SocketAddr,
    pub(super) since: Instant,
    /// Messages and bytes that came from it, and that were given to it.
    pub(super) came: Traffic,
    pub(super) went: Traffic,
    frames: Sender<Batch>,
    account: Arc<Account>,
    /// There was something for it while it was not writable.
    pub(super) is_waiting: bool,
    /// The batch that it is writing now.
    given: Option<Given>,
    /// Its very last batch, which it is given when it is writable.
    last: Option<Batch>,
    /// Bytes it is given at once: as many as its line takes in a short time, so that new frames
    /// need not wait long behind old ones.
    pub(super) batch_bytes: usize,
}

/// An amount of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }
}

/// A batch that is being written.
#[derive(Debug)]
struct Given {
    at: Instant,
    bytes: usize,
    written: Arc<AtomicUsize>,
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn add(
        &mut self,
        id: ConnectionId,
        remote: SocketAddr,
        frames: Sender<Batch>,
        account: Arc<Account>,
    ) {
        let (is_waiting, given, last, batch_bytes) = (false, None, None, PIECE_BYTES);
        let (since, came, went) = (Instant::now(), Traffic::default(), Traffic::default());
        let link = Link {
            remote,
            since,
            came,
            went,
            frames,
            account,
            is_waiting,
            given,
            last,
            batch_bytes,
        };
        self.by_id.insert(id, link);
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Link> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(link) = self.by_id.remove(&id) {
            self.forget(link.given_bytes());
        }
    }

    /// Bytes that a connection is given at once: fewer if many bytes were given to all of them and
    /// are not written.
    pub(super) fn batch_bytes(&self, link: &Link) -> usize {
        if self.small_bytes > GIVEN_BYTES_MAX { PIECE_BYTES } else { link.batch_bytes }
    }

    fn sum_of(&mut self, bytes: usize) -> &mut usize {
        if bytes > LARGE_BYTES { &mut self.large_bytes } else { &mut self.small_bytes }
    }

    /// Bytes that were given are written, or count no more.
    fn forget(&mut self, bytes: usize) {
        *self.sum_of(bytes) -= bytes;
    }

    /// Gives a connection that is writable something to write.
    pub(super) fn give(&mut self, id: ConnectionId, batch: Batch) {
        let Some(link) = self.by_id.get_mut(&id) else { return };
        let bytes = batch.frames.iter().map(Vec::len).sum();
        let written = Arc::clone(&batch.written);
        link.given = Some(Given { at: Instant::now(), bytes, written });
        link.went.add(batch.frames.len(), bytes);
        // The channel has room for one batch and is empty, for the connection said that it is
        // writable. If the connection is gone meanwhile, it will say that, too.
        let _ = link.frames.try_send(batch);
        *self.sum_of(bytes) += bytes;
    }

    /// Gives a connection its last batch, at once or when it is writable.
    pub(super) fn end(&mut self, id: ConnectionId, last: Batch) {
        match self.by_id.get_mut(&id) {
            Some(link) if link.given.is_some() => link.last = Some(last),
            _ => self.give(id, last),
        }
    }

    /// A connection has written its batch, and may take more. Returns the time that it took, unless
    /// it is given its last batch now.
    pub(super) fn written(&mut self, id: ConnectionId) -> Option<Duration> {
        let link = self.by_id.get_mut(&id)?;
        let (given, last) = (link.given.take()?, link.last.take());
        self.forget(given.bytes);
        match last {
            Some(last) => self.give(id, last),
            None => return Some(given.at.elapsed()),
        }
        None
    }

    /// Gives up the slowest of the connections that were given much at once, until all together are
    /// within the limit, and returns them. Messages of automerge-repo hold whole documents, and
    /// peers that never read them would fill the memory otherwise.
    pub(super) fn give_up_slowest(&mut self) -> Vec<ConnectionId> {
        let mut given_up = Vec::new();
        let now = Instant::now();
        while self.large_bytes > GIVEN_BYTES_MAX {
            let large = self.by_id.iter().filter_map(|(id, link)| Some((*id, link.speed(now)?)));
            let large: Vec<_> = large.collect();
            // A connection that is alone has all the time it needs for any batch.
            let slowest = large.iter().min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((id, _)) = slowest.copied().filter(|_| large.len() > 1) else { break };
            let Some(link) = self.by_id.get_mut(&id) else { break };
            let bytes = link.given_bytes();
            // It does not count from now on, and is given no more.
            link.given = Some(Given { at: now, bytes: 0, written: Arc::default() });
            link.account.give_way();
            self.forget(bytes);
            given_up.push(id);
        }
        given_up
    }
}

impl Link {
    /// Whether its last batch is written.
    pub(super) fn is_writable(&self) -> bool {
        self.given.is_none()
    }

    fn given_bytes(&self) -> usize {
        self.given.as_ref().map_or(0, |given| given.bytes)
    }

    /// Bytes a second at which it takes its batch, if that is a large one. A connection that was
    /// given one just now has the benefit of the doubt.
    fn speed(&self, now: Instant) -> Option<f64> {
        let given = self.given.as_ref().filter(|given| given.bytes > LARGE_BYTES)?;
        let written = given.written.load(Ordering::Relaxed) + DOUBT_BYTES;
        Some(written as f64 / (now - given.at).as_secs_f64().max(1e-3))
    }
}

/// Bytes of large batches that may be given and not written, of all connections together; a single
/// one may be longer. When all other batches come to as much, they become short.
const GIVEN_BYTES_MAX: usize = 32 << 20;

/// Bytes of a batch that counts as large: more than a replica is ever given at once.
const LARGE_BYTES: usize = 512 << 10;

/// Bytes that a connection is thought to write at once: the system keeps some for it.
const DOUBT_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::room::Room;
    use super::*;

    #[test]
    fn who_takes_nothing_of_much_gives_way_to_others() {
        let mut links = Links::default();
        let (room, mut inboxes) = (Room::new(1), Vec::new());
        let mut dial = |links: &mut Links, id| {
            let (frames, inbox) = mpsc::channel(1);
            links.add(ConnectionId(id), ([127, 0, 0, 1], 1).into(), frames, room.account());
            inboxes.push(inbox);
        };
        let large = || Batch { frames: vec![vec![0; 8 << 20]], ..Batch::default() };
        let mut given_up = Vec::new();
        for id in 0..20 {
            dial(&mut links, id);
            let batch = large();
            // The first reads.
            batch.written.store(if id == 0 { 7 << 20 } else { 0 }, Ordering::Relaxed);
            links.give(ConnectionId(id), batch);
            dial(&mut links, 100 + id);
            let small = Batch { frames: vec![vec![0; 1000]], ..Batch::default() };
            links.give(ConnectionId(100 + id), small);
            given_up.extend(links.give_up_slowest());
            assert!(links.large_bytes <= GIVEN_BYTES_MAX);
        }
        assert_eq!(given_up.len(), 16);
        assert!(given_up.iter().all(|id| (1..20).contains(&id.0)), "{given_up:?}");
        // One that was given up ends in its own time, and is forgotten then.
        links.ids().into_iter().for_each(|id| links.remove(id));
        assert_eq!((links.len(), links.large_bytes, links.small_bytes), (0, 0, 0));
    }

    #[test]
    fn one_document_that_is_longer_than_the_limit_is_left_to_who_takes_it() {
        let (mut links, room) = (Links::default(), Room::new(1));
        let mut inboxes = Vec::new();
        for id in 0..2 {
            let (frames, inbox) = mpsc::channel(1);
            links.add(ConnectionId(id), ([127, 0, 0, 1], 1).into(), frames, room.account());
            inboxes.push(inbox);
        }
        let long = || Batch { frames: vec![vec![0; 60 << 20]], ..Batch::default() };
        links.give(ConnectionId(0), long());
        assert_eq!(links.give_up_slowest(), []);
        let second = long();
        second.written.store(1 << 20, Ordering::Relaxed);
        links.give(ConnectionId(1), second);
        assert_eq!(links.give_up_slowest(), [ConnectionId(0)]);
    }

    #[test]
    fn many_who_do_not_read_are_given_little_and_cut_nobody() {
        let (mut links, room) = (Links::default(), Room::new(1));
        let mut inboxes = Vec::new();
        let mut give = |links: &mut Links, id, bytes| {
            let (frames, inbox) = mpsc::channel(1);
            links.add(ConnectionId(id), ([127, 0, 0, 1], 1).into(), frames, room.account());
            inboxes.push(inbox);
            links.get_mut(ConnectionId(id)).unwrap().batch_bytes = bytes;
            let bytes = links.batch_bytes(links.get(ConnectionId(id)).unwrap());
            links
                .give(ConnectionId(id), Batch { frames: vec![vec![0; bytes]], ..Batch::default() });
            bytes
        };
        let given: Vec<_> = (0..200).map(|id| give(&mut links, id, 256 << 10)).collect();
        assert_eq!(given.iter().filter(|bytes| **bytes == 256 << 10).count(), 129);
        assert!(given.ends_with(&[PIECE_BYTES; 71]));
        for id in 200..203 {
            give_large(&mut links, &room, id);
        }
        assert_eq!(links.give_up_slowest(), []);
    }

    fn give_large(links: &mut Links, room: &Room, id: u64) {
        let (frames, _) = mpsc::channel(1);
        links.add(ConnectionId(id), ([127, 0, 0, 1], 1).into(), frames, room.account());
        links.give(ConnectionId(id), Batch { frames: vec![vec![0; 8 << 20]], ..Batch::default() });
    }

    #[test]
    fn the_last_batch_waits_for_the_one_before() {
        let mut links = Links::default();
        let (frames, mut inbox) = mpsc::channel(1);
        let id = ConnectionId(1);
        links.add(id, ([127, 0, 0, 1], 1).into(), frames, Room::new(1).account());
        let batch = |bytes| Batch { frames: vec![vec![0; bytes]], ..Batch::default() };
        links.give(id, batch(1));
        links.end(id, batch(2));
        assert_eq!(inbox.try_recv().unwrap().frames, [vec![0; 1]]);
        assert!(links.written(id).is_none() && inbox.try_recv().unwrap().frames[0].len() == 2);
        assert!(links.written(id).is_some() && links.small_bytes == 0);
    }
}
