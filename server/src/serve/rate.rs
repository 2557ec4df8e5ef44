//! The pace at which one connection is read from.

use std::time::Duration;

use tokio::time::Instant;

/// The messages and bytes that a connection may still send without being slowed.
#[derive(Debug)]
pub(super) struct Rate {
    messages: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    per_second: Option<u64>,
    left: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(messages_per_second: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            messages: Bucket::new(messages_per_second, now),
            bytes: Bucket::new(bytes_per_second, now),
        }
    }

    /// A message came. Returns the time to wait before the next one is read.
    pub(super) fn take(&mut self, bytes: usize) -> Duration {
        let now = Instant::now();
        let wait = self.messages.take(1.0, now).max(self.bytes.take(bytes as f64, now));
        // The connection is pinged, and has to be heard again before it counts as dead.
        wait.min(WAIT_MAX)
    }
}

impl Bucket {
    fn new(per_second: Option<u64>, at: Instant) -> Self {
        Self { per_second, left: per_second.unwrap_or_default() as f64 * BURST_S, at }
    }

    fn take(&mut self, amount: f64, now: Instant) -> Duration {
        let Some(per_second) = self.per_second else { return Duration::ZERO };
        let per_second = per_second as f64;
        let since = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + since * per_second).min(per_second * BURST_S) - amount;
        Duration::from_secs_f64((-self.left / per_second).max(0.0))
    }
}

/// Seconds of its pace that a connection may send at once, as after a time offline.
const BURST_S: f64 = 5.0;

/// The longest time for which a connection is not read from.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_more_is_slowed_to_its_pace() {
        let (mut rate, begun) = (Rate::new(Some(10), None), Instant::now());
        for _ in 0..250 {
            sleep(rate.take(1 << 20)).await;
        }
        assert_eq!(begun.elapsed().as_secs(), 20, "50 at once, 200 at 10 a second");
        sleep(Duration::from_secs(3600)).await;
        let waits = (0..51).map(|_| rate.take(0)).filter(|wait| !wait.is_zero());
        assert_eq!(waits.count(), 1, "no more is saved up than a few seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_however_they_come() {
        let mut rate = Rate::new(None, Some(1000));
        assert_eq!(rate.take(5000), Duration::ZERO);
        assert_eq!(rate.take(2000).as_secs(), 2);
        assert_eq!(rate.take(1 << 30), WAIT_MAX);
        assert_eq!(Rate::new(None, None).take(1 << 30), Duration::ZERO);
    }
}
