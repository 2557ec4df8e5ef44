//! A device: its disk, its clock, and the process on it, which drives a real engine as the client's
//! own driver does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::sync::Arc;

use redb::Database;
use rejoin::{ChangeHash, DocumentId, Link as LinkStatus, SpaceName};
use rejoin_core::{Undo, change};
use rejoin_engine::store::Store;
use rejoin_engine::{Edit, EditOutcome, Engine, EngineOptions};

use super::agenda::{Event, Node};
use super::disk::{Backup, Disk, Strike};
use super::model::{EditId, Fate, tokens_in};
use super::net::{Parcel, Side};
use super::random::Random;
use super::world::{Check, Failed, World, explain};

/// A device.
#[derive(Debug)]
pub struct Replica {
    /// The spaces it takes part in.
    pub spaces: Vec<SpaceName>,
    /// Its disk.
    pub disk: Disk,
    /// There is a whole file on it.
    pub has_file: bool,
    /// What runs on it.
    pub process: Option<Process>,
    /// Milliseconds its clock for waiting is ahead of the world's.
    pub skew_ms: u64,
    /// Seconds its calendar is off.
    pub calendar_s: i64,
    /// It sleeps and does nothing.
    pub asleep: bool,
    /// It cannot reach the relay before then.
    pub offline_until: u64,
    /// Copies of its file, with the edits that were in it.
    pub backups: Vec<(Backup, BTreeSet<EditId>)>,
    /// Connection attempts so far.
    pub(super) attempts: u64,
    /// Edits in the outbox, with their keys and documents.
    pub waiting: BTreeMap<EditId, (u64, DocumentId)>,
    /// Documents whose edits got new keys because something was set aside.
    rekeyed: BTreeSet<DocumentId>,
    /// Rows of work set aside that were seen.
    set_aside_seen: u64,
    /// Changes that left the device lately.
    pub pushed: VecDeque<(DocumentId, ChangeHash)>,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// The replica.
    pub engine: Engine,
    link: Link,
    inbox: VecDeque<Parcel>,
    /// Edits for the next turn.
    pub queued: Vec<(EditId, Edit)>,
    attempts_in_vain: u32,
    idle_at: u64,
    reopen_at: Option<u64>,
    /// The connection takes no more for now.
    is_full: bool,
    /// Heads that documents had, for edits of someone who has not seen the latest.
    pub seen: BTreeMap<DocumentId, VecDeque<Vec<ChangeHash>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Waiting(u64),
    Dialling(u64),
    Connected(u64),
}

impl Replica {
    /// A new device that is switched off.
    pub fn new(spaces: Vec<SpaceName>) -> Self {
        Self {
            spaces,
            disk: Disk::new(),
            has_file: false,
            process: None,
            skew_ms: 0,
            calendar_s: 0,
            asleep: false,
            offline_until: 0,
            backups: Vec::new(),
            attempts: 0,
            waiting: BTreeMap::new(),
            rekeyed: BTreeSet::new(),
            set_aside_seen: 0,
            pushed: VecDeque::new(),
        }
    }

    /// The process, if it runs and its file is open.
    pub fn open_process(&mut self) -> Option<&mut Process> {
        if self.asleep {
            return None;
        }
        self.process.as_mut().filter(|process| process.reopen_at.is_none())
    }

    /// The disk is lost, or what is on it replaced.
    pub fn forget_disk(&mut self) {
        self.rekeyed.clear();
        self.set_aside_seen = 0;
        self.pushed.clear();
    }
}

impl Process {
    /// The connection, if there is one.
    pub fn connection(&self) -> Option<u64> {
        match self.link {
            Link::Connected(id) => Some(id),
            _ => None,
        }
    }
}

impl World {
    /// Switches a device on.
    pub(super) fn start_replica(&mut self, at: usize) -> Check {
        if self.replicas[at].process.is_some() {
            return Ok(());
        }
        match self.open_engine(at) {
            Ok(engine) => {
                let now = self.now + self.replicas[at].skew_ms;
                let process = Process {
                    engine,
                    link: Link::Waiting(now),
                    inbox: VecDeque::new(),
                    queued: Vec::new(),
                    attempts_in_vain: 0,
                    idle_at: now + IDLE_CHECK_MS,
                    reopen_at: None,
                    is_full: false,
                    seen: BTreeMap::new(),
                };
                self.replicas[at].process = Some(process);
                self.replicas[at].has_file = true;
                self.note(format_args!("replica {at} starts"));
                self.check_pushed(at)?;
                self.settle_outbox(at)?;
                self.agenda.wake(self.now, Node::Replica(at));
                self.strike_replica(at)
            }
            Err(error) => self.fail_to_start(at, &*error),
        }
    }

    fn open_engine(&mut self, at: usize) -> Result<Engine, Box<dyn Error>> {
        let database = open_database(&self.replicas[at].disk)?;
        let store = Arc::new(Store::open(database, self.random.bytes())?);
        let options = EngineOptions {
            documents_loaded_max: self.faults.documents_loaded_max,
            idle_ms: self.faults.idle_ms,
            value_bytes_eager_max: 2 << 10,
            mutant: self.mutant.and_then(|mutant| mutant.of_client()),
            ..EngineOptions::default()
        };
        let mut random: Random = self.random.fork();
        let mut engine = Engine::new(store, options, move || random.bytes())?;
        for space in &self.replicas[at].spaces {
            engine.want_space(space);
        }
        Ok(engine)
    }

    fn fail_to_start(&mut self, at: usize, error: &dyn Error) -> Check {
        let disk = self.replicas[at].disk.clone();
        if let Some(strike) = disk.struck() {
            disk.go_down(strike, &mut self.random);
        } else if disk.injected() == 0 && self.replicas[at].has_file {
            return Err(Failed(format!("replica {at} does not open: {}", explain(error))));
        } else if disk.injected() == 0 {
            // The first opening was interrupted, and left what is no file of redb's yet.
            disk.erase();
        }
        self.note(format_args!("replica {at} cannot start: {}", explain(error)));
        disk.close();
        self.agenda.at(self.now + REOPEN_MS, Event::Start(Node::Replica(at)));
        Ok(())
    }

    /// The process looks at what has come, makes a turn of it, and answers.
    pub(super) fn wake_replica(&mut self, at: usize) -> Check {
        let steps = [
            Self::reopen_replica,
            Self::take_inbox,
            Self::pass_time,
            Self::turn_replica,
            Self::transmit_replica,
        ];
        for step in steps {
            if self.replicas[at].asleep || self.replicas[at].process.is_none() {
                return Ok(());
            }
            step(self, at)?;
            self.strike_replica(at)?;
            self.maybe_crash(Node::Replica(at))?;
        }
        self.plan_wake(at);
        Ok(())
    }

    /// Takes the machine down if its disk says that it went down.
    pub(super) fn strike_replica(&mut self, at: usize) -> Check {
        match self.replicas[at].disk.struck() {
            Some(strike) => self.crash_replica(at, strike),
            None => Ok(()),
        }
    }

    /// The process ends where it stands, and starts again some time later.
    pub(super) fn crash_replica(&mut self, at: usize, strike: Strike) -> Check {
        let replica = &mut self.replicas[at];
        replica.disk.go_down(strike, &mut self.random);
        let Some(process) = replica.process.take() else { return Ok(()) };
        if let Some(id) = process.connection() {
            match strike {
                Strike::Kill => {
                    self.net.close(self.now, &mut self.agenda, &self.faults, id, Side::Replica);
                }
                Strike::PowerLoss => self.net.vanish(self.now, &mut self.agenda, id, Side::Replica),
            }
        }
        for (id, _) in &process.queued {
            self.ledger.set_fate(*id, Fate::NotMade);
        }
        drop(process);
        self.note(format_args!("replica {at} goes down: {strike:?}"));
        let wait = if self.calm { 10 } else { self.random.between(10, 20_000) };
        self.agenda.at(self.now + wait, Event::Start(Node::Replica(at)));
        Ok(())
    }

    /// A connection attempt has an answer.
    pub(super) fn dialled(&mut self, at: usize, attempt: u64, connection: Option<u64>) -> Check {
        let now = self.now;
        let waits = self.replicas[at]
            .process
            .as_ref()
            .is_some_and(|process| process.link == Link::Dialling(attempt));
        match connection {
            Some(id) if waits && self.net.is_open(id, Side::Replica) => {
                let local = now + self.replicas[at].skew_ms;
                let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
                process.inbox.clear();
                process.link = Link::Connected(id);
                if process.reopen_at.is_some() {
                    self.redial(at, 0, "the file is not open");
                } else if let Err(error) = process.engine.handle_connected(local, RELAY, None) {
                    self.fail_replica(at, &error)?;
                }
            }
            Some(id) => {
                self.net.close(now, &mut self.agenda, &self.faults, id, Side::Replica);
                if waits {
                    self.redial(at, 0, "closed at once");
                }
            }
            None if waits => self.redial(at, 0, "refused"),
            None => {}
        }
        self.agenda.wake(now, Node::Replica(at));
        self.strike_replica(at)
    }

    /// Something came out of the connection to the relay.
    pub(super) fn arrive_at_replica(&mut self, at: usize, connection: u64, parcel: Parcel) {
        let Some(process) = &mut self.replicas[at].process else { return };
        if process.link == Link::Connected(connection) {
            process.inbox.push_back(parcel);
            let soon = if self.random.chance(500) { 0 } else { self.random.below(30) };
            self.agenda.wake(self.now + soon, Node::Replica(at));
        }
    }

    /// The connection has room again.
    pub(super) fn drained_to_relay(&mut self, at: usize) {
        if let Some(process) = &mut self.replicas[at].process
            && std::mem::take(&mut process.is_full)
        {
            self.agenda.wake(self.now, Node::Replica(at));
        }
    }

    fn reopen_replica(&mut self, at: usize) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return Ok(()) };
        if process.reopen_at.is_none_or(|due| due > local) {
            return Ok(());
        }
        process.engine.store().close();
        let opened = open_database(&replica.disk)
            .map_err(Box::from)
            .and_then(|database| process.engine.store().reopen(database).map_err(Box::from))
            .and_then(|()| process.engine.handle_reopened().map_err(Box::from));
        let opened: Result<(), Box<dyn Error>> = opened;
        match opened {
            Ok(()) => {
                process.reopen_at = None;
                process.seen.clear();
                self.note(format_args!("replica {at} has its file open again"));
                self.check_pushed(at)?;
                self.settle_outbox(at)
            }
            Err(error) if replica.disk.struck().is_none() && replica.disk.injected() == 0 => {
                Err(Failed(format!("replica {at} does not reopen: {}", explain(&*error))))
            }
            Err(_) => {
                process.reopen_at = Some(local + REOPEN_MS);
                Ok(())
            }
        }
    }

    fn take_inbox(&mut self, at: usize) -> Check {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
            match process.inbox.pop_front() {
                None => return Ok(()),
                Some(Parcel::Closed(reason)) => {
                    self.redial(at, 0, reason);
                    return Ok(());
                }
                Some(Parcel::Message(message)) => {
                    if let Err(error) = process.engine.handle_message(&message) {
                        let error = explain(&error);
                        if !self.faults.mangle() {
                            let wrong = format!("the relay broke the protocol to {at}: {error}");
                            return Err(Failed(wrong));
                        }
                        self.redial(at, 0, &error);
                        return Ok(());
                    }
                }
            }
        }
        self.agenda.wake(self.now, Node::Replica(at));
        Ok(())
    }

    fn pass_time(&mut self, at: usize) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
        if process.idle_at <= local && process.reopen_at.is_none() {
            process.idle_at = local + IDLE_CHECK_MS;
            if let Err(error) = process.engine.handle_idle(local) {
                return self.fail_replica(at, &error);
            }
        }
        if let Err(error) = process.engine.handle_timeout(local) {
            let error = error.to_string();
            self.redial(at, 0, &error);
            return Ok(());
        }
        if let Link::Waiting(due) = process.link
            && due <= local
        {
            process.engine.set_dialling(true, None);
            self.dial(at);
        }
        Ok(())
    }

    fn dial(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.attempts += 1;
        let attempt = replica.attempts;
        if let Some(process) = &mut replica.process {
            process.link = Link::Dialling(attempt);
        }
        if replica.offline_until > self.now {
            let wait = self.random.between(1, 10_000);
            let dialled = Event::Dialled { replica: at, attempt, connection: None };
            self.agenda.at(self.now + wait, dialled);
            return;
        }
        let wait = self.net.delay(&self.faults);
        self.agenda.at(self.now + wait, Event::Knock { replica: at, attempt });
    }

    fn turn_replica(&mut self, at: usize) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        let unix_s = self.unix_s(self.replicas[at].calendar_s);
        let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
        if process.reopen_at.is_some() {
            return Ok(());
        }
        let (ids, edits): (Vec<_>, Vec<_>) =
            std::mem::take(&mut process.queued).into_iter().unzip();
        let before = process.engine.status().clone();
        let turned = process.engine.turn(local, unix_s, edits);
        let early = process.engine.take_early();
        let status = process.engine.status();
        let news = before != *status || !ids.is_empty();
        let connection = process.connection();
        for message in early {
            if let Some(id) = connection {
                self.send_to_relay(at, id, message)?;
            }
        }
        match turned {
            Ok(results) => {
                for (id, result) in ids.into_iter().zip(results) {
                    self.edited(at, id, result)?;
                }
                if news {
                    self.settle_outbox(at)?;
                }
                self.notice_loss(at)
            }
            Err(error) => {
                ids.iter().for_each(|id| self.ledger.set_fate(*id, Fate::Unknown));
                self.fail_replica(at, &error)
            }
        }
    }

    /// A turn can commit, and lose the store just after.
    fn notice_loss(&mut self, at: usize) -> Check {
        let process = self.replicas[at].process.as_ref();
        let lost =
            process.is_some_and(|process| process.engine.is_lost() && process.reopen_at.is_none());
        match lost {
            true => self.fail_replica(at, &std::io::Error::other("the store failed after a turn")),
            false => Ok(()),
        }
    }

    fn transmit_replica(&mut self, at: usize) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        loop {
            let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
            let Link::Connected(id) = process.link else { return Ok(()) };
            if process.reopen_at.is_some() {
                return Ok(());
            }
            if !self.net.has_room(id, Side::Relay, &self.faults) {
                process.is_full = true;
                return Ok(());
            }
            match process.engine.poll_transmit(local) {
                Ok(Some(message)) => self.send_to_relay(at, id, message)?,
                Ok(None) => break,
                Err(error) => return self.fail_replica(at, &error),
            }
            self.maybe_crash(Node::Replica(at))?;
        }
        let Some(process) = &mut self.replicas[at].process else { return Ok(()) };
        if process.engine.status().link == LinkStatus::Safe {
            process.attempts_in_vain = 0;
        }
        if let Some(closing) = process.engine.poll_close().cloned() {
            self.redial(at, closing.retry_after_ms, &closing.reason);
        }
        Ok(())
    }

    /// Gives the connection up and waits to dial again.
    pub(super) fn redial(&mut self, at: usize, retry_after_ms: u64, reason: &str) {
        let local = self.now + self.replicas[at].skew_ms;
        let Some(process) = &mut self.replicas[at].process else { return };
        process.engine.handle_disconnected();
        process.engine.set_dialling(true, Some(reason.to_owned()));
        process.inbox.clear();
        let bound = (500 << process.attempts_in_vain.min(6)).min(REDIAL_MS_MAX);
        process.attempts_in_vain += 1;
        let wait = self.random.below(bound + 1).max(retry_after_ms);
        let link = std::mem::replace(&mut process.link, Link::Waiting(local + wait));
        self.note(format_args!("replica {at} redials in {wait}: {reason}"));
        if let Link::Connected(id) = link {
            self.net.close(self.now, &mut self.agenda, &self.faults, id, Side::Replica);
        }
    }

    /// The store failed: what is loaded may not be what is stored, so the file is opened again.
    pub(super) fn fail_replica(&mut self, at: usize, error: &dyn Error) -> Check {
        let replica = &mut self.replicas[at];
        if replica.disk.struck().is_some() {
            return Ok(());
        }
        if replica.disk.injected() == 0 {
            return Err(Failed(format!("replica {at} failed: {}", explain(error))));
        }
        let Some(process) = &mut replica.process else { return Ok(()) };
        process.engine.forget();
        process.engine.store().close();
        process.reopen_at = Some(self.now + replica.skew_ms);
        self.redial(at, REOPEN_MS, &explain(error));
        self.agenda.wake(self.now, Node::Replica(at));
        Ok(())
    }

    fn edited(
        &mut self,
        at: usize,
        id: EditId,
        result: Result<EditOutcome, rejoin::EditError>,
    ) -> Check {
        let edited = match result {
            Ok(edited) => edited,
            Err(error) => {
                self.ledger.set_fate(id, Fate::NotMade);
                let unexpected = matches!(
                    error,
                    rejoin::EditError::Unreadable { .. } | rejoin::EditError::Type { .. }
                );
                let error = explain(&error);
                self.note(format_args!("replica {at} refuses edit {id}: {error}"));
                return match unexpected {
                    true => Err(Failed(format!("edit {id} failed at {at}: {error}"))),
                    false => Ok(()),
                };
            }
        };
        if !edited.changed() {
            return Err(Failed(format!("edit {id} at {at} changed nothing")));
        }
        self.edits_made += 1;
        let EditOutcome { document, heads, outbox, .. } = edited;
        self.ledger.keep(id, document, heads.clone(), outbox.is_some());
        let replica = &mut self.replicas[at];
        if let Some(key) = outbox {
            replica.waiting.insert(id, (key, document));
        }
        let Some(process) = &mut replica.process else { return Ok(()) };
        let seen = process.seen.entry(document).or_default();
        seen.push_back(heads);
        if seen.len() > 12 {
            seen.pop_front();
        }
        Ok(())
    }

    /// Notes which edits left the outbox, and what was set aside.
    fn settle_outbox(&mut self, at: usize) -> Check {
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return Ok(()) };
        if process.reopen_at.is_some() || replica.disk.struck().is_some() {
            return Ok(());
        }
        let store = Arc::clone(process.engine.store());
        let settled = (|| -> Result<(), rejoin_engine::store::StoreError> {
            let view = store.read()?;
            for (key, row) in view.set_aside()? {
                if key <= replica.set_aside_seen {
                    continue;
                }
                replica.set_aside_seen = key;
                replica.rekeyed.insert(row.document);
                let ids = tokens_in(&row.chunk);
                let anew = if row.authored_anew { "to make it anew" } else { "for good" };
                let (hash, document, reason) = (row.hash, row.document, &row.reason);
                self.trace.note(
                    self.now,
                    format_args!(
                        "replica {at} sets {ids:?} aside {anew}: {hash} of {document}: {reason}"
                    ),
                );
                for id in ids {
                    self.ledger.set_aside(id, !row.authored_anew);
                }
                if !row.authored_anew && is_undo(&row.chunk) {
                    self.ledger.tear(&row.document);
                }
            }
            let keys: BTreeSet<_> =
                view.outbox(0, usize::MAX)?.iter().map(|(key, _)| *key).collect();
            let mut settled = Vec::new();
            for (id, (key, document)) in &replica.waiting {
                if keys.contains(key) {
                    continue;
                }
                if !replica.rekeyed.contains(document) || view.waiting(document)?.is_empty() {
                    settled.push(*id);
                }
            }
            for id in settled {
                replica.waiting.remove(&id);
                self.ledger.acknowledge(id);
            }
            Ok(())
        })();
        match settled {
            Ok(()) => Ok(()),
            Err(error) => self.fail_replica(at, &error),
        }
    }

    /// Nothing that ever left the device may be missing on it.
    fn check_pushed(&mut self, at: usize) -> Check {
        let local = self.now + self.replicas[at].skew_ms;
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return Ok(()) };
        let mut documents: BTreeMap<DocumentId, BTreeSet<ChangeHash>> = BTreeMap::new();
        for (document, hash) in &replica.pushed {
            documents.entry(*document).or_default().insert(*hash);
        }
        for (document, hashes) in documents {
            if self.erased.contains_key(&document) {
                continue;
            }
            match process.engine.value_at(local, &document, None) {
                Ok(_) | Err(rejoin::ReadError::NotFound) => {}
                Err(error) => return self.fail_replica(at, &error),
            }
            let aside = match process.engine.store().read().and_then(|view| view.set_aside()) {
                Ok(rows) => rows.into_iter().map(|(_, row)| row.hash).collect::<BTreeSet<_>>(),
                Err(error) => return self.fail_replica(at, &error),
            };
            let held = |hash: &ChangeHash| process.engine.holds(&document, hash);
            let lost = hashes.iter().find(|hash| !held(hash) && !aside.contains(hash));
            if let Some(hash) = lost {
                let wrong =
                    format!("replica {at} pushed {hash} of {document} and does not hold it");
                return Err(Failed(wrong));
            }
        }
        Ok(())
    }

    fn plan_wake(&mut self, at: usize) {
        let replica = &self.replicas[at];
        let Some(process) = &replica.process else { return };
        let dial = match process.link {
            Link::Waiting(due) => Some(due),
            _ => None,
        };
        let timeout = process.engine.poll_timeout();
        let idle = Some(process.idle_at).filter(|_| process.reopen_at.is_none());
        let more = process.engine.has_messages() && process.reopen_at.is_none();
        let due = [idle, dial, timeout, process.reopen_at, more.then_some(0)];
        if let Some(due) = due.into_iter().flatten().min() {
            let at_world = due.saturating_sub(replica.skew_ms).max(self.now + 1);
            self.agenda.wake(at_world, Node::Replica(at));
        }
    }
}

/// Opens the file on a disk.
pub(super) fn open_database(disk: &Disk) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk.open())
}

/// The relay's address.
pub(super) const RELAY: &str = "ws://relay/sync";

/// How often unused documents are looked for.
const IDLE_CHECK_MS: u64 = 5000;

/// How long until a file that failed is opened again.
pub(super) const REOPEN_MS: u64 = 500;

/// How long until a relay that was not there is dialled again, at most.
const REDIAL_MS_MAX: u64 = 20_000;

/// Messages taken into one turn.
const MESSAGES_PER_TURN: usize = 256;

/// Small, so that reads reach the disk and can fail.
const CACHE_BYTES: usize = 256 << 10;

/// Whether a change takes others back.
fn is_undo(chunk: &[u8]) -> bool {
    let parsed = change::parse(chunk).ok();
    parsed.is_some_and(|change| change.message().and_then(Undo::from_message).is_some())
}
