//! Questions that a person answers with yes or no.

use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;

use crate::caller::{Input, Terminal};
use crate::output::Output;

/// The answer of the person at the terminal; `None` if nobody is there who could answer.
pub(crate) fn confirmed(question: &str, output: Output) -> Result<Option<bool>> {
    if output.is_json() || !Terminal::current().is_typed {
        return Ok(None);
    }
    output.note(&format!("{question} [y/N]"));
    let mut answer = String::new();
    BufReader::new(Input::open(Path::new("-"))?.bytes).read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
}
