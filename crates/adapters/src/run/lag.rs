//! How long deliveries took, from the change that was enqueued to the target that took it.

use std::collections::VecDeque;

/// The last deliveries, and what came of all.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    recent_ms: VecDeque<u64>,
    /// Deliveries the target took.
    pub(crate) taken: u64,
    /// Attempts that may go better another time.
    pub(crate) transient: u64,
    /// Deliveries the target will never take.
    pub(crate) permanent: u64,
}

impl Lag {
    pub(crate) fn note(&mut self, ms: u64) {
        self.taken += 1;
        self.recent_ms.push_back(ms);
        if self.recent_ms.len() > RECENT_MAX {
            self.recent_ms.pop_front();
        }
    }

    /// What this part of the last deliveries took at most, in milliseconds.
    pub(crate) fn quantile(&self, part: f64) -> Option<u64> {
        let mut sorted: Vec<u64> = self.recent_ms.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len().checked_sub(1)? as f64 * part).round() as usize;
        sorted.get(at).copied()
    }
}

/// Deliveries that are remembered.
const RECENT_MAX: usize = 1024;
