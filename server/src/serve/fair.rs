//! A queue for the engine's time: each connection's entries keep their order, and the connection
//! that has taken least time comes first.
//!
//! Messages differ a thousandfold in their cost, and so do answers. If they were handled in the
//! order they came, an edit would wait behind everything that one greedy connection has asked for
//! before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::relay::ConnectionId;

/// Things that wait, each of a connection.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    waiting: BTreeMap<ConnectionId, Waiting<T>>,
    /// Connections by the time they took, and by when they came where that is the same.
    order: BTreeSet<(Duration, ConnectionId)>,
    /// The time that the connection that was next last had taken. A connection that comes anew, or
    /// comes back, begins there, so it cannot save up time.
    clock: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    taken: Duration,
    things: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), order: BTreeSet::new(), clock: Duration::ZERO }
    }
}

impl<T> FairQueue<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether something of a connection waits.
    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.waiting.get(&id).is_some_and(|waiting| !waiting.things.is_empty())
    }

    pub(super) fn push(&mut self, id: ConnectionId, thing: T) {
        let clock = self.clock;
        let new = || Waiting { taken: clock, things: VecDeque::new() };
        let waiting = self.waiting.entry(id).or_insert_with(new);
        if waiting.things.is_empty() {
            waiting.taken = waiting.taken.max(clock);
            self.order.insert((waiting.taken, id));
        }
        waiting.things.push_back(thing);
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<(ConnectionId, T)> {
        let (taken, id) = self.order.pop_first()?;
        self.clock = taken;
        let waiting = self.waiting.get_mut(&id)?;
        let thing = waiting.things.pop_front()?;
        if !waiting.things.is_empty() {
            self.order.insert((taken, id));
        }
        Some((id, thing))
    }

    /// Something of a connection took so long.
    pub(super) fn took(&mut self, id: ConnectionId, time: Duration) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        let before = waiting.taken;
        waiting.taken += time;
        if self.order.remove(&(before, id)) {
            self.order.insert((waiting.taken, id));
        }
    }

    /// The connection is gone, and its entries with it.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(waiting) = self.waiting.remove(&id) {
            self.order.remove(&(waiting.taken, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_took_least_is_next_and_each_keeps_its_order() {
        let mut queue = FairQueue::default();
        let (loud, quiet) = (ConnectionId(1), ConnectionId(2));
        (0..1000).for_each(|n| queue.push(loud, n));
        for n in 0..10 {
            let (id, thing) = queue.pop().unwrap();
            assert_eq!((id, thing), (loud, n));
            queue.took(id, 50 * MS);
        }
        // It waits for one message of the other at most, each time.
        for n in 0..100 {
            queue.push(quiet, n);
            let next: Vec<_> = std::iter::from_fn(|| {
                let (id, thing) = queue.pop()?;
                queue.took(id, if id == loud { 50 * MS } else { MS });
                Some((id, thing))
            })
            .take(2)
            .collect();
            assert!(next.contains(&(quiet, n)), "{next:?}");
        }
    }

    #[test]
    fn who_was_silent_has_saved_up_nothing() {
        let mut queue = FairQueue::default();
        let (old, new) = (ConnectionId(1), ConnectionId(2));
        queue.push(old, 0);
        queue.pop();
        queue.took(old, MS);
        for n in 0..100 {
            queue.push(new, n);
            queue.pop();
            queue.took(new, 10 * MS);
        }
        // Both have a hundred to say now: they take turns.
        (0..100).for_each(|n| queue.push(old, n));
        (0..100).for_each(|n| queue.push(new, n));
        let mut of_old = 0;
        for _ in 0..100 {
            let (id, _) = queue.pop().unwrap();
            of_old += usize::from(id == old);
            queue.took(id, 10 * MS);
        }
        assert!((45..=55).contains(&of_old), "{of_old}");
    }

    #[test]
    fn nothing_is_kept_of_who_is_gone() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            let id = ConnectionId(n);
            queue.push(id, ());
            queue.push(id, ());
            while let Some((id, ())) = queue.pop() {
                queue.took(id, MS);
            }
            queue.forget(id);
        }
        assert!(queue.waiting.is_empty() && queue.is_empty());
    }
}
