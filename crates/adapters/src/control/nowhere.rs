//! No socket: who runs adapters has the outboxes to themselves, and is ended before others look.

use std::io;
use std::path::Path;

use super::ControlError;
use crate::run::{Answer, Ask, Operator};

/// Answers nobody.
///
/// # Errors
/// None.
pub async fn serve(_: Operator, _: &Path) -> io::Result<()> {
    std::future::pending().await
}

/// Finds nobody to ask.
///
/// # Errors
/// Nobody can be asked here.
pub async fn ask(_: &Path, _: &Ask) -> Result<Answer, ControlError> {
    Err(ControlError::NotRunning)
}
