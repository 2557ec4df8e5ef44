//! Reads of rows that may be damaged, in a replica's file or a relay's: each read may fail, or
//! panic, without ending the others.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The rows of a table that could be read.
#[derive(Debug)]
pub struct Walked<K, T> {
    /// By their keys.
    pub rows: BTreeMap<K, T>,
    /// Whether these are all there are.
    pub is_all: bool,
}

/// Reads rows from the front until one cannot be read, and then from the back until one cannot.
/// `open` gives them in the order of their keys, and is called once for each end.
pub fn walk<I: DoubleEndedIterator, K: Ord, T, E>(
    open: impl Fn() -> Result<I, E>,
    take: impl Fn(I::Item) -> Result<(K, T), E>,
) -> Walked<K, T> {
    let mut walked = Walked { rows: BTreeMap::new(), is_all: false };
    for from_back in [false, true] {
        let Some(mut range) = read(&open) else { continue };
        while let Some(next) = read(|| {
            let next = if from_back { range.next_back() } else { range.next() };
            next.map(&take).transpose()
        }) {
            let Some((key, row)) = next else {
                walked.is_all = !from_back;
                return walked;
            };
            // From the back it has come to a row that was read from the front.
            if walked.rows.insert(key, row).is_some() {
                return walked;
            }
        }
    }
    walked
}

/// One read, which may find damage: databases report most of it, and panic on some.
pub fn read<T, E>(work: impl FnOnce() -> Result<T, E>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the numbers from 0 to 9, of which some fail and some panic.
    fn walked(bad: &[u32], worse: &[u32]) -> (Vec<u32>, bool) {
        let take = |number: u32| match number {
            _ if worse.contains(&number) => panic!("damage"),
            _ if bad.contains(&number) => Err("damage"),
            _ => Ok((number, ())),
        };
        let Walked { rows, is_all } = walk(|| Ok(0..10), take);
        (rows.into_keys().collect(), is_all)
    }

    #[test]
    fn a_bad_row_costs_what_cannot_be_reached_from_either_end() {
        assert_eq!(walked(&[], &[]), ((0..10).collect(), true));
        assert_eq!(walked(&[4], &[]), (vec![0, 1, 2, 3, 5, 6, 7, 8, 9], false));
        assert_eq!(walked(&[], &[4]), (vec![0, 1, 2, 3, 5, 6, 7, 8, 9], false));
        assert_eq!(walked(&[3], &[6]), (vec![0, 1, 2, 7, 8, 9], false));
        assert_eq!(walked(&[0], &[]), ((1..10).collect(), false));
        assert_eq!(walked(&[9], &[]), ((0..9).collect(), false));
    }

    #[test]
    fn what_cannot_be_opened_has_no_rows() {
        let nothing = walk(|| Err::<std::ops::Range<u32>, _>(()), |number| Ok((number, ())));
        assert!(nothing.rows.is_empty() && !nothing.is_all);
    }
}
