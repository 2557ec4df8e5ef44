//! The scene in which agreed values reach other systems: a file, and a webhook that misbehaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use rejoin::{Decision, Identity};
use rejoin_adapters::config::parse;
use rejoin_adapters::run::Adapters;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::device::Device;
use super::jobs::{at, time_of};
use super::receiver::{Answer, Arrived, Receiver};
use super::scenes::Company;
use super::stage::{Stage, within};
use crate::layout::Table;
use crate::output::count;

/// The findings on whether other systems got every agreed value, and each only once.
#[derive(Debug, Serialize)]
pub(super) struct Deliveries {
    requests: usize,
    every_request_signed: bool,
    agreed_while_open: bool,
    settled_in_both: bool,
    same_correlation: bool,
    refused_and_tried_again: bool,
    repeat_was_known: bool,
}

impl Deliveries {
    pub(super) fn is_as_promised(&self) -> bool {
        self.every_request_signed
            && self.agreed_while_open
            && self.settled_in_both
            && self.same_correlation
            && self.refused_and_tried_again
            && self.repeat_was_known
    }
}

impl Company {
    pub(super) async fn deliveries(&self, stage: &Stage, folder: &Path) -> Result<Deliveries> {
        stage.scene("Other systems get what is agreed, and nothing twice");
        self.start_apart(stage).await?;
        let outside = Outside::open(self, stage, folder).await?;
        let (stop, stopping) = watch::channel(false);
        let adapters = outside.adapters()?;
        let space = outside.device.space.clone();
        let running = tokio::spawn(async move { adapters.run(&space, stopping).await });
        let delivered = self.deliver(stage, &outside).await;
        stop.send_replace(true);
        within("the deliveries to end", running).await???;
        outside.device.replica.close().await;
        delivered
    }

    /// Ana does a job, and the desk disagrees about when she began.
    async fn start_apart(&self, stage: &Stage) -> Result<()> {
        self.ana.go_offline().await?;
        let job = self.ana.job(JOB)?;
        job.set("status", "done").await?;
        job.set("starts_at", at(BEGAN)).await?;
        self.desk.job(JOB)?.set("starts_at", at("12:30")).await?;
        self.ana.connect(self.relay.url()).await?;
        self.converge(stage, "everyone to ask when the job began").await?;
        stage.say(&format!(
            "Offline, Ana marks {JOB} as done, begun at {BEGAN}; the desk writes 12:30. So a review \
             is open when two systems are attached: a file, and a webhook that this demo serves. \
             It refuses the first request about {JOB}.",
        ));
        Ok(())
    }

    async fn deliver(&self, stage: &Stage, outside: &Outside) -> Result<Deliveries> {
        let jobs = usize::try_from(self.desk.count(&self.desk.jobs)?)?;
        outside.until_done(jobs).await?;
        stage.table(outside.table(0)?);
        let before = outside.requests_about(JOB).len();
        let agreed_while_open = outside.starts()?.iter().all(|start| *start == at("11:45"));
        stage.say(&format!(
            "Both have {} now, and of the start only what is agreed. Dora decides: {BEGAN}. The \
             webhook takes that too, but its answer is lost, so it is told again.",
            count(jobs, "job"),
        ));
        let open = self.desk.open_reviews().await?;
        let review = open.iter().find(|it| it.field == "starts_at").context("nobody asks")?;
        let is_ana = |it: &&rejoin::history::Candidate| it.value == Some(Value::from(at(BEGAN)));
        let taken = review.candidates.iter().find(is_ana).context("a candidate is gone")?.change;
        let why = Some("Ana was there");
        self.desk.space.reviews().settle(&review.id, Decision::Take(taken), why).await?;
        outside.until_known(jobs + 1).await?;
        stage.table(outside.table(before)?);
        stage.say(
            "A repeat has the same key, and is known by it: nothing is done twice. The correlation \
             names the change it all came from, in both systems.",
        );
        self.converge(stage, "everyone to have what was decided").await?;

        let requests = outside.receiver.arrived();
        let about = outside.requests_about(JOB);
        let answers: Vec<_> = about.iter().map(|it| it.answer).collect();
        let same_key =
            |pair: &[Arrived]| pair.len() == 2 && pair[0].event["id"] == pair[1].event["id"];
        let (first, last) = about.split_at(about.len().min(2));
        let filed = outside.lines()?.into_iter().filter(|line| line["record"] == JOB);
        let filed: Vec<_> = filed.map(|line| Some(line["correlation"].clone())).collect();
        let told = [first, last].map(|pair| Some(pair.first()?.event["correlation"].clone()));
        Ok(Deliveries {
            requests: requests.len(),
            every_request_signed: requests.iter().all(|it| it.answer != Answer::NotSigned),
            agreed_while_open,
            settled_in_both: outside.starts()?.iter().all(|start| *start == at(BEGAN)),
            same_correlation: filed == told,
            refused_and_tried_again: answers.starts_with(&[Answer::Busy, Answer::Taken])
                && same_key(first),
            repeat_was_known: answers.ends_with(&[Answer::Lost, Answer::Known]) && same_key(last),
        })
    }
}

/// The systems outside, and the replica that their adapters follow.
struct Outside {
    folder: PathBuf,
    device: Device,
    receiver: Receiver,
    key: [u8; 32],
}

impl Outside {
    /// Opens the systems, with a replica that has every document of the company.
    async fn open(company: &Company, stage: &Stage, folder: &Path) -> Result<Self> {
        let folder = folder.join("outside");
        std::fs::create_dir(&folder)?;
        let who = Identity::user("adapters");
        let device = Device::open(stage, &folder, "Adapters", who).await?;
        device.connect(company.relay.url()).await?;
        let has_all = async || Ok(device.is_safe() && device.digest()? == company.desk.digest()?);
        stage.until("the adapters to have every document", has_all).await?;
        let key = rand::random();
        let receiver = Receiver::listen(key, JOB, stage.bell()).await?;
        Ok(Self { folder, device, receiver, key })
    }

    fn adapters(&self) -> Result<Adapters> {
        let secret = self.folder.join("secret");
        std::fs::write(&secret, format!("whsec_{}", BASE64.encode(&self.key)))?;
        let (url, secret) = (&self.receiver.url, secret.display());
        let webhook = format!(
            "kind = 'webhook', url = '{url}', secrets = ['file:{secret}'], \
             allow_hosts = ['127.0.0.1']"
        );
        let adapter = |name: &str, sink: &str| {
            format!(
                "[adapter.{name}]\ncollection = 'jobs'\nsink = {{ {sink} }}\n\
                 retry = {{ schedule = ['50ms', '50ms', '50ms', '50ms'] }}\n\
                 [[adapter.{name}.record]]\nname = 'jobs'\nkey = '{{key}}'\n\
                 [adapter.{name}.record.fields]\n\
                 status = {{ from = 'status' }}\nstarts_at = {{ from = 'starts_at' }}\n"
            )
        };
        let text = format!(
            "[replica]\ndata = 'outboxes'\nspace = 'main'\n{}{}",
            adapter("file", "kind = 'jsonl', folder = 'file'"),
            adapter("webhook", &webhook),
        );
        let parsed = parse(&text);
        let config = parsed.config.with_context(|| format!("{:?}", parsed.findings))?;
        Ok(Adapters::open(&config, &self.folder)?)
    }

    /// The lines of the file that a delivery was written to.
    fn lines(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.join("file").join("1.jsonl"))?;
        // A line that is still being written has no line break yet.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn requests_about(&self, record: &str) -> Vec<Arrived> {
        let mut arrived = self.receiver.arrived();
        arrived.retain(|it| it.event["subject"] == record);
        arrived
    }

    /// Waits until the file and the webhook have each got this many deliveries.
    async fn until_done(&self, deliveries: usize) -> Result<()> {
        let done = async {
            while self.lines()?.len() < deliveries || self.receiver.done() < deliveries {
                sleep(LOOK).await;
            }
            Ok(())
        };
        within("everything to be delivered", done).await?
    }

    /// Waits until the file and the webhook have each got this many deliveries, and the last one was
    /// repeated after its answer was lost.
    async fn until_known(&self, deliveries: usize) -> Result<()> {
        self.until_done(deliveries).await?;
        let known = async {
            let is_known = |it: &Arrived| it.answer == Answer::Known;
            while !self.receiver.arrived().last().is_some_and(is_known) {
                sleep(LOOK).await;
            }
        };
        within("the repeat of a delivery", known).await
    }

    /// The start of the job, as the file and the webhook have it.
    fn starts(&self) -> Result<[String; 2]> {
        let lines = self.lines()?;
        let filed = lines.iter().rfind(|line| line["record"] == JOB);
        let filed = filed.map(|line| text(&line["row"]["starts_at"]));
        let about = self.requests_about(JOB);
        let told = about.last().map(|it| text(&it.event["data"]["starts_at"]));
        Ok([filed, told].map(Option::unwrap_or_default))
    }

    /// The deliveries about the job: the last line of the file, and the requests after the first
    /// `after` of them.
    fn table(&self, after: usize) -> Result<Table> {
        let mut table = Table::new(["to", "seq", "key", "correlation", "says", "answer"]);
        let mut row =
            |to: &str, seq: String, key: &Value, of: &Value, row: &Value, answer: &str| {
                let start = text(&row["starts_at"]);
                let says = format!("{}, {}", text(&row["status"]), time_of(&start));
                table.row([to.to_owned(), seq, short(key), short(of), says, answer.to_owned()]);
            };
        if let Some(line) = self.lines()?.iter().rfind(|line| line["record"] == JOB) {
            let seq = line["seq"].to_string();
            row("file", seq, &line["key"], &line["correlation"], &line["row"], "on disk");
        }
        for Arrived { event, answer } in self.requests_about(JOB).iter().skip(after) {
            let (seq, of) = (text(&event["sequence"]), &event["correlation"]);
            row("webhook", seq, &event["id"], of, &event["data"], answer.words());
        }
        Ok(table)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The beginning of a long identifier.
fn short(value: &Value) -> String {
    text(value).chars().take(8).chain(['…']).collect()
}

/// The job that this scene is about, and the time at which it really began.
const JOB: &str = "W-211";
const BEGAN: &str = "12:10";

/// How long to wait before the file is looked at again.
const LOOK: Duration = Duration::from_millis(3);
