//! Seeds that change with every commit, so that each is played in worlds nobody has seen.

use std::process::Command;

/// The first seed that belongs to the commit that is checked out. Without git, as in an unpacked
/// archive, it is always the same.
pub fn start() -> u64 {
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short=8", "HEAD"])
        .output();
    let hash = git.ok().and_then(|git| String::from_utf8(git.stdout).ok()).unwrap_or_default();
    FIRST + u64::from_str_radix(hash.trim(), 16).unwrap_or_default()
}

/// Above every seed that is played always.
const FIRST: u64 = 10_000_000;
