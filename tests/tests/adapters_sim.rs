//! A thousand simulated runs of delivery.

use std::collections::BTreeMap;

use rejoin_tests::adapters;

/// What the runs must be full of, or they prove nothing.
const FOUND: [&str; 7] =
    ["answers lost", "crashes", "dead letters", "enqueued", "misfits", "replaced", "taken"];

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    let mut found = BTreeMap::<&str, u64>::new();
    for seed in 1..=1000 {
        match adapters::run(seed, false) {
            Ok(report) => report.found.into_iter().for_each(|(what, often)| {
                *found.entry(what).or_default() += often;
            }),
            Err(failure) => panic!("{failure}"),
        }
    }
    for what in FOUND {
        assert!(found.get(what).is_some_and(|often| *often > 100), "few {what} in {found:?}");
    }
}
