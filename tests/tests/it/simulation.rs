//! Two hundred simulated worlds, and the deliberate faults they must notice.

use rejoin_tests::sim::{self, Mutant};

/// Plays the worlds of consecutive seeds. A failure says how to play it again.
fn worlds(first: u64, count: u64) {
    for seed in first..first + count {
        match sim::run(seed, None, false) {
            Ok(report) => assert!(report.edits >= 300, "seed {seed} made {} edits", report.edits),
            Err(failure) => panic!("{failure}"),
        }
    }
}

macro_rules! seeds {
    ($($name:ident: $first:literal;)*) => {
        $(
            #[test]
            fn $name() {
                worlds($first, 20);
            }
        )*
    };
}

// One test for every twenty, so that both cores have work.
seeds! {
    worlds_1_to_20_keep_their_promises: 1;
    worlds_21_to_40_keep_their_promises: 21;
    worlds_41_to_60_keep_their_promises: 41;
    worlds_61_to_80_keep_their_promises: 61;
    worlds_81_to_100_keep_their_promises: 81;
    worlds_101_to_120_keep_their_promises: 101;
    worlds_121_to_140_keep_their_promises: 121;
    worlds_141_to_160_keep_their_promises: 141;
    worlds_161_to_180_keep_their_promises: 161;
    worlds_181_to_200_keep_their_promises: 181;
}

/// A removal that was refused took another item when it was made anew.
#[test]
fn removals_made_anew_take_the_items_they_were_meant_for() {
    for seed in [1_000_028, 1_000_176, 1_000_304] {
        worlds(seed, 1);
    }
}

/// Edits of a document that take several pushes were settled by the last one, although a relay had
/// asked to wait with a change in one before.
#[test]
fn what_is_refused_in_one_of_several_pushes_is_pushed_again() {
    worlds(1_320_700_853, 1);
}

/// A relay that went back to an older copy refused the same edits for ever: it was given what they
/// build on three times, while it refused everything, and then never again.
#[test]
fn what_a_relay_lacks_is_given_to_it_again_after_a_while() {
    worlds(297_568_739, 1);
}

/// A relay wanted of an offer only what it had more of itself, so nothing was pushed, and the replica
/// waited for an acknowledgement to go on with the next.
#[test]
fn an_offer_of_which_nothing_is_pushed_is_followed_by_the_next() {
    worlds(2_000_010, 1);
}

/// A relay refused for ever half of what took an edit back; the rest was made anew, and the other half
/// is kept aside.
#[test]
fn half_of_an_undo_may_be_refused() {
    worlds(4_291_313_072, 1);
}

/// A device whose file went back to an older copy takes back once more what it had taken back before,
/// as it has not heard of that. What both come to is the same everywhere.
#[test]
fn a_restored_device_may_take_back_twice() {
    worlds(521_984_132, 1);
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 11] {
        assert_eq!(sim::run(seed, None, false), sim::run(seed, None, false));
    }
}

/// Some world within fifty must break a promise.
fn is_caught(mutant: Mutant) {
    let caught = (1..=50).find(|seed| sim::run(*seed, Some(mutant), false).is_err());
    assert!(caught.is_some(), "nobody notices {mutant:?}");
    println!("seed {} notices {mutant:?}", caught.unwrap_or_default());
}

#[test]
fn acknowledging_before_the_commit_is_noticed() {
    is_caught(Mutant::AckBeforeCommit);
}

#[test]
fn dropping_the_dependency_check_is_noticed() {
    is_caught(Mutant::DroppedDepCheck);
}

#[test]
fn skipping_an_outbox_row_is_noticed() {
    is_caught(Mutant::SkippedOutboxRow);
}

#[test]
fn pushing_before_the_commit_is_noticed() {
    is_caught(Mutant::PushBeforeCommit);
}

#[test]
fn a_mark_that_moves_too_early_is_noticed() {
    is_caught(Mutant::MarkTooEarly);
}

#[test]
fn forgetting_pieces_is_noticed() {
    is_caught(Mutant::ForgottenPiece);
}
