//! Whom an operator shut out: users, devices and single tokens.

use std::collections::BTreeMap;

use redb::{Durability, ReadTransaction, ReadableTable};
use rejoin_core::DeviceId;

use super::tables::REVOKED;
use super::{ChangeStore, StoreError};
use crate::access::Principal;

/// What is shut out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Revoked {
    /// A user, with every token that was made until then. Their login may give them new ones.
    User(String),
    /// A device, with whatever token, by its id.
    Device(String),
    /// One token, by its id.
    Token(String),
}

impl Revoked {
    fn key(&self) -> String {
        match self {
            Self::User(name) => format!("user:{name}"),
            Self::Device(id) => format!("device:{id}"),
            Self::Token(id) => format!("token:{id}"),
        }
    }

    fn of_key(key: &str) -> Option<Self> {
        let (kind, name) = key.split_once(':')?;
        let name = name.to_owned();
        Some(match kind {
            "user" => Self::User(name),
            "device" => Self::Device(name),
            "token" => Self::Token(name),
            _ => return None,
        })
    }
}

/// Everything that is shut out, each since when, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct RevokedTable(BTreeMap<String, u64>);

impl RevokedTable {
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let mut revoked = BTreeMap::new();
        for entry in transaction.open_table(REVOKED)?.iter()? {
            let (key, since) = entry?;
            revoked.insert(key.value().to_owned(), since.value());
        }
        Ok(Self(revoked))
    }
}

impl ChangeStore {
    /// Shuts something out from now on, durably, or lets it in again without a time.
    ///
    /// # Errors
    /// Whether the commit landed is unknown; reopen the store.
    pub fn revoke(&mut self, what: &Revoked, since_s: Option<u64>) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let committed = self.try_revoke(&what.key(), since_s);
        match (committed, since_s) {
            (Ok(()), Some(since_s)) => drop(self.revoked.0.insert(what.key(), since_s)),
            (Ok(()), None) => drop(self.revoked.0.remove(&what.key())),
            (Err(error), _) => {
                self.fail();
                return Err(error);
            }
        }
        Ok(())
    }

    fn try_revoke(&mut self, key: &str, since_s: Option<u64>) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(REVOKED)?;
            match since_s {
                Some(since_s) => drop(table.insert(key, since_s)?),
                None => drop(table.remove(key)?),
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Everything that is shut out, each since when, in seconds since 1970.
    pub fn revoked(&self) -> impl Iterator<Item = (Revoked, u64)> {
        let known = self.revoked.0.iter();
        known.filter_map(|(key, since_s)| Some((Revoked::of_key(key)?, *since_s)))
    }

    /// Whether somebody is shut out, on the device that they came with.
    pub fn is_revoked(&self, principal: &Principal, device: Option<DeviceId>) -> bool {
        let known = &self.revoked.0;
        if known.is_empty() {
            return false;
        }
        let since = |what: Revoked| known.get(&what.key()).copied();
        let user = since(Revoked::User(principal.user.clone()));
        // A token that does not say when it was made may be an old one.
        let is_of_before = |since_s| principal.issued_s.is_none_or(|issued_s| issued_s <= since_s);
        user.is_some_and(is_of_before)
            || principal.token.clone().is_some_and(|id| since(Revoked::Token(id)).is_some())
            || device.is_some_and(|device| since(Revoked::Device(device.to_string())).is_some())
            || principal.device.clone().is_some_and(|id| since(Revoked::Device(id)).is_some())
    }
}
