//! A while in which the relay takes changes from others than their authors.
//!
//! With tokens, a change is taken only from the person whose name it bears. After a restore that keeps
//! out what the authors sent and the relay lost, and other devices still have. So an operator may
//! let everybody carry for a while, but for apps of automerge-repo. Each such change is noted, if the relay
//! knows whom its actor names, and proves nothing of its author.

use rejoin_core::wire::ByeCode;

use super::Relay;
use super::connections::Connection;

/// Until when changes are carried.
#[derive(Debug, Default)]
pub(super) struct Carrying {
    /// In milliseconds since 1970.
    until_ms: Option<u64>,
    /// The time of the present turn, in milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl Carrying {
    pub(super) fn is_open(&self) -> bool {
        self.until_ms.is_some_and(|until_ms| self.now_ms < until_ms)
    }
}

impl Relay {
    /// Takes changes from whoever is signed in and may write there, whoever wrote them, until a time in
    /// milliseconds since 1970; or not any more. Those who are connected come back to hear of it. A relay
    /// that starts again takes none.
    pub fn carry_until(&mut self, until_ms: Option<u64>) {
        let is_new = self.shared.carrying.until_ms.is_some() != until_ms.is_some();
        self.shared.carrying.until_ms = until_ms;
        if is_new {
            self.tell_of_carrying();
        }
    }

    /// Until when changes are carried, in milliseconds since 1970; `None` if they are not.
    pub fn carries_until(&self) -> Option<u64> {
        self.shared.carrying.until_ms
    }

    /// Time has passed.
    pub(super) fn end_carrying(&mut self, unix_ms: u64) {
        let carrying = &mut self.shared.carrying;
        carrying.now_ms = unix_ms;
        if carrying.until_ms.is_some_and(|until_ms| until_ms <= unix_ms) {
            carrying.until_ms = None;
            self.tell_of_carrying();
        }
    }

    fn tell_of_carrying(&mut self) {
        for id in self.connections.ids() {
            let Some(Connection::Replica(replica)) = self.connections.get(id) else { continue };
            if replica.principal.is_some() {
                self.close(
                    id,
                    ByeCode::Rights,
                    "whose changes are taken is another now; dial again",
                );
            }
        }
    }
}
