//! Two replicas that work through a siege: one edits, the other sees it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rejoin::{Document, WatchEvent, Watcher};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::native::{Native, patiently};

/// Between two edits.
const PAUSE: Duration = Duration::from_millis(50);

/// How long after the siege an edit may still come, and documents become the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long edits took from the one side to the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latencies {
    /// Half took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
    /// How many were made.
    pub edits: usize,
    /// How many of them never came.
    pub lost: usize,
}

/// Two replicas with a document that both have.
#[derive(Debug)]
pub(super) struct Pair {
    desk: Native,
    van: Native,
    document: Document,
    watcher: Watcher,
}

impl Pair {
    /// Both dial the relay, and one makes a document that comes to the other.
    pub(super) async fn meet(folder: &Path, relay: &str) -> Self {
        let desk = Native::dial(folder.join("desk.redb"), "main", relay).await;
        let van = Native::dial(folder.join("van.redb"), "main", relay).await;
        let made = desk.documents().create("honest", &json!({ "status": "booked" })).await;
        let document = made.expect("the replica is open");
        van.value_when(&document.id().to_string(), |_| true).await;
        let watcher = van.documents().watch().await.expect("the replica is open");
        Self { desk, van, document, watcher }
    }

    /// Edits until the time is up, and then waits for what is still on its way.
    pub(super) async fn work(&mut self, until: Instant) -> Latencies {
        let sent = Mutex::new(Vec::new());
        let (document, watcher, van) = (&self.document, &mut self.watcher, &self.van);
        let here = van.document(&document.id().to_string());
        let write = async {
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // Nothing is sent after that, so that who reads knows when it has seen all.
                if Instant::now() >= until {
                    break;
                }
                let number = {
                    let mut sent = sent.lock().expect("nobody panics while noting");
                    sent.push(Instant::now());
                    sent.len() - 1
                };
                document.set(format!("e{number}"), number).await.expect("an edit is made");
            }
        };
        let mut seen: Vec<Option<Instant>> = Vec::new();
        let read = async {
            loop {
                let all = sent.lock().expect("nobody panics while noting").len();
                seen.resize(all.max(seen.len()), None);
                if Instant::now() >= until && seen.iter().all(Option::is_some) {
                    break;
                }
                // A second at most, to see that the time is up although nothing comes.
                let soon = Instant::now() + Duration::from_secs(1);
                let mut fields = match timeout_at(soon, watcher.next()).await {
                    Err(_) => continue,
                    Ok(Some(WatchEvent::Changed(change))) if change.document == here.id() => {
                        change.fields
                    }
                    Ok(Some(WatchEvent::ReadAgain)) => BTreeSet::new(),
                    Ok(Some(_)) => continue,
                    Ok(None) => break,
                };
                // It is not known which fields changed.
                if fields.is_empty() {
                    let value = here.get::<Value>().await.expect("it can be read");
                    let value = value.unwrap_or_default();
                    fields
                        .extend(value.as_object().into_iter().flat_map(|map| map.keys().cloned()));
                }
                let now = Instant::now();
                let numbers =
                    fields.iter().filter_map(|field| field.strip_prefix('e')?.parse().ok());
                for number in numbers.collect::<Vec<usize>>() {
                    seen.resize(seen.len().max(number + 1), None);
                    seen[number].get_or_insert(now);
                }
            }
        };
        let read = timeout_at(until + PATIENCE, read);
        // Whether everything came is seen from what did.
        let _ = tokio::join!(write, read).1;
        let sent = sent.into_inner().expect("nobody panics while noting");
        latencies(&sent, &seen)
    }

    /// Whether both have the same, and the document of a foreign client as that has it.
    pub(super) async fn agree(&self, foreign: &str, heads: &[String]) -> bool {
        let ours = self.document.id().to_string();
        let until = Instant::now() + PATIENCE;
        let mut ticks = interval(PAUSE);
        while Instant::now() < until {
            ticks.tick().await;
            let same = self.desk.heads(&ours).await == self.van.heads(&ours).await;
            let foreign_too =
                self.desk.heads(foreign).await == heads && self.van.heads(foreign).await == heads;
            if same && foreign_too {
                return true;
            }
        }
        false
    }

    /// Ends both.
    pub(super) async fn part(self) {
        drop((self.document, self.watcher));
        patiently("both replicas close", async {
            self.desk.close().await;
            self.van.close().await;
        })
        .await;
    }
}

fn latencies(sent: &[Instant], seen: &[Option<Instant>]) -> Latencies {
    let both = sent.iter().zip(seen).filter_map(|(sent, seen)| Some((*seen)? - *sent));
    let mut took: Vec<_> = both.collect();
    took.sort();
    let at = |part: f64| {
        let place = (took.len() as f64 * part).ceil() as usize;
        took.get(place.saturating_sub(1)).copied().unwrap_or_default()
    };
    let lost = sent.len() - took.len();
    Latencies { p50: at(0.5), p99: at(0.99), max: at(1.0), edits: sent.len(), lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_lost_and_not_quick() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let sent: Vec<_> = (0..100).map(after).collect();
        let seen: Vec<_> = (0..100).map(|n| (n != 50).then(|| after(2 * n + 1))).collect();
        let Latencies { p50, p99, max, edits, lost } = latencies(&sent, &seen);
        assert_eq!((edits, lost), (100, 1));
        assert_eq!((p50.as_millis(), p99.as_millis(), max.as_millis()), (50, 100, 100));
    }
}
