//! From an edit on another device to a row that others see.

use std::time::{Duration, Instant};

use rejoin::{Collection, Link, Replica};
use rejoin_tests::live::LiveRelay;
use tempfile::TempDir;

use super::bulk::{columns, upsert};
use super::seen::Seen;
use super::{JOBS_EDITED, Running, Target, job};
use crate::{Figure, quantile};

const EDITS: usize = 300;

/// A desk, a relay, and adapters with a replica of their own.
pub(super) struct Company {
    /// As the desk sees it.
    pub(super) jobs: Collection,
    pub(super) relay: LiveRelay,
    pub(super) folder: TempDir,
    pub(super) running: Running,
}

impl Company {
    /// Starts with some jobs, all of which are rows already.
    pub(super) async fn start(target: &Target, table: &str, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let relay = LiveRelay::start(folder.path().join("relay")).await;
        let desk = connected(&folder, "desk", &relay).await;
        let jobs = desk.space("main").and_then(|main| main.collection("jobs")).expect("names");
        let results = jobs.put_all((0..JOBS_EDITED).map(job).collect()).await.expect("open");
        assert!(results.iter().all(Result::is_ok), "every edit is kept");
        let mut adapters = vec![target.adapter(table)];
        adapters.extend_from_slice(more);
        let data = folder.path().join("adapters");
        std::fs::create_dir(&data).expect("a new folder");
        let running = Running::start(data, &relay, &adapters).await;
        while target.rows(table).await < JOBS_EDITED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { jobs, relay, folder, running }
    }

    /// Writes other notes into one of the jobs.
    pub(super) async fn edit(&self, n: usize, notes: &str) {
        let job = self.jobs.document(&job(n % JOBS_EDITED).0).expect("a key");
        job.set("notes", notes).await.expect("an edit");
    }
}

pub(super) async fn connected(folder: &TempDir, name: &str, relay: &LiveRelay) -> Replica {
    let replica = Replica::open(folder.path().join(name)).await.expect("a new replica");
    let main = replica.space("main").expect("a name");
    replica.connect(&relay.url(), &[&main]).await.expect("an address");
    replica.status_when(|status| status.link == Link::Safe).await.expect("open");
    replica
}

/// One edit after the other, each beside the same written straight to the database.
pub(super) async fn visible(target: &Target) -> Vec<Figure> {
    let mut seen = Seen::listen(target, "edited").await;
    let mut seen_straight = Seen::listen(target, "straight").await;
    let company = Company::start(target, "edited", &[]).await;
    let client = target.server.connect().await;
    let statement = client.prepare(&upsert("straight")).await.expect("a statement");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..EDITS {
        let notes = format!("edit {n}");
        let started = Instant::now();
        company.edit(n, &notes).await;
        seen.row(&notes).await;
        ours.push(started.elapsed());

        let [a, b, c, d, _, f, g] = columns(n % JOBS_EDITED);
        let started = Instant::now();
        let row = client.execute(&statement, &[&a, &b, &c, &d, &notes, &f, &g]).await;
        row.expect("a row");
        seen_straight.row(&notes).await;
        theirs.push(started.elapsed());
    }
    company.running.stop().await;
    company.relay.stop().await;
    let figure = |name: &str, part: f64, ours: &mut [Duration], theirs: &mut [Duration]| {
        let what = format!("edit to row that a listener sees, {name} of {EDITS}");
        Figure::new(what, quantile(ours, part), "upsert straight to it", quantile(theirs, part))
    };
    vec![figure("p50", 0.5, &mut ours, &mut theirs), figure("p99", 0.99, &mut ours, &mut theirs)]
}
