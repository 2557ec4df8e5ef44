//! Damage of the store: found by reads and by a slow look over everything, told once, taken out,
//! and mended by replicas that hold the lost changes.

use rejoin_core::change::{self, Place};
use rejoin_core::limits::{
    SCRUB_BYTES_MAX, SCRUB_DOCUMENTS_MAX, SCRUB_PASS_MS, SCRUB_WAIT_MS_MAX, SCRUB_WAIT_MS_MIN,
};
use rejoin_core::wire::ByeCode;
use rejoin_core::{DocumentId, SpaceName};

use super::connections::Shared;
use super::intake::{Intake, Writer};
use super::{Answer, Author, Relay};
use crate::store::{Mended, Orphaned, Scrub, StoreError};

/// The look over the store that is under way.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    scrub: Scrub,
    /// The time at which it goes on; `None` before the first turn.
    due: Option<u64>,
    /// The time at which this pass over the store began.
    began: u64,
}

/// Documents that a commit mends.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// All changes that were held back are in these again.
    whole: Vec<(SpaceName, DocumentId)>,
    /// A replica brought all that these had lost.
    brought_back: Vec<DocumentId>,
}

impl TakenBack {
    pub(super) fn log(&self) {
        for (space, document) in &self.whole {
            tracing::info!(%space, doc = %document, "a damaged document is whole again");
        }
        for document in &self.brought_back {
            tracing::info!(doc = %document, "what a damaged document had lost was brought back");
        }
    }
}

impl Relay {
    /// Takes the rows that cannot be read out of damaged documents, before anything else is told of
    /// them.
    pub(super) fn mend(&mut self, unix_ms: u64) -> Result<(), StoreError> {
        while let Some((number, why)) = self.shared.store.take_suspect() {
            match self.shared.store.mend(number, unix_ms) {
                Ok(None) => {}
                Ok(Some(mended)) => {
                    self.shared.counters.documents_damaged += 1;
                    self.shared.counters.changes_damaged += mended.lost;
                    self.tell_mended(&mended, &why);
                }
                Err(error) if error.is_confined() => {
                    self.shared.counters.documents_damaged += 1;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        number,
                        why,
                        error,
                        "a document is damaged and cannot be mended; stop the relay and run \
                         `rejoin doctor --salvage` on its file"
                    );
                }
                Err(error) => return Err(error),
            }
            // Digests were withheld meanwhile, with any outcome.
            self.tell_digests();
        }
        Ok(())
    }

    /// Takes in again the orphans of the documents that this commit writes to. What is returned is to
    /// be logged when the commit is on the disk.
    pub(super) fn take_back(&mut self) -> Result<TakenBack, StoreError> {
        let mut whole = Vec::new();
        for Orphaned { space, collection, document, changes } in self.shared.store.orphans()? {
            let place = Place { space: &space, collection: &collection, document: &document };
            let mut heads_added = 0;
            let mut intake = Intake::new(&mut self.shared, place, &mut heads_added, Writer::SELF)?;
            #[cfg(feature = "mutants")]
            {
                intake = intake.without_refusals();
            }
            for (_, chunk) in &changes {
                if let Ok(change) = change::parse(chunk) {
                    intake.take(&change, chunk)?;
                }
            }
            let positions = intake.positions.take();
            let graph = self.shared.store.known(&place)?.map(|known| known.graph);
            let is_known = |chunk: &[u8]| {
                // A chunk that is damaged by now is of no use.
                change::hash_of(chunk)
                    .map_or(true, |hash| graph.is_some_and(|graph| graph.contains(&hash)))
            };
            let taken = changes.iter().filter(|(_, chunk)| is_known(chunk));
            let taken: Vec<u64> = taken.map(|(position, _)| *position).collect();
            let is_all = taken.len() == changes.len();
            self.shared.store.stage_taken_back(&space, document, &taken, is_all);
            if is_all {
                whole.push((space.clone(), document));
            }
            self.shared.answers.push(Answer {
                author: Author::Peer,
                name: space,
                document,
                positions,
            });
        }
        Ok(TakenBack { whole, brought_back: self.shared.store.stage_brought_back() })
    }

    /// An operator gives up what a document lost. `false` if it is not known to have lost anything.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn accept_loss(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
    ) -> Result<bool, StoreError> {
        let is_accepted = self.shared.store.accept_loss(space, document)?;
        if is_accepted {
            self.tell_digests();
        }
        Ok(is_accepted)
    }

    /// Goes on with the look over the store, if it is time.
    pub(super) fn scrub(&mut self, now: u64, unix_ms: u64) -> Result<(), StoreError> {
        let documents = self.shared.store.last_number();
        match self.scrubbing.due {
            None => {
                // The place that fits the time of the day: so a relay that is started anew every
                // night gets around as well.
                let part = u128::from(unix_ms % SCRUB_PASS_MS) * u128::from(documents);
                let from = (part / u128::from(SCRUB_PASS_MS)) as u64;
                self.scrubbing.scrub = Scrub::from(from);
                self.scrubbing.began = now;
            }
            Some(due) if due > now => return Ok(()),
            Some(_) => {
                let Self { shared: Shared { store, counters, .. }, scrubbing, .. } = self;
                let scrubbed =
                    store.scrub(&mut scrubbing.scrub, SCRUB_DOCUMENTS_MAX, SCRUB_BYTES_MAX)?;
                counters.documents_scrubbed += scrubbed.documents;
                if scrubbed.is_end {
                    scrubbing.scrub = Scrub::default();
                    let next = scrubbing.began.saturating_add(SCRUB_PASS_MS);
                    scrubbing.began = next.max(now);
                    scrubbing.due = Some(next.max(now.saturating_add(SCRUB_WAIT_MS_MAX)));
                    return Ok(());
                }
            }
        }
        let steps = documents.div_ceil(SCRUB_DOCUMENTS_MAX).max(1);
        let wait = (SCRUB_PASS_MS / steps).clamp(SCRUB_WAIT_MS_MIN, SCRUB_WAIT_MS_MAX);
        self.scrubbing.due = Some(now.saturating_add(wait));
        Ok(())
    }

    /// The time at which there is damage to take out, or at which the look over the store goes on.
    pub(super) fn mending_timeout(&self) -> Option<u64> {
        if self.shared.store.has_suspects() {
            Some(self.shared.folding.now)
        } else {
            self.scrubbing.due
        }
    }

    fn tell_mended(&mut self, mended: &Mended, why: &str) {
        let Mended { space, document, lost, orphans } = mended;
        tracing::error!(
            %space,
            doc = %document,
            lost,
            held_back = orphans,
            why,
            "a document is damaged; replicas that hold what is lost are asked for it"
        );
        let message = "a document was damaged at the relay and is mended; dial again";
        self.forget_document(space, document, message);
    }

    /// The graph is another one now, so all that count by its ranks begin anew. Peers of
    /// automerge-repo that follow the document are told why.
    pub(super) fn forget_document(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        message: &str,
    ) {
        let key = (space.clone(), *document);
        self.shared.forget_folding(&key);
        for id in self.shared.peers.forget_broadcast(&key) {
            self.close(id, ByeCode::Unavailable, message);
        }
    }

    /// Everyone is told the digests anew.
    fn tell_digests(&mut self) {
        for (id, space) in self.listeners.values().flatten() {
            let Some(replica) = self.connections.replica_mut(*id) else { continue };
            replica.session.handle_digests_changed(*space);
            self.shared.ready.insert(*id);
        }
    }
}
