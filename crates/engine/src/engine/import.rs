//! Rows of files: each cell is compared with the document and with the words of the file before.

use rejoin_core::Misfit;
use rejoin_core::lineage::Marks;
use rejoin_core::schema::{Field, Kind, Rule, Schema};
use rejoin_core::{DocumentId, Path, Segment, SpaceName};
use serde_json::{Value, json};

use super::{EditError, Op};
use crate::store::{ImportedRow, ReadTxn};
use crate::value::{shown, spreadsheet_safe};
use rejoin_core::number::{JsonError, exact_json, exact_number};

/// A row of a file, which gives values for fields of one document. Fields that it does not name are
/// left alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The cells, by the name of the field.
    pub cells: Vec<(String, Cell)>,
    /// Whether it brings back a document that was deleted, which is left alone otherwise.
    pub revive: bool,
}

/// The words of a row about one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The cell is empty.
    Empty,
    /// This text. It becomes a value of the kind that the schema names, or that the field has
    /// already: a number, a truth value, a list or a map; otherwise it stays a string.
    Text(String),
    /// This value, whose kind the file tells.
    Json(Value),
}

/// The results of a row, beside the changes that were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowOutcome {
    /// The document is deleted, and was left so.
    pub left_deleted: bool,
    /// The document was deleted, and is no more.
    pub revived: bool,
    /// Fields it writes that people had decided about.
    pub decided: Vec<String>,
    /// Fields it writes that are under review: its value is one more candidate.
    pub under_review: Vec<String>,
    /// Texts it writes over that somebody had changed since the last file about the document.
    pub written_over: Vec<String>,
    /// Its values that the schema does not allow. They are kept as they are, and shown to people.
    pub misfits: Vec<Misfit>,
}

/// The plan for a row.
#[derive(Debug, Default)]
pub(super) struct RowPlan {
    pub(super) ops: Vec<Op>,
    pub(super) outcome: RowOutcome,
}

/// Compares a row with the values of a document, and with the words of files about it before.
/// `current` is empty for a document that the row makes.
pub(super) fn plan(
    row: &Row,
    current: &Value,
    imported: &mut ImportedRow,
    schema: &Schema,
    marks: &Marks,
) -> Result<RowPlan, EditError> {
    let mut plan = RowPlan::default();
    if current.get(marks.deleted) == Some(&Value::Bool(true)) {
        if !row.revive {
            plan.outcome.left_deleted = true;
            return Ok(plan);
        }
        plan.outcome.revived = true;
        plan.ops.push(Op::Restore);
    }
    let mut after = current.clone();
    for (name, cell) in &row.cells {
        let path = Path::from([name.as_str()]);
        let now = current.get(name);
        let is_changed = is_changed_since(imported, name, now);
        let said_before = imported.says(name, &text_of(cell));
        if said_before || reads_like(cell, now) {
            continue;
        }
        if is_changed {
            plan.outcome.written_over.push(name.clone());
        }
        let Some(value) = value_of(cell, now, schema.field(&path), name)? else {
            plan.ops.push(Op::Remove { path });
            after.as_object_mut().map(|after| after.remove(name));
            continue;
        };
        if let Some(after) = after.as_object_mut() {
            let plain = crate::value::plain(&value).into_owned();
            after.insert(name.clone(), plain);
        }
        plan.ops.push(Op::Set { path, before: now.cloned(), after: value });
    }
    let is_said = |misfit: &Misfit| match misfit.field.segments().first() {
        Some(Segment::Key(field)) => row.cells.iter().any(|(name, _)| name == field),
        _ => false,
    };
    plan.outcome.misfits = schema.misfits(&after);
    plan.outcome.misfits.retain(is_said);
    Ok(plan)
}

/// Whether a text is not what the last file said. Of other values a cell tells the same in several
/// ways, and only one of them is remembered.
fn is_changed_since(imported: &ImportedRow, name: &str, now: Option<&Value>) -> bool {
    let Some(Value::String(now)) = now else { return false };
    imported.said_other_than(name, now) && imported.said_other_than(name, &spreadsheet_safe(now))
}

/// Notes which of the fields that are written are under review, or were decided about.
pub(super) fn note_reviews(
    view: &ReadTxn,
    space: &SpaceName,
    id: &DocumentId,
    ops: &[Op],
    outcome: &mut RowOutcome,
) -> Result<(), EditError> {
    let written: Vec<String> =
        ops.iter().flat_map(Op::places).map(|path| path.to_string()).collect();
    for review in view.reviews_of(id)? {
        let Some(row) = view.review(space, &review)? else { continue };
        let fields = match row.settled {
            Some(_) => &mut outcome.decided,
            None => &mut outcome.under_review,
        };
        if written.contains(&row.field) && !fields.contains(&row.field) {
            fields.push(row.field);
        }
    }
    Ok(())
}

/// What a row did not write, or adds to a review, is not written over.
pub(super) fn leave_what_is_not_written(ops: &[Op], outcome: &mut RowOutcome) {
    let written: Vec<String> =
        ops.iter().flat_map(Op::places).map(|path| path.to_string()).collect();
    outcome.written_over.retain(|name| {
        let place = Path::from([name.as_str()]).to_string();
        written.contains(&place) && !outcome.under_review.contains(&place)
    });
}

/// A cell as it is remembered.
fn text_of(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => text.clone(),
        Cell::Json(value) => format!("\0{value}"),
    }
}

/// Whether a field reads like a cell already.
fn reads_like(cell: &Cell, now: Option<&Value>) -> bool {
    let now = now.unwrap_or(&Value::Null);
    match cell {
        Cell::Empty => shown(now).is_empty(),
        Cell::Json(value) => crate::value::same(now, value),
        Cell::Text(text) => {
            let shown = shown(now);
            shown == text.as_str() || spreadsheet_safe(&shown) == text.as_str()
        }
    }
}

/// A cell as a value; `None` if it is empty.
fn value_of(
    cell: &Cell,
    now: Option<&Value>,
    field: Option<&Field>,
    name: &str,
) -> Result<Option<Value>, EditError> {
    let text = match cell {
        Cell::Empty => return Ok(None),
        Cell::Json(Value::Null) => return Ok(None),
        Cell::Json(value) => {
            let read = match field.filter(|_| now.is_none()).map(|field| &field.merge) {
                Some(Rule::Counter) if value.is_i64() => json!({ "$counter": value }),
                _ => value.clone(),
            };
            return Ok(Some(read));
        }
        Cell::Text(text) => text,
    };
    let inexact = |number| EditError::Inexact { field: name.to_owned(), number };
    let number = || exact_number(text).map(|number| number.map(Value::Number)).map_err(inexact);
    let json = || match exact_json(text) {
        Err(JsonError::Inexact(number)) => Err(inexact(number)),
        read => Ok(read.ok()),
    };
    let truth = || match text.to_ascii_lowercase().as_str() {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => None,
    };
    let merge = field.map(|field| &field.merge);
    let kind = field.and_then(|field| field.kind);
    let read = match (merge, kind, now) {
        (Some(Rule::Counter), ..) if now.is_none() => {
            number()?.filter(Value::is_i64).map(|count| json!({ "$counter": count }))
        }
        (Some(Rule::Set | Rule::List), ..) | (_, Some(Kind::List), _) => {
            json()?.filter(Value::is_array)
        }
        (Some(Rule::Map), ..) | (_, Some(Kind::Map), _) => json()?.filter(Value::is_object),
        (_, Some(Kind::Integer | Kind::Number), _) => number()?,
        (_, Some(Kind::Boolean), _) => truth(),
        (_, Some(_), _) => None,
        (_, None, Some(Value::Number(_))) => number()?,
        (_, None, Some(Value::Bool(_))) => truth(),
        (_, None, Some(Value::Array(_))) => json()?.filter(Value::is_array),
        (_, None, Some(Value::Object(_))) => json()?.filter(Value::is_object),
        _ => None,
    };
    Ok(Some(read.unwrap_or_else(|| Value::from(text.as_str()))))
}
