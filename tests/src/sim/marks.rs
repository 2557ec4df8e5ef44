//! What the marks of a replica say is true, and a bad line costs those who are new little.

use rejoin::{Link, ReadError, SpaceName};
use rejoin_core::change::Place;
use rejoin_core::heads_hash;
use rejoin_core::limits::MARK_BYTES;

use super::agenda::{Event, Node};
use super::faults::Line;
use super::replica::{RELAY, Replica};
use super::world::{Check, Failed, World};

impl World {
    /// Every document that was last changed at or below a replica's cursor is whole there, unless the
    /// replica knows that it is still to come.
    pub(super) fn audit_marks(&mut self) -> Check {
        if self.relay.restored || self.faults.mangle() {
            return Ok(());
        }
        for at in 0..self.replicas.len() {
            for space in self.replicas[at].spaces.clone() {
                self.audit_mark(at, &space)?;
            }
        }
        self.strike_relay()
    }

    fn audit_mark(&mut self, at: usize, space: &SpaceName) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        let Some(relay) = self.relay.process.as_mut().map(|process| &mut process.relay) else {
            return Ok(());
        };
        let Some(process) = self.replicas[at].open_process() else { return Ok(()) };
        let marks = process.engine.store().read().and_then(|view| {
            let Some(cursor) = view.cursor(RELAY, space)? else { return Ok(None) };
            Ok(Some((cursor, view.wanted(RELAY, space, usize::MAX)?)))
        });
        let (cursor, wanted) = match marks {
            Ok(Some(marks)) => marks,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.fail_replica(at, &error)?;
                return self.strike_replica(at);
            }
        };
        // If the disk fails, the relay will notice.
        let latest = relay.store_mut().latest_page(space, cursor.position, 0, usize::MAX);
        for latest in latest.unwrap_or_default() {
            let to_come = [cursor.backfill, cursor.listing];
            let is_to_come = to_come.iter().flatten().any(|it| it.contains(latest.position));
            if is_to_come || wanted.contains(&latest.document) {
                continue;
            }
            let document = latest.document;
            let row = process.engine.store().read().and_then(|view| view.document(&document));
            let Ok(row) = row else { continue };
            let heads = row.map(|row| heads_hash(&row.heads).short());
            if heads == Some(latest.heads) {
                continue;
            }
            let place = Place { space, collection: &latest.collection, document: &document };
            let Ok(heads) = relay.heads(&place) else { continue };
            // Loads it, so that it can be asked what it holds.
            match process.engine.value_at(local, &document, None) {
                Ok(_) | Err(ReadError::NotFound) => {}
                Err(error) => {
                    self.fail_replica(at, &error)?;
                    break;
                }
            }
            let lacks = heads.iter().find(|head| !process.engine.holds(&document, head));
            let Some(lacks) = lacks else { continue };
            return Err(Failed(format!(
                "replica {at} lacks {lacks} of {document}, whose last position in {space} is {}, \
                 and has the mark {cursor:?}",
                latest.position
            )));
        }
        self.strike_replica(at)
    }

    /// A new replica on a bad line receives little more, over all of its sessions, than one whose
    /// line is good, and both receive everything.
    pub(super) fn check_newcomers(&mut self) -> Check {
        let (whole, _) = self.newcomer(None)?;
        let lasts_ms_max = (whole * 1000 / NEWCOMER_BYTES_PER_S / 4).clamp(2000, 20_000);
        let line = Line { bytes_per_s: NEWCOMER_BYTES_PER_S, lasts_ms_max };
        let (broken, sessions) = self.newcomer(Some(line))?;
        let most = whole + whole / 5 + sessions * SESSION_BYTES;
        if broken > most {
            return Err(Failed(format!(
                "a new replica received {broken} bytes in {sessions} sessions, another {whole} in one"
            )));
        }
        Ok(())
    }

    /// Bytes that a new replica receives, and how often it dialled.
    fn newcomer(&mut self, line: Option<Line>) -> Check<(u64, u64)> {
        let at = self.replicas.len();
        let spaces = self.replicas[0].spaces.clone();
        self.replicas.push(Replica::new(spaces));
        self.net.set_line(at, line);
        self.note(format_args!("replica {at} is new, with the line {line:?}"));
        self.agenda.at(self.now, Event::Start(Node::Replica(at)));
        let until = self.now + NEWCOMER_MS_MAX;
        while !self.is_safe(at) {
            if self.now > until {
                return Err(Failed(format!("replica {at} is new, and does not come to be safe")));
            }
            self.step()?;
        }
        let replica = &mut self.replicas[at];
        let attempts = replica.attempts;
        let process = replica.open_process();
        let counters = process.map(|process| process.engine.counters()).unwrap_or_default();
        self.net.set_line(at, None);
        Ok((counters.bytes_received, attempts))
    }

    fn is_safe(&mut self, at: usize) -> bool {
        let process = self.replicas[at].open_process();
        process.is_some_and(|process| process.engine.status().link == Link::Safe)
    }
}

/// What a session costs beside what comes in it: its opening, and at most what lies between two
/// marks, which a cut leaves unsaid. A document in one frame may be longer, for which a fifth of all
/// is allowed.
const SESSION_BYTES: u64 = MARK_BYTES as u64 + 512;

const NEWCOMER_BYTES_PER_S: u64 = 20_000;

/// Milliseconds in which a new replica must have everything.
const NEWCOMER_MS_MAX: u64 = 1_800_000;
