//! Reads `relay.toml`, and tells everything that is wrong with it at once.

use std::fmt;

use rejoin_adapters::nearest::nearest;
use toml::de::{DeTable, DeValue};

use super::{SETTINGS, Setting, Settings};

/// Everything that is wrong with a file, by line.
#[derive(Debug)]
pub(in crate::relay) struct Faults(Vec<(usize, String)>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (line, fault)) in self.0.iter().enumerate() {
            let begin = if at == 0 { "" } else { "\n" };
            write!(f, "{begin}line {line}: {fault}")?;
        }
        Ok(())
    }
}

/// Reads the text of a file.
///
/// # Errors
/// It is no TOML, or has settings that there are not, or values that do not fit.
pub(in crate::relay) fn read(text: &str) -> Result<Settings, Faults> {
    let file = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Faults(vec![(line_of(text, at), error.message().to_owned())])
    })?;
    let mut settings = Settings::new();
    let mut faults = Vec::new();
    take(&mut settings, "", file.get_ref(), &mut faults);
    faults.sort_unstable();
    match faults.is_empty() {
        true => Ok(settings),
        false => {
            let lines = faults.into_iter().map(|(at, fault)| (line_of(text, at), fault));
            Err(Faults(lines.collect()))
        }
    }
}

fn take(
    settings: &mut Settings,
    table: &str,
    values: &DeTable<'_>,
    faults: &mut Vec<(usize, String)>,
) {
    for (name, value) in values {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let setting = SETTINGS.iter().find(|it| it.table == table && it.name == name);
        match (setting, value.get_ref()) {
            (Some(setting), value) => {
                if let Err(fault) = (setting.at)(settings).write(value) {
                    faults.push((at, format!("`{}`: {fault}", setting.path())));
                }
            }
            (None, DeValue::Table(inner)) if table.is_empty() => match is_table(name) {
                true => take(settings, name, inner, faults),
                false => {
                    let meant = meant(name, SETTINGS.iter().map(|it| it.table));
                    faults.push((at, format!("there is no table [{name}]{meant}")));
                }
            },
            (None, _) if table.is_empty() && is_table(name) => {
                faults.push((at, format!("`{name}` is a table; write [{name}]")));
            }
            (None, _) => faults.push((at, unknown(table, name))),
        }
    }
}

fn is_table(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.table == name)
}

fn unknown(table: &str, name: &str) -> String {
    let of_table = SETTINGS.iter().filter(|it| it.table == table).map(|it| it.name);
    let place = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
    let elsewhere = SETTINGS.iter().find(|it| it.name == name).map(Setting::path);
    let meant = match elsewhere {
        Some(path) => format!("; there is `{path}`"),
        None => meant(name, of_table),
    };
    format!("there is no setting `{name}`{place}{meant}")
}

fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default()
}

/// The line of a byte of a text, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}
