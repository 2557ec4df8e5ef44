//! The figures of a relay, in the text format of OpenMetrics, which Prometheus reads.
//!
//! Counters begin anew with the process, or with the store where a disk failed and the store was
//! opened again, as those who read them expect. No label is what people call anything.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::relay::{Counters, RefusedCounters};

/// Figures that are noted where they arise.
#[derive(Debug)]
pub(super) struct Meters {
    registry: Registry,
    commit: Histogram,
    changes: Histogram,
    message: Histogram,
    /// The time of the last backup that was finished, in milliseconds since 1970; 0 if there was
    /// none.
    backed_up_ms: AtomicU64,
    backups_failed: AtomicU64,
}

/// The present state of the engine, for the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// `None` while the store cannot be opened.
    pub(super) counters: Option<Counters>,
    pub(super) connections: usize,
    /// Of the replicas that are connected, the changes that the one furthest behind was not sent.
    pub(super) behind_most: u64,
    /// Replicas that are connected and were not sent everything.
    pub(super) behind: usize,
    pub(super) store_bytes: u64,
    pub(super) written_bytes: u64,
}

impl Meters {
    pub(super) fn new() -> Self {
        let seconds = || exponential_buckets(0.000_5, 2.0, 14);
        let mut registry = Registry::with_prefix("rejoin_relay");
        let commit = Histogram::new(seconds());
        registry.register_with_unit(
            "commit",
            "Time that a turn with a commit took, until it was on the disk",
            Unit::Seconds,
            commit.clone(),
        );
        let changes = Histogram::new(exponential_buckets(1.0, 4.0, 8));
        registry.register("commit_changes", "Changes in a commit", changes.clone());
        let message = Histogram::new(seconds());
        registry.register_with_unit(
            "message",
            "Time from the arrival of a message until all of it was on the disk",
            Unit::Seconds,
            message.clone(),
        );
        let version: Family<Vec<(&str, &str)>, Gauge> = Family::default();
        version.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("info", "The program", version);
        let (backed_up_ms, backups_failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { registry, commit, changes, message, backed_up_ms, backups_failed }
    }

    /// A commit of so many changes took this long.
    pub(super) fn committed(&self, changes: u64, took: Duration) {
        self.commit.observe(took.as_secs_f64());
        self.changes.observe(changes as f64);
    }

    /// A message was handled, and everything that it brought is on the disk.
    pub(super) fn handled(&self, took: Duration) {
        self.message.observe(took.as_secs_f64());
    }

    /// A backup was finished, or not.
    pub(super) fn backed_up(&self, unix_ms: Option<u64>) {
        match unix_ms {
            Some(unix_ms) => self.backed_up_ms.store(unix_ms, Ordering::Relaxed),
            None => _ = self.backups_failed.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The page.
    pub(super) fn page(&self, look: &Look) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode_registry(&mut page, &self.registry)?;
        encode_registry(&mut page, &self.present(look))?;
        encode_eof(&mut page)?;
        Ok(page)
    }

    fn present(&self, look: &Look) -> Registry {
        let mut registry = Registry::with_prefix("rejoin_relay");
        let mut gauge = |name: &str, help: &str, value: u64| {
            registry.register(
                name,
                help,
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
            );
        };
        gauge("store_open", "Whether the store is open", u64::from(look.counters.is_some()));
        gauge("connections", "Connections now", look.connections as u64);
        gauge(
            "replicas_behind",
            "Connected replicas that were not sent everything",
            look.behind as u64,
        );
        gauge(
            "replica_behind_most_changes",
            "Changes that the connected replica furthest behind was not sent",
            look.behind_most,
        );
        gauge("store_bytes", "Bytes of the store's file", look.store_bytes);
        gauge(
            "backup_finished_seconds",
            "Time of the last backup that was finished, in seconds since 1970",
            self.backed_up_ms.load(Ordering::Relaxed) / 1000,
        );
        if let Some(counters) = &look.counters {
            gauge("queued", "Entries that wait for connections", counters.queued as u64);
            gauge(
                "unread_bytes",
                "Bytes that replicas have not read",
                counters.unread_bytes as u64,
            );
            gauge(
                "peer_bytes",
                "Memory that automerge-repo's peers take",
                counters.peer_bytes as u64,
            );
            gauge(
                "documents_lost",
                "Documents of which damage took changes that no replica has brought back",
                counters.documents_lost as u64,
            );
            gauge(
                "overwrite_due",
                "Whether bytes of an erased document may still be in the file",
                u64::from(counters.overwrite_due),
            );
            gauge("graph_bytes", "Memory of change graphs", counters.graph_bytes as u64);
        }
        let mut count = |name: &str, help: &str, value: u64| {
            registry.register(name, help, ConstCounter::new(value));
        };
        count("disk_written_bytes", "Bytes written to the disk", look.written_bytes);
        let failed = self.backups_failed.load(Ordering::Relaxed);
        count("backups_failed", "Backups that could not be made", failed);
        if let Some(counters) = &look.counters {
            counted(&mut count, counters);
        }
        registry
    }
}

fn counted(count: &mut impl FnMut(&str, &str, u64), counters: &Counters) {
    count("pushes", "Pushes answered", counters.pushes);
    count("changes_kept", "Changes stored", counters.changes_kept);
    count("changes_kept_bytes", "Bytes of changes stored", counters.bytes_kept);
    count("changes_known", "Changes pushed that were stored before", counters.changes_known);
    let RefusedCounters { missing, later, never, actor_reused } = counters.refused;
    count("refused_missing", "Changes that build on something unknown", missing);
    count("refused_later", "Changes that could not be taken just then", later);
    count("refused_full", "Changes that wait because their space is full", counters.refused_full);
    count("refused_never", "Changes that can never be taken", never);
    count("refused_actor_reused", "Changes whose place is taken", actor_reused);
    count("commits", "Commits", counters.commits);
    count("messages_in", "Messages received", counters.frames_in);
    count("messages_out", "Messages given to connections", counters.frames_out);
    count("received_bytes", "Bytes of messages received", counters.bytes_in);
    count("sent_bytes", "Bytes of messages given to connections", counters.bytes_out);
    count("protocol_errors", "Connections closed for a breach", counters.protocol_errors);
    count("graphs_loaded", "Change graphs read from the store", counters.graphs_loaded);
    count("folded", "Documents folded into snapshots", counters.compactions);
    count("folds_failed", "Documents that could not be folded", counters.compactions_failed);
    count("uploads_failed", "Whole documents not taken apart", counters.uploads_failed);
    count("documents_damaged", "Documents found damaged", counters.documents_damaged);
    count("changes_damaged", "Changes lost to damage", counters.changes_damaged);
    count("documents_scrubbed", "Documents looked at for damage", counters.documents_scrubbed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_figure_once_and_an_end() {
        let meters = Meters::new();
        meters.committed(7, Duration::from_millis(3));
        meters.handled(Duration::from_millis(4));
        meters.backed_up(Some(1_800_000_000_000));
        meters.backed_up(None);
        let counters = Counters { changes_kept: 7, ..Counters::default() };
        let look = Look {
            counters: Some(counters),
            connections: 2,
            behind_most: 5,
            behind: 1,
            store_bytes: 1 << 20,
            written_bytes: 1 << 21,
        };
        let page = meters.page(&look).unwrap();
        for line in [
            "rejoin_relay_changes_kept_total 7",
            "rejoin_relay_commit_seconds_count 1",
            "rejoin_relay_commit_changes_sum 7.0",
            "rejoin_relay_backups_failed_total 1",
            "rejoin_relay_backup_finished_seconds 1800000000",
            "rejoin_relay_store_open 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        let mut names: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        let closed = meters.page(&Look { counters: None, ..look }).unwrap();
        assert!(closed.contains("rejoin_relay_store_open 0") && !closed.contains("_kept"));
    }
}
