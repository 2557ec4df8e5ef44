//! Listens beside a replica that is open, and carries out the commands of guests: of other processes
//! that ask for it.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::frames::{Ask, Frame, Kind, VERSION, Version};
use super::socket::{Bound, Place};
use super::{GuestCommand, PATIENCE, ReadGuest};
use crate::caller::{Facts, Guest, Line, Stream};
use crate::host::Host;

/// The function that reads the command line of a guest.
static READ: OnceLock<ReadGuest> = OnceLock::new();

/// Sets the function that reads the command lines of guests, before any replica is opened.
pub(crate) fn serve_with(read: ReadGuest) {
    // A program has one such function, so a second call changes nothing.
    let _ = READ.set(read);
}

/// The socket beside a replica that is open here.
pub(crate) struct Holding {
    serving: Arc<Serving>,
    listening: JoinHandle<()>,
    bound: Bound,
}

/// The replica that the commands of guests share, and how far the process is with its end.
struct Serving {
    host: Arc<Host>,
    /// How many commands of guests are being carried out.
    guests: watch::Sender<usize>,
    stage: watch::Sender<Stage>,
}

/// How much time the commands of guests have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// They have all the time they take.
    Open,
    /// The process ends as soon as they are done. Commands that go on until they are interrupted stop
    /// now, and go on elsewhere.
    Ending,
    /// They have no time left.
    Over,
}

impl Holding {
    /// Listens for as long as the replica is open. If that is not possible, the commands of other
    /// processes about this replica are refused.
    pub(crate) fn listen(host: Arc<Host>, file: &Path) -> Option<Self> {
        let listener = Place::beside(file).and_then(Place::listen);
        let listener =
            listener.and_then(|(listener, bound)| Ok((UnixListener::from_std(listener)?, bound)));
        let (listener, bound) = match listener {
            Ok(listener) => listener,
            Err(error) => {
                let file = file.display();
                warn!(%error, "no other command can use {file} while it is open here");
                return None;
            }
        };
        let (guests, stage) = (watch::Sender::new(0), watch::Sender::new(Stage::Open));
        let serving = Arc::new(Serving { host, guests, stage });
        let listening = tokio::spawn(accept(listener, Arc::clone(&serving)));
        Some(Self { serving, listening, bound })
    }

    /// Stops listening, so that a new command finds no process here, and gives those that are being
    /// carried out a moment to end. The replica's file has to be open until then, as the socket
    /// belongs to the process that has the file open.
    pub(crate) async fn end(self) {
        let Self { serving, listening, bound } = self;
        drop(bound);
        listening.abort();
        // The task was aborted, so this waits only until it is gone.
        let _ = listening.await;
        for (stage, wait) in [(Stage::Ending, GRACE), (Stage::Over, LAST_WORDS)] {
            serving.stage.send_replace(stage);
            let mut guests = serving.guests.subscribe();
            let left = timeout(wait, guests.wait_for(|guests| *guests == 0));
            if left.await.is_ok() {
                break;
            }
        }
    }
}

async fn accept(listener: UnixListener, serving: Arc<Serving>) {
    let runtime = Handle::current();
    loop {
        let attended = match listener.accept().await {
            Ok((stream, _)) => attend(stream, &serving, &runtime),
            Err(error) => Err(error),
        };
        if let Err(error) = attended {
            // The system has no more files or threads to give for now.
            warn!(%error, "a command of another process could not be taken");
            sleep(AGAIN).await;
        }
    }
}

/// Carries out the command that comes over a connection, on a thread of its own: a guest may take any
/// time to read what the command prints, or to send a file.
fn attend(
    stream: tokio::net::UnixStream,
    serving: &Arc<Serving>,
    runtime: &Handle,
) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    serving.guests.send_modify(|guests| *guests += 1);
    let present = Present(Arc::clone(serving), stream.try_clone()?);
    let runtime = runtime.clone();
    thread::Builder::new().name("rejoin-guest".to_owned()).spawn(move || {
        if let Err(error) = carry_out(stream, &present.0, &runtime) {
            debug!(%error, "whoever asked for a command is gone");
        }
    })?;
    Ok(())
}

/// A guest who is counted as present. When this is dropped the connection ends.
struct Present(Arc<Serving>, UnixStream);

impl Drop for Present {
    fn drop(&mut self) {
        // The guest may have closed it already.
        let _ = self.1.shutdown(Shutdown::Both);
        self.0.guests.send_modify(|guests| *guests -= 1);
    }
}

fn carry_out(mut stream: UnixStream, serving: &Serving, runtime: &Handle) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let Some(Frame { kind: Kind::Ask, bytes }) = Frame::read(&mut stream)? else {
        return Err(ErrorKind::InvalidData.into());
    };
    stream.set_read_timeout(None)?;
    Frame::write(&mut stream, Kind::Version, VERSION.as_bytes())?;
    if serde_json::from_slice::<Version>(&bytes)?.version != VERSION {
        // The guest sees from the version that it asked another program, and says so itself.
        return Ok(());
    }
    let Ask { arguments, replica, acts_as, terminal, .. } = serde_json::from_slice(&bytes)?;
    let read = READ.get().ok_or(ErrorKind::Unsupported)?;
    // The same program understood this command line where it was typed.
    let command = read(arguments, replica.map(Into::into), acts_as).map_err(io::Error::other)?;
    let GuestCommand { goes_on, ending } = command;

    let (answers, answered) = sync_channel(1);
    let (hang_up, hung_up) = oneshot::channel();
    let wire = Wire { stream: Mutex::new(stream.try_clone()?), answered: Mutex::new(answered) };
    let guest = Arc::new(Guest {
        terminal,
        host: Arc::clone(&serving.host),
        line: Box::new(wire),
        nobody_reads: AtomicBool::new(false),
    });
    let from = stream.try_clone()?;
    let listener = Arc::clone(&guest);
    thread::Builder::new().name("rejoin-guest-in".to_owned()).spawn(move || {
        listen(from, &listener, &answers);
        // If the command is done, nobody waits for this any more.
        let _ = hang_up.send(());
    })?;

    let mut stage = serving.stage.subscribe();
    let last = if goes_on { Stage::Ending } else { Stage::Over };
    let ended = runtime.block_on(guest.scope(async {
        tokio::select! {
            code = ending => Some(code),
            _ = hung_up => None,
            _ = stage.wait_for(|stage| *stage >= last) => None,
        }
    }));
    match ended {
        Some(code) => {
            Frame::write(&mut stream, Kind::Ended, &[u8::from(code != ExitCode::SUCCESS)])
        }
        None if goes_on => Frame::write(&mut stream, Kind::Over, &[]),
        None => Ok(()),
    }
}

/// Takes the frames of a guest whose command is carried out, until the connection ends.
fn listen(mut from: UnixStream, guest: &Guest, answers: &SyncSender<Frame>) {
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        match frame.kind {
            Kind::Closed => guest.nobody_reads.store(true, Ordering::Relaxed),
            // A guest sends one frame for each that it is asked for. One that sends more is not this
            // program.
            _ if answers.try_send(frame).is_err() => return,
            _ => {}
        }
    }
}

/// The connection to a guest whose command is carried out.
struct Wire {
    stream: Mutex<UnixStream>,
    answered: Mutex<Receiver<Frame>>,
}

impl Wire {
    fn send(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        // A thread that panicked with a frame half written has ended the connection.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        Frame::write(&mut *stream, kind, bytes)
    }

    fn ask(&self, kind: Kind, bytes: &[u8], wanted: Kind) -> io::Result<Vec<u8>> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(kind, bytes)?;
        // A guest who goes before the end of a file has not sent all of it.
        let frame = answered.recv().map_err(|_| ErrorKind::UnexpectedEof)?;
        match (frame.kind, <[u8; 4]>::try_from(frame.bytes.as_slice())) {
            (kind, _) if kind == wanted => Ok(frame.bytes),
            (Kind::Failed, Ok(number)) => {
                Err(io::Error::from_raw_os_error(i32::from_be_bytes(number)))
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

impl Line for Wire {
    fn print(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let kind = match stream {
            Stream::Output => Kind::Output,
            Stream::Error => Kind::Error,
        };
        self.send(kind, bytes)
    }

    fn open(&self, path: &Path) -> io::Result<Facts> {
        let facts = self.ask(Kind::Open, path.as_os_str().as_bytes(), Kind::Opened)?;
        Ok(serde_json::from_slice(&facts)?)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        self.ask(Kind::Read, &[], Kind::Bytes)
    }
}

/// How long the commands of guests have to end by themselves when this process ends.
const GRACE: Duration = Duration::from_secs(3);

/// How long there is to tell the guests that it is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait before the next connection after one could not be taken.
const AGAIN: Duration = Duration::from_millis(200);
