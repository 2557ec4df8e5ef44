//! What differs: rows from what a file would make of them, targets from what they should hold, and
//! where a row comes from.

use serde_json::Value;

use super::tell::{named, number, text};
use crate::arguments::ReconcileArguments;
use crate::clock::{clock, clock_of_ms};
use crate::layout::{Table, one_line, width, wrap};
use crate::output::{Text, count};

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn counted(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

pub(super) fn plan(answer: &Value) -> Text {
    let plans = answer.as_array().map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(["ADAPTER", "SAME", "ADD", "CHANGE", "REMOVE", "MISFITS", ""]);
    let mut examples = Table::new(["ADAPTER", "ROW", "WHAT", "BEFORE", "AFTER"]);
    let (mut waits, mut has_examples, mut notes) = (false, false, Vec::new());
    for plan in plans {
        let name = text(plan, "adapter");
        if let Some((note, line)) = unplanned(plan) {
            notes.push(line);
            table.row([
                name.to_owned(),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
                note.to_owned(),
            ]);
            continue;
        }
        let is_applied = plan["is_applied"] == true;
        waits |= !is_applied;
        let cell = |what: &str| number(plan, what);
        let note = if is_applied { "applied" } else { "not applied" };
        table.row([
            name.to_owned(),
            cell("same"),
            cell("add"),
            cell("change"),
            cell("remove"),
            cell("misfits"),
            note.to_owned(),
        ]);
        for example in list(plan, "examples") {
            has_examples = true;
            let mut say = |what: &str, before: String, after: String| {
                examples.row([name, &named(example), what, &one_line(&before), &one_line(&after)]);
            };
            if let Some(fields) = example["change"].as_object() {
                for (field, values) in fields {
                    say(
                        field,
                        rejoin::shown(&values[0]).into_owned(),
                        rejoin::shown(&values[1]).into_owned(),
                    );
                }
            } else if let Some(fault) = example["misfit"].as_str() {
                say("(no row)", String::new(), fault.to_owned());
            } else if example["remove"] == true {
                say("(removed)", String::new(), String::new());
            } else {
                say("(new)", String::new(), example["add"].to_string());
            }
        }
    }
    let mut lines = vec![table.fit(width())];
    for plan in plans.iter().filter(|plan| counted(plan, "remove") > 0) {
        let why = why_removed(plan).into_iter();
        notes.extend(why.map(|why| format!("{} removes rows, as {why}", text(plan, "adapter"))));
    }
    lines.extend(notes.iter().flat_map(|it| wrap(&one_line(it), width())).map(Text::from));
    if has_examples {
        lines.push(Text::default());
        lines.push(examples.fit(width()));
    }
    if plans.iter().all(|plan| unplanned(plan).is_some()) {
        return Text::lines(lines);
    }
    lines.push(match waits {
        true => "`rejoin adapters apply` makes it so; nothing new is enqueued until then".into(),
        false => "rows are made by this file".into(),
    });
    Text::lines(lines)
}

/// Of an adapter whose rows cannot be foreseen, as it does not run: a word, and a line on what it waits for.
fn unplanned(plan: &Value) -> Option<(&'static str, String)> {
    let name = text(plan, "adapter");
    if let Some(why) = plan["stopped"].as_str() {
        return Some(("stopped", format!("{name} is stopped, as it cannot begin: {why}")));
    }
    let documents = count(counted(&plan["carries"], "documents"), "document");
    let collection = text(plan, "collection");
    let line = format!("{name} is new, with {documents} of {collection}; `apply` begins it");
    (plan["is_new"] == true).then_some(("new", line))
}

/// Why rows go, if it is not that documents have fewer: the adapter carries another collection.
pub(super) fn why_removed(plan: &Value) -> Option<String> {
    let before = plan["collection_before"].as_str()?;
    let collection = text(plan, "collection");
    let carries = &plan["carries"];
    let none = (carries["documents"] == 0).then(|| match list(carries, "collections") {
        [] => format!("; there is no document of {collection}"),
        others => {
            let others: Vec<_> = others.iter().filter_map(Value::as_str).collect();
            format!("; there is no document of {collection}, only of {}", others.join(", "))
        }
    });
    let none = none.unwrap_or_default();
    Some(format!("it carried {before}, and is to carry {collection} in its place{none}"))
}

pub(super) fn applied(answer: &Value) -> String {
    let applied = answer.as_array().map_or(&[][..], Vec::as_slice);
    let lines = applied.iter().map(|one| {
        let name = text(one, "adapter");
        let options: Vec<_> = list(one, "options").iter().filter_map(Value::as_str).collect();
        let what = match options.is_empty() {
            _ if one["is_new"] == true => "applied; it is new and begins".to_owned(),
            _ if one["was_stopped"] == true => "applied; it was stopped and begins".to_owned(),
            _ if one["is_removed"] == true => "not in the file any more; it ends".to_owned(),
            true => "applied".to_owned(),
            false => format!("applied; in effect now: {}", options.join(", ")),
        };
        format!("{name}: {what}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn reconciled(answer: &Value, options: &ReconcileArguments) -> Text {
    let name = text(answer, "adapter");
    let rows = list(answer, "rows");
    let found = |what: &str| counted(answer, what);
    let differing = found("missing") + found("extra") + found("differs");
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let mut table = Table::new(["ROW", "WHAT", "FIELDS"]);
        for row in rows {
            let fields: Vec<_> = list(row, "fields").iter().filter_map(Value::as_str).collect();
            table.row([named(row), text(row, "what").to_owned(), fields.join(", ")]);
        }
        lines.push(table.fit(width()));
        if differing > rows.len() as u64 {
            lines.push(format!("... and {} more", differing - rows.len() as u64).into());
        }
    }
    let mut sum = format!(
        "{name}: {} compared; {} missing, {} extra, {} differing, {} on their way",
        count(found("checked"), "row"),
        found("missing"),
        found("extra"),
        found("differs"),
        found("waiting"),
    );
    if found("refused") > 0 {
        sum.push_str(&format!(
            "; {} refused, see `rejoin adapters dead-letters {name}`",
            found("refused")
        ));
    }
    if found("stale") > 0 {
        let rows = count(found("stale"), "row");
        let what = if options.dry_run { "would be enqueued anew" } else { "enqueued anew" };
        sum.push_str(&format!("; {rows} {what} from documents"));
    }
    match options.dry_run {
        true if differing > 0 => sum.push_str("; without --dry-run they are repaired"),
        true => {}
        false => sum.push_str(&format!("; {} sent again", found("repaired"))),
    }
    lines.extend(wrap(&sum, width()).into_iter().map(Text::from));
    if found("extra") > 0 && !options.delete_extra {
        let hint = "extra rows that no document ever became stay; --delete-extra deletes them";
        lines.extend(wrap(hint, width()).into_iter().map(Text::from));
    }
    Text::lines(lines)
}

pub(super) fn origin(answer: &Value) -> Text {
    let document = answer["key"].as_str().unwrap_or_else(|| text(answer, "document"));
    let mut lines = vec![format!("{} comes from {document}", named(answer)).into()];
    let mut table = Table::new(["FIELD", "FROM", "BY", "WHEN", "CHANGE", "SETTLED"]);
    for field in list(answer, "fields") {
        let author = &field["author"];
        let by = match (author["user"].as_str(), author["role"].as_str()) {
            (Some(user), Some(role)) => format!("{user} ({role})"),
            (Some(user), None) => user.to_owned(),
            (None, _) => String::new(),
        };
        let short = |name: &str| text(field, name).chars().take(8).collect::<String>();
        table.row([
            text(field, "field").to_owned(),
            text(field, "path").to_owned(),
            one_line(&by),
            field["time_s"].as_i64().map(clock).unwrap_or_default(),
            short("change"),
            short("settles"),
        ]);
    }
    if !list(answer, "fields").is_empty() {
        lines.push(Text::default());
        lines.push(table.fit(width()));
    }
    let deliveries = list(answer, "deliveries");
    lines.push(Text::default());
    lines.push(match deliveries.last() {
        None => "the target has not taken it yet".into(),
        Some(last) => {
            let at = last["at_ms"].as_i64().unwrap_or_default();
            let number = count(deliveries.len() as u64, "delivery");
            let (at, key) = (clock_of_ms(at), text(last, "key"));
            format!("{number} taken, the last at {at} as {key}").into()
        }
    });
    Text::lines(lines)
}
