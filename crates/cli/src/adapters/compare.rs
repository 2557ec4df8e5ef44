//! What differs: rows from what a file would make of them, targets from what they should hold, and
//! where a row comes from.

use rejoin::view::shown;
use rejoin_adapters::run::answer::{
    Applied, Example, ExampleChange, Foreseen, Origin, Outlook, Plan, Report,
};
use serde_json::Value;

use super::tell::named;
use crate::clock::{clock, clock_of_ms};
use crate::layout::{Table, one_line, width, wrap};
use crate::output::{Text, count};

pub(super) fn plan(plans: &[Plan]) -> Text {
    let mut table = Table::new(["ADAPTER", "SAME", "ADD", "CHANGE", "REMOVE", "MISFITS", ""]);
    let mut examples = Table::new(["ADAPTER", "ROW", "WHAT", "BEFORE", "AFTER"]);
    let (mut foreseen, mut notes) = (Vec::new(), Vec::new());
    for plan in plans {
        let name = &plan.adapter;
        match &plan.outlook {
            Outlook::Foreseen(rows) => {
                table.row(counts(name, rows));
                let shown = rows.changes.examples.iter();
                shown.flat_map(shown_example).for_each(|[row, what, before, after]| {
                    examples.row([name.clone(), row, what, before, after]);
                });
                foreseen.push((plan, rows));
            }
            Outlook::NotBegun { stopped, .. } => {
                let (word, note) = not_begun(plan, stopped.as_deref());
                table.row([name.as_str(), "", "", "", "", "", word]);
                notes.push(note);
            }
        }
    }
    let mut lines = vec![table.fit(width())];
    for (plan, _) in foreseen.iter().filter(|(_, rows)| rows.changes.remove > 0) {
        let why = why_removed(plan).into_iter();
        notes.extend(why.map(|why| format!("{} removes rows, as {why}", plan.adapter)));
    }
    lines.extend(notes.iter().flat_map(|it| wrap(&one_line(it), width())).map(Text::from));
    if foreseen.iter().any(|(_, rows)| !rows.changes.examples.is_empty()) {
        lines.push(Text::default());
        lines.push(examples.fit(width()));
    }
    if foreseen.is_empty() {
        return Text::lines(lines);
    }
    lines.push(match foreseen.iter().all(|(_, rows)| rows.is_applied) {
        false => "`rejoin adapters apply` makes it so; nothing new is enqueued until then".into(),
        true => "rows are made by this file".into(),
    });
    Text::lines(lines)
}

/// The line of an adapter in the table of plans.
fn counts(name: &str, rows: &Foreseen) -> [String; 7] {
    let changes = &rows.changes;
    let note = if rows.is_applied { "applied" } else { "not applied" };
    [
        name.to_owned(),
        changes.same.to_string(),
        changes.add.to_string(),
        changes.change.to_string(),
        changes.remove.to_string(),
        changes.misfits.to_string(),
        note.to_owned(),
    ]
}

/// The lines of one row: which it is, what changes, and what that was and would be.
fn shown_example(example: &Example) -> Vec<[String; 4]> {
    let line = |what: &str, before: &str, after: &str| {
        [
            named(&example.name, &example.record),
            what.to_owned(),
            before.to_owned(),
            after.to_owned(),
        ]
    };
    match &example.change {
        ExampleChange::Change(fields) => {
            let fields = fields.iter();
            fields.map(|(field, [was, is])| line(field, &shown(was), &shown(is))).collect()
        }
        ExampleChange::Misfit(fault) => vec![line("(no row)", "", fault)],
        ExampleChange::Remove(_) => vec![line("(removed)", "", "")],
        ExampleChange::Add(row) => vec![line("(new)", "", &Value::from(row.clone()).to_string())],
    }
}

/// Of an adapter whose rows cannot be foreseen, as it does not run: a word, and a line on what it waits for.
fn not_begun(plan: &Plan, stopped: Option<&str>) -> (&'static str, String) {
    let name = &plan.adapter;
    if let Some(why) = stopped {
        return ("stopped", format!("{name} is stopped, as it cannot begin: {why}"));
    }
    let documents = plan.carries.as_ref().map_or(0, |carries| carries.documents);
    let (documents, collection) = (count(documents, "document"), &plan.collection);
    ("new", format!("{name} is new, with {documents} of {collection}; `apply` begins it"))
}

/// Why rows go, if it is not that documents have fewer: the adapter carries another collection.
pub(super) fn why_removed(plan: &Plan) -> Option<String> {
    let Outlook::Foreseen(foreseen) = &plan.outlook else { return None };
    let before = foreseen.collection_before.as_ref()?;
    let collection = &plan.collection;
    let carries = plan.carries.as_ref().filter(|carries| carries.documents == 0);
    let none = carries.map(|carries| match &carries.collections[..] {
        [] => format!("; there is no document of {collection}"),
        others => {
            format!("; there is no document of {collection}, only of {}", others.join(", "))
        }
    });
    let none = none.unwrap_or_default();
    Some(format!("it carried {before}, and is to carry {collection} in its place{none}"))
}

pub(super) fn applied(applied: &[Applied]) -> String {
    let lines = applied.iter().map(|one| match one {
        Applied::Removed { adapter, .. } => {
            format!("{adapter}: not in the file any more; it ends")
        }
        Applied::Made { adapter, is_new: true, .. } => {
            format!("{adapter}: it is new and begins{AGAIN}")
        }
        Applied::Made { adapter, was_stopped: true, .. } => {
            format!("{adapter}: it was stopped and begins{AGAIN}")
        }
        Applied::Made { adapter, options, .. } if !options.is_empty() => {
            format!("{adapter}: applied; in effect now: {}", options.join(", "))
        }
        Applied::Made { adapter, .. } => format!("{adapter}: applied"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a comparison with a target found; `deletes_extra` if rows were to be deleted that no document
/// ever became.
pub(super) fn reconciled(report: &Report, deletes_extra: bool) -> Text {
    let (name, differing) = (&report.adapter, report.differing());
    let mut lines = Vec::new();
    if !report.rows.is_empty() {
        let mut table = Table::new(["ROW", "WHAT", "FIELDS"]);
        for row in &report.rows {
            let what = row.what.name().to_owned();
            table.row([named(&row.name, &row.record), what, row.fields.join(", ")]);
        }
        lines.push(table.fit(width()));
        let more = differing.saturating_sub(report.rows.len() as u64);
        if more > 0 {
            lines.push(format!("... and {more} more").into());
        }
    }
    let Report { missing, extra, differs, waiting, refused, .. } = report;
    let checked = count(report.checked, "row");
    let mut sum = format!(
        "{name}: {checked} compared; {missing} missing, {extra} extra, {differs} differing, {waiting} \
         on their way"
    );
    if *refused > 0 {
        sum.push_str(&format!("; {refused} refused, see `rejoin adapters dead-letters {name}`"));
    }
    if report.stale > 0 {
        let rows = count(report.stale, "row");
        let what = if report.dry_run { "would be enqueued anew" } else { "enqueued anew" };
        sum.push_str(&format!("; {rows} {what} from documents"));
    }
    match report.dry_run {
        true if differing > 0 => sum.push_str("; without --dry-run they are repaired"),
        true => {}
        false => sum.push_str(&format!("; {} sent again", report.repaired)),
    }
    lines.extend(wrap(&sum, width()).into_iter().map(Text::from));
    if *extra > 0 && !deletes_extra {
        let hint = "extra rows that no document ever became stay; --delete-extra deletes them";
        lines.extend(wrap(hint, width()).into_iter().map(Text::from));
    }
    Text::lines(lines)
}

pub(super) fn origin(origin: &Origin) -> Text {
    let document = origin.key.as_ref().and_then(Option::as_ref).unwrap_or(&origin.document);
    let row = named(&origin.name, &origin.record);
    let mut lines = vec![format!("{row} comes from {document}").into()];
    let mut table = Table::new(["FIELD", "FROM", "BY", "WHEN", "CHANGE", "SETTLED"]);
    let fields = origin.fields.as_deref().unwrap_or_default();
    for field in fields {
        let author = field.author.as_ref().and_then(Option::as_ref);
        let by = author.map(|author| match &author.role {
            Some(role) => format!("{} ({role})", author.user),
            None => author.user.clone(),
        });
        let short = |hex: Option<&String>| hex.map(|hex| hex.chars().take(8).collect());
        table.row([
            field.field.clone(),
            field.path.clone(),
            one_line(&by.unwrap_or_default()),
            field.time_s.map(clock).unwrap_or_default(),
            short(field.change.as_ref()).unwrap_or_default(),
            short(field.settles.as_ref().and_then(Option::as_ref)).unwrap_or_default(),
        ]);
    }
    if !fields.is_empty() {
        lines.push(Text::default());
        lines.push(table.fit(width()));
    }
    lines.push(Text::default());
    lines.push(match origin.deliveries.last() {
        None => "the target has not taken it yet".into(),
        Some(last) => {
            let number = count(origin.deliveries.len() as u64, "delivery");
            let at = clock_of_ms(last.at_ms.cast_signed());
            format!("{number} taken, the last at {at} as {}", last.key).into()
        }
    });
    Text::lines(lines)
}

/// What an adapter that did not run may need: nobody could note in its outbox what was applied.
const AGAIN: &str =
    "; if it had other rows before, `rejoin adapters status` asks for another `apply`";
