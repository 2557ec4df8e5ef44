//! What a comparison with a target finds.

use serde::{Deserialize, Serialize};

/// Everything a target holds, compared with everything it should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which adapter.
    pub adapter: String,
    /// When the comparison was over, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether nothing was to be repaired.
    pub dry_run: bool,
    /// Rows that the target should hold.
    pub checked: u64,
    /// Deliveries that a fresh projection came to.
    pub stale: u64,
    /// Rows that the target does not hold.
    pub missing: u64,
    /// Rows that the target should not hold.
    pub extra: u64,
    /// Rows that the target holds otherwise.
    pub differs: u64,
    /// Rows that differ because they are on their way.
    pub waiting: u64,
    /// Rows that differ because the target refused them as they are.
    pub refused: u64,
    /// Rows that are sent again.
    pub repaired: u64,
    /// The first rows that are not as they should be.
    pub rows: Vec<DifferingRow>,
}

impl Report {
    /// Rows that are not as they should be.
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.differs
    }
}

/// A row that is not as it should be at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingRow {
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// How it differs.
    pub what: Difference,
    /// The fields that are held otherwise.
    pub fields: Vec<String>,
}

/// How a row differs at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The target does not hold it.
    Missing,
    /// The target should not hold it.
    Extra,
    /// The target holds it otherwise.
    Differs,
}

impl Difference {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Differs => "differs",
        }
    }
}
