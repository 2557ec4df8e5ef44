//! What adapters answer, for people.

use anyhow::Result;
use rejoin_adapters::run::answer::{Answer, Feed, Letter, Link, State, Status};
use serde_json::json;

use super::arguments::AskCommand;
use super::compare;
use super::standing::standing;
use crate::clock::clock_of_ms;
use crate::layout::{Table, one_line, width, wrap};
use crate::output::{Output, Text, count};

pub(super) fn tell(command: &AskCommand, answer: &Answer, output: Output) -> Result<()> {
    output.result(&answer.to_json(), || said(command, answer))
}

/// Tells of one dead letter.
pub(super) fn tell_letter(one: &Letter, output: Output) -> Result<()> {
    output.result(&json!(one), || letter(one))
}

fn said(command: &AskCommand, answer: &Answer) -> Text {
    match answer {
        Answer::Status(adapters) => status(adapters),
        // It is read where a mapping is written, and nobody asks for it by itself.
        Answer::Known(known) => known.schemas.as_str().into(),
        Answer::DeadLetters(letters) => dead_letters(letters),
        Answer::Replayed(letter) => {
            format!("{} is on its way again", named(&letter.name, &letter.record)).into()
        }
        Answer::ReplayedAll(all) => {
            let letters = count(all.replayed, "dead letter");
            format!("{}: {letters} on their way again", all.adapter).into()
        }
        Answer::Discarded(letter) => {
            format!("{} is let be", named(&letter.name, &letter.record)).into()
        }
        Answer::DiscardedAll(all) => {
            format!("{}: {} let be", all.adapter, count(all.discarded, "dead letter")).into()
        }
        Answer::Paused(Status { adapter: name, .. }) => {
            format!("{name} is paused; `rejoin adapters resume {name}` goes on").into()
        }
        Answer::Resumed(status) => {
            format!("{} goes on, with {} waiting", status.adapter, waiting(status)).into()
        }
        Answer::Retried(status) => retried(status).into(),
        Answer::Backfilled(status) => {
            format!("{} delivers everything anew once it runs", status.adapter).into()
        }
        Answer::Rewound(rewound) => {
            let rows = count(rewound.rows, "row");
            format!("{}: {rows} on their way again", rewound.adapter).into()
        }
        Answer::Plan(plans) => compare::plan(plans),
        Answer::Applied(applied) => compare::applied(applied).into(),
        Answer::Reconciled(report) => {
            let deletes_extra =
                matches!(command, AskCommand::Reconcile(options) if options.delete_extra);
            compare::reconciled(report, deletes_extra)
        }
        Answer::Feeds(all) => feeds(all).into(),
        Answer::Origin(origin) => compare::origin(origin),
    }
}

/// A row as people call it: its kind and its key.
pub(super) fn named(name: &str, record: &str) -> String {
    one_line(&format!("{name} {record}"))
}

/// How many deliveries wait.
fn waiting(status: &Status) -> String {
    count(status.begun().map_or(0, |begun| begun.waiting), "delivery")
}

fn retried(status: &Status) -> String {
    let (name, waiting) = (&status.adapter, waiting(status));
    match status.begun().map(|begun| begun.state) {
        Some(state @ (State::Paused | State::Disabled)) => format!(
            "{name} is {}, with {waiting} waiting; `rejoin adapters resume {name}` goes on",
            state.name()
        ),
        _ => format!("{name} tries again at once, with {waiting} waiting"),
    }
}

fn status(adapters: &[Status]) -> Text {
    let mut table = Table::new(["ADAPTER", "STATE", "WAITING", "OLDEST", "DEAD", "LAG P50", "P99"]);
    for adapter in adapters {
        let (name, state) = (adapter.adapter.clone(), adapter.state());
        let begun = adapter.begun();
        let late = if begun.is_some_and(|begun| begun.is_late) { ", late" } else { "" };
        let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
        table.row([
            name,
            format!("{state}{late}"),
            number(begun.map(|begun| begun.waiting)),
            lasting(begun.and_then(|begun| begun.oldest_ms)),
            number(begun.map(|begun| begun.dead_letters)),
            lasting(begun.and_then(|begun| begun.lag_p50_ms)),
            lasting(begun.and_then(|begun| begun.lag_p99_ms)),
        ]);
    }
    let mut lines = vec![table.fit(width())];
    let standing = standing(adapters);
    lines.extend(standing.iter().flat_map(|line| wrap(line, width())).map(Text::from));
    lines.extend(unsent(adapters));
    Text::lines(lines)
}

/// The rows that are not at their targets yet and did not fail, as a table below an empty line. Of those
/// that failed, one line tells for each cause.
fn unsent(adapters: &[Status]) -> Vec<Text> {
    let begun = adapters.iter().filter_map(|adapter| Some((adapter, adapter.begun()?)));
    let unsent = begun.flat_map(|(adapter, begun)| {
        let unsent = begun.unsent.iter().filter(|unsent| unsent.fault.is_none());
        unsent.map(move |unsent| (&adapter.adapter, why_unsent(begun.state, &adapter.link), unsent))
    });
    let mut unsent = unsent.peekable();
    if unsent.peek().is_none() {
        return Vec::new();
    }
    let mut table = Table::new(["NOT YET IN", "DOCUMENT", "ROW", "SINCE", "WHY"]);
    for (adapter, why, unsent) in unsent {
        table.row([
            adapter.clone(),
            unsent.key.as_ref().unwrap_or(&unsent.document).clone(),
            named(&unsent.name, &unsent.record),
            clock_of_ms(unsent.since_ms.cast_signed()),
            why.to_owned(),
        ]);
    }
    vec![Text::default(), table.fit(width())]
}

/// Why a delivery waits that did not fail.
fn why_unsent(state: State, link: &Link) -> &'static str {
    match (state, link) {
        (State::Paused, _) => "it is paused",
        (State::Disabled, _) => "it was given up",
        (_, Link::NotRunning) => "it does not run",
        _ => "on its way",
    }
}

fn dead_letters(letters: &[Letter]) -> Text {
    if letters.is_empty() {
        return "no dead letters".into();
    }
    let mut table = Table::new(["ADAPTER", "NUMBER", "ROW", "CLASS", "TRIED", "FAULT"]);
    for letter in letters {
        table.row([
            letter.adapter.clone(),
            letter.number.to_string(),
            named(&letter.name, &letter.record),
            letter.class.name().to_owned(),
            letter.attempts.to_string(),
            one_line(&letter.fault),
        ]);
    }
    let number = count(letters.len() as u64, "dead letter");
    let hint = format!("{number}; `rejoin adapters show ADAPTER NUMBER` shows one");
    Text::lines([table.fit(width()), hint.into()])
}

fn letter(letter: &Letter) -> String {
    let (adapter, number) = (&letter.adapter, letter.number);
    let row = named(&letter.name, &letter.record);
    let mut lines = vec![format!("dead letter {number} of {adapter}: {row}")];
    let mut say = |label: &str, what: &str| {
        for (at, line) in wrap(&one_line(what), width().saturating_sub(10)).iter().enumerate() {
            lines.push(format!("{:10}{line}", if at == 0 { label } else { "" }));
        }
    };
    say("document", letter.key.as_ref().unwrap_or(&letter.document));
    say("since", &clock_of_ms(letter.at_ms.cast_signed()));
    say("class", letter.class.name());
    say("fault", &letter.fault);
    if let Some(field) = &letter.field {
        let value = letter.value.as_ref().map(rejoin::view::shown).unwrap_or_default();
        say("field", &format!("{field} = {value}"));
    }
    if let Some(answer) = &letter.answer {
        say("answer", answer);
    }
    say("tried", &count(letter.attempts, "time"));
    if let Some(delivery) = &letter.delivery {
        say("row", &json!(delivery.row).to_string());
    }
    lines.push(format!("rejoin adapters replay {adapter} {number}    # delivers it after all"));
    lines.push(format!("rejoin adapters discard {adapter} {number}   # lets it be"));
    lines.join("\n")
}

/// Addresses have lines of their own, and are never cut: they are to be copied.
fn feeds(feeds: &[Feed]) -> String {
    if feeds.is_empty() {
        return "nothing is to be had here: there are no calendars yet, and no events".to_owned();
    }
    let mut lines = Vec::new();
    for feed in feeds {
        lines.push(named(&feed.adapter, &feed.name));
        lines.push(format!("  {}", feed.url));
    }
    if feeds.iter().any(|feed| feed.is_secret) {
        let note = "Whoever knows a calendar's address can read it: give each only to those it is \
                    for.";
        lines.extend(wrap(note, width()));
    }
    let note = "Behind a reverse proxy they begin with its address.";
    lines.extend(wrap(note, width()));
    lines.join("\n")
}

/// A number of milliseconds as people say it.
fn lasting(ms: Option<u64>) -> String {
    match ms {
        None => String::new(),
        Some(ms) if ms < 1000 => format!("{ms} ms"),
        Some(ms) if ms < 120_000 => format!("{} s", ms / 1000),
        Some(ms) if ms < 7_200_000 => format!("{} min", ms / 60_000),
        Some(ms) => format!("{} h", ms / 3_600_000),
    }
}
