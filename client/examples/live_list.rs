//! A list in the terminal that follows what everybody does.
//!
//! `cargo run --package rejoin --example live_list -- FILE RELAY TECHNICIAN`
//!
//! Prints the jobs of a technician by time, and each difference as it comes, until the replica is
//! closed. `rejoin relay` is such a relay, and `rejoin set` in another replica such an edit.

use std::error::Error;

use rejoin::query::Difference;
use rejoin::{Item, Replica};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
struct Job {
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    status: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, relay, technician] = arguments.as_slice() else {
        return Err("name a file, a relay and a technician".into());
    };
    let replica = Replica::open(file).await?;
    let space = replica.space("main")?;
    let jobs = space.collection("jobs")?;
    let query = jobs.query::<Job>().filter("technician", technician.as_str()).sort("starts_at");
    let mut live = query.limit(20).watch().await?;
    let mut list = live.first();
    list.iter().for_each(|job| println!("  {}", line(job)));
    replica.connect(relay, &[&space]).await?;

    while let Some(differences) = live.next().await? {
        for difference in differences {
            match &difference {
                Difference::Added { item, .. } => println!("+ {}", line(item)),
                Difference::Removed { at, .. } => println!("- {}", line(&list[*at])),
                Difference::Changed { item, .. } | Difference::Moved { item, .. } => {
                    println!("~ {}", line(item));
                }
            }
            difference.carry_out(&mut list);
        }
    }
    Ok(())
}

fn line(job: &Item<Job>) -> String {
    let key = job.key.as_deref().unwrap_or("(no key)");
    format!("{} {key} {}", job.value.starts_at, job.value.status)
}
