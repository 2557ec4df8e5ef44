//! Times in a file that are written otherwise than documents have them.

use anyhow::{Result, bail, ensure};
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use rejoin::Cell;
use rejoin::schema::{Invariant, Kind, Schema};

use super::header::{Column, Header};

/// One `[COLUMN=]FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeFormat(String);

impl std::str::FromStr for TimeFormat {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let format = text.rsplit_once('=').map_or(text, |(_, format)| format);
        let mut items = StrftimeItems::new(format);
        let is_sound = format.contains('%') && !items.any(|item| item == Item::Error);
        ensure!(is_sound, "{format:?} is no form of times; write one such as '%m/%d/%Y %I:%M %p'");
        Ok(Self(text.to_owned()))
    }
}

/// How times are written in the columns of a file.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The forms of each field that is one, tried in this order.
    forms: Vec<(String, String)>,
}

impl Times {
    /// Without a column, a form is that of all fields that the schema says are times.
    pub(super) fn new(formats: &[TimeFormat], header: &Header, schema: &Schema) -> Result<Self> {
        let mut times = Self::default();
        for TimeFormat(text) in formats {
            let named = text.split_once('=').and_then(|(column, form)| {
                let at = header.names.iter().position(|name| name == column)?;
                Some((&header.columns[at], form))
            });
            match named {
                Some((Column::Text(field), form)) => {
                    times.forms.push((field.clone(), form.to_owned()));
                }
                Some(_) => bail!("--time-format {text}: this column holds no times"),
                None => times.of_schema(text, header, schema)?,
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

    /// Writes times as documents have them: by the clock, without a zone if the form has none.
    ///
    /// # Errors
    /// A cell that is not in its form.
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

fn read(text: &str, form: &str) -> Option<String> {
    let zoned = || DateTime::parse_from_str(text, form).ok().map(|time| time.to_rfc3339());
    let clock = || {
        let time = NaiveDateTime::parse_from_str(text, form).ok()?;
        Some(time.format("%Y-%m-%dT%H:%M:%S").to_string())
    };
    let day = || NaiveDate::parse_from_str(text, form).ok().map(|day| day.to_string());
    zoned().or_else(clock).or_else(day)
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
        ] {
            assert_eq!(read(text, form).as_deref(), time, "{text}");
        }
        assert!("starts=%d.%m.%Y".parse::<TimeFormat>().is_ok());
        for wrong in ["", "d.m.Y", "%!", "starts="] {
            assert!(wrong.parse::<TimeFormat>().is_err(), "{wrong}");
        }
    }
}
