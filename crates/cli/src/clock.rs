//! Times as people read and write them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-20 22:03:11Z` for seconds since 1970; `-` for 0, which changes have that every device
/// would make alike. The number as it is, if no clock shows such a time: anybody may write any.
pub(crate) fn utc(time_s: i64) -> String {
    if time_s == 0 {
        return "-".to_owned();
    }
    shown(time_s).unwrap_or_else(|| format!("{time_s} s, which no clock shows"))
}

/// The same for milliseconds since 1970, to the second.
pub(crate) fn utc_of_ms(time_ms: i64) -> String {
    if time_ms == 0 {
        return "-".to_owned();
    }
    let known = shown(time_ms.div_euclid(1000));
    known.unwrap_or_else(|| format!("{time_ms} ms, which no clock shows"))
}

/// A time that a clock may show: none of before 1970, or of a year of more than four digits.
fn shown(time_s: i64) -> Option<String> {
    if !(0..SHOWN_S_END).contains(&time_s) {
        return None;
    }
    let (days, second) = (time_s.div_euclid(DAY_S), time_s.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z"))
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: counts in
/// eras of 400 years and years that begin in March, so that a leap day is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The same as machines write it, `2026-11-20T22:03:11Z`; nothing for 0, and for what no clock shows.
pub(crate) fn rfc3339(time_s: i64) -> Option<String> {
    shown(time_s).filter(|_| time_s != 0).map(|time| time.replacen(' ', "T", 1))
}

/// A point in time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) i64);

/// Reads a date, a date and a time of day, or how long ago it was.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let found = ago(text).map(|ago| now.saturating_sub(ago)).or_else(|| point(text));
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

fn point(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let [year, month, day] = numbers(day, '-')?[..] else { return None };
    let [hour, minute, second] = match numbers(time, ':')?[..] {
        [hour, minute] => [hour, minute, 0],
        [hour, minute, second] => [hour, minute, second],
        _ => return None,
    };
    let is_time = hour < 24 && minute < 60 && second < 60;
    let days = days(year, month, day);
    // The way back tells whether there is such a day.
    let is_day = (1970..=9999).contains(&year) && date(days) == (year, month, day);
    (is_time && is_day).then_some(days * DAY_S + hour * 3600 + minute * 60 + second)
}

fn numbers(text: &str, between: char) -> Option<Vec<i64>> {
    let number = |part: &str| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|_| is_number)
    };
    text.split(between).map(number).collect()
}

/// Days since 1970-01-01, the other way round of [`date`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let from_march = (month + 9) % 12;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const DAY_S: i64 = 86_400;

/// The first second of the year 10000.
const SHOWN_S_END: i64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

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
            ("+026-11-01", None),
            ("", None),
        ] {
            assert_eq!(point(text), time_s, "{text}");
        }
        assert_eq!((ago("30m"), ago("7d"), ago("90s")), (Some(1800), Some(604_800), Some(90)));
        for wrong in ["", "d", "-1d", "1w", "7", "1.5h", "99999999999999999999d", "7ü"] {
            assert_eq!(ago(wrong), None, "{wrong}");
        }
        assert!(since("2026-05-01").is_ok() && since("24h").is_ok() && since("soon").is_err());
    }

    #[test]
    fn times_read_as_dates() {
        for (time_s, text) in [
            (0, "-"),
            (1, "1970-01-01 00:00:01Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_251_200, "2024-03-01 00:00:00Z"),
            (1_795_212_191, "2026-11-20 22:03:11Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (253_402_300_799, "9999-12-31 23:59:59Z"),
        ] {
            assert_eq!(utc(time_s), text);
            assert_eq!(utc_of_ms(time_s * 1000), text);
        }
    }

    #[test]
    fn times_that_no_clock_shows_are_told_as_numbers() {
        for time in [-1, 253_402_300_800, 1 << 62, i64::MAX, i64::MIN] {
            assert_eq!(utc(time), format!("{time} s, which no clock shows"));
            assert_eq!(rfc3339(time), None);
        }
        for time in [-1, 253_402_300_800_000, 1 << 62, i64::MAX, i64::MIN] {
            assert_eq!(utc_of_ms(time), format!("{time} ms, which no clock shows"));
        }
        assert_eq!((utc_of_ms(0), rfc3339(0)), ("-".to_owned(), None));
        assert_eq!(rfc3339(1).as_deref(), Some("1970-01-01T00:00:01Z"));
    }
}
