//! People who share devices, and logins that fail.

use rejoin_tests::{fresh, login};

fn play(seeds: impl IntoIterator<Item = u64>) {
    let mut sum = login::Report::default();
    for seed in seeds {
        let report = login::run(seed).unwrap_or_else(|broken| panic!("{broken}"));
        sum.edits += report.edits;
        sum.discarded += report.discarded;
        sum.set_aside += report.set_aside;
        sum.sessions += report.sessions;
        sum.shut_out += report.shut_out;
        sum.held += report.held;
    }
    println!("{sum:?}");
    let login::Report { edits, discarded, set_aside, sessions, shut_out, held } = sum;
    let happened = [edits, discarded, set_aside, sessions, shut_out, held];
    assert!(happened.iter().all(|times| *times > 0), "something never happened: {sum:?}");
}

#[test]
fn a_login_never_costs_work() {
    // Those after the first 200 found faults.
    play((1..=200).chain([3_886_317_972, 4_112_888_507]));
}

#[test]
fn fresh_logins_never_cost_work() {
    play(fresh::start()..fresh::start() + 100);
}
