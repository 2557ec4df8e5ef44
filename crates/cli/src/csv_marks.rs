//! The parts of a CSV file that are not values of documents: `rejoin export` writes them, and `rejoin
//! import` knows them again.

/// The column with the key of each document if no field holds it, and with the ids of documents that
/// have no key.
pub(crate) const KEY: &str = "_key";

/// The column that says which fields of a document are under review.
pub(crate) const DISPUTED: &str = "_disputed";

/// The suffix of a column's name that says that its cells are JSON.
pub(crate) const JSON: &str = ":json";

/// The bytes with which spreadsheets begin a file in UTF-8, and by which they know one.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";
