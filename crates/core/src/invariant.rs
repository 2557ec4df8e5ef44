//! The part of a document that an [`Invariant`] reads: the time that the document takes of
//! somebody, or the text that must be unique about it.
//!
//! Two documents break an invariant together, so each yields something that can be kept in an index
//! and compared: a [`Booking`], or a text that two documents must not share.

use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::schema::Invariant;
use crate::time::{Zone, span_ms, whole};
use crate::{DocumentId, Path, ReviewId, Segment};

/// The time one document takes of somebody or something, from `start` up to but without `end`, both
/// in milliseconds since 1970.
///
/// ```
/// use rejoin_core::invariant::booking;
/// use rejoin_core::schema::Invariant;
/// use serde_json::json;
///
/// let no_overlap = Invariant::NoOverlap {
///     key: "technician".into(),
///     start: "starts_at".into(),
///     end: "ends_at".into(),
///     unless: [("status".into(), json!("cancelled"))].into(),
/// };
/// let madrid = "Europe/Madrid".parse()?;
/// let read = |start, end| {
///     let job =
///         json!({ "technician": "ana", "starts_at": start, "ends_at": end, "status": "booked" });
///     booking(&job, &no_overlap, madrid)
/// };
/// let morning = read("2026-05-04T09:00", "2026-05-04T10:30")?.unwrap();
/// let late = read("2026-05-04T08:15Z", "2026-05-04T09:15Z")?.unwrap();
/// let next = read("2026-05-04T10:30", "2026-05-04T11:00")?.unwrap();
/// let day_off = read("2026-05-04", "2026-05-04")?.unwrap();
/// assert!(morning.overlaps(&late));
/// assert!(!morning.overlaps(&next));
/// assert!(day_off.overlaps(&next));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Booking {
    /// The person or thing whose time it is, as JSON text that is the same for equal values.
    pub key: String,
    /// The time at which it begins.
    pub start: i64,
    /// The time at which it ends; that moment itself is free.
    pub end: i64,
}

impl Booking {
    /// Whether both take the same time of the same key. A booking that ends at the moment at which
    /// it starts takes no time.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.key == other.key && self.start.max(other.start) < self.end.min(other.end)
    }
}

/// A document should take time, but its times make no sense. People have to be told: until it is
/// corrected, nothing is checked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FaultyBooking {
    /// The two times are the wrong way round.
    #[error("it ends before it starts; correct one of the two times")]
    EndsBeforeStart,
    /// The value of a field is not a time.
    #[error("it is not a time; write it like 2026-05-04T09:30, or 2026-05-04 for the whole day")]
    NotATime {
        /// The field.
        field: Path,
    },
}

/// The review of documents that together break an invariant. It is the same for each of the
/// documents it is derived from, and it is another one once one of them is booked for another time
/// or another person. `question` is the kind of question; `key` is the person whose time it is, or
/// the text that is the same. The documents come in the order of their ids, each with the time it
/// is booked for.
pub fn review_of(
    question: u8,
    invariant: &str,
    key: &str,
    documents: impl IntoIterator<Item = (DocumentId, Option<(i64, i64)>)>,
) -> ReviewId {
    let mut hash = Sha256::new();
    hash.update(b"rejoin review of two 1\0");
    hash.update([question]);
    for text in [invariant, key] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    for (document, booked) in documents {
        hash.update(document.0);
        let (start, end) = booked.unwrap_or_default();
        hash.update(start.to_be_bytes());
        hash.update(end.to_be_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    ReviewId(id)
}

impl Booking {
    /// A time of `whose` that no document need take: to look up the bookings that overlap it.
    pub fn at(whose: &Value, start: i64, end: i64) -> Self {
        Self { key: short(canonical(whose)), start, end }
    }
}

/// The time a document takes by [`Invariant::NoOverlap`], from its start to its end. A date alone
/// stands for the whole day: as a start for the day's first moment, as an end for its last. Times
/// without a zone are read by the clocks of `zone`.
///
/// `None` if the key or a time is absent or empty, if the field of `unless` has one of its values,
/// if it ends where it starts, or if this is another invariant.
///
/// # Errors
/// The times make no sense; show that to people.
pub fn booking(
    value: &Value,
    invariant: &Invariant,
    zone: Zone,
) -> Result<Option<Booking>, FaultyBooking> {
    let Invariant::NoOverlap { key, start, end, unless } = invariant else { return Ok(None) };
    let is = |(path, exempt): (&Path, &Value)| {
        look_up(value, path).is_some_and(|value| canonical(value) == canonical(exempt))
    };
    let fields = (filled(value, key), filled(value, start), filled(value, end));
    let (Some(of), Some(starts), Some(ends)) = fields else { return Ok(None) };
    if unless.iter().any(is) {
        return Ok(None);
    }
    let span = |value, field: &Path| {
        span_ms(value, zone).ok_or_else(|| FaultyBooking::NotATime { field: field.clone() })
    };
    let ((start, _), (last, end)) = (span(starts, start)?, span(ends, end)?);
    // `start == end` with an end that begins earlier: a day that is over when the booking begins.
    if end < start || (last < end && end == start) {
        return Err(FaultyBooking::EndsBeforeStart);
    }
    Ok((start < end).then(|| Booking { key: short(canonical(of)), start, end }))
}

/// The values of these fields as one text, the same for equal values; `None` if one of them is
/// absent or empty.
pub fn unique_key(value: &Value, fields: &[Path]) -> Option<String> {
    let values: Option<Vec<_>> =
        fields.iter().map(|path| filled(value, path).map(canonical)).collect();
    values.filter(|values| !values.is_empty()).map(|values| short(values.join(",")))
}

/// The part of a value at a path.
pub fn look_up<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.segments().iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.as_object()?.get(key),
        Segment::Index(index) => value.as_array()?.get(*index),
    })
}

/// The part of a value at a path, unless it is absent or empty.
fn filled<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    look_up(value, path).filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    })
}

/// The value as JSON, the same for equal values. Not left to serde_json: whether its maps are
/// sorted depends on what else an application is built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let entry = |(key, value): (&String, _)| {
                format!("{}:{}", Value::from(key.as_str()), canonical(value))
            };
            let entries: Vec<_> = entries.into_iter().map(entry).collect();
            format!("{{{}}}", entries.join(","))
        }
        // To people, 5 and 5.0 are one number.
        Value::Number(number) => match whole(number) {
            Some(int) if number.as_f64() == Some(int as f64) => int.to_string(),
            _ => number.to_string(),
        },
        scalar => scalar.to_string(),
    }
}

/// The text, or a hash in place of a long one: it becomes part of keys in tables.
fn short(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let hash = Sha256::digest(text.as_bytes());
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    // No JSON begins like this.
    std::iter::once("#".to_owned()).chain(digits).collect()
}

/// Longer than names and numbers of people and things are.
const TEXT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn no_overlap() -> Invariant {
        Invariant::NoOverlap {
            key: "who.id".into(),
            start: "times[0]".into(),
            end: "times[1]".into(),
            unless: [("status".into(), json!("cancelled")), ("absent".into(), json!(true))].into(),
        }
    }

    fn job(who: Value, start: Value, end: Value) -> Value {
        json!({ "who": { "id": who }, "times": [start, end], "status": "booked" })
    }

    fn taken(who: Value, start: Value, end: Value) -> Result<Option<Booking>, FaultyBooking> {
        booking(&job(who, start, end), &no_overlap(), Zone::UTC)
    }

    #[test]
    fn a_booking_is_read_from_numbers_markers_and_strings() {
        let expected = Booking { key: "\"ana\"".to_owned(), start: 1500, end: 2500 };
        for (start, end) in [
            (json!(1500), json!(2500)),
            (json!(1500.9), json!(2500.0)),
            (json!({ "$time": 1500 }), json!({ "$time": 2500 })),
            (json!("1970-01-01T00:00:01.5Z"), json!("1970-01-01T00:00:02.5009")),
            (json!("1970-01-01t02:00:01.500+02:00"), json!(" 1969-12-31 23:30:02.5-00:30 ")),
        ] {
            let read = taken(json!("ana"), start.clone(), end).unwrap().unwrap();
            assert_eq!(read, expected, "{start}");
        }
    }

    #[test]
    fn what_says_nothing_takes_no_time() {
        let (nine, ten) = (json!("2026-05-04T09:00"), json!("2026-05-04T10:00"));
        for nothing in [json!(null), json!(""), json!(" "), json!([]), json!({})] {
            assert_eq!(taken(nothing.clone(), nine.clone(), ten.clone()), Ok(None), "{nothing}");
            assert_eq!(taken(json!(7), nothing.clone(), ten.clone()), Ok(None), "{nothing}");
            assert_eq!(taken(json!(7), nine.clone(), nothing.clone()), Ok(None), "{nothing}");
        }
        assert_eq!(taken(json!(7), nine.clone(), nine.clone()), Ok(None));
        assert_eq!(booking(&json!({}), &no_overlap(), Zone::UTC), Ok(None));
        let unique = Invariant::Unique { fields: vec!["who".into()] };
        assert_eq!(booking(&job(json!(7), nine, ten), &unique, Zone::UTC), Ok(None));
    }

    #[test]
    fn a_cancelled_booking_takes_no_time_even_if_it_makes_no_sense() {
        let mut cancelled = job(json!("ana"), json!(2), json!(1));
        cancelled["status"] = json!("cancelled");
        assert_eq!(booking(&cancelled, &no_overlap(), Zone::UTC), Ok(None));
        let mut absent = job(json!("ana"), json!(1), json!(2));
        absent["absent"] = json!(true);
        assert_eq!(booking(&absent, &no_overlap(), Zone::UTC), Ok(None));
    }

    #[test]
    fn times_that_make_no_sense_are_faulty() {
        let wrong = |place: &str| Err(FaultyBooking::NotATime { field: place.into() });
        for odd in [
            json!(true),
            json!("tomorrow"),
            json!("5/4/2026 9:00 AM"),
            json!("09:30"),
            json!("2026-02-29T09:30"),
            json!("2026-05-04T24:00"),
            json!("2026-05-04T09:30:00Zé"),
            json!("1500"),
            json!(u64::MAX),
            json!(1e300),
            json!([1500]),
            json!({ "$time": "1500" }),
            json!({ "$time": 1500, "more": 1 }),
            json!({ "time": 1500 }),
        ] {
            assert_eq!(taken(json!("ana"), odd.clone(), json!(2)), wrong("times[0]"), "{odd}");
            assert_eq!(taken(json!("ana"), json!(1), odd.clone()), wrong("times[1]"), "{odd}");
        }
        assert_eq!(taken(json!("ana"), json!(2), json!(1)), Err(FaultyBooking::EndsBeforeStart));
        let widest = taken(json!("ana"), json!(i64::MIN), json!(i64::MAX)).unwrap().unwrap();
        assert_eq!((widest.start, widest.end), (i64::MIN, i64::MAX));
    }

    #[test]
    fn dates_alone_take_whole_days_the_last_one_included() {
        let days = |start: &str, end: &str| {
            let booked = taken(json!("ana"), json!(start), json!(end)).unwrap().unwrap();
            (booked.end - booked.start) / 3_600_000
        };
        assert_eq!(days("2026-05-04", "2026-05-04"), 24);
        assert_eq!(days("2026-05-04", "2026-05-06"), 72);
        assert_eq!(days("2026-05-04T20:00", "2026-05-04"), 4);
        let turned = taken(json!("ana"), json!("2026-05-04"), json!("2026-05-03"));
        assert_eq!(turned, Err(FaultyBooking::EndsBeforeStart));
        let turned = taken(json!("ana"), json!("2026-05-04"), json!("2026-05-02"));
        assert_eq!(turned, Err(FaultyBooking::EndsBeforeStart));
    }

    #[test]
    fn reviews_of_two_have_these_ids_for_ever() {
        let two = [(DocumentId([1; 16]), Some((5, 9))), (DocumentId([2; 16]), None)];
        let id = review_of(4, "no_overlap technician", "\"ana\"", two);
        assert_eq!(id.to_string(), "3cd5e20007854fdc8b757ab2f7597ccb");
        assert_ne!(id, review_of(4, "no_overlap technician", "\"timo\"", two));
    }

    #[test]
    fn equal_values_give_one_key() {
        let key = |value| taken(value, json!(1), json!(2)).unwrap().unwrap().key;
        assert_eq!(key(json!(5)), key(json!(5.0)));
        assert_eq!(key(json!(0)), key(json!(-0.0)));
        assert_ne!(key(json!(5)), key(json!("5")));
        assert_ne!(key(json!(5)), key(json!(5.5)));
        assert_ne!(key(json!(u64::MAX)), key(json!(u64::MAX - 1)));
        assert_ne!(key(json!(i64::MAX)), key(json!(i64::MAX - 1)));
        assert_eq!(key(json!({ "b": 1.0, "a": [2] })), "{\"a\":[2],\"b\":1}");
        let long = |last| key(json!(format!("{}{last}", "a".repeat(1 << 20))));
        assert_eq!(long('b'), long('b'));
        assert_ne!(long('b'), long('c'));
        assert_eq!(long('b').len(), 65);
    }

    #[test]
    fn a_unique_key_needs_all_its_fields() {
        let fields = ["first".into(), "last[0]".into()];
        let of = |value| unique_key(&value, &fields);
        assert_eq!(of(json!({ "first": "a", "last": ["b"] })).unwrap(), r#""a","b""#);
        assert_eq!(of(json!({ "first": false, "last": [0] })).unwrap(), "false,0");
        for missing in [
            json!({ "first": "a" }),
            json!({ "first": "", "last": ["b"] }),
            json!({ "first": "a", "last": [null] }),
            json!({ "first": "a", "last": { "0": "b" } }),
            json!(null),
        ] {
            assert_eq!(of(missing.clone()), None, "{missing}");
        }
        assert_eq!(unique_key(&json!({}), &[]), None);
        assert_ne!(
            of(json!({ "first": "a,b", "last": ["c"] })),
            of(json!({ "first": "a", "last": ["b,c"] })),
        );
    }
}
