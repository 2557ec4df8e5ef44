//! The messages between a command and the process that carries it out.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

use crate::acting::Acting;
use crate::caller::Terminal;

/// One message. It travels as one byte for its kind, four bytes for the length of its content with
/// the highest byte first, and the content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// The kinds of messages between the guest, which asks, and the host, which has the replica open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the guest, first: the [`Ask`] as JSON.
    Ask,
    /// To the guest, first: the version of the host's program, as text.
    Version,
    /// To the guest: bytes for its standard output.
    Output,
    /// To the guest: bytes for its standard error.
    Error,
    /// To the guest: it is to open the file of this path, to be read next. `-` is its standard input.
    Open,
    /// From the guest: the file is open; its [`Facts`](crate::caller::Facts) as JSON.
    Opened,
    /// To the guest: it is to send more of that file.
    Read,
    /// From the guest: more bytes of the file, and none at its end.
    Bytes,
    /// From the guest: it could not open or read the file; the system's number of the error, in four
    /// bytes.
    Failed,
    /// From the guest: its standard output was found closed.
    Closed,
    /// To the guest, last: the exit code of the command, in one byte.
    Ended,
    /// To the guest, last: the host ends, and the command has to go on elsewhere.
    Over,
}

/// A command to be carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    /// The [`VERSION`] of the program that asks.
    pub(super) version: String,
    /// The words of the command line, of which the first is the name of the program.
    pub(super) arguments: Vec<OsString>,
    /// The replica that the guest's command line or environment names.
    pub(super) replica: Option<OsString>,
    /// The user that the guest's command line or environment says the command acts as.
    pub(super) acts_as: Option<Acting>,
    /// The terminal in which the command was typed.
    pub(super) terminal: Terminal,
}

/// The part of an [`Ask`] that is the same in every version of the program.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

/// The version of this program. Two processes work together only if it is the same in both.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Frame {
    /// Reads a frame; `None` if the other side has closed the connection.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        if from.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let kind = Kind::ALL.get(usize::from(kind[0])).copied().ok_or(ErrorKind::InvalidData)?;
        let mut len = [0; 4];
        from.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        from.take(len.into()).read_to_end(&mut bytes)?;
        if bytes.len() < len as usize {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Self { kind, bytes }))
    }

    /// Writes a frame.
    pub(super) fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= BYTES_MAX);
        let len = len.ok_or(ErrorKind::InvalidInput)?;
        let mut frame = vec![kind as u8];
        frame.extend(len.to_be_bytes());
        frame.extend(bytes);
        to.write_all(&frame)
    }
}

impl Kind {
    /// Every kind, in the order of the numbers that stand for them.
    const ALL: [Self; 12] = [
        Self::Ask,
        Self::Version,
        Self::Output,
        Self::Error,
        Self::Open,
        Self::Opened,
        Self::Read,
        Self::Bytes,
        Self::Failed,
        Self::Closed,
        Self::Ended,
        Self::Over,
    ];
}

/// Bytes of the longest frame. A command line is as long as the system allows, and each byte of one
/// takes up to four in JSON.
const BYTES_MAX: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut line = Vec::new();
        for kind in Kind::ALL {
            Frame::write(&mut line, kind, b"jobs").expect("room");
        }
        let mut line = line.as_slice();
        for kind in Kind::ALL {
            let read = Frame::read(&mut line).expect("a frame");
            assert_eq!(read, Some(Frame { kind, bytes: b"jobs".to_vec() }));
        }
        assert_eq!(Frame::read(&mut line).expect("the end"), None);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for wrong in [&[99, 0, 0, 0, 0][..], &[0, 0xff, 0, 0, 0], &[0, 0, 0, 0, 2, 1], &[0, 0]] {
            assert!(Frame::read(&mut &*wrong).is_err(), "{wrong:?}");
        }
    }
}
