//! What somebody who helps has to know of a replica, without what is in it.

use std::collections::BTreeMap;

use rejoin_engine::store::{ReadTxn, Store, StoreError};
use serde::Serialize;

use super::Report;
use crate::driver::random_bytes;
use crate::file::{OpenError, ReplicaFile, open_database};

/// A replica in numbers and names of collections, for somebody who helps from afar. It has no
/// contents of documents, no keys, and no names of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Bundle {
    /// The program and its version.
    pub program: &'static str,
    /// The system it runs on.
    pub system: &'static str,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The replica's id, by which the operator of a relay knows it.
    pub device: String,
    /// Its spaces.
    pub spaces: Vec<BundleSpace>,
    /// Edits that wait for a relay.
    pub waiting: u64,
    /// The times of the first and the last of them, in seconds since 1970 by the device's clock.
    pub waiting_since_s: Option<(i64, i64)>,
    /// Edits that a relay refused for good: the time at which each was set aside, in seconds since
    /// 1970 by the device's clock, and whether it was made anew.
    pub set_aside: Vec<(i64, bool)>,
    /// Changes that could not be applied.
    pub quarantined: u64,
    /// The faults of the file. Documents are named by their ids.
    pub findings: Vec<String>,
}

/// A space of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BundleSpace {
    /// Its name.
    pub space: String,
    /// The documents of each collection.
    pub collections: BTreeMap<String, u64>,
    /// Reviews that are open.
    pub reviews: usize,
    /// How far it has come at each relay.
    pub relays: Vec<BundleMark>,
}

/// How far a replica has come at a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BundleMark {
    /// The relay's address.
    pub relay: String,
    /// The lifetime of the relay's store.
    pub epoch: String,
    /// The position up to which everything new is here.
    pub position: u64,
    /// Older positions of which something may be missing.
    pub older: u64,
}

/// Gathers what is known of the replica in a file. `report` is what [`check`](super::check) found.
///
/// # Errors
/// The file cannot be opened or read.
pub fn bundle(file: impl Into<ReplicaFile>, report: &Report) -> Result<Bundle, OpenError> {
    let file = file.into();
    let path = &file.path;
    let file_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let unusable = |source| OpenError::Store { path: path.to_owned(), source };
    let store = Store::open(open_database(&file)?, random_bytes()).map_err(unusable)?;
    let view = store.read().map_err(unusable)?;
    gather(&store, &view, file_bytes, report).map_err(unusable)
}

fn gather(
    store: &Store,
    view: &ReadTxn,
    file_bytes: u64,
    report: &Report,
) -> Result<Bundle, StoreError> {
    let cursors = view.cursors()?;
    let mut spaces = Vec::new();
    for space in view.spaces()? {
        let digests = view.digests(&space)?.into_iter();
        let of_space = cursors.iter().filter(|(_, name, _)| *name == space.as_str());
        let relays = of_space.map(|(relay, _, row)| BundleMark {
            relay: relay.clone(),
            epoch: row.epoch.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            position: row.position,
            older: row.backfill.map_or(0, |backfill| backfill.through - backfill.after),
        });
        spaces.push(BundleSpace {
            space: space.as_str().to_owned(),
            collections: digests
                .map(|(name, digest)| (name.as_str().to_owned(), digest.documents))
                .collect(),
            reviews: view.reviews(&space)?.len(),
            relays: relays.collect(),
        });
    }
    let first = view.outbox(0, 1)?.first().map(|(_, edit)| edit.time_s);
    let last = view.outbox_last()?.map(|edit| edit.time_s);
    let findings = report.findings.iter().map(ToString::to_string);
    Ok(Bundle {
        program: concat!("rejoin ", env!("CARGO_PKG_VERSION")),
        system: std::env::consts::OS,
        file_bytes,
        device: store.device().to_string(),
        spaces,
        waiting: view.outbox_len()?,
        waiting_since_s: first.zip(last),
        set_aside: view
            .set_aside()?
            .iter()
            .map(|(_, row)| (row.time_s, row.authored_anew))
            .collect(),
        quarantined: report.quarantined,
        findings: findings.collect(),
    })
}
