//! What somebody may do in a space.

use rejoin_core::{CollectionName, Collections, SpaceName};

use super::{Principal, Rules};

/// What somebody may do in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The collections that they may read.
    pub read: Collections,
    /// Those of them that they may also write to.
    pub write: Collections,
}

/// Why somebody may do something, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The line of `access.toml` at which the rule that allows reading begins.
    pub read: Option<usize>,
    /// The same for writing.
    pub write: Option<usize>,
}

impl Rights {
    /// Everything.
    pub const fn all() -> Self {
        Self { read: Collections::All, write: Collections::All }
    }

    /// Nothing.
    pub const fn none() -> Self {
        Self { read: Collections::none(), write: Collections::none() }
    }

    /// Those of somebody in a space: all that any of their roles may. Who may write may read.
    pub fn of(rules: &Rules, principal: &Principal, space: &SpaceName) -> Self {
        let mut rights = Self::none();
        for (_, allow) in rules.allowing(&principal.roles, space) {
            rights.read.add(&allow.read);
            rights.read.add(&allow.write);
            rights.write.add(&allow.write);
        }
        rights
    }
}

impl Explanation {
    /// The rules by which somebody may read and write a collection.
    pub fn of(
        rules: &Rules,
        principal: &Principal,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Self {
        let line = |may: fn(&super::Allow, &CollectionName) -> bool| {
            let mut allowing = rules.allowing(&principal.roles, space);
            allowing.find(|(_, allow)| may(allow, collection)).map(|(line, _)| line)
        };
        let read = line(|allow, it| allow.read.contains(it) || allow.write.contains(it));
        let write = line(|allow, it| allow.write.contains(it));
        Self { read, write }
    }
}
