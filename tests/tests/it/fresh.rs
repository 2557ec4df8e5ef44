//! Worlds, histories and deliveries that nobody has played before: their seeds are chosen by the
//! commit. `cargo xtask test` says which; a failure says how to play it again.

use rejoin_tests::{adapters, fresh, merge, sim};

/// The seeds of this commit, `count` from `first` on.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let start = fresh::start() + first;
    println!("seeds {start} to {}", start + count - 1);
    start..start + count
}

fn worlds(first: u64, count: u64) {
    for seed in seeds(first, count) {
        sim::run(seed, None, false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

// Two tests, so that both cores have work.
#[test]
fn fresh_worlds_1_to_25_keep_their_promises() {
    worlds(0, 25);
}

#[test]
fn fresh_worlds_26_to_50_keep_their_promises() {
    worlds(25, 25);
}

#[test]
fn fresh_histories_agree_with_the_fold() {
    for seed in seeds(0, 300) {
        merge::run(seed, false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn fresh_deliveries_lose_nothing_and_happen_once() {
    for seed in seeds(0, 50) {
        adapters::run(seed, false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
