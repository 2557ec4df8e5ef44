//! Schemas written in Rust.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Field, Invariant, Kind, Rule, SKEW_S, Schema};
use crate::Path;
use crate::time::Zone;

impl Schema {
    /// A schema without fields, to add to.
    ///
    /// ```
    /// use rejoin_core::schema::{Field, Invariant, Kind, Rule, Schema};
    ///
    /// let jobs = Schema::new()
    ///     .zone("Europe/Madrid".parse()?)
    ///     .with("notes", Rule::Text)
    ///     .with("status", Rule::order(["booked", "en_route", "done"]))
    ///     .with("technician", Field::new(Rule::Review).writers(["dispatch"]))
    ///     .with("starts_at", Field::new(Rule::Review).kind(Kind::Time).required())
    ///     .with("ends_at", Field::new(Rule::Review).kind(Kind::Time))
    ///     .with("address.street", Field::new(Rule::latest()).default_to(""))
    ///     .invariant(
    ///         Invariant::no_overlap("technician", "starts_at", "ends_at").unless("status", "done"),
    ///     );
    /// assert_eq!(jobs.check(), []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The same schema with this field, instead of any it had there.
    #[must_use]
    pub fn with(mut self, path: impl Into<Path>, field: impl Into<Field>) -> Self {
        let path = path.into();
        if let Some(Value::Object(unknown)) = self.unknown.get_mut("fields") {
            unknown.remove(&path.to_string());
        }
        self.fields.insert(path, field.into());
        self
    }

    /// The same schema, with times without a zone read by the clocks of this one.
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self.unknown.remove("zone");
        self
    }

    /// The same schema with one more invariant.
    #[must_use]
    pub fn invariant(mut self, invariant: Invariant) -> Self {
        self.invariants.push(invariant);
        self
    }
}

impl Field {
    /// A field that merges like this, of any kind, for anybody to write.
    pub fn new(merge: Rule) -> Self {
        Self { merge, ..Self::default() }
    }

    /// The same field, with values of this kind only.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The same field, which a document must have.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same field, which reads as this value if it is absent.
    #[must_use]
    pub fn default_to(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// The same field, by which documents are found without a look at all of them.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.index = true;
        self
    }

    /// The same field, by which documents are found, those of one value in the order of another field: all
    /// jobs of one technician by their time. It may be said of several fields.
    #[must_use]
    pub fn indexed_then(mut self, field: impl Into<Path>) -> Self {
        self.index = true;
        self.index_then.push(field.into());
        self
    }

    /// The same field, which only these roles may write.
    #[must_use]
    pub fn writers(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.writers = Some(roles.into_iter().map(Into::into).collect());
        self
    }
}

impl From<Rule> for Field {
    fn from(merge: Rule) -> Self {
        Self::new(merge)
    }
}

impl Rule {
    /// The value that stands furthest in this order.
    pub fn order(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Order(values.into_iter().map(Into::into).collect())
    }

    /// The value of this role.
    pub fn owner(role: impl Into<String>) -> Self {
        Self::Owner(role.into())
    }

    /// The value written last, with clocks as wrong as is usual.
    pub fn latest() -> Self {
        Self::Latest { skew_s: SKEW_S }
    }
}

impl Invariant {
    /// No two documents of one `key` are at the same time.
    pub fn no_overlap(key: impl Into<Path>, start: impl Into<Path>, end: impl Into<Path>) -> Self {
        let (key, start, end) = (key.into(), start.into(), end.into());
        Self::NoOverlap { key, start, end, unless: BTreeMap::new() }
    }

    /// The same invariant, leaving out documents with this value. It changes nothing about a
    /// [`Unique`](Self::Unique).
    #[must_use]
    pub fn unless(mut self, path: impl Into<Path>, value: impl Into<Value>) -> Self {
        if let Self::NoOverlap { unless, .. } = &mut self {
            unless.insert(path.into(), value.into());
        }
        self
    }

    /// No two documents have the same values of these fields.
    pub fn unique(fields: impl IntoIterator<Item = impl Into<Path>>) -> Self {
        Self::Unique { fields: fields.into_iter().map(Into::into).collect() }
    }
}
