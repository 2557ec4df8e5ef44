//! Queries without `async`.

use futures_executor::block_on;
use rejoin_engine::{Condition, Difference, Plan, ReadError};
use serde::de::DeserializeOwned;

use crate::{Item, Path};

/// [`crate::Query`], blocking.
///
/// ```
/// # use rejoin::blocking::Replica;
/// # use serde_json::{Value, json};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let replica = Replica::open(folder.path().join("desk.redb"))?;
/// let jobs = replica.space("main")?.collection("jobs")?;
/// jobs.create("1", &json!({ "technician": "ana", "price": 80 }))?;
/// jobs.create("2", &json!({ "technician": "ana", "price": 40 }))?;
/// jobs.create("3", &json!({ "technician": "bo", "price": 10 }))?;
/// let cheap = jobs.query::<Value>().filter("technician", "ana").sort("price").limit(1);
/// assert_eq!(cheap.get()?[0].key.as_deref(), Some("2"));
/// assert_eq!(cheap.count()?, 2);
/// # replica.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Query<T>(pub(super) crate::Query<T>);

/// [`crate::LiveQuery`], blocking: an iterator that waits for the next differences.
#[derive(Debug)]
pub struct LiveQuery<T>(crate::LiveQuery<T>);

impl<T> Clone for Query<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: DeserializeOwned> Query<T> {
    /// As [`crate::Query::filter`].
    #[must_use]
    pub fn filter(self, field: impl Into<Path>, condition: impl Into<Condition>) -> Self {
        Self(self.0.filter(field, condition))
    }

    /// As [`crate::Query::sort`].
    #[must_use]
    pub fn sort(self, field: impl Into<Path>) -> Self {
        Self(self.0.sort(field))
    }

    /// As [`crate::Query::sort_falling`].
    #[must_use]
    pub fn sort_falling(self, field: impl Into<Path>) -> Self {
        Self(self.0.sort_falling(field))
    }

    /// As [`crate::Query::limit`].
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self(self.0.limit(limit))
    }

    /// As [`crate::Query::plan`].
    ///
    /// # Errors
    /// As there.
    pub fn plan(&self) -> Result<Plan, ReadError> {
        block_on(self.0.plan())
    }

    /// As [`crate::Query::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self) -> Result<Vec<Item<T>>, ReadError> {
        block_on(self.0.get())
    }

    /// As [`crate::Query::count`].
    ///
    /// # Errors
    /// As there.
    pub fn count(&self) -> Result<u64, ReadError> {
        block_on(self.0.count())
    }

    /// As [`crate::Query::watch`].
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self) -> Result<LiveQuery<T>, ReadError> {
        block_on(self.0.watch()).map(LiveQuery)
    }
}

impl<T: DeserializeOwned> LiveQuery<T> {
    /// As [`crate::LiveQuery::first`].
    pub fn first(&mut self) -> Vec<Item<T>> {
        self.0.first()
    }
}

/// Waits for the next differences; ends once the replica was closed.
impl<T: DeserializeOwned> Iterator for LiveQuery<T> {
    type Item = Result<Vec<Difference<Item<T>>>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(self.0.next()).transpose()
    }
}
