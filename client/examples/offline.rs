//! Edits without a network, and then meets others at a relay.
//!
//! `cargo run --package rejoin --example offline -- FILE NAME NOTE [RELAY]`
//!
//! Run it twice with two files, two names and no relay, and then with `ws://127.0.0.1:8787`, where
//! `rejoin relay` listens: both notes are in the one document.

use std::error::Error;

use rejoin::{Identity, Replica, Text};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Job {
    #[serde(default)]
    notes: Text,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, name, note, relay @ ..] = arguments.as_slice() else {
        return Err("name a file, a user, a note and, if there is one, a relay".into());
    };
    let replica = Replica::open(file).await?;
    replica.act_as(Some(Identity::user(name.as_str()))).await?;
    let space = replica.space("main")?;
    let jobs = space.collection("jobs")?;

    // The key is natural, so two devices that make this job offline make one document.
    let job = jobs.create("2026-118", &serde_json::json!({})).await?;
    let edited = job.edit(|job: &mut Job| job.notes.push_str(&format!("{name}: {note}. "))).await?;
    println!("on this device; {} to send", replica.status().waiting);

    if let [relay] = relay {
        replica.connect(relay, &[&space]).await?;
        // Through every interruption, until the relay holds the edit durably.
        edited.saved().await?;
        let status = replica.status_when(|status| status.link == rejoin::Link::Safe).await?;
        println!("the relay holds everything; {} to send", status.waiting);
    }
    if let Some(job) = job.get::<Job>().await? {
        println!("{}", job.notes.as_str());
    }
    replica.close().await;
    Ok(())
}
