//! From a row to an appointment.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, NaiveTime};
use chrono_tz::Tz;
use minicbor::{Decode, Encode};
use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::{ENCODED, Fields, Options};
use crate::delivery::{Action, Delivery, Fault, Row};

/// An appointment in one calendar.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Event {
    /// The same for as long as there is the row, whatever becomes of it.
    #[n(0)]
    pub(super) uid: String,
    /// Rises with every change.
    #[n(1)]
    pub(super) sequence: u64,
    /// When the last change was, in milliseconds since 1970.
    #[n(2)]
    pub(super) changed_ms: u64,
    /// In milliseconds since 1970; of whole days, the beginning of the first in UTC.
    #[n(3)]
    pub(super) start_ms: u64,
    /// After the start, in milliseconds since 1970; of whole days, the beginning of the first after
    /// them in UTC.
    #[n(4)]
    pub(super) end_ms: Option<u64>,
    #[n(5)]
    pub(super) summary: Option<String>,
    #[n(6)]
    pub(super) description: Option<String>,
    #[n(7)]
    pub(super) location: Option<String>,
    #[n(8)]
    pub(super) status: Status,
    /// When it is dropped, in milliseconds since 1970, if it is gone.
    #[n(9)]
    pub(super) until_ms: Option<u64>,
    /// Whether it is of whole days, whatever the zone.
    #[n(10)]
    #[cbor(default)]
    pub(super) has_days: bool,
}

/// Whether an appointment takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Status {
    #[n(0)]
    Confirmed,
    #[n(1)]
    Tentative,
    #[n(2)]
    Cancelled,
}

/// What a delivery makes of an appointment.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Appointment {
    /// It is in these calendars and no others; in none without an event.
    In(BTreeSet<String>, Option<Event>),
    /// It does not take place, and calendars say so for good.
    Marked,
    /// It does not take place, and calendars say so for a while.
    Deleted,
}

/// What a delivery makes of an appointment. The event's sequence is for the store to say.
///
/// # Errors
/// The row is none that can be in a calendar.
pub(super) fn made(delivery: &Delivery, options: &Options) -> Result<Appointment, Fault> {
    let row = match &delivery.action {
        Action::Put(row) => row,
        Action::Mark { .. } => return Ok(Appointment::Marked),
        Action::Delete => return Ok(Appointment::Deleted),
    };
    let fields = &options.fields;
    let feeds = feeds(row, &options.feed)?;
    let end = when(row, &fields.end, options.timezone)?;
    // What has no time yet is nothing that a calendar could show.
    let Some(start) = when(row, &fields.start, options.timezone)? else {
        return Ok(Appointment::In(BTreeSet::new(), None));
    };
    let has_days = start.is_day && end.as_ref().is_none_or(|end| end.is_day);
    // Times of clocks and whole days together are times.
    let (start_ms, end_ms) = match has_days {
        true => (start.as_day.0, end.map(|end| end.as_day.1)),
        false => (start.as_time.0, end.map(|end| end.as_time.1)),
    };
    if end_ms.is_some_and(|end_ms| end_ms < start_ms || (has_days && end_ms == start_ms)) {
        let Fields { start, end, .. } = fields;
        return Err(Fault::permanent(format!("{end:?} is before {start:?}")));
    }
    let status = text(row, &fields.status)?.unwrap_or_default();
    let status = if options.cancelled.contains(&status) {
        Status::Cancelled
    } else if options.tentative.contains(&status) {
        Status::Tentative
    } else {
        Status::Confirmed
    };
    let encoded = |text| utf8_percent_encode(text, ENCODED);
    let record = &delivery.record;
    let event = Event {
        uid: format!(
            "{}.{}@{}.rejoin",
            encoded(&record.key),
            encoded(&record.name),
            encoded(&delivery.adapter)
        ),
        sequence: 0,
        changed_ms: delivery.enqueued_ms,
        start_ms,
        // In a calendar there are whole seconds, and none ends when it begins.
        end_ms: end_ms.filter(|end_ms| end_ms / 1000 > start_ms / 1000),
        summary: text(row, &fields.summary)?,
        description: text(row, &fields.description)?,
        location: text(row, &fields.location)?,
        status,
        until_ms: None,
        has_days,
    };
    Ok(Appointment::In(feeds, Some(event)))
}

/// In whose calendars a row is.
fn feeds(row: &Row, field: &str) -> Result<BTreeSet<String>, Fault> {
    let wrong = |what: &str| Err(Fault::permanent(format!("{field:?} {what}")).in_field(field));
    let mut feeds = BTreeSet::new();
    let values = match row.get(field) {
        None | Some(Value::Null) => return Ok(feeds),
        Some(Value::Array(values)) => &values[..],
        Some(value) => std::slice::from_ref(value),
    };
    for value in values {
        match value {
            Value::String(name) if name.len() > FEED_BYTES_MAX => {
                return wrong(&format!("is longer than {FEED_BYTES_MAX} bytes"));
            }
            Value::String(name) if name.is_empty() => {}
            Value::String(name) => _ = feeds.insert(name.clone()),
            Value::Number(number) => _ = feeds.insert(number.to_string()),
            _ => return wrong("is no name and no list of names"),
        }
    }
    if feeds.len() > FEEDS_MAX {
        return wrong(&format!("is a list of more than {FEEDS_MAX} names"));
    }
    Ok(feeds)
}

/// When something begins and ends that a field says, each in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct When {
    /// On the time line.
    as_time: (u64, u64),
    /// The days of that in UTC, if it is a whole day.
    as_day: (u64, u64),
    /// Whether it is a whole day: a date alone.
    is_day: bool,
}

/// When a field says. A time without a zone is read by the clocks of the calendar's.
fn when(row: &Row, field: &str, zone: Option<Tz>) -> Result<Option<When>, Fault> {
    let wrong = |what: &str| Fault::permanent(format!("{field:?} {what}")).in_field(field);
    let at = |ms: i64| ((ms, ms), (ms, ms), false);
    let found = match row.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(value @ Value::String(text)) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Some(at(time.timestamp_millis())),
            Err(_) => match NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d") {
                Ok(date) => day(date, zone),
                Err(_)
                    if zone.is_none()
                        && rejoin::value::time_ms(value, rejoin::value::Zone::UTC).is_some() =>
                {
                    return Err(wrong("has no zone, and neither has the calendar; set `timezone`"));
                }
                Err(_) => rejoin::value::time_ms(value, clocks(zone)).map(at),
            },
        },
        Some(Value::Number(number)) => number.as_i64().map(at),
        Some(_) => None,
    };
    let (as_time, as_day, is_day) = found.ok_or_else(|| {
        wrong("is no time; it is one as RFC 3339 spells it, a date, or milliseconds since 1970")
    })?;
    let in_range = |(from, until)| Some((in_range(from)?, in_range(until)?));
    let when = in_range(as_time).zip(in_range(as_day));
    let when = when.map(|(as_time, as_day)| When { as_time, as_day, is_day });
    when.map(Some).ok_or_else(|| wrong("is no time between 1970 and 2099"))
}

fn in_range(ms: i64) -> Option<u64> {
    u64::try_from(ms).ok().filter(|ms| *ms <= TIME_MS_MAX)
}

/// What a [`When`] is made of: as time, as days in UTC, and whether it is a whole day. Any number may
/// stand there.
type Read = ((i64, i64), (i64, i64), bool);

/// A whole day: as time by the clocks of a zone, in UTC, and that it is one.
fn day(date: NaiveDate, zone: Option<Tz>) -> Option<Read> {
    let (from, until) = (date.and_time(NaiveTime::MIN), date.succ_opt()?.and_time(NaiveTime::MIN));
    let clocks = clocks(zone);
    let as_time = (clocks.moment(from)?, clocks.moment(until)?);
    Some((as_time, (from.and_utc().timestamp_millis(), until.and_utc().timestamp_millis()), true))
}

/// The clocks of a zone; of UTC if there is none.
fn clocks(zone: Option<Tz>) -> rejoin::value::Zone {
    zone.and_then(|zone| zone.name().parse().ok()).unwrap_or(rejoin::value::Zone::UTC)
}

/// A text; numbers and booleans are spelled out.
fn text(row: &Row, field: &str) -> Result<Option<String>, Fault> {
    let text = match row.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(is)) => is.to_string(),
        Some(_) => return Err(Fault::permanent(format!("{field:?} is no text")).in_field(field)),
    };
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("{field:?} is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Fault::permanent(what));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The last millisecond of 2099: as far as the rules of time zones are known, and shorter than any
/// format's limits.
pub(super) const TIME_MS_MAX: u64 = 4_102_444_799_999;

/// Bytes of a calendar's name, which is a part of an address.
const FEED_BYTES_MAX: usize = 200;

/// Calendars that one appointment is in.
const FEEDS_MAX: usize = 64;

/// Bytes of one text: one appointment leaves room for others in what calendars take as a whole.
const TEXT_BYTES_MAX: usize = 64 << 10;
