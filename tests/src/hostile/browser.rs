//! A client as automerge-repo has them in browsers, which works through a siege.

use std::time::Duration;

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT};
use rejoin_core::DocumentId;
use rejoin_core::automerge_repo::RepoFrame;
use tokio::time::{Instant, interval, sleep, timeout_at};

use super::connection::{Connection, Language};
use super::frames::{join, sync, unknown};
use super::honest::PATIENCE;

/// Between two edits.
const PAUSE: Duration = Duration::from_millis(200);

/// What it calls itself.
const ME: &str = "browser";

/// A client with one document.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) document: DocumentId,
    held: AutoCommit,
    state: State,
    edits: usize,
    /// How often its connection ended although it did nothing wrong.
    pub(super) cut: usize,
}

impl Browser {
    pub(super) fn new() -> Self {
        let held = AutoCommit::new().with_actor(ActorId::random());
        Self { document: unknown(), held, state: State::new(), edits: 0, cut: 0 }
    }

    /// Edits until the time is up, and then until the relay says that it has everything.
    pub(super) async fn work(&mut self, relay: &str, until: Instant) {
        let late = until + PATIENCE;
        while !self.is_done(until) && Instant::now() < late {
            let connected =
                Connection::dial_to(relay, "/automerge/main", Language::AutomergeRepo).await;
            if let Some(mut connection) = connected {
                self.state = State::new();
                // When it is too late, what is missing is seen from the heads.
                let _ = timeout_at(late, self.talk(&mut connection, until)).await;
            }
            if !self.is_done(until) {
                self.cut += 1;
                sleep(PAUSE).await;
            }
        }
    }

    /// Its heads, in hexadecimal digits and sorted.
    pub(super) fn heads(&mut self) -> Vec<String> {
        let heads = self.held.get_heads();
        let mut heads: Vec<_> = heads.iter().map(ToString::to_string).collect();
        heads.sort();
        heads
    }

    /// Whether the time is up and the relay has everything.
    fn is_done(&mut self, until: Instant) -> bool {
        let heads = self.held.get_heads();
        Instant::now() >= until && self.state.their_heads.as_ref() == Some(&heads)
    }

    async fn talk(&mut self, connection: &mut Connection, until: Instant) -> Option<()> {
        let relay = join(connection, ME).await?;
        let Connection { mouth, ear } = connection;
        let mut ticks = interval(PAUSE);
        while !self.is_done(until) {
            tokio::select! {
                _ = ticks.tick() => if Instant::now() < until { self.edit() },
                frame = ear.hear() => self.take(&frame?)?,
            }
            while let Some(message) = self.held.sync().generate_sync_message(&mut self.state) {
                mouth.say(sync(ME, &relay, self.document, &message.encode())).await?;
            }
        }
        Some(())
    }

    fn edit(&mut self) {
        self.edits += 1;
        let edits = self.edits as u64;
        self.held.put(ROOT, "edits", edits).expect("the root takes values");
        self.held.commit();
    }

    /// Takes what came; nothing if it is not what a relay sends.
    fn take(&mut self, frame: &[u8]) -> Option<()> {
        if let RepoFrame::Sync(told) = RepoFrame::decode(frame).ok()?
            && told.document == self.document
        {
            let message = Message::decode(told.data).ok()?;
            self.held.sync().receive_sync_message(&mut self.state, message).ok()?;
        }
        Some(())
    }
}
