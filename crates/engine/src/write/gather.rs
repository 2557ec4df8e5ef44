//! Heads gathered by changes without operations, where a document has more of them than one change
//! may build on.

use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, ReadDoc};
use rejoin_core::limits::HEADS_EASY_MAX;

use super::WriteError;
use super::by_hand::last_of;

/// Writes changes that build on these heads, or on the current ones, many at a time, until few are
/// left. Gives the changes, and those of `heads` that are left.
///
/// # Errors
/// Automerge refuses one of them.
pub(super) fn gather(
    doc: &mut Automerge,
    heads: Option<Vec<ChangeHash>>,
    time_s: i64,
) -> Result<(Vec<Change>, Option<Vec<ChangeHash>>), WriteError> {
    let mut changes = Vec::new();
    let of_all = heads.is_none();
    let mut rest = heads.unwrap_or_else(|| doc.get_heads());
    while rest.len() > HEADS_EASY_MAX {
        let mut group = rest.split_off(rest.len() - HEADS_EASY_MAX);
        // A change builds on the previous one of its actor.
        group.extend(last_of(doc, doc.get_actor()).map(|(last, _)| last));
        let mut fork = doc.fork_at(&group)?;
        fork.set_author(doc.get_author().cloned());
        fork.set_actor(doc.get_actor().clone());
        let hash = fork.empty_commit(CommitOptions::default().with_time(time_s));
        let change = fork.get_change_by_hash(&hash);
        doc.apply_changes(change.clone())?;
        changes.extend(change);
        rest.push(hash);
    }
    Ok((changes, (!of_all).then_some(rest)))
}
