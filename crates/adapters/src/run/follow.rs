//! From documents that change to deliveries that wait.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rejoin::view::FieldState;
use rejoin::{Collection, Document, DocumentId, Entry, Path, ReadError, WatchEvent, Watcher};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::carried::Rules;
use super::{Adapter, Carried, reviews};
use crate::clock::now_ms;
use crate::mapping::{Class, Mapping, Source};
use crate::outbox::{Outbox, OutboxError, Planned, Projected};
use crate::projection::{self, project};

/// Documents cannot be followed for the moment.
#[derive(Debug, Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Replica(#[from] ReadError),
}

/// Follows what an adapter carries until `stop` says so.
pub(super) async fn follow(adapter: Adapter, carried: Carried, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let followed = tokio::select! {
            followed = follow_on(&adapter, &carried) => followed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match followed {
            Ok(()) => return,
            Err(fault) => {
                error!(error = &fault as &dyn std::error::Error, "nothing is enqueued for now");
                tokio::select! {
                    () = sleep(AGAIN) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        }
    }
}

/// Follows until something fails, or the replica is closed.
async fn follow_on(adapter: &Adapter, carried: &Carried) -> Result<(), FollowError> {
    let is_by_document = adapter.mapping.source == Source::Documents;
    let mut watcher = carried.collection.watch().await?;
    let mut reviews = match adapter.mapping.source {
        Source::Documents => None,
        Source::Reviews => Some(carried.space.reviews().watch().await?),
    };
    let schema = carried.schema()?;
    let mut schema_watcher = schema.watch().await?;
    let (mut dirty, mut all) = (BTreeSet::new(), true);
    // The next time to look, as far as the mapping makes targets wait.
    let mut at = Instant::now();
    // The next time to look whether rows of erased documents have left the target.
    let (mut erasing_at, mut erasing_again) = (at, ERASING);
    loop {
        let is_waiting = all || !dirty.is_empty();
        tokio::select! {
            event = watcher.next() => match event {
                None => return Ok(()),
                Some(WatchEvent::Changed(change)) if is_by_document => {
                    dirty.insert(change.document);
                }
                // Of documents that reviews are about it matters whether they are erased.
                Some(WatchEvent::Changed(change)) if !change.heads.is_empty() => continue,
                Some(WatchEvent::Changed(_) | WatchEvent::ReadAgain) => all = true,
                Some(WatchEvent::Presence(_)) => continue,
            },
            event = next_of(&mut reviews) => match event {
                None => return Ok(()),
                Some(WatchEvent::Presence(_)) => continue,
                Some(_) => all = true,
            },
            event = schema_watcher.next() => match event {
                None => return Ok(()),
                Some(_) => all = true,
            },
            () = adapter.again.notified() => (all, at) = (true, Instant::now()),
            () = sleep_until(at), if is_waiting => {}
            () = sleep_until(erasing_at), if adapter.erasing.load(Ordering::Relaxed) => {
                erasing_at = Instant::now() + end_erasing(adapter, &mut erasing_again).await;
                continue;
            }
        }
        if Instant::now() < at {
            continue;
        }
        if !adapter.outbox(|outbox| Ok(outbox.is_applied())).await? {
            error!("{NOT_APPLIED}");
            adapter.again.notified().await;
            (all, at) = (true, Instant::now());
            continue;
        }
        if std::mem::take(&mut all) {
            dirty.clear();
            enqueue_all(adapter, carried, false).await?;
            adapter.outbox(|outbox| outbox.purge(now_ms())).await?;
        } else {
            // What changed together is written together.
            while let Some(event) = watcher.try_next() {
                match event {
                    WatchEvent::Changed(change) => _ = dirty.insert(change.document),
                    WatchEvent::ReadAgain => all = true,
                    WatchEvent::Presence(_) => {}
                }
            }
            enqueue_some(adapter, carried, std::mem::take(&mut dirty)).await?;
        }
        at = next(&adapter.mapping.class);
    }
}

/// Projects everything and enqueues what differs; unless that is forced, not what was enqueued
/// before with the same heads. What is carried no more has no rows.
pub(super) async fn enqueue_all(
    adapter: &Adapter,
    carried: &Carried,
    is_forced: bool,
) -> Result<u64, FollowError> {
    let rules = carried.rules().await?;
    let mut enqueued = 0;
    if adapter.mapping.source == Source::Documents {
        let documents = carried.documents()?;
        enqueued += enqueue(adapter, &carried.collection, &rules, documents, is_forced).await?;
    }
    let _alone = adapter.projecting.lock().await;
    // In this order, so that what is new meanwhile is listed, too.
    let mut gone = adapter.outbox(|outbox| outbox.documents()).await?;
    if adapter.mapping.source == Source::Reviews {
        let reviews = reviews::projected(&adapter.mapping, &adapter.salt, carried, &rules).await?;
        reviews.iter().for_each(|review| _ = gone.remove(&review.document));
        let all = reviews.clone();
        adapter.outbox(move |outbox| outbox.note_about(&all)).await?;
        let mut new = Vec::new();
        for review in reviews {
            let (asked, plan) = (review.clone(), Outbox::plan);
            let plan = adapter.outbox(move |outbox| plan(outbox, &asked)).await?;
            if is_forced || plan.iter().any(|row| row.planned != Planned::Same) {
                new.push(review);
            }
        }
        for some in new.chunks(TOGETHER) {
            enqueued += put(adapter, some.to_vec()).await?;
        }
    }
    let erased = carried.erased()?;
    gone.retain(|document| !erased.contains(document));
    enqueued += erase(adapter, erased).await?;
    let gone = carried.gone(gone)?;
    let gone: Vec<_> =
        gone.into_iter().map(|document| Projected::gone(document, &rules.heads)).collect();
    for some in gone.chunks(TOGETHER) {
        enqueued += put(adapter, some.to_vec()).await?;
    }
    Ok(enqueued)
}

/// The next event, if there is a watcher.
async fn next_of(watcher: &mut Option<Watcher>) -> Option<WatchEvent> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

/// Enqueues what became of documents that changed.
async fn enqueue_some(
    adapter: &Adapter,
    carried: &Carried,
    mut changed: BTreeSet<DocumentId>,
) -> Result<u64, FollowError> {
    let rules = carried.rules().await?;
    let mut erased = BTreeSet::new();
    for document in &changed {
        if carried.is_erased(document)? {
            erased.insert(*document);
        }
    }
    changed.retain(|document| !erased.contains(document));
    let mut enqueued = erase(adapter, erased).await?;
    enqueued += enqueue(adapter, &carried.collection, &rules, changed, false).await?;
    Ok(enqueued)
}

/// When to look again.
pub(super) fn next(class: &Class) -> Instant {
    let now = Instant::now();
    match class {
        Class::Now => now,
        Class::Soon(every) | Class::Every(every) => now + *every,
        Class::Later(cron) => {
            let time = chrono::DateTime::from_timestamp_millis(now_ms().cast_signed());
            let next = time.and_then(|time| {
                let next = cron.find_next_occurrence(&time, false).ok()?;
                (next - time).to_std().ok()
            });
            now + next.unwrap_or(NEVER)
        }
    }
}

/// Projects documents and enqueues what differs, some in one commit.
async fn enqueue(
    adapter: &Adapter,
    collection: &Collection,
    rules: &Rules,
    documents: impl IntoIterator<Item = DocumentId>,
    is_forced: bool,
) -> Result<u64, FollowError> {
    let mut enqueued = 0;
    let mut documents = documents.into_iter().peekable();
    while documents.peek().is_some() {
        if !is_forced {
            room(adapter).await?;
        }
        // What is read is enqueued before anybody else reads.
        let _alone = adapter.projecting.lock().await;
        let some = documents.by_ref().take(TOGETHER).collect();
        let entries = changed(adapter, collection, rules, some, is_forced).await?;
        let mut together = Vec::with_capacity(entries.len());
        for entry in entries {
            let document = collection.document_by_id(entry.document);
            let (mapping, salt) = (&adapter.mapping, &adapter.salt);
            together.push(projected(mapping, salt, &document, entry, rules).await?);
        }
        enqueued += put(adapter, together).await?;
    }
    Ok(enqueued)
}

/// Enqueues the deletion of the rows of erased documents, and of reviews about them. Returns how many
/// deliveries that are.
async fn erase(adapter: &Adapter, erased: BTreeSet<DocumentId>) -> Result<u64, FollowError> {
    if erased.is_empty() {
        return Ok(0);
    }
    let queued = adapter.outbox(move |outbox| outbox.erase(now_ms(), &erased)).await?;
    if adapter.outbox(|outbox| outbox.is_erasing()).await? {
        adapter.erasing.store(true, Ordering::Relaxed);
    }
    if queued.deliveries > 0 {
        adapter.due.notify_one();
    }
    Ok(queued.deliveries)
}

/// Writes over what was erased, if it has left the target. Returns how long to wait before looking
/// again, which is longer each time that it is not done.
async fn end_erasing(adapter: &Adapter, again: &mut Duration) -> Duration {
    match adapter.outbox(|outbox| outbox.end_erasing(now_ms())).await {
        Ok(true) => {
            adapter.erasing.store(false, Ordering::Relaxed);
            *again = ERASING;
        }
        Ok(false) => *again = (*again * 2).min(ERASING_MAX),
        Err(fault) => {
            *again = ERASING_MAX;
            let error = &fault as &dyn std::error::Error;
            warn!(error, "what was erased is not written over in the outbox yet");
        }
    }
    *again
}

/// Waits until more may wait.
async fn room(adapter: &Adapter) -> Result<(), FollowError> {
    let max = adapter.mapping.waiting_max;
    let mut is_told = false;
    while adapter.outbox(|outbox| outbox.depth()).await?.waiting >= max {
        if !std::mem::replace(&mut is_told, true) {
            warn!(waiting = max, "as much waits as may; documents wait until some is delivered");
        }
        sleep(FULL).await;
    }
    Ok(())
}

/// Enqueues what differs, in one commit. Returns how many deliveries that are.
async fn put(adapter: &Adapter, some: Vec<Projected>) -> Result<u64, FollowError> {
    if some.is_empty() {
        return Ok(0);
    }
    let queued = adapter.outbox(move |outbox| outbox.enqueue(now_ms(), &some)).await?;
    if queued.deliveries > 0 {
        debug!(deliveries = queued.deliveries, replaced = queued.replaced, "enqueued");
        adapter.due.notify_one();
    }
    if queued.misfits > 0 {
        adapter.lag.lock().unwrap_or_else(PoisonError::into_inner).misfits += queued.misfits;
        info!(misfits = queued.misfits, "documents do not become rows; see the dead letters");
    }
    Ok(queued.deliveries)
}

/// Documents as they are; unless that is forced, without those that are enqueued already.
async fn changed(
    adapter: &Adapter,
    collection: &Collection,
    rules: &Rules,
    documents: Vec<DocumentId>,
    is_forced: bool,
) -> Result<Vec<Entry>, FollowError> {
    let mut entries = Vec::with_capacity(documents.len());
    for id in documents {
        entries.extend(collection.document_by_id(id).read().await?);
    }
    if is_forced || entries.is_empty() {
        return Ok(entries);
    }
    // Whoever asks the outbox waits for commits of others, so it is asked once for all.
    let schema = rules.heads.clone();
    let ask = move |outbox: &mut Outbox| {
        let mut changed = Vec::with_capacity(entries.len());
        for entry in entries {
            if !outbox.is_enqueued(&entry.document, &entry.heads, &schema)? {
                changed.push(entry);
            }
        }
        Ok(changed)
    };
    Ok(adapter.outbox(ask).await?)
}

/// What a document projects to.
pub(super) async fn projected(
    mapping: &Mapping,
    salt: &str,
    document: &Document,
    entry: Entry,
    rules: &Rules,
) -> Result<Projected, FollowError> {
    let mut asked = BTreeSet::new();
    if mapping.asks_what_is_agreed() {
        let view = document.view().await?;
        let open = |state: &FieldState| matches!(state, FieldState::Conflict { .. });
        let fields = view.fields.iter().filter(|(_, field)| field.states.iter().any(open));
        asked.extend(fields.map(|(place, _)| Path::from(place.as_str())));
    }
    let id = document.id();
    let source = projection::Input {
        document: &id,
        key: entry.key.as_deref(),
        deleted: entry.deleted,
        value: entry.agreed(),
        asked: &asked,
        zone: rules.zone,
        salt,
    };
    let rows = project(mapping, &source);
    let (heads, schema) = (entry.heads, rules.heads.clone());
    Ok(Projected { document: id, heads, schema, by_heads: true, about: Vec::new(), rows })
}

/// Documents enqueued in one commit.
pub(super) const TOGETHER: usize = 64;

/// A mapping that was changed takes no effect by itself.
const NOT_APPLIED: &str = "the mapping is not the one that was applied; `rejoin adapters plan` shows what \
    it changes, `rejoin adapters apply` makes it so, and nothing is enqueued until then";

/// How long to wait until rows of erased documents are looked for again that have left the target.
const ERASING: Duration = Duration::from_secs(1);
const ERASING_MAX: Duration = Duration::from_mins(1);

/// How long to wait where nothing more may wait.
const FULL: Duration = Duration::from_secs(1);

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_hours(24 * 365);
