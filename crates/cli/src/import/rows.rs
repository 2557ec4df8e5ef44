//! The rows of a CSV file, one at a time, each with the number of the line it starts on.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use anyhow::{Context, Result, bail};
use csv::{ByteRecord, Reader, ReaderBuilder};
use rejoin::import::{Cell, RowKey};
use rejoin::value::exact_json;
use rejoin::view::spreadsheet_safe;
use serde::Serialize;

use super::header::{Column, Header, Rename};
use super::source::Source;
use super::tap::Tap;
use crate::csv_marks::KEY;
use crate::local::is_id;

/// One row of a file, or the fault that keeps it from being taken.
#[derive(Debug)]
pub(super) enum Item {
    Row(Line),
    Fault(Fault),
}

/// One row, about one document.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) line: u64,
    pub(super) key: RowKey,
    pub(super) cells: Vec<(String, Cell)>,
    pub(super) bytes: usize,
}

/// A row that is not taken: its line, and the reason.
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

/// Reads the rows of a file. Of the rows that were read it keeps a hash of the key, to notice a key
/// that comes twice.
pub(super) struct Rows {
    reader: Reader<Tap<Box<dyn Read>>>,
    header: Header,
    keys: Keys,
    record: ByteRecord,
    /// How many lines of the file come before the first that the reader sees.
    before: u64,
    is_decoded: bool,
    /// Whether the rest of the file cannot be read.
    ended: bool,
}

impl Rows {
    /// Reads the header of a file.
    pub(super) fn new(source: Source, key: &str, renames: &[Rename]) -> Result<Self> {
        let Source { bytes, delimiter, line, is_decoded, notes: _ } = source;
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .delimiter(delimiter)
            .buffer_capacity(64 << 10)
            .from_reader(Tap::new(bytes, delimiter, line));
        let mut record = ByteRecord::new();
        let is_read = reader.read_byte_record(&mut record);
        if !is_read.with_context(|| format!("line {line}: the header cannot be read"))? {
            bail!("line {line}: the file is empty; its first line must name the columns");
        }
        if let Some(line) = reader.get_ref().open_quote() {
            bail!("line {line}: {OPEN_QUOTE}");
        }
        let header = Header::new(&record, key, renames, line)?;
        if is_decoded && header.names.iter().any(|name| name.contains(char::REPLACEMENT_CHARACTER))
        {
            bail!(
                "line {line}: the name of a column has bytes that mean nothing in this encoding; give \
                 the right one with --encoding"
            );
        }
        if let Some(name) = header.names.iter().find(|name| is_guarded(name)) {
            bail!(
                "line {line}: column {name:?} has the ' with which `export --for-spreadsheets` guards \
                 it; import what `export --format csv` writes"
            );
        }
        let (keys, before) = (Keys::default(), line - 1);
        Ok(Self { reader, header, keys, record, before, is_decoded, ended: false })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn next(&mut self) -> Option<Item> {
        if self.ended {
            return None;
        }
        let start = self.reader.position().byte();
        let line_before = self.reader.position().line() + self.before;
        self.reader.get_mut().begin_record(start);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                if let Some(line) = self.reader.get_ref().open_quote() {
                    // Everything behind the quote is one cell, which cannot be what the author meant.
                    self.ended = true;
                    return Some(Item::Fault(Fault { line, reason: OPEN_QUOTE.to_owned() }));
                }
                Some(self.row(self.line()).map_or_else(Item::Fault, Item::Row))
            }
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

    /// The line on which the record starts: the line of the reader, less the lines within the record.
    /// (The csv crate gives the position of a record as that before any blank lines, and one line too
    /// early in a file whose lines end in CR LF.)
    fn line(&self) -> u64 {
        let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let position = self.reader.position();
        let ended = self.reader.get_ref().byte_before(position.byte()) == Some(b'\n');
        position.line() + self.before - within - u64::from(ended)
    }

    fn row(&mut self, line: u64) -> Result<Line, Fault> {
        let wrong = |reason: String| Fault { line, reason };
        let (found, expected) = (self.record.len(), self.header.columns.len());
        if found != expected {
            return Err(wrong(format!("{found} fields where the header has {expected}")));
        }
        let mut cells = Vec::with_capacity(expected);
        let mut key = "";
        for (number, cell) in self.record.iter().enumerate() {
            let name = &self.header.names[number];
            let text = str::from_utf8(cell).map_err(|error| {
                let byte = cell[error.valid_up_to()];
                wrong(format!(
                    "column {name:?} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8, or give \
                     --encoding windows-1252 if it comes from an older spreadsheet"
                ))
            })?;
            if self.is_decoded && text.contains(char::REPLACEMENT_CHARACTER) {
                return Err(wrong(format!(
                    "column {name:?} has bytes that mean nothing in this encoding; give the right one \
                     with --encoding"
                )));
            }
            if number == self.header.key {
                key = text;
            }
            let (field, cell) = match &self.header.columns[number] {
                Column::Aside => continue,
                Column::Text(field) | Column::Json(field) if text.is_empty() => {
                    (field, Cell::Empty)
                }
                Column::Text(field) => (field, Cell::Text(text.to_owned())),
                Column::Json(field) => match exact_json(text) {
                    Ok(value) => (field, Cell::Json(value)),
                    Err(error) => return Err(wrong(format!("column {name:?}: {error}"))),
                },
            };
            cells.push((field.clone(), cell));
        }
        let column = &self.header.names[self.header.key];
        if key.is_empty() {
            return Err(wrong(format!("column {column:?} is empty, and it is the key")));
        }
        if is_guarded(key) {
            // With the quote this key would name another document.
            return Err(wrong(format!(
                "the key {key:?} has the ' with which `export --for-spreadsheets` guards it; import \
                 what `export --format csv` writes"
            )));
        }
        if let Some(earlier) = self.keys.insert(key, line) {
            return Err(wrong(format!("the key {key:?} is that of line {earlier} too")));
        }
        let key = match column == KEY && is_id(key) {
            true => RowKey::Id(key.parse().map_err(|_| wrong(format!("{key:?} is no id")))?),
            false => RowKey::Natural(key.to_owned()),
        };
        Ok(Line { line, key, bytes: self.record.as_slice().len(), cells })
    }
}

/// Whether a text is a formula with the quote in front of it that [`spreadsheet_safe`] adds.
fn is_guarded(text: &str) -> bool {
    text.strip_prefix('\'').is_some_and(|inner| spreadsheet_safe(inner) == text)
}

const OPEN_QUOTE: &str = "a quote opens here and is never closed, so nothing from here on is taken; \
                          close it, or write it twice where it is meant";

/// The keys of rows that were read, as hashes of 128 bits: a file of any length costs a few bytes a
/// row, and no two keys will ever have the same hash.
#[derive(Default)]
struct Keys {
    lines: HashMap<(u64, u64), u64>,
    hashers: (RandomState, RandomState),
}

impl Keys {
    /// Remembers the line of a key. If the key was on an earlier line, gives that line.
    fn insert(&mut self, key: &str, line: u64) -> Option<u64> {
        let hash = (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key));
        let earlier = *self.lines.entry(hash).or_insert(line);
        (earlier != line).then_some(earlier)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::json;

    use super::super::source::Said;
    use super::*;

    fn rows(file: impl Read + 'static, said: Said<'_>) -> Result<Rows> {
        Rows::new(Source::new(file, said)?, said.key, &[])
    }

    fn of_id(file: &[u8]) -> Rows {
        let said = Said { key: "id", ..Said::default() };
        rows(io::Cursor::new(file.to_vec()), said).expect("a header with the column id")
    }

    fn rest(rows: &mut Rows) -> Vec<(u64, String)> {
        let items = std::iter::from_fn(|| rows.next()).map(|item| match item {
            Item::Row(Line { line, key: RowKey::Natural(key), .. }) => (line, key),
            Item::Row(Line { line, key: RowKey::Id(id), .. }) => (line, id.to_string()),
            Item::Fault(fault) => (fault.line, fault.reason),
        });
        items.collect()
    }

    /// The line of each row with its key, or with the reason why it is not taken.
    fn read(file: &[u8]) -> Vec<(u64, String)> {
        rest(&mut of_id(file))
    }

    fn lines(file: &[u8]) -> Vec<u64> {
        read(file).into_iter().map(|(line, _)| line).collect()
    }

    fn cells(rows: &mut Rows) -> Vec<(String, Cell)> {
        match rows.next() {
            Some(Item::Row(line)) => line.cells,
            other => panic!("no row: {other:?}"),
        }
    }

    fn text(field: &str, text: &str) -> (String, Cell) {
        (field.to_owned(), Cell::Text(text.to_owned()))
    }

    fn refused(file: &[u8]) -> String {
        let said = Said { key: "id", ..Said::default() };
        let refused = rows(io::Cursor::new(file.to_vec()), said).err();
        refused.map(|error| error.to_string()).expect("not a header")
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
                "5 column \"a\" is not UTF-8 (byte 0xff); save the file as UTF-8, or give \
                 --encoding windows-1252 if it comes from an older spreadsheet",
                "6 the key \"1\" is that of line 2 too",
                "7 3 fields where the header has 2",
                "8 5",
            ]
        );
    }

    #[test]
    fn cells_are_text_unless_their_column_says_json() {
        let mut rows = of_id(b"id,a,b,n:json,l:json,_disputed\n1,,x,5,\"[1,\"\"y\"\"]\",b\n");
        let expected = [
            text("id", "1"),
            ("a".to_owned(), Cell::Empty),
            text("b", "x"),
            ("n".to_owned(), Cell::Json(json!(5))),
            ("l".to_owned(), Cell::Json(json!([1, "y"]))),
        ];
        assert_eq!(cells(&mut rows), expected);
        assert_eq!(rows.header().left_out(), Some("_disputed"));
        let read = read(b"id,n:json\n1,five\n2,12345678901234567890123\n3,3\n");
        assert!(read[0].1.contains("not JSON") && read[1].1.contains("more digits"), "{read:?}");
        assert_eq!(read[2], (4, "3".to_owned()));
    }

    #[test]
    fn a_quote_that_is_not_closed_is_told_where_it_opened() {
        let read = read(b"id,a\n1,x\n2,\"y\ny\"\n3,\"z\n4,w\n5,v\n");
        assert_eq!(read[..2], [(2, "1".to_owned()), (3, "2".to_owned())]);
        let [(5, reason)] = &read[2..] else { panic!("{read:?}") };
        assert!(reason.contains("never closed"), "{reason}");
        // Doubled quotes within a quoted cell, and quotes within a cell that none opened, open
        // nothing.
        assert_eq!(lines(b"id,a\n1,\"x\"\"\"\n2,y\"y\n3,\"\"\"z\"\n"), [2, 3, 4]);
        assert!(refused(b"id,\"a\n1,x\n").contains("line 1: a quote opens here"));
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_take_the_memory() {
        let file = b"id,a\n1,x\n2,\"y\n".chain(io::repeat(b'z').take(1 << 40));
        let said = Said { key: "id", ..Said::default() };
        let mut rows = rows(file, said).expect("a header");
        assert!(matches!(rows.next(), Some(Item::Row(_))));
        let Some(Item::Fault(fault)) = rows.next() else { panic!("an endless row was taken") };
        assert_eq!(fault.line, 3);
        assert!(fault.reason.contains("is the quote of line 3 not closed?"), "{fault}");
        assert!(rows.next().is_none());
    }

    #[test]
    fn what_separates_columns_is_found_out() {
        for file in ["id;a\n1;x,y\n", "sep=;\r\nid;a\r\n1;x,y\r\n", "\u{feff}sep=;\nid;a\n1;x,y\n"]
        {
            let mut rows = of_id(file.as_bytes());
            assert_eq!(cells(&mut rows), [text("id", "1"), text("a", "x,y")], "{file:?}");
        }
        assert_eq!(
            read(b"sep=;\nid;a\n1;x\n2;y;z\n")[1],
            (4, "3 fields where the header has 2".into())
        );
        assert_eq!(cells(&mut of_id(b"id\ta,b\n1\tx\n")), [text("id", "1"), text("a,b", "x")]);
        // Only with a comma as the separator is there a column with the name of the key.
        assert_eq!(cells(&mut of_id(b"id,a;b;c\n1,x\n")), [text("id", "1"), text("a;b;c", "x")]);
        let said = Said { key: "id", delimiter: Some(b'/'), ..Said::default() };
        let mut other = rows(&b"id/a\n1/x\n"[..], said).expect("a header");
        assert_eq!(cells(&mut other), [text("id", "1"), text("a", "x")]);
    }

    #[test]
    fn files_in_other_encodings_are_taken() {
        let windows = Some(encoding_rs::WINDOWS_1252);
        let said = Said { key: "id", encoding: windows, ..Said::default() };
        let mut older = rows(&b"id;Stra\xdfe\n1;caf\xe9 \x80\n"[..], said).expect("a header");
        assert_eq!(cells(&mut older), [text("id", "1"), text("Stra\u{df}e", "caf\u{e9} \u{20ac}")]);
        let utf16: Vec<u8> =
            "\u{feff}id\ta\n1\t\u{e9}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(cells(&mut of_id(&utf16)), [text("id", "1"), text("a", "\u{e9}")]);
        let said = Said { key: "id", encoding: Some(encoding_rs::EUC_KR), ..Said::default() };
        let mut wrong = rows(&b"id,a\n1,\xff\xff\n"[..], said).expect("a header");
        let Some(Item::Fault(fault)) = wrong.next() else { panic!("bytes that mean nothing") };
        assert!(fault.reason.contains("mean nothing in this encoding"), "{fault}");
    }

    #[test]
    fn a_key_that_was_guarded_for_spreadsheets_makes_no_other_document() {
        let read = read(b"id,a\n'=1,x\n-5,y\n'tis,z\n");
        assert!(read[0].1.contains("--for-spreadsheets"), "{read:?}");
        assert_eq!(read[1..], [(3, "-5".to_owned()), (4, "'tis".to_owned())]);
    }

    #[test]
    fn columns_get_other_names() {
        let renames = ["deleted=is_deleted".parse().expect("a renaming")];
        let said = Said { key: "id", ..Said::default() };
        let source = Source::new(&b"id,deleted\n1,x\n"[..], said).expect("a file");
        let mut rows = Rows::new(source, "id", &renames).expect("a header");
        assert_eq!(cells(&mut rows), [text("id", "1"), text("is_deleted", "x")]);
        let refused = refused(b"id,deleted\n1,x\n");
        assert!(refused.contains("--rename deleted=is_deleted"), "{refused}");
    }

    #[test]
    fn headers_that_cannot_be_one_are_refused() {
        assert!(refused(b"").contains("empty"));
        assert!(refused(b"key,a\n").contains("no column is called \"id\"; the columns are key, a"));
        assert!(refused(b"id,a,a\n").contains("columns 2 and 3 are both called \"a\""));
        assert!(refused(b"id,a,a:json\n").contains("both the field a"));
        assert!(refused(b"id,,b\n").contains("column 2 has no name"));
        assert!(refused(b"id,\xe9\n").contains("--encoding windows-1252"));
    }
}
