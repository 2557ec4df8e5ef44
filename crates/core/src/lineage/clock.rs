//! The changes that a change builds on, as one number for each chain. In a chain each change builds
//! on the one before.

use std::sync::Arc;

/// For every chain the place of its last change that is covered; absent chains are 0. Sorted by
/// chain. Shared, as the changes of one chain in a row have the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clock(Arc<[(u32, u64)]>);

impl Clock {
    pub(super) fn get(&self, chain: u32) -> u64 {
        match self.0.binary_search_by_key(&chain, |(chain, _)| *chain) {
            Ok(at) => self.0[at].1,
            Err(_) => 0,
        }
    }

    /// A copy of this clock with one chain's number raised.
    pub(super) fn with(&self, chain: u32, place: u64) -> Self {
        let mut entries = self.0.to_vec();
        raise(&mut entries, chain, place);
        Self(entries.into())
    }

    /// The clock of all changes that either one covers.
    pub(super) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let mut entries = self.0.to_vec();
        other.0.iter().for_each(|(chain, place)| raise(&mut entries, *chain, *place));
        Self(entries.into())
    }

    /// The clock of the changes that both cover.
    pub(super) fn meet(&self, other: &Self) -> Self {
        let common = self.0.iter().map(|(chain, place)| (*chain, (*place).min(other.get(*chain))));
        Self(common.filter(|(_, place)| *place > 0).collect())
    }
}

fn raise(entries: &mut Vec<(u32, u64)>, chain: u32, place: u64) {
    match entries.binary_search_by_key(&chain, |(chain, _)| *chain) {
        Ok(at) => entries[at].1 = entries[at].1.max(place),
        Err(at) => entries.insert(at, (chain, place)),
    }
}

/// The changes that one change builds on, without itself.
#[derive(Debug, Clone)]
pub(super) struct Ancestors {
    pub(super) clock: Clock,
    /// The part of its own chain before it: the chain, and the place of the last change. It is kept
    /// apart so that `clock` can be shared.
    pub(super) own: Option<(u32, u64)>,
}

impl Ancestors {
    pub(super) fn get(&self, chain: u32) -> u64 {
        match self.own {
            Some((own, place)) if own == chain => place,
            _ => self.clock.get(chain),
        }
    }

    pub(super) fn to_clock(&self) -> Clock {
        match self.own {
            Some((own, place)) if place > self.clock.get(own) => self.clock.with(own, place),
            _ => self.clock.clone(),
        }
    }
}
