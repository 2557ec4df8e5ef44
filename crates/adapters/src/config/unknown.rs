//! Options that nothing is known of: all of them are found at once, with what may have been meant.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::options::TABLES;
use crate::nearest::meant;
use crate::option::Opt;
use crate::sink::options::kind_of_sink;

/// Takes what is not known out of a file, and says of each where it stood.
pub(super) fn take_unknown(file: &mut DeTable<'_>, faults: &mut Vec<(usize, String)>) {
    keep(file, &["replica", "adapter"], "the file", faults);
    if let Some(replica) = table(file, "replica") {
        keep(replica, &names("[replica]", &[]), "[replica]", faults);
    }
    let Some(adapters) = table(file, "adapter") else { return };
    for (name, adapter) in adapters.iter_mut() {
        let place = format!("adapter {}", name.get_ref());
        let DeValue::Table(adapter) = adapter.get_mut() else { continue };
        keep(adapter, &names("[adapter.NAME]", &["sink", "retry", "record"]), &place, faults);
        if let Some(retry) = table(adapter, "retry") {
            keep(retry, &names("[adapter.NAME.retry]", &[]), "retry", faults);
        }
        if let Some(sink) = table(adapter, "sink") {
            take_unknown_of_sink(sink, faults);
        }
        let records = adapter.get_mut("record").map(Spanned::get_mut);
        let Some(DeValue::Array(records)) = records else { continue };
        for record in records.iter_mut() {
            let DeValue::Table(record) = record.get_mut() else { continue };
            keep(record, &names("[[adapter.NAME.record]]", &["fields"]), "the record", faults);
            let Some(fields) = table(record, "fields") else { continue };
            for (name, field) in fields.iter_mut() {
                let DeValue::Table(field) = field.get_mut() else { continue };
                let known = names("[adapter.NAME.record.fields]", &[]);
                keep(field, &known, &format!("the field {}", name.get_ref()), faults);
            }
        }
    }
}

fn take_unknown_of_sink(sink: &mut DeTable<'_>, faults: &mut Vec<(usize, String)>) {
    let kind = sink.get("kind").and_then(|kind| kind.get_ref().as_str()).unwrap_or_default();
    let Some(kind) = kind_of_sink(kind) else { return };
    let inner = |option: &Opt| option.name.strip_prefix("fields.");
    let fields: Vec<_> = kind.options.iter().filter_map(inner).collect();
    let mut known = vec!["kind"];
    known.extend(
        kind.options.iter().map(|option| option.name.split('.').next().unwrap_or_default()),
    );
    keep(sink, &known, &format!("the sink {}", kind.kind), faults);
    if let Some(table) = table(sink, "fields") {
        keep(table, &fields, "fields", faults);
    }
}

/// The names that a table takes.
fn names(of: &str, more: &[&'static str]) -> Vec<&'static str> {
    let options = TABLES.iter().filter(|it| it.table == of).flat_map(|it| it.options);
    options.map(|option| option.name).chain(more.iter().copied()).collect()
}

fn table<'a, 'i>(of: &'a mut DeTable<'i>, name: &str) -> Option<&'a mut DeTable<'i>> {
    match of.get_mut(name)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn keep(table: &mut DeTable<'_>, known: &[&str], place: &str, faults: &mut Vec<(usize, String)>) {
    let is_unknown = |name: &&Spanned<DeString<'_>>| !known.contains(&&**name.get_ref());
    let unknown: Vec<_> = table.keys().filter(is_unknown).cloned().collect();
    for name in unknown {
        let meant = meant(name.get_ref(), known.iter().copied());
        let what = format!("{place} has no option `{}`{meant}", name.get_ref());
        faults.push((name.span().start, what));
        table.remove(&name);
    }
}
