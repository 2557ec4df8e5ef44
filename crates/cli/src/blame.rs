//! `rejoin blame`: the writes from which the value of every field of a document came.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use rejoin::history::{Blame, BlamedWrite, Candidate, HistoryEntry, Kind, Wrote};
use rejoin::{ChangeHash, Identity, Path, Review};
use serde_json::{Value, json};

use crate::clock::clock;
use crate::identity::{author_json, whole};
use crate::layout::{one_line, width, wrap};
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::{DocumentArguments, PlaceArguments};
use crate::short::{short_hash, short_id};
use crate::values::{at, field_path, shown};

#[derive(Debug, Args)]
pub(crate) struct BlameArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// Only this field and what is in it
    #[arg(value_parser = field_path)]
    pub(crate) field: Option<Path>,
    /// Every write, in an order in which each comes after those it knew of
    #[arg(long)]
    pub(crate) all: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &BlameArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let DocumentArguments { collection: name, key } = &arguments.document;
    let (document, entry) = local.entry_or_deleted(&arguments.document).await?;
    let plain = document.blame().await?;
    let history = document.history(usize::MAX).await?;
    let mut open = local.space.reviews().open().await?;
    open.retain(|review| review.documents.iter().any(|named| named.document == document.id()));

    let mut fields: Vec<_> = plain.iter().map(|blame| Field::plain(blame, &open)).collect();
    fields.extend(shared(&history).into_iter().map(|(place, (path, changes))| {
        let value = path.as_ref().and_then(|path| at(&entry.value, path).cloned());
        let name = path.map_or_else(|| place.clone(), Path::to_string);
        Field { name, value, wrote: Written::Shared { place, path, changes } }
    }));
    fields.retain(|field| arguments.field.as_ref().is_none_or(|asked| field.is_in(asked)));
    // Nobody sees the items that were removed from a list, so nothing has to explain them.
    fields.retain(|field| arguments.all || !field.is_gone());
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    if let (Some(field), []) = (&arguments.field, &fields[..]) {
        bail!("nothing was ever written to {field}; `rejoin blame {name} {key}` shows every field");
    }
    let all = arguments.all;
    output.result(&Value::from_iter(fields.iter().map(|field| field.json(all))), || {
        let names = fields.iter().map(|field| console::measure_text_width(&one_line(&field.name)));
        let indent = names.max().unwrap_or(0).min(NAME_MAX) + 2;
        let blocks = fields.iter().map(|field| field.lines(all, indent).join("\n"));
        blocks.collect::<Vec<_>>().join("\n")
    })
}

/// One field and the writes to it.
struct Field<'a> {
    name: String,
    value: Option<Value>,
    wrote: Written<'a>,
}

enum Written<'a> {
    /// A field that holds one value, each write of which replaces others.
    Plain { blame: &'a Blame, open: Option<&'a Review> },
    /// A text or a counter, to which every change adds.
    Shared { place: String, path: Option<&'a Path>, changes: Vec<&'a HistoryEntry> },
}

/// The path of a text or counter, `None` if it is gone, and the changes that wrote in it.
type Shared<'a> = (Option<&'a Path>, Vec<&'a HistoryEntry>);

/// The texts and counters of a document, by their places.
fn shared(history: &[HistoryEntry]) -> BTreeMap<String, Shared<'_>> {
    let mut shared: BTreeMap<String, Shared<'_>> = BTreeMap::new();
    for change in history.iter().filter(|change| change.kind == Kind::Edit) {
        let parts =
            change.writes.iter().filter(|it| matches!(it.wrote, Wrote::Text | Wrote::Count));
        for part in parts {
            let (path, changes) = shared.entry(part.place.to_string()).or_default();
            *path = part.path.as_ref();
            changes.push(change);
        }
    }
    shared
}

impl<'a> Field<'a> {
    fn plain(blame: &'a Blame, open: &'a [Review]) -> Self {
        let place = blame.place.to_string();
        let name = blame.path.as_ref().map_or_else(|| place.clone(), ToString::to_string);
        let open = open.iter().find(|review| review.field == place);
        Self { name, value: blame.value.clone(), wrote: Written::Plain { blame, open } }
    }

    fn is_gone(&self) -> bool {
        match &self.wrote {
            Written::Plain { blame, .. } => blame.path.is_none(),
            Written::Shared { path, .. } => path.is_none(),
        }
    }

    /// Whether this is the field that was asked for, or a field inside of it.
    fn is_in(&self, asked: &Path) -> bool {
        Path::from(self.name.as_str()).segments().starts_with(asked.segments())
    }

    fn lines(&self, all: bool, indent: usize) -> Vec<String> {
        let room = width().saturating_sub(indent);
        let value =
            console::truncate_str(&one_line(&shown(self.value.as_ref())), room, "…").into_owned();
        let name = one_line(&self.name);
        let mut lines = Vec::new();
        if console::measure_text_width(&name) + 2 > indent {
            lines.push(name);
            lines.push(format!("{:indent$}{value}", ""));
        } else {
            let name = console::pad_str(&name, indent, console::Alignment::Left, None);
            lines.push(format!("{name}{value}"));
        }
        let said = self.sentences(all);
        let said = said.iter().flat_map(|sentence| {
            let (first, more) = (wrap(sentence, room), format!("{:indent$}", ""));
            first.into_iter().map(move |line| format!("{more}{line}"))
        });
        lines.extend(said);
        lines
    }

    fn sentences(&self, all: bool) -> Vec<String> {
        match &self.wrote {
            Written::Plain { blame, open } => {
                let known = known(blame);
                let shown = blame.writes.iter().filter(|write| all || write.stands);
                let mut lines: Vec<_> = shown.map(|write| sentence(write, all, &known)).collect();
                if let Some(review) = open {
                    let candidates = count(review.candidates.len() as u64, "candidate");
                    let id = short_id(&review.id);
                    lines.push(format!("not agreed: {candidates}, see `rejoin review {id}`"));
                }
                lines
            }
            Written::Shared { changes, .. } => {
                let by = |change: &HistoryEntry| {
                    signed(change.author.as_ref(), change.time_s, &change.hash)
                };
                if all {
                    return changes.iter().map(|change| by(change)).collect();
                }
                let number = count(changes.len() as u64, "change");
                let last = changes.last().map(|change| by(change)).unwrap_or_default();
                vec![format!("{number}, the last by {last}")]
            }
        }
    }

    fn json(&self, all: bool) -> Value {
        match &self.wrote {
            Written::Plain { blame, open } => {
                let writes = blame.writes.iter().filter(|write| all || write.stands);
                json!({
                    "field": self.name,
                    "place": blame.place.to_string(),
                    "value": self.value,
                    "review": open.map(|review| review.id.to_string()),
                    "writes": Value::from_iter(writes.map(write_json)),
                })
            }
            Written::Shared { place, changes, .. } => {
                let skip = if all { 0 } else { changes.len().saturating_sub(1) };
                let writes = changes.iter().skip(skip).map(|change| {
                    json!({
                        "change": change.hash.to_string(),
                        "author": author_json(change.author.as_ref()),
                        "time_s": change.time_s,
                    })
                });
                json!({
                    "field": self.name,
                    "place": place,
                    "value": self.value,
                    "changes": changes.len(),
                    "writes": Value::from_iter(writes),
                })
            }
        }
    }
}

/// The write of each change to the field.
fn known(blame: &Blame) -> BTreeMap<ChangeHash, &Candidate> {
    blame.writes.iter().map(|it| (it.write.change, &it.write)).collect()
}

/// One write in a sentence: `555-0199 by Ann (dispatch) on desk, 2026-11-20 22:03:11Z (3fa0b1c2); in
/// the place of 555-0100 (d3e4a0f1); settled review 77ab12cd`.
fn sentence(blamed: &BlamedWrite, all: bool, known: &BTreeMap<ChangeHash, &Candidate>) -> String {
    let BlamedWrite { write, superseded, open, stands, refused, .. } = blamed;
    let mut text = String::new();
    if all {
        text += &format!("{} ", one_line(&shown(write.value.as_ref())));
    }
    text += &format!("by {}", signed(write.author.as_ref(), write.time_s, &write.change));
    let before = superseded.iter().filter_map(|change| known.get(change)).map(|before| {
        let value = shown(before.value.as_ref());
        format!("{} ({})", one_line(&value), short_hash(&before.change))
    });
    let before = before.collect::<Vec<_>>().join(" and ");
    if !before.is_empty() {
        text += &format!("; in the place of {before}");
    }
    if let Some(review) = &write.settles {
        text += &format!("; settled review {}", short_id(review));
    }
    if all {
        text += match (refused, open, stands) {
            (true, ..) => "; did not count",
            (_, _, true) => "; stands",
            (_, true, _) => "; a candidate",
            _ => "",
        };
    }
    text
}

fn signed(author: Option<&Identity>, time_s: i64, change: &ChangeHash) -> String {
    let who = author.map_or_else(|| "nobody in particular".to_owned(), whole);
    format!("{who}, {} ({})", clock(time_s), short_hash(change))
}

fn write_json(blamed: &BlamedWrite) -> Value {
    let BlamedWrite { write, superseded, open, stands, refused, .. } = blamed;
    let superseded = superseded.iter().map(ToString::to_string);
    json!({
        "change": write.change.to_string(),
        "value": write.value,
        "author": author_json(write.author.as_ref()),
        "time_s": write.time_s,
        "superseded": Value::from_iter(superseded),
        "settles": write.settles.map(|review| review.to_string()),
        "open": open,
        "stands": stands,
        "refused": refused,
    })
}

/// The widest column of names. A value stands below a name that is longer.
const NAME_MAX: usize = 24;
