//! A thousand simulated runs of delivery.

use std::collections::BTreeMap;

use rejoin_adapters::mapping::Mode;
use rejoin_tests::adapters;

/// What the runs must be full of, or they prove nothing.
const FOUND: [&str; 11] = [
    "answers lost",
    "backfills",
    "crashes",
    "dead letters",
    "enqueued",
    "misfits",
    "outages",
    "repaired",
    "replaced",
    "taken",
    "troubles",
];

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

#[test]
fn a_power_cut_at_every_operation_of_the_disk_loses_nothing() {
    for mode in [Mode::State, Mode::Event] {
        let mut operations = 0;
        while adapters::crash_at(operations, mode).unwrap_or_else(|failure| panic!("{failure}")) {
            operations += 1;
        }
        assert!(operations > 50, "only {operations} operations");
    }
}

/// Two repairs of one row in the same millisecond once shared a key, which then had two effects.
#[test]
fn two_repairs_in_one_millisecond_have_two_keys() {
    if let Err(failure) = adapters::run(1_183_111_085, false) {
        panic!("{failure}");
    }
}
