//! Things to compare, side by side, or one below the other if there is no room.

use console::{Alignment, measure_text_width, pad_str};

use super::{GAP, one_line, share, wrap};

/// A table of things to compare: a column for each, and a row for each of their properties.
#[derive(Debug, Default)]
pub(crate) struct SideBySide {
    heading: Vec<String>,
    rows: Vec<(&'static str, Vec<String>)>,
}

impl SideBySide {
    pub(crate) fn new(heading: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let heading = heading.into_iter().map(|name| one_line(&name.into())).collect();
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row, unless all of its cells are empty.
    pub(crate) fn row(&mut self, label: &'static str, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            self.rows.push((label, cells));
        }
    }

    /// The table in at most `width` columns, with long cells broken into several lines.
    pub(crate) fn fit(&self, width: usize) -> String {
        let labels = self.rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let columns = self.heading.len().max(1);
        let available = width.saturating_sub(labels + GAP * columns);
        let natural: Vec<usize> = (0..self.heading.len()).map(|at| self.natural(at)).collect();
        let widths = share(natural.clone(), available);
        let has_room =
            widths.iter().zip(&natural).all(|(width, natural)| *width >= CELL_MIN.min(*natural));
        let fits = widths.iter().sum::<usize>() <= available;
        if has_room && fits { self.beside(labels, &widths) } else { self.below(labels, width) }
    }

    /// The width at which no cell of a column has to be broken.
    fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
        let lines = cells.chain([&self.heading[column]]).flat_map(|cell| cell.lines());
        lines.map(|line| measure_text_width(&one_line(line))).max().unwrap_or(0)
    }

    fn beside(&self, labels: usize, widths: &[usize]) -> String {
        let mut lines = line("", labels, &self.heading, widths);
        for (label, cells) in &self.rows {
            lines.extend(line(label, labels, cells, widths));
        }
        lines.join("\n")
    }

    fn below(&self, labels: usize, width: usize) -> String {
        let mut lines = Vec::new();
        let room = [width.saturating_sub(labels + GAP)];
        for (at, name) in self.heading.iter().enumerate() {
            lines.extend(wrap(name, width));
            for (label, cells) in &self.rows {
                let cell = cells.get(at).cloned().unwrap_or_default();
                if !cell.is_empty() {
                    lines.extend(line(label, labels, &[cell], &room));
                }
            }
        }
        lines.join("\n")
    }
}

/// The lines of one row, as many as its highest cell has.
fn line(label: &str, labels: usize, cells: &[String], widths: &[usize]) -> Vec<String> {
    let cells: Vec<_> =
        cells.iter().zip(widths).map(|(cell, width)| cell_lines(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let pad = |text: &str, width| pad_str(text, width, Alignment::Left, None).into_owned();
    let row = |at: usize| {
        let mut line = pad(if at == 0 { label } else { "" }, labels);
        for (cell, width) in cells.iter().zip(widths) {
            line += &" ".repeat(GAP);
            line += &pad(cell.get(at).map_or("", String::as_str), *width);
        }
        line.trim_end().to_owned()
    };
    (0..height).map(row).collect()
}

fn cell_lines(cell: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<_> = cell.lines().flat_map(|line| wrap(&one_line(line), width)).collect();
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX - 1);
        lines.push("…".to_owned());
    }
    lines
}

/// The least width of a column beside another one: cells that are broken into narrower lines cannot
/// be read.
const CELL_MIN: usize = 20;

/// Lines of one cell that are shown. --json prints the whole of a longer value.
const LINES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> SideBySide {
        let mut two = SideBySide::new(["1", "2"]);
        two.row("value", ["555-0199".to_owned(), "a value that goes on and on and on".to_owned()]);
        two.row("empty", [String::new(), String::new()]);
        two.row("when", ["2026-11-20 22:03:11Z".to_owned(), "2026-11-20 22:04:00Z".to_owned()]);
        two
    }

    #[test]
    fn columns_stand_side_by_side() {
        let lines = [
            "       1                     2",
            "value  555-0199              a value that goes on",
            "                             and on and on",
            "when   2026-11-20 22:03:11Z  2026-11-20 22:04:00Z",
        ];
        assert_eq!(two().fit(52), lines.join("\n"));
    }

    #[test]
    fn where_there_is_no_room_they_stand_one_below_the_other() {
        let lines = [
            "1",
            "value  555-0199",
            "when   2026-11-20 22:03:11Z",
            "2",
            "value  a value that goes on",
            "       and on and on",
            "when   2026-11-20 22:04:00Z",
        ];
        assert_eq!(two().fit(30), lines.join("\n"));
    }

    #[test]
    fn nothing_is_wider_than_it_may_be_and_nothing_commands_the_terminal() {
        let mut wide = SideBySide::new((1..=7).map(|number| number.to_string()));
        wide.row("value", (1..=7).map(|number| format!("{number}\u{1b}[2J").repeat(99)));
        for width in [20, 40, 80, 200] {
            let fitted = wide.fit(width);
            assert!(fitted.lines().all(|line| measure_text_width(line) <= width), "{fitted}");
            assert!(!fitted.contains('\u{1b}'));
        }
    }
}
