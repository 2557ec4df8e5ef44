//! A calendar as RFC 5545 writes it.

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use chrono_tz::Tz;

use super::FRESH;
use super::event::{Event, Status};
use super::zone::{self, Observance};

/// A whole calendar. The same events make the same text.
pub(super) fn calendar(title: &str, zone: Option<Tz>, events: &[Event]) -> String {
    let mut lines = Lines(String::new());
    lines.add("BEGIN", "VCALENDAR");
    lines.add("VERSION", "2.0");
    lines.add("PRODID", concat!("-//Rejoin//Rejoin ", env!("CARGO_PKG_VERSION"), "//EN"));
    lines.add("CALSCALE", "GREGORIAN");
    lines.add_text("NAME", title);
    lines.add_text("X-WR-CALNAME", title);
    let fresh = format!("PT{}M", FRESH.as_secs() / 60);
    lines.add("REFRESH-INTERVAL;VALUE=DURATION", &fresh);
    lines.add("X-PUBLISHED-TTL", &fresh);
    if let Some(zone) = zone {
        lines.add("X-WR-TIMEZONE", zone.name());
        let timed = || events.iter().filter(|event| !event.has_days);
        let times = || timed().flat_map(|event| [Some(event.start_ms), event.end_ms]);
        if let (Some(first), Some(last)) = (times().flatten().min(), times().flatten().max()) {
            add_zone(&mut lines, zone, &zone::observances(zone, first, last));
        }
    }
    events.iter().for_each(|event| add_event(&mut lines, zone, event));
    lines.add("END", "VCALENDAR");
    lines.0
}

fn add_event(lines: &mut Lines, zone: Option<Tz>, event: &Event) {
    let changed = utc(event.changed_ms);
    lines.add("BEGIN", "VEVENT");
    lines.add("UID", &event.uid);
    lines.add("DTSTAMP", &changed);
    lines.add("LAST-MODIFIED", &changed);
    // Many read it as 32 bits.
    lines.add("SEQUENCE", &event.sequence.min(i32::MAX as u64).to_string());
    let times = [("DTSTART", Some(event.start_ms)), ("DTEND", event.end_ms)];
    let times = times.into_iter().filter_map(|(name, ms)| Some((name, ms?)));
    // Where the clock shows the same time twice, only UTC says which it is.
    let local = |ms| zone.and_then(|zone| Some((zone, zone::wall_clock(zone, ms)?)));
    let is_clear = times.clone().all(|(_, ms)| local(ms).is_some());
    for (name, ms) in times {
        if event.has_days {
            lines.add(&format!("{name};VALUE=DATE"), &utc(ms)[..DATE_CHARACTERS]);
            continue;
        }
        match local(ms).filter(|_| is_clear) {
            Some((zone, time)) => lines.add(&format!("{name};TZID={}", zone.name()), &digits(time)),
            None => lines.add(name, &utc(ms)),
        }
    }
    let texts = [
        ("SUMMARY", &event.summary),
        ("DESCRIPTION", &event.description),
        ("LOCATION", &event.location),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            lines.add_text(name, text);
        }
    }
    let status = match event.status {
        Status::Confirmed => "CONFIRMED",
        Status::Tentative => "TENTATIVE",
        Status::Cancelled => "CANCELLED",
    };
    lines.add("STATUS", status);
    lines.add("END", "VEVENT");
}

fn add_zone(lines: &mut Lines, zone: Tz, observances: &[Observance]) {
    lines.add("BEGIN", "VTIMEZONE");
    lines.add("TZID", zone.name());
    for Observance { onset, from, to, name, is_summer } in observances {
        let kind = if *is_summer { "DAYLIGHT" } else { "STANDARD" };
        lines.add("BEGIN", kind);
        lines.add("DTSTART", &digits(*onset));
        lines.add("TZOFFSETFROM", &offset(*from));
        lines.add("TZOFFSETTO", &offset(*to));
        if let Some(name) = name {
            lines.add_text("TZNAME", name);
        }
        lines.add("END", kind);
    }
    lines.add("END", "VTIMEZONE");
}

/// A moment, in UTC.
fn utc(ms: u64) -> String {
    let time = DateTime::from_timestamp_millis(ms.cast_signed()).unwrap_or_default();
    format!("{}Z", digits(time.naive_utc()))
}

fn digits(time: NaiveDateTime) -> String {
    time.format("%Y%m%dT%H%M%S").to_string()
}

/// Hours and minutes from UTC, and seconds where there are some.
fn offset(offset: TimeDelta) -> String {
    let sign = if offset < TimeDelta::zero() { '-' } else { '+' };
    let seconds = offset.num_seconds().abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let seconds = if seconds == 0 { String::new() } else { format!("{seconds:02}") };
    format!("{sign}{hours:02}{minutes:02}{seconds}")
}

/// Lines, as they are sent.
struct Lines(String);

impl Lines {
    /// Adds a line whose value needs no escapes. A long one goes on in the next, after a space, and
    /// no character is cut in two.
    fn add(&mut self, name: &str, value: &str) {
        let mut room = LINE_BYTES;
        for character in name.chars().chain([':']).chain(value.chars()) {
            if character.len_utf8() > room {
                self.0.push_str("\r\n ");
                room = LINE_BYTES - 1;
            }
            self.0.push(character);
            room -= character.len_utf8();
        }
        self.0.push_str("\r\n");
    }

    /// Adds a line whose value is any text.
    fn add_text(&mut self, name: &str, text: &str) {
        let mut escaped = String::with_capacity(text.len());
        let text = text.replace("\r\n", "\n");
        for character in text.chars() {
            match character {
                '\\' | ';' | ',' => escaped.extend(['\\', character]),
                '\n' | '\r' => escaped.push_str("\\n"),
                '\t' => escaped.push('\t'),
                _ if character.is_control() => {}
                _ => escaped.push(character),
            }
        }
        self.add(name, &escaped);
    }
}

/// The characters of a date before those of the time.
const DATE_CHARACTERS: usize = 8;

/// Bytes of a line, without its end.
const LINE_BYTES: usize = 75;
