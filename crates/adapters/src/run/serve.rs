//! What was delivered, where others fetch it from the sink.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::error;

use super::Adapter;

/// Serves until `stop` says so.
pub(super) async fn serve(adapter: Adapter, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        tokio::select! {
            ended = adapter.sink.serve() => match ended {
                Ok(()) => return,
                Err(fault) => error!(%fault, "nothing is served for now"),
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(5);
