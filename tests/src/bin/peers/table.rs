//! The figures of all servers beside each other.

use serde_json::{Map, Value, json};

use crate::rows::{Figure, Unit};
use crate::servers::Kind;

/// One figure of everybody who was asked for it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) cells: Vec<(Kind, Cell)>,
}

#[derive(Debug)]
pub(crate) enum Cell {
    Measured(Figure),
    /// Why there is no figure.
    Failed(String),
}

impl Line {
    fn unit(&self) -> Option<Unit> {
        self.cells.iter().find_map(|(_, cell)| match cell {
            Cell::Measured(figure) => Some(figure.unit),
            Cell::Failed(_) => None,
        })
    }

    fn values(&self) -> impl Iterator<Item = (Kind, f64)> {
        self.cells.iter().filter_map(|(kind, cell)| match cell {
            Cell::Measured(figure) => Some((*kind, figure.value)),
            Cell::Failed(_) => None,
        })
    }

    /// How many times better ours is than the best of the others; below 1 it is worse.
    fn ratio(&self) -> Option<f64> {
        let more_is_better = self.unit()?.more_is_better();
        let (_, ours) = self.values().find(|(kind, _)| *kind == Kind::Rejoin)?;
        let others = self.values().filter(|(kind, _)| *kind != Kind::Rejoin);
        let better = if more_is_better { f64::max } else { f64::min };
        let best = others.map(|(_, value)| value).reduce(better)?;
        let ratio = if more_is_better { ours / best } else { best / ours };
        ratio.is_finite().then_some(ratio)
    }

    fn notes(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.cells.iter().filter_map(|(kind, cell)| match cell {
            Cell::Measured(figure) => Some((*kind, figure.note.as_deref()?)),
            Cell::Failed(reason) => Some((*kind, reason.as_str())),
        })
    }

    pub(crate) fn json(&self) -> Value {
        let values: Map<_, _> =
            self.values().map(|(kind, value)| (kind.name().to_owned(), value.into())).collect();
        let notes: Map<_, _> =
            self.notes().map(|(kind, note)| (kind.name().to_owned(), note.into())).collect();
        json!({
            "what": self.what, "unit": self.unit().map(Unit::name), "values": values,
            "notes": notes, "ours_better_by": self.ratio(),
        })
    }
}

/// The table as people read it, within a hundred columns.
pub(crate) fn shown(lines: &[Line], servers: &[Kind]) -> String {
    let names = servers.iter().map(|server| server.name());
    let header = ["", ""].into_iter().chain(names).chain(["better by"]).map(str::to_owned);
    let rows: Vec<_> = [header.collect()].into_iter().chain(lines.iter().map(row)).collect();
    let mut text = in_columns(&rows);

    let mut notes: Vec<(Kind, &str, &str, usize)> = Vec::new();
    for line in lines {
        for (kind, note) in line.notes() {
            // What several figures have in common is said once.
            match notes.iter_mut().find(|known| known.0 == kind && known.1 == note) {
                Some((.., more)) => *more += 1,
                None => notes.push((kind, note, line.what, 0)),
            }
        }
    }
    for (kind, note, what, more) in notes {
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        text += &wrapped(&format!("* {}, {what}{more}: {note}", kind.name()));
    }
    text + "better by: ours against the best of the others, below 1 is worse\n"
}

/// What it is, its unit, what each server has, and the ratio.
fn row(line: &Line) -> Vec<String> {
    let mut row = vec![line.what.to_owned(), line.unit().map_or("", Unit::name).to_owned()];
    row.extend(line.cells.iter().map(|(kind, cell)| {
        let mark = if line.notes().any(|(noted, _)| noted == *kind) { "*" } else { "" };
        match cell {
            Cell::Measured(figure) => format!("{}{mark}", number(figure.value)),
            Cell::Failed(_) => format!("none{mark}"),
        }
    }));
    row.push(line.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2} x")));
    row
}

/// Columns as wide as what is in them: words to the left, figures to the right.
fn in_columns(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += &(cells.collect::<Vec<_>>().join(" ") + "\n");
    }
    text
}

/// Lines of at most a hundred columns.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > 100 {
            lines += "\n ";
            column = 1;
        }
        if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines + "\n"
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 || value == 0.0 => grouped(value.round() as u64),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn grouped(value: u64) -> String {
    match value {
        0..1000 => value.to_string(),
        _ => format!("{},{:03}", grouped(value / 1000), value % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn line(unit: Unit, values: [Option<f64>; 4]) -> Line {
        let cell = |value: Option<f64>| match value {
            Some(value) => Cell::Measured(Figure { what: "x", unit, value, note: None }),
            None => Cell::Failed("it never answered".to_owned()),
        };
        Line { what: "x", cells: Kind::ALL.into_iter().zip(values.map(cell)).collect() }
    }

    #[test]
    fn ours_is_compared_with_the_best_of_the_others() {
        let ratio = |unit, values| line(unit, values).ratio();
        let figures = [Some(30.0), Some(10.0), Some(20.0), Some(5.0)];
        assert_eq!(ratio(Unit::PerSecond, figures), Some(1.5));
        assert_eq!(
            ratio(Unit::Milliseconds, [Some(2.0), Some(9.0), Some(7.0), Some(3.0)]),
            Some(1.5)
        );
        assert_eq!(ratio(Unit::Milliseconds, [Some(2.0), Some(9.0), None, None]), Some(4.5));
        assert_eq!(ratio(Unit::PerSecond, [None, Some(10.0), Some(20.0), None]), None);
    }

    #[test]
    fn the_table_is_a_hundred_columns_wide_and_says_what_is_missing() {
        let mut lines = vec![line(Unit::PerSecond, [Some(1_234_567.0), Some(10.0), None, None])];
        let figures = ROWS.iter().flat_map(|row| row.figures);
        lines.extend(figures.map(|what| Line { what, ..line(Unit::Edits, [Some(12_345.6); 4]) }));
        let shown = shown(&lines, &Kind::ALL);
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        assert!(shown.contains(" 1,234,567 ") && shown.contains("it never answered"), "{shown}");
    }
}
