//! What a change builds on, as one number per actor.

use std::sync::Arc;

/// For every actor the sequence number of its last change that is covered; absent actors are 0.
/// Sorted by actor. Shared, as the changes of one actor in a row have the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clock(Arc<[(u32, u64)]>);

impl Clock {
    pub(super) fn get(&self, actor: u32) -> u64 {
        match self.0.binary_search_by_key(&actor, |(actor, _)| *actor) {
            Ok(at) => self.0[at].1,
            Err(_) => 0,
        }
    }

    /// This clock with one actor's number raised.
    pub(super) fn with(&self, actor: u32, seq: u64) -> Self {
        let mut entries = self.0.to_vec();
        raise(&mut entries, actor, seq);
        Self(entries.into())
    }

    /// Everything either covers.
    pub(super) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let mut entries = self.0.to_vec();
        other.0.iter().for_each(|(actor, seq)| raise(&mut entries, *actor, *seq));
        Self(entries.into())
    }

    /// What both cover.
    pub(super) fn meet(&self, other: &Self) -> Self {
        let common = self.0.iter().map(|(actor, seq)| (*actor, (*seq).min(other.get(*actor))));
        Self(common.filter(|(_, seq)| *seq > 0).collect())
    }
}

fn raise(entries: &mut Vec<(u32, u64)>, actor: u32, seq: u64) {
    match entries.binary_search_by_key(&actor, |(actor, _)| *actor) {
        Ok(at) => entries[at].1 = entries[at].1.max(seq),
        Err(at) => entries.insert(at, (actor, seq)),
    }
}

/// What one change builds on, itself left out.
#[derive(Debug, Clone)]
pub(super) struct Ancestors {
    pub(super) clock: Clock,
    /// Its actor's changes before it: actor and the last one's number. Kept apart so that `clock`
    /// can be shared.
    pub(super) own: Option<(u32, u64)>,
}

impl Ancestors {
    pub(super) fn get(&self, actor: u32) -> u64 {
        match self.own {
            Some((own, seq)) if own == actor => seq,
            _ => self.clock.get(actor),
        }
    }

    pub(super) fn to_clock(&self) -> Clock {
        match self.own {
            Some((own, seq)) if seq > self.clock.get(own) => self.clock.with(own, seq),
            _ => self.clock.clone(),
        }
    }
}
