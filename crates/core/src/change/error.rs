//! The reasons for which bytes are not taken for a change or a snapshot.

use thiserror::Error;

/// Bytes from outside that are not one sound Automerge change, or not one sound snapshot.
///
/// All of them are final: the same bytes will be refused again. A replica sets a change of its own
/// that meets one of these aside; a relay answers with a refusal of the class `never`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Longer than may be stored and sent.
    #[error("the chunk has {len} bytes, {max} are allowed; split the edit into several changes")]
    ChunkBytes {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not an Automerge chunk at all.
    #[error(
        "the bytes do not begin as an Automerge chunk does; send a change as Automerge saved it"
    )]
    Magic,
    /// A snapshot where a change belongs.
    #[error("the chunk is a document (type 0) where a change belongs; send its changes one by one")]
    Document,
    /// A bundle, whose format Automerge calls experimental.
    #[error("the chunk is a bundle (type 3), which is not supported; send its changes one by one")]
    Bundle,
    /// A type of chunk that Automerge 0.12 does not know, or a change where a snapshot belongs.
    #[error(
        "the chunk has type {kind}, which does not belong here; send changes (type 1 or 2), or a document (type 0) as snapshot"
    )]
    Kind {
        /// The type byte.
        kind: u8,
    },
    /// The bytes end inside something.
    #[error("the bytes end within the {what}; send the whole chunk")]
    Truncated {
        /// The part that was being read.
        what: &'static str,
    },
    /// Bytes after the end of something.
    #[error("{len} bytes follow the {what}; send one chunk and nothing else")]
    Trailing {
        /// The part that had ended.
        what: &'static str,
        /// The number of bytes that follow.
        len: usize,
    },
    /// A number over 64 bits or not in its shortest form.
    #[error("the {what} is not a number in its shortest form; write the change with Automerge")]
    Number {
        /// The part that was being read.
        what: &'static str,
    },
    /// The content does not have the checksum that the header promises.
    #[error("the checksum does not match the content; the bytes were damaged, send them again")]
    Checksum,
    /// The deflate stream is damaged.
    #[error("the deflated {what} cannot be inflated; the bytes were damaged, send them again")]
    Deflate {
        /// The part that was being inflated.
        what: &'static str,
    },
    /// A deflate stream that holds more than may be inflated.
    #[error("the {what} inflates to more than {max} bytes; split the edit into several changes")]
    InflatedBytes {
        /// The part that was being inflated.
        what: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// More dependencies than one change may have.
    #[error("the change has {count} dependencies, {max} are allowed; merge the heads in steps")]
    Deps {
        /// The number it declares.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// More actors than one change may name.
    #[error("the change names {count} other actors, {max} are allowed; split the edit")]
    Actors {
        /// The number it declares.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// Actors in another order than Automerge's, one twice, or one that no operation names.
    #[error(
        "the other actors are not those of the operations in ascending order; write the change with Automerge"
    )]
    ActorsOrder,
    /// An actor id without a byte, or too long.
    #[error("an actor id has {len} bytes, 1 to {max} are allowed; draw a new actor")]
    ActorBytes {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An operation names an actor by a place the change does not have.
    #[error("the {what} names actor {index} of {count}; write the change with Automerge")]
    ActorIndex {
        /// The column.
        what: &'static str,
        /// The index it names.
        index: u64,
        /// The number of actors that the change has, its own included.
        count: usize,
    },
    /// Sequence numbers count from 1.
    #[error(
        "the sequence number is 0, but changes are counted from 1; write the change with Automerge"
    )]
    Seq,
    /// An operation counter Automerge cannot hold, or that names a later operation.
    #[error("the {what} is {counter}, outside {min} to {max}; write the change with Automerge")]
    Counter {
        /// The counter.
        what: &'static str,
        /// Its value.
        counter: i128,
        /// The least value allowed here.
        min: u64,
        /// The greatest value allowed here.
        max: u64,
    },
    /// A message too long to keep for every change.
    #[error("the message has {len} bytes, {max} are allowed; shorten it")]
    MessageBytes {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Text that is not UTF-8.
    #[error("the {what} is not UTF-8; write the change with Automerge")]
    Utf8 {
        /// The text.
        what: &'static str,
    },
    /// Bytes after the operations that are not one author.
    #[error(
        "{len} bytes after the operations are not an author of at most {max} bytes; write the change with Automerge 0.12"
    )]
    Author {
        /// The number of bytes after the operations.
        len: usize,
        /// The limit of an author in bytes.
        max: usize,
    },
    /// More columns than a change may have.
    #[error("the change has {count} columns, {max} are allowed; write it with Automerge")]
    Columns {
        /// The number it declares.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// Columns out of order, one twice, or one Automerge 0.12 does not write in a change.
    #[error("column {spec:#x} is unknown or out of order; write the change with Automerge 0.12")]
    Column {
        /// The column's specification as written.
        spec: u64,
    },
    /// A deflated column, which only documents may have.
    #[error("column {spec:#x} is deflated, which a change must not do; write it with Automerge")]
    DeflatedColumn {
        /// The column's specification as written.
        spec: u64,
    },
    /// Run lengths that claim more rows than a change may have.
    #[error("the {column} column has {rows} rows or more, {max} are allowed; split the edit")]
    Rows {
        /// The column.
        column: &'static str,
        /// The rows claimed so far.
        rows: u64,
        /// The limit.
        max: u64,
    },
    /// A column with more or fewer rows than there are operations.
    #[error(
        "the {column} column has not as many rows as the change has operations; write the change with Automerge"
    )]
    RowsDiffer {
        /// The column.
        column: &'static str,
    },
    /// A column in another form than Automerge's, which would come back from a save with another
    /// hash and make the document unloadable.
    #[error("the {column} column is not in its shortest form; write the change with Automerge")]
    Form {
        /// The column.
        column: &'static str,
    },
    /// A row that no operation can have.
    #[error("operation {row} has an impossible {what}; write the change with Automerge")]
    Operation {
        /// The place of the operation in the change, from 0.
        row: u64,
        /// The part of it.
        what: &'static str,
    },
}
