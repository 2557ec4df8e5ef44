//! What a document costs where there are few and where there are many: `cargo xtask bench scale`.
//!
//! Everything is done by the programs as they are shipped, over loopback sockets and on the disk of
//! the temporary folder. What is compared is a document among 10,000 with one among 1,000,000.

mod measured;
mod store;

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::json;

use crate::store::Row;

#[derive(Parser)]
#[command(about = "Measures what a document costs in stores of several sizes")]
struct Arguments {
    /// How many documents
    #[arg(default_values_t = [10_000, 100_000, 1_000_000])]
    sizes: Vec<usize>,
    /// One JSON document for each figure
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.sizes.iter().all(|size| *size >= 1000), "each size is at least 1000");
    let mut columns = Vec::new();
    for size in &arguments.sizes {
        columns.push(store::measure(*size)?);
    }
    if arguments.json {
        for (size, rows) in arguments.sizes.iter().zip(&columns) {
            for Row { what, unit, value } in rows {
                println!("{}", json!({ "documents": size, "what": what, (*unit): value }));
            }
        }
    } else {
        print!("{}", table(&arguments.sizes, &columns));
    }
    Ok(())
}

/// One line for each figure, one column for each size, and the last beside the first.
fn table(sizes: &[usize], columns: &[Vec<Row>]) -> String {
    let mut text = format!("{:<34}{:<7}", "documents", "");
    text.extend(sizes.iter().map(|size| format!("{:>11}", grouped(*size as f64))));
    text += "  last/first\n";
    let (Some(first), Some(last)) = (columns.first(), columns.last()) else { return text };
    for (at, Row { what, unit, value }) in first.iter().enumerate() {
        text += &format!("{what:<34}{unit:<7}");
        text.extend(columns.iter().map(|rows| format!("{:>11}", grouped(rows[at].value))));
        text += &format!("  {:>10.2}\n", last[at].value / value);
    }
    text
}

/// Three digits or more, and commas between thousands.
fn grouped(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_more() {
        let shown = [0.5, 12.34, 123.4, 1234.5, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["0.50", "12.3", "123", "1,234", "1,234,567"]);
    }
}
