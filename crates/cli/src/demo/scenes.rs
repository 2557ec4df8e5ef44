//! The scenes of the morning in their order, and the check that all devices end up with the same
//! documents.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rejoin::{Identity, Op, WatchEvent};
use serde::Serialize;
use serde_json::{Value, json};

use super::device::Device;
use super::jobs::{Job, at, morning, schema, time_of};
use super::relay_process::RelayProcess;
use super::stage::{Stage, within};
use crate::layout::Table;
use crate::output::count;

/// The devices and the relay that take part.
pub(super) struct Company {
    pub(super) relay: RelayProcess,
    pub(super) desk: Device,
    pub(super) ana: Device,
    pub(super) ben: Device,
}

/// How long edits of one device took to be seen on another.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    from: &'static str,
    to: &'static str,
    edits: usize,
    p50_us: u64,
    max_us: u64,
}

/// The relay's end and return.
#[derive(Debug, Serialize)]
pub(super) struct Crash {
    calls: u64,
    made_when_killed: u64,
    waiting_when_restarted: u64,
    all_safe_after_ms: u64,
}

/// The findings on whether all devices ended up with the same documents.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) same_digest: bool,
    pub(super) same_content: bool,
    pub(super) same_reviews: bool,
    digest: String,
    documents: u64,
}

impl Company {
    pub(super) async fn open(stage: &Stage, folder: &Path) -> Result<Self> {
        let relay = RelayProcess::start(&folder.join("relay")).await?;
        let dora = Identity::user("Dora").with_role("dispatch").with_device("desk");
        let technician =
            |user: &str| Identity::user(user).with_role("technician").with_device("phone");
        let desk = Device::open(stage, folder, "Desk", dora).await?;
        let ana = Device::open(stage, folder, "Ana", technician("Ana")).await?;
        let ben = Device::open(stage, folder, "Ben", technician("Ben")).await?;
        stage.scene("The office opens");
        stage.say(&format!(
            "A relay listens on {} (process {}). Dora at the front desk and two technicians, \
             Ana and Ben, each have a device with a file of its own, in {}.",
            relay.url(),
            relay.id(),
            folder.display(),
        ));
        Ok(Self { relay, desk, ana, ben })
    }

    pub(super) fn devices(&self) -> [&Device; 3] {
        [&self.desk, &self.ana, &self.ben]
    }

    /// The desk enters the jobs, and every device gets them.
    pub(super) async fn morning(&self, stage: &Stage) -> Result<()> {
        for device in self.devices() {
            device.connect(self.relay.url()).await?;
        }
        self.desk.space.apply_schema(self.desk.jobs.name(), &schema()).await?;
        let jobs = morning();
        let started = Instant::now();
        for (key, job) in &jobs {
            self.desk.jobs.create(key, job).await?;
        }
        self.converge(stage, "everyone to have the jobs").await?;
        let took = started.elapsed().as_millis();
        stage.say(&format!(
            "The desk enters {}; {took} ms later everyone has them:",
            count(jobs.len() as u64, "job")
        ));
        stage.table(schedule(&jobs));
        Ok(())
    }

    /// Edits while all devices are connected, one after the other.
    pub(super) async fn live(&self, stage: &Stage) -> Result<Vec<Live>> {
        stage.scene("Live edits");
        let live = vec![
            follow(&self.ana, &self.desk, "W-201").await?,
            follow(&self.desk, &self.ben, "W-202").await?,
        ];
        stage.say(
            "From the edit until the other device's watcher is told; by then the edit is on disk \
             three times, at its author, at the relay and at the reader.",
        );
        let mut table = Table::new(["from", "to", "edits", "half within", "slowest"]);
        for Live { from, to, edits, p50_us, max_us } in &live {
            let cells = [(*from).to_owned(), (*to).to_owned(), edits.to_string()];
            table.row(cells.into_iter().chain([milliseconds(*p50_us), milliseconds(*max_us)]));
        }
        stage.table(table);
        Ok(live)
    }

    /// Both technicians lose their connection and work on, partly on the same things.
    pub(super) async fn dead_zone(&self, stage: &Stage) -> Result<()> {
        stage.scene("Ana and Ben drive into a dead zone");
        self.ana.go_offline().await?;
        self.ben.go_offline().await?;
        self.edit_apart().await?;
        self.desk.job("W-205")?.set("address", "28 Mill Road, rear building").await?;
        let mut table = Table::new(["job", "Ana, offline", "Ben, offline"]);
        for [job, ana, ben] in APART {
            table.row([*job, *ana, *ben]);
        }
        stage.table(table);
        stage.say(&format!(
            "Meanwhile the desk corrects an address. {} wait on Ana's device, {} on Ben's; both are \
             on disk.",
            count(self.ana.waiting(), "edit"),
            count(self.ben.waiting(), "edit"),
        ));
        Ok(())
    }

    async fn edit_apart(&self) -> Result<()> {
        let (ana, ben) = (&self.ana, &self.ben);
        ana.job("W-203")?.edit(|job: &mut Job| job.phone = "555-0199".to_owned()).await?;
        ben.job("W-203")?.edit(|job: &mut Job| job.status = "on_site".to_owned()).await?;

        ana.job("W-204")?.edit(|job: &mut Job| job.notes.push_str("Valve stuck. ")).await?;
        ben.job("W-204")?.edit(|job: &mut Job| job.notes.push_str("Pump is fine. ")).await?;
        ana.job("W-204")?.edit(|job: &mut Job| *job.parts_used += 2).await?;
        ben.job("W-204")?.edit(|job: &mut Job| *job.parts_used += 3).await?;

        ana.job("W-207")?.append("visit.report.findings", "Fan worn. ").await?;
        ben.job("W-207")?.append("visit.report.findings", "Flue is clean. ").await?;
        ana.job("W-207")?.apply(vec![photo("fan.jpg")]).await?;
        ben.job("W-207")?.apply(vec![photo("flue.jpg")]).await?;

        ana.jobs.create("W-213", &json!({ "customer": "Kiosk 7", "task": "no heating" })).await?;
        ben.jobs.create("W-213", &json!({ "customer": "Kiosk 7", "phone": "555-0111" })).await?;

        ana.job("W-206")?.set("starts_at", at("10:30")).await?;
        ben.job("W-206")?.set("starts_at", at("11:15")).await?;
        Ok(())
    }

    /// The technicians come back while the desk is busy, and the relay dies in the middle of it.
    pub(super) async fn crash(&mut self, stage: &Stage) -> Result<Crash> {
        stage.scene("Ana and Ben come back, the desk is busy, and the relay is killed");
        let calls = self.desk.calls.clone();
        let burst = tokio::spawn(async move {
            for number in 1..=CALLS {
                let call = json!({ "caller": format!("555-{number:04}"), "about": "when?" });
                calls.create(&format!("call-{number:03}"), &call).await?;
            }
            Ok::<(), rejoin::EditError>(())
        });
        self.ana.connect(self.relay.url()).await?;
        self.ben.connect(self.relay.url()).await?;
        let seen = async || Ok(self.ana.count(&self.ana.calls)? >= CALLS_SEEN);
        stage.until("Ana to see the first calls", seen).await?;
        let id = self.relay.id();
        self.relay.kill().await?;
        let made_when_killed = self.desk.count(&self.desk.calls)?;
        within("the desk to log its calls", burst).await???;
        let waiting_when_restarted = self.desk.waiting();
        stage.say(&format!(
            "kill -9 {id} when the desk has logged {made_when_killed} of {CALLS} calls. It logs the \
             others without a relay: {} wait on its device.",
            count(waiting_when_restarted, "edit"),
        ));
        self.relay.restart().await?;
        let restarted = Instant::now();
        self.converge(stage, "everyone to be safe after the relay's return").await?;
        let all_safe_after_ms = u64::try_from(restarted.elapsed().as_millis()).unwrap_or(u64::MAX);
        stage.say(&format!(
            "The relay starts again on the same folder (process {}); {all_safe_after_ms} ms later \
             the devices have found it and nothing waits any more.",
            self.relay.id(),
        ));
        Ok(Crash { calls: CALLS, made_when_killed, waiting_when_restarted, all_safe_after_ms })
    }

    /// Compares the devices by digest, and field by field.
    pub(super) async fn verdict(&self, stage: &Stage) -> Result<Verdict> {
        stage.scene("The same everywhere?");
        let mut table = Table::new(["device", "jobs", "calls", "digest of all documents"]);
        let (mut digests, mut contents, mut reviews) = (Vec::new(), Vec::new(), Vec::new());
        for device in self.devices() {
            let (jobs, calls) = (device.jobs.list().await?, device.calls.list().await?);
            let digest = device.digest()?.to_string();
            let counts = [device.name.to_owned(), jobs.len().to_string(), calls.len().to_string()];
            table.row(counts.into_iter().chain([format!("{}…", &digest[..32])]));
            digests.push(digest);
            contents.push((jobs, calls));
            reviews.push(device.reviews().await?);
        }
        let same_digest = digests.windows(2).all(|pair| pair[0] == pair[1]);
        let same_content = contents.windows(2).all(|pair| pair[0] == pair[1]);
        let same_reviews = reviews.windows(2).all(|pair| pair[0] == pair[1]);
        let documents = contents.first().map_or(0, |(jobs, calls)| jobs.len() + calls.len()) as u64;
        stage.table(table);
        let yes = |same| if same { "the same" } else { "DIFFERENT" };
        stage.say(&format!(
            "Digests: {}. Every field of {}, compared one by one: {}. Reviews: {}.",
            yes(same_digest),
            count(documents, "document"),
            yes(same_content),
            yes(same_reviews),
        ));
        let digest = digests.swap_remove(0);
        Ok(Verdict { same_digest, same_content, same_reviews, digest, documents })
    }

    /// Waits until every device is safe and all of them hold the same documents.
    pub(super) async fn converge(&self, stage: &Stage, what: &str) -> Result<()> {
        let [desk, ana, ben] = self.devices();
        let converged = async || {
            let safe = desk.is_safe() && ana.is_safe() && ben.is_safe();
            let digest = desk.digest()?;
            Ok(safe && ana.digest()? == digest && ben.digest()? == digest)
        };
        stage.until(what, converged).await
    }

    pub(super) async fn close(self) {
        for device in self.devices() {
            device.replica.close().await;
        }
    }
}

/// Edits on one device, and waits after each edit until the watcher of another device sees it.
async fn follow(from: &Device, to: &Device, key: &str) -> Result<Live> {
    let mut watcher = to.job(key)?.watch().await?;
    let document = from.job(key)?;
    let mut took = Vec::new();
    for minutes in 1..=LIVE_EDITS {
        let started = Instant::now();
        let heads = document.set("arrives_in_min", minutes).await?.heads.clone();
        let seen = async {
            while let Some(event) = watcher.next().await {
                if matches!(event, WatchEvent::Changed(change) if change.heads == heads) {
                    return Some(started.elapsed());
                }
            }
            None
        };
        let seen = within(&format!("{} to see an edit", to.name), seen).await?;
        took.push(seen.context("a device was closed")?);
    }
    took.sort_unstable();
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (p50_us, max_us) = (us(took[took.len() / 2]), us(took[took.len() - 1]));
    Ok(Live { from: from.name, to: to.name, edits: took.len(), p50_us, max_us })
}

fn photo(name: &str) -> Op {
    Op::Insert { path: "visit.report.photos".into(), index: 0, value: Value::from(name) }
}

fn schedule(jobs: &[(&str, Job)]) -> Table {
    let mut table = Table::new(["job", "at", "who", "task", "customer", "address"]);
    for (key, job) in jobs {
        let Job { starts_at, technician, task, customer, address, .. } = job;
        table.row([key, time_of(starts_at), technician, task, customer, address]);
    }
    table
}

fn milliseconds(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1000.0)
}

/// The edits that Ana and Ben make apart: a job, Ana's edit of it and Ben's.
const APART: &[[&str; 3]] = &[
    ["W-203", "phone = 555-0199", "status = on_site"],
    ["W-204", "notes + \"Valve stuck.\"", "notes + \"Pump is fine.\""],
    ["W-204", "parts_used + 2", "parts_used + 3"],
    ["W-207", "first visit.report.findings", "first visit.report.findings"],
    ["W-207", "first photo: fan.jpg", "first photo: flue.jpg"],
    ["W-213", "new job: customer, task", "new job: customer, phone"],
    ["W-206", "starts_at = 10:30", "starts_at = 11:15"],
];

/// How many edits are measured in each direction.
const LIVE_EDITS: usize = 50;

/// How many calls the desk logs, and how many of them Ana has seen when the relay is killed: early
/// enough for most of them to come after.
const CALLS: u64 = 300;
const CALLS_SEEN: u64 = 40;
