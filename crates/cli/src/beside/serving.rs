//! Listens beside a replica that is open, and carries out commands that come.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::frames::{Ask, Frame, Kind, VERSION, Version};
use super::socket::{Bound, Place};
use super::{Host, PATIENCE};
use crate::arguments::Arguments;
use crate::caller::{Facts, Guest, Line, Stream};
use crate::output::Output;

/// The socket beside a replica that is open here.
pub(crate) struct Holding {
    serving: Arc<Serving>,
    listening: JoinHandle<()>,
    bound: Bound,
}

/// What the commands of others have to do with the replica.
struct Serving {
    host: Arc<Host>,
    /// How many are carried out.
    guests: watch::Sender<usize>,
    stage: watch::Sender<Stage>,
}

/// What is left to the commands of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// All the time they take.
    Open,
    /// As long as others wait for them: the process ends. Those without an end go on elsewhere.
    Ending,
    /// Nothing.
    Over,
}

impl Holding {
    /// Listens for as long as the replica is open. Where that is not possible, other processes are
    /// refused.
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

    /// Ends: whoever comes now finds nobody, and who is here has a moment left. The file has to be open
    /// until then, as the socket is that of whoever has it.
    pub(crate) async fn end(self) {
        let Self { serving, listening, bound } = self;
        drop(bound);
        listening.abort();
        // It was aborted, and is gone by then.
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
            // Of files or threads there are none left for now.
            warn!(%error, "a command of another process could not be taken");
            sleep(AGAIN).await;
        }
    }
}

/// Carries out what comes over a connection, on a thread of its own: who asked may let it wait as long
/// as they like with what it prints and reads.
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

/// Somebody who is counted, and whose connection ends when they no longer are.
struct Present(Arc<Serving>, UnixStream);

impl Drop for Present {
    fn drop(&mut self) {
        // They may have closed it.
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
        // They say so themselves.
        return Ok(());
    }
    let Ask { arguments, replica, acts_as, terminal, .. } = serde_json::from_slice(&bytes)?;
    // It was understood there, by the same program.
    let mut arguments = Arguments::try_parse_from(arguments).map_err(io::Error::other)?;
    arguments.place.replica = replica.map(Into::into);
    arguments.place.acts_as = acts_as;

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
        // The command may be done.
        let _ = hang_up.send(());
    })?;

    let output = Output::new(arguments.json);
    let goes_on = arguments.command.goes_on();
    let mut stage = serving.stage.subscribe();
    let last = if goes_on { Stage::Ending } else { Stage::Over };
    let ended = runtime.block_on(guest.scope(async {
        tokio::select! {
            carried = arguments.carry_out(output) => Some(crate::told(carried, output)),
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

/// Takes what comes from somebody whose command is carried out, until they are gone.
fn listen(mut from: UnixStream, guest: &Guest, answers: &SyncSender<Frame>) {
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        match frame.kind {
            Kind::Closed => guest.nobody_reads.store(true, Ordering::Relaxed),
            // Who sends what it was not asked for is not this program.
            _ if answers.try_send(frame).is_err() => return,
            _ => {}
        }
    }
}

/// The connection to somebody whose command is carried out.
struct Wire {
    stream: Mutex<UnixStream>,
    answered: Mutex<Receiver<Frame>>,
}

impl Wire {
    fn send(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        // Whoever panicked with a frame half written has ended the connection.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        Frame::write(&mut *stream, kind, bytes)
    }

    fn ask(&self, kind: Kind, bytes: &[u8], wanted: Kind) -> io::Result<Vec<u8>> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(kind, bytes)?;
        // A file that ends because nobody sends more of it is not at its end.
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

/// How long commands of others have left when the process that carries them out ends.
const GRACE: Duration = Duration::from_secs(3);

/// How long they have to hear that it is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait after a connection could not be taken.
const AGAIN: Duration = Duration::from_millis(200);
