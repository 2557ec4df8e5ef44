//! What the relay's process tells while it is attacked: its memory, and how soon it answers.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::requests::request;

/// Between two questions whether it is well.
const PAUSE: Duration = Duration::from_millis(50);

/// Lets the highest resident memory of a process count from now on. Where that is not possible it
/// counts from its start, which is more.
pub(super) fn forget_peak(process: u32) {
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// The highest resident memory of a process, in bytes; nothing where there is no /proc.
pub fn peak(process: u32) -> Option<u64> {
    field(process, "VmHWM:")
}

/// The resident memory of a process, in bytes; nothing where there is no /proc.
pub(super) fn resident(process: u32) -> Option<u64> {
    field(process, "VmRSS:")
}

fn field(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Asks whether the relay is well until the time is up, and returns how long the slowest answer took.
pub(super) async fn slowest_health(relay: SocketAddr, until: Instant) -> Duration {
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let asked = Instant::now();
        let answer = request(relay, "GET", "/healthz", &[]).await;
        assert_eq!(answer.status, 200, "the relay says that it is not well");
        slowest = slowest.max(asked.elapsed());
        sleep(PAUSE).await;
    }
    slowest
}
