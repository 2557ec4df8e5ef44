//! Memory for messages on their way to the engine: those that arrive, and those that wait to be
//! handled.
//!
//! A connection has a little for itself, so that an ordinary message never waits for anybody.
//! Memory beyond that is taken from a pool that all share, before the bytes are read from the
//! socket. When the pool is used up, connections that need more are not read from until somebody's
//! message was handled. If no memory becomes free, because messages stand half arrived, the slowest
//! sender gives way.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use rejoin_core::limits::{FRAME_BYTES_MAX, PIECE_BYTES};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::upgrade::SOCKET_BUFFER_BYTES;

/// The pool: memory that all connections have together.
#[derive(Debug, Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    arriving: Arc<Mutex<Arriving>>,
}

/// Connections of which a long message is on its way.
#[derive(Debug, Default)]
struct Arriving {
    accounts: BTreeMap<u64, Weak<Account>>,
    next: u64,
    /// The time at which a sender to give way was last looked for.
    ended_at: Option<Instant>,
}

/// The memory of one connection.
#[derive(Debug)]
pub(super) struct Account {
    room: Room,
    number: u64,
    state: Mutex<State>,
    /// A message of it was handled.
    handled: Notify,
    gives_way: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the message that is arriving, and when its first ones came.
    arrived: usize,
    since: Option<Instant>,
    /// Bytes of messages that wait to be handled.
    waiting: usize,
    /// The memory it took of the pool.
    taken: Option<OwnedSemaphorePermit>,
}

/// Bytes of a message that waits to be handled; they are free again when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Room {
    /// Room for so many bytes. The longest message has to fit.
    pub(super) fn new(bytes: usize) -> Self {
        let free = Semaphore::new(bytes.min(Semaphore::MAX_PERMITS));
        Self { free: Arc::new(free), arriving: Arc::default() }
    }

    /// An account for a connection.
    pub(super) fn account(&self) -> Arc<Account> {
        let mut arriving = self.arriving();
        let number = arriving.next;
        arriving.next += 1;
        let room = self.clone();
        let account = Account {
            room,
            number,
            state: Mutex::default(),
            handled: Notify::new(),
            gives_way: Notify::new(),
        };
        let account = Arc::new(account);
        arriving.accounts.insert(number, Arc::downgrade(&account));
        account
    }

    /// Takes some more, as soon as there is some.
    async fn take(&self) -> OwnedSemaphorePermit {
        let mut taken = pin!(Arc::clone(&self.free).acquire_many_owned(STEP_BYTES as u32));
        loop {
            match timeout(PATIENCE, &mut taken).await {
                Ok(taken) => return taken.expect("the semaphore is never closed"),
                Err(_) => self.end_slowest(),
            }
        }
    }

    /// No memory has become free for a while: the connection that brings its message most slowly
    /// gives way.
    fn end_slowest(&self) {
        let now = Instant::now();
        let accounts: Vec<_> = {
            let mut arriving = self.arriving();
            if arriving.ended_at.is_some_and(|at| now < at + PATIENCE / 4) {
                // The memory of the one before may not be free yet.
                return;
            }
            arriving.ended_at = Some(now);
            arriving.accounts.values().filter_map(Weak::upgrade).collect()
        };
        // An account whose connection ends meanwhile is dropped here, and takes the lock then.
        let slow = accounts.iter().filter_map(|account| Some((account.speed(now)?, account)));
        if let Some((_, slowest)) = slow.min_by(|a, b| a.0.total_cmp(&b.0)) {
            slowest.give_way();
        }
    }

    fn arriving(&self) -> MutexGuard<'_, Arriving> {
        self.arriving.lock().expect("nobody panics while holding it")
    }
}

impl Account {
    /// Resolves when there is room for the bytes that are read next.
    pub(super) async fn has_room(self: Arc<Self>) {
        while self.state().waiting > WAITING_BYTES_MAX {
            self.handled.notified().await;
        }
        while self.needs_more() {
            let taken = self.room.take().await;
            match &mut self.state().taken {
                Some(before) => before.merge(taken),
                none => *none = Some(taken),
            }
        }
    }

    /// Whether something has to be handled, or taken of the room, before more is read.
    pub(super) fn has_to_wait(&self) -> bool {
        self.state().waiting > WAITING_BYTES_MAX || self.needs_more()
    }

    fn needs_more(&self) -> bool {
        let state = self.state();
        let taken = state.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        state.arrived + state.waiting + SOCKET_BUFFER_BYTES > OWN_BYTES + taken
    }

    /// Some bytes came.
    pub(super) fn arrive(&self, bytes: usize) {
        let mut state = self.state();
        state.arrived += bytes;
        state.since.get_or_insert_with(Instant::now);
    }

    /// The message has arrived whole, and waits from now on.
    pub(super) fn charge(self: &Arc<Self>) -> Charge {
        let mut state = self.state();
        let bytes = std::mem::take(&mut state.arrived) + MESSAGE_BYTES;
        state.since = None;
        state.waiting += bytes;
        Charge { account: Arc::clone(self), bytes }
    }

    /// So many of the bytes that came were no part of a message.
    pub(super) fn pass_over(&self, bytes: usize) {
        let mut state = self.state();
        state.arrived = state.arrived.saturating_sub(bytes);
    }

    /// Ends the connection, so that others can go on.
    pub(super) fn give_way(&self) {
        self.gives_way.notify_one();
    }

    /// Resolves when the connection has to end.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// Bytes a second of the message that arrives, if it holds some of the room.
    fn speed(&self, now: Instant) -> Option<f64> {
        let state = self.state();
        let since = state.since.filter(|_| state.arrived > OWN_BYTES)?;
        Some(state.arrived as f64 / (now - since).as_secs_f64().max(1e-3))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.room.arriving().accounts.remove(&self.number);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut state = self.account.state();
        state.waiting -= self.bytes;
        self.account.handled.notify_one();
        let needed = (state.arrived + state.waiting).saturating_sub(OWN_BYTES);
        let Some(taken) = &mut state.taken else { return };
        if needed == 0 {
            state.taken = None;
        } else if let Some(surplus) = taken.num_permits().checked_sub(needed) {
            drop(taken.split(surplus));
        }
    }
}

/// Bytes that a connection may bring without asking: an ordinary edit, and the pieces that a
/// replica pushes at once over a slow line.
const OWN_BYTES: usize = 2 * PIECE_BYTES;

/// Bytes of messages of one connection that may wait before more is read: with another message, or
/// the part of one, the next turn has enough to do.
const WAITING_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Memory that a message takes beside its bytes.
const MESSAGE_BYTES: usize = 256;

/// Bytes that are taken of the room at once.
const STEP_BYTES: usize = 64 << 10;

/// The time that everybody waits before somebody has to give way.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Lets bytes arrive as a socket does, as far as there is room.
    async fn bring(account: &Arc<Account>, bytes: usize) {
        for _ in 0..bytes / SOCKET_BUFFER_BYTES {
            Arc::clone(account).has_room().await;
            account.arrive(SOCKET_BUFFER_BYTES);
        }
    }

    #[tokio::test]
    async fn short_messages_never_wait_for_others() {
        let room = Room::new(MIB);
        let (hog, honest) = (room.account(), room.account());
        bring(&hog, MIB + OWN_BYTES).await;
        assert!(hog.has_to_wait() && !honest.has_to_wait());
        for _ in 0..100 {
            bring(&honest, PIECE_BYTES).await;
            drop(honest.charge());
        }
    }

    #[tokio::test]
    async fn what_was_handled_is_free_again() {
        let room = Room::new(MIB);
        let account = room.account();
        for _ in 0..10 {
            bring(&account, MIB / 2).await;
            let first = account.charge();
            bring(&account, MIB / 4).await;
            let second = account.charge();
            assert!(room.free.available_permits() < MIB / 2);
            drop(first);
            assert!(room.free.available_permits() >= MIB / 2);
            drop(second);
            assert_eq!(room.free.available_permits(), MIB);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_gives_way_when_nothing_becomes_free() {
        let room = Room::new(MIB);
        let (slow, quick) = (room.account(), room.account());
        bring(&slow, MIB / 2).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let arrives = async {
            bring(&quick, MIB).await;
            quick.charge()
        };
        let ended = async {
            slow.gives_way().await;
            // Its connection ends, and frees its memory.
            drop(slow);
        };
        let (charge, ()) = tokio::join!(arrives, ended);
        assert_eq!(charge.bytes, MIB + MESSAGE_BYTES);
        drop((charge, quick));
        assert_eq!(room.free.available_permits(), MIB);
        assert!(room.arriving().accounts.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_does_not_fill_the_room() {
        let room = Room::new(64 * MIB);
        let account = room.account();
        let mut waiting = Vec::new();
        while !account.has_to_wait() {
            bring(&account, MIB).await;
            waiting.push(account.charge());
        }
        assert_eq!(waiting.len(), 2);
        let reads_on = async {
            Arc::clone(&account).has_room().await;
        };
        let handled = async {
            tokio::task::yield_now().await;
            waiting.clear();
        };
        tokio::join!(reads_on, handled);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_between_parts_free_nothing() {
        let room = Room::new(MIB);
        let account = room.account();
        for _ in 0..(MIB + OWN_BYTES) / SOCKET_BUFFER_BYTES {
            bring(&account, SOCKET_BUFFER_BYTES).await;
            account.arrive(6);
            account.pass_over(6);
        }
        assert!(account.has_to_wait());
    }
}
