//! The options of one field.

use serde_json::{Map, Value};

use super::{Read, has_options, in_words, shape};
use crate::Path;
use crate::schema::form::strings;
use crate::schema::{Field, Kind, Rule, SKEW_S};

/// Reads one field.
pub(super) struct FieldReader<'a> {
    pub(super) out: &'a mut Read,
    /// As it is written.
    pub(super) name: &'a str,
    pub(super) options: &'a Map<String, Value>,
}

impl FieldReader<'_> {
    pub(super) fn read(mut self) -> Field {
        for option in self.options.keys().filter(|option| !OPTIONS.contains(&option.as_str())) {
            self.unknown_option(option);
        }
        Field {
            merge: self.merge(),
            kind: self.kind(),
            required: self.flag("required"),
            default: self.default(),
            writers: self.list("writers").map(|roles| roles.into_iter().collect()),
            index: self.flag("index") || self.options.contains_key("index_then"),
            index_then: self.paths("index_then"),
        }
    }

    fn merge(&mut self) -> Rule {
        let (rule, named) = match self.options.get("merge") {
            None => (Some(Rule::Review), "review"),
            Some(Value::String(name)) => (self.rule(name), name.as_str()),
            Some(other) => {
                let (name, is) = (self.name, shape(other));
                self.error("merge", format!("merge of field {name:?} is {is}; {}", one_of_rules()));
                (None, "")
            }
        };
        let Some(rule) = rule else {
            ["merge", "order", "owner", "skew"].iter().for_each(|option| self.keep(option));
            return Rule::Review;
        };
        for (option, owner) in [("order", "order"), ("owner", "owner"), ("skew", "latest")] {
            if owner != named && self.options.contains_key(option) {
                self.keep(option);
                let name = self.name;
                let wrong = format!(
                    "field {name:?} has an option {option}, which belongs to merge = {owner:?}, and \
                     merges by {named}; leave {option} out or change merge"
                );
                self.error(option, wrong);
            }
        }
        rule
    }

    /// The rule of this name, with its options; `None` if they are wrong.
    fn rule(&mut self, name: &str) -> Option<Rule> {
        Some(match name {
            "text" => Rule::Text,
            "counter" => Rule::Counter,
            "set" => Rule::Set,
            "list" => Rule::List,
            "map" => Rule::Map,
            "review" => Rule::Review,
            "order" => Rule::Order(self.order()?),
            "owner" => Rule::Owner(self.owner()?),
            "max" => Rule::Max,
            "min" => Rule::Min,
            "latest" => Rule::Latest { skew_s: self.skew_s()? },
            "any" => Rule::Any,
            _ => {
                let field = self.name;
                let wrong = format!("field {field:?} merges by {name:?}, which is no rule");
                self.error("merge", format!("{wrong}; {}", one_of_rules()));
                return None;
            }
        })
    }

    fn order(&mut self) -> Option<Vec<String>> {
        if !self.options.contains_key("order") {
            let wrong = format!(
                "field {:?} merges by order and does not say which; add order = [\"first\", \
                 \"next\", \"last\"]",
                self.name
            );
            self.error("merge", wrong);
        }
        self.list("order")
    }

    fn owner(&mut self) -> Option<String> {
        let name = self.name;
        let wrong = match self.options.get("owner") {
            Some(Value::String(owner)) => return Some(owner.clone()),
            None => {
                let wrong = format!("field {name:?} merges by owner and does not say whose value");
                self.error("merge", format!("{wrong} counts; add owner = \"ROLE\""));
                return None;
            }
            Some(Value::Array(owners)) if owners.len() > 1 => {
                let owners: Vec<_> = owners.iter().map(ToString::to_string).collect();
                let count = if owners.len() == 2 { "two" } else { "several" };
                format!(
                    "field {name:?} has {count} owners, {}, and only one value can count; keep one \
                     of them, and name the others in writers",
                    in_words(&owners, "and")
                )
            }
            Some(other) => {
                format!("owner of field {name:?} is {}; write owner = \"ROLE\"", shape(other))
            }
        };
        self.error("owner", wrong);
        None
    }

    fn skew_s(&mut self) -> Option<u64> {
        let Some(skew) = self.options.get("skew") else { return Some(SKEW_S) };
        let seconds = skew.as_str().and_then(seconds);
        if seconds.is_none() {
            let name = self.name;
            let how = "write a number and its unit in quotes: skew = \"120s\", \"2m\" or \"1h\"";
            self.error("skew", format!("skew of field {name:?} is {skew}; {how}"));
        }
        seconds
    }

    fn kind(&mut self) -> Option<Kind> {
        let given = self.options.get("type")?;
        let kind = Kind::ALL.into_iter().find(|kind| given.as_str() == Some(kind.name()));
        if kind.is_none() {
            self.keep("type");
            let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            let (name, kinds) = (self.name, in_words(&kinds, "or"));
            let wrong = format!("type of field {name:?} is {given}; write {kinds}, in quotes");
            self.error("type", wrong);
        }
        kind
    }

    fn flag(&mut self, option: &str) -> bool {
        match self.options.get(option) {
            None => false,
            Some(Value::Bool(is_so)) => *is_so,
            Some(other) => {
                let (name, is) = (self.name, shape(other));
                self.keep(option);
                let wrong = format!("{option} of field {name:?} is {is}; write true or false");
                self.error(option, wrong);
                false
            }
        }
    }

    fn default(&mut self) -> Option<Value> {
        let default = self.options.get("default")?;
        if default.is_null() {
            self.keep("default");
            let wrong = format!("default of field {:?} is null; leave it out", self.name);
            self.error("default", wrong);
            return None;
        }
        Some(default.clone())
    }

    /// A list of strings.
    fn list(&mut self, option: &str) -> Option<Vec<String>> {
        let given = self.options.get(option)?;
        let list = strings(given);
        if list.is_none() {
            self.keep(option);
            let wrong = format!(
                "{option} of field {:?} is {given}; write strings in brackets, as in {option} = \
                 [\"one\", \"other\"]",
                self.name
            );
            self.error(option, wrong);
        }
        list
    }

    fn paths(&mut self, option: &str) -> Vec<Path> {
        let names = self.list(option).unwrap_or_default();
        names.iter().map(|name| Path::from(name.as_str())).collect()
    }

    fn unknown_option(&mut self, option: &str) {
        self.keep(option);
        let name = self.name;
        if self.options[option].as_object().is_some_and(has_options) {
            let wrong = format!(
                "field {name:?} has an option {option:?} that looks like a field inside of it; \
                 write its whole path in quotes, as in \"{name}.{option}\" = {{ .. }}"
            );
            return self.error(option, wrong);
        }
        let unknown = format!(
            "field {name:?} has an option {option:?}, which this version does not understand; it \
             knows {}",
            in_words(&OPTIONS, "and")
        );
        self.out.warn(&["fields", name, option], unknown);
    }

    fn error(&mut self, option: &str, message: String) {
        self.out.error(&["fields", self.name, option], message);
    }

    fn keep(&mut self, option: &str) {
        if let Some(value) = self.options.get(option) {
            let field = Path::from(self.name).to_string();
            self.out.keep(&["fields", &field, option], value);
        }
    }
}

fn one_of_rules() -> String {
    format!("write {}, in quotes", in_words(&Rule::NAMES, "or"))
}

/// `120s`, `2m` or `1h` in seconds.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_s)
}

/// The options of a field, in the order in which they are written.
pub(in crate::schema) const OPTIONS: [&str; 10] = [
    "merge",
    "order",
    "owner",
    "skew",
    "type",
    "required",
    "default",
    "writers",
    "index",
    "index_then",
];
