//! From documents that change to deliveries that wait.

use std::collections::BTreeSet;
use std::time::Duration;

use rejoin::schema::SCHEMAS;
use rejoin::{ChangeHash, Collection, DocumentId, EditError, FieldState, Path, Space, WatchEvent};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

use super::{Adapter, documents, now_ms};
use crate::mapping::Class;
use crate::outbox::{OutboxError, Projected};
use crate::projection::{Source, project};

/// Documents cannot be followed for the moment.
#[derive(Debug, Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Replica(#[from] EditError),
}

/// Follows the documents of a collection until `stop` says so.
pub(super) async fn follow(
    adapter: Adapter,
    space: Space,
    collection: Collection,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let followed = tokio::select! {
            followed = follow_on(&adapter, &space, &collection) => followed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match followed {
            Ok(()) => return,
            Err(fault) => {
                error!(error = &fault as &dyn std::error::Error, "nothing is enqueued for now");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        }
    }
}

/// Follows until something fails, or the replica is closed.
async fn follow_on(
    adapter: &Adapter,
    space: &Space,
    collection: &Collection,
) -> Result<(), FollowError> {
    let mut watcher = collection.watch().await?;
    let schemas = space.collection(SCHEMAS).map_err(EditError::from)?;
    let schema = schemas.document(collection.name().as_str()).map_err(EditError::from)?;
    let mut schema_watcher = schema.watch().await?;
    let (mut dirty, mut all) = (BTreeSet::new(), true);
    // The next time to look, as far as the mapping makes targets wait.
    let mut at = Instant::now();
    loop {
        let is_waiting = all || !dirty.is_empty();
        tokio::select! {
            event = watcher.next() => match event {
                None => return Ok(()),
                Some(WatchEvent::Changed(change)) => _ = dirty.insert(change.document),
                Some(WatchEvent::ReadAgain) => all = true,
                Some(WatchEvent::Presence(_)) => continue,
            },
            event = schema_watcher.next() => match event {
                None => return Ok(()),
                Some(_) => all = true,
            },
            () = adapter.again.notified() => (all, at) = (true, Instant::now()),
            () = sleep_until(at), if is_waiting => {}
        }
        if Instant::now() < at {
            continue;
        }
        let heads = schema.read().await?.map(|entry| entry.heads).unwrap_or_default();
        if std::mem::take(&mut all) {
            dirty.clear();
            let documents = documents(space, collection).await?;
            enqueue(adapter, collection, &heads, documents).await?;
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
            enqueue(adapter, collection, &heads, std::mem::take(&mut dirty)).await?;
        }
        at = next(&adapter.mapping.class);
    }
}

/// When to look again.
fn next(class: &Class) -> Instant {
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
pub(super) async fn enqueue(
    adapter: &Adapter,
    collection: &Collection,
    schema: &[ChangeHash],
    documents: impl IntoIterator<Item = DocumentId>,
) -> Result<u64, FollowError> {
    let mut enqueued = 0;
    let mut documents = documents.into_iter().peekable();
    while documents.peek().is_some() {
        let mut some = Vec::new();
        for id in documents.by_ref().take(TOGETHER) {
            some.extend(projected(adapter, collection, schema, &id).await?);
        }
        if some.is_empty() {
            continue;
        }
        let queued = adapter.outbox(move |outbox| outbox.enqueue(now_ms(), &some)).await?;
        if queued.deliveries > 0 {
            debug!(deliveries = queued.deliveries, replaced = queued.replaced, "enqueued");
            adapter.due.notify_one();
        }
        if queued.misfits > 0 {
            info!(misfits = queued.misfits, "documents do not become rows; see the dead letters");
        }
        enqueued += queued.deliveries;
    }
    Ok(enqueued)
}

/// What a document projects to; nothing if that is enqueued already.
async fn projected(
    adapter: &Adapter,
    collection: &Collection,
    schema: &[ChangeHash],
    id: &DocumentId,
) -> Result<Option<Projected>, FollowError> {
    let document = collection.document_by_id(*id);
    let Some(entry) = document.read().await? else { return Ok(None) };
    let (id, heads, by) = (*id, entry.heads.clone(), schema.to_vec());
    if adapter.outbox(move |outbox| outbox.is_enqueued(&id, &heads, &by)).await? {
        return Ok(None);
    }
    let mut asked = BTreeSet::new();
    if adapter.mapping.asks_what_is_agreed() {
        let view = document.view().await?;
        let open = |state: &FieldState| matches!(state, FieldState::Conflict { .. });
        let fields = view.fields.iter().filter(|(_, field)| field.states.iter().any(open));
        asked.extend(fields.map(|(place, _)| Path::from(place.as_str())));
    }
    let source = Source {
        document: &id,
        key: entry.key.as_deref(),
        value: &entry.value,
        asked: &asked,
        salt: &adapter.salt,
    };
    let rows = project(&adapter.mapping, &source);
    Ok(Some(Projected { document: id, heads: entry.heads, schema: schema.to_vec(), rows }))
}

/// Documents enqueued in one commit.
const TOGETHER: usize = 64;

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_hours(24 * 365);
