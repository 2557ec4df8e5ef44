//! Streams of changes. A slow watcher gets one wider change, never a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, SpaceName};

/// Documents a watcher can be behind with before it is told to read everything again.
const BEHIND_MAX: usize = 1024;

/// The changes of a document since the watcher last looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChanged {
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The top-level fields that changed. Empty if they are not known.
    pub fields: BTreeSet<String>,
    /// The heads before.
    pub before: Vec<ChangeHash>,
    /// The heads now.
    pub heads: Vec<ChangeHash>,
    /// Whether any of it was edited here.
    pub local: bool,
    /// Whether any of it came from a relay.
    pub remote: bool,
    /// Whether the document is deleted now.
    pub deleted: bool,
}

/// One item of a [`Watcher`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A document changed.
    Changed(DocumentChanged),
    /// A peer came, changed its activity, or left.
    Presence(DocumentId),
    /// More documents changed than a watcher keeps: read the collection again.
    ReadAgain,
}

/// Changes of one document or collection, as they are committed. Also a [`Stream`].
#[derive(Debug)]
pub struct Watcher {
    slot: Arc<Slot>,
}

impl Watcher {
    /// The next change; `None` when the replica is closed. Changes of one document that came since
    /// the last call are one.
    #[expect(clippy::should_implement_trait, reason = "it is to be awaited, as a stream's is")]
    pub fn next(&mut self) -> impl Future<Output = Option<WatchEvent>> + '_ {
        poll_fn(|cx| self.slot.poll(cx))
    }

    /// The next event, if one has come already.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        self.slot.lock().take()
    }
}

impl Stream for Watcher {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.slot.poll(cx)
    }
}

/// The documents that a watcher is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// All spaces if that is `None`.
    pub(crate) space: Option<SpaceName>,
    pub(crate) collection: CollectionName,
    pub(crate) document: Option<DocumentId>,
}

impl Filter {
    fn is_in(&self, space: &SpaceName) -> bool {
        self.space.as_ref().is_none_or(|of| of == space)
    }
}

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watching: Vec<Watching>,
}

#[derive(Debug)]
struct Watching {
    filter: Filter,
    slot: Arc<Slot>,
}

impl Watching {
    /// Whether the watcher is there no more.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.slot) == 1
    }

    fn tell(&self, what: impl FnOnce(&mut Pending)) {
        let mut pending = self.slot.lock();
        what(&mut pending);
        pending.wake();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.tell(|pending| pending.is_closed = true);
    }
}

impl Watchers {
    pub(crate) fn add(&mut self, filter: Filter) -> Watcher {
        self.watching.retain(|watching| !watching.is_over());
        let slot = Arc::new(Slot::default());
        self.watching.push(Watching { filter, slot: Arc::clone(&slot) });
        Watcher { slot }
    }

    pub(crate) fn anyone(&self, space: &SpaceName, collection: &CollectionName) -> bool {
        self.watching.iter().any(|watching| {
            watching.filter.is_in(space) && watching.filter.collection == *collection
        })
    }

    pub(crate) fn changed(
        &mut self,
        space: &SpaceName,
        collection: &CollectionName,
        change: &DocumentChanged,
    ) {
        self.tell(space, Some(collection), change.document, |pending| pending.changed(change));
    }

    /// Something may have changed of which watchers were not told.
    pub(crate) fn read_again(&mut self) {
        self.watching.iter().for_each(|watching| watching.tell(Pending::behind));
    }

    pub(crate) fn presence(
        &mut self,
        space: &SpaceName,
        collection: &CollectionName,
        document: DocumentId,
    ) {
        self.tell(space, Some(collection), document, |pending| pending.presence(document));
    }

    fn tell(
        &mut self,
        space: &SpaceName,
        collection: Option<&CollectionName>,
        document: DocumentId,
        what: impl Fn(&mut Pending),
    ) {
        self.watching.retain(|watching| !watching.is_over());
        let concerned = self.watching.iter().filter(|watching| {
            let filter = &watching.filter;
            filter.is_in(space)
                && collection.is_none_or(|collection| filter.collection == *collection)
                && filter.document.is_none_or(|of| of == document)
        });
        concerned.for_each(|watching| watching.tell(&what));
    }
}

#[derive(Debug, Default)]
struct Slot(Mutex<Pending>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // A panic while the lock is taken cannot leave `Pending` half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<WatchEvent>> {
        let mut pending = self.lock();
        if let Some(event) = pending.take() {
            return Poll::Ready(Some(event));
        }
        if pending.is_closed {
            return Poll::Ready(None);
        }
        pending.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The events that a watcher has not looked at yet.
#[derive(Debug, Default)]
struct Pending {
    changes: BTreeMap<DocumentId, DocumentChanged>,
    presences: BTreeSet<DocumentId>,
    everything: bool,
    /// Whether no event will come any more.
    is_closed: bool,
    /// Wakes the watcher that waits.
    waker: Option<Waker>,
}

impl Pending {
    fn changed(&mut self, change: &DocumentChanged) {
        if self.everything {
            return;
        }
        if let Some(earlier) = self.changes.get_mut(&change.document) {
            earlier.widen(change);
        } else if self.changes.len() < BEHIND_MAX {
            self.changes.insert(change.document, change.clone());
        } else {
            self.behind();
        }
    }

    fn behind(&mut self) {
        self.changes.clear();
        self.everything = true;
    }

    fn presence(&mut self, document: DocumentId) {
        if self.presences.len() < BEHIND_MAX {
            self.presences.insert(document);
        } else {
            self.everything = true;
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn take(&mut self) -> Option<WatchEvent> {
        if std::mem::take(&mut self.everything) {
            return Some(WatchEvent::ReadAgain);
        }
        if let Some((_, change)) = self.changes.pop_first() {
            return Some(WatchEvent::Changed(change));
        }
        self.presences.pop_first().map(WatchEvent::Presence)
    }
}

impl DocumentChanged {
    /// Makes one change of this one and the one that followed it.
    fn widen(&mut self, next: &Self) {
        if self.fields.is_empty() || next.fields.is_empty() {
            self.fields.clear();
        } else {
            self.fields.extend(next.fields.iter().cloned());
        }
        self.heads.clone_from(&next.heads);
        self.local |= next.local;
        self.remote |= next.remote;
        self.deleted = next.deleted;
    }
}
