//! Runs a worker as a child process with a time limit.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::worker::{read_answer, write_question};
use super::{Compacted, CompactionError};
use crate::store::{FoldError, FoldInput};

/// How to start a worker: a command that runs
/// [`compact_worker_process`](super::compact_worker_process).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProcess {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// After which a worker is killed.
    pub time_limit: Duration,
}

impl WorkerProcess {
    /// Folds one document and waits for it.
    ///
    /// # Errors
    /// The worker was not started, failed, or took too long. It is gone by then.
    pub fn run(&self, input: FoldInput) -> Result<Compacted, CompactionError> {
        let mut child = self.start()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompactionError::Answer(io::ErrorKind::BrokenPipe.into()));
        };
        let (done, outcome) = mpsc::sync_channel(1);
        // Reading and writing have no deadline, but end when the child does.
        let talk = thread::spawn(move || {
            let asked = write_question(&input, &mut BufWriter::new(stdin));
            drop(input);
            let answer = read_answer(BufReader::new(stdout));
            let mut message = String::new();
            let read = stderr.take(MESSAGE_BYTES_MAX).read_to_string(&mut message);
            let message = read.map(|_| message).unwrap_or_default();
            let _ = done.send(Talk { asked, answer, message });
        });
        let talked = outcome.recv_timeout(self.time_limit);
        // In time or not, it has nothing left to do.
        let _ = child.kill();
        let status = child.wait();
        let _ = talk.join();
        let seconds = self.time_limit.as_secs();
        let talked = talked.map_err(|_| CompactionError::TimedOut { seconds })?;
        talked.result(&status.map_or_else(|error| error.to_string(), |status| status.to_string()))
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

/// What passed between relay and worker.
struct Talk {
    asked: Result<(), FoldError>,
    answer: io::Result<Compacted>,
    message: String,
}

impl Talk {
    /// An answer counts, whatever came after it. Without one, what the worker said explains more
    /// than a broken pipe does.
    fn result(self, status: &str) -> Result<Compacted, CompactionError> {
        let Self { asked, answer, message } = self;
        match (asked, answer) {
            (Ok(()), Ok(compacted)) => Ok(compacted),
            (Err(error @ FoldError::Store(_)), _) => Err(error.into()),
            (_, Err(source)) if message.is_empty() => Err(CompactionError::Answer(source)),
            _ => {
                let message = message.trim().to_owned();
                Err(CompactionError::Failed { status: status.to_owned(), message })
            }
        }
    }
}

/// Bytes kept of what a worker writes to its standard error.
const MESSAGE_BYTES_MAX: u64 = 4096;
