//! Our relay beside others in the same run: `cargo xtask bench --peers`.
//!
//! Everybody is asked the same by the same clients, which do hardly any work themselves: what they
//! write was made before the clock starts, and what they read is only recognised. With our relay and
//! those of automerge-repo they speak automerge-repo's protocol, of changes that Automerge made. With
//! Hocuspocus, which is of another family, they speak its own, of updates as Yjs makes them.

mod automerge_repo;
mod client;
mod history;
mod hocuspocus;
mod rows;
mod servers;
mod socket;
mod table;
mod usage;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::runtime;

use crate::rows::{Figure, ROWS, Row};
use crate::servers::{Kind, Server};
use crate::table::{Cell, Line};

#[derive(Parser)]
#[command(
    about = "Measures our relay beside others: the same is asked of all, each in its language"
)]
struct Arguments {
    /// Only the rows whose name contains one of these
    rows: Vec<String>,
    /// Only this server; may be given more than once
    #[arg(long, value_name = "SERVER")]
    only: Vec<Kind>,
    /// One JSON document for each figure
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let names = &arguments.rows;
    let asked = |row: &&Row| names.is_empty() || names.iter().any(|name| row.name.contains(name));
    let rows: Vec<_> = ROWS.iter().filter(asked).collect();
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    ensure!(!rows.is_empty(), "there is no such row; there are {}", names.join(", "));
    let asked = |kind: &Kind| arguments.only.is_empty() || arguments.only.contains(kind);
    let servers = Kind::ALL.into_iter().filter(asked).map(|kind| (kind, probe(kind)));
    let servers: Vec<_> = servers.collect();

    let mut lines = Vec::new();
    for row in rows {
        let measured = servers.iter().map(|(kind, probed)| (*kind, row, probed));
        let measured = measured.map(|(kind, row, probed)| match probed {
            Ok(()) => (kind, measure(kind, row)),
            Err(reason) => (kind, Err(anyhow::anyhow!("{reason}"))),
        });
        lines.extend(beside_each_other(row, measured.collect()));
    }
    let kinds: Vec<_> = servers.iter().map(|(kind, _)| *kind).collect();
    match arguments.json {
        true => lines.iter().for_each(|line| println!("{}", line.json())),
        false => print!("\n{}", table::shown(&lines, &kinds)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a server is there at all; else, why it takes no part.
fn probe(kind: Kind) -> Result<(), String> {
    let started = runtime().and_then(|runtime| runtime.block_on(Server::start(kind)));
    let started = started.map(drop).map_err(|error| format!("left out, {error:#}"));
    if let Err(reason) = &started {
        eprintln!("{}: {reason}", kind.name());
    }
    started
}

fn measure(kind: Kind, row: &Row) -> Result<Vec<Figure>> {
    eprintln!("measuring {} of {} ...", row.name, kind.name());
    // Tasks that are left when the time is up end with the runtime.
    let measured = runtime()?.block_on(async {
        let late = || format!("not done within {} s", row.limit.as_secs());
        tokio::time::timeout(row.limit, (row.measure)(kind)).await.with_context(late)?
    });
    match &measured {
        Ok(figures) => eprintln!("  {}", said(figures)),
        Err(error) => eprintln!("  {error:#}"),
    }
    measured
}

fn said(figures: &[Figure]) -> String {
    let figures = figures.iter().map(|Figure { what, unit, value, note }| {
        let note = note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        format!("{what}: {value:.3} {}{note}", unit.name())
    });
    figures.collect::<Vec<_>>().join("; ")
}

/// A line for each figure of a row.
fn beside_each_other(row: &Row, mut measured: Vec<(Kind, Result<Vec<Figure>>)>) -> Vec<Line> {
    let lines = row.figures.iter().map(|what| {
        let cells = measured.iter_mut().map(|(kind, figures)| {
            let cell = match figures {
                Ok(figures) => match figures.iter().position(|figure| figure.what == *what) {
                    Some(at) => Cell::Measured(figures.swap_remove(at)),
                    None => Cell::Failed("this server has no such figure".to_owned()),
                },
                Err(error) => Cell::Failed(format!("{error:#}")),
            };
            (*kind, cell)
        });
        Line { what, cells: cells.collect() }
    });
    lines.collect()
}

fn runtime() -> Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}
