//! The outcome of an import, counted over the rows of the file.

use std::collections::BTreeMap;

use rejoin::EditOutcome;
use serde_json::{Value, json};

use super::rows::Fault;
use crate::layout::one_line;
use crate::output::count;

/// The outcome of an import, in numbers of rows.
#[derive(Debug, Default)]
pub(super) struct Taken {
    rows: u64,
    created: u64,
    changed: u64,
    unchanged: u64,
    /// Rows about deleted documents, which were left deleted.
    left_deleted: u64,
    revived: u64,
    /// Rows that write a field about which people had decided, and rows that write a field that is
    /// under review.
    decided: Seen,
    under_review: Seen,
    /// Rows that write over texts which somebody had changed since the last file.
    written_over: Seen,
    /// Rows with values that the schema does not allow, by the field and the reason.
    misfits: BTreeMap<(String, String), Seen>,
    bad: u64,
    /// The first of the rows that were not taken, with their reasons.
    faults: Vec<Fault>,
}

/// How many rows something happened in, and the lines of the first of them.
#[derive(Debug, Default)]
struct Seen {
    times: u64,
    lines: Vec<u64>,
}

impl Seen {
    fn on(&mut self, line: u64) {
        self.times += 1;
        if self.lines.len() < LINES_SHOWN {
            self.lines.push(line);
        }
    }

    /// The lines in words: `line 4`, or `lines 4, 7, 9 and 21 more`.
    fn lines(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(ToString::to_string).collect();
        let word = if self.times == 1 { "line" } else { "lines" };
        match self.times - lines.len() as u64 {
            0 => format!("{word} {}", lines.join(", ")),
            more => format!("{word} {} and {more} more", lines.join(", ")),
        }
    }
}

impl Taken {
    pub(super) fn row(&mut self, line: u64, edited: &EditOutcome) {
        self.rows += 1;
        let outcome = edited.row.as_deref().cloned().unwrap_or_default();
        match edited {
            _ if outcome.left_deleted => self.left_deleted += 1,
            EditOutcome { created: true, .. } => self.created += 1,
            edited if edited.changed() => self.changed += 1,
            _ => self.unchanged += 1,
        }
        self.revived += u64::from(outcome.revived);
        if !outcome.decided.is_empty() {
            self.decided.on(line);
        }
        if !outcome.under_review.is_empty() {
            self.under_review.on(line);
        }
        if !outcome.written_over.is_empty() {
            self.written_over.on(line);
        }
        for misfit in outcome.misfits {
            self.misfits.entry((misfit.field.to_string(), misfit.reason)).or_default().on(line);
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.rows += 1;
        self.bad += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault);
        }
    }

    /// Whether every row was taken.
    pub(super) fn is_all(&self) -> bool {
        self.bad == 0
    }

    /// The rows that were not taken, for people.
    pub(super) fn faults_in_lines(&self, file: &str) -> Vec<String> {
        let faults = self.faults.iter().map(|fault| one_line(&format!("{file}: {fault}")));
        let more = self.bad - self.faults.len() as u64;
        let more = (more > 0).then(|| format!("... and {more} more"));
        faults.chain(more).collect()
    }

    pub(super) fn to_json(&self, collection: &str, is_dry: bool) -> Value {
        let seen = |seen: &Seen| json!({ "rows": seen.times, "lines": seen.lines });
        let misfits = self.misfits.iter().map(|((field, reason), it)| {
            json!({ "field": field, "reason": reason, "rows": it.times, "lines": it.lines })
        });
        json!({
            "collection": collection,
            "dry_run": is_dry,
            "rows": self.rows,
            "created": self.created,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "left_deleted": self.left_deleted,
            "revived": self.revived,
            "decided": seen(&self.decided),
            "under_review": seen(&self.under_review),
            "written_over": seen(&self.written_over),
            "misfits": Value::from_iter(misfits),
            "bad": self.bad,
            "faults": self.faults,
        })
    }

    pub(super) fn to_text(&self, collection: &str, is_dry: bool) -> String {
        let Self { rows, created, changed, unchanged, bad, .. } = self;
        let rows = count(*rows, "row");
        let mut text = match is_dry {
            true => format!(
                "{collection}: {rows}: {created} would be created, {changed} changed, {unchanged} stay \
                 as they are"
            ),
            false => format!(
                "{collection}: {rows}: {created} created, {changed} changed, {unchanged} unchanged"
            ),
        };
        if self.left_deleted > 0 {
            text += &format!(", {} deleted and left so", self.left_deleted);
        }
        if *bad > 0 {
            text += &format!(", {bad} not taken (see above)");
        }
        let mut more = Vec::new();
        let would = if is_dry { "would " } else { "" };
        if self.left_deleted > 0 {
            more.push("--revive brings deleted documents back".to_owned());
        }
        if self.revived > 0 {
            let revived = count(self.revived, "deleted document");
            let back = if is_dry { "come back" } else { "came back" };
            more.push(format!("{revived} {would}{back}"));
        }
        if self.decided.times > 0 {
            let (rows, lines) = (count(self.decided.times, "row"), self.decided.lines());
            let write = if is_dry { "write" } else { "wrote" };
            more.push(format!(
                "{rows} {would}{write} over what somebody decided in a review ({lines})"
            ));
        }
        if self.under_review.times > 0 {
            let (rows, lines) = (count(self.under_review.times, "row"), self.under_review.lines());
            let add = if is_dry { "add" } else { "added" };
            more.push(format!("{rows} {would}{add} a candidate to an open review ({lines})"));
        }
        if self.written_over.times > 0 {
            let (rows, lines) = (count(self.written_over.times, "row"), self.written_over.lines());
            let write = if is_dry { "write" } else { "wrote" };
            let back = if is_dry { "" } else { "; `rejoin undo --batch` takes it back" };
            more.push(format!(
                "{rows} {would}{write} over what somebody wrote since the last import ({lines}){back}"
            ));
        }
        for ((field, reason), seen) in &self.misfits {
            let (rows, lines) = (count(seen.times, "row"), seen.lines());
            more.push(one_line(&format!("{field}: {reason}: {rows} ({lines})")));
        }
        more.iter().fold(text, |text, line| format!("{text}\n  {line}"))
    }
}

/// How many rows that were not taken are shown; the others are counted.
const FAULTS_SHOWN: usize = 20;

/// How many lines are named of a thing that came more often.
const LINES_SHOWN: usize = 3;
