//! Why some deliveries were not written together, and which of them it concerns.

use std::mem::discriminant;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::fault::{fault, fault_for_all, is_for_all};
use crate::delivery::{Action, Delivery, Fault, IdempotencyKey};

/// Why some deliveries were not written together.
pub(super) struct Unwritten {
    pub(super) fault: Fault,
    pub(super) of: Of,
    /// Whether a column has another type than it had.
    pub(super) is_other_type: bool,
}

/// What could not be written.
pub(super) enum Of {
    /// Nothing can be.
    All,
    /// None that is [alike](are_alike) this one.
    Alike(IdempotencyKey),
    /// One delivery, at least.
    Some,
}

impl Unwritten {
    pub(super) fn all(error: Error) -> Self {
        Self { fault: fault_for_all(&error), of: Of::All, is_other_type: false }
    }

    pub(super) fn some(error: Error) -> Self {
        let of = if is_for_all(&error) { Of::All } else { Of::Some };
        let is_other_type = error.code() == Some(&SqlState::DATATYPE_MISMATCH);
        Self { fault: fault(&error), of, is_other_type }
    }

    /// The table that notes deliveries is in the way, unless it is a key that cannot be noted.
    pub(super) fn noting(error: Error) -> Self {
        let of = Self::some(error);
        match of.fault.is_trouble() {
            true => Self { fault: Fault::trouble(of.fault.what), of: Of::All, ..of },
            false => of,
        }
    }

    /// A column that takes nothing and that the mapping gives nothing is a trouble of the configuration,
    /// which no row can help.
    fn of_the_mapping(error: &Error, first: &Delivery) -> Option<Fault> {
        let said = error.as_db_error().filter(|it| *it.code() == SqlState::NOT_NULL_VIOLATION)?;
        let (column, table) = (said.column()?, &first.record.name);
        let row = first.action.row().filter(|_| said.table() == Some(table))?;
        let is_given = row.contains_key(column);
        (!is_given).then(|| {
            Fault::trouble_of_kind(format!(
                "the database takes no row of {table} without {column}, which this row does not give; \
                 give the column a default, or map a field to it that is never left out"
            ))
        })
    }

    pub(super) fn by(first: &Delivery) -> impl FnOnce(Error) -> Self {
        move |error| match Self::of_the_mapping(&error, first)
            .map_or_else(|| Self::some(error), |fault| Self { of: Of::Some, ..fault.into() })
        {
            it if matches!(it.of, Of::Some) && it.fault.is_trouble() => {
                Self { of: Of::Alike(first.key.clone()), ..it }
            }
            other => other,
        }
    }
}

impl From<Fault> for Unwritten {
    fn from(fault: Fault) -> Self {
        Self { fault, of: Of::All, is_other_type: false }
    }
}

/// Whether two deliveries are written by the same statement.
pub(super) fn are_alike(one: &Delivery, other: &Delivery) -> bool {
    let names = |action: &Action| match action {
        Action::Put(row) => row.keys().cloned().collect(),
        Action::Mark { .. } | Action::Delete => Vec::new(),
    };
    one.record.name == other.record.name
        && discriminant(&one.action) == discriminant(&other.action)
        && names(&one.action) == names(&other.action)
}
