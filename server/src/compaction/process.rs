//! Runs a worker as a child process with a time limit.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::worker::{read_answer, read_changes, write_document, write_question};
use super::{Compacted, CompactionError};
use crate::store::{FoldError, FoldInput};

/// A command that starts a worker: it runs
/// [`compact_worker_process`](super::compact_worker_process).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProcess {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// After which a worker is killed.
    pub time_limit: Duration,
}

impl WorkerProcess {
    /// Folds one document and waits for it, unless `is_cancelled`.
    ///
    /// # Errors
    /// The worker was not started, failed, took too long, or is not wanted any more. It is gone by
    /// then.
    pub fn run(
        &self,
        input: FoldInput,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Compacted, CompactionError> {
        let question = move |output: &mut Stdin| write_question(&input, output);
        self.ask(question, read_answer, is_cancelled)
    }

    /// Takes a document chunk apart into its changes, dependencies first, and waits for it, unless
    /// `is_cancelled`.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn take_apart(
        &self,
        document: Arc<[u8]>,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, CompactionError> {
        let question = move |output: &mut Stdin| Ok(write_document(&document, output)?);
        self.ask(question, read_changes, is_cancelled)
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Stdin) -> Result<(), FoldError> + Send + 'static,
        read_answer: fn(BufReader<ChildStdout>) -> io::Result<T>,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<T, CompactionError> {
        let mut child = self.start()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompactionError::Answer(io::ErrorKind::BrokenPipe.into()));
        };
        let (done, outcome) = mpsc::sync_channel(1);
        // Reading and writing have no deadline, but end when the child does.
        let talk = thread::spawn(move || {
            let asked = question(&mut BufWriter::new(stdin));
            let answer = read_answer(BufReader::new(stdout));
            let mut message = String::new();
            let read = stderr.take(MESSAGE_BYTES_MAX).read_to_string(&mut message);
            let message = read.map(|_| message).unwrap_or_default();
            let _ = done.send(Talk { asked, answer, message });
        });
        let talked = self.wait(&outcome, is_cancelled);
        // In time or not, it has nothing left to do.
        let _ = child.kill();
        let status = child.wait();
        let _ = talk.join();
        talked?.result(&status.map_or_else(|error| error.to_string(), |status| status.to_string()))
    }

    fn wait<T>(
        &self,
        outcome: &Receiver<Talk<T>>,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Talk<T>, CompactionError> {
        let deadline = Instant::now() + self.time_limit;
        loop {
            match outcome.recv_timeout(CANCEL_CHECK) {
                Ok(talk) => return Ok(talk),
                Err(_) if is_cancelled() => return Err(CompactionError::Cancelled),
                Err(_) if Instant::now() < deadline => {}
                Err(_) => {
                    let seconds = self.time_limit.as_secs();
                    return Err(CompactionError::TimedOut { seconds });
                }
            }
        }
    }

    fn start(&self) -> Result<Child, CompactionError> {
        let program = self.command.first().cloned().unwrap_or_default();
        Command::new(&program)
            .args(self.command.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| CompactionError::Start { program, source })
    }
}

/// The exchange between relay and worker.
struct Talk<T> {
    asked: Result<(), FoldError>,
    answer: io::Result<T>,
    message: String,
}

type Stdin = BufWriter<ChildStdin>;

impl<T> Talk<T> {
    /// An answer counts, even if an error came after it. Without one, the worker's own words
    /// explain more than a broken pipe does.
    fn result(self, status: &str) -> Result<T, CompactionError> {
        let Self { asked, answer, message } = self;
        match (asked, answer) {
            (Ok(()), Ok(answer)) => Ok(answer),
            (Err(error @ FoldError::Store(_)), _) => Err(error.into()),
            (_, Err(source)) if message.is_empty() => Err(CompactionError::Answer(source)),
            _ => {
                let message = message.trim().to_owned();
                Err(CompactionError::Failed { status: status.to_owned(), message })
            }
        }
    }
}

/// Bytes of a worker's standard error that are kept.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// The time after which a worker is stopped that is not wanted any more.
const CANCEL_CHECK: Duration = Duration::from_millis(100);
