//! Collections that belong to Rejoin itself. They are documents like others, so they sync like
//! others.

use rejoin_core::{CollectionName, DocumentId, Genesis, SpaceName};

/// The collection of people's notes about reviews: who is to settle one, until when, and why it was
/// dismissed. It has one document per review, keyed by its id.
pub const REVIEWS: &str = "rejoin.reviews";

/// The field of such a document that says why a review about two documents was dismissed.
pub const DISMISSED: &str = "dismissed";

/// The collection that holds the schemas of a space. The key of each is the name of the collection
/// it is for.
pub const SCHEMAS: &str = "rejoin.schemas";

/// The document that holds the schema of a collection. The collection of schemas has none itself.
pub(crate) fn schema_document(
    space: &SpaceName,
    collection: &CollectionName,
) -> Option<DocumentId> {
    let schemas = CollectionName::new(SCHEMAS).ok().filter(|schemas| schemas != collection)?;
    let genesis = Genesis::first(collection.as_str()).ok()?;
    Some(DocumentId::derive(space, &schemas, &genesis))
}
