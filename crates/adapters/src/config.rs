//! The file that says which documents go where, as which rows, and how soon: one in TOML for all
//! adapters. [`parse`] reads it.
//!
//! ```toml
//! [replica]
//! data  = "adapters"                  # the folder with this replica and the outboxes
//! relay = "ws://127.0.0.1:4455"
//! space = "main"
//! metrics = "127.0.0.1:9464"          # for Prometheus, at /metrics; left out, none are served
//!
//! [adapter.board]
//! collection = "jobs"
//! mode       = "state"                # or "event": one delivery for every difference
//! class      = "now"                  # or "soon", "later" with `every` or `cron`
//! sink       = { kind = "jsonl", folder = "out" }
//!
//! [[adapter.board.record]]
//! name = "jobs"
//! key  = "{key}"
//! [adapter.board.record.fields]
//! status = { from = "status", map = { en_route = "ON_THE_WAY" }, required = true }
//! phone  = { from = "customer.phone", mask = "last4" }
//! origin = { constant = "rejoin" }
//! ```

mod init;
pub(crate) mod options;
mod unknown;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rejoin::schema::{Finding, Severity};
use rejoin::value::number::exact_number;
use rejoin::{CollectionName, Path, SpaceName};
use reqwest::Url;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::clock::now_ms;
use crate::mapping::{
    Class, Deletes, FieldMapping, From, Held, Mapping, Mask, Mode, OnPoison, OutsideKind, Part,
    RecordMapping, Retry, STANDARD_SCHEDULE, Source, Template, zone_of,
};
use crate::secret::SecretRef;
pub use init::{adapter_section, replica_section};
use unknown::take_unknown;

/// A whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The replica that the adapters follow.
    pub replica: ReplicaConfig,
    /// The adapters, by name.
    pub adapters: BTreeMap<String, Mapping>,
}

/// The replica that the adapters follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The folder with its file and the outboxes.
    pub data: PathBuf,
    /// The relay's address, `wss://HOST` or `ws://127.0.0.1:PORT`; a relay that runs the adapters
    /// itself needs none.
    pub relay: Option<String>,
    /// The token to sign in with there.
    pub token: Option<SecretRef>,
    /// A certificate that the relay is trusted by, in PEM, beside those of the system.
    pub ca: Option<PathBuf>,
    /// The space.
    pub space: SpaceName,
    /// Where metrics are served over HTTP while adapters run, `ADDRESS:PORT`.
    pub metrics: Option<SocketAddr>,
}

/// What a file says.
#[derive(Debug)]
pub struct Parsed {
    /// What it configures; `None` if there are errors.
    pub config: Option<Config>,
    /// The adapters that can be read, also if there are errors: more may be said of them.
    pub adapters: BTreeMap<String, Mapping>,
    /// What is wrong, in the order it stands in the file.
    pub findings: Vec<Finding>,
}

/// Reads the text of a configuration.
pub fn parse(text: &str) -> Parsed {
    let mut faults = Vec::new();
    let mut file = match DeTable::parse(text) {
        Ok(file) => file.into_inner(),
        Err(error) => {
            let at = error.span().unwrap_or_default().start;
            faults.push((at, error.message().to_owned()));
            let findings = errors(text, faults);
            return Parsed { config: None, adapters: BTreeMap::new(), findings };
        }
    };
    file.values().for_each(|value| inexact(value, &mut faults));
    // Whoever reads such a number says again that it is wrong, and not which.
    let is_exact = faults.is_empty();
    take_unknown(&mut file, &mut faults);
    let replica = file.remove("replica").map(|table| {
        let at = table.span().start;
        let form = ReplicaForm::deserialize(ValueDeserializer::from(table));
        form.map_err(|error| faults.push(unread(&error, at, "[replica]"))).ok()
    });
    if replica.is_none() {
        let what = "nothing says which documents are followed; write [replica] with `data`, `relay` and `space`";
        faults.push((0, what.to_owned()));
    }
    let replica = replica.flatten().and_then(|form| of_replica(form, &mut faults));
    let mut adapters = BTreeMap::new();
    let forms = match file.remove("adapter").map(Spanned::into_inner) {
        Some(DeValue::Table(forms)) => forms,
        _ => DeTable::new(),
    };
    let is_empty = forms.is_empty();
    for (name, form) in forms {
        let (at, name) = (name.span().start, name.into_inner().into_owned());
        if name.is_empty() || !name.chars().all(is_plain) {
            let what = format!("{name:?} cannot name an adapter; use letters, digits, - and _");
            faults.push((at, what));
        }
        match AdapterForm::deserialize(ValueDeserializer::from(form)) {
            Ok(form) => {
                adapters.extend(mapping(form, at, &mut faults).map(|mapping| (name, mapping)));
            }
            Err(error) if is_exact => {
                faults.push(unread(&error, at, &format!("adapter {name}")));
            }
            Err(_) => {}
        }
    }
    if is_empty && faults.is_empty() {
        faults.push((0, "no adapter is described; write [adapter.NAME]".to_owned()));
    }
    let is_sound = faults.is_empty();
    let findings = errors(text, faults);
    let config = replica.filter(|_| is_sound);
    let config = config.map(|replica| Config { replica, adapters: adapters.clone() });
    Parsed { config, adapters, findings }
}

/// Where a table is not as it should be, and why.
fn unread(error: &toml::de::Error, at: usize, table: &str) -> (usize, String) {
    match error.span().filter(|span| span.start > 0) {
        Some(span) => (span.start, error.message().to_owned()),
        None => (at, format!("{table}: {}", error.message())),
    }
}

fn of_replica(form: ReplicaForm, faults: &mut Faults) -> Option<ReplicaConfig> {
    let ReplicaForm { data, relay, token, ca, space, metrics } = form;
    let space_at = space.span().start;
    if let Some(relay) = &relay {
        let at = relay.span().start;
        faults.extend(relay_fault(relay.get_ref()).map(|what| (at, what)));
    }
    let space = SpaceName::new(space.into_inner());
    let space = space.map_err(|error| faults.push((space_at, error.to_string()))).ok()?;
    let relay = relay.map(Spanned::into_inner);
    Some(ReplicaConfig { data, relay, token, ca, space, metrics })
}

/// Why nothing can connect to such a relay.
fn relay_fault(relay: &str) -> Option<String> {
    let url = Url::parse(relay).ok();
    match url.as_ref().map(Url::scheme) {
        Some("ws" | "wss") if url.as_ref().is_some_and(Url::has_host) => None,
        _ => Some(format!(
            "{relay:?} is not the address of a relay; write wss://HOST, or ws://127.0.0.1:PORT for one \
             on this machine"
        )),
    }
}

fn errors(text: &str, faults: Faults) -> Vec<Finding> {
    let faults = faults.into_iter();
    let mut findings: Vec<_> =
        faults.map(|(at, what)| finding(text, at, Severity::Error, what)).collect();
    findings.sort();
    findings
}

/// Finds numbers that would reach a target as others than they are written.
fn inexact(value: &Spanned<DeValue<'_>>, faults: &mut Faults) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| inexact(value, faults)),
        DeValue::Array(items) => items.iter().for_each(|item| inexact(item, faults)),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let is_small = i64::from_str_radix(digits, radix).is_ok();
            if !is_small && u64::from_str_radix(digits, radix).is_err() {
                let what = format!("{digits} is larger than a number here is; write it as text");
                faults.push((value.span().start, what));
            }
        }
        DeValue::Float(number) => {
            // A sign that TOML allows and JSON does not.
            let what = match exact_number(number.as_str().trim_start_matches('+')) {
                Ok(Some(_)) => return,
                Ok(None) => format!("{} is no number; write another value", number.as_str()),
                Err(inexact) => inexact.to_string(),
            };
            faults.push((value.span().start, what));
        }
        _ => {}
    }
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '-' || letter == '_'
}

/// Something wrong at a byte of the text.
fn finding(text: &str, at: usize, severity: Severity, message: String) -> Finding {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Finding { line, column, severity, message }
}

type Faults = Vec<(usize, String)>;

fn mapping(form: AdapterForm, at: usize, faults: &mut Faults) -> Option<Mapping> {
    let version = version(&form);
    let collection = CollectionName::new(form.collection.get_ref().as_str());
    let collection =
        collection.map_err(|error| faults.push((form.collection.span().start, error.to_string())));
    let class = class(&form).map_err(|what| faults.push((at, what)));
    let reconcile = form.reconcile.as_deref().map(at_times).transpose();
    let reconcile = reconcile.map_err(|what| faults.push((at, format!("reconcile: {what}"))));
    check(&form, at, faults);
    let records: Vec<_> =
        form.record.into_iter().filter_map(|form| record(form, at, faults)).collect();
    let asks_id = |record: &RecordMapping| record.key.parts().contains(&Part::Id);
    if form.source == Source::Reviews && records.iter().any(asks_id) {
        faults.push((at, "a review comes from no document; its own id is {key}".to_owned()));
    }
    let deletes = deletes(form.deletes, form.ttl, class.as_ref().ok(), at, faults);
    let late_after = form.late_after.map_or_else(|| late_after(class.as_ref().ok()), |it| it.0);
    let retry = Retry {
        schedule: match form.retry.schedule {
            None => STANDARD_SCHEDULE.to_vec(),
            Some(waits) => waits.into_iter().map(|wait| wait.0).collect(),
        },
        jitter: form.retry.jitter.unwrap_or(JITTER),
        disable_after: form.retry.disable_after.map_or(DISABLE_AFTER, |after| after.0),
    };
    Some(Mapping {
        collection: collection.ok()?,
        source: form.source,
        reconcile: reconcile.ok()?,
        mode: form.mode,
        class: class.ok()?,
        concurrency: form.concurrency.unwrap_or(CONCURRENCY).clamp(1, CONCURRENCY_MAX),
        rate: form.rate,
        waiting_max: form.waiting_max.unwrap_or(WAITING_MAX),
        late_after,
        deletes,
        retry,
        on_poison: form.on_poison,
        salt: form.salt,
        records,
        sink: form.sink,
        version,
    })
}

/// What can be wrong with an adapter beside what its parts are.
fn check(form: &AdapterForm, at: usize, faults: &mut Faults) {
    if form.record.is_empty() {
        faults.push((at, "nothing is carried; write [[adapter.NAME.record]]".to_owned()));
    }
    let uses_hash = |form: &RecordForm| {
        form.fields.values().any(|field| field.get_ref().mask == Some(Mask::Hash))
    };
    if form.salt.is_none() && form.record.iter().any(uses_hash) {
        let what =
            "a hash needs a salt, or everybody can guess what is hidden; set salt = \"env:NAME\"";
        faults.push((at, what.to_owned()));
    }
    if form.retry.jitter.is_some_and(|jitter| !(0.0..=1.0).contains(&jitter)) {
        faults.push((at, "jitter is a part of a wait: between 0 and 1".to_owned()));
    }
    if !form.sink.get("kind").is_some_and(toml::Value::is_str) {
        faults
            .push((at, "the sink says no kind; write sink = { kind = \"jsonl\", .. }".to_owned()));
    }
    let is_zero = |span: &Option<Span>| span.as_ref().is_some_and(|span| span.0.is_zero());
    for (name, span) in [
        ("late_after", &form.late_after),
        ("ttl", &form.ttl),
        ("retry.disable_after", &form.retry.disable_after),
    ] {
        if is_zero(span) {
            faults.push((at, format!("{name} is no time at all; write 5min, 24h or 14d")));
        }
    }
    if form.concurrency.is_some_and(|number| !(1..=CONCURRENCY_MAX).contains(&number)) {
        faults.push((at, format!("concurrency is from 1 to {CONCURRENCY_MAX}")));
    }
    if form.rate == Some(0) || form.waiting_max == Some(0) {
        faults.push((at, "`rate` and `waiting_max` are at least 1".to_owned()));
    }
}

fn deletes(
    form: DeletesForm,
    ttl: Option<Span>,
    class: Option<&Class>,
    at: usize,
    faults: &mut Faults,
) -> Deletes {
    let deletes = match (form, ttl) {
        (DeletesForm::Delete, None) => Deletes::Delete,
        (DeletesForm::Delete, Some(_)) => {
            faults.push((at, "ttl is for deletes = \"mark\"; leave it out".to_owned()));
            Deletes::Delete
        }
        (DeletesForm::Mark, ttl) => Deletes::Mark { ttl: ttl.map_or(TTL, |ttl| ttl.0) },
    };
    if let (Deletes::Mark { ttl }, Some(class)) = (deletes, class)
        && let Some(wait) = longest_wait(class)
        && ttl < wait + TTL_BUFFER
    {
        let (ttl, wait) = (humantime::format_duration(ttl), humantime::format_duration(wait));
        faults.push((
            at,
            format!(
                "rows that are gone are forgotten after {ttl}, and the target may hear of it after \
                 {wait}; make ttl at least a day longer than that"
            ),
        ));
    }
    deletes
}

fn class(form: &AdapterForm) -> Result<Class, String> {
    let every = form.every.as_ref().map(|every| every.0);
    match (form.class, every, form.cron.as_deref()) {
        (ClassForm::Now, None, None) => Ok(Class::Now),
        (ClassForm::Soon, every, None) => {
            let every = every.unwrap_or(SOON);
            match every >= Duration::from_secs(1) && every <= SOON_MAX {
                true => Ok(Class::Soon(every)),
                false => Err("soon is from 1 s to 5 min; class = \"later\" is for more".to_owned()),
            }
        }
        (ClassForm::Later, Some(every), None) if every < Duration::from_secs(1) => {
            Err("every is at least 1 s; class = \"now\" is for less".to_owned())
        }
        (ClassForm::Later, Some(every), None) => Ok(Class::Every(every)),
        (ClassForm::Later, None, Some(cron)) => by_cron(cron),
        (ClassForm::Later, None, None) => {
            Err("when is later? give every = \"15min\" or cron = \"0 2 * * *\"".to_owned())
        }
        _ => Err("`every` is for soon and later, `cron` for later, and not both".to_owned()),
    }
}

fn by_cron(pattern: &str) -> Result<Class, String> {
    let cron = croner::Cron::from_str(pattern)
        .map_err(|error| format!("{pattern:?} is no cron pattern: {error}; try \"0 2 * * *\""))?;
    let now = chrono::DateTime::from_timestamp_millis(now_ms().cast_signed()).unwrap_or_default();
    match cron.find_next_occurrence(&now, false) {
        Ok(_) => Ok(Class::Later(Box::new(cron))),
        Err(_) => Err(format!("{pattern:?} never comes; try \"0 2 * * *\"")),
    }
}

/// How long a target may have to wait for its turn.
fn longest_wait(class: &Class) -> Option<Duration> {
    match class {
        Class::Now => None,
        Class::Soon(every) | Class::Every(every) => Some(*every),
        Class::Later(cron) => {
            let mut at = chrono::DateTime::from_timestamp_millis(now_ms().cast_signed())?;
            let mut longest = None;
            for _ in 0..OCCURRENCES {
                let next = cron.find_next_occurrence(&at, false).ok()?;
                longest = longest.max((next - at).to_std().ok());
                at = next;
            }
            longest
        }
    }
}

/// What counts as late unless somebody says it: well beyond the turn and a few attempts.
fn late_after(class: Option<&Class>) -> Duration {
    LATE_AFTER + class.and_then(longest_wait).unwrap_or_default()
}

/// Every so often, as `24h` says it, or at the times of a cron pattern.
fn at_times(text: &str) -> Result<Class, String> {
    match humantime::parse_duration(text) {
        Ok(every) if every >= Duration::from_mins(1) => Ok(Class::Every(every)),
        Ok(_) => Err("a minute is the least; write 24h or \"0 3 * * *\"".to_owned()),
        Err(_) => by_cron(text),
    }
}

fn record(form: RecordForm, at: usize, faults: &mut Faults) -> Option<RecordMapping> {
    let key_at = form.key.span().start;
    let key = Template::parse(form.key.get_ref()).map_err(|what| faults.push((key_at, what)));
    let name = form.name;
    if name.is_empty() || name.chars().any(char::is_control) {
        faults.push((at, "a record needs a name: the table, subject or event type".to_owned()));
    }
    if form.fields.is_empty() {
        faults.push((key_at, format!("no field of {name:?} is mapped; write fields below it")));
    }
    let each = form.each.as_deref().map(Path::from);
    let fields = form.fields.into_iter().filter_map(|(outside, form)| {
        let field_at = form.span().start;
        let field = field(form.into_inner(), each.is_some());
        let field = field.map_err(|what| faults.push((field_at, format!("{outside}: {what}"))));
        Some((outside, field.ok()?))
    });
    let fields = fields.collect();
    Some(RecordMapping { name, each, key: key.ok()?, fields })
}

fn field(form: FieldForm, in_item: bool) -> Result<FieldMapping, String> {
    let from = match (form.from.as_deref(), form.constant) {
        (Some(path), None) => match path.strip_prefix('/') {
            Some(path) => From::Path { path: Path::from(path), in_item: false },
            None => From::Path { path: Path::from(path), in_item },
        },
        (None, Some(constant)) => From::Constant(constant),
        (Some(_), Some(_)) => return Err("give `from` or `constant`, not both".to_owned()),
        (None, None) => return Err("say where it comes from: `from` or `constant`".to_owned()),
    };
    if form.required && form.default.is_some() {
        return Err("what has a default is never missing; leave out `required`".to_owned());
    }
    if form.required && form.mask == Some(Mask::Drop) {
        return Err("it is required and dropped; choose one".to_owned());
    }
    let held = match form.held {
        None => Held::Agreed,
        Some(HeldForm::Named(name)) if name == "agreed" => Held::Agreed,
        Some(HeldForm::Named(name)) if name == "omit" => Held::Omit,
        Some(HeldForm::Named(name)) => {
            return Err(format!(
                "held = {name:?} is unknown; write \"agreed\", \"omit\" or {{ constant = .. }}"
            ));
        }
        Some(HeldForm::Constant { constant }) => Held::Constant(constant),
    };
    Ok(FieldMapping {
        from,
        kind: form.kind,
        map: form.map,
        default: form.default,
        required: form.required,
        mask: form.mask,
        held,
    })
}

/// The hash of everything that rows depend on: other values there are other rows.
fn version(form: &AdapterForm) -> String {
    let records: Vec<Value> = form.record.iter().map(RecordForm::normalised).collect();
    let (collection, source) = (form.collection.get_ref(), format!("{:?}", form.source));
    let mut rows = json!({ "collection": collection, "source": source, "records": records });
    if let Some(zone) = zone_of(&form.sink) {
        rows["zone"] = zone.to_string().into();
    }
    let hash = Sha256::digest(rows.to_string());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaForm {
    data: PathBuf,
    relay: Option<Spanned<String>>,
    token: Option<SecretRef>,
    ca: Option<PathBuf>,
    space: Spanned<String>,
    metrics: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterForm {
    collection: Spanned<String>,
    #[serde(default)]
    source: Source,
    reconcile: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    class: ClassForm,
    every: Option<Span>,
    cron: Option<String>,
    concurrency: Option<usize>,
    rate: Option<u32>,
    waiting_max: Option<u64>,
    late_after: Option<Span>,
    #[serde(default)]
    deletes: DeletesForm,
    ttl: Option<Span>,
    #[serde(default)]
    retry: RetryForm,
    #[serde(default)]
    on_poison: OnPoison,
    salt: Option<SecretRef>,
    sink: toml::Table,
    #[serde(default)]
    record: Vec<RecordForm>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClassForm {
    #[default]
    Now,
    Soon,
    Later,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeletesForm {
    #[default]
    Delete,
    Mark,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryForm {
    schedule: Option<Vec<Span>>,
    jitter: Option<f64>,
    disable_after: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordForm {
    name: String,
    each: Option<String>,
    key: Spanned<String>,
    #[serde(default)]
    fields: BTreeMap<String, Spanned<FieldForm>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldForm {
    from: Option<String>,
    constant: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<OutsideKind>,
    #[serde(default)]
    map: BTreeMap<String, Value>,
    default: Option<Value>,
    #[serde(default)]
    required: bool,
    mask: Option<Mask>,
    held: Option<HeldForm>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum HeldForm {
    Named(String),
    Constant { constant: Value },
}

impl RecordForm {
    fn normalised(&self) -> Value {
        let field = |(name, field): (&String, &Spanned<FieldForm>)| {
            let FieldForm { from, constant, kind, map, default, required, mask, held } =
                field.get_ref();
            let said = json!({
                "from": from,
                "constant": constant,
                "type": kind.map(|kind| format!("{kind:?}")),
                "map": map,
                "default": default,
                "required": required,
                "mask": mask.map(|mask| format!("{mask:?}")),
                "held": held.as_ref().map(|held| format!("{held:?}")),
            });
            (name.clone(), said)
        };
        let fields: serde_json::Map<_, _> = self.fields.iter().map(field).collect();
        json!({ "name": self.name, "each": self.each, "key": self.key.get_ref(), "fields": fields })
    }
}

/// A time as people write it: `30s`, `5min`, `14d`.
#[derive(Clone, Copy)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("{text:?} is no time: {error}; write 30s, 5min or 14d"))
        })?;
        Ok(Self(span))
    }
}

/// What whoever reads a table says of an option that it does not have, with those it has.
#[cfg(test)]
pub(crate) fn unknown_fault(table: &str) -> String {
    let text = "no_such_option = 1";
    let error = match table {
        "[replica]" => toml::from_str::<ReplicaForm>(text).err(),
        "[adapter.NAME]" => toml::from_str::<AdapterForm>(text).err(),
        "[adapter.NAME.retry]" => toml::from_str::<RetryForm>(text).err(),
        "[[adapter.NAME.record]]" => toml::from_str::<RecordForm>(text).err(),
        _ => toml::from_str::<FieldForm>(text).err(),
    };
    error.map(|error| error.message().to_owned()).unwrap_or_default()
}

const SOON: Duration = Duration::from_secs(30);
const SOON_MAX: Duration = Duration::from_mins(5);
const TTL: Duration = Duration::from_hours(14 * 24);
const JITTER: f64 = 0.2;
const DISABLE_AFTER: Duration = Duration::from_hours(5 * 24);
/// Occurrences of a cron pattern that are looked at: more than a year of days.
const OCCURRENCES: usize = 400;
const TTL_BUFFER: Duration = Duration::from_hours(24);
const LATE_AFTER: Duration = Duration::from_mins(5);
const WAITING_MAX: u64 = 1_000_000;
const CONCURRENCY: usize = 8;
const CONCURRENCY_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_be_rounded_are_found_where_they_stand() {
        for (number, said) in [
            ("0.1000000000000000055", "0.1000000000000000055 has more digits"),
            ("[{ a = 1e400 }]", "1e400 has more digits"),
            ("-inf", "-inf is no number"),
            ("18446744073709551616", "18446744073709551616 is larger"),
        ] {
            let text = format!(
                "[replica]\ndata = 'a'\nrelay = 'ws://127.0.0.1:1'\nspace = 'main'\n\
                 [adapter.a]\ncollection = 'jobs'\nsink = {{ kind = 'jsonl', folder = 'out' }}\n\
                 [[adapter.a.record]]\nname = 'jobs'\nkey = '{{key}}'\n\
                 [adapter.a.record.fields]\nprice = {{ from = 'price', default = {number} }}\n"
            );
            let parsed = parse(&text);
            let found: Vec<_> = parsed.findings.iter().map(ToString::to_string).collect();
            assert!(parsed.config.is_none() && found.len() == 1, "{number}: {found:?}");
            assert!(found[0].starts_with("12:") && found[0].contains(said), "{found:?}");
            for exact in ["+12.10", "1e3", "18446744073709551615", "-9223372036854775808"] {
                assert!(parse(&text.replace(number, exact)).config.is_some(), "{exact}");
            }
        }
    }
}
