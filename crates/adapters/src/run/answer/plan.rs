//! What a configuration would change, and what it changed.

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Carries;
use crate::delivery::Row;

/// What a configuration would change of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which adapter.
    pub adapter: String,
    /// Whose documents it is to carry.
    pub collection: String,
    /// Which documents there are; `None` without a replica.
    pub carries: Option<Carries>,
    /// What would become of its rows.
    #[serde(flatten)]
    pub outlook: Outlook,
}

/// What would become of an adapter's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outlook {
    /// Rows would be made by the mapping.
    Foreseen(Box<Foreseen>),
    /// Nobody can foresee it before the adapter begins.
    NotBegun {
        /// Whether it is in the file alone.
        is_new: bool,
        /// Why it cannot begin with what it runs with, if it cannot.
        stopped: Option<String>,
    },
}

/// What would become of rows, compared with what was enqueued last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foreseen {
    /// The version of the mapping.
    pub mapping: String,
    /// Whether rows are made by that version already.
    pub is_applied: bool,
    /// Whose documents the adapter carries by now, if it is to carry others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection_before: Option<String>,
    /// The rows.
    #[serde(flatten)]
    pub changes: Changes,
}

/// How many rows would change, in which fields, and some of them as examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Rows that would stay as they are.
    pub same: u64,
    /// Rows that would be new.
    pub add: u64,
    /// Rows that would have other fields.
    pub change: u64,
    /// Rows that would go.
    pub remove: u64,
    /// Of these, rows whose documents are there: it is the mapping that takes them away.
    pub removed_by_mapping: u64,
    /// Rows that would be dead letters.
    pub misfits: u64,
    /// How many rows would have another value in each field, by `KIND.FIELD`.
    pub fields: BTreeMap<String, u64>,
    /// Some of the rows that would not stay as they are.
    pub examples: Vec<Example>,
}

impl Changes {
    /// Deliveries they would come to.
    pub fn deliveries(&self) -> u64 {
        self.add + self.change + self.remove
    }
}

/// One row that would not stay as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// What would become of it.
    #[serde(flatten)]
    pub change: ExampleChange,
}

/// What would become of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExampleChange {
    /// It would be new, like this.
    Add(Row),
    /// These fields would be others, by name: the value before, and the one after. What is to be
    /// masked is not shown as it was before.
    Change(BTreeMap<String, [Value; 2]>),
    /// It would go; always true.
    Remove(bool),
    /// It would be a dead letter, for this reason.
    Misfit(String),
}

/// What a configuration changed of one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Applied {
    /// Rows are made by the configuration's mapping.
    Made {
        /// Which adapter.
        adapter: String,
        /// The version of the mapping.
        mapping: String,
        /// What is in effect now and was not before, by the options' names.
        options: Vec<String>,
        /// Whether the adapter begins for the first time.
        #[serde(default, skip_serializing_if = "Not::not")]
        is_new: bool,
        /// Whether the adapter begins that could not before.
        #[serde(default, skip_serializing_if = "Not::not")]
        was_stopped: bool,
    },
    /// The configuration has no such adapter any more.
    Removed {
        /// Which adapter.
        adapter: String,
        /// Always true.
        is_removed: bool,
    },
}
