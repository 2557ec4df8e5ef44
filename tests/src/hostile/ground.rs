//! What the attackers of one siege have in common: whom, how long, how often, and what they were told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

use super::siege::Scale;

#[derive(Debug)]
pub(super) struct Ground {
    /// `ws://` and the address of the relay.
    pub(super) relay: String,
    pub(super) seed: u64,
    pub(super) scale: Scale,
    /// Until when it lasts, once it has begun.
    until: watch::Receiver<Option<Instant>>,
    frames_left: AtomicU64,
    answers: Mutex<BTreeMap<String, u64>>,
}

impl Ground {
    pub(super) fn new(
        relay: String,
        until: watch::Receiver<Option<Instant>>,
        seed: u64,
        scale: Scale,
    ) -> Self {
        let frames_left = AtomicU64::new(scale.frames);
        Self { relay, seed, scale, until, frames_left, answers: Mutex::default() }
    }

    /// Resolves when all attackers are prepared and the siege begins, and says until when it lasts.
    pub(super) async fn begins(&self) -> Instant {
        let mut until = self.until.clone();
        let begun = until.wait_for(Option::is_some).await.expect("whoever besieges waits for all");
        begun.expect("it was waited for")
    }

    pub(super) fn goes_on(&self) -> bool {
        self.is_time() && self.frames_left.load(Ordering::Relaxed) > 0
    }

    fn is_time(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Counts a frame that is about to be sent; nothing if there were enough.
    pub(super) fn count(&self) -> Option<()> {
        let fewer = |left: u64| left.checked_sub(1);
        self.frames_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).ok()?;
        self.is_time().then_some(())
    }

    /// Notes how a connection ended. Numbers in it are left out, so that the same answer is counted
    /// as one.
    pub(super) fn note(&self, who: &str, answer: &str) {
        let mut text = format!("{who}: ");
        for letter in answer.chars().take(160) {
            match letter.is_ascii_digit() {
                true if text.ends_with('#') => {}
                true => text.push('#'),
                false => text.push(letter),
            }
        }
        let mut answers = self.answers.lock().expect("nobody panics while noting");
        *answers.entry(text).or_default() += 1;
    }

    pub(super) fn into_answers(self) -> BTreeMap<String, u64> {
        self.answers.into_inner().expect("nobody panics while noting")
    }
}
