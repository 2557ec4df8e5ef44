//! Work that waits for the disk.

/// Does something on a thread that may wait for the disk. A panic there goes on here; whoever waits
/// while the runtime ends waits for ever.
pub(crate) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Everything ends.
            Err(_) => std::future::pending().await,
        },
    }
}
