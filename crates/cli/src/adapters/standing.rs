//! Whether all is well with adapters, and if not, why not: nothing is called delivered that cannot be
//! known to be.

use rejoin_adapters::run::answer::{
    Begun, InFile, Link, NotBegun, Reach, Standing, State, Status, Trouble,
};

use crate::clock::{clock_of_ms, now_ms};
use crate::layout::one_line;
use crate::output::count;

/// What keeps every target from having everything, a line each; if there is nothing, that everything is
/// there, as far as the adapters carry anything.
pub(super) fn standing(adapters: &[Status]) -> Vec<String> {
    let mut lines: Vec<String> =
        adapters.first().and_then(|first| link(&first.link)).into_iter().collect();
    for adapter in adapters {
        lines.extend(of_one(adapter));
    }
    let unsent: u64 = adapters.iter().filter_map(Status::begun).map(|begun| begun.waiting).sum();
    if lines.is_empty() && unsent == 0 {
        lines.push("every target has everything".to_owned());
    }
    lines.iter().map(|line| one_line(line)).collect()
}

/// What is not as it should be with the relay.
pub(super) fn link(link: &Link) -> Option<String> {
    match link {
        Link::Connected(_) => None,
        Link::NotRunning => Some(
            "nobody runs these adapters, so nothing is delivered and what changes is not known; \
             `rejoin adapters run` does"
                .to_owned(),
        ),
        Link::Away(seen) => {
            let why = seen.trouble.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let since = match seen.last_seen_ms {
                Some(seen_ms) => {
                    let seen = clock_of_ms(seen_ms.cast_signed());
                    format!("not connected to the relay since {seen}")
                }
                None => "not connected to the relay since the adapters began".to_owned(),
            };
            Some(format!("{since}{why}: what changed there is not known here"))
        }
        Link::Syncing(seen) => Some(match (seen.documents, seen.of) {
            (Some(here), Some(of)) => {
                format!(
                    "{here} of {of} documents have come from the relay; the others are on their way"
                )
            }
            _ => "the relay is being heard; not everything has come".to_owned(),
        }),
    }
}

/// What keeps deliveries from being taken, and what to do about it.
fn trouble(name: &str, trouble: &Trouble, state: State) -> String {
    let of = match (trouble.reach, &trouble.kind) {
        (Reach::Target, _) => format!("{name} is down"),
        (Reach::Kind, Some(kind)) => format!("{name} delivers no {kind}"),
        (Reach::Kind | Reach::Rows, _) => format!("{name} tries again"),
    };
    let since = clock_of_ms(trouble.since_ms.cast_signed());
    let waiting = count(trouble.rows, "row");
    let next = match trouble.next_ms.map(u64::cast_signed) {
        Some(next) if next <= now_ms() => "being tried now".to_owned(),
        Some(next) => format!("tried next at {}", clock_of_ms(next)),
        None => "not tried for now".to_owned(),
    };
    let what = &trouble.what;
    let how = match state {
        State::Paused | State::Disabled => format!("`rejoin adapters resume {name}` goes on"),
        _ => format!("`rejoin adapters retry {name}` tries at once"),
    };
    format!("{of} since {since}: {what}; {waiting} waiting, {next}; {how}")
}

/// What is not as it should be with one adapter, a line each.
pub(super) fn of_one(adapter: &Status) -> Vec<String> {
    let name = &adapter.adapter;
    let mut lines = Vec::new();
    match &adapter.standing {
        Standing::NotBegun(NotBegun::New) => {
            lines.push(format!(
                "{name} is in the file and does not run; `rejoin adapters apply {name}` begins it"
            ));
            return lines;
        }
        Standing::NotBegun(NotBegun::Stopped { stopped }) => lines.push(format!(
            "{name} is stopped, as it cannot begin: {stopped}; the others go on. Correct it, and run \
             the adapters again"
        )),
        Standing::Begun(begun) => lines.extend(not_as_applied(name, begun.state, adapter.in_file)),
    }
    if adapter.in_file == Some(InFile::Removed) {
        lines.push(format!(
            "{name} is not in the file any more and runs on; `rejoin adapters apply` ends it"
        ));
    }
    lines.extend(adapter.begun().into_iter().flat_map(|begun| of_begun(name, begun)));
    lines
}

/// What somebody paused or changed, and what goes on with it.
fn not_as_applied(name: &str, state: State, in_file: Option<InFile>) -> Option<String> {
    match state {
        State::Paused => Some(format!("{name} is paused; `rejoin adapters resume {name}` goes on")),
        State::Changed => Some(format!(
            "{name} makes no rows: its mapping in the file is not the one that was applied; \
             `rejoin adapters plan {name}` shows what would change, `apply {name}` makes it so"
        )),
        State::Up | State::Down | State::Disabled => {
            let changed = in_file.filter(|in_file| *in_file == InFile::Changed);
            changed.map(|_| {
                format!(
                    "{name} runs as before: the file says otherwise by now; `rejoin adapters plan \
                     {name}` shows which rows would change, `apply {name}` makes it so"
                )
            })
        }
    }
}

/// What is not as it should be with deliveries, and with what there is to deliver.
fn of_begun(name: &str, begun: &Begun) -> Vec<String> {
    let given_up = begun.why.iter().map(|why| {
        format!("{name} was given up: {why}; `rejoin adapters resume {name}` tries again")
    });
    let troubles = begun.troubles.iter().map(|it| trouble(name, it, begun.state));
    let mut lines: Vec<_> = given_up.chain(troubles).collect();
    if let Some(carries) = begun.carries.as_ref().filter(|carries| carries.documents == 0) {
        let others = match carries.collections.is_empty() {
            true => "there are no documents at all".to_owned(),
            false => format!("there are documents of {}", carries.collections.join(", ")),
        };
        let collection = &begun.collection;
        lines.push(format!(
            "{name} carries {collection}, of which there is no document here; {others}"
        ));
    }
    if begun.dead_letters > 0 {
        let dead = count(begun.dead_letters, "dead letter");
        lines.push(format!("{name} has {dead}; `rejoin adapters dead-letters {name}` lists them"));
    }
    if begun.discarded > 0 {
        let rows = count(begun.discarded, "row");
        lines.push(format!(
            "{name}: {rows} not at the target as in the documents, since their dead letters were \
             discarded; `rejoin adapters backfill {name}` delivers everything anew"
        ));
    }
    if let Some(report) = begun.reconciled.as_ref().filter(|it| it.differing() > it.repaired) {
        lines.push(format!(
            "{name}: {} of {} rows were not as they should be when the target was compared last",
            report.differing() - report.repaired,
            report.checked,
        ));
    }
    lines
}
