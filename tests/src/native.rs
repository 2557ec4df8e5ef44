//! A replica of our own beside foreign clients, in the collection that has their documents.

use std::path::Path;
use std::time::Duration;

use rejoin::{Collection, Document, Link, Replica, Watcher};
use serde_json::Value;
use tokio::time::timeout;

/// The collection that documents of automerge-repo belong to.
pub const DOCUMENTS: &str = "documents";

/// A replica that follows one space.
#[derive(Debug)]
pub struct Native {
    replica: Replica,
    documents: Collection,
}

impl Native {
    /// Opens a replica of a space, with nobody to meet.
    pub async fn open(file: impl AsRef<Path>, space: &str) -> Self {
        let replica = Replica::open(file.as_ref()).await.expect("a file for a replica");
        let documents = replica.space(space).and_then(|space| space.collection(DOCUMENTS));
        Self { documents: documents.expect("names"), replica }
    }

    /// Opens a replica of a space, which dials a relay for ever.
    pub async fn dial(file: impl AsRef<Path>, space: &str, relay: &str) -> Self {
        let native = Self::open(file, space).await;
        native.connect(space, relay).await;
        native
    }

    /// Dials a relay for ever.
    pub async fn connect(&self, space: &str, relay: &str) {
        let space = self.replica.space(space).expect("a name");
        self.replica.connect(relay, &[&space]).await.expect("an address");
    }

    /// The documents that foreign clients have too.
    pub fn documents(&self) -> &Collection {
        &self.documents
    }

    /// A document by its address.
    pub fn document(&self, address: &str) -> Document {
        self.documents.document_by_id(address.parse().expect("the address of a document"))
    }

    /// Waits until a document is here and its value is right, and returns that.
    #[track_caller]
    pub fn value_when(
        &self,
        address: &str,
        met: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let document = self.document(address);
        patiently("a document gets its value", async move {
            let mut watcher = document.watch().await.expect("the replica is open");
            loop {
                let value = document.get::<Value>().await.expect("the document can be read");
                if let Some(value) = value.filter(|value| met(value)) {
                    return value;
                }
                next(&mut watcher).await;
            }
        })
    }

    /// Waits until a document is here with these heads.
    #[track_caller]
    pub fn heads_are(&self, address: &str, heads: &[String]) -> impl Future<Output = ()> {
        let (document, heads) = (self.document(address), heads.to_vec());
        patiently("a document gets its heads", async move {
            let mut watcher = document.watch().await.expect("the replica is open");
            while heads_of(&document).await != heads {
                next(&mut watcher).await;
            }
        })
    }

    /// The heads of a document in hexadecimal digits, sorted; none if it is not here.
    pub async fn heads(&self, address: &str) -> Vec<String> {
        heads_of(&self.document(address)).await
    }

    /// Waits until so many documents are here.
    #[track_caller]
    pub fn count_is(&self, count: usize) -> impl Future<Output = ()> {
        patiently("so many documents come", async move {
            let mut watcher = self.documents.watch().await.expect("the replica is open");
            while self.documents.list().await.expect("the file can be read").len() != count {
                next(&mut watcher).await;
            }
        })
    }

    /// Waits until the relay has everything that is here, and the other way round.
    #[track_caller]
    pub fn safe(&self) -> impl Future<Output = ()> {
        self.link_is(Link::Safe)
    }

    /// Waits until it is known that the relay is gone.
    #[track_caller]
    pub fn alone(&self) -> impl Future<Output = ()> {
        self.link_is(Link::Connecting)
    }

    #[track_caller]
    fn link_is(&self, link: Link) -> impl Future<Output = ()> {
        let replica = self.replica.clone();
        patiently("the connection changes", async move {
            replica.status_when(|status| status.link == link).await.expect("the replica is open");
        })
    }

    /// Frees the file.
    pub async fn close(self) {
        self.replica.close().await;
    }
}

/// Waits for something, but not for ever: who waits too long is told what for.
#[track_caller]
pub fn patiently<T>(what: &str, awaited: impl Future<Output = T>) -> impl Future<Output = T> {
    let (what, caller) = (what.to_owned(), std::panic::Location::caller());
    async move {
        let done = timeout(PATIENCE, awaited).await;
        done.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}, at {caller}"))
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

async fn heads_of(document: &Document) -> Vec<String> {
    let held = document.read().await.expect("the document can be read");
    let mut heads: Vec<_> =
        held.iter().flat_map(|held| &held.heads).map(ToString::to_string).collect();
    heads.sort();
    heads
}

async fn next(watcher: &mut Watcher) {
    watcher.next().await.expect("the replica is open");
}
