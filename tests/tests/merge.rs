//! Two thousand random histories, each compared with a brute-force fold.

use rejoin_tests::merge;

#[test]
fn first() {
    for seed in 1..200 {
        if let Err(failure) = merge::run(seed, false) {
            panic!("{failure}");
        }
    }
}
