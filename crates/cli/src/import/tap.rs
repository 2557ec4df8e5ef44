//! Watches the bytes on their way to the CSV reader: which byte ended a record, whether a record is
//! too long, and which quote is open.

use std::io::{self, Read};

/// A reader whose bytes are watched. Quotes are followed just as the CSV reader follows them.
#[derive(Debug)]
pub(super) struct Tap<R> {
    inner: R,
    delimiter: u8,
    /// The bytes that were read last, and the place of the first of them in the file. The CSV reader
    /// takes no more before it is done with these, so the byte that ends a record is among them.
    chunk: Vec<u8>,
    chunk_start: u64,
    record_start: u64,
    line: u64,
    quote: Quote,
    ended: bool,
}

/// The place within a field at which the bytes that were read so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    /// At the beginning of a field, where a quote opens it.
    Start,
    /// In a field that no quote opened.
    Plain,
    /// Within a quoted field, whose quote opened on this line.
    Open(u64),
    /// Behind a second quote in such a field: it closes the field, or it is the first half of a
    /// doubled quote, which is part of the text.
    Closing(u64),
}

impl<R> Tap<R> {
    /// Watches a file whose first byte is on this line.
    pub(super) fn new(inner: R, delimiter: u8, line: u64) -> Self {
        let (chunk, quote) = (Vec::new(), Quote::Start);
        let (chunk_start, record_start) = (0, 0);
        Self { inner, delimiter, chunk, chunk_start, record_start, line, quote, ended: false }
    }

    pub(super) fn begin_record(&mut self, byte: u64) {
        self.record_start = byte;
    }

    pub(super) fn byte_before(&self, byte: u64) -> Option<u8> {
        let place = byte.checked_sub(self.chunk_start + 1)?;
        self.chunk.get(usize::try_from(place).ok()?).copied()
    }

    /// The line of a quote that is still open at the end of the file.
    pub(super) fn open_quote(&self) -> Option<u64> {
        match self.quote {
            Quote::Open(line) if self.ended => Some(line),
            _ => None,
        }
    }

    fn follow(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let ends_field = *byte == self.delimiter || matches!(byte, b'\n' | b'\r');
            self.quote = match (self.quote, byte) {
                (Quote::Start, b'"') => Quote::Open(self.line),
                (Quote::Open(line), b'"') => Quote::Closing(line),
                (Quote::Closing(line), b'"') => Quote::Open(line),
                (Quote::Open(line), _) => Quote::Open(line),
                _ if ends_field => Quote::Start,
                _ => Quote::Plain,
            };
            self.line += u64::from(*byte == b'\n');
        }
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.chunk_start + self.chunk.len() as u64;
        if end - self.record_start > ROW_BYTES_MAX {
            let mib = ROW_BYTES_MAX >> 20;
            let reason = match self.quote {
                Quote::Open(line) => {
                    format!(
                        "the row is longer than {mib} MiB; is the quote of line {line} not closed?"
                    )
                }
                _ => format!("the row is longer than {mib} MiB"),
            };
            return Err(io::Error::other(reason));
        }
        let read = self.inner.read(buffer)?;
        self.ended = read == 0 && !buffer.is_empty();
        if read > 0 {
            self.follow(&buffer[..read]);
            self.chunk_start = end;
            self.chunk.clear();
            self.chunk.extend_from_slice(&buffer[..read]);
        }
        Ok(read)
    }
}

/// Bytes of the longest row that is read. The rows of one batch are in memory at once.
const ROW_BYTES_MAX: u64 = 4 << 20;
