//! Incremental backups while the relay serves: a task that asks the engine for a moment of the
//! store, and reads it on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::config::BackupPolicy;
use super::driver::unix_ms;
use super::engine::EngineHandle;
use super::metrics::Meters;
use crate::store::backup::{BackupError, Header, Moment, chains, prune, write_into};

/// Makes backups for as long as it is polled.
pub(super) async fn run(
    engine: EngineHandle,
    meters: Arc<Meters>,
    policy: BackupPolicy,
    folder: PathBuf,
) {
    // Made once: a folder that is gone later may be a disk that is not there.
    if let Err(error) = std::fs::create_dir_all(&folder) {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, folder = %folder.display(), "the folder of backups cannot be made");
    }
    let mut ticks = interval(policy.every.max(EVERY_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chain = None;
    loop {
        ticks.tick().await;
        let unix_ms = unix_ms();
        match back_up(&engine, &policy, &folder, chain.take(), unix_ms).await {
            Ok(next) => {
                meters.backed_up(Some(unix_ms));
                chain = Some(next);
            }
            Err(error) => {
                meters.backed_up(None);
                let error = &*error as &dyn std::error::Error;
                let folder = folder.display();
                tracing::error!(error, %folder, "no backup was made; it is tried again");
            }
        }
    }
}

/// The chain that the next backup goes on with.
struct Going {
    whole_ms: u64,
    last: Header,
    /// The files that it has, of which none may be gone.
    files: Vec<PathBuf>,
}

async fn back_up(
    engine: &EngineHandle,
    policy: &BackupPolicy,
    folder: &Path,
    chain: Option<Going>,
    unix_ms: u64,
) -> Result<Going, Box<dyn std::error::Error + Send + Sync>> {
    let moment = engine.moment().await.ok_or("the store is not open")??;
    let (folder, policy) = (folder.to_owned(), policy.clone());
    let written = spawn_blocking(move || -> Result<Going, BackupError> {
        let chain = match chain {
            Some(chain) => Some(chain),
            // The process began anew, or the backup before failed.
            None => found(&folder, &moment)?,
        };
        let full_ms = policy.full_every.as_millis() as u64;
        let chain = chain.filter(|chain| {
            let is_whole = chain.files.iter().all(|file| file.exists());
            if !is_whole {
                tracing::warn!(folder = %folder.display(), "a backup is gone; another chain begins");
            }
            is_whole && unix_ms.saturating_sub(chain.whole_ms) < full_ms
        });
        let before = chain.as_ref().map(|chain| &chain.last);
        let written = write_into(&folder, &moment, before, rand::random(), unix_ms)?;
        Ok(match (chain, written) {
            (Some(mut chain), Some((last, file))) => {
                chain.files.push(file);
                Going { last, ..chain }
            }
            (Some(chain), None) => chain,
            (None, written) => {
                let (last, file) = written.expect("a whole backup is written in any case");
                tracing::info!(folder = %folder.display(), "a whole backup was made");
                let keep_ms = policy.keep.as_millis() as u64;
                let before_ms = unix_ms.saturating_sub(keep_ms);
                if let Err(error) = prune(&folder, &last.relay, before_ms) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "old backups were not removed");
                }
                Going { whole_ms: unix_ms, last, files: vec![file] }
            }
        })
    });
    Ok(written.await??)
}

/// The last chain in the folder, if it is of this lifetime of this store.
fn found(folder: &Path, moment: &Moment) -> Result<Option<Going>, BackupError> {
    if !folder.exists() {
        return Ok(None);
    }
    for chain in chains(folder)?.chains.into_iter().rev() {
        let last = chain.last().clone();
        if moment.continues(&last)? {
            let whole_ms = chain.headers[0].unix_ms;
            return Ok(Some(Going { whole_ms, last, files: chain.files }));
        }
    }
    Ok(None)
}

/// The least time between two backups.
const EVERY_MIN: Duration = Duration::from_secs(1);
