//! Sets of collections, as rights name them.

use std::collections::BTreeSet;
use std::fmt;

use crate::CollectionName;

/// Some collections of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collections {
    /// All of them, those that are still to come as well.
    All,
    /// These.
    These(BTreeSet<CollectionName>),
}

impl Collections {
    /// None at all.
    pub const fn none() -> Self {
        Self::These(BTreeSet::new())
    }

    /// Whether a collection is among them.
    pub fn contains(&self, collection: &CollectionName) -> bool {
        match self {
            Self::All => true,
            Self::These(some) => some.contains(collection),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::These(some) if some.is_empty())
    }

    /// Their names, in order; `None` for all.
    pub fn names(&self) -> Option<Vec<CollectionName>> {
        match self {
            Self::All => None,
            Self::These(some) => Some(some.iter().cloned().collect()),
        }
    }

    /// Those with these names; all for `None`.
    pub fn of_names(names: Option<Vec<CollectionName>>) -> Self {
        names.map_or(Self::All, |names| Self::These(names.into_iter().collect()))
    }

    /// Adds those of others.
    pub fn add(&mut self, others: &Self) {
        match (&mut *self, others) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::These(some), Self::These(others)) => some.extend(others.iter().cloned()),
        }
    }
}

impl fmt::Display for Collections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("every collection"),
            Self::These(some) if some.is_empty() => f.write_str("nothing"),
            Self::These(some) => {
                let names: Vec<_> = some.iter().map(CollectionName::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}
