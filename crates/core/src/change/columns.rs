//! Columns: run-length encoded rows, read one by one.
//!
//! Automerge writes each sequence of values in exactly one form. When it saves a document it keeps
//! the values and not the bytes, so a change in any other form would be saved as one with another
//! hash, and the save could not be loaded again. Hence only that form is accepted.

use super::GuardError;
use super::reader::Reader;
use crate::limits::CHANGE_ROWS_MAX;

/// A value of a run-length encoded column.
pub(super) trait Value<'a>: Copy + PartialEq {
    fn read(reader: &mut Reader<'a>, column: &'static str) -> Result<Self, GuardError>;
}

impl Value<'_> for u64 {
    fn read(reader: &mut Reader<'_>, column: &'static str) -> Result<Self, GuardError> {
        reader.u64(column)
    }
}

impl Value<'_> for i64 {
    fn read(reader: &mut Reader<'_>, column: &'static str) -> Result<Self, GuardError> {
        reader.i64(column)
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>, column: &'static str) -> Result<Self, GuardError> {
        let bytes = reader.prefixed(column)?;
        std::str::from_utf8(bytes).map_err(|_| GuardError::Utf8 { what: column })
    }
}

/// A column of optional values in runs.
#[derive(Debug)]
pub(super) struct Runs<'a, T> {
    reader: Reader<'a>,
    column: &'static str,
    run: Run,
    /// Rows of the present run still to be read.
    left: u64,
    /// Rows of all runs begun.
    rows: u64,
    /// The value of the row before, unless it was null.
    last: Option<T>,
    any_value: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    None,
    Repeated,
    Literal,
    Null,
}

impl<'a, T: Value<'a>> Runs<'a, T> {
    pub(super) fn new(bytes: &'a [u8], column: &'static str) -> Self {
        Self {
            reader: Reader::new(bytes),
            column,
            run: Run::None,
            left: 0,
            rows: 0,
            last: None,
            any_value: false,
        }
    }

    /// The next row; `None` when all were read.
    pub(super) fn next_row(&mut self) -> Result<Option<Option<T>>, GuardError> {
        if self.left == 0 {
            if self.reader.is_empty() {
                return Ok(None);
            }
            self.begin_run()?;
        }
        self.left -= 1;
        if self.run == Run::Literal {
            self.read_value()?;
        }
        Ok(Some(self.last))
    }

    /// The next row of a column that has one for every operation, or none at all.
    pub(super) fn next_or_null(&mut self) -> Result<Option<T>, GuardError> {
        Ok(self.next_row()?.flatten())
    }

    /// The next row of a column that must hold a value for every operation.
    pub(super) fn next_value(&mut self) -> Result<T, GuardError> {
        self.next_or_null()?.ok_or(GuardError::RowsDiffer { column: self.column })
    }

    /// Checks that the column ends after `rows` rows. One that could hold only nulls is empty.
    pub(super) fn finish(&self, rows: u64) -> Result<(), GuardError> {
        if self.left > 0 || !self.reader.is_empty() || (self.rows > 0 && self.rows != rows) {
            return Err(GuardError::RowsDiffer { column: self.column });
        }
        if self.rows > 0 && !self.any_value {
            return Err(GuardError::Form { column: self.column });
        }
        Ok(())
    }

    fn begin_run(&mut self) -> Result<(), GuardError> {
        let count = self.reader.i64(self.column)?;
        let (run, rows) = match count {
            0 => (Run::Null, self.reader.u64(self.column)?),
            1.. => (Run::Repeated, count.unsigned_abs()),
            _ => (Run::Literal, count.unsigned_abs()),
        };
        self.rows = add_rows(self.column, self.rows, rows)?;
        let shortest = if run == Run::Repeated { rows > 1 } else { rows > 0 && run != self.run };
        if !shortest {
            return Err(GuardError::Form { column: self.column });
        }
        self.run = run;
        self.left = rows;
        match run {
            Run::Null => self.last = None,
            Run::Repeated => self.read_value()?,
            Run::Literal | Run::None => {}
        }
        Ok(())
    }

    /// Reads a value; equal neighbours would have been one run.
    fn read_value(&mut self) -> Result<(), GuardError> {
        let value = T::read(&mut self.reader, self.column)?;
        if self.last == Some(value) {
            return Err(GuardError::Form { column: self.column });
        }
        self.last = Some(value);
        self.any_value = true;
        Ok(())
    }
}

/// A column of optional counters, each written as its distance from the one before.
#[derive(Debug)]
pub(super) struct Deltas<'a> {
    runs: Runs<'a, i64>,
    value: i64,
}

impl<'a> Deltas<'a> {
    pub(super) fn new(bytes: &'a [u8], column: &'static str) -> Self {
        Self { runs: Runs::new(bytes, column), value: 0 }
    }

    pub(super) fn next_or_null(&mut self) -> Result<Option<i64>, GuardError> {
        let Some(delta) = self.runs.next_or_null()? else { return Ok(None) };
        let column = self.runs.column;
        self.value = self.value.checked_add(delta).ok_or(GuardError::Number { what: column })?;
        Ok(Some(self.value))
    }

    pub(super) fn finish(&self, rows: u64) -> Result<(), GuardError> {
        self.runs.finish(rows)
    }
}

/// A column of booleans: lengths of runs, of false and true in turn.
#[derive(Debug)]
pub(super) struct Booleans<'a> {
    reader: Reader<'a>,
    column: &'static str,
    value: bool,
    left: u64,
    rows: u64,
    any_true: bool,
}

impl<'a> Booleans<'a> {
    pub(super) fn new(bytes: &'a [u8], column: &'static str) -> Self {
        Self { reader: Reader::new(bytes), column, value: true, left: 0, rows: 0, any_true: false }
    }

    /// The next row; `None` when all were read.
    pub(super) fn next_row(&mut self) -> Result<Option<bool>, GuardError> {
        if self.left == 0 && self.reader.is_empty() {
            return Ok(None);
        }
        if self.left == 0 {
            self.begin_run()?;
        }
        self.left -= 1;
        Ok(Some(self.value))
    }

    pub(super) fn finish(&self, rows: u64) -> Result<(), GuardError> {
        if self.left > 0 || !self.reader.is_empty() || (self.rows > 0 && self.rows != rows) {
            return Err(GuardError::RowsDiffer { column: self.column });
        }
        Ok(())
    }

    /// Checks that a column which is left out when all is false was left out.
    pub(super) fn finish_sparse(&self, rows: u64) -> Result<(), GuardError> {
        if self.rows > 0 && !self.any_true {
            return Err(GuardError::Form { column: self.column });
        }
        self.finish(rows)
    }

    /// The first run may be empty, because every column begins with a run of false.
    fn begin_run(&mut self) -> Result<(), GuardError> {
        let mut count = self.reader.u64(self.column)?;
        self.value = !self.value;
        if count == 0 && self.rows == 0 && !self.value {
            count = self.reader.u64(self.column)?;
            self.value = true;
        }
        if count == 0 {
            return Err(GuardError::Form { column: self.column });
        }
        self.rows = add_rows(self.column, self.rows, count)?;
        self.left = count;
        self.any_true |= self.value;
        Ok(())
    }
}

fn add_rows(column: &'static str, rows: u64, more: u64) -> Result<u64, GuardError> {
    let rows = rows.saturating_add(more);
    if rows > CHANGE_ROWS_MAX {
        return Err(GuardError::Rows { column, rows, max: CHANGE_ROWS_MAX });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Option<u64>>, GuardError> {
        let mut runs = Runs::<u64>::new(bytes, "test");
        let mut rows = Vec::new();
        while let Some(row) = runs.next_row()? {
            rows.push(row);
        }
        runs.finish(rows.len() as u64)?;
        Ok(rows)
    }

    #[test]
    fn runs_are_read_row_by_row() {
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[2, 7]), Ok(vec![Some(7), Some(7)]));
        assert_eq!(read(&[0x7e, 7, 8, 0, 1]), Ok(vec![Some(7), Some(8), None]));
        assert_eq!(read(&[0x7f, 7, 2, 8]), Ok(vec![Some(7), Some(8), Some(8)]));
    }

    #[test]
    fn only_the_shortest_form_is_read() {
        let form = Err(GuardError::Form { column: "test" });
        let longer: [&[u8]; 8] = [
            &[1, 7],             // a repeated run of one
            &[2, 7, 2, 7],       // one run in two
            &[0x7e, 7, 7],       // equal literals
            &[0x7f, 7, 0x7f, 8], // two literal runs
            &[2, 7, 0x7f, 7],    // a literal that belongs to the run before
            &[0, 1, 0, 1, 2, 7], // two null runs
            &[0, 0, 2, 7],       // an empty null run
            &[0, 3],             // nothing but nulls
        ];
        for bytes in longer {
            assert_eq!(read(bytes), form, "{bytes:?}");
        }
    }

    #[test]
    fn booleans_begin_with_false() {
        let read = |bytes: &[u8]| {
            let mut column = Booleans::new(bytes, "test");
            let mut rows = Vec::new();
            while let Some(row) = column.next_row()? {
                rows.push(row);
            }
            Ok(rows)
        };
        assert_eq!(read(&[2, 1]), Ok(vec![false, false, true]));
        assert_eq!(read(&[0, 2]), Ok(vec![true, true]));
        assert_eq!(read(&[0, 0]), Err(GuardError::Form { column: "test" }));
        assert_eq!(read(&[1, 0]), Err(GuardError::Form { column: "test" }));
        assert_eq!(read(&[0]), Err(GuardError::Truncated { what: "test" }));
    }

    #[test]
    fn rows_are_limited_before_they_are_read() {
        let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 7];
        assert!(matches!(read(&many), Err(GuardError::Rows { .. })));
        let mut column = Booleans::new(&[0xff, 0xff, 0xff, 0xff, 0x0f], "test");
        assert!(matches!(column.next_row(), Err(GuardError::Rows { .. })));
    }
}
