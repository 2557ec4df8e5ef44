//! Rows of a CSV file, one at a time, each with the line it starts on.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use csv::{ByteRecord, Reader, ReaderBuilder};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::layout::one_line;

/// What stands on a line.
#[derive(Debug)]
pub(super) enum Item {
    Row(Row),
    Fault(Fault),
}

/// One row as a document: `null` for an empty cell.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) key: String,
    pub(super) fields: Map<String, Value>,
    pub(super) bytes: usize,
}

/// A row that is not taken, and why.
#[derive(Debug, Serialize)]
pub(super) struct Fault {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Reads rows. Of those that are gone it keeps a hash of each key, to know it again.
pub(super) struct Rows<R> {
    reader: Reader<Tap<R>>,
    columns: Vec<String>,
    key_column: usize,
    keys: Keys,
    record: ByteRecord,
    /// The file cannot be read any further.
    ended: bool,
}

impl<R: Read> Rows<R> {
    /// Reads the header.
    pub(super) fn new(file: R, key_column: &str) -> Result<Self> {
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .buffer_capacity(64 << 10)
            .from_reader(Tap::new(file));
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).context("line 1: the header cannot be read")? {
            bail!("line 1: the file is empty; its first line must name the columns");
        }
        let columns = columns(&record)?;
        let Some(key_column) = columns.iter().position(|column| column == key_column) else {
            let columns = one_line(&columns.join(", "));
            bail!("line 1: no column is called {key_column:?}; the columns are {columns}");
        };
        Ok(Self { reader, columns, key_column, keys: Keys::default(), record, ended: false })
    }

    pub(super) fn next(&mut self) -> Option<Item> {
        if self.ended {
            return None;
        }
        let start = self.reader.position().byte();
        let line_before = self.reader.position().line();
        self.reader.get_mut().record_start = start;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Some(self.row(self.line()).map_or_else(Item::Fault, Item::Row)),
            Ok(false) => None,
            Err(error) => {
                self.ended = true;
                let reason = format!("cannot be read, and nothing after it: {error}");
                Some(Item::Fault(Fault { line: line_before, reason }))
            }
        }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The line the record starts on: where the reader is now, less the lines within the record.
    /// (The position in the record itself is before any blank lines, and one line short where lines
    /// end in CR LF.)
    fn line(&self) -> u64 {
        let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let position = self.reader.position();
        let ended = self.reader.get_ref().byte_before(position.byte()) == Some(b'\n');
        position.line() - within - u64::from(ended)
    }

    fn row(&mut self, line: u64) -> Result<Row, Fault> {
        let wrong = |reason: String| Fault { line, reason };
        let (found, expected) = (self.record.len(), self.columns.len());
        if found != expected {
            return Err(wrong(format!("{found} fields where the header has {expected}")));
        }
        let mut fields = Map::new();
        for (column, cell) in self.columns.iter().zip(&self.record) {
            let text = str::from_utf8(cell).map_err(|error| {
                let byte = cell[error.valid_up_to()];
                wrong(format!(
                    "column {column:?} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8"
                ))
            })?;
            let value = if text.is_empty() { Value::Null } else { Value::from(text) };
            fields.insert(column.clone(), value);
        }
        let column = &self.columns[self.key_column];
        let Some(Value::String(key)) = fields.get(column) else {
            return Err(wrong(format!("column {column:?} is empty, and it is the key")));
        };
        if let Some(earlier) = self.keys.insert(key, line) {
            return Err(wrong(format!("the key {key:?} is that of line {earlier} too")));
        }
        Ok(Row { line, key: key.clone(), bytes: self.record.as_slice().len(), fields })
    }
}

fn columns(header: &ByteRecord) -> Result<Vec<String>> {
    let mut columns: Vec<String> = Vec::with_capacity(header.len());
    for (place, name) in header.iter().enumerate() {
        let number = place + 1;
        let Ok(name) = str::from_utf8(name) else {
            bail!("line 1: the name of column {number} is not UTF-8; save the file as UTF-8");
        };
        if name.is_empty() {
            bail!("line 1: column {number} has no name; give it one");
        }
        if let Some(earlier) = columns.iter().position(|column| column == name) {
            bail!(
                "line 1: columns {} and {number} are both called {name:?}; rename one",
                earlier + 1
            );
        }
        columns.push(name.to_owned());
    }
    Ok(columns)
}

/// Keys seen, as hashes of 128 bits: a file of any length costs a few bytes a row, and two keys
/// that are taken for one are out of the question.
#[derive(Default)]
struct Keys {
    lines: HashMap<(u64, u64), u64>,
    hashers: (RandomState, RandomState),
}

impl Keys {
    /// The line the key was on before.
    fn insert(&mut self, key: &str, line: u64) -> Option<u64> {
        let hash = (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key));
        let earlier = *self.lines.entry(hash).or_insert(line);
        (earlier != line).then_some(earlier)
    }
}

/// Looks at the bytes the CSV reader is given: what ended a record, and whether one goes on without
/// end, as after a quote that is not closed.
#[derive(Debug)]
struct Tap<R> {
    inner: R,
    /// What was read last, and at which byte it starts. The reader takes no more before it is done
    /// with that, so whatever ends a record is in here.
    chunk: Vec<u8>,
    chunk_start: u64,
    record_start: u64,
}

impl<R> Tap<R> {
    fn new(inner: R) -> Self {
        Self { inner, chunk: Vec::new(), chunk_start: 0, record_start: 0 }
    }

    fn byte_before(&self, byte: u64) -> Option<u8> {
        let place = byte.checked_sub(self.chunk_start + 1)?;
        self.chunk.get(usize::try_from(place).ok()?).copied()
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.chunk_start + self.chunk.len() as u64;
        if end - self.record_start > ROW_BYTES_MAX {
            let mib = ROW_BYTES_MAX >> 20;
            let reason = format!("the row is longer than {mib} MiB; is a quote not closed?");
            return Err(io::Error::other(reason));
        }
        let read = self.inner.read(buffer)?;
        if read > 0 {
            self.chunk_start = end;
            self.chunk.clear();
            self.chunk.extend_from_slice(&buffer[..read]);
        }
        Ok(read)
    }
}

/// Bytes of the longest row. Rows are held in memory one batch at a time.
const ROW_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row's line and key, or line and reason.
    fn read(file: &[u8]) -> Vec<(u64, String)> {
        let mut rows = Rows::new(file, "id").expect("a header with the column id");
        let items = std::iter::from_fn(|| rows.next()).map(|item| match item {
            Item::Row(row) => (row.line, row.key),
            Item::Fault(fault) => (fault.line, fault.reason),
        });
        items.collect()
    }

    fn lines(file: &[u8]) -> Vec<u64> {
        read(file).into_iter().map(|(line, _)| line).collect()
    }

    fn refused(file: &[u8]) -> String {
        Rows::new(file, "id").err().map(|error| error.to_string()).expect("not a header")
    }

    #[test]
    fn every_row_knows_its_line() {
        assert_eq!(lines(b"id,a\n1,x\n2,y\n"), [2, 3]);
        assert_eq!(lines(b"id,a\r\n1,x\r\n2,y\r\n3,z"), [2, 3, 4]);
        assert_eq!(lines(b"id,a\n\n1,x\n\n\n2,y"), [3, 6]);
        assert_eq!(lines(b"id,a\r\n\r\n1,x\r\n\r\n2,y\r\n"), [3, 5]);
        assert_eq!(lines(b"id,a\n1,\"x\ny\"\n2,\"\nz\"\n3,w\n"), [2, 4, 6]);
        assert_eq!(lines(b"id,a\r\n1,\"x\r\ny\"\r\n2,z\r\n"), [2, 4]);
        assert_eq!(lines(b"\xef\xbb\xbfid,a\n1,x\n2,y"), [2, 3]);
    }

    #[test]
    fn lines_are_right_wherever_the_buffer_ends() {
        let mut file = b"id,a\r\n".to_vec();
        let mut expected = Vec::new();
        let mut line = 2;
        for number in 0..20_000 {
            let wide = "x".repeat(number % 23);
            let row = match number % 3 {
                0 => format!("{number},{wide}\r\n"),
                1 => format!("{number},\"{wide}\r\n\"\r\n"),
                _ => format!("\n{number},{wide}\n"),
            };
            expected.push(line + u64::from(number % 3 == 2));
            line += row.matches('\n').count() as u64;
            file.extend_from_slice(row.as_bytes());
        }
        assert_eq!(lines(&file), expected);
    }

    #[test]
    fn bad_rows_are_told_apart_and_good_ones_kept() {
        let file = b"id,a\n1,x\n2\n,y\n3,\xff\n1,z\n4,x,y\n5,\n";
        let read = read(file);
        let reasons: Vec<_> = read.iter().map(|(line, text)| format!("{line} {text}")).collect();
        assert_eq!(
            reasons,
            [
                "2 1",
                "3 1 fields where the header has 2",
                "4 column \"id\" is empty, and it is the key",
                "5 column \"a\" is not UTF-8 (byte 0xff); save the file as UTF-8",
                "6 the key \"1\" is that of line 2 too",
                "7 3 fields where the header has 2",
                "8 5",
            ]
        );
    }

    #[test]
    fn an_empty_cell_is_no_field() {
        let mut rows = Rows::new(&b"id,a,b\n1,,x\n"[..], "id").expect("a header");
        let Some(Item::Row(row)) = rows.next() else { panic!("one row") };
        assert_eq!(Value::from(row.fields), serde_json::json!({ "id": "1", "a": null, "b": "x" }));
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_take_the_memory() {
        let file = b"id,a\n1,x\n2,\"y\n".chain(io::repeat(b'z').take(1 << 40));
        let mut rows = Rows::new(file, "id").expect("a header");
        assert!(matches!(rows.next(), Some(Item::Row(_))));
        let Some(Item::Fault(fault)) = rows.next() else { panic!("an endless row was taken") };
        assert_eq!(fault.line, 3);
        assert!(fault.reason.contains("is a quote not closed?"), "{fault}");
        assert!(rows.next().is_none());
    }

    #[test]
    fn headers_that_cannot_be_one_are_refused() {
        assert!(refused(b"").contains("empty"));
        assert!(refused(b"key,a\n").contains("no column is called \"id\"; the columns are key, a"));
        assert!(refused(b"id,a,a\n").contains("columns 2 and 3 are both called \"a\""));
        assert!(refused(b"id,,b\n").contains("column 2 has no name"));
        assert!(refused(b"\xff\xfei\0d\0").contains("not UTF-8"));
    }
}
