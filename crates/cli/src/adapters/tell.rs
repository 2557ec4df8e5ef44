//! What adapters answer, for people.

use anyhow::Result;
use serde_json::Value;

use super::compare;
use super::standing::standing;
use crate::arguments::AdaptersCommand;
use crate::clock::clock_of_ms;
use crate::layout::{Table, one_line, width, wrap};
use crate::output::{Output, Text, count};

pub(super) fn tell(command: &AdaptersCommand, answer: &Value, output: Output) -> Result<()> {
    if output.is_json() {
        return output.event(answer);
    }
    let text = match command {
        AdaptersCommand::Status => status(answer),
        AdaptersCommand::DeadLetters(_) => dead_letters(answer),
        AdaptersCommand::Show(_) => letter(answer).into(),
        AdaptersCommand::Replay(letters) => match letters.number {
            Some(_) => format!("{} is on its way again", named(answer)).into(),
            None => several(answer, "replayed", "on their way again").into(),
        },
        AdaptersCommand::Discard(letters) => match letters.number {
            Some(_) => format!("{} is let be", named(answer)).into(),
            None => several(answer, "discarded", "let be").into(),
        },
        AdaptersCommand::Retry(_) => retried(answer).into(),
        AdaptersCommand::Pause(_) => format!(
            "{} is paused; `rejoin adapters resume {}` goes on",
            text(answer, "adapter"),
            text(answer, "adapter")
        )
        .into(),
        AdaptersCommand::Resume(_) => {
            let waiting = count(answer["waiting"].as_u64().unwrap_or_default(), "delivery");
            format!("{} goes on, with {waiting} waiting", text(answer, "adapter")).into()
        }
        AdaptersCommand::Backfill(_) => {
            format!("{} delivers everything anew once it runs", text(answer, "adapter")).into()
        }
        AdaptersCommand::Rewind(_) => {
            let rows = count(answer["rows"].as_u64().unwrap_or_default(), "row");
            format!("{}: {rows} on their way again", text(answer, "adapter")).into()
        }
        AdaptersCommand::Plan(_) => compare::plan(answer),
        AdaptersCommand::Apply(_) => compare::applied(answer).into(),
        AdaptersCommand::Reconcile(options) => compare::reconciled(answer, options),
        AdaptersCommand::Feeds(_) => feeds(answer).into(),
        AdaptersCommand::Origin(_) => compare::origin(answer),
        AdaptersCommand::Run
        | AdaptersCommand::Lint(_)
        | AdaptersCommand::Init(_)
        | AdaptersCommand::Ddl(_)
        | AdaptersCommand::Check(_) => return Ok(()),
    };
    output.line(text)
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

pub(super) fn number(value: &Value, name: &str) -> String {
    value[name].as_u64().map(|number| number.to_string()).unwrap_or_default()
}

pub(super) fn named(letter: &Value) -> String {
    one_line(&format!("{} {}", text(letter, "name"), text(letter, "record")))
}

/// What became of several dead letters.
fn several(answer: &Value, what: &str, how: &str) -> String {
    let letters = count(answer[what].as_u64().unwrap_or_default(), "dead letter");
    format!("{}: {letters} {how}", text(answer, "adapter"))
}

fn retried(answer: &Value) -> String {
    let name = text(answer, "adapter");
    let waiting = count(answer["waiting"].as_u64().unwrap_or_default(), "delivery");
    match text(answer, "state") {
        "paused" | "disabled" => format!(
            "{name} is {}, with {waiting} waiting; `rejoin adapters resume {name}` goes on",
            text(answer, "state")
        ),
        _ => format!("{name} tries again at once, with {waiting} waiting"),
    }
}

fn status(answer: &Value) -> Text {
    let adapters = answer.as_array().map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(["ADAPTER", "STATE", "WAITING", "OLDEST", "DEAD", "LAG P50", "P99"]);
    for adapter in adapters {
        let late = if adapter["is_late"] == true { ", late" } else { "" };
        table.row([
            text(adapter, "adapter").to_owned(),
            format!("{}{late}", text(adapter, "state")),
            number(adapter, "waiting"),
            lasting(&adapter["oldest_ms"]),
            number(adapter, "dead_letters"),
            lasting(&adapter["lag_p50_ms"]),
            lasting(&adapter["lag_p99_ms"]),
        ]);
    }
    let mut lines = vec![table.fit(width())];
    for adapter in adapters {
        let name = text(adapter, "adapter");
        if let Some(why) = adapter["why"].as_str() {
            let why =
                format!("{name} was given up: {why}; `rejoin adapters resume {name}` tries again");
            lines.extend(wrap(&one_line(&why), width()).into_iter().map(Text::from));
        }
    }
    let unsent: Vec<_> = adapters
        .iter()
        .flat_map(|adapter| {
            let unsent = adapter["unsent"].as_array().map_or(&[][..], Vec::as_slice);
            unsent.iter().map(move |unsent| (adapter, unsent))
        })
        // Of those that failed, one line tells for each cause.
        .filter(|(_, unsent)| unsent["fault"].is_null())
        .collect();
    let standing = standing(adapters);
    lines.extend(standing.iter().flat_map(|line| wrap(line, width())).map(Text::from));
    if unsent.is_empty() {
        return Text::lines(lines);
    }
    let mut table = Table::new(["NOT YET IN", "DOCUMENT", "ROW", "SINCE", "WHY"]);
    for (adapter, unsent) in unsent {
        let document = unsent["key"].as_str().unwrap_or_else(|| text(unsent, "document"));
        let since = unsent["since_ms"].as_i64().map(clock_of_ms);
        table.row([
            text(adapter, "adapter").to_owned(),
            document.to_owned(),
            named(unsent),
            since.unwrap_or_default(),
            why_unsent(adapter).to_owned(),
        ]);
    }
    lines.push(Text::default());
    lines.push(table.fit(width()));
    Text::lines(lines)
}

/// Why a delivery waits that did not fail.
fn why_unsent(adapter: &Value) -> &'static str {
    match (text(adapter, "state"), text(&adapter["link"], "state")) {
        ("paused", _) => "it is paused",
        ("disabled", _) => "it was given up",
        (_, "not_running") => "it does not run",
        _ => "on its way",
    }
}

fn dead_letters(answer: &Value) -> Text {
    let letters = answer.as_array().map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        return "no dead letters".into();
    }
    let mut table = Table::new(["ADAPTER", "NUMBER", "ROW", "CLASS", "TRIED", "FAULT"]);
    for letter in letters {
        table.row([
            text(letter, "adapter").to_owned(),
            number(letter, "number"),
            named(letter),
            text(letter, "class").to_owned(),
            number(letter, "attempts"),
            one_line(text(letter, "fault")),
        ]);
    }
    let number = count(letters.len() as u64, "dead letter");
    let hint = format!("{number}; `rejoin adapters show ADAPTER NUMBER` shows one");
    Text::lines([table.fit(width()), hint.into()])
}

fn letter(letter: &Value) -> String {
    let (adapter, at) = (text(letter, "adapter"), letter["at_ms"].as_i64().unwrap_or_default());
    let id = number(letter, "number");
    let mut lines = vec![format!("dead letter {id} of {adapter}: {}", named(letter))];
    let document = letter["key"].as_str().unwrap_or_else(|| text(letter, "document"));
    let mut say = |label: &str, what: &str| {
        for (at, line) in wrap(&one_line(what), width().saturating_sub(10)).iter().enumerate() {
            lines.push(format!("{:10}{line}", if at == 0 { label } else { "" }));
        }
    };
    say("document", document);
    say("since", &clock_of_ms(at));
    say("class", text(letter, "class"));
    say("fault", text(letter, "fault"));
    if let Some(field) = letter["field"].as_str() {
        say("field", &format!("{field} = {}", rejoin::shown(&letter["value"])));
    }
    if let Some(answer) = letter["answer"].as_str() {
        say("answer", answer);
    }
    say("tried", &count(letter["attempts"].as_u64().unwrap_or_default(), "time"));
    if let Some(delivery) = letter.get("delivery").filter(|delivery| !delivery.is_null()) {
        say("row", &delivery["row"].to_string());
    }
    lines.push(format!("rejoin adapters replay {adapter} {id}    # delivers it after all"));
    lines.push(format!("rejoin adapters discard {adapter} {id}   # lets it be"));
    lines.join("\n")
}

/// Addresses have lines of their own, and are never cut: they are to be copied.
fn feeds(answer: &Value) -> String {
    let feeds = answer.as_array().map_or(&[][..], Vec::as_slice);
    if feeds.is_empty() {
        return "nothing is to be had here: there are no calendars yet, and no events".to_owned();
    }
    let mut lines = Vec::new();
    for feed in feeds {
        lines.push(one_line(&format!("{} {}", text(feed, "adapter"), text(feed, "name"))));
        lines.push(format!("  {}", text(feed, "url")));
    }
    if feeds.iter().any(|feed| feed["secret"] == true) {
        let note = "Whoever knows a calendar's address can read it: give each only to those it is \
                    for.";
        lines.extend(wrap(note, width()));
    }
    let note = "Behind a reverse proxy they begin with its address.";
    lines.extend(wrap(note, width()));
    lines.join("\n")
}

/// A number of milliseconds as people say it.
fn lasting(ms: &Value) -> String {
    match ms.as_u64() {
        None => String::new(),
        Some(ms) if ms < 1000 => format!("{ms} ms"),
        Some(ms) if ms < 120_000 => format!("{} s", ms / 1000),
        Some(ms) if ms < 7_200_000 => format!("{} min", ms / 60_000),
        Some(ms) => format!("{} h", ms / 3_600_000),
    }
}
