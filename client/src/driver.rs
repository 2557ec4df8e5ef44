//! The thread that owns a replica's engine: it takes edits from handles and messages from the
//! relay, makes one commit of all that have come, and answers. It runs a private runtime, so an
//! application needs none, and may run any.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use crate::applying::Applying;
use crate::dial::{self, Backoff, Connection, DialError, Dialled, Incoming, Target};
use crate::file::{OpenError, ReplicaFile, open_database, unpanicked};
use crate::relay::{renew_in_ms, to_engine};
use rejoin_core::wire::ByeCode;
use rejoin_engine::store::{Store, StoreError};
use rejoin_engine::{
    Closing, Counters, Edit, EditError, EditOutcome, Engine, EngineError, EngineOptions, Link,
    SignOutError, Status,
};

/// Something to be answered from the engine, at the time given in milliseconds.
pub(crate) type Question = Box<dyn FnOnce(&mut Engine, u64) -> Answer + Send>;

/// Tells the answer to whoever asked.
pub(crate) type Answer = Box<dyn FnOnce() + Send>;

/// A request of a handle to the thread.
pub(crate) enum Command {
    Edit(Box<Edit>, oneshot::Sender<Result<EditOutcome, EditError>>),
    Edits(Vec<Edit>, oneshot::Sender<Vec<Result<EditOutcome, EditError>>>),
    Ask(Question),
    Connect(Box<Target>),
    Disconnect,
    SignOut(bool, oneshot::Sender<Result<(), SignOutError>>),
    Close(oneshot::Sender<()>),
}

/// The answer of the thread when the file is open.
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) status: watch::Receiver<Status>,
}

/// Opens the file on a thread of its own and drives it until the last handle is gone.
pub(crate) fn spawn(
    file: ReplicaFile,
    options: EngineOptions,
    commands: mpsc::Receiver<Command>,
    opened: oneshot::Sender<Result<Opened, OpenError>>,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("rejoin-replica".to_owned());
    thread.spawn(move || {
        let (mut driver, handles) = match Driver::open(file, options, commands) {
            Ok(open) => open,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(source) => return drop(opened.send(Err(OpenError::Runtime(source)))),
        };
        if opened.send(Ok(handles)).is_ok() {
            runtime.block_on(driver.run());
        }
    })?;
    Ok(())
}

/// Does work that reads or writes the file. A damaged file may make redb panic, which ends neither
/// the thread nor the process.
fn fenced<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    unpanicked(work).unwrap_or_else(|reason| Err(StoreError::corrupt(reason).into()))
}

struct Driver {
    file: ReplicaFile,
    engine: Engine,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    started: Instant,
    relay: Option<Box<Target>>,
    /// The token to sign in with; `None` if one has to be fetched.
    token: Option<String>,
    /// When another one is to be fetched for the session that is open.
    renew_at: Option<u64>,
    fetching: Option<oneshot::Receiver<Result<String, String>>>,
    phase: ConnectionPhase,
    backoff: Backoff,
    /// The counts from before the connection was made.
    before: Counters,
    edits: Vec<Queued>,
    idle_at: u64,
    /// The reason why the connection ended, until everything that came over it is handled.
    ended: Option<String>,
    /// Set when the file has to be opened again: when to try.
    reopen_at: Option<u64>,
}

/// Edits of one command, and where their results go.
enum Queued {
    One(Box<Edit>, oneshot::Sender<Result<EditOutcome, EditError>>),
    Many(Vec<Edit>, oneshot::Sender<Vec<Result<EditOutcome, EditError>>>),
}

enum ConnectionPhase {
    /// No relay is wanted, or the file is not open.
    Idle,
    /// Waiting to dial.
    Waiting(u64),
    Dialling(oneshot::Receiver<Result<Dialled, DialError>>),
    Connected(Connection),
}

/// The event that woke the loop.
enum Woken {
    Command(Option<Command>),
    Dialled(Result<Dialled, DialError>),
    Fetched(Result<String, String>),
    Incoming(Option<Incoming>),
    Writable,
    Time,
}

impl Driver {
    fn open(
        file: ReplicaFile,
        options: EngineOptions,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(Self, Opened), OpenError> {
        let opened = unpanicked(|| Self::open_engine(&file, options));
        let (store, mut engine) = opened
            .unwrap_or_else(|reason| Err(OpenError::Damaged { path: file.path.clone(), reason }))?;
        let (mut applying, left) = Applying::open(&file.path);
        engine.note_applying(left, move |suspects| applying.note(suspects));
        let (status, watched) = watch::channel(engine.status().clone());
        let driver = Self {
            file,
            engine,
            commands,
            status,
            started: Instant::now(),
            relay: None,
            token: None,
            renew_at: None,
            fetching: None,
            phase: ConnectionPhase::Idle,
            backoff: Backoff::default(),
            before: Counters::default(),
            edits: Vec::new(),
            idle_at: IDLE_CHECK_MS,
            ended: None,
            reopen_at: None,
        };
        Ok((driver, Opened { store, status: watched }))
    }

    fn open_engine(
        file: &ReplicaFile,
        options: EngineOptions,
    ) -> Result<(Arc<Store>, Engine), OpenError> {
        let (database, path) = (open_database(file)?, &file.path);
        let store = Store::open(database, random_bytes())
            .map_err(|source| OpenError::Store { path: path.clone(), source })?;
        let store = Arc::new(store);
        let engine = Engine::new(Arc::clone(&store), options, random_bytes)
            .map_err(|source| OpenError::Engine { path: path.clone(), source: Box::new(source) })?;
        Ok((store, engine))
    }

    async fn run(&mut self) {
        loop {
            let woken = self.wait().await;
            let closing = match fenced(|| self.handle(woken)) {
                Ok(closing) => closing,
                Err(error) => {
                    self.fail(&error);
                    None
                }
            };
            // A question can find the store failing too; its asker has the error.
            if self.engine.is_lost() && self.reopen_at.is_none() {
                self.recover("the file failed");
            }
            if let Err(error) = fenced(|| self.turn()) {
                self.fail(&error);
            }
            // The relay's last word may have ended the session already, and counts then.
            if let Some(trouble) = self.ended.take()
                && matches!(self.phase, ConnectionPhase::Connected(_))
            {
                let closing = self.engine.poll_close().cloned();
                match closing {
                    Some(closing) => self.leave(closing),
                    None => self.redial(0, trouble),
                }
            }
            self.publish();
            if let Some(done) = closing {
                self.close().await;
                // The file is free before the caller hears of it.
                self.engine.store().close();
                let _ = done.send(());
                return;
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = self.started + Duration::from_millis(self.deadline());
        let blocked =
            matches!(&self.phase, ConnectionPhase::Connected(connection) if connection.is_full());
        let phase = &mut self.phase;
        tokio::select! {
            command = self.commands.recv() => Woken::Command(command),
            woken = wait_phase(phase, blocked) => woken,
            fetched = wait_token(&mut self.fetching) => Woken::Fetched(fetched),
            () = sleep_until(deadline.into()) => Woken::Time,
        }
    }

    fn deadline(&self) -> u64 {
        // While the socket takes no message, nothing has to be done on time.
        let full =
            matches!(&self.phase, ConnectionPhase::Connected(connection) if connection.is_full());
        let engine = if full { None } else { self.engine.poll_timeout() };
        let dial = match self.phase {
            ConnectionPhase::Waiting(at) => Some(at),
            _ => None,
        };
        // One turn takes only so many messages.
        let more = (self.engine.has_messages() || self.engine.is_behind()).then_some(0);
        [Some(self.idle_at), engine, dial, self.reopen_at, self.renew_at, more]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(0)
    }

    /// Handles the event that woke the loop and all others that have come already, so that one
    /// commit holds them all. Returns a reply when the replica is to close.
    fn handle(&mut self, woken: Woken) -> Result<Option<oneshot::Sender<()>>, EngineError> {
        match woken {
            Woken::Command(command) => {
                let mut next = command;
                for left in (0..COMMANDS_PER_TURN).rev() {
                    let Some(command) = next else { return Ok(Some(oneshot::channel().0)) };
                    if let Some(done) = self.handle_command(command) {
                        return Ok(Some(done));
                    }
                    // An event that is taken out and not handled would be lost.
                    if left == 0 {
                        break;
                    }
                    match self.commands.try_recv() {
                        Ok(command) => next = Some(command),
                        Err(_) => break,
                    }
                }
            }
            Woken::Dialled(dialled) => self.handle_dialled(dialled)?,
            Woken::Fetched(fetched) => self.handle_fetched(fetched),
            Woken::Incoming(incoming) => self.handle_incoming(incoming),
            Woken::Writable | Woken::Time => {}
        }
        self.handle_time()?;
        Ok(None)
    }

    fn handle_command(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Edit(edit, reply) => self.edits.push(Queued::One(edit, reply)),
            Command::Edits(edits, reply) => self.edits.push(Queued::Many(edits, reply)),
            Command::Ask(ask) => {
                let now = self.now();
                let answer = ask(&mut self.engine, now);
                // A caller that hears of what it did can see it in the status.
                self.publish();
                answer();
            }
            Command::Connect(relay) => {
                self.hang_up("another relay is wanted");
                self.relay = Some(relay);
                self.forget_token();
                self.backoff = Backoff::default();
                self.phase = ConnectionPhase::Waiting(self.now());
                self.engine.set_dialling(true, None);
                self.publish();
            }
            Command::Disconnect => {
                self.hang_up("disconnected");
                self.relay = None;
                self.forget_token();
                self.phase = ConnectionPhase::Idle;
                self.engine.set_dialling(false, None);
            }
            Command::SignOut(discard, reply) => {
                let signed_out = self.engine.sign_out(self.now(), unix_s(), discard);
                // Whatever became of it, nobody signs in again with the token of before.
                if !matches!(signed_out, Err(SignOutError::Unsent { .. })) {
                    self.hang_up("signed out");
                    self.relay = None;
                    self.forget_token();
                    self.phase = ConnectionPhase::Idle;
                    self.engine.set_signed_out(SIGNED_OUT.to_owned());
                }
                self.publish();
                let _ = reply.send(signed_out);
            }
            Command::Close(done) => return Some(done),
        }
        None
    }

    fn handle_dialled(&mut self, dialled: Result<Dialled, DialError>) -> Result<(), EngineError> {
        match dialled {
            Ok(Dialled { connection, token }) => {
                let relay = self.relay.as_ref().map(|relay| relay.address.to_string());
                let relay = relay.unwrap_or_default();
                info!(relay, "connected");
                self.before = self.engine.counters();
                let of_engine = token.as_deref().map(to_engine);
                self.engine.handle_connected(self.now(), &relay, of_engine)?;
                self.phase = ConnectionPhase::Connected(connection);
                self.token = token;
                self.plan_renewal();
            }
            Err(DialError::Unreached(trouble)) => self.redial(0, trouble),
            Err(DialError::NoToken(trouble)) => self.wait_for_sign_in(trouble),
        }
        Ok(())
    }

    /// Plans to fetch another token before this one ends.
    fn plan_renewal(&mut self) {
        let is_fetched = self.relay.as_ref().is_some_and(|relay| relay.credentials.is_fetched());
        let left = self.token.as_deref().filter(|_| is_fetched).and_then(renew_in_ms);
        self.renew_at = left.map(|left| self.now() + left.max(RENEWAL_MS_MIN));
    }

    /// A token for the open session was fetched, or not. Without one the session goes on until the
    /// relay ends it.
    fn handle_fetched(&mut self, fetched: Result<String, String>) {
        self.fetching = None;
        match fetched {
            Ok(token) => {
                self.engine.renew(token.clone().into_bytes());
                self.token = Some(token);
                self.plan_renewal();
            }
            Err(trouble) => {
                debug!(trouble, "no fresh token");
                self.renew_at = Some(self.now() + RENEWAL_AGAIN_MS);
            }
        }
    }

    fn forget_token(&mut self) {
        (self.token, self.renew_at, self.fetching) = (None, None, None);
    }

    /// The session is over, by the word of one side.
    fn leave(&mut self, closing: Closing) {
        match closing.code {
            ByeCode::SignIn => self.wait_for_sign_in(closing.reason),
            _ => self.redial(closing.retry_after_ms, closing.reason),
        }
    }

    /// There is no token that counts. Another one is asked for after a while, and everything that
    /// waits goes on waiting.
    fn wait_for_sign_in(&mut self, reason: String) {
        debug!(reason, "signed out");
        self.forget_token();
        self.engine.handle_disconnected();
        self.engine.set_signed_out(reason);
        let wait = self.backoff.next_sign_in_ms();
        self.phase = match self.relay {
            Some(_) => ConnectionPhase::Waiting(self.now() + wait),
            None => ConnectionPhase::Idle,
        };
    }

    fn handle_incoming(&mut self, incoming: Option<Incoming>) {
        let mut next = incoming;
        for left in (0..MESSAGES_PER_TURN).rev() {
            let trouble = match next {
                Some(Incoming::Message(message)) => match self.engine.handle_message(&message) {
                    Ok(()) => None,
                    Err(error) => Some(error.to_string()),
                },
                Some(Incoming::Closed(reason)) => Some(reason),
                None => Some("the connection ended".to_owned()),
            };
            if trouble.is_some() {
                // Messages that came before, perhaps a word of goodbye, are handled first.
                self.ended = trouble;
                return;
            }
            let ConnectionPhase::Connected(connection) = &mut self.phase else { return };
            // An event that is taken out and not handled would be lost.
            if left == 0 {
                return;
            }
            match connection.try_incoming() {
                Some(incoming) => next = Some(incoming),
                None => return,
            }
        }
    }

    fn handle_time(&mut self) -> Result<(), EngineError> {
        let now = self.now();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen();
        }
        if self.engine.is_behind() {
            self.engine.catch_up(now)?;
        }
        if self.idle_at <= now {
            self.idle_at = now + IDLE_CHECK_MS;
            self.engine.handle_idle(now)?;
        }
        if let Err(error) = self.engine.handle_timeout(now) {
            self.redial(0, error.to_string());
        }
        if let (ConnectionPhase::Waiting(at), Some(relay)) = (&self.phase, &self.relay)
            && *at <= now
        {
            let (relay, token) = (Target::clone(relay), self.token.clone());
            self.phase = ConnectionPhase::Dialling(dial::start(relay, token));
            self.engine.go_on_dialling();
        }
        if self.renew_at.is_some_and(|at| at <= now)
            && let Some(relay) = &self.relay
        {
            self.renew_at = None;
            // A token that is not used is not fetched; the next session fetches one.
            match self.phase {
                ConnectionPhase::Connected(_) => {
                    self.fetching = Some(dial::fetch_token(relay.credentials.clone()));
                }
                _ => self.token = None,
            }
        }
        Ok(())
    }

    /// One commit of everything that has come; then the answers, and then the frames.
    fn turn(&mut self) -> Result<(), EngineError> {
        let queued = std::mem::take(&mut self.edits);
        let mut edits = Vec::new();
        let mut replies = Vec::new();
        for queued in queued {
            match queued {
                Queued::One(edit, reply) => {
                    edits.push(*edit);
                    replies.push(Reply::One(reply));
                }
                Queued::Many(many, reply) => {
                    replies.push(Reply::Many(many.len(), reply));
                    edits.extend(many);
                }
            }
        }
        match self.engine.turn(self.now(), unix_s(), edits) {
            Ok(results) => {
                // A caller that hears of the edit can see it in the status.
                self.publish();
                let mut results = results.into_iter();
                replies.into_iter().for_each(|reply| reply.send(&mut results));
            }
            Err(error) => {
                let text = error.to_string();
                let full = matches!(error, EngineError::Store(StoreError::Full));
                replies.into_iter().for_each(|reply| reply.refuse(full, &text));
                return Err(error);
            }
        }
        self.transmit()
    }

    fn transmit(&mut self) -> Result<(), EngineError> {
        let now = self.now();
        let ConnectionPhase::Connected(connection) = &mut self.phase else { return Ok(()) };
        while !connection.is_full() {
            let Some(message) = self.engine.poll_transmit(now)? else { break };
            connection.send(message);
        }
        if matches!(self.engine.status().link, Link::Safe | Link::Held) {
            self.backoff = Backoff::default();
        }
        if let Some(closing) = self.engine.poll_close().cloned()
            && !connection.is_full()
        {
            self.leave(closing);
        }
        Ok(())
    }

    /// Gives the connection up and waits to dial again.
    fn redial(&mut self, retry_after_ms: u64, trouble: String) {
        debug!(trouble, "not connected");
        // A line that carried something is dialled again soon, however often it is cut.
        let (before, now) = (self.before, self.engine.counters());
        let gained = now.commits > before.commits || now.uploads_gained > before.uploads_gained;
        if matches!(self.phase, ConnectionPhase::Connected(_)) && gained {
            self.backoff = Backoff::default();
        }
        self.engine.handle_disconnected();
        self.engine.set_dialling(self.relay.is_some(), Some(trouble));
        self.phase = match self.relay {
            Some(_) => {
                let delay = self.backoff.next_ms().max(retry_after_ms);
                ConnectionPhase::Waiting(self.now() + delay)
            }
            None => ConnectionPhase::Idle,
        };
    }

    fn hang_up(&mut self, why: &str) {
        if matches!(self.phase, ConnectionPhase::Connected(_)) {
            debug!(why, "hanging up");
            self.engine.say_bye();
            let now = self.now();
            if let (ConnectionPhase::Connected(connection), Ok(Some(message))) =
                (&mut self.phase, self.engine.poll_transmit(now))
            {
                connection.send(message);
            }
            self.engine.handle_disconnected();
        }
    }

    /// The store failed: the loaded documents may not be the stored ones. Open the file again.
    fn fail(&mut self, error: &EngineError) {
        warn!(error = error as &dyn std::error::Error, "store failed; opening the file again");
        self.recover(&error.to_string());
    }

    fn recover(&mut self, trouble: &str) {
        self.engine.forget();
        self.engine.store().close();
        self.phase = match self.relay {
            Some(_) => ConnectionPhase::Waiting(self.now() + REOPEN_MS),
            None => ConnectionPhase::Idle,
        };
        self.engine.set_dialling(self.relay.is_some(), Some(trouble.to_owned()));
        self.reopen();
    }

    fn reopen(&mut self) {
        let opened = unpanicked(|| {
            open_database(&self.file).map_err(|error| error.to_string()).and_then(|database| {
                self.engine.store().reopen(database).map_err(|error| error.to_string())?;
                self.engine.handle_reopened().map_err(|error| error.to_string())
            })
        });
        self.reopen_at = match opened.flatten() {
            Ok(()) => None,
            Err(error) => {
                self.engine.store().close();
                warn!(error, "the file could not be opened again yet");
                Some(self.now() + REOPEN_MS)
            }
        };
    }

    async fn close(&mut self) {
        let now = self.now();
        if let Err(error) = fenced(|| self.engine.flush(now)) {
            warn!(error = &error as &dyn std::error::Error, "not everything was flushed");
        }
        self.hang_up("the replica closes");
        if let ConnectionPhase::Connected(connection) =
            std::mem::replace(&mut self.phase, ConnectionPhase::Idle)
        {
            connection.finish().await;
        }
    }

    fn publish(&self) {
        let status = self.engine.status();
        self.status.send_if_modified(|published| {
            let news = published != status;
            if news {
                published.clone_from(status);
            }
            news
        });
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn wait_token(
    fetching: &mut Option<oneshot::Receiver<Result<String, String>>>,
) -> Result<String, String> {
    match fetching {
        None => std::future::pending().await,
        Some(fetched) => fetched.await.unwrap_or_else(|_| Err("it was given up".to_owned())),
    }
}

async fn wait_phase(phase: &mut ConnectionPhase, blocked: bool) -> Woken {
    match phase {
        ConnectionPhase::Idle | ConnectionPhase::Waiting(_) => std::future::pending().await,
        ConnectionPhase::Dialling(dialled) => {
            let gone = Err(DialError::Unreached("dialling was given up".to_owned()));
            Woken::Dialled(dialled.await.unwrap_or(gone))
        }
        ConnectionPhase::Connected(connection) if blocked => connection.incoming_or_room().await,
        ConnectionPhase::Connected(connection) => Woken::Incoming(connection.incoming().await),
    }
}

impl Connection {
    async fn incoming_or_room(&mut self) -> Woken {
        let room = self.room();
        tokio::select! {
            () = room => Woken::Writable,
            incoming = self.incoming() => Woken::Incoming(incoming),
        }
    }
}

enum Reply {
    One(oneshot::Sender<Result<EditOutcome, EditError>>),
    Many(usize, oneshot::Sender<Vec<Result<EditOutcome, EditError>>>),
}

impl Reply {
    /// A caller that no longer waits does not mind.
    fn send(self, results: &mut impl Iterator<Item = Result<EditOutcome, EditError>>) {
        match self {
            Self::One(reply) => {
                if let Some(result) = results.next() {
                    let _ = reply.send(result);
                }
            }
            Self::Many(count, reply) => drop(reply.send(results.take(count).collect())),
        }
    }

    fn refuse(self, full: bool, text: &str) {
        let error = || match full {
            true => EditError::Store(StoreError::Full),
            false => EditError::NotKept(text.to_owned()),
        };
        match self {
            Self::One(reply) => drop(reply.send(Err(error()))),
            Self::Many(count, reply) => {
                drop(reply.send((0..count).map(|_| Err(error())).collect()));
            }
        }
    }
}

pub(crate) fn random_bytes() -> [u8; 16] {
    rand::random()
}

/// Seconds since 1970 by the device's clock, which may be wrong.
pub(crate) fn unix_s() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

/// Commands and messages taken into one commit at most.
const COMMANDS_PER_TURN: usize = 256;
const MESSAGES_PER_TURN: usize = 256;

/// Milliseconds between two looks for unused documents.
const IDLE_CHECK_MS: u64 = 5_000;

/// Milliseconds between two renewals of a token at least, and after one that failed.
const RENEWAL_MS_MIN: u64 = 1_000;
const RENEWAL_AGAIN_MS: u64 = 10_000;

/// The trouble that a status tells of a replica that was signed out here.
const SIGNED_OUT: &str = "signed out here; sign in to go on";

/// Milliseconds to wait before the file is opened again.
const REOPEN_MS: u64 = 500;
