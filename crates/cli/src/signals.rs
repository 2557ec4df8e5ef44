//! The signals by which somebody asks a process that serves others to end.

use tokio::signal::ctrl_c;
use tracing::info;

/// Resolves when somebody interrupts the process, or asks it to end. A signal counts from the call
/// on: a process that has told others that it serves must not be ended by one without a goodbye.
pub(crate) fn stopped() -> impl Future<Output = ()> {
    let terminated = terminated();
    async {
        tokio::select! {
            _ = ctrl_c() => info!("interrupted; saying goodbye to sessions"),
            () = terminated => info!("asked to end; saying goodbye to sessions"),
        }
    }
}

#[cfg(unix)]
fn terminated() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handler = signal(SignalKind::terminate());
    async {
        match handler {
            Ok(mut terminate) => drop(terminate.recv().await),
            // Without a handler the signal ends the process at once, which loses nothing either.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
fn terminated() -> impl Future<Output = ()> {
    std::future::pending()
}
