//! One Automerge transaction, from which a panic comes back as an error.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transaction};
use automerge::{ActorId, Automerge, AutomergeError, ChangeHash, PatchLog};

use super::WriteError;
use super::by_hand::last_of;

/// Runs `work` at these heads, or at the current ones, and commits its operations. Gives `None` if
/// it wrote none.
///
/// A transaction that is dropped rolls back, which panics for the same reason as the work did; a
/// panic while another one unwinds would end the process. So the transaction is never dropped by
/// unwinding.
///
/// # Errors
/// Automerge refused something, and all of it was rolled back; or it panicked, and the
/// state of `doc` is unknown.
pub(super) fn transact(
    doc: &mut Automerge,
    heads: Option<&[ChangeHash]>,
    options: CommitOptions,
    work: impl FnOnce(&mut Transaction<'_>) -> Result<(), AutomergeError>,
) -> Result<Option<ChangeHash>, WriteError> {
    let own = doc.get_actor().clone();
    if let Some(other) = heads.and_then(|heads| apart(doc, heads)) {
        doc.set_actor(other);
    }
    let done = run(doc, heads, options, work);
    if *doc.get_actor() != own {
        doc.set_actor(own);
    }
    done
}

/// Another actor to write with at these heads, if the document's own one would not do. Automerge looks
/// for one by operations, and so takes an actor whose last change has none for one whose changes are
/// all among those before `heads`. The next change has to build on its actor's previous one.
fn apart(doc: &Automerge, heads: &[ChangeHash]) -> Option<ActorId> {
    // Only changes after `heads` are looked at: a document may have any number before them.
    let after = doc.get_changes_meta(heads);
    let own = after.iter().filter(|change| *change.actor == *doc.get_actor());
    own.max_by_key(|change| change.seq).filter(|last| last.max_op < last.start_op)?;
    let own = doc.get_actor().to_bytes();
    let other = |number: u16| ActorId::from([own, &number.to_be_bytes()[..]].concat());
    (0..).map(other).find(|actor| last_of(doc, actor).is_none())
}

fn run(
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
