//! A query that follows what changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use rejoin_core::DocumentId;

use super::{Found, Judge, Query};
use crate::store::{ReadTxn, StoreError};

/// What makes of a list the list after a change. Carried out in order, each on what the ones before
/// left, differences end at the list as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference<T> {
    /// A document left the list, from this place.
    Removed {
        /// Its place.
        at: usize,
        /// Which document.
        document: DocumentId,
    },
    /// A document came to this place.
    Added {
        /// Its place.
        at: usize,
        /// The document.
        item: T,
    },
    /// A document went from one place to another, and may hold other values.
    Moved {
        /// Its place before.
        from: usize,
        /// Its place, once it was taken from the one before.
        to: usize,
        /// The document.
        item: T,
    },
    /// The document at this place was written, and holds other values or at least other heads.
    Changed {
        /// Its place.
        at: usize,
        /// The document.
        item: T,
    },
}

impl<T> Difference<T> {
    /// The same difference of a list that has each item in another form.
    ///
    /// # Errors
    /// An item has no such form.
    pub fn try_map<U, E>(self, form: impl FnOnce(T) -> Result<U, E>) -> Result<Difference<U>, E> {
        Ok(match self {
            Self::Removed { at, document } => Difference::Removed { at, document },
            Self::Added { at, item } => Difference::Added { at, item: form(item)? },
            Self::Moved { from, to, item } => Difference::Moved { from, to, item: form(item)? },
            Self::Changed { at, item } => Difference::Changed { at, item: form(item)? },
        })
    }

    /// Makes of a list what it is after this difference.
    ///
    /// # Panics
    /// The list is not the one that the difference is told of.
    pub fn carry_out(self, list: &mut Vec<T>) {
        match self {
            Self::Removed { at, .. } => drop(list.remove(at)),
            Self::Added { at, item } => list.insert(at, item),
            Self::Moved { from, to, item } => {
                list.remove(from);
                list.insert(to, item);
            }
            Self::Changed { at, item } => list[at] = item,
        }
    }
}

/// The result of a query as it was told last.
#[derive(Debug, Clone)]
pub struct Live {
    query: Query,
    told: Vec<Arc<Found>>,
}

/// What is otherwise than it was told, and the list that it leads to. It counts as told once
/// [`Live::accept`] has it.
#[derive(Debug)]
pub struct Look {
    /// The differences, in order.
    pub differences: Vec<Difference<Arc<Found>>>,
    now: Vec<Arc<Found>>,
}

impl Live {
    /// The result of a query as it is now.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn begin(query: Query, txn: &ReadTxn) -> Result<Self, StoreError> {
        let told = found(&query, txn)?;
        Ok(Self { query, told })
    }

    /// The documents as they were told last.
    pub fn told(&self) -> &[Arc<Found>] {
        &self.told
    }

    /// Looks at all of it again.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn look(&self, txn: &ReadTxn) -> Result<Look, StoreError> {
        let now = found(&self.query, txn)?;
        Ok(Look { differences: between(&self.told, &now), now })
    }

    /// Looks at documents that changed. Only where a document leaves a list that is full all is looked at
    /// again, as nobody knows which comes in its place.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn follow(
        &self,
        txn: &ReadTxn,
        changed: &BTreeSet<DocumentId>,
    ) -> Result<Look, StoreError> {
        let schema = self.query.schema(txn)?;
        let judge = Judge { query: &self.query, schema: &schema };
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let mut placing = Look { differences: Vec::new(), now: self.told.clone() };
        for document in changed {
            let found = txn.value(document)?.and_then(|row| judge.found(*document, row));
            if !placing.place(*document, found.map(Arc::new), limit) {
                return self.look(txn);
            }
        }
        Ok(placing)
    }

    /// Takes a look for told.
    pub fn accept(&mut self, look: Look) {
        self.told = look.now;
    }
}

impl Look {
    /// Puts a document where it stands now, or takes it out. Whether the list is known by that: where one
    /// leaves a full list, or comes to stand further behind at its end, another may come in its place.
    fn place(&mut self, document: DocumentId, found: Option<Arc<Found>>, limit: usize) -> bool {
        let Self { differences, now } = self;
        let was = now.iter().position(|it| it.document == document);
        let is_full = now.len() == limit;
        let before = was.map(|at| now.remove(at));
        let Some(item) = found else {
            differences.extend(was.map(|at| Difference::Removed { at, document }));
            return was.is_none() || !is_full;
        };
        let to = now.partition_point(|it| it.rank < item.rank);
        if was.is_none() && to >= limit {
            return true;
        }
        now.insert(to, Arc::clone(&item));
        match (was, &before) {
            (Some(from), Some(before)) if from == to => {
                if before.row != item.row {
                    differences.push(Difference::Changed { at: to, item: Arc::clone(&item) });
                }
            }
            (Some(from), _) => {
                differences.push(Difference::Moved { from, to, item: Arc::clone(&item) });
            }
            (None, _) => differences.push(Difference::Added { at: to, item: Arc::clone(&item) }),
        }
        while now.len() > limit {
            let last = now.pop().expect("it is longer than the limit");
            differences.push(Difference::Removed { at: now.len(), document: last.document });
        }
        let is_last = to + 1 == now.len();
        let is_behind = before.is_some_and(|before| before.rank < item.rank);
        !(is_full && is_last && is_behind)
    }
}

fn found(query: &Query, txn: &ReadTxn) -> Result<Vec<Arc<Found>>, StoreError> {
    Ok(query.find(txn)?.into_iter().map(Arc::new).collect())
}

/// What makes one list of another.
fn between(before: &[Arc<Found>], after: &[Arc<Found>]) -> Vec<Difference<Arc<Found>>> {
    let stays: BTreeSet<DocumentId> = after.iter().map(|it| it.document).collect();
    let was_there: BTreeSet<DocumentId> = before.iter().map(|it| it.document).collect();
    let mut differences = Vec::new();
    // From the end, so that the places before stay what they are.
    for (at, gone) in before.iter().enumerate().rev() {
        if !stays.contains(&gone.document) {
            differences.push(Difference::Removed { at, document: gone.document });
        }
    }
    let mut list: Vec<&Arc<Found>> =
        before.iter().filter(|it| stays.contains(&it.document)).collect();
    for (at, item) in after.iter().enumerate() {
        match list.get(at).filter(|here| here.document == item.document) {
            Some(here) if here.row == item.row => {}
            Some(_) => differences.push(Difference::Changed { at, item: item.clone() }),
            None if was_there.contains(&item.document) => {
                // All that stands before this place is what it is to be.
                let rest = list.iter().skip(at);
                let from = rest.take_while(|it| it.document != item.document).count() + at;
                list.remove(from);
                list.insert(at, item);
                differences.push(Difference::Moved { from, to: at, item: item.clone() });
            }
            None => {
                list.insert(at, item);
                differences.push(Difference::Added { at, item: item.clone() });
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ValueRow;

    fn found(number: u8) -> Found {
        let (key, heads, deleted, agreed) = (None, Vec::new(), false, None);
        let row = ValueRow { key, heads, deleted, json: b"{}".to_vec().into(), agreed };
        Found { document: DocumentId([number; 16]), row, rank: Vec::new() }
    }

    #[test]
    fn differences_carried_out_in_order_make_the_list_as_it_is() {
        let list =
            |numbers: &[u8]| numbers.iter().map(|it| Arc::new(found(*it))).collect::<Vec<_>>();
        let lists: [&[u8]; 8] = [
            &[],
            &[1, 2, 3, 4],
            &[4, 1, 2, 3],
            &[2, 3, 4, 1],
            &[4, 3, 2, 1],
            &[5, 1, 6, 3],
            &[3],
            &[1, 7, 2, 8, 3, 4],
        ];
        for before in lists {
            for after in lists {
                let (mut list_before, mut list_after) = (list(before), list(after));
                if let Some(last) = list_after.last_mut() {
                    Arc::make_mut(last).row.json = b"{\"a\":1}".to_vec().into();
                }
                let differences = between(&list_before, &list_after);
                assert!(differences.len() <= before.len() + after.len(), "{differences:?}");
                differences.into_iter().for_each(|it| it.carry_out(&mut list_before));
                assert_eq!(list_before, list_after);
            }
        }
    }
}
