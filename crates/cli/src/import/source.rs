//! The bytes of a CSV file, with its encoding and its separator found out.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use encoding_rs::Encoding;
use encoding_rs_io::DecodeReaderBytesBuilder;

use crate::csv_marks::BOM;

/// A file whose bytes are UTF-8, unless its user was wrong about the encoding.
pub(super) struct Source {
    pub(super) bytes: Box<dyn Read>,
    /// The character that separates the columns.
    pub(super) delimiter: u8,
    /// The number of the first line of `bytes`.
    pub(super) line: u64,
    /// Whether the bytes were decoded from another encoding, in which some of them may have had no
    /// meaning.
    pub(super) is_decoded: bool,
    /// Findings about the file that its user did not give on the command line.
    pub(super) notes: Vec<String>,
}

/// The facts about a file that its user gives on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'a> {
    pub(super) delimiter: Option<u8>,
    pub(super) encoding: Option<&'static Encoding>,
    /// The name of the column with the keys, by which the separator can be recognized.
    pub(super) key: &'a str,
}

impl Source {
    /// Reads the beginning of a file, and finds out its encoding and its separator.
    pub(super) fn new(file: impl Read + 'static, said: Said<'_>) -> Result<Self> {
        let mut notes = Vec::new();
        let mut raw = Box::new(file) as Box<dyn Read>;
        let start = head(&mut raw, 2)?;
        let utf16 = matches!(start[..], [0xff, 0xfe] | [0xfe, 0xff]);
        let decoded = DecodeReaderBytesBuilder::new()
            .encoding(said.encoding)
            .utf8_passthru(said.encoding.is_none())
            .bom_sniffing(true)
            .build(io::Cursor::new(start).chain(raw));
        if utf16 && said.encoding.is_none() {
            notes.push("the file is in UTF-16, by its first bytes".to_owned());
        }
        let mut bytes = Box::new(decoded) as Box<dyn Read>;
        let mut start = head(&mut bytes, HEAD_BYTES)?;
        if start.starts_with(BOM) {
            start.drain(..BOM.len());
        }
        let mut line = 1;
        let mut named = None;
        if let Some((delimiter, len)) = separator_line(&start) {
            start.drain(..len);
            (line, named) = (2, Some(delimiter));
        }
        let delimiter = match said.delimiter.or(named) {
            Some(delimiter) => delimiter,
            None => sniffed(&start, said.key),
        };
        if said.delimiter.is_none() && delimiter != b',' {
            let name = name(delimiter);
            notes.push(format!("its columns are separated by {name}; --delimiter says otherwise"));
        }
        let is_decoded = utf16 || said.encoding.is_some();
        let bytes = Box::new(io::Cursor::new(start).chain(bytes));
        Ok(Self { bytes, delimiter, line, is_decoded, notes })
    }
}

/// The first bytes of a file: `max` of them, or all if there are fewer.
fn head(file: &mut Box<dyn Read>, max: usize) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(max as u64).read_to_end(&mut head).context("the file cannot be read")?;
    Ok(head)
}

/// The separator in a first line `sep=;`, with which spreadsheets name it, and the length of that
/// line.
fn separator_line(start: &[u8]) -> Option<(u8, usize)> {
    let line = start.split_inclusive(|byte| *byte == b'\n').next()?;
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let (says, delimiter) = text.split_at_checked(4)?;
    match delimiter {
        [delimiter] if says.eq_ignore_ascii_case(b"sep=") => Some((*delimiter, line.len())),
        _ => None,
    }
}

/// The separator by which the key is the name of a column. If several or none are left, the one that
/// makes the most columns of the header.
fn sniffed(start: &[u8], key: &str) -> u8 {
    let columns = |delimiter: &u8| {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(*delimiter)
            .from_reader(start);
        let mut header = csv::ByteRecord::new();
        let is_read = reader.read_byte_record(&mut header).unwrap_or(false);
        let has_key = header.iter().any(|column| column == key.as_bytes());
        (is_read && has_key, header.len())
    };
    // Of equal separators the last one wins, which is the comma, as most files have it.
    DELIMITERS.into_iter().max_by_key(columns).unwrap_or(b',')
}

/// A separator as it is typed.
pub(super) fn delimiter(text: &str) -> Result<u8> {
    match text {
        "comma" => Ok(b','),
        "semicolon" => Ok(b';'),
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
            _ => bail!("{text:?} is not one character; write , or ; or tab"),
        },
    }
}

/// An encoding by its name.
pub(super) fn encoding(name: &str) -> Result<&'static Encoding> {
    let known = Encoding::for_label(name.as_bytes());
    known.with_context(|| {
        format!(
            "no encoding is called {name:?}; write windows-1252, iso-8859-15, utf-16le or utf-8"
        )
    })
}

fn name(delimiter: u8) -> String {
    match delimiter {
        b';' => "semicolons".to_owned(),
        b'\t' => "tabs".to_owned(),
        other => format!("{:?}", char::from(other)),
    }
}

const DELIMITERS: [u8; 4] = [b'|', b'\t', b';', b','];

/// Bytes from the beginning of a file in which the header is looked for.
const HEAD_BYTES: usize = 64 << 10;
