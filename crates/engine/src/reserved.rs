//! Collections that belong to Rejoin itself. They are documents like others, so they sync like others.

/// The collection of what people note about reviews: whose they are, until when, and why one was
/// dismissed. One document per review, keyed by its id.
pub const REVIEWS: &str = "rejoin.reviews";

/// The field of such a document that says why a review about two documents was dismissed.
pub const DISMISSED: &str = "dismissed";

/// The collection that holds the schemas of a space. The key of each is the name of the collection
/// it is for.
pub const SCHEMAS: &str = "rejoin.schemas";
