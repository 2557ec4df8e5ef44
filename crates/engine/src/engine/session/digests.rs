//! Cursors, digests and repairs: how the replica knows that it holds the same changes as the relay.

use std::collections::BTreeMap;

use rejoin_core::repair::RepairItem;
use rejoin_core::session::Difference;
use rejoin_core::wire::{CollectionDigest, Cursor, Wanted};
use rejoin_core::{CollectionName, Collections, HeadsHash, SetDigest, SpaceName, heads_hash};
use tracing::{debug, info};

use super::held::Held;
use crate::engine::{Engine, EngineError, Turn};
use crate::store::{StoreError, WriteTxn};

impl Engine {
    /// Notes the position of this checkpoint for bookings made here that the relay has acknowledged
    /// since the last one: it holds them by now.
    pub(super) fn stage_held(
        &mut self,
        turn: &mut Turn,
        number: u32,
        position: u64,
    ) -> Result<(), EngineError> {
        let Some(session) = &self.session else { return Ok(()) };
        let space = session.name(number);
        for id in std::mem::take(&mut self.newly_held) {
            let Some(row) = turn.txn.document(&id)? else { continue };
            if row.space != space {
                self.newly_held.insert(id);
            } else if turn.txn.is_booked(&id)? && turn.txn.held(&id)?.is_none() {
                turn.txn.put_held(&id, Some(position))?;
                turn.dirty = true;
            }
        }
        Ok(())
    }

    pub(super) fn stage_checkpoint(
        &mut self,
        turn: &mut Turn,
        number: u32,
        cursor: Cursor,
        trusted: bool,
        digests: Option<(Vec<CollectionDigest>, u64)>,
    ) -> Result<(), EngineError> {
        let held = match &digests {
            Some(_) => self.held_documents(turn)?,
            None => Held::new(),
        };
        let view = self.store.read()?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let is_rest_held = !held.is_empty() && session.is_rest_given(&view)?;
        let quiet = !session.is_pushing();
        let Some(space) = session.spaces.get_mut(number as usize) else { return Ok(()) };
        #[cfg(feature = "mutants")]
        let cursor = match self.options.mutant {
            Some(crate::engine::Mutant::MarkTooEarly) => Cursor { backfill: None, ..cursor },
            _ => cursor,
        };
        if trusted {
            let row = space.cursor.map_or_else(|| cursor.into(), |row| row.at(cursor));
            // While older documents come, every mark is worth a commit: documents beyond it are not
            // asked for again.
            turn.dirty |= row.backfill != space.stored.and_then(|stored| stored.backfill);
            space.cursor = Some(row);
        }
        let (digests, lost) = digests.unzip();
        let told = digests.is_some();
        space.lost = lost.unwrap_or(space.lost);
        let is_older_here = space.cursor.is_none_or(|row| row.is_whole()) && space.wanting == 0;
        let comparable = digests.filter(|_| quiet && is_older_here);
        // What a full relay does not take must not keep back what others wrote: it is looked for once,
        // although the two differ in any case.
        let is_stuck = (session.is_full || session.is_foreign) && space.repairs == 0;
        let is_compared = is_stuck || is_rest_held || turn.txn.outbox(0, 1)?.is_empty();
        let compared = match comparable {
            Some(theirs) if is_compared => {
                Some((same_digests(&turn.txn, &space.name, &space.read, &theirs, &held)?, theirs))
            }
            _ => None,
        };
        if told {
            space.passed_over = compared.is_none();
        }
        match compared {
            Some((true, _)) => {
                if !space.equal {
                    turn.dirty |= space.stored != Some(cursor.into());
                    turn.txn.end_repair(&session.relay, &space.name)?;
                    turn.txn.forget_arrivals(&session.relay, &space.name)?;
                }
                space.equal = true;
                space.cursor = Some(cursor.into());
                session.protocol.handle_equal(number);
            }
            Some((false, theirs)) => {
                return self.stage_unequal(turn, number, cursor, &theirs, &held);
            }
            None => {}
        }
        Ok(())
    }

    /// Digests differ, and nothing is under way that would explain it.
    fn stage_unequal(
        &mut self,
        turn: &mut Turn,
        number: u32,
        cursor: Cursor,
        theirs: &[CollectionDigest],
        held: &Held,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(space) = session.spaces.get_mut(number as usize) else { return Ok(()) };
        space.equal = false;
        if space.repairs >= REPAIRS_PER_SESSION_MAX {
            let name = &space.name;
            self.status.trouble = Some(format!(
                "{name} still differs from the relay's after {REPAIRS_PER_SESSION_MAX} repairs; run \
                 `rejoin doctor` on this file, and look at the relay's log"
            ));
        } else if !session.protocol.is_repairing(number) {
            space.repairs += 1;
            self.counters.repairs += 1;
            space.listed_to = Some(cursor.into());
            return self.begin_repair(turn, number, theirs, held);
        }
        Ok(())
    }

    /// Finds the documents that differ: by coded symbols, or from lists if those cost less.
    fn begin_repair(
        &mut self,
        turn: &mut Turn,
        number: u32,
        theirs: &[CollectionDigest],
        held: &Held,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let name = session.name(number);
        let ours = turn.txn.digests(&name)?;
        let mut counts: BTreeMap<&CollectionName, (u64, u64)> = BTreeMap::new();
        let may_read = session.may_read(number);
        let ours = ours.iter().filter(|(collection, _)| may_read.contains(collection));
        ours.for_each(|(collection, row)| {
            counts.entry(collection).or_default().0 = row.documents;
        });
        theirs.iter().for_each(|theirs| {
            counts.entry(&theirs.collection).or_default().1 = theirs.documents;
        });
        let differ: u64 = counts.values().map(|(ours, theirs)| ours.abs_diff(*theirs)).sum();
        let listed: u64 = counts.values().map(|(ours, theirs)| ours + theirs).sum();
        // A coded symbol has about the bytes of a listed document.
        let symbols_max = u32::try_from(listed.max(SYMBOLS_MIN)).unwrap_or(u32::MAX);
        if differ * 2 > u64::from(symbols_max) {
            return self.begin_listing(turn, number);
        }
        turn.dirty = true;
        if turn.txn.count_repair(&session.relay, &name)? >= REPAIRS_CUT_MAX {
            return self.begin_listing(turn, number);
        }
        info!(space = %name, "digests differ; repairing");
        let items = repair_items(&turn.txn, &name, &may_read, held)?;
        session.protocol.start_repair(number, items, symbols_max);
        Ok(())
    }

    /// Plans to ask for digests that were passed over, now that nothing is under way. It is
    /// unnecessary if the relay tells its digests by itself meanwhile, but the relay does not if a
    /// push brought it nothing new.
    pub(super) fn plan_asking(&mut self, now: u64, is_rest_held: bool) {
        let waiting = self.status.waiting > 0 && !is_rest_held;
        let Some(session) = &mut self.session else { return };
        let busy = waiting || session.is_pushing();
        let due = !busy && session.spaces.iter().any(|space| space.passed_over);
        session.ask_at = due.then(|| session.ask_at.unwrap_or(now + ASK_DIGESTS_MS));
    }

    pub(super) fn ask_digests(&mut self, now: u64) {
        let Some(session) = &mut self.session else { return };
        if session.ask_at.is_none_or(|at| at > now) {
            return;
        }
        session.ask_at = None;
        for (number, space) in session.spaces.iter_mut().enumerate() {
            if std::mem::take(&mut space.passed_over) {
                session.protocol.ask_digests(number as u32);
            }
        }
    }

    pub(super) fn handle_difference(
        &mut self,
        turn: &mut Turn,
        difference: Difference,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Difference { space, missing_here, missing_there, differing } = difference;
        debug!(
            missing_here = missing_here.len(),
            missing_there = missing_there.len(),
            differing = differing.len(),
            "repair found"
        );
        if missing_here.is_empty() && missing_there.is_empty() && differing.is_empty() {
            // No document differs, only the sum: ours is wrong.
            let name = session.name(space);
            turn.txn.end_repair(&session.relay, &name)?;
            recount_digests(&turn.txn, &name)?;
            turn.dirty = true;
            // The relay has nothing new to say by itself, and without this question nobody would
            // hear that all is well.
            session.protocol.ask_digests(space);
            return Ok(());
        }
        let name = session.name(space);
        turn.txn.end_repair(&session.relay, &name)?;
        for document in missing_here.iter().chain(&differing) {
            turn.txn.mark_wanted(&session.relay, &name, document, true)?;
        }
        turn.dirty = true;
        let theirs = missing_there.into_iter();
        let theirs = theirs.map(|document| Wanted { document, heads: Vec::new() });
        self.stage_wanted(turn, space, theirs.collect(), false)?;
        self.go_on(turn, space)
    }

    pub(in crate::engine) fn stage_cursors(&mut self, txn: &WriteTxn) -> Result<(), StoreError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        for space in &mut session.spaces {
            if space.cursor.is_some() && space.cursor != space.stored {
                txn.put_cursor(&session.relay, &space.name, space.cursor.as_ref())?;
                space.stored = space.cursor;
            }
        }
        Ok(())
    }

    pub(in crate::engine) fn flush_cursors(&mut self) -> Result<(), EngineError> {
        let due = self.session.as_ref().is_some_and(|session| {
            let mut spaces = session.spaces.iter();
            spaces.any(|space| space.cursor.is_some() && space.cursor != space.stored)
        });
        if due {
            let txn = self.store.write()?;
            self.stage_cursors(&txn)?;
            txn.commit()?;
            self.counters.commits += 1;
        }
        Ok(())
    }
}

fn same_digests(
    txn: &WriteTxn,
    space: &SpaceName,
    may_read: &Collections,
    theirs: &[CollectionDigest],
    held: &Held,
) -> Result<bool, StoreError> {
    let digests = txn.digests(space)?.into_iter();
    let mut ours: BTreeMap<_, _> =
        digests.map(|(collection, row)| (collection, row.digest)).collect();
    for (id, document) in held.iter().filter(|(_, document)| document.space == *space) {
        let Some(digest) = ours.get_mut(&document.collection) else { continue };
        digest.remove(id, &document.now);
        if let Some(without) = &document.without {
            digest.insert(id, without);
        }
    }
    // What may not be read there any more is compared with nothing.
    ours.retain(|collection, digest| !digest.is_empty() && may_read.contains(collection));
    let theirs: BTreeMap<_, _> = theirs
        .iter()
        .filter(|theirs| !theirs.digest.is_empty())
        .map(|theirs| (theirs.collection.clone(), theirs.digest))
        .collect();
    Ok(ours == theirs)
}

fn repair_items(
    txn: &WriteTxn,
    space: &SpaceName,
    may_read: &Collections,
    held: &Held,
) -> Result<Vec<RepairItem>, StoreError> {
    let mut items = Vec::new();
    txn.each_document(|document, row| {
        if row.space == *space && may_read.contains(&row.collection) {
            let heads = match held.get(&document) {
                Some(held) => held.without,
                None => Some(heads_hash(&row.heads)),
            };
            items.extend(heads.map(|heads| RepairItem { document, heads: heads.short() }));
        }
    })?;
    txn.each_erased(|document, row| {
        if row.space == *space && may_read.contains(&row.collection) {
            items.push(RepairItem { document, heads: HeadsHash::ERASED.short() });
        }
    })?;
    Ok(items)
}

/// Adds up the digests of a space anew. Returns whether any was wrong.
pub fn recount_digests(txn: &WriteTxn, space: &SpaceName) -> Result<bool, StoreError> {
    let mut sums: BTreeMap<CollectionName, (SetDigest, u64)> = BTreeMap::new();
    txn.each_document(|document, row| {
        if row.space == *space {
            let (digest, documents) = sums.entry(row.collection).or_default();
            digest.insert(&document, &heads_hash(&row.heads));
            *documents += 1;
        }
    })?;
    txn.each_erased(|document, row| {
        if row.space == *space {
            let (digest, _) = sums.entry(row.collection).or_default();
            digest.insert(&document, &HeadsHash::ERASED);
        }
    })?;
    let stored = txn.digests(space)?;
    let gone = stored.iter().filter(|(collection, _)| !sums.contains_key(collection));
    let gone: Vec<_> = gone.map(|(collection, _)| collection.clone()).collect();
    for collection in gone {
        sums.insert(collection, (SetDigest::default(), 0));
    }
    let mut wrong = false;
    for (collection, (digest, documents)) in sums {
        let row = crate::store::DigestRow { digest, documents };
        if txn.digest(space, &collection)? != row {
            wrong = true;
            txn.put_digest(space, &collection, &row)?;
        }
    }
    Ok(wrong)
}

/// Coded symbols that a repair may always take.
const SYMBOLS_MIN: u64 = 256;

/// Repairs, one after the other, that were cut short with the line. Lists go on where the line was
/// cut; coded symbols begin anew, and would never end on a line that does not carry all of them at
/// once.
const REPAIRS_CUT_MAX: u32 = 2;

/// Repairs of a space begun in one session. If three do not repair a space, a person has to look at
/// it.
const REPAIRS_PER_SESSION_MAX: u32 = 3;

/// Milliseconds of quiet after which digests that were passed over are asked for again: longer than
/// a relay takes to tell them by itself.
const ASK_DIGESTS_MS: u64 = 1000;
