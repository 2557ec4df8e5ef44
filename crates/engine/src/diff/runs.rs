//! The differences between two sequences, found with bounded effort.

use std::convert::Infallible;
use std::hash::Hash;
use std::ops::Range;

use similar::algorithms::{DiffHook, myers};

/// A part of the old sequence and the part in its place in the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// Characters to replace in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextEdit {
    /// In code points, after the edits before this one.
    pub(crate) index: usize,
    /// In code points.
    pub(crate) delete: usize,
    pub(crate) insert: String,
}

/// The edits that lead from one text to the other, in order.
///
/// By character as long as that is quick. Of large rewritten parts first the lines or words are
/// compared, and then the characters of those that differ.
pub(crate) fn text_edits(before: &str, after: &str) -> Vec<TextEdit> {
    let before: Vec<char> = before.chars().collect();
    let after: Vec<char> = after.chars().collect();
    let mut runs = Vec::new();
    compare_text(&before, &after, (0, 0), &mut runs);
    let edit = |run: Run| TextEdit {
        index: run.new.start,
        delete: run.old.len(),
        insert: after[run.new].iter().collect(),
    };
    runs.into_iter().map(edit).collect()
}

/// The runs that differ, in order. Too many items are taken for one run.
pub(super) fn replaced<T: Eq + Hash + Ord>(before: &[T], after: &[T]) -> Vec<Run> {
    let (start, old, new) = trim(before, after);
    if old.is_empty() && new.is_empty() {
        return Vec::new();
    }
    if old.len() + new.len() > ITEMS_MAX || old.is_empty() || new.is_empty() {
        return vec![Run { old: start..start + old.len(), new: start..start + new.len() }];
    }
    let mut gaps = Gaps::default();
    let Ok(()) = myers::diff(&mut gaps, old, 0..old.len(), new, 0..new.len());
    gaps.close(old.len(), new.len());
    gaps.runs.into_iter().map(|run| run.moved((start, start))).collect()
}

/// The parts between the equal ones. Only the equal parts are taken from `similar`, for the places
/// it gives for deletions and insertions are not always the right ones.
#[derive(Debug, Default)]
struct Gaps {
    runs: Vec<Run>,
    /// Ends of the last equal part.
    old: usize,
    new: usize,
}

impl Gaps {
    fn close(&mut self, old: usize, new: usize) {
        if self.old < old || self.new < new {
            self.runs.push(Run { old: self.old..old, new: self.new..new });
        }
    }
}

impl DiffHook for Gaps {
    type Error = Infallible;

    fn equal(&mut self, old: usize, new: usize, len: usize) -> Result<(), Infallible> {
        self.close(old, new);
        (self.old, self.new) = (old + len, new + len);
        Ok(())
    }
}

/// Compares two parts of texts that begin at `at`.
fn compare_text(before: &[char], after: &[char], at: (usize, usize), runs: &mut Vec<Run>) {
    let (start, old, new) = trim(before, after);
    let at = (at.0 + start, at.1 + start);
    let whole = Run { old: 0..old.len(), new: 0..new.len() };
    if old.is_empty() && new.is_empty() {
        return;
    }
    for unit in [Unit::Character, Unit::Word, Unit::Line] {
        let (old_parts, new_parts) = (unit.split(old), unit.split(new));
        if old_parts.len() + new_parts.len() > ITEMS_MAX {
            continue;
        }
        for run in replaced(&old_parts, &new_parts) {
            let run = Run {
                old: characters(&old_parts, &run.old),
                new: characters(&new_parts, &run.new),
            };
            if unit == Unit::Character || run == whole {
                runs.push(run.moved(at));
            } else {
                let at = (at.0 + run.old.start, at.1 + run.new.start);
                compare_text(&old[run.old], &new[run.new], at, runs);
            }
        }
        return;
    }
    runs.push(whole.moved(at));
}

impl Run {
    fn moved(self, (old, new): (usize, usize)) -> Self {
        Self {
            old: self.old.start + old..self.old.end + old,
            new: self.new.start + new..self.new.end + new,
        }
    }
}

/// The unit by which a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Character,
    Word,
    Line,
}

impl Unit {
    /// The parts, or at least more than are compared.
    fn split(self, text: &[char]) -> Vec<&[char]> {
        match self {
            Self::Character => text.chunks(1).take(ITEMS_MAX + 1).collect(),
            Self::Word => {
                let words = text.split_inclusive(|char| !char.is_alphanumeric());
                words.take(ITEMS_MAX + 1).collect()
            }
            Self::Line => text.split_inclusive(|char| *char == '\n').take(ITEMS_MAX + 1).collect(),
        }
    }
}

/// The characters that a range of parts covers.
fn characters(parts: &[&[char]], range: &Range<usize>) -> Range<usize> {
    let length = |parts: &[&[char]]| parts.iter().map(|part| part.len()).sum::<usize>();
    let start = length(&parts[..range.start]);
    start..start + length(&parts[range.clone()])
}

/// Without the common beginning, of the length given, and the common end.
fn trim<'a, T: Eq>(before: &'a [T], after: &'a [T]) -> (usize, &'a [T], &'a [T]) {
    let start = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end =
        before.iter().rev().zip(after.iter().rev()).take_while(|(old, new)| old == new).count();
    (start, &before[..before.len() - end], &after[..after.len() - end])
}

/// Items of both sequences together up to which they are compared: Myers' algorithm takes time in
/// proportion to their square when nothing matches, here about 20 ms.
const ITEMS_MAX: usize = 4096;
