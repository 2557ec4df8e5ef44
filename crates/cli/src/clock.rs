//! Times as people read and write them: by the clocks where those people are, with the name of the
//! time zone.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use rejoin::value::Zone;

use crate::caller::Terminal;

/// The time now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-11-20 23:03:11 CET` for seconds since 1970, by the caller's clock, and with a `Z` behind the
/// time if that clock shows UTC. Gives `-` for 0, which is the time of a change that every device
/// would make alike, and the bare number of seconds if no clock shows such a time: anybody may write
/// any time into a change.
pub(crate) fn clock(time_s: i64) -> String {
    if time_s == 0 {
        return "-".to_owned();
    }
    let known =
        time_s.checked_mul(1000).and_then(|time_ms| shown(time_ms, Terminal::current().zone()));
    known.unwrap_or_else(|| format!("{time_s} s, which no clock shows"))
}

/// The same as [`clock`] for milliseconds since 1970, to the second.
pub(crate) fn clock_of_ms(time_ms: i64) -> String {
    if time_ms == 0 {
        return "-".to_owned();
    }
    let known = shown(time_ms, Terminal::current().zone());
    known.unwrap_or_else(|| format!("{time_ms} ms, which no clock shows"))
}

/// A time to the minute and the name of its zone, so that two times can share one name: `2026-05-04
/// 19:00` and ` CEST` with a space before it, or `Z` for UTC. The name is empty if no clock shows
/// such a time.
pub(crate) fn minute_of_ms(time_ms: i64) -> (String, String) {
    let zone = Terminal::current().zone();
    match is_shown(time_ms).then(|| zone.shows(time_ms)).flatten() {
        Some((time, _)) => (time.format("%Y-%m-%d %H:%M").to_string(), named(time_ms, zone)),
        None => (clock_of_ms(time_ms), String::new()),
    }
}

fn shown(time_ms: i64, zone: Zone) -> Option<String> {
    let (time, _) = is_shown(time_ms).then(|| zone.shows(time_ms)).flatten()?;
    Some(format!("{}{}", time.format("%Y-%m-%d %H:%M:%S"), named(time_ms, zone)))
}

/// The name that people give to the time of a zone, to be written behind a time.
fn named(time_ms: i64, zone: Zone) -> String {
    match zone.abbreviation(time_ms) {
        // There are several zones whose time is called UTC, and it is the same in all of them.
        Some(name) if name == "UTC" => "Z".to_owned(),
        name => format!(" {}", name.unwrap_or_else(|| zone.to_string())),
    }
}

/// Whether a time is shown as a date: none before 1970 is, and none in a year of more than four
/// digits.
fn is_shown(time_ms: i64) -> bool {
    (0..SHOWN_MS_END).contains(&time_ms)
}

/// A time as machines write it, `2026-11-20T22:03:11Z`; `None` for 0, and for times that no clock
/// shows.
pub(crate) fn rfc3339(time_s: i64) -> Option<String> {
    let time_ms = time_s.checked_mul(1000).filter(|time_ms| *time_ms != 0 && is_shown(*time_ms))?;
    let time = DateTime::from_timestamp_millis(time_ms)?;
    Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A point in time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) i64);

/// Reads a date, a date with a time of day, or how long ago a time was, such as `24h`.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    let now = now_ms() / 1000;
    let zone = Terminal::current().zone();
    let found = ago(text).map(|ago| now.saturating_sub(ago)).or_else(|| point(text, zone));
    let wrong = || "write 2026-05-01, '2026-05-01 16:10', or how long ago: 30m, 24h, 7d".to_owned();
    found.map(Since).ok_or_else(wrong)
}

fn ago(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY_S,
        _ => return None,
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<i64>().ok().filter(|_| is_number)?.checked_mul(unit_s)
}

/// Reads a time by the clocks of a zone, or of UTC if a `Z` stands behind it.
fn point(text: &str, zone: Zone) -> Option<i64> {
    let (text, zone) = text.strip_suffix('Z').map_or((text, zone), |text| (text, Zone::UTC));
    let text = text.replacen('T', " ", 1);
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let time = |form| NaiveDateTime::parse_from_str(&text, form).ok();
    let time = time("%Y-%m-%d %H:%M:%S").or_else(|| time("%Y-%m-%d %H:%M")).or_else(day)?;
    let moment = zone.moment(time).filter(|moment| is_shown(*moment))?;
    Some(moment.div_euclid(1000))
}

const DAY_S: i64 = 86_400;

/// The first millisecond of the year 10000.
const SHOWN_MS_END: i64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn madrid() -> Zone {
        "Europe/Madrid".parse().expect("a zone")
    }

    #[test]
    fn times_are_written_as_dates_or_as_how_long_ago() {
        for (text, time_s) in [
            ("2000-02-29", Some(951_782_400)),
            ("2026-11-20 22:03:11Z", Some(1_795_212_191)),
            ("2026-11-20T22:03", Some(1_795_212_180)),
            ("2100-03-01", Some(4_107_542_400)),
            ("2023-02-29", None),
            ("2026-13-01", None),
            ("2026-11-20 24:00", None),
            ("2026-11", None),
            ("-026-11-01", None),
            ("", None),
        ] {
            assert_eq!(point(text, Zone::UTC), time_s, "{text}");
        }
        assert_eq!(point("2026-11-20 23:03:11", madrid()), Some(1_795_212_191));
        assert_eq!(point("2026-11-20 22:03:11Z", madrid()), Some(1_795_212_191));
        assert_eq!((ago("30m"), ago("7d"), ago("90s")), (Some(1800), Some(604_800), Some(90)));
        for wrong in ["", "d", "-1d", "1w", "7", "1.5h", "99999999999999999999d", "7ü"] {
            assert_eq!(ago(wrong), None, "{wrong}");
        }
        assert!(since("2026-05-01").is_ok() && since("24h").is_ok() && since("soon").is_err());
    }

    #[test]
    fn times_read_as_dates_by_the_clocks_of_a_zone() {
        for (time_s, utc, there) in [
            (1, "1970-01-01 00:00:01Z", "1970-01-01 01:00:01 CET"),
            (951_782_399, "2000-02-28 23:59:59Z", "2000-02-29 00:59:59 CET"),
            (1_795_212_191, "2026-11-20 22:03:11Z", "2026-11-20 23:03:11 CET"),
            (1_787_234_400, "2026-08-20 14:00:00Z", "2026-08-20 16:00:00 CEST"),
            (253_402_300_799, "9999-12-31 23:59:59Z", "10000-01-01 00:59:59 CET"),
        ] {
            assert_eq!(shown(time_s * 1000, Zone::UTC).as_deref(), Some(utc));
            assert!(
                shown(time_s * 1000, madrid()).is_some_and(|it| it.ends_with(there)),
                "{there}"
            );
        }
        assert_eq!(clock(0), "-");
        assert_eq!(rfc3339(1).as_deref(), Some("1970-01-01T00:00:01Z"));
    }

    #[test]
    fn times_that_no_clock_shows_are_told_as_numbers() {
        for time in [-1, 253_402_300_800, 1 << 62, i64::MAX, i64::MIN] {
            assert_eq!(clock(time), format!("{time} s, which no clock shows"));
            assert_eq!(rfc3339(time), None);
        }
        for time in [-1, 253_402_300_800_000, 1 << 62, i64::MAX, i64::MIN] {
            assert_eq!(clock_of_ms(time), format!("{time} ms, which no clock shows"));
        }
        assert_eq!((clock_of_ms(0), rfc3339(0)), ("-".to_owned(), None));
    }
}
