//! Hostile peers of every kind harm nobody else: a short siege of each, and of all together.

use std::time::Duration;

use rejoin_tests::hostile::{Attack, Outcome, Plan, Scale, besiege};

/// Bytes of memory that a relay may come to, whoever attacks it.
const MEMORY_MAX: u64 = 256 << 20;

/// Sieges of one attack at most.
const SIEGES_MAX: usize = 10;

const PLAN: Plan =
    Plan { lasts: Duration::from_secs(1), rest: Duration::ZERO, seed: 1, scale: Scale::SMALL };

#[track_caller]
fn harms_nobody(attacks: &[Attack]) -> Outcome {
    let outcome = besiege(attacks, PLAN);
    assert!(outcome.lives, "{outcome:#?}");
    assert!(outcome.latencies.edits > 0, "{outcome:#?}");
    assert_eq!(outcome.latencies.lost, 0, "{outcome:#?}");
    assert!(outcome.agrees, "{outcome:#?}");
    assert!(outcome.health.is_some(), "{outcome:#?}");
    assert!(outcome.peak.is_none_or(|peak| peak <= MEMORY_MAX), "{outcome:#?}");
    assert!(!outcome.answers.is_empty(), "nobody attacked");
    outcome
}

/// Whoever breaks the protocol is closed. On a busy machine the second may be over before the relay has
/// read so far, so the siege is played until it has.
#[track_caller]
fn alone(attack: Attack) {
    let is_closed = (0..SIEGES_MAX).any(|_| {
        let outcome = harms_nobody(&[attack]);
        let closed = outcome.answers.keys().any(|answer| answer.contains(": closed"));
        closed || !attack.is_to_be_closed()
    });
    assert!(is_closed, "{} was never closed", attack.name());
}

#[test]
fn who_wants_and_never_reads() {
    alone(Attack::Wants);
}

#[test]
fn who_names_a_space_often_and_repairs_many() {
    alone(Attack::Hello);
}

#[test]
fn who_pushes_what_is_no_change() {
    alone(Attack::BadPushes);
}

#[test]
fn who_wants_one_document_again_and_again() {
    alone(Attack::WantTwice);
}

#[test]
fn who_sends_chunks_of_ten_bytes() {
    alone(Attack::RepoChunks);
}

#[test]
fn who_gossips_to_those_who_do_not_read() {
    alone(Attack::RepoHeads);
}

#[test]
fn who_is_present_to_many_who_do_not_read() {
    alone(Attack::Presence);
}

#[test]
fn who_uploads_what_expands() {
    alone(Attack::RepoUpload);
}

#[test]
fn who_uses_up_documents() {
    alone(Attack::Counters);
}

#[test]
fn who_changes_bytes_at_random() {
    alone(Attack::Mutations);
}

#[test]
fn all_together() {
    harms_nobody(&Attack::ALL);
}
