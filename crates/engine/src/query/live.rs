//! A query that follows what changes.

use std::collections::BTreeSet;

use rejoin_core::DocumentId;
use rejoin_core::schema::Schema;

use super::{Found, Query};
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
    /// The document at this place holds other values.
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

/// The result of a query as it was looked at last.
#[derive(Debug, Clone)]
pub struct Live {
    query: Query,
    shown: Vec<Found>,
}

impl Live {
    /// What a query finds now.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn begin(query: Query, txn: &ReadTxn, schema: &Schema) -> Result<Self, StoreError> {
        let shown = query.find(txn, schema)?;
        Ok(Self { query, shown })
    }

    /// The documents as they were looked at last.
    pub fn shown(&self) -> &[Found] {
        &self.shown
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Looks again, and tells what is otherwise than before.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn look(
        &mut self,
        txn: &ReadTxn,
        schema: &Schema,
    ) -> Result<Vec<Difference<Found>>, StoreError> {
        let now = self.query.find(txn, schema)?;
        let differences = between(&self.shown, &now);
        self.shown = now;
        Ok(differences)
    }
}

/// What makes one list of another.
fn between(before: &[Found], after: &[Found]) -> Vec<Difference<Found>> {
    let stays: BTreeSet<DocumentId> = after.iter().map(|it| it.document).collect();
    let was_there: BTreeSet<DocumentId> = before.iter().map(|it| it.document).collect();
    let mut differences = Vec::new();
    // From the end, so that the places before stay what they are.
    for (at, gone) in before.iter().enumerate().rev() {
        if !stays.contains(&gone.document) {
            differences.push(Difference::Removed { at, document: gone.document });
        }
    }
    let mut list: Vec<&Found> = before.iter().filter(|it| stays.contains(&it.document)).collect();
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
        let list = |numbers: &[u8]| numbers.iter().map(|it| found(*it)).collect::<Vec<_>>();
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
                    last.row.json = b"{\"a\":1}".to_vec().into();
                }
                let differences = between(&list_before, &list_after);
                assert!(differences.len() <= before.len() + after.len(), "{differences:?}");
                differences.into_iter().for_each(|it| it.carry_out(&mut list_before));
                assert_eq!(list_before, list_after);
            }
        }
    }
}
