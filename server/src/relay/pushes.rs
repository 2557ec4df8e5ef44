//! The check of a push, change by change.

use std::ops::RangeInclusive;

use rejoin_core::ChangeHash;
use rejoin_core::change::{self, GuardError};
use rejoin_core::session::StoreOutcome;
use rejoin_core::wire::{Push, RefusedClass};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::intake::{Intake, Refused, Verdict};
use crate::store::StoreError;

/// The result of a push. Its answer may be given only after the commit.
#[derive(Debug)]
pub(super) struct Checked {
    /// The positions of the new changes. A push has one document, so they follow each other.
    pub(super) positions: Option<RangeInclusive<u64>>,
    /// The answer, if there can be one.
    pub(super) outcome: Result<StoreOutcome, NoChange>,
}

/// Bytes that have not even a hash to refuse them by.
#[derive(Debug, Error)]
#[error("push {n} holds something that is no change")]
pub(super) struct NoChange {
    n: u64,
    source: GuardError,
}

/// Checks a push change by change and stages the changes that are kept.
pub(super) fn check_push(push: &Push, mut intake: Intake<'_>) -> Result<Checked, StoreError> {
    for chunk in &push.changes {
        match change::parse(chunk) {
            Ok(change) => intake.take(&change, chunk)?,
            Err(source) => match hash_of_refused(chunk) {
                Some(hash) => intake.refused.add(hash, Verdict::never(&source)),
                None => {
                    let no_change = NoChange { n: push.n, source };
                    return Ok(Checked { positions: intake.positions, outcome: Err(no_change) });
                }
            },
        }
    }
    answer(intake)
}

fn answer(intake: Intake<'_>) -> Result<Checked, StoreError> {
    let Intake { options, store, counters, place, positions, refused, .. } = intake;
    let (is_over_quota, is_foreign) = (intake.is_over_quota, intake.is_foreign);
    counters.pushes += 1;
    let Some(class) = refused.class() else {
        return Ok(Checked { positions, outcome: Ok(StoreOutcome::Kept) });
    };
    refused.classes.values().for_each(|class| counters.refused.count(*class));
    if is_over_quota {
        counters.refused_full += refused.classes.len() as u64;
    }
    let heads = match class {
        RefusedClass::Missing => store.short_heads(place.space, place.document)?,
        _ => Vec::new(),
    };
    let retry_after_ms = match class {
        // An operator has to make room first.
        RefusedClass::Later if is_over_quota => FULL_RETRY_MS,
        // Somebody else has to sign in there, or the rules to change.
        RefusedClass::Later if is_foreign => FOREIGN_RETRY_MS,
        RefusedClass::Later => options.retry_after_ms,
        _ => 0,
    };
    let Refused { hashes, reason, .. } = refused;
    let outcome = StoreOutcome::Refused { class, hashes, heads, retry_after_ms, reason };
    Ok(Checked { positions, outcome: Ok(outcome) })
}

/// The hash of a whole change that breaks another rule of the guard, so that a replica with older
/// rules can set it aside rather than be sent away with it for ever. Bytes that do not even have
/// the hash they claim are no accident of versions.
fn hash_of_refused(chunk: &[u8]) -> Option<ChangeHash> {
    let (header, hashed) = chunk.split_at_checked(8)?;
    let is_change = header[..4] == MAGIC && hashed.first() == Some(&CHANGE_TYPE);
    let hash: [u8; 32] = Sha256::digest(hashed).into();
    (is_change && header[4..] == hash[..4]).then_some(ChangeHash(hash))
}

/// Milliseconds that a replica waits before it pushes again what is not to come from who is signed in.
/// It is less than for a full space, by which a replica knows one.
pub(super) const FOREIGN_RETRY_MS: u32 = 30_000;

/// Milliseconds that a replica waits before it pushes to a full space again.
const FULL_RETRY_MS: u32 = 60_000;

/// The bytes that every Automerge chunk begins with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// The chunk type of a change that is not deflated. Its checksum and hash cover the bytes from here
/// on.
const CHANGE_TYPE: u8 = 1;
