//! Breaches of the protocol: counted by connection and kind, and told in few lines.
//!
//! The first of a kind over a connection is told at once, further ones as a number, once a minute
//! at most and when the connection ends. So an attacker who sends nonsense without end, or over
//! connections without end, fills neither the log nor the memory.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::limits::{BREACH_LINES_MAX, BREACH_TOLD_EVERY_MS, BREACHES_MAX};
use rejoin_core::wire::reason;
use rejoin_core::{DeviceId, printable};

use super::connections::{Connection, Shared};
use super::{ConnectionId, Relay};

/// A kind of breach of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Breach {
    /// Bytes that are no message, or a message that was not due. It ends the connection.
    Protocol,
    /// A change that no replica may be sent.
    Change,
    /// A whole document that could not be taken apart.
    Upload,
    /// Presence in the name of somebody else.
    Presence,
    /// An ephemeral message that is too long to be passed on.
    Ephemeral,
}

/// News for an operator: who broke the protocol, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The connection; `None` for all those together that are not told of one by one.
    pub connection: Option<ConnectionId>,
    /// The replica that it said it is.
    pub device: Option<DeviceId>,
    /// As which peer of automerge-repo it joined, as text that may be shown.
    pub peer: Option<String>,
    /// The kind of breach.
    pub breach: Breach,
    /// The first one, as text that may be shown.
    pub what: String,
    /// The number of breaches, since the first.
    pub count: u64,
    /// Milliseconds since the first.
    pub since_ms: u64,
    /// Whether this is the first notice of it.
    pub is_first: bool,
}

/// All breaches that may have to be told again.
#[derive(Debug, Default)]
pub(super) struct Breaches {
    now: u64,
    known: BTreeMap<Key, Known>,
    /// The notices that are to be given, with their times.
    due: BTreeSet<(u64, Key)>,
    /// The begin of the minute in which first lines are counted, and their number so far.
    minute: (u64, usize),
}

/// The connection, or `None` for those that are not told of one by one.
type Key = (Option<ConnectionId>, Breach);

#[derive(Debug)]
struct Known {
    who: Who,
    what: String,
    count: u64,
    told: u64,
    /// The time at which it happened first, and the one at which it may be told again.
    since: u64,
    again_at: u64,
    is_over: bool,
}

/// The other end of a connection, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    pub(super) device: Option<DeviceId>,
    /// As text that may be shown.
    pub(super) peer: Option<String>,
}

impl Breach {
    const ALL: [Self; 5] =
        [Self::Protocol, Self::Change, Self::Upload, Self::Presence, Self::Ephemeral];

    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Change => "refused change",
            Self::Upload => "refused upload",
            Self::Presence => "presence of another",
            Self::Ephemeral => "long message",
        }
    }
}

impl Breaches {
    /// Time has passed.
    pub(super) fn pass_time(&mut self, now: u64) {
        self.now = now;
    }

    /// The time at which the next notice is due that is not due yet.
    pub(super) fn timeout(&self) -> Option<u64> {
        let first = (self.now + 1, (None, Breach::Protocol));
        self.due.range(first..).next().map(|(at, _)| *at)
    }

    /// Counts more breaches of a kind that is known of the connection, and says whether it is
    /// known.
    fn count(&mut self, key: Key, count: u64) -> bool {
        let Some(known) = self.known.get_mut(&key) else { return false };
        known.count += count;
        self.due.insert((known.again_at.max(known.since), key));
        true
    }

    /// Notes the first breach of its kind over a connection.
    fn begin(&mut self, id: ConnectionId, breach: Breach, count: u64, who: Who, what: String) {
        if self.now >= self.minute.0 + BREACH_TOLD_EVERY_MS {
            self.minute = (self.now, 0);
        }
        let has_room = self.known.len() < BREACHES_MAX && self.minute.1 < BREACH_LINES_MAX;
        let key = (has_room.then_some(id), breach);
        if !has_room && self.count(key, count) {
            return;
        }
        self.minute.1 += usize::from(has_room);
        let (since, who) = (self.now, if has_room { who } else { Who::default() });
        let known = Known { who, what, count, told: 0, since, again_at: since, is_over: false };
        self.known.insert(key, known);
        self.due.insert((since, key));
    }

    /// The connection is gone: breaches of it that were not told are due.
    pub(super) fn end(&mut self, id: ConnectionId) {
        for key in Breach::ALL.map(|breach| (Some(id), breach)) {
            let Some(known) = self.known.get_mut(&key) else { continue };
            self.due.remove(&(known.again_at, key));
            if known.told == known.count {
                self.known.remove(&key);
            } else {
                known.is_over = true;
                known.again_at = known.since;
                self.due.insert((known.since, key));
            }
        }
    }

    fn poll(&mut self) -> Option<Notice> {
        let (at, key) = self.due.first().copied().filter(|(at, _)| *at <= self.now)?;
        self.due.remove(&(at, key));
        let known = self.known.get_mut(&key)?;
        let is_first = known.told == 0;
        known.told = known.count;
        known.again_at = self.now + BREACH_TOLD_EVERY_MS;
        let notice = Notice {
            connection: key.0,
            device: known.who.device,
            peer: known.who.peer.clone(),
            breach: key.1,
            what: known.what.clone(),
            count: known.count,
            since_ms: self.now - known.since,
            is_first,
        };
        if known.is_over {
            self.known.remove(&key);
        }
        Some(notice)
    }
}

impl Relay {
    /// The next thing to put into the log, if there is one now. Call it after a turn, and before a
    /// connection that is gone is forgotten.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.shared.breaches.poll()
    }

    /// Counts a breach of a connection, which may be gone.
    pub(super) fn breach(
        &mut self,
        id: ConnectionId,
        breach: Breach,
        count: u64,
        what: impl FnOnce() -> String,
    ) {
        let connection = self.connections.get(id);
        let who = || connection.map(Connection::who).unwrap_or_default();
        self.shared.breach(id, breach, count, who, what);
    }
}

impl Shared {
    /// Counts a breach; `who` and `what` are asked for if it is the first of its kind over this
    /// connection.
    pub(super) fn breach(
        &mut self,
        id: ConnectionId,
        breach: Breach,
        count: u64,
        who: impl FnOnce() -> Who,
        what: impl FnOnce() -> String,
    ) {
        if count > 0 && !self.breaches.count((Some(id), breach), count) {
            self.breaches.begin(id, breach, count, who(), shown(&what()));
        }
    }
}

/// Text that may be shown, and not more of it than is read.
pub(super) fn shown(text: &str) -> String {
    reason(printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(breaches: &mut Breaches, id: u64, count: u64) {
        let (id, breach) = (ConnectionId(id), Breach::Change);
        if !breaches.count((Some(id), breach), count) {
            breaches.begin(id, breach, count, Who::default(), "it is no change".to_owned());
        }
    }

    /// Connection, count, seconds since the first, and whether it was the first.
    fn told(breaches: &mut Breaches) -> Vec<(Option<u64>, u64, u64, bool)> {
        std::iter::from_fn(|| breaches.poll())
            .map(|it| (it.connection.map(|id| id.0), it.count, it.since_ms / 1000, it.is_first))
            .collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let mut breaches = Breaches::default();
        breaches.pass_time(5_000);
        (0..10_000).for_each(|_| note(&mut breaches, 1, 1));
        assert_eq!(told(&mut breaches), [(Some(1), 10_000, 0, true)]);
        assert_eq!(breaches.timeout(), None, "nothing is left to tell");
        for second in 6..=130 {
            note(&mut breaches, 1, 10);
            let again_at = [65_000, 125_000, 185_000].into_iter().find(|at| second * 1000 <= *at);
            assert_eq!(breaches.timeout(), again_at, "{second}");
            breaches.pass_time(second * 1000);
            let expected = match second {
                65 => vec![(Some(1), 10_600, 60, false)],
                125 => vec![(Some(1), 11_200, 120, false)],
                _ => vec![],
            };
            assert_eq!(told(&mut breaches), expected, "{second}");
        }
    }

    #[test]
    fn what_was_not_told_is_told_at_the_end_of_the_connection() {
        let mut breaches = Breaches::default();
        note(&mut breaches, 1, 1);
        note(&mut breaches, 2, 1);
        assert_eq!(told(&mut breaches).len(), 2);
        note(&mut breaches, 1, 4);
        assert_eq!(told(&mut breaches), []);
        breaches.end(ConnectionId(1));
        breaches.end(ConnectionId(2));
        assert_eq!(told(&mut breaches), [(Some(1), 5, 0, false)]);
        assert!(breaches.known.is_empty() && breaches.due.is_empty());
    }

    #[test]
    fn connections_without_end_are_told_of_together() {
        let mut breaches = Breaches::default();
        let mut lines = 0;
        for id in 1..=100_000 {
            breaches.pass_time(id);
            note(&mut breaches, id, 1);
            lines += told(&mut breaches).len();
            breaches.end(ConnectionId(id));
        }
        // A hundred seconds are two minutes that began.
        assert!(lines <= 2 * BREACH_LINES_MAX + 3, "{lines}");
        breaches.pass_time(1_000_000);
        let rest = told(&mut breaches);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].0, None);
        assert_eq!(rest[0].1, 100_000 - 2 * BREACH_LINES_MAX as u64);
        assert_eq!(breaches.known.len(), 1);
    }

    #[test]
    fn memory_is_bounded_whoever_stays_connected() {
        let mut breaches = Breaches::default();
        for minute in 0..200 {
            breaches.pass_time(minute * BREACH_TOLD_EVERY_MS);
            (0..100).for_each(|n| note(&mut breaches, minute * 100 + n, 1));
        }
        assert!(breaches.known.len() <= BREACHES_MAX + 1, "{}", breaches.known.len());
        let counted: u64 = told(&mut breaches).iter().map(|(_, count, ..)| count).sum();
        assert_eq!(counted, 20_000, "nothing is uncounted");
    }
}
