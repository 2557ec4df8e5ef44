//! The replica as applications hold it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rejoin_core::{
    CollectionName, DeviceId, DocumentId, Identity, NameError, SetDigest, SpaceName,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::collection::Collection;
use crate::dial::{ConnectError, Target};
use crate::driver::{self, Answer, Command};
use crate::file::{OpenError, ReplicaFile, unpanicked};
use crate::relay::Relay;
use crate::review::Reviews;
use crate::saved::Edited;
use rejoin_engine::store::{ReadTxn, Store, StoreError, space_digest};
use rejoin_engine::{
    Counters, Edit, EditError, Engine, EngineOptions, ReadError, SettleError, SignOutError, Status,
    UndoError,
};

/// A durable local copy of spaces, in one file.
///
/// Handles are cheap to clone and may be used from any thread or async runtime; a thread of its own
/// works on the file. Everything except [`connect`](Self::connect) works without a network. One
/// process opens a file at a time. The process may be suspended or killed at any moment: an edit
/// that has returned is on disk.
///
/// ```
/// # use rejoin::{Replica, Text};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, Default, Serialize, Deserialize)]
/// struct Job {
///     phone: String,
///     #[serde(default)]
///     notes: Text,
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("technician.redb");
/// let replica = Replica::open(&path).await?;
/// let jobs = replica.space("main")?.collection("jobs")?;
/// let job = jobs.create("2026-118", &Job { phone: "555-0100".into(), ..Job::default() }).await?;
/// job.edit(|job: &mut Job| job.notes.push_str("Gate code 4711. ")).await?;
///
/// let job: Job = job.get().await?.expect("it was just created");
/// assert_eq!(job.notes.as_str(), "Gate code 4711. ");
/// assert_eq!(replica.status().waiting, 2);
/// replica.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Replica {
    inner: Arc<Inner>,
    /// The identity as which this handle edits; `None` for the one that the file names.
    author: Option<Arc<Identity>>,
    /// The batch that the edits of this handle belong to.
    batch: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    commands: mpsc::Sender<Command>,
    store: Arc<Store>,
    status: watch::Receiver<Status>,
    /// The warnings that were given, so that each is given once.
    noted: Mutex<BTreeSet<String>>,
    /// The last number that was given to a batch.
    batches: AtomicU64,
}

impl Replica {
    /// Opens the replica in a file, or makes a new one there. `file` is its path, or a [`ReplicaFile`]
    /// with the key that encrypts it.
    ///
    /// # Errors
    /// Another process has it open (the error says which), the folder is missing or read-only, the
    /// file is encrypted otherwise, or damaged, or something else.
    pub async fn open(file: impl Into<ReplicaFile>) -> Result<Self, OpenError> {
        Self::open_with(file, EngineOptions::default()).await
    }

    /// Opens a replica with limits of your own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        file: impl Into<ReplicaFile>,
        options: EngineOptions,
    ) -> Result<Self, OpenError> {
        let (commands, received) = mpsc::channel(COMMANDS_WAITING);
        let (done, opened) = oneshot::channel();
        driver::spawn(file.into(), options, received, done).map_err(OpenError::Runtime)?;
        let gone = || OpenError::Runtime(std::io::Error::other("the thread ended"));
        let opened = opened.await.map_err(|_| gone())??;
        let (store, status) = (opened.store, opened.status);
        let (noted, batches) = (Mutex::default(), AtomicU64::new(0));
        let inner = Inner { commands, store, status, noted, batches };
        Ok(Self { inner: Arc::new(inner), author: None, batch: None })
    }

    /// A space by name. Give it to [`connect`](Self::connect) to sync it while it is empty here.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn space(&self, name: &str) -> Result<Space, NameError> {
        Ok(Space { replica: self.clone(), name: SpaceName::new(name)? })
    }

    /// The id of the replica file.
    pub fn device(&self) -> DeviceId {
        self.inner.store.device()
    }

    /// Edits as somebody from now on: user, role and device go into the changes, so that history
    /// and reviews name people. The replica keeps it.
    ///
    /// # Errors
    /// The file could not be written.
    pub async fn act_as(&self, identity: Option<Identity>) -> Result<(), EditError> {
        self.ask(move |engine, _| engine.act_as(identity)).await?
    }

    /// A handle to the same replica that edits as `author`, as do the spaces, collections and
    /// documents got from it. Other handles edit as before, and the identity in the file stays.
    #[must_use]
    pub fn acting_as(&self, author: Identity) -> Self {
        Self { author: Some(Arc::new(author)), ..self.clone() }
    }

    /// A handle to the same replica whose edits, and those of the spaces, collections and documents
    /// got from it, are one step for [`undo`](Self::undo). Unlike those of a
    /// [`batch`](Self::batch), they are made one after the other, each with a commit of its own.
    #[must_use]
    pub fn as_one_step(&self) -> Self {
        Self { batch: Some(self.next_batch()), ..self.clone() }
    }

    pub(crate) fn next_batch(&self) -> u64 {
        self.inner.batches.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The identity of this handle's own, if it has one.
    pub(crate) fn author(&self) -> Option<Identity> {
        self.author.as_deref().cloned()
    }

    /// The questions about the documents of all spaces that only a person can decide.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.clone(), None)
    }

    /// The identity as which this handle edits, if it has one.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        match &self.author {
            Some(author) => Ok(Some(Identity::clone(author))),
            None => self.read(ReadTxn::identity),
        }
    }

    /// Dials a relay, now and for ever: after every loss again, with exponential delays and full
    /// jitter. A replica has one relay at a time: this one takes the place of the one before, whose
    /// session ends. `relay` is its address, or a [`Relay`] with what it takes to sign in. Returns at
    /// once; from here on [`status`](Self::status) tells the state of this
    /// connection, and no more of a session before. `spaces` are synced besides those that have
    /// documents.
    ///
    /// # Errors
    /// The address is not one, its roots cannot be read, or the replica is closed.
    pub async fn connect(
        &self,
        relay: impl Into<Relay>,
        spaces: &[&Space],
    ) -> Result<(), ConnectError> {
        let relay = Target::of(relay.into())?;
        let names: Vec<_> = spaces.iter().map(|space| space.name.clone()).collect();
        self.ask(move |engine, _| names.iter().for_each(|name| engine.want_space(name))).await?;
        self.send(Command::Connect(relay.into())).await?;
        // Commands are handled in the order in which they come.
        Ok(self.ask(|_, _| ()).await?)
    }

    /// Ends the session and dials no more.
    pub async fn disconnect(&self) {
        // A closed replica is not connected.
        let _ = self.send(Command::Disconnect).await;
    }

    /// Signs out: the session ends, no relay is dialled any more, and edits are nobody's until somebody
    /// signs in with [`connect`](Self::connect). Whoever that is edits as themselves, and sends only
    /// their own.
    ///
    /// It refuses while edits of who is signed in wait for a relay. Those would stay until the same
    /// person signs in here again. With `discard`, they are set aside for good instead, and the
    /// documents are as they were without them; if a relay took some and its word of that was lost, these
    /// come back from there.
    ///
    /// # Errors
    /// Edits wait, and are not to be discarded: nothing has changed then. Or the file could not be read
    /// or written, or the replica is closed.
    pub async fn sign_out(&self, discard: bool) -> Result<(), SignOutError> {
        let (reply, signed_out) = oneshot::channel();
        self.send(Command::SignOut(discard, reply)).await?;
        self.answer(signed_out).await?
    }

    /// The user as whom a relay last knew the replica by its token, also while there is no connection;
    /// `None` if nobody is signed in.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn signed_in(&self) -> Result<Option<String>, StoreError> {
        Ok(self.read(ReadTxn::signed_in)?.map(|row| row.user))
    }

    /// The state of the replica towards its relay.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Waits until the status meets a condition, and returns it.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn status_when(
        &self,
        mut met: impl FnMut(&Status) -> bool,
    ) -> Result<Status, ReadError> {
        let mut status = self.inner.status.clone();
        let met = status.wait_for(|status| met(status)).await;
        met.map(|status| status.clone()).map_err(|_| ReadError::Closed)
    }

    /// Waits until every document whose schema changed was derived anew, so that lists and reviews
    /// follow the present schema. Edits and reads go on meanwhile, and [`Status::behind`] counts
    /// the documents that are left.
    ///
    /// # Errors
    /// The replica was closed, or its file could not be read or written.
    pub async fn caught_up(&self) -> Result<(), ReadError> {
        let step = |engine: &mut Engine, now| engine.catch_up(now).map(|()| engine.is_behind());
        while self.ask(step).await?? {}
        Ok(())
    }

    /// The counts since the replica was opened.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn counters(&self) -> Result<Counters, ReadError> {
        Ok(self.ask(|engine, _| engine.counters()).await?)
    }

    /// Documents in memory now.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn documents_in_memory(&self) -> Result<usize, ReadError> {
        Ok(self.ask(|engine, _| engine.documents_in_memory()).await?)
    }

    /// Finishes the edits that are under way and frees the file before it returns. Other handles get
    /// errors from then on, and watchers and live queries end. Without it the file is freed a moment
    /// after the last handle is gone; documents, watchers, live queries and results of edits are handles,
    /// too.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.send(Command::Close(done)).await.is_ok() {
            let _ = self.answer(closed).await;
        }
    }

    /// The natural key of a document, if it is here and has one.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn key_of(&self, document: &DocumentId) -> Result<Option<String>, StoreError> {
        Ok(self.read(|view| view.document(document))?.and_then(|row| row.key))
    }

    /// Reads the last commit. Damage that redb panics on is an error, too.
    pub(crate) fn read<T, E: From<StoreError>>(
        &self,
        read: impl FnOnce(&ReadTxn) -> Result<T, E>,
    ) -> Result<T, E> {
        unpanicked(|| read(&self.inner.store.read()?))
            .unwrap_or_else(|reason| Err(StoreError::corrupt(reason).into()))
    }

    pub(crate) async fn edit(&self, edit: Edit) -> Result<Edited, EditError> {
        let (reply, edited) = oneshot::channel();
        self.send(Command::Edit(Box::new(self.signed(edit)), reply)).await?;
        Ok(Edited::new(self.clone(), self.answer(edited).await??))
    }

    pub(crate) async fn edits(
        &self,
        edits: Vec<Edit>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        let (reply, edited) = oneshot::channel();
        // Together they are one step for an undo.
        let batch = self.batch.or_else(|| Some(self.next_batch()));
        let edits = edits.into_iter().map(|edit| Edit { batch, ..self.signed(edit) }).collect();
        self.send(Command::Edits(edits, reply)).await?;
        let edited = self.answer(edited).await?.into_iter();
        Ok(edited.map(|edited| edited.map(|edited| Edited::new(self.clone(), edited))).collect())
    }

    /// The edit, with the identity as which this handle edits.
    pub(crate) fn signed(&self, edit: Edit) -> Edit {
        Edit { author: self.author(), batch: edit.batch.or(self.batch), ..edit }
    }

    /// Asks the engine on its thread.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, u64) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        let ask = move |engine: &mut Engine, now| {
            let answer = question(engine, now);
            Box::new(move || drop(reply.send(answer))) as Answer
        };
        self.send(Command::Ask(Box::new(ask))).await?;
        self.answer(answer).await
    }

    /// Brings values up to date that are written late because they are large.
    pub(crate) async fn refresh(&self, documents: Vec<DocumentId>) -> Result<(), ReadError> {
        if documents.is_empty() {
            return Ok(());
        }
        Ok(self.ask(move |engine, now| engine.refresh(now, &documents)).await??)
    }

    /// Brings the values that lists read up to date, as far as that is soon done.
    pub(crate) async fn refresh_listed(&self) -> Result<(), ReadError> {
        if self.read(ReadTxn::is_any_stale)? {
            self.ask(Engine::refresh_listed).await??;
        }
        Ok(())
    }

    /// Notes something that is to be warned of once; whether it is new.
    pub(crate) fn notes(&self, what: String) -> bool {
        // A set is whole even if somebody panicked beside it.
        let mut noted = self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.len() < NOTED_MAX && noted.insert(what)
    }

    async fn send(&self, command: Command) -> Result<(), Closed> {
        self.inner.commands.send(command).await.map_err(|_| Closed)
    }

    /// Waits for the answer to a command. A command that was sent in the moment in which the thread
    /// ended stays in the channel for as long as there is a handle, and nobody will answer it.
    async fn answer<T>(&self, mut answer: oneshot::Receiver<T>) -> Result<T, Closed> {
        tokio::select! {
            biased;
            answer = &mut answer => answer.map_err(|_| Closed),
            () = self.inner.commands.closed() => answer.try_recv().map_err(|_| Closed),
        }
    }
}

/// A space of a replica: a set of documents that are shared, authorised and replicated together.
#[derive(Debug, Clone)]
pub struct Space {
    replica: Replica,
    name: SpaceName,
}

impl Space {
    pub(crate) fn new(replica: Replica, name: SpaceName) -> Self {
        Self { replica, name }
    }

    /// The replica that it is of.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Its name.
    pub fn name(&self) -> &SpaceName {
        &self.name
    }

    /// A collection by name.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn collection(&self, name: &str) -> Result<Collection, NameError> {
        let name = CollectionName::new(name)?;
        Ok(Collection::new(self.replica.clone(), self.name.clone(), name))
    }

    /// The questions about the documents of the space that only a person can decide.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.replica.clone(), Some(self.name.clone()))
    }

    /// The collections that have documents, with how many.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn collections(&self) -> Result<Vec<(CollectionName, u64)>, StoreError> {
        let digests = self.replica.read(|view| view.digests(&self.name))?;
        Ok(digests.into_iter().map(|(name, row)| (name, row.documents)).collect())
    }

    /// Every document of the space, deleted ones and those of Rejoin's own collections included, by
    /// collection and id.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn documents(&self) -> Result<Vec<Listed>, StoreError> {
        let mut documents = Vec::new();
        self.replica.read(|view| {
            view.each_document(|document, row| {
                if row.space == self.name {
                    documents.push(Listed { collection: row.collection, document, key: row.key });
                }
            })
        })?;
        documents.sort();
        Ok(documents)
    }

    /// Whether an operator erased a document of the space.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn is_erased(&self, document: &DocumentId) -> Result<bool, StoreError> {
        let row = self.replica.read(|view| view.erased(document))?;
        Ok(row.is_some_and(|row| row.space == self.name))
    }

    /// The documents of the space that an operator erased.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn erased(&self) -> Result<BTreeSet<DocumentId>, StoreError> {
        let mut erased = BTreeSet::new();
        self.replica.read(|view| {
            view.each_erased(|document, row| {
                if row.space == self.name {
                    erased.insert(document);
                }
            })
        })?;
        Ok(erased)
    }

    /// The digest of all documents of the space, deleted ones included: equal on two replicas
    /// exactly when their documents are.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn digest(&self) -> Result<SetDigest, StoreError> {
        Ok(space_digest(&self.replica.read(|view| view.digests(&self.name))?))
    }
}

/// A document of a space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The collection it is in.
    pub collection: CollectionName,
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
}

/// The replica was closed, and with it the thread that answers.
#[derive(Debug)]
pub(crate) struct Closed;

impl From<Closed> for ReadError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Closed> for EditError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Closed> for SettleError {
    fn from(_: Closed) -> Self {
        EditError::Closed.into()
    }
}

impl From<Closed> for UndoError {
    fn from(_: Closed) -> Self {
        EditError::Closed.into()
    }
}

impl From<Closed> for SignOutError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Closed> for ConnectError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// Different warnings that are given while a replica is open; nobody reads more of them.
const NOTED_MAX: usize = 1000;

/// Commands that may wait for the replica's thread.
const COMMANDS_WAITING: usize = 1024;
