//! What happened in a world, as a hash of everything and the last lines of it.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    entries: u64,
    tail: VecDeque<String>,
    print: bool,
    line: String,
}

impl Trace {
    /// An empty record; `print` writes every entry to standard error as well.
    pub fn new(print: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            entries: 0,
            tail: VecDeque::new(),
            print,
            line: String::new(),
        }
    }

    /// Adds an entry.
    pub fn note(&mut self, now: u64, what: Arguments<'_>) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let _ = write!(line, "{:>9}.{:03} {what}", now / 1000, now % 1000);
        if self.print {
            eprintln!("{line}");
        }
        self.mix(line.as_bytes());
        self.entries += 1;
        if self.tail.len() == TAIL {
            self.line = self.tail.pop_front().unwrap_or_default();
        }
        self.tail.push_back(line);
    }

    /// Adds bytes to the hash only.
    pub fn mix(&mut self, bytes: &[u8]) {
        let mut hash = self.hash;
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^= hash >> 29;
        }
        self.hash = hash.wrapping_add(bytes.len() as u64);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The last entries.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// Entries kept for a person to read.
const TAIL: usize = 60;
