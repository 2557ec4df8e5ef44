//! A section to begin with, for each kind of sink.

use super::options::{REPLICA, TABLES};
use crate::mapping::{Known, Shape};
use crate::option::{KindOfSink, Opt, Unless};

/// What a file says of the replica, for those who have no file yet.
pub fn replica_section() -> String {
    let mut text =
        "# Which documents go where. docs/adapters/options.md tells all options.\n[replica]\n"
            .to_owned();
    for option in REPLICA {
        let is_wanted = ["data", "relay", "space"].contains(&option.name);
        text += &line(option, !is_wanted, option.example);
    }
    text
}

/// The section of an adapter of this name that fills a target of this kind, with a comment for every
/// option. Collection and fields are of what there is.
pub fn adapter_section(name: &str, kind: &KindOfSink, collection: &str, known: &Known) -> String {
    let mut text = format!("\n[adapter.{name}]\ncollection = {}\n", quoted(collection));
    let options = TABLES.iter().filter(|it| it.table == "[adapter.NAME]").flat_map(|it| it.options);
    for option in
        options.filter(|option| ["mode", "class", "deletes", "reconcile"].contains(&option.name))
    {
        text += &line(option, true, option.example);
    }
    text += &format!("# {}\n[adapter.{name}.sink]\nkind = {}\n", kind.about, quoted(kind.kind));
    for option in kind.options {
        let is_wanted = option.unless_said == Unless::Required
            || (kind.kind == "postgres" && option.name == "password");
        text += &line(option, !is_wanted, option.example);
    }
    text += &format!(
        "[[adapter.{name}.record]]\nname = {}   # {}\nkey = \"{{key}}\"   # or {{id}}, or any field: {{FIELD}}\n\
         [adapter.{name}.record.fields]   # NAME THERE = {{ from = \"FIELD HERE\" }}\n",
        quoted(collection),
        kind.name_is
    );
    let fields = known.fields.get(collection).filter(|fields| !fields.is_empty());
    match fields {
        Some(fields) => {
            for (field, shape) in fields {
                let kind = match shape {
                    Shape::Plain => "",
                    Shape::Time => ", type = \"time\"",
                    Shape::Nested => ", type = \"json\"",
                };
                text += &format!("{} = {{ from = {}{kind} }}\n", key(field), quoted(&path(field)));
            }
        }
        None => {
            text += "status = { from = \"status\" }   # no document is known here: write yours\n"
        }
    }
    text
}

fn line(option: &Opt, is_comment: bool, value: &str) -> String {
    let comment = if is_comment { "# " } else { "" };
    format!("{comment}{} = {value}   # {}\n", option.name, option.meaning)
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name in TOML.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A field as a path is written.
fn path(field: &str) -> String {
    rejoin::Path::ROOT.join(field).to_string()
}
