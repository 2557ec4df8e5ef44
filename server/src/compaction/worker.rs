//! The worker: changes in, a verified snapshot out; or a document in, its changes out. It trusts
//! neither.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, AutomergeError, Change};
use rejoin_core::ChangeHash;
use rejoin_core::change::{GuardError, check_snapshot, parse};
use rejoin_core::limits::{INFLATED_BYTES_MAX, SNAPSHOT_BYTES_MAX, UPLOADED_CHANGES_BYTES_MAX};
use thiserror::Error;

use super::{Compacted, CompactionError};
use crate::store::{FoldError, FoldInput};

/// The worker could not make a snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The question is not one.
    #[error("the question cannot be read; start the worker from a relay of the same version")]
    Question(#[source] io::Error),
    /// The answer could not be given.
    #[error("the answer cannot be written; the relay stopped listening")]
    Answer(#[source] io::Error),
    /// Something that the relay should not have stored.
    #[error("the relay's store holds something that no guard lets pass")]
    Guard(#[from] GuardError),
    /// Automerge would not have it.
    #[error("Automerge refuses the document")]
    Automerge(#[source] Box<AutomergeError>),
    /// The changes of an uploaded document are too many bytes.
    #[error(
        "the document comes to {bytes} bytes of changes, of at most {UPLOADED_CHANGES_BYTES_MAX}; \
         divide it"
    )]
    TooLarge {
        /// All their bytes.
        bytes: usize,
    },
    /// Automerge panicked.
    #[error("Automerge panicked on the document")]
    Panicked,
    /// The saved snapshot holds other changes than those given.
    #[error("the snapshot holds {found} changes where {expected} were given, or other ones")]
    Differs {
        /// Changes in the snapshot.
        found: usize,
        /// Changes given.
        expected: usize,
    },
    /// The memory limit could not be set.
    #[error("cannot limit the worker's memory")]
    Limit(#[source] io::Error),
}

/// Answers one question: reads a snapshot and changes and writes one snapshot of all of them, or
/// reads a document and writes its changes.
///
/// Reads all of `input` before it writes anything.
///
/// # Errors
/// No snapshot could be made that verifiably holds the same changes, or the document is not sound.
/// Nothing was written, or not all of it.
pub fn compact_worker(input: impl Read, output: impl Write) -> Result<(), WorkerError> {
    match Question::read(input).map_err(WorkerError::Question)? {
        Question::Fold { snapshot, chunks } => {
            let compacted = fenced(|| fold(&snapshot, &chunks))?;
            write_answer(&compacted, output).map_err(WorkerError::Answer)
        }
        Question::TakeApart { document } => {
            let changes = fenced(|| take_apart(&document))?;
            write_changes(&changes, output).map_err(WorkerError::Answer)
        }
    }
}

fn fenced<T>(work: impl FnOnce() -> Result<T, WorkerError>) -> Result<T, WorkerError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| WorkerError::Panicked)?
}

/// The work of the relay's child process: [`compact_worker`] between its standard input and output,
/// in an address space of at most `address_bytes_max`.
///
/// # Errors
/// As for [`compact_worker`]; print the error and exit with another code than 0.
pub fn compact_worker_process(address_bytes_max: u64) -> Result<(), WorkerError> {
    #[cfg(unix)]
    rlimit::setrlimit(rlimit::Resource::AS, address_bytes_max, address_bytes_max)
        .map_err(WorkerError::Limit)?;
    #[cfg(not(unix))]
    let _ = address_bytes_max;
    compact_worker(io::stdin().lock(), io::stdout().lock())
}

/// Folds in this process, behind a panic fence only: for tests and simulations, which bring
/// documents they made themselves.
///
/// # Errors
/// As for [`compact_worker`], or the document could not be read.
pub fn compact_in_process(input: &FoldInput) -> Result<Compacted, CompactionError> {
    let mut question = Vec::new();
    write_question(input, &mut question)?;
    let mut answer = Vec::new();
    compact_worker(question.as_slice(), &mut answer)?;
    let compacted = read_answer(answer.as_slice()).map_err(CompactionError::Answer)?;
    Ok(Compacted { in_process: true, ..compacted })
}

/// Writes the question to a worker, straight from the store.
///
/// | bytes | what |
/// |---|---|
/// | 1 | [`FOLD`] |
/// | 8 | bytes of the snapshot, little endian; 0 if there is none |
/// | | the snapshot |
/// | 4, each | bytes of a change chunk, little endian, then the chunk; 0 ends the list |
pub(super) fn write_question(input: &FoldInput, output: &mut impl Write) -> Result<(), FoldError> {
    output.write_all(&[FOLD])?;
    output.write_all(&input.snapshot_bytes().to_le_bytes())?;
    input.write_snapshot(output)?;
    input.each_change(|chunk| {
        output.write_all(&(chunk.len() as u32).to_le_bytes())?;
        output.write_all(chunk)
    })?;
    Ok(output.write_all(&0_u32.to_le_bytes())?)
}

/// Reads the answer that [`compact_worker`] wrote.
///
/// | bytes | what |
/// |---|---|
/// | 1 | [`FOLD`] |
/// | 8 | changes, little endian |
/// | 4 | heads, little endian |
/// | 32, each | a head, ascending |
/// | 8 | bytes of the snapshot, little endian |
/// | | the snapshot |
pub(super) fn read_answer(mut input: impl Read) -> io::Result<Compacted> {
    read_kind(&mut input, FOLD)?;
    let changes = u64::from_le_bytes(read_array(&mut input)?);
    let count = u32::from_le_bytes(read_array(&mut input)?);
    let heads = (0..count).map(|_| read_array(&mut input).map(ChangeHash));
    let heads = heads.collect::<io::Result<Vec<_>>>()?;
    let len = u64::from_le_bytes(read_array(&mut input)?);
    let snapshot = read_bytes(&mut input, len, SNAPSHOT_BYTES_MAX)?;
    Ok(Compacted { heads, changes, snapshot, in_process: false })
}

/// Writes a document for a worker to take apart.
///
/// | bytes | what |
/// |---|---|
/// | 1 | [`TAKE_APART`] |
/// | 8 | bytes of the document, little endian |
/// | | the document |
pub(super) fn write_document(document: &[u8], output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[TAKE_APART])?;
    output.write_all(&(document.len() as u64).to_le_bytes())?;
    output.write_all(document)?;
    output.flush()
}

/// Reads the changes that came of it: [`TAKE_APART`] in one byte, and then as
/// [`write_question`] writes changes.
pub(super) fn read_changes(mut input: impl Read) -> io::Result<Vec<Vec<u8>>> {
    read_kind(&mut input, TAKE_APART)?;
    read_chunks(&mut input.take(CHANGES_BYTES_MAX))
}

enum Question {
    Fold { snapshot: Vec<u8>, chunks: Vec<Vec<u8>> },
    TakeApart { document: Vec<u8> },
}

impl Question {
    fn read(mut input: impl Read) -> io::Result<Self> {
        let [kind] = read_array(&mut input)?;
        let len = u64::from_le_bytes(read_array(&mut input)?);
        let bytes = read_bytes(&mut input, len, SNAPSHOT_BYTES_MAX)?;
        match kind {
            FOLD => Ok(Self::Fold { snapshot: bytes, chunks: read_chunks(&mut input)? }),
            TAKE_APART => Ok(Self::TakeApart { document: bytes }),
            _ => Err(invalid("another version")),
        }
    }
}

/// Chunks behind their lengths; a length of 0 ends them.
fn read_chunks(input: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut chunks = Vec::new();
    loop {
        let len = u32::from_le_bytes(read_array(input)?);
        if len == 0 {
            return Ok(chunks);
        }
        chunks.push(read_bytes(input, len.into(), INFLATED_BYTES_MAX)?);
    }
}

/// The changes of a document, dependencies first. Each has the hash that its bytes have, or the
/// document would not load.
fn take_apart(document: &[u8]) -> Result<Vec<Vec<u8>>, WorkerError> {
    let changes = take_apart_in_process(document)?;
    let bytes: usize = changes.iter().map(Vec::len).sum();
    if bytes > UPLOADED_CHANGES_BYTES_MAX {
        return Err(WorkerError::TooLarge { bytes });
    }
    Ok(changes)
}

/// Takes a snapshot that a relay made apart in this process, which serves nobody meanwhile.
///
/// # Errors
/// Automerge does not take it.
pub fn take_apart_in_process(document: &[u8]) -> Result<Vec<Vec<u8>>, WorkerError> {
    check_snapshot(document)?;
    let document = Automerge::load(document).map_err(refused)?;
    let changes = document.get_changes(&[]);
    Ok(changes.iter().map(|change| change.raw_bytes().to_vec()).collect())
}

fn write_changes(changes: &[Vec<u8>], output: impl Write) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    output.write_all(&[TAKE_APART])?;
    for chunk in changes {
        output.write_all(&(chunk.len() as u32).to_le_bytes())?;
        output.write_all(chunk)?;
    }
    output.write_all(&0_u32.to_le_bytes())?;
    output.flush()
}

/// Loads the snapshot and changes, saves the document, and loads that again: it must have just the
/// changes that went in, by hashes that the guard computed of the given bytes.
fn fold(snapshot: &[u8], chunks: &[Vec<u8>]) -> Result<Compacted, WorkerError> {
    let mut document = Automerge::new();
    let mut given = BTreeSet::new();
    if !snapshot.is_empty() {
        check_snapshot(snapshot)?;
        document = Automerge::load(snapshot).map_err(refused)?;
        given.extend(hashes(&document));
    }
    let mut changes = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        given.insert(parse(chunk)?.hash());
        let change = Change::from_bytes(chunk.clone());
        changes.push(change.map_err(|error| refused(AutomergeError::LoadChangeError(error)))?);
    }
    document.apply_changes(changes).map_err(refused)?;
    let snapshot = document.save();
    let saved = Automerge::load(&snapshot).map_err(refused)?;
    let found = hashes(&saved);
    if found != given {
        return Err(WorkerError::Differs { found: found.len(), expected: given.len() });
    }
    let mut heads: Vec<_> = saved.get_heads().iter().map(|head| ChangeHash(head.0)).collect();
    heads.sort_unstable();
    Ok(Compacted { heads, changes: found.len() as u64, snapshot, in_process: true })
}

fn refused(error: AutomergeError) -> WorkerError {
    WorkerError::Automerge(Box::new(error))
}

fn hashes(document: &Automerge) -> BTreeSet<ChangeHash> {
    document.get_changes_meta(&[]).iter().map(|change| ChangeHash(change.hash.0)).collect()
}

fn write_answer(compacted: &Compacted, mut output: impl Write) -> io::Result<()> {
    let Compacted { heads, changes, snapshot, .. } = compacted;
    output.write_all(&[FOLD])?;
    output.write_all(&changes.to_le_bytes())?;
    output.write_all(&(heads.len() as u32).to_le_bytes())?;
    heads.iter().try_for_each(|head| output.write_all(&head.0))?;
    output.write_all(&(snapshot.len() as u64).to_le_bytes())?;
    output.write_all(snapshot)?;
    output.flush()
}

fn read_kind(input: &mut impl Read, expected: u8) -> io::Result<()> {
    let [kind] = read_array(input)?;
    if kind == expected { Ok(()) } else { Err(invalid("another version")) }
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Grows with the bytes that are really there, not with the declared length.
fn read_bytes(input: &mut impl Read, len: u64, max: usize) -> io::Result<Vec<u8>> {
    if len > max as u64 {
        return Err(invalid("longer than it may be"));
    }
    let mut bytes = Vec::new();
    input.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Bytes of address space a worker may have: room for Automerge to hold the largest snapshot three
/// times over, and too little to hurt a small machine.
pub const WORKER_ADDRESS_BYTES_MAX: u64 = 2 << 30;

/// Bytes of all changes of a document together.
const CHANGES_BYTES_MAX: u64 = 2 * UPLOADED_CHANGES_BYTES_MAX as u64;

/// The first byte of question and answer, which says what they are about. Relay and worker are one
/// binary, but one of them may be replaced while the other runs: another layout gets another
/// number.
const FOLD: u8 = 1;
const TAKE_APART: u8 = 2;
