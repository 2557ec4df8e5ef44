//! One Automerge transaction, from which a panic comes back as an error.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transaction};
use automerge::{Automerge, AutomergeError, ChangeHash, PatchLog};

use super::WriteError;

/// Runs `work` at these heads, or at the current ones, and commits its operations. Gives `None` if
/// it wrote none.
///
/// A transaction that is dropped rolls back, which panics for the same reason as the work did; a
/// panic while another one unwinds would end the process. So the transaction is never dropped by
/// unwinding.
///
/// # Errors Automerge refused something, and all of it was rolled back; or it panicked, and the
/// state of `doc` is unknown.
pub(super) fn transact(
    doc: &mut Automerge,
    heads: Option<&[ChangeHash]>,
    options: CommitOptions,
    work: impl FnOnce(&mut Transaction<'_>) -> Result<(), AutomergeError>,
) -> Result<Option<ChangeHash>, WriteError> {
    let mut transaction = ManuallyDrop::new(match heads {
        None => doc.transaction(),
        Some(heads) => doc
            .transaction_at(PatchLog::inactive(), heads)
            .expect("a new patch log belongs to no other document"),
    });
    let worked = catch_unwind(AssertUnwindSafe(|| work(&mut transaction)));
    let worked = worked.map_err(|_| WriteError::Panicked)?;
    // Both take the work out of the transaction first, so nothing is left for its drop to roll
    // back.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let transaction = ManuallyDrop::into_inner(transaction);
        match worked {
            Ok(()) => Ok(transaction.commit_with(options).0),
            Err(error) => {
                transaction.rollback();
                Err(error)
            }
        }
    }));
    Ok(ended.map_err(|_| WriteError::Panicked)??)
}
