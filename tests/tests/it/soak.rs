//! A minute of a relay's days; `cargo xtask soak --hours N` plays more.

use std::time::Duration;

use rejoin_tests::soak::soak;

#[test]
fn nothing_acknowledged_is_lost_in_a_minute_of_kills_and_lost_disks() {
    let folder = tempfile::tempdir().expect("a folder");
    let soaked = soak(folder.path(), Duration::from_secs(60), 1);
    println!("{soaked}");
    assert!(soaked.kills > 0 && soaked.disks > 0 && soaked.backups > 0, "{soaked}");
}
