//! How the replica that adapters follow stands towards its relay. However well every target is, what
//! changes elsewhere is not delivered while no relay can tell of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rejoin::{Link, Replica, Status};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info};

use super::answer::{self, Seen};
use crate::clock::now_ms;

/// When a relay was heard of last.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<u64>>>);

impl Heard {
    fn note(&self, at_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at_ms);
    }

    /// The time of the last connection's end, in milliseconds since 1970; now, while there is one.
    /// `None` if there was none since the adapters began.
    pub(super) fn last_ms(&self, status: &Status) -> Option<u64> {
        match is_connected(status) {
            true => Some(now_ms()),
            false => *self.0.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// As `rejoin adapters status` tells it. Without a replica that dials, adapters do not run.
    pub(super) fn link(&self, replica: Option<&Replica>) -> answer::Link {
        let status = replica.map(Replica::status).filter(|status| status.link != Link::Offline);
        let Some(status) = status else { return answer::Link::NotRunning };
        let seen = Seen { last_seen_ms: self.last_ms(&status), ..Seen::default() };
        match status.link {
            _ if !is_connected(&status) => {
                let trouble = status.trouble.as_deref().map(ToOwned::to_owned);
                answer::Link::Away(Seen { trouble, ..seen })
            }
            Link::Safe if !status.is_partial => answer::Link::Connected(seen),
            _ => {
                let (documents, of) =
                    status.progress.map(|progress| (progress.documents, progress.of)).unzip();
                answer::Link::Syncing(Seen { documents, of, ..seen })
            }
        }
    }
}

pub(super) fn is_connected(status: &Status) -> bool {
    matches!(status.link, Link::Syncing | Link::Safe)
}

/// Notes when a relay was there, and tells of it when it is away, until `stop` says so.
pub(super) async fn watch(replica: Replica, heard: Heard, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = follow(&replica, &heard) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Ends with the replica.
async fn follow(replica: &Replica, heard: &Heard) {
    loop {
        let back = replica.status_when(is_connected);
        tokio::pin!(back);
        match timeout(PATIENCE, &mut back).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                let why =
                    replica.status().trouble.unwrap_or_else(|| "it does not answer".to_owned());
                error!(why, "no relay: what changes elsewhere is not known here, nor delivered");
                if back.await.is_err() {
                    return;
                }
                info!("the relay is back");
            }
        }
        heard.note(now_ms());
        let lost = replica.status_when(|status| !is_connected(status)).await;
        heard.note(now_ms());
        if lost.is_err() {
            return;
        }
        // A line that comes and goes is dialled again at its own pace.
        sleep(SETTLING).await;
    }
}

/// How long a relay may be away before somebody hears of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait before looking again after a connection ended.
const SETTLING: Duration = Duration::from_millis(100);
