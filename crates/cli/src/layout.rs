//! Tables that fit the terminal.

mod side_by_side;

use console::{Alignment, Style, measure_text_width, pad_str, truncate_str};
use rejoin::printable;

use crate::output::Text;
pub(crate) use side_by_side::SideBySide;

/// Columns that text may take: what COLUMNS says, what the terminal has, or else 80.
pub(crate) fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    asked.or_else(terminal).filter(|columns| *columns >= WIDTH_MIN).unwrap_or(80)
}

/// A table: a heading, and rows of as many cells.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Where the table begins, in characters from the left.
    indent: usize,
    /// How many columns, from the left, are not cut.
    whole: usize,
}

impl Table {
    pub(crate) fn new(heading: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let heading = heading.into_iter().map(|name| one_line(&name.into())).collect();
        Self { heading, rows: Vec::new(), indent: 0, whole: 0 }
    }

    pub(crate) fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Cuts nothing in these columns from the left, as long as there is room.
    pub(crate) fn keeping(mut self, columns: usize) -> Self {
        self.whole = columns;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell.into())).collect());
    }

    /// The table in at most `width` columns. The widest columns give way first, and what is cut
    /// ends in `…`.
    pub(crate) fn fit(&self, width: usize) -> Text {
        let available =
            width.saturating_sub(self.indent + GAP * self.heading.len().saturating_sub(1));
        let widths = self.share(available);
        let heading: Vec<_> = self.heading.iter().map(|cell| cell.to_uppercase()).collect();
        let heading = Text::styled(&self.line(&heading, &widths), &Style::new().bold());
        let rows = self.rows.iter().map(|row| self.line(row, &widths).into());
        Text::lines(std::iter::once(heading).chain(rows))
    }

    fn share(&self, available: usize) -> Vec<usize> {
        let mut widths = self.widths();
        let others = widths.split_off(self.whole.min(widths.len()));
        let taken: usize = widths.iter().sum();
        let least = others.len() * COLUMN_MIN;
        if taken + least > available {
            widths.extend(others);
            return share(widths, available);
        }
        widths.extend(share(others, available - taken));
        widths
    }

    fn widths(&self) -> Vec<usize> {
        let rows = || self.rows.iter();
        let widest = |(column, heading): (usize, &String)| {
            let cells =
                rows().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell));
            cells.max().unwrap_or(0).max(measure_text_width(heading))
        };
        self.heading.iter().enumerate().map(widest).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(widths).map(|(cell, width)| fit_cell(cell, *width));
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        format!("{:indent$}{}", "", line.trim_end(), indent = self.indent)
    }
}

/// Takes from the widest until all fit.
fn share(mut widths: Vec<usize>, available: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() > available {
        let Some(widest) = widths.iter_mut().max() else { break };
        if *widest <= COLUMN_MIN {
            break;
        }
        *widest -= 1;
    }
    widths
}

fn fit_cell(cell: &str, width: usize) -> String {
    pad_str(&truncate_str(cell, width, "…"), width, Alignment::Left, None).into_owned()
}

/// Text in one line of printable characters, where a line break would break a table or look like
/// the next thing that is said.
pub(crate) fn one_line(text: &str) -> String {
    printable(text.trim_end()).replace(['\n', '\t'], " ")
}

/// Breaks text into lines of at most `width` columns: between words, and inside of those that are
/// longer.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace().flat_map(|word| pieces(word, width)) {
        let line = lines.last_mut().expect("there is a line from the start");
        let room = width.saturating_sub(measure_text_width(line) + 1);
        if line.is_empty() {
            line.push_str(&word);
        } else if measure_text_width(&word) <= room {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

/// A word in pieces that fit.
fn pieces(word: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for char in word.chars() {
        let piece = pieces.last_mut().expect("there is a piece from the start");
        let longer = format!("{piece}{char}");
        if piece.is_empty() || measure_text_width(&longer) <= width {
            *piece = longer;
        } else {
            pieces.push(char.to_string());
        }
    }
    pieces
}

/// Spaces between columns.
const GAP: usize = 2;

/// A column narrower than this says nothing.
const COLUMN_MIN: usize = 4;

/// A terminal narrower than this is not one.
const WIDTH_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(table: &Table, width: usize) -> Vec<String> {
        let text = console::strip_ansi_codes(table.fit(width).as_str()).into_owned();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let mut table = Table::new(["key", "status"]);
        table.row(["1", "booked"]);
        table.row(["1000", "done"]);
        assert_eq!(lines(&table, 80), ["KEY   STATUS", "1     booked", "1000  done"]);
    }

    #[test]
    fn the_widest_column_is_cut() {
        let mut table = Table::new(["key", "notes"]).indented(2);
        table.row(["2026-118", "Ring twice.\nThe dog is friendly, the cat is not."]);
        table.row(["2026-119", "ü"]);
        let lines = lines(&table, 30);
        assert_eq!(lines[1], "  2026-118  Ring twice. The d…");
        assert!(lines.iter().all(|line| measure_text_width(line) <= 30));
    }

    #[test]
    fn columns_that_are_kept_give_way_last() {
        let mut table = Table::new(["time", "what", "fields"]).keeping(1);
        table.row(["2026-11-20 22:03:11Z", "settles 3f2a9c01", "phone, status"]);
        assert_eq!(lines(&table, 40)[1], "2026-11-20 22:03:11Z  settles…  phone, …");
        assert_eq!(lines(&table, 20)[1], "2026-…  sett…  phon…");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new(["name", "x"]);
        table.row(["東京都千代田区", "1"]);
        table.row(["abc", "2"]);
        let lines = lines(&table, 14);
        assert!(lines.iter().all(|line| measure_text_width(line) <= 14), "{lines:?}");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable ü", 6), ["unbrea", "kable", "ü"]);
        assert_eq!(wrap("東京都", 4), ["東京", "都"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn documents_cannot_command_the_terminal() {
        assert_eq!(one_line("a\x1b[2Jb\tc\r\n"), "a\\u{1b}[2Jb c");
    }
}
