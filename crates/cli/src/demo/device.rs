//! One person's device: a replica in a file of its own.

use std::path::Path;

use anyhow::Result;
use rejoin::sync::SetDigest;
use rejoin::{Collection, Document, Identity, Link, Replica, Review, Space};
use serde_json::Value;
use tokio::sync::watch;

use super::stage::{Stage, within};

pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) replica: Replica,
    pub(super) jobs: Collection,
    pub(super) calls: Collection,
    pub(super) space: Space,
}

impl Device {
    /// Opens a device for somebody, and lets it ring the bell whenever something changes on it.
    pub(super) async fn open(
        stage: &Stage,
        folder: &Path,
        name: &'static str,
        who: Identity,
    ) -> Result<Self> {
        let file = folder.join(format!("{}.redb", name.to_lowercase()));
        let replica = Replica::open(file).await?;
        replica.act_as(Some(who)).await?;
        let space = replica.space("main")?;
        let (jobs, calls) = (space.collection("jobs")?, space.collection("calls")?);
        ring_on_change(&jobs, stage.bell()).await?;
        ring_on_change(&calls, stage.bell()).await?;
        ring_on_status(&replica, stage.bell());
        Ok(Self { name, replica, jobs, calls, space })
    }

    pub(super) async fn connect(&self, relay: &str) -> Result<()> {
        Ok(self.replica.connect(relay, &[&self.space]).await?)
    }

    pub(super) async fn go_offline(&self) -> Result<()> {
        self.replica.disconnect().await;
        let offline = self.replica.status_when(|status| status.link == Link::Offline);
        within(&format!("{} to be offline", self.name), offline).await??;
        Ok(())
    }

    pub(super) fn is_safe(&self) -> bool {
        self.replica.status().link == Link::Safe
    }

    pub(super) fn waiting(&self) -> u64 {
        self.replica.status().waiting
    }

    pub(super) fn job(&self, key: &str) -> Result<Document> {
        Ok(self.jobs.document(key)?)
    }

    pub(super) async fn value(&self, key: &str) -> Result<Value> {
        let entry = self.job(key)?.read().await?;
        Ok(entry.map(|entry| entry.value).unwrap_or_default())
    }

    /// All reviews, settled or not. They are compared between devices, so the hint at which document
    /// the relay got first is left out: not every device has it.
    pub(super) async fn reviews(&self) -> Result<Vec<Review>> {
        let reviews = self.space.reviews().list().await?;
        Ok(reviews.into_iter().map(|review| Review { held_first: None, ..review }).collect())
    }

    pub(super) async fn open_reviews(&self) -> Result<Vec<Review>> {
        Ok(self.reviews().await?.into_iter().filter(Review::is_open).collect())
    }

    pub(super) fn digest(&self) -> Result<SetDigest> {
        Ok(self.space.digest()?)
    }

    /// How many documents of a collection are on the device.
    pub(super) fn count(&self, collection: &Collection) -> Result<u64> {
        let collections = self.space.collections()?;
        let found = collections.iter().find(|(name, _)| name == collection.name());
        Ok(found.map_or(0, |(_, documents)| *documents))
    }
}

async fn ring_on_change(collection: &Collection, bell: watch::Sender<u64>) -> Result<()> {
    let mut watcher = collection.watch().await?;
    tokio::spawn(async move {
        while watcher.next().await.is_some() {
            ring(&bell);
        }
    });
    Ok(())
}

fn ring_on_status(replica: &Replica, bell: watch::Sender<u64>) {
    let replica = replica.clone();
    tokio::spawn(async move {
        let mut last = replica.status();
        while let Ok(status) = replica.status_when(|status| *status != last).await {
            last = status;
            ring(&bell);
        }
    });
}

fn ring(bell: &watch::Sender<u64>) {
    bell.send_modify(|rung| *rung += 1);
}
