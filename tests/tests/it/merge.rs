//! Two thousand random histories, each compared at every moment with a fold written from the rules
//! alone.

use std::collections::BTreeMap;

use rejoin_tests::merge;

/// What histories must be full of, or they prove nothing.
const FOUND: [&str; 16] = [
    "conflicts",
    "conversions",
    "corrections",
    "disagreements",
    "folds",
    "hidden containers",
    "indices",
    "indices beside hidden items",
    "made anew",
    "refused",
    "reloads",
    "removals",
    "schema changes",
    "settled",
    "steps back",
    "values that do not count",
];

/// Plays the histories of consecutive seeds. A failure says how to play it again.
fn histories(first: u64, count: u64) {
    let mut found = BTreeMap::<&str, u64>::new();
    for seed in first..first + count {
        match merge::run(seed, false) {
            Ok(report) => report.found.into_iter().for_each(|(what, often)| {
                *found.entry(what).or_default() += often;
            }),
            Err(failure) => panic!("{failure}"),
        }
    }
    for what in FOUND {
        assert!(found.get(what).is_some_and(|often| *often > 0), "no {what} in {found:?}");
    }
}

/// Histories in which devices disagreed at some time, each with what it found.
#[test]
fn histories_that_disagreed_once_agree() {
    // A decision about containers, one of which another program had taken the place of meanwhile; and
    // one that came to a device which knew nothing else of what was decided between. And an item of a
    // set that a decision had deleted which was taken back, beside another with the same value.
    for seed in [3_993_381_321, 4_227_210_036, 2_611_093_516] {
        if let Err(failure) = merge::run(seed, false) {
            panic!("{failure}");
        }
    }
}

macro_rules! seeds {
    ($($name:ident: $first:literal;)*) => {
        $(
            #[test]
            fn $name() {
                histories($first, 250);
            }
        )*
    };
}

// One test for every two hundred and fifty, so that both cores have work.
seeds! {
    histories_1_to_250_agree_with_the_fold: 1;
    histories_251_to_500_agree_with_the_fold: 251;
    histories_501_to_750_agree_with_the_fold: 501;
    histories_751_to_1000_agree_with_the_fold: 751;
    histories_1001_to_1250_agree_with_the_fold: 1001;
    histories_1251_to_1500_agree_with_the_fold: 1251;
    histories_1501_to_1750_agree_with_the_fold: 1501;
    histories_1751_to_2000_agree_with_the_fold: 1751;
}
