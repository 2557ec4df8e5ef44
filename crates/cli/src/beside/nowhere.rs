//! A system without sockets beside files: a second command about a replica that is open is refused.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::{Answer, Asked, ReadGuest};
use crate::host::Host;

/// Ignores the function, as there are no guests whose command lines it could read.
pub(crate) fn serve_with(_: ReadGuest) {}

/// Finds no process to ask.
pub(super) async fn ask(_: &Path, _: &Asked<'_>) -> Result<Answer> {
    Ok(Answer::Nobody)
}

/// Stands for the socket that does not exist here.
pub(crate) struct Holding;

impl Holding {
    pub(crate) fn listen(_: Arc<Host>, _: &Path) -> Option<Self> {
        None
    }

    pub(crate) async fn end(self) {}
}
