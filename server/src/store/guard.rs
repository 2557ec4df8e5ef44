//! Reads of a file that may be damaged: redb reports most damage, and panics on some.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::StoreError;

/// Reads something of one document. If its pages make no sense, only this document is damaged, as
/// far as anybody knows.
pub(super) fn confined<T>(
    document: u64,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match unpanicked(read) {
        Err(StoreError::Corrupt(_)) => Err(StoreError::Damaged { document, what: "pages" }),
        read => read,
    }
}

/// Does work on which a damaged file may make redb panic.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let contradicts = |_| Err(StoreError::corrupt("its pages contradict each other"));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(contradicts)
}
