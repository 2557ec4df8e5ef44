//! Spaces and their collections by name and by number.

use std::collections::BTreeMap;

use redb::ReadableDatabase;
use rejoin_core::{CollectionName, Epoch, SpaceName};

use super::tables::{COLLECTIONS, SPACES, SpaceRow};
use super::{ChangeStore, StoreError};

/// The spaces that were used last, staged ones included.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    cached: BTreeMap<SpaceName, CachedSpace>,
}

/// A space as it will be after the next commit.
#[derive(Debug)]
pub(super) struct CachedSpace {
    pub(super) row: SpaceRow,
    /// By number, from 1.
    names: Vec<CollectionName>,
    numbers: BTreeMap<CollectionName, u32>,
    /// The number of collections that the database knows: those with the lowest numbers.
    stored: usize,
}

impl Spaces {
    pub(super) fn get(&self, space: &SpaceName) -> Option<&CachedSpace> {
        self.cached.get(space)
    }

    pub(super) fn get_mut(&mut self, space: &SpaceName) -> Option<&mut CachedSpace> {
        self.cached.get_mut(space)
    }

    fn insert(&mut self, space: SpaceName, cached: CachedSpace) {
        self.cached.insert(space, cached);
    }

    pub(super) fn clear(&mut self) {
        self.cached.clear();
    }

    /// Whether they take more memory than they should.
    pub(super) fn is_over_budget(&self) -> bool {
        let collections = || self.cached.values().map(|cached| cached.names.len()).sum::<usize>();
        self.cached.len() > SPACES_MAX || collections() > COLLECTIONS_MAX
    }
}

impl CachedSpace {
    fn new(number: u32, epoch: [u8; 16]) -> Self {
        let bytes = Some(0);
        let row = SpaceRow { number, epoch: Epoch(epoch), position: 0, hour: 0, bytes };
        Self { row, names: Vec::new(), numbers: BTreeMap::new(), stored: 0 }
    }

    /// The number of a collection that holds something.
    pub(super) fn number(&self, collection: &CollectionName) -> Option<u32> {
        self.numbers.get(collection).copied()
    }

    /// The name of a collection.
    pub(super) fn name(&self, number: u32) -> Option<&CollectionName> {
        self.names.get((number as usize).checked_sub(1)?)
    }

    /// The number of a collection, which is new if no document was in it.
    pub(super) fn number_or_new(&mut self, collection: &CollectionName) -> u32 {
        match self.number(collection) {
            Some(number) => number,
            None => self.push(collection.clone()),
        }
    }

    /// The collections that the database does not know, each with its number. It does from now on.
    pub(super) fn take_new(&mut self) -> impl Iterator<Item = (&CollectionName, u32)> {
        let first = std::mem::replace(&mut self.stored, self.names.len());
        self.names.iter().zip(1..).skip(first)
    }

    /// Every collection in the order of names.
    pub(super) fn collections(&self) -> impl Iterator<Item = (&CollectionName, u32)> {
        self.numbers.iter().map(|(name, number)| (name, *number))
    }

    fn push(&mut self, collection: CollectionName) -> u32 {
        self.names.push(collection.clone());
        let number = self.names.len() as u32;
        self.numbers.insert(collection, number);
        number
    }
}

impl ChangeStore {
    /// A space that holds something, or will after the next commit.
    pub(super) fn cached_space(
        &mut self,
        space: &SpaceName,
    ) -> Result<Option<&CachedSpace>, StoreError> {
        if self.spaces.get(space).is_none() {
            self.shed_spaces();
            let Some(cached) = self.read_space(space)? else { return Ok(None) };
            self.spaces.insert(space.clone(), cached);
        }
        Ok(self.spaces.get(space))
    }

    /// The space as it will be after the next commit; its epoch is that of the store if it is new.
    pub(super) fn cached_or_new_space(
        &mut self,
        space: &SpaceName,
    ) -> Result<&mut CachedSpace, StoreError> {
        if self.cached_space(space)?.is_none() {
            self.numbers.spaces += 1;
            let cached = CachedSpace::new(self.numbers.spaces, self.epoch);
            self.spaces.insert(space.clone(), cached);
        }
        self.spaces.get_mut(space).ok_or(StoreError::Failed)
    }

    /// The number of a space that holds something, or will after the next commit.
    pub(super) fn space_number(&mut self, space: &SpaceName) -> Result<Option<u32>, StoreError> {
        Ok(self.cached_space(space)?.map(|cached| cached.row.number))
    }

    /// Forgets spaces that can be read again, if there are many.
    pub(super) fn shed_spaces(&mut self) {
        if self.batch.is_empty() && self.spaces.is_over_budget() {
            self.spaces.clear();
        }
    }

    pub(super) fn stored_space(&self, space: &SpaceName) -> Result<Option<SpaceRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(SPACES)?;
        let row = table.get(space.as_str())?;
        row.map(|row| SpaceRow::decode(space.as_str(), row.value())).transpose()
    }

    fn read_space(&self, space: &SpaceName) -> Result<Option<CachedSpace>, StoreError> {
        let Some(row) = self.stored_space(space)? else { return Ok(None) };
        let table = self.database.begin_read()?.open_table(COLLECTIONS)?;
        let mut by_number = BTreeMap::new();
        for entry in table.range((row.number, "")..)? {
            let (key, number) = entry?;
            let (of, collection) = key.value();
            if of != row.number {
                break;
            }
            // Only checked names were ever written.
            let Ok(collection) = CollectionName::new(collection) else { continue };
            by_number.insert(number.value(), collection);
        }
        let mut cached = CachedSpace { row, ..CachedSpace::new(0, self.epoch) };
        for (expected, (number, collection)) in (1..).zip(by_number) {
            if number != expected {
                return Err(StoreError::Collections { space: space.as_str().to_owned() });
            }
            cached.push(collection);
        }
        cached.stored = cached.names.len();
        Ok(Some(cached))
    }
}

/// Spaces kept in memory.
const SPACES_MAX: usize = 1024;

/// Their collections kept in memory. Each takes some 150 bytes.
const COLLECTIONS_MAX: usize = 65_536;
