//! What adapters answer, as programs read it on the command line: `golden.jsonl` holds answers of
//! running adapters, each in a line with its kind.

#[cfg(unix)]
mod control;

use rejoin_adapters::run::Answer;
use serde_json::Value;

const GOLDEN: &str = include_str!("golden.jsonl");

#[test]
fn answers_are_read_and_written_as_they_were() {
    for line in GOLDEN.lines() {
        let told: Value = serde_json::from_str(line).unwrap();
        let answer: Answer = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&answer).unwrap(), told);
        let (kind, json) = told.as_object().unwrap().iter().next().unwrap();
        assert_eq!(answer.to_json(), *json, "{kind}");
    }
}

/// What another version leaves out must not look like nothing that waits.
#[test]
fn an_answer_without_what_belongs_to_it_is_not_read() {
    for gone in ["waiting", "state", "link", "same", "class", "checked", "deliveries", "mapping"] {
        let lines = GOLDEN.lines().filter(|line| line.contains(&format!("\"{gone}\":")));
        for line in lines {
            let without = line.replace(&format!("\"{gone}\":"), "\"another\":");
            assert!(serde_json::from_str::<Answer>(&without).is_err(), "{gone}: {line}");
        }
    }
}
