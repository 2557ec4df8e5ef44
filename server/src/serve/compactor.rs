//! Two threads that fold documents and take them apart, each one at a time, by worker processes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use super::command::Command;
use crate::compaction::WorkerProcess;
use crate::relay::Upload;
use crate::store::FoldInput;

/// The threads that have documents folded or taken apart. Dropping it ends the threads, and the
/// workers with them.
#[derive(Debug)]
pub(super) struct Compactor {
    documents: SyncSender<FoldInput>,
    uploads: SyncSender<Upload>,
    stopped: Arc<AtomicBool>,
}

impl Compactor {
    pub(super) fn start(
        worker: WorkerProcess,
        engine: mpsc::WeakSender<Command>,
    ) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (is_stopped, folder) = (Arc::clone(&stopped), worker.clone());
        let documents = start("rejoin-folder", engine.clone(), move |input| {
            Command::Compacted(folder.run(input, || is_stopped.load(Ordering::Relaxed)))
        })?;
        let is_stopped = Arc::clone(&stopped);
        let uploads = start("rejoin-uploads", engine, move |upload: Upload| {
            let is_cancelled = || is_stopped.load(Ordering::Relaxed);
            Command::TakenApart(upload.id, worker.take_apart(upload.bytes, is_cancelled))
        })?;
        Ok(Self { documents, uploads, stopped })
    }

    /// Hands over a document. The engine has one under way at most, so there is room.
    pub(super) fn fold(&self, input: FoldInput) {
        let _ = self.documents.try_send(input);
    }

    /// Hands over an upload, if there is room: a store that was opened anew does not know the one
    /// that was handed over before.
    pub(super) fn take_apart(&self, upload: Upload) -> bool {
        self.uploads.try_send(upload).is_ok()
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts a thread that does `work` on each task it is given, and tells the engine the result.
fn start<T: Send + 'static>(
    name: &str,
    engine: mpsc::WeakSender<Command>,
    work: impl Fn(T) -> Command + Send + 'static,
) -> io::Result<SyncSender<T>> {
    let (sender, queue) = sync_channel(1);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Ok(given) = queue.recv() {
            let command = work(given);
            let Some(engine) = engine.upgrade() else { return };
            if engine.blocking_send(command).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}
