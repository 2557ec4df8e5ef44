//! No sockets: a second command about a replica that is open is refused.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::{Answer, Host};
use crate::arguments::Arguments;

/// Finds nobody to ask.
pub(super) async fn ask(_: &Path, _: &Arguments) -> Result<Answer> {
    Ok(Answer::Nobody)
}

/// Listens to nobody.
pub(crate) struct Holding;

impl Holding {
    pub(crate) fn listen(_: Arc<Host>, _: &Path) -> Option<Self> {
        None
    }

    pub(crate) async fn end(self) {}
}
