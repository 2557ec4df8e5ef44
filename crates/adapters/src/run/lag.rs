//! How long deliveries took, from the change that was enqueued to the target that took it.

use std::collections::VecDeque;

/// The last deliveries, and what came of all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lag {
    recent_ms: VecDeque<u64>,
    /// Deliveries the target took.
    pub(crate) taken: u64,
    /// Attempts that may go better another time.
    pub(crate) transient: u64,
    /// Attempts that the target or the configuration was in the way of.
    pub(crate) trouble: u64,
    /// Deliveries the target will never take.
    pub(crate) permanent: u64,
    /// Rows that documents did not become.
    pub(crate) misfits: u64,
    /// Deliveries by how long they took: up to each of [`BOUNDS_MS`], and not up to the one before.
    within: [u64; BOUNDS_MS.len()],
    /// What all that were taken took together.
    pub(crate) sum_ms: u64,
}

impl Lag {
    pub(crate) fn note(&mut self, ms: u64) {
        self.taken += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        if let Some(at) = BOUNDS_MS.iter().position(|bound| ms <= *bound) {
            self.within[at] += 1;
        }
        self.recent_ms.push_back(ms);
        if self.recent_ms.len() > RECENT_MAX {
            self.recent_ms.pop_front();
        }
    }

    /// How many deliveries took so many milliseconds at most.
    pub(crate) fn within(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.within.iter().scan(0, |sum, some| {
            *sum += some;
            Some(*sum)
        });
        BOUNDS_MS.into_iter().zip(sums)
    }

    /// What this part of the last deliveries took at most, in milliseconds.
    pub(crate) fn quantile(&self, part: f64) -> Option<u64> {
        let mut sorted: Vec<u64> = self.recent_ms.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len().checked_sub(1)? as f64 * part).round() as usize;
        sorted.get(at).copied()
    }
}

/// Milliseconds that deliveries are sorted by: from a local file to a target that was away for days.
const BOUNDS_MS: [u64; 16] = [
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000, 300_000, 3_600_000, 21_600_000,
    86_400_000,
];

/// Deliveries that are remembered.
const RECENT_MAX: usize = 1024;
