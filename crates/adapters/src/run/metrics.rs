//! How adapters do, for [Prometheus](https://prometheus.io/docs/instrumenting/exposition_formats/).
//!
//! Labels are adapters and fixed words, never what documents or rows are called or hold. Counters
//! begin anew with the process, as those who read them expect.

use std::fmt::Display;
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

use super::answer::{self, Report};
use super::deliveries::deliveries;
use super::lag::Lag;
use super::status::state;
use super::{Adapter, Operator};
use crate::clock::now_ms;
use crate::listener;
use crate::outbox::{Depth, TARGET};

/// Answers at `/metrics` for as long as it is polled, and at `/deliveries` if it listens to this machine
/// alone.
pub async fn serve(operator: Operator, listener: TcpListener) {
    let is_here = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut router = Router::new().route("/metrics", get(metrics));
    if is_here {
        router = router.route("/deliveries", get(deliveries));
    }
    let router = router.with_state(Arc::new(operator));
    match listener::serve(listener, router).await {}
}

async fn metrics(
    State(operator): State<Arc<Operator>>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], operator.metrics().await)
}

impl Operator {
    /// How adapters do, in the text format of Prometheus.
    pub async fn metrics(&self) -> String {
        let mut looks = Vec::with_capacity(self.adapters.len());
        for adapter in self.adapters.values() {
            looks.push(Look::at(adapter).await);
        }
        let mut page = Page::default();
        let stopped: Vec<_> = self.stopped.keys().map(String::as_str).collect();
        stand(&mut page, &looks, &stopped);
        delivered(&mut page, &looks);
        reconciled(&mut page, &looks);
        if let Some((seen_ms, is_connected)) = self.heard() {
            linked(&mut page, seen_ms, is_connected);
        }
        page.text
    }
}

/// An adapter at one moment.
struct Look {
    name: String,
    /// Nothing while the outbox cannot be read.
    outbox: Option<(Depth, answer::State)>,
    /// Since when the oldest of what waits does, in milliseconds since 1970.
    oldest_ms: Option<u64>,
    /// Since when the oldest trouble lasts, of the whole target and of kinds of rows.
    troubles_ms: [Option<u64>; 2],
    lag: Lag,
    reconciled: Option<Report>,
}

impl Look {
    async fn at(adapter: &Adapter) -> Self {
        let looked = adapter.outbox(|outbox| {
            let oldest = outbox.unsent(1)?.first().map(|unsent| unsent.since_ms);
            let troubles = outbox.endpoint().troubles.iter();
            let (mut target, mut kind) = (None, None);
            for (reach, trouble) in troubles {
                let oldest = if reach == TARGET { &mut target } else { &mut kind };
                *oldest = Some(oldest.map_or(trouble.since_ms, |at: u64| at.min(trouble.since_ms)));
            }
            Ok((outbox.depth()?, state(outbox), oldest, [target, kind]))
        });
        let looked = looked.await.inspect_err(|fault| {
            let (error, adapter) = (fault as &dyn std::error::Error, &adapter.name);
            error!(error, adapter, "metrics tell nothing of an outbox");
        });
        let looked = looked.ok();
        let lag = adapter.lag.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reconciled = adapter.reconciled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            name: adapter.name.clone(),
            outbox: looked.map(|(depth, state, ..)| (depth, state)),
            oldest_ms: looked.and_then(|(_, _, oldest, _)| oldest),
            troubles_ms: looked.map(|(.., troubles)| troubles).unwrap_or_default(),
            lag,
            reconciled,
        }
    }
}

/// What is in the outboxes.
fn stand(page: &mut Page, looks: &[Look], stopped: &[&str]) {
    page.family(
        "state",
        "gauge",
        "Whether the target is in this state; in none while the outbox cannot be read.",
    );
    let is_in = |look: &Look| look.outbox.map(|(_, state)| state.name());
    let states = looks.iter().map(|look| (&*look.name, is_in(look)));
    for (name, is) in states.chain(stopped.iter().map(|name| (*name, Some(STOPPED)))) {
        for state in answer::State::ALL.map(answer::State::name).into_iter().chain([STOPPED]) {
            let labels = [("adapter", name), ("state", state)];
            page.sample("state", &labels, u8::from(is == Some(state)));
        }
    }
    let depths = || looks.iter().filter_map(|look| Some((look, look.outbox?.0)));
    page.family("deliveries_waiting", "gauge", "Deliveries that the target does not have yet.");
    for (look, depth) in depths() {
        page.sample("deliveries_waiting", &look.labels(), depth.waiting);
    }
    page.family(
        "oldest_unsent_age_seconds",
        "gauge",
        "How long the oldest of them waits; 0 if none does.",
    );
    for (look, _) in depths() {
        let age_ms = look.oldest_ms.map_or(0, |oldest| now_ms().saturating_sub(oldest));
        page.sample("oldest_unsent_age_seconds", &look.labels(), seconds(age_ms));
    }
    page.family(
        "trouble_age_seconds",
        "gauge",
        "How long the target, or rows of a kind, cannot be delivered by no row's fault; 0 if they can.",
    );
    for (look, _) in depths() {
        for (reach, since_ms) in [("target", look.troubles_ms[0]), ("kind", look.troubles_ms[1])] {
            let age_ms = since_ms.map_or(0, |since_ms| now_ms().saturating_sub(since_ms));
            let labels = [("adapter", &*look.name), ("what", reach)];
            page.sample("trouble_age_seconds", &labels, seconds(age_ms));
        }
    }
    page.family("dead_letters", "gauge", "Dead letters that wait for somebody.");
    for (look, depth) in depths() {
        page.sample("dead_letters", &look.labels(), depth.dead);
    }
    page.family("documents", "gauge", "Documents that were enqueued at some time.");
    for (look, depth) in depths() {
        page.sample("documents", &look.labels(), depth.documents);
    }
}

/// What came of deliveries since the process began.
fn delivered(page: &mut Page, looks: &[Look]) {
    page.family("deliveries_taken_total", "counter", "Deliveries that the target took.");
    for look in looks {
        page.sample("deliveries_taken_total", &look.labels(), look.lag.taken);
    }
    page.family(
        "faults_total",
        "counter",
        "Attempts that failed for now, by a trouble of the target or for good, and rows that \
         documents did not become.",
    );
    for look in looks {
        let Lag { transient, trouble, permanent, misfits, .. } = look.lag;
        let classes = [
            ("transient", transient),
            ("trouble", trouble),
            ("permanent", permanent),
            ("misfit", misfits),
        ];
        for (class, count) in classes {
            page.sample("faults_total", &[("adapter", &look.name), ("class", class)], count);
        }
    }
    page.family(
        "lag_seconds",
        "histogram",
        "From when a delivery was enqueued to when the target took it.",
    );
    for look in looks {
        for (bound_ms, count) in look.lag.within() {
            let bound = seconds(bound_ms).to_string();
            page.sample("lag_seconds_bucket", &[("adapter", &look.name), ("le", &bound)], count);
        }
        let all = [("adapter", &*look.name), ("le", "+Inf")];
        page.sample("lag_seconds_bucket", &all, look.lag.taken);
        page.sample("lag_seconds_sum", &look.labels(), seconds(look.lag.sum_ms));
        page.sample("lag_seconds_count", &look.labels(), look.lag.taken);
    }
}

/// What the last comparisons with the targets found; nothing before the first.
fn reconciled(page: &mut Page, looks: &[Look]) {
    let known = || looks.iter().filter_map(|look| Some((look, look.reconciled.as_ref()?)));
    page.family(
        "reconcile_timestamp_seconds",
        "gauge",
        "When the target was compared last, since 1970.",
    );
    for (look, report) in known() {
        let at = seconds(report.at_ms);
        page.sample("reconcile_timestamp_seconds", &look.labels(), at);
    }
    page.family(
        "reconcile_rows",
        "gauge",
        "Rows that were not as they should be when the target was compared last.",
    );
    for (look, report) in known() {
        let Report { missing, extra, differs, .. } = report;
        for (what, rows) in [("missing", missing), ("extra", extra), ("differs", differs)] {
            let labels = [("adapter", &*look.name), ("what", what)];
            page.sample("reconcile_rows", &labels, rows);
        }
    }
}

/// Whether there is a relay to hear of changes from.
fn linked(page: &mut Page, seen_ms: Option<u64>, is_connected: bool) {
    page.family("relay_connected", "gauge", "Whether the replica is connected to its relay.");
    page.sample("relay_connected", &[], u8::from(is_connected));
    page.family(
        "relay_seen_timestamp_seconds",
        "gauge",
        "When it was connected last, since 1970; 0 if it was not since the process began.",
    );
    page.sample("relay_seen_timestamp_seconds", &[], seen_ms.map_or(0.0, seconds));
}

impl Look {
    fn labels(&self) -> [(&'static str, &str); 1] {
        [("adapter", &self.name)]
    }
}

/// The state of an adapter that cannot begin.
const STOPPED: &str = "stopped";

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The text as it is written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let name = format!("rejoin_adapter_{name}");
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Label values need no escapes: names of adapters are letters, digits, - and _.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        self.text.push_str(&format!("rejoin_adapter_{name}{labels} {value}\n"));
    }
}
