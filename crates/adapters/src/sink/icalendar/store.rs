//! The calendars in the file.
//!
//! An appointment that leaves a calendar, as it is somebody else's now, stays there as cancelled for
//! a while. To leave it out would be enough for those who take a calendar as a whole each time; but
//! many merge what they fetch into what they have, and would show it for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::event::{Appointment, Event, Status};
use crate::delivery::{Delivery, Record};
use crate::sink::kept::{Kept, KeptError, decode, encode};

/// Table: the names of all calendars there ever were
/// Key:   `&str` # calendar
/// Value: `()`
const FEEDS: TableDefinition<'_, &str, ()> = TableDefinition::new("feeds-1");

/// Table: what calendars show
/// Key:   `(&str, &str, &str)` # (calendar, record's name, record's key)
/// Value: `&[u8]`              # [`Event`], CBOR
const EVENTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("events-1");

/// Table: which calendars show a record
/// Key:   `(&str, &str, &str)` # (record's name, record's key, calendar)
/// Value: `()`
const PLACES: TableDefinition<'_, (&str, &str, &str), ()> = TableDefinition::new("places-1");

/// Table: what is to be dropped when
/// Key:   `(u64, &str, &str, &str)` # (ms since 1970, calendar, record's name, record's key)
/// Value: `()`
const GONE: TableDefinition<'_, (u64, &str, &str, &str), ()> = TableDefinition::new("gone-1");

/// Makes the tables.
pub(super) fn make(txn: &WriteTransaction) -> Result<(), KeptError> {
    txn.open_table(FEEDS)?;
    txn.open_table(EVENTS)?;
    txn.open_table(PLACES)?;
    txn.open_table(GONE)?;
    Ok(())
}

/// Takes deliveries in. Returns the calendars that are new.
pub(super) fn take(
    txn: &WriteTransaction,
    now_ms: u64,
    taken: &[(Delivery, Appointment)],
) -> Result<BTreeSet<String>, KeptError> {
    let mut new = BTreeSet::new();
    for (delivery, appointment) in taken {
        let mut kept = Kept::read(txn, &delivery.record)?;
        if kept.take(delivery) {
            kept.number = (kept.number + 1).max(delivery.seq);
            kept.write(txn, &delivery.record)?;
            change(txn, delivery, appointment, kept.number, &mut new)?;
        }
    }
    drop_what_is_gone(txn, now_ms)?;
    Ok(new)
}

fn change(
    txn: &WriteTransaction,
    delivery: &Delivery,
    appointment: &Appointment,
    sequence: u64,
    new: &mut BTreeSet<String>,
) -> Result<(), KeptError> {
    let record = &delivery.record;
    let nowhere = BTreeSet::new();
    let feeds = match appointment {
        Appointment::In(feeds, _) => feeds,
        Appointment::Marked | Appointment::Deleted => &nowhere,
    };
    let mut events = txn.open_table(EVENTS)?;
    for left in places(txn, record)?.difference(feeds) {
        let event = events.get((&**left, &*record.name, &*record.key))?;
        let Some(event) = event.map(|row| decode::<Event>(row.value())).transpose()? else {
            continue;
        };
        if event.until_ms.is_some() {
            continue;
        }
        let until_ms = delivery.enqueued_ms.saturating_add(REMEMBERED_MS);
        let event = Event {
            sequence,
            changed_ms: delivery.enqueued_ms,
            status: Status::Cancelled,
            until_ms: (*appointment != Appointment::Marked).then_some(until_ms),
            ..event
        };
        if let Some(until_ms) = event.until_ms {
            let gone = (until_ms, &**left, &*record.name, &*record.key);
            txn.open_table(GONE)?.insert(gone, ())?;
        }
        events.insert((&**left, &*record.name, &*record.key), &encode(&event)[..])?;
    }
    let Appointment::In(feeds, Some(event)) = appointment else { return Ok(()) };
    let event = encode(&Event { sequence, ..event.clone() });
    for feed in feeds {
        events.insert((&**feed, &*record.name, &*record.key), &event[..])?;
        txn.open_table(PLACES)?.insert((&*record.name, &*record.key, &**feed), ())?;
        if txn.open_table(FEEDS)?.insert(&**feed, ())?.is_none() {
            new.insert(feed.clone());
        }
    }
    Ok(())
}

/// The calendars that show a record.
fn places(txn: &WriteTransaction, record: &Record) -> Result<BTreeSet<String>, KeptError> {
    let mut places = BTreeSet::new();
    for row in txn.open_table(PLACES)?.range((&*record.name, &*record.key, "")..)? {
        let (place, ()) = row.map(|(place, _)| (place, ()))?;
        let (name, key, feed) = place.value();
        if (name, key) != (&*record.name, &*record.key) {
            break;
        }
        places.insert(feed.to_owned());
    }
    Ok(places)
}

/// Drops some of what was cancelled long enough ago.
fn drop_what_is_gone(txn: &WriteTransaction, now_ms: u64) -> Result<(), KeptError> {
    let mut gone = txn.open_table(GONE)?;
    let mut due = Vec::new();
    for row in gone.range(..(now_ms, "", "", ""))?.take(DROPPED_MAX) {
        let (key, _) = row?;
        let (until_ms, feed, name, record) = key.value();
        due.push((until_ms, feed.to_owned(), name.to_owned(), record.to_owned()));
    }
    let (mut events, mut places) = (txn.open_table(EVENTS)?, txn.open_table(PLACES)?);
    for (until_ms, feed, name, record) in &due {
        gone.remove((*until_ms, &**feed, &**name, &**record))?;
        let at = (&**feed, &**name, &**record);
        let event = events.get(at)?.map(|row| decode::<Event>(row.value())).transpose()?;
        // It may have come back since.
        if event.is_some_and(|event| event.until_ms == Some(*until_ms)) {
            events.remove(at)?;
            places.remove((&**name, &**record, &**feed))?;
        }
    }
    Ok(())
}

/// The names of all calendars.
pub(super) fn feeds(txn: &ReadTransaction) -> Result<Vec<String>, KeptError> {
    let feeds = txn.open_table(FEEDS)?;
    feeds.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
}

/// What a calendar shows, in the order of the records; `None` if there never was such a one.
pub(super) fn events(
    txn: &ReadTransaction,
    feed: &str,
    now_ms: u64,
) -> Result<Option<Vec<Event>>, KeptError> {
    if txn.open_table(FEEDS)?.get(feed)?.is_none() {
        return Ok(None);
    }
    let mut events = Vec::new();
    for row in txn.open_table(EVENTS)?.range((feed, "", "")..)? {
        let (key, event) = row?;
        if key.value().0 != feed {
            break;
        }
        let event: Event = decode(event.value())?;
        if event.until_ms.is_none_or(|until_ms| until_ms > now_ms) {
            events.push(event);
        }
    }
    Ok(Some(events))
}

/// How long a calendar shows that something is gone: longer than anybody is on holiday with the
/// telephone off.
const REMEMBERED_MS: u64 = Duration::from_hours(30 * 24).as_millis() as u64;

/// What one commit drops at most.
const DROPPED_MAX: usize = 256;
