//! Reading a schema file, and finding everything that is wrong in it at once.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue, Error};

use super::read::{Read, read};
use super::{Fault, RESERVED, Schema, Schemas, Severity};
use crate::number::exact_number;
use crate::time::{NoZone, Zone};
use crate::{CollectionName, Path};

/// The content of a schema file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The schemas that could be understood. In a file with errors they are only a part, which is
    /// not to be applied.
    pub schemas: Schemas,
    /// The findings, in the order of their places in the file.
    pub findings: Vec<Finding>,
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The line, counting from 1.
    pub line: usize,
    /// The character in the line, counting from 1.
    pub column: usize,
    /// Whether the file can be applied nevertheless.
    pub severity: Severity,
    /// The finding, and the way to correct it.
    pub message: String,
}

/// As compilers print it, to stand after the name of the file and a colon.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, severity, message } = self;
        write!(f, "{line}:{column}: {severity}: {message}")
    }
}

impl Parsed {
    /// The number of findings of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether the schemas can be applied.
    pub fn is_sound(&self) -> bool {
        self.count(Severity::Error) == 0
    }
}

/// Reads the text of a schema file.
///
/// ```
/// use rejoin_core::schema::parse;
///
/// let parsed = parse("
/// [jobs.fields]
/// notes  = { merge = 'text' }
/// status = { merge = 'order', order = ['booked', 'done', 'booked'] }
/// ");
/// assert_eq!(parsed.findings[0].to_string(), "4:56: error: the order of field \"status\" goes in \
///     a circle: \"booked\" is in it twice, and so comes before itself; leave one of them out");
/// ```
pub fn parse(text: &str) -> Parsed {
    let (table, errors) = DeTable::parse_recoverable(text);
    let file = File { text, table: table.get_ref() };
    let mut findings = file.syntax(&errors);
    let mut schemas = Schemas::new();
    // In broken text the places of other faults are guesses.
    if errors.iter().all(is_duplicate) {
        let (found, faults) = file.schemas();
        schemas = found;
        findings.extend(faults.into_iter().map(|fault| file.finding(fault)));
    }
    findings.sort();
    findings.dedup();
    Parsed { schemas, findings }
}

struct File<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
}

impl File<'_> {
    /// The faults of the text as TOML: one finding a line, as one slip makes many errors.
    fn syntax(&self, errors: &[Error]) -> Vec<Finding> {
        let mut lines = BTreeMap::new();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let (line, column) = self.position(span.start);
            let message = if is_duplicate(error) {
                let name = self.text.get(span).unwrap_or_default();
                format!("{name} is written twice; leave one of them out")
            } else {
                format!(
                    "this is not TOML: {}; correct it to see what else there is",
                    error.message()
                )
            };
            let finding = Finding { line, column, severity: Severity::Error, message };
            lines.entry(line).or_insert(finding);
        }
        lines.into_values().collect()
    }

    fn schemas(&self) -> (Schemas, Vec<Fault>) {
        let mut schemas = Schemas::new();
        let mut faults = Vec::new();
        let of_all = self.zone_of_all(&mut faults);
        for (key, value) in self.table.iter() {
            let name = key.get_ref().as_ref();
            let place = [name.to_owned()];
            if name == ZONE && !matches!(value.get_ref(), DeValue::Table(_)) {
                continue;
            }
            match collection(name) {
                Ok(collection) => {
                    let schema = schema(value.get_ref(), &place, of_all, &mut faults);
                    schemas.insert(collection, schema);
                }
                Err(message) => faults.push(error(&place, message)),
            }
        }
        if schemas.is_empty() && faults.is_empty() {
            let message = "no collection is described; write [jobs.fields], with the name of yours";
            faults.push(error(&[], message.to_owned()));
        }
        (schemas, faults)
    }

    /// The zone of every collection of the file that does not say another.
    fn zone_of_all(&self, faults: &mut Vec<Fault>) -> Option<Zone> {
        let (_, value) = entry(self.table, ZONE)?;
        let wrong = match value {
            DeValue::Table(_) => return None,
            DeValue::String(name) => match name.parse() {
                Ok(zone) => return Some(zone),
                Err(no_zone) => NoZone::to_string(&no_zone),
            },
            _ => "zone is no name; write one such as \"Europe/Madrid\"".to_owned(),
        };
        faults.push(error(&[ZONE.to_owned()], wrong));
        None
    }

    fn finding(&self, fault: Fault) -> Finding {
        let (line, column) = self.position(self.find(&fault.place));
        Finding { line, column, severity: fault.severity, message: fault.message }
    }

    /// The byte at which the last part on the way to a place stands.
    fn find(&self, place: &[String]) -> usize {
        let Some((first, mut rest)) = place.split_first() else { return 0 };
        let Some((key, value)) = entry(self.table, first) else { return 0 };
        let (mut at, mut value) = (key, value);
        while let Some((step, after)) = rest.split_first() {
            rest = after;
            let inside = match value {
                DeValue::Table(table) => entry(table, step),
                DeValue::Array(items) => {
                    let item = step.parse::<usize>().ok().and_then(|step| items.get(step));
                    item.map(|item| (item.span().start, item.get_ref()))
                }
                _ => None,
            };
            let Some(inside) = inside else { break };
            (at, value) = inside;
        }
        at
    }

    /// Line and column of a byte.
    fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        let lines = before.matches('\n').count();
        (lines + 1, line.trim_start_matches('\u{feff}').chars().count() + 1)
    }
}

/// The byte at which a key stands, and its value. Paths may be written in several ways.
fn entry<'a>(table: &'a DeTable<'a>, step: &str) -> Option<(usize, &'a DeValue<'a>)> {
    let exactly = table.get_key_value(step);
    let path =
        || table.iter().find(|(key, _)| Path::from(key.get_ref().as_ref()) == Path::from(step));
    let (key, value) = exactly.or_else(path)?;
    Some((key.span().start, value.get_ref()))
}

fn collection(name: &str) -> Result<CollectionName, String> {
    if name.starts_with(RESERVED) {
        return Err(format!(
            "collections that begin with {RESERVED:?} belong to Rejoin itself; take another name"
        ));
    }
    CollectionName::new(name).map_err(|error| error.to_string())
}

fn schema(
    value: &DeValue<'_>,
    place: &[String],
    of_all: Option<Zone>,
    faults: &mut Vec<Fault>,
) -> Schema {
    let Some(value) = json(value, place, faults) else { return Schema::default() };
    let Read { mut schema, faults: found, places } = read(&value);
    schema.zone = schema.zone.or(of_all);
    for mut fault in found {
        if fault.severity == Severity::Warning {
            fault.message += "; it is kept as it is";
        }
        faults.push(below(place, fault));
    }
    for mut fault in schema.check() {
        // An invariant is counted among those understood, and stands among all.
        if let [part, number, ..] = &mut fault.place[..]
            && part == "invariants"
            && let Some(place) = number.parse().ok().and_then(|number: usize| places.get(number))
        {
            number.clone_from(place);
        }
        faults.push(below(place, fault));
    }
    schema
}

fn below(place: &[String], mut fault: Fault) -> Fault {
    fault.place.splice(..0, place.iter().cloned());
    fault
}

/// The value as JSON; `None` if JSON has none like it. Times become strings.
fn json(value: &DeValue<'_>, place: &[String], faults: &mut Vec<Fault>) -> Option<Value> {
    let number = match value {
        DeValue::String(text) => return Some(Value::from(text.as_ref())),
        DeValue::Boolean(flag) => return Some(Value::from(*flag)),
        DeValue::Datetime(time) => return Some(Value::from(time.to_string())),
        DeValue::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.filter_map(|(number, item)| {
                json(item.get_ref(), &inside(place, &number.to_string()), faults)
            });
            return Some(items.collect());
        }
        DeValue::Table(table) => {
            let entries = table.iter().filter_map(|(key, value)| {
                let key = key.get_ref().as_ref();
                Some((key.to_owned(), json(value.get_ref(), &inside(place, key), faults)?))
            });
            return Some(Value::Object(entries.collect::<Map<_, _>>()));
        }
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let small = i64::from_str_radix(digits, radix).map(Number::from);
            let number = small.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from));
            number
                .map_err(|_| format!("{digits} is larger than a number here is; write another one"))
        }
        // A sign that TOML allows and JSON does not.
        DeValue::Float(number) => match exact_number(number.as_str().trim_start_matches('+')) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(format!("{} is no number; write another value", number.as_str())),
            Err(inexact) => Err(inexact.to_string()),
        },
    };
    number.map(Value::Number).map_err(|wrong| faults.push(error(place, wrong))).ok()
}

fn inside(place: &[String], key: &str) -> Vec<String> {
    [place, &[key.to_owned()]].concat()
}

fn error(place: &[String], message: String) -> Fault {
    Fault { severity: Severity::Error, place: place.to_vec(), message }
}

/// The key that names the zone of all collections of a file.
const ZONE: &str = "zone";

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}
