//! Times in a file that are written in another form than that of documents.

use anyhow::{Result, bail, ensure};
use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems, parse};
use chrono::{Datelike, NaiveDate};
use rejoin::import::Cell;
use rejoin::schema::{Invariant, Kind, Schema};

use super::header::{Column, Header};
use crate::layout::one_line;

/// The form of the times in a file, or in one of its columns: `[COLUMN=]FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeFormat {
    /// The column by its name in the file; `None` for every column that the schema says holds times.
    column: Option<String>,
    form: String,
}

impl std::str::FromStr for TimeFormat {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        // A form has no = before its first part, so the last one there ends the name of the column.
        let before = text.find('%').unwrap_or(text.len());
        let (column, form) = match text[..before].rfind('=') {
            Some(at) => (Some(text[..at].to_owned()), &text[at + 1..]),
            None => (None, text),
        };
        let mut items = StrftimeItems::new(form);
        let is_sound = form.contains('%') && !items.any(|item| item == Item::Error);
        ensure!(is_sound, "{form:?} is no form of times; write one such as '%m/%d/%Y %I:%M %p'");
        ensure!(
            !StrftimeItems::new(form).any(|item| item == Item::Fixed(Fixed::TimezoneName)),
            "{form:?} names zones by letters, which several zones share; write them as %z, or leave the \
             zone to the schema"
        );
        // The text that the form writes of a time has to be enough to read that time again.
        let sample =
            NaiveDate::from_ymd_opt(2026, 11, 20).and_then(|day| day.and_hms_opt(21, 45, 0));
        let sample = sample.unwrap_or_default().and_utc();
        let read = read(&sample.format(form).to_string(), form);
        let is_enough = read.is_some_and(|read| {
            !tells_time(form) || read.starts_with(&sample.format("%Y-%m-%dT%H").to_string())
        });
        ensure!(
            is_enough,
            "{form:?} does not say enough: year, month and day, and of a time of day hours and minutes, \
             with %p where hours are %I"
        );
        Ok(Self { column, form: form.to_owned() })
    }
}

/// The forms of the times in the columns of a file.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Fields that hold times and their forms. A field with several forms is read in the first that
    /// fits.
    forms: Vec<(String, String)>,
}

impl Times {
    /// A form without a column is given to every field that the schema says is a time.
    pub(super) fn new(formats: &[TimeFormat], header: &Header, schema: &Schema) -> Result<Self> {
        let mut times = Self::default();
        for TimeFormat { column, form } in formats {
            let Some(column) = column else {
                times.of_schema(form, header, schema)?;
                continue;
            };
            let Some(at) = header.names.iter().position(|name| name == column) else {
                let columns = one_line(&header.names.join(", "));
                bail!("--time-format: no column is called {column:?}; the columns are {columns}");
            };
            match &header.columns[at] {
                Column::Text(field) => times.forms.push((field.clone(), form.clone())),
                _ => bail!("--time-format: column {column:?} holds no times"),
            }
        }
        Ok(times)
    }

    fn of_schema(&mut self, form: &str, header: &Header, schema: &Schema) -> Result<()> {
        let before = self.forms.len();
        for column in &header.columns {
            if let Column::Text(field) = column
                && is_time(schema, field)
            {
                self.forms.push((field.clone(), form.to_owned()));
            }
        }
        ensure!(
            self.forms.len() > before,
            "which columns hold times? The schema says it of none; write --time-format COLUMN={form}"
        );
        Ok(())
    }

    /// Rewrites the times among the cells in the form of documents: by the clock, without a zone if
    /// the form has none.
    ///
    /// # Errors
    /// A cell that is not in any form of its column.
    pub(super) fn read(&self, cells: &mut [(String, Cell)]) -> Result<()> {
        for (name, cell) in cells {
            let forms = || self.forms.iter().filter(|(field, _)| field == name).map(|(_, it)| it);
            if let (Cell::Text(text), true) = (cell, forms().next().is_some()) {
                let Some(time) = forms().find_map(|form| read(text.trim(), form)) else {
                    let forms: Vec<&str> = forms().map(String::as_str).collect();
                    bail!("{name}: {text:?} is not a time in the form {}", forms.join(" or "));
                };
                *text = time;
            }
        }
        Ok(())
    }
}

/// Whether the schema says that a field is a time.
fn is_time(schema: &Schema, field: &str) -> bool {
    let path = rejoin::Path::from([field]);
    let is_in = |invariant: &Invariant| match invariant {
        Invariant::NoOverlap { start, end, .. } => *start == path || *end == path,
        Invariant::Unique { .. } => false,
    };
    schema.field(&path).is_some_and(|field| field.kind == Some(Kind::Time))
        || schema.invariants.iter().any(is_in)
}

/// Reads a time into the form of documents: with a zone, by the clock without one, or a date alone,
/// according to the form. A year of fewer than four digits does not fit, as it belongs to another
/// form.
fn read(text: &str, form: &str) -> Option<String> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(form)).ok()?;
    let day = parsed.to_naive_date().ok().filter(|day| (1000..=9999).contains(&day.year()))?;
    if !tells_time(form) {
        return Some(day.to_string());
    }
    if parsed.offset().is_some() {
        return Some(parsed.to_datetime().ok()?.to_rfc3339());
    }
    let time = day.and_time(parsed.to_naive_time().ok()?);
    Some(time.format("%Y-%m-%dT%H:%M:%S%.f").to_string())
}

/// Whether a form has parts for the time of day.
fn tells_time(form: &str) -> bool {
    let is_of_day = |item: Item<'_>| match item {
        Item::Numeric(numeric, _) => matches!(
            numeric,
            Numeric::Hour
                | Numeric::Hour12
                | Numeric::Minute
                | Numeric::Second
                | Numeric::Nanosecond
                | Numeric::Timestamp
        ),
        Item::Fixed(fixed) => !matches!(
            fixed,
            Fixed::ShortMonthName
                | Fixed::LongMonthName
                | Fixed::ShortWeekdayName
                | Fixed::LongWeekdayName
        ),
        _ => false,
    };
    StrftimeItems::new(form).any(is_of_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_form() {
        for (text, form, time) in [
            ("5/4/2026 9:00 AM", "%m/%d/%Y %I:%M %p", Some("2026-05-04T09:00:00")),
            ("04.05.2026 21:30", "%d.%m.%Y %H:%M", Some("2026-05-04T21:30:00")),
            ("5/4/2026", "%m/%d/%Y", Some("2026-05-04")),
            ("2026-05-04 09:00 +0200", "%Y-%m-%d %H:%M %z", Some("2026-05-04T09:00:00+02:00")),
            ("2/30/2026", "%m/%d/%Y", None),
            ("tomorrow", "%m/%d/%Y", None),
            ("5/4/26", "%m/%d/%Y", None),
            ("5/4/26", "%m/%d/%y", Some("2026-05-04")),
            ("4 May 2026 09:00:30.250", "%d %b %Y %H:%M:%S%.f", Some("2026-05-04T09:00:30.250")),
        ] {
            assert_eq!(read(text, form).as_deref(), time, "{text}");
        }
        assert!("starts=%d.%m.%Y".parse::<TimeFormat>().is_ok());
        let named: TimeFormat = "a=b=%d.%m.%Y".parse().expect("a column and a form");
        assert_eq!((named.column.as_deref(), named.form.as_str()), (Some("a=b"), "%d.%m.%Y"));
        for wrong in [
            "",
            "d.m.Y",
            "%!",
            "starts=",
            "%d.%m.",
            "%m/%d/%Y %I:%M",
            "%m/%d/%Y %I %p %M:%",
            "%Y-%m-%d %H:%M %Z",
        ] {
            assert!(wrong.parse::<TimeFormat>().is_err(), "{wrong}");
        }
    }
}
