//! One siege: a relay of its own, honest peers, attackers, and what was seen of all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::attacks::Attack;
use super::browser::Browser;
use super::ground::Ground;
use super::honest::{Latencies, Pair};
use super::process;
use crate::processes::RelayProcess;

/// How much attackers do, and have to do it with.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Frames that all of them send at most.
    pub frames: u64,
    /// Documents in the relay whose spaces are repaired.
    pub documents: u64,
    /// Changes of 64 KiB in the large document.
    pub large_changes: usize,
    /// Concurrent heads that one document is given.
    pub heads: u32,
    /// Bytes of the longest message of automerge-repo.
    pub message_bytes: usize,
    /// Changes of 50,000 equal characters in the document that expands.
    pub expanding_changes: usize,
}

impl Scale {
    /// As hard as it is meant.
    pub const FULL: Self = Self {
        frames: 10_000_000,
        documents: 20_000,
        large_changes: 128,
        heads: 8_192,
        message_bytes: 60_000_000,
        expanding_changes: 40,
    };

    /// For a second or so, in a build that is not optimised.
    pub const SMALL: Self = Self {
        frames: 2_000,
        documents: 1_260,
        large_changes: 16,
        heads: 64,
        message_bytes: 4_000_000,
        expanding_changes: 2,
    };
}

/// How a siege goes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long the attackers attack.
    pub lasts: Duration,
    /// How long after that the relay's memory is looked at again.
    pub rest: Duration,
    /// Decides what is random and matters.
    pub seed: u64,
    /// How much is attacked with.
    pub scale: Scale,
}

/// What was seen.
#[derive(Debug)]
pub struct Outcome {
    /// Of the edits of two replicas.
    pub latencies: Latencies,
    /// How often the client of automerge-repo had to dial again.
    pub browser_cut: usize,
    /// Whether all honest documents are the same everywhere.
    pub agrees: bool,
    /// Whether the relay's process still runs.
    pub lives: bool,
    /// The slowest answer of `/healthz`; nothing if one did not say that all is well.
    pub health: Option<Duration>,
    /// Bytes of the relay's highest resident memory; nothing where there is no /proc.
    pub peak: Option<u64>,
    /// Bytes of its resident memory when the attackers had been gone for a while.
    pub after: Option<u64>,
    /// How connections of attackers ended, and how many so.
    pub answers: BTreeMap<String, u64>,
}

/// Plays these attacks at once.
///
/// # Panics
/// When there is no relay to begin with.
pub fn besiege(attacks: &[Attack], plan: Plan) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder to write in");
    let mut process = RelayProcess::start_logging(folder.path().join("relay"));
    let (relay, id) = (process.url(), process.id());
    let outcome = runtime().block_on(async {
        for attack in attacks {
            attack.prepare(&relay, plan.scale).await;
        }
        let mut pair = Pair::meet(folder.path(), &relay).await;
        let mut browser = Browser::new();
        let (begin, until) = watch::channel(None);
        let ground = Ground::new(relay.clone(), until, plan.seed, plan.scale);
        let (prepared, are_prepared) = oneshot::channel();
        let attackers = attack(attacks.to_vec(), ground, prepared);
        are_prepared.await.expect("attackers do not panic");
        process::forget_peak(id);
        let until = Instant::now() + plan.lasts;
        begin.send_replace(Some(until));
        let address: SocketAddr =
            relay.trim_start_matches("ws://").parse().expect("the address of a relay");
        // It panics where the relay is gone, and others are to be told of that.
        let health = tokio::spawn(process::slowest_health(address, until));
        let (latencies, (), health) =
            tokio::join!(pair.work(until), browser.work(&relay, until), health);
        let answers = attackers.join().expect("attackers do not panic");

        let address = browser.document.to_string();
        let agrees = pair.agree(&address, &browser.heads()).await;
        let peak = process::peak(id);
        sleep(plan.rest).await;
        let after = process::resident(id);
        pair.part().await;
        let (browser_cut, health, lives) = (browser.cut, health.ok(), true);
        Outcome { latencies, browser_cut, agrees, lives, health, peak, after, answers }
    });
    Outcome { lives: process.lives(), ..outcome }
}

/// Attacks in a thread of its own, which says when all that is to be sent is made.
fn attack(
    attacks: Vec<Attack>,
    ground: Ground,
    prepared: oneshot::Sender<()>,
) -> thread::JoinHandle<BTreeMap<String, u64>> {
    thread::spawn(move || {
        runtime().block_on(async {
            let mut all = pin!(join_all(attacks.iter().map(|attack| attack.play(&ground))));
            // Each prepares itself before it waits for the first time.
            assert!(poll!(&mut all).is_pending(), "attackers wait for the siege to begin");
            let _ = prepared.send(());
            all.await;
        });
        ground.into_answers()
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
