//! Rejoin's client: documents that people edit offline, and that lose nothing when they meet again.
//!
//! This page teaches the whole of it in the order in which an application needs it. All of its
//! examples run as tests. They are `async`, and any executor will do; [`blocking`] needs none. Beside
//! `rejoin` they use `serde` with its feature `derive`, and `serde_json`:
//!
//! ```toml
//! [dependencies]
//! rejoin = { path = "../rejoin/client" }
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! ```
//!
//! # A replica, and a document in it
//!
//! A [`Replica`] is a durable copy of documents in one file. It answers every read and takes every
//! edit without a network. A document belongs to a [`Collection`], and a collection to a [`Space`]:
//! what is shared together. Your own serde types are the documents.
//!
//! ```
//! use rejoin::{Counter, Replica, Text};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Default, Serialize, Deserialize)]
//! struct Job {
//!     phone: String,       // a plain value: if several are written at once, people are asked
//!     notes: Text,        // merges by character
//!     parts_used: Counter, // adds up
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("technician.redb");
//! let replica = Replica::open(&file).await?;
//! let jobs = replica.space("main")?.collection("jobs")?;
//!
//! // The key is natural: the same record created on two devices is one document.
//! let job = jobs.create("2026-118", &Job { phone: "555-0100".into(), ..Job::default() }).await?;
//! let edited = job
//!     .edit(|job: &mut Job| {
//!         job.notes.push_str("Gate code 4711. ");
//!         job.notes.as_str().len()
//!     })
//!     .await?;
//! assert_eq!(edited.returned, 16);
//! assert_eq!(job.get::<Job>().await?.expect("it was just made").phone, "555-0100");
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `edit` writes only what the closure changed. An edit that has returned is on disk: the process may
//! be killed at any moment after it. Fields that your type does not know are kept. Choose the types with
//! care: a `String` that two people write at once is a question for a person, and a [`Text`] merges.
//!
//! A document ends with its *heads*, the last changes that it has. They are its version: [`Entry::heads`]
//! tells them, and [`Document::apply_at`], [`Document::value_at`] and [`Document::restore`] take them.
//!
//! # Meeting the others
//!
//! ```
//! # use rejoin::{Link, Replica};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let replica = Replica::open(folder.path().join("technician.redb")).await?;
//! # let jobs = replica.space("main")?.collection("jobs")?;
//! # jobs.create("2026-118", &serde_json::json!({})).await?;
//! // Dials now and after every loss, for ever. Nothing here waits for a network.
//! replica.connect("ws://127.0.0.1:8811", &[&replica.space("main")?]).await?;
//! let status = replica.status();
//! assert_eq!((status.link, status.waiting), (Link::Connecting, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `rejoin relay` is such a relay. [`Status`] says whether both sides hold the same, how much waits,
//! and how long the rest will take. [`Edited::saved`] waits until a relay holds one edit, and says so
//! if the relay never will.
//!
//! # Lists that follow
//!
//! A [`Query`] finds documents by the values that people see, and loads none of them.
//! [`Query::watch`] gives the list, and then the differences that make of it the list as it is.
//!
//! ```
//! # use rejoin::Replica;
//! # use serde_json::{Value, json};
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let replica = Replica::open(folder.path().join("desk.redb")).await?;
//! # let jobs = replica.space("main")?.collection("jobs")?;
//! # for (key, who, at) in [("1", "ana", "09:00"), ("2", "ben", "08:00"), ("3", "ana", "08:30")] {
//! #     jobs.create(key, &json!({ "technician": who, "starts_at": at })).await?;
//! # }
//! let of_ana = jobs.query::<Value>().filter("technician", "ana").sort("starts_at").limit(50);
//! let keys: Vec<_> = of_ana.get().await?.into_iter().filter_map(|job| job.key).collect();
//! assert_eq!(keys, ["3", "1"]);
//!
//! let mut live = of_ana.watch().await?;
//! let mut list = live.first();
//! jobs.document("2")?.set("technician", "ana").await?;
//! for difference in live.next().await?.expect("the replica is open") {
//!     difference.carry_out(&mut list);
//! }
//! assert_eq!(list.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A field that the [`schema`] of the collection indexes is looked up. Otherwise all documents
//! are looked at, and [`Query::plan`] says so.
//!
//! # What only a person can decide
//!
//! When several people write one field without knowing of each other, nobody silently wins. The
//! field keeps the value that was agreed before, and every replica has the same [`Review`] about it.
//! A [`schema`] can say that a rule decides instead.
//!
//! ```
//! # use rejoin::Replica;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let replica = Replica::open(folder.path().join("desk.redb")).await?;
//! use rejoin::{Decision, Identity, Op};
//! use serde_json::{Value, json};
//!
//! let space = replica.space("main")?;
//! let job = space.collection("jobs")?.create("2026-118", &json!({ "phone": "1" })).await?;
//!
//! // Two people give it another number, neither knowing of the other: as on two devices, but here by
//! // handles that act as them, at the heads that both saw.
//! let seen = job.read().await?.expect("it was just made").heads;
//! for (user, phone) in [("Ana", "2"), ("Ben", "3")] {
//!     let theirs = replica.acting_as(Identity::user(user)).space("main")?.collection("jobs")?;
//!     let step = Op::Set { path: "phone".into(), before: None, after: json!(phone) };
//!     theirs.document("2026-118")?.apply_at(Some(seen.clone()), vec![step]).await?;
//! }
//! assert_eq!(job.get::<Value>().await?, Some(json!({ "phone": "1" })));
//!
//! let [review] = space.reviews().open().await?.try_into().expect("there is one question");
//! let of_ben = review.candidates.iter().find(|it| it.value == Some(json!("3")));
//! let choice = Decision::Take(of_ben.expect("Ben wrote it").change);
//! space.reviews().settle(&review.id, choice, Some("I called them")).await?;
//! assert_eq!(job.get::<Value>().await?, Some(json!({ "phone": "3" })));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For people, [`view::shown`] writes a value as text, and so do `Display` of [`Identity`] and
//! [`ReviewKind::name`](review::ReviewKind::name).
//!
//! # Several edits at once, and taking them back
//!
//! [`Replica::batch`] makes edits together or not at all. [`Replica::undo`] takes back the last edit
//! or batch of the user that the handle acts as, and leaves what others did since.
//! [`Document::restore`] gives a document the value that it had before.
//!
//! ```
//! # use rejoin::Replica;
//! # use serde_json::{Value, json};
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let replica = Replica::open(folder.path().join("desk.redb")).await?;
//! # let jobs = replica.space("main")?.collection("jobs")?;
//! # let job = jobs.create("1", &json!({ "technician": "ana" })).await?;
//! # let too = job.clone();
//! replica
//!     .batch(move |batch| {
//!         batch.edit(&job, |job: &mut Value| job["technician"] = json!("ben"))?;
//!         batch.create(&jobs, "2", &json!({ "technician": "ana" }))?;
//!         Ok(())
//!     })
//!     .await?;
//! let undone = replica.undo().await?;
//! assert_eq!((undone.edits, undone.documents.len()), (2, 2));
//! # assert_eq!(too.get::<Value>().await?, Some(json!({ "technician": "ana" })));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//!
//! There is a type for each kind of thing that can be done about one: [`OpenError`] (look after the
//! file), [`ConnectError`] (mend the address), [`ReadError`], [`EditError`] (nothing was written),
//! [`SettleError`] (look at the review again), [`SaveError`] (a relay will never take an edit),
//! [`UndoError`], [`SignOutError`] (edits wait). Each says what to do next.
//!
//! # What it costs
//!
//! | | |
//! |---|---|
//! | an edit | one commit with an fsync. Edits that are made at the same time share it. |
//! | [`Document::get`], a list, a query | a read of stored values. No document is loaded. |
//! | [`Document::history`], [`Document::blame`] | the document is loaded: milliseconds, and memory of some times its bytes on disk |
//! | memory | at most [256 documents](sync::EngineOptions) at a time, unused ones for a minute |
//!
//! # Where to find the rest
//!
//! [`blocking`] has the same without `async`. [`schema`] says how fields merge. [`history`],
//! [`review`], [`query`], [`undo`], [`view`] and [`booking`] hold the types that the handles give;
//! [`sync`] is about relays, [`import`] about files, and [`value`] about texts, times and numbers.
//! [`doctor`] and [`salvage`] are for files that are damaged.
#![warn(missing_docs)]

mod applying;
pub mod blocking;
pub mod booking;
mod collection;
mod dial;
pub mod doctor;
mod document;
mod driver;
pub mod file;
pub mod query;
mod relay;
mod replica;
pub mod review;
pub mod salvage;
mod saved;
pub mod schema;
mod tls;
pub mod undo;
mod unfit;
mod unsent;

pub use collection::{Collection, Entry};
pub use dial::ConnectError;
pub use document::Document;
pub use file::{OpenError, ReplicaFile};
pub use query::{Condition, Difference, Item, LiveQuery, Query};
pub use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, Identity, NameError, Path, ReviewId, SpaceName,
};
pub use rejoin_engine::{
    Bytes, Counter, Decision, DocumentChanged, EditError, EditOutcome, Link, Op, ReadError, Review,
    SettleError, SignOutError, Status, Text, Timestamp, UndoError, WatchEvent, Watcher,
};
pub use rejoin_seal::Key;
pub use relay::{Credentials, Relay};
pub use replica::{Replica, Space};
pub use review::Reviews;
pub use saved::{Edited, SaveError};
pub use undo::Batch;

/// The past of documents: their changes, and the origin of every value.
pub mod history {
    pub use rejoin_core::lineage::{
        Blame, BlamedWrite, Candidate, FieldPath, Step, Written, Wrote,
    };
    pub use rejoin_core::{ActorId, Settlement, ShortHash, Undo};
    pub use rejoin_engine::{HistoryEntry, Kind};
}

/// The state of a replica towards its relay, and the edits that wait or were refused.
pub mod sync {
    pub use crate::dial::AddressError;
    pub use crate::saved::SetAside;
    pub use crate::unsent::Unsent;
    pub use rejoin_core::{DeviceId, PeerId, SetDigest};
    pub use rejoin_engine::{Counters, EngineOptions, Progress};
}

/// Files that are encrypted, as whole files: made of plain ones, given another key, destroyed.
pub mod seal {
    pub use rejoin_seal::{
        FileError, KeyError, SealError, change_key, decrypt, destroy, encrypt, is_sealed,
    };
}

/// Documents as people should see them, and text from outside as a terminal may show it.
pub mod view {
    pub use crate::replica::Listed;
    pub use rejoin_core::invariant::look_up;
    pub use rejoin_core::{Misfit, is_hidden, printable};
    pub use rejoin_engine::{FieldState, FieldView, Unfit, View, shown, spreadsheet_safe};
}

/// Rows of files that are taken into documents.
pub mod import {
    pub use crate::collection::RowKey;
    pub use rejoin_engine::{Cell, Row, RowOutcome};
}

/// Values and their parts: kinds, differences, exact numbers, times.
pub mod value {
    pub use rejoin_core::Segment;
    pub use rejoin_core::number::{self, InexactNumber, JsonError, exact_json};
    pub use rejoin_core::time::{NoZone, Zone, time_ms};
    pub use rejoin_engine::{ValueKind, WriteError, diff};
}

/// The code of the README and of the book compiles, too.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../docs/embedding.md")]
    struct Embedding;
}
