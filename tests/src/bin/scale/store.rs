//! One relay with two replicas, and so many documents.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rejoin::{Link, Replica};
use rejoin_tests::line::{Line, Quality};
use rejoin_tests::processes::{Rejoin, RelayProcess};
use tempfile::TempDir;

use crate::measured::{self, Used};

/// One figure.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

const EDITS: usize = 300;
/// Documents that change while the other replica is away.
const CHANGED: usize = 50;

/// A desk imports the documents and gives them to a relay; a van takes them from there.
pub(crate) fn measure(count: usize) -> Result<Vec<Row>> {
    let folder = TempDir::new()?;
    write_csv(&folder.path().join("in.csv"), count)?;
    let rejoin = Rejoin::in_dir(folder.path());
    let relay = RelayProcess::start(folder.path().join("relay"));
    let run = |what: &str, arguments: &[&str]| -> Result<Used> {
        eprint!("{count} documents, {what} ... ");
        let used = measured::run(rejoin.command(arguments)).context(what.to_owned())?;
        eprintln!("{:.1} s", used.time.as_secs_f64());
        Ok(used)
    };
    let sync = |what: &str, replica: &str, url: &str| {
        run(what, &["--replica", replica, "sync", url, "--once", "--timeout", "180m"])
    };

    let import = "--replica desk.redb import in.csv --collection jobs --key id";
    let imported = run("import", &import.split(' ').collect::<Vec<_>>())?;
    let uploaded = sync("upload", "desk.redb", &relay.url())?;
    let relay_written = measured::written(relay.id())?;
    let downloaded = sync("download", "van.redb", &relay.url())?;
    let listed = run("list", &["--replica", "van.redb", "list", "jobs", "--json"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let edits = runtime.block_on(edits(&folder.path().join("desk.redb"), &relay, count))?;
    let line = Line::to(&relay.url(), Quality::GOOD);
    let returned = sync("return", "van.redb", &line.url())?;

    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let size = |file: &str| fs::metadata(folder.path().join(file)).map(|file| file.len());
    let of_each = |bytes: u64| bytes as f64 / count as f64;
    let row = |what, unit, value| Row { what, unit, value };
    Ok(vec![
        row("import, each", "µs", each(imported.time)),
        row("upload, each", "µs", each(uploaded.time)),
        row("download, each", "µs", each(downloaded.time)),
        row("list, each", "µs", each(listed.time)),
        row("one edit, on this disk, median", "ms", edits.kept),
        row("one edit, at the relay, median", "ms", edits.saved),
        row("returning, 300 edits to 50", "ms", returned.time.as_secs_f64() * 1e3),
        row("returning, from the relay", "bytes", line.carried().1 as f64),
        row("returning, to the relay", "bytes", line.carried().0 as f64),
        row("memory of import, at most", "MiB", mib(imported.memory)),
        row("memory of download, at most", "MiB", mib(downloaded.memory)),
        row("memory of the relay, at most", "MiB", mib(measured::memory(relay.id())?)),
        row("file of a replica, each", "bytes", of_each(size("desk.redb")?)),
        row("file of the relay, each", "bytes", of_each(size("relay/relay.redb")?)),
        row("written by import, each", "bytes", of_each(imported.written)),
        row("written by the relay, each", "bytes", of_each(relay_written)),
        row("written by download, each", "bytes", of_each(downloaded.written)),
    ])
}

fn write_csv(path: &Path, count: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    writeln!(file, "id,name,status,note")?;
    for n in 0..count {
        let note: String = (0..40).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
        writeln!(file, "{n:07},Name {n},open,{note}")?;
    }
    Ok(file.flush()?)
}

/// Medians, in milliseconds.
struct Edits {
    kept: f64,
    saved: f64,
}

/// Edits documents here and there, each when the one before is at the relay.
async fn edits(file: &Path, relay: &RelayProcess, count: usize) -> Result<Edits> {
    let replica = Replica::open(file).await?;
    let main = replica.space("main")?;
    replica.connect(&relay.url(), &[&main]).await?;
    replica.status_when(|status| status.link == Link::Safe).await?;
    let jobs = main.collection("jobs")?;
    let (mut kept, mut saved) = (Vec::new(), Vec::new());
    for n in 0..EDITS {
        let document = jobs.document(&format!("{:07}", (n % CHANGED) * (count / CHANGED)))?;
        let started = Instant::now();
        document.set("status", format!("done {n}")).await?;
        kept.push(started.elapsed());
        document.saved().await?;
        saved.push(started.elapsed());
    }
    replica.close().await;
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    Ok(Edits { kept: median(&mut kept), saved: median(&mut saved) })
}
