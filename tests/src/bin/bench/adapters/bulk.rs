//! Many documents at once, to rows.

use std::fmt::Write as _;
use std::io::Cursor;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use rejoin::Link;
use rejoin_tests::live::LiveRelay;
use tokio::time::sleep;

use super::{Running, Target, job, write_jobs};
use crate::{Figure, quantile};

const JOBS: usize = 10_000;
const ROUNDS: usize = 3;
const BATCH: usize = 256;
/// One row in so many is written by itself.
const PART: usize = 10;

/// From the start of adapters with an empty outbox, on a replica that has the documents and a relay
/// that has them too, until the table has the last row. Medians of rounds, one of each in turn.
pub(super) async fn delivered(target: &Target) -> Vec<Figure> {
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    let (mut batched, mut looped) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(by_adapters(target, &format!("jobs_{round}")).await);
        copied.push(copy(target, &format!("copied_{round}")).await);
        batched.push(batches(target, &format!("batched_{round}")).await);
        looped.push(one_by_one(target, &format!("looped_{round}")).await);
    }
    let ours = quantile(&mut ours, 0.5);
    let figure = |beside: &str, theirs: Duration| {
        let what = format!("{JOBS} documents to rows, {} a second", per_second(ours));
        Figure::new(what, ours, &format!("{beside}, {} a second", per_second(theirs)), theirs)
    };
    vec![
        figure("COPY of the rows", quantile(&mut copied, 0.5)),
        figure(&format!("upserts, {BATCH} in a commit"), quantile(&mut batched, 0.5)),
        figure("upserts, each committed", quantile(&mut looped, 0.5)),
    ]
}

pub(super) fn per_second_of(count: usize, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}

fn per_second(took: Duration) -> u64 {
    per_second_of(JOBS, took)
}

async fn by_adapters(target: &Target, table: &str) -> Duration {
    target.create(table).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let file = folder.path().join("replica.redb");
    write_jobs(&file, JOBS).await;
    let replica = rejoin::Replica::open(&file).await.expect("a replica");
    let main = replica.space("main").expect("a name");
    replica.connect(&relay.url(), &[&main]).await.expect("an address");
    replica.status_when(|status| status.link == Link::Safe).await.expect("open");
    replica.saved().await.expect("the relay takes it");
    replica.close().await;

    let started = Instant::now();
    let running = Running::start(folder.path().to_owned(), &relay, &[target.adapter(table)]).await;
    while target.rows(table).await < JOBS {
        sleep(LOOK_AGAIN).await;
    }
    let took = started.elapsed();
    running.stop().await;
    relay.stop().await;
    took
}

async fn copy(target: &Target, table: &str) -> Duration {
    target.create(table).await;
    let mut text = String::new();
    for n in 0..JOBS {
        let row = columns(n);
        writeln!(text, "{}", row.join("\t")).expect("memory");
    }
    let started = Instant::now();
    let sql = format!("COPY {table} FROM STDIN");
    let sink = target.client.copy_in(&sql).await.expect("a table");
    tokio::pin!(sink);
    sink.send(Cursor::new(text.into_bytes())).await.expect("rows");
    sink.close().await.expect("rows");
    assert_eq!(target.rows(table).await, JOBS);
    started.elapsed()
}

async fn batches(target: &Target, table: &str) -> Duration {
    target.create(table).await;
    let rows: Vec<_> = (0..JOBS).map(columns).collect();
    let given = "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
                 $7::text[]) AS g(key, status, phone, address, notes, starts_at, ends_at)";
    let sql = format!(
        "INSERT INTO {table} SELECT key, status, phone, address, notes, starts_at::timestamptz, \
         ends_at::timestamptz FROM {given} {ON_CONFLICT}"
    );
    let started = Instant::now();
    let statement = target.client.prepare(&sql).await.expect("a statement");
    for some in rows.chunks(BATCH) {
        let column = |at: usize| some.iter().map(|row| &*row[at]).collect::<Vec<&str>>();
        let [a, b, c, d, e, f, g] = std::array::from_fn(column);
        let written = target.client.execute(&statement, &[&a, &b, &c, &d, &e, &f, &g]).await;
        assert_eq!(written.expect("rows"), some.len() as u64);
    }
    assert_eq!(target.rows(table).await, JOBS);
    started.elapsed()
}

/// A part of the rows, to save time, and what all would take.
async fn one_by_one(target: &Target, table: &str) -> Duration {
    target.create(table).await;
    let rows: Vec<_> = (0..JOBS / PART).map(columns).collect();
    let started = Instant::now();
    let statement = target.client.prepare(&upsert(table)).await.expect("a statement");
    for [a, b, c, d, e, f, g] in &rows {
        let written = target.client.execute(&statement, &[a, b, c, d, e, f, g]).await;
        assert_eq!(written.expect("a row"), 1);
    }
    assert_eq!(target.rows(table).await, JOBS / PART);
    started.elapsed() * PART as u32
}

/// A job as the columns of its table, all of them texts.
pub(super) fn columns(n: usize) -> [String; 7] {
    let (key, fields) = job(n);
    let text = |name: &str| fields[name].as_str().expect("a text").to_owned();
    let names = ["status", "phone", "address", "notes", "starts_at", "ends_at"];
    let [status, phone, address, notes, starts_at, ends_at] = names.map(text);
    [key, status, phone, address, notes, starts_at, ends_at]
}

/// Writes one row, whether or not it is there.
pub(super) fn upsert(table: &str) -> String {
    format!(
        "INSERT INTO {table} VALUES ($1, $2, $3, $4, $5, $6::text::timestamptz, \
         $7::text::timestamptz) {ON_CONFLICT}"
    )
}

const ON_CONFLICT: &str = "\
ON CONFLICT (key) DO UPDATE SET status = EXCLUDED.status, phone = EXCLUDED.phone, \
address = EXCLUDED.address, notes = EXCLUDED.notes, starts_at = EXCLUDED.starts_at, \
ends_at = EXCLUDED.ends_at";

/// How often the table is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
