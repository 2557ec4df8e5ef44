//! What somebody meant by an index: the item that they saw there, whatever else the list holds.

use std::collections::BTreeSet;

use rejoin::Op;
use rejoin::value::Segment;

use super::checks::{Check, same};
use super::fold::Fold;
use super::history::{History, OpId, Set};
use super::reading::read;

/// One step of an edit on a list of the document, and what its author knew.
#[derive(Debug, Clone)]
pub struct Meant {
    /// What they saw.
    pub seen: Set,
    /// What they did there.
    pub op: Op,
}

impl Meant {
    /// The list of the document it is about, if it is about the items of one.
    fn list(&self) -> Option<&str> {
        match self.op.path().segments().first() {
            Some(Segment::Key(key)) if ["parts", "tags"].contains(&key.as_str()) => Some(key),
            _ => None,
        }
    }

    /// The index it names in that list.
    fn index(&self) -> Option<usize> {
        match (&self.op, self.op.path().segments()) {
            (_, [_, Segment::Index(index), ..]) => Some(*index),
            (Op::RemoveAt { index, .. }, [_]) => Some(*index),
            _ => None,
        }
    }

    /// The changes that came of it wrote to the item their author saw there, or made one there.
    /// Returns what there was to see, if there was anything.
    ///
    /// # Errors
    /// They wrote to another.
    pub fn check(
        &self,
        fold: &Fold,
        history: &History,
        made: &[usize],
    ) -> Result<Option<&'static str>, String> {
        let Some(name) = self.list() else { return Ok(None) };
        let Some(list) = history.list_at(name, &self.seen) else { return Ok(None) };
        if made.is_empty() {
            return Ok(None);
        }
        let before = read(history, fold, &self.seen);
        let shown = before.items(&list);
        let found = match history.items_at(&list, &self.seen).len() > shown.len() {
            true => "indices beside hidden items",
            false => "indices",
        };
        let mut touched = BTreeSet::new();
        made.iter().for_each(|change| touched.extend(history.items_touched(*change, &list)));
        if let Op::Insert { index, .. } = &self.op
            && self.op.path().segments().len() == 1
        {
            self.check_inserted(history, &list, shown, *index, made)?;
            return Ok(Some(found));
        }
        let Some(index) = self.index() else { return Ok(None) };
        // Of like items of a set those that do not show go with the one that does.
        let touched: BTreeSet<_> = touched.iter().filter(|item| shown.contains(item)).collect();
        let meant: BTreeSet<_> = shown.get(index).into_iter().collect();
        let what = format!("the item that {:?} was meant for", self.op);
        same(&what, &touched, &meant).map(|()| Some(found))
    }

    /// A new item stands between the two that its author saw there.
    fn check_inserted(
        &self,
        history: &History,
        list: &OpId,
        shown: &[OpId],
        index: usize,
        made: &[usize],
    ) -> Check {
        let mut set = self.seen.clone();
        made.iter().for_each(|change| set.extend(history.with_ancestors(*change)));
        let order = history.items_at(list, &set);
        let at = |item: &OpId| order.iter().position(|it| it == item);
        let new: Vec<&OpId> =
            order.iter().filter(|item| made.iter().any(|it| history.made(*it, item))).collect();
        for item in new {
            let before = index.checked_sub(1).and_then(|index| shown.get(index));
            let after = shown.get(index);
            let follows = before.is_none_or(|before| at(before) < at(item));
            let precedes = after.is_none_or(|after| at(item) < at(after));
            if !follows || !precedes {
                return Err(format!(
                    "{:?} put {item:?} not between {before:?} and {after:?}",
                    self.op
                ));
            }
        }
        Ok(())
    }
}
