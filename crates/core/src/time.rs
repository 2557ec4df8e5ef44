//! Points in time and days, as documents hold them, and the zones whose clocks they are read by.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde_json::{Number, Value};
use thiserror::Error;
use toml::value::{Date, Datetime, Time};

/// A time zone, by its name in the IANA database. The rules of its clocks are those of the database
/// this program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// Not the name of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is no time zone; write one such as \"Europe/Madrid\"")]
pub struct NoZone {
    /// The name that was given.
    pub name: String,
}

impl Zone {
    /// The zone whose clocks never change.
    pub const UTC: Self = Self(Tz::UTC);

    /// The time that clocks there show at a moment in milliseconds since 1970, and the seconds by
    /// which they are ahead of UTC then; `None` for times that no calendar has.
    pub fn shows(self, time_ms: i64) -> Option<(NaiveDateTime, i32)> {
        let time = DateTime::from_timestamp_millis(time_ms)?.naive_utc();
        let ahead = self.0.offset_from_utc_datetime(&time).fix().local_minus_utc();
        Some((time.checked_add_signed(TimeDelta::seconds(ahead.into()))?, ahead))
    }

    /// The name that people there give to their time at a moment, such as `CEST`, or `+02` if it
    /// has no name.
    pub fn abbreviation(self, time_ms: i64) -> Option<String> {
        let time = DateTime::from_timestamp_millis(time_ms)?;
        Some(time.with_timezone(&self.0).format("%Z").to_string())
    }

    /// The moment at which clocks there show this, in milliseconds since 1970. If they show it
    /// twice, this is the first moment; a time that clocks skip in spring is taken to be later by
    /// as much as they skip.
    pub fn moment(self, shown: NaiveDateTime) -> Option<i64> {
        let first = self.0.offset_from_local_datetime(&shown).earliest();
        let offset = first.or_else(|| {
            let before = shown.checked_sub_signed(SKIPPED_MAX)?;
            self.0.offset_from_local_datetime(&before).latest()
        })?;
        let ahead = TimeDelta::seconds(offset.fix().local_minus_utc().into());
        Some(shown.checked_sub_signed(ahead)?.and_utc().timestamp_millis())
    }
}

impl FromStr for Zone {
    type Err = NoZone;

    fn from_str(name: &str) -> Result<Self, NoZone> {
        name.parse().map(Self).map_err(|_| NoZone { name: name.to_owned() })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// The span of time that a value names, from its begin to its end in milliseconds since 1970: a
/// point in time, which begins and ends at once, or a whole day.
///
/// A value is a number of milliseconds, `{"$time": milliseconds}`, or a string in RFC 3339 form,
/// which may lack seconds and zone, or be a date alone. A time without a zone is read by the clocks
/// of `zone`. Parts of milliseconds are cut off.
pub fn span_ms(value: &Value, zone: Zone) -> Option<(i64, i64)> {
    let at = |time_ms: i64| (time_ms, time_ms);
    match value {
        Value::Number(number) => whole(number).map(at),
        Value::String(text) => parse(text, zone),
        Value::Object(marker) if marker.len() == 1 => marker.get("$time")?.as_i64().map(at),
        _ => None,
    }
}

/// The milliseconds since 1970 at which the time of a value begins; see [`span_ms`].
pub fn time_ms(value: &Value, zone: Zone) -> Option<i64> {
    span_ms(value, zone).map(|(from, _)| from)
}

/// The number as an integer, if it is one.
pub(crate) fn whole(number: &Number) -> Option<i64> {
    let float = || number.as_f64().filter(|float| float.abs() <= EXACT_MAX);
    number.as_i64().or_else(|| float().map(|float| float.floor() as i64))
}

fn parse(text: &str, zone: Zone) -> Option<(i64, i64)> {
    // TOML writes times as RFC 3339 does, and may leave out seconds, zone and time of day.
    let Datetime { date: Some(date), time, offset } = text.trim().parse().ok()? else {
        return None;
    };
    let day = day(&date)?;
    let Some(time) = time else {
        let from = zone.moment(day.and_hms_opt(0, 0, 0)?)?;
        return Some((from, zone.moment(day.succ_opt()?.and_hms_opt(0, 0, 0)?)?));
    };
    let shown = on_clock(day, &time)?;
    let moment = match offset {
        None => zone.moment(shown)?,
        Some(toml::value::Offset::Z) => shown.and_utc().timestamp_millis(),
        Some(toml::value::Offset::Custom { minutes }) => {
            let ahead = TimeDelta::minutes(minutes.into());
            shown.checked_sub_signed(ahead)?.and_utc().timestamp_millis()
        }
    };
    Some((moment, moment))
}

fn day(date: &Date) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into())
}

fn on_clock(day: NaiveDate, time: &Time) -> Option<NaiveDateTime> {
    let nanos = time.nanosecond.unwrap_or(0);
    // A leap second is the first of the next minute.
    let second = u32::from(time.second.unwrap_or(0));
    let clock =
        day.and_hms_nano_opt(time.hour.into(), time.minute.into(), second.min(59), nanos)?;
    clock.checked_add_signed(TimeDelta::seconds((second - second.min(59)).into()))
}

/// More than any clock skips.
const SKIPPED_MAX: TimeDelta = TimeDelta::days(2);

/// Up to here, a float is one whole number and not the nearest of several.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn madrid() -> Zone {
        "Europe/Madrid".parse().unwrap()
    }

    fn utc(text: &str) -> i64 {
        time_ms(&json!(text), Zone::UTC).unwrap()
    }

    #[test]
    fn what_has_no_zone_is_read_by_the_clocks_of_one() {
        for (text, moment) in [
            ("2026-08-20T16:00", "2026-08-20T14:00:00Z"),
            ("2026-12-20T16:00", "2026-12-20T15:00:00Z"),
            ("2026-08-20T16:00Z", "2026-08-20T16:00:00Z"),
            ("2026-08-20T16:00-04:00", "2026-08-20T20:00:00Z"),
            // Clocks show it twice, and not at all.
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(time_ms(&json!(text), madrid()), Some(utc(moment)), "{text}");
        }
    }

    #[test]
    fn a_date_alone_is_a_whole_day_however_long() {
        for (text, from, until) in [
            ("2026-08-20", "2026-08-19T22:00:00Z", "2026-08-20T22:00:00Z"),
            ("2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ] {
            assert_eq!(span_ms(&json!(text), madrid()), Some((utc(from), utc(until))), "{text}");
        }
    }

    #[test]
    fn zones_have_names() {
        assert_eq!(madrid().to_string(), "Europe/Madrid");
        let error = "Madrid".parse::<Zone>().unwrap_err().to_string();
        assert_eq!(error, "\"Madrid\" is no time zone; write one such as \"Europe/Madrid\"");
        let (shown, ahead) = madrid().shows(utc("2026-08-20T14:00:00Z")).unwrap();
        assert_eq!((shown.to_string().as_str(), ahead), ("2026-08-20 16:00:00", 7200));
        let name = madrid().abbreviation(utc("2026-08-20T14:00:00Z"));
        assert_eq!(name.as_deref(), Some("CEST"));
        assert_eq!(Zone::UTC.shows(i64::MAX), None);
    }

    #[test]
    fn dates_are_counted_as_everybody_does() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T12:00Z", 951_825_600),
            ("2026-05-04T09:30:00+02:00", 1_777_879_800),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("0000-03-01T00:00:00Z", -62_162_035_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(time_ms(&json!(text), Zone::UTC), Some(seconds * 1000), "{text}");
        }
    }

    #[test]
    fn a_day_later_is_a_day_more() {
        let mut last = time_ms(&json!("0000-01-01T08:15"), Zone::UTC).unwrap();
        for year in 0..2100 {
            for (month, day) in (1..=12).flat_map(|month| (1..=31).map(move |day| (month, day))) {
                let text = format!("{year:04}-{month:02}-{day:02}T08:15");
                let Some(time) = time_ms(&Value::from(text.as_str()), Zone::UTC) else { continue };
                assert!(time == last + 86_400_000 || text == "0000-01-01T08:15", "{text}");
                last = time;
            }
        }
        assert_eq!(last, time_ms(&json!("2099-12-31T08:15:00Z"), Zone::UTC).unwrap());
    }

    proptest! {
        #[test]
        fn any_string_is_a_time_or_not(text in "[0-9TtZz:. +é-]{0,30}") {
            time_ms(&json!(text), madrid());
        }
    }
}
