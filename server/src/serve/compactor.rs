//! A thread that folds documents, one at a time, by a worker process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use super::engine::Command;
use crate::compaction::WorkerProcess;
use crate::store::FoldInput;

/// Where documents go to be folded. Dropping it ends the thread, and the worker with it.
#[derive(Debug)]
pub(super) struct Compactor {
    documents: SyncSender<FoldInput>,
    stopped: Arc<AtomicBool>,
}

impl Compactor {
    pub(super) fn start(
        worker: WorkerProcess,
        engine: mpsc::WeakSender<Command>,
    ) -> io::Result<Self> {
        let (documents, queue) = sync_channel(1);
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        thread::Builder::new()
            .name("rejoin-compactor".to_owned())
            .spawn(move || fold(&worker, &queue, &engine, &is_stopped))?;
        Ok(Self { documents, stopped })
    }

    /// Hands over a document. The engine has one under way at most, so there is room.
    pub(super) fn fold(&self, input: FoldInput) {
        let _ = self.documents.try_send(input);
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn fold(
    worker: &WorkerProcess,
    queue: &Receiver<FoldInput>,
    engine: &mpsc::WeakSender<Command>,
    stopped: &AtomicBool,
) {
    while let Ok(input) = queue.recv() {
        let result = worker.run(input, || stopped.load(Ordering::Relaxed));
        let Some(engine) = engine.upgrade() else { return };
        if engine.blocking_send(Command::Compacted(result)).is_err() {
            return;
        }
    }
}
