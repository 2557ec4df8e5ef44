//! Collections that belong to Rejoin itself. They are documents like others, so they sync like
//! others.

/// The collection of people's notes about reviews: who is to settle one, until when, and why it was
/// dismissed. It has one document per review, keyed by its id.
pub const REVIEWS: &str = "rejoin.reviews";

/// The field of such a document that says why a review about two documents was dismissed.
pub const DISMISSED: &str = "dismissed";

/// The collection that holds the schemas of a space. The key of each is the name of the collection
/// it is for.
pub const SCHEMAS: &str = "rejoin.schemas";
