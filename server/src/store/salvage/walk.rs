//! Reads of a damaged file, each of which may fail without ending the others.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Key, Range, Value};

/// Rows of a table.
pub(super) struct Walked<K, T> {
    pub(super) rows: BTreeMap<K, T>,
    /// Whether these are all there are.
    pub(super) is_all: bool,
}

/// Reads rows from the front until one cannot be read, and then from the back until one cannot.
pub(super) fn walk<K: Key + 'static, V: Value + 'static, O: Ord, T>(
    open: impl Fn() -> Result<Range<'static, K, V>, redb::Error>,
    take: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> (O, T),
) -> Walked<O, T> {
    let mut walked = Walked { rows: BTreeMap::new(), is_all: false };
    for from_back in [false, true] {
        let Ok(mut range) = read(&open) else { continue };
        loop {
            let next = read(|| {
                let next = if from_back { range.next_back() } else { range.next() };
                Ok(next.transpose()?.map(|(key, value)| take(key.value(), value.value())))
            });
            match next {
                Ok(Some((key, row))) => {
                    // From the back it has come to what was read from the front.
                    if walked.rows.insert(key, row).is_some() {
                        return walked;
                    }
                }
                Ok(None) => {
                    walked.is_all = !from_back;
                    return walked;
                }
                Err(()) => break,
            }
        }
    }
    walked
}

/// One read, which may find the file damaged: redb reports most damage, and panics on some.
pub(super) fn read<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(work)).map_err(drop)?.map_err(drop)
}
