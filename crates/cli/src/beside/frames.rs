//! What goes over the socket between a command and the process that carries it out.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

use crate::caller::Terminal;
use crate::identity::Acting;

/// One message: its kind, the length of what it holds in four bytes with the highest first, and that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From who asks, first: the [`Ask`] as JSON.
    Ask,
    /// To who asks, first: the version of the program, as text.
    Version,
    /// To who asks: for its standard output.
    Output,
    /// To who asks: for its standard error.
    Error,
    /// To who asks: open the file of this path, to be read next. `-` is the standard input.
    Open,
    /// From who asks: it is open; [`Facts`](crate::caller::Facts) as JSON.
    Opened,
    /// To who asks: send more of that file.
    Read,
    /// From who asks: more of it, or nothing at its end.
    Bytes,
    /// From who asks: that failed; the system's number of the error, in four bytes.
    Failed,
    /// From who asks: nobody reads its standard output any more.
    Closed,
    /// To who asks, last: the exit code, in one byte.
    Ended,
    /// To who asks, last: who carried the command out ends, and the command goes on elsewhere.
    Over,
}

/// A command to be carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    /// [`VERSION`].
    pub(super) version: String,
    /// The command line, the name of the program included.
    pub(super) arguments: Vec<OsString>,
    /// The replica as it was named there or in the environment.
    pub(super) replica: Option<OsString>,
    /// As whom it acts by the command line or the environment.
    pub(super) acts_as: Option<Acting>,
    /// Where it was typed.
    pub(super) terminal: Terminal,
}

/// What an [`Ask`] of any version holds.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

/// The version that two processes have to share.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Frame {
    /// Reads one; `None` if the other side has closed.
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

    /// Writes one.
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
    /// In the order of their numbers.
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

/// Bytes of one frame: command lines are as long as the system lets them be, and each byte of one takes
/// up to four here.
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
