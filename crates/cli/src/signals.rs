//! The signals by which somebody asks a process that serves others to end.

use tokio::signal::ctrl_c;
use tracing::info;

/// Resolves when somebody interrupts the process, or asks it to end.
pub(crate) async fn stopped() {
    tokio::select! {
        _ = ctrl_c() => info!("interrupted; saying goodbye to sessions"),
        () = terminated() => info!("asked to end; saying goodbye to sessions"),
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        // Without a handler the signal ends the process at once, which loses nothing either.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
