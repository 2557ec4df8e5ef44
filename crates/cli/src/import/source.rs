//! A file of rows as it comes: in which encoding, and what separates its columns.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use encoding_rs::Encoding;
use encoding_rs_io::DecodeReaderBytesBuilder;

/// A file whose bytes are UTF-8, as far as it is what it says.
pub(super) struct Source {
    pub(super) bytes: Box<dyn Read>,
    /// What separates the columns.
    pub(super) delimiter: u8,
    /// The number of the first line of `bytes`.
    pub(super) line: u64,
    /// Whether the bytes were taken from another encoding, in which some may have meant nothing.
    pub(super) is_decoded: bool,
    /// What was found out that its user did not say.
    pub(super) notes: Vec<String>,
}

/// What is known of a file before it is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'a> {
    pub(super) delimiter: Option<u8>,
    pub(super) encoding: Option<&'static Encoding>,
    /// The name of the column with the keys, by which the separator is known.
    pub(super) key: &'a str,
}

impl Source {
    /// Reads the beginning of a file.
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

/// The first bytes of a file, at most so many.
fn head(file: &mut Box<dyn Read>, max: usize) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(max as u64).read_to_end(&mut head).context("the file cannot be read")?;
    Ok(head)
}

/// The line `sep=;` with which spreadsheets say what separates the columns, and its length.
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

/// What separates the columns: what makes the key one of them, and otherwise what there is most of in
/// the header.
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
    // Of several alike the last is taken, and a comma is what most files have.
    DELIMITERS.into_iter().max_by_key(columns).unwrap_or(b',')
}

/// A separator as it is typed.
pub(crate) fn delimiter(text: &str) -> Result<u8> {
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
pub(crate) fn encoding(name: &str) -> Result<&'static Encoding> {
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

/// With what some programs begin a file in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes that are looked at for the header.
const HEAD_BYTES: usize = 64 << 10;
