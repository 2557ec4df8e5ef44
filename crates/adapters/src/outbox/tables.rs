//! What an outbox's database holds.
//!
//! A table whose layout changes gets the next number in its name, and a migration that can run twice.

use redb::TableDefinition;

/// Table: how it stands with the target
/// Key:   `()`
/// Value: `&[u8]` # [`Endpoint`](super::Endpoint), CBOR
pub(super) const ENDPOINT: TableDefinition<'_, (), &[u8]> = TableDefinition::new("endpoint-1");

/// Table: what was enqueued so far
/// Key:   `&[u8; 16]` # document
/// Value: `&[u8]`     # [`Checkpoint`](super::Checkpoint), CBOR
pub(super) const CHECKPOINTS: TableDefinition<'_, &[u8; 16], &[u8]> =
    TableDefinition::new("checkpoints-1");

/// Table: rows as they were enqueued last, and as the target holds them
/// Key:   `(&[u8; 16], &str, &str)` # (document, record's name, record's key)
/// Value: `&[u8]`                   # [`Shadow`](super::Shadow), CBOR
pub(super) const SHADOWS: TableDefinition<'_, (&[u8; 16], &str, &str), &[u8]> =
    TableDefinition::new("shadows-1");

/// Table: which document a row comes from
/// Key:   `(&str, &str)` # (record's name, record's key)
/// Value: `&[u8; 16]`    # document
pub(super) const RECORDS: TableDefinition<'_, (&str, &str), &[u8; 16]> =
    TableDefinition::new("records-1");

/// Table: deliveries that wait, those of one document in their order
/// Key:   `(&[u8; 16], u64)` # (document, number)
/// Value: `&[u8]`            # [`Waiting`](super::Waiting), CBOR
pub(super) const OUTBOX: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("outbox-1");

/// Table: when the first delivery of a document may be tried
/// Key:   `&[u8; 16]` # document
/// Value: `u64`       # milliseconds since 1970; [`PARKED`] or [`HELD`] if it is not up to time
pub(super) const WHEN: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("when-1");

/// Table: [`WHEN`] by time
/// Key:   `(u64, &[u8; 16])` # (milliseconds since 1970, document)
/// Value: `()`
pub(super) const DUE: TableDefinition<'_, (u64, &[u8; 16]), ()> = TableDefinition::new("due-1");

/// Table: dead letters
/// Key:   `u64`   # number, rising
/// Value: `&[u8]` # [`DeadLetter`](super::DeadLetter), CBOR
pub(super) const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead-letters-1");

/// Table: which dead letters are about a document
/// Key:   `(&[u8; 16], u64)` # (document, dead letter)
/// Value: `()`
pub(super) const DEAD_OF: TableDefinition<'_, (&[u8; 16], u64), ()> =
    TableDefinition::new("dead-letters-of-1");

/// Table: which dead letters are about rows that documents do not become
/// Key:   `(&[u8; 16], &str, &str)` # (document, record's name, record's key)
/// Value: `u64`                     # dead letter
pub(super) const MISFITS: TableDefinition<'_, (&[u8; 16], &str, &str), u64> =
    TableDefinition::new("misfits-1");

/// Table: which documents would become a row that is another's, until that one's deletion was taken
/// Key:   `(&str, &str, &[u8; 16])` # (record's name, record's key, document)
/// Value: `()`
pub(super) const WANTS: TableDefinition<'_, (&str, &str, &[u8; 16]), ()> =
    TableDefinition::new("wants-1");

/// Table: rows that the target does not hold as they are, as somebody let their dead letters be
/// Key:   `(&[u8; 16], &str, &str)` # (document, record's name, record's key)
/// Value: `()`
pub(super) const DISCARDED: TableDefinition<'_, (&[u8; 16], &str, &str), ()> =
    TableDefinition::new("discarded-1");

/// Table: whether pages of the file may still hold something of documents that were erased
/// Key:   `()`
/// Value: `()`
pub(super) const ERASING: TableDefinition<'_, (), ()> = TableDefinition::new("erasing-1");

/// Table: the number of the next dead letter
/// Key:   `()`
/// Value: `u64`
pub(super) const DEAD_NEXT: TableDefinition<'_, (), u64> = TableDefinition::new("dead-next-1");

/// The time of a document that waits for somebody to replay or discard a dead letter.
pub(super) const HELD: u64 = u64::MAX;

/// The time of a document whose first delivery waits for the end of a trouble that its kind of row is
/// in.
pub(super) const PARKED: u64 = HELD - 1;
