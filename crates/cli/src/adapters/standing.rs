//! Whether all is well with adapters, and if not, why not: nothing is called delivered that cannot be
//! known to be.

use serde_json::Value;

use super::tell::{number, text};
use crate::clock::{clock_of_ms, now_ms};
use crate::layout::one_line;
use crate::output::count;

/// What keeps every target from having everything, a line each; if there is nothing, that everything is
/// there, as far as the adapters carry anything.
pub(super) fn standing(adapters: &[Value]) -> Vec<String> {
    let mut lines: Vec<String> =
        adapters.first().and_then(|first| link(&first["link"])).into_iter().collect();
    for adapter in adapters {
        lines.extend(of_one(adapter));
    }
    let unsent: u64 = adapters.iter().filter_map(|adapter| adapter["waiting"].as_u64()).sum();
    if lines.is_empty() && unsent == 0 {
        lines.push("every target has everything".to_owned());
    }
    lines.iter().map(|line| one_line(line)).collect()
}

/// What is not as it should be with the relay.
pub(super) fn link(link: &Value) -> Option<String> {
    match text(link, "state") {
        "connected" => None,
        "not_running" => Some(
            "nobody runs these adapters, so nothing is delivered and what changes is not known; \
             `rejoin adapters run` does"
                .to_owned(),
        ),
        "away" => {
            let why = link["trouble"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
            let since = match link["last_seen_ms"].as_i64() {
                Some(seen) => format!("not connected to the relay since {}", clock_of_ms(seen)),
                None => "not connected to the relay since the adapters began".to_owned(),
            };
            Some(format!("{since}{why}: what changed there is not known here"))
        }
        _ => Some(match (link["documents"].as_u64(), link["of"].as_u64()) {
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
fn trouble(name: &str, trouble: &Value) -> String {
    let of = match (text(trouble, "reach"), trouble["kind"].as_str()) {
        ("target", _) => format!("{name} is down"),
        (_, Some(kind)) => format!("{name} delivers no {kind}"),
        _ => format!("{name} tries again"),
    };
    let since = trouble["since_ms"].as_i64().map(clock_of_ms).unwrap_or_default();
    let waiting = count(trouble["rows"].as_u64().unwrap_or_default(), "row");
    let next = match trouble["next_ms"].as_i64() {
        Some(next) if next <= now_ms() => "being tried now".to_owned(),
        Some(next) => format!("tried next at {}", clock_of_ms(next)),
        None => "not tried for now".to_owned(),
    };
    let what = text(trouble, "what");
    format!(
        "{of} since {since}: {what}; {waiting} waiting, {next}; `rejoin adapters retry {name}` tries \
         at once"
    )
}

/// What is not as it should be with one adapter, a line each.
pub(super) fn of_one(adapter: &Value) -> Vec<String> {
    let name = text(adapter, "adapter");
    let mut lines = Vec::new();
    match text(adapter, "state") {
        "paused" => {
            lines.push(format!("{name} is paused; `rejoin adapters resume {name}` goes on"))
        }
        "stopped" => lines.push(format!(
            "{name} is stopped, as it cannot begin: {}; the others go on. Correct it, and run the \
             adapters again",
            text(adapter, "stopped")
        )),
        "changed" => lines.push(format!(
            "{name} makes no rows: its mapping in the file is not the one that was applied; \
             `rejoin adapters plan {name}` shows what would change, `apply {name}` makes it so"
        )),
        "new" => {
            lines.push(format!(
                "{name} is in the file and does not run; `rejoin adapters apply {name}` begins it"
            ));
            return lines;
        }
        _ if adapter["in_file"] == "changed" => lines.push(format!(
            "{name} runs as before: the file says otherwise by now; `rejoin adapters plan {name}` \
             shows which rows would change, `apply {name}` makes it so"
        )),
        _ => {}
    }
    if adapter["in_file"] == "removed" {
        lines.push(format!(
            "{name} is not in the file any more and runs on; `rejoin adapters apply` ends it"
        ));
    }
    let troubles = adapter["troubles"].as_array().map_or(&[][..], Vec::as_slice);
    lines.extend(troubles.iter().map(|it| trouble(name, it)));
    let carries = &adapter["carries"];
    if carries["documents"] == 0 {
        let others: Vec<_> = carries["collections"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let others = match others.is_empty() {
            true => "there are no documents at all".to_owned(),
            false => format!("there are documents of {}", others.join(", ")),
        };
        let collection = text(adapter, "collection");
        lines.push(format!(
            "{name} carries {collection}, of which there is no document here; {others}"
        ));
    }
    if adapter["dead_letters"].as_u64().is_some_and(|dead| dead > 0) {
        let dead = count(adapter["dead_letters"].as_u64().unwrap_or_default(), "dead letter");
        lines.push(format!("{name} has {dead}; `rejoin adapters dead-letters {name}` lists them"));
    }
    if let Some(discarded) = adapter["discarded"].as_u64().filter(|discarded| *discarded > 0) {
        let rows = count(discarded, "row");
        lines.push(format!(
            "{name}: {rows} not at the target as in the documents, since their dead letters were \
             discarded; `rejoin adapters backfill {name}` delivers everything anew"
        ));
    }
    let misfits = &adapter["reconciled"];
    let differ: u64 =
        ["missing", "extra", "differs"].iter().filter_map(|what| misfits[what].as_u64()).sum();
    let repaired = misfits["repaired"].as_u64().unwrap_or_default();
    if differ > repaired {
        lines.push(format!(
            "{name}: {} of {} rows were not as they should be when the target was compared last",
            differ - repaired,
            number(misfits, "checked"),
        ));
    }
    lines
}
