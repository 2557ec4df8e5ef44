//! Tables that fit the terminal.

mod side_by_side;

use std::ops::RangeInclusive;

use console::{Alignment, Style, measure_text_width, pad_str, truncate_str};
use rejoin::view::printable;

use crate::caller::Terminal;
use crate::output::Text;
pub(crate) use side_by_side::SideBySide;

/// Columns of the terminal that text may take: the number in COLUMNS, or else the width of the
/// terminal. A pipe or a file takes lines of any length, as their readers want whole values.
pub(crate) fn width() -> usize {
    Terminal::current()
        .columns
        .map_or(UNLIMITED, |columns| if columns >= WIDTH_MIN { columns } else { 80 })
}

/// The width of a standard output that has none, such as a pipe.
const UNLIMITED: usize = usize::MAX;

/// A table: a heading, and rows with as many cells as the heading has.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Where the table begins, in characters from the left.
    indent: usize,
    /// How many columns, from the left, keep their width before the others do.
    kept: usize,
}

impl Table {
    pub(crate) fn new(heading: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let heading =
            heading.into_iter().map(|name| one_line(&name.into()).to_uppercase()).collect();
        Self { heading, rows: Vec::new(), indent: 0, kept: 0 }
    }

    /// Adds a column for each of these fields, under the name by which commands take the field.
    pub(crate) fn and_fields(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.heading.extend(names.into_iter().map(|name| one_line(&name)));
        self
    }

    pub(crate) fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Keeps this many columns from the left as wide as they are for as long as others can be cut,
    /// and never cuts the first: a name that was cut names nothing.
    pub(crate) fn keeping(mut self, columns: usize) -> Self {
        self.kept = columns;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell.into())).collect());
    }

    /// The table in at most `width` columns, unless its first column alone is wider. The widest
    /// columns are cut first, and a cell that was cut ends in `…`. Columns for which there is no room
    /// at all are left out, the last ones first, and `…` in the heading says so.
    pub(crate) fn fit(&self, width: usize) -> Text {
        if width == UNLIMITED {
            // One long text must not widen its column in every line.
            let widths = self.widths().into_iter().map(|width| width.min(ALIGNED_MAX));
            return self.lines(width, &widths.collect::<Vec<_>>(), pad);
        }
        let widths = self.share(width.saturating_sub(self.indent));
        self.lines(width, &widths, |cell, width| pad(&truncate_str(cell, width, "…"), width))
    }

    fn lines(&self, width: usize, widths: &[usize], cell: impl Fn(&str, usize) -> String) -> Text {
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(widths).map(|(text, width)| cell(text, *width));
            let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
            format!("{:indent$}{}", "", line.trim_end(), indent = self.indent)
        };
        let mut heading = line(&self.heading);
        let has_room = measure_text_width(&heading) + GAP < width;
        if widths.len() < self.heading.len() && has_room {
            heading += "  …";
        }
        let heading = Text::styled(&heading, &Style::new().bold());
        let rows = self.rows.iter().map(|row| line(row).into());
        Text::lines(std::iter::once(heading).chain(rows))
    }

    /// The width of each column for which there is room, from the left.
    fn share(&self, available: usize) -> Vec<usize> {
        let natural = self.widths();
        let least = |kept: usize| {
            let least = |(at, width): (usize, &usize)| match at < kept {
                true => *width,
                false => COLUMN_MIN.min(*width),
            };
            natural.iter().enumerate().map(least).collect::<Vec<_>>()
        };
        let room = |columns: usize| {
            // A mark stands for columns that are left out, but takes no room from columns that are
            // kept.
            let is_marked = (self.kept + 1..natural.len()).contains(&columns);
            let mark = if is_marked { GAP + 1 } else { 0 };
            available.saturating_sub(GAP * columns.saturating_sub(1) + mark)
        };
        let last_that_fits = |least: &[usize], columns: RangeInclusive<usize>| {
            columns.rev().find(|columns| least[..*columns].iter().sum::<usize>() <= room(*columns))
        };
        let columns = last_that_fits(&least(self.kept), self.kept.max(1)..=natural.len())
            .or_else(|| last_that_fits(&least(self.kept.min(1)), 1..=self.kept))
            .unwrap_or(1);
        let mut widths = natural[..columns].to_vec();
        let others = widths.split_off(self.kept.min(columns));
        let taken: usize = widths.iter().sum();
        let mut over = taken.saturating_sub(room(columns));
        for width in widths.iter_mut().skip(1).rev() {
            let cut = over.min(width.saturating_sub(COLUMN_MIN));
            *width -= cut;
            over -= cut;
        }
        widths.extend(share(others, room(columns).saturating_sub(taken)));
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
}

/// Takes width from the widest column until all of them fit.
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

fn pad(cell: &str, width: usize) -> String {
    pad_str(cell, width, Alignment::Left, None).into_owned()
}

/// Text in one line of printable characters. A line break in it would break a table, or could pass
/// for the beginning of another message.
pub(crate) fn one_line(text: &str) -> String {
    printable(text.trim_end()).replace(['\n', '\t'], " ")
}

/// Breaks text into lines of at most `width` columns: between words, and within a word that is longer
/// than a line.
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

/// A word in pieces that fit into a line.
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

/// The widest column whose cells are aligned where lines may have any length.
const ALIGNED_MAX: usize = 60;

/// The least width of a column that is cut: with less than this it would say nothing.
const COLUMN_MIN: usize = 8;

/// The least width of a terminal that is believed. A narrower one is taken for one of 80 columns.
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
        assert_eq!(lines(&table, 30), ["TIME  …", "2026-11-20 22:03:11Z"]);
        let both = Table { kept: 2, ..table };
        assert_eq!(lines(&both, 48)[1], "2026-11-20 22:03:11Z  settles 3f2a9c01  phone, …");
        assert_eq!(lines(&both, 40)[1], "2026-11-20 22:03:11Z  settles 3f2a9c01");
        assert_eq!(lines(&both, 35)[1], "2026-11-20 22:03:11Z  settles 3f2a…");
    }

    #[test]
    fn what_names_a_row_is_never_cut() {
        let mut table = Table::new(["key", "status"]).keeping(2);
        table.row(["automerge:3658aGZFKdSq3VYRcYkDCpQVrPMc", "booked"]);
        let shown = lines(&table, 20);
        assert!(shown[1].ends_with("CpQVrPMc") && !shown[1].contains("bo"), "{shown:?}");
    }

    #[test]
    fn where_lines_have_any_length_nothing_is_cut_and_short_cells_are_aligned() {
        let mut table = Table::new(["key", "notes", "status"]);
        let long = "on and on ".repeat(20);
        table.row(["1", &long, "booked"]);
        table.row(["2", "short", "done"]);
        let lines = lines(&table, UNLIMITED);
        assert_eq!(lines[1], format!("1    {}  booked", long.trim_end()));
        assert_eq!(lines[2].find("done"), Some("key".len() + GAP + ALIGNED_MAX + GAP));
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
