//! The thread that owns the engine and its store: it takes the connections' messages, makes a turn,
//! and gives them as many frames as they can take.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rejoin_core::SpaceName;
use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::wire::{Bye, ByeCode, Frame};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use tracing::field::display;

use super::ServeError;
use super::admin;
use super::command::{Batch, Command, Deed, Health, Protocol};
use super::compactor::Compactor;
use super::doors::{Doors, Entrance};
use super::fair::FairQueue;
use super::file::Written;
use super::limits::Limits;
use super::link::Links;
use super::metrics::{Look, Meters};
use super::room::Charge;
use crate::access::{Principal, TokenError};
use crate::compaction::CompactionError;
use crate::relay::{Close, ConnectionId, Counters, Notice, Relay, SignIn, Visitor};
use crate::store::{StoreError, unpanicked};

/// Opens the relay's store.
pub(super) type OpenStore = Box<dyn FnMut() -> Result<Relay, ServeError> + Send>;

/// The state of the engine's thread. When it is dropped, the relay is closed before the means that
/// opened it.
pub(super) struct Driver {
    queue: Receiver<Command>,
    /// `None` while the store cannot be written, and once the relay stops.
    relay: Option<Relay>,
    open: OpenStore,
    reopening: Reopening,
    compactor: Option<Compactor>,
    is_folding: bool,
    links: Links,
    /// The deeds of connections that are not handled yet.
    unhandled: FairQueue<Deed>,
    /// The connections that can take frames, and may have some to take.
    untold: FairQueue<()>,
    started: Instant,
    /// The time of the last commit.
    committed: Instant,
    batch_bytes: usize,
    /// `None` while they are those that the store is opened with.
    limits: Option<Limits>,
    /// `None` where everybody may come in without a token.
    doors: Option<Doors>,
    /// Those whose tokens are signed with a key that is not known yet.
    waiting: Vec<SignIn>,
    /// Asks for the keys of the login.
    unknown: Sender<()>,
    told_by: Told,
    /// The time at which the log was last told how much was stored.
    told: Instant,
    stage: Stage,
}

/// What is counted for the operator.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) written: Written,
    pub(super) meters: Arc<Meters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Leaving,
    Stopped,
}

/// The time to try and open the store again.
struct Reopening {
    at: Instant,
    delay: Duration,
}

impl Driver {
    pub(super) fn new(
        queue: Receiver<Command>,
        open: OpenStore,
        relay: Relay,
        compactor: Option<Compactor>,
        batch_bytes: usize,
        told_by: Told,
        entrance: Entrance,
    ) -> Self {
        let now = Instant::now();
        let Entrance { doors, unknown } = entrance;
        let mut driver = Self {
            queue,
            open,
            relay: Some(relay),
            reopening: Reopening { at: now, delay: REOPEN_DELAY_MIN },
            compactor,
            is_folding: false,
            links: Links::default(),
            unhandled: FairQueue::default(),
            untold: FairQueue::default(),
            started: now,
            committed: now,
            batch_bytes,
            limits: None,
            doors,
            waiting: Vec::new(),
            unknown,
            told_by,
            told: now,
            stage: Stage::Serving,
        };
        driver.rule();
        driver
    }

    pub(super) fn spawn(self) -> io::Result<thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = thread::Builder::new().name("rejoin-engine".to_owned());
        thread.spawn(move || runtime.block_on(self.run()))
    }

    async fn run(mut self) {
        while self.stage != Stage::Stopped {
            self.receive().await;
            let charges = self.handle_some();
            self.turn();
            self.sign_in();
            self.transmit();
            self.fold_next();
            self.tell_notices();
            for (charge, at) in charges {
                self.told_by.meters.handled(at.elapsed());
                drop(charge);
            }
            if self.told.elapsed() > TOLD_EVERY {
                self.tell_stored();
            }
        }
    }

    /// Puts into the log how much was stored since the store was opened, and how many bytes the
    /// disk had to write for it since the relay started: a disk lives for a number of bytes.
    fn tell_stored(&mut self) {
        self.told = Instant::now();
        let Some(relay) = &self.relay else { return };
        let Counters { changes_kept, bytes_kept, commits, .. } = *relay.totals();
        let written = self.told_by.written.load(Ordering::Relaxed);
        tracing::info!(
            changes = changes_kept,
            bytes = bytes_kept,
            commits,
            written,
            "stored so far"
        );
    }

    /// Puts into the log who has gone, from where, and how long and for how much they were here.
    fn tell_session(&self, id: ConnectionId) {
        let Some(link) = self.links.get(id) else { return };
        let visitor = self.relay.as_ref().and_then(|relay| relay.visitor(id)).unwrap_or_default();
        let Visitor { device, peer, user, app, spaces, changes, .. } = visitor;
        let spaces: Vec<_> = spaces.iter().map(SpaceName::as_str).collect();
        tracing::info!(
            conn = id.0,
            remote = %link.remote,
            device = device.map(display),
            peer,
            user,
            app,
            spaces = spaces.join(" "),
            seconds = link.since.elapsed().as_secs(),
            changes,
            messages_in = link.came.messages,
            bytes_in = link.came.bytes,
            messages_out = link.went.messages,
            bytes_out = link.went.bytes,
            "session ended"
        );
    }

    /// Puts breaches of the protocol into the log.
    fn tell_notices(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        tell_notices(relay, &self.links);
    }

    /// Waits for something to do and takes all there is, within reason.
    async fn receive(&mut self) {
        let due = self.due();
        tokio::select! {
            biased;
            command = self.queue.recv() => match command {
                Some(command) => self.handle(command),
                None => self.stage = Stage::Stopped,
            },
            () = wait_until(due) => {}
        }
        for _ in 0..TURN_COMMANDS_MAX {
            let Ok(command) = self.queue.try_recv() else { break };
            self.handle(command);
        }
    }

    /// Handles deeds of connections, for a part of a turn. The memory that is charged for messages
    /// may be free again when the turn is over.
    fn handle_some(&mut self) -> Vec<(Charge, Instant)> {
        let begun = Instant::now();
        let (mut now, mut charges) = (begun, Vec::new());
        while now - begun < TURN_HANDLES_FOR
            && let Some((id, deed)) = self.unhandled.pop()
        {
            charges.extend(self.handle_deed(id, deed));
            let before = std::mem::replace(&mut now, Instant::now());
            self.unhandled.took(id, now - before);
        }
        charges
    }

    fn handle_deed(&mut self, id: ConnectionId, deed: Deed) -> Option<(Charge, Instant)> {
        match deed {
            Deed::Message { bytes, charge, at } => {
                if let Some(link) = self.links.get_mut(id) {
                    link.came.add(1, bytes.len());
                }
                self.with_relay(|relay| relay.handle_message(id, bytes));
                return Some((charge, at));
            }
            Deed::Violation(violation) => {
                self.with_relay(|relay| relay.handle_violation(id, &violation));
            }
            Deed::Disconnected => {
                self.tell_session(id);
                self.with_relay(|relay| relay.handle_disconnected(id));
                self.tell_notices();
                self.links.remove(id);
                self.unhandled.forget(id);
                self.untold.forget(id);
                self.waiting.retain(|it| it.connection != id);
            }
        }
        None
    }

    /// The time at which there is work even if nothing is received.
    fn due(&self) -> Option<Instant> {
        match &self.relay {
            _ if !self.unhandled.is_empty() => Some(self.started),
            Some(relay) if relay.has_ready() || !self.untold.is_empty() => Some(self.started),
            Some(relay) => relay.poll_timeout().map(|ms| self.started + Duration::from_millis(ms)),
            None => (self.stage == Stage::Serving).then_some(self.reopening.at),
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Connected { id, protocol, principal, remote, frames, account } => {
                self.links.add(id, remote, frames, account);
                self.connected(id, protocol, principal);
            }
            Command::Writable { id } => self.writable(id),
            Command::Did { id, deed } => self.unhandled.push(id, deed),
            Command::Compacted(result) => {
                self.is_folding = false;
                self.with_relay(|relay| relay.handle_compacted(result));
            }
            Command::TakenApart(id, result) => {
                self.with_relay(|relay| relay.handle_taken_apart(id, result));
            }
            Command::Health { answer } => self.answer_health(answer),
            Command::Moment { answer } => {
                // Without a store the sender is dropped, which tells that there is none.
                if let Some(relay) = &self.relay {
                    _ = answer.send(unpanicked(|| relay.store().moment()));
                }
            }
            Command::Admin { ask, answer } => {
                let Some(relay) = &mut self.relay else { return };
                match unpanicked(|| Ok(admin::answer(relay, &self.links, &ask))) {
                    Ok(answered) => _ = answer.send(answered),
                    Err(error) => self.fail(&error),
                }
            }
            Command::Doors(doors) => self.open_doors(doors),
            Command::Limits(limits) => {
                self.limits = Some(limits);
                self.limit();
            }
            // Whoever asked may have gone meanwhile.
            Command::Look { answer } => _ = answer.send(self.look()),
            Command::Goodbye => self.leave(),
            Command::Stop => self.stage = Stage::Stopped,
        }
    }

    fn with_relay(&mut self, tell: impl FnOnce(&mut Relay)) {
        if let Some(relay) = &mut self.relay {
            tell(relay);
        }
    }

    fn connected(&mut self, id: ConnectionId, protocol: Protocol, principal: Option<Principal>) {
        let now = self.now();
        match (&mut self.relay, protocol) {
            (Some(relay), Protocol::Rejoin) => relay.handle_connected(now, id),
            (Some(relay), Protocol::AutomergeRepo(space)) => {
                relay.handle_peer_connected(now, id, space, principal);
            }
            (None, protocol) if self.stage == Stage::Serving => {
                self.links.end(id, farewell(&protocol, UNAVAILABLE));
            }
            (None, protocol) => self.links.end(id, farewell(&protocol, STOPPING)),
        }
    }

    fn writable(&mut self, id: ConnectionId) {
        let Some(took) = self.links.written(id) else { return };
        let Some(link) = self.links.get_mut(id) else { return };
        link.batch_bytes = match took {
            took if took < WRITTEN_FAST => (link.batch_bytes * 2).min(self.batch_bytes),
            took if took > WRITTEN_SLOWLY => PIECE_BYTES.min(self.batch_bytes),
            _ => link.batch_bytes,
        };
        if std::mem::take(&mut link.is_waiting) {
            self.untold.push(id, ());
        }
    }

    fn answer_health(&mut self, answer: oneshot::Sender<Health>) {
        let Some(relay) = &mut self.relay else { return };
        if self.committed.elapsed() > PROBE_AFTER {
            match unpanicked(|| relay.probe()) {
                Ok(()) => self.committed = Instant::now(),
                Err(error) => return self.fail(&error),
            }
        }
        let sessions = self.links.len();
        let _ = answer.send(Health { sessions });
    }

    fn look(&self) -> Look {
        let (behind, behind_most) = self.relay.as_ref().map_or((0, 0), Relay::behind);
        Look {
            counters: self.relay.as_ref().map(Relay::counters),
            connections: self.links.len(),
            behind_most,
            behind,
            store_bytes: 0,
            written_bytes: self.told_by.written.load(Ordering::Relaxed),
        }
    }

    fn turn(&mut self) {
        let now = self.now();
        let Some(relay) = &mut self.relay else { return self.reopen() };
        relay.handle_timeout(now);
        let before = *relay.totals();
        let span = tracing::debug_span!(
            "turn",
            pushes = tracing::field::Empty,
            changes = tracing::field::Empty,
            commit_ms = tracing::field::Empty
        );
        let begun = Instant::now();
        let turned = span.in_scope(|| unpanicked(|| relay.turn(now, unix_ms())));
        let after = relay.totals();
        if after.commits > before.commits {
            self.committed = Instant::now();
            span.record("pushes", after.pushes - before.pushes);
            span.record("changes", after.changes_kept - before.changes_kept);
            span.record("commit_ms", begun.elapsed().as_secs_f64() * 1000.0);
            span.in_scope(|| tracing::debug!("turn committed"));
            let changes = after.changes_kept - before.changes_kept;
            self.told_by.meters.committed(changes, begun.elapsed());
        }
        if let Err(error) = turned {
            self.fail(&error);
        }
    }

    /// Gives frames to connections that can take more, for a part of a turn.
    fn transmit(&mut self) {
        let now = self.now();
        let Some(relay) = &mut self.relay else { return };
        while let Some(id) = relay.poll_ready() {
            let Some(link) = self.links.get_mut(id) else { continue };
            if !link.is_writable() {
                link.is_waiting = true;
            } else if !self.untold.contains(id) {
                self.untold.push(id, ());
            }
        }
        let begun = Instant::now();
        let mut passed = begun;
        while passed - begun < TURN_TELLS_FOR
            && let Some((id, ())) = self.untold.pop()
        {
            let Some(link) = self.links.get(id) else { continue };
            let budget = self.links.batch_bytes(link);
            let frames = match unpanicked(|| Ok(relay.poll_transmit(now, id, budget))) {
                Ok(frames) => frames,
                // The disk may be damaged where it concerns everybody.
                Err(error) => return self.fail(&error),
            };
            let batch = Batch { frames, close: relay.poll_close(id), ..Batch::default() };
            if !batch.is_empty() {
                self.links.give(id, batch);
            }
            for id in self.links.give_up_slowest() {
                tracing::debug!(conn = id.0, "given up: it takes much more slowly than others");
            }
            let before = std::mem::replace(&mut passed, Instant::now());
            self.untold.took(id, passed - before);
        }
    }

    fn fold_next(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        while let Some(upload) = relay.poll_upload() {
            let id = upload.id;
            let is_given = self.compactor.as_ref().is_some_and(|it| it.take_apart(upload));
            if !is_given {
                relay.handle_taken_apart(id, Err(CompactionError::NoWorker));
            }
        }
        let Some(compactor) = &self.compactor else { return };
        if self.is_folding {
            return;
        }
        match unpanicked(|| Ok(relay.poll_compaction())) {
            Ok(Some(input)) => {
                self.is_folding = true;
                compactor.fold(input);
            }
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// The store failed: ends every session, closes it, and tries again soon.
    fn fail(&mut self, error: &StoreError) {
        let delay_ms = self.reopening.delay.as_millis() as u64;
        tracing::error!(error = error as &dyn std::error::Error, delay_ms, "store failed");
        self.part(UNAVAILABLE);
        self.reopening.at = Instant::now() + self.reopening.delay;
        self.reopening.delay = (self.reopening.delay * 2).min(REOPEN_DELAY_MAX);
    }

    fn reopen(&mut self) {
        if self.stage != Stage::Serving || Instant::now() < self.reopening.at {
            return;
        }
        match (self.open)() {
            Ok(mut relay) => {
                tracing::info!("store reopened");
                relay.hold_overwrite(self.now());
                self.relay = Some(relay);
                self.rule();
                self.limit();
                self.committed = Instant::now();
                self.reopening.delay = REOPEN_DELAY_MIN;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "store not reopened");
                self.reopening.at = Instant::now() + self.reopening.delay;
                self.reopening.delay = (self.reopening.delay * 2).min(REOPEN_DELAY_MAX);
            }
        }
    }

    /// From now on these rules and keys count, also for those whose tokens wait for a key.
    fn open_doors(&mut self, doors: Doors) {
        let waiting = std::mem::take(&mut self.waiting);
        self.doors = Some(doors);
        self.rule();
        for sign_in in waiting {
            self.look_at(&sign_in, false);
        }
    }

    /// Hands the rules to the relay, also to one whose store was opened again.
    fn rule(&mut self) {
        if let (Some(relay), Some(doors)) = (&mut self.relay, &self.doors) {
            relay.handle_rules(Arc::clone(&doors.rules), doors.is_other_login);
        }
    }

    /// Looks at the tokens of those who want to come in.
    fn sign_in(&mut self) {
        while let Some(sign_in) = self.relay.as_mut().and_then(Relay::poll_sign_in) {
            self.look_at(&sign_in, true);
        }
    }

    /// Looks at a token. One whose key is not known waits until the login was asked, if it can be.
    fn look_at(&mut self, sign_in: &SignIn, may_ask: bool) {
        let (Some(relay), Some(doors)) = (&mut self.relay, &self.doors) else { return };
        let signed_in = doors.verify(&sign_in.token, unix_ms() / 1000);
        let is_unknown = matches!(signed_in, Err(TokenError::UnknownKey));
        if is_unknown && may_ask && doors.may_ask && self.waiting.len() < WAITING_MAX {
            // Somebody asks already if there is no room.
            let _ = self.unknown.try_send(());
            self.waiting.push(sign_in.clone());
            return;
        }
        relay.handle_signed_in(sign_in.connection, signed_in);
    }

    /// Hands the limits that changed to the relay, also to one whose store was opened again.
    fn limit(&mut self) {
        if let (Some(relay), Some(limits)) = (&mut self.relay, &self.limits) {
            relay.handle_quotas(limits.space_documents_max, limits.space_bytes_max);
        }
    }

    /// The relay stops: pushes that came are still committed and answered, then every connection is
    /// closed.
    fn leave(&mut self) {
        while !self.unhandled.is_empty() {
            drop(self.handle_some());
        }
        self.turn();
        self.part(STOPPING);
        self.stage = Stage::Leaving;
    }

    /// Gives every connection its last frames and closes the store. A connection that cannot take
    /// them yet gets them when it can.
    fn part(&mut self, (code, message): (ByeCode, &'static str)) {
        self.tell_stored();
        let now = self.now();
        let Some(mut relay) = self.relay.take() else { return };
        if let Err(error) = unpanicked(|| relay.note_everybody(unix_ms())) {
            tracing::debug!(error = &error as &dyn std::error::Error, "devices not noted");
        }
        relay.stop(code, message, |_| retry_after_ms());
        tell_notices(&mut relay, &self.links);
        for id in self.links.ids() {
            let last = unpanicked(|| Ok(relay.poll_transmit(now, id, usize::MAX)));
            let frames = last.unwrap_or_default();
            self.links.end(id, Batch { frames, close: relay.poll_close(id), ..Batch::default() });
        }
        // A database whose pages are damaged may panic when it is closed, too.
        let closed = unpanicked(move || {
            drop(relay);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store did not close in order"
            );
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.close.is_none()
    }
}

fn tell_notices(relay: &mut Relay, links: &Links) {
    while let Some(notice) = relay.poll_notice() {
        let Notice { connection, device, peer, breach, what, count, since_ms, is_first } = notice;
        let remote = connection.and_then(|id| links.get(id)).map(|link| display(link.remote));
        let (conn, device) = (connection.map(|id| id.0), device.map(display));
        let (breach, seconds) = (breach.name(), since_ms / 1000);
        if is_first {
            tracing::warn!(
                conn,
                remote,
                device,
                peer,
                breach,
                what,
                count,
                "breach of the protocol"
            );
        } else {
            tracing::warn!(conn, remote, device, peer, breach, count, seconds, "it goes on");
        }
    }
}

/// The frames for a connection that comes when there is no engine.
fn farewell(protocol: &Protocol, (code, message): (ByeCode, &'static str)) -> Batch {
    let message = message.to_owned();
    let bye = Bye { code, message: message.clone(), retry_after_ms: retry_after_ms() };
    let frames = match protocol {
        Protocol::Rejoin => vec![Frame::Bye(bye).encode()],
        // Peers dial again after any message.
        Protocol::AutomergeRepo(_) => Vec::new(),
    };
    Batch { frames, close: Some(Close { code, message }), ..Batch::default() }
}

/// Spreads the return of replicas that were sent away together.
fn retry_after_ms() -> u32 {
    rand::random_range(500..2500)
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

const UNAVAILABLE: (ByeCode, &str) =
    (ByeCode::Unavailable, "the relay cannot store at present; nothing acknowledged is lost");
const STOPPING: (ByeCode, &str) = (ByeCode::Stopping, "the relay stops; dial again");

/// The time between two lines in the log that tell how much was stored.
const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// The time for which deeds of connections are handled before a turn, beside the last that was
/// begun: an edit waits no longer before it is stored.
const TURN_HANDLES_FOR: Duration = Duration::from_millis(10);

/// The time for which connections are given frames after a turn, beside the last that was begun.
const TURN_TELLS_FOR: Duration = Duration::from_millis(10);

/// Commands taken before a turn.
const TURN_COMMANDS_MAX: usize = 1024;

/// After so long without a commit, health is only known by trying.
const PROBE_AFTER: Duration = Duration::from_secs(5);

const REOPEN_DELAY_MIN: Duration = Duration::from_millis(100);
const REOPEN_DELAY_MAX: Duration = Duration::from_secs(5);

/// A batch that is written so soon may be followed by a larger one.
const WRITTEN_FAST: Duration = Duration::from_millis(20);

/// A batch that takes so long was too large.
const WRITTEN_SLOWLY: Duration = Duration::from_millis(200);

/// Connections that may wait for the keys of the login at once.
const WAITING_MAX: usize = 4096;
