//! Where a row at a target comes from.

use serde::{Deserialize, Deserializer, Serialize};

use crate::delivery::Row;

/// Which document a row comes from, when it was delivered, and who wrote what is in its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The adapter that delivers it.
    pub adapter: String,
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// The document's id.
    pub document: String,
    /// The row as it was enqueued last; `None` if it is gone.
    pub row: Option<Row>,
    /// The deliveries that the target took, the last one last; not those of long ago.
    pub deliveries: Vec<TakenDelivery>,
    /// Where its fields come from. Absent if the adapter carries no documents, or no replica is at
    /// hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<FieldOrigin>>,
    /// The document's natural key, if it has one. Absent where the fields are.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub key: Option<Option<String>>,
}

/// A delivery that the target took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenDelivery {
    /// Its idempotency key.
    pub key: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The document's heads it came from, in hex.
    pub heads: Vec<String>,
    /// The last of them, which goes with the change from its author to the target.
    pub correlation: Option<String>,
}

/// Where a field of a row comes from: its place in the document, and the last change that wrote
/// there. Of a field that no change is known of, the change, its author and its time are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldOrigin {
    /// The field's outside name.
    pub field: String,
    /// Where it stands in the document.
    pub path: String,
    /// The change, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Who made the change, if it says so.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub author: Option<Option<Author>>,
    /// When its author's clock said that it was made, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<i64>,
    /// The review that it settles, if it settles one. Absent of texts and counters.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub settles: Option<Option<String>>,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The user, as people know them.
    pub user: String,
    /// The role that rules speak of.
    pub role: Option<String>,
    /// The device.
    pub device: Option<String>,
}

impl From<rejoin::Identity> for Author {
    fn from(identity: rejoin::Identity) -> Self {
        let rejoin::Identity { user, role, device } = identity;
        Self { user, role, device }
    }
}

/// Reads what is there: null is known to be nothing, and is not the same as an absent value.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
