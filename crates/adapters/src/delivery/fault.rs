//! Why a target did not take a delivery, and whose fault that is.

use std::time::Duration;

/// Why a target did not take a delivery. Messages tell of the target and what it said, never of the
/// row's contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What to do about it.
    pub class: FaultClass,
    /// What happened, for people.
    pub what: String,
    /// The beginning of what the target answered, if it did.
    pub answer: Option<String>,
    /// The field of the row that is at fault, if one is and the target said which.
    pub field: Option<String>,
}

/// What to do about a fault: whose it is, and whether it may go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultClass {
    /// It may go away by itself, and whose fault it is nobody knows: try again, not before this long
    /// if the target said so.
    Transient {
        /// What the target asked for.
        after: Option<Duration>,
    },
    /// The target or the configuration is in the way of whatever is delivered, and no row can help
    /// it: nothing was judged, and all that it reaches waits until it is over.
    Trouble(Reach),
    /// The row is at fault: the same delivery will fail again.
    Permanent,
    /// The target wants nothing more, ever.
    Gone,
}

/// How far a trouble reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing can be delivered.
    Target,
    /// Rows of this kind cannot be delivered, as those of a table that nobody may write to.
    Kind,
    /// The same, as the target has no place for rows of this kind: their table is missing, so there is
    /// no such row either.
    NoPlace,
}

impl Fault {
    fn new(class: FaultClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), answer: None, field: None }
    }

    /// Something that may go away by itself.
    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Transient { after: None }, what)
    }

    /// Something that lets nothing be delivered until somebody sees to the target or the
    /// configuration.
    pub fn trouble(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Trouble(Reach::Target), what)
    }

    /// The same, of rows of one kind.
    pub fn trouble_of_kind(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Trouble(Reach::Kind), what)
    }

    /// The same, where the target has no place for rows of one kind.
    pub fn no_place(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Trouble(Reach::NoPlace), what)
    }

    /// Something that will be the same the next time.
    pub fn permanent(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Permanent, what)
    }

    /// The same fault, which is known to be in one field of the row.
    #[must_use]
    pub fn in_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Whether it may go away by itself, and nobody knows whose it is.
    pub fn is_transient(&self) -> bool {
        matches!(self.class, FaultClass::Transient { .. })
    }

    /// Whether it is the target's or the configuration's, and no row's.
    pub fn is_trouble(&self) -> bool {
        matches!(self.class, FaultClass::Trouble(_))
    }
}
