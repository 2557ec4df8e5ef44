//! What clocks on the wall show in a time zone, and when that changes.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{OffsetComponents, OffsetName, Tz, TzOffset};

/// From when on clocks are how far from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observance {
    /// What they showed then, had they not been changed.
    pub(super) onset: NaiveDateTime,
    /// How far they were before.
    pub(super) from: TimeDelta,
    /// How far they are since.
    pub(super) to: TimeDelta,
    /// What people call it, if they do.
    pub(super) name: Option<String>,
    /// Whether clocks are ahead of what they are in winter.
    pub(super) is_summer: bool,
}

/// How clocks are changed from the year before one moment to the year after another, both in
/// milliseconds since 1970: calendars do not know it by themselves.
pub(super) fn observances(zone: Tz, first_ms: u64, last_ms: u64) -> Vec<Observance> {
    let new_year = |ms: u64, years: i32| {
        let year = time(ms).year() + years;
        let day = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
        day.and_time(chrono::NaiveTime::MIN)
    };
    let (mut at, end) = (new_year(first_ms, -1), new_year(last_ms, 2));
    let mut offset = zone.offset_from_utc_datetime(&at);
    let mut changes = vec![(at, offset)];
    while at < end {
        let next = at + STEP;
        let then = zone.offset_from_utc_datetime(&next);
        if !is_alike(&offset, &then) {
            changes.push((change(zone, at, next, &offset), then));
            offset = then;
        }
        at = next;
    }
    // Some zones have it that the clocks of summer are right, and those of winter are behind.
    let winter = changes.iter().map(|(_, offset)| offset.dst_offset()).min().unwrap_or_default();
    let mut before = None;
    let observed = changes.iter().map(|(onset, offset)| {
        let (to, summer) = (from_utc(offset), offset.dst_offset() - winter);
        // What was before the first is not known, and not asked: that is winter's.
        let from = before.replace(to).unwrap_or(to - summer);
        let name = offset.abbreviation().map(str::to_owned);
        Observance { onset: *onset + from, from, to, name, is_summer: summer > TimeDelta::zero() }
    });
    observed.collect()
}

/// What clocks show at a moment; `None` if they show the same a second time then.
pub(super) fn wall_clock(zone: Tz, ms: u64) -> Option<NaiveDateTime> {
    let time = time(ms).naive_utc();
    let shown = time + from_utc(&zone.offset_from_utc_datetime(&time));
    let first = zone.offset_from_local_datetime(&shown).earliest()?;
    (time + from_utc(&first) == shown).then_some(shown)
}

fn time(ms: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms.cast_signed()).unwrap_or_default()
}

/// The second of a change between two moments of which the first is before it.
fn change(
    zone: Tz,
    before: NaiveDateTime,
    after: NaiveDateTime,
    offset: &TzOffset,
) -> NaiveDateTime {
    let (mut before, mut after) = (before, after);
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if is_alike(offset, &zone.offset_from_utc_datetime(&middle)) {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

fn is_alike(one: &TzOffset, other: &TzOffset) -> bool {
    one.fix() == other.fix() && one.abbreviation() == other.abbreviation()
}

/// How far clocks are from UTC.
fn from_utc(offset: &TzOffset) -> TimeDelta {
    TimeDelta::seconds(offset.fix().local_minus_utc().into())
}

/// No zone changes its clocks twice within this.
const STEP: TimeDelta = TimeDelta::days(1);
