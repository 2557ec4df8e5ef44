//! The fields by which documents and maps say that they were removed.

/// The keys at which a document and a map say that they were removed.
///
/// In documents that begin with our genesis these are short names that people must not use for
/// fields of their own. Documents of other programs may have such fields already, and mean
/// something else by them; in those the names begin with `rejoin.`, as all names of ours do.
#[derive(Debug, PartialEq, Eq)]
pub struct Marks {
    /// At the top of a document.
    pub deleted: &'static str,
    /// In a map.
    pub removed: &'static str,
}

impl Marks {
    /// In documents with our genesis.
    pub const OURS: &'static Self = &Self { deleted: DELETED, removed: REMOVED };

    /// In documents of other programs.
    pub const THEIRS: &'static Self =
        &Self { deleted: "rejoin.deleted", removed: "rejoin.removed" };
}

/// The key at which a document that begins with our genesis says that it was deleted.
pub const DELETED: &str = "deleted";

/// The key at which a map in such a document says that it was removed.
pub const REMOVED: &str = "removed";
