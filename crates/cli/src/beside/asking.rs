//! Asks the process that has a replica open to carry a command out, and prints and reads as that
//! process says.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::frames::{Ask, Frame, Kind, VERSION};
use super::socket::Place;
use super::{Answer, Asked, PATIENCE};
use crate::caller::{Input, Terminal};

/// Has a command carried out by the process that listens beside the replica's file.
pub(super) async fn ask(file: &Path, asked: &Asked<'_>) -> Result<Answer> {
    let Ok(place) = Place::beside(file) else { return Ok(Answer::Nobody) };
    let stream = match tokio::net::UnixStream::connect(place.path()).await {
        Ok(stream) => stream,
        // The queue of commands that wait for that process is full.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            bail!(Holder::unknown(file).silent())
        }
        // The socket was left behind by a process that was killed, or there is none.
        Err(_) => return Ok(Answer::Nobody),
    };
    let id = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let holder = Holder { file, id };
    match Asking::begin(stream, &holder, asked)? {
        Some(mut asking) => asking.obey(&holder, asked),
        None => Ok(Answer::Nobody),
    }
}

/// The process that has the replica open.
struct Holder<'a> {
    file: &'a Path,
    id: Option<i32>,
}

impl<'a> Holder<'a> {
    fn unknown(file: &'a Path) -> Self {
        Self { file, id: None }
    }

    fn process(&self) -> String {
        self.id.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
    }

    fn silent(&self) -> String {
        let (file, process) = (self.file.display(), self.process());
        let again = self.id.map(|id| format!(" (`kill -CONT {id}`)")).unwrap_or_default();
        format!(
            "{file} is open in {process}, which does not answer; let it go on if it was \
             suspended{again}, or end it"
        )
    }

    fn of_another_version(&self, version: &str) -> String {
        let (file, process) = (self.file.display(), self.process());
        format!(
            "{file} is open in {process}, which runs rejoin {version}, and this is {VERSION}; end \
             {process} and start it again with the program of now"
        )
    }

    fn gone(&self, asked: &Asked<'_>) -> String {
        let (file, process) = (self.file.display(), self.process());
        let done = match asked.edits {
            true => {
                "whether it was done is not known: look with `rejoin get`, `list` or `history`, and \
                 give the command again if not"
            }
            false => "nothing was changed by it: give the command again",
        };
        format!("{process}, which had {file} open, ended while it carried this out; {done}")
    }
}

/// A command that another process carries out.
struct Asking {
    stream: UnixStream,
    /// The file that the other process reads from here.
    input: Option<Input>,
    /// Whether standard output was found closed.
    is_closed: bool,
}

impl Asking {
    /// Sends the command. `None` if the other side ends before it has begun.
    fn begin(
        mut stream: UnixStream,
        holder: &Holder<'_>,
        asked: &Asked<'_>,
    ) -> Result<Option<Self>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let ask = Ask {
            version: VERSION.to_owned(),
            arguments: std::env::args_os().collect(),
            replica: asked.place.replica.clone().map(Into::into),
            acts_as: asked.place.acts_as.clone(),
            terminal: Terminal::current(),
        };
        let ask = serde_json::to_vec(&ask)?;
        let sent = Frame::write(&mut stream, Kind::Ask, &ask);
        let version = match sent.and_then(|()| Frame::read(&mut stream)) {
            Ok(Some(Frame { kind: Kind::Version, bytes })) => bytes,
            Ok(Some(_)) => bail!(holder.of_another_version("of another version")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!(holder.silent())
            }
            Ok(None) | Err(_) => return Ok(None),
        };
        let version = String::from_utf8_lossy(&version);
        if version != VERSION {
            bail!(holder.of_another_version(&version));
        }
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(Some(Self { stream, input: None, is_closed: false }))
    }

    /// Prints and reads as the other process says, until the command is over.
    fn obey(&mut self, holder: &Holder<'_>, asked: &Asked<'_>) -> Result<Answer> {
        loop {
            let frame = match Frame::read(&mut self.stream) {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(_) if asked.goes_on => return Ok(Answer::Over),
                Ok(None) | Err(_) => bail!(holder.gone(asked)),
            };
            match frame.kind {
                Kind::Output => self.print(&frame.bytes)?,
                Kind::Error => {
                    // Standard error may be closed, which is no reason to end.
                    let _ = io::stderr().write_all(&frame.bytes);
                }
                Kind::Open => {
                    let opened = Input::open_here(Path::new(OsStr::from_bytes(&frame.bytes)));
                    let facts = opened.map(|input| self.input.insert(input).facts);
                    let facts = facts.map(|facts| serde_json::to_vec(&facts).unwrap_or_default());
                    self.answer(Kind::Opened, facts);
                }
                Kind::Read => {
                    let read = self.read();
                    self.answer(Kind::Bytes, read);
                }
                Kind::Ended => {
                    let code = frame.bytes.first().copied().unwrap_or(1);
                    return Ok(Answer::Ended(ExitCode::from(code)));
                }
                Kind::Over => return Ok(Answer::Over),
                _ => bail!(holder.of_another_version("of another version")),
            }
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                // The other process decides whether a command goes on that nobody reads.
                self.is_closed = true;
                self.answer(Kind::Closed, Ok(Vec::new()));
                Ok(())
            }
            printed => printed.context("the output cannot be written"),
        }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let input = self.input.as_mut().ok_or(ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; CHUNK_BYTES];
        let read = input.bytes.read(&mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Sends an answer, or the error in its place. If the other side is gone, the next read from it
    /// shows that.
    fn answer(&mut self, kind: Kind, answer: io::Result<Vec<u8>>) {
        let _ = match answer {
            Ok(bytes) => Frame::write(&mut self.stream, kind, &bytes),
            Err(error) => {
                let number = error.raw_os_error().unwrap_or_default();
                Frame::write(&mut self.stream, Kind::Failed, &number.to_be_bytes())
            }
        };
    }
}

/// Bytes of a file in one frame.
const CHUNK_BYTES: usize = 64 << 10;
