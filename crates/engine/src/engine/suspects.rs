//! The changes that were being applied when the process ended: a change may end it in a way that no
//! fence stops, by the stack, by memory, or by a panic within a panic.
//!
//! Such an end takes the transaction with it, so nothing in the store tells of it, and the same
//! change would come again. Before changes are applied they are therefore noted outside of the
//! store, where a note survives the process. The next process applies the changes that it finds
//! there one by one; a change that was noted as applied alone, and ended the process again, is
//! quarantined.

use std::collections::BTreeSet;
use std::fmt;

use rejoin_core::ChangeHash;

/// Changes that were being applied when a process ended, as the next one finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Each may be the reason.
    pub suspected: BTreeSet<ChangeHash>,
    /// Each was alone.
    pub convicted: BTreeSet<ChangeHash>,
}

impl Suspects {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.suspected.is_empty() && self.convicted.is_empty()
    }

    /// Reads the [written](fmt::Display) form. Lines that were cut short are left out.
    pub fn read(text: &str) -> Self {
        let mut suspects = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some((how, hash)) = line.split_once(' ') else { continue };
            let Ok(hash) = hash.parse::<automerge::ChangeHash>() else { continue };
            let hash = ChangeHash(hash.0);
            match how {
                ALONE => _ = suspects.convicted.insert(hash),
                TOGETHER => _ = suspects.suspected.insert(hash),
                _ => {}
            }
        }
        suspects
    }

    fn remove(&mut self, hash: &ChangeHash) {
        self.suspected.remove(hash);
        self.convicted.remove(hash);
    }
}

/// A line for each change.
impl fmt::Display for Suspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hash in &self.convicted {
            writeln!(f, "{ALONE} {hash}")?;
        }
        for hash in &self.suspected {
            writeln!(f, "{TOGETHER} {hash}")?;
        }
        Ok(())
    }
}

/// Before a change that was applied alone, for a process had ended when it was among others.
const ALONE: &str = "alone";

/// Before each of changes that were applied together.
const TOGETHER: &str = "together";

/// Writes a note in the place of the last one.
type Note = Box<dyn FnMut(&Suspects) + Send>;

/// The notes of one engine.
pub(super) struct Notes {
    /// The suspects that earlier processes left.
    left: Suspects,
    /// The suspects that are part of the transaction under way.
    cleared: Vec<ChangeHash>,
    note: Option<Note>,
    is_noted: bool,
}

impl Notes {
    pub(super) fn none() -> Self {
        Self { left: Suspects::default(), cleared: Vec::new(), note: None, is_noted: false }
    }

    pub(super) fn new(left: Suspects, note: Note) -> Self {
        Self { left, note: Some(note), ..Self::none() }
    }

    pub(super) fn is_suspected(&self, hash: &ChangeHash) -> bool {
        self.left.suspected.contains(hash) || self.left.convicted.contains(hash)
    }

    pub(super) fn is_convicted(&self, hash: &ChangeHash) -> bool {
        self.left.convicted.contains(hash)
    }

    /// Changes are about to be applied together.
    pub(super) fn applying(&mut self, hashes: &[ChangeHash]) {
        let Some(note) = &mut self.note else { return };
        let mut now = self.left.clone();
        match hashes {
            [alone] if now.suspected.remove(alone) => _ = now.convicted.insert(*alone),
            hashes => now.suspected.extend(hashes),
        }
        note(&now);
        self.is_noted = true;
    }

    /// A suspect was applied, or put away.
    pub(super) fn clear(&mut self, hash: &ChangeHash) {
        if self.is_suspected(hash) {
            self.cleared.push(*hash);
        }
    }

    /// The transaction ended, and was `kept` or not.
    pub(super) fn end(&mut self, kept: bool) {
        for hash in std::mem::take(&mut self.cleared) {
            if kept {
                self.left.remove(&hash);
            }
        }
        if let Some(note) = &mut self.note
            && std::mem::take(&mut self.is_noted)
        {
            note(&self.left);
        }
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_short_says_nothing() {
        let hash = ChangeHash([3; 32]);
        let whole = format!("{ALONE} {hash}\n");
        for cut in 0..whole.len() {
            assert!(Suspects::read(&whole[..cut]).is_empty(), "{cut}");
        }
        let lines = format!("\n{ALONE}\nalone x\n?? {hash}\n{whole}");
        assert_eq!(Suspects::read(&lines).convicted.len(), 1);
    }
}
