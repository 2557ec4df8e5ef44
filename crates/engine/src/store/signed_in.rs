//! Who is signed in, and whose edits wait.

use std::collections::BTreeMap;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use redb::ReadableTable;

use super::rows::{Row, encode};
use super::tables::{OUTBOX, OUTBOX_USERS};
use super::{OutboxRow, ReadTxn, StoreError, WriteTxn, unavailable};

/// The user as whom a relay last knew the replica by its token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignedInRow {
    /// The user, as the relay calls them.
    #[n(0)]
    pub user: String,
    /// The address of the relay.
    #[n(1)]
    pub relay: String,
    /// A name for whom the token was of, if it says so: another token of the same is the same user's.
    #[n(2)]
    pub subject: Option<ByteArray<32>>,
}

impl Row for SignedInRow {
    const TABLE: &'static str = "signed-in";
}

impl ReadTxn {
    /// Who is signed in, if somebody is.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn signed_in(&self) -> Result<Option<SignedInRow>, StoreError> {
        self.meta_row(SIGNED_IN)
    }

    /// How many edits of each user wait for a relay. Those of nobody in particular are not counted.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn waiting_users(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let users = self.txn.open_table(OUTBOX_USERS).map_err(unavailable)?;
        let rows = users.iter().map_err(unavailable)?;
        rows.map(|row| {
            let (user, edits) = row.map_err(unavailable)?;
            Ok((user.value().to_owned(), edits.value()))
        })
        .collect()
    }
}

impl WriteTxn {
    /// Notes who is signed in.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_signed_in(&self, row: Option<&SignedInRow>) -> Result<(), StoreError> {
        self.put_meta_row(SIGNED_IN, row)
    }

    /// Leaves the first changes of an edit out of the outbox: the relay has them.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn shorten_outbox(&self, key: u64, row: OutboxRow, first: u64) -> Result<(), StoreError> {
        let row = OutboxRow { from: row.from + first, count: row.count - first, ..row };
        let mut outbox = self.txn.open_table(OUTBOX).map_err(unavailable)?;
        outbox.insert(key, encode(&row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Counts an edit that entered the outbox, or left it, with its user.
    pub(super) fn count_waiting(&self, row: &OutboxRow, enters: bool) -> Result<(), StoreError> {
        let Some(user) = row.user.as_deref() else { return Ok(()) };
        let mut users = self.txn.open_table(OUTBOX_USERS).map_err(unavailable)?;
        let before = users.get(user).map_err(unavailable)?.map_or(0, |edits| edits.value());
        let now = if enters { before + 1 } else { before.saturating_sub(1) };
        match now {
            0 => drop(users.remove(user).map_err(unavailable)?),
            now => drop(users.insert(user, now).map_err(unavailable)?),
        }
        Ok(())
    }
}

const SIGNED_IN: &str = "signed-in";
