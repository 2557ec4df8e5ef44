//! A document as people see it, with marks at the fields that are not agreed.

use std::collections::BTreeMap;

use rejoin::history::Candidate;
use rejoin::review::Question;
use rejoin::value::Segment;
use rejoin::view::{FieldState, View};
use rejoin::{DocumentId, Path, Review};
use serde_json::{Value, json};

use crate::identity::author_json;
use crate::layout::one_line;
use crate::questions::{asked, is_about_two};
use crate::short::short_id;
use crate::values::{field, shown};

/// The fields of a document, one a line. A value of several lines continues below its name, and the
/// marks of a field that is not agreed stand there too.
pub(crate) fn text(view: &View, reviews: &[Review]) -> String {
    let empty = serde_json::Map::new();
    let fields = view.value.as_object().unwrap_or(&empty);
    let marks = marks(view);
    let names: Vec<&String> = fields.keys().chain(marks.keys()).collect();
    let width = names.iter().map(|name| console::measure_text_width(&field(name))).max();
    let width = width.unwrap_or(0);
    let mut lines = BTreeMap::new();
    for name in names {
        let text = match fields.get(name) {
            None => "(none)".to_owned(),
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                serde_json::to_string_pretty(value).unwrap_or_default()
            }
            Some(value) => rejoin::view::shown(value).into_owned(),
        };
        let below = format!("\n{:width$}  ", "");
        let label = field(name);
        let label = console::pad_str(&label, width, console::Alignment::Left, None);
        let mut line = format!("{label}  {}", text.trim_end().replace('\n', &below));
        for mark in marks.get(name).into_iter().flatten() {
            line += &format!("{below}! {mark}");
        }
        lines.insert(name, line);
    }
    let of_it =
        reviews.iter().filter(|review| is_about_two(review) && names_it(review, view.document));
    let asked = of_it.map(|review| format!("! {}", asked(review, view.document, false)));
    lines.into_values().chain(asked).collect::<Vec<_>>().join("\n")
}

/// The marks of fields that are not agreed, by the top-level field they are in.
fn marks(view: &View) -> BTreeMap<String, Vec<String>> {
    let mut marks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, stands) in &view.fields {
        // The place of an item of a list names the item by its maker, which no path does.
        let around = match path.starts_with('[') {
            true => path,
            false => path.split("[#").next().unwrap_or(path),
        };
        let top = match Path::from(around).segments().first() {
            Some(Segment::Key(key)) => key.clone(),
            _ => continue,
        };
        let is_top = field(&top) == *path;
        let inside = if is_top { String::new() } else { format!("{path}: ") };
        for state in &stands.states {
            if let Some(mark) = mark(state, stands.value.as_ref()) {
                let marks = marks.entry(top.clone()).or_default();
                marks.push(one_line(&format!("{inside}{mark}")));
            }
        }
    }
    marks
}

fn mark(state: &FieldState, seen: Option<&Value>) -> Option<String> {
    let is_seen = |candidate: &Candidate| candidate.value.as_ref() == seen;
    match state {
        FieldState::Agreed => None,
        FieldState::Conflict { review, question: Question::Removal, .. } => {
            let id = short_id(review);
            Some(format!("removed while somebody wrote in it; `rejoin review {id}`"))
        }
        FieldState::Conflict { review, candidates, .. } => {
            let id = short_id(review);
            Some(format!("not agreed: {}; `rejoin review {id}`", values(candidates, " or ")))
        }
        FieldState::Refused { review, candidates } if candidates.iter().any(is_seen) => {
            let id = short_id(review);
            Some(format!("by somebody who may not, so it does not count; `rejoin review {id}`"))
        }
        FieldState::Refused { review, candidates } => {
            let (id, values) = (short_id(review), values(candidates, ", "));
            Some(format!("{values} by somebody who may not; `rejoin review {id}`"))
        }
        FieldState::Misfit { reason } => Some(reason.clone()),
        FieldState::Missing => Some("required, and not there".to_owned()),
    }
}

fn values(candidates: &[Candidate], between: &str) -> String {
    let values: Vec<_> = candidates.iter().map(|it| shown(it.value.as_ref())).collect();
    values.join(between)
}

fn names_it(review: &Review, document: DocumentId) -> bool {
    review.documents.iter().any(|named| named.document == document)
}

/// The states of each field, for programs.
pub(crate) fn json(view: &View) -> Value {
    let fields = view.fields.iter().map(|(path, field)| {
        let states = field.states.iter().map(state_json);
        (path.clone(), json!({ "value": field.value, "states": Value::from_iter(states) }))
    });
    Value::from_iter(fields)
}

fn state_json(state: &FieldState) -> Value {
    match state {
        FieldState::Agreed => json!({ "state": "agreed" }),
        FieldState::Conflict { review, question, candidates } => {
            let question = match question {
                Question::Conflict => "conflict",
                Question::Disagreement => "disagreement",
                Question::Refused => "refused_write",
                Question::Removal => "removal",
                Question::Hidden => "hidden",
                Question::Containers => "containers",
            };
            json!({
                "state": "conflict",
                "review": review.to_string(),
                "question": question,
                "candidates": candidates_json(candidates),
            })
        }
        FieldState::Refused { review, candidates } => json!({
            "state": "refused",
            "review": review.to_string(),
            "candidates": candidates_json(candidates),
        }),
        FieldState::Misfit { reason } => json!({ "state": "held", "reason": reason }),
        FieldState::Missing => json!({ "state": "missing" }),
    }
}

fn candidates_json(candidates: &[Candidate]) -> Value {
    Value::from_iter(candidates.iter().map(|candidate| {
        json!({
            "value": candidate.value,
            "author": author_json(candidate.author.as_ref()),
            "time_s": candidate.time_s,
            "change": candidate.change.to_string(),
            "settles": candidate.settles.map(|review| review.to_string()),
        })
    }))
}
