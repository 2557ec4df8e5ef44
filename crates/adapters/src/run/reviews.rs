//! Reviews as what is projected: a ticket for everything that people have to decide.

use std::collections::BTreeSet;

use rejoin::{DocumentId, Review};

use super::Carried;
use super::carried::Rules;
use super::follow::FollowError;
use crate::mapping::Mapping;
use crate::outbox::Projected;
use crate::projection::{Input, project};

/// What the reviews about a collection project to. Each counts as a document, whose heads are the
/// changes it is about; as it may open and close again with the same ones, they do not stand for it.
pub(super) async fn projected(
    mapping: &Mapping,
    salt: &str,
    carried: &Carried,
    rules: &Rules,
) -> Result<Vec<Projected>, FollowError> {
    let reviews = carried.space.reviews().list().await?;
    let own = reviews.iter().filter(|review| review.collection == *carried.collection.name());
    Ok(own.map(|review| one(mapping, salt, review, rules)).collect())
}

fn one(mapping: &Mapping, salt: &str, review: &Review, rules: &Rules) -> Projected {
    let mut document = DocumentId([0; 16]);
    document.0.iter_mut().zip(review.id.0).for_each(|(byte, of_review)| *byte = of_review);
    let (key, value, asked) = (review.id.to_string(), review.to_json(), BTreeSet::new());
    let source = Input {
        document: &document,
        key: Some(&key),
        deleted: false,
        value: &value,
        asked: &asked,
        zone: rules.zone,
        salt,
    };
    let rows = project(mapping, &source);
    let changes: BTreeSet<_> = review.candidates.iter().map(|candidate| candidate.change).collect();
    let (heads, schema) = (changes.into_iter().collect(), rules.heads.clone());
    let about = review.documents.iter().map(|reviewed| reviewed.document).collect();
    Projected { document, heads, schema, by_heads: false, about, rows }
}
