//! Metrics of adapters that run, scraped as Prometheus does and read by the letter of its format.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::requests::request;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What one page says: every sample by its name and labels, in the order of the labels.
#[derive(Debug)]
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    /// Reads a page, and accepts nothing that the format does not say.
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no help: {line}"));
            let (family, help) = help.split_once(' ').expect("a name and what it is");
            assert!(family.starts_with("rejoin_adapter_") && is_name(family), "{line}");
            assert!(!help.is_empty() && !help.contains('\\'), "{line}");
            assert!(families.insert(family.to_owned()), "twice: {line}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
            let (named, kind) = kind.expect("the type comes after the help");
            assert_eq!(named, family);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family} is a {kind}");
            assert!(!family.ends_with("_ms"), "{family} is not in base units");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = match series.split_once('{') {
                    Some((name, labels)) => {
                        (name, labels.strip_suffix('}').expect("an end of the labels"))
                    }
                    None => (series, ""),
                };
                let suffix = name.strip_prefix(family).expect("a sample of the family before");
                let suffixes: &[_] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let labels: BTreeMap<_, _> = labels.split_terminator(',').map(label).collect();
                assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
                let known = ["adapter", "state", "class", "what", "le"];
                assert!(labels.keys().all(|label| known.contains(label)), "{line}");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(value.is_finite() && value >= 0.0, "{line}");
                let labels: Vec<_> =
                    labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let series = format!("{name} {}", labels.join(" "));
                assert!(samples.insert(series, value).is_none(), "twice: {line}");
            }
        }
        let scraped = Self(samples);
        scraped.check_histogram("rejoin_adapter_lag_seconds");
        scraped
    }

    /// Buckets hold what those before them hold, and the last one all.
    fn check_histogram(&self, name: &str) {
        let prefix = format!("{name}_bucket adapter=board le=");
        let buckets = self.0.iter().filter_map(|(series, count)| {
            let bound = series.strip_prefix(&prefix)?.replace('+', "");
            Some((bound.parse::<f64>().expect("a bound"), *count))
        });
        let mut buckets: Vec<_> = buckets.collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{buckets:?}");
        let all = buckets.last().copied();
        assert_eq!(all, Some((f64::INFINITY, self.of("lag_seconds_count", "adapter=board"))));
        assert!(buckets.len() > 10, "{buckets:?}");
    }

    #[track_caller]
    fn of(&self, name: &str, labels: &str) -> f64 {
        let series = format!("rejoin_adapter_{name} {labels}");
        *self.0.get(&series).unwrap_or_else(|| panic!("there is no {series} in {self:#?}"))
    }

    /// Of the only adapter.
    #[track_caller]
    fn board(&self, name: &str) -> f64 {
        self.of(name, "adapter=board")
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    text.starts_with(is_letter) && text.chars().all(|it| is_letter(it) || it.is_ascii_digit())
}

fn label(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').expect("a label and its value");
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = value.expect("a value in quotes");
    assert!(is_name(name) && !value.contains(['"', '\\']), "{text}");
    (name, value)
}

/// A relay, adapters that tell how they do, and somebody who edits.
struct Company {
    relay: RelayProcess,
    rejoin: Rejoin,
    folder: TempDir,
}

impl Company {
    fn new(metrics: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = RelayProcess::start(folder.path().join("relay"));
        let text = format!(
            r#"
            [replica]
            data    = "adapters"
            relay   = "{}"
            space   = "main"
            metrics = "{metrics}"
            [adapter.board]
            collection = "jobs"
            sink       = {{ kind = "jsonl", folder = "out" }}
            [[adapter.board.record]]
            name = "jobs"
            key  = "{{key}}"
            [adapter.board.record.fields]
            status = {{ from = "status", map = {{ booked = "BOOKED", done = "CLOSED" }} }}
            "#,
            relay.url()
        );
        std::fs::write(folder.path().join("adapters.toml"), text).expect("a file");
        let rejoin = Rejoin::in_dir(folder.path());
        Self { relay, rejoin, folder }
    }

    fn set(&self, key: &str, field: &str) {
        self.rejoin.ok(["--replica", "desk.redb", "set", "jobs", key, field]);
        self.rejoin.ok(["--replica", "desk.redb", "sync", &self.relay.url(), "--once"]);
    }
}

/// Where a process says its metrics are.
fn address(running: &mut Running) -> SocketAddr {
    assert!(running.line().expect("it says that it runs").contains("board"));
    let line = running.line().expect("it says where its metrics are");
    let address =
        line.strip_prefix("metrics at http://").and_then(|it| it.strip_suffix("/metrics"));
    address.unwrap_or_else(|| panic!("it says {line}")).parse().expect("an address")
}

/// Scrapes until what it says is so.
fn scrape(to: SocketAddr, what: &str, is_so: impl Fn(&Scraped) -> bool) -> Scraped {
    let (runtime, began) = (Runtime::new().expect("threads"), Instant::now());
    loop {
        let answer = runtime.block_on(request(to, "GET", "/metrics", &[]));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let text = String::from_utf8(answer.body).expect("text");
        for hidden in ["canary", "W-", "jobs"] {
            assert!(!text.contains(hidden), "{hidden} stands in {text}");
        }
        let scraped = Scraped::read(&text);
        if is_so(&scraped) {
            return scraped;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what} does not come: {scraped:#?}");
        std::thread::yield_now();
    }
}

#[test]
fn metrics_rise_with_what_is_delivered() {
    let company = Company::new("127.0.0.1:0");
    let mut running = Running::start(company.rejoin.command(["adapters", "run"]));
    let at = address(&mut running);
    let before = scrape(at, "the target", |it| it.of("state", "adapter=board state=up") == 1.0);
    assert_eq!(before.board("deliveries_taken_total"), 0.0);
    assert_eq!(before.board("oldest_unsent_age_seconds"), 0.0);
    assert!(!before.0.keys().any(|series| series.contains("reconcile")), "{before:?}");

    for key in ["W-1", "W-2", "W-3"] {
        company.set(key, "status=booked");
    }
    let taken = |wanted: f64| move |it: &Scraped| it.board("deliveries_taken_total") == wanted;
    let after = scrape(at, "three deliveries", taken(3.0));
    assert_eq!(after.board("documents"), 3.0);
    assert_eq!(after.board("lag_seconds_count"), 3.0);
    assert!(after.board("lag_seconds_sum") < 60.0, "{after:?}");

    company.set("W-4", "status=canary");
    let misfits = "adapter=board class=misfit";
    let after = scrape(at, "the misfit", |it| it.of("faults_total", misfits) == 1.0);
    assert_eq!(after.board("dead_letters"), 1.0);
    assert_eq!(after.of("faults_total", "adapter=board class=transient"), 0.0);
    assert_eq!(after.of("faults_total", "adapter=board class=permanent"), 0.0);

    company.rejoin.ok(["adapters", "pause", "board"]);
    company.set("W-1", "status=done");
    let after = scrape(at, "what waits", |it| it.board("deliveries_waiting") == 1.0);
    assert_eq!(after.of("state", "adapter=board state=paused"), 1.0);
    assert_eq!(after.of("state", "adapter=board state=up"), 0.0);
    scrape(at, "its age", |it| it.board("oldest_unsent_age_seconds") > 0.0);
    company.rejoin.ok(["adapters", "resume", "board"]);
    let after = scrape(at, "the last delivery", taken(4.0));
    assert_eq!(after.board("deliveries_waiting"), 0.0);

    // Somebody loses what was delivered.
    let lost = company.folder.path().join("out").join("1.jsonl");
    std::fs::OpenOptions::new().write(true).open(lost).and_then(|file| file.set_len(0)).unwrap();
    company.rejoin.ok(["adapters", "reconcile", "board"]);
    let after = scrape(at, "what was repaired", taken(7.0));
    assert_eq!(after.of("reconcile_rows", "adapter=board what=missing"), 3.0);
    assert_eq!(after.of("reconcile_rows", "adapter=board what=extra"), 0.0);
    assert!(after.board("reconcile_timestamp_seconds") > 1_700_000_000.0);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_busy_port_is_told_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address").to_string();
    let company = Company::new(&at);
    let said = company.rejoin.refused(["adapters", "run"]);
    assert!(said.contains(&at) && said.contains("`metrics`"), "{said}");
}
